//! TLS between replica and primary: spoken by one side only, or a certificate that is not accepted.
//!
//! What the probe meets counts only where relinkd was told how to verify (`tls` of the group): without it our own
//! roots would be the ones to fail. The replica's log is the better witness, and is asked first.

use super::{broken_link, fact, finding, link_fact};
use crate::model::evidence::{Answer, Connect, Evidence, LogFact, LogKind};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

/// OpenSSL's words in the server's log, and rustls' words on the probe.
const CERTIFICATE: &[&str] = &[
    "certificate",
    "unknown ca",
    "UnknownIssuer",
    "UnknownCA",
    "NotValidForName",
    "Expired",
    "CertificateRequired",
    "CertNotValidForName",
];

fn speaks_of_a_certificate(text: &str) -> bool {
    CERTIFICATE.iter().any(|word| text.contains(word))
}

/// A replica does not look at the name in a certificate (Redis 7.0.15 and Valkey 8.0.1, connCreateTLS): one that fails
/// our check alone is a matter of `[group] tls`.
fn speaks_of_the_name(text: &str) -> bool {
    text.contains("not valid for name") || text.contains("NotValidForName")
}

fn logged(e: &Evidence, kind: LogKind) -> Option<&LogFact> {
    e.logged(kind).filter(|line| super::sync::is_fresh(e, line))
}

fn from_log(line: &LogFact, means: &str) -> Fact {
    fact(Viewpoint::Log, line.last, line.sample.clone(), means)
}

/// The probe's TLS error, where our own verification is set up for this group.
fn probe_error(e: &Evidence) -> Option<Fact> {
    let probe = e.upstream.seen()?;
    let Connect::Tls(text) = &probe.connect else { return None };
    Some(fact(
        Viewpoint::Probe,
        probe.at,
        format!("{}: {text}", probe.target),
        "the same attempt from this host, with the settings of [group] tls",
    ))
}

/// The replica's log tells of a step behind the TLS handshake: what the probe meets there is its own trouble.
fn came_further(e: &Evidence) -> bool {
    let behind = [
        LogKind::PingRefused,
        LogKind::AuthFailed,
        LogKind::PsyncRefused,
        LogKind::PsyncLater,
        LogKind::SyncAborted,
        LogKind::PsyncAsked,
    ];
    behind.into_iter().any(|kind| logged(e, kind).is_some())
}

/// OpenSSL tells of an alert where the other side has sent one.
fn refused_by(sample: &str) -> &'static str {
    if sample.contains(" alert ") {
        "the primary does not accept this replica's certificate"
    } else {
        "this replica does not accept the primary's certificate"
    }
}

pub fn certificate(e: &Evidence) -> Option<Finding> {
    broken_link(e)?;
    let line = logged(e, LogKind::SocketError).filter(|line| {
        (line.sample.contains("SSL") || line.sample.contains("error:")) && speaks_of_a_certificate(&line.sample)
    });
    let probe = probe_error(e).filter(|told| speaks_of_a_certificate(&told.saw) && !speaks_of_the_name(&told.saw));
    if line.is_none() && (probe.is_none() || came_further(e)) {
        return None;
    }
    let because = [line.map(|line| from_log(line, refused_by(&line.sample))), probe, Some(link_fact(e))];
    // Without the replica's own word it may be our verification that fails, and not its.
    Some(finding(Cause::TlsCertificate, line.is_none(), because.into_iter().flatten().collect()))
}

pub fn mismatch(e: &Evidence) -> Option<Finding> {
    broken_link(e)?;
    let probe = e.upstream.seen()?;
    let proved = probe.other_transport == Some(true);
    let (saw, means) = match (&probe.connect, &probe.ping) {
        // A plain handshake into a TLS port: the server reads garbage and closes.
        (Connect::Open, Answer::Closed) if !probe.tls && proved => (
            format!("{} closes the connection at a plain PING, and answers a TLS hello", probe.target),
            "that port speaks TLS; tls-replication is off on this replica",
        ),
        (Connect::Open, Answer::Closed) if !probe.tls && probe.other_transport.is_none() => (
            format!("{} takes the connection and closes it at the first PING", probe.target),
            "as a TLS port does, and as a proxy does that has nothing behind it",
        ),
        // TLS into a plain port: the server waits for the rest of a command, or answers in plain text.
        // (Captures of old have the hello that was not answered as a connection that was not.)
        (Connect::HelloUnanswered | Connect::TimedOut | Connect::Tls(_), _) if probe.tls && proved => (
            format!("{} does not answer a TLS hello, and answers a plain PING", probe.target),
            "that port does not speak TLS; tls-replication is on on this replica",
        ),
        _ => return None,
    };
    let logged = [LogKind::HandshakeCut, LogKind::ConnectTimeout].into_iter().find_map(|kind| logged(e, kind));
    let because = [
        Some(fact(Viewpoint::Probe, probe.at, saw, means)),
        logged.map(|line| from_log(line, "the replica meets the same")),
        Some(link_fact(e)),
    ];
    Some(finding(Cause::TlsMismatch, !proved, because.into_iter().flatten().collect()))
}
