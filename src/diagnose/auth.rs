//! The login: the first bad reply to the replica's own handshake names the cause, word for word.
//!
//! The reply to a wrong password, to a user that is switched off and to one that does not exist is one and the same
//! (`WRONGPASS invalid username-password pair or user is disabled.`, Redis 7.0.15, authCommand).

use std::time::Duration;

use super::{broken_link, fact, finding, handshake_works, link_fact};
use crate::model::evidence::{Answer, Connect, Evidence, LogFact, LogKind, PeerRole, Probe};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

fn upstream(e: &Evidence) -> Option<&Probe> {
    broken_link(e)?;
    e.upstream.seen()
}

fn whose(probe: &Probe) -> String {
    match probe.user.as_str() {
        "" | "default" => "the default user".to_owned(),
        user => format!("user {user:?}"),
    }
}

fn told_by_log(e: &Evidence, kinds: &[LogKind]) -> Option<Fact> {
    let logged = kinds.iter().find_map(|kind| e.logged(*kind))?;
    let often = if logged.count == 1 { "once".to_owned() } else { format!("{} times", logged.count) };
    Some(fact(Viewpoint::Log, logged.last, logged.sample.clone(), format!("logged {often} of late")))
}

fn with_context(e: &Evidence, cause: Cause, first: Fact, kinds: &[LogKind]) -> Finding {
    let because = [Some(first), told_by_log(e, kinds), Some(link_fact(e))].into_iter().flatten().collect();
    finding(cause, false, because)
}

/// No `masterauth` here, and the primary wants one. The replica then reconnects thousands of times a second and
/// writes over 1 MB/s of log (Redis 7.0.15 to 8.2.3, Valkey 8.0.1; Valkey 9.1.2 tries once a second).
pub fn missing(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    // Without CONFIG GET the probe has no password to send, and its NOAUTH says nothing about the replica's.
    let tried = probe.connect == Connect::Open && e.settings.seen().is_some_and(|settings| !settings.masterauth_set);
    if !tried {
        return by_log(e, probe, Cause::AuthMissing, &[LogKind::PsyncRefused, LogKind::SyncAborted], "NOAUTH");
    }
    let answer = [&probe.ping, &probe.ping_again, &probe.replconf, &probe.psync]
        .into_iter()
        .find(|answer| answer.code() == "NOAUTH")?;
    // Without the settings nobody knows what the replica sends.
    e.settings.seen()?;
    if probe.with_password {
        return None;
    }
    let first = fact(
        Viewpoint::Probe,
        probe.at,
        format!("{} without a password → {answer}", probe.target),
        "the primary wants a password, and masterauth is empty on this replica",
    );
    Some(with_context(e, Cause::AuthMissing, first, &[LogKind::PsyncRefused, LogKind::SyncAborted]))
}

/// `ERR AUTH <password> called without any password configured for the default user`.
pub fn unexpected(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let Answer::Error { code, text } = &probe.auth else { return None };
    if code != "ERR" || !text.contains("without any password") || probe.role.seen() == Some(&PeerRole::Sentinel) {
        return None;
    }
    let first = fact(
        Viewpoint::Probe,
        probe.at,
        format!("{}: AUTH → {text}", probe.target),
        "the replica sends a password, the primary has none, and refuses the link for it",
    );
    Some(with_context(e, Cause::AuthUnexpected, first, &[LogKind::AuthFailed]))
}

/// Why the probe could not try the replica's login; none where it could, or where there is none to try.
fn untried(e: &Evidence, probe: &Probe) -> Option<String> {
    let why = match (e.settings.seen(), &probe.connect) {
        (None, _) => "its credentials cannot be read from here (CONFIG GET)".to_owned(),
        (Some(_), _) if probe.auth != Answer::NotAsked => return None,
        (Some(_), Connect::Tls(text) | Connect::TlsSetup(text)) => format!("TLS does not let us so far ({text})"),
        (Some(settings), _) if settings.login_not_text => "its login is not UTF-8".to_owned(),
        (Some(settings), _) if settings.masterauth_set => "the probe did not come so far".to_owned(),
        (Some(_), _) => return None,
    };
    Some(format!("what the replica itself met; {why}, so nobody else tried it"))
}

/// Where the probe could not go as far as the replica does, the replica's own log is the witness.
fn by_log(e: &Evidence, probe: &Probe, cause: Cause, kinds: &[LogKind], word: &str) -> Option<Finding> {
    let means = untried(e, probe)?;
    let line = kinds
        .iter()
        .filter_map(|kind| e.logged(*kind))
        .find(|line| line.sample.contains(word) && super::sync::is_fresh(e, line))?;
    Some(with_context(e, cause, fact(Viewpoint::Log, line.last, line.sample.clone(), means), &[]))
}

pub fn rejected(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let Answer::Error { code, text } = &probe.auth else {
        return by_log(e, probe, Cause::AuthRejected, &[LogKind::AuthFailed], "WRONGPASS");
    };
    // `ERR invalid password` is what a server before Redis 6.0 says.
    if code != "WRONGPASS" && !text.contains("invalid password") {
        return None;
    }
    let means = format!(
        "the primary does not take what this replica sends for {}: a wrong password, or a user that is switched \
         off or deleted (the answer is the same)",
        whose(probe)
    );
    let first = fact(Viewpoint::Probe, probe.at, format!("{}: AUTH → {text}", probe.target), means);
    Some(with_context(e, Cause::AuthRejected, first, &[LogKind::AuthFailed]))
}

/// A line without a time of its own bears the one at which it was read.
const SLACK: Duration = Duration::from_secs(2);

/// The login works and the user may not replicate. A missing `+ping` is no fault: a replica sends PING before AUTH.
pub fn forbidden(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let by_probe =
        [("PSYNC", &probe.psync)].into_iter().find(|(_, answer)| answer.code() == "NOPERM").map(|(command, answer)| {
            fact(
                Viewpoint::Probe,
                probe.at,
                format!("{}: {command} → {answer}", probe.target),
                format!("{} may log in and may not replicate; it needs +psync +replconf +ping", whose(probe)),
            )
        });
    // A probe that was let through is newer than what the log remembers of the time before. What comes after it is of what
    // the probe does not ask.
    let passes = handshake_works(probe);
    let outlived = |line: &LogFact| e.trend.let_in.is_some_and(|since| line.last > since.after(SLACK));
    let means = match passes {
        true => {
            "the primary lets `PSYNC ?` through to this user, and refuses what the replica asks: +psync is missing without \
             `|?`"
        }
        false => "the primary refuses the command to this user",
    };
    let by_log = || {
        [LogKind::PsyncRefused, LogKind::SyncAborted]
            .into_iter()
            .filter_map(|kind| e.logged(kind).filter(|line| !passes || outlived(line)))
            .find(|line| line.sample.contains("NOPERM") && super::sync::is_fresh(e, line))
            .map(|line| fact(Viewpoint::Log, line.last, line.sample.clone(), means))
    };
    let first = by_probe.or_else(by_log)?;
    Some(with_context(e, Cause::AuthForbidden, first, &[LogKind::PsyncRefused]))
}
