//! Trouble of the replica itself, and of what it gets from its primary, each real.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use catalogue::{
    QUICK, by_hand, by_hand_named, filled, held, list, one_incident, over, restart_empty, rules_out, silence, undo,
};
use lab::{Group, Kind, Node, ailment, fault};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::json;

on_each_server! {
    hung => a_frozen_replica_is_named_redis_70, a_frozen_replica_is_named_valkey_80;
    down => a_replica_that_does_not_run_is_named_redis_70, a_replica_that_does_not_run_is_named_valkey_80;
    loading => a_replica_that_loads_is_no_news_redis_70, a_replica_that_loads_is_no_news_valkey_80;
    denied => a_replica_that_does_not_let_us_look_is_named_redis_70, a_replica_that_does_not_let_us_look_is_named_valkey_80;
    save_failing => a_replica_that_cannot_save_is_named_redis_70, a_replica_that_cannot_save_is_named_valkey_80;
    stalled => a_sync_that_stalls_is_named_redis_70, a_sync_that_stalls_is_named_valkey_80;
    renamed => a_primary_without_psync_is_named_redis_70, a_primary_without_psync_is_named_valkey_80;
    both_renamed => a_primary_without_psync_and_sync_is_named_redis_70, a_primary_without_psync_and_sync_is_named_valkey_80;
    replconf => a_refused_replconf_is_one_incident_redis_70, a_refused_replconf_is_one_incident_valkey_80;
}

fn alone() -> Setup {
    Setup { policy: QUICK.to_owned(), ..Setup::default() }
}

fn pair(kind: Kind) -> Group {
    Group::builder(kind).replicas(1).start().expect("a group")
}

fn hung(kind: Kind) {
    let scene = Scene::start(pair(kind), &alone());
    let frozen = fault::freeze(scene.replica()).expect("frozen");
    let opened = held(&scene, "replica-hung", &[]);
    by_hand(&scene, "replica-hung", kind);
    undo(frozen);
    over(&scene, &opened);
}

/// A restart would be over within `patience`.
fn down(kind: Kind) {
    let policy = format!("{QUICK}patience = \"500ms\"\n");
    let scene = Scene::start(pair(kind), &Setup { policy, ..Setup::default() });
    let killed = fault::kill(scene.replica());
    let opened = held(&scene, "replica-down", &[]);
    by_hand(&scene, "replica-down", kind);
    undo(killed);
    over(&scene, &opened);
}

fn loading(kind: Kind) {
    let group = pair(kind);
    group.primary().write(4_000, 16).expect("data");
    let arrived = |node: &lab::Server| node.query::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys == 4_000);
    assert!(group.replica(0).wait_until(arrived, PATIENCE).is_some());
    let scene = Scene::start(group, &alone());
    let slow = ailment::slow_load(scene.replica(), 500).expect("a restart");
    scene.wait_status("the loading was seen", |status| status.to_string().contains("replica-loading"));
    by_hand(&scene, "replica-loading", kind);
    undo(slow);
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    scene.wait_status("all is well", |status| status.to_string().contains("replicates from"));
    silence(&scene);
}

fn denied(kind: Kind) {
    let group = Group::builder(kind).replicas(1).password("CANARY-local").start().expect("a group");
    let scene = Scene::start(group, &alone());
    let changed = ailment::change_password(scene.replica(), "CANARY-other").expect("the local password changes");
    // Connections that stand stay logged in.
    scene.replica().run(&["CLIENT", "KILL", "TYPE", "normal"]).expect("clients are cut");
    let opened = held(&scene, "replica-denied", &[]);
    by_hand(&scene, "replica-denied", kind);
    undo(changed);
    over(&scene, &opened);
}

fn save_failing(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let group = Group::builder(kind).replicas(1).small_disk(Node::Replica(0), 1024).start().expect("a group");
    filled(&group);
    let scene = Scene::start(group, &alone());
    let failing = ailment::fail_to_save(scene.replica()).expect("a save fails");
    let opened = held(&scene, "replica-save-failing", &[]);
    assert_eq!(opened["severity"], "warning", "the link is up: {opened:#}");
    by_hand(&scene, "replica-save-failing", kind);
    undo(failing);
    over(&scene, &opened);
}

/// A transfer that has begun and stops in the middle, from a primary that answers well.
fn stalled(kind: Kind) {
    let scene = Scene::start(pair(kind), &alone());
    let primary = scene.group.primary();
    primary.write(3_000, 1_000).expect("data");
    let slow = fault::configure(primary, &[("rdb-key-save-delay", "2000")]).expect("a slow save");
    restart_empty(scene.replica());
    let receiving = |replica: &lab::Server| {
        let read = replica.info("replication", "master_sync_read_bytes");
        read.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 0)
    };
    assert!(scene.replica().wait_until(receiving, PATIENCE).is_some(), "{}", scene.replica().log_text());
    let frozen = ailment::freeze_children(primary).expect("the sync is frozen");
    let opened = held(&scene, "sync-stalled", &["primary-down", "primary-hung", "auth-rejected"]);
    by_hand(&scene, "sync-stalled", kind);
    undo(frozen);
    undo(slow);
    over(&scene, &opened);
}

fn renamed(kind: Kind) {
    let scene = Scene::start(pair(kind), &alone());
    let renamed = ailment::rename_away(scene.group.primary(), &["PSYNC"]).expect("PSYNC is gone");
    let opened = held(&scene, "command-missing", &["primary-down", "auth-rejected"]);
    // The link comes up all the same, by a full resync each time: that is the trouble.
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    by_hand(&scene, "command-missing", kind);
    undo(renamed);
    over(&scene, &opened);
}

/// Refused both ways, the replica reconnects without a pause and writes megabytes of log.
fn both_renamed(kind: Kind) {
    let scene = Scene::start(pair(kind), &alone());
    let renamed = ailment::rename_away(scene.group.primary(), &["PSYNC", "SYNC"]).expect("PSYNC and SYNC are gone");
    let opened = held(&scene, "command-missing", &["primary-down", "auth-rejected"]);
    by_hand_named(&scene, "command-missing", &format!("sync-too-{}", kind.code()));
    undo(renamed);
    over(&scene, &opened);
}

/// The link reads up at almost every look, and drops once a second.
fn replconf(kind: Kind) {
    let group = Group::builder(kind).replicas(1).acl_user("repl", "CANARY-repl").start().expect("a group");
    let scene = Scene::start(group, &alone());
    let refused = fault::user_without(scene.group.primary(), "repl", "replconf").expect("REPLCONF is refused");
    let opened = held(&scene, "replconf-refused", &["primary-down", "auth-rejected"]);
    by_hand(&scene, "replconf-refused", kind);
    // Several rounds of up and down.
    let flaps = |text: &str| text.matches("lost.").count();
    let begun = flaps(&scene.replica().log_text());
    let more = |replica: &lab::Server| flaps(&replica.log_text()) >= begun + 4;
    assert!(scene.replica().wait_until(more, PATIENCE).is_some());
    assert_eq!(scene.receiver.messages().len(), 1, "{:#?}", scene.receiver.messages());
    undo(refused);
    over(&scene, &opened);
}

/// A replica cannot load what a newer or another server sends.
fn incompatible(older: Kind, newer: Kind) {
    let (Some(older), Some(newer)) = (lab::require(older), lab::require(newer)) else { return };
    if (older, newer) == (Kind::Redis82, Kind::Valkey91) {
        return; // LAB_NEWER made this pair of another: Redis 8.2.3 loads what Valkey 9.1.2 sends.
    }
    let scene = Scene::start(pair(older), &alone());
    let other = Group::builder(newer).start().expect("a newer primary");
    other.primary().write(20, 16).expect("data");
    let (host, port) = other.primary().endpoint();
    let moved = fault::wrong_primary(scene.replica(), &host, port).expect("the replica follows a newer server");
    let opened = held(&scene, "rdb-incompatible", &["primary-down", "auth-rejected", "network-cut"]);
    rules_out(&opened, &["replica-disk-full"]);
    by_hand_named(&scene, "rdb-incompatible", &format!("{}-from-{}", older.code(), newer.code()));
    undo(moved);
    let resolved = scene.told_event("resolved");
    assert_eq!((&resolved["id"], list(&resolved["actions"]).count()), (&opened["id"], 0));
    assert_eq!(one_incident(&scene)["cause"]["code"], json!("rdb-incompatible"));
}

#[test]
fn a_data_set_of_valkey_80_is_too_new_for_a_replica_redis_70() {
    incompatible(Kind::Redis70, Kind::Valkey80);
}

#[test]
fn a_data_set_of_redis_82_is_too_new_for_a_replica_valkey_80() {
    incompatible(Kind::Valkey80, Kind::Redis82);
}
