//! What people say: proposals approved and rejected, incidents taken, pauses set and ended.

use super::healing::break_password;
use super::*;
use crate::decide::{Mode, RemedyPolicy};
use crate::model::people::{Actor, Scope};

fn alice() -> Actor {
    Actor { uid: 1000, name: "alice".into(), sudo: None }
}

fn proposing() -> World {
    let mut policy = Policy::default();
    let realign = RemedyPolicy { mode: Mode::Propose, ..policy.of(Remedy::RealignAuth) };
    policy.remedies.insert(Remedy::RealignAuth, realign);
    World::with(policy)
}

fn proposed() -> World {
    let mut world = proposing();
    break_password(&mut world);
    world.wake(Why::Timer);
    assert_eq!(world.said(), ["proposed"]);
    assert!(world.applied.is_empty());
    world
}

fn approve(world: &mut World) -> Result<(), String> {
    let done = world.agent.approve(alice(), None, world.now);
    world.hand_out();
    world.settle();
    done
}

fn reject(world: &mut World) {
    world.agent.reject(alice(), world.now).unwrap();
    world.hand_out();
    world.settle();
}

fn take(world: &mut World) {
    let id =
        world.ledger.iter().rev().find(|entry| matches!(entry.what, What::Opened { .. })).unwrap().incident.clone();
    world.agent.acknowledge(&id, alice(), "bob".into(), world.now).unwrap();
    world.hand_out();
    world.settle();
}

fn open(world: &World) -> &crate::model::incident::Incident {
    world.agent.incidents().open().expect("an open incident")
}

fn pause(world: &World, span: Duration) -> Pause {
    let (began, ends) = (world.now, world.now.after(span));
    Pause { scope: Scope::Host, owner: alice(), reason: "upgrade".into(), began, ends, resumed: None }
}

#[test]
fn an_approved_plan_is_carried_out_after_a_look_that_leads_to_it_again() {
    let mut world = proposed();
    let message = &world.notices[0];
    let print = open(&world).proposal.as_ref().unwrap().print();
    assert_eq!(
        message.next_steps[0],
        format!("relinkd approve {} --plan {print}   # to do what is proposed", open(&world).id)
    );
    world.trace.clear();
    approve(&mut world).unwrap();
    let expected =
        ["approved", "look", "look with candidates", "intended 1", "apply realign", "finished changed", "apply prove"];
    assert_eq!(world.trace[..7], expected);
    world.advance(s(10));
    assert_eq!(world.said(), ["proposed", "resolved"]);
    let people = &world.notices.last().unwrap().incident.people;
    assert_eq!(
        people.answers.iter().map(|it| (it.answer.code(), it.by.name.as_str())).collect::<Vec<_>>(),
        [("approved", "alice")]
    );
}

#[test]
fn an_approval_whose_world_has_moved_is_refused_and_decided_anew() {
    let mut world = proposed();
    let former = open(&world).proposal.clone().unwrap();
    world.set(|e| {
        e.reject_password();
        e.server().run_id = "another-process".into();
    });
    approve(&mut world).unwrap();
    assert!(world.applied.is_empty());
    assert_eq!((world.recorded("withdrawn"), world.recorded("proposed")), (1, 2));
    let why = open(&world).people.withdrawn.clone().unwrap();
    assert!(why.contains("started anew"), "{why}");
    assert!(!open(&world).proposal.as_ref().unwrap().same(&former));
    assert_eq!(world.said(), ["proposed", "proposed"], "another plan is news");
    approve(&mut world).unwrap();
    assert_eq!(world.recorded("ended changed"), 1, "the new one can be approved");
}

#[test]
fn an_approval_that_meets_a_hold_or_a_whole_link_does_nothing_and_says_why() {
    let mut world = proposed();
    world.set(|e| {
        e.reject_password();
        e.silence(1).silence(2);
    });
    approve(&mut world).unwrap();
    let why = open(&world).people.withdrawn.clone().unwrap();
    assert!(why.contains("quorum-unclear"), "{why}");
    let mut world = proposed();
    world.set(|_| {});
    approve(&mut world).unwrap();
    assert!(open(&world).people.withdrawn.is_some());
    assert!(approve(&mut world).unwrap_err().contains("nothing is proposed"));
    assert!(world.applied.is_empty());
    world.advance(s(60));
    assert_eq!(world.said(), ["proposed", "resolved"]);
}

#[test]
fn an_approval_that_meets_another_cause_is_withdrawn_with_its_name() {
    let mut world = proposed();
    world.set(|e| {
        let line = "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA: short write";
        e.break_link(LinkState::Connect).log(LogKind::DumpWriteError, line, 9);
    });
    approve(&mut world).unwrap();
    let open = open(&world);
    assert_eq!((open.proposal.is_none(), open.people.approved.is_none()), (true, true));
    let why = open.people.withdrawn.as_deref().unwrap_or_default();
    assert_eq!(why, "it was proposed for auth-rejected, and what is seen now is replica-disk-full");
    assert!(world.applied.is_empty());
}

#[test]
fn a_look_that_began_before_the_approval_does_not_carry_it_out() {
    let mut world = proposed();
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Asked }));
    let early = world.now.before(ms(500));
    world.agent.approve(alice(), None, world.now).unwrap();
    let mut seen = world.evidence.clone();
    seen.shift(early);
    seen.candidates = world.candidates.clone();
    seen.store = Reading::Seen(StoreView { at: early, source: "file".into(), offered: 1, silent_ms: None });
    world.agent.handle(Input::Looked(Box::new(seen)), world.now);
    assert!(!world.agent.is_acting());
    assert!(open(&world).people.approved.is_some(), "it waits for a look of its own");
    let asked = std::iter::from_fn(|| world.agent.poll_effect()).any(|effect| matches!(effect, Effect::Look { .. }));
    assert!(asked);
}

#[test]
fn one_who_has_read_another_plan_approves_nothing() {
    let mut world = proposed();
    let error = world.agent.approve(alice(), Some("0badc0de"), world.now).unwrap_err();
    assert!(error.contains("--plan"), "{error}");
    assert!(open(&world).people.approved.is_none());
}

#[test]
fn an_approval_does_not_outlive_the_process_that_it_was_given_to() {
    let mut world = proposed();
    world.agent.approve(alice(), None, world.now).unwrap();
    world.hand_out();
    world.step();
    world.crash();
    world.advance(s(30));
    assert!(world.applied.is_empty());
    assert_eq!((world.recorded("approved"), world.recorded("withdrawn")), (1, 1));
    approve(&mut world).unwrap();
    assert_eq!(world.recorded("ended changed"), 1, "it was proposed anew");
}

#[test]
fn a_rejected_plan_is_held_until_another_comes_or_its_time_is_over() {
    let mut world = proposed();
    reject(&mut world);
    world.advance(s(600));
    assert_eq!(world.recorded("proposed"), 1);
    let held = world.agent.status(world.now).held.unwrap();
    assert_eq!(held.code, RefusalCode::ApprovalNeeded);
    assert!(held.detail.contains("alice rejected it"), "{}", held.detail);
    assert!(world.agent.status(world.now).proposal.is_none());
    world.crash();
    world.advance(s(60));
    assert_eq!(world.recorded("proposed"), 1, "also after a restart");
    world.advance(s(3600));
    assert_eq!(world.recorded("proposed"), 2, "its time is over");
    reject(&mut world);
    world.set(|e| {
        e.reject_password();
        e.server().run_id = "another-process".into();
    });
    world.advance(s(10));
    assert_eq!(world.recorded("proposed"), 3, "another plan");
}

#[test]
fn a_proposal_that_expired_is_made_anew_and_told_no_more_often_than_a_reminder() {
    let mut world = proposing();
    world.policy.proposal_expires = s(300);
    world.restart();
    break_password(&mut world);
    world.wake(Why::Start);
    world.advance(s(3590));
    assert_eq!(world.said(), ["proposed"]);
    assert!(world.recorded("proposed") >= 11, "{}", world.recorded("proposed"));
    assert_eq!(world.recorded("held"), 1, "the reason is the same");
    world.advance(s(30));
    assert_eq!(world.said(), ["proposed", "proposed"]);
}

#[test]
fn who_takes_an_incident_silences_it_and_gives_it_new_attempts() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.futile = true;
    world.advance(s(150));
    assert_eq!((world.recorded("intended"), world.said()), (5, vec!["escalated"]));
    world.advance(s(3600));
    assert_eq!(world.said(), ["escalated", "updated"], "a reminder");
    take(&mut world);
    assert_eq!(open(&world).people.answers[0].name.as_deref(), Some("bob"));
    assert_eq!(world.recorded("intended"), 6, "the block is lifted");
    assert_eq!(
        world.said(),
        ["escalated", "updated", "escalated"],
        "and when it fails again, a person is called again"
    );
    take(&mut world);
    let attempts = world.recorded("intended");
    world.advance(s(7200));
    assert!(world.recorded("intended") >= attempts + 3);
    world.futile = false;
    take(&mut world);
    world.advance(s(60));
    assert!(world.agent.incidents().open().is_none());
}

#[test]
fn a_taken_incident_that_nobody_can_heal_is_not_told_of_again() {
    let mut world = World::healthy();
    world.set(|e| _ = e.break_link(LinkState::Sync).log(LogKind::DumpWriteError, "Write error or short write", 2));
    world.wake(Why::Timer);
    assert_eq!(world.said(), ["opened"]);
    take(&mut world);
    world.advance(s(20_000));
    assert_eq!(world.said(), ["opened"]);
    world.crash();
    world.advance(s(20_000));
    assert_eq!(world.said(), ["opened"], "also after a restart");
}

#[test]
fn failures_in_a_row_on_all_instances_stop_the_whole_host_until_a_person_takes_one() {
    let mut world = World::healthy();
    let beside = |in_a_row| {
        let failures = crate::decide::Failures { in_a_row, last: "bounce-link on other: it did not come up".into() };
        Beside { failures, ..Beside::default() }
    };
    break_password(&mut world);
    world.agent.handle(Input::Beside(beside(5)), world.now);
    let mut seen = world.evidence.clone();
    seen.shift(world.now);
    world.agent.handle(Input::Wake(Wake { at: world.now, why: Why::Timer }), world.now);
    world.agent.handle(Input::Looked(Box::new(seen.clone())), world.now);
    seen.candidates = world.candidates.clone();
    seen.store = Reading::Seen(StoreView { at: world.now, source: "file".into(), offered: 1, silent_ms: None });
    world.agent.handle(Input::Looked(Box::new(seen)), world.now);
    let held = world.agent.status(world.now).held.unwrap();
    assert_eq!(held.code, RefusalCode::AttemptsExhausted);
    assert!(held.detail.contains("bounce-link on other") && held.detail.contains("relinkd ack"), "{}", held.detail);
    assert!(!world.agent.is_acting());
}

#[test]
fn the_row_of_failures_is_the_hosts_and_only_a_person_ends_it() {
    let entry = |replica: &str, what| {
        let link = LinkId { replica: replica.into(), group: "mymaster".into() };
        Entry { at: T0, link, incident: crate::model::incident::IncidentId("01J".into()), what }
    };
    let ended = |replica: &str, outcome| entry(replica, What::Ended { attempt: 1, outcome });
    let failed = || Outcome::Failed("no".into());
    let mut host = Host::default();
    host.take(&ended("a", failed()));
    host.take(&ended("b", Outcome::PreconditionGone("moved".into())));
    host.take(&ended("b", failed()));
    assert_eq!(host.failures().in_a_row, 2);
    host.take(&ended("c", Outcome::Changed("done".into())));
    host.take(&ended("a", failed()));
    assert_eq!(host.failures().in_a_row, 2, "what reached a limit stays there");
    host.take(&entry("c", What::Acknowledged { by: alice(), name: "bob".into() }));
    assert_eq!(host.failures().in_a_row, 0);
    host.take(&ended("a", failed()));
    assert_eq!(host.failures().in_a_row, 1, "and counts from nothing");
}

#[test]
fn the_hourly_limit_of_a_group_counts_every_instance_here() {
    let mut world = World::healthy();
    world.policy.max_per_hour = 3;
    world.restart();
    for replica in ["other", "third"] {
        for minute in 0..2 {
            let link = LinkId { replica: replica.into(), ..healthy().link };
            let plan = crate::model::remedy::Plan {
                remedy: Remedy::BounceLink,
                steps: Vec::new(),
                undo: Vec::new(),
                expected: Fact {
                    from: crate::model::finding::Viewpoint::Replica,
                    saw: String::new(),
                    at: T0,
                    means: String::new(),
                },
            };
            let at = world.now.after(s(60 * minute));
            let incident = crate::model::incident::IncidentId("01J".into());
            world.host.take(&Entry { at, link, incident, what: What::Intended { attempt: 1, plan } });
        }
    }
    break_password(&mut world);
    world.wake(Why::Start);
    world.advance(s(600));
    assert_eq!(world.recorded("held cooldown"), 1);
    assert!(world.applied.is_empty());
    world.advance(s(3600));
    assert_eq!(world.recorded("ended changed"), 1);
}

#[test]
fn a_pause_keeps_the_hands_off_and_the_eyes_open() {
    let mut world = World::healthy();
    let pauses = vec![pause(&world, s(600))];
    world.pauses_are(pauses);
    break_password(&mut world);
    world.wake(Why::Timer);
    world.advance(s(300));
    assert!(world.applied.is_empty());
    assert_eq!(world.said(), ["opened"], "it is told at once");
    let held = world.agent.status(world.now).held.unwrap();
    assert_eq!(held.code, RefusalCode::Paused);
    for part in ["alice", "everything on this host", "upgrade"] {
        assert!(held.detail.contains(part), "{}", held.detail);
    }
    assert_eq!(world.agent.status(world.now).paused.unwrap().owner, "alice");
    world.set(|_| {});
    world.advance(s(20));
    assert_eq!(world.said(), ["opened", "resolved"], "and so is its end");
}

#[test]
fn a_pause_of_others_holds_nothing_here() {
    let mut world = World::healthy();
    let of = |scope| Pause { scope, ..pause(&world, s(600)) };
    let pauses = vec![of(Scope::Group("other".into())), of(Scope::Replica("other".into()))];
    world.pauses_are(pauses);
    break_password(&mut world);
    world.wake(Why::Timer);
    assert_eq!(world.recorded("ended changed"), 1);
}

#[test]
fn nothing_fires_because_a_pause_ends() {
    for resumed in [false, true] {
        let mut world = World::healthy();
        let mut pauses = vec![pause(&world, s(600))];
        world.pauses_are(pauses.clone());
        break_password(&mut world);
        world.wake(Why::Timer);
        let over = if resumed {
            world.advance(s(100));
            pauses[0].resumed = Some((world.now, alice()));
            world.pauses_are(pauses.clone());
            world.now
        } else {
            let over = pauses[0].ends;
            world.advance(over.since(world.now));
            over
        };
        world.advance(s(29));
        assert!(world.applied.is_empty(), "{:?}", world.trace);
        assert_eq!(world.agent.status(world.now).held.unwrap().code, RefusalCode::TooEarly);
        world.crash();
        assert!(world.applied.is_empty(), "a restart is no way around it");
        world.advance(s(2));
        assert!(world.now.since(over) < s(33));
        assert_eq!(world.recorded("ended changed"), 1, "it has stood for long enough: {:?}", world.trace);
    }
}

#[test]
fn what_breaks_after_a_pause_is_healed_at_once() {
    let mut world = World::healthy();
    let pauses = vec![pause(&world, s(60))];
    world.pauses_are(pauses);
    world.advance(s(61));
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    assert_eq!(world.recorded("ended changed"), 1);
}

#[test]
fn a_yes_counts_after_a_pause_and_not_in_it() {
    let mut world = proposed();
    let pauses = vec![pause(&world, s(60))];
    world.pauses_are(pauses);
    approve(&mut world).unwrap();
    assert!(world.applied.is_empty());
    let why = open(&world).people.withdrawn.clone().unwrap();
    assert!(why.contains("paused"), "{why}");
    world.advance(s(95));
    assert_eq!(world.recorded("proposed"), 2, "proposed anew when it has stood on");
    approve(&mut world).unwrap();
    assert_eq!(world.recorded("ended changed"), 1);
}

/// The clock was two days ahead while people paused and resumed, and was put right.
#[test]
fn after_the_clock_was_set_back_a_pause_that_was_ended_stays_ended_and_another_holds_no_longer_than_was_asked_for() {
    let (now, ahead) = (T0, T0.after(s(172_800)));
    let owner = Actor { uid: 0, name: "root".into(), sudo: None };
    let set = |resumed| Pause {
        scope: Scope::Host,
        owner: owner.clone(),
        reason: "upgrade".into(),
        began: ahead,
        ends: ahead.after(s(600)),
        resumed,
    };
    let ended = set(Some((ahead.after(s(60)), owner.clone())));
    assert!(!ended.in_force(now) && !ended.clone().dated_at_most(now).in_force(now));
    let pause = set(None).dated_at_most(now);
    assert!(pause.in_force(now.after(s(599))) && !pause.in_force(now.after(s(600))));
}
