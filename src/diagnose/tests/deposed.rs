//! A primary that was replaced while it was away.

use super::*;
use crate::diagnose::{only_here, role_in_doubt, shares_history};
use crate::model::Address;

fn judged(bend: impl FnOnce(&mut Evidence)) -> (Option<Cause>, bool) {
    let mut e = second_primary();
    bend(&mut e);
    (diagnose(&e).cause(), role_in_doubt(&e))
}

const DEPOSED: (Option<Cause>, bool) = (Some(Cause::WrongPrimary), false);
const RIGHTFUL: (Option<Cause>, bool) = (None, false);
const IN_DOUBT: (Option<Cause>, bool) = (None, true);

#[test]
fn a_primary_that_the_sentinels_do_not_name_is_a_second_one() {
    assert_eq!(judged(|_| {}), DEPOSED);
    let Diagnosis::Broken(finding) = diagnose(&second_primary()) else { panic!() };
    assert!(!finding.suspected && !finding.link_up, "it is critical, and it stands");
    assert!(finding.because[0].saw.contains("3 of 3 Sentinels name 10.0.0.22:6379"));
}

/// SENTINEL FAILOVER of a primary that serves: it stays one for about ten seconds, until Sentinel converts it.
#[test]
fn one_that_was_deposed_by_request_has_its_time_to_be_converted() {
    let handed_over =
        |ago: u64| move |e: &mut Evidence| e.trend.handed_over = Some(e.ended.before(Duration::from_secs(ago)));
    assert_eq!(judged(handed_over(14)), IN_DOUBT);
    assert_eq!(judged(handed_over(15)), DEPOSED);
    let locked_out = |e: &mut Evidence| {
        handed_over(1)(e);
        e.each_sentinel(|says| {
            says.replicas.iter_mut().for_each(|one| {
                (one.run_id, one.flags) = ("run-replica".into(), flags(&["slave", "s_down"]));
            });
        });
    };
    assert_eq!(judged(locked_out), DEPOSED, "Sentinel cannot convert what it cannot log in to");
}

#[test]
fn the_one_that_they_name_under_another_address_is_itself() {
    let under_another_name = |e: &mut Evidence| {
        e.address = "unix:/run/redis/redis.sock".parse().unwrap();
        e.primary = Reading::Missing(Missing::NotAsked);
        e.each_sentinel(|says| (says.primary, says.primary_run_id) = (at(REPLICA), "run-replica".into()));
    };
    assert_eq!(judged(under_another_name), RIGHTFUL);
    assert_eq!(judged(|e| seen(&mut e.primary).run_id = "run-replica".into()), RIGHTFUL, "it told so itself");
    assert_eq!(judged(|e| e.address = Address::Tcp(at(OTHER))), RIGHTFUL);
}

#[test]
fn no_majority_deposes_nobody() {
    assert_eq!(judged(|e| _ = e.silence(0)), DEPOSED, "two of three are a majority");
    assert_eq!(judged(|e| _ = e.silence(0).silence(1)), RIGHTFUL);
    assert_eq!(judged(|e| _ = e.silence(0).each_sentinel(|says| says.others = 4)), RIGHTFUL, "two of five");
}

/// A primary that was restarted in place: until they read its INFO again, the Sentinels tell its former run id.
#[test]
fn what_the_sentinels_knew_before_our_start_proves_nothing() {
    let silent = |e: &mut Evidence| e.primary = Reading::Missing(Missing::NotAsked);
    let restarted = |e: &mut Evidence| {
        silent(e);
        e.server().uptime_s = 3;
        e.each_sentinel(|says| says.info_refresh_ms = 4_000);
    };
    assert_eq!(judged(restarted), IN_DOUBT);
    let read_since = |e: &mut Evidence| {
        restarted(e);
        e.sentinel(1).info_refresh_ms = 2_000;
    };
    assert_eq!(judged(read_since), DEPOSED);
    let unread = |e: &mut Evidence| {
        silent(e);
        e.each_sentinel(|says| says.primary_run_id.clear());
    };
    assert_eq!(judged(unread), IN_DOUBT);
}

#[test]
fn a_replica_that_was_just_promoted_is_no_second_primary() {
    // The named one has the history that this one went on from, and the Sentinels have not yet changed their minds.
    let promoted = |e: &mut Evidence| {
        (e.server().replid, e.server().replid2) = ("fresh".into(), "former".into());
        e.server().second_repl_offset = 5_001;
        let former = seen(&mut e.primary);
        (former.replid, former.replid2) = ("former".into(), "0".repeat(40));
    };
    assert_eq!(judged(promoted), IN_DOUBT);
    let stands = |e: &mut Evidence| {
        promoted(e);
        e.trend.astray_since = Some(e.ended.before(Duration::from_secs(3)));
    };
    assert_eq!(judged(stands), DEPOSED, "by hand: the Sentinels will take it back, and its writes are lost");
    let under_way = |e: &mut Evidence| {
        stands(e);
        e.sentinel(0).flags = flags(&["master", "failover_in_progress"]);
    };
    assert_eq!(judged(under_way), IN_DOUBT);
}

#[test]
fn a_server_that_still_loads_takes_no_writes_yet() {
    assert_eq!(judged(|e| e.server().loading = true).0, Some(Cause::ReplicaLoading));
}

#[test]
fn what_only_it_has_is_counted_from_where_the_other_took_over() {
    let count = |bend: &dyn Fn(&mut Evidence)| {
        let mut e = second_primary();
        bend(&mut e);
        (only_here(&e), shares_history(&e))
    };
    assert_eq!(count(&|_| {}), (Some(0), true));
    assert_eq!(count(&|e| e.server().repl_offset = 5_700), (Some(700), true));
    assert_eq!(count(&|e| e.server().repl_offset = 4_000), (Some(0), true), "behind is not beyond");
    let told_by_a_sentinel = |e: &mut Evidence| {
        e.primary = Reading::Missing(Missing::NotAsked);
        e.server().repl_offset = 5_007;
    };
    assert_eq!(count(&told_by_a_sentinel), (Some(7), true));
    // Back from an older dump: its own history goes on from 4000.
    let from_a_dump = |e: &mut Evidence| {
        let local = e.server();
        (local.replid, local.replid2) = ("fresh".into(), "former".into());
        (local.second_repl_offset, local.repl_offset) = (4_001, 4_090);
    };
    assert_eq!(count(&from_a_dump), (Some(90), true));
    assert_eq!(count(&|e| e.server().backlog_active = false), (None, true), "the offset stands still without one");
    assert_eq!(count(&|e| e.server().replid = "stranger".into()), (None, false));
    let no_former = |e: &mut Evidence| {
        e.server().replid2 = "0".repeat(40);
        e.server().replid = "fresh".into();
        seen(&mut e.primary).replid2 = "0".repeat(40);
    };
    assert_eq!(count(&no_former), (None, false), "forty zeros are no history");
}
