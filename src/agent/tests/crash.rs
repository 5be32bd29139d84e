//! The ledger fails, or the process dies, at every place where it can.

use super::healing::break_password;
use super::*;
use crate::model::remedy::Change;

#[test]
fn while_the_ledger_fails_nothing_is_changed_and_when_it_is_back_all_is_recorded() {
    let mut world = World::healthy();
    world.ledger_works = false;
    break_password(&mut world);
    world.wake(Why::Timer);
    world.advance(s(60));
    assert!(world.applied.is_empty());
    assert!(world.ledger.is_empty());
    assert_eq!(world.agent.status(world.now).ledger_trouble.as_deref(), Some("disk full"));
    world.recover();
    world.advance(s(15));
    assert!(world.agent.status(world.now).ledger_trouble.is_none());
    assert_eq!(world.incidents_opened(), 1);
    assert_eq!(world.recorded("held ledger-unwritable"), 1);
    assert_eq!(world.recorded("resolved Relinkd"), 1);
}

#[test]
fn an_intent_that_cannot_be_recorded_is_not_carried_out() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| {
        matches!(effect, Effect::Record { entries, .. } if entries.iter().any(|e| matches!(e.what, What::Intended { .. })))
    });
    world.ledger_works = false;
    world.settle();
    assert!(world.applied.is_empty());
    assert!(world.trace.contains(&"dropped".to_owned()));
    world.recover();
    assert_eq!(world.recorded("ended precondition-gone"), 1);
    assert!(world.applied.is_empty(), "the cool-down holds");
    world.advance(s(15));
    assert_eq!(world.applied[0].0, 2, "decided anew, as another attempt");
}

#[test]
fn a_ledger_that_fails_between_two_steps_ends_the_plan_and_says_that_the_change_stands() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.ledger_works = false;
    world.settle();
    assert_eq!(world.applied.len(), 1, "no further step");
    world.recover();
    assert_eq!(world.recorded("ended failed"), 1);
    assert_eq!(world.said(), ["escalated"]);
    assert!(world.notices[0].incident.escalation.as_deref().is_some_and(|why| why.contains("the change stands")));
}

/// The same break, with the process dying before its `at`-th effect; then a life without trouble.
fn crash_at(at: usize) -> Option<World> {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    for _ in 0..at {
        if !world.step() {
            return None;
        }
    }
    world.crash();
    world.advance(s(60));
    Some(world)
}

#[test]
fn a_crash_at_any_effect_loses_no_incident_and_repeats_no_change_blindly() {
    let mut crashes = 0;
    while let Some(world) = crash_at(crashes) {
        crashes += 1;
        assert!(world.agent.incidents().open().is_none(), "{:?}", world.trace);
        assert!(world.incidents_opened() <= 1, "{:?}", world.trace);
        let realigned = world.applied.iter().filter(|(_, change)| matches!(change, Change::RealignAuth { .. })).count();
        assert_eq!(realigned, 1, "once, before the crash or after it: {:?}", world.trace);
        let restarted = world.trace.iter().position(|word| word == "restart").unwrap();
        let intended = world.trace[..restarted].iter().any(|word| word.starts_with("intended"));
        let ended = world.trace[..restarted].iter().any(|word| word.starts_with("ended"));
        assert_eq!(world.recorded("interrupted"), usize::from(intended && !ended), "{:?}", world.trace);
        let told = world.said();
        assert!(matches!(told.as_slice(), ["opened", "resolved"] | []), "{told:?} {:?}", world.trace);
        assert!(!told.is_empty(), "something was changed, so someone is told: {:?}", world.trace);
    }
    assert!(crashes > 10, "{crashes}");
}

#[test]
fn an_intent_without_an_end_is_interrupted_and_the_next_look_decides_anew_after_the_cooldown() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.crash();
    assert_eq!(world.recorded("interrupted"), 1);
    assert!(world.applied.is_empty(), "never resumed");
    assert_eq!(world.recorded("held cooldown"), 1);
    world.advance(s(8));
    assert!(world.applied.is_empty(), "the cool-down survives the restart");
    world.advance(s(8));
    assert_eq!(world.applied[0].0, 2, "so does the count of attempts");
}

#[test]
fn one_who_replays_knows_what_the_one_who_lived_knows() {
    let mut world = World::healthy();
    break_password(&mut world);
    let mut compared = 0;
    world.futile = true;
    for _ in 0..6 {
        world.advance(s(16));
        assert!(world.at_rest());
        let lived = world.agent.incidents().clone();
        let mut other = World::healthy();
        (other.ledger, other.now) = (world.ledger.clone(), world.now);
        other.restart();
        assert_eq!(*other.agent.incidents(), lived);
        compared += usize::from(lived.open().is_some());
    }
    assert!(compared > 3);
}

#[test]
fn exhausted_attempts_stay_exhausted_over_a_restart() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.futile = true;
    world.advance(s(150));
    assert_eq!(world.recorded("intended"), 5);
    world.futile = false;
    world.crash();
    world.advance(s(600));
    assert_eq!(world.recorded("intended"), 5);
    assert_eq!(world.said(), ["escalated"], "and nobody is called again");
}

#[test]
fn an_emptied_group_stays_an_incident_over_a_restart() {
    let mut world = World::healthy();
    world.set(|e| {
        let local = e.server();
        (local.keys, local.replid) = (0, "another".into());
        e.source().replid = "another".into();
        e.source().keys = 0;
    });
    world.wake(Why::Timer);
    world.advance(s(5));
    assert_eq!(world.agent.status(world.now).cause, Some(Cause::PrimaryEmptied));
    world.crash();
    world.restart();
    world.wake(Why::Start);
    world.advance(s(60));
    assert_eq!(world.agent.status(world.now).cause, Some(Cause::PrimaryEmptied), "{:?}", world.agent.status(world.now));
    world.set(|e| e.server().keys = 10);
    world.advance(s(60));
    assert_eq!((world.incidents_opened(), world.recorded("resolved Others")), (1, 1));
}

#[test]
fn a_start_that_cannot_read_the_ledger_opens_no_incident_beside_the_one_that_is_open_there() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.candidates.clear();
    world.wake(Why::Timer);
    assert_eq!(world.incidents_opened(), 1);
    let recorded = world.ledger.len();
    world.restart_without_ledger();
    world.advance(s(120));
    assert_eq!((world.ledger.len(), world.applied.len()), (recorded, 0), "{:?}", world.trace);
    let status = world.agent.status(world.now);
    assert_eq!(status.cause, Some(Cause::AuthRejected), "what is wrong is shown all the same");
    assert_eq!(status.ledger_trouble.as_deref(), Some("database is locked"));
    world.set(|_| {});
    world.advance(s(60));
    assert_eq!(world.ledger.len(), recorded, "nor a blip");
    world.crash();
    world.advance(s(60));
    assert_eq!((world.incidents_opened(), world.recorded("resolved")), (1, 1), "{:?}", world.trace);
}

/// What the ledger dates ahead of the clock counts as of the start.
#[test]
fn after_the_clock_was_set_back_no_bound_holds_longer_than_it_would_have() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.wake(Why::Timer);
    world.advance(s(1));
    assert_eq!(world.recorded("link-up"), 1, "healed, and not yet over: {:?}", world.trace);
    world.now = world.now.before(s(172_800));
    world.crash();
    world.advance(s(5));
    assert_eq!(world.recorded("resolved"), 1, "whole for the settle time: {:?}", world.trace);
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    let realigned = |world: &World| world.recorded("intended");
    assert_eq!((realigned(&world), world.recorded("held cooldown")), (1, 1), "{:?}", world.trace);
    world.advance(s(15));
    assert_eq!(realigned(&world), 2, "the cool-down counts from the start: {:?}", world.trace);
}

/// The record of the instance is known, and the pauses of the host are not.
#[test]
fn a_record_that_becomes_durable_does_not_tell_what_is_paused() {
    let mut world = World::healthy();
    world.agent.without_standing("database is locked".into());
    world.ledger_works = false;
    break_password(&mut world);
    world.wake(Why::Timer);
    world.advance(s(5));
    world.recover();
    world.advance(s(60));
    assert_eq!((world.applied.len(), world.incidents_opened()), (0, 1), "{:?}", world.trace);
    assert_eq!(world.agent.status(world.now).ledger_trouble.as_deref(), Some("database is locked"));
    world.crash();
    world.advance(s(30));
    assert_eq!(world.recorded("resolved Relinkd"), 1, "one that knows them acts: {:?}", world.trace);
}

#[test]
fn the_looks_go_on_however_often_a_record_is_tried_again() {
    let mut world = World::healthy();
    world.ledger_works = false;
    break_password(&mut world);
    world.wake(Why::Timer);
    world.advance(s(60));
    let before = world.looks;
    for _ in 0..30 {
        world.feed(Input::LedgerFailed("disk full".into()));
        world.advance(s(1));
    }
    assert!(world.looks >= before + 5, "{} looks in half a minute", world.looks - before);
}
