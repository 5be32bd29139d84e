//! The measure of relinkd's diagnosis: every fault, on every server, in random order and at random moments, and what
//! relinkd said of it. Then a quiet period, in which it should say nothing, and what a look costs.
//!
//! relinkd runs in `observe`: it names and records, and nothing heals but by the lab's own hand. Each fault is one
//! [`recipe::Recipe`]; what is expected of it and how it is judged is pure ([`score`], [`plan`], [`report`]).

mod capture;
mod plan;
mod quiet;
mod recipe;
mod recipes;
mod report;
mod run;
mod score;
mod stage;
mod watch;

use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::kind::Kind;
use crate::looks;
use crate::scene::Scene;
use recipe::Recipe;
use report::{Figures, Looks};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Faults {
    pub relinkd: PathBuf,
    pub kinds: Vec<Kind>,
    /// Causes by code, or faults by how their names begin; none: all of them.
    pub causes: Vec<String>,
    pub rounds: usize,
    pub seed: u64,
    /// Groups at work at once.
    pub jobs: usize,
    pub quiet: Duration,
    pub out: Option<PathBuf>,
    /// Where the evidence of each right verdict is kept, as scenarios.
    pub captures: Option<PathBuf>,
}

impl Faults {
    /// The command that repeats this, as far as chance is the seed's.
    fn command(&self) -> String {
        let codes: Vec<&str> = self.kinds.iter().map(|kind| kind.code()).collect();
        let mut text = format!(
            "lab faults --seed {} --rounds {} --server {} --jobs {} --quiet {}s",
            self.seed,
            self.rounds,
            codes.join(","),
            self.jobs,
            self.quiet.as_secs()
        );
        if !self.causes.is_empty() {
            text += &format!(" --fault {:?}", self.causes.join(","));
        }
        text
    }
}

/// Runs it all. Progress goes to `progress`, the report to `out` and to the file. False: a verdict was wrong or missing,
/// or an incident was seen where there was no fault.
pub fn run(faults: &Faults, progress: &mut (dyn Write + Send), out: &mut dyn Write) -> Result<bool> {
    let all = recipes::all();
    let chosen = choose(&all, &faults.causes)?;
    let versions = faults.kinds.iter().map(|kind| kind.find().map(|found| (*kind, found.version)));
    let versions = versions.collect::<std::result::Result<Vec<_>, String>>().map_err(Error::other)?;
    // Before an hour has gone into it.
    faults.out.as_deref().map(|path| into(path, "")).transpose()?;
    let began = std::time::Instant::now();
    let relinkd: Arc<Path> = Arc::from(faults.relinkd.as_path());
    let (records, absent) = run::matrix(faults, &chosen, &relinkd, progress)?;
    let quiet = quiet::watch(&faults.kinds, faults.quiet, &relinkd)?;
    let looks = measure_looks(faults)?;
    let figures = Figures {
        command: faults.command(),
        day: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        versions,
        load: crate::figures::load(),
        took: began.elapsed(),
        records,
        absent,
        quiet,
        looks,
    };
    let text = report::markdown(&figures);
    if let Some(path) = &faults.out {
        std::fs::write(path, into(path, &text)?)
            .map_err(|error| Error::other(format!("{}: {error}", path.display())))?;
    }
    write!(out, "{text}")?;
    Ok(figures.is_right())
}

/// The file as it is to be: what a person wrote above the report stays.
fn into(path: &Path, report: &str) -> Result<String> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(Error::other(format!("{}: {error}", path.display()))),
    };
    report::below_mark(before.as_deref(), report).ok_or_else(|| {
        let mark = report::MARK;
        Error::other(format!("{} is there, and has no line {mark:?}: below it a report may stand", path.display()))
    })
}

fn choose<'a>(all: &'a [Recipe], causes: &[String]) -> Result<Vec<&'a Recipe>> {
    let known = |cause: &&String| !all.iter().any(|recipe| is_meant(recipe, cause));
    if let Some(unknown) = causes.iter().find(known) {
        let mut codes: Vec<&str> = all.iter().filter_map(|recipe| recipe.expected.cause).collect();
        codes.dedup();
        return Err(Error::other(format!("no fault leads to {unknown}; there are: {}", codes.join(", "))));
    }
    let wanted = |recipe: &&Recipe| causes.is_empty() || causes.iter().any(|cause| is_meant(recipe, cause));
    Ok(all.iter().filter(wanted).collect())
}

/// By its code, or by the beginning of its whole name.
fn is_meant(recipe: &Recipe, fault: &str) -> bool {
    recipe.cause() == fault || (fault.contains(": ") && recipe.name().starts_with(fault))
}

/// Alone on the machine, as far as it is up to us. Left out where no quiet period was asked for.
fn measure_looks(faults: &Faults) -> Result<Option<Looks>> {
    let Some(kind) = faults.kinds.first().copied().filter(|_| !faults.quiet.is_zero()) else { return Ok(None) };
    let group = crate::Group::builder(kind).replicas(1).sentinels(3).password("word").start()?;
    let scene = Scene::start(group, &faults.relinkd, "mode = \"observe\"\n")?;
    let all = looks::when_all_answer(&scene)?;
    drop(scene);
    let black_hole = looks::into_a_black_hole(kind, &faults.relinkd)?;
    let nobody = looks::when_nobody_answers(kind, &faults.relinkd)?;
    Ok(Some(Looks { kind, all, black_hole, nobody }))
}
