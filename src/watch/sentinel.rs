//! The subscription to one Sentinel: what it publishes, and whether it still speaks.
//!
//! A Sentinel publishes its own view only, once, to whoever listens (sentinel.c, sentinelEvent): nothing is repeated,
//! so a subscription that broke may have missed anything, and its coming up is a wake-up like any event. A frozen
//! Sentinel keeps its sockets open; it is asked with PING.
//!
//! A Sentinel's ACL can grant single channels only. `PSUBSCRIBE *` is tried first, then all known channels at once, and
//! then each by itself, so that what is granted is heard.
//!
//! Not here: what the Sentinels say when asked (`collect`).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::model::event::{SentinelEvent, Wake, Why};
use crate::model::{Address, Endpoint, Timestamp};
use crate::wire::{Dial, Reader, Subscription, WireError};

use super::{REFUSED, knock, locked};

mod event;

pub use event::{KNOWN, parse_event};

/// Events that are not on the list are counted together under this name, so that the board stays bounded.
pub const OTHER: &str = "other";

/// How patient a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A silent Sentinel is asked this often, and has so long to answer.
    pub ping_every: Duration,
    pub answer: Duration,
    /// The pauses between attempts: doubled each time, from the first up to the second, and spread by a fifth.
    pub away: (Duration, Duration),
    /// The pause after a login was refused.
    pub refused: Duration,
    /// A subscription that stood for so long was a good one: the next pause is short again.
    pub settled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            ping_every: Duration::from_secs(2),
            answer: Duration::from_secs(2),
            away: (Duration::from_millis(250), Duration::from_secs(5)),
            refused: REFUSED,
            settled: Duration::from_secs(10),
        }
    }
}

/// The subscriptions of one group, for the daemon to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentinelBoard {
    pub links: BTreeMap<Endpoint, SentinelLink>,
}

/// One subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentinelLink {
    /// Since when it has stood; none while it does not.
    pub up_since: Option<Timestamp>,
    /// Whether it carries tries and votes: an ACL may grant fewer channels.
    pub tells_tries: bool,
    /// Why it last broke or could not be made.
    pub trouble: Option<String>,
    /// Events of the group, and those of no group, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// When the last of them came.
    pub last_event: Option<Timestamp>,
    /// When it told that it begins a failover of the group: the first and the last of what came at once, newest last.
    pub tries: VecDeque<(Timestamp, Timestamp)>,
    /// Its votes for others' failovers: whom it votes for and in which epoch, of whatever group.
    pub votes: VecDeque<(String, Timestamp)>,
    /// Its votes for its own failovers of other groups.
    pub foreign: VecDeque<String>,
}

/// How many tries of one Sentinel are remembered. They are minutes apart.
const TRIES: usize = 4;
/// And of its votes, of all groups.
const VOTES: usize = 64;
/// What comes so soon after each other belongs together, for so long at most.
const AT_ONCE: Duration = Duration::from_secs(1);
const BURST: Duration = Duration::from_secs(5);
/// For longer no failover of a Sentinel's own runs: each of three parts may take a failover-timeout (Redis 7.0.15,
/// sentinelFailoverStateMachine), which is three minutes by default.
const RUNS: Duration = Duration::from_secs(3_600);
/// The channels that tell that a Sentinel begins a failover, or votes for one.
const TELLING: [&str; 2] = ["+try-failover", "+vote-for-leader"];

/// Takes one more, and lets the oldest go.
fn remember<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    all.push_back(one);
    let surplus = all.len().saturating_sub(most);
    all.drain(..surplus);
}

impl SentinelLink {
    fn note_try(&mut self, now: Timestamp) {
        match self.tries.back_mut() {
            Some((first, last)) if now.since(*last) < AT_ONCE && now.since(*first) < BURST => *last = now,
            _ => remember(&mut self.tries, (now, now), TRIES),
        }
    }
}

impl SentinelBoard {
    /// How many subscriptions stand.
    pub fn connected(&self) -> usize {
        self.links.values().filter(|link| link.up_since.is_some()).count()
    }

    /// When Sentinels were heard to begin a failover of the group, or to vote for one that was not heard to be of another
    /// group. Kept here and not in the wake-ups, which are dropped where several wait.
    pub fn tries(&self) -> Vec<(Timestamp, Timestamp)> {
        // A Sentinel asks for votes for all its failovers in the newest epoch it knows, again each second (Redis 8.0.6 and
        // Valkey 9.1.2, sentinelAskMasterStateToOtherSentinels): one that may run ours as well gets votes for it in the
        // epoch of another group's.
        let struck = |vote: &String| self.links.values().any(|link| link.foreign.contains(vote));
        let (told, odd): (Vec<_>, Vec<_>) =
            self.links.values().flat_map(|link| &link.votes).partition(|(vote, _)| !struck(vote));
        let lately = |before: Timestamp, at: Timestamp| before <= at && at.since(before) < RUNS;
        let leader = |vote: &str| vote.split(' ').next().map(str::to_owned);
        let ours = |(vote, at): &&(String, Timestamp)| {
            let tried = |link: &SentinelLink| {
                link.foreign.contains(vote) && link.tries.iter().any(|(first, _)| lately(*first, *at))
            };
            self.links.values().any(tried)
                || told.iter().any(|(other, then)| lately(*then, *at) && leader(other) == leader(vote))
        };
        let votes = told.iter().copied().chain(odd.into_iter().filter(ours));
        let tries = self.links.values().flat_map(|link| link.tries.iter().copied());
        let mut all: Vec<_> = tries.chain(votes.map(|(_, at)| (*at, *at))).collect();
        all.sort();
        all
    }

    /// Since when each Sentinel has been heard without a gap, of those that let their tries and votes be heard.
    pub fn heard_since(&self) -> BTreeMap<String, Timestamp> {
        let up = |(sentinel, link): (&Endpoint, &SentinelLink)| {
            Some((sentinel.to_string(), link.up_since.filter(|_| link.tells_tries)?))
        };
        self.links.iter().filter_map(up).collect()
    }
}

/// Listens for ever: keeps the board, and wakes for each event of the group and for each change of the connection.
pub async fn listen<C>(
    dial: Dial,
    group: String,
    pace: Pace,
    board: Arc<Mutex<SentinelBoard>>,
    wake: Sender<Wake>,
    clock: C,
) -> Infallible
where
    C: Fn() -> Timestamp + Clone,
{
    let sentinel = match &dial.address {
        Address::Tcp(endpoint) => endpoint.clone(),
        Address::Unix(path) => Endpoint::new(path.display().to_string(), 0),
    };
    locked(&board).links.entry(sentinel.clone()).or_default();
    let granted = Granted::Everything;
    let mut ear = Ear { dial, sentinel, group, pace, granted, epoch: None, own_vote: None, board, wake, clock };
    let mut pause = pace.away.0;
    let mut told = None;
    loop {
        let why = match ear.subscribe().await {
            Ok(mut subscription) => {
                let began = Instant::now();
                ear.link(None, &mut told);
                let why = ear.hear(&mut subscription).await;
                if began.elapsed() >= pace.settled {
                    pause = pace.away.0;
                }
                why
            }
            Err(why) => why,
        };
        let wait = if why.is_refused_login() { ear.pace.refused } else { pause };
        ear.link(Some(why), &mut told);
        tokio::time::sleep(spread(wait, (ear.clock)())).await;
        pause = (pause * 2).min(pace.away.1);
    }
}

/// Which channels this Sentinel lets us hear, as far as we know.
enum Granted {
    Everything,
    Known,
    Only(Vec<&'static str>),
}

struct Ear<C> {
    dial: Dial,
    sentinel: Endpoint,
    group: String,
    pace: Pace,
    granted: Granted,
    /// The newest epoch that it has told.
    epoch: Option<String>,
    /// It has begun a failover, of this group or of another, and its vote for itself in this epoch is still to come.
    own_vote: Option<(bool, String)>,
    board: Arc<Mutex<SentinelBoard>>,
    wake: Sender<Wake>,
    clock: C,
}

impl<C: Fn() -> Timestamp> Ear<C> {
    /// Subscribes to the most that is granted. A login that is refused is an error like any other; a channel that is
    /// refused leads to the next smaller wish.
    async fn subscribe(&mut self) -> Result<Subscription, WireError> {
        loop {
            let within = self.pace.answer;
            let reader = Reader::connect(&self.dial, within).await?;
            let subscription = match &self.granted {
                Granted::Everything => reader.psubscribe(&["*"], within).await,
                Granted::Known => reader.subscribe(KNOWN, within).await,
                Granted::Only(channels) => reader.subscribe(channels, within).await,
            };
            match (subscription, &self.granted) {
                (Err(WireError::Denied { code, .. }), Granted::Everything) if code == "NOPERM" => {
                    self.granted = Granted::Known;
                }
                (Err(WireError::Denied { code, .. }), Granted::Known) if code == "NOPERM" => {
                    self.granted = Granted::Only(self.granted_one_by_one().await?);
                }
                (Err(error @ WireError::Denied { .. }), Granted::Only(_)) => {
                    // The ACL has changed since; begin anew next time.
                    self.granted = Granted::Everything;
                    return Err(error);
                }
                (subscription, _) => return subscription,
            }
        }
    }

    async fn granted_one_by_one(&self) -> Result<Vec<&'static str>, WireError> {
        let mut granted = Vec::new();
        let mut refusal = None;
        for channel in KNOWN {
            let reader = Reader::connect(&self.dial, self.pace.answer).await?;
            match reader.subscribe(&[channel], self.pace.answer).await {
                Ok(_) => granted.push(*channel),
                Err(error @ WireError::Denied { .. }) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(error) if granted.is_empty() => Err(error),
            _ => Ok(granted),
        }
    }

    /// Takes events until the subscription breaks; why it did.
    async fn hear(&mut self, subscription: &mut Subscription) -> WireError {
        (self.epoch, self.own_vote) = (None, None);
        loop {
            match subscription.next(self.pace.ping_every, self.pace.answer).await {
                Ok((channel, payload)) => self.heard(parse_event(&self.sentinel, &channel, &payload)),
                Err(error) => return error,
            }
        }
    }

    fn heard(&mut self, event: SentinelEvent) {
        if event.name.starts_with("__") {
            return;
        }
        let of_another = event.group.as_ref().is_some_and(|group| *group != self.group);
        match event.name.as_str() {
            "+new-epoch" => self.epoch = Some(event.text.clone()),
            // Its epoch was told just before (Redis 7.0.15, sentinelStartFailover).
            "+try-failover" => self.own_vote = self.epoch.clone().map(|epoch| (!of_another, epoch)),
            _ => {}
        }
        // Events that name no group are few, and tell of TILT or of a failover that begins.
        if of_another {
            return;
        }
        let vote = event.name == "+vote-for-leader";
        let own = self.own_vote.take_if(|(_, epoch)| vote && event.text.rsplit(' ').next() == Some(epoch.as_str()));
        let own = own.map(|(ours, _)| ours);
        let now = (self.clock)();
        if let Some(link) = locked(&self.board).links.get_mut(&self.sentinel) {
            let name = KNOWN.iter().find(|known| **known == event.name).copied().unwrap_or(OTHER);
            let count = link.events.entry(name).or_default();
            *count = count.saturating_add(1);
            link.last_event = Some(now);
            // A vote names whom it is for and the epoch, and no group. Whoever begins votes for itself within a tick (Redis
            // 7.0.15, sentinelStartFailover, sentinelGetLeader), so by that one all votes for the same are known. Where TILT
            // or another's epoch comes between there is none, and it has another epoch.
            match (event.name.as_str(), own) {
                ("+try-failover", _) => link.note_try(now),
                ("+vote-for-leader", Some(false)) => remember(&mut link.foreign, event.text.clone(), VOTES),
                ("+vote-for-leader", None) => remember(&mut link.votes, (event.text.clone(), now), VOTES),
                _ => {}
            }
        }
        knock(&self.wake, now, Why::Sentinel(event));
    }

    /// Notes that the subscription stands, or why it does not, and wakes when that is a change.
    fn link(&self, trouble: Option<WireError>, told: &mut Option<bool>) {
        let (now, up) = ((self.clock)(), trouble.is_none());
        if let Some(link) = locked(&self.board).links.get_mut(&self.sentinel) {
            link.up_since = up.then_some(now);
            link.tells_tries = match &self.granted {
                Granted::Everything | Granted::Known => true,
                Granted::Only(channels) => TELLING.iter().all(|channel| channels.contains(channel)),
            };
            link.trouble = trouble.map(|error| said(&error)).or(link.trouble.take());
        }
        if told.replace(up) != Some(up) {
            knock(&self.wake, now, Why::SentinelLink { sentinel: self.sentinel.clone(), up });
        }
    }
}

fn said(error: &WireError) -> String {
    match error {
        WireError::Denied { code, .. } if code == "NOPERM" => {
            format!("{error}; grant the agent's user +ping +subscribe +psubscribe and the channels, as in allchannels")
        }
        error => error.to_string(),
    }
}

/// A pause made longer or shorter by up to a fifth, so that agents cut off together do not come back together. The
/// clock's microseconds are random enough for that.
fn spread(pause: Duration, now: Timestamp) -> Duration {
    let share = u32::try_from(now.0.rem_euclid(401)).unwrap_or(200);
    pause * (800 + share) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_by_a_fifth() {
        let second = Duration::from_secs(1);
        let spreads: Vec<u128> = (0..1000).map(|us| spread(second, Timestamp(us)).as_millis()).collect();
        assert_eq!((spreads.iter().min(), spreads.iter().max()), (Some(&800), Some(&1200)));
    }

    fn ear<C>(sentinel: &Endpoint, board: &Arc<Mutex<SentinelBoard>>, wake: Sender<Wake>, clock: C) -> Ear<C> {
        Ear {
            dial: Dial::plain(sentinel.clone()),
            sentinel: sentinel.clone(),
            group: "mine".to_owned(),
            pace: Pace::default(),
            granted: Granted::Everything,
            epoch: None,
            own_vote: None,
            board: board.clone(),
            wake,
            clock,
        }
    }

    #[test]
    fn only_events_of_the_group_or_of_none_wake_and_count() {
        let (wake, mut woken) = tokio::sync::mpsc::channel(8);
        let sentinel = Endpoint::new("127.0.0.1", 26379);
        let board: Arc<Mutex<SentinelBoard>> = Arc::default();
        locked(&board).links.entry(sentinel.clone()).or_default();
        let mut ear = ear(&sentinel, &board, wake, || Timestamp(7));
        for (channel, payload) in [
            ("+sdown", "master mine 127.0.0.1 6379"),
            ("+sdown", "master other 127.0.0.1 6379"),
            ("+tilt", "#tilt mode entered"),
            ("+brand-new", "master mine 127.0.0.1 6379"),
            ("__sentinel__:hello", "127.0.0.1,26379,id,1,mine,127.0.0.1,6379,1"),
        ] {
            ear.heard(parse_event(&sentinel, channel, payload));
        }
        let names: Vec<String> = std::iter::from_fn(|| woken.try_recv().ok())
            .map(|wake| match wake.why {
                Why::Sentinel(event) => event.name,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["+sdown", "+tilt", "+brand-new"]);
        let link = locked(&board).links[&sentinel].clone();
        assert_eq!(link.events, BTreeMap::from([("+sdown", 1), ("+tilt", 1), (OTHER, 1)]));
        assert_eq!(link.last_event, Some(Timestamp(7)));
    }

    /// However many wake-ups are lost in the burst.
    #[test]
    fn a_try_and_a_vote_for_one_stay_on_the_board() {
        let (wake, _full) = tokio::sync::mpsc::channel(1);
        let sentinel = Endpoint::new("127.0.0.1", 26379);
        let board: Arc<Mutex<SentinelBoard>> = Arc::default();
        locked(&board).links.entry(sentinel.clone()).or_default();
        let clock = std::cell::Cell::new(0_i64);
        let mut ear = ear(&sentinel, &board, wake, || Timestamp(clock.get()));
        for (channel, payload) in [
            ("+odown", "master mine 127.0.0.1 6379 #quorum 2/2"),
            ("+new-epoch", "7"),
            ("+try-failover", "master mine 127.0.0.1 6379"),
            ("+vote-for-leader", "4f6e 7"),
            ("+new-epoch", "9"),
            ("+vote-for-leader", "5a7b 9"),
            ("+vote-for-leader", "99cc 10"),
        ] {
            clock.set(clock.get() + 1_000_000);
            ear.heard(parse_event(&sentinel, channel, payload));
        }
        let seconds = |s: i64| (Timestamp(s * 1_000_000), Timestamp(s * 1_000_000));
        assert_eq!(locked(&board).tries(), [seconds(3), seconds(6), seconds(7)]);
        // Whom it voted for last tells that this was for another group: that one's vote for itself follows on its try.
        ear.sentinel = Endpoint::new("127.0.0.2", 26379);
        locked(&board).links.entry(ear.sentinel.clone()).or_default();
        for (channel, payload) in [
            ("+new-epoch", "10"),
            ("+try-failover", "master other 127.0.0.1 6380"),
            ("+sdown", "master x 127.0.0.1 1"),
            ("+vote-for-leader", "99cc 10"),
        ] {
            ear.heard(parse_event(&sentinel, channel, payload));
        }
        assert_eq!(locked(&board).tries(), [seconds(3), seconds(6)]);
        ear.sentinel = sentinel.clone();
        clock.set(12_000_000);
        for _ in 0..10 {
            clock.set(clock.get() + 400_000);
            ear.heard(parse_event(&sentinel, "+try-failover", "master mine 127.0.0.1 6379"));
        }
        let tries = locked(&board).tries();
        assert_eq!(tries[2], (Timestamp(12_400_000), Timestamp(16_000_000)), "they came at once");
        for _ in 0..10 {
            clock.set(clock.get() + 2_000_000);
            ear.heard(parse_event(&sentinel, "+try-failover", "master mine 127.0.0.1 6379"));
        }
        assert_eq!(locked(&board).tries().len(), TRIES + 1, "and a vote");
    }

    /// One Sentinel runs ours while it begins another group's, in whose epoch it asks for votes for ours again; another's vote
    /// for itself never came, and the next epoch is not its.
    #[test]
    fn a_vote_in_anothers_epoch_may_be_for_ours() {
        let (wake, _full) = tokio::sync::mpsc::channel(1);
        let (a, b) = (Endpoint::new("127.0.0.1", 26379), Endpoint::new("127.0.0.2", 26379));
        let hear = |begun: i64, to_a: &[(i64, &str)], to_b: &[(&str, &str)]| {
            let board: Arc<Mutex<SentinelBoard>> = Arc::default();
            let clock = std::cell::Cell::new(begun);
            for sentinel in [&a, &b] {
                locked(&board).links.entry(sentinel.clone()).or_default();
            }
            let mut ear_b = ear(&b, &board, wake.clone(), || Timestamp(clock.get() * 1_000_000));
            for (channel, payload) in to_b {
                ear_b.heard(parse_event(&b, channel, payload));
                clock.set(clock.get() + 50);
            }
            for (at, vote) in to_a {
                let mut ear_a = ear(&a, &board, wake.clone(), || Timestamp(at * 1_000_000));
                ear_a.heard(parse_event(&a, "+vote-for-leader", vote));
            }
            let tries = locked(&board).tries();
            tries.into_iter().map(|(from, _)| from.0 / 1_000_000).collect::<Vec<_>>()
        };
        let begins = |group: &'static str, epoch: &'static str, vote: &'static str| {
            [("+new-epoch", epoch), ("+try-failover", group), ("+vote-for-leader", vote)]
        };
        let ours = begins("master mine 127.0.0.1 6379", "9", "5a7b 9");
        let others = begins("master other 127.0.0.1 6380", "10", "5a7b 10");
        let both: Vec<_> = ours.into_iter().chain(others).collect();
        assert_eq!(hear(0, &[(1, "5a7b 9"), (251, "5a7b 10")], &both), [1, 50, 251]);
        assert_eq!(hear(0, &[(251, "5a7b 10")], &others), [] as [i64; 0], "another group's alone");
        // Its own vote is missing, and it votes for another.
        let overtaken = [others[0], others[1], ("+vote-for-leader", "4f6e 11")];
        assert_eq!(hear(0, &[(101, "4f6e 11")], &overtaken), [100, 101]);
    }

    #[test]
    fn each_change_of_the_link_wakes_once() {
        let (wake, mut woken) = tokio::sync::mpsc::channel(8);
        let sentinel = Endpoint::new("127.0.0.1", 26379);
        let board: Arc<Mutex<SentinelBoard>> = Arc::default();
        locked(&board).links.entry(sentinel.clone()).or_default();
        let mut ear = ear(&sentinel, &board, wake, || Timestamp(7));
        let mut told = None;
        for trouble in [Some(WireError::Refused), Some(WireError::TimedOut), None, None, Some(WireError::Closed)] {
            ear.link(trouble, &mut told);
        }
        let ups: Vec<bool> = std::iter::from_fn(|| woken.try_recv().ok())
            .map(|wake| matches!(wake.why, Why::SentinelLink { up: true, .. }))
            .collect();
        assert_eq!(ups, [false, true, false]);
        for (granted, tells) in [
            (Granted::Known, true),
            (Granted::Only(vec!["+sdown", "+switch-master"]), false),
            (Granted::Only(vec!["+vote-for-leader", "+try-failover"]), true),
        ] {
            ear.granted = granted;
            ear.link(None, &mut told);
            assert_eq!(locked(&board).heard_since().len(), usize::from(tells));
            ear.link(Some(WireError::Closed), &mut told);
            assert!(locked(&board).heard_since().is_empty(), "it does not stand");
        }
        let board = locked(&board);
        assert_eq!(board.connected(), 0);
        assert!(board.links.values().all(|link| link.trouble.as_deref() == Some("connection closed by the peer")));
    }
}
