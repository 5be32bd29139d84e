//! What a plan that was cut short may have left: a change that the running server has and its config file has not. At
//! its next restart the server would be back where it was, and nobody would know why.
//!
//! Whether the file was written cannot be read back, so it is written again: CONFIG REWRITE may be done twice. That is
//! the rest of a plan and still a change, so the guards of every change hold for it.

use super::{Context, Held, Mode, Persist, guards, in_words};
use crate::diagnose::same_place;
use crate::model::evidence::{Evidence, Missing, Reading, Role};
use crate::model::finding::{Fact, Viewpoint};
use crate::model::remedy::{Change, Decision, Plan, Precondition, Refusal, RefusalCode, Step};

/// What to do about it while the link is whole; none where nothing of the plan stands.
pub fn finish(cut: &Plan, context: &Context<'_>) -> Option<Decision> {
    let (remedy, policy) = (cut.remedy, context.policy);
    let held = |(code, detail): Held| Some(Decision::Hold(Refusal { code, remedy: Some(remedy), detail }));
    let expect = match stands(cut, context.evidence) {
        _ if policy.persist == Persist::Runtime => return None,
        Ok(expect) => expect?,
        Err(why) => return held(why),
    };
    if let Err((code, detail)) = guards::check_rest(remedy, context) {
        return held((code, format!("{}: {detail}", left(cut))));
    }
    let expected = Fact {
        from: Viewpoint::Replica,
        saw: format!("{}; now it is written", left(cut)),
        at: context.now,
        means: "a restart of the server keeps it".to_owned(),
    };
    let steps = vec![Step { expect, change: Change::Persist, within_ms: 5_000 }];
    let plan = Plan { remedy, steps, undo: Vec::new(), expected };
    match policy.of(remedy).mode {
        Mode::Auto => Some(Decision::Apply(plan)),
        Mode::Propose => Some(Decision::Propose(plan)),
        Mode::Observe => held((
            RefusalCode::ObserveOnly,
            format!("{}: [policy.{remedy}] mode is observe; it would {}", left(cut), in_words(&plan)),
        )),
    }
}

fn left(cut: &Plan) -> &'static str {
    match cut.steps.first().map(|step| &step.change) {
        Some(Change::Repoint { .. }) => "the address that it follows was set, and relinkd ended before CONFIG REWRITE",
        _ => "masterauth was set, and relinkd ended before CONFIG REWRITE",
    }
}

/// What has to be so for the rewrite; none where the running server does not have what the plan was to bring. A server
/// that was started anew has what its file says.
fn stands(cut: &Plan, e: &Evidence) -> Result<Option<Precondition>, Held> {
    let Some(first) = cut.steps.first() else { return Ok(None) };
    let Some(local) = e.local.seen() else { return Ok(None) };
    if first.expect.run_id.as_deref() != Some(local.run_id.as_str()) {
        return Ok(None);
    }
    let follows = e.local_link().map(|link| link.primary.clone());
    let has_it = match &first.change {
        Change::RealignAuth { print, user, .. } | Change::PresetAuth { print, user, .. } => match &e.settings {
            Reading::Seen(settings) => settings.masterauth_print == *print && settings.masteruser == *user,
            Reading::Missing(Missing::Denied(text)) => {
                return Err((RefusalCode::PermissionDenied, format!("{}: CONFIG GET → {text}", left(cut))));
            }
            Reading::Missing(why) => {
                return Err((RefusalCode::EvidenceMissing, format!("{}: CONFIG GET: {why}", left(cut))));
            }
        },
        Change::Repoint { to, .. } => follows.as_ref().is_some_and(|primary| same_place(e, primary, to)),
        _ => false,
    };
    Ok(has_it.then(|| Precondition {
        run_id: Some(local.run_id.clone()),
        still_primary: local.role == Role::Primary,
        replica_of: follows,
        no_failover: !e.sentinels.is_empty(),
        ..Precondition::default()
    }))
}
