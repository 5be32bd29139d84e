//! What a look from one host sees of the toy world, built on the healthy evidence that the unit tests use.

use std::sync::LazyLock;
use std::time::Duration;

use relinkd::model::evidence::*;
use relinkd::model::{Address, Endpoint, Timestamp};

use super::base::{Bend, at, blank, error, flags, green, healthy, listed};
use super::sentinel::{DOWN_AFTER, FAILOVER_TIMEOUT};
use super::world::{HOSTS, Link, Process, Target, Way, World};

const NODES: [&str; HOSTS] = ["10.0.0.20:6379", "10.0.0.21:6379", "10.0.0.22:6379"];
const NOWHERE: &str = "10.0.0.99:6379";

pub fn node(host: usize) -> Endpoint {
    at(NODES[host])
}

pub fn target(target: Target) -> Endpoint {
    match target {
        Target::Node(host) => node(host),
        Target::Nowhere => at(NOWHERE),
    }
}

/// The address back to what it means.
pub fn target_at(endpoint: &Endpoint) -> Target {
    (0..HOSTS).find(|host| node(*host) == *endpoint).map_or(Target::Nowhere, Target::Node)
}

pub fn sentinel_at(endpoint: &Endpoint) -> usize {
    (0..HOSTS).find(|host| sentinel(*host) == *endpoint).expect("a Sentinel of the world")
}

fn sentinel(host: usize) -> Endpoint {
    Endpoint::new(format!("10.0.0.{}", 11 + host), 26379)
}

/// As INFO tells it; none is all zeroes.
fn history(id: u64) -> String {
    if id == 0 { "0".repeat(40) } else { format!("replid-{id}") }
}

pub fn print(version: u32) -> String {
    format!("print-{version}")
}

pub struct Asked {
    pub candidates: bool,
    pub deep: bool,
    /// When it began, by the agent's clock.
    pub began: Timestamp,
}

static BASE: LazyLock<Evidence> = LazyLock::new(healthy);

fn base_says() -> &'static SentinelSays {
    BASE.sentinels[0].says.seen().unwrap()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

impl World {
    pub fn look(&self, host: usize, asked: &Asked) -> Evidence {
        let mut e = BASE.clone();
        e.link.replica = format!("node-{host}");
        e.address = Address::Tcp(node(host));
        (e.began, e.ended) = (asked.began, asked.began);
        e.sentinels = (0..HOSTS).map(|other| self.sentinel_view(host, other)).collect();
        e.each_sentinel(|says| says.at = asked.began);
        let me = &self.nodes[host];
        e.upstream = Reading::Missing(Missing::NotAsked);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.primary_limits = Reading::Missing(Missing::NotAsked);
        if me.process != Process::Up {
            let down = me.process == Process::Down;
            let why = if down { Missing::Refused("connection refused".into()) } else { Missing::TimedOut };
            e.local = Reading::Missing(why.clone());
            e.settings = Reading::Missing(why);
            return e;
        }
        *e.settings() = SettingsView {
            masterauth_set: me.masterauth != 0,
            masterauth_print: print(me.masterauth),
            ..BASE.settings.seen().unwrap().clone()
        };
        let base = &*BASE;
        let local = self.server(host, base.local.seen().unwrap(), base.local_link().unwrap());
        *e.server() = local;
        let named = e.named_primary().map(|(named, _)| target_at(named));
        let Some(followed) = me.follows else {
            if let Some(named) = named.filter(|named| *named != Target::Node(host)) {
                self.see_elsewhere(host, &mut e, named);
            }
            return e;
        };
        if asked.deep || !me.link_up() {
            let probe = self.probe(host, followed, me.masterauth);
            if let (Way::Open(to), true) = (self.way(host, followed), probe.auth.is_ok() || probe.ping.is_ok()) {
                e.primary = Reading::Seen(self.server(to, base.primary.seen().unwrap(), base.local_link().unwrap()));
                e.primary_limits = base.primary_limits.clone();
            }
            e.upstream = Reading::Seen(probe);
        }
        if let Some(named) = named.filter(|named| *named != followed) {
            e.named = Reading::Seen(self.probe(host, named, me.masterauth));
        }
        e.successors = self.successors(host, &e);
        if asked.candidates {
            self.offer(host, &mut e, named.unwrap_or(followed));
        }
        e
    }

    /// Each replica that a Sentinel has in sight, while a majority holds the primary down.
    fn successors(&self, host: usize, e: &Evidence) -> Vec<Successor> {
        if e.sentinels_flagging("s_down") * 2 <= e.sentinels_known() {
            return Vec::new();
        }
        let listed = |other: usize| {
            let mut replicas = e.answering().flat_map(|(_, says)| &says.replicas);
            replicas.any(|replica| replica.endpoint == node(other) && !replica.flags.contains("s_down"))
        };
        let one = |other: usize| {
            let probe = self.probe(host, Target::Node(other), self.nodes[host].masterauth);
            let server = match probe.auth.is_ok() || probe.ping.is_ok() {
                true => Reading::Seen(self.server(other, BASE.local.seen().unwrap(), BASE.local_link().unwrap())),
                false => Reading::Missing(Missing::TimedOut),
            };
            let (endpoint, run_id) = (node(other), format!("run-{other}-{}", self.nodes[other].run));
            let (print, user) = (print(self.nodes[host].masterauth), String::new());
            Successor { at: e.ended, endpoint, run_id, print, user, probe: Reading::Seen(probe), server }
        };
        (0..HOSTS).filter(|other| listed(*other)).map(one).collect()
    }

    /// The one that the Sentinels name, where this server calls itself the primary too.
    fn see_elsewhere(&self, host: usize, e: &mut Evidence, named: Target) {
        let probe = self.probe(host, named, self.nodes[host].masterauth);
        if let (Way::Open(to), true) = (self.way(host, named), probe.auth.is_ok() || probe.ping.is_ok()) {
            e.primary = Reading::Seen(self.server(to, BASE.primary.seen().unwrap(), BASE.local_link().unwrap()));
        }
        e.named = Reading::Seen(probe);
    }

    fn offer(&self, host: usize, e: &mut Evidence, place: Target) {
        if !self.store.works {
            e.store = Reading::Missing(Missing::Refused("the store is away".into()));
            return;
        }
        let one = |version: &u32| CandidateView {
            source: "file:/etc/relinkd/masterauth".into(),
            version: version.to_string(),
            user: String::new(),
            print: print(*version),
            in_use: *version == self.nodes[host].masterauth,
            proof: self.probe(host, place, *version),
        };
        e.candidates = self.store.offers.iter().map(one).collect();
        let offered = u32::try_from(e.candidates.len()).unwrap();
        e.store = Reading::Seen(StoreView {
            at: e.began,
            source: "file:/etc/relinkd/masterauth".into(),
            offered,
            silent_ms: None,
        });
    }

    fn server(&self, host: usize, base: &ServerView, link: &LinkView) -> ServerView {
        let node = &self.nodes[host];
        let replicas = (0..HOSTS)
            .filter(|other| self.nodes[*other].follows == Some(Target::Node(host)) && self.nodes[*other].link_up());
        ServerView {
            run_id: format!("run-{host}-{}", node.run),
            role: match node.follows {
                None => Role::Primary,
                Some(_) => Role::Replica(self.link_view(host, link)),
            },
            keys: node.keys,
            replid: history(node.replid),
            replid2: history(node.replid2),
            second_repl_offset: node.second,
            uptime_s: self.now.since(node.started).as_secs(),
            repl_offset: node.offset,
            priority: node.priority,
            replicas: replicas.map(|other| listed(NODES[other], "online")).collect(),
            ..base.clone()
        }
    }

    fn down_for_s(&self, host: usize) -> i64 {
        let since = self.nodes[host].down_since;
        since.map_or(-1, |since| i64::try_from(self.now.since(since).as_secs()).unwrap())
    }

    fn link_view(&self, host: usize, base: &LinkView) -> LinkView {
        let node = &self.nodes[host];
        let up = node.link_up();
        let syncing = matches!(node.link, Link::Syncing { .. });
        let silent = match node.link {
            Link::Up { silent_since: Some(since), .. } => self.now.since(since).as_secs(),
            _ => 0,
        };
        LinkView {
            primary: target(node.follows.expect("a replica")),
            up,
            state: match node.link {
                Link::Up { .. } => LinkState::Connected,
                Link::Waiting { .. } => LinkState::Connect,
                Link::Stuck { .. } => LinkState::Connecting,
                Link::Syncing { .. } => LinkState::Sync,
            },
            down_for_s: (!up).then(|| self.down_for_s(host)),
            last_io_s: if up { i64::try_from(silent).unwrap() } else { -1 },
            syncing,
            sync_read: if syncing { millis(self.now.since(Timestamp(0))) } else { 0 },
            offset: if node.linked_once() { node.offset } else { 0 },
            ..base.clone()
        }
    }

    /// A replica's handshake from a host, with a password.
    pub fn probe(&self, from: usize, to: Target, password: u32) -> Probe {
        let name = target(to).to_string();
        let connect = |connect| Probe { connect, peer: None, ..blank(&name) };
        let to = match self.way(from, to) {
            Way::Silent => return connect(Connect::TimedOut),
            Way::Refused => return connect(Connect::Refused),
            Way::Mute => return Probe { ping: Answer::TimedOut, ..blank(&name) },
            Way::Open(to) => to,
        };
        let peer = &self.nodes[to];
        let with_password = password != 0;
        let open = Probe { with_password, ..blank(&name) };
        let noauth = || error("NOAUTH Authentication required.");
        let ping = if peer.requirepass == 0 { Answer::Ok("PONG".into()) } else { noauth() };
        let auth = match (password, peer.requirepass) {
            (0, _) => Answer::NotAsked,
            (_, 0) => error("ERR AUTH <password> called without any password configured for the default user."),
            (mine, its) if mine == its => Answer::Ok("OK".into()),
            _ => error("WRONGPASS invalid username-password pair or user is disabled."),
        };
        if peer.requirepass != password {
            return Probe { ping, auth, ..open };
        }
        let role = match peer.follows {
            None => PeerRole::Primary { offset: peer.offset },
            Some(of) => PeerRole::Replica {
                of: target(of),
                state: if peer.link_up() { LinkState::Connected } else { LinkState::Connect },
            },
        };
        let linked = peer.follows.is_none() || peer.link_up();
        let psync = if linked { green(&name).psync } else { error("NOMASTERLINK Can't SYNC while not connected") };
        Probe { ping, auth, psync, with_password, role: Reading::Seen(role), ..green(&name) }
    }

    fn sentinel_view(&self, from: usize, of: usize) -> SentinelView {
        let missing = if !self.path(from, of) {
            Some(Missing::TimedOut)
        } else {
            (!self.sentinels[of].up).then(|| Missing::Refused("connection refused".into()))
        };
        let says = missing.map_or_else(|| Reading::Seen(self.says(of)), Reading::Missing);
        SentinelView { endpoint: sentinel(of), says }
    }

    pub fn says(&self, host: usize) -> SentinelSays {
        let sentinel = &self.sentinels[host];
        let heard = self.sentinels_heard(host);
        let mut words = vec!["master"];
        words.extend(sentinel.s_down.map(|_| "s_down"));
        words.extend(sentinel.o_down.map(|_| "o_down"));
        words.extend(sentinel.failover.as_ref().map(|_| "failover_in_progress"));
        let since = |from: Option<Timestamp>| from.map(|from| millis(self.now.since(from)));
        SentinelSays {
            id: format!("id-{host}"),
            primary: node(sentinel.primary),
            primary_run_id: format!("run-{}-{}", sentinel.primary, self.nodes[sentinel.primary].run),
            flags: flags(&words),
            s_down_ms: since(sentinel.s_down),
            o_down_ms: since(sentinel.o_down),
            config_epoch: sentinel.epoch,
            down_after_ms: millis(DOWN_AFTER),
            failover_timeout_ms: millis(FAILOVER_TIMEOUT),
            failover_state: sentinel.failover.as_ref().map(|_| "wait_promotion".to_owned()),
            role_reported_ms: millis(self.now.since(sentinel.role_since)),
            replicas_missing: None,
            replicas: (0..HOSTS)
                .filter(|other| *other != sentinel.primary)
                .map(|other| self.replica_in_sentinel(host, other))
                .collect(),
            ckquorum: Reading::Seen(Quorum { ok: heard >= 2, text: format!("{heard} usable Sentinels") }),
            tilt: Reading::Seen(self.now < sentinel.tilt_until),
            nodes: Reading::Seen((0..HOSTS).map(|other| (NODES[other].to_owned(), self.cached(other))).collect()),
            ..base_says().clone()
        }
    }

    fn replica_in_sentinel(&self, from: usize, host: usize) -> ReplicaInSentinel {
        let peer = &self.nodes[host];
        let lost = self.sentinels[from].lost_since[host].map(|since| self.now.since(since));
        let down = lost.filter(|span| *span >= DOWN_AFTER);
        let age = lost.map_or(500, millis);
        ReplicaInSentinel {
            endpoint: node(host),
            run_id: format!("run-{host}-{}", peer.run),
            flags: flags(if down.is_some() { &["slave", "s_down", "disconnected"] } else { &["slave"] }),
            s_down_ms: down.map(|span| millis(span - DOWN_AFTER)),
            last_ok_ping_ms: age,
            last_reply_ms: None,
            info_refresh_ms: age,
            reports_primary: lost.is_none() && peer.follows.is_none(),
            priority: peer.priority,
            offset: if peer.linked_once() { peer.offset } else { 0 },
            link_ok: peer.link_up(),
            link_down_ms: if peer.link_up() { 0 } else { self.down_for_s(host) * 1000 },
            primary: peer.follows.map(target),
            ..base_says().replicas[0].clone()
        }
    }

    fn cached(&self, host: usize) -> CachedNode {
        let peer = &self.nodes[host];
        let nodes = base_says().nodes.seen().unwrap();
        CachedNode {
            run_id: format!("run-{host}-{}", peer.run),
            is_primary: peer.follows.is_none(),
            keys: peer.keys,
            repl_offset: if peer.follows.is_none() || peer.linked_once() { peer.offset } else { 0 },
            replid2: history(peer.replid2),
            second_repl_offset: peer.second,
            link_up: peer.link_up(),
            link_down_for_s: (peer.follows.is_some() && !peer.link_up()).then(|| self.down_for_s(host)),
            priority: peer.priority,
            ..nodes[NODES[0]].clone()
        }
    }
}
