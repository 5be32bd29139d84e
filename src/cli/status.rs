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
    let replicas = replicas(&answer)?;
    if output.json {
        say_json(&answer);
    } else {
        standing(&answer)?;
        replicas.iter().for_each(print);
        sentinels(&answer);
        if let Some(trouble) = answer["http"]["trouble"].as_str() {
            say(format!("{} {trouble}", paint::bad("http")));
        }
    }
    Ok(replicas.iter().map(verdict).fold(Exit::Fine, Exit::and))
}

/// The instances of a status answer.
pub fn replicas(answer: &Value) -> Result<Vec<Status>, Failure> {
    serde_json::from_value(answer["replicas"].clone())
        .map_err(|_| Failure::new(Exit::Fault, "the daemon answers in words of another version; restart it"))
}

/// What holds for more than one instance: it comes first.
fn standing(answer: &Value) -> Result<(), Failure> {
    for pause in answer["pauses"].as_array().into_iter().flatten() {
        let (scope, whose) = (super::pause::scope_of(pause)?, super::pause::in_words(pause)?);
        say(format!("{} {scope}, by {whose}", paint::doubtful("paused")));
    }
    if let (Some(failures), Some(last)) = (answer["stopped"]["failures"].as_u64(), answer["stopped"]["last"].as_str()) {
        say(format!("{} {failures} remedies in a row failed, the last was {last}", paint::bad("stopped")));
        say("  nothing more is tried on this host until a person says: relinkd ack ID --by NAME");
    }
    if let (Some(what), Some(at)) = (answer["panics"]["last"].as_str(), answer["panics"]["at"].as_str()) {
        let then = match answer["panics"]["begins_anew"].as_str() {
            Some(again) => format!("everything begins anew at {again}"),
            None => "everything was begun anew".to_owned(),
        };
        say(format!("{} {what}, at {at}; {then}: please report it, with the log", paint::bad("panicked")));
    }
    Ok(())
}

/// Asks the daemon, and says why when it does not answer.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Value, Failure> {
    block_on(control::ask(run_dir, request))?.map_err(|error| {
        let exit = match &error {
            ControlError::NotRunning(_) => Exit::Unreachable,
            ControlError::Denied(_) | ControlError::Forbidden(_) => Exit::Permission,
            ControlError::Refused(_) | ControlError::Failed(..) => Exit::Fault,
        };
        Failure::new(exit, error)
    })
}

/// What one instance's state means for the exit code.
pub fn verdict(status: &Status) -> Exit {
    match (status.cause, status.looked_at) {
        (Some(cause), _) => exit_of(cause),
        _ if status.overdue_ms.is_some() => Exit::Inconclusive,
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
        (_, None) if status.overdue_ms.is_some() => paint::doubtful("not seen"),
        _ => paint::doubtful("not looked yet"),
    };
    say(format!("{mark} {name}: {}", status.sentence));
    if let (Some(id), Some(phase)) = (&status.incident, status.phase) {
        let taken = status.taken_by.as_ref().map(|name| format!(", taken by {name}")).unwrap_or_default();
        say(format!("  incident {id}, {}{taken}   (relinkd show {id})", phase.name()));
    }
    if let Some(refusal) = &status.held {
        let what = refusal.remedy.map(|remedy| format!(" {remedy}")).unwrap_or_default();
        say(format!("  holds{what}: {}: {}", refusal.code, refusal.detail));
    }
    if let Some(proposal) = &status.proposal {
        let expires = proposal.expires.as_ref().map(|at| format!(", until {at}")).unwrap_or_default();
        say(format!("  proposes {} (plan {}{expires}):", proposal.remedy, proposal.plan));
        proposal.steps.iter().for_each(|step| say(format!("    {step}")));
    }
    if let (Some(why), None) = (&status.withdrawn, &status.proposal) {
        say(format!("  the last proposal was withdrawn: {why}"));
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
