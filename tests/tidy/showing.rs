//! What may show itself: a type that prints or serialises its fields holds no bare secret.

use super::source::{Source, end_of_item, identifiers, line, sources};
use super::{none, seen};

/// A part of a field's name that says what is in it.
const NAMES: &[&str] = &["password", "secret", "token", "jwt", "previous", "passphrase", "credential", "masterauth"];

/// Types of memory that prints as it stands. `Secret` and `SecretRef` hide what they hold.
const BARE: &[&str] = &["String", "str", "Vec", "Zeroizing", "OsString"];

const SHOWS: &[&str] = &["Debug", "Serialize"];

fn shown_secrets(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let live = &source.live;
        for (place, _) in live.match_indices("#[derive(") {
            let Some(end) = live[place..].find(")]").map(|length| place + length) else { continue };
            if !identifiers(&live[place..end]).any(|(_, name)| SHOWS.contains(&name)) {
                continue;
            }
            let item = &live[end..end_of_item(live, end)];
            for (at, field) in fields(item) {
                let at = line(live, end + at);
                complaints.push(format!("{}:{at}: {field} would show a secret; make it a Secret", source.path));
            }
        }
    }
    complaints
}

/// Fields that say by their name that they hold a secret, and by their type that they would show it.
fn fields(item: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    for piece in item.split([',', '{', '(', '}']) {
        if let Some((name, kind)) = piece.split_once(": ") {
            let name = identifiers(name).last().map_or("", |(_, name)| name);
            // A salted fingerprint is made to be shown.
            let secret = name.split('_').any(|part| NAMES.contains(&part)) && !name.ends_with("_print");
            if secret && identifiers(kind).any(|(_, word)| BARE.contains(&word)) {
                found.push((from, name));
            }
        } else if identifiers(piece).any(|(_, word)| word == "Zeroizing") {
            found.push((from, "Zeroizing"));
        }
        from += piece.len() + 1;
    }
    found
}

#[test]
fn no_type_that_shows_itself_holds_a_bare_secret() {
    none(shown_secrets(&sources(&["src"])));
    let planted = "#[derive(Clone, Debug)]\npub struct Login {\n    user: String,\n    pub password: Option<String>,\n}\n\
                   #[derive(Serialize)]\nenum Way { Key { access_token: String }, Other }\n\
                   #[derive(Debug)]\nstruct Held(Zeroizing<String>);\n\
                   #[derive(Debug)]\nstruct Fine { password: Secret, secret: SecretRef, token_file: PathBuf }\n\
                   #[derive(Deserialize)]\nstruct Read { password: String }\n";
    let complaints = shown_secrets(&[Source::new("src/secrets/x.rs", planted)]);
    assert_eq!(complaints.len(), 3, "{complaints:#?}");
    seen(&complaints, "src/secrets/x.rs:3: password");
    seen(&complaints, "src/secrets/x.rs:7: access_token");
    seen(&complaints, "src/secrets/x.rs:9: Zeroizing");
}
