//! Rotations by relinkd, whole or with a `kill -9` and a `resume`.

use std::io::{BufRead, BufReader, Error, Read, Result};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tally::Tally;
use super::{Dice, FIRST, KEY, failed, failovers, group};
use crate::kind::Kind;
use crate::scene::Scene;
use crate::traffic::{Login, Traffic};

/// Steps of a run that keeps the old password, and of the resume behind it, in a group of three nodes and Sentinels.
const STEPS: (u64, u64) = (11, 13);
/// After a verb that failed, so that the rotations behind it can be made at all.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_secs(3);
const WATCHFUL: &str = "background = \"1s\"\n";

/// As many rotations as asked for, on one group.
pub fn row(relinkd: &Path, kind: Kind, kills: bool, runs: usize, mut dice: Dice, tally: &mut Tally) -> Result<()> {
    let scene = Scene::start(group(kind)?, relinkd, WATCHFUL)?;
    let mut old = FIRST.to_owned();
    for number in 1..=runs {
        let new = format!("word-{number}");
        let kill_at = kills.then(|| 1 + dice.below(STEPS.0 + STEPS.1));
        let mut trial = Trial { scene: &scene, said: Vec::new(), unfinished: 0 };
        let mut this = Tally::default();
        let done = trial.rotate(&old, &new, kill_at, &mut this);
        this.unfinished = trial.unfinished;
        let known = tally.incidents;
        let incidents = scene.verb_json(&["incidents"])?;
        let incidents = incidents.as_array().map(Vec::as_slice).unwrap_or_default();
        this.incidents = incidents.len().saturating_sub(known);
        if done.is_err() || !this.meets_the_aims() {
            let killed = kill_at.map(|step| format!(", killed at step {step}")).unwrap_or_default();
            let newest = incidents.iter().take(this.incidents);
            let newest = newest.map(|it| format!("\nincident {}: {}", it["id"], it["summary"])).collect::<String>();
            let texts = this.met.texts.join(", ");
            tally.troubles.push(format!("rotation {number}{killed}: {texts}{newest}\n{}", trial.said.join("\n")));
        }
        done?;
        tally.add(&this.met);
        tally.took += this.took;
        tally.reconnects += this.reconnects;
        tally.unfinished += this.unfinished;
        tally.incidents += this.incidents;
        old = new;
    }
    tally.failovers = failovers(&scene.group);
    Ok(())
}

/// One rotation, and what relinkd said in it.
struct Trial<'a> {
    scene: &'a Scene,
    said: Vec<String>,
    unfinished: usize,
}

impl Trial<'_> {
    fn rotate(&mut self, old: &str, new: &str, kill_at: Option<u64>, tally: &mut Tally) -> Result<()> {
        let scene = self.scene;
        scene.offer(&json!({ "password": new, "previous": old }).to_string())?;
        let traffic = Traffic::start(&scene.group, &Login::of(old), &Login::of(new), KEY).map_err(failed)?;
        let began = Instant::now();
        if let Some(step) = kill_at.filter(|step| *step <= STEPS.0) {
            self.kill_at_step(&["rotate", "run", "--keep-old"], step)?;
            self.go_on(&["rotate", "resume", "--keep-old"])?;
        } else {
            self.go_on(&["rotate", "run", "--keep-old"])?;
        }
        scene.group.nodes().iter().for_each(|node| node.set_admin_password(Some(new)));
        traffic.retire_old();
        scene.login_with(new)?;
        if let Some(step) = kill_at.filter(|step| *step > STEPS.0) {
            self.kill_at_step(&["rotate", "resume"], step - STEPS.0)?;
        }
        // Killed behind its last word, it had ended already.
        if scene.verb_json(&["rotate", "status"])?["rotation"]["ended_at"].is_null() {
            self.go_on(&["rotate", "resume"])?;
        }
        tally.took = began.elapsed();
        tally.reconnects = forced_reconnects(&scene.verb_json(&["rotate", "status"])?);
        tally.met = traffic.end(&scene.group, KEY).map_err(failed)?;
        Ok(())
    }

    /// One verb, which has to go well the first time to count. What comes after it needs it to go well at last.
    fn go_on(&mut self, words: &[&str]) -> Result<()> {
        let mut told = self.told(words)?;
        if told["failed"] != false {
            self.unfinished += 1;
        }
        for _ in 0..ATTEMPTS {
            if told["failed"] == false {
                return Ok(());
            }
            thread::sleep(PAUSE);
            let again: Vec<&str> = words.iter().map(|word| if *word == "run" { "resume" } else { *word }).collect();
            told = self.told(&again)?;
        }
        if told["failed"] == false {
            return Ok(());
        }
        Err(Error::other(format!("relinkd {}: {}", words.join(" "), told["msg"])))
    }

    fn told(&mut self, words: &[&str]) -> Result<Value> {
        let told = self.scene.verb_json(words)?;
        self.said.push(format!("relinkd {}: {}", words.join(" "), told["msg"]));
        for step in told["steps"].as_array().into_iter().flatten().filter(|step| step["outcome"] == "failed") {
            self.said.push(format!("  failed: {}: {}", step["what"], step["detail"]));
        }
        for it in told["obstacles"].as_array().into_iter().flatten() {
            self.said.push(format!("  {} {}: {}", it["code"], it["at"], it["detail"]));
        }
        Ok(told)
    }

    /// SIGKILL as soon as it says that it begins this step.
    fn kill_at_step(&mut self, words: &[&str], step: u64) -> Result<()> {
        self.said.push(format!("relinkd {}, to be killed at step {step}:", words.join(" ")));
        let mut child = self.scene.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed("no standard output"));
        };
        let mark = format!("[{step}/");
        for line in BufReader::new(out).lines() {
            let line = line?;
            let reached = line.starts_with(&mark);
            self.said.push(format!("  {line}"));
            if reached {
                child.kill()?;
                break;
            }
        }
        child.wait()?;
        let mut text = String::new();
        err.read_to_string(&mut text)?;
        self.said.extend(text.lines().map(|line| format!("  {line}")));
        Ok(())
    }
}

fn forced_reconnects(record: &Value) -> u64 {
    let entries = record["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_one = |entry: &&Value| entry["what"]["kind"] == "intended" && entry["what"]["step"]["step"] == "reconnect";
    entries.iter().filter(is_one).count() as u64
}
