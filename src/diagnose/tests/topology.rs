//! Who should follow whom.

use super::*;

fn astray(e: &mut Evidence) -> &mut Evidence {
    e.each_sentinel(|says| says.primary = at(OTHER))
}

#[test]
fn an_address_that_a_majority_does_not_name_is_the_wrong_primary() {
    let finding = found(|e| _ = astray(e));
    assert_eq!((finding.cause, finding.link_up), (Cause::WrongPrimary, true), "the dangerous case: the link is up");
    assert_eq!(cause(|e| _ = astray(e).break_link(LinkState::Connect)), Some(Cause::WrongPrimary));
    assert_eq!(cause(|e| _ = astray(e).silence(0)), Some(Cause::WrongPrimary), "two of three are a majority");
    assert_eq!(cause(|e| _ = astray(e).silence(0).silence(1)), None, "one of three is none");
    let known_to_five = |e: &mut Evidence| _ = astray(e).silence(0).each_sentinel(|says| says.others = 4);
    assert_eq!(cause(known_to_five), None, "two of five are none");
}

#[test]
fn just_after_a_failover_sentinel_is_left_to_move_the_replica() {
    let young = |e: &mut Evidence| _ = astray(e).each_sentinel(|says| says.role_reported_ms = 2_000);
    assert_eq!(cause(young), Some(Cause::FailoverRunning));
    let remembered = |e: &mut Evidence| {
        astray(e);
        e.trend.failover_seen = Some(e.ended.before(Duration::from_secs(9)));
    };
    assert_eq!(cause(remembered), Some(Cause::FailoverRunning));
    let long_ago = |e: &mut Evidence| {
        astray(e);
        e.trend.failover_seen = Some(e.ended.before(Duration::from_secs(11)));
    };
    assert_eq!(cause(long_ago), Some(Cause::WrongPrimary));
}

#[test]
fn a_running_failover_covers_whatever_else_is_broken() {
    let running = |e: &mut Evidence| {
        e.refuse().told_down();
        e.sentinel(1).flags = flags(&["master", "o_down", "failover_in_progress"]);
    };
    assert_eq!(cause(running), Some(Cause::FailoverRunning));
    let by_state = |e: &mut Evidence| {
        e.reject_password();
        e.sentinel(1).failover_state = Some("wait_promotion".into());
    };
    assert_eq!(cause(by_state), Some(Cause::FailoverRunning));
    let settled = |e: &mut Evidence| e.sentinel(1).failover_state = Some("reconf_slaves".into());
    assert_eq!(cause(settled), None, "the link is up to the named primary, whoever still tidies up");
}

#[test]
fn sentinels_that_have_just_come_to_disagree_are_a_failover() {
    let moving = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        e.sentinel(0).primary = at(OTHER);
        e.sentinel(0).role_reported_ms = 500;
    };
    assert_eq!(cause(moving), Some(Cause::FailoverRunning));
}

#[test]
fn one_sentinel_that_has_long_been_out_of_touch_hides_no_fault() {
    let stale = |e: &mut Evidence| {
        e.reject_password();
        e.sentinel(0).primary = at(OTHER);
    };
    assert_eq!(cause(stale), Some(Cause::AuthRejected));
}

#[test]
fn a_replica_that_follows_itself_is_named_by_address_or_by_run_id() {
    let by_address = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        e.link().primary = at(REPLICA);
    };
    assert_eq!(cause(by_address), Some(Cause::SelfReplication));
    let by_run_id = |e: &mut Evidence| e.source().run_id = "run-replica".into();
    assert_eq!(cause(by_run_id), Some(Cause::SelfReplication));
    let unknown_ids = |e: &mut Evidence| {
        e.source().run_id = String::new();
        e.server().run_id = String::new();
    };
    assert_eq!(cause(unknown_ids), None, "two ids that are not told are not the same id");
}

#[test]
fn an_upstream_without_a_link_of_its_own_is_broken() {
    for text in ["MASTERDOWN Link with MASTER is down", "NOMASTERLINK Can't SYNC while not connected with my master"] {
        let told = |e: &mut Evidence| {
            e.break_link(LinkState::Connect);
            e.probe().psync = error(text);
        };
        assert_eq!(cause(told), Some(Cause::UpstreamBroken), "{text}");
    }
    let hands_over = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        e.probe().psync = error("NOMASTERLINK Can't SYNC while failing over");
    };
    assert_eq!(cause(hands_over), Some(Cause::FailoverRunning), "a healthy primary, in FAILOVER");
    let role = |state| {
        cause(|e| {
            e.break_link(LinkState::Connect).alone();
            e.probe().role = Reading::Seen(PeerRole::Replica { of: at(OTHER), state });
        })
    };
    assert_eq!(role(LinkState::Connecting), Some(Cause::UpstreamBroken));
    assert_eq!(role(LinkState::Connected), Some(Cause::Unknown));
}

#[test]
fn two_spellings_of_an_address_are_one_place_until_connections_prove_otherwise() {
    let by_name = |e: &mut Evidence| e.link().primary = at("db-20.example:6379");
    assert_eq!(cause(by_name), None);
    let other_port = |e: &mut Evidence| e.link().primary = at("db-20.example:6380");
    assert_eq!(cause(other_port), Some(Cause::WrongPrimary));
    let proved = |e: &mut Evidence| {
        e.link().primary = at("db-22.example:6379");
        e.upstream = Reading::Seen(Probe { peer: Some(OTHER.into()), ..green("db-22.example:6379") });
        e.named = Reading::Seen(green(PRIMARY));
    };
    assert_eq!(cause(proved), Some(Cause::WrongPrimary));
    let unreached = |e: &mut Evidence| {
        proved(e);
        e.probe().connect = Connect::TimedOut;
        e.stood(LONG);
    };
    assert_eq!(cause(unreached), Some(Cause::NetworkCut), "a peer that was not reached proves nothing");
}
