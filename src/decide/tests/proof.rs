//! A login was set, and the link did not come up: whether it stays.

use super::*;

fn stays(bend: impl FnOnce(&mut Evidence)) -> Option<String> {
    let mut e = healthy();
    e.break_link(LinkState::Connect);
    bend(&mut e);
    login_stays(&e, &diagnose(&e))
}

const NO_ROOM: &str =
    "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA: short write";

#[test]
fn a_login_stays_where_something_else_is_named() {
    let said = stays(|e| _ = e.log(LogKind::DumpWriteError, NO_ROOM, 3)).unwrap();
    assert!(said.contains("replica-disk-full"), "{said}");
    assert!(stays(|e| _ = e.refuse().told_down()).unwrap().contains("primary-down"), "unreachable is not refused");
    assert!(stays(|e| *e = healthy()).is_some(), "the link came up after all");
}

#[test]
fn a_login_that_is_refused_is_taken_back_whatever_is_named() {
    assert_eq!(stays(|e| _ = e.reject_password()), None);
    let forbidden = "NOPERM User nobody has no permissions to run the 'psync' command";
    assert_eq!(stays(|e| e.probe().psync = error(forbidden)), None);
    let behind_a_quorum = stays(|e| _ = e.reject_password().silence(1).silence(2));
    assert_eq!(behind_a_quorum, None, "a quorum that is lost is named first, and does not make the login right");
    let line = format!("Unexpected reply to PSYNC from master: -{forbidden}");
    assert_eq!(stays(|e| _ = e.log(LogKind::DumpWriteError, NO_ROOM, 3).log(LogKind::PsyncRefused, &line, 9)), None);
}

#[test]
fn a_login_that_nothing_speaks_for_is_taken_back() {
    let mut e = healthy();
    e.break_link(LinkState::Connect);
    e.upstream = Reading::Missing(Missing::TimedOut);
    let diagnosis = diagnose(&e);
    assert!(matches!(diagnosis, Diagnosis::Inconclusive { .. }), "{diagnosis:?}");
    assert_eq!(login_stays(&e, &diagnosis), None);
}
