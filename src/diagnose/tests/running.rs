//! A sync that runs, and one that seems to.

use super::*;

/// With production's data one circle takes minutes, so that the log holds one line of each kind, or none that is fresh.
#[test]
fn a_sync_that_goes_in_a_circle_is_no_sync_that_runs() {
    let circling = |attempts: u32, bend: &dyn Fn(&mut Evidence)| {
        bent(|e| {
            broken(e);
            (e.link().syncing, e.link().sync_read) = (true, 5 << 30);
            (e.trend.attempts, e.trend.furthest) = (attempts, 9 << 30);
            bend(e);
        })
    };
    assert_eq!(diagnose(&circling(2, &|_| {})).cause(), Some(Cause::SyncRunning));
    let stale = |e: &mut Evidence| {
        e.log(LogKind::TransferError, CUT, 1);
        e.ended = e.ended.after(Duration::from_secs(60));
    };
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&circling(3, &stale)) else { panic!() };
    assert!(missing[0].saw.contains("begun 3 times") && missing[0].saw.contains("9 GiB"), "{missing:?}");
    assert!(missing[0].means.contains(CUT) && missing[0].means.contains("output buffer"), "{missing:?}");
    let beyond = |e: &mut Evidence| e.link().sync_read = 10 << 30;
    assert_eq!(diagnose(&circling(9, &beyond)).cause(), Some(Cause::SyncRunning), "this one may get through");
    let suspected = |bend: &dyn Fn(&mut Evidence)| match diagnose(&circling(3, bend)) {
        Diagnosis::Broken(finding) => (finding.cause, finding.suspected),
        other => panic!("{other:?}"),
    };
    let no_room = |e: &mut Evidence| seen(&mut e.host.disk).free = 4096;
    assert_eq!(suspected(&no_room), (Cause::ReplicaDiskFull, true));
    let cuts = |e: &mut Evidence| {
        (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(3), Some(1));
    };
    assert_eq!(suspected(&cuts), (Cause::OutputBufferExceeded, true));
    let into_memory = |e: &mut Evidence| {
        no_room(e);
        e.settings().diskless_load = "swapdb".into();
    };
    assert_eq!(diagnose(&circling(3, &into_memory)).cause(), Some(Cause::Unknown), "nothing is written there");
}

#[test]
fn a_sync_tells_its_rate_and_the_time_left_where_the_size_is_known() {
    let told = |total: u64, bend: &dyn Fn(&mut Evidence)| {
        let finding = found(|e| {
            broken(e);
            let link = e.link();
            (link.syncing, link.sync_read, link.sync_total, link.sync_last_io_s) = (true, 30 << 20, total, 0);
            e.source().used_memory = 90 << 20;
            e.trend.sync_read = Some((e.ended.before(Duration::from_secs(2)), 10 << 20));
            bend(e);
        });
        assert_eq!((finding.cause, finding.suspected), (Cause::SyncRunning, false));
        finding.because[0].saw.clone()
    };
    assert_eq!(told(100 << 20, &|_| {}), "30 MiB of 100 MiB received, 10 MiB/s, about 7.0 s left");
    assert_eq!(
        told(0, &|_| {}),
        "30 MiB received, 10 MiB/s; the size is not told (diskless), the primary has 90 MiB in memory, so 6.0 s left, \
         probably less"
    );
    let unseen = |e: &mut Evidence| e.primary = Reading::Missing(Missing::NotAsked);
    assert_eq!(told(0, &unseen), "30 MiB received, 10 MiB/s; the size is not told (diskless)");
    let first_look = |e: &mut Evidence| e.trend.sync_read = None;
    assert_eq!(told(100 << 20, &first_look), "30 MiB of 100 MiB received");
    let stands = |e: &mut Evidence| e.trend.sync_read = Some((e.ended.before(Duration::from_secs(2)), 30 << 20));
    assert_eq!(told(100 << 20, &stands), "30 MiB of 100 MiB received, 0 B/s", "no time is left at no rate");
}

#[test]
fn what_a_sync_brought_is_loaded_as_a_part_of_it() {
    let loading = |state: LinkState, beside_the_old: bool| {
        move |e: &mut Evidence| {
            e.break_link(state);
            e.link().syncing = state == LinkState::Sync;
            let server = e.server();
            server.loading = !beside_the_old;
            (server.loading_bytes, server.loading_percent) = (Some(5 << 20), Some(25.0));
        }
    };
    for beside_the_old in [false, true] {
        let finding = found(loading(LinkState::Sync, beside_the_old));
        assert_eq!((finding.cause, finding.because[0].saw.as_str()), (Cause::SyncRunning, "5 MiB loaded, 25 % of it"));
    }
    assert_eq!(cause(loading(LinkState::Connect, false)), Some(Cause::ReplicaLoading), "its own, after a start");
}

/// Redis 7.0.15 and Valkey 8.0.1, from the disk: `master_sync_last_io_seconds_ago` counts on through the whole load.
#[test]
fn no_byte_comes_while_the_data_set_is_loaded_and_that_is_no_stall() {
    let silent = |bend: &dyn Fn(&mut Evidence)| {
        found(|e| {
            broken(e);
            let link = e.link();
            (link.syncing, link.sync_read, link.sync_last_io_s) = (true, 618_000, 39);
            bend(e);
        })
    };
    let loads = |e: &mut Evidence| {
        let server = e.server();
        (server.loading, server.loading_bytes, server.loading_percent) = (true, Some(60 << 20), Some(25.0));
        (e.trend.sync_read, e.trend.sync_loaded) =
            (Some((e.ended.before(Duration::from_secs(2)), 618_000)), Some(40 << 20));
    };
    assert_eq!((silent(&|_| {}).cause, silent(&loads).cause), (Cause::SyncStalled, Cause::SyncRunning));
    assert_eq!(silent(&loads).because[0].saw, "60 MiB loaded, 25 % of it, about 18 s left");
}

#[test]
fn a_sync_moves_by_bytes_received_bytes_loaded_or_a_save_that_is_for_it() {
    let moves = |bend: &dyn Fn(&mut Evidence)| {
        super::super::sync_moves(&bent(|e| {
            broken(e);
            e.link().syncing = true;
            (e.trend.sync_read, e.trend.sync_loaded) = (Some((T0, 10)), Some(10));
            bend(e);
        }))
    };
    assert!(!moves(&|_| {}));
    assert!(moves(&|e| e.link().sync_read = 11));
    assert!(moves(&|e| e.server().loading_bytes = Some(11)));
    assert!(!moves(&|e| e.server().loading_bytes = Some(10)));
    let saves = |who: &'static str| {
        move |e: &mut Evidence| {
            e.source().rdb_saving = true;
            e.limits().diskless_sync = false;
            e.source().replicas = vec![listed(who, "wait_bgsave")];
        }
    };
    assert!(moves(&saves(REPLICA)));
    let diskless = |e: &mut Evidence| {
        saves(REPLICA)(e);
        e.limits().diskless_sync = true;
    };
    assert!(!moves(&diskless), "a child that stands still saves too; there the bytes tell");
    assert!(!moves(&saves(OTHER)), "somebody else waits for that");
    let saved = |e: &mut Evidence| {
        saves(REPLICA)(e);
        e.source().rdb_saving = false;
    };
    assert!(!moves(&saved));
}

#[test]
fn why_a_stream_begins_anew_is_told_with_the_sync() {
    let line =
        "WARNING: Receiving inline protocol from master, master stream corruption? Closing the master connection";
    let finding = found(|e| _ = broken(e).log(LogKind::StreamBroken, line, 1));
    assert_eq!(finding.cause, Cause::SyncRunning);
    assert!(finding.because[1].saw.contains("stream corruption"), "{finding:?}");
}

#[test]
fn a_full_sync_of_another_replica_is_not_taken_for_ours() {
    let stale = |own: &'static str, listed_at: Vec<(&'static str, &'static str)>| {
        move |e: &mut Evidence| {
            e.break_link(LinkState::Handshake).stood(LONG);
            e.address = crate::model::Address::Tcp(at(own));
            e.source().replicas = listed_at.into_iter().map(|(place, state)| listed(place, state)).collect();
            e.log(LogKind::PsyncAsked, "Trying a partial resynchronization (request x:1).", 1);
            let long_ago = e.ended.before(Duration::from_secs(30));
            seen(&mut e.log).lines.iter_mut().for_each(|line| line.last = long_ago);
        }
    };
    let other = || vec![(OTHER, "send_bulk")];
    assert_eq!(cause(stale("127.0.0.1:6379", other())), Some(Cause::PrimaryHung), "a Sentinel knows whose it is");
    let started_anew = |e: &mut Evidence| {
        stale("127.0.0.1:6379", vec![(REPLICA, "wait_bgsave")])(e);
        (e.server().run_id, e.server().uptime_s) = ("run-anew".into(), 0);
    };
    assert_eq!(cause(started_anew), Some(Cause::SyncRunning), "the Sentinels know the former process");
    let ours = || vec![(OTHER, "send_bulk"), (REPLICA, "wait_bgsave")];
    let finding = found(stale("127.0.0.1:6379", ours()));
    assert_eq!((finding.cause, finding.suspected), (Cause::SyncRunning, false));
    assert!(finding.because[0].saw.contains(REPLICA), "ours by run id: {finding:?}");
    let translated = vec![("172.17.0.1:6379", "wait_bgsave")];
    assert_eq!(cause(stale("127.0.0.1:6379", translated.clone())), Some(Cause::SyncRunning), "our own log tells");
    let no_log = |e: &mut Evidence| {
        stale("127.0.0.1:6379", translated)(e);
        e.log = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(no_log), (Cause::SyncRunning, true), "nobody tells whose that is");
}
