//! When a message is sent, and when none is.

use super::*;
use crate::decide::Mode;

/// A fault that has no remedy and stands at once.
fn disk_full(e: &mut Evidence) {
    e.break_link(LinkState::Sync).log(LogKind::DumpWriteError, "Write error or short write: short write", 2);
}

fn syncing(e: &mut Evidence) {
    e.break_link(LinkState::Sync);
    e.link().syncing = true;
}

#[test]
fn a_suspicion_that_heals_within_a_blip_is_counted_and_not_told() {
    let mut world = World::healthy();
    world.set(|e| _ = e.refuse());
    world.wake(Why::Timer);
    world.advance(ms(900));
    world.set(|_| {});
    world.wake(Why::Timer);
    world.advance(s(60));
    assert_eq!(world.trace.iter().filter(|word| !word.starts_with("look")).collect::<Vec<_>>(), ["blip primary-down"]);
    let What::Blip { down_ms, .. } = world.ledger[0].what else { panic!() };
    assert!((900..1000).contains(&down_ms), "{down_ms}");
    world.advance(s(60));
    assert_eq!(world.ledger.len(), 1, "once");
}

#[test]
fn a_suspicion_is_told_when_it_outlasts_a_blip_and_says_that_it_is_one() {
    let mut world = World::healthy();
    world.set(|e| _ = e.refuse());
    world.wake(Why::Timer);
    world.advance(ms(950));
    assert!(world.said().is_empty());
    world.advance(ms(100));
    assert_eq!(world.said(), ["opened"]);
    assert!(world.notices[0].incident.finding.suspected);
    world.advance(s(20));
    assert_eq!(world.said(), ["opened", "updated"], "it turned out to be the network");
    assert_eq!(world.notices[1].incident.finding.cause, Cause::NetworkRejected);
}

#[test]
fn a_fault_that_nobody_here_can_heal_is_told_at_once() {
    let mut world = World::healthy();
    world.set(disk_full);
    world.wake(Why::Timer);
    assert_eq!(world.said(), ["opened"]);
    assert!(!world.notices[0].next_steps.is_empty());
    assert_eq!(world.notices[0].incident.held[0].code, RefusalCode::NoSafeRemedy);
}

#[test]
fn a_fault_that_only_waits_for_its_moment_is_told_after_a_blip() {
    let mut world = World::healthy();
    world.set(|e| {
        e.each_sentinel(|says| says.primary = at(OTHER));
        e.named = Reading::Seen(green(OTHER));
        e.break_link(LinkState::Connect);
    });
    world.wake(Why::Timer);
    assert_eq!(world.recorded("held too-early"), 1);
    assert!(world.said().is_empty());
    world.advance(ms(1_100));
    assert_eq!(world.said(), ["opened"]);
}

#[test]
fn a_passing_state_below_patience_is_a_blip_and_above_it_a_message() {
    let mut world = World::healthy();
    world.set(syncing);
    world.wake(Why::Timer);
    world.advance(s(29));
    world.set(|_| {});
    world.wake(Why::Timer);
    assert_eq!(world.recorded("blip sync-running"), 1);
    assert_eq!(world.incidents_opened(), 0);

    world.set(syncing);
    world.wake(Why::Timer);
    world.advance(s(29));
    assert_eq!(world.incidents_opened(), 0);
    world.advance(s(2));
    assert_eq!(world.said(), ["opened"]);
}

#[test]
fn a_sync_that_makes_progress_is_never_told_and_one_that_stops_is() {
    let mut world = World::healthy();
    world.set(syncing);
    for read in 1..100 {
        world.evidence.link().sync_read = read;
        world.advance(s(10));
    }
    assert!(world.ledger.is_empty());
    world.advance(s(40));
    assert_eq!(world.said(), ["opened"]);
}

#[test]
fn a_sync_that_is_loaded_from_the_line_is_never_told_either_nor_one_name_that_came_late() {
    let mut world = World::healthy();
    world.set(syncing);
    world.wake(Why::Timer);
    for loaded in 1..20 {
        (world.evidence.server().loading_bytes, world.evidence.server().loading) =
            (Some(loaded << 20), loaded % 2 == 0);
        world.advance(s(10));
        // Between two pieces it answers nobody.
        world.evidence.local = Reading::Missing(Missing::TimedOut);
        world.advance(s(8));
        world.set(syncing);
    }
    assert!(world.ledger.is_empty(), "{:?}", world.trace);

    let mut world = World::healthy();
    world.set(|e| e.probe().connect = Connect::NameUnresolved("the resolver gives no answer in time".into()));
    world.wake(Why::Timer);
    world.advance(s(3));
    world.set(|_| {});
    world.advance(s(60));
    assert_eq!((world.incidents_opened(), world.said().len()), (0, 0));
}

/// Nobody reads a log, the primary tells nothing, and one circle takes four minutes: each look finds more bytes than the
/// one before.
#[test]
fn a_sync_that_begins_again_and_again_is_told_though_it_moves_at_every_look() {
    let mut world = World::healthy();
    let bare = |e: &mut Evidence| {
        syncing(e);
        e.log = Reading::Missing(Missing::NotAsked);
        (e.primary, e.primary_limits) = (Reading::Missing(Missing::NotAsked), Reading::Missing(Missing::NotAsked));
    };
    world.set(bare);
    world.wake(Why::Timer);
    for attempt in 1..=4 {
        for read in 1..=24 {
            world.evidence.link().sync_read = read << 30;
            world.advance(s(10));
        }
        assert_eq!(world.said().len(), usize::from(attempt > 2), "{attempt}: {:?}", world.trace.last());
    }
    let told = &world.notices[0].incident.finding;
    assert_eq!(told.cause, Cause::Unknown);
    assert!(told.because[0].saw.contains("the sync has begun 3 times"), "{told:?}");
    assert_eq!(world.said(), ["opened"]);
}

/// A login that is let in and refused at each PSYNC: a look meets a try that carries nothing, or the time between two.
#[test]
fn a_link_that_stays_down_under_no_name_is_told_though_tries_of_a_sync_come_between() {
    let tried = |moving: u64| {
        let mut world = World::healthy();
        world.candidates.clear();
        world.set(|e| _ = e.reject_password());
        world.wake(Why::Timer);
        assert_eq!(world.said(), ["opened"]);
        for turn in 0..20 {
            world.set(syncing);
            world.evidence.link().sync_read = turn * moving;
            world.advance(s(2));
            world.set(|e| _ = e.break_link(LinkState::Connect));
            world.advance(s(2));
        }
        world
    };
    let world = tried(0);
    assert_eq!(world.said(), ["opened", "updated"]);
    assert_eq!(world.notices[1].incident.finding.cause, Cause::Unknown);
    assert_eq!(tried(1_000).said(), ["opened"], "a sync that moves is on its way");
}

#[test]
fn a_local_server_that_restarts_within_patience_is_no_incident() {
    let mut world = World::healthy();
    world.set(|e| e.local = Reading::Missing(Missing::Refused("connection refused".into())));
    world.wake(Why::Timer);
    world.advance(s(15));
    world.set(|e| e.server().loading = true);
    world.advance(s(10));
    world.set(|_| {});
    world.advance(s(10));
    assert_eq!(world.incidents_opened(), 0);
    assert!(world.said().is_empty());
}

#[test]
fn a_reminder_comes_once_in_its_time_while_someone_is_needed() {
    let mut world = World::healthy();
    world.set(disk_full);
    world.wake(Why::Timer);
    world.advance(s(3_500));
    assert_eq!(world.said(), ["opened"]);
    world.advance(s(200));
    assert_eq!(world.said(), ["opened", "updated"]);
    world.advance(s(2 * 3_600));
    assert_eq!(world.said(), ["opened", "updated", "updated", "updated"]);
}

#[test]
fn a_reading_that_stays_missing_is_reminded_of_too() {
    let mut world = World::healthy();
    world.candidates[0].proof = Probe { connect: Connect::TimedOut, ..blank(PRIMARY) };
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.advance(s(3_700));
    assert_eq!(world.recorded("held evidence-missing"), 1);
    assert_eq!(world.said(), ["opened", "updated"]);
}

#[test]
fn a_new_cause_is_told_once_and_two_that_alternate_make_no_stream() {
    let mut world = World::healthy();
    world.candidates.clear();
    for _ in 0..50 {
        world.set(|e| _ = e.reject_password());
        world.advance(s(6));
        world.set(disk_full);
        world.advance(s(6));
    }
    assert!(world.recorded("diagnosed") > 4);
    assert_eq!(world.said(), ["opened", "updated"]);
}

#[test]
fn a_hold_is_recorded_when_its_reason_changes_and_not_with_every_look() {
    let mut world = World::healthy();
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.advance(s(120));
    assert_eq!(world.recorded("held"), 1);
    world.evidence.silence(0).silence(1);
    world.advance(s(60));
    assert_eq!(world.recorded("held"), 2);
    assert_eq!(world.recorded("held quorum-unclear"), 1);
}

#[test]
fn a_proposal_is_told_once_and_never_applied() {
    let mut world = World::with(proposing());
    world.set(|e| _ = e.refuse().told_down());
    world.wake(Why::Timer);
    world.advance(s(120));
    assert_eq!(world.recorded("proposed"), 1);
    assert_eq!(world.recorded("held approval-needed"), 1);
    assert_eq!(world.said(), ["opened", "proposed"]);
    let plan = world.notices[1].incident.proposal.as_ref().unwrap();
    assert_eq!(plan.remedy, Remedy::RequestFailover);
    assert!(world.applied.is_empty());
    world.set(|_| {});
    world.advance(s(10));
    assert_eq!(world.said(), ["opened", "proposed", "resolved"]);
}

#[test]
fn in_observe_mode_it_says_what_it_would_do_and_touches_nothing() {
    let mut policy = Policy::default();
    policy.remedies.values_mut().for_each(|remedy| remedy.mode = Mode::Observe);
    let mut world = World::with(policy);
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.advance(s(120));
    assert!(world.applied.is_empty());
    assert_eq!(world.said(), ["opened"]);
    assert!(world.notices[0].incident.held[0].detail.contains("it would set masterauth"));
}

#[test]
fn the_moments_between_a_fix_and_the_link_change_no_verdict_and_what_lasts_does() {
    let mut world = World::healthy();
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.set(|e| _ = e.break_link(LinkState::Connect));
    world.advance(s(20));
    assert_eq!(world.recorded("diagnosed"), 0);
    world.advance(s(20));
    assert_eq!(world.recorded("diagnosed unknown"), 1, "the password is not what breaks it any more");
    assert_eq!(world.said(), ["opened", "updated"]);
}

#[test]
fn what_cannot_be_named_is_told_after_a_blip_with_what_is_missing() {
    let mut world = World::healthy();
    world.set(|e| {
        e.break_link(LinkState::Connect);
        e.settings = Reading::Missing(Missing::Denied("NOPERM".into()));
        e.upstream = Reading::Seen(blank(PRIMARY));
    });
    world.wake(Why::Timer);
    world.advance(ms(900));
    assert_eq!(world.incidents_opened(), 0);
    world.advance(s(1));
    assert_eq!(world.said(), ["opened"]);
    assert_eq!(world.notices[0].incident.finding.cause, Cause::Unknown);
}

/// On a busy machine one look took over a second, and unknown was on record before the replica had tried again.
#[test]
fn a_replica_with_nothing_in_its_way_is_given_a_few_attempts_before_the_cause_reads_unknown() {
    let mut world = World::healthy();
    world.set(|e| _ = e.break_link(LinkState::Connect).stood(s(2)));
    world.wake(Why::Timer);
    world.advance(ms(4_500));
    assert_eq!(world.incidents_opened(), 0);
    world.advance(s(2));
    assert_eq!(world.said(), ["opened"]);
    assert_eq!(world.notices[0].incident.finding.cause, Cause::Unknown);
}
