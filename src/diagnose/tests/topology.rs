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
    let clock_set_back = |e: &mut Evidence| {
        astray(e);
        e.sentinel(1).role_reported_ms = 0;
    };
    assert_eq!(cause(clock_set_back), Some(Cause::WrongPrimary), "it tells no age, for as long as the step was");
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
        let says = e.sentinel(0);
        (says.primary, says.primary_run_id) = (at(OTHER), "run-other".into());
        e.sentinel(0).role_reported_ms = 500;
    };
    assert_eq!(cause(moving), Some(Cause::FailoverRunning));
    let without_an_age = |e: &mut Evidence| {
        moving(e);
        e.sentinel(0).role_reported_ms = 0;
    };
    assert_eq!(cause(without_an_age), Some(Cause::FailoverRunning), "while the disagreement is young itself");
}

#[test]
fn one_sentinel_that_has_long_been_out_of_touch_hides_no_fault() {
    let stale = |e: &mut Evidence| {
        e.reject_password();
        let says = e.sentinel(0);
        (says.primary, says.primary_run_id) = (at(OTHER), "run-other".into());
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

/// Without Sentinels nobody says whom to follow.
#[test]
fn a_replica_of_a_replica_syncs_as_one_of_a_primary_does() {
    let upstream = |bend: &dyn Fn(&mut Evidence)| {
        verdict(|e| {
            e.break_link(LinkState::Handshake).alone();
            e.probe().role = Reading::Seen(PeerRole::Replica { of: at(OTHER), state: LinkState::Connected });
            bend(e);
        })
    };
    let waits = |e: &mut Evidence| e.source().replicas = vec![listed(REPLICA, "wait_bgsave")];
    assert_eq!(upstream(&waits), (Cause::SyncRunning, false), "repl-diskless-sync-delay");
    let cut = |e: &mut Evidence| {
        e.log(LogKind::TransferError, "I/O error trying to sync with MASTER: connection lost", 3);
        (e.source().output_buffer_cuts, e.trend.output_buffer_cuts) = (Some(3), Some(1));
        (e.limits().output_hard, e.limits().output_soft) = (2 << 20, 0);
    };
    assert_eq!(upstream(&cut), (Cause::OutputBufferExceeded, false));
}

/// Redis 7.0.15: Sentinel lists what it found in the primary's INFO, and goes on to list what went astray.
#[test]
fn a_cascade_that_no_sentinel_lists_is_meant_so() {
    let below = |bend: &dyn Fn(&mut Evidence)| {
        cause(|e| {
            e.link().primary = at(OTHER);
            let role = Reading::Seen(PeerRole::Replica { of: at(PRIMARY), state: LinkState::Connected });
            e.upstream = Reading::Seen(Probe { role, ..green(OTHER) });
            e.named = Reading::Seen(green(PRIMARY));
            e.each_sentinel(|says| says.replicas.retain(|replica| replica.endpoint != at(REPLICA)));
            bend(e);
        })
    };
    assert_eq!(below(&|_| {}), None);
    let role_unread = |e: &mut Evidence| e.probe().role = Reading::Missing(Missing::Denied("NOPERM".into()));
    assert_eq!(below(&role_unread), None, "the Sentinels know whom it follows");
    let elsewhere = |e: &mut Evidence| {
        e.probe().role = Reading::Seen(PeerRole::Replica { of: at("10.0.0.99:6379"), state: LinkState::Connected });
    };
    assert_eq!(below(&elsewhere), Some(Cause::WrongPrimary), "a replica of another group");
    let a_primary = |e: &mut Evidence| e.probe().role = Reading::Seen(PeerRole::Primary { offset: 1 });
    assert_eq!(below(&a_primary), Some(Cause::WrongPrimary));
    let one_lists_it = |e: &mut Evidence| {
        let mut own = healthy().sentinel(0).replicas[0].clone();
        own.endpoint = at("172.16.0.9:6379");
        e.sentinel(1).replicas.push(own);
    };
    assert_eq!(below(&one_lists_it), Some(Cause::WrongPrimary), "it followed the primary once, by its run id");
}

#[test]
fn a_replica_that_follows_its_own_hosts_address_follows_itself() {
    let looped = |bend: &dyn Fn(&mut Evidence)| {
        cause(|e| {
            e.alone().break_link(LinkState::Connect);
            e.address = crate::model::Address::Tcp(at("127.0.0.1:6379"));
            let ping = error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
            e.upstream = Reading::Seen(Probe { own_host: true, ping, ..blank(PRIMARY) });
            e.primary = Reading::Missing(Missing::NotAsked);
            bend(e);
        })
    };
    assert_eq!(looped(&|_| {}), Some(Cause::SelfReplication));
    assert_eq!(looped(&|e| e.probe().own_host = false), Some(Cause::UpstreamBroken));
    assert_eq!(looped(&|e| e.link().primary.port = 6380), Some(Cause::UpstreamBroken), "another server beside it");
}

#[test]
fn sentinels_of_which_only_some_announce_names_agree() {
    let mixed = |e: &mut Evidence| {
        e.sentinel(0).primary = at("redis-0.example:6379");
        e.each_sentinel(|says| says.role_reported_ms = 500);
    };
    assert_eq!(cause(mixed), None);
    let broken = |e: &mut Evidence| {
        mixed(e);
        e.reject_password();
    };
    assert_eq!(cause(broken), Some(Cause::AuthRejected), "no failover");
    let e = bent(mixed);
    assert_eq!(e.named_primary(), Some((&at(PRIMARY), 3)), "in the more usual spelling");
    let moving = |e: &mut Evidence| {
        broken(e);
        e.sentinel(0).primary_run_id = "run-other".into();
    };
    assert_eq!(cause(moving), Some(Cause::FailoverRunning), "two servers");
    let stale_login = |e: &mut Evidence| {
        e.stood(LONG).each_sentinel(|says| {
            says.primary = at("redis-0.example:6379");
            says.flags = flags(&["master", "s_down", "disconnected"]);
        });
        e.source().errors.insert("WRONGPASS".into(), 3);
    };
    assert_eq!(cause(stale_login), Some(Cause::SentinelAuthRejected), "by a name that the replica does not use");
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
