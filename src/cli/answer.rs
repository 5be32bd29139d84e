//! `relinkd approve`, `reject` and `ack`: a person's answers, through the daemon.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::status::{ask, replicas};
use super::{AckArgs, ApproveArgs, Ended, Exit, Failure, RejectArgs, paint, say, say_json, settings};
use crate::agent::Status;
use crate::config::Settings;
use crate::control::Request;
use crate::model::finding::Cause;
use crate::model::incident::Phase;

/// How long an approved plan is followed.
const FOLLOWED: Duration = Duration::from_secs(60);

/// What became of an approval.
#[derive(Debug, PartialEq)]
enum Fate {
    Healed,
    /// Carried out; what came of it stands in the status.
    Done,
    /// The new look led elsewhere.
    Withdrawn(String),
    Slow,
}

pub fn approve(config: &Path, args: &ApproveArgs) -> Ended {
    let settings = settings(config)?;
    let run_dir = &settings.agent.run_dir;
    let request = Request::Approve { incident: args.id.clone(), plan: args.plan.clone() };
    let answer = ask(run_dir, &request)?;
    let replica = answer["replica"].as_str().unwrap_or_default().to_owned();
    let (fate, status) = follow(&settings, &replica, answer["incident"].as_str().unwrap_or_default())?;
    let (exit, sentence) = match &fate {
        Fate::Healed => (Exit::Fine, format!("approved and done: {}", status.sentence)),
        Fate::Done => (Exit::Fault, format!("approved and carried out, and not yet well: {}", status.sentence)),
        Fate::Withdrawn(why) => (Exit::Fault, format!("approved, and not carried out: {why}")),
        Fate::Slow => (Exit::Inconclusive, format!("approved; not decided within {} s", FOLLOWED.as_secs())),
    };
    if args.output.json {
        let done = matches!(fate, Fate::Healed | Fate::Done);
        say_json(&json!({ "changed": done, "failed": exit != Exit::Fine, "msg": sentence, "status": status }));
    } else {
        say(sentence);
        if exit != Exit::Fine {
            super::status::print(&status);
        }
    }
    Ok(exit)
}

/// The daemon looks anew and decides: until it has done so, and until what it does is done.
fn follow(settings: &Settings, replica: &str, incident: &str) -> Result<(Fate, Status), Failure> {
    let began = std::time::Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let all = replicas(&ask(&settings.agent.run_dir, &crate::control::Request::Status)?)?;
        let Some(status) = all.into_iter().find(|status| status.replica == replica) else {
            return Err(Failure::new(Exit::Fault, format!("the daemon does not watch {replica:?} any more")));
        };
        let fate = fate(&status, incident);
        if fate.is_some() || began.elapsed() > FOLLOWED {
            let unanswered = || if waits(&status) { Fate::Slow } else { Fate::Done };
            return Ok((fate.unwrap_or_else(unanswered), status));
        }
    }
}

fn waits(status: &Status) -> bool {
    status.proposal.as_ref().is_some_and(|proposal| proposal.approved_by.is_some())
}

/// What has become of it by now, once that can be told. A failover that was asked for takes seconds, and reads as a fault
/// that passes until the link is up.
fn fate(status: &Status, incident: &str) -> Option<Fate> {
    let same = status.incident.as_ref().is_some_and(|id| id.0 == incident);
    let passes = status.cause.is_some_and(Cause::passing)
        || status.held.as_ref().is_some_and(|held| held.code.fleeting())
        || status.suspected;
    match status.phase {
        _ if !same => Some(Fate::Healed),
        _ if waits(status) => None,
        _ if status.withdrawn.is_some() => status.withdrawn.clone().map(Fate::Withdrawn),
        Some(Phase::Verifying) if status.link_up == Some(true) => Some(Fate::Healed),
        Some(Phase::Applying | Phase::Verifying) => None,
        Some(Phase::Open) if passes => None,
        _ => Some(Fate::Done),
    }
}

pub fn reject(config: &Path, args: &RejectArgs) -> Ended {
    let settings = settings(config)?;
    let answer = ask(&settings.agent.run_dir, &Request::Reject { incident: args.id.clone() })?;
    if args.output.json {
        say_json(&answer);
    } else {
        let (replica, id) = (&answer["replica"], &answer["incident"]);
        say(format!(
            "rejected for {} (incident {}): this plan is left alone until the cause or the plan is another, or its time is over",
            replica.as_str().unwrap_or_default(),
            id.as_str().unwrap_or_default()
        ));
    }
    Ok(Exit::Fine)
}

pub fn ack(config: &Path, args: &AckArgs) -> Ended {
    let settings = settings(config)?;
    let answer = ask(&settings.agent.run_dir, &Request::Ack { incident: args.id.clone(), by: args.by.clone() })?;
    if args.output.json {
        say_json(&answer);
        return Ok(Exit::Fine);
    }
    let id = answer["incident"].as_str().unwrap_or_default();
    say(format!("incident {id} is {}'s: no reminders any more, and its attempts count anew", args.by));
    if answer["stop_lifted"].as_bool().unwrap_or(false) {
        say(format!("  {} relinkd acts again on this host", paint::good("lifted")));
    }
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn after(bend: &Value) -> Option<Fate> {
        let mut status = json!({
            "replica": "cache", "group": "mymaster", "address": { "unix": "/run/redis" }, "role": "replica",
            "link_up": false, "sentence": "", "incident": "A", "phase": "open", "cause": "primary-down",
            "suspected": false, "next_steps": [],
        });
        for (key, value) in bend.as_object().unwrap() {
            status[key] = value.clone();
        }
        fate(&serde_json::from_value(status).unwrap(), "A")
    }

    #[test]
    fn an_approval_is_followed_until_what_it_set_off_is_over() {
        let held = |code: &str| json!({ "code": code, "remedy": "request-failover", "detail": "" });
        let approved =
            json!({ "remedy": "repoint", "plan": "p", "steps": [], "expires": null, "approved_by": "alice" });
        for (told, expected) in [
            (json!({ "phase": "proposed", "proposal": approved }), None),
            (json!({ "phase": "applying" }), None),
            (json!({ "phase": "verifying" }), None),
            (json!({ "phase": "verifying", "link_up": true }), Some(Fate::Healed)),
            (json!({ "incident": null, "phase": null }), Some(Fate::Healed)),
            (json!({ "cause": "failover-running", "held": held("no-safe-remedy") }), None),
            (json!({ "cause": "primary-down", "held": held("cooldown") }), None),
            (json!({ "cause": "network-cut", "suspected": true }), None),
            (json!({ "cause": "replica-disk-full", "held": held("no-safe-remedy") }), Some(Fate::Done)),
            (json!({ "phase": "escalated", "held": held("cooldown") }), Some(Fate::Done)),
            (json!({ "withdrawn": "the world moved" }), Some(Fate::Withdrawn("the world moved".to_owned()))),
        ] {
            assert_eq!(after(&told), expected, "{told}");
        }
    }
}
