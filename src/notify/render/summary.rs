//! One sentence for a person at 3 am.

use super::{is_test, piece, words};
use crate::model::finding::Cause;
use crate::model::incident::{Announcement, Incident, Notice, Phase, ResolvedBy};
use crate::model::remedy::Remedy;
use crate::model::{human, tame};

/// What matters, in one sentence: `cache relinked in 41 ms: masterauth was stale after a rotation`.
pub fn summary(notice: &Notice) -> String {
    if is_test(notice) {
        return format!("a test message from relinkd on {}: nothing is wrong", tame(&notice.host, 100));
    }
    let incident = &notice.incident;
    match notice.event {
        Announcement::Resolved => resolved(incident),
        Announcement::Opened => format!("{}; {}", broke(notice), doing(incident)),
        Announcement::Updated => format!("{}{}; {}", stands(notice), before(incident), doing(incident)),
        Announcement::Proposed => format!("{}; {}", stands(notice), proposal(incident)),
        Announcement::Escalated => {
            let why = incident.escalation.as_deref().map_or_else(String::new, |why| format!(": {}", piece(why)));
            format!("{}; a person is needed{why}", stands(notice))
        }
    }
}

fn name(incident: &Incident) -> String {
    tame(&incident.link.replica, 100)
}

fn primary(incident: &Incident) -> String {
    incident.primary.as_ref().map_or_else(|| "its primary".to_owned(), |at| piece(&at.to_string()))
}

/// The faults that are not about the link: the server itself, or what waits for the next reconnect.
fn apart(incident: &Incident) -> Option<String> {
    let name = name(incident);
    if let Some(flaps) = &incident.finding.flaps {
        let link = format!("{name}'s link to {} {}, and was back each time", primary(incident), flaps.in_words());
        return Some(match incident.finding.cause {
            Cause::Unknown => format!("{link}; what cuts it was not seen"),
            cause => format!("{link}: {}", cause.title()),
        });
    }
    match incident.finding.cause {
        Cause::ReplicaDown => Some(format!("{name} does not run")),
        Cause::ReplicaHung => Some(format!("{name} hangs: it accepts connections and answers nothing")),
        Cause::ReplicaLoading => Some(format!("{name} is loading its data set")),
        Cause::ReplicaDenied => Some(format!("{name} does not let relinkd look")),
        // One that follows a wrong address has one.
        Cause::WrongPrimary if incident.primary.is_none() => {
            let stake =
                incident.finding.because.last().map_or_else(String::new, |fact| format!(": {}", piece(&fact.saw)));
            Some(format!("{name} is a second primary, and what clients write to it will be lost{stake}"))
        }
        cause if incident.finding.link_up => Some(format!("{name} is at risk: {}", cause.title())),
        _ => None,
    }
}

fn because(incident: &Incident) -> String {
    match (incident.finding.cause, incident.finding.suspected) {
        (Cause::Unknown, _) => format!(", and {}", Cause::Unknown.title()),
        (cause, true) => format!(", probably because {}", cause.title()),
        (cause, false) => format!(" because {}", cause.title()),
    }
}

fn broke(notice: &Notice) -> String {
    let incident = &notice.incident;
    apart(incident)
        .unwrap_or_else(|| format!("{} lost its link to {}{}", name(incident), primary(incident), because(incident)))
}

fn stands(notice: &Notice) -> String {
    let incident = &notice.incident;
    if let Some(apart) = apart(incident) {
        return apart;
    }
    if incident.up_at.is_some() {
        return format!("{} is linked again, but not for long enough to be called whole", name(incident));
    }
    let span = human(notice.at.since(incident.down_at));
    format!("{} has had no link to {} for {span}{}", name(incident), primary(incident), because(incident))
}

/// The cause before the present one.
fn before(incident: &Incident) -> String {
    match incident.causes.as_slice() {
        [.., former, _] => format!(" (before that, {})", words::past(*former)),
        _ => String::new(),
    }
}

/// What relinkd is about.
fn doing(incident: &Incident) -> String {
    let latest = incident.actions.last();
    match incident.phase {
        Phase::Proposed => proposal(incident),
        Phase::Applying => "relinkd is healing it".to_owned(),
        Phase::Verifying => match latest {
            Some(action) if action.outcome.went_well() => {
                format!("relinkd {} and watches the link", words::done(action.remedy))
            }
            Some(_) => "relinkd tried to heal it, without success so far".to_owned(),
            None => "relinkd watches the link".to_owned(),
        },
        Phase::Open => match incident.held.last() {
            Some(refusal) => format!("relinkd holds back: {}", words::refusal(refusal.code)),
            None => "relinkd is looking into it".to_owned(),
        },
        Phase::Escalated => "a person is needed".to_owned(),
        Phase::Resolved => "it is over".to_owned(),
    }
}

fn proposal(incident: &Incident) -> String {
    match &incident.proposal {
        Some(plan) => format!("relinkd proposes to {} and waits for a person", words::remedy(plan.remedy)),
        None => "relinkd waits for a person".to_owned(),
    }
}

fn resolved(incident: &Incident) -> String {
    let name = name(incident);
    if incident.resolved_by == Some(ResolvedBy::Unwatched) {
        return format!(
            "{name} is not watched by relinkd any more, and how it stands is not known: {}",
            had_been(incident)
        );
    }
    if incident.finding.flaps.is_some() {
        let span = incident.resolved_at.map(|at| human(at.since(incident.down_at))).unwrap_or_default();
        let why = match incident.finding.cause {
            Cause::Unknown => "what cut it was not seen".to_owned(),
            _ => had_been(incident),
        };
        return format!(
            "{name} keeps its link to {} again, which dropped and came back for {span}: {why}",
            primary(incident)
        );
    }
    if incident.up_at.is_none_or(|up| up <= incident.opened_at) {
        return format!("{name} is sound again: {}", had_been(incident));
    }
    let span = incident.up_at.map(|up| human(up.since(incident.down_at))).unwrap_or_default();
    match incident.resolved_by {
        Some(ResolvedBy::Relinkd) => match healer(incident) {
            Some(Remedy::RealignAuth) | None => format!("{name} relinked in {span}: {}", had_been(incident)),
            Some(remedy) => {
                format!("{name} relinked in {span}: {}, and relinkd {}", had_been(incident), words::done(remedy))
            }
        },
        Some(ResolvedBy::Others | ResolvedBy::Unwatched) | None => {
            let ours = match incident.actions.iter().any(|action| action.outcome.went_well()) {
                true => "not through what relinkd did",
                false => "without relinkd",
            };
            format!("{name} is linked again after {span}, {ours}: {}", had_been(incident))
        }
    }
}

/// The remedy of the last step that went well.
fn healer(incident: &Incident) -> Option<Remedy> {
    incident.actions.iter().rev().find(|action| action.outcome.went_well()).map(|action| action.remedy)
}

/// The first cause and the last one.
fn had_been(incident: &Incident) -> String {
    let last = match (incident.finding.cause, incident.resolved_by, healer(incident)) {
        // The store held a password that the primary took: what the replica had was the one before.
        (Cause::AuthRejected, Some(ResolvedBy::Relinkd), Some(Remedy::RealignAuth)) => {
            "masterauth was stale after a rotation"
        }
        (Cause::AuthMissing, Some(ResolvedBy::Relinkd), Some(Remedy::RealignAuth)) => "masterauth was not set",
        (cause, _, _) => words::past(cause),
    };
    match incident.causes.first() {
        Some(first) if *first != incident.finding.cause => format!("{}, then {last}", words::past(*first)),
        _ => last.to_owned(),
    }
}
