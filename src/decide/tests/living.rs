//! A primary that lives, and turns most of its replicas away.

use super::*;
use crate::decide::living::qualifies;
use crate::model::remedy::{Handover, Living};
use crate::model::turn::Clock;

const THIRD: &str = "10.0.0.4:6379";
const ALL: [&str; 3] = [REPLICA, OTHER, THIRD];
/// The third turn of three: 10 s, and twice a stagger of 12 s.
const THIRD_TURN_MS: u64 = 34_500;

fn choice(says: &mut SentinelSays, name: &str, bend: impl Fn(&mut ReplicaInSentinel)) {
    bend(says.replicas.iter_mut().find(|replica| replica.endpoint == at(name)).unwrap());
}

fn primary(says: &mut SentinelSays, bend: impl Fn(&mut CachedNode)) {
    bend(seen(&mut says.nodes).get_mut(PRIMARY).unwrap());
}

/// Replicas without a link for so long, by every Sentinel's word and by their own.
fn unlinked(e: &mut Evidence, names: &[&str], ms: u64) {
    let at = e.ended;
    e.each_sentinel(|says| {
        says.at = at;
        for name in names {
            choice(says, name, |replica| {
                (replica.link_ok, replica.link_down_ms) = (false, i64::try_from(ms - replica.info_refresh_ms).unwrap());
            });
        }
    });
    for one in e.successors.iter_mut().filter(|one| names.iter().any(|name| one.endpoint == super::at(name))) {
        let Role::Replica(link) = &mut seen(&mut one.server).role else { panic!() };
        (link.up, link.state, link.down_for_s) = (false, LinkState::Connect, Some(30));
    }
}

/// The primary has no connection left: of three replicas one is linked, and all Sentinels are Valkey 9.1.
fn turned_away() -> Case {
    let mut e = healthy();
    e.break_link(LinkState::Connect).stood(Duration::from_secs(30));
    e.upstream = Reading::Seen(Probe { ping: error("ERR max number of clients reached"), ..blank(PRIMARY) });
    e.primary = Reading::Missing(Missing::NotAsked);
    e.primary_limits = Reading::Missing(Missing::NotAsked);
    e.successors = ALL.map(successor).into();
    e.each_sentinel(|says| {
        says.build = Some((Flavour::Valkey, "9.1.2".into()));
        let mut third = says.replicas[1].clone();
        (third.endpoint, third.run_id, third.offset) = (at(THIRD), format!("run-{THIRD}"), 5_100);
        third.info_refresh_ms = 9_000;
        says.replicas.push(third);
        let node = CachedNode { run_id: format!("run-{THIRD}"), ..seen(&mut says.nodes)[OTHER].clone() };
        seen(&mut says.nodes).insert(THIRD.to_owned(), node);
    });
    unlinked(&mut e, &[REPLICA, OTHER], THIRD_TURN_MS);
    let mut case = Case::of(e);
    case.policy.allow_live_primary = true;
    run_on_for(&mut case, Duration::from_secs(60));
    case
}

fn run_on_for(case: &mut Case, span: Duration) {
    let since = case.now.before(span);
    let told = run_on(&BTreeMap::new(), &case.e);
    case.history.unlinked = told.into_iter().map(|(id, known)| (id, RunOn { since, ..known })).collect();
}

/// No replica is linked, the Sentinels know no COORDINATED, and the primary refuses writes for want of a replica.
fn refusing() -> Case {
    let mut case = turned_away();
    unlinked(&mut case.e, &ALL, THIRD_TURN_MS);
    case.e.each_sentinel(|says| {
        says.build = Some((Flavour::Redis, "7.0.15".into()));
        choice(says, THIRD, |replica| replica.info_refresh_ms = 500);
        primary(says, |primary| primary.good_replicas = Some(0));
    });
    run_on_for(&mut case, Duration::from_secs(60));
    case
}

#[track_caller]
fn applied(case: &Case) -> Plan {
    match case.decide() {
        Decision::Apply(plan) => plan,
        other => panic!("it is not applied: {other:?}"),
    }
}

#[track_caller]
fn proposed(case: &Case) -> Plan {
    match case.decide() {
        Decision::Propose(plan) => plan,
        other => panic!("it is not proposed: {other:?}"),
    }
}

fn how(plan: &Plan) -> Handover {
    plan.handover().unwrap().clone()
}

#[track_caller]
fn costly(case: &Case) -> String {
    let plan = proposed(case);
    let Handover::Costly { why } = how(&plan) else { panic!("{plan:?}") };
    let with = |handover: Handover| {
        let mut other = plan.clone();
        if let Change::RequestFailover { how, .. } = &mut other.steps[0].change {
            *how = handover;
        }
        (plan.same(&other), plan.print() == other.print())
    };
    let another = Handover::Costly { why: "COORDINATED is not known to another Sentinel".into() };
    assert_eq!(
        (with(another), with(Handover::Refusing)),
        ((true, true), (false, false)),
        "who answers first is no plan"
    );
    let refusal = why_ask(&plan);
    assert_eq!(refusal.code, RefusalCode::DataAtRisk);
    assert!(refusal.detail.contains("5,093 of 5,646") && refusal.detail.contains(&why), "{}", refusal.detail);
    assert_eq!((&plan.steps[0].expect.turn, plan.discards()), (&None, 0), "a proposal is nobody's turn");
    why
}

#[test]
fn a_living_primary_hands_over_where_every_sentinel_knows_the_word_and_the_chosen_replica_is_linked() {
    let plan = applied(&turned_away());
    assert_eq!(how(&plan), Handover::Coordinated);
    assert!(plan.steps[0].change.describe().starts_with("SENTINEL FAILOVER mymaster COORDINATED, asked of "));
    let expect = &plan.steps[0].expect;
    let living = Living { unlinked_for_ms: 10_000, coordinated: true, refuses_writes: false };
    assert_eq!((expect.living.as_ref(), expect.primary_down), (Some(&living), false));
    let turn = expect.turn.as_ref().unwrap();
    assert_eq!((turn.clock, turn.turns.stagger, turn.turns.spare), (Clock::Unlinked, 12_000, turn::SPARE_MS + 2_000));
    // The primary waits until the replica has all: how far behind a Sentinel read it last does not count.
    let mut behind = turned_away();
    behind.e.each_sentinel(|says| primary(says, |primary| primary.repl_offset = 1 << 30));
    applied(&behind);
}

#[test]
fn a_living_primary_is_failed_over_by_itself_only_where_the_policy_says_so() {
    for mut case in [turned_away(), refusing()] {
        case.policy.allow_live_primary = false;
        let plan = proposed(&case);
        assert_eq!(plan.steps[0].expect.turn, None, "a proposal is nobody's turn");
        let asked = why_ask(&plan);
        assert_eq!(asked.code, RefusalCode::ApprovalNeeded);
        assert!(asked.detail.contains("allow_live_primary"), "{}", asked.detail);
    }
    assert!(matches!(turned_away().mode(Mode::Propose).decide(), Decision::Propose(_)));
    let told = turned_away().mode(Mode::Observe).holds(RefusalCode::ObserveOnly);
    assert!(told.contains("COORDINATED"), "{told}");
    // The death of a primary is as before.
    let mut dead = dead_primary();
    dead.policy.allow_live_primary = false;
    assert_eq!(how(&applied(&dead)), Handover::Lost);
}

#[test]
fn one_sentinel_that_does_not_know_the_word_makes_it_a_persons_choice_that_names_the_cost() {
    let mut mixed = turned_away();
    mixed.e.sentinel(1).build = Some((Flavour::Valkey, "8.0.1".into()));
    assert_eq!(costly(&mixed), "COORDINATED is not known to Sentinel 10.0.0.12:26379 (Valkey 8.0.1)");
    for build in [None, Some((Flavour::Redis, "9.0.0".into())), Some((Flavour::Valkey, "x".into()))] {
        let mut mixed = turned_away();
        mixed.e.sentinel(2).build = build;
        costly(&mixed);
    }
    let mut none_linked = refusing();
    none_linked.e.each_sentinel(|says| says.build = Some((Flavour::Valkey, "9.0.0".into())));
    assert_eq!(how(&applied(&none_linked)), Handover::Refusing);
    none_linked.e.each_sentinel(|says| primary(says, |primary| primary.good_replicas = None));
    assert_eq!(costly(&none_linked), "COORDINATED needs a replica that is linked");
}

#[test]
fn what_a_silent_sentinel_knows_is_not_guessed() {
    let told = holds_while(turned_away(), RefusalCode::EvidenceMissing, |case| _ = case.e.silence(1));
    assert!(told.contains("2 of 3 Sentinels answer"), "{told}");
}

#[test]
fn a_forced_failover_comes_without_a_person_only_where_the_primary_refuses_writes() {
    assert_eq!(how(&applied(&refusing())), Handover::Refusing);
    let takes_writes = |bend: fn(&mut SentinelSays)| {
        let mut case = refusing();
        case.e.each_sentinel(bend);
        costly(&case);
    };
    takes_writes(|says| primary(says, |primary| primary.good_replicas = Some(1)));
    takes_writes(|says| primary(says, |primary| primary.good_replicas = None));
    // More than the Sentinels' own messages of 34 s is missing at the chosen replica.
    takes_writes(|says| primary(says, |primary| primary.repl_offset = 5_100 + 512 + 3 * 150 * 34 + 1));
    let mut chatter = refusing();
    chatter.e.each_sentinel(|says| primary(says, |primary| primary.repl_offset = 5_100 + 512 + 3 * 150 * 34));
    assert_eq!(how(&applied(&chatter)), Handover::Refusing);
    let mut two = refusing();
    primary(two.e.sentinel(0), |primary| primary.good_replicas = Some(1));
    assert_eq!(how(&applied(&two)), Handover::Refusing, "a majority says so");
    primary(two.e.sentinel(1), |primary| primary.good_replicas = Some(1));
    costly(&two);
}

#[test]
fn a_count_of_good_replicas_from_before_the_break_is_no_reason_to_ask_a_person() {
    let mut case = refusing();
    case.e.each_sentinel(|says| primary(says, |primary| primary.good_replicas = Some(2)));
    costly(&case);
    case.e.each_sentinel(|says| primary(says, |primary| primary.age_ms = THIRD_TURN_MS));
    case.holds(RefusalCode::EvidenceStale);
}

#[test]
fn one_replica_that_is_turned_away_is_no_reason_to_move_the_primary() {
    let told = holds_while(turned_away(), RefusalCode::PrimarySeenAlive, |case| {
        for index in [0, 1] {
            choice(case.e.sentinel(index), OTHER, |replica| replica.link_ok = true);
        }
    });
    assert!(told.contains("1 of 3 say that most replicas have no link, 2 are needed"), "{told}");
    let told = holds_while(turned_away(), RefusalCode::TooEarly, |case| {
        unlinked(&mut case.e, &[REPLICA, OTHER], 9_999);
    });
    assert!(told.contains("most replicas have had no link for 10.0 s") || told.contains("9."), "{told}");
    // By their own word, of this moment.
    let by_itself = |bend: fn(&mut LinkView)| {
        holds_while(turned_away(), RefusalCode::PrimarySeenAlive, |case| {
            let Role::Replica(link) = &mut seen(&mut case.e.successors[1].server).role else { panic!() };
            bend(link);
        })
    };
    by_itself(|link| link.up = true);
    let told = by_itself(|link| (link.syncing, link.sync_read) = (true, 1));
    assert!(told.contains("2 of 3 replicas"), "{told}");
}

#[test]
fn a_restarted_replica_counts_for_no_time() {
    let mut case = turned_away();
    let ms = |case: &mut Case| case.e.sentinel(0).most_unlinked_ms();
    assert_eq!(ms(&mut case), Some(THIRD_TURN_MS));
    choice(case.e.sentinel(0), OTHER, |replica| replica.link_down_ms = -1_000);
    assert_eq!(ms(&mut case), Some(0));
    choice(case.e.sentinel(0), THIRD, |replica| (replica.link_ok, replica.link_down_ms) = (false, 4_000));
    assert_eq!(ms(&mut case), Some(13_000), "two of three have a time again: 34.5 s and 13 s");
    choice(case.e.sentinel(0), THIRD, |replica| replica.info_refresh_ms = 15_001);
    assert_eq!(ms(&mut case), Some(0), "not read for long");
    choice(case.e.sentinel(0), THIRD, |replica| replica.flags = flags(&["slave", "s_down"]));
    choice(case.e.sentinel(0), OTHER, |replica| replica.link_ok = true);
    assert_eq!(ms(&mut case), None, "one of the two in sight");
}

#[test]
fn a_sentinel_that_loses_the_primary_too_has_its_own_failover_first() {
    holds_while(turned_away(), RefusalCode::SentinelActing, |case| {
        case.e.sentinel(2).flags = flags(&["master", "s_down"]);
    });
}

#[test]
fn the_linked_replica_has_to_be_the_one_that_sentinel_would_choose() {
    let told = holds_while(turned_away(), RefusalCode::DataAtRisk, |case| {
        choice(case.e.sentinel(0), OTHER, |replica| replica.priority = 10);
    });
    let told_late = holds_while(turned_away(), RefusalCode::EvidenceStale, |case| {
        let Role::Replica(link) = &mut seen(&mut case.e.successors[2].server).role else { panic!() };
        link.up = false;
    });
    assert!(told_late.contains("10.0.0.4:6379 has lost its link"), "{told_late}");
    assert!(told.contains("would promote 10.0.0.22:6379, which has no link, and 10.0.0.4:6379 has one"), "{told}");
}

#[test]
fn a_replica_that_follows_another_server_sees_nothing_of_the_groups_primary() {
    let case = turned_away();
    let Diagnosis::Broken(finding) = diagnose(&case.e) else { panic!() };
    let history = case.known_order();
    let Case { mut e, policy, now, .. } = case;
    e.link().primary = at("10.0.0.99:6379");
    let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
    assert_eq!(guards::check(Remedy::RequestFailover, &context).unwrap_err().0, RefusalCode::TargetNotPrimary);
}

#[test]
fn agents_take_turns_by_the_age_of_the_unlinked_replicas() {
    let aged = |mut case: Case, ms: u64| {
        unlinked(&mut case.e, &[REPLICA, OTHER], ms);
        case
    };
    let told = aged(turned_away(), 20_000).holds(RefusalCode::NotOurTurn);
    assert_eq!(told, "this replica is number 3 of 3 in the order of promotion; its turn to ask comes in about 14 s");
    applied(&aged(turned_away(), 34_000));
    applied(&aged(turned_away(), 37_999));
    aged(turned_away(), 38_000).holds(RefusalCode::NotOurTurn);
    // In the look before, the age was another one.
    holds_while(turned_away(), RefusalCode::NotOurTurn, |case| run_on_for(case, Duration::from_millis(11_999)));
    holds_while(turned_away(), RefusalCode::NotOurTurn, |case| case.history.unlinked.clear());
}

#[test]
fn an_age_runs_on_or_counts_anew() {
    let mut case = turned_away();
    let later = |case: &mut Case, after_s: u64, ms: u64| {
        let to = case.e.ended.after(Duration::from_secs(after_s));
        (case.e.began, case.e.ended) = (to, to);
        unlinked(&mut case.e, &[REPLICA, OTHER], ms);
    };
    let same = |told: &BTreeMap<String, RunOn>| {
        let first = told.values().next().map(|known| (known.begin, known.since)).unwrap();
        assert!(told.values().all(|known| (known.begin, known.since) == first), "{told:?}");
        first
    };
    let begun = run_on(&BTreeMap::new(), &case.e);
    later(&mut case, 5, THIRD_TURN_MS + 5_000 - 1_900);
    let on = run_on(&begun, &case.e);
    assert_eq!(same(&on), same(&begun), "within what whole seconds make of it");
    // A replica was started anew, and the age is another's.
    later(&mut case, 1, THIRD_TURN_MS);
    assert_eq!(same(&run_on(&on, &case.e)).1, case.e.ended);
    // Nobody watched.
    later(&mut case, 8, THIRD_TURN_MS + 8_000);
    assert_eq!(same(&run_on(&on, &case.e)).1, case.e.ended);
    case.e.silence(0);
    assert_eq!(run_on(&on, &case.e).len(), 2);
}

#[test]
fn an_age_that_a_sentinel_learns_of_late_is_good_from_the_time_before_it_on() {
    let mut case = turned_away();
    let look = |case: &mut Case, after_s: u64, linked: bool| {
        let to = case.e.ended.after(Duration::from_secs(after_s));
        (case.e.began, case.e.ended) = (to, to);
        case.e.each_sentinel(|says| {
            says.at = to;
            choice(says, OTHER, |replica| replica.link_ok = linked);
        });
    };
    look(&mut case, 0, true);
    let first = run_on(&BTreeMap::new(), &case.e);
    let began = case.e.ended;
    look(&mut case, 5, true);
    let second = run_on(&first, &case.e);
    look(&mut case, 5, false);
    let third = run_on(&second, &case.e);
    assert!(third.values().all(|known| known.since == began && known.begin.is_some()), "{third:?}");
    // And the other way round: whoever had a turn may have used it.
    look(&mut case, 1, true);
    let fourth = run_on(&third, &case.e);
    assert!(fourth.values().all(|known| known.since == case.e.ended && known.begin.is_none()), "{fourth:?}");
}

#[test]
fn who_cannot_be_promoted_safely_holds_it_as_ever() {
    holds_while(turned_away(), RefusalCode::DataAtRisk, |case| {
        case.e.each_sentinel(|says| choice(says, OTHER, |replica| replica.link_down_ms = -1_000));
        case.e.each_sentinel(|says| {
            choice(says, THIRD, |replica| (replica.link_ok, replica.link_down_ms) = (false, 30_500))
        });
        case.e.each_sentinel(|says| choice(says, THIRD, |replica| replica.info_refresh_ms = 500));
    });
    holds_while(turned_away(), RefusalCode::Tilt, |case| case.e.sentinel(0).tilt = Reading::Seen(true));
    holds_while(turned_away(), RefusalCode::QuorumUnclear, |case| {
        case.e.each_sentinel(|says| says.ckquorum = Reading::Seen(Quorum { ok: false, text: "NOQUORUM".into() }));
    });
    holds_while(turned_away(), RefusalCode::Cooldown, |case| case.e.sentinel(1).role_reported_ms = 60_000);
    holds_while(turned_away(), RefusalCode::LatentAuthMismatch, |case| case.history.auth_trouble = true);
    holds_while(turned_away(), RefusalCode::DataAtRisk, |case| {
        case.history.causes = vec![Cause::PrimaryDiskFull, Cause::ConnectionsExhausted];
    });
    holds_while(turned_away(), RefusalCode::EvidenceMissing, |case| case.e.successors.clear());
    holds_while(turned_away(), RefusalCode::FailoverRunning, |case| {
        seen(&mut case.e.successors[2].server).role = Role::Primary;
    });
    holds_while(turned_away(), RefusalCode::EvidenceMissing, |case| {
        case.e.each_sentinel(|says| {
            choice(says, OTHER, |replica| {
                (replica.flags, replica.s_down_ms) = (flags(&["slave", "s_down"]), Some(5_000))
            });
            choice(says, THIRD, |replica| (replica.link_ok, replica.link_down_ms) = (false, 30_000));
            choice(says, THIRD, |replica| replica.info_refresh_ms = 500);
        });
        case.e.successors.retain(|one| one.endpoint != at(OTHER));
        unlinked(&mut case.e, &[THIRD], THIRD_TURN_MS);
    });
    let mut behind = refusing();
    behind.e.each_sentinel(|says| primary(says, |primary| primary.repl_offset = 1 << 30));
    behind.holds(RefusalCode::DataAtRisk);
}

/// The cause itself is no trouble from before, and the only ones of its kind are these.
#[test]
fn two_causes_are_mended_by_moving_a_primary_that_lives() {
    let all: Vec<Cause> = Cause::ALL.iter().copied().filter(|cause| qualifies(*cause)).collect();
    assert_eq!(all, [Cause::ConnectionsExhausted, Cause::PrimaryForkFailed]);
    let mut fork = turned_away();
    fork.e.upstream = Reading::Seen(green(PRIMARY));
    fork.e.log(
        LogKind::SyncAborted,
        "MASTER aborted replication with an error: ERR BGSAVE failed, replication can't continue",
        3,
    );
    fork.history.causes = vec![Cause::PrimaryForkFailed];
    assert_eq!(how(&applied(&fork)), Handover::Coordinated);
    fork.e.alone();
    fork.holds(RefusalCode::NoSafeRemedy);
}
