//! The local server itself: does it run, answer, and let us look?

use std::time::Duration;

use super::{denied, fact, finding};
use crate::model::evidence::{Evidence, LinkView, LogFact, LogKind, Missing, Reading};
use crate::model::finding::{Cause, Finding, Viewpoint};
use crate::model::{Address, Timestamp};

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

/// It ends itself when it cannot write what it has to keep: at the next write of its primary (Redis 7.0.15,
/// processCommand), or after ten tries at an AOF, a second apart, in which it answers nothing (restartAOFAfterSYNC).
pub fn could_not_save(e: &Evidence) -> Option<Finding> {
    let kinds: &[LogKind] = match &e.local {
        Reading::Missing(Missing::Refused(_)) => &[LogKind::ReplicaWriteFailed, LogKind::AofFailed],
        Reading::Missing(Missing::TimedOut) => &[LogKind::AofFailed],
        _ => return None,
    };
    // `Replica is applying a command even though …` is of one that was told to go on.
    let ends = |line: &&LogFact| e.ended.since(line.last) < STOPPING && !line.sample.contains("is applying");
    let line = kinds.iter().filter_map(|kind| e.logged(*kind)).find(ends).filter(|line| !is_back(e, line))?;
    let (saw, means) = match e.local {
        Reading::Missing(Missing::TimedOut) => {
            ("does not answer", "it tries ten times, a second apart, and ends itself")
        }
        _ => ("does not run", "it ended itself: it could not write to its disk"),
    };
    let told = fact(Viewpoint::Log, line.last, line.sample.clone(), means);
    let seen = fact(Viewpoint::Replica, e.ended, format!("{} {saw}", e.address), "the log says why");
    Some(finding(Cause::ReplicaSaveFailing, false, vec![told, seen]))
}

/// For so long a server may flush and load in the middle of a sync before it counts as hung.
const FLUSHING: Duration = Duration::from_secs(120);

/// A sync empties the old data set in the event loop (`replica-lazy-flush no`, the default of Redis up to 8.0), and takes
/// the new one from the line there (`repl-diskless-load`): it answers each `loading-process-events-interval-bytes`, 2 MiB,
/// alone, however long these take to come (Redis 7.0.15, rdbLoadProgressCallback). A stopped process looks the same.
pub fn held_up_by_a_sync(e: &Evidence) -> Option<Finding> {
    let silent = e.local == Reading::Missing(Missing::TimedOut) && told_to_stop(e).is_none();
    let goes_on = |since: Timestamp| e.ended.since(since) < FLUSHING && !load_is_over(e, since);
    let told = e.logged(LogKind::Loading).filter(|line| goes_on(line.last)).map(|line| {
        let means = "a large data set takes its time there, and that is no sign of a fault";
        fact(Viewpoint::Log, line.last, line.sample.clone(), means)
    });
    // Without a log, nobody tells what comes behind the transfer.
    let last = e.trend.sync_seen.filter(|(at, loading)| (*loading || e.log.seen().is_none()) && goes_on(*at));
    let seen = last.map(|(at, loading)| {
        let saw = if loading { "it was loading what a sync brought" } else { "a sync was under way" };
        fact(
            Viewpoint::Memory,
            at,
            format!("when it last answered, {saw}"),
            "a flush and a load may hold up its answers",
        )
    });
    let because: Vec<_> = [told, seen].into_iter().flatten().collect();
    if !silent || because.is_empty() {
        return None;
    }
    let first = fact(
        Viewpoint::Replica,
        e.ended,
        format!("{} does not answer, in the middle of a sync", e.address),
        "it flushes the old data set, or loads the new one, before it answers anybody",
    );
    Some(finding(Cause::SyncRunning, true, std::iter::once(first).chain(because).collect()))
}

/// A load ended then or later. Lines that were read together bear one time: of these, some come before a load.
fn load_is_over(e: &Evidence, since: Timestamp) -> bool {
    let ends = [LogKind::SyncFinished, LogKind::LoadFailed, LogKind::RdbUnreadable];
    let begins_anew = [LogKind::TransferError, LogKind::LinkLost, LogKind::Ready];
    ends.into_iter().filter_map(|kind| e.logged(kind)).any(|line| line.last >= since)
        || begins_anew.into_iter().filter_map(|kind| e.logged(kind)).any(|line| line.last > since)
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
    // A directory that is missing or not its own stalls it for 5 s at each attempt (Redis 7.0.15, syncWithMaster).
    let waits = e.logged(LogKind::DumpWriteError).filter(|line| super::sync::is_fresh(e, line)).map(|line| {
        fact(
            Viewpoint::Log,
            line.last,
            line.sample.clone(),
            "it waits a second after each of five tries, in its event loop",
        )
    });
    let because = waits.into_iter().chain([fact(Viewpoint::Replica, e.ended, saw, means)]).collect();
    Some(finding(Cause::ReplicaHung, false, because))
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
    (!is_back(e, line)).then_some(line)
}

/// The server has begun anew since this line.
fn is_back(e: &Evidence, line: &LogFact) -> bool {
    e.logged(LogKind::Ready).is_some_and(|ready| ready.last > line.last)
        || e.trend.started.is_some_and(|started| started > line.last)
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
    // What a sync brought is loaded as a part of that sync.
    let in_sync = e.local_link().is_some_and(LinkView::in_sync);
    let view = e.local.seen().filter(|view| view.loading && !in_sync)?;
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
