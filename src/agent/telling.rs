//! When a message is due: the contract's "When a message is sent", as one pure function.

use std::time::Duration;

use super::Agent;
use crate::decide::Policy;
use crate::model::Timestamp;
use crate::model::incident::{Announcement, Incident, Notice, Phase, What};
use crate::model::remedy::{Decision, RefusalCode};

impl Agent {
    pub(super) fn tell_if_due(&mut self, now: Timestamp) {
        let due = self.incidents.open().and_then(|incident| {
            let decision = self.last.decision.as_ref();
            due(incident, decision, self.passing_since, &self.policy, now).map(|event| (event, incident.clone()))
        });
        match due {
            Some((event, incident)) => self.tell(event, incident, now),
            None => self.flush(None),
        }
    }

    /// Records that a message goes out, and hands it out in the same transaction.
    pub(super) fn tell(&mut self, event: Announcement, incident: Incident, now: Timestamp) {
        let entry = self.entry(incident.id.clone(), What::Told { event }, now);
        let mut told = incident;
        told.take(&entry);
        self.push(entry);
        let notice = Notice {
            at: now,
            host: self.identity.host.clone(),
            event,
            incident: told,
            next_steps: if event == Announcement::Resolved { Vec::new() } else { self.last.next_steps.clone() },
        };
        self.flush(Some(Box::new(notice)));
    }
}

/// What is due for an open incident, after a decision.
fn due(
    incident: &Incident,
    decision: Option<&Decision>,
    passing_since: Option<Timestamp>,
    policy: &Policy,
    now: Timestamp,
) -> Option<Announcement> {
    if incident.in_flight.is_some() {
        return None;
    }
    let news = match (incident.phase, incident.told_at) {
        (Phase::Escalated, _) if !told_of(incident, Phase::Escalated) => Some(Announcement::Escalated),
        (Phase::Proposed, _) if !told_of(incident, Phase::Proposed) => Some(Announcement::Proposed),
        (_, None) => first_is_due(incident, decision, passing_since, policy, now).then_some(Announcement::Opened),
        (_, Some(_)) if incident.told_cause != Some(incident.finding.cause) => {
            worth_telling(incident, passing_since, policy, now).then_some(Announcement::Updated)
        }
        _ => None,
    };
    news.or_else(|| reminder_is_due(incident, decision, policy, now).then_some(Announcement::Updated))
}

/// Whether the last message already told of this phase.
fn told_of(incident: &Incident, phase: Phase) -> bool {
    incident.told_phase == Some(phase)
}

fn first_is_due(
    incident: &Incident,
    decision: Option<&Decision>,
    passing_since: Option<Timestamp>,
    policy: &Policy,
    now: Timestamp,
) -> bool {
    let acted = incident.acted_at.is_some();
    let cannot_act = match decision {
        Some(Decision::Hold(refusal)) => !refusal.code.fleeting() && !incident.finding.suspected,
        _ => false,
    };
    let healed = incident.up_at.is_some() && !incident.finding.link_up;
    let lasting = !healed && now.since(incident.down_at) >= policy.blip;
    acted || (worth_telling(incident, passing_since, policy, now) && (cannot_act || lasting))
}

/// Passing states are told when they outlast `patience`; a sync that makes progress is one of them.
fn worth_telling(incident: &Incident, passing_since: Option<Timestamp>, policy: &Policy, now: Timestamp) -> bool {
    if !incident.finding.cause.passing() {
        return true;
    }
    passing_since.is_some_and(|since| now.since(since) >= policy.patience)
}

/// While someone is needed, and nothing else was said for `remind`.
fn reminder_is_due(incident: &Incident, decision: Option<&Decision>, policy: &Policy, now: Timestamp) -> bool {
    let needed = match decision {
        Some(Decision::Hold(refusal)) => refusal.code != RefusalCode::SyncRunning && !refusal.code.fleeting(),
        Some(Decision::Propose(_)) => true,
        _ => incident.phase == Phase::Escalated,
    };
    policy.remind > Duration::ZERO
        && needed
        && incident.phase != Phase::Verifying
        && incident.told_at.is_some_and(|told| now.since(told) >= policy.remind)
}
