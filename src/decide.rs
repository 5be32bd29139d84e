//! From a finding to what to do about it: pure, complete, and with a name for every reason to hold.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::remedy::Remedy;

/// How far relinkd may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Look and tell.
    Observe,
    /// Say exactly what it would do, and wait for a person.
    Propose,
    /// Act, under the guards.
    Auto,
}

/// Whether a change is written to the server's config file too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persist {
    Rewrite,
    Runtime,
}

/// `[policy]`: complete, every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub persist: Persist,
    /// A link that heals by itself within this is no news.
    pub blip: Duration,
    /// Passing states are told when they outlast this.
    pub patience: Duration,
    /// How long a link has to be whole before its incident is over.
    pub settle: Duration,
    /// A reminder this often while someone is needed.
    pub remind: Duration,
    /// Attempts on one incident, over all remedies, before a person is called.
    pub max_attempts: u32,
    pub remedies: BTreeMap<Remedy, RemedyPolicy>,
    /// `request-failover`: the best candidate may lag at most this far behind the most advanced one seen, bytes.
    pub max_lag_bytes: u64,
}

/// `[policy.REMEDY]`, with `mode` already brought together with `[policy] mode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemedyPolicy {
    pub mode: Mode,
    /// How long the cause must have stood.
    pub after: Duration,
    /// Time between the end of one run and the start of the next on the same replica (for `request-failover`:
    /// in the same group).
    pub cooldown: Duration,
    pub max_per_hour: u32,
}

impl RemedyPolicy {
    /// The default for a remedy, before any config.
    pub fn default_for(remedy: Remedy) -> RemedyPolicy {
        let (mode, after_ms, cooldown_s, max_per_hour) = match remedy {
            Remedy::RealignAuth => (Mode::Auto, 0, 10, 20),
            Remedy::BounceLink => (Mode::Auto, 1_000, 10, 20),
            // Sentinel needs some seconds to move every replica after a failover: leave it that time.
            Remedy::Repoint => (Mode::Auto, 15_000, 60, 6),
            Remedy::RequestFailover => (Mode::Propose, 10_000, 600, 2),
        };
        RemedyPolicy {
            mode,
            after: Duration::from_millis(after_ms),
            cooldown: Duration::from_secs(cooldown_s),
            max_per_hour,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            persist: Persist::Rewrite,
            blip: Duration::from_secs(1),
            patience: Duration::from_secs(30),
            settle: Duration::from_secs(3),
            remind: Duration::from_secs(3600),
            max_attempts: 5,
            remedies: Remedy::ALL.iter().map(|r| (*r, RemedyPolicy::default_for(*r))).collect(),
            max_lag_bytes: 1024 * 1024,
        }
    }
}

impl Policy {
    pub fn of(&self, remedy: Remedy) -> RemedyPolicy {
        self.remedies.get(&remedy).cloned().unwrap_or_else(|| RemedyPolicy::default_for(remedy))
    }
}
