//! The incident as JSON: the contract's shape, version 1. `docs/incident.schema.json` describes it, and fields are
//! only ever added.

use std::time::Duration;

use serde_json::{Value, json};

use super::timings::millis;
use super::{ACTIONS, Timings, piece, refusals, summary};
use crate::model::finding::{Fact, Finding};
use crate::model::incident::{Incident, Notice, Phase};
use crate::model::people::Answered;
use crate::model::remedy::{Action, Refusal};

/// All keys are always there; what is not known is null.
pub fn report(notice: &Notice) -> Value {
    let incident = &notice.incident;
    let group = Some(&incident.link.group).filter(|group| !group.is_empty());
    let latest = incident.actions.len().saturating_sub(ACTIONS);
    // A fault that was found before it broke the link has no time of breaking.
    let down_at = incident.up_at.is_none_or(|up| up > incident.opened_at).then_some(incident.down_at);
    json!({
        "version": 1,
        "event": notice.event.name(),
        "sequence": notice.sequence(),
        "id": incident.id,
        "replica": piece(&incident.link.replica),
        "address": piece(&incident.address.to_string()),
        "host": piece(&notice.host),
        "group": group.map(|group| piece(group)),
        "primary": incident.primary.as_ref().map(|at| piece(&at.to_string())),
        "phase": incident.phase.name(),
        "severity": incident.severity(),
        "summary": summary(notice),
        "cause": cause(&incident.finding),
        "because": incident.finding.because.iter().map(fact).collect::<Vec<_>>(),
        "ruled_out": ruled_out(&incident.finding),
        "actions": incident.actions.iter().skip(latest).map(action).collect::<Vec<_>>(),
        "held": refusals(incident).into_iter().map(held).collect::<Vec<_>>(),
        "proposal": proposal(incident),
        "answers": incident.people.answers.iter().map(answer).collect::<Vec<_>>(),
        "next_steps": notice.next_steps.iter().map(|step| piece(step)).collect::<Vec<_>>(),
        "opened_at": incident.opened_at.to_string(),
        "link_down_at": down_at.map(|at| at.to_string()),
        "link_up_at": incident.up_at.map(|at| at.to_string()),
        "resolved_at": incident.resolved_at.map(|at| at.to_string()),
        "timings_ms": Timings::of(incident),
    })
}

fn cause(finding: &Finding) -> Value {
    json!({
        "code": finding.cause.code(),
        "title": finding.cause.title(),
        "url": finding.cause.url(),
        "suspected": finding.suspected,
    })
}

fn fact(fact: &Fact) -> Value {
    json!({
        "from": fact.from.name(),
        "saw": piece(&fact.saw),
        "at": fact.at.to_string(),
        "means": piece(&fact.means),
    })
}

fn ruled_out(finding: &Finding) -> Vec<Value> {
    finding.rejected.iter().map(|(cause, why)| json!({ "code": cause.code(), "because": piece(why) })).collect()
}

fn action(action: &Action) -> Value {
    let (what, detail) = (piece(&action.what), piece(action.outcome.detail()));
    json!({
        "remedy": action.remedy.code(),
        "outcome": action.outcome.code(),
        "at": action.at.to_string(),
        "took_ms": millis(Duration::from_micros(action.took_us)),
        "detail": if detail.is_empty() { what } else { format!("{what}: {detail}") },
    })
}

/// The plan that waits for a person; null where none does.
fn proposal(incident: &Incident) -> Value {
    let Some(plan) = incident.proposal.as_ref().filter(|_| incident.phase == Phase::Proposed) else {
        return Value::Null;
    };
    json!({
        "remedy": plan.remedy.code(),
        "plan": plan.print(),
        "steps": plan.steps.iter().map(|step| piece(&step.change.describe())).collect::<Vec<_>>(),
        "expires": incident.people.expires.map(|at| at.to_string()),
    })
}

fn answer(answered: &Answered) -> Value {
    json!({
        "at": answered.at.to_string(),
        "answer": answered.answer.code(),
        "by": piece(&answered.by.to_string()),
        "uid": answered.by.uid,
        "name": answered.name.as_ref().map(|name| piece(name)),
    })
}

fn held(refusal: &Refusal) -> Value {
    json!({
        "remedy": refusal.remedy.map(|remedy| remedy.code()),
        "refusal": refusal.code.code(),
        "detail": piece(&refusal.detail),
    })
}
