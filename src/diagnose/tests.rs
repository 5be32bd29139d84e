//! Every rule on its fault and on its look-alikes; all evidence is one healthy look, bent in few places.

use std::time::Duration;

use super::diagnose;
use crate::model::evidence::*;
use crate::model::finding::{Cause, Diagnosis, Finding};

mod answers;
mod attempts;
mod buffer;
mod deposed;
mod flapping;
mod group;
mod hung;
mod local;
mod login;
mod reach;
mod running;
mod sync;
mod topology;
pub(crate) mod world;

use world::*;

fn bent(bend: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = healthy();
    bend(&mut evidence);
    evidence
}

fn found(bend: impl FnOnce(&mut Evidence)) -> Finding {
    match diagnose(&bent(bend)) {
        Diagnosis::Broken(finding) => finding,
        other => panic!("{other:?}"),
    }
}

/// The cause, with `true` when it is only suspected.
fn verdict(bend: impl FnOnce(&mut Evidence)) -> (Cause, bool) {
    let finding = found(bend);
    (finding.cause, finding.suspected)
}

fn cause(bend: impl FnOnce(&mut Evidence)) -> Option<Cause> {
    diagnose(&bent(bend)).cause()
}

const LONG: Duration = Duration::from_secs(60);

const CUT: &str = "I/O error trying to sync with MASTER: connection lost";

fn broken(e: &mut Evidence) -> &mut Evidence {
    e.break_link(LinkState::Sync)
}

#[test]
fn a_link_that_is_up_and_a_primary_are_healthy() {
    assert_eq!(cause(|_| {}), None);
    assert_eq!(cause(|e| e.server().role = Role::Primary), None);
    assert_eq!(cause(|e| e.upstream = Reading::Missing(Missing::NotAsked)), None, "a look that is not deep");
    assert_eq!(cause(|e| _ = e.silence(0).silence(1).silence(2)), None, "losing Sentinels is no fault of the link");
}

#[test]
fn a_login_that_could_not_be_tried_is_told_of_a_healthy_link() {
    let told = |why: Missing| match diagnose(&bent(|e| e.settings = Reading::Missing(why))) {
        Diagnosis::Healthy(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(told(Missing::Denied("NOPERM".into())).ends_with("was not tried, since CONFIG GET is refused"));
    assert!(!told(Missing::NotAsked).contains("not tried"), "the next look in depth asks");
}

fn cut(e: &mut Evidence) -> &mut Evidence {
    e.refuse();
    e.probe().connect = Connect::TimedOut;
    e.link().state = LinkState::Connecting;
    e
}

fn hang(e: &mut Evidence) -> &mut Evidence {
    e.break_link(LinkState::Handshake);
    e.upstream = Reading::Seen(Probe { ping: Answer::TimedOut, ..blank(PRIMARY) });
    e.primary = Reading::Missing(Missing::TimedOut);
    e
}

#[test]
fn where_nothing_fits_the_answer_says_what_was_not_seen() {
    let blind = bent(|e| {
        e.break_link(LinkState::Connect);
        e.settings = Reading::Missing(Missing::Denied("NOPERM config|get".into()));
        e.upstream = Reading::Missing(Missing::NotAsked);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.log = Reading::Missing(Missing::Denied("permission denied".into()));
        e.silence(2);
    });
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&blind) else { panic!() };
    let told: Vec<&str> = missing.iter().map(|fact| fact.saw.as_str()).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].contains("CONFIG GET") && told[0].contains("NOPERM"));

    let waiting = bent(|e| _ = e.break_link(LinkState::Connect));
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&waiting) else { panic!() };
    assert!(missing[0].means.contains("has not linked yet"), "{missing:?}");

    let tls = bent(|e| {
        e.break_link(LinkState::Connect);
        e.upstream = Reading::Seen(Probe { connect: Connect::Tls("certificate expired".into()), ..blank(PRIMARY) });
    });
    let Diagnosis::Broken(told) = diagnose(&tls) else { panic!() };
    assert_eq!((told.cause, told.suspected), (Cause::TlsCertificate, true), "our own verification may be what fails");
    assert!(told.because[0].saw.contains("certificate expired"), "{told:?}");
}

#[test]
fn what_speaks_against_a_cause_is_kept_and_the_verdict_itself_is_never_among_it() {
    let finding = found(|e| _ = e.reject_password());
    assert_eq!(finding.cause, Cause::AuthRejected);
    for out in
        [Cause::PrimaryDown, Cause::NetworkCut, Cause::WrongPrimary, Cause::FailoverRunning, Cause::ReplicaDiskFull]
    {
        assert!(finding.rejected.contains_key(&out), "{out}");
    }
    assert!(!finding.rejected.contains_key(&Cause::AuthRejected));
    let silent = found(|e| _ = cut(e));
    assert!(!silent.rejected.contains_key(&Cause::PrimaryDown), "no answer rules nothing out");
    let alone = found(|e| _ = e.reject_password().alone());
    assert!(!alone.rejected.contains_key(&Cause::WrongPrimary), "nobody said whom to follow");
    let bare = found(|e| {
        e.break_link(LinkState::Sync);
        let ping = Answer::Ok("PONG".into());
        let probe = Probe { with_password: false, ping, auth: Answer::NotAsked, ..green(PRIMARY) };
        e.upstream = Reading::Seen(Probe { ping_again: Answer::NotAsked, ..probe });
    });
    assert!(bare.rejected.contains_key(&Cause::AuthMissing), "PONG without a password");
}

#[test]
fn no_number_that_a_server_may_send_makes_a_rule_panic() {
    for extreme in [i64::MIN, -1, 0, i64::MAX] {
        _ = cause(|e| {
            e.break_link(LinkState::Sync);
            (e.trend.offset, e.trend.replid) = (Some(extreme), Some("replid".into()));
            (e.source().backlog_first, e.source().second_repl_offset) = (extreme, extreme);
            (e.link().offset, e.link().last_io_s) = (extreme, extreme);
            (e.link().sync_read, e.link().sync_total) = (u64::MAX, 1);
            e.trend.sync_read = Some((T0.before(LONG), 0));
        });
    }
}
