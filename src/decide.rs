//! From a finding to what to do about it: pure, complete, and with a name for every reason to hold.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::{Cause, Finding};
use crate::model::people::Pause;
use crate::model::remedy::{Decision, Handover, Plan, Refusal, RefusalCode, Remedy};
use crate::model::turn::{self, Seat};

mod align;
mod candidates;
mod dropped;
mod failover;
mod guards;
mod living;
mod next_steps;
mod people;
mod proof;
mod remedies;
mod retry;
mod successors;
mod troubles;
mod unwritten;

pub use align::{Alignment, alignment};
pub use failover::turn_in;
pub use living::{RunOn, run_on};
pub use next_steps::next_steps;
pub use proof::{Login, judge_login};
pub use retry::holds_down_alone;
pub use successors::in_the_way;
pub use unwritten::finish;

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
    /// How often a link that is up is put to the test: its handshake repeated, to see trouble before it breaks.
    pub background: Duration,
    /// Attempts on one incident, over all remedies, before a person is called.
    pub max_attempts: u32,
    /// Remedies that fail in a row, over all instances of this host, before nothing more is tried without a person.
    pub max_failures: u32,
    /// Runs of all remedies in an hour, over all instances of one group on this host.
    pub max_per_hour: u32,
    /// How long a proposal stands.
    pub proposal_expires: Duration,
    /// How long what was there when a pause ended has to stand before anything is done about it.
    pub after_pause: Duration,
    pub remedies: BTreeMap<Remedy, RemedyPolicy>,
    /// `request-failover`: the best candidate may lag at most this far behind the most advanced one seen, bytes.
    pub max_lag_bytes: u64,
    /// `request-failover`: the length of an agent's turn, [`turn::SMALLEST_STAGGER_MS`] at least.
    pub stagger: Duration,
    /// `request-failover`: without a person also of a primary that lives, where that loses no acknowledged write.
    #[serde(default)]
    pub allow_live_primary: bool,
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
            Remedy::RequestFailover => (Mode::Auto, 10_000, 600, 2),
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
            background: Duration::from_secs(30),
            max_attempts: 5,
            max_failures: 5,
            max_per_hour: 60,
            proposal_expires: Duration::from_secs(3600),
            after_pause: Duration::from_secs(30),
            remedies: Remedy::ALL.iter().map(|r| (*r, RemedyPolicy::default_for(*r))).collect(),
            max_lag_bytes: 1024 * 1024,
            stagger: Duration::from_millis(turn::SMALLEST_STAGGER_MS),
            allow_live_primary: false,
        }
    }
}

impl Policy {
    pub fn of(&self, remedy: Remedy) -> RemedyPolicy {
        self.remedies.get(&remedy).cloned().unwrap_or_else(|| RemedyPolicy::default_for(remedy))
    }

    /// How far the remedy may go that may go farthest.
    pub fn mode(&self) -> Mode {
        Remedy::ALL.iter().map(|remedy| self.of(*remedy).mode).max().unwrap_or(Mode::Observe)
    }
}

/// What happened before, as far as it bears on the next step. The agent keeps it, out of the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Attempts of this incident in which something was changed or failed, since a person last took it.
    pub attempts: u32,
    /// When those ended, within the last hour, that came to an end before that.
    pub idle: Vec<Timestamp>,
    /// Runs of remedies on this instance that began within the last hour or are the last of their kind.
    pub runs: Vec<Run>,
    /// Since when this cause has stood, without a break.
    pub cause_since: Option<Timestamp>,
    /// A login was refused in this incident or shortly before it, or differs from what it should be. A rotation that was
    /// followed in time is neither.
    pub auth_trouble: bool,
    /// The causes that this incident went through, in order, the present one too.
    pub causes: Vec<Cause>,
    /// The seat that each Sentinel, by its id, gives this replica for a promotion, and since when it is the same.
    pub seats: BTreeMap<String, (Seat, Timestamp)>,
    /// What each Sentinel, by its id, has said of unlinked replicas from look to look.
    pub unlinked: BTreeMap<String, RunOn>,
    /// When Sentinels were heard or seen to begin a failover of their own, or one that somebody asked for, or to vote: not
    /// before, not after.
    pub tries: Vec<(Timestamp, Timestamp)>,
    /// Failovers of the group that were seen to succeed within the last hour, whoever made them.
    pub failovers: Vec<Timestamp>,
    pub ledger: LedgerHealth,
    pub stopping: bool,
    /// The pause that is in force here.
    pub paused: Option<Pause>,
    /// When the last pause that held this instance ended.
    pub pause_over: Option<Timestamp>,
    /// Since when something has been wrong, whatever its name was.
    pub fault_since: Option<Timestamp>,
    /// A person has approved the plan that stands.
    pub approved: bool,
    /// Runs on all instances of the same group on this host.
    pub group_runs: Vec<Run>,
    pub failures: Failures,
}

/// Remedies that failed in a row, over all instances of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The longest such row since a person last took an incident.
    pub in_a_row: u32,
    /// The last of that row, in words.
    pub last: String,
}

/// One run of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub remedy: Remedy,
    pub began: Timestamp,
    /// None while it is in flight, or was cut off by a crash.
    pub ended: Option<Timestamp>,
}

/// Whether intents can be made durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LedgerHealth {
    #[default]
    Writable,
    /// Why not, in the ledger's words.
    Unwritable(String),
}

/// Everything that a decision may look at.
pub struct Context<'a> {
    pub evidence: &'a Evidence,
    pub finding: &'a Finding,
    pub policy: &'a Policy,
    pub history: &'a History,
    pub now: Timestamp,
}

/// What to do about a finding. Total: every finding gets a decision, every hold has a name.
pub fn decide(context: &Context<'_>) -> Decision {
    let Some(remedy) = remedies::remedy_for(context) else {
        return Decision::Hold(Refusal {
            code: RefusalCode::NoSafeRemedy,
            remedy: None,
            detail: remedies::why_none(context.finding).to_owned(),
        });
    };
    if let Err((code, detail)) = guards::check(remedy, context) {
        return Decision::Hold(Refusal { code, remedy: Some(remedy), detail });
    }
    match remedies::plan(remedy, context) {
        Err((code, detail)) => Decision::Hold(Refusal { code, remedy: Some(remedy), detail }),
        Ok(plan) => match context.policy.of(remedy).mode {
            Mode::Auto if !living::asks_a_person(&plan, context.policy) => Decision::Apply(plan),
            Mode::Auto | Mode::Propose => Decision::Propose(plan),
            Mode::Observe => Decision::Hold(Refusal {
                code: RefusalCode::ObserveOnly,
                remedy: Some(remedy),
                detail: format!("[policy.{remedy}] mode is observe; it would {}", in_words(&plan)),
            }),
        },
    }
}

/// Whether a cause is of the kind whose remedy needs passwords from the secret store, proved against the primary.
pub fn wants_candidates(cause: Cause) -> bool {
    matches!(cause, Cause::AuthMissing | Cause::AuthRejected | Cause::AuthLatent)
}

/// Why a plan waits for a person.
pub fn why_ask(plan: &Plan) -> Refusal {
    let (remedy, would) = (plan.remedy, in_words(plan));
    let lost = || (RefusalCode::DataAtRisk, format!("a person has to allow what is lost by it: it would {would}"));
    let (code, detail) = match (plan.discards(), plan.handover()) {
        (0, None | Some(Handover::Lost)) => {
            (RefusalCode::ApprovalNeeded, format!("[policy.{remedy}] mode is propose: it would {would}"))
        }
        (0, Some(Handover::Coordinated | Handover::Refusing)) => (
            RefusalCode::ApprovalNeeded,
            format!(
                "a primary that lives is failed over without a person only where [policy.{remedy}] mode is auto and \
                 allow_live_primary is true: it would {would}"
            ),
        ),
        (0, Some(Handover::Costly { .. })) | (1.., _) => lost(),
    };
    Refusal { code, remedy: Some(remedy), detail }
}

/// The steps of a plan, in one line.
pub fn in_words(plan: &Plan) -> String {
    plan.steps.iter().map(|step| step.change.describe()).collect::<Vec<_>>().join("; then ")
}

/// A refusal before it has a remedy.
type Held = (RefusalCode, String);

#[cfg(test)]
mod tests;
