//! The agent in a toy world: three hosts with a data node, a Sentinel and a relinkd each, and everything that goes wrong
//! there, with crashes between any two effects. The real pure core decides; the promises of `check.rs` are asked after
//! each step.
//!
//! `SIM_STEPS` sets how far a run goes, `SIM_SEED` one seed to repeat.

#[allow(dead_code, unused_imports)] // the unit tests use the rest
#[path = "../src/diagnose/tests/world.rs"]
mod base;
mod simulation {
    pub mod check;
    pub mod dice;
    pub mod doubt;
    pub mod hands;
    pub mod host;
    pub mod look;
    pub mod plant;
    pub mod run;
    pub mod sentinel;
    pub mod trouble;
    pub mod world;

    use super::base;
}

use std::collections::BTreeMap;

use relinkd::model;
use simulation::check::{Broken, Promise};
use simulation::plant::Plant;
use simulation::run::Run;
use simulation::trouble;

/// How far one seed is followed.
const LENGTH: usize = 5_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected")))
}

fn follow(seed: u64, length: usize, plant: Option<Plant>) -> (Run, Result<(), Broken>) {
    let mut run = Run::new(seed, plant);
    let kept = run.go(length);
    (run, kept)
}

/// Follows a seed, and shows how to repeat it when a promise is broken.
fn hold(seed: u64, length: usize) -> Run {
    let (run, kept) = follow(seed, length, None);
    if let Err(Broken { promise, saw }) = kept {
        let trace = Vec::from(run.trace).join("\n");
        panic!(
            "{trace}\n\n{promise:?} is broken after {} steps of seed {seed}: {saw}\n\nrepeat it with\n  \
             SIM_SEED={seed} SIM_STEPS={length} cargo test --test simulation long_days\n\
             and keep the seed in tests/simulation/seeds.txt",
            run.steps
        );
    }
    run
}

#[test]
fn seeds_that_once_failed_hold() {
    for line in include_str!("simulation/seeds.txt").lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Ok(seed) = line.parse() {
            hold(seed, LENGTH);
        }
    }
}

#[test]
fn long_days_break_no_promise() {
    let steps = usize::try_from(setting("SIM_STEPS").unwrap_or(200_000)).unwrap();
    if let Some(seed) = setting("SIM_SEED") {
        hold(seed, steps.min(LENGTH));
        return;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut done, mut seed) = (0, 1);
    while done < steps {
        let run = hold(seed, LENGTH);
        done += run.steps;
        run.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
        seed += 1;
    }
    for (what, count) in &counts {
        println!("{count:>8}  {what}");
    }
    println!("{done} steps, {} seeds", seed - 1);
    // Days on which nothing happens prove nothing.
    for name in trouble::names() {
        assert!(counts.contains_key(&format!("trouble: {name}")), "{name} never happened");
    }
    for (what, least) in ENOUGH {
        let count = counts.get(*what).copied().unwrap_or(0);
        assert!(count >= *least, "{what}: {count}, at least {least} are wanted of {done} steps");
    }
}

/// Each remedy, each kind of crash, each way in which things end: so often at least within 100,000 steps.
const ENOUGH: &[(&str, usize)] = &[
    ("apply realign", 20),
    ("apply preset", 3),
    ("apply restore", 2),
    ("apply bounce", 4),
    ("apply repoint", 1),
    ("apply failover", 5),
    ("apply persist", 15),
    ("a failover begins before realign", 1),
    ("a failover begins before restore", 1),
    ("a Sentinel is pointed elsewhere before realign", 1),
    ("an undo that left the link alone", 2),
    ("crash before look", 10),
    ("crash before record", 5),
    ("crash after a record", 3),
    ("crash before apply", 3),
    ("crash between check and change", 2),
    ("crash between a change and its outcome", 2),
    ("crash between a message and its note", 4),
    ("crash while looking", 10),
    ("crash at any moment", 10),
    ("began anew with the ledger", 2),
    ("began without the host's standing", 10),
    ("compared with a replay", 200),
    ("interrupted", 5),
    ("ended changed", 20),
    ("ended failed", 5),
    ("held cooldown", 5),
    ("held failover-running", 1),
    ("held observe-only", 2),
    ("held tilt", 2),
    ("approved", 3),
    ("rejected", 1),
    ("withdrawn", 3),
    ("acknowledged", 20),
    ("held paused", 2),
    ("link-down", 5),
    ("message escalated", 2),
    ("message proposed", 5),
    ("message resolved", 100),
    ("resolved Relinkd", 20),
    ("resolved Others", 50),
];

/// The first promise that a plant breaks, over some seeds; with it, that it breaks the one that it should.
fn caught(plant: Plant, promises: &[Promise]) {
    for seed in 1..=60 {
        if let (_, Err(Broken { promise, saw })) = follow(seed, LENGTH, Some(plant)) {
            assert!(promises.contains(&promise), "{plant:?} is caught as {promise:?}: {saw}");
            println!("{plant:?}: {promise:?} at seed {seed}: {}", saw.lines().next().unwrap_or_default());
            return;
        }
    }
    panic!("{plant:?} breaks no promise");
}

#[test]
fn planted_faults_of_order_are_caught() {
    caught(Plant::ActsFirst, &[Promise::IntentFirst]);
    caught(Plant::Resumes, &[Promise::IntentFirst]);
    caught(Plant::BlindToFailover, &[Promise::NotDuringFailover, Promise::NoHarm]);
    caught(Plant::DeafToDissent, &[Promise::NotDuringFailover]);
    caught(Plant::UndoesBlindly, &[Promise::NotDuringFailover]);
    caught(Plant::IgnoresMode, &[Promise::Mode]);
    caught(Plant::Uncoordinated, &[Promise::OneRequest]);
}

#[test]
fn planted_faults_of_memory_are_caught() {
    caught(Plant::ForgetsAll, &[Promise::Order, Promise::Replay]);
    caught(Plant::ForgetsRuns, &[Promise::Limits, Promise::Order, Promise::OneInFlight, Promise::Replay]);
    caught(Plant::LosesMessage, &[Promise::Messages]);
    caught(Plant::Renames, &[Promise::Messages]);
    caught(Plant::LosesLooks, &[Promise::Ends, Promise::Heals]);
    caught(Plant::NeverRests, &[Promise::Silence]);
}
