//! One run: the event that is next in time happens, again and again, and after each the promises are asked.

mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use relinkd::agent::{Agent, Effect, Input};
use relinkd::decide::Mode;
use relinkd::model::Timestamp;
use relinkd::model::event::{Pulse, Why};
use relinkd::model::incident::What;
use relinkd::model::remedy::{Change, Outcome, Remedy, Step};

use super::check::{Kept, Promise, beyond_doubt, broken, may_be_asked, requested};
use super::dice::Dice;
use super::hands::Reach;
use super::host::{Busy, Host, Waiting, name, word};
use super::look::{Asked, target_at};
use super::plant::Plant;
use super::trouble;
use super::world::{HOSTS, Link, Process, Target, World};

/// The lines that are kept for a failure's sake.
const TRACE: usize = 120;

pub struct Run {
    pub dice: Dice,
    pub world: World,
    pub hosts: Vec<Host>,
    pub plant: Option<Plant>,
    pub receiver_works: bool,
    /// Passwords are left alone: a login that was refused of late forbids every failover.
    pub logins_hold: bool,
    /// Inputs, effects and troubles so far.
    pub steps: usize,
    pub counts: BTreeMap<String, usize>,
    pub trace: std::collections::VecDeque<String>,
    trouble_at: Timestamp,
    /// The end: nothing goes wrong any more.
    mended: bool,
}

impl Run {
    pub fn new(seed: u64, plant: Option<Plant>) -> Run {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut run = Run {
            dice: Dice(seed ^ 0x5eed),
            world: World::new(now, seed),
            hosts: Vec::new(),
            plant,
            receiver_works: true,
            logins_hold: seed.is_multiple_of(3),
            steps: 0,
            counts: BTreeMap::new(),
            trace: Default::default(),
            trouble_at: now.after(Duration::from_secs(60)),
            mended: false,
        };
        for host in 0..HOSTS {
            let policy = trouble::policy(&mut run);
            run.hosts.push(Host::new(host, policy, plant, now));
        }
        run
    }

    pub fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let at = self.world.now.since(Timestamp::from_millis(1_700_000_000_000));
        self.trace.push_back(format!("{:>10.3}  {}", at.as_secs_f64(), what()));
    }

    pub fn with_primary(&mut self, act: impl FnOnce(&mut Run, usize)) {
        if let Some(host) = self.world.named() {
            act(self, host);
        }
    }

    /// `steps` steps of trouble, then a world that is whole again.
    pub fn go(&mut self, steps: usize) -> Kept {
        while self.steps < steps {
            self.step()?;
        }
        self.mend();
        self.until(Duration::from_secs(1_500))?;
        let now = self.world.now;
        for host in 0..HOSTS {
            // The rest of a plan that a crash cut short waits for an answer, however whole the link is.
            self.hosts[host].answered(now, |agent, by, now| agent.reject(by, now));
            trouble::take(self, Some(host));
        }
        self.until(Duration::from_secs(30))?;
        for host in &self.hosts {
            host.record.is_over()?;
        }
        self.falls_silent(Duration::from_secs(2_200))?;
        self.still_heals()
    }

    fn falls_silent(&mut self, span: Duration) -> Kept {
        let before: Vec<_> = self.hosts.iter().map(|host| (host.ledger.len(), host.looks)).collect();
        self.until(span)?;
        let background = usize::try_from(span.as_secs() / 30).unwrap() + 2;
        for (host, (entries, looks)) in self.hosts.iter().zip(before) {
            let (more, looked) = (host.ledger.len() - entries, host.looks - looks);
            if more > 0 || looked > background {
                let saw = format!("{more} entries and {looked} looks of host {} in {span:?} of quiet", host.index);
                return broken(Promise::Silence, saw);
            }
        }
        Ok(())
    }

    /// Whatever was before, the next plain fault is healed at once where that is allowed.
    fn still_heals(&mut self) -> Kept {
        trouble::rotate(self);
        self.world.store.offers = vec![self.world.password];
        trouble::shake(self);
        self.until(Duration::from_secs(60))?;
        for host in &self.hosts {
            let node = &self.world.nodes[host.index];
            let may = host.policy.of(Remedy::RealignAuth).mode == Mode::Auto;
            if node.follows.is_some() && may && !node.link_up() {
                let held = host.agent.as_ref().map(|agent| agent.status(host.clock(self.world.now)).held);
                return broken(Promise::Heals, format!("host {}: {held:#?}", host.index));
            }
        }
        Ok(())
    }

    fn until(&mut self, span: Duration) -> Kept {
        let end = self.world.now.after(span);
        let bound = self.steps + 50_000;
        while self.world.now < end {
            self.step()?;
            if self.steps > bound {
                return broken(Promise::Silence, "it does not come to rest");
            }
        }
        Ok(())
    }

    fn mend(&mut self) {
        self.say(|| "all is mended".into());
        self.mended = true;
        self.receiver_works = true;
        let now = self.world.now;
        self.world.mend();
        for host in &mut self.hosts {
            host.ledger_works = true;
            host.resume(now);
            if host.agent.is_none() {
                host.starts_at = now;
            }
        }
    }

    /// The next event in time, and what follows from it.
    pub fn step(&mut self) -> Kept {
        let due = self.hosts.iter().filter_map(|host| Some((host.due()?, host.index))).min();
        let mut at = due.map_or(self.trouble_at, |(at, _)| at);
        let strikes = !self.mended && self.trouble_at <= at;
        if strikes {
            at = self.trouble_at;
        }
        // Nobody waits for anything, as where each agent has lost a look: time passes all the same.
        if self.mended && due.is_none() {
            at = self.world.now.after(Duration::from_secs(1));
        }
        at = at.max(self.world.now);
        self.poll();
        self.world.pass(at);
        if !self.world.stirred.is_empty() {
            self.stir();
            return Ok(());
        }
        if strikes {
            self.steps += 1;
            trouble::strike(self);
            let most = [1_500, 20_000, 120_000][self.dice.below(3)];
            self.trouble_at = self.world.now.after(self.dice.between_ms(50, most));
            return Ok(());
        }
        match due {
            Some((_, host)) => self.turn(host),
            None => Ok(()),
        }
    }

    /// The fast poll of each host remembers when the link was last up.
    fn poll(&mut self) {
        for host in &mut self.hosts {
            let node = &self.world.nodes[host.index];
            if host.agent.is_some() && node.process == Process::Up && node.link_up() {
                host.last_up = Some(host.clock(self.world.now));
            }
        }
    }

    /// Watchers wake their agents, and now and then miss it.
    fn stir(&mut self) {
        let now = self.world.now;
        let mut stirred = std::mem::take(&mut self.world.stirred);
        stirred.dedup();
        for host in stirred {
            if !self.dice.one_in(10) {
                self.hosts[host].wake(Why::Replica(Pulse::Absent), now);
            }
            if self.dice.one_in(3) {
                let other = self.dice.below(HOSTS);
                self.hosts[other].wake(trouble::spoken(), now);
            }
        }
    }

    fn turn(&mut self, index: usize) -> Kept {
        self.steps += 1;
        let now = self.world.now;
        let host = &mut self.hosts[index];
        let Some(agent) = &host.agent else {
            let blind = !self.mended && self.dice.one_in(8);
            self.say(|| format!("{index}: starts{}", if blind { " blind" } else { "" }));
            if blind {
                self.count("began without the host's standing");
            }
            self.hosts[index].start(now, blind);
            return self.compare(index);
        };
        let timer = agent.poll_timeout().map(|at| host.truth(at));
        if let Some(busy) = host.busy.take_if(|busy| busy.until() <= now) {
            self.carry_on(index, busy)?;
        } else if host.busy.is_none() && !host.queue.is_empty() {
            self.begin(index)?;
        } else if (!host.waiting.is_empty() || host.unread) && host.retry_at <= now {
            self.retry(index)?;
        } else if !host.outbox.is_empty() && host.deliver_at <= now {
            self.deliver(index)?;
        } else if timer.is_some_and(|at| at <= now) {
            host.timeout(now);
        }
        let host = &self.hosts[index];
        let acting = host.agent.as_ref().is_some_and(Agent::is_acting);
        let records = host.queue.iter().any(|effect| matches!(effect, Effect::Record { .. }));
        if host.stopping && !acting && !records && host.busy.is_none() {
            self.down(index);
            return Ok(());
        }
        if self.plant == Some(Plant::NeverRests) && self.hosts[index].at_rest() {
            self.hosts[index].wake(Why::Timer, now);
        }
        if self.dice.one_in(40) { self.compare(index) } else { Ok(()) }
    }

    /// kill -9, and a start some time later.
    pub fn crash(&mut self, index: usize, when: &str) {
        if self.hosts[index].agent.is_some() {
            self.count(format!("crash {when}"));
            self.say(|| format!("{index}: crash {when}"));
            self.down(index);
        }
    }

    fn down(&mut self, index: usize) {
        let away = if self.dice.one_in(8) { self.dice.between_ms(0, 300_000) } else { self.dice.between_ms(20, 3_000) };
        let at = self.world.now.after(away);
        self.hosts[index].die(at);
    }

    pub fn stop(&mut self, index: usize) {
        let now = self.world.now;
        if self.hosts[index].agent.is_some() {
            self.hosts[index].stopping = true;
            self.hosts[index].feed(Input::Stopping, now);
        }
    }

    fn dies(&mut self, index: usize, sides: u64, when: &str) -> bool {
        let dies = !self.mended && self.dice.one_in(sides);
        if dies {
            self.crash(index, when);
        }
        dies
    }

    fn begin(&mut self, index: usize) -> Kept {
        let Some(effect) = self.hosts[index].queue.pop_front() else { return Ok(()) };
        let sides = match effect {
            Effect::Look { .. } => 600,
            Effect::Record { .. } => 120,
            Effect::Apply { .. } => 20,
        };
        if self.dies(index, sides, &format!("before {}", name(&effect))) {
            return Ok(());
        }
        match effect {
            Effect::Look { candidates, deep } => self.look(index, candidates, deep),
            Effect::Record { entries, notice } => {
                let host = &mut self.hosts[index];
                if entries.iter().any(|entry| matches!(entry.what, What::Intended { .. })) {
                    host.former = None;
                }
                let doubt = host.doubt.clone();
                host.waiting.push_back(Waiting { entries, notice, doubt });
                self.catch_up(index)?;
                self.dies(index, 300, "after a record");
                Ok(())
            }
            Effect::Apply { .. } if !self.hosts[index].waiting.is_empty() => {
                self.count("dropped behind a record that failed");
                Ok(())
            }
            Effect::Apply { attempt, step } => self.apply(index, attempt, step),
        }
    }

    fn look(&mut self, index: usize, candidates: bool, deep: bool) -> Kept {
        if self.plant == Some(Plant::LosesLooks) && self.dice.one_in(200) {
            return Ok(());
        }
        let now = self.world.now;
        let slow = self.dice.one_in(12);
        let took = if slow { self.dice.between_ms(300, 1_500) } else { self.dice.between_ms(2, 120) };
        let host = &mut self.hosts[index];
        host.looks += 1;
        let mut seen = Box::new(self.world.look(index, &Asked { candidates, deep, began: host.clock(now) }));
        let until = now.after(took);
        seen.ended = host.clock(until);
        seen.trend.last_up = host.last_up;
        let doubt = self.world.doubt(index);
        self.hosts[index].busy = Some(Busy::Looking { seen, doubt, until });
        Ok(())
    }

    fn apply(&mut self, index: usize, attempt: u32, mut step: Box<Step>) -> Kept {
        let began = self.world.now;
        self.meddle(index, &step.change);
        self.count(format!("apply {}", word(&step.change)));
        self.say(|| format!("{index}: apply {}", step.change.describe()));
        self.hosts[index].record.begin(attempt, &step)?;
        Plant::bend(self.plant, index, &mut step);
        let busy = if step.change == Change::ProveLink {
            let until = began.after(Duration::from_millis(step.within_ms));
            Busy::Proving { attempt, until, next: began.after(Duration::from_millis(5)), began }
        } else {
            let blind = self.plant == Some(Plant::BlindToFailover);
            let doubt = self.world.doubt(index);
            let reach = if blind { Ok(Reach::All) } else { self.world.reach(index, &step) };
            match reach {
                Err(why) => {
                    let until = began.after(self.dice.between_ms(1, 400));
                    Busy::Answering { attempt, outcome: Outcome::PreconditionGone(why), until, began }
                }
                Ok(reach) => {
                    beyond_doubt(&doubt, index, &step, reach)?;
                    if reach == Reach::LoginAlone {
                        self.count("an undo that left the link alone");
                    }
                    let far = matches!(step.change, Change::RequestFailover { .. });
                    if far {
                        may_be_asked(&self.world)?;
                    }
                    let until = began.after(self.dice.between_ms(1, if far { 500 } else { 20 }));
                    Busy::Reaching { attempt, step, reach, until, began }
                }
            }
        };
        self.hosts[index].busy = Some(busy);
        Ok(())
    }

    /// Now and then the world moves right before the hands look: more often before an undo, which is rare.
    fn meddle(&mut self, index: usize, change: &Change) {
        let sides = match change {
            Change::ProveLink => return,
            Change::RestoreAuth { .. } => 2,
            _ => 5,
        };
        if !self.mended
            && self.dice.one_in(sides)
            && let Some(what) = self.world.meddle(index)
        {
            self.count(format!("{what} before {}", word(change)));
            self.say(|| what.to_owned());
        }
    }

    fn carry_on(&mut self, index: usize, busy: Busy) -> Kept {
        let now = self.world.now;
        match busy {
            Busy::Looking { mut seen, doubt, .. } => {
                if self.dies(index, 900, "while looking") {
                    return Ok(());
                }
                self.hosts[index].seen = Some(seen.clone());
                self.hosts[index].doubt = doubt;
                Plant::blind(self.plant, &mut seen);
                self.hosts[index].feed(Input::Looked(seen), now);
            }
            Busy::Reaching { attempt, step, reach, began, .. } => {
                if self.dies(index, 12, "between check and change") {
                    return Ok(());
                }
                let outcome = self.change(index, &step, reach)?;
                let until = now.after(self.dice.between_ms(1, 30));
                self.hosts[index].busy = Some(Busy::Answering { attempt, outcome, until, began });
            }
            Busy::Answering { attempt, outcome, began, .. } => {
                if !self.dies(index, 12, "between a change and its outcome") {
                    self.answer(index, attempt, outcome, began);
                }
            }
            Busy::Proving { attempt, until, began, .. } => match self.proof(index, until) {
                None => {
                    let next = now.after(Duration::from_millis(50));
                    self.hosts[index].busy = Some(Busy::Proving { attempt, until, next, began });
                }
                Some(outcome) => self.answer(index, attempt, outcome, began),
            },
        }
        Ok(())
    }

    fn answer(&mut self, index: usize, attempt: u32, outcome: Outcome, began: Timestamp) {
        let now = self.world.now;
        self.count(format!("outcome {}", outcome.code()));
        self.say(|| format!("{index}: {}: {}", outcome.code(), outcome.detail()));
        let took_us = u64::try_from(now.since(began).as_micros()).unwrap();
        self.hosts[index].feed(Input::Stepped { attempt, outcome, took_us }, now);
    }

    /// The change, by the hands; it may fail, and its answer may be lost.
    fn change(&mut self, index: usize, step: &Step, reach: Reach) -> Result<Outcome, super::check::Broken> {
        if step.change == Change::Persist && self.dice.one_in(6) {
            return Ok(Outcome::Failed("CONFIG REWRITE: no space".into()));
        }
        if let Change::Repoint { to, .. } = &step.change
            && let Target::Node(to) = target_at(to)
        {
            let (mine, its) = (&self.world.nodes[index], &self.world.nodes[to]);
            if mine.keys > 0 && its.empty_since.is_some_and(|since| self.world.now.since(since).as_secs() > 2) {
                broken(Promise::NoHarm, format!("{index} is pointed at {to}, which holds nothing"))?;
            }
        }
        let outcome = self.world.change(index, step, reach, &mut self.hosts[index].former);
        if let Change::RequestFailover { .. } = &step.change {
            let rest = self.hosts[index].policy.of(Remedy::RequestFailover).cooldown;
            requested(&self.world, index, &outcome, rest)?;
            if outcome.went_well() && self.dice.one_in(6) {
                return Ok(Outcome::Failed("whether it took the request is unknown".into()));
            }
        }
        Ok(outcome)
    }

    fn proof(&self, index: usize, until: Timestamp) -> Option<Outcome> {
        let node = &self.world.nodes[index];
        let over = self.world.now >= until;
        match node.link {
            _ if node.process != Process::Up => Some(Outcome::Failed("the local server does not answer".into())),
            _ if node.follows.is_none() => Some(Outcome::PreconditionGone("not a replica any more".into())),
            Link::Up { .. } => Some(Outcome::Changed("link up".into())),
            Link::Syncing { .. } if over => Some(Outcome::UnderWay("a full resync is running".into())),
            _ if over => Some(Outcome::Failed("the link did not come up within 5000 ms".into())),
            _ => None,
        }
    }
}
