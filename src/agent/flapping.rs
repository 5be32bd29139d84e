//! A link that drops again and again, and is back before anybody looks: its drops, out of what is read anyway.
//!
//! Three witnesses, none of whom sees all: the looks and the fast poll (a drop of a millisecond passes between two
//! polls), the replica's log (not always readable), the primary's count of partial resyncs. The one who saw most is
//! believed; sums would count a drop twice. The primary counts everybody's resyncs, also those of a client that came and
//! went between two looks: it speaks only where it lists nobody but us and where our connection is younger than the look
//! before, or, with no age told, where the log does not; and for one drop a look where the log is read.
//!
//! What is no flapping: drops with a name and a remedy of their own, faults that have nothing in common, another primary
//! or another process in between, and fewer than [`MANY`] within [`Flaps::WINDOW`]. A failover, a restart or a rotation
//! costs a replica one or two drops.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::diagnose::cause_of_drops;
use crate::model::evidence::{Counted, Drops, Evidence, LogFact, LogKind, ServerView};
use crate::model::finding::{Cause, Finding, Flaps};
use crate::model::incident::{Entry, What};
use crate::model::{Endpoint, Timestamp};

/// So many drops are one story. Three blips are three blips; nothing planned cuts one link to one primary so often in two
/// minutes.
const MANY: u32 = 5;

/// More of them are not kept: an hour at one a second would say nothing else.
const KEEP: usize = 600;

/// Two of the primary's counts are at least this far apart.
const APART: Duration = Duration::from_secs(1);

/// A time so far ahead is of another clock.
const AHEAD: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flapping {
    of: Option<Endpoint>,
    run_id: Option<String>,
    /// Whether the link was up when it was last felt or looked at.
    up: Option<(Timestamp, bool)>,
    seen: VecDeque<Drop>,
    lost: Tally,
    full: Tally,
    partial: Tally,
    resumed: VecDeque<Timestamp>,
    /// Whose counters `sums` are.
    counts: Option<String>,
    sums: VecDeque<Sum>,
    /// It is flapping, and has not been calm for long enough since.
    stands: Option<Flaps>,
    /// What it was last found to be, and the newest drop by then.
    found: Option<(Cause, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Drop {
    at: Timestamp,
    /// What was named firmly while it was down.
    named: Option<Cause>,
}

/// A primary's counters at one look.
#[derive(Clone, Debug, PartialEq)]
struct Sum {
    at: Timestamp,
    full: u64,
    partial_ok: u64,
    partial_err: u64,
    cuts: Option<u64>,
    written: i64,
    /// It serves nobody but us.
    alone: bool,
}

/// Lines of one kind, out of a count over the log's window that both grows and fades.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    /// First, newest and number, as the log told at the last look.
    known: Option<(Timestamp, Timestamp, u32)>,
    times: VecDeque<Timestamp>,
}

impl Flapping {
    /// What the fast poll felt.
    pub fn felt(&mut self, of: &Endpoint, up: bool, at: Timestamp) {
        if self.of.as_ref() == Some(of) {
            self.link_is(up, at);
        }
    }

    /// Takes in a look; what it adds up to.
    pub fn looked(&mut self, e: &Evidence) -> Option<Drops> {
        let local = e.local.seen();
        let link = local.and_then(|view| view.role.link().map(|link| (view, link)));
        let Some((local, link)) = link else {
            // A server that does not answer may come back as another process; what becomes of its link is not ours.
            self.up = None;
            return None;
        };
        // What was noted by a clock that was set back since would hold until it catches up.
        let ahead = |at: Timestamp| at.since(e.ended) > AHEAD;
        let another = self.of.as_ref().is_some_and(|of| *of != link.primary)
            || self.run_id.as_ref().is_some_and(|known| *known != local.run_id)
            || self.up.is_some_and(|(at, _)| ahead(at))
            || self.stands.is_some_and(|flaps| ahead(flaps.last));
        if another {
            *self = Flapping::default();
        }
        self.of = Some(link.primary.clone());
        self.run_id = Some(local.run_id.clone());
        self.link_is(link.up, local.at);
        for (tally, kind) in [
            (&mut self.lost, LogKind::LinkLost),
            (&mut self.full, LogKind::FullResync),
            (&mut self.partial, LogKind::PartialResync),
        ] {
            tally.take(e.logged(kind), another);
        }
        if let Some(primary) = e.primary.seen() {
            let heard = e.log.seen().is_some_and(|log| !log.skipped);
            let stood = e.primary_limits.seen().and_then(|limits| limits.replica_age_s).map(Duration::from_secs);
            self.sum_up(primary, heard, |span| stood.map_or(!heard, |stood| stood < span));
        }
        self.judge(e.ended)
    }

    /// What was named while the link was down.
    pub fn named(&mut self, finding: &Finding) {
        if let Some(flaps) = &finding.flaps {
            self.found = Some((finding.cause, flaps.last));
        }
        match finding.cause {
            // These are a flapping with a name of its own.
            Cause::ReplconfRefused | Cause::SyncTimeout => self.forget(),
            cause if finding.flaps.is_none() && !finding.suspected && !finding.link_up && !cause.passing() => {
                let down = self.up.is_some_and(|(_, up)| !up);
                if let Some(drop) = self.seen.back_mut().filter(|_| down && cause != Cause::Unknown) {
                    drop.named = Some(cause);
                }
            }
            _ => {}
        }
    }

    /// What the record tells of drops before a restart.
    pub fn replay(&mut self, entry: &Entry, now: Timestamp) {
        let (at, named) = match &entry.what {
            What::Blip { cause, .. } => (entry.at, Some(*cause)),
            What::Opened { finding, down_at, .. } if !finding.link_up => (*down_at, Some(finding.cause)),
            What::LinkDown { at } => (*at, None),
            _ => return,
        };
        if now.since(at) < Flaps::WINDOW {
            self.seen.push_back(Drop { at, named: named.filter(|cause| !cause.passing() && *cause != Cause::Unknown) });
        }
    }

    /// An incident of a link that flaps is open from before a restart. What has happened since is unseen: the time for
    /// which it has to be calm begins now.
    pub fn resume(&mut self, cause: Cause, flaps: Flaps, now: Timestamp) {
        self.stands = Some(Flaps { last: now, ..flaps });
        self.found = Some((cause, now));
    }

    /// Until when a link that has dropped more than once of late may well drop again.
    pub fn restless(&self) -> Option<Timestamp> {
        let flaps = self.flaps().filter(|flaps| flaps.drops > 1)?;
        Some(flaps.last.after(flaps.calm()))
    }

    fn forget(&mut self) {
        self.seen.clear();
        self.resumed.clear();
        self.sums.clear();
        [&mut self.lost, &mut self.full, &mut self.partial].into_iter().for_each(|tally| tally.times.clear());
        (self.stands, self.found) = (None, None);
    }

    fn link_is(&mut self, up: bool, at: Timestamp) {
        if self.up.is_some_and(|(then, _)| at <= then) {
            return;
        }
        if !up && self.up.is_some_and(|(_, was)| was) {
            push(&mut self.seen, Drop { at, named: None });
        }
        self.up = Some((at, up));
    }

    /// `heard`: the log was read. It may still tell nothing: a link that drops and is resumed is told at `loglevel notice`
    /// (Redis 7.0.15), and a log file may be one that nobody writes to. So a connection of ours that is young counts for
    /// one drop beside it. `dropped`: whether a link may have dropped within this time, for all that anybody else tells.
    fn sum_up(&mut self, primary: &ServerView, heard: bool, dropped: impl Fn(Duration) -> bool) {
        if self.counts.as_ref() != Some(&primary.run_id) {
            self.counts = Some(primary.run_id.clone());
            self.sums.clear();
        }
        let sum = Sum {
            at: primary.at,
            full: primary.sync_full,
            partial_ok: primary.sync_partial_ok,
            partial_err: primary.sync_partial_err,
            cuts: primary.output_buffer_cuts,
            written: primary.repl_offset,
            alone: primary.replicas.len() <= 1,
        };
        let alone = |before: &&Sum| before.alone && sum.alone && dropped(sum.at.since(before.at));
        if let Some(before) = self.sums.back().filter(alone) {
            // After CONFIG RESETSTAT all of them are new.
            let more = sum.partial_ok.checked_sub(before.partial_ok).unwrap_or(sum.partial_ok);
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            spread(&mut self.resumed, before.at, sum.at, if heard { more.min(1) } else { more });
        }
        if self.sums.len() > 1 && self.sums.back().is_some_and(|last| sum.at.since(last.at) < APART) {
            self.sums.pop_back();
        }
        push(&mut self.sums, sum);
    }

    fn judge(&mut self, now: Timestamp) -> Option<Drops> {
        // Also what a clock that was set back left in the future.
        let fresh = |at: Timestamp| now.since(at) < Flaps::WINDOW && at.since(now) < Flaps::WINDOW;
        self.seen.retain(|drop| fresh(drop.at));
        for times in [&mut self.lost.times, &mut self.full.times, &mut self.partial.times, &mut self.resumed] {
            times.retain(|at| fresh(*at));
        }
        while self.sums.get(1).is_some_and(|next| !fresh(next.at)) {
            self.sums.pop_front();
        }
        let stands = match (self.stands, self.flaps()) {
            (None, Some(flaps)) if flaps.drops >= MANY => flaps,
            (None, _) => return None,
            (Some(known), Some(flaps)) if flaps.drops >= MANY => Flaps { last: known.last.max(flaps.last), ..flaps },
            (Some(known), Some(flaps)) => Flaps { last: known.last.max(flaps.last), ..known },
            (Some(known), None) => known,
        };
        if now.since(stands.last) >= stands.calm() {
            self.forget();
            return None;
        }
        self.stands = Some(stands);
        Some(Drops {
            flaps: stands,
            logged: number(self.lost.times.len()),
            partial: self.partial.since(stands.first),
            full: self.full.since(stands.first),
            counted: self.counted(stands.first),
            named: self.seen.iter().filter_map(|drop| drop.named).collect(),
            found: self.found.filter(|(_, last)| *last >= stands.last).map(|(cause, _)| cause),
        })
    }

    /// All that is known of the drops of late, many or few.
    fn flaps(&self) -> Option<Flaps> {
        // Drops with a name of their own are none of the many, and of those that may be, one cause makes one story.
        let mut named: BTreeMap<Cause, usize> = BTreeMap::new();
        self.seen.iter().filter_map(|drop| drop.named).for_each(|cause| *named.entry(cause).or_default() += 1);
        let most = named.iter().filter(|(cause, _)| cause_of_drops(**cause)).map(|(_, count)| *count).max();
        let explained = named.values().sum::<usize>() - most.unwrap_or(0);
        let seen = self.seen.iter().map(|drop| drop.at).collect();
        let times = [seen, self.resumed.clone(), self.lost.times.clone()].into_iter().max_by_key(VecDeque::len)?;
        flaps(times.into(), explained)
    }

    /// From the last look before the first drop, or the first that there is, to the newest.
    fn counted(&self, first: Timestamp) -> Option<Counted> {
        let before = self.sums.iter().rfind(|sum| sum.at <= first).or(self.sums.front())?;
        let now = self.sums.back().filter(|now| now.at > before.at)?;
        // A counter that went back began anew: CONFIG RESETSTAT.
        let rose = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Some(Counted {
            over_ms: u64::try_from(now.at.since(before.at).as_millis()).unwrap_or(u64::MAX),
            sync_full: rose(now.full, before.full),
            sync_partial_ok: rose(now.partial_ok, before.partial_ok),
            sync_partial_err: rose(now.partial_err, before.partial_err),
            output_buffer_cuts: now.cuts.zip(before.cuts).map(|(now, before)| rose(now, before)),
            written: u64::try_from(now.written.saturating_sub(before.written)).unwrap_or(0),
        })
    }
}

impl Tally {
    /// Counts what is new. `anew`: what is there already is of before, and counts no more.
    fn take(&mut self, line: Option<&LogFact>, anew: bool) {
        let Some(line) = line else { return };
        let (from, more) = match self.known {
            _ if anew => (line.last, 0),
            None => (line.first, line.count),
            Some((_, last, _)) if line.last <= last => (last, 0),
            Some((first, last, count)) if first == line.first => (last, line.count.saturating_sub(count)),
            // The oldest have faded meanwhile, nobody knows how many.
            Some((_, last, count)) => (last, line.count.saturating_sub(count).max(1)),
        };
        spread(&mut self.times, from, line.last, more);
        self.known = Some((line.first, line.last, line.count));
    }

    fn since(&self, first: Timestamp) -> u32 {
        number(self.times.iter().filter(|at| **at >= first).count())
    }
}

/// What happened so often between two moments, the last time at the second.
fn spread(times: &mut VecDeque<Timestamp>, from: Timestamp, to: Timestamp, count: u32) {
    let count = count.min(u32::try_from(KEEP).unwrap_or(u32::MAX));
    let step = to.since(from) / count.max(1);
    (0..count).rev().for_each(|back| push(times, to.before(step * back)));
}

fn push<T>(kept: &mut VecDeque<T>, what: T) {
    if kept.len() >= KEEP {
        kept.pop_front();
    }
    kept.push_back(what);
}

fn flaps(mut times: Vec<Timestamp>, explained: usize) -> Option<Flaps> {
    times.sort_unstable();
    let (first, last) = (*times.first()?, *times.last()?);
    let gap = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.since(*one)).max().unwrap_or_default();
    Some(Flaps {
        drops: number(times.len().saturating_sub(explained)),
        first,
        last,
        longest_gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
    })
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
