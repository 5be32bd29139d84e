//! The world around one agent, as the daemon's runner is: effects strictly in order; when a record fails, the changes
//! behind it are dropped and the records wait.

use std::collections::VecDeque;

use super::*;
use crate::model::remedy::Change;

pub struct World {
    pub agent: Agent,
    pub policy: Policy,
    pub now: Timestamp,
    /// What a look with everything asked would see.
    pub evidence: Evidence,
    pub candidates: Vec<CandidateView>,
    /// Outcomes of the next steps; where there is none, the step works and heals.
    pub script: VecDeque<Outcome>,
    /// The store has moved on; else a link that works holds what the store offers.
    pub rotating: bool,
    /// The store does not answer while a look waits for it.
    pub store_is_silent: bool,
    /// Changes are made, and none of them brings the link up.
    pub futile: bool,
    /// The print of the password that was set last, once one was.
    pub holds: Option<String>,
    /// When the fast poll last saw the link up.
    last_up: Option<Timestamp>,
    pub host: Host,
    pub pauses: Vec<Pause>,
    pub ledger_works: bool,
    /// What is durable.
    pub ledger: Vec<Entry>,
    pub notices: Vec<Notice>,
    /// Everything that was done, one word each, with what was recorded.
    pub trace: Vec<String>,
    pub applied: Vec<(u32, Change)>,
    pub looks: usize,
    pub looked_at: Timestamp,
    queue: VecDeque<Effect>,
    waiting: VecDeque<(Vec<Entry>, Option<Box<Notice>>)>,
    lives: u64,
    /// Since when the evidence is what it is.
    set_at: Timestamp,
}

/// A person decides on failovers.
pub fn proposing() -> Policy {
    let mut policy = Policy::default();
    policy.remedies.entry(Remedy::RequestFailover).and_modify(|remedy| remedy.mode = crate::decide::Mode::Propose);
    policy
}

fn identity(seed: u64) -> Identity {
    let Evidence { link, address, .. } = healthy();
    Identity { link, address, host: "db-21".into(), has_store: true, seed }
}

impl World {
    /// A world in which all is well, and was looked at once.
    pub fn healthy() -> World {
        World::with(Policy::default())
    }

    pub fn with(policy: Policy) -> World {
        let now = T0.after(s(1000));
        let offer = CandidateView {
            source: "file:/etc/relinkd/masterauth".into(),
            version: "1".into(),
            user: String::new(),
            print: "print-new".into(),
            in_use: false,
            proof: green(PRIMARY),
        };
        let mut world = World {
            agent: Agent::new(identity(0), policy.clone(), now),
            policy,
            now,
            evidence: healthy(),
            candidates: vec![offer],
            script: VecDeque::new(),
            rotating: false,
            store_is_silent: false,
            futile: false,
            holds: None,
            last_up: None,
            host: Host::default(),
            pauses: Vec::new(),
            ledger_works: true,
            ledger: Vec::new(),
            notices: Vec::new(),
            trace: Vec::new(),
            applied: Vec::new(),
            looks: 0,
            looked_at: now,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            lives: 0,
            set_at: now,
        };
        world.wake(Why::Start);
        world
    }

    /// Makes the world healthy but for what `bend` does.
    pub fn set(&mut self, bend: impl FnOnce(&mut Evidence)) {
        if self.evidence.local_link().is_some_and(|link| link.up) {
            self.last_up = Some(self.now);
        }
        self.evidence = healthy();
        self.set_at = self.now;
        bend(&mut self.evidence);
    }

    pub fn feed(&mut self, input: Input) {
        self.agent.handle(input, self.now);
        self.hand_out();
    }

    /// As the daemon does: what is handed out to be recorded is known to the host at once.
    pub fn hand_out(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            if let Effect::Record { entries, .. } = &effect {
                entries.iter().for_each(|entry| self.host.take(entry));
            }
            self.queue.push_back(effect);
        }
        self.agent.handle(Input::Beside(self.host.beside(&healthy().link)), self.now);
    }

    pub fn pauses_are(&mut self, pauses: Vec<Pause>) {
        self.pauses = pauses;
        self.feed(Input::Paused(self.pauses.clone()));
        self.settle();
    }

    pub fn wake(&mut self, why: Why) {
        self.feed(Input::Wake(Wake { at: self.now, why }));
        self.settle();
    }

    /// Runs effects until there are none.
    pub fn settle(&mut self) {
        for _ in 0..500 {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", &self.trace[self.trace.len() - 20..]);
    }

    /// Lets time pass, with every timer at its time.
    pub fn advance(&mut self, span: Duration) {
        let until = self.now.after(span);
        while let Some(next) = self.agent.poll_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.agent.handle_timeout(self.now);
            self.hand_out();
            self.settle();
            if !self.waiting.is_empty() {
                self.retry();
            }
        }
        self.now = self.now.max(until);
    }

    /// One effect.
    pub fn step(&mut self) -> bool {
        let Some(effect) = self.queue.pop_front() else { return false };
        match effect {
            Effect::Look { candidates, deep } => self.look(candidates, deep),
            Effect::Record { entries, notice } => {
                self.waiting.push_back((entries, notice));
                self.retry();
            }
            Effect::Apply { attempt, step } => {
                if self.waiting.is_empty() {
                    self.apply(attempt, &step);
                } else {
                    self.trace.push("dropped".into());
                }
            }
        }
        true
    }

    /// Writes what waits, oldest first.
    pub fn retry(&mut self) {
        let failed_before = self.waiting.len() > 1;
        while let Some((entries, notice)) = self.waiting.front().cloned() {
            if !self.ledger_works {
                self.feed(Input::LedgerFailed("disk full".into()));
                return;
            }
            self.waiting.pop_front();
            let told = entries.iter().filter(|entry| matches!(entry.what, What::Told { .. })).count();
            assert_eq!(told, usize::from(notice.is_some()), "a message and its entry are one transaction");
            self.trace.extend(entries.iter().map(|entry| name(&entry.what)));
            self.ledger.extend(entries);
            if let Some(notice) = notice {
                self.note(*notice);
            }
        }
        if failed_before {
            self.feed(Input::LedgerRecovered);
        }
    }

    pub fn recover(&mut self) {
        self.ledger_works = true;
        self.retry();
        self.feed(Input::LedgerRecovered);
        self.settle();
    }

    fn note(&mut self, notice: Notice) {
        let before = self.notices.iter().rev().find(|known| known.incident.id == notice.incident.id);
        let last = before.map_or(0, |known| known.incident.sequence);
        assert_eq!(notice.incident.sequence, last + 1, "messages of an incident are numbered without a gap");
        self.notices.push(notice);
    }

    fn look(&mut self, candidates: bool, deep: bool) {
        self.looks += 1;
        self.trace.push(if candidates { "look with candidates" } else { "look" }.into());
        let mut seen = self.evidence.clone();
        seen.shift(self.now);
        self.now = seen.ended;
        let since = u64::try_from(self.now.since(self.set_at).as_millis()).unwrap();
        seen.each_sentinel(|says| says.o_down_ms = says.o_down_ms.map(|ms| ms + since));
        seen.trend.last_up = self.last_up;
        self.looked_at = self.now;
        if let Reading::Seen(log) = &mut seen.log {
            log.lines.iter_mut().for_each(|line| (line.first, line.last) = (seen.began, seen.began));
        }
        if seen.local_link().is_none_or(|link| link.up) && !deep {
            seen.upstream = Reading::Missing(Missing::NotAsked);
        }
        if let (Some(print), Reading::Seen(settings)) = (&self.holds, &mut seen.settings) {
            settings.masterauth_print = print.clone();
        }
        if candidates {
            seen.candidates = self.candidates.clone();
            let works = seen.local_link().is_some_and(|link| link.up)
                && seen.upstream.seen().is_none_or(|probe| probe.auth.is_ok());
            if works && !self.rotating {
                seen.candidates.iter_mut().for_each(|candidate| candidate.in_use = true);
            }
            let offered = u32::try_from(self.candidates.len()).unwrap();
            seen.store = Reading::Seen(StoreView { at: self.now, source: "file".into(), offered, silent_ms: None });
            if self.store_is_silent {
                seen.candidates.clear();
                seen.store = Reading::Missing(Missing::TimedOut);
            }
        }
        self.feed(Input::Looked(Box::new(seen)));
    }

    fn apply(&mut self, attempt: u32, step: &Step) {
        let of_this = |entry: &&Entry| match entry.what {
            What::Intended { attempt: a, .. } | What::Ended { attempt: a, .. } | What::Interrupted { attempt: a } => {
                a == attempt
            }
            _ => false,
        };
        let last = self.ledger.iter().rev().find(of_this).map(|entry| &entry.what);
        assert!(matches!(last, Some(What::Intended { .. })), "a change without a durable intent: {:?}", step.change);
        self.trace.push(format!("apply {}", word(&step.change)));
        self.applied.push((attempt, step.change.clone()));
        let alone = self.script.is_empty();
        let outcome = self.script.pop_front().unwrap_or_else(|| match step.change {
            Change::ProveLink if self.futile => Outcome::Failed("the link did not come up within 5000 ms".into()),
            _ => Outcome::Changed("done".into()),
        });
        if let (Change::RealignAuth { print, .. } | Change::PresetAuth { print, .. }, Outcome::Changed(_)) =
            (&step.change, &outcome)
        {
            self.holds = Some(print.clone());
        }
        let mends = !matches!(step.change, Change::ProveLink | Change::Persist | Change::RestoreAuth { .. });
        if alone && mends && !self.futile {
            self.set(|_| {});
        }
        self.now = self.now.after(ms(3));
        self.feed(Input::Stepped { attempt, outcome, took_us: 3_000 });
    }

    /// The process dies here, and another begins: what waited and what was asked for is lost.
    pub fn crash(&mut self) {
        self.restart();
        self.wake(Why::Start);
    }

    pub fn restart(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        self.lives += 1;
        self.now = self.now.after(ms(50));
        self.agent = Agent::new(identity(self.lives), self.policy.clone(), self.now);
        self.agent.replay(&self.ledger, self.now);
        self.trace.push("restart".into());
        self.host = Host::default();
        self.ledger.iter().for_each(|entry| self.host.take(entry));
        self.hand_out();
        self.feed(Input::Paused(self.pauses.clone()));
    }

    /// A start that cannot read the ledger.
    pub fn restart_without_ledger(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        self.lives += 1;
        self.agent = Agent::new(identity(self.lives), self.policy.clone(), self.now);
        self.agent.without_ledger("database is locked".into());
        self.wake(Why::Start);
    }

    pub fn at_rest(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty() && !self.agent.is_acting()
    }

    /// Steps until the next effect would be the one that `wanted` names.
    pub fn run_until(&mut self, wanted: impl Fn(&Effect) -> bool) {
        for _ in 0..500 {
            if self.queue.front().is_some_and(&wanted) {
                return;
            }
            assert!(self.step(), "it never came");
        }
        panic!("it never came");
    }

    pub fn said(&self) -> Vec<&'static str> {
        self.notices.iter().map(|notice| notice.event.name()).collect()
    }

    pub fn incidents_opened(&self) -> usize {
        self.ledger.iter().filter(|entry| matches!(entry.what, What::Opened { .. })).count()
    }

    pub fn recorded(&self, kind: &str) -> usize {
        self.ledger.iter().filter(|entry| name(&entry.what).starts_with(kind)).count()
    }
}

pub fn name(what: &What) -> String {
    match what {
        What::Blip { cause, .. } => format!("blip {cause}"),
        What::FailedOver { epoch, .. } => format!("failed-over {epoch}"),
        What::Opened { finding, .. } => format!("opened {}", finding.cause),
        What::Diagnosed { finding, .. } => format!("diagnosed {}", finding.cause),
        What::Held { refusal } => format!("held {}", refusal.code),
        What::Proposed { .. } => "proposed".into(),
        What::Approved { .. } => "approved".into(),
        What::Rejected { .. } => "rejected".into(),
        What::Withdrawn { .. } => "withdrawn".into(),
        What::Acknowledged { .. } => "acknowledged".into(),
        What::Intended { attempt, .. } => format!("intended {attempt}"),
        What::Finished { action, .. } => format!("finished {}", action.outcome.code()),
        What::Ended { outcome, .. } => format!("ended {}", outcome.code()),
        What::Interrupted { .. } => "interrupted".into(),
        What::LinkUp { .. } => "link-up".into(),
        What::LinkDown { .. } => "link-down".into(),
        What::Escalated { .. } => "escalated".into(),
        What::Told { event } => format!("told {}", event.name()),
        What::Resolved { by } => format!("resolved {by:?}"),
    }
}

fn word(change: &Change) -> &'static str {
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
