//! The local server: how it answers, or does not.

use super::*;

#[test]
fn the_local_server_is_judged_by_how_it_does_not_answer() {
    let local = |why: Missing| cause(|e| e.local = Reading::Missing(why));
    assert_eq!(local(Missing::Refused("connection refused".into())), Some(Cause::ReplicaDown));
    assert_eq!(local(Missing::TimedOut), Some(Cause::ReplicaHung));
    assert_eq!(local(Missing::Denied("NOPERM".into())), Some(Cause::ReplicaDenied));
    assert_eq!(local(Missing::Unsupported("HTTP/1.1".into())), Some(Cause::Unknown));
    assert_eq!(local(Missing::NotAsked), Some(Cause::Unknown));
    assert_eq!(local(Missing::Busy("BUSY Redis is busy running a script.".into())), Some(Cause::ReplicaHung));
    let ways_in = ["TLS: invalid peer certificate: Expired", "ERR max number of clients reached", "connection closed"];
    for why in ways_in {
        let way_in = bent(|e| e.local = Reading::Missing(Missing::Unreachable(why.into())));
        let Diagnosis::Inconclusive { missing, .. } = diagnose(&way_in) else { panic!("{why}") };
        assert!(missing[0].saw.contains(why), "{missing:?}");
    }
    let socket = found(|e| {
        e.address = crate::model::Address::Unix("/run/redis.sock".into());
        e.local = Reading::Missing(Missing::Denied("relinkd's own user may not open /run/redis.sock: EACCES".into()));
    });
    assert_eq!(socket.cause, Cause::ReplicaDenied);
    assert!(socket.because[0].means.contains("group"), "the password is not what fails: {socket:?}");
    assert_eq!(cause(|e| e.server().loading = true), Some(Cause::ReplicaLoading));
    let looked_up = |failed: Option<&str>| {
        cause(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            let (name, told_by) = (at("primary.example:6379"), "relinkd saw it".into());
            e.lookup = Some(Lookup { at: T0, name, told_by, failed: failed.map(str::to_owned) });
        })
    };
    assert_eq!(looked_up(Some("the resolver gives no answer in time")), Some(Cause::NameUnresolved));
    assert_eq!(looked_up(None), Some(Cause::ReplicaHung), "the name is not what holds it up");
}

#[test]
fn a_server_that_flushes_or_loads_in_a_sync_does_not_hang() {
    let flushing = "MASTER <-> REPLICA sync: Flushing old data";
    let silent = |bend: &dyn Fn(&mut Evidence)| {
        verdict(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            e.log(LogKind::Loading, flushing, 1);
            bend(e);
        })
    };
    let (runs, hangs) = ((Cause::SyncRunning, true), (Cause::ReplicaHung, false));
    assert_eq!(silent(&|_| {}), runs);
    assert_eq!(silent(&|e| e.ended = e.ended.after(Duration::from_secs(121))), hangs, "that is too long");
    for over in [LogKind::SyncFinished, LogKind::LoadFailed] {
        assert_eq!(silent(&|e| _ = e.log(over, "over", 1)), hangs, "{over:?}, read in one go with the other");
    }
    for before in [LogKind::FullResync, LogKind::Ready, LogKind::LinkLost] {
        assert_eq!(silent(&|e| _ = e.log(before, "before", 1)), runs, "{before:?}, read in one go with the other");
    }
    let started = |e: &mut Evidence| {
        e.log(LogKind::Ready, "Ready to accept connections", 1);
        let earlier = e.ended.before(Duration::from_secs(1));
        seen(&mut e.log).lines[0].last = earlier;
    };
    assert_eq!(silent(&started), hangs, "a process that came later");

    let remembered = |loading: bool, bend: &dyn Fn(&mut Evidence)| {
        verdict(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            e.trend.sync_seen = Some((e.ended.before(Duration::from_secs(20)), loading));
            bend(e);
        })
    };
    assert_eq!(remembered(true, &|_| {}), runs, "a slow line feeds the load: it answers every 2 MiB");
    assert_eq!(remembered(false, &|_| {}), hangs, "the log would tell of a load");
    let no_log = |e: &mut Evidence| e.log = Reading::Missing(Missing::NotAsked);
    assert_eq!(remembered(false, &no_log), runs);
    assert_eq!(remembered(true, &|e| _ = e.log(LogKind::SyncFinished, "done", 1)), hangs);
    let stopped = |e: &mut Evidence| _ = e.log(LogKind::Shutdown, "User requested shutdown...", 1);
    assert_eq!(silent(&stopped), (Cause::ReplicaDown, false));
}

#[test]
fn a_directory_that_is_not_the_servers_own_is_what_it_waits_for() {
    let line = "Opening the temp file needed for MASTER <-> REPLICA synchronization: Permission denied";
    let finding = found(|e| {
        e.local = Reading::Missing(Missing::TimedOut);
        e.log(LogKind::DumpWriteError, line, 1);
    });
    assert_eq!(finding.cause, Cause::ReplicaHung);
    assert!(finding.because[0].saw.contains("Permission denied"), "{finding:?}");
}

#[test]
fn a_stop_that_the_log_tells_of_is_over_when_a_later_process_has_answered() {
    let silent = |started_before_s: Option<u64>| {
        cause(|e| {
            e.log(LogKind::Shutdown, "Received SIGTERM scheduling shutdown...", 1);
            e.ended = e.ended.after(Duration::from_secs(20));
            e.trend.started = started_before_s.map(|s| e.ended.before(Duration::from_secs(s)));
            e.local = Reading::Missing(Missing::TimedOut);
        })
    };
    assert_eq!(silent(None), Some(Cause::ReplicaDown));
    assert_eq!(silent(Some(3_600)), Some(Cause::ReplicaDown), "it saves, and then it ends");
    assert_eq!(silent(Some(19)), Some(Cause::ReplicaHung), "what the log said of its start was too much to read");
}

#[test]
fn a_server_that_was_told_to_stop_does_not_hang_and_one_that_came_back_does() {
    let mut e = healthy();
    e.log(LogKind::Shutdown, "Received SIGTERM scheduling shutdown...", 1);
    e.local = Reading::Missing(Missing::TimedOut);
    let Diagnosis::Broken(finding) = diagnose(&e) else { panic!() };
    assert_eq!(finding.cause, Cause::ReplicaDown);
    assert!(finding.because[1].saw.contains("SIGTERM"), "{:?}", finding.because);
    let mut later = e.clone();
    if let Reading::Seen(log) = &mut later.log {
        let stop = log.lines[0].last;
        log.lines[0].last = stop.before(Duration::from_secs(10));
    }
    later.log(LogKind::Ready, "Ready to accept connections", 1);
    assert_eq!(diagnose(&later).cause(), Some(Cause::ReplicaHung));
}
