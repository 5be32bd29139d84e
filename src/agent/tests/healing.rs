//! From a break to the proof, and back again where the proof fails.

use super::*;
use crate::model::remedy::Change;

pub fn break_password(world: &mut World) {
    world.advance(s(10));
    world.trace.clear();
    world.set(|e| _ = e.reject_password());
}

fn failed() -> Outcome {
    Outcome::Failed("the link did not come up within 5000 ms".into())
}

fn done() -> Outcome {
    Outcome::Changed("done".into())
}

#[test]
fn a_password_break_is_healed_in_this_order() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.wake(Why::Timer);
    let expected = [
        "look",
        "opened auth-rejected",
        "look with candidates",
        "intended 1",
        "apply realign",
        "finished changed",
        "apply prove",
        "finished changed",
        "link-up",
        "apply persist",
        "finished changed",
        "ended changed",
        "told opened",
        "look",
    ];
    assert_eq!(world.trace, expected);
    let told = &world.notices[0].incident;
    assert_eq!((told.actions.len(), told.phase, told.finding.cause), (3, Phase::Verifying, Cause::AuthRejected));
    world.advance(ms(2_900));
    assert_eq!(world.said(), ["opened"], "not yet whole for the settle time");
    world.advance(ms(200));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!(world.notices[1].incident.resolved_by, Some(ResolvedBy::Relinkd));
    assert!(world.notices[1].next_steps.is_empty());
    assert!(world.agent.incidents().open().is_none());
}

#[test]
fn a_change_that_is_not_proved_is_taken_back_and_a_person_is_called_once() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.futile = true;
    world.wake(Why::Timer);
    let realigned: Vec<&str> =
        world.trace.iter().map(String::as_str).filter(|word| word.starts_with("apply")).collect();
    assert_eq!(realigned, ["apply realign", "apply prove", "apply restore"]);
    assert_eq!(world.said(), ["escalated"]);
    assert!(world.notices[0].incident.escalation.as_deref().is_some_and(|why| why.ends_with("it was taken back")));
    world.advance(s(150));
    assert_eq!(world.recorded("intended"), 5, "attempts are bounded");
    assert_eq!(world.recorded("held attempts-exhausted"), 1);
    assert_eq!(world.said(), ["escalated"], "and nobody is called twice");
    world.set(|_| {});
    world.advance(s(20));
    assert_eq!(world.said(), ["escalated", "resolved"]);
    assert_eq!(world.notices[1].incident.resolved_by, Some(ResolvedBy::Others), "what was taken back did not heal it");
}

#[test]
fn what_the_hands_refuse_costs_no_attempt_and_a_person_is_called_when_it_never_ends() {
    let gone = || Outcome::PreconditionGone("only 1 of 3 Sentinels answer now".into());
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend(std::iter::repeat_with(gone).take(9));
    world.wake(Why::Timer);
    world.advance(s(150));
    assert_eq!((world.recorded("ended precondition-gone"), world.recorded("resolved Relinkd")), (9, 1));
    assert_eq!(world.recorded("escalated"), 0);

    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend(std::iter::repeat_with(gone).take(30));
    world.wake(Why::Timer);
    world.advance(s(400));
    assert_eq!((world.recorded("intended"), world.recorded("held attempts-exhausted")), (20, 1));
    assert_eq!(world.said(), ["opened", "escalated"]);
    world.crash();
    world.advance(s(60));
    assert_eq!(world.recorded("intended"), 20, "over a restart too");
}

#[test]
fn a_password_that_is_taken_stays_when_the_next_fault_keeps_the_link_down() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend([done(), failed()]);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.set(|e| {
        let line = "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA: short write";
        e.break_link(LinkState::Connect).log(LogKind::DumpWriteError, line, 9);
    });
    world.trace.clear();
    world.settle();
    let expected = [
        "apply realign",
        "finished changed",
        "apply prove",
        "finished failed",
        "look",
        "apply persist",
        "finished changed",
        "ended under-way",
        "told opened",
        "look",
        "diagnosed replica-disk-full",
        "held no-safe-remedy",
        "told updated",
    ];
    assert_eq!(world.trace, expected);
    assert_eq!(world.notices[1].incident.causes, [Cause::AuthRejected, Cause::ReplicaDiskFull]);
    world.advance(s(60));
    assert_eq!((world.recorded("intended"), world.recorded("escalated")), (1, 0));
    world.set(|_| {});
    world.advance(s(20));
    assert_eq!(world.said(), ["opened", "updated", "resolved"]);
    assert_eq!(world.incidents_opened(), 1);
}

#[test]
fn what_could_not_be_taken_back_is_not_told_as_taken_back() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend([done(), failed(), Outcome::Failed("the former password is not known any more".into())]);
    world.wake(Why::Timer);
    let why = world.notices[0].incident.escalation.clone().unwrap();
    assert!(why.ends_with("it was not taken back: the former password is not known any more"), "{why}");
}

#[test]
fn a_plan_whose_world_has_moved_changes_nothing_and_is_no_message() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.push_back(Outcome::PreconditionGone("the link is up again".into()));
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.set(|_| {});
    world.settle();
    world.advance(s(10));
    assert_eq!(world.applied.len(), 1);
    assert_eq!(world.recorded("ended precondition-gone"), 1);
    assert!(world.said().is_empty(), "a break that healed by itself within a blip");
    assert_eq!(world.recorded("resolved Others"), 1);
}

#[test]
fn a_change_that_cannot_be_persisted_is_told_and_not_undone() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend([done(), done(), Outcome::Failed("CONFIG REWRITE: Permission denied".into())]);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.step();
    world.set(|_| {});
    world.settle();
    world.advance(s(10));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!(world.recorded("ended changed"), 1);
    assert!(world.notices[0].incident.actions.iter().any(|action| action.outcome.code() == "failed"));
    assert!(!world.applied.iter().any(|(_, change)| matches!(change, Change::RestoreAuth { .. })));
}

#[test]
fn a_full_resync_that_runs_is_not_told_as_a_link_that_is_up() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend([done(), Outcome::UnderWay("a full resync is running".into()), done()]);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.step();
    world.set(|e| {
        e.break_link(LinkState::Sync);
        e.link().syncing = true;
    });
    world.settle();
    assert_eq!(world.recorded("ended under-way"), 1);
    assert_eq!(world.recorded("link-up"), 0);
    assert_eq!(world.recorded("diagnosed sync-running"), 0, "it heals, and keeps the name of what broke it");
    for read in 1..60 {
        world.evidence.link().sync_read = read * 1000;
        world.advance(s(10));
    }
    assert_eq!(world.said(), ["opened"], "a sync that makes progress is never told");
    assert_eq!(world.recorded("diagnosed sync-running"), 1, "longer than patience");
    world.set(|_| {});
    world.advance(s(15));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!(world.notices[1].incident.resolved_by, Some(ResolvedBy::Relinkd));
}

#[test]
fn two_causes_in_a_row_are_one_incident_and_each_is_healed() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.script.extend([done(), failed()]);
    world.script.push_back(done());
    world.script.push_back(done());
    world.wake(Why::Timer);
    world.script.clear();
    world.set(|e| {
        e.break_link(LinkState::Connecting).stood(s(5));
    });
    world.advance(s(30));
    assert_eq!(world.incidents_opened(), 1);
    assert_eq!(world.recorded("diagnosed network-cut"), 1);
    assert!(world.applied.iter().any(|(attempt, change)| *attempt == 2 && matches!(change, Change::BounceLink { .. })));
    assert_eq!(world.recorded("resolved Relinkd"), 1);
}

#[test]
fn a_link_that_flaps_is_one_incident_until_it_is_whole_for_the_settle_time() {
    let mut world = World::healthy();
    world.candidates.clear();
    for _ in 0..5 {
        world.set(|e| _ = e.reject_password());
        world.wake(Why::Timer);
        world.advance(ms(1_500));
        world.set(|_| {});
        world.wake(Why::Timer);
        world.advance(ms(2_000));
    }
    assert_eq!(world.incidents_opened(), 1);
    assert_eq!(world.recorded("link-down"), 4);
    assert_eq!(world.said(), ["opened"]);
    world.advance(s(5));
    assert_eq!(world.said(), ["opened", "resolved"]);
}

#[test]
fn a_break_within_the_settle_time_is_judged_anew() {
    let mut world = World::healthy();
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.advance(s(60));
    world.set(|_| {});
    world.wake(Why::Timer);
    world.advance(s(1));
    world.set(|e| _ = e.refuse());
    world.wake(Why::Timer);
    assert_eq!(world.recorded("diagnosed network-rejected"), 0, "the Sentinels have had no time to notice");
    world.advance(s(5));
    assert_eq!(world.recorded("diagnosed"), 0);
    world.advance(s(10));
    assert_eq!(world.recorded("diagnosed network-rejected"), 1, "now they have");
}

#[test]
fn after_a_failed_attempt_the_next_waits_for_the_cooldown() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.futile = true;
    world.wake(Why::Timer);
    world.advance(s(9));
    assert_eq!(world.recorded("intended"), 1);
    assert_eq!(world.recorded("held cooldown"), 1);
    world.advance(s(6));
    assert_eq!(world.recorded("intended"), 2);
}

#[test]
fn a_store_that_is_configured_and_never_asked_makes_no_endless_looking() {
    let mut world = World::healthy();
    world.advance(s(10));
    let mut seen = healthy();
    seen.reject_password().shift(world.now);
    for _ in 0..3 {
        world.agent.handle(Input::Wake(Wake { at: world.now, why: Why::Timer }), world.now);
        world.agent.handle(Input::Looked(Box::new(seen.clone())), world.now);
        world.agent.handle(Input::Looked(Box::new(seen.clone())), world.now);
    }
    assert!(!world.agent.is_looking());
    let held = world.agent.status(world.now).held.unwrap();
    assert_eq!(held.code, RefusalCode::SecretUnavailable);
}

#[test]
fn while_stopping_nothing_new_is_begun_and_what_runs_is_finished() {
    let mut world = World::healthy();
    break_password(&mut world);
    world.feed(Input::Wake(Wake { at: world.now, why: Why::Timer }));
    world.run_until(|effect| matches!(effect, Effect::Apply { .. }));
    world.feed(Input::Stopping);
    world.settle();
    assert_eq!(world.recorded("ended changed"), 1, "proved and persisted");
    let mut other = World::healthy();
    other.feed(Input::Stopping);
    break_password(&mut other);
    other.wake(Why::Timer);
    assert!(other.applied.is_empty());
    assert_eq!(other.recorded("held stopping"), 1);
}

/// What was broken is mended from outside, and the replica syncs anew: that is the end of this fault, not another.
#[test]
fn a_state_that_passes_on_the_way_back_does_not_take_an_incident_over() {
    let mut world = World::healthy();
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    for passing in [LinkState::Sync, LinkState::Handshake] {
        world.set(|e| {
            e.break_link(passing);
            e.link().syncing = true;
        });
        world.advance(s(5));
    }
    world.set(|_| {});
    world.advance(s(15));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!(world.notices[1].incident.finding.cause, Cause::AuthRejected);

    world.set(|e| _ = e.refuse().stood(s(1)));
    world.wake(Why::Timer);
    world.advance(s(2));
    assert_eq!(world.incidents_opened(), 2, "a primary that is suspected to be down");
    world.set(|e| e.server().loading = true);
    world.wake(Why::Timer);
    assert_eq!(world.recorded("diagnosed replica-loading"), 1, "what is known takes the place of a suspicion");
}

fn disk_full(e: &mut Evidence) {
    let line = "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA: short write";
    e.break_link(LinkState::Connect).log(LogKind::DumpWriteError, line, 9);
}

fn save_failing(e: &mut Evidence) {
    e.server().rdb_last_save_ok = false;
}

#[test]
fn each_cause_has_its_own_reason_to_hold() {
    let mut world = World::healthy();
    world.set(disk_full);
    world.wake(Why::Timer);
    world.advance(s(10));
    world.set(|e| {
        let line = "Failed trying to load the MASTER synchronization DB from disk: Can't handle RDB format version 11";
        e.break_link(LinkState::Connect).log(LogKind::RdbVersion, line, 9);
    });
    world.wake(Why::Timer);
    world.advance(s(10));
    let held: Vec<String> = world
        .ledger
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Held { refusal } => Some(refusal.detail.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(world.recorded("held no-safe-remedy"), 2, "{:?}", world.trace);
    assert_ne!(held.first(), held.last());
}

#[test]
fn a_link_that_comes_back_while_something_else_is_wrong_is_dated_by_its_return() {
    let mut world = World::healthy();
    world.set(disk_full);
    world.wake(Why::Timer);
    world.advance(s(60));
    world.set(save_failing);
    world.wake(Why::Timer);
    let back = world.now;
    world.advance(s(7_200));
    assert_eq!(world.recorded("link-up"), 1, "{:?}", world.trace);
    world.set(|_| {});
    world.advance(s(60));
    let resolved = world.notices.last().map(|notice| notice.incident.clone()).unwrap();
    assert_eq!(resolved.resolved_by, Some(ResolvedBy::Others));
    let up = resolved.up_at.unwrap();
    assert!(up <= back && back.since(up) < s(1), "{up} and {back}");
}

fn incompatible(e: &mut Evidence) {
    let line = "Failed trying to load the MASTER synchronization DB from disk: Can't handle RDB format version 11";
    e.break_link(LinkState::Connect).log(LogKind::RdbVersion, line, 9);
}

#[test]
fn a_cause_that_came_and_went_is_written_once_it_has_stood() {
    let mut world = World::healthy();
    for _ in 0..10 {
        world.set(incompatible);
        world.wake(Why::Timer);
        world.advance(s(1));
        world.set(disk_full);
        world.wake(Why::Timer);
        world.advance(s(1));
    }
    let named = |world: &World| world.agent.incidents.open().map(|incident| incident.finding.cause);
    world.set(incompatible);
    world.wake(Why::Timer);
    world.advance(s(150));
    assert_eq!(world.agent.status(world.now).cause, Some(Cause::RdbIncompatible));
    let written = world.recorded("diagnosed");
    world.advance(s(60));
    assert_eq!(named(&world), Some(Cause::RdbIncompatible), "{:?}", world.trace);
    assert!(world.recorded("diagnosed") <= written + 1);
}

#[test]
fn causes_that_alternate_are_written_a_few_times_and_shown_as_they_are() {
    let mut world = World::healthy();
    world.set(disk_full);
    world.wake(Why::Timer);
    world.advance(s(10));
    let before = world.ledger.len();
    for _ in 0..300 {
        world.set(incompatible);
        world.wake(Why::Timer);
        let shown = world.agent.status(world.now).cause;
        assert_eq!(shown, Some(Cause::RdbIncompatible), "{:?}", world.trace);
        world.advance(s(1));
        world.set(disk_full);
        world.wake(Why::Timer);
        assert_eq!(world.agent.status(world.now).cause, Some(Cause::ReplicaDiskFull));
        world.advance(s(1));
    }
    let written = world.ledger.len() - before;
    assert!(written < 40, "{written} entries in ten minutes");
    assert_eq!(world.incidents_opened(), 1);
}
