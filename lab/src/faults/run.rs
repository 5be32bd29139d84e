//! The injections themselves: blocks of trials on a few threads, each with a group of its own.

use std::collections::VecDeque;
use std::io::{Result, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::Faults;
use super::plan::{Block, Trial, plan};
use super::recipe::Recipe;
use super::report::{Absent, Record, progress_line};
use super::score::{Outcome, Score, Trail, story};
use super::stage::{AFTERMATH_MS, Stand};
use super::watch::Watch;
use crate::kind::Kind;

/// Beyond the bound of its evidence, a verdict may take so long before it is missing.
const GRACE: Duration = Duration::from_secs(15);
/// For so long is what is no fault watched.
const NO_FAULT: Duration = Duration::from_secs(6);
/// States that pass by themselves; a group that heals goes through them.
const PASSING: [&str; 5] = ["failover-running", "sync-running", "primary-loading", "replica-loading", "replica-down"];

/// All trials of all rounds, and the cells that this machine or a server cannot have.
pub fn matrix(
    faults: &Faults,
    recipes: &[&Recipe],
    relinkd: &Arc<Path>,
    progress: &mut (dyn Write + Send),
) -> Result<(Vec<Record>, Vec<Absent>)> {
    let mut absent = Vec::new();
    for (index, recipe) in recipes.iter().enumerate() {
        for kind in &faults.kinds {
            if let Some(why) = recipe.missing(*kind) {
                absent.push((index, Absent { fault: recipe.name(), kind: *kind, why }));
            }
        }
    }
    let is_absent = |index: usize, kind: Kind| absent.iter().any(|(at, one)| *at == index && one.kind == kind);
    let mut blocks = VecDeque::from(plan(faults.seed, &faults.kinds, recipes, faults.rounds));
    for block in &mut blocks {
        block.trials.retain(|trial| !is_absent(trial.recipe, block.kind));
    }
    let blocks = Mutex::new(blocks);
    let (done, results) = mpsc::channel();
    let mut records = Vec::new();
    thread::scope(|scope| {
        for _ in 0..faults.jobs.max(1) {
            let (blocks, done) = (&blocks, done.clone());
            scope.spawn(move || {
                let next = || blocks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(block) = next() {
                    run_block(&block, recipes, (relinkd, faults.captures.as_deref()), |record| drop(done.send(record)));
                }
            });
        }
        drop(done);
        for record in results {
            writeln!(progress, "{}", progress_line(&record))?;
            records.push(record);
        }
        Ok::<(), std::io::Error>(())
    })?;
    records.sort_by_key(|record: &Record| (record.index, record.kind, record.round));
    Ok((records, absent.into_iter().map(|(_, one)| one).collect()))
}

/// One group for as long as it recovers.
fn run_block(
    block: &Block,
    recipes: &[&Recipe],
    (relinkd, captures): (&Arc<Path>, Option<&Path>),
    mut tell: impl FnMut(Record),
) {
    let mut stand = None;
    for trial in &block.trials {
        let Some(recipe) = recipes.get(trial.recipe) else { continue };
        if stand.is_none() {
            // A machine under load may fail once.
            stand = Stand::start(block.stage, block.kind, relinkd)
                .or_else(|_| Stand::start(block.stage, block.kind, relinkd))
                .map_err(|error| tell(blank(recipe, trial, block.kind, Score::undone(error))))
                .ok();
        }
        let Some(here) = &stand else { continue };
        let (record, usable) = run_trial(here, recipe, trial, captures);
        tell(record);
        if !usable || recipe.spends {
            stand = None;
        }
    }
}

fn blank(recipe: &Recipe, trial: &Trial, kind: Kind, score: Score) -> Record {
    Record {
        index: trial.recipe,
        fault: recipe.name(),
        cause: recipe.cause().to_owned(),
        kind,
        round: trial.round,
        bound: recipe.bound,
        why: recipe.why,
        score,
        story: String::new(),
        because: Vec::new(),
        healing: Vec::new(),
    }
}

/// The trial's record, and whether the group is of use for another one.
fn run_trial(stand: &Stand, recipe: &Recipe, trial: &Trial, captures: Option<&Path>) -> (Record, bool) {
    let kind = stand.group.kind();
    let watch = Watch::start(stand.socket());
    let failovers = stand.failovers();
    thread::sleep(trial.wait);
    let broken = match (recipe.inject)(stand) {
        Ok(broken) => broken,
        Err(error) => return (blank(recipe, trial, kind, Score::undone(error)), false),
    };
    await_verdict(&watch, recipe, broken.at);
    thread::sleep(trial.stay);
    let over = Instant::now();
    let trail = watch.since(broken.at);
    let mut score = recipe.expected.score(&trail);
    if let Some(span) = recipe.failover_within
        && matches!(score.outcome, Outcome::Missing(_))
        && stand.failovers() == failovers
    {
        score = Score::undone(format!("no Sentinel began a failover within {span:?}"));
    }
    let mut record = blank(recipe, trial, kind, score);
    record.story = story(&trail);
    if record.score.outcome != Outcome::Right {
        record.because = because(stand);
    } else if let Some(Err(error)) = captures.map(|into| super::capture::keep(stand, recipe, into)) {
        record.story += &format!(" · {error}");
    }
    let undone = broken.fault.undo();
    if recipe.spends {
        return (record, false);
    }
    let whole = undone.and_then(|()| stand.wait_whole());
    if stand.failovers() > failovers {
        // Sentinel tried, and may be moving replicas for a while: relinkd gives it that time.
        thread::sleep(Duration::from_millis(AFTERMATH_MS));
    }
    if let Err(error) = &whole {
        record.because.push(format!("afterwards: {error}"));
        if record.score.outcome == Outcome::Right {
            record.healing.push(format!("not whole again: {error}"));
        }
    }
    record.healing.extend(false_incidents(recipe, &trail, &watch.since(over)));
    (record, whole.is_ok())
}

fn await_verdict(watch: &Watch, recipe: &Recipe, at: Instant) {
    if recipe.expected.cause.is_none() {
        return thread::sleep(NO_FAULT);
    }
    let end = at + recipe.bound + recipe.failover_within.unwrap_or_default().max(GRACE);
    let met = || watch.since(at).iter().any(|(_, said)| said.as_ref().is_some_and(|said| recipe.expected.is_met(said)));
    while Instant::now() < end && !met() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Incidents of another cause that were opened only while the group healed.
fn false_incidents(recipe: &Recipe, trail: &Trail, healing: &Trail) -> Vec<String> {
    let known =
        |id: &Option<String>| trail.iter().any(|(_, said)| said.as_ref().is_some_and(|said| said.incident == *id));
    let mut found = Vec::new();
    for (_, said) in healing {
        let Some(said) = said.as_ref().filter(|said| said.incident.is_some() && !known(&said.incident)) else {
            continue;
        };
        let cause = said.cause.as_str();
        let fits = recipe.expected.cause == Some(cause) || recipe.expected.also.contains(&cause);
        if !fits && !PASSING.contains(&cause) && !found.iter().any(|known: &String| known == cause) {
            found.push(cause.to_owned());
        }
    }
    found
}

/// What a look by hand says now, and the end of relinkd's log: to find out why the verdict was another one.
fn because(stand: &Stand) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(seen) = stand.verb_json(&["diagnose", "cache"]) {
        lines.push(format!("by hand: {}", seen["cause"].as_str().unwrap_or("nothing wrong")));
        let facts = seen["because"].as_array().into_iter().flatten();
        lines.extend(facts.map(|fact| format!("{}: {} ({})", fact["from"], fact["saw"], fact["means"])));
    }
    let log = stand.replica().log_text();
    let tail: Vec<&str> = log.lines().rev().take(6).collect();
    lines.extend(tail.into_iter().rev().map(|line| format!("replica's log: {line}")));
    lines
}
