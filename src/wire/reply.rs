//! What servers answer, and the parsers that take it apart. Pure, and tolerant: an unknown field is passed over, a
//! missing one gets the value that claims least, and nothing panics. Words of Redis 6.2 to 8 and Valkey 7.2 to 9.
//!
//! Not here: whether an answer is good news. `diagnose` judges.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::model::evidence::{LinkState, Missing, PeerRole};
use crate::model::{Endpoint, tame};

pub mod acl;
pub mod info;
pub mod sentinel;
pub mod settings;

/// How much of a server's error is kept in evidence.
const ERROR_SHOWN: usize = 300;

/// A RESP2 reply. Bytes that are not UTF-8 have been replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Int(i64),
    /// A status or a bulk string.
    Text(String),
    List(Vec<Reply>),
    /// The first word of an error, and the whole line without its dash.
    Error {
        code: String,
        text: String,
    },
}

impl Reply {
    /// An error line, without its dash.
    pub fn error(text: String) -> Reply {
        let code = text.split(' ').next().unwrap_or_default().to_owned();
        Reply::Error { code, text }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Text, or a number as text.
    pub fn into_text(self) -> Option<String> {
        match self {
            Reply::Text(text) => Some(text),
            Reply::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A number, or text that is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::List(items) => items,
            _ => &[],
        }
    }

    /// Why this is no answer to what was asked, when it is not.
    pub fn refusal(&self) -> Option<Missing> {
        let Reply::Error { code, text } = self else { return None };
        let text = tame(text, ERROR_SHOWN);
        Some(match code.as_str() {
            "ERR" if text.contains("max number of clients") => Missing::Unreachable(text),
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Missing::Denied(text),
            "BUSY" => Missing::Busy(text),
            _ => Missing::Unsupported(text),
        })
    }

    /// The reading that is missing because this reply is not what was asked for.
    pub fn unfit(&self, asked: &str) -> Missing {
        self.refusal().unwrap_or_else(|| {
            let kind = match self {
                Reply::Nil => "nothing",
                Reply::Int(_) => "a number",
                Reply::Text(_) => "text of another form",
                Reply::List(_) => "a list of another form",
                Reply::Error { .. } => "an error",
            };
            Missing::Unsupported(format!("{asked} was answered with {kind}"))
        })
    }
}

/// ROLE of a peer; `None` when the reply is not one.
pub fn peer_role(reply: &Reply) -> Option<PeerRole> {
    let items = reply.items();
    match items.first()?.text()? {
        "master" | "primary" => Some(PeerRole::Primary { offset: items.get(1).and_then(Reply::int).unwrap_or(-1) }),
        "slave" | "replica" => {
            let host = items.get(1)?.text()?;
            let port = u16::try_from(items.get(2)?.int()?).ok()?;
            let state = items.get(3).and_then(Reply::text).map_or(LinkState::Unknown, link_state);
            Some(PeerRole::Replica { of: Endpoint::new(host, port), state })
        }
        "sentinel" => Some(PeerRole::Sentinel),
        _ => None,
    }
}

fn link_state(word: &str) -> LinkState {
    match word {
        "connect" => LinkState::Connect,
        "connecting" => LinkState::Connecting,
        "handshake" => LinkState::Handshake,
        "sync" => LinkState::Sync,
        "connected" => LinkState::Connected,
        _ => LinkState::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // reads captures
mod tests;
