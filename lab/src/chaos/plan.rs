//! What goes wrong in a round, and when: pure, and the same for the same seed.

use std::fmt;
use std::time::Duration;

/// A data node by the role that it has when its turn comes: the same plan then strikes the same role in both runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Primary,
    /// The first or second of the other two, by their number.
    Replica(usize),
}

/// One thing that goes wrong, and is put right after its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// SIGKILL; comes back from its files.
    Kill(Who),
    /// SIGSTOP; goes on.
    Hang(Who),
    /// Its host, with the Sentinel and the relinkd on it, loses the network.
    Unplug(Who),
    /// No packet between two hosts, either way.
    Cut(Who, Who),
    /// The first hears nothing of the second; the second hears the first.
    Deaf(Who, Who),
    /// A replica's `masterauth` goes wrong and its link is cut.
    Password(usize),
    /// The disk under a node's data fills up.
    FullDisk(Who),
    /// relinkd on a node's host dies, and is started again.
    KillAgent(Who),
    /// This many of the three Sentinels die, and are started again.
    KillSentinels(usize),
    /// No replica may be promoted for a while.
    NoCandidate,
    /// No packet between any two of the three hosts, with a quorum of one: each Sentinel tries alone, and nobody is elected.
    Scatter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub lasts: Duration,
    pub upset: Upset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub number: usize,
    /// Whether Sentinel's try has to fail in it, and relinkd may be needed.
    pub gives_up: bool,
    /// In order of their time.
    pub events: Vec<Event>,
}

/// One to three upsets a round, at random moments and of random length, so that they overlap as they like. In one round
/// of four Sentinel gives up besides, since by chance that hardly ever happens, and it is the only time at which
/// relinkd may ask for a failover.
pub fn plan(seed: u64, rounds: usize) -> Vec<Round> {
    let mut dice = Dice(seed);
    let mut all = Vec::with_capacity(rounds);
    for number in 0..rounds {
        let gives_up = dice.below(4) == 0;
        let mut events = if gives_up { giving_up(&mut dice) } else { Vec::new() };
        let (count, until) = if gives_up { (dice.below(2), 12_000) } else { (1 + dice.below(3), 4_000) };
        let more: Vec<Event> = (0..count).map(|_| chance(&mut dice, until)).collect();
        // Nobody promotable, or no majority, matters only while the primary is away, and for a while after.
        let matters = |event: &Event| matches!(event.upset, Upset::NoCandidate | Upset::KillSentinels(2 | 3));
        if !gives_up && more.iter().any(matters) {
            events.push(event(500, 25_000, Upset::Kill(Who::Primary)));
        }
        events.extend(more);
        events.sort_by_key(|event| event.at);
        all.push(Round { number, gives_up, events });
    }
    all
}

fn chance(dice: &mut Dice, until: u64) -> Event {
    let (at, lasts) = (dice.below(until), dice.between(500, 9_500));
    event(at, lasts, upset(dice))
}

/// The primary goes when Sentinel's try has to fail, and stays away for long enough that each relinkd has had its turn once
/// what made it fail is over, and not for as long as Sentinel waits until it tries again.
fn giving_up(dice: &mut Dice) -> Vec<Event> {
    let gone = match dice.below(5) {
        0 => Upset::Hang(Who::Primary),
        1 => Upset::Unplug(Who::Primary),
        _ => Upset::Kill(Who::Primary),
    };
    match dice.below(10) {
        // No good replica, and then one again.
        0..4 => {
            vec![
                event(0, dice.between(4_000, 16_000), Upset::NoCandidate),
                event(500, dice.between(30_000, 43_000), gone),
            ]
        }
        4..6 => {
            let lasts = dice.between(5_000, 14_000);
            let both = [0, 1].map(|nth| event(300, lasts, Upset::Hang(Who::Replica(nth))));
            // Sentinel has to hold both down before it looks for one to promote: a hung one would follow when it goes on.
            let away = event(1_500, dice.between(34_000, 45_000), gone);
            both.into_iter().chain([away]).collect()
        }
        // Not elected, and then a majority again.
        6..8 => vec![
            event(0, dice.between(6_000, 14_000), Upset::Scatter),
            event(500, dice.between(36_000, 45_000), Upset::Kill(Who::Primary)),
        ],
        // No good replica, then no quorum, and then both again.
        _ => vec![
            event(0, dice.between(4_000, 8_000), Upset::NoCandidate),
            event(500, dice.between(34_000, 45_000), Upset::Unplug(Who::Primary)),
            event(
                dice.between(5_000, 9_000),
                dice.between(4_000, 10_000),
                Upset::Cut(Who::Replica(0), Who::Replica(1)),
            ),
        ],
    }
}

fn event(at_ms: u64, lasts_ms: u64, upset: Upset) -> Event {
    Event { at: Duration::from_millis(at_ms), lasts: Duration::from_millis(lasts_ms), upset }
}

fn upset(dice: &mut Dice) -> Upset {
    let who = |dice: &mut Dice| match dice.below(2) {
        0 => Who::Primary,
        _ => Who::Replica(dice.index(2)),
    };
    let pair = |dice: &mut Dice| match dice.below(3) {
        0 => (Who::Replica(dice.index(2)), Who::Primary),
        1 => (Who::Primary, Who::Replica(dice.index(2))),
        _ => (Who::Replica(0), Who::Replica(1)),
    };
    match dice.below(12) {
        0 | 1 => Upset::Kill(who(dice)),
        2 => Upset::Hang(who(dice)),
        3 => Upset::Unplug(who(dice)),
        4 => {
            let (one, other) = pair(dice);
            Upset::Cut(one, other)
        }
        5 => {
            let (one, other) = pair(dice);
            Upset::Deaf(one, other)
        }
        6 | 7 => Upset::Password(dice.index(2)),
        8 => Upset::FullDisk(who(dice)),
        9 => Upset::KillAgent(who(dice)),
        10 => Upset::KillSentinels(1 + dice.index(2)),
        _ => Upset::NoCandidate,
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Primary => f.write_str("primary"),
            Who::Replica(number) => write!(f, "replica {number}"),
        }
    }
}

impl fmt::Display for Upset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upset::Kill(who) => write!(f, "kill {who}"),
            Upset::Hang(who) => write!(f, "hang {who}"),
            Upset::Unplug(who) => write!(f, "unplug {who}"),
            Upset::Cut(one, other) => write!(f, "cut {one} from {other}"),
            Upset::Deaf(one, other) => write!(f, "{one} deaf to {other}"),
            Upset::Password(number) => write!(f, "wrong masterauth at replica {number}"),
            Upset::FullDisk(who) => write!(f, "full disk at {who}"),
            Upset::KillAgent(who) => write!(f, "kill relinkd at {who}"),
            Upset::KillSentinels(count) => write!(f, "kill {count} Sentinels"),
            Upset::NoCandidate => f.write_str("no replica promotable"),
            Upset::Scatter => f.write_str("all hosts cut from each other"),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.events.iter().map(|event| {
            format!("{} at {:.1} s for {:.1} s", event.upset, event.at.as_secs_f64(), event.lasts.as_secs_f64())
        });
        f.write_str(&told.collect::<Vec<_>>().join(", "))
    }
}

/// SplitMix64: small, and good enough to choose faults with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(plan(7, 50), plan(7, 50));
        assert_ne!(plan(7, 50), plan(8, 50));
    }

    #[test]
    fn every_kind_of_upset_comes_and_some_overlap() {
        let all = plan(1, 200);
        let told: String = all.iter().map(|round| format!("{round}\n")).collect();
        for word in [
            "kill primary",
            "hang",
            "unplug",
            "cut",
            "deaf",
            "masterauth",
            "disk",
            "relinkd",
            "Sentinels",
            "promotable",
            "from each other",
        ] {
            assert!(told.contains(word), "{word}");
        }
        let overlaps = |round: &Round| round.events.windows(2).any(|pair| pair[0].at + pair[0].lasts > pair[1].at);
        assert!(all.iter().filter(|round| overlaps(round)).count() > 50);
    }
    #[test]
    fn sentinel_gives_up_in_a_quarter_of_the_rounds_and_its_primary_stays_away() {
        let lost = |event: &Event| {
            let gone = [Upset::Kill(Who::Primary), Upset::Hang(Who::Primary), Upset::Unplug(Who::Primary)];
            event.lasts >= Duration::from_secs(30) && gone.contains(&event.upset)
        };
        let all = plan(21, 200);
        assert!(all.iter().all(|round| round.gives_up == round.events.iter().any(lost)));
        let given_up = all.iter().filter(|round| round.gives_up).count();
        assert!((40..60).contains(&given_up), "{given_up}");
    }
}
