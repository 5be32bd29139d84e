//! The loop: look, the next step, its record, the step.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::report;
use super::session::Session;
use crate::cli::{Exit, Failure};
use crate::ledger::{Ledger, LedgerError};
use crate::model::remedy::RefusalCode;
use crate::model::rotation::{Obstacle, RotationEntry, RotationView, RotationWhat, Step, Way};
use crate::rotate::{Next, Progress, Stage, next, obstacles, steps};

/// How long an obstacle that lifts by itself is waited for, between two steps. A Sentinel stays in TILT for 30 s, and a
/// busy host may put it there (Redis 7.0.15, SENTINEL_TILT_PERIOD).
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(200);
/// A step that the group shows as not made, so many times after it was made: somebody else undoes it.
const REPEATS: usize = 3;

/// What came of it.
pub struct Told {
    pub id: String,
    pub group: String,
    pub user: String,
    pub single: bool,
    pub way: Way,
    pub made: Vec<Made>,
    pub end: End,
}

pub struct Made {
    pub step: Step,
    pub outcome: Result<String, String>,
    pub took: Duration,
}

pub enum End {
    Finished,
    /// Both passwords are valid, as was asked for.
    Kept(String),
    /// An abort that could not take everything back.
    Incomplete(String),
    Failed(String),
    Blocked(Vec<Obstacle>),
    /// Ctrl-C.
    Interrupted,
    Lost(Failure),
}

pub struct Drive<'s, 'a> {
    session: &'s mut Session<'a>,
    ledger: Ledger,
    id: String,
    way: Way,
    progress: Progress,
    made: Vec<Made>,
    repeats: BTreeMap<Step, usize>,
    /// Steps that failed once.
    failures: BTreeSet<Step>,
    json: bool,
    stop: Stop,
}

/// Ctrl-C and SIGTERM: nothing new is begun, the step in hand is finished.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    asked: bool,
}

impl Stop {
    fn new() -> std::io::Result<Stop> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Stop { interrupt, terminate, asked: false })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.asked = true;
    }
}

impl<'s, 'a> Drive<'s, 'a> {
    pub fn new(
        session: &'s mut Session<'a>,
        ledger: Ledger,
        id: String,
        way: Way,
        progress: Progress,
        json: bool,
    ) -> Result<Self, Failure> {
        let stop = Stop::new().map_err(|error| Failure::new(Exit::Fault, format!("signals: {error}")))?;
        Ok(Drive {
            session,
            ledger,
            id,
            way,
            progress,
            made: Vec::new(),
            repeats: BTreeMap::new(),
            failures: BTreeSet::new(),
            json,
            stop,
        })
    }

    pub async fn drive(mut self) -> Told {
        let end = match self.go().await {
            Ok(end) => end,
            Err(failure) => End::Lost(failure),
        };
        let note = match &end {
            End::Finished => RotationWhat::Ended { way: self.way, detail: report::sentence(&end, self.way) },
            other => RotationWhat::Stopped { detail: report::sentence(other, self.way) },
        };
        let end = match self.record(note) {
            Ok(()) => end,
            Err(error) if matches!(end, End::Finished) => End::Lost(super::failed_record(&error)),
            Err(_) => end,
        };
        let (group, user) = (self.session.group.clone(), self.session.user.clone());
        let single = self.session.known_subject().is_ok_and(|subject| subject.single);
        Told { id: self.id, group, user, single, way: self.way, made: self.made, end }
    }

    async fn go(&mut self) -> Result<End, Failure> {
        loop {
            let view = match self.clear().await? {
                Ok(view) => view,
                Err(end) => return Ok(end),
            };
            let step = match next(self.session.known_subject()?, &view, &self.progress) {
                Next::Finished => return Ok(End::Finished),
                Next::Stay(reason) if self.way == Way::Forward && self.progress.failed.is_empty() => {
                    return Ok(End::Kept(reason));
                }
                Next::Stay(reason) => return Ok(End::Incomplete(reason)),
                Next::Step(step) => step,
            };
            let count = self.repeats.entry(step.clone()).or_default();
            *count += 1;
            if *count > REPEATS {
                return Ok(End::Failed(format!("{}: made, and undone by somebody else each time", step.describe())));
            }
            if let Some(end) = self.make(step, &view).await? {
                return Ok(end);
            }
        }
    }

    /// A look with nothing in the way. What lifts by itself is waited for.
    async fn clear(&mut self) -> Result<Result<RotationView, End>, Failure> {
        let began = Instant::now();
        loop {
            if self.stop.asked {
                return Ok(Err(End::Interrupted));
            }
            let looked = tokio::select! {
                looked = self.session.look() => looked,
                () = self.stop.wait() => return Ok(Err(End::Interrupted)),
            };
            let view = match looked {
                Err(failure) if failure.exit != Exit::Unreachable || began.elapsed() >= PATIENCE => {
                    return Err(failure);
                }
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Ok(view) => view,
            };
            let mut found = obstacles(self.session.known_subject()?, &view, Stage::UnderWay(self.way));
            found.extend(self.session.paused(&self.ledger)?);
            if found.is_empty() {
                return Ok(Ok(view));
            }
            // A Sentinel that was started anew needs some seconds to be heard by the others.
            let lifts = |obstacle: &Obstacle| obstacle.code.fleeting() || obstacle.code == RefusalCode::QuorumUnclear;
            if !found.iter().all(lifts) || began.elapsed() >= PATIENCE {
                return Ok(Err(End::Blocked(found)));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop.wait() => {}
            }
        }
    }

    async fn make(&mut self, step: Step, view: &RotationView) -> Result<Option<End>, Failure> {
        let intended = RotationWhat::Intended { way: self.way, step: step.clone() };
        self.record(intended).map_err(|error| super::failed_record(&error))?;
        if !self.json {
            let left = steps(self.session.known_subject()?, view, &self.progress).len();
            report::step_begins(&step, self.made.len() + 1, self.made.len() + left);
        }
        let hands = self.session.hands(view)?;
        let began = Instant::now();
        let outcome = {
            let mut running = pin!(hands.run(&step));
            loop {
                tokio::select! {
                    outcome = &mut running => break outcome,
                    () = self.stop.wait(), if !self.stop.asked => {
                        if !self.json {
                            report::stopping();
                        }
                    }
                }
            }
        };
        let took = began.elapsed();
        let noted = match &outcome {
            Ok(detail) => {
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                RotationWhat::Done { step: step.clone(), detail: detail.clone(), took_us }
            }
            Err(detail) => RotationWhat::Failed { step: step.clone(), detail: detail.clone() },
        };
        self.record(noted).map_err(|error| super::failed_record(&error))?;
        if !self.json {
            report::step_ended(&outcome, took);
        }
        self.made.push(Made { step: step.clone(), outcome: outcome.clone(), took });
        if outcome.is_err() {
            self.progress.cut_short(&step);
        }
        match outcome {
            Ok(_) => {
                self.progress.made(step);
                Ok(None)
            }
            // Every step may be made twice, and a busy host may have been slow once.
            Err(_) if self.failures.insert(step.clone()) => {
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            }
            Err(why) if self.way == Way::Forward => Ok(Some(End::Failed(why))),
            Err(_) => {
                self.progress.failed.insert(step);
                Ok(None)
            }
        }
    }

    /// Another process may hold the ledger for a moment: the daemon of this host.
    fn record(&mut self, what: RotationWhat) -> Result<(), LedgerError> {
        let entry = RotationEntry { at: self.session.now(), what };
        for _ in 0..8 {
            match self.ledger.record_rotation(&self.id, &entry) {
                Err(LedgerError::Locked { .. }) => {}
                other => return other,
            }
        }
        self.ledger.record_rotation(&self.id, &entry)
    }
}
