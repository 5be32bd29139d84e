//! A replica that waits in an attempt of old, and one that tries anew.

use super::*;

#[test]
fn a_cut_that_is_over_and_a_replica_that_still_waits_is_named_with_the_proof() {
    let healed = |e: &mut Evidence| {
        e.break_link(LinkState::Connecting);
        e.trend.unreached_until = Some(e.began);
    };
    assert_eq!(verdict(healed), (Cause::NetworkCut, true), "an attempt may take a moment");
    let stood = |e: &mut Evidence| {
        healed(e);
        e.stood(Duration::from_secs(2));
    };
    assert_eq!(verdict(stood), (Cause::NetworkCut, false));
}

/// A sync that fails at once is tried again and again, and a look meets the replica at any step of an attempt
/// (Redis 7.0.15: `connecting` with a data set that it cannot load; Valkey 9.1.2: `handshake` with a primary that cannot
/// fork).
#[test]
fn a_replica_that_is_met_in_one_of_many_attempts_does_not_wait_in_an_old_one() {
    for (state, firm) in [(LinkState::Connecting, Cause::NetworkCut), (LinkState::Handshake, Cause::PrimaryHung)] {
        let answered_for = |s: u64| {
            move |e: &mut Evidence| {
                e.break_link(state).stood(Duration::from_secs(s + 2));
                e.trend.answered_since = Some(e.ended.before(Duration::from_secs(s)));
            }
        };
        assert_ne!(cause(answered_for(0)), Some(firm), "the first look that is answered");
        assert_eq!(verdict(answered_for(3)), (firm, false));
        for kind in [LogKind::PsyncUnsupported, LogKind::RdbUnreadable, LogKind::Ready] {
            let retried = |e: &mut Evidence| {
                answered_for(3)(e);
                e.log(kind, "of an attempt", 1);
            };
            assert_ne!(cause(retried), Some(firm), "{kind:?} a moment ago");
        }
    }
}

#[test]
fn a_replica_whose_syncs_begin_again_and_again_waits_in_no_old_attempt_though_no_log_says_so() {
    let waits = |attempts: u32, ago: u64| {
        cause(|e| {
            e.break_link(LinkState::Connecting).stood(LONG);
            e.log = Reading::Missing(Missing::NotAsked);
            (e.trend.attempts, e.trend.attempted) = (attempts, Some(e.ended.before(Duration::from_secs(ago))));
        })
    };
    assert_eq!(waits(1, 2), Some(Cause::NetworkCut));
    assert_eq!(waits(2, 2), Some(Cause::Unknown));
    assert_eq!(waits(2, 20), Some(Cause::NetworkCut), "that is over");
}

#[test]
fn a_replica_that_waits_for_a_diskless_sync_is_not_a_hung_primary() {
    let waits = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake).stood(LONG);
        e.source().replicas = vec![listed(REPLICA, "wait_bgsave")];
    };
    assert_eq!(cause(waits), Some(Cause::SyncRunning));
    let unseen = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake).stood(LONG);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.log = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(unseen), (Cause::SyncRunning, true), "what the primary does is not seen, so nothing is touched");
    let serves_none = |e: &mut Evidence| _ = e.break_link(LinkState::Handshake).stood(LONG);
    assert_eq!(verdict(serves_none), (Cause::PrimaryHung, false), "the primary tells that nobody waits there");
}
