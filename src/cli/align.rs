//! `relinkd align`: the login of an instance to its primary, made equal to what the secret store says. For config
//! management: idempotent, with a check mode, and with answers in the shape that Ansible and its kin read.
//!
//! The change itself is a round of `realign-auth` as the daemon makes it: proved at the primary first, under the same
//! guards, in the same record. What stands here compares before and after, by fingerprint.

use std::path::Path;

use serde_json::{Value, json};

use super::foresight::Foresight;
use super::round::{self, Round};
use super::{AlignArgs, Ended, Exit, Failure, block_on, once, paint, say, say_json, settings};
use crate::config::Settings;
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::decide::{Alignment, alignment, in_words};
use crate::diagnose::diagnose;
use crate::model::evidence::{Evidence, Missing, Reading};
use crate::model::finding::Diagnosis;
use crate::model::incident::Phase;
use crate::model::remedy::{Decision, Refusal, RefusalCode, Remedy};

/// How one instance came out.
struct Came {
    replica: String,
    changed: bool,
    /// Why it is not as the store says; none: it is, or with `--check` would be.
    failed: Option<Exit>,
    msg: String,
    before: Login,
    after: Login,
    actions: Vec<String>,
}

/// A login without its secret.
#[derive(Clone, Default, PartialEq)]
struct Login {
    user: String,
    /// Salted; empty where no password is set.
    print: String,
    /// The store's version of it, where it is one of the store's.
    version: Option<String>,
}

pub fn align(config: &Path, args: &AlignArgs) -> Ended {
    let settings = settings(config)?;
    let named = once::chosen(&settings, args.replica.as_deref())?;
    let watched: Vec<Watched> = named.into_iter().filter(|one| one.store().is_some()).collect();
    if watched.is_empty() {
        let whose = args.replica.as_ref().map_or("no instance here has a".to_owned(), |name| format!("{name} has no"));
        let text = format!("{whose} secret store to be aligned with: set [group.NAME] masterauth");
        return Err(Failure::new(Exit::Config, text));
    }
    let came = block_on(async {
        let mut came = Vec::new();
        for one in watched {
            came.push(instance(&settings, one, args.round.check).await);
        }
        came
    })?;
    tell(&came, args);
    Ok(exit(&came, args.round.detailed_exitcode))
}

/// One after the other: a mistake in the store then breaks one link and not all.
async fn instance(settings: &Settings, watched: Watched, check: bool) -> Came {
    let name = watched.name.clone();
    let evidence = once::look_with_candidates(&watched, Clock::start()).await;
    let before = present(&evidence);
    let came = |changed, failed, msg: String, after: Login| Came {
        replica: name.clone(),
        changed,
        failed,
        msg,
        before: before.clone(),
        after,
        actions: Vec::new(),
    };
    if let Some((exit, why)) = unseen(&evidence) {
        return came(false, Some(exit), why, before.clone());
    }
    let wanted = match alignment(&evidence) {
        Alignment::Aligned(held) => {
            let msg = format!("masterauth is {} (version {}), and the primary takes it", held.source, held.version);
            return match Foresight::of(settings, &watched, evidence.ended).rest(&evidence) {
                None => came(false, None, msg, before.clone()),
                Some(decision) => {
                    unwritten(settings, watched, check, &decision, came(false, None, msg, before.clone())).await
                }
            };
        }
        Alignment::Held((code, detail)) => {
            return came(false, Some(Exit::Fault), format!("{code}: {detail}"), before.clone());
        }
        Alignment::Stale(to) => to,
    };
    let after = Login { user: wanted.user.clone(), print: wanted.print.clone(), version: Some(wanted.version.clone()) };
    let what = format!("masterauth from {} (version {})", wanted.source, wanted.version);
    if check {
        let foresight = Foresight::of(settings, &watched, evidence.ended);
        let (failed, msg) = foreseen(&foresight, &evidence, &what);
        return came(failed.is_none(), failed, msg, if failed.is_none() { after } else { before.clone() });
    }
    let round = round::run(settings, watched.clone(), true).await;
    let now = present(&once::look_with_candidates(&watched, Clock::start()).await);
    let changed = now != before;
    match round {
        Err(failure) => came(changed, Some(failure.exit), failure.text, now),
        Ok(round) if (&now.user, &now.print) == (&after.user, &after.print) => {
            Came { actions: round.changed, ..came(changed, None, format!("set {what}"), now) }
        }
        Ok(round) => {
            let msg = held_back(&round, &what);
            Came { actions: round.changed, ..came(changed, Some(Exit::Fault), msg, now) }
        }
    }
}

/// What a round would come to: why it would hold, where it would, and in words.
fn foreseen(foresight: &Foresight, evidence: &Evidence, what: &str) -> (Option<Exit>, String) {
    let decision = match diagnose(evidence) {
        Diagnosis::Broken(finding) => foresight.decide(evidence, &finding),
        // The last value but one of the store, or a link that cannot be judged now.
        _ => {
            let msg = format!("would leave it as it is: nothing speaks for {what} over what works now");
            return (Some(Exit::Fault), msg);
        }
    };
    let (failed, msg) = match &decision {
        Decision::Apply(plan) if plan.remedy == Remedy::RealignAuth => {
            (None, format!("would set {what}; the primary takes it"))
        }
        Decision::Apply(plan) => (Some(Exit::Fault), format!("another fault comes first: would {}", in_words(plan))),
        Decision::Propose(_) => {
            let code = RefusalCode::ApprovalNeeded;
            (Some(Exit::Fault), format!("would hold: {code}: [policy.realign-auth] mode; it would set {what}"))
        }
        Decision::Hold(refusal) if refusal.code.fleeting() => {
            let Refusal { code, detail, .. } = refusal;
            (None, format!("would set {what} once it may, within a minute or not at all: {code}: {detail}"))
        }
        Decision::Hold(refusal) => {
            (Some(Exit::Fault), format!("would hold: {}: {}; it would set {what}", refusal.code, refusal.detail))
        }
    };
    let unread = foresight.unread.iter().map(|why| format!("; pauses and cool-downs are not known: {why}"));
    (failed, msg + &unread.collect::<String>())
}

/// The running server has what the store says, and an earlier run ended before its config file had it.
async fn unwritten(settings: &Settings, watched: Watched, check: bool, decision: &Decision, as_is: Came) -> Came {
    const LEFT: &str = "an earlier run was cut short before CONFIG REWRITE, and its config file may be behind";
    let held = match decision {
        Decision::Hold(refusal) if !refusal.code.fleeting() => Some(format!("{}: {}", refusal.code, refusal.detail)),
        Decision::Propose(_) => Some(format!("{}: [policy.realign-auth] mode", RefusalCode::ApprovalNeeded)),
        _ => None,
    };
    if check {
        let would = held.as_ref().map_or_else(|| "it would be written".to_owned(), |why| format!("would hold: {why}"));
        let failed = held.is_some().then_some(Exit::Fault);
        return Came { changed: failed.is_none(), failed, msg: format!("{}; {LEFT}: {would}", as_is.msg), ..as_is };
    }
    match round::run(settings, watched, true).await {
        Err(failure) => Came { failed: Some(failure.exit), msg: failure.text, ..as_is },
        Ok(round) if !round.changed.is_empty() => {
            let msg = format!("{}; {LEFT}: written now", as_is.msg);
            Came { changed: true, actions: round.changed, msg, ..as_is }
        }
        Ok(_) => {
            let why = held.unwrap_or_else(|| "relinkd incidents says more".to_owned());
            Came { failed: Some(Exit::Fault), msg: format!("{}; {LEFT}: not written: {why}", as_is.msg), ..as_is }
        }
    }
}

/// Why the round left the login as it was.
fn held_back(round: &Round, what: &str) -> String {
    let status = &round.status;
    match (&status.held, status.phase, &status.incident) {
        (Some(refusal), _, _) => format!("held: {}: {}", refusal.code, refusal.detail),
        (None, Some(Phase::Proposed), Some(id)) => {
            format!("held: {}: a person has to agree: relinkd show {id}", RefusalCode::ApprovalNeeded)
        }
        _ => format!("{what} was not set: {}", status.sentence),
    }
}

/// What the instance logs in with now.
fn present(e: &Evidence) -> Login {
    let Some(settings) = e.settings.seen() else { return Login::default() };
    let print = &settings.masterauth_print;
    let known = e.candidates.iter().find(|candidate| candidate.in_use);
    Login {
        user: settings.masteruser.clone(),
        print: print.clone(),
        version: known.map(|candidate| candidate.version.clone()),
    }
}

/// An instance whose settings cannot be read cannot be compared with anything.
fn unseen(e: &Evidence) -> Option<(Exit, String)> {
    let missing = match (&e.local, &e.settings) {
        (Reading::Missing(missing), _) | (_, Reading::Missing(missing)) => missing,
        _ => return None,
    };
    let exit = if matches!(missing, Missing::Denied(_)) { Exit::Permission } else { Exit::Unreachable };
    Some((exit, format!("{} could not be read: {missing}; relinkd check says more", e.address)))
}

fn exit(came: &[Came], detailed: bool) -> Exit {
    let failed = came.iter().filter_map(|one| one.failed).fold(Exit::Fine, Exit::and);
    match (failed, detailed) {
        (Exit::Fine, true) if came.iter().any(|one| one.changed) => Exit::Changed,
        (Exit::Fine, _) => Exit::Fine,
        (_, true) => Exit::Fault,
        (failed, false) => failed,
    }
}

fn tell(came: &[Came], args: &AlignArgs) {
    if args.round.output.json {
        return say_json(&as_json(came));
    }
    for one in came {
        let mark = match (one.failed, one.changed) {
            (Some(_), _) => paint::bad("failed"),
            (None, true) if args.round.check => paint::doubtful("would change"),
            (None, true) => paint::doubtful("changed"),
            (None, false) => paint::good("unchanged"),
        };
        let line = format!("{mark} {}: {}", one.replica, one.msg);
        match one.failed {
            // Where cron throws standard output away, what went wrong still has to reach its mail.
            Some(_) => anstream::eprintln!("{line}"),
            None => say(line),
        }
        if args.round.diff && one.before != one.after {
            one.before.lines().iter().for_each(|line| say(format!("  - {line}")));
            one.after.lines().iter().for_each(|line| say(format!("  + {line}")));
        }
        one.actions.iter().for_each(|action| say(format!("  {}", paint::faint(action))));
    }
}

/// As Ansible has it: `changed`, `failed`, `msg`, `diff`, and the steps that were made.
fn as_json(came: &[Came]) -> Value {
    let text = |of: fn(&Came) -> &Login| -> String {
        let lines = came.iter().flat_map(|one| {
            of(one).lines().into_iter().map(move |line| format!("{}: {line}\n", one.replica)).collect::<Vec<_>>()
        });
        lines.collect()
    };
    let msg = came.iter().map(|one| format!("{}: {}", one.replica, one.msg)).collect::<Vec<_>>().join("; ");
    json!({
        "changed": came.iter().any(|one| one.changed),
        "failed": came.iter().any(|one| one.failed.is_some()),
        "msg": msg,
        "diff": { "before": text(|one| &one.before), "after": text(|one| &one.after) },
        "actions": came.iter().flat_map(|one| &one.actions).collect::<Vec<_>>(),
        "replicas": came.iter().map(|one| json!({
            "replica": one.replica,
            "changed": one.changed,
            "failed": one.failed.is_some(),
            "msg": one.msg,
            "before": one.before.as_json(),
            "after": one.after.as_json(),
        })).collect::<Vec<_>>(),
    })
}

impl Login {
    fn lines(&self) -> [String; 2] {
        let print = match (self.print.as_str(), &self.version) {
            ("", _) => "not set".to_owned(),
            (print, Some(version)) => format!("fingerprint {print} (version {version})"),
            (print, None) => format!("fingerprint {print} (not the store's)"),
        };
        [format!("masteruser {:?}", self.user), format!("masterauth {print}")]
    }

    fn as_json(&self) -> Value {
        json!({ "masteruser": self.user, "fingerprint": self.print, "version": self.version })
    }
}
