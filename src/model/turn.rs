//! Whose turn it is to ask for a failover. The agents of a group have no coordinator and no lock, and a forced failover
//! is known to the Sentinel that runs it before it is known to the others. So time is cut into turns, each belongs to
//! one replica's agent, and a request is made only so early in a turn that whoever comes next can see what came of it.
//!
//! The clock of the turns is no clock of ours: each Sentinel's own age of o_down tells the number of the turn (where the
//! primary lives, the age since when most replicas have had no link: [`Clock`]), and its own list of replicas tells whose
//! it is. An agent has to have its turn with a majority of all Sentinels at once. Any
//! two majorities share a Sentinel, and that one never gives the same turn to two: so two agents act at least
//! [`SPARE_MS`] apart, whatever Sentinels each of them can reach. `tests/model.rs` plays it through, and finds what
//! happens without each part.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Endpoint;
use super::evidence::{ReplicaInSentinel, SentinelSays};

/// How long a Sentinel has to say what it knows: in a look, and again just before a change. One bound for both, or a plan
/// that looks can make would be one that hands must refuse.
pub const SENTINEL_MS: u64 = 750;
/// From the moment in which a Sentinel told its o_down age until the request has reached one, or never will.
pub const REQUEST_MS: u64 = 1_500;
/// From the request until the promoted replica calls itself a primary: three ticks of the Sentinel (100 ms), and one
/// stall. A longer stall than 2 s is TILT, in which it promotes nobody (Redis 7.0.15, sentinelCheckTiltCondition).
pub const PROMOTION_MS: u64 = 2_500;
/// By how much a Sentinel's own try may be late: rand() % 1000, and a tick (Redis 7.0.15, sentinelStartFailover).
pub const DESYNC_MS: u64 = 1_100;
/// From its own try until it is elected. Votes are asked for at once, and answered within a tick.
pub const ELECTION_MS: u64 = 1_000;
/// The oldest view of a replica that still counts. Sentinels read INFO every second while a primary is held down
/// (Redis 7.0.15, sentinelSendPeriodicCommands).
pub const SIGHT_MS: u64 = 2_000;
/// More than this has to be left of a turn when a request is made.
pub const SPARE_MS: u64 = REQUEST_MS + PROMOTION_MS + SIGHT_MS;
/// By so much a Sentinel's age of unlinked replicas may be off: whole seconds of the replica's clock, read each second.
/// Turns by it have as much more to spare, and twice as much is added to their length: in the look and when it is read
/// again it may be off in opposite ways.
pub const UNLINKED_JITTER_MS: u64 = 2_000;
/// The part of a turn in which a request may be made has to be long enough for one look.
pub const LOOK_MS: u64 = 2_000;
/// The smallest safe `stagger`, as `the_smallest_safe_stagger` in tests/model.rs has it: in a shorter turn there is
/// either no moment to ask, or not enough time left after it.
pub const SMALLEST_STAGGER_MS: u64 = SPARE_MS + LOOK_MS;

/// A replica's place in the order in which one Sentinel would promote, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    pub rank: u32,
    pub of: u32,
}

/// The age of a Sentinel's by which it cuts time into turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// For how long the primary has been objectively down.
    #[default]
    Agreed,
    /// For how long most replicas have had no link to a primary that lives. It jumps where a replica starts anew, gets its
    /// link back or goes out of sight; an agent counts by it only when it has run on for a whole turn.
    Unlinked,
}

impl Clock {
    pub fn age(self, says: &SentinelSays) -> Option<u64> {
        match self {
            Clock::Agreed => says.o_down_ms,
            Clock::Unlinked => says.most_unlinked_ms(),
        }
    }

    fn is_usual(&self) -> bool {
        *self == Clock::Agreed
    }
}

/// How time is cut, in any one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// The age at which the first turn begins.
    pub first: u64,
    /// The length of a turn.
    pub stagger: u64,
    /// More than this has to be left of it for a request.
    pub spare: u64,
}

/// The rank that has this turn. Each has one in every round. The first round follows the ranks; in the others the order
/// is shuffled, so that Sentinels whose ages differ by any number of turns still agree every now and then: one that came
/// back during the outage counts from later than the others.
pub fn whose(number: u64, of: u32) -> u32 {
    let of = u64::from(of.max(1));
    let (round, place) = (number / of, number % of);
    let mut mixed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^= mixed >> 32;
    let start = (mixed >> 8) % of;
    let rank = match (round, mixed & 1) {
        (0, _) => place,
        (_, 1) => (start + place) % of,
        _ => (start + of - place) % of,
    };
    u32::try_from(rank).unwrap_or(0)
}

impl Turns {
    /// Whether a request may be made in this seat when o_down has stood for `age`.
    pub fn ours(&self, age: u64, seat: Seat) -> bool {
        self.wait(age, seat) == 0
    }

    /// How long until a request may be made; no more than a guess for turns that lie far ahead.
    pub fn wait(&self, age: u64, seat: Seat) -> u64 {
        const AHEAD: u64 = 64;
        let Some(since) = age.checked_sub(self.first) else {
            return (self.first - age).saturating_add(self.wait(self.first, seat));
        };
        let now = self.number(since, seat.of);
        let ends = self.begins(now + 1, seat.of);
        // Nobody else has a turn.
        if seat.of <= 1 || (whose(now, seat.of) == seat.rank && since.saturating_add(self.spare) < ends) {
            return 0;
        }
        let next = (now + 1..now + AHEAD).find(|number| whose(*number, seat.of) == seat.rank).unwrap_or(now + AHEAD);
        self.begins(next, seat.of).saturating_sub(since)
    }

    /// After the first round turns are twice as long: then more than half of a turn is good for a request, and the turns
    /// of two Sentinels overlap in that, whatever lies between the beginnings of their ages.
    fn begins(&self, number: u64, of: u32) -> u64 {
        let later = number.saturating_sub(of.into());
        self.stagger.max(1).saturating_mul(number.saturating_add(later))
    }

    fn number(&self, since: u64, of: u32) -> u64 {
        let (stagger, of) = (self.stagger.max(1), u64::from(of));
        let short = since / stagger;
        if short < of { short } else { of + (short - of) / 2 }
    }
}

/// What a request for a failover expects of the turns just before it goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub run_id: String,
    /// In milliseconds.
    pub turns: Turns,
    /// The seat that each of these Sentinels, by its id, has given us all along.
    pub seats: BTreeMap<String, Seat>,
    #[serde(default, skip_serializing_if = "Clock::is_usual")]
    pub clock: Clock,
}

impl Turn {
    /// Whether a Sentinel that has just said this gives us the turn, in the seat that it gave us before.
    pub fn granted_by(&self, says: &SentinelSays) -> bool {
        self.granted_after(says, 0)
    }

    /// The same, `late_ms` after it said so.
    pub fn granted_after(&self, says: &SentinelSays, late_ms: u64) -> bool {
        let seat = self.seats.get(&says.id).copied();
        seat.is_some()
            && seat == Seat::of(says, &self.run_id)
            && seat
                .zip(self.clock.age(says))
                .is_some_and(|(seat, age)| self.turns.ours(age.saturating_add(late_ms), seat))
    }
}

impl Seat {
    /// Priority ascending, offset descending, run id ascending is Sentinel's order of preference; after all whom it may
    /// promote come those that it sees and may not. None for a server that it does not list, or holds down.
    pub fn of(says: &SentinelSays, run_id: &str) -> Option<Seat> {
        let mut seen: Vec<&ReplicaInSentinel> =
            says.replicas.iter().filter(|replica| !replica.flags.contains("s_down")).collect();
        seen.sort_by(|a, b| {
            let may = |replica: &ReplicaInSentinel| !replica.promotable(says);
            may(a).cmp(&may(b)).then(if may(a) { a.run_id.cmp(&b.run_id) } else { preference(a, b) })
        });
        let rank = seen.iter().position(|replica| !run_id.is_empty() && replica.run_id == run_id)?;
        Some(Seat { rank: u32::try_from(rank).ok()?, of: u32::try_from(seen.len()).ok()? })
    }
}

/// Sentinel's order of preference (Redis 7.0.15, compareSlavesForPromotion).
pub fn preference(a: &ReplicaInSentinel, b: &ReplicaInSentinel) -> std::cmp::Ordering {
    a.priority.cmp(&b.priority).then(b.offset.cmp(&a.offset)).then(a.run_id.cmp(&b.run_id))
}

/// Why it cannot be told from here that nobody was promoted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// A replica calls itself a primary.
    Promoted(Endpoint),
    /// A Sentinel has not read it for this long, milliseconds.
    Old(Endpoint, u64),
    /// It went out of sight when a request could have been made already: it may be a primary by now.
    Lost(Endpoint),
    /// Some Sentinels see it and some do not.
    Split(Endpoint),
}

/// Every replica is in sight of every Sentinel that answers and is none but a replica, or was gone before anybody could
/// have asked for a failover. `first_ms`: the age before which nobody asks. Of a primary that is gone it is measured by
/// s_down here, which is older than o_down and outlasts a quorum that comes and goes.
///
/// Of a primary that lives, a linked replica is read every 10 s only. Such a one is asked for its role by the agent itself,
/// in the look that leads to a request (`decide::successors`), a turn after whatever another agent may have asked for.
pub fn all_in_sight(views: &[&SentinelSays], first_ms: u64, clock: Clock) -> Result<(), Unsure> {
    let all = || views.iter().flat_map(|says| says.replicas.iter().map(move |replica| (says, replica)));
    if let Some((_, promoted)) = all().find(|(_, replica)| replica.reports_primary) {
        return Err(Unsure::Promoted(promoted.endpoint.clone()));
    }
    let mut seen = BTreeSet::new();
    let lasts = |says: &SentinelSays| match clock {
        Clock::Agreed => says.s_down_ms.unwrap_or(0),
        Clock::Unlinked => says.most_unlinked_ms().unwrap_or(0),
    };
    for (says, replica) in all() {
        if !replica.flags.contains("s_down") {
            let asked_itself = clock == Clock::Unlinked && replica.link_ok;
            if replica.info_refresh_ms > SIGHT_MS && !asked_itself {
                return Err(Unsure::Old(replica.endpoint.clone(), replica.info_refresh_ms));
            }
            seen.insert(&replica.endpoint);
        } else if replica.s_down_ms.unwrap_or(0).saturating_add(first_ms) < lasts(says) {
            return Err(Unsure::Lost(replica.endpoint.clone()));
        }
    }
    let sees = |says: &SentinelSays, one: &Endpoint| {
        says.replicas.iter().any(|replica| replica.endpoint == *one && !replica.flags.contains("s_down"))
    };
    match seen.into_iter().find(|one| !views.iter().all(|says| sees(says, one))) {
        Some(split) => Err(Unsure::Split(split.clone())),
        None => Ok(()),
    }
}

impl std::fmt::Display for Unsure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsure::Promoted(who) => write!(f, "{who} calls itself a primary already"),
            Unsure::Old(who, ms) => write!(f, "a Sentinel has not read {who} for {ms} ms"),
            Unsure::Lost(who) => {
                write!(f, "{who} went out of sight when somebody could already have asked for its promotion")
            }
            Unsure::Split(who) => write!(f, "some Sentinels see {who} and some do not"),
        }
    }
}

#[cfg(test)]
mod tests;
