//! The state machine of one watched instance: pure, single-owner, replayable.
//!
//! Inputs go in through [`Agent::handle`] and [`Agent::handle_timeout`]; what to do comes out of
//! [`Agent::poll_effect`], strictly in order, and when to come back out of [`Agent::poll_timeout`]. No clock, no
//! socket, no file: time and randomness are handed in.
//!
//! Invariants: a change is applied only after its intent was handed out to be recorded; one change is in flight at
//! most; while the ledger cannot be written nothing is changed; after a crash an intent without an end is
//! interrupted, and the next look decides anew. What is *not* here: how to look, how to change, how to tell.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::decide::{Context, History, LedgerHealth, Policy, decide, next_steps, turn_in, wants_candidates};
use crate::diagnose::{diagnose, handshake_works};
use crate::model::event::{Pulse, StoreNews, Wake, Why};
use crate::model::evidence::{Evidence, Missing, Reading};
use crate::model::finding::{Cause, Diagnosis, Fact, Finding};
use crate::model::incident::{Entry, Notice, What};
use crate::model::people::Pause;
use crate::model::remedy::{Decision, Outcome, RefusalCode, Remedy, Step};
use crate::model::{Address, LinkId, Timestamp};

mod answers;
mod applying;
mod asking;
mod attempts;
mod ending;
mod flapping;
mod following;
mod host;
mod incidents;
mod lately;
mod looking;
mod memory;
mod naming;
mod recording;
mod status;
mod telling;
mod tries;

pub use answers::TURNS;
use following::Following;
pub use following::{SecretStatus, Standing};
pub use host::{Beside, Host};
pub use incidents::Incidents;
pub use memory::ByHand;
use status::Last;
pub use status::{Paused, Proposal, Status, UNSEEN};

use applying::InFlight;
use memory::Memory;

/// What a replica needs at most to try again, with some slack.
const RETRY: Duration = Duration::from_secs(2);

/// A primary that takes the whole handshake is given a few attempts of its replica before the cause reads unknown.
const ATTEMPTS: Duration = Duration::from_secs(5);

/// For this long a refused login speaks against a failover, however short the cool-down is set: that one link works
/// again does not prove the passwords of the others.
const AUTH_MEMORY: Duration = Duration::from_secs(600);

/// What an agent is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Wake(Wake),
    /// A look ended. `trend.last_up` may say when the fast poll last saw the link up.
    Looked(Box<Evidence>),
    /// A step of the plan in flight ended.
    Stepped {
        attempt: u32,
        outcome: Outcome,
        took_us: u64,
    },
    /// A record could not be made durable; every effect behind it was dropped.
    LedgerFailed(String),
    /// All records are durable again.
    LedgerRecovered,
    /// The pauses in force and those that ended a while ago, of the whole host.
    Paused(Vec<Pause>),
    /// What all agents of this host have done.
    Beside(Beside),
    /// The secret store says something else of `masterauth` than before.
    Store(Box<StoreNews>),
    Stopping,
}

/// What an agent wants done. Effects run strictly in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look at the whole. `candidates`: fetch passwords from the store and prove them. `deep`: repeat the handshake
    /// although the link is up.
    Look { candidates: bool, deep: bool },
    /// Make these durable, and the message with them, in one transaction.
    Record { entries: Vec<Entry>, notice: Option<Box<Notice>> },
    /// Run one step; the answer is `Input::Stepped`.
    Apply { attempt: u32, step: Box<Step> },
}

/// Fixed facts about an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub link: LinkId,
    pub address: Address,
    pub host: String,
    /// A secret store is configured for this instance's group.
    pub has_store: bool,
    /// Makes incident ids: handed in, so that a run can be repeated.
    pub seed: u64,
}

pub struct Agent {
    identity: Identity,
    policy: Policy,
    incidents: Incidents,
    memory: Memory,
    in_flight: Option<InFlight>,
    /// When a look was asked for that has not come back.
    looking: Option<Timestamp>,
    /// … and repeats the handshake.
    deep: bool,
    /// Something woke us meanwhile.
    look_again: bool,
    /// … and wants the handshake repeated.
    again_deep: bool,
    /// The look under way tries passwords: when it comes back without, there are none to try.
    proving: bool,
    /// The present fault was seen while the link was up.
    latent: bool,
    /// … and is that it drops again and again.
    flaps: bool,
    next_look: Timestamp,
    last_deep: Option<Timestamp>,
    /// Something woke us that wants a deep look, too soon after the last one.
    owes_deep: bool,
    passing_since: Option<Timestamp>,
    /// Since when nothing fits the open incident any more. Tries of a sync that carry nothing do not end that.
    unnamed_since: Option<Timestamp>,
    /// The reason to hold that stands, and since when.
    hold_stands: Option<(lately::Hold, Timestamp)>,
    /// The cause that was seen last is not written: it was written a moment ago, and another between.
    unsteady: bool,
    /// When this agent may ask for a failover, if that is what it waits for.
    our_turn: Option<Timestamp>,
    ledger: LedgerHealth,
    /// The record of before is not known.
    unread: bool,
    /// Why what bears on this agent is not known: the record of before, or the pauses and the limits of the host. No
    /// record that becomes durable changes that.
    standing_unknown: Option<String>,
    stopping: bool,
    pauses: Vec<Pause>,
    beside: Beside,
    ids_made: u64,
    batch: Vec<Entry>,
    effects: VecDeque<Effect>,
    last: Last,
    following: Following,
}

impl Agent {
    pub fn new(identity: Identity, policy: Policy, now: Timestamp) -> Self {
        Agent {
            identity,
            policy,
            incidents: Incidents::default(),
            memory: Memory::default(),
            in_flight: None,
            looking: None,
            deep: false,
            look_again: false,
            again_deep: false,
            proving: false,
            latent: false,
            flaps: false,
            next_look: now,
            last_deep: None,
            owes_deep: false,
            passing_since: None,
            unnamed_since: None,
            hold_stands: None,
            unsteady: false,
            our_turn: None,
            ledger: LedgerHealth::Writable,
            unread: false,
            standing_unknown: None,
            stopping: false,
            pauses: Vec::new(),
            beside: Beside::default(),
            ids_made: 0,
            batch: Vec::new(),
            effects: VecDeque::new(),
            last: Last::default(),
            following: Following::default(),
        }
    }

    /// Takes in what the ledger holds from before. An intent without an end is interrupted: what it changed is
    /// unknown until the next look.
    pub fn replay(&mut self, entries: &[Entry], now: Timestamp) {
        for entry in entries.iter().filter(|entry| entry.link.replica == self.identity.link.replica) {
            let entry = entry.dated_at_most(now);
            self.memory.flapping.replay(&entry, now);
            self.incidents.take(&entry);
        }
        if let Some((cause, flaps)) =
            self.incidents.open().and_then(|open| open.finding.flaps.map(|flaps| (open.finding.cause, flaps)))
        {
            self.memory.flapping.resume(cause, flaps, now);
        }
        if let Some(open) = self.incidents.open().filter(|open| open.finding.cause == Cause::PrimaryEmptied) {
            self.memory.emptied_before(open.opened_at);
        }
        if let Some(attempt) = self.incidents.open().and_then(|incident| incident.in_flight) {
            self.record(What::Interrupted { attempt }, now);
            self.flush(None);
        }
        self.forget_approval(now);
    }

    /// A plan is in flight.
    pub fn is_acting(&self) -> bool {
        self.in_flight.is_some()
    }

    /// A look was asked for and has not come back.
    pub fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    pub fn handle(&mut self, input: Input, now: Timestamp) {
        match input {
            // A log line is news only while all seems well: in a hot reconnect loop there are thousands a second, and
            // an open incident is looked at by its own timer.
            Input::Wake(Wake { why: Why::Log, .. }) if self.troubled() => {}
            Input::Wake(Wake { at, why: Why::Replica(Pulse::Replica { of, up, .. }) }) => {
                self.memory.flapping.felt(&of, up, at);
                self.look(false, now);
            }
            // What it tells of may be over at once, and then only a look in depth shows why it comes again. Sentinels
            // that lose a primary while our link to it stands have a trouble of their own, or soon we have.
            Input::Wake(Wake { why: Why::Log, .. }) => self.look_deep_when_due(now),
            Input::Wake(Wake { why: Why::Sentinel(_), .. }) => self.look_deep_when_due(now),
            Input::Wake(Wake { why: Why::Asked, .. }) => self.look_for_someone(now),
            Input::Wake(Wake { why: Why::Aligned, .. }) => {
                self.trust_the_store();
                self.look_for_someone(now);
            }
            Input::Wake(Wake { why: Why::Store, .. }) => self.store_answered(now),
            Input::Wake(_) => self.look(false, now),
            Input::Looked(evidence) => self.looked(evidence, now),
            Input::Stepped { attempt, outcome, took_us } => self.stepped(attempt, outcome, took_us, now),
            Input::LedgerFailed(why) => self.ledger_failed(why, now),
            Input::LedgerRecovered => {
                self.ledger = LedgerHealth::Writable;
                self.look(false, now);
            }
            Input::Paused(pauses) => self.pauses_are(pauses, now),
            Input::Beside(beside) => self.beside = beside,
            Input::Store(news) => self.store_said(*news, now),
            Input::Stopping => self.stopping = true,
        }
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        if now >= self.next_look && self.in_flight.is_none() {
            let deep = self.memory.down_seen().is_none();
            let candidates = self.identity.has_store && self.incidents.wants_candidates();
            self.ask_for_look(candidates, deep, now);
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Agent::handle_timeout`] next; nothing while a look or a step is under way.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        (self.looking.is_none() && self.in_flight.is_none()).then_some(self.next_look)
    }

    fn looked(&mut self, mut evidence: Box<Evidence>, now: Timestamp) {
        self.looking = None;
        if self.in_flight.is_some() {
            return self.looked_in_flight(evidence, now);
        }
        self.unsteady = false;
        if self.memory.pauses(&evidence) {
            return self.ask_for_look(false, self.again_deep, now);
        }
        self.memory.before_judging(&evidence);
        self.note_failover(&evidence, now);
        evidence.trend = self.memory.trend();
        // Why a link flaps is asked of its primary too.
        if evidence.trend.drops.is_some() && !self.deep {
            return self.ask_for_look(false, true, now);
        }
        evidence.trend.store_left = self.left_the_store(&evidence);
        let diagnosis = diagnose(&evidence);
        self.last.at = Some(evidence.ended);
        self.note_proof(&evidence);
        match diagnosis {
            Diagnosis::Healthy(sentence) => self.healthy(sentence, &evidence, now),
            Diagnosis::Broken(finding) => self.fault(finding, &evidence, now),
            Diagnosis::Inconclusive { missing, rejected } => self.unclear(missing, rejected, &evidence, now),
        }
        self.settle_approval(evidence.began, now);
        self.last.evidence = Some(evidence);
        if self.look_again && self.is_idle() {
            self.ask_for_look(false, self.again_deep, now);
        }
        self.try_new_password(now);
    }

    fn fault(&mut self, finding: Finding, e: &Evidence, now: Timestamp) {
        let cause = finding.cause;
        self.latent = finding.link_up;
        self.note_progress(cause, e, now);
        self.memory.note_fault(&finding, e);
        let cause_since = self.memory.cause_since(cause, e.began);
        let doubt = if finding.suspected { " (suspected)" } else { "" };
        self.flaps = finding.flaps.is_some();
        self.last.fault = Some((cause, finding.suspected));
        self.last.sentence = format!("{}{doubt}: {}", finding.cause, finding.cause.title());
        if let Some(flaps) = &finding.flaps {
            self.last.sentence += &format!(": the link {}", flaps.in_words());
        }
        // How far it is, is what there is to know of a sync.
        if let Some(progress) = finding.because.first().filter(|_| cause == Cause::SyncRunning) {
            self.last.sentence += &format!(": {}", progress.saw);
        }
        if !self.in_incident(&finding, e, now) {
            self.wait(now);
            return;
        }
        let untried = !self.proving && e.store == Reading::Missing(Missing::NotAsked);
        if wants_candidates(cause) && self.identity.has_store && untried {
            self.flush(None);
            self.ask_for_look(true, true, now);
            return;
        }
        let history = self.history(cause_since, now);
        let context = Context { evidence: e, finding: &finding, policy: &self.policy, history: &history, now };
        let decision = self.minded(decide(&context), now);
        self.last.next_steps = next_steps(&context, &decision);
        let waits = matches!(&decision, Decision::Hold(refusal)
            if refusal.remedy == Some(Remedy::RequestFailover)
                && matches!(refusal.code, RefusalCode::NotOurTurn | RefusalCode::SentinelActing));
        self.our_turn = turn_in(&context).filter(|_| waits).map(|wait| now.after(wait));
        self.last.decision = Some(decision.clone());
        self.call_for_the_unanswered(e, now);
        match decision {
            Decision::Propose(_) if self.unsteady && self.incidents.lately().proposed(now) => {
                self.tell_if_due(now);
                self.wait(now);
            }
            Decision::Hold(refusal) => self.hold(refusal, now),
            Decision::Apply(plan) => {
                self.name_what_acts(&finding, e, now);
                self.begin(plan, now);
            }
            Decision::Propose(plan) => {
                self.name_what_acts(&finding, e, now);
                self.propose(plan, e.began, now);
            }
        }
    }

    fn unclear(&mut self, missing: Vec<Fact>, rejected: BTreeMap<Cause, String>, e: &Evidence, now: Timestamp) {
        self.memory.fault_seen(e);
        (self.latent, self.flaps) = (false, false);
        let stood = now.since(self.memory.cause_since(Cause::Unknown, e.began));
        // In the moments after a fix nothing is named any more, and the link is not yet up. Only when that lasts is the
        // incident not what it was.
        if let Some(incident) = self.incidents.open()
            && incident.finding.cause != Cause::Unknown
            && now.since(*self.unnamed_since.get_or_insert(e.began)) < self.policy.patience
        {
            if incident.up_at.is_some() {
                self.record(What::LinkDown { at: e.ended }, now);
            }
            self.passing_since = None;
            self.last.sentence = format!("the link is down; {} does not fit any more", self.last_cause());
            self.last.decision = None;
            self.tell_if_due(now);
            self.wait(now);
            return;
        }
        // Nothing stands in the way of the replica's next attempt, which is up to a second away (Redis 7.0.15,
        // replicationCron), or which has met what its log is about to tell.
        let open_way = e.upstream.seen().is_some_and(handshake_works);
        if self.incidents.open().is_none()
            && ((open_way && stood < ATTEMPTS) || (stood < RETRY && stood < self.fault_age(now)))
        {
            self.last.sentence = "the link is down, and nothing stands in its way any more".to_owned();
            self.passing_since = None;
            self.wait(now);
            return;
        }
        let finding = Finding {
            cause: Cause::Unknown,
            suspected: self.fault_age(now) < self.policy.blip,
            link_up: false,
            unrefused: false,
            flaps: None,
            because: missing,
            rejected,
        };
        self.fault(finding, e, now);
    }

    fn last_cause(&self) -> Cause {
        self.incidents.open().map_or(Cause::Unknown, |incident| incident.finding.cause)
    }

    /// What it would decide on this evidence if the finding had stood for as long as it has to. Nothing comes of it.
    pub fn foresee(&self, e: &Evidence, finding: &Finding, now: Timestamp) -> Decision {
        let finding = Finding { suspected: false, ..finding.clone() };
        let history = History { cause_since: Some(Timestamp::default()), ..self.history(now, now) };
        let context = Context { evidence: e, finding: &finding, policy: &self.policy, history: &history, now };
        self.minded(decide(&context), now)
    }

    fn history(&self, cause_since: Timestamp, now: Timestamp) -> History {
        let quiet = self.policy.of(Remedy::RequestFailover).cooldown.max(AUTH_MEMORY);
        let open = self.incidents.open();
        let opened = open.map_or(cause_since, |incident| incident.opened_at);
        History {
            attempts: open.map_or(0, |incident| incident.counted_attempts()),
            idle: open.map(|incident| incident.idle_at.clone()).unwrap_or_default(),
            runs: self.incidents.runs().to_vec(),
            cause_since: Some(cause_since),
            auth_trouble: self.incidents.auth_trouble(now, quiet),
            causes: open.map(|incident| incident.causes.clone()).unwrap_or_default(),
            seats: self.memory.seats().clone(),
            tries: self.memory.tries().to_vec(),
            unlinked: self.memory.unlinked().clone(),
            failovers: self.incidents.failovers().to_vec(),
            ledger: self.ledger_health(),
            stopping: self.stopping,
            paused: self.paused(now).cloned(),
            pause_over: self.pause_over(now),
            fault_since: Some(opened.min(self.memory.down_seen().unwrap_or(opened)).min(cause_since)),
            approved: open.is_some_and(|incident| incident.people.approved.is_some()),
            group_runs: self.beside.group_runs.clone(),
            failures: self.beside.failures.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
