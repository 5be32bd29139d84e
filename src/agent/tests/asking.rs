//! A failover is asked for in our turn, once, and what came of it is seen.

use super::driver::proposing;
use super::*;
use crate::model::people::Actor;
use crate::model::turn::{SMALLEST_STAGGER_MS, SPARE_MS, Seat, Turns};

/// The replica is second in the order of promotion. The world's Sentinels agreed 30 s ago, in the third turn.
#[test]
fn a_failover_is_asked_for_once_at_the_beginning_of_our_turn() {
    let mut world = World::healthy();
    world.set(|e| _ = e.refuse().told_down());
    world.wake(Why::Timer);
    world.futile = true;
    world.advance(s(120));
    assert_eq!((world.recorded("held not-our-turn"), world.applied.len()), (1, 1), "{:?}", world.trace);
    let asked = world.ledger.iter().find(|entry| matches!(entry.what, What::Intended { .. })).unwrap();
    let age = 30_000 + u64::try_from(asked.at.since(T0.after(s(1000))).as_millis()).unwrap();
    let turns = Turns { first: 10_000, stagger: SMALLEST_STAGGER_MS, spare: SPARE_MS };
    let seat = Seat { rank: 1, of: 2 };
    assert!(turns.ours(age, seat) && !turns.ours(age - 1_000, seat), "{age}: at the beginning of a turn of ours");
}

fn approve(world: &mut World) {
    let alice = Actor { uid: 1000, name: "alice".into(), sudo: None };
    world.agent.approve(alice, None, world.now).unwrap();
    world.hand_out();
    world.settle();
}

/// Every host proposes the same, so two people may say yes on two of them.
#[test]
fn a_failover_that_was_approved_waits_for_its_turn_too() {
    let mut world = World::with(proposing());
    world.futile = true;
    world.set(|e| _ = e.refuse().told_down().each_sentinel(|says| says.o_down_ms = Some(1_000)));
    world.wake(Why::Timer);
    world.advance(s(12));
    assert_eq!((world.said().last(), world.applied.len()), (Some(&"proposed"), 0));
    approve(&mut world);
    assert_eq!((world.recorded("held not-our-turn"), world.applied.len()), (1, 0), "{:?}", world.trace);
    world.advance(s(60));
    assert_eq!((world.recorded("withdrawn"), world.applied.len()), (0, 1), "{:?}", world.trace);
    let age = 1_000 + u64::try_from(asked_at(&world)[0].since(T0.after(s(1000))).as_millis()).unwrap();
    let turns = Turns { first: 10_000, stagger: SMALLEST_STAGGER_MS, spare: SPARE_MS };
    let seat = Seat { rank: 1, of: 2 };
    assert!(turns.ours(age, seat) && !turns.ours(age - 1_000, seat), "{age}: at the beginning of a turn of ours");
    let intended = world.ledger.iter().find_map(|entry| match &entry.what {
        What::Intended { plan, .. } => Some(plan.steps[0].expect.clone()),
        _ => None,
    });
    assert!(intended.unwrap().turn.is_some(), "the hands ask for it once more");
}

/// What the hands read again just before it was another for a moment: nobody was asked, and the yes is as good as before.
#[test]
fn an_approved_failover_that_the_hands_drop_is_tried_again_and_in_the_end_told_as_waiting() {
    let gone = || Outcome::PreconditionGone("the look that led to this is too old by now".into());
    let approved = |drops: usize| {
        let mut world = World::with(proposing());
        world.futile = true;
        world.set(|e| _ = e.refuse().told_down().each_sentinel(|says| says.o_down_ms = Some(1_000)));
        world.wake(Why::Timer);
        world.advance(s(12));
        world.script.extend(std::iter::repeat_n(gone(), drops));
        approve(&mut world);
        world
    };
    let mut once = approved(1);
    once.advance(s(60));
    assert_eq!((once.applied.len(), once.recorded("ended under-way")), (2, 1), "{:?}", once.trace);
    assert_eq!((once.recorded("approved"), once.recorded("withdrawn")), (1, 0), "{:?}", once.trace);
    assert!(once.agent.status(once.now).touched);

    let mut never = approved(usize::from(u16::MAX));
    never.advance(s(100));
    let status = never.agent.status(never.now);
    let waits = status.proposal.and_then(|proposal| proposal.approved_by);
    assert!(waits.is_some() || status.withdrawn.is_some(), "{:?}", never.trace);
    never.advance(s(900));
    assert!(never.recorded("withdrawn") == 1 && !status.touched, "{:?}", never.trace);
    let proposals = never.said().iter().filter(|said| **said == "proposed").count();
    assert_eq!(proposals, 2, "it waits again, and is told: {:?}", never.said());
}

#[test]
fn plans_that_were_dropped_end_no_remedy_for_good() {
    let mut world = primary_lost(1_000);
    let gone = || Outcome::PreconditionGone("the look that led to this is too old by now".into());
    world.script.extend(std::iter::repeat_n(gone(), 20));
    world.advance(s(60));
    assert!((3..10).contains(&world.applied.len()), "{:?}", world.trace);
    let mut waited = 0;
    while world.recorded("ended under-way") == 0 {
        world.advance(s(10));
        waited += 10;
        assert!(waited < 3_000, "{:?}", world.trace);
    }
    assert!(world.recorded("escalated") <= 1, "{:?}", world.trace);
}

#[test]
fn an_approval_whose_turn_does_not_come_is_withdrawn_and_says_so() {
    let mut world = World::with(proposing());
    world.set(|e| {
        e.refuse().told_down();
        let ours = e.local.seen().unwrap().run_id.clone();
        e.each_sentinel(|says| {
            says.replicas.retain(|replica| replica.run_id != ours);
            // Its own next try is far away.
            says.failover_timeout_ms = 180_000;
        });
    });
    world.wake(Why::Timer);
    world.advance(s(14));
    assert_eq!(world.said().last(), Some(&"proposed"), "{:?}", world.trace);
    approve(&mut world);
    world.advance(s(119));
    assert_eq!(world.recorded("withdrawn"), 0, "{:?}", world.trace);
    world.advance(s(10));
    assert_eq!((world.recorded("withdrawn"), world.applied.len()), (1, 0), "{:?}", world.trace);
    let proposed_again = world.agent.incidents().open().is_some_and(|open| open.phase == Phase::Proposed);
    assert!(proposed_again, "and is proposed anew");
}

#[test]
fn an_agent_that_has_just_started_lets_a_whole_turn_pass_before_it_asks() {
    let mut world = World::healthy();
    world.set(|e| _ = e.refuse().told_down().each_sentinel(|says| says.replicas.truncate(1)));
    world.restart();
    world.advance(s(120));
    let opened = world.ledger.iter().find(|entry| matches!(entry.what, What::Opened { .. })).unwrap().at;
    let asked = world.ledger.iter().find(|entry| matches!(entry.what, What::Intended { .. })).unwrap().at;
    assert!(asked.since(opened) >= s(8), "{:?}", asked.since(opened));
}

fn rank(e: &mut Evidence, priority: u32) {
    e.each_sentinel(|says| says.replicas[0].priority = priority);
}

/// The replica is the first to be promoted, and the Sentinels have just agreed.
fn primary_lost(o_down_ms: u64) -> World {
    let mut world = World::healthy();
    world.futile = true;
    world.set(|e| {
        e.refuse().told_down().each_sentinel(|says| says.o_down_ms = Some(o_down_ms));
        rank(e, 1);
    });
    world.wake(Why::Timer);
    world
}

fn asked_at(world: &World) -> Vec<Timestamp> {
    let intended = world.ledger.iter().filter(|entry| matches!(entry.what, What::Intended { .. }));
    intended.map(|entry| entry.at).collect()
}

#[test]
fn the_first_turn_is_not_slept_through() {
    let mut world = World::healthy();
    world.futile = true;
    let lost = |o_down_ms: Option<u64>| {
        move |e: &mut Evidence| {
            e.refuse().told_down().each_sentinel(|says| says.o_down_ms = o_down_ms);
            rank(e, 1);
        }
    };
    world.set(lost(None));
    world.wake(Why::Timer);
    // Looks are five seconds apart by now.
    world.advance(s(31));
    world.set(lost(Some(0)));
    let agreed = world.now;
    world.advance(s(30));
    let asked = asked_at(&world);
    let after = asked.first().map(|at| at.since(agreed)).unwrap_or_default();
    assert!(after >= s(10) && after < ms(10_100), "the first turn begins after 10 s: {after:?} {:?}", world.trace);
}

#[test]
fn a_sentinels_own_try_is_remembered_from_its_event_or_from_the_look_that_shows_it() {
    let running = |e: &mut Evidence| e.sentinel(1).failover_state = Some("wait_start".into());
    let mut told = primary_lost(1_000);
    let at = told.now;
    told.set(|e| {
        running(e);
        e.trend.tries = vec![(at, at)];
    });
    told.advance(s(3));
    let heard = vec![(at.before(ms(500)), at)];
    assert_eq!(told.agent.memory.tries(), heard, "the event is closer");
    // It does not answer for once: that is no new try.
    told.set(|e| e.sentinels[1].says = Reading::Missing(Missing::TimedOut));
    told.advance(s(7));
    told.set(running);
    told.advance(s(7));
    assert_eq!(told.agent.memory.tries(), heard);

    let mut seen = primary_lost(1_000);
    let before = seen.now;
    seen.set(running);
    seen.advance(s(12));
    let [(from, to)] = seen.agent.memory.tries() else { panic!("{:?}", seen.agent.memory.tries()) };
    assert!(*from >= before && *to < before.after(s(6)), "when it was first seen: {from} {to}");
    let first = (*from, *to);
    // The next one adds to what is known.
    seen.set(|e| e.sentinel(1).failover_state = None);
    seen.advance(s(40));
    seen.set(running);
    seen.advance(s(12));
    assert_eq!((seen.agent.memory.tries().len(), seen.agent.memory.tries()[0]), (2, first));

    let mut late = World::healthy();
    late.set(running);
    late.restart();
    late.advance(s(12));
    assert_eq!(late.agent.memory.tries(), [], "it began nobody knows when");
}

/// An order that was not watched for a while, as by a process that was stopped, has to stand for a turn again.
#[test]
fn an_order_that_was_out_of_sight_does_not_count() {
    let seats = |gap: Duration| {
        let mut world = primary_lost(1_000);
        world.advance(s(4));
        let known = world.agent.memory.seats().clone();
        world.now = world.now.after(gap);
        world.advance(s(1));
        (known, world.agent.memory.seats().clone())
    };
    let (known, watched) = seats(Duration::ZERO);
    assert_eq!((known.len(), &known), (3, &watched), "since the first look");
    let (known, unwatched) = seats(s(20));
    assert!(unwatched.values().all(|(_, since)| known.values().all(|(_, before)| since > before)), "{unwatched:?}");
}

#[test]
fn a_turn_that_was_missed_needs_no_rest() {
    let mut world = primary_lost(1_000);
    world.script.push_back(Outcome::PreconditionGone("the turn to ask is not ours any more".into()));
    world.advance(s(120));
    assert_eq!((world.recorded("ended precondition-gone"), world.applied.len()), (1, 2), "{:?}", world.trace);
    world.advance(s(300));
    assert_eq!(world.applied.len(), 2, "one that was taken does: {:?}", world.trace);
}

#[test]
fn failovers_of_others_are_counted_over_a_restart_each_once() {
    let mut world = World::healthy();
    let epoch = |world: &mut World, epoch: u64| {
        world.set(|e| _ = e.each_sentinel(|says| says.config_epoch = epoch));
        world.wake(Why::Timer);
    };
    epoch(&mut world, 3);
    epoch(&mut world, 3);
    assert_eq!(world.recorded("failed-over"), 1, "what began before our start is not known");
    world.restart();
    world.wake(Why::Start);
    assert_eq!((world.recorded("failed-over"), world.agent.incidents().failovers().len()), (1, 1));
    // One that came while we were away, after two tries that came to nothing.
    world.restart();
    epoch(&mut world, 6);
    assert_eq!((world.recorded("failed-over"), world.agent.incidents().failovers().len()), (2, 2));
    assert_eq!(world.agent.history(world.now, world.now).failovers.len(), 2, "and they count for the limit");
    world.restart();
    assert_eq!(world.agent.incidents().failovers().len(), 2);
    assert_eq!((world.incidents_opened(), world.notices.len()), (0, 0));
}

/// Sentinels that were installed anew count from nothing. One that has not heard of the newest is none of these.
#[test]
fn failovers_are_counted_on_when_the_sentinels_were_created_anew() {
    let mut world = World::healthy();
    let epoch = |world: &mut World, epochs: [u64; 3]| {
        world.set(|e| {
            (0..3).for_each(|index| e.sentinel(index).config_epoch = epochs[index]);
        });
        world.wake(Why::Timer);
    };
    epoch(&mut world, [57; 3]);
    let before = world.recorded("failed-over");
    epoch(&mut world, [56; 3]);
    epoch(&mut world, [57; 3]);
    assert_eq!(world.recorded("failed-over"), before, "the one that knew was silent for a look");
    for restart in [false, true] {
        epoch(&mut world, [0; 3]);
        world.advance(s(90));
        if restart {
            world.restart();
            world.wake(Why::Start);
            world.advance(s(90));
        }
        epoch(&mut world, [0, 1, 0]);
        epoch(&mut world, [1; 3]);
        epoch(&mut world, [57; 3]);
    }
    assert_eq!(world.recorded("failed-over 1"), 2, "{:?}", world.trace);
}

#[test]
fn a_request_that_a_sentinel_took_is_no_success_and_a_person_is_called_when_nothing_comes_of_it() {
    let mut world = primary_lost(1_000);
    world.advance(s(20));
    assert_eq!((world.applied.len(), world.recorded("ended under-way")), (1, 1), "{:?}", world.trace);
    world.advance(s(40));
    assert_eq!(world.recorded("escalated"), 0, "Sentinel has its failover-timeout");
    world.advance(s(30));
    assert_eq!(world.recorded("escalated"), 1, "{:?}", world.trace);
    let why = world.agent.incidents().open().and_then(|open| open.escalation.clone()).unwrap_or_default();
    assert!(why.contains("failover-timeout") && why.contains(PRIMARY), "{why}");
    world.advance(s(300));
    assert_eq!(world.recorded("escalated"), 1, "once");
    world.set(|_| {});
    world.advance(s(30));
    assert_eq!(world.recorded("resolved Others"), 1, "the primary came back by itself: {:?}", world.trace);
}

#[test]
fn a_failover_that_came_of_our_request_is_ours() {
    let mut world = primary_lost(1_000);
    world.advance(s(20));
    world.set(|e| {
        e.link().primary = at(OTHER);
        e.upstream = Reading::Seen(green(OTHER));
        e.each_sentinel(|says| {
            (says.primary, says.primary_run_id, says.config_epoch) = (at(OTHER), format!("run-{OTHER}"), 2);
            says.replicas.retain(|replica| replica.endpoint != at(OTHER));
            says.replicas[0].primary = Some(at(OTHER));
        });
    });
    world.advance(s(30));
    assert_eq!(world.recorded("resolved Relinkd"), 1, "{:?}", world.trace);
}

#[test]
fn a_sentinel_that_is_at_it_already_makes_no_run_of_ours_a_change() {
    let mut world = primary_lost(1_000);
    world.script.push_back(Outcome::AlreadySo("Sentinel is at it already: INPROG".into()));
    world.advance(s(20));
    assert_eq!((world.recorded("ended already-so"), world.recorded("ended changed")), (1, 0), "{:?}", world.trace);
}
