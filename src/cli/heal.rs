//! `relinkd heal`: one round by hand, under the daemon's guards and in its record.

use std::path::Path;

use serde_json::json;

use super::foresight::Foresight;
use super::round::{self, Round};
use super::{Ended, Exit, Failure, HealArgs, block_on, once, paint, say, say_json, settings};
use crate::config::Settings;
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::decide::in_words;
use crate::model::finding::Diagnosis;
use crate::model::remedy::Decision;

pub fn heal(config: &Path, args: &HealArgs) -> Ended {
    let settings = settings(config)?;
    let watched = match once::chosen(&settings, args.replica.as_deref())?.as_slice() {
        [one] => one.clone(),
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            return Err(Failure::new(Exit::Usage, format!("name one of the replicas: {}", names.join(", "))));
        }
    };
    if args.round.check {
        return block_on(would(&watched, &settings, args))?;
    }
    let round = block_on(round::run(&settings, watched, false))??;
    Ok(tell(&round, args))
}

/// What a round would do now, and why not.
async fn would(watched: &Watched, settings: &Settings, args: &HealArgs) -> Ended {
    let (evidence, diagnosis) = once::look(watched, Clock::start()).await;
    let (cause, decision) = match &diagnosis {
        Diagnosis::Healthy(_) => (None, None),
        Diagnosis::Inconclusive { .. } => (diagnosis.cause(), None),
        Diagnosis::Broken(finding) => {
            let foresight = Foresight::of(settings, watched, evidence.ended);
            (Some(finding.cause), Some(foresight.decide(&evidence, finding)))
        }
    };
    let (exit, sentence) = match (&diagnosis, &decision) {
        (Diagnosis::Healthy(text), _) => (Exit::Fine, format!("nothing to do: {text}")),
        (_, Some(Decision::Apply(plan))) => (
            if args.round.detailed_exitcode { Exit::Changed } else { Exit::Fault },
            format!("would {}", in_words(plan)),
        ),
        (_, Some(Decision::Propose(plan))) => {
            (Exit::Fault, format!("would propose, and wait for a person: {}", in_words(plan)))
        }
        (_, Some(Decision::Hold(refusal))) => {
            (Exit::Fault, format!("would hold: {}: {}", refusal.code, refusal.detail))
        }
        (_, None) => (Exit::Inconclusive, "what was seen does not name a cause".to_owned()),
    };
    let failed = !matches!((&diagnosis, &decision), (Diagnosis::Healthy(_), _) | (_, Some(Decision::Apply(_))));
    let would_change = matches!(decision, Some(Decision::Apply(_)));
    if args.round.output.json {
        say_json(
            &json!({ "changed": would_change, "failed": failed, "msg": sentence, "cause": cause, "decision": decision }),
        );
    } else {
        let name = cause.map(|cause| format!("{}: ", paint::bad(cause.code()))).unwrap_or_default();
        say(format!("{name}{sentence}"));
        if let (true, Some(Decision::Apply(plan))) = (args.round.diff, &decision) {
            plan.steps.iter().for_each(|step| say(format!("  + {}", step.change.describe())));
        }
    }
    Ok(exit)
}

fn tell(round: &Round, args: &HealArgs) -> Exit {
    let status = &round.status;
    let healthy = status.incident.is_none() && status.cause.is_none() && status.looked_at.is_some();
    let exit = match (healthy, round.changed.is_empty(), args.round.detailed_exitcode) {
        (true, false, true) => Exit::Changed,
        (true, _, _) => Exit::Fine,
        (false, _, true) => Exit::Fault,
        (false, _, false) => status.cause.map_or(Exit::Fault, super::status::exit_of),
    };
    if args.round.output.json {
        say_json(&json!({
            "changed": !round.changed.is_empty(),
            "failed": !healthy,
            "msg": status.sentence,
            "actions": round.changed,
            "status": status,
        }));
        return exit;
    }
    super::status::print(status);
    if args.round.diff || !round.changed.is_empty() {
        round.changed.iter().for_each(|change| say(format!("  + {change}")));
    }
    exit
}
