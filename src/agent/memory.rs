//! What the agent remembers from look to look, beside the record: when the link was last up and how far it had come,
//! since when a fault has been in sight. It is lost at a restart, and every rule has to do without it.

mod transfers;

use std::collections::BTreeMap;
use std::time::Duration;

use self::transfers::Begun;
use super::attempts::Attempts;
use super::flapping::Flapping;
use super::tries::Calm;
use crate::decide::{RunOn, holds_down_alone, run_on};
use crate::diagnose::{
    LASTING_DISAGREEMENT, diagnose, disagreement, handshake_works, is_astray, role_in_doubt, same_place, serves,
    unanswered,
};
use crate::model::evidence::{
    Connect, Evidence, LinkView, LogKind, Missing, Probe, Reading, SentinelSays, ServerView, Trend,
};
use crate::model::finding::{Cause, Diagnosis, Finding};
use crate::model::turn::Seat;
use crate::model::{Endpoint, Timestamp};

/// A failover tells of itself by events from its first moment, so looks are close while it runs.
const JUST_NOW: Duration = Duration::from_secs(5);

/// Between two looks that take an order of promotion for unbroken. While a turn is waited for there is one each second.
const UNWATCHED: Duration = Duration::from_millis(2_500);

/// Sentinels that were installed anew, or told SENTINEL REMOVE and MONITOR, count epochs from nothing. News of one travel
/// within 2 s (Redis 7.0.15, SENTINEL_PUBLISH_PERIOD), so what most do not know for so long they never will.
const ANEW: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    trend: Trend,
    /// The process that the trend speaks of.
    run_id: Option<String>,
    cause: Option<(Cause, Timestamp)>,
    /// Whom the probe last tried.
    tried: Option<Endpoint>,
    /// A look came before this one.
    looked: bool,
    /// The local server did not answer the last look.
    silent: bool,
    /// The local server was started anew, and its link has not been up since: it stands where its last save stood, and
    /// how far the backlog reaches back is no fault of the backlog's.
    restarted: bool,
    /// The newest line that told of a cut transfer, and how many of its kind the log had then.
    cut: BTreeMap<LogKind, (Timestamp, u32)>,
    begun: Option<Begun>,
    /// The newest line that told of the end of one, at the last look.
    transfer_ended: Option<Timestamp>,
    /// What the primary counted at the last look at a whole link, until the link is seen up after it.
    counted: Option<Counted>,
    /// When the local server was last seen to serve as the primary that the Sentinels name.
    served: Option<Timestamp>,
    seats: BTreeMap<String, (Seat, Timestamp)>,
    unlinked: BTreeMap<String, RunOn>,
    /// When the seats were last looked at.
    seated: Option<Timestamp>,
    calm: Calm,
    /// The newest configuration of the group that a Sentinel told of.
    epoch: Option<u64>,
    /// Since when most tell of an older one only.
    lower: Option<Timestamp>,
    pub(super) flapping: Flapping,
    attempts: Attempts,
}

/// A primary's counters. They are read a moment after the local server told that the link is up, and in that moment it
/// may have broken: a replica that stood still for a while answers us first, and then finds its link cut. What the
/// primary refused it by then belongs to the break, and is no figure to count from.
#[derive(Clone, Debug, PartialEq)]
struct Counted {
    at: Timestamp,
    run_id: String,
    sync_full: u64,
    sync_partial_err: u64,
    output_buffer_cuts: Option<u64>,
}

impl Memory {
    /// What came before this look, for the look to carry along.
    pub fn trend(&self) -> Trend {
        self.trend.clone()
    }

    pub fn last_up(&self) -> Option<Timestamp> {
        self.trend.last_up
    }

    /// When the link broke, as far as anybody can tell.
    pub fn broke_at(&self, e: &Evidence) -> Timestamp {
        broke_at(self.trend.last_up, e.local_link(), e.began)
    }

    pub fn down_seen(&self) -> Option<Timestamp> {
        self.trend.down_seen
    }

    /// The verdict that stands, and since when.
    pub fn verdict(&self) -> Option<(Cause, Timestamp)> {
        self.cause
    }

    /// Since when this cause has been the verdict, without another in between.
    pub fn cause_since(&mut self, cause: Cause, at: Timestamp) -> Timestamp {
        match self.cause {
            Some((known, since)) if known == cause => since,
            _ => {
                self.cause = Some((cause, at));
                at
            }
        }
    }

    /// The seat that each Sentinel gives this replica for a promotion, and since when.
    pub fn seats(&self) -> &BTreeMap<String, (Seat, Timestamp)> {
        &self.seats
    }

    /// What each Sentinel has said of unlinked replicas from look to look.
    pub fn unlinked(&self) -> &BTreeMap<String, RunOn> {
        &self.unlinked
    }

    pub fn tries(&self) -> &[(Timestamp, Timestamp)] {
        &self.trend.tries
    }

    /// A Sentinel that does not answer may change its mind unseen, so what it said before does not count any more.
    /// Nor does what it said a while ago: an order that was another in between would look the same.
    fn note_seats(&mut self, e: &Evidence) {
        if self.seated.is_none_or(|last| e.began.since(last) > UNWATCHED) {
            self.seats.clear();
        }
        self.seated = Some(e.ended);
        let run_id = e.local.seen().map(|view| view.run_id.as_str()).unwrap_or_default();
        let mut seats = BTreeMap::new();
        for (_, says) in e.answering() {
            let Some(seat) = Seat::of(says, run_id) else { continue };
            let known = self.seats.get(&says.id).filter(|(known, _)| *known == seat);
            seats.insert(says.id.clone(), known.copied().unwrap_or((seat, e.ended)));
        }
        self.seats = seats;
    }

    fn note_alone(&mut self, e: &Evidence) {
        let alone = e.answering().filter(|(_, says)| holds_down_alone(says)).map(|(_, says)| &says.id);
        self.trend.alone_since =
            alone.map(|id| (id.clone(), self.trend.alone_since.get(id).copied().unwrap_or(e.ended))).collect();
    }

    /// A primary that served without a break until the Sentinels named another was deposed by request. One that did not
    /// answer, was held down, was started anew, or was out of the Sentinels' sight comes back from something else.
    fn note_handover(&mut self, e: &Evidence) {
        if serves(e) {
            (self.served, self.trend.handed_over) = (Some(e.ended), None);
        } else if is_astray(e) {
            let served = self.served.take().filter(|at| e.ended.since(*at) < JUST_NOW);
            self.trend.handed_over = served.map(|_| e.ended).or(self.trend.handed_over);
        } else if !role_in_doubt(e) {
            (self.served, self.trend.handed_over) = (None, None);
        }
    }

    /// Takes in the newest epoch that a Sentinel tells of the group's configuration, and says which was the newest before.
    /// `recorded`: what the record tells, for the first look. `by_most`: a majority of all known Sentinels tells of none
    /// that is newer.
    pub fn note_epoch(&mut self, epoch: u64, recorded: Option<u64>, by_most: bool, at: Timestamp) -> Option<u64> {
        let before = self.epoch.or(recorded);
        let lower = by_most && before.is_some_and(|known| epoch < known);
        self.lower = lower.then(|| self.lower.unwrap_or(at));
        let anew = self.lower.is_some_and(|since| at.since(since) >= ANEW);
        self.epoch = if anew { Some(epoch) } else { before.max(Some(epoch)) };
        if anew { self.epoch } else { before }
    }

    /// The local server has just begun not to answer. A fork, an fsync at the end of a sync or one long command stalls a
    /// server for a second; only when it is silent for two looks in a row does it hang. The first look of all is
    /// judged as it is.
    pub fn pauses(&mut self, e: &Evidence) -> bool {
        let silent = e.local == Reading::Missing(Missing::TimedOut);
        let begins = silent && self.looked && !self.silent;
        self.silent = silent;
        begins
    }

    /// Takes in a look before it is judged: what changes from look to look.
    pub fn before_judging(&mut self, e: &Evidence) {
        let up = e.local.seen().filter(|view| view.role.link().is_some_and(|link| link.up)).map(|view| view.at);
        self.count_from(up.max(e.trend.last_up));
        let another_process = self.forget_former_counts(e);
        // The fast poll saw the link up at this time: closer than our own last look.
        self.trend.last_up = self.trend.last_up.max(e.trend.last_up);
        // Who took up its primary since the last look disagrees anew, whatever the disagreement was before.
        // One that was started anew did not see it begin; one that tells no age of its role, or a negative one after its clock
        // was set back, would do so at every look.
        let took_up = |says: &SentinelSays, last| {
            says.saw_the_role_begin() && says.role_reported_ms > 0 && says.took_up_at() > last
        };
        let anew = self.seated.is_some_and(|last| e.answering().any(|(_, says)| took_up(says, last)));
        let since = self.trend.disagree_since.filter(|_| !anew).unwrap_or(e.ended);
        self.trend.disagree_since = disagreement(e).map(|_| since);
        let doubtful = self.trend.disagree_since.is_some_and(|since| e.ended.since(since) < LASTING_DISAGREEMENT);
        if doubtful || e.answering().any(|(_, says)| says.fails_over()) {
            self.trend.failover_seen = Some(e.ended);
        }
        let astray = e
            .local_link()
            .zip(e.named_primary())
            .is_some_and(|(link, (named, _))| !same_place(e, &link.primary, named));
        // What we did not see begin may be as old as the process.
        let uptime = e.local.seen().filter(|_| !self.looked).map_or(0, |view| view.uptime_s);
        let first = e.ended.before(Duration::from_secs(uptime));
        self.trend.astray_since = (astray || is_astray(e)).then(|| self.trend.astray_since.unwrap_or(first));
        self.forget_former_process(e);
        self.note_handover(e);
        self.calm.note_tries(&mut self.trend.tries, e);
        self.trend.heard_since.clone_from(&e.trend.heard_since);
        self.note_alone(e);
        self.note_seats(e);
        self.unlinked = run_on(&self.unlinked, e);
        if let Some(probe) = e.upstream.seen() {
            // At the first look of all, only the replica can tell for how long.
            let told = e.local_link().and_then(|link| link.down_for_s).and_then(|s| u64::try_from(s).ok());
            let before = if self.looked { Duration::ZERO } else { Duration::from_secs(told.unwrap_or(0)) };
            if self.tried.as_ref() != Some(&probe.target) {
                (self.trend.reached, self.trend.let_in, self.tried) = (None, None, Some(probe.target.clone()));
                self.trend.ping_period_s = None;
                self.reached();
            }
            let told = e.primary_limits.seen().map(|limits| limits.ping_period_s);
            self.trend.ping_period_s = told.or(self.trend.ping_period_s);
            if probe.connect == Connect::Open && !unanswered(probe) {
                self.trend.reached = Some(e.ended);
            }
            let (since, seen) = (self.trend.unreached_since, self.trend.unreached_seen);
            self.trend.unreached_since = unanswered(probe).then(|| since.unwrap_or(e.began.before(before)));
            self.trend.unreached_seen = unanswered(probe).then(|| seen.unwrap_or(fell_silent(probe)));
            self.trend.unreached_until = unanswered(probe).then_some(e.ended).or(self.trend.unreached_until);
            let since = self.trend.answered_since.unwrap_or(e.began.before(before));
            self.trend.answered_since = handshake_works(probe).then_some(since);
            self.trend.let_in = handshake_works(probe).then(|| self.trend.let_in.unwrap_or(e.ended));
        } else if e.local_link().is_some_and(|link| link.up) {
            self.reached();
            self.trend.answered_since = None;
        }
        if let Some(local) = e.local.seen() {
            let loading = local.loading || local.loading_bytes.is_some();
            let syncing = local.role.link().is_some_and(|link| !link.up && link.in_sync());
            self.trend.sync_seen = syncing.then_some((e.ended, loading));
        }
        self.trend.drops = self.flapping.looked(e);
        self.trend.furthest = self.attempts.furthest();
        self.attempts.looked(e);
        (self.trend.attempts, self.trend.attempted) = self.attempts.begun();
        self.looked = true;
        let whole = e.local_link().is_none_or(|link| link.up);
        if whole {
            self.link_whole(e);
        } else {
            self.link_broken(e, another_process);
        }
    }

    /// A server that was started anew may have lost where it stood: what it can resume from is what it tells now.
    fn forget_former_process(&mut self, e: &Evidence) {
        let Some(run_id) = e.local.seen().map(|view| &view.run_id) else { return };
        if self.run_id.as_ref().is_some_and(|known| known != run_id) {
            self.trend.offset = None;
            self.trend.replid = None;
            self.trend.sync_read = None;
            (self.served, self.trend.handed_over) = (None, None);
            self.restarted = true;
        }
        self.run_id = Some(run_id.clone());
        // The server counts from whole second to whole second (Redis 7.0.15, genRedisInfoString), so the difference may be
        // a second too long.
        let began = |view: &ServerView| view.at.before(Duration::from_secs(view.uptime_s.saturating_sub(1)));
        self.trend.started = e.local.seen().map(began);
    }

    fn link_whole(&mut self, e: &Evidence) {
        let Some(local) = e.local.seen() else {
            return;
        };
        self.restarted = false;
        self.trend.let_in = None;
        self.trend.last_up = Some(e.ended);
        (self.trend.sync_read, self.trend.sync_loaded) = (None, None);
        self.trend.transfers = 0;
        self.forget_transfers();
        self.cut.clear();
        self.begun = None;
        if let Some(link) = local.role.link() {
            self.note_emptied(local, e.ended);
            self.trend.offset = Some(link.offset).filter(|offset| *offset >= 0);
            self.trend.replid = Some(local.replid.clone());
            self.trend.keys = Some(local.keys);
        }
        if let Some(primary) = e.primary.seen() {
            self.counted = Some(Counted {
                at: primary.at,
                run_id: primary.run_id.clone(),
                sync_full: primary.sync_full,
                sync_partial_err: primary.sync_partial_err,
                output_buffer_cuts: primary.output_buffer_cuts,
            });
        }
    }

    /// The link was seen up at this time, so what the primary had counted before it is what a break is counted from.
    fn count_from(&mut self, up: Option<Timestamp>) {
        let Some(counted) = self.counted.take_if(|counted| up.is_some_and(|up| up >= counted.at)) else { return };
        self.trend.sync_full = Some(counted.sync_full);
        self.trend.sync_partial_err = Some(counted.sync_partial_err);
        self.trend.output_buffer_cuts = counted.output_buffer_cuts;
        self.trend.counts_of = Some(counted.run_id);
    }

    /// What another process counts, one that was promoted or began anew, has another beginning. Whether this is another.
    fn forget_former_counts(&mut self, e: &Evidence) -> bool {
        let trend = &mut self.trend;
        let another =
            e.primary.seen().is_some_and(|primary| trend.counts_of.as_ref().is_some_and(|of| *of != primary.run_id));
        if another {
            (trend.sync_full, trend.sync_partial_err, trend.output_buffer_cuts) = (None, None, None);
            trend.counts_of = None;
        }
        another
    }

    /// The record tells of it: a link that is whole again, to a primary without data, is no health.
    pub fn emptied_before(&mut self, at: Timestamp) {
        self.trend.emptied.get_or_insert((at, 0));
    }

    /// Another history, and not a key left of those that were there: the primary came back without its data. FLUSHALL
    /// keeps the history, and so does a failover, whose new primary knows the old one as its second.
    fn note_emptied(&mut self, local: &ServerView, at: Timestamp) {
        if local.keys > 0 {
            self.trend.emptied = None;
        } else if let (Some(replid), Some(keys)) = (self.trend.replid.as_deref(), self.trend.keys)
            && keys > 0
            && replid != local.replid
            && replid != local.replid2
        {
            self.trend.emptied = Some((at, keys));
        }
    }

    fn link_broken(&mut self, e: &Evidence, another_process: bool) {
        self.counted = None;
        // While the link is down, INFO still tells how far the kept (cached) link had come; a full resync drops it
        // (Redis 7.0.15, genRedisInfoString).
        if let Some(local) = e.local.seen()
            && let Some(link) = local.role.link()
            && link.offset > self.trend.offset.unwrap_or(1).max(1)
            && !self.restarted
        {
            self.trend.offset = Some(link.offset);
            self.trend.replid = Some(local.replid.clone());
        }
        let seen = *self.trend.down_seen.get_or_insert(e.began);
        if let Some(line) = e.logged(LogKind::FullResync).filter(|line| line.last >= seen) {
            self.trend.transfers = line.count;
            self.note_growth(e, line);
        }
        self.note_cut_transfers(e, seen);
        // The new one's counters are counted from this look on, and so are the transfers that are held against them.
        if another_process {
            self.forget_transfers();
        }
        let largest = e.primary_limits.seen().and_then(|limits| limits.output_largest);
        self.trend.output_largest = self.trend.output_largest.max(largest.unwrap_or(0));
    }

    /// A look was judged to show this.
    pub fn note_fault(&mut self, finding: &Finding, e: &Evidence) {
        self.flapping.named(finding);
        if finding.flaps.is_some() && e.local_link().is_some_and(|link| link.up) {
            self.between_drops();
        } else {
            self.fault_seen(e);
        }
    }

    /// After a look was judged to be a fault.
    pub fn fault_seen(&mut self, e: &Evidence) {
        self.trend.down_seen.get_or_insert(e.began);
        // A counter that is seen for the first time says nothing of this break: it is where the count begins.
        if let Some(primary) = e.primary.seen() {
            self.trend.output_buffer_cuts = self.trend.output_buffer_cuts.or(primary.output_buffer_cuts);
            self.trend.counts_of.get_or_insert_with(|| primary.run_id.clone());
        }
        if let Some(link) = e.local_link().filter(|link| link.syncing) {
            self.trend.sync_read = Some((e.ended, link.sync_read));
            self.trend.sync_loaded = e.local.seen().and_then(|local| local.loading_bytes);
        }
    }

    /// A link that flaps is whole at this moment: what breaks next is another break.
    pub fn between_drops(&mut self) {
        self.trend.down_seen = None;
        self.reached();
    }

    /// After a look was judged healthy, or an incident ended.
    pub fn fault_gone(&mut self) {
        self.between_drops();
        self.cause = None;
    }

    fn reached(&mut self) {
        let trend = &mut self.trend;
        (trend.unreached_since, trend.unreached_seen, trend.unreached_until) = (None, None, None);
    }
}

/// From when on an answer to somebody else proves that the primary lives and does not answer here. The look may have
/// begun before the break: a cable pulled in the middle of one was taken for a cut (Valkey 8.0.1). Where a step after
/// the connection went unanswered, the primary may have fallen silent as late as that.
fn fell_silent(probe: &Probe) -> Timestamp {
    /// An answer that was on its way to a Sentinel, or not yet read there.
    const ON_ITS_WAY: Duration = Duration::from_millis(250);
    match probe.connect {
        Connect::Open | Connect::HelloUnanswered => probe.at.after(Duration::from_micros(probe.took_us)),
        _ => probe.at.after(ON_ITS_WAY),
    }
}

/// We last saw it up; or the replica says for how long it has been down, which is all there is after a start; or now.
fn broke_at(last_up: Option<Timestamp>, link: Option<&LinkView>, began: Timestamp) -> Timestamp {
    let told = link.filter(|link| !link.up).and_then(|link| link.down_for_s).and_then(|s| u64::try_from(s).ok());
    last_up.unwrap_or_else(|| began.before(Duration::from_secs(told.unwrap_or(0))))
}

/// Looks by hand: the first has nothing to remember, the next has that one.
#[derive(Default)]
pub struct ByHand(Memory);

impl ByHand {
    pub fn judge(&mut self, evidence: &mut Evidence) -> Diagnosis {
        self.0.before_judging(evidence);
        evidence.trend = self.0.trend();
        let diagnosis = diagnose(evidence);
        if !matches!(diagnosis, Diagnosis::Healthy(_)) {
            self.0.fault_seen(evidence);
        }
        diagnosis
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::world::{Bend, PRIMARY, T0, blank, healthy};
    use crate::model::evidence::LinkState;

    #[test]
    fn a_primary_fell_silent_when_it_was_asked_and_not_when_the_look_began() {
        let asked = Timestamp::from_millis(5_000);
        let probe = |connect: Connect| Probe { connect, at: asked, took_us: 1_000_000, ..blank(PRIMARY) };
        assert_eq!(fell_silent(&probe(Connect::TimedOut)), asked.after(Duration::from_millis(250)));
        for taken in [Connect::Open, Connect::HelloUnanswered] {
            assert_eq!(fell_silent(&probe(taken)), asked.after(Duration::from_secs(1)), "it took the connection");
        }
    }

    #[test]
    fn what_a_primary_counted_is_counted_from_once_the_link_was_up_after_it() {
        let look = |ms: u64, refused: u64| {
            let mut e = healthy();
            let at = T0.after(Duration::from_millis(ms));
            (e.began, e.server().at) = (at, at);
            (e.source().at, e.source().sync_partial_err) = (at.after(Duration::from_millis(3)), refused);
            e.ended = at.after(Duration::from_millis(5));
            e
        };
        let broken = |polled_up_ms: u64| {
            let mut e = look(3_000, 1);
            e.break_link(LinkState::Sync);
            e.trend.last_up = Some(T0.after(Duration::from_millis(polled_up_ms)));
            e
        };
        let counts_from = |looks: &[Evidence]| {
            let mut memory = Memory::default();
            looks.iter().for_each(|e| memory.before_judging(e));
            memory.trend().sync_partial_err
        };
        let torn = || [look(0, 0), look(2_000, 1)];
        assert_eq!(counts_from(&[torn().as_slice(), &[broken(2_000)]].concat()), Some(0), "broken under the look");
        assert_eq!(counts_from(&[torn().as_slice(), &[broken(2_003)]].concat()), Some(1), "up after it");
        assert_eq!(counts_from(&[torn().as_slice(), &[look(2_500, 1), broken(2_000)]].concat()), Some(1));
        assert_eq!(counts_from(&[look(0, 1), broken(0)]), None, "nothing is known from before");
        let anew = [look(0, 0), look(2_000, 1), broken(2_000), look(4_000, 1), look(5_000, 1)];
        assert_eq!(counts_from(&anew), Some(1), "whole again");
        let mut promoted = broken(2_500);
        promoted.source().run_id = "run-other".into();
        assert_eq!(counts_from(&[look(0, 0), look(2_000, 0), promoted]), None, "another process has counted that");
    }

    #[test]
    fn a_link_that_was_whole_at_offset_zero_is_known_to_have_stood_there() {
        let stood = |whole: i64, broken: i64| {
            let mut memory = Memory::default();
            let mut e = healthy();
            e.link().offset = whole;
            memory.before_judging(&e);
            e.break_link(LinkState::Handshake);
            e.link().offset = broken;
            memory.before_judging(&e);
            memory.trend().offset
        };
        assert_eq!(stood(0, 0), Some(0), "a primary that has just begun (Redis 8.2.3)");
        assert_eq!(stood(0, 1), Some(0), "1 is what is told of no link at all");
        assert_eq!(stood(0, 14), Some(14), "the kept link had come further");
        assert_eq!(stood(5_000, 1), Some(5_000));
        assert_eq!(stood(-1, 1), None, "SYNC tells no offset");
    }

    #[test]
    fn since_when_we_are_let_in_begins_anew_with_each_refusal_each_target_and_each_whole_link() {
        let mut memory = Memory::default();
        let mut let_in = |s: u64, bend: &dyn Fn(&mut Evidence)| {
            let mut e = healthy();
            e.break_link(LinkState::Connect);
            bend(&mut e);
            e.shift(T0.after(Duration::from_secs(s)));
            memory.before_judging(&e);
            memory.trend().let_in.map(|at| at.since(T0).as_secs())
        };
        assert_eq!((let_in(10, &|_| ()), let_in(20, &|_| ())), (Some(10), Some(10)), "not before the first of them");
        let refused = |e: &mut Evidence| _ = e.reject_password();
        assert_eq!((let_in(30, &refused), let_in(40, &|_| ())), (None, Some(40)));
        assert_eq!(let_in(50, &|e| e.probe().target = Endpoint::new("10.0.0.99", 6379)), Some(50));
        assert_eq!((let_in(60, &|e| e.link().up = true), let_in(70, &|_| ())), (None, Some(70)));
    }

    #[test]
    fn a_disagreement_begins_anew_with_a_sentinel_that_took_up_its_primary_since_the_last_look() {
        let look = |s: u64, role_reported_ms: u64| {
            let mut e = healthy();
            let at = T0.after(Duration::from_secs(s));
            (e.began, e.ended) = (at, at);
            let Reading::Seen(says) = &mut e.sentinels[1].says else { panic!() };
            (says.primary, says.primary_run_id) = (Endpoint::new("10.0.0.99", 6379), "other".into());
            says.role_reported_ms = role_reported_ms;
            e.each_sentinel(|says| says.at = at);
            e
        };
        let mut memory = Memory::default();
        let mut since = |e: &Evidence| {
            memory.before_judging(e);
            memory.trend().disagree_since
        };
        let at = |s: u64| Some(T0.after(Duration::from_secs(s)));
        assert_eq!(since(&look(0, 3_600_000)), at(0));
        assert_eq!(since(&look(40, 3_640_000)), at(0), "it lasts");
        assert_eq!(since(&look(70, 1_000)), at(70), "the two had agreed in between, unseen");
        assert_eq!(since(&look(75, 6_000)), at(70));
        assert_eq!(since(&look(95, 0)), at(70), "it tells no age: its clock was set back");
        assert_eq!(since(&look(115, 0)), at(70));
    }

    #[test]
    fn a_break_before_our_start_is_dated_by_what_the_replica_tells() {
        let began = Timestamp::from_millis(100_000);
        let link = |down_for_s: Option<i64>| LinkView {
            primary: Endpoint::new("10.0.0.1", 6379),
            state: LinkState::Connect,
            up: down_for_s.is_none(),
            down_for_s,
            last_io_s: -1,
            syncing: false,
            sync_read: 0,
            sync_total: 0,
            sync_last_io_s: -1,
            offset: 0,
        };
        assert_eq!(broke_at(None, Some(&link(Some(25))), began), Timestamp::from_millis(75_000));
        assert_eq!(broke_at(Some(Timestamp(7)), Some(&link(Some(25))), began), Timestamp(7), "what we saw is closer");
        for nothing_told in [Some(link(Some(-1))), Some(link(None)), None] {
            assert_eq!(broke_at(None, nothing_told.as_ref(), began), began);
        }
    }
}
