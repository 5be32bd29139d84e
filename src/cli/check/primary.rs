//! The primary as its replica meets it: the handshake with the replica's own credentials, and with what the store
//! offers as `masterauth`.

use super::super::Exit;
use super::report::Section;
use crate::model::evidence::{Answer, CandidateView, Connect, Evidence, Missing, PeerRole, Probe, Reading};

pub fn tell(section: &mut Section, evidence: &Evidence) {
    match &evidence.upstream {
        Reading::Seen(probe) => handshake(section, probe),
        Reading::Missing(Missing::NotAsked) => {}
        Reading::Missing(why) => section.problem(Exit::Fault, "handshake", why.to_string(), []),
    }
    for (place, candidate) in evidence.candidates.iter().enumerate() {
        offer(section, candidate, place > 0);
    }
}

fn handshake(section: &mut Section, probe: &Probe) {
    let user = if probe.user.is_empty() { "the default user" } else { &probe.user };
    let whom = match probe.with_password {
        true => format!("{} as {user}, with the replica's own masterauth", probe.target),
        false => format!("{} without a password", probe.target),
    };
    match verdict(probe) {
        Ok(()) => section.ok("handshake", format!("{whom}: passes; the next reconnect will too")),
        Err((exit, why)) => {
            let next = "relinkd diagnose   # the cause by name, and what relinkd would do".to_owned();
            section.problem(exit, "handshake", format!("{whom}: {why}"), [next]);
        }
    }
}

/// A store offers the newest value first; each one after it is a former one.
fn offer(section: &mut Section, candidate: &CandidateView, former: bool) {
    let what = format!("{} (version {})", candidate.source, candidate.version);
    let held = if candidate.in_use { ", and the replica holds it" } else { ", and the replica holds another one" };
    match verdict(&candidate.proof) {
        Ok(()) if candidate.in_use => {
            section.ok("masterauth", format!("{what}: {} takes it{held}", candidate.proof.target))
        }
        Ok(()) => section.warn("masterauth", format!("{what}: {} takes it{held}", candidate.proof.target), []),
        // A previous value that is refused has done its time.
        Err(_) if former => {
            section.ok("masterauth", format!("{what}: refused by {}, as an old one may be", candidate.proof.target));
        }
        Err((exit, why)) => section.problem(
            exit,
            "masterauth",
            format!("{what}: {}: {why}", candidate.proof.target),
            ["correct the store, or the primary: relinkd writes no password that the primary refuses".to_owned()],
        ),
    }
}

/// Whether a replica would get through, and if not, where it stops (Redis 7.0.15, syncWithMaster).
fn verdict(probe: &Probe) -> Result<(), (Exit, String)> {
    let fault = |why: String| Err((Exit::Fault, why));
    match &probe.connect {
        Connect::Open => {}
        Connect::Refused => return Err((Exit::Unreachable, "connection refused".to_owned())),
        Connect::Reset => return Err((Exit::Unreachable, "connection reset".to_owned())),
        Connect::TimedOut => return Err((Exit::Unreachable, "no connection in time".to_owned())),
        Connect::Unreachable(why) | Connect::NameUnresolved(why) => return Err((Exit::Unreachable, why.clone())),
        Connect::HelloUnanswered => {
            return Err((Exit::Unreachable, "the connection opens, and the TLS hello is not answered".to_owned()));
        }
        Connect::Tls(why) => return fault(format!("TLS: {why}")),
        Connect::NoTime => return Err((Exit::Unreachable, "the local server was slow, no time was left".to_owned())),
        Connect::TlsSetup(why) => return fault(format!("relinkd's own TLS settings: {why}")),
    }
    let passes = |answer: &Answer| matches!(answer, Answer::Ok(_) | Answer::NotAsked);
    match &probe.ping {
        Answer::Ok(_) => {}
        Answer::Error { code, .. } if code == "NOAUTH" && !probe.with_password => {
            return fault("the primary asks for a password, and the replica has none".to_owned());
        }
        Answer::Error { code, .. } if code == "NOAUTH" || code == "NOPERM" => {}
        Answer::TimedOut | Answer::Closed => return Err((Exit::Unreachable, format!("PING: {}", probe.ping))),
        other => return fault(format!("PING: {other}")),
    }
    if !passes(&probe.auth) {
        return fault(format!("AUTH: {}", probe.auth));
    }
    if let Answer::Error { code, text } = &probe.ping_again
        && code != "NOPERM"
    {
        return fault(format!("PING after AUTH: {text}"));
    }
    for (what, rule, answer) in [("REPLCONF", "+replconf", &probe.replconf), ("PSYNC", "+psync", &probe.psync)] {
        match answer {
            Answer::Error { code, text } if code == "NOPERM" => {
                return fault(format!("{what}: {text}; on the primary its user needs {rule}"));
            }
            // `PSYNC ? x` is refused for its `x` where PSYNC is allowed.
            Answer::Error { code, .. } if code == "ERR" => {}
            answer if passes(answer) => {}
            other => return fault(format!("{what}: {other}")),
        }
    }
    match &probe.role {
        Reading::Seen(PeerRole::Replica { of, .. }) => fault(format!("this is itself a replica of {of}")),
        Reading::Seen(PeerRole::Sentinel) => fault("this is a Sentinel".to_owned()),
        _ => Ok(()),
    }
}
