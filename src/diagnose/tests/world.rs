//! One healthy base, and the small ways in which tests make it sick: a replica, its primary, three Sentinels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::evidence::*;
use crate::model::{Address, Endpoint, LinkId, Timestamp};

pub const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub const PRIMARY: &str = "10.0.0.20:6379";
pub const REPLICA: &str = "10.0.0.21:6379";
pub const OTHER: &str = "10.0.0.22:6379";

pub fn at(text: &str) -> Endpoint {
    text.parse().unwrap()
}

pub fn flags(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub fn error(text: &str) -> Answer {
    Answer::Error { code: text.split(' ').next().unwrap_or_default().to_owned(), text: text.to_owned() }
}

/// A look at a healthy replica with a password, repeated through the handshake.
pub fn healthy() -> Evidence {
    Evidence {
        format: EVIDENCE_FORMAT,
        link: LinkId { replica: "cache".into(), group: "mymaster".into() },
        address: Address::Tcp(at(REPLICA)),
        began: T0,
        ended: T0.after(Duration::from_millis(5)),
        local: Reading::Seen(replica()),
        settings: Reading::Seen(SettingsView {
            at: T0,
            masteruser: String::new(),
            masterauth_set: true,
            masterauth_print: "print-old".into(),
            repl_timeout_s: 60,
            dir: "/var/lib/redis".into(),
            logfile: String::new(),
            diskless_load: "disabled".into(),
            serve_stale_data: true,
            tls_replication: false,
            save_stops_writes: true,
            ignores_disk_errors: false,
            login_not_text: false,
        }),
        upstream: Reading::Seen(green(PRIMARY)),
        lookup: None,
        named: Reading::Missing(Missing::NotAsked),
        primary: Reading::Seen(ServerView {
            run_id: "run-primary".into(),
            role: Role::Primary,
            replicas: vec![listed(REPLICA, "online")],
            ..server()
        }),
        primary_limits: Reading::Seen(LimitsView {
            at: T0,
            repl_timeout_s: 60,
            ping_period_s: 10,
            backlog_size: 1 << 20,
            diskless_sync: true,
            output_hard: 256 << 20,
            output_soft: 64 << 20,
            output_soft_s: 60,
            output_largest: Some(0),
            replica_age_s: None,
            unknown_commands: Some(Vec::new()),
        }),
        sentinels: ["10.0.0.11:26379", "10.0.0.12:26379", "10.0.0.13:26379"]
            .into_iter()
            .map(|name| SentinelView { endpoint: at(name), says: Reading::Seen(says(name)) })
            .collect(),
        host: HostView {
            disk: Reading::Seen(Disk {
                at: T0,
                path: "/var/lib/redis".into(),
                total: 100 << 30,
                free: 50 << 30,
                inodes_free: Some(1_000_000),
            }),
            memory: Reading::Seen(Memory { at: T0, total: 8 << 30, available: 4 << 30 }),
        },
        log: Reading::Seen(LogView {
            at: T0,
            source: "file:/var/log/redis/redis-server.log".into(),
            lines: Vec::new(),
            bytes_per_s: 0,
            skipped: false,
        }),
        candidates: Vec::new(),
        store: Reading::Missing(Missing::NotAsked),
        standbys: Vec::new(),
        successors: Vec::new(),
        trend: Trend::default(),
    }
}

/// A replica that was looked at for itself, and would take another in.
pub fn successor(name: &str) -> Successor {
    let psync = error("NOMASTERLINK Can't SYNC while not connected with my master");
    let role = Reading::Seen(PeerRole::Replica { of: at(PRIMARY), state: LinkState::Connect });
    let run_id = if name == REPLICA { "run-replica".into() } else { format!("run-{name}") };
    let server = ServerView { run_id: run_id.clone(), ..replica() };
    Successor {
        at: T0,
        endpoint: at(name),
        run_id,
        print: "print-old+".into(),
        user: String::new(),
        probe: Reading::Seen(Probe { psync, role, ..green(name) }),
        server: Reading::Seen(server),
    }
}

fn server() -> ServerView {
    ServerView {
        at: T0,
        took_us: 300,
        run_id: "run-replica".into(),
        flavour: Flavour::Redis,
        version: "7.2.4".into(),
        role: Role::Primary,
        uptime_s: 86_400,
        loading: false,
        loading_percent: None,
        loading_bytes: None,
        keys: 1000,
        used_memory: 10 << 20,
        buffers: 0,
        maxmemory: 0,
        replid: "replid".into(),
        replid2: "0".repeat(40),
        repl_offset: 5000,
        second_repl_offset: -1,
        backlog_active: true,
        backlog_size: 1 << 20,
        backlog_first: 1,
        backlog_len: 5000,
        sync_full: 1,
        sync_partial_ok: 0,
        sync_partial_err: 0,
        rdb_last_save_ok: true,
        unsaved_changes: Some(0),
        rdb_saving: false,
        aof_last_write_ok: true,
        output_buffer_cuts: Some(0),
        rejected_connections: 0,
        errors: BTreeMap::new(),
        config_file: "/etc/redis/redis.conf".into(),
        process_id: Some(42),
        failover_state: "no-failover".into(),
        priority: 100,
        replicas: Vec::new(),
    }
}

fn replica() -> ServerView {
    let link = LinkView {
        primary: at(PRIMARY),
        up: true,
        state: LinkState::Connected,
        down_for_s: None,
        last_io_s: 1,
        syncing: false,
        sync_read: 0,
        sync_total: 0,
        sync_last_io_s: 0,
        offset: 5000,
    };
    ServerView { role: Role::Replica(link), ..server() }
}

pub fn listed(name: &str, state: &str) -> ReplicaOfPrimary {
    ReplicaOfPrimary { endpoint: at(name), state: state.into(), offset: 5000, lag_s: 0 }
}

/// A handshake in which every step is answered well.
pub fn green(target: &str) -> Probe {
    Probe {
        at: T0,
        took_us: 900,
        target: at(target),
        tls: false,
        user: String::new(),
        with_password: true,
        connect: Connect::Open,
        peer: Some(target.into()),
        own_host: false,
        other_transport: None,
        cut_short: false,
        version: Some("7.2.4".into()),
        ping: error("NOAUTH Authentication required."),
        auth: Answer::Ok("OK".into()),
        ping_again: Answer::Ok("PONG".into()),
        replconf: Answer::Ok("OK".into()),
        psync: error("ERR value is not an integer or out of range"),
        role: Reading::Seen(PeerRole::Primary { offset: 5000 }),
    }
}

/// A handshake in which nothing was asked but what the test sets.
pub fn blank(target: &str) -> Probe {
    Probe {
        ping: Answer::NotAsked,
        auth: Answer::NotAsked,
        ping_again: Answer::NotAsked,
        replconf: Answer::NotAsked,
        psync: Answer::NotAsked,
        role: Reading::Missing(Missing::NotAsked),
        ..green(target)
    }
}

fn says(name: &str) -> SentinelSays {
    SentinelSays {
        at: T0,
        took_us: 500,
        id: format!("id-{name}"),
        primary: at(PRIMARY),
        primary_run_id: "run-primary".into(),
        flags: flags(&["master"]),
        last_ok_ping_ms: None,
        last_reply_ms: None,
        s_down_ms: None,
        o_down_ms: None,
        config_epoch: 1,
        quorum: 2,
        others: 2,
        down_after_ms: 5_000,
        failover_timeout_ms: 60_000,
        failover_state: None,
        info_refresh_ms: 500,
        role_reported_ms: 3_600_000,
        uptime_s: Some(86_400),
        replicas: vec![in_sentinel(REPLICA), in_sentinel(OTHER)],
        replicas_missing: None,
        ckquorum: Reading::Seen(Quorum { ok: true, text: "OK 3 usable Sentinels.".into() }),
        tilt: Reading::Seen(false),
        build: None,
        nodes: Reading::Seen(
            [(PRIMARY, true), (REPLICA, false), (OTHER, false)]
                .into_iter()
                .map(|(name, is_primary)| (name.to_owned(), cached(name, is_primary)))
                .collect(),
        ),
    }
}

fn in_sentinel(name: &str) -> ReplicaInSentinel {
    ReplicaInSentinel {
        endpoint: at(name),
        run_id: if name == REPLICA { "run-replica".into() } else { format!("run-{name}") },
        flags: flags(&["slave"]),
        priority: 100,
        offset: 5000,
        link_ok: true,
        link_down_ms: 0,
        info_refresh_ms: 500,
        last_ok_ping_ms: 100,
        last_reply_ms: None,
        primary: Some(at(PRIMARY)),
        announced: true,
        reports_primary: false,
        s_down_ms: None,
    }
}

fn cached(name: &str, is_primary: bool) -> CachedNode {
    CachedNode {
        age_ms: 500,
        run_id: format!("run-{name}"),
        flavour: Flavour::Redis,
        version: "7.2.4".into(),
        is_primary,
        keys: 1000,
        repl_offset: 5000,
        replid2: "0".repeat(40),
        second_repl_offset: -1,
        link_up: !is_primary,
        link_down_for_s: None,
        priority: 100,
        rdb_last_save_ok: true,
        aof_last_write_ok: true,
        loading: false,
        good_replicas: None,
    }
}

/// The parts that a test bends.
pub trait Bend {
    fn server(&mut self) -> &mut ServerView;
    fn link(&mut self) -> &mut LinkView;
    fn probe(&mut self) -> &mut Probe;
    fn settings(&mut self) -> &mut SettingsView;
    fn source(&mut self) -> &mut ServerView;
    fn limits(&mut self) -> &mut LimitsView;
    fn sentinel(&mut self, index: usize) -> &mut SentinelSays;
    fn each_sentinel(&mut self, bend: impl Fn(&mut SentinelSays)) -> &mut Self;
    fn silence(&mut self, index: usize) -> &mut Self;
    fn alone(&mut self) -> &mut Self;
    fn break_link(&mut self, state: LinkState) -> &mut Self;
    fn told_down(&mut self) -> &mut Self;
    fn stood(&mut self, span: Duration) -> &mut Self;
    fn log(&mut self, kind: LogKind, sample: &str, count: u32) -> &mut Self;
    fn refuse(&mut self) -> &mut Self;
    fn reject_password(&mut self) -> &mut Self;
    fn shift(&mut self, to: Timestamp) -> &mut Self;
}

impl Bend for Evidence {
    fn server(&mut self) -> &mut ServerView {
        seen(&mut self.local)
    }

    fn link(&mut self) -> &mut LinkView {
        match &mut self.server().role {
            Role::Replica(link) => link,
            other => panic!("{other:?} has no link"),
        }
    }

    fn probe(&mut self) -> &mut Probe {
        seen(&mut self.upstream)
    }

    fn settings(&mut self) -> &mut SettingsView {
        seen(&mut self.settings)
    }

    fn source(&mut self) -> &mut ServerView {
        seen(&mut self.primary)
    }

    fn limits(&mut self) -> &mut LimitsView {
        seen(&mut self.primary_limits)
    }

    fn sentinel(&mut self, index: usize) -> &mut SentinelSays {
        seen(&mut self.sentinels[index].says)
    }

    fn each_sentinel(&mut self, bend: impl Fn(&mut SentinelSays)) -> &mut Self {
        for view in &mut self.sentinels {
            if let Reading::Seen(says) = &mut view.says {
                bend(says);
            }
        }
        self
    }

    /// This Sentinel does not answer.
    fn silence(&mut self, index: usize) -> &mut Self {
        self.sentinels[index].says = Reading::Missing(Missing::TimedOut);
        self
    }

    /// No Sentinel is configured.
    fn alone(&mut self) -> &mut Self {
        self.sentinels.clear();
        self
    }

    fn break_link(&mut self, state: LinkState) -> &mut Self {
        let link = self.link();
        (link.up, link.state, link.down_for_s, link.last_io_s) = (false, state, Some(0), -1);
        self.source().replicas.clear();
        self
    }

    /// Every Sentinel holds the primary down, and they agree; so every replica was looked at.
    fn told_down(&mut self) -> &mut Self {
        self.successors = [REPLICA, OTHER].map(successor).into();
        self.each_sentinel(|says| {
            says.flags = flags(&["master", "s_down", "o_down"]);
            says.s_down_ms = Some(30_000);
            says.o_down_ms = Some(30_000);
        })
    }

    /// The break has been in sight for this long.
    fn stood(&mut self, span: Duration) -> &mut Self {
        self.trend.down_seen = Some(self.ended.before(span));
        self
    }

    fn log(&mut self, kind: LogKind, sample: &str, count: u32) -> &mut Self {
        let (first, last) = (self.ended.before(Duration::from_secs(10)), self.ended.before(Duration::from_millis(200)));
        let line = LogFact { kind, first, last, count, sample: sample.into() };
        seen(&mut self.log).lines.push(line);
        self
    }

    /// Nothing listens on the primary's port.
    fn refuse(&mut self) -> &mut Self {
        self.break_link(LinkState::Connect);
        self.upstream = Reading::Seen(Probe { connect: Connect::Refused, peer: None, ..blank(PRIMARY) });
        self.primary = Reading::Missing(Missing::Refused("connection refused".into()));
        self.primary_limits = Reading::Missing(Missing::NotAsked);
        self
    }

    /// The primary does not take the replica's password any more.
    fn reject_password(&mut self) -> &mut Self {
        self.break_link(LinkState::Connect);
        let auth = error("WRONGPASS invalid username-password pair or user is disabled.");
        let ping = error("NOAUTH Authentication required.");
        self.upstream = Reading::Seen(Probe { ping, auth, ..blank(PRIMARY) });
        self.primary = Reading::Missing(Missing::NotAsked);
        self.primary_limits = Reading::Missing(Missing::NotAsked);
        self
    }

    /// The same look at another time.
    fn shift(&mut self, to: Timestamp) -> &mut Self {
        self.began = to;
        self.ended = to.after(Duration::from_millis(5));
        self.each_sentinel(|says| says.at = to)
    }
}

pub fn seen<T>(reading: &mut Reading<T>) -> &mut T {
    match reading {
        Reading::Seen(value) => value,
        Reading::Missing(why) => panic!("missing: {why}"),
    }
}

/// The local server was the primary, OTHER took over at offset 5000, and it came back.
pub fn second_primary() -> Evidence {
    let mut e = healthy();
    e.local = Reading::Seen(ServerView { replid: "former".into(), ..server() });
    e.upstream = Reading::Missing(Missing::NotAsked);
    e.named = Reading::Seen(green(OTHER));
    e.primary = Reading::Seen(ServerView {
        run_id: "run-other".into(),
        replid: "new".into(),
        replid2: "former".into(),
        second_repl_offset: 5_001,
        ..server()
    });
    e.each_sentinel(|says| {
        (says.primary, says.primary_run_id) = (at(OTHER), "run-other".into());
        let taken_over = CachedNode { replid2: "former".into(), second_repl_offset: 5_001, ..cached(OTHER, true) };
        says.nodes = Reading::Seen([(OTHER.to_owned(), taken_over)].into());
    });
    e
}
