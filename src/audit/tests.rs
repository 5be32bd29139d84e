//! One sound group, one thing changed at a time.

use std::collections::BTreeSet;

use super::*;
use crate::model::evidence::{
    Answer, Connect, Disk, LinkState, LinkView, Memory, Missing, Probe, Quorum, Reading, ReplicaInSentinel, Role,
    SentinelSays,
};
use crate::model::group::{GroupSentinel, Growth, LoginProof, NodeAccount, NodeSettings, SentinelPeer};
use crate::model::{Timestamp, size};

const NOW: Timestamp = Timestamp(1);
const OUTAGE: Duration = Duration::from_secs(60);

fn at(number: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{number}"), 6379)
}

fn sentinel_at(number: u8) -> Endpoint {
    Endpoint::new(format!("10.0.0.{number}"), 26379)
}

fn flags(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn server(primary: bool) -> ServerView {
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

fn node_settings() -> NodeSettings {
    NodeSettings {
        masteruser: String::new(),
        masterauth_set: true,
        login: "a".into(),
        repl_timeout_s: 60,
        ping_period_s: 10,
        backlog_size: 64 << 20,
        output_hard: 256 << 20,
        output_soft: 64 << 20,
        output_soft_s: 60,
        diskless_sync: true,
        diskless_sync_delay_s: 5,
        diskless_load: "disabled".into(),
        serve_stale_data: true,
        save: "3600 1".into(),
        append_only: false,
        stop_writes: true,
        min_replicas_to_write: 0,
        dir: "/data".into(),
        priority: 100,
        tls_replication: false,
    }
}

/// Node 2 is the instance of this host; 1 GiB of data, 1 MiB/s of writes.
fn node(number: u8) -> GroupNode {
    let local = number == 2;
    GroupNode {
        address: at(number),
        local: local.then(|| "cache".to_owned()),
        account: Reading::Seen(NodeAccount {
            server: server(number == 1),
            data_bytes: 1 << 30,
            host_memory: 8 << 30,
            supervised: true,
        }),
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
    }
}

fn replica_in_sentinel(number: u8) -> ReplicaInSentinel {
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

fn sentinel(number: u8) -> GroupSentinel {
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
            replicas: vec![replica_in_sentinel(2), replica_in_sentinel(3)],
            ckquorum: Reading::Seen(Quorum { ok: true, text: "OK 3 usable Sentinels".into() }),
            tilt: Reading::Seen(false),
            nodes: Reading::Missing(Missing::NotAsked),
        }),
        peers: peers.map(|n| SentinelPeer { id: n.to_string(), endpoint: sentinel_at(n), down: false }).collect(),
        ghosts: Vec::new(),
    }
}

fn proof(login: &str, number: u8) -> LoginProof {
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

fn error(text: &str) -> Answer {
    Answer::Error { code: text.split(' ').next().unwrap_or_default().into(), text: text.into() }
}

fn sound() -> GroupView {
    GroupView {
        name: "mymaster".into(),
        began: NOW,
        ended: NOW,
        sentinels: [1, 2, 3].map(sentinel).to_vec(),
        nodes: [1, 2, 3].map(node).to_vec(),
        logins: [1, 2, 3].map(|number| proof("a", number)).to_vec(),
        unfetched: Vec::new(),
    }
}

/// What does not pass, as `verdict name node`; the node by its last number.
fn told(view: &GroupView) -> Vec<String> {
    let checks = judge(view, OUTAGE);
    let told = checks.iter().filter(|check| check.verdict != Verdict::Pass).map(|check| {
        assert!(!check.means.is_empty() && !check.saw.is_empty(), "{check:?}");
        let node = check.node.as_ref().map(|node| node.host.rsplit('.').next().unwrap_or_default().to_owned());
        format!("{:?} {} {}", check.verdict, check.name, node.unwrap_or_default()).trim().to_lowercase()
    });
    told.collect()
}

type Change = fn(&mut GroupView);

#[track_caller]
fn each(table: &[(&str, Change, &[&str])]) {
    for (what, change, expected) in table {
        let mut view = sound();
        change(&mut view);
        assert_eq!(told(&view), *expected, "{what}");
    }
}

fn server_of(view: &mut GroupView, number: usize) -> &mut ServerView {
    match &mut view.nodes[number - 1].account {
        Reading::Seen(account) => &mut account.server,
        Reading::Missing(_) => panic!("not read"),
    }
}

fn settings_of(view: &mut GroupView, number: usize) -> &mut NodeSettings {
    match &mut view.nodes[number - 1].settings {
        Reading::Seen(settings) => settings,
        Reading::Missing(_) => panic!("not read"),
    }
}

fn link_of(view: &mut GroupView, number: usize) -> &mut LinkView {
    match &mut server_of(view, number).role {
        Role::Replica(link) => link,
        _ => panic!("no replica"),
    }
}

fn says_of(view: &mut GroupView, number: usize) -> &mut SentinelSays {
    match &mut view.sentinels[number - 1].says {
        Reading::Seen(says) => says,
        Reading::Missing(_) => panic!("no answer"),
    }
}

fn says_all(view: &mut GroupView, change: impl Fn(&mut SentinelSays)) {
    (1..=view.sentinels.len()).for_each(|number| change(says_of(view, number)));
}

fn down(view: &mut GroupView, number: usize, for_s: i64) {
    let link = link_of(view, number);
    (link.up, link.down_for_s, link.state) = (false, Some(for_s), LinkState::Connect);
}

#[test]
fn a_sound_group_passes_every_check() {
    assert_eq!(told(&sound()), Vec::<String>::new());
    let checks = judge(&sound(), OUTAGE);
    assert_eq!(survives(&checks), Some(true));
    let names: BTreeSet<&str> = checks.iter().map(|check| check.name).collect();
    assert!(names.len() >= 30, "{names:?}");
}

#[test]
fn a_fail_outweighs_what_was_not_seen_and_that_outweighs_a_pass() {
    let of = |verdicts: &[Verdict]| {
        survives(&verdicts.iter().map(|verdict| Check::new("x", *verdict, "", "")).collect::<Vec<_>>())
    };
    assert_eq!(of(&[Verdict::Pass, Verdict::Warn]), Some(true));
    assert_eq!(of(&[Verdict::Unseen, Verdict::Warn]), None);
    assert_eq!(of(&[Verdict::Unseen, Verdict::Fail]), Some(false));
}

#[test]
fn sentinels_that_could_not_act_are_told() {
    each(&[
        ("one is silent", |v| v.sentinels[2].says = Reading::Missing(Missing::TimedOut), &["warn sentinels-reachable"]),
        (
            "two are silent",
            |v| v.sentinels[1..].iter_mut().for_each(|s| s.says = Reading::Missing(Missing::TimedOut)),
            &["unseen sentinels-reachable"],
        ),
        (
            "only one exists",
            |v| {
                v.sentinels.truncate(1);
                v.sentinels[0].peers.clear();
                says_all(v, |says| (says.others, says.quorum) = (0, 1));
            },
            &["warn sentinel-count"],
        ),
        ("one is not configured", |v| v.sentinels[2].configured = false, &["warn sentinels-configured"]),
        (
            "no majority lives",
            |v| says_of(v, 1).ckquorum = Reading::Seen(Quorum { ok: false, text: "NOQUORUM".into() }),
            &["fail quorum-reached 1"],
        ),
        ("one names another primary", |v| says_of(v, 3).primary = at(3), &["fail sentinels-agree"]),
        ("a quorum that is never reached", |v| says_all(v, |says| says.quorum = 4), &["fail quorum-setting"]),
        ("a quorum of one", |v| says_all(v, |says| says.quorum = 1), &["warn quorum-setting"]),
        ("quorums differ", |v| says_of(v, 1).quorum = 3, &["warn quorum-setting"]),
        ("timers differ", |v| says_of(v, 1).down_after_ms = 6_000, &["warn sentinel-timers"]),
        ("a nervous timer", |v| says_all(v, |says| says.down_after_ms = 100), &["warn sentinel-timers"]),
        ("a short failover", |v| says_all(v, |says| says.failover_timeout_ms = 5_000), &["warn sentinel-timers"]),
        ("one does not reach another", |v| v.sentinels[0].peers[0].down = true, &["warn sentinel-peers"]),
        ("a failover runs", |v| says_of(v, 1).failover_state = Some("x".into()), &["warn failover-running"]),
        ("one is in TILT", |v| says_of(v, 2).tilt = Reading::Seen(true), &["warn sentinel-tilt 2"]),
        (
            "all are refused by a healthy primary",
            |v| says_all(v, |says| says.flags = flags(&["master", "s_down", "disconnected"])),
            &["fail sentinel-logins 1"],
        ),
        (
            "all are refused, and down-after has not passed yet",
            |v| says_all(v, |says| (says.last_reply_ms, says.last_ok_ping_ms) = (Some(400), Some(4_400))),
            &["fail sentinel-logins 1"],
        ),
        (
            "one gets nothing but errors from a replica",
            |v| {
                let replica = &mut says_of(v, 1).replicas[0];
                (replica.last_reply_ms, replica.last_ok_ping_ms) = (Some(400), 4_400);
            },
            &["warn sentinel-logins 2"],
        ),
        (
            "one is refused by a replica",
            |v| says_of(v, 1).replicas[0].flags = flags(&["slave", "disconnected"]),
            &["warn sentinel-logins 2"],
        ),
    ]);
}

/// A stale password and a cut network have different cures.
#[test]
fn sentinels_that_get_errors_are_told_from_those_that_get_nothing() {
    let said = |reply: Option<u64>, good: Option<u64>| {
        let mut view = sound();
        says_all(&mut view, |says| {
            says.flags = flags(&["master", "s_down"]);
            (says.last_reply_ms, says.last_ok_ping_ms) = (reply, good);
        });
        let found = judge(&view, OUTAGE)
            .into_iter()
            .find(|check| check.name == "sentinel-logins" && check.verdict == Verdict::Fail);
        let found = found.expect("they hold it down");
        (found.means.clone(), found.mend.join("\n"))
    };
    let (means, mend) = said(Some(300), Some(60_000));
    assert!(
        means.starts_with("their login is refused (auth-user, auth-pass):") && mend.contains("auth-pass"),
        "{means}"
    );
    assert!(mend.contains("\"$(cat PWFILE)\" |") && !mend.contains(" -a "), "no password on a command line: {mend}");
    let (means, mend) = said(Some(60_000), Some(60_000));
    assert!(means.starts_with("no login is refused there") && !mend.contains("auth-pass"), "{means}: {mend}");
    assert!(said(None, None).0.contains("or the network"), "not told");
}

#[test]
fn nodes_that_could_not_take_over_are_told() {
    each(&[
        ("nobody may be promoted", |v| (2..=3).for_each(|n| server_of(v, n).priority = 0), &["fail candidates"]),
        ("only one may be promoted", |v| server_of(v, 2).priority = 0, &["warn candidates"]),
        (
            "both are too long without their primary for Sentinel",
            |v| says_all(v, |says| says.replicas.iter_mut().for_each(|r| r.link_down_ms = 60_000)),
            &["fail candidates"],
        ),
        (
            "there is no replica",
            |v| {
                v.nodes.truncate(1);
                says_all(v, |says| says.replicas.clear());
                v.logins.truncate(1);
            },
            &["fail candidates", "unseen masterauth 1"],
        ),
        ("a link is down", |v| down(v, 3, 5), &["fail replica-link 3"]),
        (
            "a replica loads",
            |v| {
                down(v, 3, 5);
                link_of(v, 3).syncing = true;
            },
            &["warn replica-link 3"],
        ),
        ("a replica follows another replica", |v| link_of(v, 3).primary = at(2), &["warn replica-link 3"]),
        ("a replica never synced", |v| down(v, 3, -1), &["fail replica-link 3", "fail replica-data 3"]),
        ("a replica is empty", |v| server_of(v, 3).keys = 0, &["fail replica-data 3"]),
        ("all are empty", |v| (1..=3).for_each(|n| server_of(v, n).keys = 0), &[]),
        ("two primaries", |v| server_of(v, 3).role = Role::Primary, &["fail role 3"]),
        (
            "a newer replica, whose data the others cannot load",
            |v| server_of(v, 3).version = "7.2.4".into(),
            &["fail versions"],
        ),
        (
            "a newer one that is not to be promoted",
            |v| {
                server_of(v, 3).version = "7.2.4".into();
                server_of(v, 3).priority = 0;
            },
            &["warn candidates", "warn versions"],
        ),
        (
            "a replica that is gone for everybody",
            |v| {
                v.nodes[2].account = Reading::Missing(Missing::TimedOut);
                v.nodes[2].settings = Reading::Missing(Missing::TimedOut);
                v.logins.remove(2);
                says_all(v, |says| says.replicas[1].flags = flags(&["slave", "s_down"]));
            },
            &["warn node-reachable 3", "warn candidates"],
        ),
        ("a nameless replica", |v| v.sentinels[0].ghosts = vec!["10.0.0.3:0".into()], &["warn announced-addresses"]),
        (
            "this host's replica is not listed",
            |v| says_all(v, |says| says.replicas.retain(|replica| replica.endpoint != at(2))),
            &["fail listed 2", "warn candidates"],
        ),
        ("stale data here, none there", |v| settings_of(v, 3).serve_stale_data = false, &["warn stale-data"]),
        ("a new primary would refuse writes", |v| settings_of(v, 3).min_replicas_to_write = 2, &["warn min-replicas"]),
    ]);
}

#[test]
fn data_at_risk_is_told() {
    each(&[
        ("a save fails", |v| server_of(v, 3).rdb_last_save_ok = false, &["fail save-status 3"]),
        (
            "a save fails, and nothing stops for it",
            |v| {
                server_of(v, 3).rdb_last_save_ok = false;
                settings_of(v, 3).stop_writes = false;
            },
            &["warn save-status 3"],
        ),
        ("the append-only file fails", |v| server_of(v, 1).aof_last_write_ok = false, &["fail append-status 1"]),
        ("a supervised primary keeps nothing", |v| settings_of(v, 1).save.clear(), &["fail persistence 1"]),
        (
            "a primary on its own keeps nothing",
            |v| {
                settings_of(v, 1).save.clear();
                if let Reading::Seen(account) = &mut v.nodes[0].account {
                    account.supervised = false;
                }
            },
            &["warn persistence 1"],
        ),
        ("a replica keeps nothing", |v| settings_of(v, 3).save.clear(), &["warn persistence 3"]),
    ]);
}

#[test]
fn logins_that_would_fail_are_told() {
    /// Node `holder` has a login of its own, refused or not at `at_node`.
    fn other(view: &mut GroupView, holder: usize, at_node: usize, auth: Answer) {
        settings_of(view, holder).login = "b".into();
        let mut proofs = [1, 2, 3].map(|number| proof("b", number)).to_vec();
        proofs[at_node - 1].probe.auth = auth;
        view.logins.extend(proofs);
    }
    each(&[
        (
            "one replica's would be refused by the other, once that is primary",
            |v| other(v, 3, 2, error("WRONGPASS no")),
            &["fail masterauth 3", "warn masterauth-equal"],
        ),
        (
            "the primary has none",
            |v| {
                other(v, 1, 2, Answer::NotAsked);
                settings_of(v, 1).masterauth_set = false;
            },
            &["fail masterauth 1", "warn masterauth-equal"],
        ),
        (
            "refused only by itself, where it never logs in",
            |v| other(v, 3, 3, error("WRONGPASS no")),
            &["warn masterauth-equal"],
        ),
        (
            "a peer loads",
            |v| {
                v.logins[2].probe.auth = Answer::NotAsked;
                v.logins[2].probe.ping = error("LOADING Redis is loading");
            },
            &["unseen masterauth 1", "unseen masterauth 2"],
        ),
        (
            "psync is not allowed on a node",
            |v| v.logins[2].probe.psync = error("NOPERM no"),
            &["fail replication-acl 3"],
        ),
        (
            "replconf is renamed on a node",
            |v| v.logins[0].probe.replconf = error("ERR unknown command 'REPLCONF'"),
            &["fail replication-acl 1"],
        ),
        ("psync was not tried", |v| v.logins[1].probe.psync = Answer::NotAsked, &["unseen replication-acl 2"]),
    ]);
}

#[test]
fn limits_that_do_not_fit_are_told() {
    each(&[
        ("a small backlog", |v| settings_of(v, 2).backlog_size = 1 << 20, &["warn backlog 2"]),
        (
            "no offset could be read twice",
            |v| v.nodes.iter_mut().for_each(|node| node.growth = Reading::Missing(Missing::TimedOut)),
            &[
                "unseen write-rate",
                "unseen backlog 1",
                "unseen output-buffer 1",
                "unseen backlog 2",
                "unseen output-buffer 2",
                "unseen backlog 3",
                "unseen output-buffer 3",
            ],
        ),
        (
            "a buffer that the writes of one sync fill",
            |v| (settings_of(v, 3).output_hard, settings_of(v, 3).backlog_size) = (1 << 20, 64 << 20),
            &["warn output-buffer 3"],
        ),
        (
            "a soft limit that stays exceeded for too long",
            |v| {
                v.nodes.iter_mut().for_each(|node| {
                    node.growth = Reading::Seen(Growth { bytes: 4 << 20, over_ms: 1_000 });
                });
                for number in 1..=3 {
                    let settings = settings_of(v, number);
                    (settings.backlog_size, settings.output_hard) = (256 << 20, 1 << 30);
                }
                (settings_of(v, 3).output_soft, settings_of(v, 3).output_soft_s) = (1 << 20, 10);
            },
            &["fail output-buffer 3"],
        ),
        (
            "the same on a server whose backlog does not raise it",
            |v| {
                (1..=3).for_each(|n| server_of(v, n).version = "6.2.14".into());
                settings_of(v, 3).output_hard = 1 << 20;
            },
            &["fail output-buffer 3"],
        ),
        ("no limit at all", |v| (settings_of(v, 3).output_hard, settings_of(v, 3).output_soft) = (0, 0), &[]),
        (
            "timeout below a peer's ping",
            |v| settings_of(v, 3).ping_period_s = 60,
            &["fail repl-timeout 1", "fail repl-timeout 2", "fail repl-timeout 3"],
        ),
        ("timeout close to the ping", |v| settings_of(v, 3).repl_timeout_s = 15, &["warn repl-timeout 3"]),
        (
            "no room for an RDB",
            |v| {
                v.nodes[1].disk =
                    Reading::Seen(Disk { at: NOW, path: "/d".into(), total: 9, free: 9, inodes_free: Some(9) })
            },
            &["fail disk 2"],
        ),
        (
            "no room, and none needed",
            |v| {
                v.nodes[1].disk =
                    Reading::Seen(Disk { at: NOW, path: "/d".into(), total: 9, free: 9, inodes_free: Some(9) });
                let settings = settings_of(v, 2);
                settings.save.clear();
                settings.diskless_load = "swapdb".into();
            },
            &["warn persistence 2"],
        ),
        ("the disk was not read", |v| v.nodes[1].disk = Reading::Missing(Missing::TimedOut), &["unseen disk 2"]),
        (
            "no memory for two copies",
            |v| {
                settings_of(v, 2).diskless_load = "swapdb".into();
                v.nodes[1].memory = Reading::Seen(Memory { at: NOW, total: 8 << 30, available: 1 << 20 });
            },
            &["fail memory 2"],
        ),
        ("maxmemory below the data set", |v| server_of(v, 3).maxmemory = 1 << 20, &["warn memory 3"]),
    ]);
}

#[test]
fn what_was_not_read_is_unseen_and_never_a_pass() {
    each(&[
        (
            "a node that does not let us read",
            |v| {
                v.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
                v.nodes[2].settings = Reading::Missing(Missing::Denied("NOPERM".into()));
            },
            &["unseen node-reachable 3", "unseen masterauth 3"],
        ),
        (
            "settings that are not shown",
            |v| v.nodes[2].settings = Reading::Missing(Missing::Denied("NOPERM".into())),
            &["unseen settings-readable 3", "unseen masterauth 3"],
        ),
        ("a secret that could not be fetched", |v| v.unfetched = vec!["file:/x: absent".into()], &["unseen secrets"]),
    ]);
    let mut view = sound();
    view.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
    assert_eq!(survives(&judge(&view, OUTAGE)), None);
}

#[test]
fn a_backlog_is_recommended_that_covers_the_outage() {
    let mut view = sound();
    settings_of(&mut view, 3).backlog_size = 1 << 20;
    let checks = judge(&view, Duration::from_secs(600));
    let small = checks.iter().find(|check| check.name == "backlog" && check.node == Some(at(3))).unwrap();
    // 1 MiB/s for 600 s, rounded up to a power of two.
    let set = "redis-cli -h 10.0.0.3 -p 6379 CONFIG SET repl-backlog-size 1073741824 && redis-cli -h 10.0.0.3 -p 6379 CONFIG REWRITE";
    assert_eq!(small.mend, [set]);
}

#[test]
fn sizes_read_like_speech() {
    let said: Vec<String> = [0, 1023, 1024, 1536, 1 << 20, (3 << 30) / 2, u64::MAX].into_iter().map(size).collect();
    assert_eq!(said, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1.5 GiB", "16777215.9 TiB"]);
}

/// What stands on a command line shows in the process list.
#[test]
fn advice_puts_no_password_on_a_command_line() {
    let mut view = sound();
    for number in 1..=3 {
        says_of(&mut view, number).flags.insert("s_down".into());
    }
    for proof in &mut view.logins {
        proof.probe.auth = Answer::Error { code: "WRONGPASS".into(), text: "WRONGPASS no".into() };
    }
    view.nodes[2].account = Reading::Missing(Missing::Denied("NOPERM".into()));
    let advice: Vec<String> = judge(&view, OUTAGE).into_iter().flat_map(|check| check.mend).collect();
    let secret = ["SENTINEL SET mymaster auth-pass", "CONFIG SET masterauth", "ACL SETUSER observer"];
    for command in secret {
        let lines: Vec<&String> = advice.iter().filter(|line| line.contains(command)).collect();
        assert!(!lines.is_empty(), "{command}: {advice:#?}");
        assert!(lines.iter().all(|line| line.contains("PWFILE") && line.contains(" -x ")), "{lines:#?}");
    }
    assert!(!advice.iter().any(|line| line.contains("PASSWORD")), "{advice:#?}");
}
