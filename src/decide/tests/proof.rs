//! A login was set, and the link did not come up: whether it stays.

use super::*;

fn judged(bend: impl FnOnce(&mut Evidence)) -> Login {
    let mut e = healthy();
    e.break_link(LinkState::Connect);
    bend(&mut e);
    judge_login(&e, &diagnose(&e))
}

const NO_ROOM: &str =
    "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA: short write";

#[track_caller]
fn stays(bend: impl FnOnce(&mut Evidence)) -> String {
    match judged(bend) {
        Login::Stays(why) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(bend: impl FnOnce(&mut Evidence)) -> String {
    match judged(bend) {
        Login::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_stays_where_something_else_is_named() {
    let said = stays(|e| _ = e.log(LogKind::DumpWriteError, NO_ROOM, 3));
    assert!(said.contains("replica-disk-full"), "{said}");
    assert!(stays(|e| _ = e.refuse().told_down()).contains("primary-down"), "unreachable is not refused");
    stays(|e| e.break_link(LinkState::Sync).link().syncing = true);
    stays(|e| *e = healthy());
}

#[test]
fn a_login_that_is_refused_is_refused_whatever_is_named() {
    assert!(refused(|e| _ = e.reject_password()).contains("AUTH → WRONGPASS"));
    let forbidden = "NOPERM User nobody has no permissions to run the 'psync' command";
    assert!(refused(|e| e.probe().psync = error(forbidden)).contains("PSYNC → NOPERM"));
    // A quorum that is lost is named first, and does not make the login right.
    refused(|e| _ = e.reject_password().silence(1).silence(2));
    let line = format!("Unexpected reply to PSYNC from master: -{forbidden}");
    refused(|e| _ = e.log(LogKind::DumpWriteError, NO_ROOM, 3).log(LogKind::PsyncRefused, &line, 9));
    refused(|e| e.break_link(LinkState::Sync).log(LogKind::PsyncRefused, &line, 9).link().syncing = true);
}

#[test]
fn where_nothing_is_named_the_login_is_in_doubt() {
    assert_eq!(judged(|e| e.upstream = Reading::Missing(Missing::TimedOut)), Login::Unclear);
}
