//! What the Sentinels that have answered so far amount to, before all of them have.

use crate::model::Endpoint;
use crate::model::evidence::SentinelSays;

/// A Sentinel that has answered. None: it has not.
pub type Vote = Option<Ballot>;

#[derive(Clone, Debug)]
pub struct Ballot {
    /// Empty where the Sentinel does not tell it.
    pub id: String,
    pub primary: Endpoint,
    /// The primary's run id as it last read it.
    pub run_id: String,
    /// How many other Sentinels it knows.
    pub others: usize,
    /// It holds the primary down.
    pub down: bool,
    /// Most replicas that it has in sight have no link.
    pub most_unlinked: bool,
    /// The replicas that it has in sight, with their run ids.
    pub in_sight: Vec<(Endpoint, String)>,
}

impl Ballot {
    /// As in [`SentinelSays::names_as`].
    fn names_as(&self, other: &Ballot) -> bool {
        let one_run = !self.run_id.is_empty() && self.run_id == other.run_id;
        self.primary == other.primary || (one_run && self.primary.port == other.primary.port)
    }

    pub fn of(says: &SentinelSays) -> Ballot {
        let in_sight = says.in_sight();
        Ballot {
            id: says.id.clone(),
            primary: says.primary.clone(),
            run_id: says.primary_run_id.clone(),
            others: says.others as usize,
            down: says.flags.contains("s_down"),
            most_unlinked: says.most_unlinked_ms().is_some(),
            in_sight: in_sight.map(|replica| (replica.endpoint.clone(), replica.run_id.clone())).collect(),
        }
    }
}

/// Whom the Sentinels name, once that cannot change for the worse: a majority of all that anybody knows has spoken
/// for one address (`Some(Some(_))`), or all have answered without one (`Some(None)`).
pub fn verdict(votes: &[Vote], configured: usize) -> Option<Option<Endpoint>> {
    let ballots = counted_once(votes);
    let need = needed(&ballots, configured);
    let speak_for = |named: &Ballot| ballots.iter().filter(|ballot| ballot.names_as(named)).count();
    match ballots.iter().find(|ballot| speak_for(ballot) >= need) {
        Some(ballot) => Some(Some(ballot.primary.clone())),
        None => (votes.len() >= configured).then_some(None),
    }
}

/// A Sentinel that answers under two addresses has one ballot.
fn counted_once(votes: &[Vote]) -> Vec<&Ballot> {
    let mut ballots: Vec<&Ballot> = Vec::new();
    for ballot in votes.iter().flatten() {
        if ballot.id.is_empty() || !ballots.iter().any(|counted| counted.id == ballot.id) {
            ballots.push(ballot);
        }
    }
    ballots
}

/// A majority of all Sentinels that anybody knows.
fn needed(ballots: &[&Ballot], configured: usize) -> usize {
    let told = ballots.iter().map(|ballot| ballot.others + 1).max().unwrap_or(0);
    told.max(configured) / 2 + 1
}

/// Whether a majority of all Sentinels that anybody knows names one primary and says so of it, once that is settled.
pub fn settled(votes: &[Vote], configured: usize, says_so: impl Fn(&Ballot) -> bool) -> Option<bool> {
    let ballots = counted_once(votes);
    let need = needed(&ballots, configured);
    let speak_for = |named: &Endpoint| ballots.iter().filter(|ballot| ballot.primary == *named).count();
    let speak_for_it = ballots.iter().filter(|ballot| says_so(ballot) && speak_for(&ballot.primary) >= need).count();
    match speak_for_it >= need {
        true => Some(true),
        false => (votes.len() >= configured).then_some(false),
    }
}
