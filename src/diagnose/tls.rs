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

fn logged(e: &Evidence, kind: LogKind) -> Option<&LogFact> {
    e.logged(kind).filter(|line| super::sync::fresh(e, line))
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

pub fn certificate(e: &Evidence) -> Option<Finding> {
    broken_link(e)?;
    let line = logged(e, LogKind::SocketError).filter(|line| {
        (line.sample.contains("SSL") || line.sample.contains("error:")) && speaks_of_a_certificate(&line.sample)
    });
    let probe = probe_error(e).filter(|told| speaks_of_a_certificate(&told.saw));
    if line.is_none() && probe.is_none() {
        return None;
    }
    let because = [
        line.map(|line| from_log(line, "the replica and the primary do not accept each other's certificates")),
        probe,
        Some(link_fact(e)),
    ];
    // Without the replica's own word it may be our verification that fails, and not its.
    Some(finding(Cause::TlsCertificate, line.is_none(), because.into_iter().flatten().collect()))
}

pub fn mismatch(e: &Evidence) -> Option<Finding> {
    broken_link(e)?;
    let probe = e.upstream.seen()?;
    let cut = logged(e, LogKind::HandshakeCut);
    let because = match (&probe.connect, &probe.ping) {
        // A plain handshake into a TLS port: the server reads garbage and closes.
        (Connect::Open, Answer::Closed) if !probe.tls => vec![
            Some(fact(
                Viewpoint::Probe,
                probe.at,
                format!("{} takes the connection and closes it at the first PING", probe.target),
                "as a TLS port does with a client that speaks none; tls-replication is off on this replica",
            )),
            cut.map(|line| from_log(line, "the replica meets the same")),
        ],
        // TLS into a plain port: the server waits for a command, or answers in plain text.
        (Connect::Tls(text), _) if !speaks_of_a_certificate(text) => vec![probe_error(e)],
        (Connect::TimedOut, _) if probe.tls && e.settings.seen().is_some_and(|s| s.tls_replication) => return None,
        _ => return None,
    };
    let because = because.into_iter().flatten().chain([link_fact(e)]).collect();
    Some(finding(Cause::TlsMismatch, cut.is_none() && !probe.tls, because))
}
