//! A rotation of one user's password over a whole group: what is seen of the group, the steps, and the record.
//!
//! Passwords are never part of it. A password is [`Held::From`] or [`Held::To`] where it is seen, and a salted
//! fingerprint where it has to be known again later.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::evidence::{Quorum, Reading};
use super::remedy::RefusalCode;
use super::{Endpoint, Timestamp};

/// The two passwords of a rotation, the way it runs now: an abort is a rotation back, with the two exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// The one that is left.
    From,
    /// The one that is to stand at the end.
    To,
    /// Neither.
    Other,
    Unset,
}

/// What is rotated, and whom it concerns. Fixed when a rotation begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The ACL user on the data nodes; `default` where passwords are `requirepass`.
    pub user: String,
    /// The nodes log in to their primary as this user.
    pub replicates: bool,
    /// The Sentinels log in to the nodes as this user.
    pub watches: bool,
    /// The servers know one password only: the short-window order.
    pub single: bool,
}

/// Which way a rotation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Forward,
    /// An abort: back to the old password everywhere.
    Back,
}

/// One step, complete: nothing in it is left to choose. The order of the variants is the order of the steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// The node accepts the password to come beside the present one, also after a restart.
    Allow { node: Endpoint },
    /// The node shows the password to come when it follows a primary: `masterauth`, also after a restart.
    Present { node: Endpoint },
    /// Where servers know one password only: everything at once.
    Switch,
    /// The Sentinel logs in to the nodes with the password to come.
    Tell { sentinel: Endpoint },
    /// A login with the password to come, at every node.
    Login,
    /// The replica's link through a reconnect, with a partial resync.
    Reconnect { replica: Endpoint },
    /// The node accepts the former password no more.
    Retire { node: Endpoint },
    /// Every node accepts the one and refuses the other, by login.
    Refused,
    /// The node's files hold what it runs with.
    Keep { node: Endpoint },
    /// Every Sentinel sees every node, and has its quorum.
    Quorum,
}

impl Step {
    /// A few words for a person: `accept both passwords on 10.0.0.1:6379`.
    pub fn describe(&self) -> String {
        match self {
            Step::Allow { node } => format!("accept both passwords on {node}"),
            Step::Present { node } => format!("set masterauth on {node}"),
            Step::Switch => "set requirepass, masterauth and auth-pass everywhere at once".to_owned(),
            Step::Tell { sentinel } => format!("set auth-pass on Sentinel {sentinel}"),
            Step::Login => "prove it by a login on every node".to_owned(),
            Step::Reconnect { replica } => format!("prove it by a reconnect of {replica}"),
            Step::Retire { node } => format!("remove the former password from {node}"),
            Step::Refused => "prove that every node refuses the former password".to_owned(),
            Step::Keep { node } => format!("write the files of {node}"),
            Step::Quorum => "prove that every Sentinel sees every node, and its quorum".to_owned(),
        }
    }

    /// Whether the step changes something, or only proves.
    pub const fn changes(&self) -> bool {
        !matches!(self, Step::Login | Step::Refused | Step::Quorum)
    }
}

/// The group as one look saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotationView {
    pub at: Timestamp,
    /// In the order of their addresses.
    pub nodes: Vec<NodeView>,
    pub sentinels: Vec<WatcherView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub address: Endpoint,
    pub says: Reading<NodeSays>,
}

/// What a data node tells of itself to one who may administer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSays {
    pub server: String,
    /// Whom it follows; none: it calls itself a primary.
    pub follows: Option<Endpoint>,
    pub link_up: bool,
    pub busy_syncing: bool,
    pub loading: bool,
    /// FAILOVER, the server's own, runs on it.
    pub failing_over: bool,
    /// The replicas that it serves, as it lists them.
    pub serves: Vec<Endpoint>,
    /// It has ACLs, so a user may hold two passwords (Redis 6 and later, every Valkey).
    pub knows_two: bool,
    pub user: UserState,
    pub masteruser: String,
    pub masterauth: Held,
    /// Of the default user; a parameter of its own beside the ACL, which an edit of the ACL does not change.
    pub requirepass: Held,
    pub config_file: String,
    pub aclfile: String,
    /// Rights that the admin lacks here, as ACL DRYRUN says.
    pub lacks: Vec<String>,
    /// The users that Sentinels are logged in as here, by the first eight characters of the Sentinel's id.
    pub watchers: BTreeMap<String, String>,
}

/// The user on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    pub exists: bool,
    pub on: bool,
    pub nopass: bool,
    pub accepts_from: bool,
    pub accepts_to: bool,
    /// Further passwords that are neither.
    pub others: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatcherView {
    pub endpoint: Endpoint,
    pub says: Reading<WatcherSays>,
}

/// What a Sentinel tells of the group, as far as a rotation needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherSays {
    pub id: String,
    pub primary: Endpoint,
    /// How many other Sentinels it knows.
    pub others: u32,
    /// Nodes that it holds down or is not connected to, each with its flags.
    pub troubled: Vec<String>,
    pub failover: bool,
    pub tilt: Reading<bool>,
    pub quorum: Reading<Quorum>,
    pub lacks: Vec<String>,
}

impl RotationView {
    pub fn node(&self, address: &Endpoint) -> Option<&NodeSays> {
        self.nodes.iter().find(|node| node.address == *address)?.says.seen()
    }

    /// The nodes that answered, replicas first: what is done to all is done to the primary last.
    pub fn in_order(&self) -> Vec<(&Endpoint, &NodeSays)> {
        let mut nodes: Vec<_> = self.nodes.iter().filter_map(|node| Some((&node.address, node.says.seen()?))).collect();
        nodes.sort_by_key(|(_, says)| says.follows.is_none());
        nodes
    }
}

/// Why a rotation does not begin, or does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    pub code: RefusalCode,
    /// The node or Sentinel, where it is one.
    pub at: Option<Endpoint>,
    /// What was read, and what would lift it.
    pub detail: String,
}

/// A rotation as the record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub id: String,
    pub group: String,
    pub subject: Subject,
    /// Salted fingerprints of the two passwords; the old one is empty where only its hash is known.
    pub old: String,
    pub new: String,
    /// Another host had begun it: what it did is not in this record.
    #[serde(default)]
    pub taken_over: bool,
    pub begun_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// One line of a rotation's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationEntry {
    pub at: Timestamp,
    pub what: RotationWhat,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RotationWhat {
    /// Written before the step is made.
    Intended {
        way: Way,
        step: Step,
    },
    Done {
        step: Step,
        detail: String,
        took_us: u64,
    },
    Failed {
        step: Step,
        detail: String,
    },
    /// It went no further, and waits for `resume` or `abort`.
    Stopped {
        detail: String,
    },
    Ended {
        way: Way,
        detail: String,
    },
}

impl RotationWhat {
    pub const fn kind(&self) -> &'static str {
        match self {
            RotationWhat::Intended { .. } => "intended",
            RotationWhat::Done { .. } => "done",
            RotationWhat::Failed { .. } => "failed",
            RotationWhat::Stopped { .. } => "stopped",
            RotationWhat::Ended { .. } => "ended",
        }
    }
}

/// A rotation with its lines, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRecord {
    pub rotation: Rotation,
    pub entries: Vec<RotationEntry>,
}

impl RotationRecord {
    /// Whether a Sentinel may have been given the new password: it cannot be read back.
    pub fn sentinels_touched(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(&entry.what, RotationWhat::Intended { step: Step::Tell { .. } | Step::Switch, .. }))
    }

    /// Whether a node may refuse the old password already.
    pub fn removal_begun(&self) -> bool {
        self.entries.iter().any(|entry| {
            matches!(
                &entry.what,
                RotationWhat::Intended { way: Way::Forward, step: Step::Retire { .. } | Step::Switch }
            )
        })
    }

    /// Nodes on which a step was begun of which it is not recorded that it went well, up to the writing of its files.
    pub fn unkept(&self) -> BTreeSet<Endpoint> {
        let mut nodes = BTreeSet::new();
        for entry in &self.entries {
            match &entry.what {
                RotationWhat::Intended { step: Step::Allow { node } | Step::Present { node }, .. } => {
                    nodes.insert(node.clone());
                }
                RotationWhat::Done {
                    step: Step::Allow { node } | Step::Present { node } | Step::Keep { node },
                    ..
                } => {
                    nodes.remove(node);
                }
                _ => {}
            }
        }
        nodes
    }

    /// The way it ran last.
    pub fn way(&self) -> Way {
        let mut ways = self.entries.iter().rev().filter_map(|entry| match &entry.what {
            RotationWhat::Intended { way, .. } => Some(*way),
            _ => None,
        });
        ways.next().unwrap_or(Way::Forward)
    }

    /// The step that was begun and of which no end is recorded.
    pub fn unfinished(&self) -> Option<&Step> {
        match &self.entries.last()?.what {
            RotationWhat::Intended { step, .. } => Some(step),
            _ => None,
        }
    }
}
