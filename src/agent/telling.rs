//! When a message is due: the contract's "When a message is sent", as one pure function.

use std::time::Duration;

use super::incidents::Said;
use crate::decide::Policy;
use crate::model::Timestamp;
use crate::model::incident::{Announcement, Incident, Phase};
use crate::model::remedy::{Decision, Outcome};

/// What is due for an open incident, after a decision.
pub fn due(
    incident: &Incident,
    said: &Said,
    decision: Option<&Decision>,
    passing_since: Option<Timestamp>,
    policy: &Policy,
    now: Timestamp,
) -> Option<Announcement> {
    if incident.in_flight.is_some() {
        return None;
    }
    let news = match (incident.phase, incident.told_at) {
        (Phase::Escalated, _) if !said.escalated && incident.people.acknowledged.is_none() => {
            Some(Announcement::Escalated)
        }
        (Phase::Proposed, _) if !proposal_is_told(incident, said) => Some(Announcement::Proposed),
        (_, None) => first_is_due(incident, decision, passing_since, policy, now).then_some(Announcement::Opened),
        // A cause that comes back is no news: two that alternate must not make a stream of messages.
        (_, Some(_)) if !said.causes.contains(&incident.finding.cause) => {
            worth_telling(incident, passing_since, policy, now).then_some(Announcement::Updated)
        }
        _ => None,
    };
    news.or_else(|| reminder_is_due(incident, passing_since, policy, now).then(|| reminder(incident)))
}

/// A plan is told once in an incident, however often it is proposed, and once more when it waits again after a yes.
fn proposal_is_told(incident: &Incident, said: &Said) -> bool {
    incident.people.approved.is_some()
        || incident.proposal.as_ref().is_none_or(|plan| said.plans.contains(&plan.print()))
}

/// A proposal that was made anew since the last message is told as one.
fn reminder(incident: &Incident) -> Announcement {
    let anew = incident.people.proposed_at > incident.told_at;
    if incident.phase == Phase::Proposed && anew { Announcement::Proposed } else { Announcement::Updated }
}

fn first_is_due(
    incident: &Incident,
    decision: Option<&Decision>,
    passing_since: Option<Timestamp>,
    policy: &Policy,
    now: Timestamp,
) -> bool {
    // A plan whose world had moved before its first step has changed nothing.
    let idle = |outcome: &Outcome| matches!(outcome, Outcome::PreconditionGone(_) | Outcome::AlreadySo(_));
    let untouched = !incident.actions.is_empty() && incident.actions.iter().all(|action| idle(&action.outcome));
    let acted = incident.acted_at.is_some() && !untouched;
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

/// While someone is needed: the fault stands, and nothing was said for `remind`. What holds us back need not be
/// lasting in kind: a reading that stays missing needs a person too.
fn reminder_is_due(incident: &Incident, passing_since: Option<Timestamp>, policy: &Policy, now: Timestamp) -> bool {
    policy.remind > Duration::ZERO
        && incident.phase != Phase::Verifying
        && incident.people.acknowledged.is_none()
        && worth_telling(incident, passing_since, policy, now)
        && incident.told_at.is_some_and(|told| now.since(told) >= policy.remind)
}
