//! `relinkd approve`, `reject` and `ack`: a person's answers, through the daemon.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::status::{ask, replicas};
use super::{AckArgs, ApproveArgs, Ended, Exit, Failure, RejectArgs, paint, say, say_json, settings};
use crate::agent::{Status, TURNS};
use crate::config::Settings;
use crate::control::Request;
use crate::model::finding::Cause;
use crate::model::incident::Phase;

/// How long an approved plan is followed: for longer than the approval is good, so that its end is seen.
const FOLLOWED: Duration = Duration::from_secs(TURNS.as_secs() + 30);

/// What became of an approval.
#[derive(Debug, PartialEq)]
enum Fate {
    Healed,
    /// It waits no more, and was not withdrawn; what came of it stands in the status.
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
    let Followed { fate, touched, status } =
        follow(&settings, &replica, answer["incident"].as_str().unwrap_or_default())?;
    let (exit, sentence) = told(&fate, touched, &status.sentence);
    if args.output.json {
        say_json(&json!({ "changed": touched, "failed": exit != Exit::Fine, "msg": sentence, "status": status }));
    } else {
        say(sentence);
        if exit != Exit::Fine {
            super::status::print(&status);
        }
    }
    Ok(exit)
}

fn told(fate: &Fate, touched: bool, sentence: &str) -> (Exit, String) {
    match (fate, touched) {
        (Fate::Healed, true) => (Exit::Fine, format!("approved and done: {sentence}")),
        (Fate::Healed, false) => (Exit::Fine, format!("approved, and well before anything was changed: {sentence}")),
        (Fate::Done, true) => (Exit::Fault, format!("approved and carried out, and not yet well: {sentence}")),
        (Fate::Done, false) => (Exit::Fault, format!("approved, and nothing was changed: {sentence}")),
        (Fate::Withdrawn(why), _) => (Exit::Fault, format!("approved, and not carried out: {why}")),
        (Fate::Slow, _) => (Exit::Inconclusive, format!("approved; not over within {} s", FOLLOWED.as_secs())),
    }
}

/// What has come of an approval.
struct Followed {
    fate: Fate,
    /// Something was changed, or has failed, since it was given.
    touched: bool,
    status: Status,
}

/// The daemon looks anew and decides: until it has done so, and until what it does is done.
fn follow(settings: &Settings, replica: &str, incident: &str) -> Result<Followed, Failure> {
    let began = std::time::Instant::now();
    let mut touched = false;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let all = replicas(&ask(&settings.agent.run_dir, &crate::control::Request::Status)?)?;
        let Some(status) = all.into_iter().find(|status| status.replica == replica) else {
            return Err(Failure::new(Exit::Fault, format!("the daemon does not watch {replica:?} any more")));
        };
        touched |= status.touched && is_of(&status, incident);
        let fate = fate(&status, incident);
        if fate.is_some() || began.elapsed() > FOLLOWED {
            let at_it = waits(&status) || status.phase == Some(Phase::Applying);
            let fate = fate.unwrap_or(if at_it { Fate::Slow } else { Fate::Done });
            return Ok(Followed { fate, touched, status });
        }
    }
}

fn is_of(status: &Status, incident: &str) -> bool {
    status.incident.as_ref().is_some_and(|id| id.0 == incident)
}

fn waits(status: &Status) -> bool {
    status.proposal.as_ref().is_some_and(|proposal| proposal.approved_by.is_some())
}

/// What has become of it by now, once that can be told. A failover that was asked for takes seconds, and reads as a fault
/// that passes until the link is up.
fn fate(status: &Status, incident: &str) -> Option<Fate> {
    let passes = status.cause.is_some_and(Cause::passing)
        || status.held.as_ref().is_some_and(|held| held.code.fleeting())
        || status.suspected;
    match status.phase {
        _ if !is_of(status, incident) => Some(Fate::Healed),
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
    fn what_was_dropped_just_before_it_is_not_told_as_carried_out() {
        let waits_again = after(&json!({ "phase": "proposed", "proposal": {
            "remedy": "request-failover", "plan": "p", "steps": [], "expires": null, "approved_by": null } }));
        assert_eq!(waits_again, Some(Fate::Done));
        let (exit, sentence) = told(&Fate::Done, false, "primary-down");
        assert!(exit == Exit::Fault && sentence.starts_with("approved, and nothing was changed"), "{sentence}");
        assert!(FOLLOWED > TURNS, "an approval that is withdrawn in the end is seen to be");
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
