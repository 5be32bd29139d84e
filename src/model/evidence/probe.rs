//! What a replica's handshake meets at a primary, step by step.

use serde::{Deserialize, Serialize};

use super::{LinkState, Reading};
use crate::model::{Endpoint, Timestamp};

/// One walk through what a replica's handshake does, stopped at the first thing that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub at: Timestamp,
    pub took_us: u64,
    pub target: Endpoint,
    pub tls: bool,
    /// With which user; empty for the default one.
    pub user: String,
    pub with_password: bool,
    pub connect: Connect,
    /// The address that the connection really went to, after name resolution.
    #[serde(default)]
    pub peer: Option<String>,
    /// The address that it went to is one of this host's own.
    #[serde(default)]
    pub own_host: bool,
    /// The handshake failed as it does where one side speaks TLS and the other does not: whether the port answers the
    /// other way. None: it was not tried.
    #[serde(default)]
    pub other_transport: Option<bool>,
    /// The peer's version, where it was known before PSYNC was due. It decides whether PSYNC may be asked.
    #[serde(default)]
    pub version: Option<String>,
    /// The look was over before the walk: what was not asked, or not answered by then, says nothing of the peer.
    #[serde(default)]
    pub cut_short: bool,
    /// PING before AUTH, as a replica sends it.
    pub ping: Answer,
    pub auth: Answer,
    /// PING after AUTH, where LOADING, BUSY and MASTERDOWN show.
    pub ping_again: Answer,
    pub replconf: Answer,
    /// `PSYNC ? x`: an integer error means that PSYNC is allowed. Harmless from Redis 7.0 and on Valkey (measured on
    /// Redis 7.0.15 and 8.2.3 and Valkey 9.1.2); before 7.0 the parse error goes on to a full resync, with a fork
    /// (Redis 6.2, masterTryPartialResynchronization). So it is not asked of an older server, nor of an unknown one.
    pub psync: Answer,
    /// The role that the peer claims on this connection, where it may be asked.
    pub role: Reading<PeerRole>,
}

/// The primary's name, looked up from this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    pub at: Timestamp,
    pub name: Endpoint,
    /// Who told that the replica follows this name.
    pub told_by: String,
    /// Why there is no address; none: there is one.
    pub failed: Option<String>,
}

/// How far the connection itself came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connect {
    Open,
    Refused,
    Reset,
    TimedOut,
    /// No route and its kin: the system's words.
    Unreachable(String),
    NameUnresolved(String),
    /// What the TLS handshake ended with, also where the peer's last word of it came after ours (TLS 1.3).
    Tls(String),
    /// The connection opened, and the TLS hello was not answered in time.
    HelloUnanswered,
    /// relinkd's own TLS settings stood in the way: nothing is known of the peer.
    TlsSetup(String),
    /// What came before left too little of the look: nothing is known of the peer.
    NoTime,
}

impl Connect {
    /// Why this end proves no silence: it came of our own haste, settings or resolver, or of a TLS handshake that somebody
    /// ended.
    pub fn says_nothing(&self) -> Option<String> {
        match self {
            Connect::NoTime => Some("this look had no time left for it".to_owned()),
            Connect::TlsSetup(text) | Connect::Tls(text) => Some(format!("TLS: {text}")),
            Connect::NameUnresolved(text) => Some(format!("name not resolved: {text}")),
            Connect::Open
            | Connect::Refused
            | Connect::Reset
            | Connect::TimedOut
            | Connect::Unreachable(_)
            | Connect::HelloUnanswered => None,
        }
    }
}

/// One answer on a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Not due, or no time was left in this look.
    NotAsked,
    /// Any reply that is not an error, its text tamed.
    Ok(String),
    /// An error reply: its first word, and the whole.
    Error {
        code: String,
        text: String,
    },
    /// Bytes that are not RESP: their beginning.
    NotRedis(String),
    /// The peer closed or reset the connection instead of answering.
    Closed,
    TimedOut,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        matches!(self, Answer::Ok(_))
    }

    /// The first word of an error reply, or nothing.
    pub fn code(&self) -> &str {
        match self {
            Answer::Error { code, .. } => code,
            _ => "",
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::NotAsked => f.write_str("not asked"),
            Answer::Ok(text) => f.write_str(text),
            Answer::Error { text, .. } => f.write_str(text),
            Answer::NotRedis(text) => write!(f, "not RESP: {text:?}"),
            Answer::Closed => f.write_str("connection closed"),
            Answer::TimedOut => f.write_str("no answer in time"),
        }
    }
}

/// ROLE of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerRole {
    Primary { offset: i64 },
    Replica { of: Endpoint, state: LinkState },
    Sentinel,
}
