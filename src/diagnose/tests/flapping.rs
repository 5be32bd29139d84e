//! A link that drops again and again: what the drops cost tells why.

use super::*;
use crate::model::finding::{Fact, Flaps};

const ASKED: &str = "Trying a partial resynchronization (request 4ae1:1000).";

fn drops(count: u32) -> Drops {
    let last = T0;
    let first = last.before(Duration::from_secs(40));
    let flaps = Flaps { drops: count, first, last, longest_gap_ms: 8_000 };
    Drops { flaps, logged: count, partial: count, full: 0, counted: None, named: Vec::new(), found: None }
}

fn counted(full: u64, err: u64, cuts: Option<u64>) -> Option<Counted> {
    Some(Counted {
        over_ms: 40_000,
        sync_full: full,
        sync_partial_ok: 0,
        sync_partial_err: err,
        output_buffer_cuts: cuts,
        written: 40 << 20,
    })
}

/// Each drop cost a full resync, and this much was missing.
fn outrun(e: &mut Evidence, behind: u64) {
    e.log(LogKind::PsyncAsked, ASKED, 7);
    e.log(LogKind::FullResync, &format!("Full resync from master: 4ae1:{}", 1_000 + behind), 7);
    e.trend.drops = Some(Drops { full: 7, partial: 0, ..drops(7) });
}

#[test]
fn drops_that_cost_nothing_have_no_name_and_say_what_would_decide() {
    let finding = found(|e| e.trend.drops = Some(drops(7)));
    assert_eq!((finding.cause, finding.suspected, finding.link_up), (Cause::Unknown, false, true));
    assert!(finding.because[0].saw.ends_with("dropped 7 times in 40 s"), "{finding:?}");
    assert!(finding.because.iter().any(|fact| fact.means.contains("would decide")), "{finding:?}");
}

#[test]
fn full_resyncs_of_the_same_history_are_the_backlogs_fault() {
    assert_eq!(verdict(|e| outrun(e, 70_000)), (Cause::BacklogTooSmall, false));
    let another_history = |e: &mut Evidence| {
        outrun(e, 70_000);
        seen(&mut e.log).lines[1].sample = "Full resync from master: 77aa:71000".into();
    };
    assert_eq!(cause(another_history), Some(Cause::Unknown), "a changed history is no matter of size");
    let by_primary = |full, err| {
        cause(move |e| e.trend.drops = Some(Drops { logged: 0, counted: counted(full, err, None), ..drops(7) }))
    };
    assert_eq!(by_primary(7, 7), Some(Cause::BacklogTooSmall), "the log cannot be read, the primary tells");
    assert_eq!(by_primary(1, 1), Some(Cause::Unknown), "one of seven");
    assert_eq!(by_primary(7, 0), Some(Cause::Unknown), "nobody asked for the rest");
}

#[test]
fn cuts_that_grow_with_the_drops_are_the_output_buffers() {
    let cuts = |count, behind| {
        cause(move |e| {
            outrun(e, behind);
            e.limits().output_hard = 2 << 20;
            e.source().output_buffer_cuts = Some(90);
            e.trend.drops.as_mut().unwrap().counted = counted(7, 7, count);
        })
    };
    assert_eq!(cuts(Some(7), 8 << 20), Some(Cause::OutputBufferExceeded));
    assert_eq!(cuts(Some(1), 8 << 20), Some(Cause::BacklogTooSmall), "another client's");
    assert_eq!(cuts(Some(7), 70_000), Some(Cause::BacklogTooSmall), "it was within the limit: they are others' cuts");
    let uncounted = |behind| {
        cause(move |e| {
            outrun(e, behind);
            e.limits().output_hard = 2 << 20;
            e.source().output_buffer_cuts = None;
        })
    };
    assert_eq!(uncounted(8 << 20), Some(Cause::OutputBufferExceeded), "the distance alone speaks");
    assert_eq!(uncounted(1 << 20), Some(Cause::BacklogTooSmall));
    let without_a_hard_limit = |soft_s| {
        cause(move |e| {
            outrun(e, 8 << 20);
            (e.limits().output_hard, e.limits().output_soft, e.limits().output_soft_s) = (0, 2 << 20, soft_s);
            e.source().output_buffer_cuts = None;
        })
    };
    assert_eq!(without_a_hard_limit(1), Some(Cause::OutputBufferExceeded), "`replica 0 2mb 1`");
    assert_eq!(without_a_hard_limit(60), Some(Cause::BacklogTooSmall), "seven drops in 40 s leave it no minute");
}

#[test]
fn what_was_named_at_the_drops_names_them_all() {
    let named = |causes: &[Cause]| {
        let named = causes.to_vec();
        cause(move |e| e.trend.drops = Some(Drops { named, ..drops(7) }))
    };
    use Cause::{NetworkCut, NetworkRejected};
    assert_eq!(named(&[NetworkRejected; 3]), Some(NetworkRejected));
    assert_eq!(named(&[NetworkRejected]), Some(Cause::Unknown), "once is no pattern");
    assert_eq!(named(&[NetworkRejected, NetworkRejected, NetworkCut, NetworkCut]), Some(Cause::Unknown));
    assert_eq!(named(&[Cause::AuthRejected; 3]), Some(Cause::Unknown), "that has a story of its own");
    let finding = found(|e| {
        outrun(e, 70_000);
        e.trend.drops.as_mut().unwrap().named = vec![NetworkCut; 5];
    });
    assert_eq!(finding.cause, NetworkCut);
    let dear = |fact: &Fact| fact.saw.contains("the replica asked for the rest, 68.3 KiB back");
    assert!(finding.because.iter().any(dear), "what makes each of them dear: {finding:?}");
}

#[test]
fn a_limit_that_was_raised_after_the_last_drop_is_its_mending() {
    let mended =
        |e: &mut Evidence| e.trend.drops = Some(Drops { found: Some(Cause::OutputBufferExceeded), ..drops(7) });
    assert_eq!(cause(mended), Some(Cause::OutputBufferExceeded));
}

#[test]
fn a_break_that_lasts_or_has_a_name_is_no_drop_of_many() {
    let refused = |e: &mut Evidence| {
        e.trend.drops = Some(drops(7));
        e.reject_password();
    };
    assert_eq!(cause(refused), Some(Cause::AuthRejected));
    let down = |ms: u64| {
        found(move |e| {
            e.trend.drops = Some(drops(7));
            e.break_link(LinkState::Sync).stood(Duration::from_millis(ms));
        })
    };
    assert_eq!((down(500).cause, down(500).link_up), (Cause::Unknown, true), "it reads up at almost every look");
    assert_eq!((down(4_000).cause, down(4_000).link_up), (Cause::SyncRunning, false));
}

#[test]
fn the_first_cut_of_an_output_buffer_is_not_blamed_on_the_backlog() {
    let broken = |cuts: Option<u64>, behind: i64| {
        verdict(move |e| {
            e.break_link(LinkState::Sync);
            (e.trend.offset, e.trend.replid) = (Some(1_000), Some(e.server().replid.clone()));
            (e.trend.sync_partial_err, e.trend.output_buffer_cuts) = (Some(0), cuts.map(|_| 4));
            let replid = e.server().replid.clone();
            e.limits().output_hard = 2 << 20;
            let primary = e.source();
            (primary.replid, primary.sync_partial_err, primary.output_buffer_cuts) = (replid, 1, cuts);
            (primary.repl_offset, primary.backlog_first) = (1_000 + behind, 900 + behind);
        })
    };
    assert_eq!(broken(Some(5), 8 << 20), (Cause::OutputBufferExceeded, false));
    assert_eq!(broken(Some(5), 70_000), (Cause::OutputBufferExceeded, true), "it may have been another client's cut");
    assert_eq!(broken(Some(4), 8 << 20), (Cause::BacklogTooSmall, false));
    assert_eq!(broken(None, 70_000), (Cause::BacklogTooSmall, false));
    assert_eq!(broken(None, 8 << 20), (Cause::BacklogTooSmall, true), "nothing counts the cuts there");
    let without_a_hard_limit = |behind: i64| {
        verdict(|e| {
            e.break_link(LinkState::Sync);
            (e.trend.offset, e.trend.replid) = (Some(1_000), Some(e.server().replid.clone()));
            (e.trend.sync_partial_err, e.trend.output_buffer_cuts) = (Some(0), Some(4));
            (e.limits().output_hard, e.limits().output_soft, e.limits().output_soft_s) = (0, 2 << 20, 1);
            let primary = e.source();
            (primary.sync_partial_err, primary.output_buffer_cuts) = (1, Some(5));
            (primary.repl_offset, primary.backlog_first) = (1_000 + behind, 900 + behind);
        })
    };
    assert_eq!(without_a_hard_limit(8 << 20), (Cause::OutputBufferExceeded, false));
    assert_eq!(without_a_hard_limit(70_000), (Cause::OutputBufferExceeded, true));
}

/// The hard limit is never below the backlog: who is resumed was not cut for it.
#[test]
fn cuts_of_other_clients_are_no_reason_for_drops_that_were_resumed() {
    let drops = |full: u32| {
        cause(move |e| {
            let partial = 5 - full;
            e.source().output_buffer_cuts = Some(43);
            let drops = drops(5);
            e.trend.drops = Some(Drops { partial, full, counted: counted(full.into(), 0, Some(3)), ..drops });
        })
    };
    assert_eq!(drops(0), Some(Cause::Unknown));
    assert_eq!(drops(5), Some(Cause::OutputBufferExceeded), "Redis 8.2 tells no offset with a full resync");
}

/// `replica 256mb 64mb 10` with a backlog of 512 MB: each cut at the soft limit is resumed.
#[test]
fn a_soft_limit_below_the_backlog_cuts_what_is_resumed() {
    let resumed = |rose: u64, soft: u64, soft_s: u64| {
        cause(move |e| {
            (e.limits().output_soft, e.limits().output_soft_s, e.limits().backlog_size) = (soft, soft_s, 512 << 20);
            e.source().output_buffer_cuts = Some(43);
            e.trend.drops = Some(Drops { counted: counted(0, 0, Some(rose)), ..drops(5) });
        })
    };
    assert_eq!(resumed(5, 64 << 20, 10), Some(Cause::OutputBufferExceeded));
    assert_eq!(resumed(6, 64 << 20, 10), Some(Cause::OutputBufferExceeded), "the last is not back yet");
    assert_eq!(resumed(3, 64 << 20, 10), Some(Cause::Unknown), "not each of them");
    assert_eq!(resumed(9, 64 << 20, 10), Some(Cause::Unknown), "others are cut");
    assert_eq!(resumed(5, 512 << 20, 10), Some(Cause::Unknown), "not below it: who is resumed was not cut for that");
    assert_eq!(resumed(5, 64 << 20, 60), Some(Cause::Unknown), "the default's minute is longer than from drop to drop");
}

/// Each of its replicas asks a process that has just begun for what it does not have, once.
#[test]
fn a_primary_that_restarts_again_and_again_has_no_backlog_to_blame() {
    let restarts = |named: usize, uptime_s: u64, resync: &'static str| {
        cause(move |e| {
            outrun(e, 70_000);
            seen(&mut e.log).lines[1].sample = resync.into();
            (e.source().sync_partial_err, e.source().uptime_s) = (3, uptime_s);
            e.trend.drops.as_mut().unwrap().named = vec![Cause::PrimaryDown; named];
        })
    };
    let another = "Full resync from master: 77aa:0";
    let no_offset = "PSYNC is not possible, initialize RDB channel.";
    assert_eq!(restarts(5, 2, another), Some(Cause::PrimaryDown));
    assert_eq!(restarts(0, 2, another), Some(Cause::Unknown), "a changed history is no matter of size");
    assert_eq!(restarts(0, 2, no_offset), Some(Cause::Unknown), "refused since its start is once a replica");
    assert_eq!(restarts(0, 900, no_offset), Some(Cause::BacklogTooSmall));
    assert_eq!(restarts(5, 900, "Full resync from master: 4ae1:71000"), Some(Cause::PrimaryDown));
}
