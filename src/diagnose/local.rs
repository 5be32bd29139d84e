//! The local server itself: does it run, answer, and let us look?

use std::time::Duration;

use super::{denied, fact, finding};
use crate::model::Address;
use crate::model::evidence::{Evidence, LogFact, LogKind, Missing, Reading};
use crate::model::finding::{Cause, Finding, Viewpoint};

/// What a large data set takes to be saved at a stop.
const STOPPING: Duration = Duration::from_secs(120);

pub fn replica_denied(e: &Evidence) -> Option<Finding> {
    let text = denied(&e.local)?;
    Some(finding(
        Cause::ReplicaDenied,
        false,
        vec![fact(
            Viewpoint::Replica,
            e.ended,
            format!("{} → {text}", e.address),
            match &e.address {
                Address::Unix(_) if text.contains("may not open") => {
                    "relinkd's own user needs write permission on the socket: put it into the group that owns it"
                }
                _ => "the user and password in [replica] do not let relinkd look; nothing is known of the link",
            },
        )],
    ))
}

/// It waits for its resolver, which gives us nothing either.
pub fn held_up_by_a_lookup(e: &Evidence) -> Option<Finding> {
    let Reading::Missing(Missing::TimedOut) = &e.local else { return None };
    let lookup = e.lookup.as_ref()?;
    let failed = lookup.failed.as_ref()?;
    Some(finding(
        Cause::NameUnresolved,
        false,
        vec![
            fact(
                Viewpoint::Probe,
                lookup.at,
                failed.clone(),
                format!("this host cannot turn the primary's name into an address ({})", lookup.told_by),
            ),
            fact(
                Viewpoint::Replica,
                e.ended,
                format!("{} does not answer", e.address),
                "a server waits for its resolver in its event loop, up to 10 s at each attempt",
            ),
        ],
    ))
}

pub fn replica_hung(e: &Evidence) -> Option<Finding> {
    let (saw, means) = match &e.local {
        Reading::Missing(Missing::TimedOut) if told_to_stop(e).is_none() => (
            format!("{} does not answer", e.address),
            "a long command, a stopped process, a dead disk, or a name lookup that stalls it (10 s at a time)",
        ),
        Reading::Missing(Missing::Busy(text)) => {
            (format!("{} → {text}", e.address), "in a long script it answers nothing else, its primary neither")
        }
        _ => return None,
    };
    Some(finding(Cause::ReplicaHung, false, vec![fact(Viewpoint::Replica, e.ended, saw, means)]))
}

pub fn replica_down(e: &Evidence) -> Option<Finding> {
    let stopping = told_to_stop(e);
    let mut because = match &e.local {
        Reading::Missing(Missing::Refused(why)) => {
            vec![fact(Viewpoint::Replica, e.ended, format!("{}: {why}", e.address), "no server listens there")]
        }
        // It writes its data set in the foreground, and answers nothing meanwhile (Redis 7.0.15, finishShutdown).
        Reading::Missing(Missing::TimedOut) if stopping.is_some() => vec![fact(
            Viewpoint::Replica,
            e.ended,
            format!("{} does not answer", e.address),
            "a server that is told to stop saves first, and answers nothing meanwhile",
        )],
        _ => return None,
    };
    let on_purpose = |line: &LogFact| {
        fact(
            Viewpoint::Log,
            line.last,
            line.sample.clone(),
            "it was told to stop: a person, its unit or the host did that",
        )
    };
    because.extend(stopping.map(on_purpose));
    Some(finding(Cause::ReplicaDown, false, because))
}

/// The server's own word that it was told to stop, if it is of a moment ago and it has not come back since: its log may
/// have been too much to read all of it, so a process that began later counts too.
fn told_to_stop(e: &Evidence) -> Option<&LogFact> {
    let line = e.logged(LogKind::Shutdown).filter(|line| e.ended.since(line.last) < STOPPING)?;
    let back = e.logged(LogKind::Ready).is_some_and(|ready| ready.last > line.last)
        || e.trend.started.is_some_and(|started| started > line.last);
    (!back).then_some(line)
}

/// What it means that the local server was not seen.
pub(super) fn unseen(e: &Evidence) -> &'static str {
    match e.local.missing() {
        Some(Missing::Unreachable(why)) if why.starts_with("TLS") => {
            "its role and link are unknown; it is relinkd's own way in that fails: see tls of [replica]"
        }
        Some(Missing::Unreachable(why)) if why.contains("max number of clients") => {
            "the server runs and is full, so its role and link are unknown: raise maxclients, or close what leaks"
        }
        _ => "its role and link are unknown",
    }
}

pub fn replica_loading(e: &Evidence) -> Option<Finding> {
    let view = e.local.seen().filter(|view| view.loading)?;
    let share = view.loading_percent.map(|p| format!(" ({p:.0} % done)")).unwrap_or_default();
    Some(finding(
        Cause::ReplicaLoading,
        false,
        vec![fact(
            Viewpoint::Replica,
            view.at,
            format!("loading:1{share}"),
            "it links by itself when the data set is in memory",
        )],
    ))
}
