//! What a change is worth that did not bring the link up in its time: the fault that it was made for may be gone, and
//! another one stand behind it.

use crate::model::evidence::{Answer, Evidence, LogKind};
use crate::model::finding::{Cause, Diagnosis};

/// A look after a new login failed to bring the link up: why the login stays, or None if it is to be taken back. It
/// stays where something else is named and nobody refuses the login; where nothing is named, the login is in doubt.
pub fn login_stays(e: &Evidence, diagnosis: &Diagnosis) -> Option<String> {
    if is_refused(e) {
        return None;
    }
    match diagnosis {
        Diagnosis::Healthy(sentence) => Some(sentence.clone()),
        Diagnosis::Broken(finding) if finding.link_up => Some("the link is up".to_owned()),
        Diagnosis::Broken(finding) => match finding.cause {
            Cause::AuthMissing | Cause::AuthRejected | Cause::AuthUnexpected | Cause::AuthForbidden => None,
            cause => {
                let title = cause.title();
                Some(format!("nobody refuses the new login; what keeps the link down now is {cause}: {title}"))
            }
        },
        Diagnosis::Inconclusive { .. } => None,
    }
}

/// Some causes are named before the login is looked at, so it is looked at here.
fn is_refused(e: &Evidence) -> bool {
    let by_probe = e.upstream.seen().is_some_and(|probe| {
        matches!(probe.auth, Answer::Error { .. }) || matches!(probe.psync.code(), "NOPERM" | "NOAUTH")
    });
    // A user may be allowed what a probe asks (`PSYNC ? x`) and not what the replica asks.
    let by_log = [LogKind::PsyncRefused, LogKind::SyncAborted].into_iter().any(|kind| {
        let line = e.logged(kind).filter(|line| line.sample.contains("NOPERM"));
        line.is_some_and(|line| crate::diagnose::is_fresh(e, line))
    });
    by_probe || by_log
}
