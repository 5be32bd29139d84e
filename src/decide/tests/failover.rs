//! The care that SENTINEL FAILOVER lacks.

use super::turns::agreed;
use super::*;

pub(super) fn choice(says: &mut SentinelSays, name: &str, bend: impl Fn(&mut ReplicaInSentinel)) {
    bend(says.replicas.iter_mut().find(|replica| replica.endpoint == at(name)).unwrap());
}

fn nodes(says: &mut SentinelSays) -> &mut BTreeMap<String, CachedNode> {
    match &mut says.nodes {
        Reading::Seen(nodes) => nodes,
        Reading::Missing(why) => panic!("{why}"),
    }
}

fn node(says: &mut SentinelSays, name: &str, bend: impl Fn(&mut CachedNode)) {
    bend(nodes(says).get_mut(name).unwrap());
}

#[track_caller]
fn holds(code: RefusalCode, bend: impl Fn(&mut SentinelSays)) -> String {
    holds_while(dead_primary(), code, |case| _ = case.e.each_sentinel(&bend))
}

#[test]
fn the_request_goes_to_the_sentinels_in_one_fixed_order() {
    let mut case = dead_primary();
    for (index, id) in ["c", "a", "b"].into_iter().enumerate() {
        case.e.sentinel(index).id = id.into();
    }
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 1);
    let expect = &plan.steps[0].expect;
    assert!(expect.no_failover && expect.primary_down);
    assert_eq!(expect.sentinels_name, Some(at(PRIMARY)));
    let Change::RequestFailover { group, sentinels, how: Handover::Lost } = &plan.steps[0].change else { panic!() };
    assert_eq!(group, "mymaster");
    assert_eq!(*sentinels, [at("10.0.0.12:26379"), at("10.0.0.13:26379"), at("10.0.0.11:26379")]);
    assert!(plan.undo.is_empty());
}

#[test]
fn holds_a_failover_while_any_sentinel_is_in_tilt_or_may_be() {
    holds_while(dead_primary(), RefusalCode::Tilt, |case| case.e.sentinel(2).tilt = Reading::Seen(true));
    holds_while(dead_primary(), RefusalCode::EvidenceMissing, |case| {
        case.e.sentinel(2).tilt = Reading::Missing(Missing::Denied("NOPERM info".into()));
    });
}

/// The verdict stands from a moment ago, and the world has moved.
#[track_caller]
fn moved(code: RefusalCode, bend: impl FnOnce(&mut Evidence)) {
    let case = dead_primary();
    case.plan();
    let Diagnosis::Broken(finding) = diagnose(&case.e) else { panic!() };
    let Case { mut e, policy, history, now, .. } = case;
    bend(&mut e);
    let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
    assert_eq!(guards::check(Remedy::RequestFailover, &context).unwrap_err().0, code);
}

#[test]
fn holds_a_failover_while_the_primary_answers_from_here() {
    moved(RefusalCode::PrimarySeenAlive, |e| e.upstream = Reading::Seen(green(PRIMARY)));
    moved(RefusalCode::PrimarySeenAlive, |e| {
        e.upstream = Reading::Seen(Probe { ping: error("LOADING Redis is loading"), ..blank(PRIMARY) });
    });
    moved(RefusalCode::EvidenceMissing, |e| e.upstream = Reading::Missing(Missing::NotAsked));
    let told = |role: Role| {
        move |e: &mut Evidence| {
            e.primary = Reading::Seen(ServerView { role, at: e.ended, ..healthy().source().clone() });
        }
    };
    moved(RefusalCode::PrimarySeenAlive, told(Role::Primary));
    let mut case = dead_primary();
    told(Role::Sentinel)(&mut case.e);
    case.plan();
    told(Role::Primary)(&mut case.e);
    case.e.source().at = case.e.probe().at;
    case.plan();
}

/// What was not tried is not silent: our own haste, TLS settings and resolver say nothing of the primary.
#[test]
fn holds_a_failover_while_the_primary_was_not_tried_from_here() {
    let untried = [
        Connect::NoTime,
        Connect::TlsSetup("no such file".into()),
        Connect::Tls("certificate expired".into()),
        Connect::NameUnresolved("db-1: no answer".into()),
    ];
    for connect in untried {
        let probe = Probe { connect, ..blank("10.0.0.99:6379") };
        moved(RefusalCode::EvidenceMissing, |e| e.upstream = Reading::Seen(probe.clone()));
        moved(RefusalCode::EvidenceMissing, |e| e.named = Reading::Seen(probe));
    }
    moved(RefusalCode::EvidenceMissing, |e| {
        e.upstream = Reading::Seen(Probe { connect: Connect::Refused, ..blank("db-1.example:6379") });
    });
}

/// Five Sentinels: three name our primary, and one that names another holds that one down.
#[test]
fn what_is_held_against_another_primary_is_not_held_against_ours() {
    let with_five = |elsewhere: usize| {
        let mut case = dead_primary();
        case.e.each_sentinel(|says| says.others = 4);
        for number in 3..5 {
            let mut view = case.e.sentinels[0].clone();
            view.endpoint = at(&format!("10.0.0.1{number}:26379"));
            case.e.sentinels.push(view);
            case.e.sentinel(number).id = format!("id-{number}");
        }
        for number in 5 - elsewhere..5 {
            case.e.sentinel(number).primary = at(OTHER);
        }
        case
    };
    with_five(0).plan();
    // The third of those that name our primary sees it.
    moved(RefusalCode::PrimarySeenAlive, |e| {
        let Case { e: mut five, .. } = with_five(2);
        five.sentinel(2).flags = flags(&["master"]);
        // That they disagree is another guard's matter.
        *e = five;
    });
    assert_eq!(with_five(2).e.sentinels_flagging("s_down"), 3);
}

#[test]
fn holds_a_failover_while_the_link_brings_signs_of_life() {
    let mut hung = dead_primary();
    hung.e.upstream = Reading::Seen(Probe { ping: Answer::TimedOut, ..blank(PRIMARY) });
    let link = hung.e.link();
    (link.up, link.state, link.last_io_s) = (true, LinkState::Connected, 31);
    holds_while(hung, RefusalCode::PrimarySeenAlive, |case| case.e.link().last_io_s = 3);
}

#[test]
fn holds_a_failover_while_a_majority_of_all_known_sentinels_does_not_hold_the_primary_down() {
    moved(RefusalCode::PrimarySeenAlive, |e| {
        e.sentinel(0).flags = flags(&["master"]);
        e.sentinel(1).flags = flags(&["master"]);
    });
    moved(RefusalCode::SentinelActing, |e| {
        e.each_sentinel(|says| (says.flags, says.last_reply_ms) = (flags(&["master"]), Some(9_000)));
        e.trend.unreached_seen = Some(e.ended.before(Duration::from_secs(8)));
    });
    moved(RefusalCode::QuorumUnclear, |e| _ = e.silence(0).silence(1));
    moved(RefusalCode::QuorumUnclear, |e| _ = e.silence(0).each_sentinel(|says| says.others = 4));
}

#[test]
fn holds_a_failover_while_a_majority_does_not_pass_ckquorum() {
    let no = |says: &mut SentinelSays| says.ckquorum = Reading::Seen(Quorum { ok: false, text: "NOQUORUM".into() });
    holds_while(dead_primary(), RefusalCode::QuorumUnclear, |case| {
        no(case.e.sentinel(0));
        no(case.e.sentinel(1));
    });
    holds(RefusalCode::QuorumUnclear, |says| says.ckquorum = Reading::Missing(Missing::TimedOut));
    let mut one = dead_primary();
    no(one.e.sentinel(0));
    one.plan();
}

#[test]
fn holds_a_failover_until_sentinel_has_had_its_due_time() {
    holds(RefusalCode::SentinelActing, |says| says.o_down_ms = Some(9_999));
    holds(RefusalCode::SentinelActing, |says| says.o_down_ms = None);
}

/// Twice a failover-timeout of 60 s after the last try, or vote, a Sentinel tries again.
#[test]
fn holds_a_failover_beside_a_sentinels_own_next_try() {
    let holds = |bend: &dyn Fn(&mut Case)| {
        let told = holds_while(dead_primary(), RefusalCode::SentinelActing, bend);
        assert!(told.contains("a request beside that could promote a second replica"), "{told}");
        told
    };
    let agreed_for = |s: u64| move |case: &mut Case| _ = case.e.each_sentinel(|says| says.o_down_ms = Some(s * 1_000));
    assert!(holds(&agreed_for(111)).contains("tries by itself in about"));
    assert!(holds(&agreed_for(125)).contains("may be trying since"));
    holds(&agreed_for(2 * 120 - 3));
    let tried = |s: u64| {
        move |case: &mut Case| {
            agreed_for(SECOND_TURN_MS / 1_000)(case);
            case.history
                .tries
                .push((case.now.before(Duration::from_secs(s + 1)), case.now.before(Duration::from_secs(s))));
        }
    };
    holds(&tried(112));
    // Who hears of a try is no less careful than who is deaf.
    assert!(holds(&tried(1)).contains("may be trying since"));
    holds(&tried(4));
    // Whoever did not vote for a later one goes on by the earlier.
    holds(&|case| {
        agreed_for(2 * 120 - 3)(case);
        tried(110)(case);
        case.e.each_sentinel(|says| says.o_down_ms = Some(237_000));
    });
    // One that holds the primary down by itself tries as soon as others agree with it.
    let by_itself = |case: &mut Case, s: u64| {
        (case.e.sentinel(2).o_down_ms, case.e.sentinel(2).s_down_ms) = (None, Some(s * 1_000));
    };
    holds(&|case| by_itself(case, 70));
    holds(&|case| {
        by_itself(case, 70);
        case.e.sentinel(2).ckquorum = Reading::Missing(Missing::TimedOut);
    });
    // It was cut off from the others for longer than a period, and hears them again: they agree in a moment.
    let hears_them = |case: &mut Case, s: u64| {
        by_itself(case, 130);
        let (id, since) = (case.e.sentinel(2).id.clone(), case.now.before(Duration::from_secs(s)));
        case.e.trend.alone_since.insert(id, since);
    };
    holds(&|case| by_itself(case, 130));
    holds(&|case| hears_them(case, 14));
    let mut never = dead_primary();
    hears_them(&mut never, 15);
    never.plan();
    // A try that was heard may have been another's, and a vote for another group's: o_down goes on for itself.
    holds(&|case| {
        tried(60)(case);
        case.e.each_sentinel(|says| says.o_down_ms = Some((3 * 120 - 3) * 1_000));
    });
    // One that was over long ago is forgotten only by whom we heard all the while since.
    let heard = |s: u64| {
        move |case: &mut Case| {
            tried(3 * 120 - 3)(case);
            case.e.each_sentinel(|says| says.o_down_ms = Some((4 * 120 + 60) * 1_000));
            let since = case.now.before(Duration::from_secs(s));
            let names: Vec<String> = case.e.of_the_named().map(|(sentinel, _)| sentinel.to_string()).collect();
            case.e.trend.heard_since = names.into_iter().map(|name| (name, since)).collect();
        }
    };
    holds(&heard(200));
    let mut all_the_while = dead_primary();
    heard(300)(&mut all_the_while);
    all_the_while.plan();
    // One that was just started takes a `down-after-milliseconds` of 5 s, and has neither tried nor voted.
    holds(&|case| {
        let says = case.e.sentinel(2);
        (says.flags, says.s_down_ms, says.o_down_ms, says.uptime_s) = (flags(&["master"]), None, None, Some(3));
    });
    holds(&|case| case.e.sentinel(2).o_down_ms = Some(1_500));
    for far in [tried(60), tried(130)] {
        let mut case = dead_primary();
        far(&mut case);
        case.e.each_sentinel(|says| says.o_down_ms = Some(SECOND_TURN_MS));
        case.plan();
    }
}

#[test]
fn holds_a_failover_while_the_group_cools_down_after_anybodys_failover() {
    holds(RefusalCode::Cooldown, |says| says.role_reported_ms = 599_999);
    holds_while(dead_primary(), RefusalCode::Cooldown, |case| case.e.sentinel(1).role_reported_ms = 60_000);
    let told = holds(RefusalCode::Cooldown, |says| (says.role_reported_ms, says.uptime_s) = (60_000, None));
    assert!(told.contains("saw this primary get its role only 60 s ago"), "{told}");
}

/// Quorum lost and back: two of three were started anew twelve seconds ago, and count the primary's role from then.
#[test]
fn sentinels_that_were_restarted_are_no_witnesses_of_a_failover() {
    let restarted = |says: &mut SentinelSays| (says.role_reported_ms, says.uptime_s) = (12_300, Some(12));
    let mut two = dead_primary();
    restarted(two.e.sentinel(1));
    restarted(two.e.sentinel(2));
    two.plan();
    let mut all = dead_primary();
    all.e.each_sentinel(restarted);
    all.plan();
    // The third has run for long, and took over this primary a minute ago.
    holds_while(two, RefusalCode::Cooldown, |case| case.e.sentinel(0).role_reported_ms = 60_000);
}

#[test]
fn holds_a_failover_on_trouble_with_logins() {
    holds_while(dead_primary(), RefusalCode::LatentAuthMismatch, |case| case.history.auth_trouble = true);
}

#[test]
fn holds_a_failover_while_trouble_from_before_stands() {
    use RefusalCode::{DataAtRisk, LatentAuthMismatch};
    for (cause, code) in [
        (Cause::TlsMismatch, LatentAuthMismatch),
        (Cause::ReplconfRefused, LatentAuthMismatch),
        (Cause::OutputBufferExceeded, DataAtRisk),
        (Cause::PrimarySaveFailing, DataAtRisk),
        (Cause::ReplicaDiskFull, DataAtRisk),
        (Cause::RdbIncompatible, DataAtRisk),
    ] {
        let told = holds_while(dead_primary(), code, |case| case.history.causes = vec![cause, Cause::PrimaryDown]);
        assert!(told.starts_with(cause.code()), "{told}");
    }
    // What passed by itself, what names the death, and what the finding itself is about.
    let mut case = dead_primary();
    case.history.causes = vec![Cause::SyncRunning, Cause::FailoverRunning, Cause::NetworkCut, Cause::PrimaryDown];
    case.plan();
}

#[test]
fn holds_a_failover_while_a_sentinel_finds_nobody_to_promote() {
    let none = |bend: fn(&mut ReplicaInSentinel)| {
        holds(RefusalCode::NoPromotableReplica, |says| {
            choice(says, REPLICA, bend);
            choice(says, OTHER, bend);
        });
    };
    none(|replica| replica.priority = 0);
    none(|replica| replica.flags = flags(&["slave", "s_down"]));
    none(|replica| replica.flags = flags(&["slave", "disconnected"]));
    none(|replica| replica.last_ok_ping_ms = 5_001);
    none(|replica| replica.info_refresh_ms = 5_001);
    none(|replica| replica.link_down_ms = 30_000 + 50_001);
    holds_while(dead_primary(), RefusalCode::NoPromotableReplica, |case| case.e.sentinel(1).replicas.clear());
}

#[test]
fn holds_a_failover_while_sentinel_might_pick_one_that_never_synced() {
    holds(RefusalCode::DataAtRisk, |says| choice(says, OTHER, |replica| replica.link_down_ms = -1000));
    holds(RefusalCode::DataAtRisk, |says| {
        node(says, OTHER, |node| (node.link_up, node.link_down_for_s) = (false, Some(-1)));
    });
    holds(RefusalCode::DataAtRisk, |says| node(says, OTHER, |node| node.repl_offset = 1));
    holds_while(dead_primary(), RefusalCode::DataAtRisk, |case| {
        choice(case.e.sentinel(2), OTHER, |replica| replica.link_down_ms = -1000);
    });
}

const ALL: [&str; 3] = [PRIMARY, REPLICA, OTHER];

#[test]
fn holds_a_failover_while_sentinel_might_pick_an_empty_one() {
    holds(RefusalCode::DataAtRisk, |says| node(says, OTHER, |node| node.keys = 0));
    let told = holds(RefusalCode::DataAtRisk, |says| {
        node(says, OTHER, |node| node.keys = 0);
        nodes(says).remove(PRIMARY);
    });
    assert!(told.contains("not known"), "{told}");
    let mut all_empty = dead_primary();
    all_empty.e.each_sentinel(|says| ALL.into_iter().for_each(|name| node(says, name, |node| node.keys = 0)));
    all_empty.plan();
}

#[test]
fn holds_a_failover_while_the_one_to_be_promoted_lags_behind_anybody() {
    const FAR: i64 = 5000 + (1 << 20);
    holds(RefusalCode::DataAtRisk, |says| node(says, PRIMARY, |node| node.repl_offset = FAR + 1));
    holds_while(dead_primary(), RefusalCode::DataAtRisk, |case| case.e.link().offset = FAR + 1);
    holds_while(dead_primary(), RefusalCode::DataAtRisk, |case| {
        node(case.e.sentinel(2), PRIMARY, |node| node.repl_offset = FAR + 1);
    });
    let mut within = dead_primary();
    within.e.each_sentinel(|says| node(says, PRIMARY, |node| node.repl_offset = FAR));
    within.plan();
}

#[test]
fn the_one_to_be_promoted_is_first_by_priority_then_by_offset() {
    const AHEAD: i64 = 5000 + (2 << 20);
    holds(RefusalCode::DataAtRisk, |says| {
        choice(says, OTHER, |replica| replica.offset = AHEAD);
        choice(says, REPLICA, |replica| replica.priority = 10);
    });
    let mut same_priority = dead_primary();
    same_priority.e.each_sentinel(|says| choice(says, OTHER, |replica| replica.offset = AHEAD));
    same_priority.plan();
}

#[test]
fn holds_a_failover_while_a_candidate_fails_to_save_or_loads() {
    holds(RefusalCode::DataAtRisk, |says| node(says, OTHER, |node| node.rdb_last_save_ok = false));
    holds(RefusalCode::DataAtRisk, |says| node(says, OTHER, |node| node.aof_last_write_ok = false));
    holds(RefusalCode::DataAtRisk, |says| node(says, OTHER, |node| node.loading = true));
}

#[test]
fn holds_a_failover_while_others_could_not_load_what_the_promoted_one_sends() {
    let version = |says: &mut SentinelSays, names: &[&str]| {
        names.iter().for_each(|name| node(says, name, |node| node.version = "7.4.0".into()));
    };
    holds(RefusalCode::DataAtRisk, |says| version(says, &[OTHER]));
    holds(RefusalCode::DataAtRisk, |says| version(says, &[OTHER, REPLICA]));
    let mut all = dead_primary();
    all.e.each_sentinel(|says| version(says, &ALL));
    all.plan();
}

#[test]
fn holds_a_failover_while_a_node_that_bears_on_it_was_not_seen() {
    holds(RefusalCode::EvidenceMissing, |says| says.nodes = Reading::Missing(Missing::Denied("NOPERM".into())));
    holds(RefusalCode::EvidenceMissing, |says| _ = nodes(says).remove(OTHER));
    let sick = |says: &mut SentinelSays, flag: &str| {
        choice(says, OTHER, |replica| {
            (replica.flags, replica.s_down_ms) = (flags(&["slave", flag]), Some(30_000));
        });
        nodes(says).remove(OTHER);
    };
    holds(RefusalCode::EvidenceMissing, |says| sick(says, "disconnected"));
    let mut ghost = dead_primary();
    ghost.e.each_sentinel(|says| sick(says, "s_down"));
    ghost.plan();
}

#[test]
fn holds_a_failover_while_a_replica_may_have_been_promoted_out_of_sight() {
    let told =
        holds(RefusalCode::FailoverRunning, |says| choice(says, OTHER, |replica| replica.reports_primary = true));
    assert!(told.contains("10.0.0.22:6379 calls itself a primary"), "{told}");
    holds_while(dead_primary(), RefusalCode::FailoverRunning, |case| {
        choice(case.e.sentinel(2), OTHER, |replica| replica.reports_primary = true);
    });
    holds(RefusalCode::EvidenceStale, |says| choice(says, OTHER, |replica| replica.info_refresh_ms = 2_001));
    let gone = |says: &mut SentinelSays, for_ms: u64| {
        choice(says, OTHER, |replica| (replica.flags, replica.s_down_ms) = (flags(&["slave", "s_down"]), Some(for_ms)));
    };
    // Held down for half a minute, and for the first ten seconds of it nobody asks.
    let told = holds(RefusalCode::EvidenceMissing, |says| gone(says, 19_999));
    assert!(told.contains("out of sight"), "{told}");
    let mut before = dead_primary();
    before.e.each_sentinel(|says| (says.o_down_ms, says.s_down_ms) = (Some(11_000), Some(30_000)));
    before.e.each_sentinel(|says| gone(says, 20_001));
    before.plan();
    let told = holds_while(dead_primary(), RefusalCode::EvidenceMissing, |case| gone(case.e.sentinel(1), 30_000));
    assert!(told.contains("some Sentinels see"), "{told}");
}

#[test]
fn holds_a_failover_at_the_hourly_limit_of_the_group() {
    let told = holds_while(dead_primary(), RefusalCode::Cooldown, |case| {
        case.history.failovers = vec![case.now.before(Duration::from_secs(3_599)); 2];
    });
    assert!(told.contains("whoever made them"), "{told}");
    let mut past = dead_primary();
    past.history.failovers = vec![past.now.before(Duration::from_secs(3_600)); 2];
    past.plan();
}

/// In `propose` a person has read the plan: it is the same whichever Sentinels answered just then.
#[test]
fn a_proposal_is_the_same_whichever_sentinels_answer() {
    let all = dead_primary().mode(Mode::Propose).plan();
    let mut two = dead_primary().mode(Mode::Propose);
    two.e.silence(0);
    let two = two.plan();
    assert!(all != two && all.same(&two));
    assert_eq!(all.print(), two.print());
    let mut other = two.clone();
    other.steps[0].expect.sentinels_name = Some(at(OTHER));
    assert!(!all.same(&other) && all.print() != other.print());
}

#[test]
fn what_the_sentinels_said_ages_until_it_is_decided_on() {
    let late = |ms: u64| {
        let mut case = agreed(dead_primary(), 18_500);
        case.now = case.now.after(Duration::from_millis(ms));
        case.e.ended = case.now;
        case
    };
    late(1_400).plan();
    late(1_600).holds(RefusalCode::NotOurTurn);
    let mut soon = agreed(dead_primary(), 10_000);
    soon.now = soon.now.after(Duration::from_secs(1));
    soon.e.ended = soon.now;
    let told = soon.holds(RefusalCode::NotOurTurn);
    assert!(told.ends_with("comes in about 7.0 s"), "{told}");
}

#[test]
fn holds_a_failover_while_the_address_that_the_sentinels_name_answers() {
    moved(RefusalCode::PrimarySeenAlive, |e| e.named = Reading::Seen(green(PRIMARY)));
}
