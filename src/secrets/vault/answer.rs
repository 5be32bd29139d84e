//! What Vault answered, read: pure. Shapes as OpenBao 2.7.2 gives them; HashiCorp Vault's API pages show the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::fields::{Fields, is_word};
use super::super::http::Answer;
use super::super::value::UNVERSIONED;
use super::super::{Offer, SecretError};
use super::http::says;

/// A KV engine.
pub(super) struct Kv {
    /// With its slash at the end.
    mount: String,
    versioned: bool,
    /// Vault said so; else it is a guess.
    told: bool,
}

impl Kv {
    /// Where to read, below `/v1/`.
    pub fn read_path(&self, path: &str) -> String {
        match path.strip_prefix(&self.mount) {
            Some(rest) if self.versioned => format!("{}data/{rest}", self.mount),
            _ => path.to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct Mounted {
    data: Mount,
}

#[derive(Deserialize)]
struct Mount {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    version: Option<String>,
}

pub(super) fn mount(source: &str, path: &str, answer: &Answer) -> Result<Kv, SecretError> {
    match serde_json::from_slice::<Mounted>(&answer.body) {
        Ok(Mounted { data }) if answer.status == 200 => {
            if data.kind != "kv" && data.kind != "generic" {
                return Err(SecretError::Malformed(format!(
                    "{source}: a secrets engine of another kind than kv is mounted there; its passwords may be made \
                     anew at each read, so it is not read"
                )));
            }
            let versioned = data.options.and_then(|options| options.version).as_deref() == Some("2");
            Ok(Kv { mount: data.path, versioned, told: true })
        }
        _ => {
            let first = path.split('/').next().unwrap_or_default();
            Ok(Kv { mount: format!("{first}/"), versioned: true, told: false })
        }
    }
}

/// A secret as it was read.
pub(super) struct Found {
    fields: Fields,
    /// None in an engine without versions.
    pub version: Option<u64>,
    /// When this version was written, as Vault says it.
    created: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct Plain {
    data: Option<Fields>,
}

#[derive(Deserialize)]
struct Versioned {
    data: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    data: Option<Fields>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

pub(super) fn secret(source: &str, kv: &Kv, answer: &Answer) -> Result<Found, SecretError> {
    let mount = kv.mount.trim_end_matches('/');
    let unlike = || {
        SecretError::Malformed(format!(
            "{source}: HTTP {} with an answer that is not a secret of a KV engine; is [store.vault] address a Vault?",
            answer.status
        ))
    };
    match answer.status {
        403 => return Err(SecretError::Denied(denied(source, kv))),
        404 if says(answer, "no handler for route") => {
            return Err(SecretError::NotFound(format!(
                "{source}: no secrets engine is mounted at {mount:?}; correct the reference, or [store.vault] namespace"
            )));
        }
        200 | 404 => {}
        _ => return Err(unlike()),
    }
    let nothing = || {
        let hint = if kv.told { "" } else { " (taken for a KV engine of version 2: Vault did not say which it is)" };
        SecretError::NotFound(format!(
            "{source}: {mount:?} holds no secret at this path{hint}; write it, or correct the reference"
        ))
    };
    if !kv.versioned {
        return match serde_json::from_slice::<Plain>(&answer.body) {
            Ok(Plain { data: Some(fields) }) => Ok(Found { fields, version: None, created: None }),
            Ok(Plain { data: None }) => Err(nothing()),
            Err(_) => Err(unlike()),
        };
    }
    let version = match serde_json::from_slice::<Versioned>(&answer.body) {
        Ok(Versioned { data: Some(version) }) => version,
        Ok(Versioned { data: None }) => return Err(nothing()),
        Err(_) => return Err(unlike()),
    };
    let Version { data, metadata } = version;
    let gone = metadata.destroyed || !metadata.deletion_time.is_empty();
    match data {
        Some(fields) => {
            Ok(Found { fields, version: Some(metadata.version), created: metadata.created_time.parse().ok() })
        }
        None if gone => Err(SecretError::Deleted(format!(
            "{source}: its newest version, {}, was {} in Vault; what it held before is not used. Undelete it, or write \
             the password that is right",
            metadata.version,
            if metadata.destroyed { "destroyed" } else { "deleted" },
        ))),
        None => Err(nothing()),
    }
}

fn denied(source: &str, kv: &Kv) -> String {
    let rest = source.strip_prefix("vault:").and_then(|rest| rest.split('#').next()).unwrap_or_default();
    format!(
        "{source}: Vault denies this to relinkd's login; its policy needs: path \"{}\" {{ capabilities = [\"read\"] }}",
        kv.read_path(rest)
    )
}

impl Found {
    pub fn offers(self, source: &str, field: &str) -> Result<Vec<Offer>, SecretError> {
        let version = self.version.map_or(UNVERSIONED.to_owned(), |version| version.to_string());
        self.fields.offers(source, &version, field, self.created)
    }
}

#[derive(Deserialize)]
struct Capabilities {
    data: BTreeMap<String, Vec<String>>,
}

/// What the login may do to the secret beside reading it.
pub(super) fn excess(source: &str, path: &str, answer: &Answer) -> Option<String> {
    let told: Capabilities = serde_json::from_slice(&answer.body).ok()?;
    let can: Vec<&str> = told.data.get(path)?.iter().map(String::as_str).collect();
    let more: Vec<&str> =
        can.into_iter().filter(|it| is_word(it) && !matches!(*it, "read" | "list" | "deny")).collect();
    (!more.is_empty()).then(|| {
        format!(
            "{source}: relinkd's login at Vault may do more here than it needs ({}); a policy with \"read\" is enough",
            more.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const V2: Kv = Kv { mount: String::new(), versioned: true, told: true };
    const V1: Kv = Kv { mount: String::new(), versioned: false, told: true };

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    /// Offers as `version user value`, an error as its kind.
    fn told(kv: &Kv, status: u16, body: &str, field: &str) -> String {
        let read =
            secret("vault:kv/p#f", kv, &answer(status, body)).and_then(|found| found.offers("vault:kv/p#f", field));
        match read {
            Ok(offers) => offers
                .iter()
                .map(|o| format!("{} {} {}", o.version, o.user.as_deref().unwrap_or("-"), o.secret.expose()))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => {
                assert!(!format!("{error:?}").contains("canary"), "{error:?}");
                format!("{error:?}").split('(').next().unwrap_or_default().to_owned()
            }
        }
    }

    #[test]
    fn present_empty_deleted_missing_and_denied_are_told_apart() {
        let meta =
            r#""metadata":{"version":4,"created_time":"2026-11-25T20:53:26.2Z","deletion_time":"","destroyed":false}"#;
        let gone =
            r#""metadata":{"version":4,"created_time":"","deletion_time":"2026-11-25T20:53:26Z","destroyed":false}"#;
        let held = |data: &str| format!(r#"{{"data":{{"data":{data},{meta}}}}}"#);
        let table = [
            (200, held(r#"{"f":"canary"}"#), "4 - canary"),
            (200, held(r#"{"f":"canary\n","user":"repl","n":5,"l":[1,{}],"o":{"a":null}}"#), "4 repl canary"),
            (200, held(r#"{"f":"canary2","username":"u","previous":"canary1"}"#), "4 u canary2; before 4 u canary1"),
            (200, held(r#"{"f":""}"#), "Empty"),
            (200, held(r#"{"f":"  "}"#), "Empty"),
            (200, held(r#"{"f":"can\nary"}"#), "Malformed"),
            (200, held(r#"{"f":5}"#), "Malformed"),
            (200, held(r#"{"other":"canary"}"#), "NotFound"),
            (200, held("{}"), "NotFound"),
            (200, held(r#"{"f":"canary"#), "Malformed"),
            (404, format!(r#"{{"data":{{"data":null,{gone}}}}}"#), "Deleted"),
            (200, format!(r#"{{"data":{{"data":null,{gone}}}}}"#), "Deleted"),
            (404, r#"{"errors":[]}"#.to_owned(), "NotFound"),
            (404, r#"{"errors":["no handler for route \"x\". route entry not found."]}"#.to_owned(), "NotFound"),
            (403, r#"{"errors":["permission denied"]}"#.to_owned(), "Denied"),
            (400, r#"{"errors":["canary"]}"#.to_owned(), "Malformed"),
            (200, "<html>canary</html>".to_owned(), "Malformed"),
            (200, String::new(), "Malformed"),
        ];
        for (status, body, expected) in table {
            assert_eq!(told(&V2, status, &body, "f"), expected, "{status} {body}");
        }
        assert_eq!(told(&V1, 200, r#"{"data":{"f":"canary"},"lease_duration":60}"#, "f"), "unknown - canary");
        assert_eq!(told(&V1, 404, r#"{"errors":[]}"#, "f"), "NotFound");
    }

    #[test]
    fn the_engine_is_what_vault_says_and_one_that_makes_passwords_is_refused() {
        let said = |kind: &str, options: &str| {
            let body = format!(r#"{{"data":{{"path":"team/kv/","type":"{kind}","options":{options}}}}}"#);
            mount("vault:team/kv/a/b#f", "team/kv/a/b", &answer(200, &body)).map(|kv| kv.read_path("team/kv/a/b"))
        };
        assert_eq!(said("kv", r#"{"version":"2"}"#).unwrap(), "team/kv/data/a/b");
        assert_eq!(said("kv", r#"{"version":"1"}"#).unwrap(), "team/kv/a/b");
        assert_eq!(said("kv", "null").unwrap(), "team/kv/a/b");
        assert!(matches!(said("database", "null"), Err(SecretError::Malformed(_))));
        let guessed = mount("vault:kv/a#f", "kv/a", &answer(403, r#"{"errors":["preflight"]}"#)).unwrap();
        assert_eq!(guessed.read_path("kv/a"), "kv/data/a");
    }
}
