//! Trouble that shows in the group: a password that has not failed yet, Sentinels that cannot log in, are too few, or
//! have nobody to promote. And faults on top of faults.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use std::time::{Duration, Instant};

use catalogue::{QUICK, by_hand, held, list, one_incident, over, undo};
use lab::{Builder, Fault, Group, Host, Kind, Node, ailment, fault};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::{Value, json};

on_each_server! {
    latent_healed => a_stale_password_is_set_before_the_link_breaks_redis_70, a_stale_password_is_set_before_the_link_breaks_valkey_80;
    latent_held => a_stale_password_without_a_better_one_is_told_redis_70, a_stale_password_without_a_better_one_is_told_valkey_80;
    sentinels_everywhere => sentinels_that_cannot_log_in_anywhere_are_named_redis_70, sentinels_that_cannot_log_in_anywhere_are_named_valkey_80;
    sentinels_at_the_primary => sentinels_that_fail_over_a_healthy_primary_get_no_help_redis_70, sentinels_that_fail_over_a_healthy_primary_get_no_help_valkey_80;
    sentinels_cut_off => sentinels_whose_network_is_cut_are_not_called_unable_to_log_in_redis_70, sentinels_whose_network_is_cut_are_not_called_unable_to_log_in_valkey_80;
    quorum_before => a_lost_quorum_is_told_before_it_is_needed_redis_70, a_lost_quorum_is_told_before_it_is_needed_valkey_80;
    quorum_when_needed => a_lost_quorum_is_named_when_the_primary_dies_redis_70, a_lost_quorum_is_named_when_the_primary_dies_valkey_80;
    nobody_to_promote => a_group_without_a_promotable_replica_is_named_redis_70, a_group_without_a_promotable_replica_is_named_valkey_80;
    protected_and_missing => protected_mode_over_a_missing_password_is_one_story_redis_70, protected_mode_over_a_missing_password_is_one_story_valkey_80;
    name => a_name_that_nobody_resolves_is_named_redis_70, a_name_that_nobody_resolves_is_named_valkey_80;
    dead_resolver => a_replica_that_waits_for_a_dead_resolver_is_not_called_hung_redis_70, a_replica_that_waits_for_a_dead_resolver_is_not_called_hung_valkey_80;
    disk_behind_password => a_full_disk_behind_a_wrong_password_is_one_story_redis_70, a_full_disk_behind_a_wrong_password_is_one_story_valkey_80;
    hot_loop => a_hot_reconnect_loop_is_named_at_once_and_costs_little_redis_70, a_hot_reconnect_loop_is_named_at_once_and_costs_little_valkey_80;
    cut_in_failover => a_cut_during_a_failover_is_one_story_redis_70, a_cut_during_a_failover_is_one_story_valkey_80;
}

const OLD: &str = "CANARY-old";
const NEW: &str = "CANARY-new";

fn quick(store: Option<&str>) -> Setup {
    Setup { policy: QUICK.to_owned(), store: store.map(str::to_owned), ..Setup::default() }
}

fn group(kind: Kind) -> Builder {
    Group::builder(kind).replicas(2).sentinels(3)
}

fn latent_healed(kind: Kind) {
    let scene = Scene::start(group(kind).password(OLD).start().expect("a group"), &quick(Some(NEW)));
    let full = scene.group.primary().sync_full();
    let changed = ailment::change_password(scene.group.primary(), NEW).expect("the password changes");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-latent", "{opened:#}");
    assert_eq!(opened["actions"][0]["remedy"], "realign-auth", "{opened:#}");
    let resolved = over(&scene, &opened);
    assert!(!scene.replica().log_text().contains("lost."), "the link never broke: {}", scene.replica().log_text());
    // The next reconnect is the proof.
    fault::cut_replicas(scene.group.primary()).expect("a cut");
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    assert_eq!(scene.group.primary().sync_full(), full, "{resolved:#}");
    changed.keep();
    for place in [scene.agent.log(), serde_json::to_string(&scene.receiver.messages()).unwrap()] {
        assert!(!place.contains("CANARY"), "a password leaked: {place}");
    }
}

fn latent_held(kind: Kind) {
    let scene = Scene::start(group(kind).password(OLD).start().expect("a group"), &quick(Some(OLD)));
    let changed = ailment::change_password(scene.group.primary(), NEW).expect("the password changes");
    let opened = held(&scene, "auth-latent", &["primary-down", "network-cut"]);
    assert_eq!(opened["held"][0]["refusal"], "secret-rejected", "{opened:#}");
    assert_eq!(opened["severity"], "warning");
    by_hand(&scene, "auth-latent", kind);
    // One refused login a background period (a second here), though the store offers that same password.
    let refused = |scene: &Scene| -> u64 {
        let count = scene.group.primary().info("errorstats", "errorstat_WRONGPASS").expect("refusals are counted");
        count.trim_start_matches("count=").parse().expect("a number")
    };
    let (before, began) = (refused(&scene), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let more = refused(&scene) - before;
    assert!(
        more >= 1 && more <= began.elapsed().as_secs() + 1,
        "{more} in {:?}\n{}",
        began.elapsed(),
        scene.agent.log()
    );
    undo(changed);
    over(&scene, &opened);
}

/// The data nodes agree on the new password, and every Sentinel has the old one: nothing fails over, and nothing could.
fn sentinels_everywhere(kind: Kind) {
    let scene = Scene::start(group(kind).password(OLD).start().expect("a group"), &quick(Some(NEW)));
    fault::sentinels_left_behind(&scene.group, NEW).expect("the password changes").keep();
    scene.agent.write_file("replica-password", NEW).expect("relinkd's own password");
    scene.group.nodes().iter().try_for_each(fault::cut_clients).expect("clients are cut");
    let opened = held(&scene, "sentinel-auth-rejected", &["primary-down", "auth-rejected"]);
    by_hand(&scene, "sentinel-auth-rejected", kind);
    for sentinel in scene.group.sentinels() {
        sentinel.run(&["SENTINEL", "SET", scene.group.name(), "auth-pass", NEW]).expect("auth-pass");
    }
    let resolved = over(&scene, &opened);
    assert_eq!(list(&resolved["actions"]).count(), 0);
}

/// From here all is well, and the Sentinels hold the primary down and have no connection to it: as with a stale
/// password, but nothing answers them. The primary has refused logins before.
fn sentinels_cut_off(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let built = group(kind).password(OLD).namespaces(true).config("replica-priority", "0");
    let scene = Scene::start(built.start().expect("a group"), &quick(Some(OLD)));
    let primary = scene.group.primary();
    primary.run(&["AUTH", "CANARY-wrong"]).expect_err("a wrong password");
    let there = primary.host().expect("a host");
    let deaf: Vec<Fault> = scene.group.sentinels().iter().map(|one| deaf_to(there, one)).collect();
    for sentinel in scene.group.sentinels() {
        let down = |one: &lab::Server| {
            let flags = one.sentinel_field("flags").unwrap_or_default();
            flags.contains("s_down") && flags.contains("disconnected")
        };
        assert!(sentinel.wait_until(down, PATIENCE).is_some());
    }
    // Several looks, each as deep as it can be: one a second.
    for _ in 0..2 {
        let before = scene.status()["looked_at"].clone();
        scene.wait_status("another look", |status| status["looked_at"] != before);
        assert_ne!(
            scene.diagnose(&format!("healthy/sentinels-cut-off-{}", kind.code()))["cause"],
            "sentinel-auth-rejected"
        );
    }
    assert!(!scene.agent.log().contains("sentinel-auth-rejected"), "{}", scene.agent.log());
    drop(deaf);
}

fn deaf_to(there: &Host, sentinel: &lab::Server) -> Fault {
    there.deaf_to(sentinel.host().expect("a host")).expect("a cut")
}

/// Only the primary has the new password, and the replicas' masterauth: Sentinel fails the healthy primary over.
/// relinkd asks for no failover, whatever comes of it.
fn sentinels_at_the_primary(kind: Kind) {
    let policy = format!("{QUICK}[policy.request-failover]\nmode = \"auto\"\nafter = \"0s\"\n");
    let setup = Setup { policy, ..quick(Some(NEW)) };
    // The other one is promoted.
    let built = group(kind).password(OLD).config_of(Node::Replica(0), "replica-priority", "0");
    let scene = Scene::start(built.start().expect("a group"), &setup);
    let primary = scene.group.primary();
    for replica in [scene.group.replica(0), scene.group.replica(1)] {
        replica.run(&["CONFIG", "SET", "masterauth", NEW]).expect("masterauth");
    }
    ailment::change_password(primary, NEW).expect("the password changes").keep();
    fault::cut_replicas(primary).expect("a cut");
    fault::cut_clients(primary).expect("clients are cut");
    let moved = |sentinel: &lab::Server| sentinel.sentinel_primary().is_some_and(|now| now != primary.endpoint());
    assert!(scene.group.sentinel(0).wait_until(moved, PATIENCE).is_some(), "Sentinel fails over by itself");
    scene.wait_status("the incident is seen", |status| !status["incident"].is_null());
    let asked = |value: &Value| list(&value["actions"]).any(|action| action["remedy"] == "request-failover");
    assert!(!scene.receiver.messages().iter().chain(&scene.incidents()).any(asked));
}

fn quorum_before(kind: Kind) {
    let scene = Scene::start(group(kind).start().expect("a group"), &quick(None));
    let dead = fault::kill(scene.group.sentinel(1)).and(fault::kill(scene.group.sentinel(2)));
    let opened = held(&scene, "quorum-lost", &[]);
    assert_eq!(opened["severity"], "warning", "{opened:#}");
    undo(dead);
    over(&scene, &opened);
}

fn quorum_when_needed(kind: Kind) {
    let scene = Scene::start(group(kind).start().expect("a group"), &quick(None));
    let dead = fault::kill(scene.group.sentinel(1)).and(fault::kill(scene.group.sentinel(2)));
    scene.told_event("opened");
    let gone = fault::kill(scene.group.primary());
    assert!(scene.replica().wait_link_down(PATIENCE).is_some());
    scene
        .wait_status("still the quorum", |status| status["link"] != "up" && status.to_string().contains("quorum-lost"));
    by_hand(&scene, "quorum-lost", kind);
    undo(gone);
    undo(dead);
    let resolved = scene.told_event("resolved");
    assert_eq!(list(&resolved["actions"]).count(), 0, "{resolved:#}");
    one_incident(&scene);
}

fn nobody_to_promote(kind: Kind) {
    // Sentinel's own next try is far away: a look by hand would meet it.
    let builder = group(kind).config("replica-priority", "0").sentinel_timers(2_000, 60_000);
    let scene = Scene::start(builder.start().expect("a group"), &quick(None));
    let dead = fault::kill(scene.group.primary());
    let found = scene.told("nobody to promote", |message| message["cause"]["code"] == "no-promotable-replica");
    assert_eq!(found["actions"], json!([]), "{found:#}");
    by_hand(&scene, "no-promotable-replica", kind);
    undo(dead);
    let resolved = scene.told_event("resolved");
    assert_eq!((&resolved["id"], list(&resolved["actions"]).count()), (&found["id"], 0));
    one_incident(&scene);
}

/// First the primary talks to its own host only; a password lifts that, and then the replica has none.
fn protected_and_missing(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let built = group(kind).replicas(1).sentinels(1).namespaces(true).sentinel_timers(60_000, 60_000);
    let scene = Scene::start(built.start().expect("a group"), &quick(Some(NEW)));
    let primary = scene.group.primary();
    let closed = fault::configure(primary, &[("protected-mode", "yes")]).expect("protected mode");
    fault::cut_replicas(primary).expect("a cut");
    let opened = held(&scene, "protected-mode", &["primary-down", "network-rejected", "primary-hung"]);
    by_hand(&scene, "protected-mode", kind);
    ailment::change_password(primary, NEW).expect("a password lifts it").keep();
    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], opened["id"]);
    assert_eq!(resolved["actions"][0]["remedy"], "realign-auth", "{resolved:#}");
    assert!(scene.replica().is_link_up());
    one_incident(&scene);
    closed.keep();
}

fn name(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let built = group(kind).replicas(1).sentinels(1).namespaces(true);
    let scene = Scene::start(built.start().expect("a group"), &quick(None));
    let nameless = fault::wrong_primary(scene.replica(), "primary.invalid", 6379).expect("a name");
    let opened = held(&scene, "name-unresolved", &[]);
    by_hand(&scene, "name-unresolved", kind);
    undo(nameless);
    over(&scene, &opened);
}

/// The server stands still for 10 s of every 11 s while it waits for its resolver, and says so to nobody.
fn dead_resolver(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let built = group(kind).replicas(1).sentinels(1).namespaces(true);
    let scene = Scene::start(built.start().expect("a group"), &quick(None));
    let (server, (host, port)) = (scene.replica().clone(), scene.group.primary().endpoint());
    // Without a way to a resolver the lookup fails at once.
    server.run(&["REPLICAOF", "primary.relinkd.test", &port.to_string()]).expect("a name");
    let opened = held(&scene, "name-unresolved", &[]);
    let dead = server.host().expect("a host").dead_resolver().expect("a dead resolver");
    let silent =
        |status: &Value| status["sentence"].as_str().is_some_and(|sentence| sentence.contains("name-unresolved"));
    // Over more than one of its attempts, whether it answers at the moment or not.
    let (mut stood_still, end) = (false, Instant::now() + Duration::from_secs(14));
    while Instant::now() < end {
        let status = scene.status();
        assert!(silent(&status), "{status:#}\n{}", scene.agent.log());
        stood_still |= server.query::<String>(&["PING"]).is_err();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(stood_still, "the server never stood still");
    assert!(!scene.agent.log().contains("replica-hung"), "{}", scene.agent.log());
    dead.undo().expect("the resolver answers");
    let back = |server: &lab::Server| server.run(&["REPLICAOF", &host, &port.to_string()]).is_ok();
    assert!(server.wait_until(back, PATIENCE).is_some());
    over(&scene, &opened);
}

/// The password is mended, and the data set that is sent then does not fit on the disk.
fn disk_behind_password(kind: Kind) {
    let built = group(kind).replicas(1).sentinels(1).sentinel_timers(60_000, 60_000).password(OLD);
    let built = built.config("repl-diskless-sync", "yes").small_disk(Node::Replica(0), 4096);
    let scene = Scene::start(built.start().expect("a group"), &quick(Some(OLD)));
    let primary = scene.group.primary();
    primary.write(1000, 1024).expect("data");
    let full = scene.replica().disk().expect("a disk").fill().expect("it fills");
    ailment::change_password(primary, NEW).expect("the password changes").keep();
    let small = fault::outrun_backlog(primary, scene.replica()).expect("a full sync is needed");
    let opened = scene.told("the password first", |message| message["cause"]["code"] == "auth-rejected");
    scene.agent.write_file("masterauth", NEW).expect("the store has the new one");
    let next = scene.told("the disk next", |message| message["cause"]["code"] == "replica-disk-full");
    assert_eq!(next["id"], opened["id"], "{next:#}");
    assert_eq!(next["actions"][0]["remedy"], "realign-auth", "{next:#}");
    undo(full);
    undo(small);
    assert_eq!(scene.told_event("resolved")["id"], opened["id"]);
    one_incident(&scene);
}

/// Thousands of attempts a second, and over 1 MB/s of log, for as long as nobody mends it.
fn hot_loop(kind: Kind) {
    let setup = Setup { policy: format!("{QUICK}mode = \"observe\"\n"), ..quick(Some(OLD)) };
    let built = group(kind).replicas(1).sentinels(1).password(OLD);
    let mut scene = Scene::start(built.start().expect("a group"), &setup);
    let pid = scene.agent.pid().expect("it runs");
    let replica = scene.replica();
    replica.run(&["CONFIG", "SET", "masterauth", ""]).expect("no password");
    fault::cut_replicas(scene.group.primary()).expect("a cut");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-missing", "{opened:#}");
    let ms = |name: &str| opened["timings_ms"][name].as_u64().unwrap_or(u64::MAX);
    assert!(ms("detect").saturating_add(ms("diagnose")) < 2_000, "{}", opened["timings_ms"]);
    let log = || std::fs::metadata(replica.log_path()).expect("a log").len();
    let (logged, used, began) = (log(), processor_ticks(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    assert!(replica.wait_until(|_| log() > logged + 1_000_000, PATIENCE).is_some(), "no loop");
    // A tick is 10 ms. A build without optimisation is what runs here.
    let share = (processor_ticks(pid) - used) as f64 / 100.0 / began.elapsed().as_secs_f64();
    let grown = log() - logged;
    eprintln!("{kind}: {grown} bytes of log, {share:.2} of a core, {} KiB", resident_kib(pid));
    assert!(share < 0.5, "{share} of a core");
    assert!(resident_kib(pid) < 64 * 1024, "{} KiB", resident_kib(pid));
}

/// Fields 14 and 15 of proc_pid_stat(5), counted behind the name, which ends with the last parenthesis.
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The primary dies, and in the middle of the failover our host loses its way to the other one.
fn cut_in_failover(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let built = group(kind)
        .namespaces(true)
        .config_of(Node::Replica(0), "replica-priority", "0")
        .config("repl-timeout", "3")
        .config("repl-ping-replica-period", "1");
    let scene = Scene::start(built.start().expect("a group"), &quick(None));
    let host = |server: &lab::Server| server.host().expect("a host").clone();
    let (here, there) = (host(scene.replica()), host(scene.group.replica(1)));
    fault::kill(scene.group.primary()).keep();
    let cut = here.cut_from(&there).expect("a cut");
    let opened = scene.told_event("opened");
    // Until a Sentinel has moved the replica, it follows a wrong address.
    let cut_off =
        scene.told("the cut", |message| message["id"] == opened["id"] && message["cause"]["code"] == "network-cut");
    assert_eq!((&cut_off["actions"], &cut_off["cause"]["suspected"]), (&json!([]), &json!(false)), "{cut_off:#}");
    undo(cut);
    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], opened["id"]);
    one_incident(&scene);
    assert!(scene.replica().is_link_up());
}
