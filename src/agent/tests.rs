//! The agent in a small world that plays ledger, hands and servers: what it does, in which order, and what it tells.

use std::time::Duration;

use super::*;
use crate::diagnose::tests::world::*;
use crate::model::evidence::*;
use crate::model::incident::{Announcement, Phase, ResolvedBy};
use crate::model::remedy::RefusalCode;

mod asking;
mod crash;
mod driver;
mod flapping;
mod following;
mod healing;
mod people;
mod telling;
mod unwritten;

use driver::{World, proposing};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn a_quiet_world_falls_silent() {
    let mut world = World::healthy();
    world.advance(s(31));
    assert_eq!(world.looks, 2, "the first, and one at its moment of the background period");
    let at = world.looked_at;
    world.advance(s(300));
    assert!(world.ledger.is_empty());
    assert_eq!((world.looks, world.looked_at.since(at).as_secs()), (2 + 10, 300), "one in each background period");
}

/// Their first look is at once, and the next ones are spread over the period: a whole host's instances do not fall upon a
/// primary and its Sentinels together.
#[test]
fn a_hundred_instances_that_start_together_do_not_look_together_after_that() {
    let (start, period) = (T0, Policy::default().background);
    let mut seconds = [0; 30];
    for number in 0..100 {
        let link = LinkId { replica: format!("cache-{number}"), group: "mymaster".into() };
        let address = healthy().address;
        let identity = Identity { link, address, host: "db-21".into(), has_store: false, seed: number };
        let mut agent = Agent::new(identity, Policy::default(), start);
        agent.handle(Input::Wake(Wake { at: start, why: Why::Start }), start);
        let mut looks = Vec::new();
        let mut now = start;
        while let Some(Effect::Look { .. }) = agent.poll_effect() {
            looks.push(now);
            let mut seen = healthy();
            seen.shift(now);
            now = seen.ended;
            agent.handle(Input::Looked(Box::new(seen)), now);
            now = agent.poll_timeout().unwrap();
            if looks.len() < 5 {
                agent.handle_timeout(now);
            }
        }
        assert_eq!((looks[0], looks.len()), (start, 5));
        assert!(looks[1] > start && looks[1].since(start) <= period + ms(5), "{looks:?}");
        assert!(looks[2..].windows(2).all(|pair| pair[1].since(pair[0]) == period), "{looks:?}");
        seconds[(looks[2].since(start).as_secs() % 30) as usize] += 1;
    }
    assert!(seconds.iter().all(|looks| *looks <= 10), "{seconds:?}");
    assert!(seconds.iter().filter(|looks| **looks > 0).count() > 24, "{seconds:?}");
}

#[test]
fn wakes_while_looking_make_one_more_look() {
    let mut world = World::healthy();
    for _ in 0..100 {
        world.feed(Input::Wake(Wake { at: world.now, why: Why::Asked }));
    }
    world.settle();
    assert_eq!(world.looks, 1 + 2);
}

#[test]
fn a_look_that_does_not_come_back_is_told() {
    let mut world = World::healthy();
    world.agent.handle(Input::Wake(Wake { at: world.now, why: Why::Timer }), world.now);
    let status = |span: Duration| world.agent.status(world.now.after(span));
    assert_eq!(status(s(20)).overdue_ms, None);
    let overdue = status(s(21));
    assert_eq!((overdue.overdue_ms, overdue.looked_at), (Some(21_000), Some(world.looked_at)));
    assert!(overdue.sentence.starts_with("a look has been out for 21 s"), "{}", overdue.sentence);
}

#[test]
fn log_lines_wake_a_quiet_agent_and_leave_a_troubled_one_alone() {
    let mut world = World::healthy();
    world.wake(Why::Log);
    assert_eq!(world.looks, 2);
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    let looks = world.looks;
    for _ in 0..1000 {
        world.wake(Why::Log);
    }
    assert_eq!(world.looks, looks);
    world.set(|_| {});
    world.advance(s(1));
    assert!(world.agent.incidents().open().is_some(), "whole, and not yet over");
    let looks = world.looks;
    world.wake(Why::Log);
    assert_eq!(world.looks, looks);
}

/// It may tell of a link that breaks and is back, which only a deep look can explain.
#[test]
fn a_log_line_that_comes_too_soon_for_a_deep_look_gets_one_when_it_is_due() {
    let mut world = World::healthy();
    world.wake(Why::Log);
    assert_eq!(world.looks, 2, "at once, but not in depth");
    world.advance(s(1));
    assert_eq!(world.looks, 3);
    world.advance(s(20));
    assert!(world.looks <= 4, "one is enough, beside that of the period: {}", world.looks);
}

#[test]
fn what_is_only_suspected_is_looked_at_each_second_for_a_minute() {
    let mut world = World::healthy();
    world.set(|e| _ = e.refuse().silence(1).silence(2));
    world.wake(Why::Timer);
    world.advance(s(30));
    let looks = world.looks;
    world.advance(s(20));
    let soon = world.looks - looks;
    assert!((19..=22).contains(&soon), "{soon} looks");
    world.advance(s(20));
    let looks = world.looks;
    world.advance(s(20));
    let seldom = world.looks - looks;
    assert!((3..=5).contains(&seldom), "then as seldom as what stands: {seldom} looks");
}

#[test]
fn a_replica_that_was_started_anew_does_not_blame_the_backlog() {
    let behind = |world: &mut World, run_id: &str| {
        let run_id = run_id.to_owned();
        world.set(|e| {
            e.break_link(LinkState::Handshake);
            e.server().run_id = run_id;
            e.link().offset = 4000;
            (e.source().backlog_first, e.source().sync_partial_err) = (9000, 1);
        });
        world.wake(Why::Timer);
        world.agent.status(world.now).cause
    };

    assert_eq!(behind(&mut World::healthy(), "run-replica"), Some(Cause::BacklogTooSmall));
    assert_ne!(behind(&mut World::healthy(), "another"), Some(Cause::BacklogTooSmall), "it stands at its last save");
}

#[test]
fn a_fault_behind_a_link_that_is_up_is_not_healed_by_not_looking() {
    let mut world = World::healthy();
    world.set(|e| e.probe().connect = Connect::NameUnresolved("no such host".into()));
    world.advance(s(120));
    world.wake(Why::Replica(crate::model::event::Pulse::Absent));
    assert_eq!(world.incidents_opened(), 1);
    assert_eq!(world.recorded("link-up"), 0, "a look that does not go through the handshake cannot see it gone");
    assert_eq!(world.said(), ["opened"]);
}

#[test]
fn a_promotion_ends_the_incident_of_the_replica_that_it_was() {
    let mut world = World::healthy();
    world.candidates.clear();
    world.set(|e| _ = e.reject_password());
    world.wake(Why::Timer);
    world.set(|e| {
        e.server().role = Role::Primary;
        e.each_sentinel(|says| (says.primary, says.primary_run_id) = (at(REPLICA), "run-replica".into()));
    });
    world.advance(s(10));
    assert_eq!(world.said(), ["opened", "resolved"]);
    assert_eq!(world.agent.status(world.now).role, "primary");
}

/// A failover that somebody asked for is told from a primary that comes back by what came just before.
#[test]
fn only_a_primary_that_served_until_then_was_deposed_by_request() {
    let serving = || {
        let mut e = second_primary();
        let own = e.address.clone();
        let Address::Tcp(own) = own else { panic!("an address") };
        e.each_sentinel(|says| says.primary = own.clone());
        e
    };
    let later = |mut e: Evidence, seconds: u64| {
        e.ended = e.ended.after(Duration::from_secs(seconds));
        e
    };
    let handed_over = |before: Vec<Evidence>, now: Evidence| {
        let mut memory = super::memory::Memory::default();
        before.iter().for_each(|e| memory.before_judging(e));
        memory.before_judging(&now);
        memory.trend().handed_over.is_some()
    };
    assert!(handed_over(vec![serving()], later(second_primary(), 2)));
    assert!(!handed_over(vec![serving()], later(second_primary(), 6)), "nobody looked in between");
    assert!(!handed_over(Vec::new(), second_primary()), "relinkd has just started");
    let mut silent = later(serving(), 1);
    silent.local = Reading::Missing(Missing::TimedOut);
    assert!(!handed_over(vec![serving(), silent], later(second_primary(), 2)), "it hung");
    let mut held_down = later(serving(), 1);
    held_down.each_sentinel(|says| says.flags = flags(&["master", "s_down"]));
    assert!(!handed_over(vec![serving(), held_down], later(second_primary(), 2)));
    let mut anew = later(second_primary(), 2);
    anew.server().run_id = "another".into();
    assert!(!handed_over(vec![serving()], anew), "it was started anew");
}
