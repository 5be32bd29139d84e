//! One host's relinkd: the real agent, and around it what the daemon does: the runner with its order, the ledger, the
//! courier, the death of the process at any moment, and its next life.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use relinkd::agent::{self, Agent, Effect, Identity, Input};
use relinkd::decide::Policy;
use relinkd::model::event::{Wake, Why};
use relinkd::model::evidence::Evidence;
use relinkd::model::incident::{Entry, IncidentId, Notice, What};
use relinkd::model::people::{Actor, Pause, Scope};
use relinkd::model::remedy::{Change, Outcome, Step};
use relinkd::model::{Address, LinkId, Timestamp};

use super::check::Record;
use super::doubt::Doubt;
use super::hands::{Former, Reach};
use super::look::node;
use super::plant::Plant;

/// Records that failed are tried again this often.
pub const RETRY: Duration = Duration::from_secs(1);

/// What the runner is in the middle of.
pub enum Busy {
    Looking {
        seen: Box<Evidence>,
        doubt: Doubt,
        until: Timestamp,
    },
    /// The precondition was read; the change comes.
    Reaching {
        attempt: u32,
        step: Box<Step>,
        reach: Reach,
        until: Timestamp,
        began: Timestamp,
    },
    /// The change is made; its answer comes.
    Answering {
        attempt: u32,
        outcome: Outcome,
        until: Timestamp,
        began: Timestamp,
    },
    Proving {
        attempt: u32,
        until: Timestamp,
        next: Timestamp,
        began: Timestamp,
    },
}

impl Busy {
    pub fn until(&self) -> Timestamp {
        match self {
            Busy::Looking { until, .. } | Busy::Reaching { until, .. } | Busy::Answering { until, .. } => *until,
            Busy::Proving { next, .. } => *next,
        }
    }
}

/// A record that waits for the ledger.
pub struct Waiting {
    pub entries: Vec<Entry>,
    pub notice: Option<Box<Notice>>,
    /// What the truth was when the look began that led to it.
    pub doubt: Doubt,
}

pub struct Host {
    pub index: usize,
    /// None while relinkd does not run here.
    pub agent: Option<Agent>,
    pub starts_at: Timestamp,
    pub lives: u64,
    pub policy: Policy,
    pub plant: Option<Plant>,
    /// The host's clock: this far from the truth, set so many times.
    pub skew_us: i64,
    pub clock: u32,
    pub queue: VecDeque<Effect>,
    pub busy: Option<Busy>,
    pub former: Former,
    pub waiting: VecDeque<Waiting>,
    pub retry_at: Timestamp,
    pub failure_told: bool,
    pub ledger_works: bool,
    /// Some of what this life read at its start was dated ahead of its clock.
    pub read_ahead: bool,
    /// It could not be read at the start.
    pub unread: bool,
    pub stopping: bool,
    /// What is durable.
    pub ledger: Vec<Entry>,
    pub pauses: Vec<Pause>,
    /// What the remedies of this host have done, as the daemon folds it.
    standing: agent::Host,
    now_at_hand_out: Timestamp,
    pub outbox: VecDeque<Notice>,
    pub deliver_at: Timestamp,
    pub record: Record,
    pub seen: Option<Box<Evidence>>,
    /// What the truth was when that look began.
    pub doubt: Doubt,
    pub last_up: Option<Timestamp>,
    pub looks: usize,
}

impl Host {
    pub fn new(index: usize, policy: Policy, plant: Option<Plant>, now: Timestamp) -> Host {
        Host {
            index,
            agent: None,
            starts_at: now,
            lives: 0,
            policy,
            plant,
            skew_us: 0,
            clock: 0,
            queue: VecDeque::new(),
            busy: None,
            former: None,
            waiting: VecDeque::new(),
            retry_at: now,
            failure_told: false,
            ledger_works: true,
            read_ahead: false,
            unread: false,
            stopping: false,
            ledger: Vec::new(),
            pauses: Vec::new(),
            standing: agent::Host::default(),
            now_at_hand_out: now,
            outbox: VecDeque::new(),
            deliver_at: now,
            record: Record::default(),
            seen: None,
            doubt: Doubt::default(),
            last_up: None,
            looks: 0,
        }
    }

    /// The truth's time by this host's clock, and back.
    pub fn clock(&self, truth: Timestamp) -> Timestamp {
        Timestamp(truth.0 + self.skew_us)
    }

    pub fn truth(&self, clock: Timestamp) -> Timestamp {
        Timestamp(clock.0 - self.skew_us)
    }

    fn link(&self) -> LinkId {
        LinkId { replica: format!("node-{}", self.index), group: "mymaster".into() }
    }

    fn identity(&self) -> Identity {
        Identity {
            link: self.link(),
            address: Address::Tcp(node(self.index)),
            host: format!("db-{}", self.index),
            has_store: true,
            seed: self.lives * 16 + self.index as u64,
        }
    }

    /// What a start reads: as `Ledger::history` has it, and through the form in which it lies on the disk.
    fn history(&self, now: Timestamp) -> Vec<Entry> {
        let since = now.before(Duration::from_secs(86_400));
        let mut touched: BTreeMap<&IncidentId, (Timestamp, bool)> = BTreeMap::new();
        for entry in &self.ledger {
            let ends = matches!(entry.what, What::Resolved { .. } | What::Blip { .. } | What::FailedOver { .. });
            let (at, open) = touched.entry(&entry.incident).or_insert((entry.at, true));
            *at = (*at).max(entry.at);
            *open &= !ends;
        }
        let wanted = |entry: &&Entry| touched.get(&entry.incident).is_some_and(|(at, open)| *open || *at >= since);
        let on_disk = |entry: &Entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap();
        self.ledger.iter().filter(wanted).map(on_disk).collect()
    }

    /// An agent that takes up where the ledger ends.
    pub fn replayed(&self, truth: Timestamp) -> Agent {
        let now = self.clock(truth);
        let policy = match self.plant {
            Some(Plant::IgnoresMode) => eager(&self.policy),
            _ => self.policy.clone(),
        };
        let mut agent = Agent::new(self.identity(), policy, now);
        let mut history = self.history(now);
        Plant::forget(self.plant, &mut history);
        agent.replay(&history, now);
        agent
    }

    /// `blind`: the record of this instance is read, and not the pauses and what the host has done.
    pub fn start(&mut self, truth: Timestamp, blind: bool) {
        self.lives += 1;
        let now = self.clock(truth);
        let mut agent = if self.ledger_works {
            self.replayed(truth)
        } else {
            let mut agent = Agent::new(self.identity(), self.policy.clone(), now);
            agent.without_ledger("database is locked".into());
            agent
        };
        self.unread = !self.ledger_works || blind;
        self.standing = agent::Host::default();
        if blind {
            agent.without_standing("database is locked".into());
        } else if self.ledger_works {
            self.ledger.iter().for_each(|entry| self.standing.take(&entry.dated_at_most(now)));
            let pauses = std::mem::take(&mut self.pauses);
            self.pauses = pauses.into_iter().map(|pause| pause.dated_at_most(now)).collect();
            agent.handle(Input::Paused(self.pauses.clone()), now);
            agent.handle(Input::Beside(self.standing.beside(&self.link())), now);
        }
        self.read_ahead = self.ledger.iter().any(|entry| entry.at > now);
        let resumed = Plant::resumes(self.plant, &agent, &self.ledger);
        agent.handle(Input::Wake(Wake { at: now, why: Why::Start }), now);
        self.now_at_hand_out = now;
        self.agent = Some(agent);
        self.hand_out();
        self.queue.extend(resumed);
    }

    /// The process is gone, and all that was only in its memory.
    pub fn die(&mut self, starts_at: Timestamp) {
        self.agent = None;
        self.queue.clear();
        self.busy = None;
        self.former = None;
        self.waiting.clear();
        self.failure_told = false;
        self.stopping = false;
        self.seen = None;
        self.last_up = None;
        self.starts_at = starts_at;
    }

    pub fn feed(&mut self, input: Input, truth: Timestamp) {
        let now = self.clock(truth);
        self.now_at_hand_out = now;
        if let Some(agent) = &mut self.agent {
            agent.handle(input, now);
        }
        self.hand_out();
    }

    pub fn wake(&mut self, why: Why, truth: Timestamp) {
        self.feed(Input::Wake(Wake { at: self.clock(truth), why }), truth);
    }

    pub fn timeout(&mut self, truth: Timestamp) {
        let now = self.clock(truth);
        self.now_at_hand_out = now;
        if let Some(agent) = &mut self.agent {
            agent.handle_timeout(now);
        }
        self.hand_out();
    }

    fn hand_out(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let mut effects = Vec::new();
        while let Some(effect) = agent.poll_effect() {
            effects.push(effect);
        }
        let mut acted = false;
        for effect in &effects {
            if let Effect::Record { entries, .. } = effect {
                entries.iter().for_each(|entry| self.standing.take(entry));
                acted |= entries.iter().any(|entry| agent::Host::concerns(&entry.what));
            }
        }
        Plant::reorder(self.plant, &mut effects);
        self.queue.extend(effects);
        if acted {
            let (beside, now) = (self.standing.beside(&self.link()), self.now_at_hand_out);
            if let Some(agent) = &mut self.agent {
                agent.handle(Input::Beside(beside), now);
            }
        }
    }

    /// A person says something to the agent; a no is an answer too.
    pub fn answered(&mut self, truth: Timestamp, say: impl FnOnce(&mut Agent, Actor, Timestamp) -> Result<(), String>) {
        let now = self.clock(truth);
        self.now_at_hand_out = now;
        if let Some(agent) = &mut self.agent {
            let _ = say(agent, person(), now);
        }
        self.hand_out();
    }

    /// Hands off from now on, for this long.
    pub fn pause(&mut self, truth: Timestamp, span: Duration) {
        let now = self.clock(truth);
        let (began, ends) = (now, now.after(span));
        let (owner, reason, resumed) = (person(), "maintenance".into(), None);
        self.pauses.push(Pause { scope: Scope::Host, owner, reason, began, ends, resumed });
        self.feed(Input::Paused(self.pauses.clone()), truth);
    }

    pub fn resume(&mut self, truth: Timestamp) {
        let now = self.clock(truth);
        for pause in self.pauses.iter_mut().filter(|pause| pause.in_force(now)) {
            pause.resumed = Some((now, person()));
        }
        self.feed(Input::Paused(self.pauses.clone()), truth);
    }

    pub fn at_rest(&self) -> bool {
        let acting = self.agent.as_ref().is_some_and(Agent::is_acting);
        self.queue.is_empty() && self.busy.is_none() && self.waiting.is_empty() && !acting
    }

    /// When something of this host's own is due next.
    pub fn due(&self) -> Option<Timestamp> {
        let Some(agent) = &self.agent else { return Some(self.starts_at) };
        let timer = agent.poll_timeout().map(|at| self.truth(at));
        let runner = match &self.busy {
            Some(busy) => Some(busy.until()),
            None => (!self.queue.is_empty()).then_some(Timestamp(0)),
        };
        let retry = (!self.waiting.is_empty() || self.unread).then_some(self.retry_at);
        let courier = (!self.outbox.is_empty()).then_some(self.deliver_at);
        [timer, runner, retry, courier].into_iter().flatten().min()
    }
}

pub fn person() -> Actor {
    Actor { uid: 1_000, name: "carol".into(), sudo: None }
}

fn eager(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.remedies.values_mut().for_each(|rules| rules.mode = relinkd::decide::Mode::Auto);
    policy
}

pub fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Look { .. } => "look",
        Effect::Record { .. } => "record",
        Effect::Apply { .. } => "apply",
    }
}

pub fn word(change: &Change) -> &'static str {
    match change {
        Change::RealignAuth { .. } => "realign",
        Change::PresetAuth { .. } => "preset",
        Change::RestoreAuth { .. } => "restore",
        Change::BounceLink { .. } => "bounce",
        Change::Repoint { .. } => "repoint",
        Change::RequestFailover { .. } => "failover",
        Change::ProveLink => "prove",
        Change::Persist => "persist",
    }
}
