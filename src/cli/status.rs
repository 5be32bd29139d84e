//! `relinkd status`: what the running daemon sees.

use std::path::Path;

use serde_json::Value;

use super::{Ended, Exit, Failure, Output, block_on, paint, say, say_json, settings};
use crate::agent::Status;
use crate::control::{self, ControlError, Request};
use crate::model::finding::Cause;

pub fn status(config: &Path, output: &Output) -> Ended {
    let settings = settings(config)?;
    let answer = ask(&settings.agent.run_dir, &Request::Status)?;
    let replicas: Vec<Status> = serde_json::from_value(answer["replicas"].clone())
        .map_err(|_| Failure::new(Exit::Fault, "the daemon answers in words of another version; restart it"))?;
    if output.json {
        say_json(&answer);
    } else {
        replicas.iter().for_each(print);
        sentinels(&answer);
        if let Some(trouble) = answer["http"]["trouble"].as_str() {
            say(format!("{} {trouble}", paint::bad("http")));
        }
    }
    Ok(replicas.iter().map(verdict).fold(Exit::Fine, Exit::and))
}

/// Asks the daemon, and says why when it does not answer.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Value, Failure> {
    block_on(control::ask(run_dir, request))?.map_err(|error| {
        let exit = match &error {
            ControlError::NotRunning(_) => Exit::Unreachable,
            ControlError::Denied(_) => Exit::Permission,
            ControlError::Failed(..) => Exit::Fault,
        };
        Failure::new(exit, error)
    })
}

/// What one instance's state means for the exit code.
pub fn verdict(status: &Status) -> Exit {
    match (status.cause, status.looked_at) {
        (Some(cause), _) => exit_of(cause),
        (None, None) => Exit::Inconclusive,
        (None, Some(_)) => Exit::Fine,
    }
}

/// What a cause means for the exit code.
pub fn exit_of(cause: Cause) -> Exit {
    match cause {
        Cause::Unknown => Exit::Inconclusive,
        Cause::ReplicaDown => Exit::Unreachable,
        Cause::ReplicaDenied => Exit::Permission,
        _ => Exit::Fault,
    }
}

pub fn print(status: &Status) {
    let name = format!("{} ({})", status.replica, status.address);
    let mark = match (verdict(status), status.cause) {
        (Exit::Fine, _) => paint::good("well"),
        (_, Some(cause)) if status.suspected => paint::doubtful(cause.code()),
        (_, Some(cause)) => paint::bad(cause.code()),
        _ => paint::doubtful("not looked yet"),
    };
    say(format!("{mark} {name}: {}", status.sentence));
    if let (Some(id), Some(phase)) = (&status.incident, status.phase) {
        say(format!("  incident {id}, {}   (relinkd show {id})", phase.name()));
    }
    if let Some(refusal) = &status.held {
        let what = refusal.remedy.map(|remedy| format!(" {remedy}")).unwrap_or_default();
        say(format!("  holds{what}: {}: {}", refusal.code, refusal.detail));
    }
    if let Some(trouble) = &status.ledger_trouble {
        say(format!("  {} nothing is recorded, so nothing is changed: {trouble}", paint::bad("ledger")));
    }
    for step in &status.next_steps {
        say(format!("  {}", paint::faint(step)));
    }
}

fn sentinels(answer: &Value) {
    for sentinel in answer["sentinels"].as_array().into_iter().flatten() {
        let text = |key: &str| sentinel[key].as_str().unwrap_or_default().to_owned();
        match sentinel["connected_since"].as_str() {
            Some(since) => say(paint::faint(&format!(
                "{}: Sentinel {} listened to since {since}",
                text("group"),
                text("sentinel")
            ))),
            None => say(format!(
                "{}: Sentinel {} {}: {}",
                text("group"),
                text("sentinel"),
                paint::doubtful("not heard"),
                text("trouble")
            )),
        }
    }
}
