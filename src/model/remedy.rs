//! Remedies, the plans that carry them out, and the named reasons for leaving them alone.

use serde::{Deserialize, Serialize};

use super::finding::Fact;
use super::turn::Turn;
use super::{Endpoint, Timestamp};

/// A closed list with stable codes: an enum, its codes, and its way back from text.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $code:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $code)] $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub const fn code(self) -> &'static str {
                match self { $($name::$variant => $code),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.code())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                $name::ALL.iter().copied().find(|it| it.code() == text).ok_or(())
            }
        }
    };
}

codes! {
    /// What relinkd can do about a cause.
    Remedy {
        /// `masteruser`/`masterauth` from the secret store, proved against the primary before, link proved after.
        RealignAuth "realign-auth",
        /// An immediate reconnect that keeps the partial resync.
        BounceLink "bounce-link",
        /// `REPLICAOF` the address that the Sentinels agree on, proved to be a primary.
        Repoint "repoint",
        /// `SENTINEL FAILOVER` on one Sentinel.
        RequestFailover "request-failover",
    }
}

codes! {
    /// Why relinkd holds. Each is recorded, shown and counted.
    RefusalCode {
        Paused "paused",
        ObserveOnly "observe-only",
        ApprovalNeeded "approval-needed",
        Cooldown "cooldown",
        AttemptsExhausted "attempts-exhausted",
        TooEarly "too-early",
        FailoverRunning "failover-running",
        SentinelActing "sentinel-acting",
        SentinelsDisagree "sentinels-disagree",
        QuorumUnclear "quorum-unclear",
        PrimarySeenAlive "primary-seen-alive",
        NotOurTurn "not-our-turn",
        RoleChanged "role-changed",
        TargetNotPrimary "target-not-primary",
        LatentAuthMismatch "latent-auth-mismatch",
        DataAtRisk "data-at-risk",
        NoPromotableReplica "no-promotable-replica",
        SecretUnavailable "secret-unavailable",
        SecretRejected "secret-rejected",
        PermissionDenied "permission-denied",
        SyncRunning "sync-running",
        EvidenceMissing "evidence-missing",
        EvidenceStale "evidence-stale",
        LedgerUnwritable "ledger-unwritable",
        Tilt "tilt",
        Stopping "stopping",
        NoSafeRemedy "no-safe-remedy",
    }
}

impl RefusalCode {
    /// Reasons that are expected to lift by themselves within moments. They do not count as "cannot act" for the
    /// first message, which then waits for `[policy] blip`.
    pub const fn fleeting(self) -> bool {
        matches!(
            self,
            RefusalCode::TooEarly
                | RefusalCode::FailoverRunning
                | RefusalCode::SentinelActing
                | RefusalCode::NotOurTurn
                | RefusalCode::SentinelsDisagree
                | RefusalCode::RoleChanged
                | RefusalCode::SyncRunning
                | RefusalCode::EvidenceMissing
                | RefusalCode::EvidenceStale
                | RefusalCode::Cooldown
                | RefusalCode::Tilt
                | RefusalCode::Stopping
        )
    }
}

/// A reason not to act, with what was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: RefusalCode,
    /// The remedy that it holds back; none where no remedy exists.
    pub remedy: Option<Remedy>,
    /// What was read, and what would lift it.
    pub detail: String,
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Apply(Plan),
    Propose(Plan),
    Hold(Refusal),
}

impl Decision {
    /// The remedy that is held back.
    pub fn held_remedy(&self) -> Option<Remedy> {
        match self {
            Decision::Hold(refusal) => refusal.remedy,
            Decision::Apply(_) | Decision::Propose(_) => None,
        }
    }
}

/// Steps in order, complete: nothing in it is left to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub remedy: Remedy,
    pub steps: Vec<Step>,
    /// What takes the change back when the proof fails; empty where nothing can.
    pub undo: Vec<Step>,
    /// What will be seen when it has worked.
    pub expected: Fact,
}

impl Plan {
    /// Bytes of acknowledged writes that it may cost: such a plan is a person's to allow, in `auto` too.
    pub fn discards(&self) -> u64 {
        let cost = |step: &Step| match step.change {
            Change::Repoint { discards, .. } => discards,
            _ => 0,
        };
        self.steps.iter().map(cost).sum()
    }

    /// How it has a primary replaced, if it does.
    pub fn handover(&self) -> Option<&Handover> {
        self.steps.iter().find_map(|step| match &step.change {
            Change::RequestFailover { how, .. } => Some(how),
            _ => None,
        })
    }

    /// Whether both do the same to the same targets under the same conditions. When a plan was made is no part of it, nor
    /// is which Sentinels answered just then, whose turn it was, or why it has to cost what it costs.
    pub fn same(&self, other: &Plan) -> bool {
        self.remedy == other.remedy && self.essence() == other.essence() && self.undo == other.undo
    }

    /// The steps, whoever carries the request to the Sentinels' group.
    fn essence(&self) -> Vec<Step> {
        let mut steps = self.steps.clone();
        for step in &mut steps {
            if let Change::RequestFailover { sentinels, how, .. } = &mut step.change {
                sentinels.clear();
                // Of several reasons it names the first that was seen.
                if let Handover::Costly { why } = how {
                    why.clear();
                }
                // Only what is carried out has a turn.
                step.expect.turn = None;
            }
        }
        steps
    }

    /// A short name for what it does, by which a person can say which plan they have read. No secret, and no proof.
    pub fn print(&self) -> String {
        let mut said = serde_json::json!([self.remedy, self.essence(), self.undo]);
        without_blanks(&mut said);
        let text = said.to_string();
        // FNV-1a.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }
}

/// A field that is not set says nothing, so that one which a later version adds does not change a plan's name.
fn without_blanks(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            map.retain(|_, it| !matches!(it, Value::Null | Value::Bool(false)));
            map.values_mut().for_each(without_blanks);
        }
        Value::Array(items) => items.iter_mut().for_each(without_blanks),
        _ => {}
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Re-read just before the change.
    pub expect: Precondition,
    pub change: Change,
    pub within_ms: u64,
}

/// What has to be true of the world just before a change. Every field that is set is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precondition {
    /// The local instance is still the same process.
    pub run_id: Option<String>,
    /// It is still a primary.
    #[serde(default)]
    pub still_primary: bool,
    /// It is still a replica of this address.
    pub replica_of: Option<Endpoint>,
    /// It is still a primary, and its replication offset is at most this.
    #[serde(default)]
    pub leads_up_to: Option<i64>,
    /// Its link is still down.
    pub link_down: bool,
    /// No data set is being transferred or loaded.
    pub not_syncing: bool,
    /// A majority of the Sentinels, asked one by one, still name this address.
    pub sentinels_name: Option<Endpoint>,
    /// No Sentinel runs a failover, none is in TILT, none has just taken up another primary.
    pub no_failover: bool,
    /// A majority of the Sentinels still hold the primary down.
    pub primary_down: bool,
    /// This address claims the role of a primary on its own connection.
    pub is_primary: Option<Endpoint>,
    /// No replica of the group can have been promoted meanwhile; the age of o_down before which nobody asks for that, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sight: Option<u64>,
    /// The look that led to this began at most so long ago: what it saw of other hosts is not read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_within_ms: Option<u64>,
    /// A majority of the Sentinels give us the turn, with enough of it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// The primary lives, and most of its replicas cannot replicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub living: Option<Living>,
}

/// What has to be true of a primary that lives, just before it is failed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Living {
    /// No Sentinel holds it down, and for a majority of them most replicas have had no link for so long.
    pub unlinked_for_ms: u64,
    /// Every Sentinel answers, knows COORDINATED, and would promote a replica whose link is up.
    pub coordinated: bool,
    /// It refuses writes for want of good replicas, by a majority of the Sentinels.
    pub refuses_writes: bool,
}

/// How a failover is made, which depends on what the primary does meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handover {
    /// Forced; the primary is gone.
    #[default]
    Lost,
    /// COORDINATED: the primary lives, holds its writes, waits until the replica has them all, and steps down.
    Coordinated,
    /// Forced; the primary lives and refuses writes for want of replicas.
    Refusing,
    /// Forced; the primary lives and goes on taking writes, for the reason why it is none of the above.
    Costly { why: String },
}

impl Handover {
    fn is_lost(&self) -> bool {
        *self == Handover::Lost
    }

    fn describe(&self) -> String {
        match self {
            Handover::Lost => String::new(),
            Handover::Coordinated => ": the primary lives, holds its writes until the replica has them all, and steps \
                                      down; should that come to nothing, writes wait for as long as failover-timeout"
                .to_owned(),
            Handover::Refusing => {
                ": the primary lives, and refuses writes for want of replicas, so that it acknowledges \
                                   none which would be lost"
                    .to_owned()
            }
            Handover::Costly { why } => format!(
                ", which costs acknowledged writes: what the promoted replica has not received, and what the primary, \
                 which lives, takes for about eleven seconds after it (5,093 of 5,646 of one client's in a measurement); \
                 {why}"
            ),
        }
    }
}

/// The only changes that relinkd ever makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// MULTI: CONFIG SET masteruser and masterauth, then the bounce; EXEC. The password is named by its
    /// fingerprint, and is fetched from the store again by the hand that needs it.
    RealignAuth { source: String, version: String, print: String, user: String, bounce_to: Endpoint },
    /// CONFIG SET masteruser and masterauth while the link is up: they count at the next reconnect.
    PresetAuth { source: String, version: String, print: String, user: String },
    /// Put back the user and password that RealignAuth found.
    RestoreAuth { bounce_to: Endpoint },
    /// MULTI: REPLICAOF elsewhere, REPLICAOF back; EXEC.
    BounceLink { to: Endpoint },
    /// REPLICAOF another address. `discards`: so many bytes of writes at most, which only this server has, are lost by it.
    Repoint {
        to: Endpoint,
        #[serde(default)]
        discards: u64,
    },
    /// SENTINEL FAILOVER on the first of these that takes it; the order is fixed over all agents.
    RequestFailover {
        group: String,
        sentinels: Vec<Endpoint>,
        #[serde(default, skip_serializing_if = "Handover::is_lost")]
        how: Handover,
    },
    /// Wait until the link reads up.
    ProveLink,
    /// CONFIG REWRITE, with a look at the file before and after.
    Persist,
}

impl Change {
    /// In words, without secrets.
    pub fn describe(&self) -> String {
        match self {
            Change::RealignAuth { source, version, user, bounce_to, .. } => {
                let whose = if user.is_empty() { String::new() } else { format!(" and masteruser {user:?}") };
                format!(
                    "set masterauth{whose} from {source} (version {version}) and reconnect to {bounce_to}, in one transaction"
                )
            }
            Change::PresetAuth { source, version, user, .. } => {
                let whose = if user.is_empty() { String::new() } else { format!(" and masteruser {user:?}") };
                format!(
                    "set masterauth{whose} from {source} (version {version}) for the next reconnect; the link is left as it is"
                )
            }
            Change::RestoreAuth { bounce_to } => format!("put the former masterauth back and reconnect to {bounce_to}"),
            Change::BounceLink { to } => format!("reconnect to {to} at once, keeping the partial resync"),
            Change::Repoint { to, discards: 0 } => format!("REPLICAOF {} {}", to.host, to.port),
            Change::Repoint { to, discards } => format!(
                "REPLICAOF {} {}, which discards up to {discards} bytes of writes that only this server has",
                to.host, to.port
            ),
            Change::RequestFailover { group, sentinels, how } => {
                let first = sentinels.first().map(ToString::to_string).unwrap_or_default();
                let word = if *how == Handover::Coordinated { " COORDINATED" } else { "" };
                format!("SENTINEL FAILOVER {group}{word}, asked of {first} first{}", how.describe())
            }
            Change::ProveLink => "wait until the link reads up".to_owned(),
            Change::Persist => "CONFIG REWRITE".to_owned(),
        }
    }
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; the text says what was seen, and any warning.
    Changed(String),
    /// Begun well, and the rest is not this plan's to finish: a full resync that runs, or another fault behind the one
    /// that was mended.
    UnderWay(String),
    /// The world was already so.
    AlreadySo(String),
    /// The world has moved: nothing was changed.
    PreconditionGone(String),
    /// It failed, or its outcome is unknown and reading back did not settle it.
    Failed(String),
}

impl Outcome {
    pub const fn code(&self) -> &'static str {
        match self {
            Outcome::Changed(_) => "changed",
            Outcome::UnderWay(_) => "under-way",
            Outcome::AlreadySo(_) => "already-so",
            Outcome::PreconditionGone(_) => "precondition-gone",
            Outcome::Failed(_) => "failed",
        }
    }

    pub fn detail(&self) -> &str {
        match self {
            Outcome::Changed(text)
            | Outcome::UnderWay(text)
            | Outcome::AlreadySo(text)
            | Outcome::PreconditionGone(text)
            | Outcome::Failed(text) => text,
        }
    }

    /// Nothing was changed, and nothing has failed.
    pub const fn is_idle(&self) -> bool {
        matches!(self, Outcome::AlreadySo(_) | Outcome::PreconditionGone(_))
    }

    pub const fn went_well(&self) -> bool {
        matches!(self, Outcome::Changed(_) | Outcome::UnderWay(_) | Outcome::AlreadySo(_))
    }
}

/// A finished step, as the ledger and the messages tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub remedy: Remedy,
    pub what: String,
    pub outcome: Outcome,
    pub at: Timestamp,
    pub took_us: u64,
}
