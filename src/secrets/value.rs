//! From what a store handed over to offers: pure. The rules are few, so that nobody has to guess what is sent to a
//! server. One trailing newline is dropped and nothing else. Whitespace alone is empty. A NUL, a carriage return or
//! a newline inside is refused: no server's config could hold it, and it is nearly always a slip of an editor.

use serde::Deserialize;

use super::{LIMIT_BYTES, Offer, Secret, SecretError};

/// The version of an offer whose store names none.
pub(super) const UNVERSIONED: &str = "unknown";

/// What a file, credential or variable may hold instead of a bare value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    user: Option<String>,
    password: String,
    previous: Option<String>,
}

/// What a program may print instead of a bare value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    user: Option<String>,
    password: String,
    previous: Option<String>,
    version: Option<Version>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(u64),
    Text(String),
}

/// The offers in stored bytes: JSON if they begin with `{`, else a bare value. JSON with a slip in it is refused: taken
/// for the password, it would be set on every node by a rotation.
pub(super) fn stored(source: &str, version: &str, bytes: &[u8]) -> Result<Vec<Offer>, SecretError> {
    let text = readable(source, bytes)?;
    match as_json::<Stored>(text) {
        Some(Stored { user, password, previous }) => offers(source, version, user, password, previous),
        None if text.trim_start().starts_with('{') => Err(SecretError::Malformed(format!(
            "{source}: starts like JSON, but is not {{\"user\"?, \"password\", \"previous\"?}}; a password that begins \
             with {{ has to stand in that shape"
        ))),
        None => {
            let secret = checked(source, "the value", text.strip_suffix('\n').unwrap_or(text).to_owned())?;
            Ok(vec![Offer {
                source: source.to_owned(),
                version: version.to_owned(),
                user: None,
                secret,
                changed: None,
            }])
        }
    }
}

/// The offers in what a program printed: JSON if it starts with `{`, else the first line.
pub(super) fn printed(source: &str, bytes: &[u8]) -> Result<Vec<Offer>, SecretError> {
    let text = readable(source, bytes)?;
    if text.starts_with('{') {
        let Some(Printed { user, password, previous, version }) = as_json(text) else {
            return Err(SecretError::Malformed(format!(
                "{source}: printed something that starts like JSON, but is not \
                 {{\"user\"?, \"password\", \"previous\"?, \"version\"?}}; print that shape, or the value alone"
            )));
        };
        let version = match version {
            Some(Version::Number(number)) => number.to_string(),
            Some(Version::Text(text)) if shows_well(&text) => text,
            Some(Version::Text(_)) => {
                return Err(SecretError::Malformed(format!(
                    "{source}: its \"version\" is empty, longer than 128 characters, or has control characters in it"
                )));
            }
            None => UNVERSIONED.to_owned(),
        };
        return offers(source, &version, user, password, previous);
    }
    let line = text.split('\n').next().unwrap_or_default();
    let secret = checked(source, "the first line", line.to_owned())?;
    Ok(vec![Offer { source: source.to_owned(), version: UNVERSIONED.to_owned(), user: None, secret, changed: None }])
}

pub(super) fn offers(
    source: &str,
    version: &str,
    user: Option<String>,
    password: String,
    previous: Option<String>,
) -> Result<Vec<Offer>, SecretError> {
    let user = user.filter(|user| !user.is_empty());
    if user.as_ref().is_some_and(|user| user.chars().any(|c| c.is_whitespace() || c.is_control())) {
        return Err(SecretError::Malformed(format!(
            "{source}: its \"user\" has a space or a control character in it, which no ACL user name may have"
        )));
    }
    let offer = |version: String, secret| Offer {
        source: source.to_owned(),
        version,
        user: user.clone(),
        secret,
        changed: None,
    };
    let mut out = vec![offer(version.to_owned(), checked(source, "its \"password\"", password)?)];
    // Templates write "previous": "" where there is none.
    if let Some(previous) = previous.filter(|previous| !previous.trim().is_empty()) {
        out.push(offer(format!("before {version}"), checked(source, "its \"previous\"", previous)?));
    }
    Ok(out)
}

/// serde's own message would quote the value, so none is kept.
fn as_json<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if text.starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

fn readable<'a>(source: &str, bytes: &'a [u8]) -> Result<&'a str, SecretError> {
    if bytes.len() > LIMIT_BYTES {
        return Err(too_large(source));
    }
    std::str::from_utf8(bytes)
        .map_err(|_| SecretError::Malformed(format!("{source}: the value is not UTF-8 text; is this the right place?")))
}

pub(super) fn too_large(source: &str) -> SecretError {
    SecretError::TooLarge(format!(
        "{source}: more than {} KiB, which is no password; is this the right place?",
        LIMIT_BYTES / 1024
    ))
}

fn checked(source: &str, what: &str, value: String) -> Result<Secret, SecretError> {
    let secret = Secret::new(value);
    let value = secret.expose();
    if value.trim().is_empty() {
        return Err(SecretError::Empty(format!(
            "{source}: {what} is empty; an empty password is never used. Write the password there first"
        )));
    }
    if value.contains('\0') {
        return Err(SecretError::Malformed(format!("{source}: {what} has a NUL byte in it; write plain text")));
    }
    if value.contains('\r') {
        return Err(SecretError::Malformed(format!(
            "{source}: {what} has a carriage return in it; save it with Unix line endings"
        )));
    }
    if value.contains('\n') {
        return Err(SecretError::Malformed(format!(
            "{source}: {what} has more than one line; leave the password alone there, with at most one newline after it"
        )));
    }
    Ok(secret)
}

fn shows_well(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 128 && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each offer as `version user value`.
    fn told(answer: Result<Vec<Offer>, SecretError>) -> String {
        match answer {
            Ok(offers) => offers
                .iter()
                .map(|offer| {
                    let user = offer.user.as_deref().unwrap_or("-");
                    format!("{} {user} {:?}", offer.version, offer.secret.expose())
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => {
                let name = format!("{error:?}");
                assert!(!name.contains("canary"), "{name}");
                name.split('(').next().unwrap_or_default().to_owned()
            }
        }
    }

    #[test]
    fn a_stored_value_loses_one_newline_and_nothing_else() {
        let table: &[(&str, &str)] = &[
            ("canary", r#"v - "canary""#),
            ("canary\n", r#"v - "canary""#),
            (" can ary \t\n", r#"v - " can ary \t""#),
            ("canary\n\n", "Malformed"),
            ("canary\r\n", "Malformed"),
            ("canary\0", "Malformed"),
            ("canary\ncanary", "Malformed"),
            ("", "Empty"),
            ("\n", "Empty"),
            (" \t \n", "Empty"),
            ("\n\n", "Empty"),
            ("pässwörd", r#"v - "pässwörd""#),
        ];
        for (held, expected) in table {
            assert_eq!(told(stored("file:x", "v", held.as_bytes())), *expected, "{held:?}");
        }
        assert_eq!(told(stored("file:x", "v", b"\xff\xfe")), "Malformed");
        assert_eq!(told(stored("file:x", "v", &vec![b'x'; LIMIT_BYTES])).len(), LIMIT_BYTES + 6);
        assert_eq!(told(stored("file:x", "v", &vec![b'x'; LIMIT_BYTES + 1])), "TooLarge");
    }

    #[test]
    fn stored_json_counts_only_in_exactly_its_shape() {
        let table: &[(&str, &str)] = &[
            (r#"{"password":"canary"}"#, r#"v - "canary""#),
            ("{\n  \"user\": \"repl\",\n  \"password\": \"canary\"\n}\n", r#"v repl "canary""#),
            (r#"{"password":"canary2","previous":"canary1"}"#, r#"v - "canary2"; before v - "canary1""#),
            (r#"{"password":"canary","previous":""}"#, r#"v - "canary""#),
            (r#"{"user":"","password":"canary","previous":null}"#, r#"v - "canary""#),
            (r#"{"user":"a b","password":"canary"}"#, "Malformed"),
            (r#"{"password":""}"#, "Empty"),
            (r#"{"password":" ","previous":"canary"}"#, "Empty"),
            (r#"{"password":"can\nary"}"#, "Malformed"),
            (r#"{"password":"canary","previous":"can\u0000ary"}"#, "Malformed"),
            // A slip is never taken for the password.
            (r#"{"pasword":"canary"}"#, "Malformed"),
            (r#"{"password":"canary",}"#, "Malformed"),
            (r#" {"password":"canary"}"#, "Malformed"),
            (r#"{canary"#, "Malformed"),
            (r#"{"password":"{canary"}"#, r#"v - "{canary""#),
            ("{\n\"pasword\":\"canary\"}", "Malformed"),
        ];
        for (held, expected) in table {
            assert_eq!(told(stored("file:x", "v", held.as_bytes())), *expected, "{held}");
        }
    }

    #[test]
    fn a_program_prints_json_or_the_value_first() {
        let table: &[(&str, &str)] = &[
            ("canary\n", r#"unknown - "canary""#),
            ("canary\nand more\n", r#"unknown - "canary""#),
            ("\ncanary\n", "Empty"),
            ("", "Empty"),
            (r#"{"password":"canary","version":7}"#, r#"7 - "canary""#),
            (r#"{"password":"b","previous":"a","version":"v9","user":"repl"}"#, r#"v9 repl "b"; before v9 repl "a""#),
            (r#"{"password":"canary"}"#, r#"unknown - "canary""#),
            (r#"{"password":"canary","version":""}"#, "Malformed"),
            (r#"{"password":"canary","version":"\u001b[31m"}"#, "Malformed"),
            (r#"{"data":{"password":"canary"}}"#, "Malformed"),
            ("{", "Malformed"),
        ];
        for (said, expected) in table {
            assert_eq!(told(printed("exec:x", said.as_bytes())), *expected, "{said}");
        }
    }
}
