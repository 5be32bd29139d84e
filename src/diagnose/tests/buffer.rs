//! Transfers that the primary cuts for its output buffer.

use super::*;
use crate::model::finding::Viewpoint;

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
    let and_no_counter = |grown: Option<u64>| {
        let e = bent(|e| {
            broken(e).log(LogKind::BulkCountError, "I/O error reading bulk count from MASTER: Success", 25);
            e.source().output_buffer_cuts = None;
            (e.limits().output_hard, e.limits().output_soft, e.trend.grown) = (16 << 10, 0, grown);
        });
        matches!(diagnose(&e), Diagnosis::Broken(found) if found.cause == Cause::OutputBufferExceeded && !found.suspected)
    };
    assert!(and_no_counter(Some(2 << 20)) && !and_no_counter(None), "the stream tells");
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
fn what_the_log_told_of_another_process_is_no_transfer_of_this_one() {
    let lines = |kind: LogKind, first_s: u64, last_s: u64, bend: &dyn Fn(&mut Evidence)| {
        cause(|e| {
            broken(e).log(kind, CUT, 3);
            let (first, last) =
                (e.ended.before(Duration::from_secs(first_s)), e.ended.before(Duration::from_secs(last_s)));
            let line = &mut seen(&mut e.log).lines[0];
            (line.first, line.last) = (first, last);
            (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(3), Some(1));
            e.limits().output_hard = 2 << 20;
            bend(e);
        })
    };
    let (cut, runs) = (Some(Cause::OutputBufferExceeded), Some(Cause::SyncRunning));
    let primary = |e: &mut Evidence| e.source().uptime_s = 6;
    let local = |e: &mut Evidence| e.trend.started = Some(e.ended.before(Duration::from_secs(5)));
    for began_5_s_ago in [&primary as &dyn Fn(&mut Evidence), &local] {
        assert_eq!(lines(LogKind::TransferError, 14, 8, began_5_s_ago), runs, "before it began");
        assert_eq!(lines(LogKind::TransferError, 14, 2, began_5_s_ago), runs, "one of it, and nobody knows how many");
        assert_eq!(lines(LogKind::TransferError, 4, 2, began_5_s_ago), cut);
        let once_more = |e: &mut Evidence| {
            began_5_s_ago(e);
            e.trend.cut_transfers = 2;
        };
        assert_eq!(lines(LogKind::TransferError, 14, 2, &once_more), cut, "counted one by one");
        let full = |e: &mut Evidence| {
            began_5_s_ago(e);
            e.trend.transfers = 2;
            e.log(LogKind::FullResync, "Full resync from master: abc:1", 2);
        };
        assert_eq!(lines(LogKind::LinkLost, 2, 2, &full), runs, "the first of its transfers");
    }
    assert_eq!(lines(LogKind::TransferError, 14, 8, &|_| ()), cut);
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
