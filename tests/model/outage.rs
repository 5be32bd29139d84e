//! The outage: what agents, Sentinels and faults may do at each moment.

use relinkd::model::turn::{Seat, Turns};
use stateright::{Model, Property};

pub const SENTINELS: usize = 3;
pub const AGENTS: usize = 3;
pub const MAJORITY: usize = 2;

/// How late news may be, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    pub request: u8,
    pub promotion: u8,
    pub sight: u8,
}

pub const LATE: Late = Late { request: 1, promotion: 1, sight: 1 };

impl Late {
    pub const fn sum(self) -> u8 {
        self.request + self.promotion + self.sight
    }
}

/// The rules that an agent keeps; without one of them the checker has to find a day on which it is missed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Agents have turns at all.
    pub turns: bool,
    /// Everything is read again just before the request.
    pub reread: bool,
    /// A majority of the Sentinels has to be heard, and to give the turn.
    pub majority: bool,
    /// The order of promotion has to have stood for a turn.
    pub standing: bool,
    /// Every replica has to be in sight.
    pub in_sight: bool,
    /// What was read before a request counts until a moment that is fixed before the questions.
    pub bounded: bool,
}

pub const ALL: Rules =
    Rules { turns: true, reread: true, majority: true, standing: true, in_sight: true, bounded: true };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An agent and a Sentinel do not hear each other any more.
    Cut,
    /// A Sentinel does not hear a replica any more.
    Blind,
    /// An agent crashes, and may start again.
    Agent,
    /// A Sentinel crashes, and may start again.
    Sentinel,
    /// A Sentinel changes its mind on who is first.
    Order,
    /// The age by which a Sentinel counts jumps by a turn, either way, as that of unlinked replicas may.
    Jump,
    /// A request is lost.
    Loss,
    /// An agent stands still between its last questions and its request, and goes on at any time.
    Stop,
}

pub struct Day {
    pub late: Late,
    pub rules: Rules,
    pub stagger: u8,
    pub spare: u8,
    /// By how much the Sentinels' ages of o_down differ.
    pub apart: [u8; SENTINELS],
    /// This agent does not hear this Sentinel, from the beginning.
    pub deaf: Option<(usize, usize)>,
    pub faults: &'static [Fault],
    pub budget: u8,
    pub ticks: u8,
    /// An agent that may ask does so at once, and nobody asks too late: for what has to happen in the end.
    pub prompt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sentinel {
    pub up: bool,
    pub agreed_for: u8,
    pub swapped: bool,
    pub order_for: u8,
    /// It took a request so many ticks ago.
    pub running: Option<u8>,
    /// It has read that a replica calls itself a primary.
    pub knows: bool,
}

/// How a Sentinel sees a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    Clear,
    /// Not read for so many ticks.
    Old(u8),
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    pub up: bool,
    pub up_for: u8,
    /// Decided so many ticks ago; without a second look it stays so.
    pub decided: Option<u8>,
    /// A request to this Sentinel, so many ticks old.
    pub sent: Option<(u8, u8)>,
    /// It stands still with what it has read.
    pub still: bool,
    /// Its ledger holds an attempt: it cools down, over any crash.
    pub asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub tick: u8,
    pub sentinels: [Sentinel; SENTINELS],
    pub sight: [[Sight; AGENTS]; SENTINELS],
    pub agents: [Agent; AGENTS],
    pub heard: [[bool; SENTINELS]; AGENTS],
    /// This replica was promoted so many ticks ago.
    pub promoted: Option<(u8, u8)>,
    pub budget: u8,
    pub twice: bool,
    pub minority: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Tick,
    Decide(usize),
    Ask(usize),
    Arrive(usize),
    Promote(usize, usize),
    ComeToNothing(usize),
    Learn(usize),
    Lose(usize),
    Stop(usize),
    Cut(usize, usize),
    Blind(usize, usize),
    CrashAgent(usize),
    StartAgent(usize),
    CrashSentinel(usize),
    StartSentinel(usize),
    Swap(usize),
    Jump(usize, bool),
}

impl Day {
    fn turns(&self) -> Turns {
        Turns { first: self.stagger.into(), stagger: self.stagger.into(), spare: self.spare.into() }
    }

    /// The Sentinels of which an agent would ask the first, if it may ask at all.
    fn may_ask(&self, state: &State, who: usize) -> Option<usize> {
        let agent = &state.agents[who];
        let own_promoted = state.promoted.is_some_and(|(replica, _)| usize::from(replica) == who);
        if !agent.up || agent.asked || own_promoted {
            return None;
        }
        let heard = || (0..SENTINELS).filter(|s| state.heard[who][*s] && state.sentinels[*s].up);
        if heard().any(|s| state.sentinels[s].running.is_some() || state.sentinels[s].knows) {
            return None;
        }
        if self.rules.in_sight && heard().any(|s| state.sight[s].contains(&Sight::Lost)) {
            return None;
        }
        let mut granting = heard().filter(|s| self.grants(&state.sentinels[*s], agent, who));
        let need = if self.rules.majority { MAJORITY } else { 1 };
        let first = granting.next()?;
        (granting.count() + 1 >= need).then_some(first)
    }

    fn grants(&self, sentinel: &Sentinel, agent: &Agent, who: usize) -> bool {
        let rank = if sentinel.swapped { [1, 0, 2][who] } else { who };
        let seat = Seat { rank: u32::try_from(rank).unwrap(), of: AGENTS as u32 };
        let stood = !self.rules.standing || sentinel.order_for.min(agent.up_for) >= self.stagger;
        let agreed = sentinel.agreed_for >= self.stagger;
        agreed && stood && (!self.rules.turns || self.turns().ours(sentinel.agreed_for.into(), seat))
    }

    /// What has to happen before time goes on.
    fn is_due(&self, state: &State) -> bool {
        let late = |a: &Agent| !a.still && a.sent.is_some_and(|(_, age)| age >= self.late.request);
        let arriving = state.agents.iter().any(late);
        let promoting = state.sentinels.iter().any(|s| s.running.is_some_and(|age| age >= self.late.promotion));
        let learning = state.promoted.is_some_and(|(_, age)| age >= self.late.sight)
            && (0..SENTINELS).any(|s| self.may_learn(state, s));
        let asking = self.prompt && (0..AGENTS).any(|who| self.may_ask(state, who).is_some());
        arriving || promoting || learning || asking
    }

    fn may_learn(&self, state: &State, s: usize) -> bool {
        let sentinel = &state.sentinels[s];
        let sees = state.promoted.is_some_and(|(replica, _)| state.sight[s][usize::from(replica)] == Sight::Clear);
        sentinel.up && !sentinel.knows && sees
    }

    fn tick(&self, state: &mut State) {
        state.tick += 1;
        for sentinel in &mut state.sentinels {
            sentinel.agreed_for += u8::from(sentinel.up);
            sentinel.order_for = (sentinel.order_for + 1).min(self.stagger);
            sentinel.running = sentinel.running.map(|age| age + 1);
        }
        for sight in state.sight.iter_mut().flatten() {
            *sight = match *sight {
                Sight::Old(age) if age >= self.late.sight => Sight::Lost,
                Sight::Old(age) => Sight::Old(age + 1),
                other => other,
            };
        }
        for agent in &mut state.agents {
            agent.up_for = if agent.up { (agent.up_for + 1).min(self.stagger) } else { 0 };
            agent.sent = agent.sent.map(|(to, age)| (to, (age + 1).min(self.late.request + 1)));
            agent.decided = agent.decided.map(|age| age.saturating_add(1).min(self.stagger));
        }
        state.promoted = state.promoted.map(|(replica, age)| (replica, (age + 1).min(self.late.sight)));
    }

    fn arrive(&self, state: &mut State, who: usize) {
        let Some((to, age)) = state.agents[who].sent.take() else { return };
        state.agents[who].still = false;
        let to = usize::from(to);
        if self.rules.bounded && age > self.late.request {
            return;
        }
        // INPROG, or nobody there.
        if !state.sentinels[to].up || state.sentinels[to].running.is_some() {
            return;
        }
        state.twice |= state.promoted.is_some() || state.sentinels.iter().any(|s| s.running.is_some());
        state.sentinels[to].running = Some(0);
    }

    fn may_fail(&self, state: &State, fault: Fault) -> bool {
        state.budget > 0 && self.faults.contains(&fault)
    }

    fn faults(&self, state: &State, acts: &mut Vec<Act>) {
        let agents = 0..AGENTS;
        if self.may_fail(state, Fault::Loss) {
            acts.extend(agents.clone().filter(|a| state.agents[*a].sent.is_some()).map(Act::Lose));
        }
        if self.may_fail(state, Fault::Stop) {
            let begins = |a: &usize| state.agents[*a].sent.is_some_and(|(_, age)| age == 0) && !state.agents[*a].still;
            acts.extend(agents.clone().filter(begins).map(Act::Stop));
        }
        if self.may_fail(state, Fault::Agent) {
            acts.extend(agents.clone().filter(|a| state.agents[*a].up).map(Act::CrashAgent));
        }
        let pairs = || (0..SENTINELS).flat_map(|s| (0..AGENTS).map(move |a| (s, a)));
        if self.may_fail(state, Fault::Cut) {
            acts.extend(pairs().filter(|(s, a)| state.heard[*a][*s]).map(|(s, a)| Act::Cut(a, s)));
        }
        if self.may_fail(state, Fault::Blind) {
            acts.extend(pairs().filter(|(s, a)| state.sight[*s][*a] == Sight::Clear).map(|(s, a)| Act::Blind(s, a)));
        }
        let up = || (0..SENTINELS).filter(|s| state.sentinels[*s].up);
        if self.may_fail(state, Fault::Sentinel) {
            acts.extend(up().map(Act::CrashSentinel));
        }
        if self.may_fail(state, Fault::Order) {
            acts.extend(up().map(Act::Swap));
        }
        if self.may_fail(state, Fault::Jump) {
            acts.extend(up().flat_map(|s| [Act::Jump(s, true), Act::Jump(s, false)]));
        }
    }
}

impl Model for Day {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let agent = Agent { up: true, up_for: self.stagger, decided: None, sent: None, still: false, asked: false };
        let sentinel = |apart: u8| Sentinel {
            up: true,
            agreed_for: self.stagger - 1 + apart,
            swapped: false,
            order_for: self.stagger,
            running: None,
            knows: false,
        };
        vec![State {
            tick: 0,
            sentinels: self.apart.map(sentinel),
            sight: [[Sight::Clear; AGENTS]; SENTINELS],
            agents: [agent; AGENTS],
            heard: std::array::from_fn(|a| std::array::from_fn(|s| self.deaf != Some((a, s)))),
            promoted: None,
            budget: self.budget,
            twice: false,
            minority: false,
        }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        // Nothing that comes after it is of interest.
        let over = state.twice || state.minority || (self.prompt && state.promoted.is_some());
        if over || state.tick >= self.ticks {
            return;
        }
        if !self.is_due(state) {
            acts.push(Act::Tick);
        }
        for who in 0..AGENTS {
            let agent = &state.agents[who];
            let may = self.may_ask(state, who).is_some();
            if self.rules.reread && may {
                acts.push(Act::Ask(who));
            } else if !self.rules.reread {
                acts.extend((may && agent.decided.is_none()).then_some(Act::Decide(who)));
                acts.extend(agent.decided.map(|_| Act::Ask(who)));
            }
            acts.extend(agent.sent.map(|_| Act::Arrive(who)));
            // One whose attempt stands in the ledger has nothing more to do.
            acts.extend((!agent.up && !agent.asked).then_some(Act::StartAgent(who)));
        }
        for s in 0..SENTINELS {
            let clear = || (0..AGENTS).filter(|replica| state.sight[s][*replica] == Sight::Clear);
            if state.sentinels[s].running.is_some() {
                acts.extend(clear().map(|replica| Act::Promote(s, replica)));
                acts.extend((clear().count() == 0).then_some(Act::ComeToNothing(s)));
            }
            acts.extend(self.may_learn(state, s).then_some(Act::Learn(s)));
            acts.extend((!state.sentinels[s].up).then_some(Act::StartSentinel(s)));
        }
        self.faults(state, acts);
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut state = last.clone();
        let fault = matches!(
            act,
            Act::Lose(_)
                | Act::Stop(_)
                | Act::Cut(..)
                | Act::Blind(..)
                | Act::CrashAgent(_)
                | Act::CrashSentinel(_)
                | Act::Swap(_)
                | Act::Jump(..)
        );
        state.budget -= u8::from(fault);
        match act {
            Act::Tick => self.tick(&mut state),
            Act::Decide(who) => state.agents[who].decided = Some(0),
            Act::Ask(who) => {
                let heard = (0..SENTINELS).filter(|s| state.heard[who][*s] && state.sentinels[*s].up);
                let heard: Vec<usize> = heard.collect();
                let first = self.may_ask(&state, who).or(heard.first().copied())?;
                state.minority |= heard.len() < MAJORITY;
                let agent = &mut state.agents[who];
                (agent.sent, agent.asked, agent.decided) = (Some((u8::try_from(first).unwrap(), 0)), true, None);
            }
            Act::Arrive(who) => self.arrive(&mut state, who),
            Act::Promote(s, replica) => {
                state.twice |= state.promoted.is_some();
                state.promoted = Some((u8::try_from(replica).unwrap(), 0));
                (state.sentinels[s].running, state.sentinels[s].knows) = (None, true);
            }
            Act::ComeToNothing(s) => state.sentinels[s].running = None,
            Act::Learn(s) => state.sentinels[s].knows = true,
            Act::Lose(who) => (state.agents[who].sent, state.agents[who].still) = (None, false),
            Act::Stop(who) => state.agents[who].still = true,
            Act::Cut(who, s) => state.heard[who][s] = false,
            Act::Blind(s, replica) => {
                // What was read last was read before the promotion, or it would be known.
                let read = state.promoted.filter(|(who, _)| usize::from(*who) == replica && !state.sentinels[s].knows);
                state.sight[s][replica] = Sight::Old(read.map_or(0, |(_, age)| age));
            }
            Act::CrashAgent(who) => {
                let agent = &mut state.agents[who];
                (agent.up, agent.up_for, agent.decided) = (false, 0, None);
            }
            Act::StartAgent(who) => state.agents[who].up = true,
            Act::CrashSentinel(s) => {
                let sentinel = &mut state.sentinels[s];
                (sentinel.up, sentinel.running, sentinel.knows) = (false, None, false);
                (sentinel.agreed_for, sentinel.order_for) = (0, 0);
            }
            Act::StartSentinel(s) => state.sentinels[s].up = true,
            Act::Swap(s) => {
                let sentinel = &mut state.sentinels[s];
                (sentinel.swapped, sentinel.order_for) = (!sentinel.swapped, 0);
            }
            Act::Jump(s, forward) => {
                let sentinel = &mut state.sentinels[s];
                let age = sentinel.agreed_for;
                let to = if forward { age + self.stagger } else { age.saturating_sub(self.stagger) };
                (sentinel.agreed_for, sentinel.order_for) = (to, 0);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Day>> {
        vec![
            Property::always(ONCE, |_, state: &State| !state.twice),
            Property::always(MANY, |_, state: &State| !state.minority),
            Property::eventually(AT_LAST, |day: &Day, state: &State| !day.prompt || state.promoted.is_some()),
            Property::sometimes(AT_ALL, |_, state: &State| state.promoted.is_some()),
        ]
    }
}

pub const ONCE: &str = "never two requests for one outage";
pub const MANY: &str = "never one in a minority";
pub const AT_LAST: &str = "in the end one";
pub const AT_ALL: &str = "a request can be made";

pub const EVERY: &[Fault] =
    &[Fault::Cut, Fault::Blind, Fault::Agent, Fault::Sentinel, Fault::Order, Fault::Loss, Fault::Stop];
