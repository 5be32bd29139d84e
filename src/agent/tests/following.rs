//! A new password in the store: tried at the primary once, set before the link breaks, waited for while it is ahead.

use super::*;
use crate::agent::Standing;
use crate::model::event::{Offered, StoreNews};
use crate::model::evidence::Answer;

fn news(world: &mut World, said: Result<&str, &str>) {
    let offered = |print: &str| Offered { version: "7".into(), print: print.into(), user: None, changed: None };
    let said = said.map(offered).map_err(str::to_owned);
    let source = "file:/etc/relinkd/masterauth".to_owned();
    world.feed(Input::Store(Box::new(StoreNews { at: world.now, source, said })));
    world.settle();
}

fn quiet() -> World {
    let mut world = World::healthy();
    world.rotating = true;
    world.advance(s(10));
    world.trace.clear();
    world
}

fn standing(world: &World) -> Standing {
    world.agent.status(world.now).secret.unwrap().standing
}

fn trials(world: &World) -> usize {
    world.trace.iter().filter(|word| *word == "look with candidates").count()
}

#[test]
fn a_new_password_that_the_primary_takes_is_set_while_the_link_is_up() {
    let mut world = quiet();
    news(&mut world, Ok("print-new"));
    assert_eq!(world.trace, ["look with candidates"], "whoever rotates may be about to set it here");
    world.advance(s(1) + ms(100));
    let expected = [
        "look with candidates",
        "look with candidates",
        "opened auth-latent",
        "intended 1",
        "apply preset",
        "finished changed",
        "apply persist",
        "finished changed",
        "ended changed",
        "told opened",
    ];
    assert_eq!(world.trace[..expected.len()], expected, "{:?}", world.trace);
    world.candidates[0].in_use = true;
    world.set(|e| {
        if let Reading::Seen(settings) = &mut e.settings {
            settings.masterauth_print = "print-new".into();
        }
    });
    world.advance(s(60));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!((world.incidents_opened(), standing(&world)), (1, Standing::InUse));
    assert_eq!(world.recorded("link-down"), 0);
}

#[test]
fn a_store_that_answers_late_is_used_as_soon_as_it_has_answered() {
    let mut world = quiet();
    let awaited = |world: &World| world.agent.status(world.now).secret.unwrap().awaited;
    world.store_is_silent = true;
    news(&mut world, Ok("print-new"));
    world.advance(s(5));
    assert_eq!((trials(&world), awaited(&world), world.incidents_opened()), (1, true, 0));
    world.store_is_silent = false;
    world.wake(Why::Store);
    assert_eq!((trials(&world), awaited(&world)), (2, false), "{:?}", world.trace);
    world.advance(s(2));
    assert!(world.trace.contains(&"apply preset".to_owned()), "{:?}", world.trace);
}

#[test]
fn a_look_that_hears_of_a_new_password_before_the_news_do_is_enough() {
    let mut world = quiet();
    world.wake(Why::Asked);
    assert_eq!(world.trace, ["look with candidates"]);
    world.advance(s(2));
    assert!(world.trace.contains(&"apply preset".to_owned()), "{:?}", world.trace);
}

#[test]
fn a_rotation_that_sets_it_here_within_a_second_is_no_incident() {
    let mut world = quiet();
    news(&mut world, Ok("print-new"));
    world.candidates[0].in_use = true;
    world.set(|e| {
        if let Reading::Seen(settings) = &mut e.settings {
            settings.masterauth_print = "print-new".into();
        }
    });
    world.advance(s(60));
    assert_eq!(
        (world.incidents_opened(), world.recorded("blip auth-latent"), standing(&world)),
        (0, 1, Standing::InUse)
    );
    assert!(!world.trace.iter().any(|word| word.starts_with("apply")), "{:?}", world.trace);
}

#[test]
fn a_password_that_the_primary_does_not_know_yet_is_tried_once_and_then_once_a_period() {
    let mut world = quiet();
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    world.candidates[0].proof.auth = Answer::Error { code: "WRONGPASS".into(), text: wrong.into() };
    news(&mut world, Ok("print-new"));
    assert_eq!((trials(&world), standing(&world)), (1, Standing::Ahead));
    assert!(
        world.agent.status(world.now).sentence.contains("does not know version 7 yet"),
        "{}",
        world.agent.status(world.now).sentence
    );
    for _ in 0..5 {
        world.wake(Why::Timer);
        news(&mut world, Ok("print-new"));
    }
    assert_eq!(trials(&world), 1, "wake-ups and the same news are no reason to try again");
    let background = world.policy.background;
    world.advance(background * 4);
    assert!((4..=5).contains(&trials(&world)), "{}", trials(&world));
    assert_eq!(world.incidents_opened(), 0);
    // The primary learns it.
    world.candidates[0].proof = green(PRIMARY);
    world.advance(background + s(2));
    assert!(world.trace.contains(&"apply preset".to_owned()), "{:?}", world.trace);
}

#[test]
fn what_is_in_use_is_never_tried_and_a_store_that_fails_changes_nothing() {
    let mut world = quiet();
    let Reading::Seen(held) = world.evidence.settings.clone() else { panic!("settings") };
    news(&mut world, Ok(&held.masterauth_print));
    news(&mut world, Err("vault:kv/redis#password: Vault is sealed"));
    world.advance(s(120));
    assert_eq!((trials(&world), world.incidents_opened()), (0, 0));
    assert_eq!(standing(&world), Standing::Unavailable);
    assert!(world.agent.status(world.now).sentence.contains("Vault is sealed"));
    assert!(!world.trace.iter().any(|word| word.starts_with("apply")));
}

#[test]
fn a_store_that_others_have_left_behind_undoes_nothing_unless_align_is_called() {
    let mut world = quiet();
    let Reading::Seen(held) = world.evidence.settings.clone() else { panic!("settings") };
    world.candidates[0].print = held.masterauth_print.clone();
    news(&mut world, Ok(&held.masterauth_print));
    world.advance(s(60));
    // A rotation that runs on another host gives this instance the new password; the primary takes both.
    world.set(|e| {
        if let Reading::Seen(settings) = &mut e.settings {
            settings.masterauth_print = "print-new".into();
        }
    });
    world.advance(s(120));
    assert_eq!((trials(&world), world.incidents_opened(), standing(&world)), (0, 0, Standing::Behind));
    assert!(world.agent.status(world.now).sentence.contains("is behind"), "{}", world.agent.status(world.now).sentence);
    world.wake(Why::Asked);
    world.settle();
    assert_eq!(world.incidents_opened(), 0, "whoever waits for a healthy link sets nothing off");
    world.wake(Why::Aligned);
    world.advance(s(2));
    assert!(world.trace.contains(&"apply preset".to_owned()), "{:?}", world.trace);
}

fn trouble(world: &World) -> bool {
    world.agent.incidents().auth_trouble(world.now, s(600))
}

fn aligned(world: &mut World) {
    world.candidates[0].in_use = true;
    world.set(|e| {
        if let Reading::Seen(settings) = &mut e.settings {
            settings.masterauth_print = "print-new".into();
        }
    });
}

#[test]
fn a_rotation_that_was_followed_in_time_is_no_trouble_with_logins() {
    let mut world = quiet();
    news(&mut world, Ok("print-new"));
    world.advance(s(40));
    assert!(world.trace.contains(&"apply preset".to_owned()), "{:?}", world.trace);
    aligned(&mut world);
    world.advance(s(100));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert!(!trouble(&world));
    world.restart();
    assert!(!trouble(&world), "and is none after a restart");
}

#[test]
fn a_rotation_that_is_not_followed_yet_is_trouble_until_somebody_puts_it_right() {
    let mut policy = Policy::default();
    policy.remedies.entry(Remedy::RealignAuth).and_modify(|remedy| remedy.mode = crate::decide::Mode::Observe);
    let mut world = World::with(policy);
    world.rotating = true;
    world.advance(s(10));
    news(&mut world, Ok("print-new"));
    world.advance(s(20));
    assert!(trouble(&world), "{:?}", world.trace);
    aligned(&mut world);
    world.advance(s(60));
    assert_eq!(world.said().last().copied(), Some("resolved"), "{:?}", world.said());
    assert!(!trouble(&world));
}

#[test]
fn a_refused_login_is_trouble_for_a_while_also_when_it_is_put_right() {
    let mut world = quiet();
    world.set(|e| {
        e.probe().auth = error("WRONGPASS invalid username-password pair or user is disabled.");
    });
    world.advance(s(40));
    assert!(trouble(&world), "{:?}", world.trace);
    world.candidates[0].in_use = true;
    world.set(|e| e.upstream = Reading::Seen(green(PRIMARY)));
    world.advance(s(100));
    assert!(world.agent.incidents().open().is_none(), "{:?}", world.trace);
    assert!(trouble(&world), "ten minutes have not passed");
    world.restart();
    assert!(trouble(&world));
}

#[test]
fn a_rotation_in_which_the_old_password_goes_before_it_is_followed_is_a_refused_login() {
    let mut policy = Policy::default();
    policy.remedies.entry(Remedy::RealignAuth).and_modify(|remedy| remedy.mode = crate::decide::Mode::Observe);
    let mut world = World::with(policy);
    world.rotating = true;
    world.advance(s(10));
    news(&mut world, Ok("print-new"));
    world.advance(s(40));
    assert_eq!((world.recorded("opened auth-latent"), trouble(&world)), (1, true), "{:?}", world.trace);
    world.set(|e| {
        e.probe().auth = error("WRONGPASS invalid username-password pair or user is disabled.");
    });
    world.advance(s(60));
    assert_eq!(world.recorded("diagnosed auth-latent"), 1, "{:?}", world.trace);
    aligned(&mut world);
    world.set(|e| e.upstream = Reading::Seen(green(PRIMARY)));
    world.advance(s(100));
    assert!(world.agent.incidents().open().is_none() && trouble(&world), "{:?}", world.trace);
}
