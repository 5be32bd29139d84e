//! A forced failover beside a Sentinel's own: three Sentinels with epochs, votes and views of their own, one request, and
//! the moment in which one of them tries again by itself, seen from the agent or not. When may the request be made?
//!
//! A try, own or forced, takes the next epoch of whoever begins it. Others learn of it when they are asked for their vote,
//! which wins an own try its election, and for a forced one is news only: it is asked for up to `news` ticks later
//! (Redis 7.0.15, sentinelAskMasterStateToOtherSentinels). The promoted replica's address spreads by hello messages over
//! the data nodes: an epoch overrides lower ones only, and who takes a new address gives up what it has begun
//! (sentinelProcessHelloMessage, sentinelResetMaster).

use stateright::{Checker, HasDiscoveries, Model, Property};

const SENTINELS: usize = 3;

/// How late things may be, in ticks.
const REQUEST: u8 = 1;
const NEWS: u8 = 1;
const DESYNC: u8 = 1;
const ELECTION: u8 = 1;
const PROMOTION: u8 = 1;
const SIGHT: u8 = 1;

struct Day {
    /// No request within so many ticks before a Sentinel's own try may begin, and after it has to have begun. None: the
    /// agent keeps no distance.
    apart: Option<(u8, u8)>,
    /// Which replica each Sentinel would promote.
    views: [u8; SENTINELS],
    /// When each may try by itself: one that did not vote for the others' last try goes on by an earlier one.
    due: [u8; SENTINELS],
    /// The agent goes by this one's schedule alone, as if a try had moved it for all. None: by each one's.
    by: Option<usize>,
    /// The agent does not hear this one.
    deaf: Option<usize>,
    /// Two Sentinels that do not hear each other. Hello messages come through the data nodes.
    cut: Option<(usize, usize)>,
    ticks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Try {
    epoch: u8,
    forced: bool,
    age: u8,
    /// Who has heard of it, and who has voted for it: one bit each.
    told: u8,
    votes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sentinel {
    epoch: u8,
    /// The epoch in which it last voted.
    voted: u8,
    /// It has tried or voted, and waits for far longer than the day.
    waits: bool,
    tries: Option<Try>,
    /// The replica that it names, and with which epoch; 0 is the old primary.
    named: (u8, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    tick: u8,
    sentinels: [Sentinel; SENTINELS],
    asked: bool,
    /// A request to this Sentinel, so many ticks old.
    request: Option<(u8, u8)>,
    /// The replica, the epoch, how long ago.
    promoted: Vec<(u8, u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Tick,
    Ask(usize),
    Arrive,
    Begin(usize),
    Vote(usize, usize),
    GiveUp(usize),
    Promote(usize),
    Hello(usize, usize),
}

impl Day {
    fn may_ask(&self, state: &State) -> bool {
        let heard = || (0..SENTINELS).filter(|s| self.deaf != Some(*s)).map(|s| &state.sentinels[s]);
        let calm = heard().all(|one| one.tries.is_none() && one.named.1 == 0);
        // A majority of the Sentinels reads the promoted replica within `SIGHT`.
        let seen = state.promoted.iter().any(|(_, _, age)| *age >= SIGHT);
        let kept = |s: usize| self.by.is_none_or(|by| by == s);
        let apart = self.apart.is_none_or(|(before, after)| {
            let clear = |due: u8| state.tick + before < due || state.tick >= due + DESYNC + after;
            (0..SENTINELS).filter(|s| kept(*s)).all(|s| clear(self.due[s]))
        });
        !state.asked && calm && !seen && apart
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        a != b && self.cut != Some((a, b)) && self.cut != Some((b, a))
    }

    /// Whom it has still to ask for a vote.
    fn untold<'a>(&'a self, state: &'a State, s: usize) -> impl Iterator<Item = usize> + 'a {
        let told = state.sentinels[s].tries.map_or(u8::MAX, |one| one.told);
        (0..SENTINELS).filter(move |other| self.hears(s, *other) && told & (1 << other) == 0)
    }

    fn hello(state: &State, from: usize, to: usize) -> bool {
        from != to && state.sentinels[from].named.1 > state.sentinels[to].named.1
    }

    /// What has to happen before time goes on.
    fn is_due(&self, state: &State) -> bool {
        let late = |s: usize| {
            let one = &state.sentinels[s];
            let untold = self.untold(state, s).next().is_some();
            one.tries.is_some_and(|it| match it.forced {
                true => it.age >= PROMOTION || (it.age >= NEWS && untold),
                // Votes are asked for at once.
                false => untold || it.age >= ELECTION + PROMOTION,
            })
        };
        let owed = |s: usize| {
            let one = &state.sentinels[s];
            state.tick >= self.due[s] + DESYNC && !one.waits && one.tries.is_none() && one.named.1 == 0
        };
        let news = state.promoted.iter().any(|(_, _, age)| *age >= SIGHT)
            && (0..SENTINELS).any(|from| (0..SENTINELS).any(|to| Day::hello(state, from, to)));
        let arriving = state.request.is_some_and(|(_, age)| age >= REQUEST);
        arriving || news || (0..SENTINELS).any(|s| late(s) || owed(s))
    }

    /// Half of them and one more, itself counted; nobody asks a forced one.
    fn elected(one: &Sentinel) -> bool {
        one.tries.is_some_and(|it| it.forced || it.votes.count_ones() * 2 > SENTINELS as u32)
    }
}

impl Model for Day {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let calm = Sentinel { epoch: 1, voted: 1, waits: false, tries: None, named: (0, 0) };
        vec![State { tick: 0, sentinels: [calm; SENTINELS], asked: false, request: None, promoted: Vec::new() }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        if state.tick >= self.ticks || displaced(state) {
            return;
        }
        acts.extend((!self.is_due(state)).then_some(Act::Tick));
        if self.may_ask(state) {
            acts.extend((0..SENTINELS).filter(|s| self.deaf != Some(*s)).map(Act::Ask));
        }
        acts.extend(state.request.map(|_| Act::Arrive));
        for s in 0..SENTINELS {
            let one = &state.sentinels[s];
            if state.tick >= self.due[s] && !one.waits && one.tries.is_none() && one.named.1 == 0 {
                acts.push(Act::Begin(s));
            }
            acts.extend(self.untold(state, s).map(|other| Act::Vote(s, other)));
            acts.extend(Day::elected(one).then_some(Act::Promote(s)));
            let lost = one.tries.is_some_and(|it| !it.forced && it.age >= ELECTION) && !Day::elected(one);
            acts.extend(lost.then_some(Act::GiveUp(s)));
            acts.extend((0..SENTINELS).filter(|to| Day::hello(state, s, *to)).map(|to| Act::Hello(s, to)));
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut state = last.clone();
        match act {
            Act::Tick => {
                state.tick += 1;
                state.request = state.request.map(|(to, age)| (to, age + 1));
                for one in &mut state.sentinels {
                    one.tries = one.tries.map(|it| Try { age: it.age + 1, ..it });
                }
                for promoted in &mut state.promoted {
                    promoted.2 = (promoted.2 + 1).min(SIGHT);
                }
            }
            Act::Ask(s) => (state.asked, state.request) = (true, Some((u8::try_from(s).unwrap(), 0))),
            Act::Arrive => {
                let (to, _) = state.request.take()?;
                begin(&mut state.sentinels[usize::from(to)], to.into(), true);
            }
            Act::Begin(s) => begin(&mut state.sentinels[s], s, false),
            Act::Vote(from, to) => {
                let it = state.sentinels[from].tries?;
                let other = &mut state.sentinels[to];
                other.epoch = other.epoch.max(it.epoch);
                // What it votes for need not be down for itself.
                let votes = other.voted < it.epoch && other.epoch <= it.epoch;
                if votes {
                    (other.voted, other.waits) = (it.epoch, true);
                }
                let (bit, it) = (1 << to, state.sentinels[from].tries.as_mut()?);
                (it.told, it.votes) = (it.told | bit, it.votes | if votes { bit } else { 0 });
            }
            Act::GiveUp(s) => state.sentinels[s].tries = None,
            Act::Promote(s) => {
                let it = state.sentinels[s].tries.take()?;
                state.promoted.push((self.views[s], it.epoch, 0));
                state.sentinels[s].named = (self.views[s], it.epoch);
            }
            Act::Hello(from, to) => {
                let named = state.sentinels[from].named;
                let other = &mut state.sentinels[to];
                (other.named, other.tries, other.epoch) = (named, None, other.epoch.max(named.1));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Day>> {
        vec![
            Property::always(ONE_EPOCH, |_, state: &State| !split(state)),
            Property::always(ONE_PRIMARY, |_, state: &State| !displaced(state)),
            Property::sometimes(AT_ALL, |_, state: &State| state.request.is_some()),
        ]
    }
}

fn begin(one: &mut Sentinel, s: usize, forced: bool) {
    // INPROG.
    if one.tries.is_some() {
        return;
    }
    one.epoch += 1;
    let (bit, votes) = (1 << s, one.voted < one.epoch);
    (one.voted, one.waits) = (one.epoch, true);
    one.tries = Some(Try { epoch: one.epoch, forced, age: 0, told: bit, votes: if votes { bit } else { 0 } });
}

fn two(state: &State, fits: impl Fn(u8, u8) -> bool) -> bool {
    let all = &state.promoted;
    all.iter().any(|(replica, epoch, _)| all.iter().any(|(other, its, _)| replica != other && fits(*epoch, *its)))
}

fn split(state: &State) -> bool {
    two(state, |epoch, other| epoch == other)
}

fn displaced(state: &State) -> bool {
    two(state, |_, _| true)
}

const ONE_EPOCH: &str = "never two replicas promoted with one epoch";
const ONE_PRIMARY: &str = "never a second replica promoted";
const AT_ALL: &str = "a request can be made";

/// What has to lie between: before a try as much as before another agent's turn; after it what it takes to show.
const BEFORE: u8 = REQUEST + PROMOTION + SIGHT;
const AFTER: u8 = ELECTION + PROMOTION + SIGHT;

fn day(apart: Option<(u8, u8)>) -> Day {
    let (due, ticks) = ([BEFORE + 1; SENTINELS], BEFORE + DESYNC + AFTER + 4);
    Day { apart, views: [1, 2, 1], due, by: None, deaf: None, cut: None, ticks }
}

fn check(day: Day, property: &'static str) -> Option<Vec<Act>> {
    let checker = day.checker().finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    println!("{property}: {} states", checker.unique_state_count());
    checker.discovery(property).map(|path| path.into_actions())
}

/// Whoever is out of the agent's sight, or of another Sentinel's.
fn weather() -> impl Iterator<Item = (Option<usize>, Option<(usize, usize)>)> {
    let deaf = [None, Some(0), Some(1), Some(2)];
    deaf.into_iter().flat_map(|deaf| [None, Some((0, 1)), Some((0, 2)), Some((1, 2))].map(|cut| (deaf, cut)))
}

fn holds(apart: (u8, u8)) {
    for (deaf, cut) in weather() {
        for property in [ONE_EPOCH, ONE_PRIMARY] {
            let path = check(Day { deaf, cut, ..day(Some(apart)) }, property);
            assert!(path.is_none(), "{apart:?} deaf {deaf:?} cut {cut:?}: {property}: {path:?}");
        }
    }
    assert!(check(day(Some(apart)), AT_ALL).is_some());
}

fn fails(apart: Option<(u8, u8)>, property: &'static str) {
    let found = weather().find_map(|(deaf, cut)| Some((deaf, cut, check(Day { deaf, cut, ..day(apart) }, property)?)));
    println!("{apart:?}: {property}: {found:?}");
    assert!(found.is_some(), "{apart:?}: {property}: nothing was found");
}

#[test]
fn a_request_beside_a_sentinels_own_try_promotes_two_replicas_and_with_one_epoch() {
    fails(None, ONE_EPOCH);
    fails(None, ONE_PRIMARY);
    // Where all of them would promote the same one, it is harmless.
    for (deaf, cut) in weather() {
        assert_eq!(check(Day { views: [1; SENTINELS], deaf, cut, ..day(None) }, ONE_PRIMARY), None);
    }
}

#[test]
fn the_smallest_safe_distance_from_a_sentinels_own_try() {
    holds((BEFORE, AFTER));
    fails(Some((BEFORE - 1, AFTER)), ONE_PRIMARY);
    fails(Some((BEFORE, AFTER - 1)), ONE_PRIMARY);
}

/// A try that moves the schedule of some: by the one that it moved, a request may fall beside the other's.
#[test]
fn each_sentinel_goes_by_the_last_try_that_it_voted_for() {
    let apart = Some((BEFORE, AFTER));
    let moved =
        |by| Day { due: [BEFORE + 1, BEFORE + 4, BEFORE + 4], by, ticks: BEFORE + DESYNC + AFTER + 7, ..day(apart) };
    for (deaf, cut) in weather() {
        assert_eq!(check(Day { deaf, cut, ..moved(None) }, ONE_PRIMARY), None, "deaf {deaf:?} cut {cut:?}");
    }
    assert!(check(moved(None), AT_ALL).is_some());
    let found = weather().find_map(|(deaf, cut)| check(Day { deaf, cut, ..moved(Some(2)) }, ONE_PRIMARY));
    assert!(found.is_some(), "by the later schedule alone, nothing was found");
}
