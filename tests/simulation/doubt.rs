//! Whether a failover runs, or may be running, by the world's own truth: of all Sentinels that a host could hear at one
//! moment. Nothing of what an agent or its hands make of it is used here.

use std::time::Duration;

use relinkd::model::Timestamp;

use super::world::{HOSTS, World};

/// A Sentinel that took up its primary so lately may have done so in a failover that the others have not heard of.
const YOUNG: Duration = Duration::from_secs(10);
/// What a host could hear for so long is none of a failover.
const LASTING: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub struct Doubt {
    /// A Sentinel is at one.
    runs: Option<String>,
    /// Two name different primaries, and did not for long.
    disputed: Option<String>,
    /// Two name different primaries, for however long.
    pub dissent: Option<String>,
}

impl Doubt {
    /// Why no link may be touched, and no failover be asked for.
    pub fn stands(&self) -> Option<&str> {
        self.runs.as_deref().or(self.disputed.as_deref())
    }
}

impl World {
    fn heard(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..HOSTS).filter(move |other| self.sentinels[*other].up && self.path(host, *other))
    }

    fn dissent(&self, host: usize) -> Option<(usize, usize)> {
        let first = self.heard(host).next()?;
        let other = self.heard(host).find(|other| self.sentinels[*other].primary != self.sentinels[first].primary)?;
        Some((first, other))
    }

    /// To be called as time passes.
    pub fn note_dissent(&mut self) {
        for host in 0..HOSTS {
            let since = self.dissent_since[host].unwrap_or(self.now);
            self.dissent_since[host] = self.dissent(host).map(|_| since);
        }
    }

    pub fn doubt(&self, host: usize) -> Doubt {
        let at_it = self.heard(host).find_map(|other| Some((other, self.sentinels[other].failover.as_ref()?)));
        let dissent = self.dissent(host).map(|(one, other)| {
            let named = |of: usize| format!("Sentinel {of} names {}", self.sentinels[of].primary);
            format!("{}, {}", named(one), named(other))
        });
        let past = |from: Timestamp| self.now.since(from);
        let young = self.heard(host).any(|other| past(self.sentinels[other].role_since) < YOUNG);
        let lasting = self.dissent_since[host].is_some_and(|since| past(since) >= LASTING);
        Doubt {
            runs: at_it.map(|(other, failover)| {
                format!("Sentinel {other} promotes {} since {:?}", failover.to, past(failover.began))
            }),
            disputed: dissent.clone().filter(|_| young && !lasting),
            dissent,
        }
    }

    /// Somebody makes a Sentinel that this host hears fail over, or watch another server.
    pub fn meddle(&mut self, host: usize) -> Option<&'static str> {
        let heard: Vec<usize> = self.heard(host).filter(|other| self.sentinels[*other].failover.is_none()).collect();
        let chosen = *heard.get(self.dice.below(heard.len().max(1)))?;
        if self.dice.one_in(3) {
            self.stray(chosen);
            return Some("a Sentinel is pointed elsewhere");
        }
        self.begin_failover(chosen, None).map(|_| "a failover begins")
    }

    /// SENTINEL REMOVE, and MONITOR of another server under the same name.
    pub fn stray(&mut self, sentinel: usize) {
        let other = (self.sentinels[sentinel].primary + 1 + self.dice.below(HOSTS - 1)) % HOSTS;
        let (epoch, now) = (self.sentinels[sentinel].epoch, self.now);
        self.sentinels[sentinel].take_up(other, epoch, now);
        self.stirred.push(sentinel);
    }
}
