//! What is no trouble: a whole group for a while, a planned failover, a rolling restart. The looks are as deep and as
//! frequent as they can be, so that a rule that sees ghosts would.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use std::time::{Duration, Instant};

use catalogue::{filled, silence, told};
use lab::{Builder, Group, Kind, Node};
use live::{PATIENCE, Scene, Setup, on_each_server};

/// Causes that a look through a standing link could see wrongly.
const LATENT: &[&str] = &[
    "sentinel-auth-rejected",
    "quorum-lost",
    "no-promotable-replica",
    "auth-latent",
    "command-missing",
    "replconf-refused",
    "primary-emptied",
    "replica-save-failing",
    "tls-mismatch",
    "tls-certificate",
    "name-unresolved",
    "sync-stalled",
];

on_each_server! {
    planned_failover => a_planned_failover_shows_no_latent_trouble_redis_70, a_planned_failover_shows_no_latent_trouble_valkey_80;
    rolling_upgrade => a_rolling_upgrade_is_no_trouble_redis_70_to_82, a_rolling_upgrade_is_no_trouble_valkey_80_to_91;
    rolling_restart => a_rolling_restart_shows_no_latent_trouble_redis_70, a_rolling_restart_shows_no_latent_trouble_valkey_80;
}

fn group(kind: Kind) -> Builder {
    Group::builder(kind).replicas(2).sentinels(3).password("CANARY-1").config("save", "3600 1").config_of(
        Node::Replica(0),
        "replica-priority",
        "0",
    )
}

fn watched(kind: Kind) -> Scene {
    let group = group(kind).start().expect("a group");
    filled(&group);
    let setup = Setup {
        policy: "settle = \"300ms\"\nbackground = \"1s\"\n".to_owned(),
        store: Some("CANARY-1".to_owned()),
        ..Setup::default()
    };
    Scene::start(group, &setup)
}

/// Neither told, nor recorded, nor so much as suspected.
fn no_ghosts(scene: &Scene) {
    let log = scene.agent.log();
    for cause in LATENT {
        assert!(!log.contains(&format!("cache: {cause}")), "{cause}: {:?}\n{log}", told(scene));
    }
}

/// A whole group, looked at once a second for forty: once with the fast deep looks, which stand for a quiet hour.
#[test]
fn a_whole_group_is_left_in_peace_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let scene = watched(kind);
    let end = Instant::now() + Duration::from_secs(40);
    while Instant::now() < end {
        scene.group.primary().write(20, 64).expect("writes go on");
        std::thread::sleep(Duration::from_millis(200));
    }
    no_ghosts(&scene);
    silence(&scene);
    assert_eq!(scene.group.primary().sync_full(), Some(2), "nothing was resynced");
}

fn planned_failover(kind: Kind) {
    let scene = watched(kind);
    scene.group.sentinel(0).run(&["SENTINEL", "FAILOVER", scene.group.name()]).expect("a failover");
    let other = scene.group.replica(1).endpoint();
    let moved = |sentinel: &lab::Server| sentinel.sentinel_primary().as_ref() == Some(&other);
    for sentinel in scene.group.sentinels() {
        assert!(sentinel.wait_until(moved, PATIENCE).is_some());
    }
    let follows = format!("replicates from {}:{}", other.0, other.1);
    scene.wait_status("it follows the new primary", |status| status.to_string().contains(&follows));
    // The former primary comes back as a replica.
    assert!(scene.group.primary().wait_until(|node| !node.is_primary(), PATIENCE).is_some());
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    no_ghosts(&scene);
    silence(&scene);
}

/// Each replica on the newer version, a failover by request, and then the former primary.
fn rolling_upgrade(kind: Kind) {
    let Some(newer) = kind.upgrade().and_then(lab::require) else { return };
    let scene = watched(kind);
    lab::upgrade::one_by_one(&scene.group, newer).expect("an upgrade");
    let primary = scene.group.current_primary().expect("a primary").address();
    scene.wait_status("all is well", |status| {
        let sentence = status["sentence"].as_str().unwrap_or_default();
        sentence.contains(&format!("replicates from {primary}"))
    });
    no_ghosts(&scene);
    silence(&scene);
}

/// Replica, the other replica, each Sentinel, and last the primary with its data, one after the other.
fn rolling_restart(kind: Kind) {
    let scene = watched(kind);
    let again = |server: &lab::Server| {
        server.terminate().expect("it stops");
        server.restart().expect("it starts");
    };
    again(scene.group.replica(1));
    for sentinel in scene.group.sentinels() {
        again(sentinel);
        let whole = |sentinel: &lab::Server| sentinel.sentinel_field("num-other-sentinels").as_deref() == Some("2");
        assert!(sentinel.wait_until(whole, PATIENCE).is_some());
    }
    again(scene.replica());
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    again(scene.group.primary());
    let linked = |node: &lab::Server| node.is_primary() || node.is_link_up();
    for node in scene.group.nodes() {
        assert!(node.wait_until(linked, PATIENCE).is_some(), "{}", node.log_text());
    }
    let primary = scene.group.current_primary().expect("a primary").address();
    scene.wait_status("all is well", |status| {
        let sentence = status["sentence"].as_str().unwrap_or_default();
        sentence.contains(&format!("replicates from {primary}"))
    });
    no_ghosts(&scene);
}
