//! A transfer that the primary cuts because what is written meanwhile does not fit into the replica's output buffer: what
//! proves it, what only agrees with it, and what is left to say where neither can be seen.

use std::time::Duration;

use super::fact;
use super::flapping::{buffer_limit, hard_limit, soft_limit};
use super::sync::{handshake_green, log_fact, named, primary_disk_full, told};
use crate::model::Timestamp;
use crate::model::evidence::{Evidence, LogFact, LogKind};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

/// The transfer is cut from the other side, again and again, while the handshake is fine. That the buffer did it is proved
/// by the stream, which outgrew the limit from one transfer to the next; or by the primary's counter of cuts, where
/// something agrees with it: it has clients of every class in it, those of pub/sub too (Redis 8.2.3,
/// closeClientOnOutputBufferLimitReached), and before Redis 7.4 and Valkey 8.0 there is none. A limit below the data set
/// proves nothing by itself: a slow line that the primary's repl-timeout cuts looks the same.
pub fn exceeded(e: &Evidence) -> Option<Finding> {
    let primary = e.primary.seen();
    let so_far = primary.and_then(|view| view.output_buffer_cuts);
    let cuts = e.trend.cuts_since(so_far);
    let outgrown = outgrown(e);
    let cut = cut_in_transfer(e, cuts.is_some_and(|more| more > 0) || outgrown.is_some())?;
    let counted = match cuts {
        Some(1..) => Some(fact(
            Viewpoint::Primary,
            e.ended,
            went_up(e, so_far),
            "the primary cut this many connections for their output buffer during this break",
        )),
        Some(_) => return None,
        None if so_far == Some(0) => return None,
        None => None,
    };
    let each = cuts.and_then(|more| at_each_transfer(e, more));
    let near = near(e, so_far);
    let tight = too_tight(e, so_far);
    // Between the soft limit and the hard one a data set proves nothing: what is written has to stay there for a while.
    let below_hard = tight.is_some() && data(e).zip(hard_limit(e)).is_some_and(|(data, hard)| hard <= data);
    let agrees = each.is_some() || near.is_some() || below_hard;
    if counted.is_none() && outgrown.is_none() && near.is_none() && tight.is_none() {
        return None;
    }
    let proved = outgrown.is_some() || (counted.is_some() && agrees);
    if save_fails(e, proved, counted.is_some()) {
        return None;
    }
    Some(named(e, Cause::OutputBufferExceeded, !proved, [Some(cut), outgrown, counted, each, near, tight]))
}

/// The primary's own account says that it cannot write the data set, and that is better supported: a save that fails is no
/// cut, while a limit below the data set, or a stream that grows, cuts nothing by itself.
fn save_fails(e: &Evidence, proved: bool, counted: bool) -> bool {
    let failed = e.primary.seen().is_some_and(|view| !view.rdb_last_save_ok);
    let told = primary_disk_full(e).filter(|_| failed);
    told.is_some_and(|told| match (proved, counted) {
        (true, true) => false,
        (false, false) => true,
        _ => !told.suspected,
    })
}

/// How the primary's count of cuts has changed during the break.
pub(super) fn went_up(e: &Evidence, now: Option<u64>) -> String {
    let (now, before) = (now.unwrap_or(0), e.trend.output_buffer_cuts.unwrap_or(0));
    match now < before {
        true => format!("client_output_buffer_limit_disconnections is {now}, reset during this break"),
        false => format!("client_output_buffer_limit_disconnections went from {before} to {now}"),
    }
}

/// The primary cut one connection for each transfer of ours that ended: no other client is cut in step with them.
fn at_each_transfer(e: &Evidence, cuts: u64) -> Option<Fact> {
    let ended = u64::from(e.trend.cut_transfers);
    // The cut that broke the link came before the first of them, and the last may not be in the log yet.
    let in_step = ended >= 3 && (ended - 1..=ended + 2).contains(&cuts);
    in_step.then(|| {
        let saw = format!("{ended} transfers ended during this break, and {cuts} connections were cut");
        fact(Viewpoint::Primary, e.ended, saw, "the counter goes up with each transfer of this replica")
    })
}

/// While a transfer lasted, more was written than the buffer may hold: at any time, or above the soft limit for its seconds
/// (64 MiB for 60 s by default).
fn outgrown(e: &Evidence) -> Option<Fact> {
    let grown = e.trend.grown?;
    // What a replica waits for takes more than its bytes: each block has a head.
    let fills = |limit: u64| limit - limit / 8;
    let stays_above = |limit: u64, span: Duration| {
        let lasted = u128::from(e.trend.grown_ms?);
        let above = u128::from(grown.checked_sub(fills(limit))?);
        Some(lasted * above / u128::from(grown.max(1)) >= span.as_millis())
    };
    let hard = hard_limit(e).filter(|hard| grown >= fills(*hard)).map(|hard| format!("{hard}"));
    let soft = || {
        let (limit, span) = soft_limit(e).filter(|(limit, span)| stays_above(*limit, *span) == Some(true))?;
        Some(format!("{limit} for {} s", span.as_secs()))
    };
    let may_hold = hard.or_else(soft)?;
    let saw = format!("the stream grew by {grown} bytes during a transfer, the output buffer may hold {may_hold}");
    Some(fact(Viewpoint::Primary, e.ended, saw, "where that much is written during a transfer, the buffer ends it"))
}

/// A replica's buffer was seen at half of its hard limit, or at its soft one, or beyond.
fn near(e: &Evidence, so_far: Option<u64>) -> Option<Fact> {
    let soft = soft_limit(e).map(|(limit, _)| limit);
    let (limit, from) = match hard_limit(e).map(|hard| (hard, hard / 2)) {
        Some((hard, half)) if soft.is_none_or(|soft| half <= soft) => (hard, half),
        _ => (soft?, soft?),
    };
    let largest = Some(e.trend.output_largest).filter(|largest| *largest >= from)?;
    let means = match so_far {
        Some(_) => "what is written during a transfer fills it",
        None => {
            "what is written during a transfer fills it; this version counts no cuts, so the primary's own log decides: \
             `overcoming of output buffer limits`, or `Disconnecting timedout replica`"
        }
    };
    let saw = format!("a replica's output buffer held {largest} bytes of {limit} (CLIENT LIST TYPE replica, omem)");
    Some(fact(Viewpoint::Primary, e.ended, saw, means))
}

/// The limit of the replica class, where the data set could outgrow it.
fn too_tight(e: &Evidence, so_far: Option<u64>) -> Option<Fact> {
    let limits = e.primary_limits.seen()?;
    let counts = so_far.map_or("this server version counts no cuts".to_owned(), |cuts| {
        format!("it has cut {cuts} connections for theirs so far")
    });
    let (data, limit) = (data(e).unwrap_or(0), buffer_limit(e)?);
    (limit <= data).then(|| {
        fact(
            Viewpoint::Primary,
            limits.at,
            format!("client-output-buffer-limit replica is {limit} bytes, the data set takes {data}"),
            format!("what is written during a transfer has to fit into that buffer; {counts}"),
        )
    })
}

/// What the data set takes in the primary's memory.
fn data(e: &Evidence) -> Option<u64> {
    e.primary.seen().map(|view| view.used_memory.saturating_sub(view.buffers))
}

/// The signs of a transfer that the primary's side ends. A cut before the first byte reads like a primary that could not
/// make the data set (Valkey 9.1.2 under load; Redis 7.0.15 with a small limit, ten times a second): there only its counter
/// tells, or a stream that outgrows the limit.
///
/// What the log told of another process, of the primary's or of the local one, was no transfer between these two.
fn cut_in_transfer(e: &Evidence, borne_out: bool) -> Option<Fact> {
    if !handshake_green(e) {
        return None;
    }
    let since = both_began(e);
    let told = |kind| told(e, kind).filter(|line| line.last >= since);
    let all_since = |line: &LogFact| line.first >= since;
    let transfers = match e.logged(LogKind::FullResync) {
        Some(line) if !all_since(line) => 0,
        _ => e.trend.transfers,
    };
    let line = told(LogKind::TransferError)
        // Read from the line into memory, it ends as a data set that does not load, and the process lives on
        // (`repl-diskless-load`; Redis 7.0.15, rdbReportError: `assuming connection error`).
        .or_else(|| told(LogKind::LoadFailed).filter(|line| line.sample.contains("DB from socket")))
        .or_else(|| told(LogKind::LinkLost).filter(|_| transfers > 1))
        .or_else(|| told(LogKind::BulkCountError).filter(|_| borne_out))?;
    let again = (line.count > 1 && all_since(line)) || transfers > 1 || e.trend.cut_transfers > 1;
    again.then(|| log_fact(line, "the primary ended the transfer, more than once"))
}

/// When the younger of the two processes began, or up to two seconds before that: both count from whole second to whole
/// second, and the local one's log may tell it exactly.
fn both_began(e: &Evidence) -> Timestamp {
    let primary = e.primary.seen().map(|view| view.at.before(Duration::from_secs(view.uptime_s.saturating_add(1))));
    let local = e.trend.started.map(|at| at.before(Duration::from_secs(2)));
    let ready = e.logged(LogKind::Ready).map(|line| line.last);
    primary.max(local).max(ready).unwrap_or_default()
}

/// A transfer that was cut again and again, and nothing that we may see tells why: one observation would decide.
pub(super) fn cut_for_reasons_unseen(e: &Evidence) -> Option<Fact> {
    let line = [LogKind::TransferError, LogKind::BulkCountError].into_iter().find_map(|kind| told(e, kind))?;
    let ended = e.trend.cut_transfers.max(line.count);
    let more = match e.primary.seen() {
        None => "; its INFO and limits may tell too: configure `observer`",
        Some(_) => "",
    };
    (ended >= 3 && handshake_green(e)).then(|| {
        let saw = format!("{} ({ended} transfers)", line.sample);
        let means = format!(
            "the primary's side ends them, and its own log tells why: `overcoming of output buffer limits`, \
             `Disconnecting timedout replica`, or a child that failed{more}"
        );
        fact(Viewpoint::Log, line.last, saw, means)
    })
}
