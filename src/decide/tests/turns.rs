//! Whose turn it is to ask.

use super::failover::choice;
use super::*;

/// Every Sentinel agrees since this long.
pub(super) fn agreed(mut case: Case, ms: u64) -> Case {
    let now = case.now;
    case.e.each_sentinel(|says| (says.at, says.o_down_ms) = (now, Some(ms)));
    case
}

#[test]
fn one_agent_after_the_other_has_its_turn_to_ask() {
    let told = agreed(dead_primary(), 10_000).holds(RefusalCode::NotOurTurn);
    assert_eq!(told, "this replica is number 2 of 2 in the order of promotion; its turn to ask comes in about 8.0 s");
    agreed(dead_primary(), 18_000).plan();
    agreed(dead_primary(), 19_999).plan();
    agreed(dead_primary(), 20_000).holds(RefusalCode::NotOurTurn);
    let first = |mut case: Case| {
        case.e.each_sentinel(|says| choice(says, REPLICA, |replica| replica.priority = 1));
        case
    };
    first(agreed(dead_primary(), 10_000)).plan();
    first(agreed(dead_primary(), 12_000)).holds(RefusalCode::NotOurTurn);
}

#[test]
fn who_is_no_candidate_comes_after_all_that_are() {
    let no_candidate = |mut case: Case| {
        case.e.each_sentinel(|says| choice(says, REPLICA, |replica| replica.priority = 0));
        case.e.each_sentinel(|says| choice(says, OTHER, |replica| replica.priority = 200));
        case
    };
    no_candidate(agreed(dead_primary(), 10_000)).holds(RefusalCode::NotOurTurn);
    no_candidate(agreed(dead_primary(), 18_000)).plan();
    let mut unlisted = dead_primary();
    unlisted.e.server().run_id = "another".into();
    let told = unlisted.holds(RefusalCode::NotOurTurn);
    assert!(told.contains("others ask"), "{told}");
}

#[test]
fn a_turn_needs_a_majority_of_the_sentinels_and_an_order_that_has_stood_for_a_whole_turn() {
    let mut two = dead_primary();
    two.e.sentinel(0).o_down_ms = Some(22_000);
    let plan = two.plan();
    let Change::RequestFailover { sentinels, .. } = &plan.steps[0].change else { panic!() };
    assert_eq!(*sentinels, [at("10.0.0.12:26379"), at("10.0.0.13:26379")], "one with another clock is not asked");
    let turn = plan.steps[0].expect.turn.as_ref().unwrap();
    assert_eq!(turn.seats.len(), 3);
    holds_while(dead_primary(), RefusalCode::NotOurTurn, |case| {
        case.e.sentinel(0).o_down_ms = Some(22_000);
        (case.e.sentinel(1).o_down_ms, case.e.sentinel(1).s_down_ms) = (None, None);
    });
    let told =
        holds_while(dead_primary(), RefusalCode::NotOurTurn, |case| case.order_stood = Duration::from_millis(7_999));
    assert!(told.contains("number 2 of 2"), "{told}");
    // Two believe that they are first, each by another Sentinel: neither has a majority.
    let mut split = dead_primary();
    split.e.silence(2);
    split.plan();
    choice(split.e.sentinel(0), REPLICA, |replica| replica.priority = 1);
    split.holds(RefusalCode::NotOurTurn);
}

#[test]
fn where_a_person_chooses_the_agent_there_are_no_turns() {
    for mode in [Mode::Propose, Mode::Observe] {
        match agreed(dead_primary(), 10_000).mode(mode).decide() {
            Decision::Propose(plan) => assert_eq!(plan.steps[0].expect.turn, None),
            Decision::Hold(refusal) => assert_eq!(refusal.code, RefusalCode::ObserveOnly),
            Decision::Apply(_) => panic!("it acts"),
        }
    }
}
