//! `relinkd diagnose`: one look, one verdict, and what relinkd would do about it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{DiagnoseArgs, Ended, Exit, Failure, block_on, once, paint, say, say_json, settings};
use crate::config::{GroupSettings, ReplicaSettings};
use crate::daemon::clock::Clock;
use crate::daemon::{Stores, Watched};
use crate::decide::{Context, History, Policy, decide, in_words, next_steps};
use crate::model::evidence::{EVIDENCE_FORMAT, Evidence, Missing, SentinelView};
use crate::model::finding::{Cause, Diagnosis, Fact, Finding};
use crate::model::remedy::Decision;
use crate::model::{Address, human};
use crate::secrets::{Salt, SecretRef};

/// What is told of one instance.
#[derive(Serialize)]
struct Verdict<'a> {
    replica: &'a str,
    address: String,
    healthy: bool,
    cause: Option<Cause>,
    suspected: bool,
    sentence: String,
    because: &'a [Fact],
    ruled_out: Vec<(Cause, &'a str)>,
    decision: Option<&'a Decision>,
    next_steps: &'a [String],
    evidence: &'a Evidence,
}

pub fn diagnose(config: &Path, args: &DiagnoseArgs) -> Ended {
    if let Some(path) = &args.from {
        let mut evidence = read(path)?;
        // Judged as it was, with what the agent remembered then.
        let diagnosis = crate::diagnose::diagnose(&evidence);
        evidence.trend.down_seen.get_or_insert(evidence.began);
        let mut told = args.output.json.then(Vec::new);
        let exit = judge(&evidence, &diagnosis, &Policy::default(), &mut told);
        print_json(told);
        return Ok(exit);
    }
    let (watched, policy) = match &args.address {
        Some(address) => (vec![by_address(args, address)?], Policy::default()),
        None => {
            let settings = settings(config).map_err(|mut failure| {
                failure.text.push_str("\nWithout a configuration: relinkd diagnose --address 127.0.0.1:6379 [--sentinel HOST:PORT --master NAME]");
                failure
            })?;
            (once::chosen(&settings, args.replica.as_deref())?, settings.policy)
        }
    };
    if args.save.is_some() && watched.len() > 1 {
        return Err(Failure::new(Exit::Usage, "--save keeps the evidence of one replica: name it"));
    }
    let clock = Clock::start();
    let mut exit = Exit::Fine;
    let mut told = args.output.json.then(Vec::new);
    let mut kept = Ok(());
    for (place, one) in watched.iter().enumerate() {
        if place > 0 && !args.output.json {
            say("");
        }
        let (evidence, diagnosis) = block_on(once::look(one, clock))?;
        exit = exit.and(match judge(&evidence, &diagnosis, &policy, &mut told) {
            // The name is one of the arguments.
            Exit::Fault if args.address.is_some() && diagnosis.cause().is_none() => Exit::Usage,
            other => other,
        });
        // The verdict was asked for first, and stands whether it can be kept or not.
        kept = args.save.as_ref().map_or(Ok(()), |path| save(path, &evidence));
    }
    print_json(told);
    kept.map(|()| exit)
}

/// The verdict, unless it were health and no Sentinel knows the group: that is told instead, or beside it.
fn judge(evidence: &Evidence, diagnosis: &Diagnosis, policy: &Policy, documents: &mut Option<Vec<Value>>) -> Exit {
    let Some(text) = unknown_group(evidence) else { return tell(evidence, diagnosis, policy, documents) };
    anstream::eprintln!("{}: {text}", evidence.link.replica);
    match diagnosis.cause() {
        Some(_) => tell(evidence, diagnosis, policy, documents),
        None => Exit::Fault,
    }
}

/// Sentinels that answer, and none of them for this group: what they would have said of the link is not known, and a
/// name that was mistyped is no health.
fn unknown_group(evidence: &Evidence) -> Option<String> {
    let unknown = |view: &SentinelView| match view.says.missing() {
        Some(why @ Missing::UnknownGroup(_)) => Some(format!("Sentinel {} {why}", view.endpoint)),
        _ => None,
    };
    let told: Vec<String> = evidence.sentinels.iter().filter_map(unknown).collect();
    let nobody_else = evidence.answering().next().is_none();
    told.into_iter().next().filter(|_| nobody_else)
}

/// One document whatever the number of instances: the verdict on the only one, or a list.
fn print_json(told: Option<Vec<Value>>) {
    match told.as_deref() {
        None => {}
        Some([only]) => say_json(only),
        Some(several) => say_json(&several),
    }
}

/// An instance of which only the address is known.
fn by_address(args: &DiagnoseArgs, address: &str) -> Result<Watched, Failure> {
    let address: Address = address.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
    let password = match &args.password_file {
        Some(path) => Some(SecretRef::File(path.clone())),
        None => std::env::var_os("REDISCLI_AUTH").map(|_| SecretRef::Env("REDISCLI_AUTH".to_owned())),
    };
    if args.user.is_some() && password.is_none() {
        let text = "--user logs in with a password: give --password-file or REDISCLI_AUTH";
        return Err(Failure::new(Exit::Usage, text));
    }
    let replica = ReplicaSettings { user: args.user.clone(), password, ..ReplicaSettings::at(address) };
    let group = (!args.sentinel.is_empty()).then(|| {
        let sentinel_password = args.sentinel_password_file.clone().map(SecretRef::File);
        (args.master.clone(), GroupSettings { sentinel_password, ..GroupSettings::of(args.sentinel.clone()) })
    });
    Ok(Watched {
        name: "replica".to_owned(),
        replica,
        group,
        salt: Salt::fleeting(),
        stores: Stores::new(Clock::start()),
        on_former: Arc::default(),
    })
}

fn save(path: &Path, evidence: &Evidence) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(evidence).map_err(|error| Failure::new(Exit::Fault, error))?;
    std::fs::write(path, text + "\n").map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => Exit::Usage,
            _ => Exit::Fault,
        };
        Failure::new(exit, format!("the evidence cannot be kept in {}: {error}", path.display()))
    })
}

fn read(path: &Path) -> Result<Evidence, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let evidence: Evidence = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("not evidence that relinkd diagnose --save wrote: {error}")))?;
    if evidence.format != EVIDENCE_FORMAT {
        return Err(wrong(format!(
            "evidence of format {}, this version reads format {EVIDENCE_FORMAT}",
            evidence.format
        )));
    }
    Ok(evidence)
}

fn tell(evidence: &Evidence, diagnosis: &Diagnosis, policy: &Policy, documents: &mut Option<Vec<Value>>) -> Exit {
    let finding = finding(diagnosis);
    let (decision, steps) = match &finding {
        None => (None, Vec::new()),
        Some(finding) => {
            // By hand a person judges how long it has stood: the look counts as if it had.
            let history = History {
                cause_since: Some(evidence.ended.before(std::time::Duration::from_secs(86_400))),
                ..History::default()
            };
            let context = Context { evidence, finding, policy, history: &history, now: evidence.ended };
            let decision = decide(&context);
            let steps = next_steps(&context, &decision);
            (Some(decision), steps)
        }
    };
    let told = Verdict {
        replica: &evidence.link.replica,
        address: evidence.address.to_string(),
        healthy: finding.is_none(),
        cause: finding.as_ref().map(|finding| finding.cause),
        suspected: finding.as_ref().is_some_and(|finding| finding.suspected),
        sentence: sentence(diagnosis),
        because: finding.as_ref().map_or(&[], |finding| &finding.because),
        ruled_out: finding.iter().flat_map(|f| &f.rejected).map(|(cause, why)| (*cause, why.as_str())).collect(),
        decision: decision.as_ref(),
        next_steps: &steps,
        evidence,
    };
    match documents {
        Some(documents) => documents.push(json!(told)),
        None => print(&told),
    }
    match (told.cause, evidence.local.missing()) {
        (Some(Cause::Unknown), Some(Missing::Unreachable(_))) => Exit::Unreachable,
        (cause, _) => cause.map_or(Exit::Fine, super::status::exit_of),
    }
}

fn finding(diagnosis: &Diagnosis) -> Option<Finding> {
    match diagnosis {
        Diagnosis::Healthy(_) => None,
        Diagnosis::Broken(finding) => Some(finding.clone()),
        Diagnosis::Inconclusive { missing, rejected } => Some(Finding {
            cause: Cause::Unknown,
            suspected: false,
            link_up: false,
            unrefused: false,
            flaps: None,
            because: missing.clone(),
            rejected: rejected.clone(),
        }),
    }
}

fn sentence(diagnosis: &Diagnosis) -> String {
    match diagnosis {
        Diagnosis::Healthy(text) => text.clone(),
        Diagnosis::Broken(finding) => finding.cause.title().to_owned(),
        Diagnosis::Inconclusive { .. } => Cause::Unknown.title().to_owned(),
    }
}

fn print(told: &Verdict<'_>) {
    let name = format!("{} ({})", told.replica, told.address);
    match (told.cause, told.suspected) {
        (None, _) => say(format!("{} {name}: {}", paint::good("healthy"), told.sentence)),
        (Some(Cause::Unknown), _) => say(format!("{} {name}: {}", paint::doubtful("unknown"), told.sentence)),
        (Some(cause), true) => say(format!(
            "{} {name}: {} (suspected: evidence is still coming in)",
            paint::doubtful(cause.code()),
            told.sentence
        )),
        (Some(cause), false) => say(format!("{} {name}: {}", paint::bad(cause.code()), told.sentence)),
    }
    if !told.because.is_empty() {
        say(paint::head("\nBecause"));
        for fact in told.because {
            say(format!("  {:<8} {}", fact.from.name(), fact.saw));
            say(format!("           {}", paint::faint(&fact.means)));
        }
    }
    if !told.ruled_out.is_empty() {
        say(paint::head("\nRuled out"));
        for (cause, why) in &told.ruled_out {
            say(format!("  {:<22} {why}", cause.code()));
        }
    }
    if let Some(decision) = told.decision {
        say(paint::head("\nrelinkd would"));
        match decision {
            Decision::Apply(plan) => say(format!("  {}: {}", plan.remedy, in_words(plan))),
            Decision::Propose(plan) => say(format!("  propose {}: {}", plan.remedy, in_words(plan))),
            Decision::Hold(refusal) => {
                let what = refusal.remedy.map(|remedy| format!(" back {remedy}")).unwrap_or_default();
                say(format!("  hold{what}: {}: {}", refusal.code, refusal.detail));
            }
        }
    }
    if !told.next_steps.is_empty() {
        say(paint::head("\nA person would"));
        told.next_steps.iter().for_each(|step| say(format!("  {step}")));
    }
    let took = told.evidence.ended.since(told.evidence.began);
    say(paint::faint(&format!("\nlooked at {} for {}", told.evidence.began, human(took))));
}
