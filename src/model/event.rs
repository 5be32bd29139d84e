//! Why we woke. A wake-up carries no truth: it only says that a look is due.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Timestamp};

/// One reason to look at the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    pub at: Timestamp,
    pub why: Why,
}

/// What woke us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The daemon has just started, or has just begun to watch this instance.
    Start,
    /// The agent's own timer.
    Timer,
    /// The poll of the local instance saw something else than before.
    Replica(Pulse),
    /// A Sentinel published something about this group.
    Sentinel(SentinelEvent),
    /// The subscription to a Sentinel came up or broke; the view through it may have a gap.
    SentinelLink { sentinel: Endpoint, up: bool },
    /// The local server's log said something that matters.
    Log,
    /// A person or a program asked through the control socket or the command line.
    Asked,
    /// The same for `relinkd align`: the store's word goes before what the instance was given by others.
    Aligned,
    /// A secret store has answered a question that the last look did not wait for.
    Store,
}

/// What the fast poll of the local instance reads: enough to know that something changed, no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulse {
    /// The instance is a primary.
    Primary,
    /// The instance is a replica of `of`; `up` is ROLE's `connected`.
    Replica { of: Endpoint, up: bool, quiet_s: i64 },
    /// It answered, but not with a role (loading, denied, busy): the error's first word.
    Refusing { code: String },
    /// No connection, or no answer in time.
    Absent,
}

/// An event as a Sentinel published it: the channel, and the payload taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelEvent {
    pub sentinel: Endpoint,
    /// The channel, as in `+switch-master`.
    pub name: String,
    /// The group that it speaks of; none for `+tilt`, `+new-epoch` and their like.
    pub group: Option<String>,
    /// The payload, tamed and cut.
    pub text: String,
}

/// What the secret store said of a `masterauth` when it was asked last. Never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreNews {
    pub at: Timestamp,
    /// `file:/etc/relinkd/masterauth`.
    pub source: String,
    /// Its newest password, or why there is none.
    pub said: Result<Offered, String>,
}

/// A password of the store, by its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    pub version: String,
    /// Salted as the prints in evidence are.
    pub print: String,
    /// None: the user that the instance already has.
    pub user: Option<String>,
    pub changed: Option<Timestamp>,
}
