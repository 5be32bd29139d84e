//! A seeded walk through random days: faults, outcomes, a ledger that fails, crashes at any effect. The world itself
//! asserts that no change comes before its durable intent, and that messages are numbered without a gap.

use std::collections::BTreeMap;

use super::driver::name;
use super::*;
use crate::model::incident::IncidentId;
use crate::model::people::{Actor, Scope};

/// splitmix64: the same seed gives the same walk.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn weather(world: &mut World, dice: &mut Dice) {
    let bends: [fn(&mut Evidence); 14] = [
        |_| {},
        |_| {},
        |_| {},
        |e| _ = e.reject_password(),
        |e| _ = e.reject_password(),
        |e| _ = e.refuse(),
        |e| _ = e.refuse().told_down(),
        |e| _ = e.break_link(LinkState::Connecting),
        |e| _ = e.break_link(LinkState::Connect),
        |e| e.probe().connect = Connect::NameUnresolved("no such host".into()),
        |e| e.break_link(LinkState::Sync).link().syncing = true,
        |e| e.local = Reading::Missing(Missing::TimedOut),
        |e| e.sentinel(0).failover_state = Some("wait_promotion".into()),
        |e| {
            e.each_sentinel(|says| says.primary = at(OTHER));
            e.named = Reading::Seen(green(OTHER));
        },
    ];
    let bend = bends[usize::try_from(dice.roll(14)).unwrap()];
    world.set(bend);
    if dice.roll(5) == 0 {
        world.evidence.silence(1);
    }
    if dice.roll(8) == 0 {
        world.evidence.silence(2);
    }
}

fn outcome(dice: &mut Dice) -> Outcome {
    match dice.roll(8) {
        0..4 => Outcome::Changed("done".into()),
        4 => Outcome::UnderWay("a full resync runs".into()),
        5 => Outcome::AlreadySo("so it is".into()),
        6 => Outcome::PreconditionGone("it has moved".into()),
        _ => Outcome::Failed("no".into()),
    }
}

/// Somebody answers, whatever it is that they answer.
fn answer(world: &mut World, dice: &mut Dice) {
    let by = Actor { uid: 0, name: "root".into(), sudo: None };
    let last = world.ledger.iter().rev().find(|entry| matches!(entry.what, What::Opened { .. }));
    let id = last.map(|entry| entry.incident.clone());
    // A no is an answer too: there may be nothing to answer.
    let _ = match (dice.roll(4), id) {
        (0..2, _) => world.agent.approve(by, None, world.now),
        (2, _) => world.agent.reject(by, world.now),
        (_, Some(id)) => world.agent.acknowledge(&id, by, "carol".into(), world.now),
        _ => Ok(()),
    };
    world.hand_out();
    (0..dice.roll(3)).for_each(|_| _ = world.step());
    match dice.roll(4) {
        0 => world.crash(),
        _ => world.settle(),
    }
}

fn pause(world: &mut World, dice: &mut Dice) {
    let owner = Actor { uid: 0, name: "root".into(), sudo: None };
    let (began, ends) = (world.now, world.now.after(s(1 + dice.roll(120))));
    let mut pauses = std::mem::take(&mut world.pauses);
    match dice.roll(2) {
        0 => pauses.push(Pause { scope: Scope::Host, owner, reason: "a walk".into(), began, ends, resumed: None }),
        _ => pauses.iter_mut().for_each(|pause| _ = pause.resumed.get_or_insert((began, owner.clone()))),
    }
    world.pauses_are(pauses);
}

fn one_move(world: &mut World, dice: &mut Dice) {
    let waits = world.agent.incidents().open().is_some_and(|incident| incident.proposal.is_some());
    match dice.roll(14) {
        _ if waits && dice.roll(3) == 0 => answer(world, dice),
        0..3 => weather(world, dice),
        3 => world.wake(Why::Timer),
        4 => world.wake(Why::Log),
        5 => world.advance(ms(1 + dice.roll(900))),
        6 => world.advance(s(1 + dice.roll(60))),
        7 => world.futile = dice.roll(3) == 0,
        8 => world.script.push_back(outcome(dice)),
        9 => match world.ledger_works {
            true => world.ledger_works = dice.roll(3) != 0,
            false => world.recover(),
        },
        10 => {
            if dice.roll(2) == 0 {
                world.set(|e| _ = e.reject_password());
            }
            world.feed(Input::Wake(Wake { at: world.now, why: Why::Asked }));
            for _ in 0..dice.roll(12) {
                world.step();
            }
            if dice.roll(2) == 0 {
                while !world.about_to_act() && world.step() {}
                (0..dice.roll(4)).for_each(|_| _ = world.step());
            }
            match dice.roll(3) {
                0 => world.crash(),
                1 => {
                    world.ledger_works = false;
                    world.settle();
                }
                _ => world.settle(),
            }
        }
        12 => answer(world, dice),
        13 => pause(world, dice),
        _ => {
            world.advance(s(dice.roll(400)));
            world.settle();
        }
    }
}

/// In some worlds a person has to say yes to everything.
fn policy(seed: u64) -> Policy {
    let mut policy = proposing();
    if seed.is_multiple_of(4) {
        policy.remedies.values_mut().for_each(|remedy| remedy.mode = crate::decide::Mode::Propose);
    }
    policy
}

/// What is durable has to make sense by itself.
fn check(world: &World) {
    let mut in_flight: Option<u32> = None;
    let mut attempts: BTreeMap<&IncidentId, (u32, u32)> = BTreeMap::new();
    let mut open: Option<&IncidentId> = None;
    for entry in &world.ledger {
        match &entry.what {
            What::Opened { .. } => {
                assert_eq!(open, None, "one incident at a time");
                open = Some(&entry.incident);
            }
            What::Blip { .. } => assert_eq!(open, None, "no blip within an incident"),
            What::Intended { attempt, .. } => {
                assert_eq!(in_flight, None, "one change in flight");
                let known = attempts.entry(&entry.incident).or_insert((*attempt - 1, 0));
                assert_eq!(*attempt, known.0 + 1);
                *known = (*attempt, known.1 + 1);
                assert!(known.1 <= world.policy.max_attempts, "attempts are bounded, until a person takes it");
                in_flight = Some(*attempt);
            }
            What::Finished { attempt, .. } => assert_eq!(in_flight, Some(*attempt)),
            What::Ended { attempt, .. } | What::Interrupted { attempt } => {
                assert_eq!(in_flight.take(), Some(*attempt));
            }
            What::Resolved { .. } => {
                assert_eq!(open.take(), Some(&entry.incident));
                assert_eq!(in_flight, None);
            }
            What::Told { event: Announcement::Resolved } => {}
            // A person may take an incident that is over.
            What::Acknowledged { .. } => _ = attempts.remove(&entry.incident),
            _ => assert_eq!(open, Some(&entry.incident), "{:?}", entry.what),
        }
    }
}

/// After the walk the world heals, and so does every incident.
fn heal(world: &mut World) {
    world.settle();
    if !world.ledger_works {
        world.recover();
    }
    world.script.clear();
    world.set(|_| {});
    world.advance(s(60));
    assert!(world.at_rest());
    assert!(world.agent.incidents().open().is_none(), "{:?}", world.agent.status(world.now));
    assert_eq!(world.recorded("opened"), world.recorded("resolved"));
    for id in world.told_incidents() {
        let last = world.notices.iter().rev().find(|notice| notice.incident.id == *id);
        assert!(last.is_some_and(|notice| notice.event == Announcement::Resolved), "who is told is told the end");
    }
    let before = world.ledger.len();
    world.advance(s(600));
    assert_eq!(world.ledger.len(), before, "and then it falls silent");
}

#[test]
fn a_long_random_walk_breaks_no_promise() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut compared = 0;
    for seed in 0..24 {
        let mut dice = Dice(seed);
        let mut world = World::with(policy(seed));
        for turn in 0..250 {
            one_move(&mut world, &mut dice);
            if turn % 3 == 0 && world.at_rest() && world.ledger_works {
                let mut other = World::with(policy(seed));
                (other.ledger, other.now) = (world.ledger.clone(), world.now);
                other.restart();
                assert_eq!(other.agent.incidents(), world.agent.incidents(), "seed {seed}");
                compared += 1;
            }
        }
        check(&world);
        heal(&mut world);
        check(&world);
        for entry in &world.ledger {
            let word = name(&entry.what);
            *seen.entry(word.split(' ').take(2).collect::<Vec<_>>().join(" ")).or_default() += 1;
        }
        let more = ["restart", "dropped", "apply realign", "apply restore", "apply bounce", "apply repoint"];
        for word in more {
            *seen.entry(word.into()).or_default() += world.trace.iter().filter(|known| **known == word).count();
        }
    }
    // A walk that meets nothing proves nothing.
    assert!(compared > 500, "{compared}");
    for (word, least) in [
        ("approved", 5),
        ("rejected", 2),
        ("withdrawn", 5),
        ("acknowledged", 50),
        ("held paused", 20),
        ("restart", 100),
        ("dropped", 5),
        ("interrupted", 5),
        ("apply realign", 100),
        ("apply restore", 10),
        ("apply bounce", 10),
        ("apply repoint", 5),
        ("told opened", 100),
        ("told escalated", 10),
        ("told resolved", 100),
        ("told proposed", 5),
        ("held attempts-exhausted", 1),
        ("link-down", 10),
        ("ended failed", 10),
        ("ended under-way", 5),
        ("ended precondition-gone", 10),
        ("resolved Relinkd", 20),
        ("resolved Others", 20),
    ] {
        let count = seen.get(word).copied().unwrap_or(0);
        assert!(count >= least, "{word}: {count} of {least}; {seen:#?}");
    }
}
