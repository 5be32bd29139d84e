//! Killed between the change and CONFIG REWRITE: the running server has what its file has not.

use super::healing::break_password;
use super::*;
use crate::decide::Mode;
use crate::model::people::{Actor, Scope};
use crate::model::remedy::Change;

/// The link is mended, and the process dies before the file is written.
fn cut_short() -> World {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { step, .. } if step.change == Change::Persist));
    assert_eq!((world.applied.len(), world.recorded("finished")), (2, 2), "{:?}", world.trace);
    world
}

fn persisted(world: &World) -> usize {
    world.applied.iter().filter(|(_, change)| *change == Change::Persist).count()
}

fn with_mode(world: &mut World, mode: Mode) {
    world.policy.remedies.entry(Remedy::RealignAuth).and_modify(|remedy| remedy.mode = mode);
}

fn operator() -> Actor {
    Actor { uid: 1000, name: "ann".into(), sudo: None }
}

#[test]
fn it_is_written_after_the_restart_once_the_link_is_whole_and_the_cooldown_over() {
    let mut world = cut_short();
    world.crash();
    assert_eq!((persisted(&world), world.recorded("held cooldown")), (0, 1), "{:?}", world.trace);
    world.advance(s(30));
    assert_eq!((persisted(&world), world.recorded("intended")), (1, 2), "{:?}", world.trace);
    assert_eq!(world.applied.len(), 3, "nothing else is done again: {:?}", world.trace);
    assert_eq!((world.recorded("resolved Relinkd"), world.incidents_opened()), (1, 1), "{:?}", world.trace);
    assert_eq!(world.said(), ["opened", "resolved"]);
    world.crash();
    world.advance(s(60));
    assert_eq!(persisted(&world), 1, "and it is over");
}

#[test]
fn whether_it_was_written_is_not_known_so_it_is_written_again() {
    let mut world = cut_short();
    world.step();
    assert_eq!((persisted(&world), world.recorded("finished")), (1, 2));
    world.crash();
    world.advance(s(30));
    assert_eq!(persisted(&world), 2, "{:?}", world.trace);
    assert_eq!(world.recorded("resolved"), 1);
}

#[test]
fn killed_again_and_again_it_goes_on_until_the_attempts_are_used_up() {
    let mut world = cut_short();
    for _ in 0..4 {
        world.crash();
        for _ in 0..10 {
            if world.agent.poll_timeout().is_none_or(|at| at > world.now.after(s(30))) {
                break;
            }
            world.now = world.now.max(world.agent.poll_timeout().unwrap());
            world.agent.handle_timeout(world.now);
            world.hand_out();
            while !matches!(world.applied.last(), Some((_, Change::Persist))) && world.step() {}
            if matches!(world.applied.last(), Some((_, Change::Persist))) {
                world.applied.pop();
                break;
            }
        }
    }
    world.crash();
    world.advance(s(120));
    assert_eq!(world.recorded("intended"), 5, "{:?}", world.trace);
    assert_eq!(world.recorded("held attempts-exhausted"), 1);
    assert_eq!(
        (world.recorded("escalated"), world.recorded("resolved")),
        (1, 1),
        "a person is told: {:?}",
        world.trace
    );
}

#[test]
fn a_pause_holds_it_and_it_is_written_when_it_has_stood_after_the_pause() {
    let mut world = cut_short();
    let began = world.now;
    world.pauses = vec![Pause {
        scope: Scope::Host,
        owner: operator(),
        reason: "kernel upgrade".into(),
        began,
        ends: began.after(s(120)),
        resumed: None,
    }];
    world.crash();
    let looks = world.looks;
    world.advance(s(119));
    assert_eq!((persisted(&world), world.recorded("resolved")), (0, 0), "{:?}", world.trace);
    assert_eq!(world.recorded("held paused"), 1);
    assert!(world.looks - looks < 60, "{} looks", world.looks - looks);
    world.advance(s(29));
    assert_eq!(persisted(&world), 0, "nothing fires because a pause ends");
    world.advance(s(10));
    assert_eq!((persisted(&world), world.recorded("resolved")), (1, 1), "{:?}", world.trace);
}

#[test]
fn in_observe_it_is_told_and_in_propose_a_person_is_asked() {
    let mut world = cut_short();
    with_mode(&mut world, Mode::Observe);
    world.crash();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("held observe-only"), world.recorded("resolved")), (0, 1, 1));
    let held = &world.notices.last().unwrap().incident.held;
    assert!(held.iter().any(|it| it.detail.contains("ended before CONFIG REWRITE")), "{held:?}");

    let mut world = cut_short();
    with_mode(&mut world, Mode::Propose);
    world.crash();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("proposed"), world.recorded("resolved")), (0, 1, 0));
    let now = world.now;
    world.agent.approve(operator(), None, now).unwrap();
    world.hand_out();
    world.settle();
    world.advance(s(10));
    assert_eq!((persisted(&world), world.recorded("resolved")), (1, 1), "{:?}", world.trace);

    let mut world = cut_short();
    with_mode(&mut world, Mode::Propose);
    world.crash();
    world.advance(s(60));
    let now = world.now;
    world.agent.reject(operator(), now).unwrap();
    world.hand_out();
    world.settle();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("resolved")), (0, 1), "{:?}", world.trace);
}

#[test]
fn what_does_not_stand_any_more_is_not_written() {
    for what in ["another process", "another password"] {
        let mut world = cut_short();
        match what {
            "another process" => world.set(|e| e.server().run_id = "another".into()),
            _ => world.holds = Some("print-of-a-person".into()),
        }
        world.crash();
        world.advance(s(60));
        assert_eq!((persisted(&world), world.recorded("resolved")), (0, 1), "{what}: {:?}", world.trace);
    }
}

#[test]
fn a_rewrite_that_fails_calls_a_person_and_one_whose_world_moved_is_tried_again() {
    let mut world = cut_short();
    world.script.push_back(Outcome::Failed("not written to the config file: it is a symlink".into()));
    world.crash();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("escalated"), world.recorded("resolved")), (1, 1, 1));
    let told = &world.notices.iter().find(|it| it.event == Announcement::Escalated).unwrap().incident;
    assert!(told.escalation.as_deref().is_some_and(|why| why.contains("symlink")), "{told:?}");

    let mut world = cut_short();
    world.script.push_back(Outcome::PreconditionGone("a Sentinel runs a failover now".into()));
    world.crash();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("escalated"), world.recorded("resolved")), (2, 0, 1));
}

#[test]
fn a_plan_that_was_dropped_before_its_change_leaves_what_was_left_before_it() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.push_back(Outcome::PreconditionGone("a Sentinel runs a failover now".into()));
    world.wake(Why::Timer);
    assert_eq!(world.recorded("ended precondition-gone"), 1, "{:?}", world.trace);
    assert!(world.agent.incidents().unwritten().is_none(), "nothing was set");

    let mut world = cut_short();
    world.crash();
    let left = world.agent.incidents().unwritten().cloned();
    assert!(left.is_some());
    break_password(&mut world);
    world.script.push_back(Outcome::PreconditionGone("a Sentinel runs a failover now".into()));
    world.advance(s(13));
    assert_eq!(world.recorded("ended precondition-gone"), 1, "{:?}", world.trace);
    assert_eq!(world.agent.incidents().unwritten().cloned(), left, "{:?}", world.trace);
}

#[test]
fn a_plan_that_ran_to_its_end_leaves_nothing() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.wake(Why::Timer);
    assert!(world.agent.incidents().unwritten().is_none());
    world.crash();
    world.advance(s(60));
    assert_eq!((persisted(&world), world.recorded("resolved")), (1, 1));
}
