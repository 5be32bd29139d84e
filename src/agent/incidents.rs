//! What the record says so far: the open incident, the runs of remedies, the last login trouble. A fold over ledger
//! entries, and nothing else: folding the same entries after a restart gives the same state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lately::Lately;
use crate::decide::{Run, wants_candidates};
use crate::model::finding::{Cause, Finding};
use crate::model::incident::{Announcement, Entry, Incident, Phase, What};
use crate::model::remedy::{Change, Outcome, Plan, Remedy};
use crate::model::{Endpoint, Timestamp};

/// Runs older than this bear on nothing any more: the longest cool-down is a day, and begins at the end of a run.
const KEEP_RUNS: Duration = Duration::from_secs(25 * 3600);

const HOUR: Duration = Duration::from_secs(3600);

/// What the messages of the open incident have said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub causes: BTreeSet<Cause>,
    pub escalated: bool,
    /// Prints of the plans that were told as proposals and not approved since.
    pub plans: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incidents {
    open: Option<Incident>,
    runs: Vec<Run>,
    /// When a login was last refused.
    auth_seen: Option<Timestamp>,
    /// A login was refused in the open incident.
    refused: bool,
    /// A login differs in the open incident, nobody refused it, and it was not put right yet: a rotation on its way.
    differs: bool,
    said: Said,
    /// A plan of ours went well in the open incident.
    healed_by_us: bool,
    /// A plan that was to be written to the config file, and of whose writing no end is recorded.
    unwritten: Option<Plan>,
    /// The same before the plan in flight, as long as that has changed nothing: dropped then, it leaves nothing of itself.
    untouched: Option<Option<Plan>>,
    /// The primary that the failover is to replace that was begun last.
    replaces: Option<Endpoint>,
    /// The primary that a Sentinel was asked to replace in the open incident and took the request, and when.
    asked: Option<(Endpoint, Timestamp)>,
    lately: Lately,
    /// Failovers of the group within an hour, whoever made them, and the epoch of the last.
    failovers: Vec<Timestamp>,
    epoch: Option<u64>,
}

impl Incidents {
    pub fn open(&self) -> Option<&Incident> {
        self.open.as_ref()
    }

    /// The open incident is about a login, and nothing has mended it: a look without the store's passwords decides
    /// nothing, and the next one would send the refused password once more.
    pub fn wants_candidates(&self) -> bool {
        let unmended = |open: &Incident| open.up_at.is_none() || open.finding.link_up && open.phase != Phase::Verifying;
        self.open.as_ref().is_some_and(|open| unmended(open) && wants_candidates(open.finding.cause))
    }

    pub fn failovers(&self) -> &[Timestamp] {
        &self.failovers
    }

    /// The epoch of the last failover that the record tells of.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn said(&self) -> &Said {
        &self.said
    }

    /// Whether a plan of ours went well in the open incident.
    pub fn healed_by_us(&self) -> bool {
        self.healed_by_us
    }

    /// The plan of the open incident whose change may stand in the running server alone.
    pub fn unwritten(&self) -> Option<&Plan> {
        self.unwritten.as_ref()
    }

    pub(super) fn asked(&self) -> Option<&(Endpoint, Timestamp)> {
        self.asked.as_ref()
    }

    pub(super) fn lately(&self) -> &Lately {
        &self.lately
    }

    /// Whether a login was refused in the open incident, or within `span` before `now`; or differs now. A rotation in
    /// which nobody was refused is over when the login was proved and set.
    pub fn auth_trouble(&self, now: Timestamp, span: Duration) -> bool {
        let in_this = self.open.is_some() && (self.refused || self.differs);
        in_this || self.auth_seen.is_some_and(|seen| now.since(seen) < span)
    }

    pub fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Opened { finding, .. } => {
                self.open = Incident::open(entry);
                self.said = Said::default();
                (self.healed_by_us, self.unwritten, self.untouched) = (false, None, None);
                self.asked = None;
                self.lately = Lately::default();
                self.lately.note_cause(finding, entry.at);
                (self.refused, self.differs) = (false, false);
                self.note_finding(finding, entry.at);
                return;
            }
            What::Diagnosed { finding, .. } => {
                self.note_finding(finding, entry.at);
                self.lately.note_cause(finding, entry.at);
            }
            What::FailedOver { epoch, .. } => {
                self.failovers.retain(|at| entry.at.since(*at) < HOUR);
                self.failovers.push(entry.at);
                self.epoch = Some(*epoch);
            }
            What::Proposed { .. } => self.lately.note_proposal(entry.at),
            What::Held { refusal } => {
                if let Some(open) = &self.open {
                    self.lately.note_hold(open.finding.cause, refusal, entry.at);
                }
            }
            What::Intended { plan, .. } => {
                self.begin(plan.remedy, entry.at);
                let asks = plan.steps.iter().find(|step| matches!(step.change, Change::RequestFailover { .. }));
                self.replaces = asks.and_then(|step| step.expect.sentinels_name.clone());
                self.note_unwritten(plan);
            }
            What::Finished { action, .. }
                if !matches!(action.outcome, Outcome::AlreadySo(_) | Outcome::PreconditionGone(_)) =>
            {
                self.untouched = None;
                // Whatever came of it, it was tried, and is told.
                if action.what == Change::Persist.describe() {
                    self.unwritten = None;
                }
            }
            What::Ended { outcome, .. } => {
                let realigned = self.runs.last().is_some_and(|run| run.remedy == Remedy::RealignAuth);
                self.differs &= !(realigned && outcome.went_well());
                self.note_outcome(outcome, entry.at);
            }
            What::Interrupted { .. } => self.end(entry.at),
            What::Told { event } => {
                self.said.causes.extend(self.open.as_ref().map(|incident| incident.finding.cause));
                self.said.escalated |= *event == Announcement::Escalated;
                let proposal = self.open.as_ref().and_then(|incident| incident.proposal.as_ref());
                if *event == Announcement::Proposed {
                    self.said.plans.extend(proposal.map(Plan::print));
                }
            }
            What::Approved { .. } => self.forget_told(),
            What::Acknowledged { .. } if self.open.as_ref().is_some_and(|open| open.id == entry.incident) => {
                self.said.escalated = false;
            }
            _ => {}
        }
        if let Some(incident) = self.open.as_mut().filter(|incident| incident.id == entry.incident) {
            incident.take(entry);
            if !incident.is_open() {
                self.open = None;
            }
        }
    }

    fn note_finding(&mut self, finding: &Finding, at: Timestamp) {
        if about_auth(finding.cause) && finding.unrefused {
            self.differs = true;
        } else if about_auth(finding.cause) {
            (self.refused, self.auth_seen) = (true, Some(at));
        }
    }

    /// A plan that only writes is the rest of the one before.
    fn note_unwritten(&mut self, plan: &Plan) {
        self.untouched = Some(self.unwritten.clone());
        let changes = plan.steps.first().is_some_and(|step| step.change != Change::Persist);
        if changes && plan.steps.iter().any(|step| step.change == Change::Persist) {
            self.unwritten = Some(plan.clone());
        }
    }

    fn begin(&mut self, remedy: Remedy, at: Timestamp) {
        self.runs.retain(|run| at.since(run.began) < KEEP_RUNS);
        self.runs.push(Run { remedy, began: at, ended: None });
    }

    fn note_outcome(&mut self, outcome: &Outcome, at: Timestamp) {
        if matches!(outcome, Outcome::Changed(_) | Outcome::UnderWay(_)) {
            match self.replaces.take() {
                // That a Sentinel took the request has healed nothing.
                Some(primary) => self.asked = Some((primary, at)),
                None => self.healed_by_us = true,
            }
        }
        self.end(at);
        let before = self.untouched.take();
        if matches!(outcome, Outcome::PreconditionGone(_)) {
            self.unwritten = before.unwrap_or_else(|| self.unwritten.take());
            self.forget_unasked();
        }
    }

    /// Should the plan come to wait again, whoever said yes to it believes that it was done.
    fn forget_told(&mut self) {
        if let Some(plan) = self.open.as_ref().and_then(|incident| incident.proposal.as_ref()) {
            self.said.plans.remove(&plan.print());
        }
    }

    /// A turn to ask that was over before a Sentinel was asked: nobody has to recover from that.
    fn forget_unasked(&mut self) {
        self.runs.pop_if(|run| run.remedy == Remedy::RequestFailover);
    }

    /// One run at a time is in flight: the last one.
    fn end(&mut self, at: Timestamp) {
        if let Some(run) = self.runs.last_mut() {
            run.ended.get_or_insert(at);
        }
    }
}

fn about_auth(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::AuthMissing
            | Cause::AuthRejected
            | Cause::AuthUnexpected
            | Cause::AuthForbidden
            | Cause::AuthLatent
            | Cause::SentinelAuthRejected
    )
}
