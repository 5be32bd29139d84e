//! Random trouble on real servers, with a relinkd on each of three hosts: was anything that it did wrong, and was the
//! group better off than without it?
//!
//! Each round is played twice from the same plan, once with relinkd acting and once with relinkd only watching. A client
//! writes all the while, and at the end of a round every write that was acknowledged is looked for at the primary.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::fault::Fault;
use crate::kind::Kind;

mod judge;
mod losses;
mod plan;
mod report;
mod stage;
mod witness;
mod writer;

use judge::{Did, Happened};
use plan::{Event, Round};
pub use report::Verdict;
use stage::{RECOVERS, Stage};
use witness::Line;

/// A new group now and then, so that what one round left behind does not colour all that follow.
const ROUNDS_A_GROUP: usize = 5;

pub struct Chaos {
    pub relinkd: PathBuf,
    pub kind: Kind,
    pub rounds: usize,
    pub seed: u64,
    /// Only this one of them, to look into it.
    pub only: Option<usize>,
    /// Groups at the same time.
    pub jobs: usize,
}

/// What came of one round in one mode.
#[derive(Clone, Debug, Default)]
pub struct Played {
    pub plan: String,
    pub number: usize,
    /// Whether a Sentinel tried, and gave up.
    pub gave_up: bool,
    /// For how long after that a request was due.
    pub due: Duration,
    pub requests: usize,
    changes: Vec<Did>,
    /// Why it held a request back, for whoever wonders why none was made.
    pub held: Vec<String>,
    pub wrong: Vec<String>,
    pub unclosed: Vec<String>,
    pub lost_messages: Vec<String>,
    pub without_primary: Duration,
    pub broken_link: Duration,
    pub acked: usize,
    /// Acknowledged writes that were lost, by the node that took them.
    pub lost: Vec<usize>,
    /// Whether the group was whole again in the end.
    pub whole: bool,
    /// Why the round could not be judged.
    pub void: Option<String>,
}

impl Played {
    fn lost(&self) -> usize {
        self.lost.iter().sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Auto,
    Observe,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Observe => "observe",
        }
    }
}

/// Plays all rounds, telling of each on `tell` as it ends.
pub fn run(chaos: &Chaos, tell: &(dyn Fn(&str) + Sync)) -> Verdict {
    let mut rounds = plan::plan(chaos.seed, chaos.rounds);
    rounds.retain(|round| chaos.only.is_none_or(|only| round.number == only));
    // The same rounds in both modes, side by side, so that the machine is as busy for one as for the other.
    let blocks: Vec<(Mode, &[Round])> =
        rounds.chunks(ROUNDS_A_GROUP).flat_map(|block| [(Mode::Auto, block), (Mode::Observe, block)]).collect();
    let blocks = Mutex::new(blocks.into_iter());
    let played = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..chaos.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    // A statement of its own: the guard of a `while let` is held through its body.
                    let next = locked(&blocks).next();
                    let Some((mode, block)) = next else { break };
                    play_block(chaos, mode, block, &|one: Played| {
                        tell(&report::line(mode, &one));
                        locked(&played).push((mode, one));
                    });
                }
            });
        }
    });
    let played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    Verdict::of(chaos, played)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn play_block(chaos: &Chaos, mode: Mode, block: &[Round], done: &dyn Fn(Played)) {
    let mut kept: Option<Stage> = None;
    for round in block {
        let void = |why: Error| Played {
            plan: round.to_string(),
            number: round.number,
            void: Some(why.to_string()),
            ..Played::default()
        };
        // relinkd asks for no failover for ten minutes after a login was refused, so what went before would decide.
        let stage = match kept.take().filter(|_| !round.gives_up) {
            Some(stage) => Ok(stage),
            None => Stage::set(chaos.kind, &chaos.relinkd, mode.word()),
        };
        match stage.and_then(|mut stage| play(&mut stage, round).map(|played| (stage, played))) {
            Ok((stage, played)) => {
                // Sentinels that gave up wait for a minute: that would be the next round's trouble, of nobody's plan.
                kept = (played.whole && !played.gave_up).then_some(stage);
                done(played);
            }
            Err(error) => done(void(error)),
        }
    }
}

fn play(stage: &mut Stage, round: &Round) -> Result<Played> {
    if !stage.wait_whole(RECOVERS) {
        return Err(Error::other("the group was not whole before the round"));
    }
    if !stage.wait_filled(RECOVERS) {
        return Err(Error::other("what was written had not arrived everywhere before the round"));
    }
    stage.writer.begin();
    stage.witness.begin();
    let from = Timestamp::now();
    let happened = upsets(stage, round)?;
    let whole = stage.wait_whole(RECOVERS);
    // What is still broken is rightly open.
    let unclosed = if whole { stage.open_incidents()? } else { Vec::new() };
    let (samples, heard) = (stage.witness.samples(), stage.witness.heard());
    let (requests, beside) = judge::requests(&heard);
    let mut played = Played {
        plan: round.to_string(),
        number: round.number,
        gave_up: heard.iter().any(|one| one.what == Line::GivesUp),
        due: judge::due(&heard, &happened, &samples),
        requests,
        wrong: beside,
        unclosed,
        without_primary: stage.writer.without_primary(),
        broken_link: stage.witness.broken(),
        whole,
        ..Played::default()
    };
    for number in 0..stage::HOSTS {
        // An incident that was over before has been judged in its own round.
        let mut incidents = stage.incidents(number)?;
        incidents.retain(|one| judge::ends_after(one, from));
        let here = judge::changes(number, &incidents).into_iter().filter(|did| did.at >= from);
        played.changes.extend(here);
        played.held.extend(judge::held_requests(number, &incidents));
        played.lost_messages.extend(missing_messages(stage, number, &incidents));
    }
    played.wrong.extend(played.changes.iter().filter_map(|did| judge::wrong(did, &happened, &samples)));
    if let Some(primary) = stage.group.current_primary() {
        (played.acked, played.lost) = stage.writer.lost(primary, stage::HOSTS)?;
    }
    Ok(played)
}

/// Gives the last messages a moment to arrive.
fn missing_messages(stage: &Stage, number: usize, incidents: &[serde_json::Value]) -> Vec<String> {
    let missing = || {
        let requests = stage.receivers[number].requests();
        let named = |request: &crate::Request| Some((request.header("webhook-id")?.to_owned(), request.json()?));
        judge::lost_messages(incidents, &requests.iter().filter_map(named).collect::<Vec<_>>())
    };
    let began = Instant::now();
    while !missing().is_empty() && began.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(200));
    }
    missing()
}

/// Begins and ends each upset at its time.
fn upsets(stage: &mut Stage, round: &Round) -> Result<Vec<Happened>> {
    let began = Instant::now();
    let mut todo: Vec<Event> = round.events.clone();
    let mut happened: Vec<Happened> = Vec::new();
    let mut standing: Vec<(Duration, usize, Option<Fault>)> = Vec::new();
    while !todo.is_empty() || !standing.is_empty() {
        let now = began.elapsed();
        if let Some(event) = todo.first().copied().filter(|event| event.at <= now) {
            todo.remove(0);
            let at = Timestamp::now();
            let (nodes, fault) = stage.upset(event.upset)?;
            standing.push((now + event.lasts, happened.len(), fault));
            happened.push(Happened { upset: event.upset, nodes, began: at, ended: None });
        }
        if let Some(due) = standing.iter().position(|(until, ..)| *until <= now) {
            let (_, which, fault) = standing.remove(due);
            let over = happened[which].clone();
            if standing.iter().any(|(_, other, _)| happened[*other].keeps(&over)) {
                // It goes on until the other one ends.
                fault.into_iter().for_each(Fault::keep);
            } else {
                // What it did may have been overtaken by another upset: a dead server takes no command.
                drop(fault.map(Fault::undo));
                stage.revive(&over)?;
            }
            happened[which].ended = Some(Timestamp::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
    stage.revive_all()?;
    stage.put_right();
    Ok(happened)
}
