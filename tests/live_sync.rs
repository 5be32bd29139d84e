//! Faults of the sync itself: the way and the login are fine, and the data set or the stream does not come through.
//! None of these has a remedy that relinkd may apply: what counts is that the right one is named, with the command.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use std::time::Duration;

use catalogue::silence;
use lab::transfer::{self, Writes};
use lab::{Fault, Group, Kind, Node, Server, fault};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::Value;

/// Without Sentinels: a sync fails between two servers, and a group of two is up sooner.
fn alone() -> Setup {
    Setup { sentinels: false, ..Setup::default() }
}

fn patience(span: &str) -> Setup {
    Setup { policy: format!("patience = \"{span}\""), ..alone() }
}

fn told_cause(scene: &Scene, code: &str) -> Value {
    scene.told(code, |message| message["cause"]["code"] == code)
}

/// The look by hand names it too, and its evidence is the scenario.
fn seen_by_hand(scene: &Scene, code: &str, name: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = scene.diagnose(&format!("{code}/{name}"));
        if told["cause"] == code {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "a look by hand says {}: {told:#}", told["cause"]);
    }
}

/// Nothing was changed, the reason not to is on record, and each verdict was told once.
fn held_and_told_once(scene: &Scene, code: &str) {
    let messages = scene.receiver.messages();
    let told = messages.iter().filter(|message| message["cause"]["code"] == code && message["event"] != "resolved");
    assert_eq!(told.count(), 1, "{messages:#?}");
    let last = messages.last().expect("a message");
    assert_eq!(last["held"][0]["refusal"], "no-safe-remedy", "{last:#}");
    assert_eq!(last["actions"].as_array().map(Vec::len), Some(0), "{last:#}");
}

fn because(message: &Value, text: &str) {
    let facts = message["because"].to_string();
    assert!(facts.contains(text), "no {text:?} in {facts}");
}

fn advises(message: &Value, text: &str) {
    let steps = message["next_steps"].to_string();
    assert!(steps.contains(text), "no {text:?} in {steps}");
}

/// The incident ends with the fault, and the record says so.
fn over(scene: &Scene, incident: &Value) {
    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], incident["id"]);
    assert!(scene.replica().is_link_up());
    let incidents = scene.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["phase"], "resolved");
}

fn restart_empty(replica: &Server) {
    transfer::restart_empty(replica).expect("a restart");
}

fn slow_sync(primary: &Server, keys: usize, us_per_key: u32) -> Fault {
    transfer::slow_sync(primary, keys, us_per_key).expect("a slow sync")
}

fn the_primarys_disk_is_full(kind: Kind) {
    let group = Group::builder(kind).replicas(1).config("repl-diskless-sync", "no").small_disk(Node::Primary, 4096);
    let scene = Scene::start(group.start().expect("a group"), &alone());
    scene.group.primary().write(1000, 1024).expect("data");
    let full = scene.group.primary().disk().expect("a disk").fill().expect("it fills");

    let _small = fault::outrun_backlog(scene.group.primary(), scene.replica()).expect("a full sync is needed");
    let told = told_cause(&scene, "primary-disk-full");
    because(&told, "rdb_last_bgsave_status:err");
    advises(&told, "repl-diskless-sync yes");
    seen_by_hand(&scene, "primary-disk-full", kind.code());
    held_and_told_once(&scene, "primary-disk-full");
    full.undo().expect("room again");
    over(&scene, &told);
}

fn the_replicas_disk_is_full(kind: Kind) {
    let group = Group::builder(kind).replicas(1).config("repl-diskless-sync", "yes").small_disk(Node::Replica(0), 4096);
    let scene = Scene::start(group.start().expect("a group"), &alone());
    scene.group.primary().write(1000, 1024).expect("data");
    let full = scene.replica().disk().expect("a disk").fill().expect("it fills");

    let _small = fault::outrun_backlog(scene.group.primary(), scene.replica()).expect("a full sync is needed");
    let told = told_cause(&scene, "replica-disk-full");
    because(&told, "bytes free of");
    because(&told, "short write");
    advises(&told, "repl-diskless-load swapdb");
    seen_by_hand(&scene, "replica-disk-full", kind.code());
    held_and_told_once(&scene, "replica-disk-full");
    full.undo().expect("room again");
    over(&scene, &told);
}

fn the_backlog_is_too_small(kind: Kind) {
    // For so long a replica waits for others to join the same transfer, and the cause is there to be seen.
    let group = Group::builder(kind).replicas(1).config("repl-diskless-sync-delay", "10").start().expect("a group");
    group.primary().write(100, 1024).expect("data");
    let offset = group.primary().offset();
    assert!(group.replica(0).wait_until(|replica| replica.offset() == offset, PATIENCE).is_some());
    let scene = Scene::start(group, &alone());

    let _small = fault::outrun_backlog(scene.group.primary(), scene.replica()).expect("a full sync is needed");
    let told = told_cause(&scene, "backlog-too-small");
    because(&told, "begins at offset");
    advises(&told, "repl-backlog-size");
    seen_by_hand(&scene, "backlog-too-small", kind.code());
    held_and_told_once(&scene, "backlog-too-small");
    over(&scene, &told);
}

fn a_backlog_that_reaches_back_is_not_blamed(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let scene = Scene::start(group, &alone());
    let (primary, replica) = (scene.group.primary(), scene.replica());
    let full = primary.sync_full();
    let frozen = fault::freeze(replica).expect("frozen");
    fault::cut_replicas(primary).expect("cut");
    primary.write(500, 1024).expect("less than the backlog of 1 MiB");
    scene.wait_status("it is seen to hang", |status| {
        status["sentence"].as_str().is_some_and(|s| s.starts_with("replica-hung"))
    });
    frozen.undo().expect("thawed");
    assert!(replica.wait_link_up(PATIENCE).is_some());
    scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
    assert_eq!(primary.sync_full(), full, "the partial resync worked");
    let causes: Vec<Value> = scene.incidents().into_iter().map(|incident| incident["cause"]["code"].clone()).collect();
    assert!(causes.iter().all(|code| code == "replica-hung"), "{causes:?}");
}

fn the_output_buffer_is_too_small(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let scene = Scene::start(group, &alone());
    let primary = scene.group.primary();
    let slow = slow_sync(primary, 1000, 1000);
    let tiny = fault::tiny_output_buffer(primary).expect("a tiny buffer");
    let writes = Writes::start(primary, 64, 4096, Duration::from_millis(10));

    let told = told_cause(&scene, "output-buffer-exceeded");
    advises(&told, "client-output-buffer-limit");
    match kind {
        Kind::Redis70 => because(&told, "this server version counts no cuts"),
        _ => because(&told, "client_output_buffer_limit_disconnections went from"),
    }
    seen_by_hand(&scene, "output-buffer-exceeded", kind.code());
    held_and_told_once(&scene, "output-buffer-exceeded");
    drop(writes);
    slow.and(tiny).undo().expect("undone");
    over(&scene, &told);
}

/// Far above the data set, and far below what is written while a transfer lasts.
fn a_limit_above_the_data_set_is_too_small(kind: Kind) {
    // At most 80 MB/s: without a bound a quick machine would have no time for anything else.
    limit_above_the_data_set(kind, "0", 256, 3000);
}

/// Redis before 7.4 counts no cuts, so only the stream can prove it, with five idle seconds in each turn of the loop.
#[test]
fn a_limit_above_the_data_set_is_proved_at_the_default_delay_redis_70() {
    if let Some(kind) = lab::require(Kind::Redis70) {
        // 10 MB/s: it fills in two or three seconds.
        limit_above_the_data_set(kind, "5", 32, 4000);
    }
}

fn limit_above_the_data_set(kind: Kind, delay_s: &str, values: usize, us_per_key: u32) {
    let group = Group::builder(kind).replicas(1).config("repl-diskless-sync-delay", delay_s);
    let group = group.start().expect("a group");
    let scene = Scene::start(group, &alone());
    let primary = scene.group.primary();
    let slow = slow_sync(primary, 1000, us_per_key);
    let limit = fault::configure(primary, &[("client-output-buffer-limit", "replica 24mb 0 0")]).expect("a limit");
    let writes = Writes::start(primary, values, 16_384, Duration::from_millis(50));
    restart_empty(scene.replica());

    let told = scene.told("firm", |message| {
        message["cause"]["code"] == "output-buffer-exceeded" && message["cause"]["suspected"] == false
    });
    // Where the primary counts its cuts, that may be seen first.
    let facts = told["because"].to_string();
    let counted = kind != Kind::Redis70 && facts.contains("client_output_buffer_limit_disconnections went from");
    assert!(counted || facts.contains("the stream grew by"), "{told:#}");
    assert!(!told["because"].to_string().contains("the data set takes"), "it is above the data set: {told:#}");
    drop(writes);
    slow.and(limit).undo().expect("undone");
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
}

/// Nobody reads the log: an attempt shows by the bytes of the one before it, which are gone.
fn a_sync_that_goes_in_a_circle_is_told_without_a_log(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let scene = Scene::start(group, &Setup { replica: "log = \"off\"\n".to_owned(), ..alone() });
    let primary = scene.group.primary();
    let slow = slow_sync(primary, 1000, 1000);
    let tiny = fault::tiny_output_buffer(primary).expect("a tiny buffer");
    let writes = Writes::start(primary, 64, 4096, Duration::from_millis(10));

    // Without a stream to resume, no backlog is in it.
    restart_empty(scene.replica());
    // What the primary counts decides where it counts; there the log is missed by nobody.
    let told = scene.told("a circle", |message| message["because"].to_string().contains("the sync has begun"));
    let code = if kind == Kind::Redis70 { "unknown" } else { "output-buffer-exceeded" };
    assert_eq!(told["cause"]["code"], code, "{told:#}");
    drop(writes);
    slow.and(tiny).undo().expect("undone");
    scene.told_event("resolved");
}

fn a_timeout_below_the_ping_period(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let scene = Scene::start(group, &alone());
    let _short = fault::timeout_below_ping(scene.group.primary(), scene.replica()).expect("a timeout below the ping");
    let told = told_cause(&scene, "sync-timeout");
    because(&told, "repl-ping-replica-period 10 s");
    advises(&told, "repl-timeout");
    seen_by_hand(&scene, "sync-timeout", kind.code());
    held_and_told_once(&scene, "sync-timeout");
}

fn a_transfer_that_stalls_times_out(kind: Kind) {
    // A ping within the short timeout, or the link would time out again whenever it is idle.
    let group = Group::builder(kind).replicas(1).config("repl-ping-replica-period", "1").start().expect("a group");
    let scene = Scene::start(group, &alone());
    let primary = scene.group.primary();
    // The servers send 16 KiB at once: with this pace that is nothing for eight seconds.
    let slow = slow_sync(primary, 100, 1_000_000);
    restart_empty(scene.replica());
    fault::configure(scene.replica(), &[("repl-timeout", "2")]).expect("a short timeout").keep();

    let told = told_cause(&scene, "sync-timeout");
    because(&told, "Timeout receiving bulk data");
    because(&told, "repl-timeout 2 s here");
    held_and_told_once(&scene, "sync-timeout");
    slow.undo().expect("undone");
    over(&scene, &told);
}

fn a_sync_that_progresses_is_not_told(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let slow = slow_sync(group.primary(), 2500, 2000);
    // Its first sync, before anybody has seen it linked.
    restart_empty(group.replica(0));
    let scene = Scene::start(group, &patience("1s"));
    scene.wait_status("a sync runs", |status| {
        status["sentence"].as_str().is_some_and(|s| s.starts_with("sync-running"))
    });
    // Diskless, so the time left is a guess by the primary's memory.
    scene.wait_status("its rate", |status| says(status, &["/s", "not told (diskless)", "probably less"]));
    seen_by_hand(&scene, "sync-running", kind.code());
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    drop(slow);
    scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
    silence(&scene);
}

/// Read from the line into memory, a sync shows as bytes loaded; and where the line is slow the server answers each 2 MiB
/// alone, which is no hang.
fn a_sync_into_memory_is_not_told(kind: Kind) {
    for (pieces, span, sentence) in [("1024", "1s", "loaded"), ("2097152", "10s", "sync-running (suspected)")] {
        let group = Group::builder(kind).replicas(1).config("repl-diskless-load", "swapdb");
        let group = group.config("loading-process-events-interval-bytes", pieces).start().expect("a group");
        let scene = Scene::start(group, &patience(span));
        let slow = slow_sync(scene.group.primary(), 2500, 2000);
        restart_empty(scene.replica());
        scene.wait_status(sentence, |status| says(status, &["sync-running", sentence]));
        if pieces == "1024" {
            seen_by_hand(&scene, "sync-running", &format!("into-memory-{}", kind.code()));
        }
        assert!(scene.replica().wait_link_up(PATIENCE).is_some());
        drop(slow);
        scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
        silence(&scene);
    }
}

/// From the disk: no byte comes for as long as the load takes. Only what stands still for 10 s reads as stalled.
fn a_long_load_of_what_a_sync_brought_is_not_told(kind: Kind) {
    let group = Group::builder(kind).replicas(1).config("loading-process-events-interval-bytes", "1024");
    let group = group.config("rdbcompression", "no").config_of(Node::Replica(0), "key-load-delay", "14000");
    let scene = Scene::start(group.start().expect("a group"), &patience("30s"));
    scene.group.primary().write(1500, 1024).expect("data");
    // Without a stream to resume, no backlog is in it.
    restart_empty(scene.replica());
    scene.wait_status("it loads", |status| says(status, &["sync-running", "loaded", "% of it"]));
    let silent_s = || scene.replica().info("replication", "master_sync_last_io_seconds_ago");
    scene.replica().wait_until(|_| silent_s().is_some_and(|s| s.parse().unwrap_or(0) >= 12), PATIENCE).expect("12 s");
    scene.wait_status("it loads on", |status| says(status, &["sync-running", " left"]));
    fault::configure(scene.replica(), &[("key-load-delay", "0")]).expect("it loads at full speed").keep();
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
    silence(&scene);
}

/// The data set fills the line: nobody else gets a word in, and the primary is neither hung nor cut off.
fn a_sync_that_fills_a_slow_line_is_not_told(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let group = Group::builder(kind).replicas(1).namespaces(true).config("rdbcompression", "no");
    let group = group.config("repl-diskless-sync", "no");
    let scene = Scene::start(group.start().expect("a group"), &patience("4s"));
    let primary = scene.group.primary();
    primary.write(500, 1024).expect("data");
    let slow = primary.host().expect("a host").slow_down(500).expect("a slow line");
    restart_empty(scene.replica());
    scene.wait_status("a sync runs", |status| {
        status["sentence"].as_str().is_some_and(|s| s.starts_with("sync-running"))
    });
    // From the disk, so the size is known.
    scene.wait_status("its rate and the time left", |status| says(status, &[" KiB of ", "/s", " left"]));
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    drop(slow);
    scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
    silence(&scene);
}

fn says(status: &Value, words: &[&str]) -> bool {
    let sentence = status["sentence"].as_str().unwrap_or_default();
    words.iter().all(|word| sentence.contains(word))
}

fn a_sync_that_stands_still_is_told(kind: Kind) {
    let group = Group::builder(kind).replicas(1).start().expect("a group");
    let scene = Scene::start(group, &patience("1s"));
    let slow = slow_sync(scene.group.primary(), 1000, 1_000_000);
    restart_empty(scene.replica());
    let told = scene.told_event("opened");
    assert_eq!(told["cause"]["code"], "sync-running", "{told:#}");
    assert_eq!(told["severity"], "warning");
    held_and_told_once(&scene, "sync-running");
    slow.undo().expect("undone");
    over(&scene, &told);
}

on_each_server! {
    the_primarys_disk_is_full => the_primarys_disk_is_full_redis_70, the_primarys_disk_is_full_valkey_80;
    the_replicas_disk_is_full => the_replicas_disk_is_full_redis_70, the_replicas_disk_is_full_valkey_80;
    the_backlog_is_too_small => the_backlog_is_too_small_redis_70, the_backlog_is_too_small_valkey_80;
    a_backlog_that_reaches_back_is_not_blamed =>
        a_backlog_that_reaches_back_is_not_blamed_redis_70, a_backlog_that_reaches_back_is_not_blamed_valkey_80;
    the_output_buffer_is_too_small => the_output_buffer_is_too_small_redis_70, the_output_buffer_is_too_small_valkey_80;
    a_limit_above_the_data_set_is_too_small =>
        a_limit_above_the_data_set_is_too_small_redis_70, a_limit_above_the_data_set_is_too_small_valkey_80;
    a_sync_that_goes_in_a_circle_is_told_without_a_log =>
        a_sync_that_goes_in_a_circle_is_told_without_a_log_redis_70,
        a_sync_that_goes_in_a_circle_is_told_without_a_log_valkey_80;
    a_timeout_below_the_ping_period => a_timeout_below_the_ping_period_redis_70, a_timeout_below_the_ping_period_valkey_80;
    a_transfer_that_stalls_times_out => a_transfer_that_stalls_times_out_redis_70, a_transfer_that_stalls_times_out_valkey_80;
    a_sync_that_progresses_is_not_told => a_sync_that_progresses_is_not_told_redis_70, a_sync_that_progresses_is_not_told_valkey_80;
    a_sync_into_memory_is_not_told => a_sync_into_memory_is_not_told_redis_70, a_sync_into_memory_is_not_told_valkey_80;
    a_long_load_of_what_a_sync_brought_is_not_told =>
        a_long_load_of_what_a_sync_brought_is_not_told_redis_70,
        a_long_load_of_what_a_sync_brought_is_not_told_valkey_80;
    a_sync_that_fills_a_slow_line_is_not_told =>
        a_sync_that_fills_a_slow_line_is_not_told_redis_70, a_sync_that_fills_a_slow_line_is_not_told_valkey_80;
    a_sync_that_stands_still_is_told => a_sync_that_stands_still_is_told_redis_70, a_sync_that_stands_still_is_told_valkey_80;
}
