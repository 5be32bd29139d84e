//! What has to hold at each step, told by what is durable and by the world's own truth, never by the agent's word.

use std::collections::BTreeMap;
use std::time::Duration;

use relinkd::decide::{Mode, Policy};
use relinkd::model::Timestamp;
use relinkd::model::evidence::Evidence;
use relinkd::model::incident::{Entry, IncidentId, Notice, What};
use relinkd::model::people::Pause;
use relinkd::model::remedy::{Change, Outcome, Plan, Precondition, Remedy, Step};

use super::doubt::Doubt;
use super::hands::Reach;
use super::world::{Process, World};

/// A promise that was broken: its name, and what was seen.
#[derive(Debug)]
pub struct Broken {
    pub promise: Promise,
    pub saw: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// No change without its durable intent, in the order of its plan, no step twice.
    IntentFirst,
    /// One change in flight for each replica.
    OneInFlight,
    /// Attempts, cool-downs and hourly limits, over crashes too.
    Limits,
    /// Nothing while a failover runs or may run.
    NotDuringFailover,
    /// Only what the mode allows, or a person has allowed.
    Mode,
    /// Nothing while a pause is in force.
    Paused,
    /// One request for each outage, over all agents.
    OneRequest,
    /// No request harms: the primary is gone for most Sentinels, and no empty replica is promoted.
    NoHarm,
    /// One incident at a time, every entry in its place.
    Order,
    /// The one who replays knows what the one who lived knows.
    Replay,
    /// Messages are numbered without a gap, arrive in order, none is lost, none comes under two names.
    Messages,
    /// An incident ends when the world is whole.
    Ends,
    /// A plain fault in a world that is otherwise whole is healed, whatever was before.
    Heals,
    /// A quiet world falls silent.
    Silence,
}

pub type Kept = Result<(), Broken>;

pub fn broken(promise: Promise, saw: impl Into<String>) -> Kept {
    Err(Broken { promise, saw: saw.into() })
}

fn require(holds: bool, promise: Promise, saw: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { broken(promise, saw()) }
}

struct Flight {
    attempt: u32,
    plan: Plan,
    /// Steps whose end is durable, and those that were begun.
    finished: usize,
    begun: usize,
    /// A step did not go well, so that it may all be taken back.
    failed: bool,
    /// A step changed something, or failed.
    touched: bool,
    /// How many were begun when the undo began.
    undo_from: Option<usize>,
}

struct Run {
    remedy: Remedy,
    began: Timestamp,
    ended: Option<Timestamp>,
    /// In which setting of the host's clock.
    clock: u32,
}

/// What one agent's ledger says, and when it was written by the world's own time.
#[derive(Default)]
pub struct Record {
    open: Option<IncidentId>,
    flight: Option<Flight>,
    attempts: BTreeMap<IncidentId, u32>,
    runs: Vec<Run>,
    told: BTreeMap<IncidentId, u32>,
    proposed: Option<Plan>,
    approved: Option<Plan>,
    /// Attempts of the open incident before a person last took it.
    attempts_before: BTreeMap<IncidentId, u32>,
    /// Attempts since then that ended before anything was changed or failed.
    idle: BTreeMap<IncidentId, u32>,
    failures: u32,
    /// Too many failures in a row, and nobody has taken an incident since.
    stopped: bool,
    /// The last message of each incident that the receiver has, as it was sent.
    received: BTreeMap<IncidentId, (u32, Notice)>,
    pub opened: usize,
    pub resolved: usize,
}

/// What a record is judged by.
pub struct Scene<'a> {
    pub policy: &'a Policy,
    pub clock: u32,
    /// How far the host's clock is from the truth, microseconds.
    pub skew_us: i64,
    pub seen: Option<&'a Evidence>,
    /// By the truth, when that look began.
    pub doubt: &'a Doubt,
    pub pauses: &'a [Pause],
}

impl Scene<'_> {
    /// When an entry was handed out; the ledger may have made it wait.
    fn truth(&self, entry: &Entry) -> Timestamp {
        Timestamp(entry.at.0 - self.skew_us)
    }
}

impl Record {
    pub fn take(&mut self, entries: &[Entry], notice: Option<&Notice>, scene: &Scene<'_>) -> Kept {
        let mut told = entries.iter().filter(|entry| matches!(entry.what, What::Told { .. })).count();
        for entry in entries {
            self.take_one(entry, scene)?;
        }
        if let Some(notice) = notice {
            let known = self.told.get(&notice.incident.id).copied();
            require(known == Some(notice.sequence()), Promise::Messages, || {
                format!("{} is handed out as {} of {known:?}", notice.key(), notice.sequence())
            })?;
            told = told.wrapping_sub(1);
        }
        require(told == 0, Promise::Messages, || "an entry tells of a message that was not handed out with it".into())
    }

    fn take_one(&mut self, entry: &Entry, scene: &Scene<'_>) -> Kept {
        let in_open = self.open.as_ref() == Some(&entry.incident);
        match &entry.what {
            What::Opened { .. } => {
                require(self.open.is_none(), Promise::Order, || format!("two incidents at once: {entry:?}"))?;
                self.open = Some(entry.incident.clone());
                self.opened += 1;
            }
            What::Blip { .. } => {
                require(self.open.is_none(), Promise::Order, || "a blip within an incident".into())?;
            }
            What::FailedOver { .. } => {}
            What::Told { .. } => *self.told.entry(entry.incident.clone()).or_default() += 1,
            What::Acknowledged { .. } => self.acknowledge(entry),
            _ => require(in_open, Promise::Order, || format!("{entry:?} while {:?} is open", self.open))?,
        }
        match &entry.what {
            What::Intended { attempt, plan } => self.intend(entry, *attempt, plan, scene)?,
            What::Finished { attempt, action } => {
                let flight = self.flight.as_mut().filter(|flight| flight.attempt == *attempt);
                let Some(flight) = flight else { return broken(Promise::Order, format!("no such flight: {entry:?}")) };
                flight.finished += 1;
                // Who is no replica any more in the middle of a plan cannot be proved to have a link.
                let cut = flight.touched && matches!(action.outcome, Outcome::PreconditionGone(_));
                flight.failed |= cut || matches!(action.outcome, Outcome::Failed(_) | Outcome::UnderWay(_));
                flight.touched |= !matches!(action.outcome, Outcome::AlreadySo(_) | Outcome::PreconditionGone(_));
            }
            What::Ended { attempt, .. } | What::Interrupted { attempt } => {
                let touched = self.flight.as_ref().is_some_and(|flight| flight.touched);
                let flight = self.flight.take().map(|flight| (flight.attempt, flight.plan.remedy));
                let (known, remedy) = flight.unzip();
                require(known == Some(*attempt), Promise::OneInFlight, || format!("{entry:?} ends {known:?}"))?;
                if let Some(run) = self.runs.last_mut() {
                    run.ended = Some(scene.truth(entry));
                }
                if let What::Ended { outcome, .. } = &entry.what {
                    let before = self.attempts_before.get(&entry.incident).copied().unwrap_or(0);
                    let idle = matches!(outcome, Outcome::AlreadySo(_) | Outcome::PreconditionGone(_));
                    if idle && !touched && *attempt > before {
                        *self.idle.entry(entry.incident.clone()).or_default() += 1;
                    }
                    let asks = remedy == Some(Remedy::RequestFailover);
                    // Nobody was asked, and nothing has to rest.
                    if asks && matches!(outcome, Outcome::PreconditionGone(_)) {
                        self.runs.pop();
                    }
                    self.note_failure(outcome, asks, scene.policy);
                }
            }
            What::Proposed { plan, .. } => self.proposed = Some(plan.clone()),
            What::Approved { .. } => self.approved = self.proposed.clone(),
            What::Withdrawn { .. } | What::Rejected { .. } => (self.proposed, self.approved) = (None, None),
            What::Resolved { .. } => {
                (self.proposed, self.approved) = (None, None);
                require(self.flight.is_none(), Promise::Order, || "resolved with a change in flight".into())?;
                self.open = None;
                self.resolved += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn intend(&mut self, entry: &Entry, attempt: u32, plan: &Plan, scene: &Scene<'_>) -> Kept {
        let rules = scene.policy.of(plan.remedy);
        let now = scene.truth(entry);
        require(self.flight.is_none(), Promise::OneInFlight, || format!("two plans in flight: {entry:?}"))?;
        let approved = self.approved.take().is_some_and(|known| known.same(plan) && rules.mode != Mode::Observe);
        require(rules.mode == Mode::Auto || approved, Promise::Mode, || {
            format!("{} in mode {:?}", plan.remedy, rules.mode)
        })?;
        let pause = scene.pauses.iter().find(|pause| pause.began < entry.at && pause.in_force(entry.at));
        require(pause.is_none(), Promise::Paused, || format!("{entry:?} in {pause:?}"))?;
        require(!self.stopped, Promise::Limits, || format!("after {} failures in a row", self.failures))?;
        require(plan.discards() == 0 || approved, Promise::NoHarm, || {
            format!("writes are thrown away unasked: {entry:?}")
        })?;
        let known = self.attempts.insert(entry.incident.clone(), attempt).unwrap_or(0);
        let before = self.attempts_before.get(&entry.incident).copied().unwrap_or(0);
        let idle = self.idle.get(&entry.incident).copied().unwrap_or(0);
        let most = scene.policy.max_attempts;
        require(attempt == known + 1 && attempt - before - idle <= most && idle < 4 * most, Promise::Limits, || {
            format!("attempt {attempt} after {known}, {idle} of them idle, of {most}")
        })?;
        // Where the host's clock was set forward, nobody can tell how long ago it was.
        let of_kind = |run: &&Run| run.remedy == plan.remedy && run.clock == scene.clock;
        let slack = Duration::from_millis(1);
        if let Some(last) = self.runs.iter().rfind(of_kind) {
            let rest = now.since(last.ended.unwrap_or(last.began)) + slack;
            require(rest >= rules.cooldown, Promise::Limits, || {
                format!("{} after {rest:?}, the cool-down is {:?}", plan.remedy, rules.cooldown)
            })?;
        }
        let hour = Duration::from_secs(3600);
        let recent = self.runs.iter().filter(of_kind).filter(|run| now.since(run.began) + slack < hour).count();
        require(recent < rules.max_per_hour as usize, Promise::Limits, || {
            format!("{recent} runs of {} within the hour", plan.remedy)
        })?;
        require(scene.seen.is_some(), Promise::IntentFirst, || "a plan without a look".into())?;
        // Whoever names another primary, for however long, speaks against moving a replica.
        let stands = scene.doubt.stands();
        let moves = plan.steps.iter().any(|step| matches!(step.change, Change::Repoint { .. }));
        let stands = stands.or(scene.doubt.dissent.as_deref().filter(|_| moves));
        require(stands.is_none(), Promise::NotDuringFailover, || format!("{} intended: {stands:?}", plan.remedy))?;
        self.runs.push(Run { remedy: plan.remedy, began: now, ended: None, clock: scene.clock });
        self.flight = Some(Flight {
            attempt,
            plan: plan.clone(),
            finished: 0,
            begun: 0,
            failed: false,
            touched: false,
            undo_from: None,
        });
        Ok(())
    }

    fn acknowledge(&mut self, entry: &Entry) {
        let attempts = self.attempts.get(&entry.incident).copied().unwrap_or(0);
        self.attempts_before.insert(entry.incident.clone(), attempts);
        self.idle.remove(&entry.incident);
        (self.failures, self.stopped) = (0, false);
    }

    fn note_failure(&mut self, outcome: &Outcome, asks: bool, policy: &Policy) {
        match outcome {
            // What a Sentinel takes is not yet a success.
            Outcome::Changed(_) | Outcome::UnderWay(_) if asks => {}
            Outcome::Failed(_) => self.failures += 1,
            Outcome::Changed(_) | Outcome::UnderWay(_) => self.failures = 0,
            Outcome::AlreadySo(_) | Outcome::PreconditionGone(_) => {}
        }
        self.stopped |= self.failures >= policy.max_failures;
    }

    /// A step is about to be carried out.
    pub fn begin(&mut self, attempt: u32, step: &Step) -> Kept {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.attempt == attempt) else {
            return broken(Promise::IntentFirst, format!("no durable intent for {:?}", step.change));
        };
        if flight.failed && flight.undo_from.is_none() && flight.plan.undo.first() == Some(step) {
            flight.undo_from = Some(flight.begun);
        }
        let next = match flight.undo_from {
            None => flight.plan.steps.get(flight.begun),
            Some(from) => flight.plan.undo.get(flight.begun - from),
        };
        let in_order = next == Some(step) && flight.begun == flight.finished;
        require(in_order, Promise::IntentFirst, || format!("{:?} in place of {next:?}", step.change))?;
        flight.begun += 1;
        Ok(())
    }

    /// The receiver has a message, and may have had it before.
    pub fn receive(&mut self, notice: &Notice) -> Kept {
        let id = notice.incident.id.clone();
        let last = self.received.get(&id);
        let again = last.is_some_and(|(number, _)| *number == notice.sequence());
        let wanted = last.map_or(0, |(number, _)| *number) + u32::from(!again);
        require(notice.sequence() == wanted, Promise::Messages, || format!("{} where {wanted} is due", notice.key()))?;
        let same = !again || last.is_some_and(|(_, known)| known == notice);
        require(same, Promise::Messages, || format!("{} comes twice, and differs", notice.key()))?;
        self.received.insert(id, (notice.sequence(), notice.clone()));
        Ok(())
    }

    /// At the end, when all is whole and delivered.
    pub fn is_over(&self) -> Kept {
        require(self.open.is_none(), Promise::Ends, || format!("{:?} is still open", self.open))?;
        require(self.opened == self.resolved, Promise::Ends, || format!("{} of {} ended", self.resolved, self.opened))?;
        let arrived: BTreeMap<_, _> = self.received.iter().map(|(id, (number, _))| (id.clone(), *number)).collect();
        require(arrived == self.told, Promise::Messages, || "what the ledger says was told did not all arrive".into())
    }
}

/// A request for a failover was carried out: what the truth says of it.
pub fn requested(world: &World, host: usize, outcome: &Outcome, rest: Duration) -> Kept {
    if !matches!(outcome, Outcome::Changed(_)) {
        return Ok(());
    }
    let Some(last) = world.requests.last() else { return Ok(()) };
    let again = world.requests.iter().rev().skip(1).find(|request| request.outage == last.outage);
    if let Some(again) = again {
        let span = last.at.since(again.at);
        require(span >= rest, Promise::OneRequest, || {
            format!("host {host} and host {} ask within {span:?} in outage {}", again.host, last.outage)
        })?;
    }
    let Some(named) = world.named() else { return Ok(()) };
    let to = world.sentinels.iter().find_map(|sentinel| sentinel.failover.as_ref()).map(|failover| failover.to);
    let empty = to.is_some_and(|to| {
        let since = world.nodes[to].empty_since;
        since.is_some_and(|since| world.now.since(since) > Duration::from_secs(2)) && world.nodes[named].keys > 0
    });
    require(!empty, Promise::NoHarm, || format!("{to:?} has no data, and is promoted"))
}

/// The hands have looked, and go on to make a change: by the truth of that moment no failover runs or may be running. What
/// touches no link and asks for nothing may follow a change of the same run, or take a login back.
pub fn beyond_doubt(doubt: &Doubt, host: usize, step: &Step, reach: Reach) -> Kept {
    let harmless = match step.change {
        Change::ProveLink => true,
        Change::Persist => step.expect == Precondition::default(),
        _ => reach == Reach::LoginAlone,
    };
    require(harmless || doubt.stands().is_none(), Promise::NotDuringFailover, || {
        format!("host {host} is about to {}: {doubt:?}", step.change.describe())
    })
}

/// A failover is about to be asked for: the primary is gone by the truth, or at least for most Sentinels.
pub fn may_be_asked(world: &World) -> Kept {
    let Some(named) = world.named() else { return Ok(()) };
    let down = world.sentinels.iter().filter(|sentinel| sentinel.s_down.is_some()).count();
    let alive = world.nodes[named].process == Process::Up && world.nodes[named].follows.is_none();
    require(!alive || down >= 2, Promise::NoHarm, || format!("a failover of a primary that {down} hold down"))
}
