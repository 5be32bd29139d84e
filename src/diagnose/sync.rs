//! The sync itself: the handshake is green, and the data set or the stream does not come through.
//!
//! Here the probe sees nothing wrong. The replica's log, the host's disk and the primary's own account decide. What
//! only the primary's log would say (which replica it cut, and why) is inferred from its counters and limits where
//! our credentials let us read them.

use std::time::Duration;

use super::reach::handshake_works;
use super::{broken_link, fact, finding, link_fact};
use crate::model::evidence::{Evidence, Flavour, LinkState, LinkView, LogFact, LogKind, ReplicaOfPrimary, ServerView};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::rdb::loads;
use crate::model::{Address, Endpoint, Timestamp, human, size};

/// A log line counts for the present attempt when it is at most this old: a failing sync repeats at least once a
/// second, and a diskless one after `repl-diskless-sync-delay` (5 s by default).
const FRESH: Duration = Duration::from_secs(15);

/// For so long nothing may come of a transfer before it has stalled.
pub(super) const STALLED_S: i64 = 10;

/// Below this a disk is as good as full for a server that is about to write its data set.
const NO_ROOM: u64 = 1024 * 1024;

/// A loop that writes more than journald takes of one service, 10,000 lines in 30 s by default, is silent there until
/// these are over.
const JOURNALD: Duration = Duration::from_secs(40);
const FLOOD: u32 = 100;

/// Whether a line of the log is recent, and no sync went well after it.
pub fn is_fresh(e: &Evidence, line: &LogFact) -> bool {
    let journal = e.log.seen().is_some_and(|log| log.source.starts_with("journal:"));
    e.ended.since(line.last) <= if journal && line.count >= FLOOD { JOURNALD } else { FRESH }
        && e.logged(LogKind::SyncFinished).is_none_or(|done| done.last < line.last)
        && e.logged(LogKind::PartialResync).is_none_or(|done| done.last < line.last)
}

/// The newest line of a kind, if it speaks of the present break.
pub(super) fn told(e: &Evidence, kind: LogKind) -> Option<&LogFact> {
    broken_link(e)?;
    e.logged(kind).filter(|line| is_fresh(e, line))
}

/// Whether the way to the primary and the login are beyond doubt, so that only the sync is left.
pub(super) fn handshake_green(e: &Evidence) -> bool {
    e.upstream.seen().is_some_and(handshake_works)
}

pub(super) fn log_fact(line: &LogFact, means: &str) -> Fact {
    let times = if line.count > 1 { format!(" ({} times)", line.count) } else { String::new() };
    fact(Viewpoint::Log, line.last, format!("{}{times}", line.sample), means)
}

pub(super) fn named(
    e: &Evidence,
    cause: Cause,
    suspected: bool,
    facts: impl IntoIterator<Item = Option<Fact>>,
) -> Finding {
    let because = facts.into_iter().flatten().chain([link_fact(e)]).collect();
    finding(cause, suspected, because)
}

pub fn rdb_incompatible(e: &Evidence) -> Option<Finding> {
    let Some(line) = told(e, LogKind::RdbVersion) else { return rdb_unwritable(e) };
    let both = e.primary.seen().zip(e.local.seen());
    // A foreign beginning from a server whose format this one knows is a stream that was damaged on its way.
    let damaged = line.sample.starts_with("Wrong signature")
        && both.is_some_and(|(primary, local)| {
            loads((local.flavour, &local.version), (primary.flavour, &primary.version))
        });
    let versions = both.map(|(primary, local)| {
        fact(
            Viewpoint::Primary,
            primary.at,
            format!("primary {:?} {}, replica {:?} {}", primary.flavour, primary.version, local.flavour, local.version),
            "a replica loads data sets of its own version and older ones",
        )
    });
    let first = log_fact(line, "the replica cannot load what the primary sends, and may have dropped its own data");
    Some(named(e, Cause::RdbIncompatible, damaged, [Some(first), versions]))
}

/// Valkey from 9.1 on writes an older format for a replica that could not load its own (9.0 writes its own for all:
/// rdbSaveRio), and its child ends at the first key that has no such form (Valkey 9.1.2: `Can't store key (db 0) in RDB
/// version 11`, in its own log alone). From the replica that looks like a disk that is full, which a diskless sync does
/// not use.
fn rdb_unwritable(e: &Evidence) -> Option<Finding> {
    let line = told(e, LogKind::BulkCountError).filter(|line| line.count > 1 && handshake_green(e))?;
    let (primary, local) = e.primary.seen().zip(e.local.seen())?;
    let writes_older = primary.flavour == Flavour::Valkey && super::reach::release(&primary.version) >= (9, 1);
    if !writes_older || loads((local.flavour, &local.version), (primary.flavour, &primary.version)) {
        return None;
    }
    let by_disk = e.primary_limits.seen().is_none_or(|limits| !limits.diskless_sync);
    let versions = fact(
        Viewpoint::Primary,
        primary.at,
        format!("primary {:?} {}, replica {:?} {}", primary.flavour, primary.version, local.flavour, local.version),
        "the primary writes an older format for this replica, and stops at a key that only its own format can hold",
    );
    let first = log_fact(line, "the primary promised a data set and closed the connection instead");
    Some(named(e, Cause::RdbIncompatible, by_disk, [Some(first), Some(versions)]))
}

pub fn replica_disk_full(e: &Evidence) -> Option<Finding> {
    let line = told(e, LogKind::DumpWriteError)?;
    let disk = e.host.disk.seen();
    let full = disk.is_some_and(|disk| disk.free < room_needed(e) || disk.out_of_inodes());
    // `short write` is what a full disk looks like here: the server prints no errno (Redis 7.0.15,
    // readSyncBulkPayload).
    let reason = line.sample.rsplit(": ").next().unwrap_or_default();
    let says_so = reason.contains("short write") || reason.contains("No space left");
    if !full && !says_so {
        return None;
    }
    let room = disk.map(|disk| {
        fact(
            Viewpoint::Host,
            disk.at,
            format!("{} has {} bytes free of {}", disk.path, disk.free, disk.total),
            "the data set is written there before it is loaded",
        )
    });
    let first = log_fact(line, "this replica could not write the data set that it received");
    Some(named(e, Cause::ReplicaDiskFull, false, [Some(first), room]))
}

/// What a data set may need on disk, as far as anybody told us; at least a token amount.
pub(super) fn room_needed(e: &Evidence) -> u64 {
    let told = broken_link(e).map_or(0, |link| link.sync_total.saturating_sub(link.sync_read));
    told.max(NO_ROOM)
}

pub fn primary_fork_failed(e: &Evidence) -> Option<Finding> {
    let line = [LogKind::SyncAborted, LogKind::PsyncUnsupported, LogKind::PsyncRefused]
        .into_iter()
        .filter_map(|kind| told(e, kind))
        .find(|line| line.sample.contains("BGSAVE failed"))?;
    let first = log_fact(line, "the primary could not fork the process that makes the data set");
    Some(named(e, Cause::PrimaryForkFailed, false, [Some(first)]))
}

pub fn sync_timeout(e: &Evidence) -> Option<Finding> {
    if let Some(line) = told(e, LogKind::TransferTimeout) {
        let first = log_fact(line, "no byte of the data set arrived for repl-timeout");
        let cut = line.count.max(e.trend.timed_out) == 1 && was_unreached(e, line.last);
        return (!cut || !super::reach::receiving(e))
            .then(|| named(e, Cause::SyncTimeout, cut, [Some(first), timeouts(e)]));
    }
    // The link times out although the primary is well: its PINGs come less often than the timeout.
    let line = e.logged(LogKind::LinkTimeout).filter(|line| e.ended.since(line.last) <= FRESH * 2)?;
    let limits = e.primary_limits.seen()?;
    let settings = e.settings.seen()?;
    if settings.repl_timeout_s <= limits.ping_period_s {
        let first = log_fact(line, "the replica gave the link up for silence");
        return Some(named(e, Cause::SyncTimeout, false, [Some(first), timeouts(e)]));
    }
    None
}

/// The primary did not answer from here within the time after which a transfer ends: a cut or a pause that is over leaves
/// the same one line behind, and no setting is wrong then.
fn was_unreached(e: &Evidence, by: Timestamp) -> bool {
    const PROBES: Duration = Duration::from_secs(5);
    let timeout = e.settings.seen().map_or(60, |settings| settings.repl_timeout_s);
    e.trend.unreached_until.is_some_and(|at| by.since(at) <= Duration::from_secs(timeout) + PROBES)
}

fn timeouts(e: &Evidence) -> Option<Fact> {
    let settings = e.settings.seen()?;
    let primary = e.primary_limits.seen().map_or_else(
        || "the primary's side is unseen".to_owned(),
        |limits| {
            format!(
                "on the primary repl-timeout {} s, repl-ping-replica-period {} s",
                limits.repl_timeout_s, limits.ping_period_s
            )
        },
    );
    Some(fact(
        Viewpoint::Replica,
        settings.at,
        format!("repl-timeout {} s here; {primary}", settings.repl_timeout_s),
        "a timeout has to exceed the ping period and the longest pause of a transfer",
    ))
}

/// The primary accepts the sync and cannot write the data set for it. A child that the kernel ended once, for memory,
/// leaves the same status behind (Redis 7.0.15, backgroundSaveDoneHandlerDisk), so only a failure that repeats is firm, and
/// only of a sync that is known to go by the disk.
pub fn primary_disk_full(e: &Evidence) -> Option<Finding> {
    const REPEATS: u32 = 3;
    let line = told(e, LogKind::BulkCountError).filter(|_| handshake_green(e))?;
    if e.primary_limits.seen().is_some_and(|limits| limits.diskless_sync) {
        return None;
    }
    let save = e.primary.seen().map(|view| (view.at, view.rdb_last_save_ok));
    // "I/O error reading bulk count" alone is also what a primary that died in that moment leaves behind.
    let failed = matches!(save, Some((_, false)));
    let count = line.count.max(e.trend.bulk_failures);
    if !failed && line.count < 2 {
        return None;
    }
    let confirmed = failed && count >= REPEATS && e.primary_limits.seen().is_some();
    let told = save.map(|(at, ok)| {
        fact(
            Viewpoint::Primary,
            at,
            format!("rdb_last_bgsave_status:{}", if ok { "ok" } else { "err" }),
            match ok {
                true => "its last save before this went well",
                false => {
                    "its last save failed; its own log says of what: `Write error saving DB` is a disk, `terminated by signal` \
                     a child that was ended, most often for memory"
                }
            },
        )
    });
    let first = log_fact(line, "the primary promised a data set and closed the connection instead");
    Some(named(e, Cause::PrimaryDiskFull, !confirmed, [Some(first), told]))
}

/// A full resync where a partial one was asked for, because the backlog begins after the place where the link broke.
pub fn backlog_too_small(e: &Evidence) -> Option<Finding> {
    let link = broken_link(e)?;
    let primary = e.primary.seen()?;
    let replid = e.trend.replid.as_deref()?;
    // -1 in a capture of old: SYNC tells no offset.
    let offset = e.trend.offset.filter(|offset| *offset >= 0)?;
    let same_history = replid == primary.replid || (replid == primary.replid2 && offset <= primary.second_repl_offset);
    // CONFIG RESETSTAT makes it begin anew.
    let refusals = primary.sync_partial_err;
    let refused = e.trend.sync_partial_err.is_none_or(|before| refusals.checked_sub(before).unwrap_or(refusals) > 0);
    let in_sync =
        matches!(link.state, LinkState::Sync | LinkState::Handshake) || told(e, LogKind::FullResync).is_some();
    let gone = primary.backlog_first.saturating_sub(offset.saturating_add(1));
    if !same_history || !refused || !in_sync || gone <= 0 {
        return None;
    }
    let first = fact(
        Viewpoint::Primary,
        primary.at,
        format!(
            "the backlog ({} bytes) begins at offset {}, this replica had reached {offset}",
            primary.backlog_size, primary.backlog_first
        ),
        format!("{gone} bytes were gone from the backlog before it could ask for them, so everything is sent anew"),
    );
    let full = told(e, LogKind::FullResync).map(|line| log_fact(line, "the primary answered with a full resync"));
    // Where no cuts are counted, the primary itself may have cut a link for which too much was waiting.
    let suspected = primary.output_buffer_cuts.is_none() && super::flapping::too_far(e);
    Some(named(e, Cause::BacklogTooSmall, suspected, [Some(first), full]))
}

/// The primary has the replica's PSYNC and answers when it begins the data set: after `repl-diskless-sync-delay` (5 s
/// by default) or when another child of its ends. ROLE says `handshake` meanwhile, as it does for a hung primary. Whether
/// that is only suspected comes along: where the primary lists nobody by our address, it may be somebody else that it
/// prepares for.
fn primary_prepares(e: &Evidence) -> Option<(Fact, bool)> {
    let link = broken_link(e).filter(|link| link.state == LinkState::Handshake)?;
    let Some(primary) = e.primary.seen() else { return asked(e).map(|told| (told, false)) };
    let waiting: Vec<_> = awaited(e, primary).collect();
    let tell = |entry: &ReplicaOfPrimary, means| {
        let saw = format!("{} lists {} as {}", link.primary, entry.endpoint, entry.state);
        fact(Viewpoint::Primary, primary.at, saw, means)
    };
    if let Some(ours) = waiting.iter().find(|entry| is_ours(e, &entry.endpoint)) {
        return Some((tell(ours, "it knows of this replica and prepares the data set"), false));
    }
    let first = waiting.first()?;
    // An address may be translated on the way there; then the replica's own word is left.
    asked(e).map(|told| (told, false)).or_else(|| {
        let same_port =
            |entry: &&&ReplicaOfPrimary| matches!(&e.address, Address::Tcp(own) if own.port == entry.endpoint.port);
        let likely = waiting.iter().find(same_port).unwrap_or(first);
        Some((tell(likely, "it prepares a data set, probably for this replica"), true))
    })
}

/// Replicas that the primary serves and that are not in sync yet, without those that a Sentinel knows for others.
fn awaited<'a>(e: &'a Evidence, primary: &'a ServerView) -> impl Iterator<Item = &'a ReplicaOfPrimary> {
    primary.replicas.iter().filter(|entry| entry.state != "online" && !is_anothers(e, &entry.endpoint))
}

fn is_ours(e: &Evidence, place: &Endpoint) -> bool {
    e.address == Address::Tcp(place.clone()) || known_by_run_id(e, place) == Some(true)
}

fn is_anothers(e: &Evidence, place: &Endpoint) -> bool {
    e.address != Address::Tcp(place.clone()) && known_by_run_id(e, place) == Some(false)
}

/// Whether a Sentinel knows the replica at that address for the local server; none where it knows none there, or may
/// know it from before the local process began.
fn known_by_run_id(e: &Evidence, place: &Endpoint) -> Option<bool> {
    let local = e.local.seen().filter(|view| !view.run_id.is_empty())?;
    let mut listed = e.answering().flat_map(|(_, says)| &says.replicas);
    let there = listed.find(|replica| replica.endpoint == *place && !replica.run_id.is_empty())?;
    let ours = there.run_id == local.run_id;
    (ours || there.info_refresh_ms < local.uptime_s.saturating_mul(1_000)).then_some(ours)
}

/// PSYNC is the last thing that the log tells of the link.
fn asked(e: &Evidence) -> Option<Fact> {
    let line = e.logged(LogKind::PsyncAsked).filter(|line| is_newest(e, line))?;
    Some(log_fact(line, "the replica has asked for the stream and waits for the primary's answer"))
}

/// No other line that tells of the link is newer.
fn is_newest(e: &Evidence, line: &LogFact) -> bool {
    let lines = e.log.seen().map(|log| log.lines.as_slice()).unwrap_or_default();
    lines.iter().all(|other| other.last <= line.last || of_a_primary(other.kind))
}

/// What a server logs of its own replicas and saves, whatever its link does.
pub(super) fn of_a_primary(kind: LogKind) -> bool {
    matches!(
        kind,
        LogKind::OutputBufferCut
            | LogKind::BacklogTooShort
            | LogKind::ReplicaTimedOut
            | LogKind::SaveFailed
            | LogKind::ForkFailed
    )
}

/// A transfer that has begun, and from which nothing has come for a while. The server itself gives up after
/// `repl-timeout`, 60 s by default. What has come is loaded without a byte on the line, however long that takes, and
/// `master_sync_last_io_seconds_ago` grows all the while (Redis 7.0.15, Valkey 8.0.1).
pub fn sync_stalled(e: &Evidence) -> Option<Finding> {
    let link = broken_link(e)?;
    let loads = e.local.seen().is_some_and(|local| local.loading || local.loading_bytes.is_some());
    if loads || !link.syncing || link.sync_read == 0 || link.sync_last_io_s < STALLED_S {
        return None;
    }
    let first = fact(
        Viewpoint::Replica,
        e.ended,
        format!("{} bytes received, nothing for {} s", link.sync_read, link.sync_last_io_s),
        "the primary or the network stopped in the middle of the data set",
    );
    Some(named(e, Cause::SyncStalled, false, [Some(first)]))
}

pub fn sync_running(e: &Evidence) -> Option<Finding> {
    let link = broken_link(e).filter(|_| super::circle::fails_without_a_name(e).is_none())?;
    if let Some((prepares, suspected)) = primary_prepares(e).filter(|_| handshake_green(e)) {
        return Some(named(e, Cause::SyncRunning, suspected, [Some(prepares)]));
    }
    let promised = told(e, LogKind::FullResync).is_some();
    let waiting = link.state == LinkState::Handshake && (promised || waits_its_turn(e));
    if link.state != LinkState::Sync && !link.syncing && !waiting {
        return None;
    }
    let inferred = waiting && !promised;
    let anew = told(e, LogKind::StreamBroken)
        .map(|line| log_fact(line, "why all of it is sent anew: something on the way changed the stream"));
    let cut = super::output_buffer::cut_for_reasons_unseen(e);
    let means = match cut.is_some() {
        true => "the data set is on its way, as it was before each cut",
        false => "the data set is on its way; nothing helps but to let it come",
    };
    let first = fact(Viewpoint::Replica, e.ended, progress(e, link), means);
    Some(named(e, Cause::SyncRunning, inferred || cut.is_some(), [Some(first), anew, cut]))
}

/// Whether a sync has come further since the look before: bytes received, bytes loaded, or a primary that still saves
/// what it will send.
pub fn moves(e: &Evidence) -> bool {
    let received = e.local_link().zip(e.trend.sync_read).is_some_and(|(link, (_, before))| link.sync_read > before);
    let loaded = e.local.seen().and_then(|local| local.loading_bytes);
    let loads = loaded.is_some_and(|bytes| bytes > e.trend.sync_loaded.unwrap_or(0));
    // A diskless transfer is told by its bytes: a child that stands still saves too.
    let by_disk = e.primary_limits.seen().is_none_or(|limits| !limits.diskless_sync);
    let saves = e.primary.seen().filter(|_| by_disk).is_some_and(|primary| {
        let ours = |entry: &ReplicaOfPrimary| entry.state == "wait_bgsave" && !is_anothers(e, &entry.endpoint);
        primary.rdb_saving && primary.replicas.iter().any(ours)
    });
    received || loads || saves
}

/// How far, how fast, and how long still. A diskless transfer has no size (`master_sync_total_bytes` is -1); then the
/// primary's memory is a guess at it, and mostly too much: an RDB has none of the overhead that keys have in memory.
fn progress(e: &Evidence, link: &LinkView) -> String {
    let read = link.sync_read;
    let local = e.local.seen();
    if let Some(loaded) = local.and_then(|local| local.loading_bytes) {
        let share = local.and_then(|local| local.loading_percent);
        let left = share.filter(|share| *share >= 1.0).and_then(|share| {
            let rate = rate(e, loaded, e.trend.sync_loaded?)?;
            time_left(((loaded as f64) / share * (100.0 - share).max(0.0)) as u64, rate)
        });
        let share = share.map_or_else(String::new, |share| format!(", {share:.0} % of it"));
        let left = left.map_or_else(String::new, |left| format!(", about {left} left"));
        return format!("{} loaded{share}{left}", size(loaded));
    }
    if read == 0 {
        return "waiting for the data set".to_owned();
    }
    let rate = e.trend.sync_read.and_then(|(_, before)| rate(e, read, before));
    let left = |total: u64| time_left(total.saturating_sub(read), rate?);
    let speed = rate.map_or_else(String::new, |rate| format!(", {}/s", size(rate)));
    let memory = e.primary.seen().map(|primary| primary.used_memory).filter(|memory| *memory > read);
    match (link.sync_total, memory) {
        (0, Some(memory)) => {
            let guess = left(memory).map_or_else(String::new, |left| format!(", so {left} left, probably less"));
            format!(
                "{} received{speed}; the size is not told (diskless), the primary has {} in memory{guess}",
                size(read),
                size(memory)
            )
        }
        (0, None) => format!("{} received{speed}; the size is not told (diskless)", size(read)),
        (total, _) => {
            let left = left(total).map_or_else(String::new, |left| format!(", about {left} left"));
            format!("{} of {} received{speed}{left}", size(read), size(total))
        }
    }
}

/// Bytes a second since the look before, where that is long enough ago to tell.
fn rate(e: &Evidence, now: u64, before: u64) -> Option<u64> {
    let (then, _) = e.trend.sync_read?;
    let ms = u64::try_from(e.ended.since(then).as_millis()).ok().filter(|ms| *ms > 200)?;
    Some(now.checked_sub(before)?.saturating_mul(1000) / ms)
}

fn time_left(bytes: u64, rate: u64) -> Option<String> {
    bytes.checked_div(rate).map(|s| human(Duration::from_secs(s)))
}

/// While the primary gathers replicas for a diskless transfer (`repl-diskless-sync-delay`, 5 s by default) or waits
/// for another BGSAVE to end, it has not answered PSYNC yet, and ROLE says `handshake` (Redis 7.0.15, syncCommand). A
/// green handshake then means a sync that is about to begin, unless the primary tells that it serves none.
fn waits_its_turn(e: &Evidence) -> bool {
    handshake_green(e)
        && e.primary.seen().is_none_or(|primary| {
            awaited(e, primary).any(|replica| matches!(replica.state.as_str(), "wait_bgsave" | "send_bulk"))
        })
}
