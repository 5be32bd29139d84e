//! A plan in flight: intent first, then step by step, and back again when the proof fails.

use super::{Agent, Effect};
use crate::decide::{Login, judge_login};
use crate::diagnose::diagnose;
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::incident::{Incident, What};
use crate::model::remedy::{Action, Change, Outcome, Plan, Remedy, Step};

/// The one plan that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlight {
    pub attempt: u32,
    pub plan: Plan,
    next: usize,
    /// What failed, once the undo steps run.
    undoing: Option<String>,
    /// The link did not come up, and a look is to say whether that is the change's fault.
    unproved: Option<Outcome>,
    /// Something was changed before.
    changed: bool,
    /// What was so already.
    already: Option<String>,
    /// What the server was left to finish.
    under_way: Option<String>,
    /// Why the undo steps did not all go well.
    not_undone: Option<String>,
}

impl InFlight {
    fn current(&self) -> Option<&Step> {
        match self.undoing {
            None => self.plan.steps.get(self.next),
            Some(_) => self.plan.undo.get(self.next),
        }
    }
}

impl Agent {
    /// Records the intent, and asks for the first step behind it: effects run in order, so the change cannot come
    /// before the record.
    pub(super) fn begin(&mut self, plan: Plan, now: Timestamp) {
        let attempt = self.incidents.open().map_or(0, |incident| incident.attempts) + 1;
        self.record(What::Intended { attempt, plan: plan.clone() }, now);
        self.flush(None);
        let flight = InFlight {
            attempt,
            plan,
            next: 0,
            undoing: None,
            unproved: None,
            changed: false,
            already: None,
            under_way: None,
            not_undone: None,
        };
        self.run(flight, now);
    }

    fn run(&mut self, flight: InFlight, now: Timestamp) {
        match flight.current() {
            Some(step) => {
                self.effects.push_back(Effect::Apply { attempt: flight.attempt, step: Box::new(step.clone()) });
                self.in_flight = Some(flight);
            }
            None => {
                let already = flight.already.clone().filter(|_| !flight.changed);
                let outcome = match (&flight.undoing, &flight.under_way, already) {
                    (Some(why), _, _) => Outcome::Failed(why.clone()),
                    (None, Some(what), _) => Outcome::UnderWay(what.clone()),
                    (None, None, Some(what)) => Outcome::AlreadySo(what),
                    // Nothing is proved by a Sentinel that takes a request: it may still give up.
                    (None, None, None) if flight.plan.remedy == Remedy::RequestFailover => {
                        let of = flight.plan.expected.saw.clone();
                        Outcome::UnderWay(format!("a Sentinel took the request; a failover has come of it when {of}"))
                    }
                    (None, None, None) => Outcome::Changed(flight.plan.expected.saw.clone()),
                };
                self.end(flight, outcome, now);
            }
        }
    }

    pub(super) fn stepped(&mut self, attempt: u32, outcome: Outcome, took_us: u64, now: Timestamp) {
        let Some(mut flight) = self.in_flight.take_if(|flight| flight.attempt == attempt) else { return };
        let Some(step) = flight.current().cloned() else { return };
        let action = Action {
            remedy: flight.plan.remedy,
            what: step.change.describe(),
            outcome: outcome.clone(),
            at: now,
            took_us,
        };
        self.record(What::Finished { attempt, action }, now);
        if step.change == Change::ProveLink && matches!(outcome, Outcome::Changed(_)) {
            self.record(What::LinkUp { at: now }, now);
        }
        self.flush(None);
        flight.next += 1;
        flight.changed |= matches!(outcome, Outcome::Changed(_)) && step.change != Change::ProveLink;
        match &outcome {
            Outcome::UnderWay(what) => flight.under_way = Some(what.clone()),
            Outcome::AlreadySo(what) => flight.already = Some(what.clone()),
            _ => {}
        }
        if flight.undoing.is_some() && !outcome.went_well() {
            flight.not_undone = Some(outcome.detail().to_owned());
        }
        // A change that works and cannot be written to the config file still works: it is told, not undone.
        let works_unwritten = step.change == Change::Persist && flight.changed;
        let tolerable = outcome.went_well() || works_unwritten || flight.undoing.is_some();
        let can_undo = flight.changed && !flight.plan.undo.is_empty() && flight.undoing.is_none();
        let unproved = matches!(outcome, Outcome::Failed(_) | Outcome::UnderWay(_));
        if can_undo && unproved && step.change == Change::ProveLink {
            flight.unproved = Some(outcome);
            self.in_flight = Some(flight);
            self.ask_for_look(false, false, now);
        } else if tolerable {
            self.run(flight, now);
        } else if can_undo {
            self.undo(flight, outcome.detail().to_owned(), now);
        } else {
            self.end(flight, outcome, now);
        }
    }

    /// A look while a plan is in flight. Faults stack: a login that works is not taken back because the next fault
    /// keeps the link down. And a link that reads as syncing does not prove a login: a Valkey 9.1.2 replica whose SYNC
    /// is refused reads so for all of the second until its next attempt.
    pub(super) fn looked_in_flight(&mut self, mut evidence: Box<Evidence>, now: Timestamp) {
        let Some(mut flight) = self.in_flight.take_if(|flight| flight.unproved.is_some()) else { return };
        let Some(proof) = flight.unproved.take() else { return };
        self.memory.before_judging(&evidence);
        evidence.trend = self.memory.trend();
        match (judge_login(&evidence, &diagnose(&evidence)), proof) {
            (Login::Stays(what), _) => {
                flight.under_way = Some(what);
                self.run(flight, now);
            }
            (Login::Refused(why), Outcome::Failed(proof)) => self.undo(flight, format!("{proof}; {why}"), now),
            (Login::Refused(why), _) => self.undo(flight, why, now),
            (Login::Unclear, Outcome::Failed(proof)) => self.undo(flight, proof, now),
            (Login::Unclear, _) => self.run(flight, now),
        }
    }

    fn undo(&mut self, mut flight: InFlight, why: String, now: Timestamp) {
        flight.undoing = Some(why);
        flight.next = 0;
        self.run(flight, now);
    }

    fn end(&mut self, flight: InFlight, outcome: Outcome, now: Timestamp) {
        self.in_flight = None;
        self.record(What::Ended { attempt: flight.attempt, outcome: outcome.clone() }, now);
        if let Outcome::Failed(why) = &outcome {
            let undone = match (&flight.undoing, &flight.not_undone) {
                (None, _) => String::new(),
                (Some(_), None) => "; it was taken back".to_owned(),
                (Some(_), Some(why)) => format!("; it was not taken back: {why}"),
            };
            self.escalate(format!("{} failed: {why}{undone}", flight.plan.remedy), now);
        }
        self.tell_if_due(now);
        self.ask_for_look(false, false, now);
    }

    /// A person is called once for an incident, and again when it fails after one has taken it; what fails else stands
    /// among its actions.
    pub(super) fn escalate(&mut self, why: String, now: Timestamp) {
        let uncalled = |incident: &Incident| incident.escalation.is_none() || incident.people.acknowledged.is_some();
        if self.incidents.open().is_some_and(uncalled) {
            self.record(What::Escalated { why }, now);
        }
    }

    /// The ledger failed, so the step that was asked for last has been dropped.
    pub(super) fn cut_short(&mut self, flight: InFlight, now: Timestamp) {
        let outcome = if flight.changed {
            Outcome::Failed("the ledger failed between two steps: the change stands, and was not proved".to_owned())
        } else {
            Outcome::PreconditionGone("the intent could not be recorded; nothing was changed".to_owned())
        };
        self.record(What::Ended { attempt: flight.attempt, outcome: outcome.clone() }, now);
        if let Outcome::Failed(why) = outcome {
            self.escalate(format!("{}: {why}", flight.plan.remedy), now);
        }
        self.tell_if_due(now);
    }
}
