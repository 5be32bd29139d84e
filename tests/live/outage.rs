//! A primary that is gone while Sentinel has given up, and what relinkd is seen to do about it.

#![allow(dead_code)] // each test binary uses a part of it

use std::time::{Duration, Instant};

use lab::{Group, Kind, Server};
use serde_json::Value;

use super::live::{PATIENCE, Scene, Setup};

/// Far longer than a test: whatever moves the group before is not Sentinel's retry.
pub const FAILOVER_TIMEOUT_MS: u64 = 60_000;
/// Twice the Sentinels' PING period: with less they hold a primary down that they have just begun to watch (Valkey 8.0.1
/// on a busy machine), and fail over a second time by themselves.
pub const DOWN_AFTER_MS: u64 = 2_000;
/// One agent of two hosts asks in its own turns only, and an order of promotion that has just changed has to stand for a
/// turn first.
pub const TURNS: Duration = Duration::from_secs(90);
pub const EAGER: &str = "[policy.request-failover]\nmode = \"auto\"\nafter = \"2s\"\ncooldown = \"1s\"";

pub fn with(policy: &str) -> Setup {
    Setup { policy: policy.to_owned(), ..Setup::default() }
}

pub fn group(kind: Kind, failover_timeout_ms: u64) -> Group {
    let builder = Group::builder(kind).replicas(2).sentinels(3).password("secret");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, failover_timeout_ms).start().expect("a group");
    filled(&group);
    group
}

/// Data that has arrived everywhere, and Sentinels that look more often.
pub fn filled(group: &Group) {
    group.primary().write(100, 100).expect("data");
    let offset = group.primary().offset();
    for replica in &group.nodes()[1..] {
        assert!(replica.wait_until(|replica| replica.offset() >= offset, PATIENCE).is_some());
    }
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "info-period", "500"]).expect("a shorter period");
    }
}

pub fn priorities(group: &Group, priority: u32) {
    let all: Vec<(&Server, u32)> = group.nodes()[1..].iter().map(|replica| (replica, priority)).collect();
    preferred(group, &all);
}

/// Sets each one's priority, and waits until every Sentinel knows it.
pub fn preferred(group: &Group, priorities: &[(&Server, u32)]) {
    for (replica, priority) in priorities {
        replica.run(&["CONFIG", "SET", "replica-priority", &priority.to_string()]).expect("a priority");
    }
    let known = |sentinel: &Server| {
        let Ok(all) = sentinel.sentinel_replicas() else { return false };
        priorities.iter().all(|(replica, priority)| {
            let (host, port) = replica.endpoint();
            let told = all.iter().find(|one| one["ip"] == host && one["port"] == port.to_string());
            told.is_some_and(|one| one["slave-priority"] == priority.to_string())
        })
    };
    for sentinel in group.sentinels() {
        assert!(sentinel.wait_until(known, PATIENCE).is_some(), "Sentinels learn of the priority");
    }
}

/// The primary dies when no replica may be promoted: Sentinel tries, gives up (for want of a replica, or of votes: on a
/// busy machine they split), and will wait for two minutes.
pub fn given_up(group: Group, setup: &Setup, before: impl FnOnce(&Scene)) -> Scene {
    priorities(&group, 0);
    let scene = Scene::start(group, setup);
    before(&scene);
    scene.group.primary().kill9();
    gives_up(&scene);
    scene
}

pub fn gives_up(scene: &Scene) {
    let gave_up =
        |scene: &Scene| scene.group.sentinels().iter().any(|sentinel| sentinel.log_text().contains("-failover-abort-"));
    let began = Instant::now();
    while !gave_up(scene) {
        assert!(began.elapsed() < PATIENCE, "no Sentinel gave up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The reason that stands now, once it is the one that is looked for.
pub fn held(scene: &Scene, refusal: &str) -> Value {
    scene.wait_status(refusal, |status| status["held"]["code"] == refusal)
}

/// The group still has no primary, nobody was asked, and nothing was attempted.
pub fn nothing_was_done(scene: &Scene) {
    assert_eq!(requests(&scene.group), 0, "{}", sentinels_tell(&scene.group));
    assert!(scene.group.nodes()[1..].iter().all(|node| !node.is_primary()), "nothing was promoted");
    let incidents = scene.incidents();
    assert!(incidents.iter().all(|incident| incident["actions"] == serde_json::json!([])), "{incidents:#?}");
}

/// How often anybody asked the Sentinels for a failover: each that says OK to SENTINEL FAILOVER logs it (Redis 7.0.15 to
/// Valkey 9.1, sentinelCommand).
pub fn requests(group: &Group) -> usize {
    sentinels_tell(group).matches("Executing user requested FAILOVER").count()
}

/// The logs of the Sentinels, for a failure's sake.
pub fn sentinels_tell(group: &Group) -> String {
    let one = |sentinel: &Server| format!("{}\n{}\n", sentinel.address(), sentinel.log_text());
    group.sentinels().iter().map(one).collect()
}

/// A primary, and one only; how long it took since `began`.
pub fn primary_again(scene: &Scene, began: Instant) -> Duration {
    while !scene.group.nodes()[1..].iter().any(Server::is_primary) {
        assert!(began.elapsed() < TURNS, "no primary\n{:#}\n{}", scene.status(), scene.agent.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = began.elapsed();
    let primaries = scene.group.nodes()[1..].iter().filter(|node| node.is_primary()).count();
    assert_eq!(primaries, 1, "{}", sentinels_tell(&scene.group));
    took
}
