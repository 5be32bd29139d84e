//! One round by hand, as `heal` and `align` make it. While the daemon runs it is asked to look now, so that one pair of
//! hands acts; without it this process is the daemon for one round, with the same guards, record and messages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{Exit, Failure};
use crate::agent::{Input, Status};
use crate::config::Settings;
use crate::control::{self, ControlError, Request};
use crate::daemon::clock::Clock;
use crate::daemon::{Hand, Record, Runner, Watched};
use crate::model::Timestamp;
use crate::model::event::{Wake, Why};
use crate::model::incident::{Incident, Phase};
use crate::model::remedy::Outcome;

/// How long one round may take.
const ROUND: Duration = Duration::from_secs(60);

/// Looks of the daemon that have to end after it was asked: the first of them may have begun before.
pub const NEW_LOOKS: u32 = 2;

/// What came of a round.
pub struct Round {
    pub status: Status,
    /// Each change that was made, in words.
    pub changed: Vec<String>,
}

/// Looks, and lets the agent act under its guards until it is done.
pub async fn run(settings: &Settings, watched: Watched, align: bool) -> Result<Round, Failure> {
    let before = control::ask(&settings.agent.run_dir, &Request::Status).await;
    let before = before.ok().and_then(|answer| status_of(&answer, &watched.name).ok()?.looked_at);
    match control::ask(&settings.agent.run_dir, &Request::Look { replica: watched.name.clone(), align }).await {
        Ok(_) => through_daemon(settings, &watched.name, before).await,
        Err(ControlError::NotRunning(_)) => alone(settings, watched).await,
        Err(error) => {
            let exit = if matches!(error, ControlError::Denied(_) | ControlError::Forbidden(_)) {
                Exit::Permission
            } else {
                Exit::Fault
            };
            Err(Failure::new(exit, error))
        }
    }
}

/// The daemon has been asked to look: wait until it is done with what it finds. What it saw before it was asked counts
/// for nothing, and the first look to end may have begun before.
async fn through_daemon(settings: &Settings, name: &str, before: Option<Timestamp>) -> Result<Round, Failure> {
    let asked = tokio::time::Instant::now();
    let mut incident = None;
    let (mut last, mut looks) = (before, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let answer = control::ask(&settings.agent.run_dir, &Request::Status)
            .await
            .map_err(|error| Failure::new(Exit::Unreachable, error))?;
        let status = status_of(&answer, name)?;
        incident = incident.or(status.incident.clone());
        if last != status.looked_at {
            (last, looks) = (status.looked_at, looks + 1);
            if looks < NEW_LOOKS {
                let look = Request::Look { replica: name.to_owned(), align: false };
                control::ask(&settings.agent.run_dir, &look).await.map_err(|e| Failure::new(Exit::Unreachable, e))?;
            }
        }
        if (looks >= NEW_LOOKS && done(&status)) || asked.elapsed() > ROUND {
            let changed = match incident {
                Some(id) => changes_of(settings, &id.0),
                None => Vec::new(),
            };
            return Ok(Round { status, changed });
        }
    }
}

fn status_of(answer: &Value, name: &str) -> Result<Status, Failure> {
    let found = super::status::replicas(answer)?.into_iter().find(|status| status.replica == name);
    found.ok_or_else(|| Failure::new(Exit::Fault, format!("the running daemon does not watch {name:?}; reload it")))
}

/// Nothing is in flight and nothing will come without a further event.
fn done(status: &Status) -> bool {
    if status.secret.as_ref().is_some_and(|secret| secret.awaited) {
        return false;
    }
    match (&status.incident, status.phase) {
        // A suspicion becomes an incident within a blip, and is then acted on. A passing state has its patience first.
        (None, _) => {
            status.looked_at.is_some() && status.cause.is_none_or(|cause| cause.passing() || !status.suspected)
        }
        (Some(_), Some(Phase::Escalated | Phase::Proposed)) => true,
        (Some(_), _) => status.held.as_ref().is_some_and(|refusal| !refusal.code.fleeting()),
    }
}

fn changes_of(settings: &Settings, id: &str) -> Vec<String> {
    use crate::ledger::{Ledger, Lookup};
    let found = Ledger::open_read_only(&settings.agent.state_dir.join(crate::daemon::LEDGER))
        .and_then(|ledger| ledger.incident(id));
    match found {
        Ok(Lookup::Found(incident)) => changes(&incident),
        _ => Vec::new(),
    }
}

fn changes(incident: &Incident) -> Vec<String> {
    let changed = incident.actions.iter().filter(|action| matches!(action.outcome, Outcome::Changed(_)));
    changed.map(|action| format!("{}: {}", action.what, action.outcome.detail())).collect()
}

/// The daemon's parts for one instance and one round.
async fn alone(settings: &Settings, watched: Watched) -> Result<Round, Failure> {
    let clock = Clock::start();
    // Taking the control socket is what keeps a daemon, or another heal, from acting beside us.
    let _socket = control::bind(&settings.agent.run_dir).map_err(|error| {
        Failure::new(Exit::Permission, format!("run_dir {}: {error}", settings.agent.run_dir.display()))
    })?;
    let record = Record::of(settings);
    let (mut agent, pauses, host) = crate::daemon::revive(&record, &watched, settings, clock)
        .await
        .map_err(|why| Failure::new(Exit::Fault, format!("the record cannot be read, so nothing is changed: {why}")))?;
    agent.handle(Input::Beside(host.beside(&watched.link())), clock.now());
    agent.handle(Input::Paused(pauses), clock.now());
    let (inputs_in, mut inputs) = mpsc::channel(16);
    let (effects, work) = mpsc::unbounded_channel();
    let book = Arc::new(Mutex::new(crate::watch::log::LogBook::default()));
    let hand = Hand {
        clock,
        record,
        book,
        pulse: Arc::default(),
        sentinels: Arc::default(),
        server_log: watch::channel(None).0,
        inputs: inputs_in,
        retry_login: settings.policy.background,
    };
    let runner = Runner::new(0, watched, hand).start(work);
    agent.handle(Input::Wake(Wake { at: clock.now(), why: Why::Asked }), clock.now());
    let ends = tokio::time::Instant::now() + ROUND;
    let mut changed = Vec::new();
    loop {
        while let Some(effect) = agent.poll_effect() {
            let _ = effects.send(effect.into());
        }
        if let Some(incident) = agent.incidents().open() {
            changed = changes(incident);
        }
        if !agent.is_acting() && !agent.is_looking() && done(&agent.status(clock.now())) {
            break;
        }
        let timer =
            agent.poll_timeout().map(|at| tokio::time::Instant::from_std(clock.instant(at))).unwrap_or(ends).min(ends);
        tokio::select! {
            Some((_, input)) = inputs.recv() => agent.handle(input, clock.now()),
            () = tokio::time::sleep_until(timer) => agent.handle_timeout(clock.now()),
        }
        if tokio::time::Instant::now() >= ends && !agent.is_acting() {
            break;
        }
    }
    drop(effects);
    let _ = runner.await;
    let _ = std::fs::remove_file(settings.agent.run_dir.join(control::SOCKET));
    Ok(Round { status: agent.status(clock.now()), changed })
}
