//! The whole story as plain text, for a terminal and for where blocks are not shown.

use std::fmt::Write as _;
use std::time::Duration;

use super::{ACTIONS, is_test, piece, refusals, summary, words};
use crate::model::human;
use crate::model::incident::{Incident, Notice, Phase};
use crate::model::people::Answered;
use crate::model::remedy::{Action, Refusal};

/// The sentence that matters first, the evidence below it.
pub fn text(notice: &Notice) -> String {
    let mut out = summary(notice);
    out.push('\n');
    if is_test(notice) {
        return out;
    }
    let incident = &notice.incident;
    out.push_str(&standing(incident));
    out.push_str("\n\n");
    for (label, value) in particulars(notice) {
        let _ = writeln!(out, "{label:<10} {value}");
    }
    let (now, next) = match incident.phase {
        Phase::Resolved => ("Held back meanwhile", "If it comes back"),
        _ => ("Held back", "What to do now"),
    };
    section(&mut out, "Why", reasons(incident));
    section(&mut out, "Ruled out", ruled_out(incident));
    section(&mut out, "Done", actions(incident));
    section(&mut out, "Proposed", proposed(incident));
    section(&mut out, "Answered", answered(incident));
    section(&mut out, now, refusals(incident).into_iter().map(held).collect());
    section(&mut out, next, notice.next_steps.iter().map(|step| piece(step)).collect());
    out
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(out, "\n{title}\n");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

/// Whether it is over.
pub(super) fn standing(incident: &Incident) -> String {
    match incident.phase {
        Phase::Resolved => match incident.up_at {
            Some(at) if at > incident.opened_at => format!("It is over: the link has been up since {at}."),
            _ => "It is over.".to_owned(),
        },
        _ if incident.finding.link_up => "The link is up for now; it is not over.".to_owned(),
        Phase::Verifying if incident.up_at.is_some() => "The link is up; relinkd watches whether it stays.".to_owned(),
        Phase::Open | Phase::Verifying => "It is not over: relinkd goes on looking.".to_owned(),
        Phase::Applying => "It is not over: relinkd is at work.".to_owned(),
        Phase::Proposed => "It is not over: relinkd waits for an answer to its proposal.".to_owned(),
        Phase::Escalated => "It is not over: a person is needed.".to_owned(),
    }
}

/// Label and value of what identifies the incident.
pub(super) fn particulars(notice: &Notice) -> Vec<(&'static str, String)> {
    let incident = &notice.incident;
    let mut replica = format!("{} ({})", piece(&incident.link.replica), piece(&incident.address.to_string()));
    if !incident.link.group.is_empty() {
        let _ = write!(replica, ", group {}", piece(&incident.link.group));
    }
    let finding = &incident.finding;
    let mut cause = format!("{} ({})", finding.cause.title(), finding.cause.code());
    if finding.suspected {
        cause.push_str(", suspected: evidence is still coming in");
    }
    let mut out = vec![("Replica", replica), ("Host", piece(&notice.host))];
    out.extend(incident.primary.as_ref().map(|at| ("Primary", piece(&at.to_string()))));
    out.push(("Cause", cause));
    if incident.up_at.is_none_or(|up| up > incident.opened_at) {
        let until = incident.up_at.or(incident.resolved_at).unwrap_or(notice.at);
        let still = if incident.up_at.is_none() && incident.is_open() { " and still down" } else { "" };
        out.push(("Link down", format!("{}, for {}{still}", incident.down_at, human(until.since(incident.down_at)))));
    }
    out.push(("Incident", incident.id.to_string()));
    out.push(("More", format!("relinkd explain {}", finding.cause.code())));
    out
}

pub(super) fn reasons(incident: &Incident) -> Vec<String> {
    let line = |fact: &crate::model::finding::Fact| {
        format!("{}: {} ({})", fact.from.name(), piece(&fact.saw), piece(&fact.means))
    };
    incident.finding.because.iter().map(line).collect()
}

fn ruled_out(incident: &Incident) -> Vec<String> {
    incident.finding.rejected.iter().map(|(cause, why)| format!("{}: {}", cause.code(), piece(why))).collect()
}

pub(super) fn actions(incident: &Incident) -> Vec<String> {
    let line = |action: &Action| {
        let mark = if action.outcome.went_well() { "ok" } else { "FAILED" };
        let took = human(Duration::from_micros(action.took_us));
        let detail = piece(action.outcome.detail());
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        format!("{mark}, {took}: {}{detail}", piece(&action.what))
    };
    incident.actions.iter().skip(incident.actions.len().saturating_sub(ACTIONS)).map(line).collect()
}

/// What people said.
pub(super) fn answered(incident: &Incident) -> Vec<String> {
    let line = |it: &Answered| match &it.name {
        Some(name) => format!("{}: taken by {}, said {}", it.at, piece(name), piece(&it.by.to_string())),
        None => format!("{}: {} by {}", it.at, it.answer.code(), piece(&it.by.to_string())),
    };
    incident.people.answers.iter().map(line).collect()
}

/// The steps that wait for a person.
pub(super) fn proposed(incident: &Incident) -> Vec<String> {
    match (&incident.proposal, incident.phase) {
        (Some(plan), Phase::Proposed) => {
            let steps = plan.steps.iter().map(|step| piece(&step.change.describe()));
            let until =
                incident.people.expires.map(|at| format!("plan {}, open for an answer until {at}", plan.print()));
            steps.chain(until).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn held(refusal: &Refusal) -> String {
    let what = refusal.remedy.map_or_else(String::new, |remedy| format!("to {}: ", words::remedy(remedy)));
    let detail = piece(&refusal.detail);
    let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
    format!("{what}{}{detail}", words::refusal(refusal.code))
}
