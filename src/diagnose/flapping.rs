//! A link that drops again and again and is back each time, so that it reads up at almost every look.
//!
//! That it flaps is told by what came before ([`Drops`]). Why it does shows in what the drops cost: a full resync each
//! time (the backlog does not reach back), cuts that the primary counts (the output buffer), what was named while it was
//! down. Where none of that tells, the answer is `unknown` with the count, and with what would decide it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{fact, finding, link_fact, standing, sync};
use crate::model::evidence::{Drops, Evidence, LogKind, ServerView};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::size;

/// A break that has lasted for so long is looked into for itself.
const LASTING: Duration = Duration::from_secs(2);

/// What a backlog is advised to hold: the writes of this time.
const OUTAGE_S: u64 = 60;

pub fn link(e: &Evidence) -> Option<Finding> {
    let drops = e.trend.drops.as_ref()?;
    let link = e.local_link()?;
    // A timeout below the ping period flaps too, and tells so by itself.
    if (!link.up && standing(e) >= LASTING) || sync::sync_timeout(e).is_some() {
        return None;
    }
    let (cause, because) = cut_by_the_primary(e, drops)
        .or_else(|| named_at_most(e, drops))
        .or_else(|| outrun(e, drops))
        .or_else(|| seen_at_the_drops(e, drops))
        .unwrap_or_else(|| (Cause::Unknown, vec![what_would_decide(e)]));
    let (cause, mut because) = match drops.found {
        Some(found) if found != cause => (found, vec![as_before(e, found)]),
        _ => (cause, because),
    };
    let first = because.len().min(1);
    because.insert(if cause == Cause::Unknown { 0 } else { first }, how_often(e, drops));
    because.extend(counted(e, drops));
    because.push(link_fact(e));
    Some(Finding { flaps: Some(drops.flaps), ..finding(cause, false, because) })
}

fn how_often(e: &Evidence, drops: &Drops) -> Fact {
    let from = if drops.logged >= drops.flaps.drops { Viewpoint::Log } else { Viewpoint::Memory };
    let primary = e.local_link().map_or_else(String::new, |link| format!(" to {}", link.primary));
    let back = match (drops.partial, drops.full) {
        (0, 0) => "it was back each time".to_owned(),
        (partial, full) => format!("it was back each time; full resyncs: {full}, partial ones: {partial}"),
    };
    fact(from, drops.flaps.last, format!("the link{primary} {}", drops.flaps.in_words()), back)
}

fn as_before(e: &Evidence, found: Cause) -> Fact {
    fact(Viewpoint::Memory, e.ended, found.title(), "so it was found at the drops; the link has not dropped since")
}

fn counted(e: &Evidence, drops: &Drops) -> Option<Fact> {
    let counted = drops.counted.as_ref()?;
    let primary = e.primary.seen()?;
    let cuts = counted.output_buffer_cuts.map_or_else(
        || "this server version counts no cuts for output buffers".to_owned(),
        |cuts| format!("client_output_buffer_limit_disconnections +{cuts}"),
    );
    let saw = format!(
        "sync_full +{}, sync_partial_ok +{}, sync_partial_err +{}, {cuts}, {}/s written",
        counted.sync_full,
        counted.sync_partial_ok,
        counted.sync_partial_err,
        size(counted.write_rate())
    );
    let of = match primary.replicas.len() {
        0 | 1 => "what the primary counted over the drops".to_owned(),
        many => format!("what the primary counted over the drops, of all its {many} replicas"),
    };
    Some(fact(Viewpoint::Primary, primary.at, saw, of))
}

/// The primary closes the link because of its output buffer. Its counter has clients of every class in it (Redis 8.2.3,
/// closeClientOnOutputBufferLimitReached), so it has to have grown with the drops, and the replica has to have been so far
/// behind; where no line tells how far, the drops have to have cost full resyncs, since the hard limit is never below the
/// backlog: who is resumed was not cut for that. The soft limit may be below it: then each drop has to be a cut, and no more
/// than that. Before Redis 7.4 and Valkey 8.0 there is no such counter: there the distance alone speaks.
fn cut_by_the_primary(e: &Evidence, drops: &Drops) -> Option<(Cause, Vec<Fact>)> {
    let soft = soft_limit(e).filter(|(_, span)| have_their_time(drops, *span));
    let limit = hard_limit(e).or(soft.map(|(limit, _)| limit));
    let behind = fell_behind(e);
    let within = buffer_limit(e).zip(behind).is_some_and(|(limit, behind)| behind < limit);
    let beyond = limit.zip(behind).is_some_and(|(limit, behind)| behind >= limit);
    let in_full = full_resyncs(drops).saturating_mul(2) >= drops.flaps.drops;
    let so_far = e.primary.seen().and_then(|primary| primary.output_buffer_cuts);
    let rose = drops.counted.as_ref().and_then(|counted| counted.output_buffer_cuts);
    let many = u64::from(drops.flaps.drops);
    let in_backlog = soft.zip(e.primary_limits.seen()).is_some_and(|((soft, _), limits)| soft < limits.backlog_size);
    let each = |rose| in_backlog && (many..=many + 1).contains(&rose);
    let cut = match (rose, so_far) {
        (Some(rose), _) => rose >= 2 && rose.saturating_mul(2) >= many && !within && (beyond || in_full || each(rose)),
        (None, Some(so_far)) => so_far >= 2 && beyond,
        (None, None) => beyond && drops.full >= 2,
    };
    let saw = match (rose, behind, limit) {
        _ if !cut => return None,
        (Some(rose), ..) => format!("client_output_buffer_limit_disconnections grew by {rose} over the drops"),
        (None, Some(behind), Some(limit)) => format!(
            "this replica was {} behind when it came back, client-output-buffer-limit replica is {}",
            size(behind),
            size(limit)
        ),
        _ => return None,
    };
    let means = "the primary closes the link when more is waiting for this replica than the limit allows";
    Some((Cause::OutputBufferExceeded, vec![fact(Viewpoint::Primary, e.ended, saw, means)]))
}

/// A buffer has to stay above the soft limit for its seconds before each drop.
fn have_their_time(drops: &Drops, span: Duration) -> bool {
    drops.flaps.last.since(drops.flaps.first) / drops.flaps.drops.saturating_sub(1).max(1) >= span
}

fn full_resyncs(drops: &Drops) -> u32 {
    match (drops.logged, &drops.counted) {
        (0, Some(counted)) => u32::try_from(counted.sync_full).unwrap_or(u32::MAX),
        _ => drops.full,
    }
}

/// A third of the drops or more cost a full resync of the same history: what the replica asked for was gone from the backlog.
fn outrun(e: &Evidence, drops: &Drops) -> Option<(Cause, Vec<Fact>)> {
    if asked_and_got(e).is_some_and(|((asked_of, _), (got_of, _))| asked_of != got_of) {
        return None;
    }
    let (by_primary, full) = (drops.counted.as_ref(), full_resyncs(drops));
    let behind = fell_behind(e);
    // A first look has no difference to tell: then what the primary has refused since its start is all there is, if it
    // started before the drops. A process that has just begun has refused each of its replicas once.
    let began = |primary: &ServerView| primary.at.before(Duration::from_secs(primary.uptime_s));
    let of_old = e.primary.seen().filter(|primary| began(primary) <= drops.flaps.first);
    let ever = of_old.map_or(0, |primary| primary.sync_partial_err);
    let refused = by_primary.map_or(ever, |counted| counted.sync_partial_err);
    let named = drops.named.iter().filter(|cause| **cause == Cause::BacklogTooSmall).count();
    let outrun = behind.is_some() || refused >= 2 || named >= 2;
    if full < 2 || full.saturating_mul(3) < drops.flaps.drops || !outrun {
        return None;
    }
    let size_now = e.primary_limits.seen().map(|limits| limits.backlog_size);
    let size_now = size_now.or(e.primary.seen().map(|primary| primary.backlog_size));
    let holds = size_now.map_or_else(String::new, |bytes| format!("; repl-backlog-size is {}", size(bytes)));
    let saw = match behind {
        Some(behind) => {
            format!("the replica asked for the rest, {} back, and got everything anew{holds}", size(behind))
        }
        None => format!("{full} of the drops cost a full resync{holds}"),
    };
    let means = match e.primary.seen().is_none() {
        true => "the primary had that no more; whether it cut the link itself for its output buffer, its log tells",
        false => "the primary had that no more: a backlog that reaches back makes it a matter of milliseconds",
    };
    let from = if behind.is_some() { Viewpoint::Log } else { Viewpoint::Memory };
    Some((Cause::BacklogTooSmall, vec![fact(from, e.ended, saw, means)]))
}

/// What was named at more than half of all the drops leaves nothing to infer. How far the backlog fell short is told by
/// [`outrun`], and beside another cause, since that is what makes each drop dear.
fn named_at_most(e: &Evidence, drops: &Drops) -> Option<(Cause, Vec<Fact>)> {
    let (cause, mut because) = seen_at_the_drops(e, drops).filter(|(cause, _)| *cause != Cause::BacklogTooSmall)?;
    let times = drops.named.iter().filter(|named| **named == cause).count();
    because.extend(outrun(e, drops).into_iter().flat_map(|(_, short)| short));
    (times * 2 > usize::try_from(drops.flaps.drops).unwrap_or(usize::MAX)).then_some((cause, because))
}

/// What was named at the drops, where that is the same more than once and more than anything else.
fn seen_at_the_drops(e: &Evidence, drops: &Drops) -> Option<(Cause, Vec<Fact>)> {
    let mut times: BTreeMap<Cause, usize> = BTreeMap::new();
    for cause in drops.named.iter().filter(|cause| cause_of_drops(**cause)) {
        *times.entry(*cause).or_default() += 1;
    }
    let (cause, count) = times.into_iter().max_by_key(|(_, count)| *count)?;
    if count < 2 || count * 2 <= drops.named.len() {
        return None;
    }
    let saw = format!("{count} times, while it was down: {}", cause.title());
    Some((cause, vec![fact(Viewpoint::Memory, e.ended, saw, "what was found at the drops themselves")]))
}

/// What may be found at each drop of a link that comes back by itself. Others are a story of their own each time.
pub fn cause_of_drops(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NetworkCut
            | Cause::NetworkRejected
            | Cause::NameUnresolved
            | Cause::PrimaryDown
            | Cause::PrimaryUnreachable
            | Cause::PrimaryHung
            | Cause::ConnectionsExhausted
            | Cause::BacklogTooSmall
            | Cause::OutputBufferExceeded
    )
}

fn what_would_decide(e: &Evidence) -> Fact {
    let unread = if e.primary.seen().is_none() { "its INFO and its log are" } else { "its log is" };
    fact(
        Viewpoint::Primary,
        e.ended,
        format!("{unread} not read from here"),
        "its lines at those times would decide: a client's `closed`, `Disconnecting timedout replica`, or none, and then \
         it was CLIENT KILL or the network",
    )
}

/// The backlog does not reach back, and the primary counts a cut for an output buffer since the link was whole. With a
/// replica that was too far behind for the limit that is what broke it, else it may have been another client.
pub fn cut_online(e: &Evidence) -> Option<Finding> {
    sync::backlog_too_small(e)?;
    let primary = e.primary.seen()?;
    let counts = primary.output_buffer_cuts;
    let (saw, suspected) = match e.trend.cuts_since(counts) {
        Some(1..) => {
            let limit = hard_limit(e).or(buffer_limit(e));
            (super::output_buffer::went_up(e, counts), !is_beyond(e, limit))
        }
        None if counts.is_none() && too_far(e) && fell_behind(e).is_some() => (
            "this server version counts no cuts, and the replica was further behind than the limit allows".into(),
            true,
        ),
        _ => return None,
    };
    let first = fact(Viewpoint::Primary, primary.at, saw, "the primary closes a link for which too much is waiting");
    let limit = e.primary_limits.seen().zip(buffer_limit(e)).map(|(limits, limit)| {
        let saw = format!("client-output-buffer-limit replica is {} in effect", size(limit));
        fact(Viewpoint::Primary, limits.at, saw, "what is written has to fit into that until the replica has read it")
    });
    let because = [Some(first), limit, Some(link_fact(e))].into_iter().flatten().collect();
    Some(finding(Cause::OutputBufferExceeded, suspected, because))
}

/// Further behind than its output buffer may grow, or may stay: then the primary itself may have cut the link.
pub fn too_far(e: &Evidence) -> bool {
    is_beyond(e, buffer_limit(e))
}

fn is_beyond(e: &Evidence, limit: Option<u64>) -> bool {
    let from_whole = || {
        let primary = e.primary.seen()?;
        u64::try_from(primary.repl_offset.saturating_sub(e.trend.offset?)).ok()
    };
    let behind = fell_behind(e).or_else(from_whole);
    behind.zip(limit).is_some_and(|(behind, limit)| behind >= limit)
}

/// The least that may be too much for the replica class, be it only after the soft limit's seconds.
pub(super) fn buffer_limit(e: &Evidence) -> Option<u64> {
    hard_limit(e).into_iter().chain(soft_limit(e).map(|(limit, _)| limit)).min()
}

/// What is too much at once. It is never below `repl-backlog-size`; the soft limit may be (Redis 7.0.15,
/// checkClientOutputBufferLimits). Redis 6.2, where each replica has a buffer of its own, takes it as it stands: there this
/// is too much rather than too little.
pub(super) fn hard_limit(e: &Evidence) -> Option<u64> {
    let limits = e.primary_limits.seen()?;
    Some(limits.output_hard).filter(|limit| *limit > 0).map(|limit| limit.max(limits.backlog_size))
}

/// What is too much for so long.
pub(super) fn soft_limit(e: &Evidence) -> Option<(u64, Duration)> {
    let limits = e.primary_limits.seen().filter(|limits| limits.output_soft > 0)?;
    Some((limits.output_soft, Duration::from_secs(limits.output_soft_s)))
}

/// Bytes between what the replica asked for and where the full resync began that it got instead, of the same history. A
/// diskless transfer begins a little later, so this is more rather than less.
fn fell_behind(e: &Evidence) -> Option<u64> {
    let ((asked_of, from), (got_of, to)) = asked_and_got(e)?;
    (asked_of == got_of).then(|| to.checked_sub(from)).flatten()
}

/// A history, and how far into it.
type Place<'a> = (&'a str, u64);

/// What the replica asked for, and where the full resync began that it got instead.
fn asked_and_got(e: &Evidence) -> Option<(Place<'_>, Place<'_>)> {
    let asked = e.logged(LogKind::PsyncAsked)?;
    let got = e.logged(LogKind::FullResync).filter(|got| got.last >= asked.last)?;
    Some((place(asked.sample.split_once("(request ")?.1)?, place(got.sample.split_once(": ")?.1)?))
}

/// `REPLID:OFFSET`, with whatever follows.
fn place(text: &str) -> Option<Place<'_>> {
    let (replid, rest) = text.split_once(':')?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((replid, digits.parse().ok()?))
}

/// A backlog that reaches back, where the write rate was measured: a minute of it, four times what was missing, and more
/// than there is.
pub fn advised_backlog(e: &Evidence) -> Option<u64> {
    let rate = e.trend.drops.as_ref()?.counted.as_ref()?.write_rate();
    let missing = fell_behind(e).unwrap_or(0).saturating_mul(4);
    let present = e.primary_limits.seen().map_or(0, |limits| limits.backlog_size.saturating_mul(2));
    Some(whole_mib(rate.saturating_mul(OUTAGE_S).max(missing).max(present)))
}

/// A limit that the drops, or the transfers of a loop, would not have reached: more than there is in any case.
pub fn advised_limit(e: &Evidence) -> Option<u64> {
    let waiting = e.trend.drops.as_ref().and_then(|_| fell_behind(e)).max(e.trend.grown)?;
    Some(whole_mib(waiting.saturating_mul(4).max(more_than_now(e))).max(256 << 20))
}

/// Twice the present limit, 0 where none is known.
pub fn more_than_now(e: &Evidence) -> u64 {
    hard_limit(e).max(soft_limit(e).map(|(limit, _)| limit)).unwrap_or(0).saturating_mul(2)
}

fn whole_mib(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    bytes.div_ceil(MIB).max(1).checked_next_power_of_two().map_or(bytes, |mib| mib.saturating_mul(MIB))
}
