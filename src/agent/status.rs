//! What an agent shows of itself: for `relinkd status`, and for systemd's status line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Agent, SecretStatus};
use crate::decide::LedgerHealth;
use crate::model::evidence::Evidence;
use crate::model::finding::Cause;
use crate::model::incident::{Incident, IncidentId, Phase};
use crate::model::remedy::{Decision, Refusal, Remedy};
use crate::model::{Address, Endpoint, Timestamp, human};

/// A look ends within 1.5 s, and waits before it for a record on a slow disk and for a secret store.
const OVERDUE: Duration = Duration::from_secs(20);

/// The role of an instance that was not seen.
pub const UNSEEN: &str = "unseen";

/// One instance, as relinkd sees it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub replica: String,
    pub group: String,
    pub address: Address,
    /// `primary`, `replica`, `sentinel` or `unseen`.
    pub role: String,
    pub primary: Option<Endpoint>,
    pub link_up: Option<bool>,
    pub looked_at: Option<Timestamp>,
    /// One sentence on how things stand.
    pub sentence: String,
    /// For how long a look has been out, where that is longer than any look takes.
    #[serde(default)]
    pub overdue_ms: Option<u64>,
    pub incident: Option<IncidentId>,
    pub phase: Option<Phase>,
    /// What is wrong, also before it has become an incident: a passing state or a suspicion has its time first.
    pub cause: Option<Cause>,
    pub suspected: bool,
    pub held: Option<Refusal>,
    /// What waits for a person's answer.
    #[serde(default)]
    pub proposal: Option<Proposal>,
    /// Why the last proposal of this incident was withdrawn.
    #[serde(default)]
    pub withdrawn: Option<String>,
    /// Something was changed, or has failed, in the attempt that began last, and since a person last approved one.
    #[serde(default)]
    pub touched: bool,
    /// Who has taken the incident.
    #[serde(default)]
    pub taken_by: Option<String>,
    /// Hands off: the pause that holds this instance.
    #[serde(default)]
    pub paused: Option<Paused>,
    pub next_steps: Vec<String>,
    /// Why nothing can be recorded, and so nothing is changed.
    pub ledger_trouble: Option<String>,
    /// What the secret store holds for the login to the primary; none where no store is configured.
    #[serde(default)]
    pub secret: Option<SecretStatus>,
}

/// A plan that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    pub remedy: Remedy,
    /// What `approve --plan` names.
    pub plan: String,
    pub steps: Vec<String>,
    pub expires: Option<String>,
    /// Who approved it; it is being decided anew.
    pub approved_by: Option<String>,
}

/// A pause, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    pub owner: String,
    pub reason: String,
    pub scope: String,
    pub ends: String,
}

/// The last look's outcome, for status and for messages between looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    pub at: Option<Timestamp>,
    pub sentence: String,
    /// The fault that was seen, whether or not it is an incident yet, and whether it is only suspected.
    pub fault: Option<(Cause, bool)>,
    pub evidence: Option<Box<Evidence>>,
    pub decision: Option<Decision>,
    pub next_steps: Vec<String>,
}

impl Agent {
    /// Whether the link to the primary is up; none where the instance is a primary, or was not seen.
    pub fn link_up(&self) -> Option<bool> {
        self.last.evidence.as_ref().and_then(|e| e.local_link()).map(|link| link.up)
    }

    /// Whether the instance goes to its primary with this login; none where its settings were not read.
    pub fn logs_in_with(&self, user: Option<&str>, print: &str) -> Option<bool> {
        let settings = self.last.evidence.as_ref().and_then(|e| e.settings.seen())?;
        Some(settings.logs_in_with(user, print))
    }

    fn sentence(&self) -> String {
        if self.last.sentence.is_empty() {
            return "not looked yet".to_owned();
        }
        let well = self.incidents.open().is_none() && self.last.fault.is_none();
        match self.store_sentence().filter(|_| well) {
            Some(store) => format!("{}; {store}", self.last.sentence),
            None => self.last.sentence.clone(),
        }
    }

    pub fn status(&self, now: Timestamp) -> Status {
        let view = self.last.evidence.as_ref().and_then(|e| e.local.seen());
        let link = view.and_then(|view| view.role.link());
        let incident = self.incidents.open();
        let held = match &self.last.decision {
            Some(Decision::Hold(refusal)) => Some(refusal.clone()),
            _ => None,
        };
        // What alternates is written once in a while, and shown as it was seen last.
        let recorded = incident.map(|incident| (incident.finding.cause, incident.finding.suspected));
        let known = recorded.filter(|_| !self.unsteady).or(self.last.fault).or(recorded);
        let overdue = self.looking.map(|since| now.since(since)).filter(|out| *out > OVERDUE);
        Status {
            replica: self.identity.link.replica.clone(),
            group: self.identity.link.group.clone(),
            address: self.identity.address.clone(),
            role: view.map_or(UNSEEN, |view| view.role.name()).to_owned(),
            primary: link.map(|link| link.primary.clone()),
            link_up: link.map(|link| link.up),
            looked_at: self.last.at,
            sentence: match overdue {
                Some(out) => {
                    let before = self.sentence();
                    format!(
                        "a look has been out for {}, and nothing is seen until it ends; before: {before}",
                        human(out)
                    )
                }
                None => self.sentence(),
            },
            overdue_ms: overdue.and_then(|out| u64::try_from(out.as_millis()).ok()),
            incident: incident.map(|incident| incident.id.clone()),
            phase: incident.map(|incident| incident.phase),
            cause: known.map(|(cause, _)| cause),
            suspected: known.is_some_and(|(_, suspected)| suspected),
            held: incident.and(held),
            proposal: incident.and_then(proposal),
            withdrawn: incident.and_then(|incident| incident.people.withdrawn.clone()),
            touched: incident.is_some_and(|incident| incident.touched),
            taken_by: incident.and_then(|incident| incident.people.acknowledged.clone()),
            paused: self.paused(now).map(|pause| Paused {
                owner: pause.owner.to_string(),
                reason: pause.reason.clone(),
                scope: pause.scope.to_string(),
                ends: pause.ends.to_string(),
            }),
            next_steps: incident
                .map(|incident| self.ways_to_answer(incident))
                .unwrap_or_default()
                .into_iter()
                .chain(self.last.next_steps.iter().cloned())
                .collect(),
            ledger_trouble: match self.ledger_health() {
                LedgerHealth::Writable => None,
                LedgerHealth::Unwritable(why) => Some(why),
            },
            secret: self.secret_status(),
        }
    }
}

impl Status {
    /// The same where nobody looks at the instance any more.
    pub fn unwatched(self, why: &str) -> Status {
        Status { link_up: None, looked_at: None, sentence: format!("nobody looks at it: {why}"), ..self }
    }
}

fn proposal(incident: &Incident) -> Option<Proposal> {
    let plan = incident.proposal.as_ref().filter(|_| incident.phase == Phase::Proposed)?;
    Some(Proposal {
        remedy: plan.remedy,
        plan: plan.print(),
        steps: plan.steps.iter().map(|step| step.change.describe()).collect(),
        expires: incident.people.expires.map(|at| at.to_string()),
        approved_by: incident.people.approved.as_ref().map(|(_, by)| by.to_string()),
    })
}
