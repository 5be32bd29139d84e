//! Three agents, three Sentinels and one outage, played through in every order that the faults allow: who asks for a
//! failover, and when. The turns are those of the code (`relinkd::model::turn`); everything else is what the code reads.
//!
//! Time goes in ticks. A request arrives within `request` ticks of the last look, or is lost; a Sentinel that took one
//! promotes within `promotion`; the others read of it within `sight`. Between ticks anything may happen in any order, as
//! far as the budget of faults goes.
//!
//! Of a primary that lives the turns are counted by another age (`model::turn::Clock`), which may jump; that is a fault here.
//! That it is right to a second only makes turns longer (`UNLINKED_JITTER_MS`), and is not in the model.
//!
//! Not in the model: a replica that nobody saw from the beginning stays out of sight, and a Sentinel that took a request
//! and crashed has forgotten it (Sentinels do not store a failover that runs: Redis 7.0.15, sentinelFlushConfig).

#[path = "model/outage.rs"]
mod outage;
#[path = "model/retry.rs"]
mod retry;

use outage::{ALL, AT_ALL, AT_LAST, Day, EVERY, Fault, LATE, Late, MANY, ONCE, Rules, SENTINELS};
use relinkd::model::turn::{LOOK_MS, PROMOTION_MS, REQUEST_MS, SIGHT_MS, SMALLEST_STAGGER_MS, SPARE_MS};
use stateright::{Checker, HasDiscoveries, Model};
/// All rules, the smallest safe stagger, and one fault of any kind.
fn day() -> Day {
    Day {
        late: LATE,
        rules: ALL,
        stagger: LATE.sum() + 1,
        spare: LATE.sum(),
        apart: [0; SENTINELS],
        deaf: None,
        faults: EVERY,
        budget: 1,
        ticks: 3 * (LATE.sum() + 1),
        prompt: false,
    }
}

fn check(day: Day) -> impl Checker<Day> {
    day.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

fn holds(day: Day) {
    let began = std::time::Instant::now();
    let told = format!("{:?} stagger {} apart {:?} faults {:?}", day.late, day.stagger, day.apart, day.faults);
    let checker = check(day);
    println!("{told}: {} states in {:?}", checker.unique_state_count(), began.elapsed());
    for name in [ONCE, MANY, AT_LAST] {
        assert!(
            checker.discovery(name).is_none(),
            "{told}\n{name}: {:?}",
            checker.discovery(name).map(|p| p.into_actions())
        );
    }
    checker.assert_any_discovery(AT_ALL);
}

/// The checker finds the day on which it goes wrong.
fn fails(day: Day, property: &'static str) {
    let checker = check(day);
    let path = checker.assert_any_discovery(property).into_actions();
    println!("{property}: {path:?} ({} states)", checker.unique_state_count());
}

#[test]
fn one_request_for_one_outage_whatever_fails() {
    holds(day());
    // Two at once: an agent that does not hear the Sentinel that others ask, and one thing more.
    let two: [&'static [Fault]; 6] = [
        &[Fault::Cut, Fault::Agent],
        &[Fault::Cut, Fault::Order],
        &[Fault::Cut, Fault::Blind],
        &[Fault::Cut, Fault::Sentinel],
        &[Fault::Cut, Fault::Stop],
        &[Fault::Sentinel, Fault::Loss],
    ];
    for faults in two {
        holds(Day { faults, budget: 2, ticks: 2 * (LATE.sum() + 1), ..day() });
    }
}

#[test]
fn clocks_of_sentinels_that_differ_change_nothing() {
    for apart in [[0, 1, 0], [3, 0, 1]] {
        holds(Day { apart, faults: &[Fault::Cut, Fault::Order], ticks: 28, ..day() });
    }
}

/// The smallest turn: what may be late in all, and one tick in which to look and ask. With less to spare the checker
/// finds a second request; in a shorter turn nobody can ever ask.
#[test]
fn the_smallest_safe_stagger() {
    let of = |request, promotion, sight| Late { request, promotion, sight };
    for late in [of(1, 1, 1), of(2, 1, 1), of(1, 2, 1), of(1, 1, 2)] {
        let cut = |stagger, spare| Day {
            late,
            stagger,
            spare,
            faults: &[Fault::Cut],
            budget: 1,
            ticks: 2 * (late.sum() + 1),
            ..day()
        };
        holds(cut(late.sum() + 1, late.sum()));
        fails(cut(late.sum() + 1, late.sum() - 1), ONCE);
        fails(cut(late.sum(), late.sum() - 1), ONCE);
        assert!(check(cut(late.sum(), late.sum())).discovery(AT_ALL).is_none(), "there is no moment to ask");
    }
    assert_eq!(SPARE_MS, REQUEST_MS + PROMOTION_MS + SIGHT_MS);
    assert_eq!(SMALLEST_STAGGER_MS, SPARE_MS + LOOK_MS);
}

#[test]
fn without_turns_two_agents_ask_two_sentinels() {
    fails(Day { rules: Rules { turns: false, ..ALL }, faults: &[Fault::Cut], ..day() }, ONCE);
}

#[test]
fn without_a_second_look_an_agent_asks_for_what_another_has_begun() {
    fails(Day { rules: Rules { reread: false, ..ALL }, faults: &[Fault::Cut], ..day() }, ONCE);
}

#[test]
fn without_a_last_moment_an_agent_that_stood_still_asks_again() {
    fails(Day { rules: Rules { bounded: false, ..ALL }, faults: &[Fault::Stop], ..day() }, ONCE);
}

#[test]
fn without_a_majority_an_agent_asks_on_the_wrong_side_of_a_cut() {
    fails(Day { rules: Rules { majority: false, ..ALL }, faults: &[Fault::Cut], budget: 2, ..day() }, MANY);
}

#[test]
fn without_an_order_that_has_stood_two_agents_have_the_same_turn() {
    let faults: &'static [Fault] = &[Fault::Cut, Fault::Order];
    fails(Day { rules: Rules { standing: false, ..ALL }, faults, budget: 3, ticks: 4, ..day() }, ONCE);
    holds(Day { faults, budget: 3, ticks: 4, ..day() });
}

#[test]
fn without_a_clock_that_has_run_on_two_agents_have_one_turn_after_the_other_at_once() {
    let faults: &'static [Fault] = &[Fault::Cut, Fault::Jump];
    fails(Day { rules: Rules { standing: false, ..ALL }, faults, budget: 3, ticks: 4, ..day() }, ONCE);
    holds(Day { faults, budget: 3, ticks: 6, ..day() });
    holds(Day { faults: &[Fault::Jump], budget: 2, ticks: 3 * (LATE.sum() + 1), ..day() });
}

#[test]
fn without_every_replica_in_sight_a_promotion_is_asked_for_twice() {
    let blind = |rules| Day { rules, deaf: Some((1, 0)), faults: &[Fault::Blind], budget: 2, ticks: 7, ..day() };
    fails(blind(Rules { in_sight: false, ..ALL }), ONCE);
    holds(blind(ALL));
}

/// A replica that went out of sight is not among these: then nobody may ask, and Sentinel's own retry is what is left.
#[test]
fn while_a_majority_stands_the_group_gets_its_primary_in_the_end() {
    let faults = &[Fault::Cut, Fault::Agent, Fault::Sentinel, Fault::Order, Fault::Loss];
    for apart in [[0, 0, 0], [0, 1, 5]] {
        holds(Day { apart, faults, budget: 1, ticks: 100, prompt: true, ..day() });
    }
    holds(Day { faults: &[Fault::Agent, Fault::Loss], budget: 2, ticks: 100, prompt: true, ..day() });
    // Where faults take the majority away, the checker says so.
    fails(Day { faults: &[Fault::Sentinel], budget: 2, ticks: 20, prompt: true, ..day() }, AT_LAST);
}
