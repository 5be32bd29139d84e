//! Faults of the primary's own condition, each real: what it says in place of a handshake, or cannot do.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use catalogue::{QUICK, by_hand, filled, held, opened, over, reconnect, restart_empty, rules_out, silence, undo};
use lab::{Group, Kind, Node, ailment};
use live::{Scene, Setup, on_each_server};

on_each_server! {
    busy => a_primary_in_an_endless_script_is_busy_redis_70, a_primary_in_an_endless_script_is_busy_valkey_80;
    loading => a_primary_that_loads_for_long_is_told_redis_70, a_primary_that_loads_for_long_is_told_valkey_80;
    loading_quietly => a_primary_that_loads_is_no_news_redis_70, a_primary_that_loads_is_no_news_valkey_80;
    exhausted => a_primary_without_a_free_connection_is_named_redis_70, a_primary_without_a_free_connection_is_named_valkey_80;
    save_failing => a_primary_that_cannot_save_is_named_redis_70, a_primary_that_cannot_save_is_named_valkey_80;
    fork_failed => a_primary_that_cannot_fork_is_named_redis_70, a_primary_that_cannot_fork_is_named_valkey_80;
    empty_and_barred => an_empty_primary_is_named_before_the_replica_follows_redis_70, an_empty_primary_is_named_before_the_replica_follows_valkey_80;
    emptied => a_primary_that_comes_back_empty_is_named_redis_70, a_primary_that_comes_back_empty_is_named_valkey_80;
}

/// No Sentinel would leave these faults alone for long.
fn alone() -> Setup {
    Setup { policy: QUICK.to_owned(), ..Setup::default() }
}

fn busy(kind: Kind) {
    let scene = Scene::start(Group::builder(kind).replicas(1).start().expect("a group"), &alone());
    let script = ailment::endless_script(scene.group.primary()).expect("a script");
    reconnect(scene.replica());
    let opened = held(&scene, "primary-busy", &["primary-down", "primary-hung", "network-cut"]);
    by_hand(&scene, "primary-busy", kind);
    undo(script);
    over(&scene, &opened);
}

/// A primary whose data set takes seconds to load, when it restarts.
fn slow_loader(kind: Kind) -> Group {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    group.primary().write(4_000, 16).expect("data");
    group
}

fn loading(kind: Kind) {
    let policy = format!("{QUICK}patience = \"500ms\"\n");
    let scene = Scene::start(slow_loader(kind), &Setup { policy, ..Setup::default() });
    let slow = ailment::slow_load(scene.group.primary(), 1000).expect("a restart");
    let opened = held(&scene, "primary-loading", &["primary-down", "primary-hung"]);
    by_hand(&scene, "primary-loading", kind);
    // It ends by itself: ended early, the replica's next try may be longer away than this short patience.
    slow.keep();
    over(&scene, &opened);
}

fn loading_quietly(kind: Kind) {
    let scene = Scene::start(slow_loader(kind), &alone());
    let slow = ailment::slow_load(scene.group.primary(), 1000).expect("a restart");
    assert!(scene.replica().wait_link_down(live::PATIENCE).is_some());
    scene.wait_status("the loading was seen", |status| status.to_string().contains("primary-loading"));
    undo(slow);
    assert!(scene.replica().wait_link_up(live::PATIENCE).is_some());
    scene.wait_status("all is well", |status| status["link"] == "up" || status.to_string().contains("replicates from"));
    silence(&scene);
}

fn exhausted(kind: Kind) {
    let scene = Scene::start(Group::builder(kind).replicas(1).start().expect("a group"), &alone());
    let full = ailment::exhaust_connections(scene.group.primary()).expect("no connection is left");
    reconnect(scene.replica());
    let opened = held(&scene, "connections-exhausted", &["primary-down", "primary-hung", "network-rejected"]);
    by_hand(&scene, "connections-exhausted", kind);
    undo(full);
    over(&scene, &opened);
}

fn save_failing(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let group = Group::builder(kind).replicas(1).small_disk(Node::Primary, 1024).start().expect("a group");
    group.primary().write(100, 1024).expect("data");
    let scene = Scene::start(group, &alone());
    let failing = ailment::fail_to_save(scene.group.primary()).expect("a save fails");
    reconnect(scene.replica());
    let opened = held(&scene, "primary-save-failing", &["primary-down", "primary-hung"]);
    by_hand(&scene, "primary-save-failing", kind);
    undo(failing);
    over(&scene, &opened);
}

fn fork_failed(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let group = Group::builder(kind)
        .replicas(1)
        .own_user(Node::Primary)
        // A thread that cannot be made would end Valkey 8.0 (jemalloc tries without end).
        .config_of(Node::Primary, "jemalloc-bg-thread", "no")
        // So would the failed fork itself (Valkey 8.0.1, rdbSaveToReplicasSockets aborts); the sync by disk survives it.
        .config_of(Node::Primary, "repl-diskless-sync", if kind.is_valkey() { "no" } else { "yes" })
        .start()
        .expect("a group");
    let scene = Scene::start(group, &alone());
    let stuck = ailment::no_fork(scene.group.primary()).expect("no fork");
    restart_empty(scene.replica());
    let opened = held(&scene, "primary-fork-failed", &["primary-down", "auth-rejected", "auth-forbidden"]);
    by_hand(&scene, "primary-fork-failed", kind);
    undo(stuck);
    over(&scene, &opened);
}

/// The primary is back without its data and, as luck has it, cannot be synced from: the replica still holds everything.
fn empty_and_barred(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    filled(&group);
    let scene = Scene::start(group, &alone());
    let barred = ailment::rename_away(scene.group.primary(), &["PSYNC", "SYNC"]).expect("empty, and no sync");
    let opened = held(&scene, "primary-emptied", &["primary-down", "auth-rejected", "network-cut"]);
    by_hand(&scene, "primary-emptied", kind);
    let keys = scene.replica().info("keyspace", "db0").unwrap_or_default();
    assert!(keys.starts_with("keys=50,"), "{keys}");
    scene.group.primary().write(50, 16).expect("the data is put back");
    let next = scene.told("the next cause", |message| message["cause"]["code"] == "command-missing");
    assert_eq!(next["id"], opened["id"]);
    barred.keep();
}

fn emptied(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    filled(&group);
    let mut scene = Scene::start(group, &alone());
    // relinkd sees the primary before and after: on a busy machine a restart may take over a second, and is told.
    scene.agent.signal(lab::Signal::STOP).expect("relinkd pauses");
    scene.group.primary().restart().expect("a restart without its data");
    scene.agent.signal(lab::Signal::CONT).expect("relinkd goes on");
    let opened = opened(&scene, "primary-emptied", &[]);
    assert_eq!(opened["actions"], serde_json::json!([]));
    rules_out(&opened, &["network-cut"]);
    // A restart of relinkd forgets what the replica held, and the record does not.
    scene.reconfigure(&alone());
    let status = scene.wait_status("it has looked again", |status| !status["cause"].is_null());
    assert_eq!((&status["cause"], &status["incident"]), (&"primary-emptied".into(), &opened["id"]), "{status:#}");
    scene.group.primary().write(50, 16).expect("the data is put back");
    over(&scene, &opened);
}
