//! The sync itself: the handshake is green.

use super::*;

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
    let beyond_the_log = |timed_out: u32| {
        verdict(|e| {
            broken(e).log(LogKind::TransferTimeout, bulk, 1);
            e.settings().repl_timeout_s = 300;
            (e.trend.unreached_until, e.trend.timed_out) = (Some(e.ended), timed_out);
        })
    };
    assert_eq!(beyond_the_log(1), (Cause::SyncTimeout, true));
    assert_eq!(beyond_the_log(2), (Cause::SyncTimeout, false), "the log's window is shorter than repl-timeout");
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
    // No counter, a limit below the data set, and the line of the link that was lost before all of them.
    let tight = |save: bool, count: u32, grown: Option<u64>, cuts: Option<(u64, u64)>| {
        verdict(|e| {
            broken(e).log(LogKind::LinkLost, "Connection with master lost.", 1).log(
                LogKind::BulkCountError,
                line,
                count,
            );
            (e.limits().diskless_sync, e.limits().output_hard) = (false, 8 << 20);
            (e.source().rdb_last_save_ok, e.source().output_buffer_cuts) = (save, cuts.map(|(now, _)| now));
            (e.trend.transfers, e.trend.grown, e.trend.output_buffer_cuts) = (3, grown, cuts.map(|(_, before)| before));
        })
    };
    let (disk, buffer) = (Cause::PrimaryDiskFull, Cause::OutputBufferExceeded);
    assert_eq!(tight(false, 3, None, None), (disk, false), "its own account is firm");
    assert_eq!(tight(false, 1, None, None), (disk, true), "a save that failed is more than a limit");
    assert_eq!(tight(true, 3, None, None), (buffer, true), "its own account contradicts");
    assert_eq!(tight(false, 3, Some(9 << 20), None), (disk, false), "a stream that grows cuts nothing by itself");
    assert_eq!(tight(false, 1, Some(9 << 20), None), (buffer, false));
    assert_eq!(tight(false, 3, None, Some((5, 1))), (buffer, false), "it has cut, and its limit is below the data set");
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
    assert_eq!(with(&|e| e.trend.offset = Some(-1)), Some(Cause::SyncRunning), "SYNC tells none");
    let second = |valid_to: i64| {
        with(&|e| {
            e.trend.replid = Some("former".into());
            (e.source().replid2, e.source().second_repl_offset) = ("former".into(), valid_to);
        })
    };
    assert_eq!(second(5000), Some(Cause::BacklogTooSmall));
    assert_eq!(second(4999), Some(Cause::SyncRunning), "past the end of the former history");
}
