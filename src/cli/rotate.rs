//! `relinkd rotate`: a group's password from old to new, with nobody refused on the way.
//!
//! One process drives it, step by step: look at the whole group, let `rotate` name the next step, record it, make it.
//! Killed anywhere, `resume` and `abort` begin with a look again.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Ended, Exit, Failure, RotateArgs, RotateVerb, block_on, say_json, settings};
use crate::daemon::LEDGER;
use crate::ledger::Ledger;
use crate::model::Endpoint;
use crate::model::remedy::RefusalCode;
use crate::model::rotation::{Obstacle, RotationView, Way};
use crate::rotate::{Progress, Stage};

mod drive;
mod keys;
mod lock;
mod report;
mod session;

use drive::Drive;
use session::Session;

pub fn rotate(config: &Path, args: &RotateArgs) -> Ended {
    let settings = settings(config)?;
    match &args.verb {
        RotateVerb::Plan(options) => {
            let session = Session::new(&settings, options.group.as_deref(), options.user.as_deref())?;
            block_on(plan(session, args, options))?
        }
        RotateVerb::Run(options) => {
            let session = Session::new(&settings, options.group.as_deref(), options.user.as_deref())?;
            block_on(run(session, args, options))?
        }
        RotateVerb::Resume(options) => {
            let session = Session::new(&settings, options.group.as_deref(), None)?;
            block_on(go_on(session, args, Way::Forward, options.keep_old))?
        }
        RotateVerb::Abort(options) => {
            let session = Session::new(&settings, options.group.as_deref(), None)?;
            block_on(go_on(session, args, Way::Back, false))?
        }
        RotateVerb::Status(options) => status(&Session::new(&settings, options.group.as_deref(), None)?, args),
    }
}

/// What `plan` and `run` both find out first.
#[derive(Default)]
struct Prepared {
    obstacles: Vec<Obstacle>,
    steps: Vec<crate::model::rotation::Step>,
    warnings: Vec<String>,
    progress: Progress,
}

impl Prepared {
    /// Where something is to be done, this stands in its way.
    fn hold(&mut self, obstacle: Option<Obstacle>) {
        if !self.steps.is_empty() || !self.obstacles.is_empty() {
            self.obstacles.splice(0..0, obstacle);
        }
    }
}

async fn prepare(session: &mut Session<'_>, options: &super::RotateRunArgs) -> Result<Prepared, Failure> {
    let view = session.begin().await?;
    let persist = session.persist();
    let stage = Stage::Begin { take_over: options.take_over, short_window: options.short_window, persist };
    let mut obstacles = match session.subject(&view) {
        Ok(subject) => {
            session.set_subject(subject);
            crate::rotate::obstacles(session.known_subject()?, &view, stage)
        }
        Err(obstacles) => obstacles,
    };
    obstacles.extend(session.obstacles_of_secrets(&view));
    if session.already(&view) {
        // What the Sentinels log in with cannot be read: that they see the nodes down says enough.
        let of_sentinels =
            [RefusalCode::SentinelActing, RefusalCode::QuorumUnclear, RefusalCode::FailoverRunning, RefusalCode::Tilt];
        obstacles.retain(|obstacle| of_sentinels.contains(&obstacle.code));
        return Ok(Prepared { obstacles, ..Prepared::default() });
    }
    let progress = Progress {
        keep_former: options.keep_old,
        unkept: if options.take_over { half_rotated(&view) } else { BTreeSet::new() },
        ..Progress::default()
    };
    let steps = match session.known_subject() {
        Ok(subject) => crate::rotate::steps(subject, &view, &progress),
        Err(_) => Vec::new(),
    };
    Ok(Prepared { obstacles, steps, warnings: session.warnings().await, progress })
}

/// Where another process has been: whether it came to write the files, no record here says.
fn half_rotated(view: &RotationView) -> BTreeSet<Endpoint> {
    let nodes = view.in_order().into_iter();
    nodes.filter(|(_, says)| says.user.accepts_to).map(|(node, _)| node.clone()).collect()
}

async fn plan(mut session: Session<'_>, args: &RotateArgs, options: &super::RotateRunArgs) -> Ended {
    let mut prepared = prepare(&mut session, options).await?;
    if let Some(ledger) = session.record()? {
        prepared.hold(session.paused(&ledger)?);
        let open = session.open_rotation_in(&ledger)?;
        prepared.hold(open.map(|open| already_open(&open.rotation.id)));
    }
    report::plan(&session, &prepared.steps, &prepared.obstacles, &prepared.warnings, args.json);
    Ok(exit_of_plan(&prepared, args.detailed_exitcode))
}

fn already_open(id: &str) -> Obstacle {
    let detail = format!("rotation {id} of this group has not ended: relinkd rotate resume, or rotate abort");
    Obstacle { code: RefusalCode::NotOurTurn, at: None, detail }
}

fn exit_of_plan(prepared: &Prepared, detailed: bool) -> Exit {
    match (prepared.obstacles.is_empty(), prepared.steps.is_empty()) {
        (true, true) => Exit::Fine,
        (true, false) if detailed => Exit::Changed,
        (true, false) => Exit::Fine,
        (false, _) if detailed => Exit::Fault,
        (false, _) => exit_of(&prepared.obstacles),
    }
}

fn exit_of(obstacles: &[Obstacle]) -> Exit {
    let one = |obstacle: &Obstacle| match obstacle.code {
        RefusalCode::PermissionDenied => Exit::Permission,
        RefusalCode::EvidenceMissing => Exit::Unreachable,
        _ => Exit::Fault,
    };
    // A Sentinel that is away is also one that the others see down.
    let away = obstacles.iter().any(|obstacle| obstacle.code == RefusalCode::EvidenceMissing);
    let follows = |code| away && matches!(code, RefusalCode::SentinelActing | RefusalCode::QuorumUnclear);
    obstacles.iter().filter(|obstacle| !follows(obstacle.code)).map(one).fold(Exit::Fine, Exit::and)
}

async fn run(mut session: Session<'_>, args: &RotateArgs, options: &super::RotateRunArgs) -> Ended {
    let _lock = lock::take(session.state_dir(), &session.group)?;
    session.keep_salt()?;
    let mut ledger = open(&session)?;
    if let Some(open) = session.open_rotation_in(&ledger)? {
        return refuse(&session, args, &[already_open(&open.rotation.id)]);
    }
    let mut prepared = prepare(&mut session, options).await?;
    prepared.hold(session.paused(&ledger)?);
    if !prepared.obstacles.is_empty() {
        return refuse(&session, args, &prepared.obstacles);
    }
    if prepared.steps.is_empty() {
        return Ok(report::unchanged(&session, args.json));
    }
    if !args.json {
        report::begin(&session, &prepared.steps, &prepared.warnings);
    }
    let rotation = session.rotation(options.take_over)?;
    ledger.begin_rotation(&rotation).map_err(|error| failed_record(&error))?;
    let progress = prepared.progress;
    let told = Drive::new(&mut session, ledger, rotation.id, Way::Forward, progress, args.json)?.drive().await;
    Ok(report::end(&told, &prepared.warnings, args))
}

async fn go_on(mut session: Session<'_>, args: &RotateArgs, way: Way, keep_old: bool) -> Ended {
    let _lock = lock::take(session.state_dir(), &session.group)?;
    session.keep_salt()?;
    let ledger = open(&session)?;
    let Some(record) = session.open_rotation_in(&ledger)? else {
        let text = format!("no rotation of group {} is open; relinkd rotate status shows the last one", session.group);
        return Err(Failure::new(Exit::Usage, text));
    };
    if way == Way::Forward && record.way() == Way::Back {
        let text = format!(
            "rotation {} is being aborted: finish that (relinkd rotate abort), then run it anew",
            record.rotation.id
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    session.continue_from(&record, way).await?;
    let progress = Progress {
        keep_former: keep_old,
        sentinels_untouched: way == Way::Back && !record.sentinels_touched() && !record.rotation.taken_over,
        unseen_accept: way == Way::Back && !record.removal_begun() && !record.rotation.taken_over,
        unkept: record.unkept(),
        ..Progress::default()
    };
    let warnings = Vec::from_iter(session.warning_of_abort(way));
    if !args.json {
        report::goes_on(&session, way, &warnings);
    }
    let told = Drive::new(&mut session, ledger, record.rotation.id, way, progress, args.json)?.drive().await;
    Ok(report::end(&told, &warnings, args))
}

fn status(session: &Session<'_>, args: &RotateArgs) -> Ended {
    let path = session.state_dir().join(LEDGER);
    let record = match Ledger::open_read_only(&path) {
        Ok(ledger) => ledger.last_rotation(&session.group).map_err(|error| failed_record(&error))?,
        Err(crate::ledger::LedgerError::Absent { .. }) => None,
        Err(error) => return Err(failed_record(&error)),
    };
    match (&record, args.json) {
        (_, true) => say_json(&record),
        (record, false) => report::status(&session.group, record.as_ref()),
    }
    let open = record.is_some_and(|record| record.rotation.ended_at.is_none());
    Ok(if open && args.detailed_exitcode { Exit::Changed } else { Exit::Fine })
}

fn open(session: &Session<'_>) -> Result<Ledger, Failure> {
    Ledger::open(&session.state_dir().join(LEDGER), session.retention()).map_err(|error| failed_record(&error))
}

fn failed_record(error: &crate::ledger::LedgerError) -> Failure {
    let exit = match error {
        crate::ledger::LedgerError::Denied { .. } => Exit::Permission,
        _ => Exit::Fault,
    };
    Failure::new(exit, format!("{}: nothing is changed without a record: {error}", RefusalCode::LedgerUnwritable))
}

fn refuse(session: &Session<'_>, args: &RotateArgs, obstacles: &[Obstacle]) -> Ended {
    report::refused(session, obstacles, args.json);
    Ok(if args.detailed_exitcode { Exit::Fault } else { exit_of(obstacles) })
}
