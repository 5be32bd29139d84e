//! What a rotation costs those who are at work: 50 of them by relinkd, 50 in which relinkd is killed at some step and
//! resumed, and beside them the order that guides recommend.
//!
//! Every run has clients that log in to each node with the old password and with the new, a writer on the primary, and
//! an eye on each link ([`crate::traffic`]); relinkd's daemon watches one replica all the while.
//!
//! The aims are zeroes, and `run` says whether they were met. The usual order has no aims: it is there to compare with.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::group::Group;
use crate::kind::Kind;
use crate::scene::Scene;
use crate::server::Server;
use crate::traffic::{Login, Met, Traffic};

const KEY: &str = "lab:count";
const FIRST: &str = "word-0";
/// Steps of a run that keeps the old password, and of the resume behind it, in a group of three nodes and Sentinels.
const STEPS: (u64, u64) = (11, 13);
/// Between two servers, as long as a person or a play of a config manager takes at least.
const HAND: Duration = Duration::from_millis(500);
/// How long the usual order is watched after its end.
const AFTER: Duration = Duration::from_secs(3);
/// A forced reconnect is over within this; what is longer is a link that was down.
const RECONNECT: Duration = Duration::from_millis(250);
/// After a verb that failed, so that the rotations behind it can be made at all.
const ATTEMPTS: usize = 3;
const WATCHFUL: &str = "background = \"1s\"\n";

pub struct Rotations<'a> {
    pub relinkd: &'a Path,
    pub kinds: &'a [Kind],
    pub runs: usize,
    pub seed: u64,
}

/// One row of the table.
#[derive(Default)]
struct Sum {
    runs: usize,
    met: Met,
    reconnects: u64,
    incidents: usize,
    failovers: usize,
    unfinished: usize,
    took: Duration,
}

impl Sum {
    fn add(&mut self, met: &Met) {
        self.runs += 1;
        self.met.logins += met.logins;
        self.met.refused += met.refused;
        self.met.acked += met.acked;
        self.met.write_errors += met.write_errors;
        self.met.link_down += met.link_down;
        self.met.link_falls += met.link_falls;
        self.met.longest_fall = self.met.longest_fall.max(met.longest_fall);
        self.met.sdown += met.sdown;
        self.met.full_resyncs += met.full_resyncs;
        self.met.lost += met.lost;
        self.met.texts.extend(met.texts.iter().take(2).cloned());
    }

    /// One verb, which has to go well the first time to count. What comes after it needs it to go well at last.
    fn go_on(&mut self, scene: &Scene, words: &[&str]) -> Result<()> {
        let mut told = scene.verb_json(words)?;
        if told["failed"] != false {
            self.unfinished += 1;
            self.met.texts.push(format!("{}: {}", words.join(" "), told["msg"]));
        }
        for _ in 0..ATTEMPTS {
            if told["failed"] == false {
                return Ok(());
            }
            thread::sleep(AFTER);
            let again: Vec<&str> = words.iter().map(|word| if *word == "run" { "resume" } else { *word }).collect();
            told = scene.verb_json(&again)?;
            self.met.texts.push(format!("again: {}", told["msg"]));
        }
        if told["failed"] == false {
            return Ok(());
        }
        Err(Error::other(format!("relinkd {}: {told:#}", words.join(" "))))
    }

    /// Link-down time beside the reconnects that the plan itself forces.
    fn down(&self) -> Duration {
        let planned = self.met.link_falls <= self.reconnects && self.met.longest_fall <= RECONNECT;
        if planned { Duration::ZERO } else { self.met.link_down }
    }

    fn meets_the_aims(&self) -> bool {
        let met = &self.met;
        let zeroes = [met.refused, met.write_errors, met.sdown, met.full_resyncs, met.lost];
        zeroes.iter().all(|it| *it == 0) && self.down().is_zero() && self.unfinished == 0 && self.incidents == 0
    }

    fn row(&self, kind: Kind, what: &str) -> String {
        let met = &self.met;
        format!(
            "| {kind} | {what} | {} | {} of {} | {:.0} | {} | {} | {} | {} of {} | {} | {} |",
            self.runs,
            met.refused,
            met.logins,
            self.down().as_secs_f64() * 1e3,
            met.sdown,
            self.failovers,
            met.full_resyncs,
            met.lost,
            met.acked,
            self.unfinished,
            self.incidents,
        )
    }
}

/// Runs it all, prints the table in Markdown, and says whether every aim was met.
pub fn run(rotations: &Rotations<'_>, out: &mut dyn Write) -> Result<bool> {
    let Rotations { runs, seed, .. } = rotations;
    let codes: Vec<&str> = rotations.kinds.iter().map(|kind| kind.code()).collect();
    writeln!(out, "lab rotations --runs {runs} --seed {seed} --kinds {}\n", codes.join(","))?;
    writeln!(
        out,
        "| server | order | rotations | refused logins | link down ms | +sdown | failovers | full resyncs | \
         acknowledged writes lost | not finished | incidents |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut dice = Dice(*seed);
    let (mut met, mut notes) = (true, Vec::new());
    for kind in rotations.kinds {
        for kills in [false, true] {
            let sum = by_relinkd(rotations, *kind, kills, &mut dice)?;
            let what = if kills { "relinkd, `kill -9` at a random step, `resume`" } else { "relinkd" };
            writeln!(out, "{}", sum.row(*kind, what))?;
            out.flush()?;
            met &= sum.meets_the_aims();
            notes.push(note(*kind, what, &sum));
        }
        for blip in [false, true] {
            let sum = the_usual_order(*kind, blip, runs.div_ceil(5))?;
            let what = match blip {
                false => "the usual order, no connection lost meanwhile",
                true => "the usual order, the primary's connections cut once",
            };
            writeln!(out, "{}", sum.row(*kind, what))?;
            out.flush()?;
            notes.push(note(*kind, what, &sum));
        }
    }
    writeln!(out, "\n{}", notes.join("\n"))?;
    writeln!(out, "\naims of relinkd's rows (0 in every column): {}", if met { "met" } else { "MISSED" })?;
    Ok(met)
}

fn note(kind: Kind, what: &str, sum: &Sum) -> String {
    let met = &sum.met;
    let forced = match sum.reconnects {
        0 => String::new(),
        count => format!("; {count} forced reconnects"),
    };
    let texts = match met.texts.as_slice() {
        [] => String::new(),
        texts => format!("; first: {}", texts.iter().take(3).cloned().collect::<Vec<_>>().join(", ")),
    };
    format!(
        "- {kind}, {what}: {:.1} s a rotation{forced}; links seen down {} times, {:.1} ms in all, the longest {:.1} ms{texts}",
        sum.took.as_secs_f64() / sum.runs.max(1) as f64,
        met.link_falls,
        met.link_down.as_secs_f64() * 1e3,
        met.longest_fall.as_secs_f64() * 1e3,
    )
}

fn group(kind: Kind) -> Result<Group> {
    Group::builder(kind).replicas(2).sentinels(3).password(FIRST).start()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::other(error.to_string())
}

fn by_relinkd(rotations: &Rotations<'_>, kind: Kind, kills: bool, dice: &mut Dice) -> Result<Sum> {
    let scene = Scene::start(group(kind)?, rotations.relinkd, WATCHFUL)?;
    let mut sum = Sum::default();
    let mut old = FIRST.to_owned();
    for number in 1..=rotations.runs {
        let new = format!("word-{number}");
        scene.offer(&json!({ "password": new, "previous": old }).to_string())?;
        let kill_at = kills.then(|| 1 + dice.below(STEPS.0 + STEPS.1));
        let traffic = Traffic::start(&scene.group, &Login::of(&old), &Login::of(&new), KEY).map_err(failed)?;
        let began = Instant::now();
        if let Some(step) = kill_at.filter(|step| *step <= STEPS.0) {
            kill_at_step(&scene, &["rotate", "run", "--keep-old"], step)?;
            sum.go_on(&scene, &["rotate", "resume", "--keep-old"])?;
        } else {
            sum.go_on(&scene, &["rotate", "run", "--keep-old"])?;
        }
        scene.group.nodes().iter().for_each(|node| node.set_admin_password(Some(&new)));
        traffic.retire_old();
        scene.login_with(&new)?;
        if let Some(step) = kill_at.filter(|step| *step > STEPS.0) {
            kill_at_step(&scene, &["rotate", "resume"], step - STEPS.0)?;
        }
        // Killed behind its last word, it had ended already.
        if scene.verb_json(&["rotate", "status"])?["rotation"]["ended_at"].is_null() {
            sum.go_on(&scene, &["rotate", "resume"])?;
        }
        sum.took += began.elapsed();
        sum.reconnects += forced_reconnects(&scene.verb_json(&["rotate", "status"])?);
        sum.add(&traffic.end(&scene.group, KEY));
        old = new;
    }
    sum.incidents = scene.verb_json(&["incidents"])?.as_array().map_or(0, Vec::len);
    sum.failovers = failovers(&scene.group);
    Ok(sum)
}

fn forced_reconnects(record: &Value) -> u64 {
    let entries = record["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_one = |entry: &&Value| entry["what"]["kind"] == "intended" && entry["what"]["step"]["step"] == "reconnect";
    entries.iter().filter(is_one).count() as u64
}

/// SIGKILL as soon as it says that it begins this step.
fn kill_at_step(scene: &Scene, words: &[&str], step: u64) -> Result<()> {
    let mut child = scene.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(out) = child.stdout.take() else { return Err(failed("no standard output")) };
    let mark = format!("[{step}/");
    let reached = BufReader::new(out).lines().map_while(Result::ok).any(|line| line.starts_with(&mark));
    if reached {
        child.kill()?;
    }
    child.wait().map(|_| ())
}

/// How often the primary has changed, as the Sentinels logged it.
fn failovers(group: &Group) -> usize {
    group.sentinels().iter().map(|sentinel| sentinel.log_text().matches(" +switch-master ").count()).max().unwrap_or(0)
}

/// A guide's order: `requirepass` on the primary first, then the replicas, then the Sentinels.
fn the_usual_order(kind: Kind, blip: bool, runs: usize) -> Result<Sum> {
    let mut sum = Sum::default();
    for number in 0..runs {
        let group = group(kind)?;
        let new = format!("word-new-{number}");
        let traffic = Traffic::start(&group, &Login::of(FIRST), &Login::of(&new), KEY).map_err(failed)?;
        let began = Instant::now();
        for (place, node) in group.nodes().iter().enumerate() {
            set(node, "requirepass", &new)?;
            node.set_admin_password(Some(&new));
            set(node, "masterauth", &new)?;
            if place == 0 && blip {
                cut(node)?;
            }
            thread::sleep(HAND);
        }
        for sentinel in group.sentinels() {
            sentinel.run(&["SENTINEL", "SET", group.name(), "auth-pass", &new]).map_err(failed)?;
            thread::sleep(HAND);
        }
        sum.took += began.elapsed();
        thread::sleep(AFTER);
        sum.add(&traffic.end(&group, KEY));
        sum.failovers += failovers(&group);
    }
    Ok(sum)
}

fn set(node: &Server, parameter: &str, value: &str) -> Result<()> {
    node.run(&["CONFIG", "SET", parameter, value]).map(|_| ()).map_err(failed)
}

/// What a moment of a bad network does: replicas and Sentinels have to log in again.
fn cut(node: &Server) -> Result<()> {
    for kind in ["replica", "pubsub"] {
        node.run(&["CLIENT", "KILL", "TYPE", kind]).map_err(failed)?;
    }
    let clients: String = node.query(&["CLIENT", "LIST"]).map_err(failed)?;
    for line in clients.lines().filter(|line| line.contains(" name=sentinel-")) {
        if let Some(id) = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()) {
            node.run(&["CLIENT", "KILL", "ID", id]).map_err(failed)?;
        }
    }
    Ok(())
}

/// splitmix64: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_of_the_plan_is_no_link_that_was_down() {
        let fall = Duration::from_millis(2);
        let met = Met { link_falls: 1, link_down: fall, longest_fall: fall, ..Met::default() };
        let mut sum = Sum { reconnects: 1, ..Sum::default() };
        sum.add(&met);
        assert!(sum.meets_the_aims());
        sum.add(&met);
        assert_eq!(sum.down(), fall * 2);
        assert!(!sum.meets_the_aims());
    }

    #[test]
    fn the_same_seed_throws_the_same() {
        let throws = |seed| {
            let mut dice = Dice(seed);
            (0..9).map(|_| dice.below(24)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert!(throws(7).iter().all(|it| *it < 24));
    }
}
