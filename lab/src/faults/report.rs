//! The report, in Markdown: pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::quiet::Quiet;
use super::score::{Outcome, Score};
use crate::figures::{quantile, spread};
use crate::kind::Kind;

/// One injection and what came of it.
pub struct Record {
    /// The fault's place in the report.
    pub index: usize,
    pub fault: String,
    pub cause: String,
    pub kind: Kind,
    pub round: usize,
    pub bound: Duration,
    pub why: &'static str,
    pub score: Score,
    /// What was said, in order.
    pub story: String,
    /// To find out why it was not what was expected.
    pub because: Vec<String>,
    /// Incidents of another cause, opened while the group healed.
    pub healing: Vec<String>,
}

/// A cell that cannot be had.
pub struct Absent {
    pub fault: String,
    pub kind: Kind,
    pub why: String,
}

pub struct Looks {
    pub kind: Kind,
    pub all: Vec<Duration>,
    pub black_hole: Option<Vec<Duration>>,
    pub nobody: Option<Vec<Duration>>,
}

pub struct Figures {
    pub command: String,
    pub day: String,
    pub versions: Vec<(Kind, String)>,
    pub load: String,
    pub took: Duration,
    pub records: Vec<Record>,
    pub absent: Vec<Absent>,
    pub quiet: Vec<Quiet>,
    pub looks: Option<Looks>,
}

impl Figures {
    /// Nothing wrong, nothing missing, and no incident where there was no fault.
    pub fn is_right(&self) -> bool {
        self.records.iter().all(|record| record.score.outcome == Outcome::Right && record.healing.is_empty())
            && self.quiet.iter().all(|quiet| quiet.incidents.is_empty())
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.records.iter().filter(|record| is(&record.score.outcome)).count()
    }

    /// The faults in their order, each with its records.
    fn faults(&self) -> Vec<Vec<&Record>> {
        let mut faults: Vec<Vec<&Record>> = Vec::new();
        for record in &self.records {
            match faults.last_mut().filter(|all| all.first().is_some_and(|first| first.index == record.index)) {
                Some(all) => all.push(record),
                None => faults.push(vec![record]),
            }
        }
        faults
    }
}

pub fn markdown(figures: &Figures) -> String {
    let parts = [
        head(figures),
        matrix(figures),
        times(figures),
        amiss(figures),
        late(figures),
        beside(figures),
        healing(figures),
        absent(figures),
        quiet(figures),
        looks(figures),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn head(figures: &Figures) -> Option<String> {
    let versions: Vec<String> =
        figures.versions.iter().map(|(kind, version)| format!("{} {version}", product(*kind))).collect();
    let (right, all) = (figures.count(|outcome| *outcome == Outcome::Right), figures.records.len());
    let share = if all == 0 { 100.0 } else { right as f64 / all as f64 * 100.0 };
    let wrong = figures.count(|outcome| matches!(outcome, Outcome::Wrong(_)));
    let missing = figures.count(|outcome| matches!(outcome, Outcome::Missing(_)));
    let undone = figures.count(|outcome| matches!(outcome, Outcome::Undone(_)));
    let mut text = format!(
        "`{}`, {}, {} in {:.0} min, {} cores, load {} at the end.\n\n",
        figures.command,
        figures.day,
        versions.join(", "),
        figures.took.as_secs_f64() / 60.0,
        crate::figures::cores(),
        figures.load
    );
    let _ = writeln!(
        text,
        "**{right} of {all} right ({share:.1} %)**, {wrong} wrong, {missing} missing, {undone} not made, {} cells not to be \
         had.",
        figures.absent.len()
    );
    let beside = figures.records.iter().filter(|one| is_beside(one)).count();
    let _ = writeln!(
        text,
        "\n{} of the right ones had no other firm verdict on record at any time; {beside} had one that the fault makes as \
         well (a table below names them).",
        right - beside
    );
    let firm = figures.records.iter().filter(|one| one.score.firm.is_some()).count();
    let _ = writeln!(
        text,
        "\n{} of {firm} firm verdicts came within a second of what their evidence allows.",
        firm - figures.records.iter().filter(|one| excess(one) > SECOND).count()
    );
    Some(text)
}

/// Right, and something else was on record beside it.
fn is_beside(record: &Record) -> bool {
    record.score.outcome == Outcome::Right && !record.score.beside.is_empty()
}

const SECOND: Duration = Duration::from_secs(1);

/// How long after the moment from which the evidence allows it a verdict was firm.
fn excess(record: &Record) -> Duration {
    record.score.firm.unwrap_or_default().saturating_sub(record.bound)
}

fn product(kind: Kind) -> &'static str {
    if kind.is_valkey() { "Valkey" } else { "Redis" }
}

/// Faults × servers.
fn matrix(figures: &Figures) -> Option<String> {
    let kinds: Vec<Kind> = figures.versions.iter().map(|(kind, _)| *kind).collect();
    let mut names: Vec<String> = Vec::new();
    for name in figures.records.iter().map(|one| &one.fault).chain(figures.absent.iter().map(|one| &one.fault)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        return None;
    }
    let titles: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    let mut text =
        format!("## The matrix\n\n| fault | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(kinds.len()));
    for name in names {
        let cells: Vec<String> = kinds.iter().map(|kind| cell(figures, &name, *kind)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text.push_str(
        "\n`3/3` is right three times of three: the cause came firm, and nothing was on record but it, a suspicion that the \
         evidence could not yet decide, or a state that the fault itself makes as well. `+1` counts those in which such a \
         state was on record and firm.\n",
    );
    Some(text)
}

fn cell(figures: &Figures, fault: &str, kind: Kind) -> String {
    let here: Vec<&Record> = figures.records.iter().filter(|one| one.fault == fault && one.kind == kind).collect();
    if here.is_empty() {
        let why = figures.absent.iter().find(|one| one.fault == fault && one.kind == kind);
        return why.map_or("–".to_owned(), |one| format!("n/a: {}", one.why));
    }
    let right = here.iter().filter(|one| one.score.outcome == Outcome::Right).count();
    let mut instead: Vec<String> = here.iter().filter_map(|one| said_instead(&one.score.outcome)).collect();
    instead.sort();
    instead.dedup();
    let instead = if instead.is_empty() { String::new() } else { format!(": **{}**", instead.join(", ")) };
    let beside = here.iter().filter(|one| is_beside(one)).count();
    let beside = if beside == 0 { String::new() } else { format!(" +{beside}") };
    format!("{right}/{}{beside}{instead}", here.len())
}

fn said_instead(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Right => None,
        Outcome::Wrong(said) => Some(said.clone()),
        Outcome::Missing(last) => Some(format!("missing, {last}")),
        Outcome::Undone(_) => Some("not made".to_owned()),
    }
}

/// Over all servers: how long until the cause was first named, and until it was firm.
fn times(figures: &Figures) -> Option<String> {
    let mut text = "## Times\n\nIn seconds from the fault: median, p95, most. *allowed* is the moment from which the \
                    evidence allows a firm verdict, *late* the most after it.\n\n\
                    | fault | n | first, be it suspected | firm | allowed | late | said before |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut reasons: Vec<(String, &str)> = Vec::new();
    let mut rows = 0;
    for all in figures.faults() {
        let Some(first) = all.first().filter(|one| one.cause != "no fault") else { continue };
        let pick = |of: fn(&Score) -> Option<Duration>| all.iter().filter_map(|one| of(&one.score)).collect::<Vec<_>>();
        let (named, firm) = (pick(|score| score.first), pick(|score| score.firm));
        let late = all.iter().map(|one| excess(one)).max().unwrap_or_default();
        let mut before: Vec<&str> = all.iter().flat_map(|one| &one.score.before).map(String::as_str).collect();
        before.sort_unstable();
        before.dedup();
        let mark = if late > SECOND { "**" } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {mark}{:.2}{mark} | {} |",
            first.fault,
            firm.len(),
            three(&named),
            three(&firm),
            first.bound.as_secs_f64(),
            late.as_secs_f64(),
            before.join(", ")
        );
        rows += 1;
        if !first.why.is_empty() {
            reasons.push((first.fault.clone(), first.why));
        }
    }
    if !reasons.is_empty() {
        text.push_str("\nWhat the evidence waits for:\n\n");
        for (fault, why) in &reasons {
            let _ = writeln!(text, "- {fault}: {why}");
        }
    }
    (rows > 0).then_some(text)
}

fn three(all: &[Duration]) -> String {
    if all.is_empty() {
        return "–".to_owned();
    }
    [0.5, 0.95, 1.0].map(|part| format!("{:.2}", quantile(all, part).as_secs_f64())).join(" · ")
}

fn amiss(figures: &Figures) -> Option<String> {
    let all: Vec<&Record> = figures.records.iter().filter(|one| one.score.outcome != Outcome::Right).collect();
    let mut text = "## Wrong or missing\n\n".to_owned();
    if all.is_empty() {
        text.push_str("None.\n");
    }
    for record in all {
        let what = match &record.score.outcome {
            Outcome::Wrong(said) => format!("on record: {said}"),
            Outcome::Missing(last) => format!("no firm verdict in time; last: {last}"),
            Outcome::Undone(why) => format!("the lab could not do it: {}", why.lines().next().unwrap_or_default()),
            Outcome::Right => continue,
        };
        let _ = writeln!(text, "- **{}** on {}, round {}: {what}", record.fault, record.kind, record.round);
        if !record.story.is_empty() {
            let _ = writeln!(text, "  - {}", record.story);
        }
        for line in &record.because {
            let _ = writeln!(text, "  - `{}`", line.replace('`', "'"));
        }
    }
    Some(text)
}

/// Each verdict that took more than a second longer than its evidence, with its story.
fn late(figures: &Figures) -> Option<String> {
    let mut all: Vec<&Record> = figures.records.iter().filter(|one| excess(one) > SECOND).collect();
    all.sort_by_key(|one| std::cmp::Reverse(excess(one)));
    let mut text = "## More than a second late\n\n".to_owned();
    if all.is_empty() {
        text.push_str("None.\n");
    }
    for record in all {
        let why = if record.why.is_empty() { "the evidence is there at once" } else { record.why };
        let (fault, kind, round, story) = (&record.fault, record.kind, record.round, &record.story);
        let (excess, bound) = (excess(record).as_secs_f64(), record.bound.as_secs_f64());
        let _ = writeln!(
            text,
            "- **{fault}** on {kind}, round {round}: {excess:.2} s after {bound:.1} s ({why})\n  - {story}"
        );
    }
    Some(text)
}

/// What a fault made relinkd say beside its cause, and how often.
fn beside(figures: &Figures) -> Option<String> {
    let mut rows = String::new();
    for all in figures.faults() {
        let those: Vec<&&Record> = all.iter().filter(|one| is_beside(one)).collect();
        let Some(first) = those.first() else { continue };
        let mut said: Vec<&str> = those.iter().flat_map(|one| &one.score.beside).map(String::as_str).collect();
        said.sort_unstable();
        said.dedup();
        let _ = writeln!(rows, "| {} | {} of {} | {} |", first.fault, those.len(), all.len(), said.join(", "));
    }
    let text = "## Right, with another firm verdict on record\n\nA state that the fault makes as well: a primary that is restarted \
                with another command table is down for a moment, a sync that will fail runs first.\n\n\
                | fault | times | said |\n|---|---|---|\n";
    (!rows.is_empty()).then(|| format!("{text}{rows}"))
}

fn healing(figures: &Figures) -> Option<String> {
    let all: Vec<&Record> = figures.records.iter().filter(|one| !one.healing.is_empty()).collect();
    if all.is_empty() {
        return None;
    }
    let mut text = "## After a fault: false incidents, and groups that were not whole again\n\n".to_owned();
    for record in all {
        let said = record.healing.join("; ");
        let _ = writeln!(text, "- after **{}** on {}, round {}: {said}", record.fault, record.kind, record.round);
    }
    Some(text)
}

fn absent(figures: &Figures) -> Option<String> {
    (!figures.absent.is_empty()).then(|| {
        let mut text = format!("## Not to be had: {} cells\n\n", figures.absent.len());
        for one in &figures.absent {
            let _ = writeln!(text, "- {} on {}: {}", one.fault, one.kind, one.why);
        }
        text
    })
}

fn quiet(figures: &Figures) -> Option<String> {
    let first = figures.quiet.first()?;
    let false_ones: usize = figures.quiet.iter().map(|one| one.incidents.len()).sum();
    let mut text = format!(
        "## A quiet period\n\n{:.0} min on each server at once, a primary, two replicas and three Sentinels, ten small \
         writes twice a second, relinkd with its defaults: **{false_ones} false incidents**.\n\n",
        first.span.as_secs_f64() / 60.0
    );
    for one in &figures.quiet {
        let said = match (one.incidents.as_slice(), &one.glimpses) {
            ([], None) => "nothing was said".to_owned(),
            ([], Some(glimpses)) => format!("nothing was recorded; seen in passing: {glimpses}"),
            (incidents, _) => incidents.join("; "),
        };
        let _ = writeln!(text, "- {}, {} bytes replicated: {said}", one.kind, one.writes);
    }
    Some(text)
}

fn looks(figures: &Figures) -> Option<String> {
    let looks = figures.looks.as_ref()?;
    let told = |all: &Option<Vec<Duration>>| all.as_deref().map_or("no network namespaces here".to_owned(), spread);
    Some(format!(
        "## One look at the whole, on {}\n\n- when all answer: {}\n- when the primary is a black hole: {}\n- when nobody \
         answers, the local server neither: {}\n",
        looks.kind,
        spread(&looks.all),
        told(&looks.black_hole),
        told(&looks.nobody)
    ))
}

/// Above this line of a report stands what a person wrote, and stays.
pub const MARK: &str = "<!-- lab faults --out: what follows is made anew by each run -->";

/// The whole file: what stood above the mark, and this report below it. None: there is a file, and no mark in it.
pub fn below_mark(before: Option<&str>, report: &str) -> Option<String> {
    let above = match before {
        None => "# Faults, and what relinkd said\n\n",
        Some(text) => text.split_once(MARK)?.0,
    };
    Some(format!("{above}{MARK}\n\n{report}"))
}

/// One injection, while the run goes on.
pub fn progress_line(record: &Record) -> String {
    let score = &record.score;
    let time = |span: Option<Duration>| span.map_or("–".to_owned(), |span| format!("{:.2} s", span.as_secs_f64()));
    let said = match said_instead(&score.outcome) {
        None => "right".to_owned(),
        Some(instead) => format!("NOT RIGHT ({instead}): {}", record.story),
    };
    let healing = if record.healing.is_empty() { "" } else { " · not well while it healed" };
    format!(
        "{} {} round {}: {said} · first {} · firm {}{healing}",
        record.kind.code(),
        record.fault,
        record.round,
        time(score.first),
        time(score.firm)
    )
}

#[cfg(test)]
mod tests;
