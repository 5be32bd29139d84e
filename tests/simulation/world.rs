//! The toy world: three hosts with a data node and a Sentinel each, the network between them, and the secret store.
//! It knows the truth; agents see of it what a look shows them.

use std::time::Duration;

use relinkd::model::Timestamp;

use super::dice::Dice;
use super::sentinel::Sentinel;

pub const HOSTS: usize = 3;

/// How finely the world moves.
const SLICE: Duration = Duration::from_millis(100);

/// A silent peer is given up after this, as by `repl-timeout`.
const REPL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Up,
    Hung,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Node(usize),
    /// An address where nothing listens.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Waiting {
        next: Timestamp,
    },
    /// A SYN that nobody answers: the replica does not notice the end of a cut before this.
    Stuck {
        until: Timestamp,
    },
    Syncing {
        until: Timestamp,
    },
    Up {
        with_run: u64,
        silent_since: Option<Timestamp>,
    },
}

/// What a packet to a peer meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Silent,
    Refused,
    /// The kernel takes the connection, and nobody answers.
    Mute,
    Open(usize),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub process: Process,
    pub run: u64,
    /// None: a primary.
    pub follows: Option<Target>,
    pub link: Link,
    /// When the link went down; none: it never was up in this run.
    pub down_since: Option<Timestamp>,
    /// 0 stands for no password.
    pub requirepass: u32,
    pub masterauth: u32,
    pub masterauth_on_disk: u32,
    pub priority: u32,
    pub offset: i64,
    pub keys: u64,
    pub empty_since: Option<Timestamp>,
    pub replid: u64,
    pub replid2: u64,
    /// `second_repl_offset`: the first offset that is not of the former history.
    pub second: i64,
    pub started: Timestamp,
    /// Takes every login and no real PSYNC.
    pub lame: bool,
}

impl Node {
    pub fn link_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Synced in this run of the process.
    pub fn linked_once(&self) -> bool {
        self.link_up() || self.down_since.is_some()
    }

    fn drop_link(&mut self, at: Timestamp) {
        if self.link_up() {
            self.down_since = Some(at);
        }
        self.link = Link::Waiting { next: at.after(Duration::from_millis(700)) };
    }
}

pub struct Store {
    pub works: bool,
    /// Newest first.
    pub offers: Vec<u32>,
}

/// Accepted requests for a failover, and for which outage.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub outage: u64,
    pub at: Timestamp,
    pub host: usize,
}

pub struct World {
    pub now: Timestamp,
    pub dice: Dice,
    pub nodes: Vec<Node>,
    pub sentinels: Vec<Sentinel>,
    /// `cut[a][b]`: packets from host a to host b are lost.
    pub cut: [[bool; HOSTS]; HOSTS],
    pub store: Store,
    /// The newest password that anybody set.
    pub password: u32,
    pub requests: Vec<Request>,
    /// The outage that runs, or the last one.
    pub outage: u64,
    pub in_outage: bool,
    /// Hosts whose node changed its link or role, for whoever watches it.
    pub stirred: Vec<usize>,
    /// Replicas that a Sentinel is about to move.
    pub moves: Vec<(Timestamp, usize, usize)>,
    /// Since when the Sentinels that a host hears have named two primaries.
    pub dissent_since: [Option<Timestamp>; HOSTS],
    next_id: u64,
}

impl World {
    pub fn new(now: Timestamp, seed: u64) -> World {
        let node = |follows| Node {
            process: Process::Up,
            run: 1,
            follows,
            link: match follows {
                None => Link::Waiting { next: now },
                Some(_) => Link::Up { with_run: 1, silent_since: None },
            },
            down_since: None,
            requirepass: 1,
            masterauth: 1,
            masterauth_on_disk: 1,
            priority: 100,
            offset: 5_000,
            keys: 1_000,
            empty_since: None,
            replid: 1,
            replid2: 0,
            second: -1,
            started: now.before(Duration::from_secs(86_400)),
            lame: false,
        };
        World {
            now,
            dice: Dice(seed),
            nodes: vec![node(None), node(Some(Target::Node(0))), node(Some(Target::Node(0)))],
            sentinels: (0..HOSTS).map(|_| Sentinel::new(0, now)).collect(),
            cut: [[false; HOSTS]; HOSTS],
            store: Store { works: true, offers: vec![1] },
            password: 1,
            requests: Vec::new(),
            outage: 0,
            in_outage: false,
            stirred: Vec::new(),
            moves: Vec::new(),
            dissent_since: [None; HOSTS],
            next_id: 10,
        }
    }

    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Packets travel both ways.
    pub fn path(&self, a: usize, b: usize) -> bool {
        a == b || (!self.cut[a][b] && !self.cut[b][a])
    }

    pub fn way(&self, from: usize, to: Target) -> Way {
        let Target::Node(to) = to else { return Way::Refused };
        match self.nodes[to].process {
            _ if !self.path(from, to) => Way::Silent,
            Process::Down => Way::Refused,
            Process::Hung => Way::Mute,
            Process::Up => Way::Open(to),
        }
    }

    /// Lets time pass up to `until`, or until something stirs.
    pub fn pass(&mut self, until: Timestamp) {
        while self.now < until && self.stirred.is_empty() {
            if self.calm() {
                let slices = i64::try_from(until.since(self.now).as_millis() / SLICE.as_millis()).unwrap();
                self.nodes.iter_mut().for_each(|node| node.offset += 40 * slices);
                self.now = until;
                self.dissent_since = [None; HOSTS];
                return;
            }
            self.now = self.now.after(SLICE).min(until);
            for host in 0..HOSTS {
                self.write(host);
                self.move_link(host);
            }
            self.move_sentinels();
            self.note_dissent();
            self.note_outage();
        }
    }

    /// Nothing moves by itself: time may pass in one go.
    fn calm(&self) -> bool {
        let Some(primary) = self.named() else { return false };
        let run = self.nodes[primary].run;
        let linked = |host: usize| {
            let node = &self.nodes[host];
            let link = Link::Up { with_run: run, silent_since: None };
            let settled = if host == primary { node.follows.is_none() } else { node.link == link };
            let place = host == primary || node.follows == Some(Target::Node(primary));
            node.process == Process::Up && node.keys > 0 && settled && place
        };
        self.cut == [[false; HOSTS]; HOSTS]
            && self.moves.is_empty()
            && !self.in_outage
            && (0..HOSTS).all(linked)
            && self.sentinels.iter().all(|sentinel| sentinel.is_calm(primary, self.now))
    }

    fn write(&mut self, host: usize) {
        let node = &mut self.nodes[host];
        if node.process == Process::Up && node.follows.is_none() {
            node.offset += 40;
        }
        let emptied = node.keys == 0;
        node.empty_since = emptied.then(|| node.empty_since.unwrap_or(self.now));
    }

    fn serves(&self, to: usize, host: usize) -> bool {
        let (peer, node) = (&self.nodes[to], &self.nodes[host]);
        let linked = peer.follows.is_none() || peer.link_up();
        to != host && linked && !peer.lame && peer.requirepass == node.masterauth
    }

    fn move_link(&mut self, host: usize) {
        let Some(target) = self.nodes[host].follows else { return };
        if self.nodes[host].process != Process::Up {
            return;
        }
        let (now, way) = (self.now, self.way(host, target));
        let served = match way {
            Way::Open(to) if self.serves(to, host) => Some(to),
            _ => None,
        };
        match self.nodes[host].link {
            Link::Up { with_run, silent_since } => self.hold_link(host, way, with_run, silent_since),
            Link::Stuck { until } if now < until => {}
            Link::Waiting { next } if now < next => {}
            Link::Syncing { until } => match served {
                Some(to) if now >= until => self.link_up(host, to),
                Some(_) => {}
                None => self.nodes[host].drop_link(now),
            },
            Link::Stuck { .. } | Link::Waiting { .. } => self.attempt(host, way, served),
        }
    }

    fn hold_link(&mut self, host: usize, way: Way, with_run: u64, silent_since: Option<Timestamp>) {
        let now = self.now;
        let (silent_since, lost) = match way {
            Way::Open(to) if self.nodes[to].run == with_run => (None, false),
            Way::Open(_) | Way::Refused => (None, true),
            Way::Silent | Way::Mute => {
                let since = silent_since.unwrap_or(now);
                (Some(since), now.since(since) >= REPL_TIMEOUT)
            }
        };
        if lost {
            self.nodes[host].drop_link(now);
            self.stirred.push(host);
            return;
        }
        if let Way::Open(to) = way {
            self.take_history(host, to);
        }
        self.nodes[host].link = Link::Up { with_run, silent_since };
    }

    fn take_history(&mut self, host: usize, of: usize) {
        let Node { offset, keys, replid, replid2, second, .. } = self.nodes[of];
        let node = &mut self.nodes[host];
        (node.offset, node.keys, node.replid, node.replid2, node.second) = (offset, keys, replid, replid2, second);
    }

    /// One try of the replica's own, as it makes once a second.
    pub fn attempt(&mut self, host: usize, way: Way, served: Option<usize>) {
        let now = self.now;
        let link = match (way, served) {
            (Way::Silent, _) => Link::Stuck { until: now.after(self.dice.between_ms(4_000, 40_000)) },
            (_, Some(to)) => {
                let (node, peer) = (&self.nodes[host], &self.nodes[to]);
                let shared = node.replid == peer.replid || node.replid == peer.replid2;
                if shared && node.offset <= peer.offset && node.linked_once() {
                    return self.link_up(host, to);
                }
                Link::Syncing { until: now.after(self.dice.between_ms(300, 15_000)) }
            }
            _ => Link::Waiting { next: now.after(Duration::from_secs(1)) },
        };
        self.nodes[host].link = link;
    }

    fn link_up(&mut self, host: usize, to: usize) {
        self.take_history(host, to);
        let with_run = self.nodes[to].run;
        let node = &mut self.nodes[host];
        node.link = Link::Up { with_run, silent_since: None };
        self.stirred.push(host);
    }

    /// REPLICAOF: the next attempt is made at once.
    pub fn follow(&mut self, host: usize, target: Target) {
        let now = self.now;
        let node = &mut self.nodes[host];
        node.drop_link(now);
        node.follows = Some(target);
        node.link = Link::Waiting { next: now };
        self.stirred.push(host);
    }

    pub fn promote(&mut self, host: usize) {
        let id = self.new_id();
        let now = self.now;
        let node = &mut self.nodes[host];
        node.follows = None;
        (node.replid2, node.second) = (node.replid, node.offset + 1);
        node.replid = id;
        node.down_since.get_or_insert(now);
        self.stirred.push(host);
    }

    pub fn start_node(&mut self, host: usize) {
        let (now, id) = (self.now, self.new_id());
        let node = &mut self.nodes[host];
        if node.process == Process::Down {
            node.run = id;
            node.masterauth = node.masterauth_on_disk;
            node.down_since = None;
            node.link = Link::Waiting { next: now };
            node.started = now;
            if node.follows.is_none() {
                // Out of its dump it knows its former history, unless it lost all.
                let kept = node.offset > 0;
                (node.replid2, node.second) = if kept { (node.replid, node.offset + 1) } else { (0, -1) };
                node.replid = id;
            }
        }
        node.process = Process::Up;
        self.stirred.push(host);
    }

    pub fn kill_node(&mut self, host: usize) {
        let now = self.now;
        let node = &mut self.nodes[host];
        node.drop_link(now);
        node.process = Process::Down;
        self.stirred.push(host);
    }

    /// The primary that most Sentinels name, by the truth.
    pub fn named(&self) -> Option<usize> {
        (0..HOSTS).find(|host| self.sentinels.iter().filter(|s| s.primary == *host).count() * 2 > HOSTS)
    }

    /// All that was broken is whole, and everybody knows it.
    pub fn mend(&mut self) {
        let now = self.now;
        self.cut = Default::default();
        self.store = Store { works: true, offers: vec![self.password] };
        self.moves.clear();
        let newest = self.sentinels.iter().max_by_key(|sentinel| sentinel.epoch).cloned();
        let Some(newest) = newest else { return };
        for host in 0..HOSTS {
            let sentinel = &mut self.sentinels[host];
            (sentinel.up, sentinel.alone, sentinel.tilt_until, sentinel.failover) = (true, false, now, None);
            (sentinel.primary, sentinel.epoch) = (newest.primary, newest.epoch);
            self.start_node(host);
            let node = &mut self.nodes[host];
            (node.requirepass, node.masterauth, node.masterauth_on_disk) =
                (self.password, self.password, self.password);
            (node.keys, node.priority, node.lame) = (1_000, 100, false);
            let follows = (host != newest.primary).then_some(Target::Node(newest.primary));
            if node.follows != follows {
                node.follows = follows;
                node.drop_link(now);
            }
        }
    }

    fn note_outage(&mut self) {
        let served = self
            .named()
            .is_some_and(|host| self.nodes[host].process == Process::Up && self.nodes[host].follows.is_none());
        if served {
            self.in_outage = false;
        } else if !self.in_outage {
            self.in_outage = true;
            self.outage += 1;
        }
    }
}
