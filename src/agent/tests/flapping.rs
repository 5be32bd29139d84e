//! A link that drops again and again, and is back before anybody looks: one incident, told once, that ends when the link
//! is steady.

use super::super::flapping::Flapping;
use super::*;
use crate::model::event::Pulse;
use crate::model::finding::Flaps;

fn pulse(up: bool) -> Why {
    Why::Replica(Pulse::Replica { of: at(PRIMARY), up, quiet_s: 0 })
}

/// Felt by the poll alone: each look finds the link whole.
fn drops(world: &mut World, times: usize, every: Duration) {
    for _ in 0..times {
        world.advance(every - ms(20));
        world.feed(Input::Wake(Wake { at: world.now, why: pulse(false) }));
        world.advance(ms(20));
        world.wake(pulse(true));
    }
}

fn world() -> World {
    let mut world = World::healthy();
    world.wake(pulse(true));
    world
}

fn told(world: &World) -> Vec<(&'static str, Cause)> {
    world.notices.iter().map(|notice| (notice.event.name(), notice.incident.finding.cause)).collect()
}

#[test]
fn twenty_drops_in_a_minute_are_one_incident_whatever_the_cause() {
    let mut world = world();
    drops(&mut world, 20, s(3));
    assert_eq!((world.incidents_opened(), told(&world)), (1, vec![("opened", Cause::Unknown)]));
    let incident = &world.notices[0].incident;
    assert_eq!(incident.finding.flaps.map(|flaps| flaps.in_words()).as_deref(), Some("dropped 5 times in 12 s"));
    assert!(world.applied.is_empty());
    assert!(world.ledger.len() < 10, "each drop is no entry: {:?}", world.trace);
    world.advance(s(60));
    assert_eq!(told(&world).last(), Some(&("resolved", Cause::Unknown)));
    assert_eq!(world.incidents_opened(), 1);
    world.advance(s(600));
    assert_eq!(told(&world).len(), 2, "and it is silent");
}

#[test]
fn a_few_drops_and_drops_far_apart_are_blips() {
    let mut few = world();
    drops(&mut few, 4, s(1));
    few.advance(s(600));
    assert!(few.ledger.is_empty() && few.notices.is_empty(), "{:?}", few.trace);
    let mut seldom = world();
    drops(&mut seldom, 60, s(31));
    assert!(seldom.notices.is_empty(), "{:?}", seldom.trace);
}

#[test]
fn it_is_over_when_the_link_was_whole_for_longer_than_between_two_drops() {
    let mut world = world();
    drops(&mut world, 6, s(20));
    let steady = world.now;
    let over = |world: &World| world.recorded("resolved") == 1;
    world.advance(s(50));
    assert!(!over(&world), "three times 20 s, and settle");
    world.advance(s(30));
    assert!(over(&world), "{:?} after {steady:?}", world.trace);
}

#[test]
fn it_goes_on_over_a_restart() {
    let mut world = world();
    drops(&mut world, 6, s(3));
    world.crash();
    world.advance(s(6));
    assert_eq!(world.recorded("resolved"), 0, "nobody has seen it steady");
    drops(&mut world, 6, s(3));
    assert_eq!((world.incidents_opened(), told(&world).len()), (1, 1));
    world.advance(s(60));
    assert_eq!(world.recorded("resolved"), 1);
}

#[test]
fn blips_of_before_a_restart_count() {
    let mut world = world();
    let blip = |world: &mut World| {
        world.set(|e| _ = e.break_link(LinkState::Connect));
        world.wake(pulse(false));
        world.advance(ms(150));
        world.set(|_| {});
        world.wake(pulse(true));
        world.advance(s(4));
    };
    (0..3).for_each(|_| blip(&mut world));
    assert_eq!((world.recorded("blip"), world.incidents_opened()), (3, 0), "{:?}", world.trace);
    world.crash();
    world.wake(pulse(true));
    (0..2).for_each(|_| blip(&mut world));
    assert_eq!(told(&world), [("opened", Cause::Unknown)], "{:?}", world.trace);
}

#[test]
fn drops_with_another_primary_between_them_are_no_flapping() {
    let mut world = world();
    for round in 0..4 {
        drops(&mut world, 2, s(2));
        world.set(|e| {
            e.link().primary = at(if round % 2 == 0 { OTHER } else { PRIMARY });
            e.each_sentinel(|says| says.primary = at(if round % 2 == 0 { OTHER } else { PRIMARY }));
        });
        world.wake(Why::Timer);
    }
    assert!(world.notices.is_empty(), "{:?}", world.trace);
}

#[test]
fn a_break_that_lasts_is_judged_and_healed_for_itself() {
    let mut world = world();
    drops(&mut world, 6, s(3));
    world.set(|e| _ = e.reject_password());
    world.wake(pulse(false));
    assert!(world.trace.contains(&"apply realign".to_owned()), "{:?}", world.trace);
    assert_eq!(world.incidents_opened(), 1);
}

#[test]
fn cuts_that_have_a_name_give_it_to_the_incident() {
    let mut world = world();
    for _ in 0..7 {
        world.set(|e| {
            e.break_link(LinkState::Connect);
            let full = error("ERR max number of clients reached");
            e.upstream = Reading::Seen(Probe { ping: full, ..blank(PRIMARY) });
            e.primary = Reading::Missing(Missing::Unreachable("max number of clients reached".into()));
            e.primary_limits = Reading::Missing(Missing::NotAsked);
        });
        world.wake(pulse(false));
        world.advance(ms(200));
        world.set(|_| {});
        world.wake(pulse(true));
        world.advance(s(2));
    }
    assert_eq!(world.incidents_opened(), 1, "{:?}", world.trace);
    let open = world.agent.incidents().open().unwrap();
    assert_eq!(open.finding.cause, Cause::ConnectionsExhausted, "{:?}", world.trace);
    assert!(open.finding.flaps.is_some() && world.applied.is_empty());
    let flaps = open.finding.flaps.unwrap();
    assert!(flaps.calm() < Flaps::WINDOW);
    assert!(world.ledger.len() < 30, "{:?}", world.trace);
}

#[test]
fn a_clock_that_is_set_back_does_not_make_it_flap_for_ever() {
    let mut world = world();
    drops(&mut world, 6, s(3));
    world.now = world.now.before(s(3_600));
    world.wake(Why::Timer);
    world.advance(s(60));
    assert_eq!(world.recorded("resolved"), 1, "{:?}", world.trace);
}

/// Another replica that crashes and resumes, a tool that follows the stream: nobody of them has to be there at a look.
#[test]
fn what_the_primary_resumes_for_somebody_else_is_no_drop_of_ours() {
    let flaps = |bend: &dyn Fn(&mut Evidence)| {
        let mut flapping = Flapping::default();
        let looks = [(0, 1), (30, 16)].map(|(at_s, resumed)| {
            let mut e = healthy();
            e.shift(T0.after(s(at_s)));
            (e.server().at, e.source().at, e.source().sync_partial_ok) = (e.began, e.began, resumed);
            bend(&mut e);
            flapping.looked(&e).map(|drops| drops.flaps.drops)
        });
        looks[1]
    };
    let unread = |e: &mut Evidence| e.log = Reading::Missing(Missing::NotAsked);
    let stood = |age_s: u64| {
        flaps(&move |e: &mut Evidence| {
            unread(e);
            e.limits().replica_age_s = Some(age_s);
        })
    };
    assert_eq!(flaps(&|_| {}), None, "our own log tells of no drop");
    assert_eq!(flaps(&unread), Some(15), "nobody knows better");
    assert_eq!((stood(30), stood(29)), (None, Some(15)), "our connection has stood since the look before");
    let passed_over = |e: &mut Evidence| seen(&mut e.log).skipped = true;
    assert_eq!(flaps(&passed_over), Some(15));
    let another = |e: &mut Evidence| {
        unread(e);
        e.source().replicas.push(listed(OTHER, "online"));
    };
    assert_eq!(flaps(&another), None, "any of the two");
}

/// `loglevel warning`, or a log file that nobody writes to any more.
#[test]
fn a_log_that_tells_nothing_does_not_silence_the_primary() {
    let flaps = |age_s: Option<u64>| {
        let mut flapping = Flapping::default();
        let looks = (0..6).map(|look| {
            let mut e = healthy();
            e.shift(T0.after(s(look * 5)));
            (e.server().at, e.source().at, e.source().sync_partial_ok) = (e.began, e.began, look * 3);
            e.limits().replica_age_s = age_s;
            flapping.looked(&e).map(|drops| drops.flaps.drops)
        });
        looks.last().flatten()
    };
    assert_eq!(flaps(Some(1)), Some(5), "our connection was young at each look: one drop each, and not three");
    assert_eq!(flaps(Some(3_600)), None, "somebody else's");
    assert_eq!(flaps(None), None, "nobody knows whose");
}
