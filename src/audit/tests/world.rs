//! One sound group, and ways to change one thing of it.

use super::*;

pub(super) const NOW: Timestamp = Timestamp(1);
pub(super) const OUTAGE: Duration = Duration::from_secs(60);

pub(super) fn at(number: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{number}"), 6379)
}

pub(super) fn sentinel_at(number: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{number}"), 26379)
}

pub(super) fn flags(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn server(primary: bool) -> ServerView {
    let link = LinkView {
        primary: at(1),
        up: true,
        state: LinkState::Connected,
        down_for_s: None,
        last_io_s: 0,
        syncing: false,
        sync_read: 0,
        sync_total: 0,
        sync_last_io_s: -1,
        offset: 5_000,
    };
    ServerView {
        at: NOW,
        took_us: 1,
        run_id: String::new(),
        flavour: Flavour::Redis,
        version: "7.0.15".into(),
        role: if primary { Role::Primary } else { Role::Replica(link) },
        uptime_s: 1_000,
        loading: false,
        loading_percent: None,
        loading_bytes: None,
        keys: 10,
        used_memory: 1 << 30,
        buffers: 0,
        maxmemory: 0,
        replid: String::new(),
        replid2: String::new(),
        repl_offset: 5_000,
        second_repl_offset: -1,
        backlog_active: true,
        backlog_size: 64 << 20,
        backlog_first: 1,
        backlog_len: 1,
        sync_full: 0,
        sync_partial_ok: 0,
        sync_partial_err: 0,
        rdb_last_save_ok: true,
        unsaved_changes: Some(0),
        rdb_saving: false,
        aof_last_write_ok: true,
        output_buffer_cuts: None,
        rejected_connections: 0,
        errors: Default::default(),
        config_file: String::new(),
        process_id: None,
        failover_state: "no-failover".into(),
        priority: 100,
        replicas: Vec::new(),
    }
}

pub(super) fn node_settings() -> NodeSettings {
    NodeSettings {
        masteruser: String::new(),
        masterauth_set: true,
        login_not_text: false,
        login: "a".into(),
        repl_timeout_s: 60,
        ping_period_s: 10,
        backlog_size: 64 << 20,
        backlog_ttl_s: 3600,
        output_hard: 256 << 20,
        output_soft: 64 << 20,
        output_soft_s: 60,
        diskless_sync: true,
        diskless_sync_delay_s: 5,
        diskless_load: "disabled".into(),
        rdb_channel: false,
        serve_stale_data: true,
        save: "3600 1".into(),
        append_only: false,
        stop_writes: true,
        min_replicas_to_write: 0,
        min_replicas_max_lag_s: 10,
        announce_ip: String::new(),
        announce_port: 0,
        announced: true,
        dir: "/data".into(),
        priority: 100,
        tls_replication: false,
    }
}

/// Node 2 is the instance of this host; 1 GiB of data, 1 MiB/s of writes.
pub(super) fn node(number: u8) -> GroupNode {
    let local = number == 2;
    GroupNode {
        address: at(number),
        local: local.then(|| "cache".to_owned()),
        account: Reading::Seen(NodeAccount { server: server(number == 1), data_bytes: 1 << 30, host_memory: 8 << 30 }),
        settings: Reading::Seen(node_settings()),
        growth: Reading::Seen(Growth { bytes: 1 << 20, over_ms: 1_000 }),
        disk: match local {
            true => Reading::Seen(Disk {
                at: NOW,
                path: "/data".into(),
                total: 9 << 30,
                free: 8 << 30,
                inodes_free: Some(9),
            }),
            false => Reading::Missing(Missing::NotAsked),
        },
        memory: match local {
            true => Reading::Seen(Memory { at: NOW, total: 8 << 30, available: 4 << 30 }),
            false => Reading::Missing(Missing::NotAsked),
        },
        rdb_bytes: Reading::Missing(Missing::NotAsked),
        rights: Reading::Seen(Rights { sentinels: [("default".to_owned(), Vec::new())].into(), ..Rights::default() }),
        restart: Reading::Missing(Missing::NotAsked),
    }
}

pub(super) fn replica_in_sentinel(number: u8) -> ReplicaInSentinel {
    ReplicaInSentinel {
        endpoint: at(number),
        run_id: String::new(),
        flags: flags(&["slave"]),
        priority: 100,
        offset: 5_000,
        link_ok: true,
        link_down_ms: 0,
        info_refresh_ms: 100,
        last_ok_ping_ms: 100,
        last_reply_ms: None,
        primary: Some(at(1)),
        announced: true,
        reports_primary: false,
        s_down_ms: None,
    }
}

pub(super) fn sentinel(number: u8) -> GroupSentinel {
    let peers = [1, 2, 3].into_iter().filter(|other| *other != number);
    GroupSentinel {
        endpoint: sentinel_at(number),
        configured: true,
        says: Reading::Seen(SentinelSays {
            at: NOW,
            took_us: 1,
            id: number.to_string(),
            primary: at(1),
            primary_run_id: String::new(),
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
            info_refresh_ms: 100,
            role_reported_ms: 100_000,
            uptime_s: None,
            replicas_missing: None,
            replicas: vec![replica_in_sentinel(2), replica_in_sentinel(3)],
            ckquorum: Reading::Seen(Quorum { ok: true, text: "OK 3 usable Sentinels".into() }),
            tilt: Reading::Seen(false),
            build: None,
            nodes: Reading::Missing(Missing::NotAsked),
        }),
        peers: Reading::Seen(
            peers.map(|n| SentinelPeer { id: n.to_string(), endpoint: sentinel_at(n), down: false }).collect(),
        ),
        ghosts: Reading::Seen(Vec::new()),
    }
}

pub(super) fn proof(login: &str, number: u8) -> LoginProof {
    let ok = || Answer::Ok("OK".into());
    let probe = Probe {
        at: NOW,
        took_us: 1,
        target: at(number),
        tls: false,
        user: String::new(),
        with_password: true,
        connect: Connect::Open,
        peer: None,
        own_host: false,
        other_transport: None,
        cut_short: false,
        version: None,
        ping: error("NOAUTH Authentication required."),
        auth: ok(),
        ping_again: ok(),
        replconf: ok(),
        psync: error("ERR value is not an integer or out of range"),
        role: Reading::Missing(Missing::NotAsked),
    };
    LoginProof { login: login.into(), at: at(number), probe }
}

pub(super) fn error(text: &str) -> Answer {
    Answer::Error { code: text.split(' ').next().unwrap_or_default().into(), text: text.into() }
}

pub(super) fn sound() -> GroupView {
    GroupView {
        name: "mymaster".into(),
        began: NOW,
        ended: NOW,
        sentinels: [1, 2, 3].map(sentinel).to_vec(),
        nodes: [1, 2, 3].map(node).to_vec(),
        logins: [1, 2, 3].map(|number| proof("a", number)).to_vec(),
        unfetched: Vec::new(),
        tls: None,
    }
}

/// What does not pass, as `verdict name node`; the node by its last number.
pub(super) fn told(view: &GroupView) -> Vec<String> {
    let checks = judge(view, OUTAGE);
    let told = checks.iter().filter(|check| check.verdict != Verdict::Pass).map(|check| {
        assert!(!check.means.is_empty() && !check.saw.is_empty(), "{check:?}");
        let node = check.node.as_ref().map(|node| node.host.rsplit('.').next().unwrap_or_default().to_owned());
        format!("{:?} {} {}", check.verdict, check.name, node.unwrap_or_default()).trim().to_lowercase()
    });
    told.collect()
}

pub(super) type Change = fn(&mut GroupView);

#[track_caller]
pub(super) fn each(table: &[(&str, Change, &[&str])]) {
    let mut wrong = Vec::new();
    for (what, change, expected) in table {
        let mut view = sound();
        change(&mut view);
        let told = told(&view);
        if told != *expected {
            wrong.push(format!("{what}: {told:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub(super) fn server_of(view: &mut GroupView, number: usize) -> &mut ServerView {
    match &mut view.nodes[number - 1].account {
        Reading::Seen(account) => &mut account.server,
        Reading::Missing(_) => panic!("not read"),
    }
}

pub(super) fn settings_of(view: &mut GroupView, number: usize) -> &mut NodeSettings {
    match &mut view.nodes[number - 1].settings {
        Reading::Seen(settings) => settings,
        Reading::Missing(_) => panic!("not read"),
    }
}

pub(super) fn link_of(view: &mut GroupView, number: usize) -> &mut LinkView {
    match &mut server_of(view, number).role {
        Role::Replica(link) => link,
        _ => panic!("no replica"),
    }
}

pub(super) fn says_of(view: &mut GroupView, number: usize) -> &mut SentinelSays {
    match &mut view.sentinels[number - 1].says {
        Reading::Seen(says) => says,
        Reading::Missing(_) => panic!("no answer"),
    }
}

pub(super) fn says_all(view: &mut GroupView, change: impl Fn(&mut SentinelSays)) {
    (1..=view.sentinels.len()).for_each(|number| change(says_of(view, number)));
}

pub(super) fn down(view: &mut GroupView, number: usize, for_s: i64) {
    let link = link_of(view, number);
    (link.up, link.down_for_s, link.state) = (false, Some(for_s), LinkState::Connect);
}

pub(super) fn peers_of(view: &mut GroupView, number: usize) -> &mut Vec<SentinelPeer> {
    match &mut view.sentinels[number - 1].peers {
        Reading::Seen(peers) => peers,
        Reading::Missing(_) => panic!("not told"),
    }
}

pub(super) fn restart(policy: &str, after_ms: u64) -> Reading<Restart> {
    Reading::Seen(Restart { policy: policy.to_owned(), after_ms })
}

pub(super) fn may_replicate(may: bool) -> Reading<Rights> {
    Reading::Seen(Rights { replicates: [("default".to_owned(), may)].into(), ..Rights::default() })
}

pub(super) fn serves(view: &mut GroupView, number: usize, replicas: &[Endpoint]) {
    let one = |endpoint: &Endpoint| ReplicaOfPrimary {
        endpoint: endpoint.clone(),
        state: "online".into(),
        offset: 5_000,
        lag_s: 0,
    };
    server_of(view, number).replicas = replicas.iter().map(one).collect();
}

pub(super) fn denied<T>() -> Reading<T> {
    Reading::Missing(Missing::Denied("NOPERM no".into()))
}
