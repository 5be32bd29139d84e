//! The sync itself: the handshake is green.

use super::*;
use crate::model::finding::Viewpoint;

fn broken(e: &mut Evidence) -> &mut Evidence {
    e.break_link(LinkState::Sync)
}

const DUMP: &str =
    "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization";

#[test]
fn a_full_disk_here_is_told_by_the_log_with_the_disk_or_the_servers_own_word() {
    let no_room = |e: &mut Evidence| {
        broken(e).log(LogKind::DumpWriteError, &format!("{DUMP}: Input/output error"), 1);
        if let Reading::Seen(disk) = &mut e.host.disk {
            disk.free = 4096;
        }
    };
    assert_eq!(cause(no_room), Some(Cause::ReplicaDiskFull));
    let inodes = |free: Option<u64>| {
        cause(|e| {
            broken(e).log(LogKind::DumpWriteError, &format!("{DUMP}: Input/output error"), 1);
            seen(&mut e.host.disk).inodes_free = free;
        })
    };
    assert_eq!(inodes(Some(0)), Some(Cause::ReplicaDiskFull));
    assert_ne!(inodes(None), Some(Cause::ReplicaDiskFull), "btrfs has no number of them");
    let short = |e: &mut Evidence| _ = broken(e).log(LogKind::DumpWriteError, &format!("{DUMP}: short write"), 1);
    assert_eq!(cause(short), Some(Cause::ReplicaDiskFull));
    let nospace =
        |e: &mut Evidence| _ = broken(e).log(LogKind::DumpWriteError, &format!("{DUMP}: No space left on device"), 1);
    assert_eq!(cause(nospace), Some(Cause::ReplicaDiskFull));
    let io = |e: &mut Evidence| _ = broken(e).log(LogKind::DumpWriteError, &format!("{DUMP}: Input/output error"), 1);
    assert_ne!(cause(io), Some(Cause::ReplicaDiskFull), "a dying disk is not a full one");
}

#[test]
fn a_data_set_of_another_format_is_incompatible() {
    let line = "Can't handle RDB format version 11";
    assert_eq!(cause(|e| _ = broken(e).log(LogKind::RdbVersion, line, 2)), Some(Cause::RdbIncompatible));
    assert_eq!(cause(|e| _ = e.log(LogKind::RdbVersion, line, 2)), None, "the link is up now");
}

/// Valkey 9.0.5 sends VALKEY080 to everybody, and Redis up to 8.2.3 and Valkey up to 8.0.1 look at the first bytes before
/// the version: they never say which.
#[test]
fn a_data_set_that_begins_like_none_of_ours_is_incompatible_unless_the_versions_say_otherwise() {
    let line = "Wrong signature trying to load DB from file";
    let from = |flavour: Flavour, version: &'static str| {
        verdict(move |e| {
            broken(e).log(LogKind::RdbVersion, line, 2);
            (e.source().flavour, e.source().version) = (flavour, version.to_owned());
        })
    };
    assert_eq!(from(Flavour::Valkey, "9.0.5"), (Cause::RdbIncompatible, false));
    assert_eq!(from(Flavour::Redis, "7.2.4"), (Cause::RdbIncompatible, true), "damaged on its way, most likely");
    let unseen = |e: &mut Evidence| {
        broken(e).log(LogKind::RdbVersion, line, 2);
        e.primary = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(unseen), (Cause::RdbIncompatible, false), "whatever it is, it does not load");
}

#[test]
fn loads_that_fail_again_and_again_are_no_sync_that_runs() {
    let line = "Failed trying to load the PRIMARY synchronization DB from disk, check server logs.";
    let failing = |count: u32| bent(|e| _ = broken(e).log(LogKind::LoadFailed, line, count));
    assert_eq!(diagnose(&failing(1)).cause(), Some(Cause::SyncRunning));
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&failing(2)) else { panic!() };
    assert!(missing[0].saw.contains("Failed trying to load"), "{missing:?}");
    let foreign = |e: &mut Evidence| {
        broken(e).log(LogKind::LoadFailed, line, 9).log(LogKind::RdbVersion, "Can't handle RDB format version 80", 9);
    };
    assert_eq!(cause(foreign), Some(Cause::RdbIncompatible));
}

/// Valkey 9.1 with dual-channel-replication-enabled, and a child that the kernel ends: no disk is in it.
#[test]
fn a_primary_that_gives_up_each_data_set_it_begins_is_no_sync_that_runs() {
    let line = "I/O error reading bulk count from PRIMARY: Success";
    let given_up = |count: u32| diagnose(&bent(|e| _ = broken(e).log(LogKind::BulkCountError, line, count)));
    assert_eq!(given_up(2).cause(), Some(Cause::SyncRunning), "it may have been started anew");
    let Diagnosis::Inconclusive { missing, .. } = given_up(3) else { panic!() };
    assert!(missing[0].means.contains("its own log says why"), "{missing:?}");
}

/// journald takes 10,000 lines in 30 s of one service.
#[test]
fn of_a_flood_that_journald_cuts_off_the_last_line_counts_for_longer() {
    let line = "MASTER aborted replication with an error: ERR BGSAVE failed, replication can't continue";
    let silent_for = |s: u64, source: &str, count: u32| {
        cause(|e| {
            broken(e).log(LogKind::SyncAborted, line, count);
            seen(&mut e.log).source = source.to_owned();
            e.ended = e.ended.after(Duration::from_secs(s));
        })
    };
    let failed = Some(Cause::PrimaryForkFailed);
    assert_eq!(silent_for(30, "journal:redis.service", 900), failed);
    assert_ne!(silent_for(45, "journal:redis.service", 900), failed);
    assert_ne!(silent_for(30, "journal:redis.service", 9), failed, "nothing was cut off");
    assert_ne!(silent_for(30, "file:/var/log/redis.log", 900), failed);
}

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
fn a_line_from_before_the_last_good_sync_speaks_of_another_break() {
    let since = |kind: LogKind| {
        cause(|e| {
            broken(e).log(LogKind::RdbVersion, "Can't handle RDB format version 11", 2).log(kind, "done", 1);
            let Reading::Seen(log) = &mut e.log else { panic!() };
            log.lines[1].last = e.ended;
        })
    };
    assert_eq!(since(LogKind::SyncFinished), Some(Cause::SyncRunning));
    assert_eq!(since(LogKind::PartialResync), Some(Cause::SyncRunning));
    assert_eq!(since(LogKind::FullResync), Some(Cause::RdbIncompatible), "a beginning is no success");
}

#[test]
fn a_primary_that_cannot_fork_is_told_by_its_error() {
    let line = "MASTER aborted replication with an error: ERR BGSAVE failed, replication can't continue";
    assert_eq!(cause(|e| _ = broken(e).log(LogKind::SyncAborted, line, 5)), Some(Cause::PrimaryForkFailed));
    let other = "MASTER aborted replication with an error: ERR other";
    assert_eq!(cause(|e| _ = broken(e).log(LogKind::SyncAborted, other, 5)), Some(Cause::SyncRunning));
}

const CUT: &str = "I/O error trying to sync with MASTER: connection lost";

#[test]
fn an_output_buffer_cut_is_counted_by_the_primary_or_inferred_from_its_limits() {
    let counted = |now: u64, before: u64| {
        cause(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            e.source().output_buffer_cuts = Some(now);
            e.trend.output_buffer_cuts = Some(before);
        })
    };
    assert_eq!(counted(3, 1), Some(Cause::OutputBufferExceeded));
    assert_eq!(counted(1, 1), Some(Cause::SyncRunning), "it cut nothing");
    let tight = |limit: u64| {
        verdict(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(3), Some(1));
            (e.limits().output_hard, e.limits().output_soft) = (limit, 0);
        })
    };
    assert_eq!(tight(2 << 20), (Cause::OutputBufferExceeded, false));
    assert_eq!(tight(64 << 20), (Cause::OutputBufferExceeded, true), "it may have cut a subscriber");
    let old = |limit: u64| {
        cause(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            e.source().output_buffer_cuts = None;
            (e.limits().output_hard, e.limits().output_soft) = (limit, 0);
        })
    };
    assert_eq!(old(2 << 20), Some(Cause::OutputBufferExceeded), "below the data set, on a server that counts nothing");
    assert_eq!(old(64 << 20), Some(Cause::SyncRunning));
    assert_eq!(old(0), Some(Cause::SyncRunning), "no limit");
    let before_the_first_byte = |now: u64, before: u64| {
        cause(|e| {
            broken(e).log(LogKind::BulkCountError, "I/O error reading bulk count from PRIMARY", 25);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(now), Some(before));
        })
    };
    assert_eq!(before_the_first_byte(25, 1), Some(Cause::OutputBufferExceeded));
    assert_ne!(before_the_first_byte(1, 1), Some(Cause::OutputBufferExceeded));
    let without_a_counter = |limit: u64, grown: Option<u64>, largest: u64| {
        verdict(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            e.source().output_buffer_cuts = None;
            (e.limits().output_hard, e.limits().output_soft) = (limit, 0);
            (e.trend.grown, e.trend.output_largest) = (grown, largest);
        })
    };
    assert_eq!(without_a_counter(2 << 20, None, 0), (Cause::OutputBufferExceeded, true), "a slow line looks the same");
    assert_eq!(without_a_counter(2 << 20, Some(2 << 20), 0), (Cause::OutputBufferExceeded, false), "it outgrew it");
    assert_eq!(without_a_counter(64 << 20, Some(64 << 20), 0), (Cause::OutputBufferExceeded, false));
    assert_eq!(without_a_counter(64 << 20, Some(1 << 20), 40 << 20), (Cause::OutputBufferExceeded, true), "half full");
    assert_eq!(without_a_counter(64 << 20, Some(1 << 20), 1 << 20), (Cause::SyncRunning, true), "its log decides");
    let in_step = |cuts: u64, ended: u32, largest: u64| {
        verdict(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(cuts), Some(0));
            (e.limits().output_hard, e.limits().output_soft) = (64 << 20, 0);
            (e.trend.cut_transfers, e.trend.output_largest) = (ended, largest);
        })
    };
    assert_eq!(in_step(5, 4, 0), (Cause::OutputBufferExceeded, false), "a cut for each transfer");
    assert_eq!(in_step(2, 4, 0), (Cause::OutputBufferExceeded, true), "fewer cuts than transfers");
    assert_eq!(in_step(40, 4, 0), (Cause::OutputBufferExceeded, true), "others are cut as well");
    assert_eq!(in_step(1, 1, 33 << 20), (Cause::OutputBufferExceeded, false), "a buffer that was half full");
    let once = |e: &mut Evidence| {
        broken(e).log(LogKind::TransferError, CUT, 1);
        e.source().output_buffer_cuts = Some(2);
        e.trend.output_buffer_cuts = Some(1);
    };
    assert_eq!(cause(once), Some(Cause::SyncRunning), "one cut may be anything");
    let unseen = |e: &mut Evidence| {
        broken(e).log(LogKind::TransferError, CUT, 9);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.primary_limits = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(cause(unseen), Some(Cause::SyncRunning), "nothing is inferred from what was not seen");
    let finding = found(unseen);
    let told = finding.because.iter().find(|fact| fact.from == Viewpoint::Log).expect("what would decide");
    assert!(finding.suspected && told.means.contains("configure `observer`"), "{finding:?}");
}

#[test]
fn a_timeout_is_told_by_the_log_and_by_settings_that_cannot_work() {
    let bulk = "Timeout receiving bulk data from MASTER...";
    assert_eq!(cause(|e| _ = broken(e).log(LogKind::TransferTimeout, bulk, 1)), Some(Cause::SyncTimeout));
    let healed = |count: u32, unreached_s: Option<u64>, comes: bool| {
        verdict(|e| {
            broken(e).log(LogKind::TransferTimeout, bulk, count);
            e.trend.unreached_until = unreached_s.map(|s| e.ended.before(Duration::from_secs(s)));
            let link = e.link();
            (link.syncing, link.sync_read, link.sync_last_io_s) = (comes, if comes { 9_000 } else { 0 }, 0);
        })
    };
    assert_eq!(healed(1, Some(6), true), (Cause::SyncRunning, false), "the cut that left the line is over");
    assert_eq!(healed(1, Some(6), false), (Cause::SyncTimeout, true));
    assert_eq!(healed(2, Some(6), true), (Cause::SyncTimeout, false), "no cut leaves two");
    assert_eq!(healed(1, Some(600), true), (Cause::SyncTimeout, false), "long before");
    assert_eq!(healed(1, None, true), (Cause::SyncTimeout, false));
    let silence = |timeout: u64| {
        cause(|e| {
            e.log(LogKind::LinkTimeout, "MASTER timeout: no data nor PING received...", 3);
            e.settings().repl_timeout_s = timeout;
        })
    };
    assert_eq!(silence(4), Some(Cause::SyncTimeout), "seen between two breaks, while the link is up");
    assert_eq!(silence(10), Some(Cause::SyncTimeout), "equal does not exceed");
    assert_eq!(silence(60), None);
    let unseen = |e: &mut Evidence| {
        e.log(LogKind::LinkTimeout, "MASTER timeout: no data nor PING received...", 3);
        e.settings().repl_timeout_s = 4;
        e.primary_limits = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(cause(unseen), None, "the primary's ping period is not known");
}

#[test]
fn a_primary_that_cannot_write_its_data_set_is_confirmed_by_its_own_account() {
    let line = "I/O error reading bulk count from MASTER: Success";
    let with_save = |ok: bool, count: u32| {
        diagnose(&bent(|e| {
            broken(e).log(LogKind::BulkCountError, line, count);
            e.limits().diskless_sync = false;
            e.source().rdb_last_save_ok = ok;
        }))
    };
    let suspected = |diagnosis: Diagnosis| match diagnosis {
        Diagnosis::Broken(finding) => (finding.cause, finding.suspected),
        other => panic!("{other:?}"),
    };
    assert_eq!(suspected(with_save(false, 3)), (Cause::PrimaryDiskFull, false));
    assert_eq!(
        suspected(with_save(false, 1)),
        (Cause::PrimaryDiskFull, true),
        "a child that was killed once, for memory"
    );
    let cut_otherwise = |bulk_failures| {
        diagnose(&bent(|e| {
            broken(e).log(LogKind::BulkCountError, line, 1);
            e.limits().diskless_sync = false;
            e.source().rdb_last_save_ok = false;
            (e.trend.cut_transfers, e.trend.bulk_failures) = (4, bulk_failures);
        }))
    };
    assert_eq!(suspected(cut_otherwise(1)), (Cause::PrimaryDiskFull, true), "the others were cuts of the line");
    assert_eq!(suspected(cut_otherwise(3)), (Cause::PrimaryDiskFull, false));
    let by_disk_unseen = |e: &mut Evidence| {
        broken(e).log(LogKind::BulkCountError, line, 9);
        e.source().rdb_last_save_ok = false;
        e.primary_limits = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(by_disk_unseen), (Cause::PrimaryDiskFull, true), "whether it goes by the disk is not known");
    assert_eq!(suspected(with_save(true, 9)), (Cause::PrimaryDiskFull, true), "its own account contradicts");
    assert_eq!(suspected(with_save(true, 1)), (Cause::SyncRunning, false));
    let unseen = |e: &mut Evidence| {
        broken(e).log(LogKind::BulkCountError, line, 9);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.primary_limits = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(unseen), (Cause::PrimaryDiskFull, true));
    let diskless = |e: &mut Evidence| {
        broken(e).log(LogKind::BulkCountError, line, 9);
        e.source().rdb_last_save_ok = false;
    };
    assert_ne!(cause(diskless), Some(Cause::PrimaryDiskFull), "a diskless sync writes to no disk");
}

#[test]
fn a_newer_valkey_that_cannot_write_an_older_format_is_incompatible() {
    let line = "I/O error reading bulk count from MASTER: Success";
    let of = |flavour: Flavour, version: &'static str| {
        move |e: &mut Evidence| {
            broken(e).log(LogKind::BulkCountError, line, 9);
            (e.source().flavour, e.source().version) = (flavour, version.to_owned());
        }
    };
    assert_eq!(verdict(of(Flavour::Valkey, "9.1.2")), (Cause::RdbIncompatible, false));
    for one_format_only in ["8.1.0", "9.0.5"] {
        let told = cause(of(Flavour::Valkey, one_format_only));
        assert_ne!(told, Some(Cause::RdbIncompatible), "{one_format_only} writes one format to all");
    }
    let by_disk = |e: &mut Evidence| {
        of(Flavour::Valkey, "9.1.2")(e);
        e.limits().diskless_sync = false;
    };
    assert_eq!(verdict(by_disk), (Cause::RdbIncompatible, true), "or its disk is full");
}

#[test]
fn a_backlog_that_begins_after_the_break_is_too_small() {
    let with = |bend: &dyn Fn(&mut Evidence)| {
        cause(|e| {
            broken(e);
            (e.trend.offset, e.trend.replid, e.trend.sync_partial_err) = (Some(5000), Some("replid".into()), Some(0));
            (e.source().backlog_first, e.source().sync_partial_err) = (5002, 1);
            bend(e);
        })
    };
    assert_eq!(with(&|_| {}), Some(Cause::BacklogTooSmall));
    assert_eq!(with(&|e| e.source().backlog_first = 5001), Some(Cause::SyncRunning), "exactly the next byte is there");
    assert_eq!(with(&|e| e.source().sync_partial_err = 0), Some(Cause::SyncRunning), "nothing was refused");
    assert_eq!(with(&|e| e.trend.sync_partial_err = Some(40)), Some(Cause::BacklogTooSmall), "after CONFIG RESETSTAT");
    assert_eq!(with(&|e| e.trend.replid = Some("other".into())), Some(Cause::SyncRunning), "another history");
    assert_eq!(with(&|e| e.trend.offset = Some(0)), Some(Cause::BacklogTooSmall), "a primary that had just begun");
    assert_eq!(with(&|e| e.trend.offset = None), Some(Cause::SyncRunning), "relinkd has just started");
    let second = |valid_to: i64| {
        with(&|e| {
            e.trend.replid = Some("former".into());
            (e.source().replid2, e.source().second_repl_offset) = ("former".into(), valid_to);
        })
    };
    assert_eq!(second(5000), Some(Cause::BacklogTooSmall));
    assert_eq!(second(4999), Some(Cause::SyncRunning), "past the end of the former history");
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

/// Redis 7.0.15 with repl-diskless-load: no `I/O error trying to sync`.
#[test]
fn a_cut_of_a_data_set_that_is_read_into_memory_is_one_too() {
    let cut = |line: &'static str| {
        cause(move |e| {
            broken(e).log(LogKind::LoadFailed, line, 3);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(3), Some(1));
            (e.limits().output_hard, e.limits().output_soft) = (2 << 20, 0);
        })
    };
    let from =
        |what: &str| format!("Failed trying to load the MASTER synchronization DB from {what}: Invalid argument");
    assert_eq!(cut(from("socket").leak()), Some(Cause::OutputBufferExceeded));
    assert_eq!(cut(from("disk").leak()), Some(Cause::Unknown), "all of it had come");
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

/// The server's defaults: 256 MiB at once, 64 MiB for a minute.
#[test]
fn a_soft_limit_needs_its_seconds() {
    let defaults = |grown_mib: u64, lasted_s: u64| {
        verdict(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            (e.source().output_buffer_cuts, e.source().used_memory) = (None, 40 << 20);
            (e.trend.grown, e.trend.grown_ms) = (Some(grown_mib << 20), Some(lasted_s * 1_000));
        })
    };
    let cuts = (Cause::OutputBufferExceeded, false);
    assert_eq!(defaults(60, 60), (Cause::SyncRunning, true), "it may stay at 64 MiB for a minute");
    assert_eq!(defaults(100, 60), (Cause::SyncRunning, true), "above it for 26 s");
    assert_eq!((defaults(100, 200), defaults(250, 5)), (cuts, cuts));
}

#[test]
fn what_another_process_of_the_primary_has_counted_is_nothing_that_it_cut_since() {
    let counted = |now: u64, before: Option<u64>, grown: Option<u64>| {
        verdict(|e| {
            broken(e).log(LogKind::TransferError, CUT, 3);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(now), before);
            (e.limits().output_hard, e.limits().output_soft) = (16 << 10, 0);
            e.limits().backlog_size = 16 << 10;
            e.trend.grown = grown;
        })
    };
    assert_eq!(counted(6, Some(40), Some(8 << 20)), (Cause::OutputBufferExceeded, false), "CONFIG RESETSTAT");
    assert_eq!(counted(40, Some(40), None), (Cause::SyncRunning, true), "it has cut nothing since");
    assert_eq!(counted(40, None, None), (Cause::OutputBufferExceeded, true), "since when is not known");
}
