//! Causes, and what a diagnosis says of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Timestamp, human};

/// Declares the closed list once: the codes are public and never change.
macro_rules! causes {
    ($($variant:ident $code:literal $title:literal),+ $(,)?) => {
        /// Why a link is broken, or about to break. A closed list with stable codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Cause { $(#[serde(rename = $code)] $variant),+ }

        impl Cause {
            /// Every cause, in the order of the contract.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant),+];

            /// The stable code, as in `auth-rejected`.
            pub const fn code(self) -> &'static str {
                match self { $(Cause::$variant => $code),+ }
            }

            /// One line for a person.
            pub const fn title(self) -> &'static str {
                match self { $(Cause::$variant => $title),+ }
            }
        }
    };
}

causes! {
    PrimaryDown "primary-down" "the primary does not run: nothing listens on its port",
    PrimaryUnreachable "primary-unreachable" "the primary answers neither us nor the Sentinels",
    PrimaryHung "primary-hung" "the primary accepts connections and answers nothing",
    PrimaryBusy "primary-busy" "the primary runs a script that does not end",
    PrimaryLoading "primary-loading" "the primary is loading its data set",
    NetworkCut "network-cut" "no packet from the primary arrives here, though others see it",
    NetworkRejected "network-rejected" "connections to the primary are refused from here only",
    NameUnresolved "name-unresolved" "the primary's name does not resolve on this host",
    ConnectionsExhausted "connections-exhausted" "the primary has no connection left to give",
    ProtectedMode "protected-mode" "the primary is in protected mode and refuses other hosts",
    TlsMismatch "tls-mismatch" "one side speaks TLS and the other does not",
    TlsCertificate "tls-certificate" "a certificate is not accepted",
    AuthMissing "auth-missing" "the primary wants a password and the replica has none",
    AuthRejected "auth-rejected" "the primary rejects the replica's password",
    AuthUnexpected "auth-unexpected" "the replica sends a password and the primary has none",
    AuthForbidden "auth-forbidden" "the replica's user may not replicate",
    AuthLatent "auth-latent" "the link is up, and its password will be rejected at the next reconnect",
    SentinelAuthRejected "sentinel-auth-rejected" "Sentinel cannot log in to a healthy server",
    WrongPrimary "wrong-primary" "the instance does not follow the primary that the Sentinels name",
    UpstreamBroken "upstream-broken" "the replica follows a replica whose own link is broken",
    NotAServer "not-a-server" "what answers on the primary's port is no Redis or Valkey data node",
    SelfReplication "self-replication" "the replica follows itself",
    FailoverRunning "failover-running" "a failover is under way",
    QuorumLost "quorum-lost" "too few Sentinels are left to authorise a failover",
    NoPromotableReplica "no-promotable-replica" "no replica may be promoted",
    PrimaryEmptied "primary-emptied" "the primary came back without its data",
    PrimaryDiskFull "primary-disk-full" "the primary cannot write the data set that the sync needs",
    PrimaryForkFailed "primary-fork-failed" "the primary cannot fork to make the data set",
    PrimarySaveFailing "primary-save-failing" "the primary fails to save, and Sentinel takes it for dead",
    ReplicaDiskFull "replica-disk-full" "this host's disk has no room for the data set",
    ReplicaSaveFailing "replica-save-failing" "this replica fails to save and will abort at the next write",
    OutputBufferExceeded "output-buffer-exceeded" "the primary cuts the sync: its output buffer limit is too small",
    BacklogTooSmall "backlog-too-small" "the backlog does not reach back to where the link broke",
    SyncTimeout "sync-timeout" "a timeout cuts the sync or the link before it can work",
    SyncRunning "sync-running" "a sync is under way",
    SyncStalled "sync-stalled" "a sync is under way and no bytes arrive",
    RdbIncompatible "rdb-incompatible" "the primary's data set is in a format that this replica cannot load",
    CommandMissing "command-missing" "the primary does not know a command that replication needs",
    ReplconfRefused "replconf-refused" "the link reads up and drops every second: REPLCONF is refused",
    ReplicaDown "replica-down" "the local server does not run",
    ReplicaHung "replica-hung" "the local server accepts connections and answers nothing",
    ReplicaLoading "replica-loading" "the local server is loading its data set",
    ReplicaDenied "replica-denied" "the local server does not let relinkd look",
    Unknown "unknown" "what was seen does not name a cause",
}

impl Cause {
    /// States that pass by themselves: told only when they outlast `[policy] patience`.
    pub const fn passing(self) -> bool {
        matches!(
            self,
            Cause::FailoverRunning
                | Cause::SyncRunning
                | Cause::PrimaryLoading
                | Cause::ReplicaLoading
                | Cause::ReplicaDown
        )
    }

    /// Where its page is, in the documentation.
    pub fn url(self) -> String {
        format!("{}/blob/main/docs/causes/{}.md", env!("CARGO_PKG_REPOSITORY"), self.code())
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::str::FromStr for Cause {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Cause::ALL.iter().copied().find(|cause| cause.code() == text).ok_or(())
    }
}

/// From where a fact was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Viewpoint {
    /// The watched instance.
    Replica,
    /// A connection from this host to the primary, with the replica's own credentials.
    Probe,
    /// The primary's own account.
    Primary,
    Sentinel,
    Log,
    Host,
    /// The secret store.
    Store,
    /// What relinkd remembers from before.
    Memory,
}

impl Viewpoint {
    pub const fn name(self) -> &'static str {
        match self {
            Viewpoint::Replica => "replica",
            Viewpoint::Probe => "probe",
            Viewpoint::Primary => "primary",
            Viewpoint::Sentinel => "sentinel",
            Viewpoint::Log => "log",
            Viewpoint::Host => "host",
            Viewpoint::Store => "store",
            Viewpoint::Memory => "memory",
        }
    }
}

/// Something seen, and what it means for the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub from: Viewpoint,
    pub saw: String,
    pub at: Timestamp,
    pub means: String,
}

/// A named cause, with the evidence that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub cause: Cause,
    /// The verdict rests on evidence that is still coming in.
    pub suspected: bool,
    /// The link itself is up: trouble that waits for the next reconnect.
    pub link_up: bool,
    /// A login is another than it should be, and all that are held are still accepted: nobody was refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrefused: bool,
    /// The link drops again and again and is back each time: as much of that as was known when this was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaps: Option<Flaps>,
    pub because: Vec<Fact>,
    /// Causes that were considered and do not fit, each with what speaks against it.
    pub rejected: BTreeMap<Cause, String>,
}

/// How often a link has dropped of late. It reads up at almost every look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaps {
    /// So often at least: two drops between two looks may have left one trace.
    pub drops: u32,
    pub first: Timestamp,
    pub last: Timestamp,
    /// The longest time for which the link was whole between two drops, ms.
    pub longest_gap_ms: u64,
}

impl Flaps {
    /// Drops further apart are none of one story, and are forgotten.
    pub const WINDOW: Duration = Duration::from_secs(120);

    /// For how long the link has to be whole before it counts as steady: three times as long as it was between two drops.
    pub fn calm(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(10);
        (Duration::from_millis(self.longest_gap_ms) * 3).clamp(LEAST, Flaps::WINDOW)
    }

    /// Such as `dropped 7 times in 40 s`.
    pub fn in_words(&self) -> String {
        format!("dropped {} times in {}", self.drops, human(self.last.since(self.first)))
    }
}

/// The answer to one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// The link is up and nothing speaks against it, or the instance is the primary: one sentence says which.
    Healthy(String),
    Broken(Finding),
    /// Not enough was seen to name a cause.
    Inconclusive {
        missing: Vec<Fact>,
        rejected: BTreeMap<Cause, String>,
    },
}

impl Diagnosis {
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Diagnosis::Healthy(_) => None,
            Diagnosis::Broken(finding) => Some(finding.cause),
            Diagnosis::Inconclusive { .. } => Some(Cause::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_match_their_serialised_form() {
        for cause in Cause::ALL {
            assert_eq!(cause.code().parse(), Ok(*cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.code());
        }
        assert_eq!(Cause::ALL.len(), 44);
    }
}
