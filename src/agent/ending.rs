//! A look that found nothing wrong: how an incident ends, and what may have to come before, the rest of a plan that a
//! crash cut short ([`crate::decide::finish`]).

use std::time::Duration;

use super::Agent;
use crate::decide::{Context, finish};
use crate::diagnose::{PROMOTION, role_in_doubt};
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::{Cause, Finding};
use crate::model::incident::{Announcement, Phase, ResolvedBy, What};
use crate::model::remedy::{Decision, RefusalCode};

/// How soon a primary is looked at again that may have been replaced.
const DOUBT: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn healthy(&mut self, sentence: String, e: &Evidence, now: Timestamp) {
        self.last.sentence = sentence;
        self.last.fault = None;
        self.last.decision = None;
        self.last.next_steps.clear();
        (self.passing_since, self.unnamed_since) = (None, None);
        (self.latent, self.flaps) = (false, false);
        if self.incidents.open().is_none() && !self.unread {
            self.note_blip(now);
        }
        // A break within the settle time is a new one: what was suspected of the last says nothing about it.
        self.memory.fault_gone();
        let Some(incident) = self.incidents.open() else {
            return self.rest(if role_in_doubt(e) { in_doubt(e, now) } else { self.background(now) }, now);
        };
        let proved = incident.sound_at.filter(|_| incident.phase == Phase::Verifying);
        if incident.sound_at.is_none() {
            self.record(What::LinkUp { at: e.ended }, now);
        }
        if self.finish_cut_short(e, now) {
            return;
        }
        let Some(sound_at) = proved else {
            if self.incidents.open().is_some_and(|open| open.phase != Phase::Verifying) {
                self.record(What::LinkUp { at: e.ended }, now);
            }
            self.tell_if_due(now);
            self.next_look = now.after(self.policy.settle);
            return;
        };
        let Some(incident) = self.incidents.open() else { return };
        let over = sound_at.after(self.policy.settle);
        // A limit that cost a full resync twice is about to do so again: that is one incident, and no two.
        let by_limit = matches!(incident.finding.cause, Cause::BacklogTooSmall | Cause::OutputBufferExceeded);
        let over = self.memory.flapping.restless().filter(|_| by_limit).map_or(over, |calm| over.max(calm));
        if now < over {
            self.tell_if_due(now);
            self.next_look = over;
            return;
        }
        let ours = self.incidents.healed_by_us() || self.replaced(e);
        let told = incident.told_at.is_some();
        let by = if ours { ResolvedBy::Relinkd } else { ResolvedBy::Others };
        let mut resolved = incident.clone();
        self.record(What::Resolved { by }, now);
        if told {
            let entry = self.entry(resolved.id.clone(), What::Resolved { by }, now);
            resolved.take(&entry);
            self.tell(Announcement::Resolved, resolved, now);
        } else {
            self.flush(None);
        }
        self.next_look = self.background(now);
    }

    /// A fault that was seen, never became an incident, and is gone.
    fn note_blip(&mut self, now: Timestamp) {
        let Some((cause, since)) = self.memory.verdict() else { return };
        let down_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        let id = self.new_id(now);
        let entry = self.entry(id, What::Blip { cause, down_ms }, now);
        self.batch.push(entry);
        self.flush(None);
    }

    /// What to do about a plan of the open incident that was cut short; none where nothing is left of it.
    pub fn rest_of_plan(&self, e: &Evidence, now: Timestamp) -> Option<Decision> {
        let (cut, incident) = (self.incidents.unwritten()?, self.incidents.open()?);
        // The fault that the plan was made for is gone, and what was named last says nothing of what is left.
        let finding = Finding { suspected: false, ..incident.finding.clone() };
        let history = self.history(incident.opened_at, now);
        let context = Context { evidence: e, finding: &finding, policy: &self.policy, history: &history, now };
        Some(self.minded(finish(cut, &context)?, now))
    }

    /// True: the incident is not over, since the change has still to reach the config file.
    pub(super) fn finish_cut_short(&mut self, e: &Evidence, now: Timestamp) -> bool {
        let Some(decision) = self.rest_of_plan(e, now) else { return false };
        self.last.decision = Some(decision.clone());
        let over = match decision {
            Decision::Apply(plan) => {
                self.begin(plan, now);
                return true;
            }
            Decision::Propose(plan) => {
                self.propose(plan, e.began, now);
                self.in_flight.is_none() && self.incidents.open().is_none_or(|open| open.proposal.is_none())
            }
            Decision::Hold(refusal) => {
                let over = lasts(refusal.code);
                self.hold(refusal, now);
                over
            }
        };
        self.next_look = now.after(self.policy.settle.max(Duration::from_secs(1)));
        !over
    }
}

/// Soon, and in the moment in which time tells which of the two is the former one.
fn in_doubt(e: &Evidence, now: Timestamp) -> Timestamp {
    let told = e.trend.astray_since.map(|since| since.after(PROMOTION)).filter(|at| *at > now);
    told.map_or(now.after(DOUBT), |at| at.min(now.after(DOUBT)))
}

/// Reasons that no patience lifts: it stays with the people who are told of them.
fn lasts(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::ObserveOnly
            | RefusalCode::ApprovalNeeded
            | RefusalCode::AttemptsExhausted
            | RefusalCode::PermissionDenied
    )
}
