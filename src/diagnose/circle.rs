//! Syncs that begin again and again: told from one that runs, also where no line says why each of them ended.

use super::sync::{handshake_green, log_fact, named, room_needed, told};
use super::{broken_link, fact};
use crate::model::evidence::{Evidence, LogFact, LogKind};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::size;

/// A sync that has begun for the third time, or more, and has not come beyond where one before it ended, does not run: it
/// goes in a circle.
fn circles(e: &Evidence) -> bool {
    const OFTEN: u32 = 3;
    broken_link(e).is_some() && e.trend.attempts >= OFTEN && e.came() <= e.trend.furthest
}

fn how_often(e: &Evidence) -> Fact {
    let saw = format!("the sync has begun {} times, and came to {} at most", e.trend.attempts, size(e.trend.furthest));
    fact(Viewpoint::Memory, e.ended, saw, "each was ended before it was done, and the next begins with nothing")
}

/// A circle in which no line, or no fresh one, says why: what else there is then makes a suspicion.
pub fn begins_again(e: &Evidence) -> Option<Finding> {
    let disk = e.host.disk.seen().filter(|disk| disk.free < room_needed(e) || disk.out_of_inodes());
    let into_memory = e.settings.seen().is_some_and(|settings| settings.diskless_load != "disabled");
    if !circles(e) || !handshake_green(e) {
        return None;
    }
    if let Some(disk) = disk.filter(|_| !into_memory) {
        let saw = format!("{} has {} bytes free of {}", disk.path, disk.free, disk.total);
        let room = fact(Viewpoint::Host, disk.at, saw, "the data set is written there before it is loaded");
        return Some(named(e, Cause::ReplicaDiskFull, true, [Some(how_often(e)), Some(room)]));
    }
    let now = e.primary.seen().and_then(|view| view.output_buffer_cuts);
    let cuts = e.trend.cuts_since(now).filter(|more| *more > 0).map(|_| {
        let saw = super::output_buffer::went_up(e, now);
        fact(Viewpoint::Primary, e.ended, saw, "of clients of every kind, during this break")
    })?;
    Some(named(e, Cause::OutputBufferExceeded, true, [Some(how_often(e)), Some(cuts)]))
}

/// The newest line of a sync that failed, whatever its age.
fn last_failure(e: &Evidence) -> Option<&LogFact> {
    const FAILURES: [LogKind; 6] = [
        LogKind::TransferError,
        LogKind::BulkCountError,
        LogKind::TransferTimeout,
        LogKind::DumpWriteError,
        LogKind::LoadFailed,
        LogKind::SyncAborted,
    ];
    FAILURES.into_iter().filter_map(|kind| e.logged(kind)).max_by_key(|line| line.last)
}

/// Data set after data set comes and does not load, and no line says why in words that a rule knows (valkey issue 1836: a
/// loop of this line alone). That is no sync that runs, nor a replica that waits.
pub(super) fn fails_without_a_name(e: &Evidence) -> Option<Fact> {
    if circles(e) {
        let last = last_failure(e).map_or_else(String::new, |line| format!("; the log said last: {}", line.sample));
        let circle = how_often(e);
        let means = format!(
            "{}{last}. The primary's own log tells why: `overcoming of output buffer limits` (raise \
             client-output-buffer-limit), `Disconnecting timedout replica` (raise repl-timeout there), or a child that failed",
            circle.means
        );
        return Some(Fact { means, ..circle });
    }
    if let Some(line) = told(e, LogKind::LoadFailed).filter(|line| line.count > 1) {
        return Some(log_fact(
            line,
            "each data set that came did not load; the lines before this one in the log say why",
        ));
    }
    // A child that makes the data set and ends looks like this, without a disk that could be full.
    let diskless = e.primary_limits.seen().is_some_and(|limits| limits.diskless_sync);
    let line = told(e, LogKind::BulkCountError).filter(|line| diskless && line.count > 2 && handshake_green(e))?;
    let means = "the primary begins a data set and gives it up, again and again: its own log says why (a child that the \
                 kernel ended; Valkey 9.1 with dual-channel-replication-enabled: `Can't store key`)";
    Some(log_fact(line, means))
}
