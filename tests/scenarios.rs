//! Evidence captured from real servers in, the verdict and the decision out, as text that a reviewer can read.
//!
//! `tests/scenarios/CAUSE/NAME/evidence.json` comes from `relinkd diagnose --save`, run by the live tests with
//! `CAPTURE=1`; `expected.txt` lies beside it. `make scenarios` judges all of them anew and shows what changed.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relinkd::decide::{Context, History, Policy, decide, next_steps};
use relinkd::diagnose::diagnose;
use relinkd::model::evidence::{EVIDENCE_FORMAT, Evidence};
use relinkd::model::finding::{Cause, Diagnosis, Fact, Finding};
use relinkd::model::incident::{Entry, Incident, IncidentId, Notice, What};
use relinkd::model::remedy::{Decision, Plan};
use relinkd::notify::render;

/// A cause that stands: long enough for every `after`, short enough for no message to speak of days.
const STANDING: Duration = Duration::from_secs(60);

/// Every folder with a capture: its cause, and where it is.
fn captures() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found = Vec::new();
    for cause in folders(&root) {
        let code = cause.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(folders(&cause).into_iter().map(|folder| (code.clone(), folder)));
    }
    found
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).unwrap_or_else(|error| panic!("{}: {error}", of.display()));
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn read(folder: &Path) -> Evidence {
    let file = folder.join("evidence.json");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let evidence: Evidence = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(evidence.format, EVIDENCE_FORMAT, "{}", file.display());
    evidence
}

#[test]
fn every_capture_is_judged_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for (code, folder) in captures() {
        let judged = judge(&read(&folder));
        if judged.cause != code {
            wrong.push(format!("{}: the verdict is {}", folder.display(), judged.cause));
        }
        let file = folder.join("expected.txt");
        if update {
            fs::write(&file, &judged.text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        } else if fs::read_to_string(&file).unwrap_or_default() != judged.text {
            wrong.push(format!("{} differs (make scenarios rewrites it); now:\n{}", file.display(), judged.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The live tests' passwords have CANARY in them, the lab's own admin password is `lab-admin`.
#[test]
fn no_capture_holds_a_secret() {
    for (_, folder) in captures() {
        let text = fs::read_to_string(folder.join("evidence.json")).expect("a capture");
        for secret in ["CANARY", "lab-admin"] {
            assert!(!text.contains(secret), "{} holds {secret}", folder.display());
        }
    }
}

struct Judged {
    cause: String,
    text: String,
}

fn judge(evidence: &Evidence) -> Judged {
    let finding = match diagnose(evidence) {
        Diagnosis::Healthy(sentence) => {
            return Judged { cause: "healthy".to_owned(), text: format!("healthy: {sentence}\n") };
        }
        Diagnosis::Broken(finding) => finding,
        Diagnosis::Inconclusive { missing, rejected } => Finding {
            cause: Cause::Unknown,
            suspected: false,
            link_up: false,
            unrefused: false,
            flaps: None,
            because: missing,
            rejected,
        },
    };
    let policy = Policy::default();
    let history = History { cause_since: Some(evidence.ended.before(STANDING)), ..History::default() };
    let context = Context { evidence, finding: &finding, policy: &policy, history: &history, now: evidence.ended };
    let decision = decide(&context);
    let steps = next_steps(&context, &decision);
    let text = rendered(evidence, &finding, &decision, &steps).expect("writing to a string");
    Judged { cause: finding.cause.code().to_owned(), text }
}

fn rendered(e: &Evidence, finding: &Finding, decision: &Decision, steps: &[String]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let doubt = if finding.suspected { " (suspected)" } else { "" };
    writeln!(out, "{}{doubt}: {}", finding.cause, finding.cause.title())?;
    writeln!(out, "message: {}", summary(e, finding, decision))?;
    writeln!(out, "\nbecause")?;
    for Fact { from, saw, means, .. } in &finding.because {
        writeln!(out, "  {}: {saw}\n    {means}", from.name())?;
    }
    writeln!(out, "\nruled out")?;
    for (cause, why) in &finding.rejected {
        writeln!(out, "  {cause}: {why}")?;
    }
    writeln!(out, "\nrelinkd would")?;
    match decision {
        Decision::Apply(plan) => plan_lines(&mut out, "apply", plan)?,
        Decision::Propose(plan) => plan_lines(&mut out, "propose", plan)?,
        Decision::Hold(refusal) => {
            let what = refusal.remedy.map_or("do nothing".to_owned(), |remedy| format!("hold {remedy}"));
            writeln!(out, "  {what}: {}\n    {}", refusal.code, refusal.detail)?;
        }
    }
    writeln!(out, "\na person would")?;
    for step in steps {
        writeln!(out, "  {step}")?;
    }
    Ok(out)
}

fn plan_lines(out: &mut String, how: &str, plan: &Plan) -> std::fmt::Result {
    writeln!(out, "  {how} {}", plan.remedy)?;
    for step in &plan.steps {
        writeln!(out, "    {}", step.change.describe())?;
    }
    for step in &plan.undo {
        writeln!(out, "    if the proof fails: {}", step.change.describe())?;
    }
    Ok(())
}

/// The first message's sentence, as if the incident had opened with this look.
fn summary(e: &Evidence, finding: &Finding, decision: &Decision) -> String {
    let entry = |what| Entry { at: e.ended, link: e.link.clone(), incident: IncidentId("SCENARIO".to_owned()), what };
    let opened = entry(What::Opened {
        finding: finding.clone(),
        address: e.address.clone(),
        primary: e.local_link().map(|link| link.primary.clone()),
        down_at: e.began,
        diagnose_us: 0,
        look_us: 0,
    });
    let mut incident = Incident::open(&opened).expect("the entry opens it");
    let next = match decision {
        Decision::Apply(_) => None,
        Decision::Propose(plan) => Some(What::Proposed { plan: plan.clone(), expires: None }),
        Decision::Hold(refusal) => Some(What::Held { refusal: refusal.clone() }),
    };
    if let Some(what) = next {
        incident.take(&entry(what));
    }
    let event = incident.phase.announcement();
    render::summary(&Notice { at: e.ended, host: "db-21".to_owned(), event, incident, next_steps: Vec::new() })
}
