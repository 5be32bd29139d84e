//! What a change is worth that did not bring the link up in its time: the fault that it was made for may be gone, and
//! another one stand behind it.

use crate::diagnose::is_fresh;
use crate::model::evidence::{Answer, Evidence, LogKind};
use crate::model::finding::{Cause, Diagnosis};

/// What a look says of a new login, after which the link did not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nobody refuses it, and something else is named.
    Stays(String),
    Refused(String),
    /// Nothing is named.
    Unclear,
}

pub fn judge_login(e: &Evidence, diagnosis: &Diagnosis) -> Login {
    if let Some(why) = refusal(e) {
        return Login::Refused(why);
    }
    match diagnosis {
        Diagnosis::Healthy(sentence) => Login::Stays(sentence.clone()),
        Diagnosis::Broken(finding) if finding.link_up => Login::Stays("the link is up".to_owned()),
        Diagnosis::Broken(finding) => {
            let (cause, title) = (finding.cause, finding.cause.title());
            match cause {
                Cause::AuthMissing | Cause::AuthRejected | Cause::AuthUnexpected | Cause::AuthForbidden => {
                    Login::Refused(title.to_owned())
                }
                _ => Login::Stays(format!("nobody refuses the new login; {cause} keeps the link down now: {title}")),
            }
        }
        Diagnosis::Inconclusive { .. } => Login::Unclear,
    }
}

/// Some causes are named before the login is looked at, so it is looked at here.
fn refusal(e: &Evidence) -> Option<String> {
    if let Some(probe) = e.upstream.seen() {
        if matches!(probe.auth, Answer::Error { .. }) {
            return Some(format!("{}: AUTH → {}", probe.target, probe.auth));
        }
        if matches!(probe.psync.code(), "NOPERM" | "NOAUTH") {
            return Some(format!("{}: PSYNC → {}", probe.target, probe.psync));
        }
    }
    // A user may be allowed what a probe asks (`PSYNC ? x`) and not what the replica asks.
    let logged = [LogKind::PsyncRefused, LogKind::SyncAborted].into_iter().filter_map(|kind| e.logged(kind));
    let line = logged.filter(|line| line.sample.contains("NOPERM")).find(|line| is_fresh(e, line))?;
    Some(format!("the replica logs: {}", line.sample))
}
