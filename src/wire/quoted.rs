//! Keeps the passwords that went out on a connection from coming back in what is told of it.
//!
//! Servers quote: where AUTH is renamed, an unknown command is answered with its arguments (Redis 7.0.15,
//! processCommand), and a peer that is no server at all may echo anything, also later and in any form. What a person or
//! a log gets to see are errors, short statuses, and the beginning of bytes that are not RESP; so those are searched.
//! Lists and long texts are not: a server is asked for `masterauth` on purpose.

use super::WireError;
use super::reply::Reply;
use crate::secrets::Secret;

const HIDDEN: &str = "(hidden)";
/// A shorter password would be found in words that mean something.
const SHORTEST: usize = 4;
/// So much of a password's beginning gives it away where the end is cut off.
const BEGINNING: usize = 6;
/// A status is short; INFO is not.
const LONGEST_STATUS: usize = 512;
/// INFO, which is taken apart and never shown as it is, begins with the head of a section.
const INFO: &str = "# ";

/// Whole errors of servers that repeat nothing of ours. A password may be a word of one of them, such as `password1`,
/// and a diagnosis stands on the exact text (Redis 5.0 to 8.2, Valkey 7.2 to 9.1: acl.c, server.c, object.c).
const OWN_WORDS: &[&str] = &[
    "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?",
    "ERR Client sent AUTH, but no password is set",
    "ERR invalid password",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "WRONGPASS invalid username-password pair",
    "NOAUTH Authentication required.",
    "ERR value is not an integer or out of range",
    "ERR max number of clients reached",
];

/// Whether an error is one that says nothing but what the server says to everybody.
pub fn is_the_servers_own(text: &str) -> bool {
    OWN_WORDS.contains(&text)
}

#[derive(Default)]
pub struct Quoted(Vec<Secret>);

impl Quoted {
    pub fn remember(&mut self, secret: &Secret) {
        if secret.expose().len() >= SHORTEST && !self.0.contains(secret) {
            self.0.push(secret.clone());
        }
    }

    pub fn hide(&self, reply: Reply) -> Reply {
        match reply {
            _ if self.0.is_empty() => reply,
            Reply::Error { text, .. } if is_the_servers_own(&text) => Reply::error(text),
            Reply::Error { text, .. } => Reply::error(self.hidden(text)),
            // A Sentinel's INFO is short too, and a password may begin as its fields do.
            Reply::Text(text) if text.len() <= LONGEST_STATUS && !text.starts_with(INFO) => {
                Reply::Text(self.hidden(text))
            }
            // Each element of EXEC's answer may be an error.
            Reply::List(items) => Reply::List(
                items
                    .into_iter()
                    .map(|item| match item {
                        Reply::Error { text, .. } => Reply::error(self.hidden(text)),
                        other => other,
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    pub fn hide_in_error(&self, error: WireError) -> WireError {
        match error {
            WireError::Protocol(text) => WireError::Protocol(self.hidden(text)),
            other => other,
        }
    }

    fn hidden(&self, mut text: String) -> String {
        for secret in &self.0 {
            let secret = secret.expose();
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
            // Cut short by the server or by us: nothing from there on is kept.
            let beginning = secret.char_indices().nth(BEGINNING).map(|(at, _)| secret.split_at(at).0);
            if let Some(at) = beginning.and_then(|beginning| text.find(beginning)) {
                text.truncate(at);
                text.push_str(HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_begins_as_a_field_of_info_hides_none() {
        let mut quoted = Quoted::default();
        quoted.remember(&Secret::new("sentinel-and-more"));
        let info = Reply::Text("# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\n".to_owned());
        assert_eq!(quoted.hide(info.clone()), info);
        let echo = quoted.hide(Reply::Text("AUTH sentinel-and-more".to_owned()));
        assert_eq!(echo, Reply::Text(format!("AUTH {HIDDEN}")));
    }

    fn hidden(text: &str) -> Reply {
        let mut quoted = Quoted::default();
        quoted.remember(&Secret::new("canary-password"));
        quoted.remember(&Secret::new("abc"));
        quoted.hide(Reply::error(text.to_owned()))
    }

    #[test]
    fn a_quoted_password_is_hidden_whole_or_cut_short() {
        for (came, told) in [
            ("ERR you said canary-password, no?", "ERR you said (hidden), no?"),
            ("ERR canary-password canary-pass", "ERR (hidden) (hidden)"),
            ("ERR beginning with: `canary", "ERR beginning with: `(hidden)"),
            ("ERR abc is a word", "ERR abc is a word"),
            ("NOAUTH Authentication required.", "NOAUTH Authentication required."),
        ] {
            assert_eq!(hidden(came), Reply::error(told.to_owned()));
        }
    }

    #[test]
    fn a_password_that_is_a_word_of_the_servers_own_hides_nothing_of_it() {
        for word in ["word", "password1", "integer", "user", "WRONGPASS"] {
            let mut quoted = Quoted::default();
            quoted.remember(&Secret::new(word));
            for own in OWN_WORDS {
                let reply = Reply::error((*own).to_owned());
                assert_eq!(quoted.hide(reply.clone()), reply, "{word}");
            }
            let more = Reply::error(format!("ERR invalid password {word}"));
            assert!(!format!("{:?}", quoted.hide(more)).contains(&format!("d {word}")), "{word}");
        }
    }

    #[test]
    fn statuses_and_alien_bytes_are_searched_and_what_is_asked_for_is_left() {
        let mut quoted = Quoted::default();
        quoted.remember(&Secret::new("canary-password"));
        let echo = || Reply::Text("canary-password".to_owned());
        assert_eq!(quoted.hide(echo()), Reply::Text(HIDDEN.to_owned()));
        let asked = Reply::List(vec![Reply::Text("masterauth".to_owned()), echo()]);
        assert_eq!(quoted.hide(asked.clone()), asked);
        let exec = Reply::List(vec![Reply::error("ERR canary-password".to_owned())]);
        assert_eq!(quoted.hide(exec), Reply::List(vec![Reply::error(format!("ERR {HIDDEN}"))]));
        let alien = quoted.hide_in_error(WireError::Protocol("AUTH canary-pass".to_owned()));
        assert_eq!(alien, WireError::Protocol(format!("AUTH {HIDDEN}")));
    }
}
