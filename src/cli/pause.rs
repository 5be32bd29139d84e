//! `relinkd pause` and `relinkd resume`: hands off, eyes open.

use std::path::Path;

use serde_json::Value;

use super::status::ask;
use super::{Ended, Exit, Failure, PauseArgs, ResumeArgs, ScopeArgs, paint, say, say_json, settings};
use crate::control::Request;
use crate::model::people::{Actor, Scope};

pub fn pause(config: &Path, args: &PauseArgs) -> Ended {
    let settings = settings(config)?;
    let for_ms = u64::try_from(args.span.as_millis()).unwrap_or(u64::MAX);
    let scope = scope(&args.scope).unwrap_or(Scope::Host);
    let answer = ask(&settings.agent.run_dir, &Request::Pause { scope, for_ms, reason: args.reason.clone() })?;
    if args.output.json {
        say_json(&answer);
        return Ok(Exit::Fine);
    }
    let text = |key: &str| answer["pause"][key].as_str().unwrap_or_default().to_owned();
    say(format!("paused {} until {}: {}", scope_of(&answer["pause"])?, text("ends"), text("reason")));
    for name in answer["at_work"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(format!("  {} a remedy is in flight on {name}; it is let to end", paint::doubtful("note")));
    }
    say("  relinkd goes on watching, recording and telling; `relinkd resume` ends it before its time");
    Ok(Exit::Fine)
}

pub fn resume(config: &Path, args: &ResumeArgs) -> Ended {
    let settings = settings(config)?;
    let answer = ask(&settings.agent.run_dir, &Request::Resume { scope: scope(&args.scope) })?;
    if args.output.json {
        say_json(&answer);
        return Ok(Exit::Fine);
    }
    let over = answer["resumed"].as_array().cloned().unwrap_or_default();
    if over.is_empty() {
        say(answer["why"].as_str().unwrap_or("nothing is paused"));
    }
    for pause in &over {
        say(format!("resumed {}; it was paused by {}", scope_of(pause)?, in_words(pause)?));
    }
    if !over.is_empty() {
        say("  what was there before is acted on only when it has stood for [policy] after_pause from now on");
    }
    Ok(Exit::Fine)
}

/// One pause as `status` shows it.
pub fn in_words(pause: &Value) -> Result<String, Failure> {
    let owner: Actor = serde_json::from_value(pause["owner"].clone()).map_err(|_| other_version())?;
    let text = |key: &str| pause[key].as_str().unwrap_or_default();
    Ok(format!("{owner} until {}: {}", text("ends"), text("reason")))
}

pub fn scope_of(pause: &Value) -> Result<Scope, Failure> {
    serde_json::from_value(pause["scope"].clone()).map_err(|_| other_version())
}

fn other_version() -> Failure {
    Failure::new(Exit::Fault, "the daemon answers in words of another version; restart it")
}

fn scope(args: &ScopeArgs) -> Option<Scope> {
    let replica = args.replica.clone().map(Scope::Replica);
    replica.or_else(|| args.group.clone().map(Scope::Group))
}
