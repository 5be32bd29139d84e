//! What a person, or a script, is told of a rotation.

use std::time::Duration;

use serde_json::{Value, json};

use super::drive::{End, Made, Told};
use super::session::Session;
use crate::cli::{Exit, RotateArgs, paint, say, say_json};
use crate::model::human;
use crate::model::rotation::{Obstacle, RotationRecord, RotationWhat, Step, Subject, Way};

fn rotation_of(session: &Session<'_>) -> String {
    let (source, version) = session.origin();
    let user = &session.user;
    format!("group {}, user {user}, new password from {source} (version {version})", session.group)
}

/// Whom the password concerns, in words.
fn concerns(subject: &Subject) -> String {
    let mut whom = Vec::new();
    if subject.replicates {
        whom.push("replication links (masterauth)");
    }
    if subject.watches {
        whom.push("Sentinels (auth-pass)");
    }
    whom.push("clients that log in as this user");
    whom.join(", ")
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        say(format!("{} {warning}", paint::doubtful("warning:")));
    }
}

fn block(obstacles: &[Obstacle]) {
    for obstacle in obstacles {
        let at = obstacle.at.as_ref().map(|at| format!(" {at}")).unwrap_or_default();
        say(format!("  {}{at}: {}", paint::bad(obstacle.code.code()), obstacle.detail));
    }
}

pub fn plan(session: &Session<'_>, steps: &[Step], obstacles: &[Obstacle], warnings: &[String], as_json: bool) {
    let sentence = match (obstacles.is_empty(), steps.is_empty()) {
        (false, _) => format!("cannot rotate now: {} in the way", counted(obstacles.len(), "obstacle")),
        (true, true) => "nothing to do: the group holds the new password, and no other".to_owned(),
        (true, false) => format!("would rotate in {}", counted(steps.len(), "step")),
    };
    if as_json {
        let told: Vec<Value> = steps.iter().map(step_json).collect();
        say_json(&json!({
            "changed": obstacles.is_empty() && !steps.is_empty(), "failed": !obstacles.is_empty(), "msg": sentence,
            "group": session.group, "user": session.user, "steps": told, "obstacles": obstacles, "warnings": warnings,
        }));
        return;
    }
    say(format!("{}: {sentence}", paint::head(&session.group)));
    say(paint::faint(&rotation_of(session)));
    block(obstacles);
    warn(warnings);
    if let Ok(subject) = session.known_subject().map(concerns)
        && !steps.is_empty()
    {
        say(paint::faint(&format!("concerns {subject}")));
    }
    for (number, step) in steps.iter().enumerate() {
        say(format!("{:>4}. {}", number + 1, step.describe()));
    }
}

fn step_json(step: &Step) -> Value {
    json!({ "what": step.describe(), "changes": step.changes(), "step": step })
}

pub fn unchanged(session: &Session<'_>, as_json: bool) -> Exit {
    let sentence = "nothing to do: the group holds the new password, and no other";
    match as_json {
        true => say_json(&json!({
            "changed": false, "failed": false, "msg": sentence, "group": session.group, "user": session.user,
        })),
        false => say(format!("{}: {sentence}", paint::head(&session.group))),
    }
    Exit::Fine
}

pub fn refused(session: &Session<'_>, obstacles: &[Obstacle], as_json: bool) {
    let sentence = format!("not begun, nothing was changed: {} in the way", counted(obstacles.len(), "obstacle"));
    if as_json {
        say_json(&json!({
            "changed": false, "failed": true, "msg": sentence, "group": session.group, "user": session.user,
            "obstacles": obstacles,
        }));
        return;
    }
    say(format!("{}: {sentence}", paint::head(&session.group)));
    block(obstacles);
}

pub fn begin(session: &Session<'_>, steps: &[Step], warnings: &[String]) {
    say(format!("{}: rotating in {}", paint::head(&session.group), counted(steps.len(), "step")));
    say(paint::faint(&rotation_of(session)));
    warn(warnings);
}

pub fn goes_on(session: &Session<'_>, way: Way, warnings: &[String]) {
    let what = match way {
        Way::Forward => "going on from what the group shows",
        Way::Back => "back to the old password; the former one below is the new one",
    };
    say(format!("{}: {what}", paint::head(&session.group)));
    warn(warnings);
}

pub fn step_begins(step: &Step, number: usize, of: usize) {
    say(format!("[{number}/{of}] {}", step.describe()));
}

pub fn step_ended(outcome: &Result<String, String>, took: Duration) {
    match outcome {
        Ok(detail) => say(paint::faint(&format!("      {detail} ({})", human(took)))),
        Err(why) => say(format!("      {} {why}", paint::bad("failed:"))),
    }
}

pub fn stopping() {
    say(paint::doubtful("stopping after this step"));
}

/// One sentence, without a secret: it goes into the record too.
pub fn sentence(end: &End, way: Way) -> String {
    match (end, way) {
        (End::Finished, Way::Forward) => "rotated: every node accepts the new password and refuses the old".to_owned(),
        (End::Finished, Way::Back) => "taken back: every node accepts the old password and refuses the new".to_owned(),
        (End::Kept(why), _) => why.clone(),
        (End::Incomplete(why), _) => format!("not everything could be taken back, both passwords stay valid: {why}"),
        (End::Failed(why), _) => why.clone(),
        (End::Blocked(obstacles), _) => {
            let told: Vec<String> = obstacles.iter().map(|it| format!("{}: {}", it.code, it.detail)).collect();
            format!("held: {}", told.join("; "))
        }
        (End::Interrupted, _) => "stopped between two steps, as asked".to_owned(),
        (End::Lost(failure), _) => failure.text.clone(),
    }
}

pub fn end(told: &Told, warnings: &[String], args: &RotateArgs) -> Exit {
    let sentence = sentence(&told.end, told.way);
    let went_well = matches!(told.end, End::Finished | End::Kept(_));
    let changed = told.made.iter().any(|made| made.step.changes() && made.outcome.is_ok());
    if args.json {
        say_json(&json!({
            "changed": changed, "failed": !went_well, "msg": sentence, "group": told.group, "user": told.user,
            "rotation": told.id, "way": told.way, "finished": matches!(told.end, End::Finished),
            "steps": told.made.iter().map(made_json).collect::<Vec<_>>(),
            "warnings": warnings,
            "obstacles": match &told.end { End::Blocked(obstacles) => obstacles.as_slice(), _ => &[] },
            "next": next_steps(told),
        }));
    } else {
        let painted = if went_well { paint::good(&sentence) } else { paint::bad(&sentence) };
        say(format!("{}: {painted}", paint::head(&told.group)));
        next_steps(told).iter().for_each(|step| say(format!("  {step}")));
    }
    match &told.end {
        End::Finished | End::Kept(_) if args.detailed_exitcode && changed => Exit::Changed,
        End::Finished | End::Kept(_) => Exit::Fine,
        End::Lost(failure) if !args.detailed_exitcode => failure.exit,
        End::Blocked(obstacles) if !args.detailed_exitcode => super::exit_of(obstacles),
        _ => Exit::Fault,
    }
}

fn made_json(made: &Made) -> Value {
    let (outcome, detail) = match &made.outcome {
        Ok(detail) => ("done", detail),
        Err(why) => ("failed", why),
    };
    let took_ms = made.took.as_secs_f64() * 1000.0;
    json!({ "what": made.step.describe(), "outcome": outcome, "detail": detail, "took_ms": took_ms, "step": made.step })
}

fn next_steps(told: &Told) -> Vec<String> {
    let group = &told.group;
    match (&told.end, told.way) {
        (End::Finished, _) => Vec::new(),
        (End::Kept(_), _) => vec![
            "move every client to the new password, then:".to_owned(),
            format!("relinkd rotate resume {group}    # removes the old one"),
        ],
        (_, Way::Forward) => vec![
            match told.single {
                true => "the nodes may hold different passwords now, which new logins meet; go on at once:".to_owned(),
                false => "nobody is refused as it stands; once the reason is gone:".to_owned(),
            },
            format!("relinkd rotate resume {group}    # goes on from here"),
            format!("relinkd rotate abort {group}     # back to the old password everywhere"),
        ],
        (_, Way::Back) => {
            vec!["once the reason is gone:".to_owned(), format!("relinkd rotate abort {group}     # goes on from here")]
        }
    }
}

pub fn status(group: &str, record: Option<&RotationRecord>) {
    let Some(record) = record else {
        say(format!("{}: no rotation is recorded on this host", paint::head(group)));
        return;
    };
    let rotation = &record.rotation;
    let last = record.entries.iter().rev().find_map(|entry| match &entry.what {
        RotationWhat::Stopped { detail } | RotationWhat::Ended { detail, .. } => Some(detail.clone()),
        RotationWhat::Intended { step, .. } => Some(format!("killed, or at work, at: {}", step.describe())),
        RotationWhat::Done { .. } | RotationWhat::Failed { .. } => None,
    });
    let last = last.unwrap_or_else(|| "begun, and no step made".to_owned());
    let state = match (rotation.ended_at, record.way()) {
        (Some(_), _) => paint::good("ended"),
        (None, Way::Forward) => paint::doubtful("open"),
        (None, Way::Back) => paint::doubtful("open, being aborted"),
    };
    say(format!("{}: {state}: {last}", paint::head(group)));
    say(paint::faint(&format!(
        "rotation {} of user {}, begun {}",
        rotation.id, rotation.subject.user, rotation.begun_at
    )));
    for entry in &record.entries {
        let line = match &entry.what {
            RotationWhat::Done { step, detail, .. } => format!("{}: {detail}", step.describe()),
            RotationWhat::Failed { step, detail } => format!("{}: failed: {detail}", step.describe()),
            RotationWhat::Stopped { detail } => format!("stopped: {detail}"),
            RotationWhat::Ended { detail, .. } => detail.clone(),
            RotationWhat::Intended { .. } => continue,
        };
        say(format!("  {}  {line}", entry.at));
    }
    if let Some(step) = record.unfinished() {
        say(format!("  begun, and its end is not recorded: {}", step.describe()));
    }
    if rotation.ended_at.is_none() {
        say(format!("  relinkd rotate resume {group}, or relinkd rotate abort {group}"));
    }
}

fn counted(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}
