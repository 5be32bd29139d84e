//! The Sentinels of the toy world: when they hold a primary down, fail over, give up, and move what went astray.

use std::time::Duration;

use relinkd::model::Timestamp;

use super::world::{HOSTS, Process, Request, Target, World};

pub const DOWN_AFTER: Duration = Duration::from_secs(5);
pub const FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);
/// A primary that should be a replica is turned into one after this.
const CONVERT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Failover {
    pub to: usize,
    pub began: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Sentinel {
    pub up: bool,
    /// The others do not hear it, nor does it hear them; hosts hear it all the same.
    pub alone: bool,
    pub primary: usize,
    pub epoch: u64,
    pub s_down: Option<Timestamp>,
    pub o_down: Option<Timestamp>,
    pub failover: Option<Failover>,
    pub role_since: Timestamp,
    pub tilt_until: Timestamp,
    /// Its own next failover comes no earlier.
    pub not_before: Timestamp,
    silent_since: Option<Timestamp>,
    /// Since when it has not seen each node.
    pub lost_since: [Option<Timestamp>; HOSTS],
    astray_since: [Option<Timestamp>; HOSTS],
}

impl Sentinel {
    pub fn new(primary: usize, now: Timestamp) -> Sentinel {
        Sentinel {
            up: true,
            alone: false,
            primary,
            epoch: 1,
            s_down: None,
            o_down: None,
            failover: None,
            role_since: now.before(Duration::from_secs(3600)),
            tilt_until: now,
            not_before: now,
            silent_since: None,
            lost_since: [None; HOSTS],
            astray_since: [None; HOSTS],
        }
    }

    pub fn is_calm(&self, primary: usize, now: Timestamp) -> bool {
        let quiet = self.silent_since.is_none()
            && self.failover.is_none()
            && self.astray_since == [None; HOSTS]
            && self.lost_since == [None; HOSTS];
        self.primary == primary && (!self.up || (quiet && now >= self.tilt_until))
    }

    pub fn take_up(&mut self, primary: usize, epoch: u64, now: Timestamp) {
        (self.primary, self.epoch, self.role_since) = (primary, epoch, now);
        (self.s_down, self.o_down, self.silent_since, self.failover) = (None, None, None, None);
    }
}

impl World {
    pub fn sentinel_hears(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.sentinels[a], &self.sentinels[b]);
        one.up && other.up && (a == b || !(one.alone || other.alone)) && self.path(a, b)
    }

    pub fn sentinels_heard(&self, host: usize) -> usize {
        (0..HOSTS).filter(|other| self.sentinel_hears(host, *other)).count()
    }

    pub fn move_sentinels(&mut self) {
        self.move_replicas();
        for host in 0..HOSTS {
            if self.sentinels[host].up && self.now >= self.sentinels[host].tilt_until {
                self.see(host);
                self.hear(host);
                self.carry_on(host);
                self.begin_own(host);
                self.tidy(host);
            }
        }
    }

    fn see(&mut self, host: usize) {
        let now = self.now;
        for node in 0..HOSTS {
            let lost = self.nodes[node].process != Process::Up || !self.path(host, node);
            let since = self.sentinels[host].lost_since[node];
            self.sentinels[host].lost_since[node] = lost.then(|| since.unwrap_or(now));
        }
        let primary = self.sentinels[host].primary;
        let sees = self.path(host, primary) && self.nodes[primary].process == Process::Up;
        let sentinel = &mut self.sentinels[host];
        sentinel.silent_since = (!sees).then(|| sentinel.silent_since.unwrap_or(now));
        let down = sentinel.silent_since.is_some_and(|since| now.since(since) >= DOWN_AFTER);
        sentinel.s_down = down.then(|| sentinel.s_down.unwrap_or(now));
        let agreeing = (0..HOSTS).filter(|other| {
            self.sentinel_hears(host, *other)
                && self.sentinels[*other].s_down.is_some()
                && self.sentinels[*other].primary == primary
        });
        let agreed = self.sentinels[host].s_down.is_some() && agreeing.count() >= 2;
        let sentinel = &mut self.sentinels[host];
        sentinel.o_down = agreed.then(|| sentinel.o_down.unwrap_or(now));
    }

    /// News of a newer epoch spreads over the hello channel, in a second or so.
    fn hear(&mut self, host: usize) {
        for other in 0..HOSTS {
            let (primary, epoch) = (self.sentinels[other].primary, self.sentinels[other].epoch);
            let newer = epoch > self.sentinels[host].epoch && self.sentinel_hears(host, other);
            if newer && self.dice.one_in(6) {
                let now = self.now;
                self.sentinels[host].take_up(primary, epoch, now);
                self.stirred.push(host);
            }
        }
    }

    fn carry_on(&mut self, host: usize) {
        let Some(failover) = self.sentinels[host].failover.clone().filter(|failover| self.now >= failover.until) else {
            return;
        };
        let (now, to) = (self.now, failover.to);
        self.sentinels[host].failover = None;
        if self.nodes[to].process != Process::Up || !self.path(host, to) {
            self.sentinels[host].not_before = now.after(FAILOVER_TIMEOUT * 2);
            return;
        }
        let epoch = self.sentinels.iter().map(|s| s.epoch).max().unwrap_or(0) + 1;
        self.promote(to);
        self.sentinels[host].take_up(to, epoch, now);
        for other in (0..HOSTS).filter(|other| *other != to) {
            // Now and then one is not told, and stays astray.
            if self.path(host, other) && self.nodes[other].process == Process::Up && !self.dice.one_in(6) {
                let at = now.after(self.dice.between_ms(0, 3_000));
                self.moves.push((at, other, to));
            }
        }
        self.stirred.push(host);
    }

    fn move_replicas(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) = self.moves.drain(..).partition(|(at, ..)| *at <= self.now);
        self.moves = later;
        for (_, host, to) in due {
            let stale = self.named().is_some_and(|named| named != to);
            if self.nodes[host].process == Process::Up && self.nodes[host].follows.is_some() && !stale {
                self.follow(host, Target::Node(to));
            }
        }
    }

    /// Its own failover: elected by a majority, and only by chance.
    fn begin_own(&mut self, host: usize) {
        let sentinel = &self.sentinels[host];
        let due = sentinel.o_down.is_some_and(|since| self.now.since(since) >= Duration::from_millis(700));
        let busy = (0..HOSTS).any(|other| self.sentinel_hears(host, other) && self.sentinels[other].failover.is_some());
        if !due || busy || self.now < sentinel.not_before || self.sentinels_heard(host) * 2 <= HOSTS {
            return;
        }
        let gives_up = self.dice.one_in(3);
        let begun = if gives_up { None } else { self.begin_failover(host, None) };
        if begun.is_none() {
            for other in 0..HOSTS {
                if self.sentinel_hears(host, other) {
                    self.sentinels[other].not_before = self.now.after(FAILOVER_TIMEOUT * 2);
                }
            }
        }
        self.stirred.push(host);
    }

    /// SENTINEL FAILOVER, or what follows an election.
    pub fn begin_failover(&mut self, host: usize, asked_by: Option<usize>) -> Option<usize> {
        let former = self.sentinels[host].primary;
        let fit = |other: &usize| {
            let node = &self.nodes[*other];
            *other != former && node.process == Process::Up && self.path(host, *other) && node.priority > 0
        };
        let to = (0..HOSTS).filter(fit).max_by_key(|other| (self.nodes[*other].offset, *other))?;
        // What is asked for is not put to a vote first, and is done by then (model::turn, PROMOTION_MS).
        let most = if asked_by.is_some() { 2_300 } else { 4_000 };
        let until = self.now.after(self.dice.between_ms(700, most));
        self.sentinels[host].failover = Some(Failover { to, began: self.now, until });
        if let Some(host) = asked_by {
            self.requests.push(Request { outage: self.outage, at: self.now, host });
        }
        Some(to)
    }

    /// Turns a returned primary into a replica, and fetches replicas back that went astray.
    fn tidy(&mut self, host: usize) {
        let now = self.now;
        let newest = self.sentinels.iter().map(|s| s.epoch).max().unwrap_or(0);
        let primary = self.sentinels[host].primary;
        if self.sentinels[host].epoch < newest || self.sentinels[host].failover.is_some() {
            return;
        }
        for other in (0..HOSTS).filter(|other| *other != primary) {
            let node = &self.nodes[other];
            let astray = node.process == Process::Up
                && self.path(host, other)
                && node.follows != Some(Target::Node(primary))
                && self.nodes[primary].follows.is_none()
                && self.nodes[primary].process == Process::Up;
            let patience = if node.follows.is_none() { CONVERT } else { FAILOVER_TIMEOUT };
            let since = astray.then(|| self.sentinels[host].astray_since[other].unwrap_or(now));
            self.sentinels[host].astray_since[other] = since;
            if since.is_some_and(|since| now.since(since) >= patience) {
                self.follow(other, Target::Node(primary));
            }
        }
    }
}
