//! A primary that comes back after a failover: still writable, and every write to it is lost. relinkd stands beside it.

mod live;

use std::time::{Duration, Instant};

use lab::{Agent, Group, Kind, Receiver, Server};
use live::checks::actions;
use live::{PATIENCE, RELINKD, Scene, Setup, config, short_tilt};
use serde_json::Value;

const EAGER: &str = "settle = \"300ms\"\n[policy.repoint]\nafter = \"500ms\"\ncooldown = \"1s\"";

/// For so long relinkd leaves a former primary alone that Sentinel is about to convert.
const HANDOVER: Duration = Duration::from_secs(15);

/// relinkd beside the primary, with a login of its own that outlives a change of the primary's password.
fn beside_the_primary(kind: Kind, policy: &str) -> Option<Scene> {
    let kind = lab::require(kind)?;
    let builder = Group::builder(kind).replicas(1).sentinels(3).password("secret");
    // With less than twice a PING period they hold one down that they have just begun to watch (live/outage.rs).
    let group = builder.sentinel_timers(2_000, 20_000).start().expect("a group");
    short_tilt(&group);
    let primary = group.primary();
    primary.write(100, 100).expect("data");
    let offset = primary.offset();
    assert!(group.replica(0).wait_until(|replica| replica.offset() >= offset, PATIENCE).is_some(), "it keeps up");
    primary.run(&["ACL", "SETUSER", "watcher", "on", ">secret", "~*", "&*", "+@all"]).expect("a user");
    let receiver = Receiver::start().expect("a receiver");
    let mut agent = Agent::new(RELINKD).expect("a place for relinkd");
    let setup = Setup { policy: policy.to_owned(), replica: "user = \"watcher\"".to_owned(), ..Setup::default() };
    let text = config(&agent, &group, primary, &receiver.url(), &setup);
    agent.start(&text).expect("relinkd starts");
    let scene = Scene { agent, receiver, group };
    scene.wait_status("it is a primary", |status| status["role"] == "primary" && status["cause"].is_null());
    Some(scene)
}

fn promoted(scene: &Scene) -> &Server {
    let other = scene.group.replica(0);
    let named = |sentinel: &Server| sentinel.sentinel_field("port") == Some(other.endpoint().1.to_string());
    for sentinel in scene.group.sentinels() {
        assert!(sentinel.wait_until(named, PATIENCE).is_some(), "the Sentinels name the replica");
    }
    other
}

fn told(scene: &Scene, since: Instant) -> (Value, Duration) {
    let told = scene.told("a second primary", |message| {
        message["cause"]["code"] == "wrong-primary" && message["event"] != "resolved"
    });
    (told, since.elapsed())
}

fn because(message: &Value) -> String {
    message["because"].to_string()
}

/// Sentinel's word that the former primary has no password of theirs: it can never demote it.
fn lock_out_the_sentinels(scene: &Scene) {
    // What they go on to publish on the connections that they have is of its stream, and would be in this server alone.
    for sentinel in scene.group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "publish-period", "3600000"]).expect("another period");
    }
    lab::fault::rotate_password(scene.group.primary(), "other").expect("rotated").keep();
}

fn fail_over(scene: &Scene) {
    let sentinel = scene.group.sentinel(0);
    let began = Instant::now();
    while sentinel.run(&["SENTINEL", "FAILOVER", "mymaster"]).is_err() {
        assert!(began.elapsed() < PATIENCE, "Sentinel finds a replica to promote");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn one_that_wakes_up_is_told_at_once_and_left_to_sentinel(kind: Kind) {
    let Some(scene) = beside_the_primary(kind, "settle = \"300ms\"") else { return };
    let primary = scene.group.primary();
    primary.freeze().expect("frozen");
    promoted(&scene);
    primary.thaw().expect("awake");
    let back = Instant::now();
    primary.write(50, 100).expect("it takes writes");
    let (message, after) = told(&scene, back);
    assert_eq!(message["severity"], "critical", "{message:#}");
    assert!(primary.is_primary(), "told before Sentinel converts it, {after:?} after its return");
    let counted = scene.diagnose(&format!("wrong-primary/{}-second-primary", name(kind)));
    assert_eq!(counted["cause"], "wrong-primary", "{counted:#}");
    assert!(counted.to_string().contains("bytes of its stream"), "{counted:#}");
    let resolved = scene.told("over", |m| m["event"] == "resolved" && m["id"] == message["id"]);
    assert!(actions(&resolved).is_empty(), "Sentinel has its time: {resolved:#}");
}

fn one_that_sentinel_cannot_reach_is_pointed_at_the_new_primary(kind: Kind) {
    let Some(scene) = beside_the_primary(kind, EAGER) else { return };
    lock_out_the_sentinels(&scene);
    fail_over(&scene);
    let since = Instant::now();
    let (message, after) = told(&scene, since);
    assert_eq!(message["severity"], "critical", "{message:#}");
    assert!(because(&message).contains("within what the new primary has"), "{message:#}");
    assert!(after < HANDOVER, "told {after:?} after the failover was asked for");
    println!("{kind}: told {after:?} after the failover was asked for");
    let resolved = scene.told_event("resolved");
    assert_eq!(actions(&resolved)[0], ("repoint".to_owned(), "changed".to_owned()), "{resolved:#}");
    let (primary, other) = (scene.group.primary(), promoted(&scene));
    assert_eq!(primary.info("replication", "master_port"), Some(other.endpoint().1.to_string()));
    assert!(primary.is_link_up());
}

fn one_with_writes_of_its_own_waits_for_a_person(kind: Kind) {
    let Some(scene) = beside_the_primary(kind, EAGER) else { return };
    lock_out_the_sentinels(&scene);
    fail_over(&scene);
    promoted(&scene);
    let primary = scene.group.primary();
    primary.set_admin_password(Some("other"));
    primary.write(20, 1000).expect("it takes writes");
    let proposed = scene.told_event("proposed");
    assert_eq!(proposed["cause"]["code"], "wrong-primary", "{proposed:#}");
    assert!(proposed["held"].to_string().contains("data-at-risk"), "{proposed:#}");
    assert!(proposed["held"].to_string().contains("which discards up to"), "{proposed:#}");
    let seen = scene.diagnose(&format!("wrong-primary/{}-second-primary-with-writes", name(kind)));
    assert_eq!(seen["decision"]["propose"]["remedy"], "repoint", "{seen:#}");
    std::thread::sleep(Duration::from_secs(2));
    let role = (0..50).find_map(|_| primary.info("replication", "role"));
    assert_eq!(role.as_deref(), Some("master"), "nothing is thrown away unasked");
    assert!(actions(&proposed).is_empty());
}

/// It has no dump, so it shares no history with the new primary: nothing is known, and nothing is done.
fn one_that_lost_its_history_is_told_and_left(kind: Kind) {
    let Some(scene) = beside_the_primary(kind, EAGER) else { return };
    let read_every = |period: &str| {
        for sentinel in scene.group.sentinels() {
            sentinel.run(&["SENTINEL", "DEBUG", "info-period", period]).expect("another period");
        }
    };
    let primary = scene.group.primary();
    primary.kill9();
    let _ = std::fs::remove_file(primary.data_dir().join("dump.rdb"));
    promoted(&scene);
    // A Sentinel converts it when it reads, for the second time and eight seconds later, that it calls itself a primary.
    read_every("3600000");
    primary.restart().expect("it comes back");
    let back = Instant::now();
    primary.run(&["ACL", "SETUSER", "watcher", "on", ">secret", "~*", "&*", "+@all"]).expect("a user");
    let (message, after) = told(&scene, back);
    assert!(after < HANDOVER, "told {after:?} after its return");
    assert_eq!(message["severity"], "critical", "{message:#}");
    assert!(because(&message).contains("cannot be told"), "{message:#}");
    println!("{kind}: told {after:?} after its return");
    assert!(primary.is_primary());
    read_every("1000");
    let resolved = scene.told("over", |m| m["event"] == "resolved" && m["id"] == message["id"]);
    assert!(actions(&resolved).is_empty(), "{resolved:#}");
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis70 => "redis-7.0",
        _ => "valkey-8.0",
    }
}

macro_rules! on_both {
    ($($test:ident => $redis:ident, $valkey:ident;)+) => {$(
        #[test]
        fn $redis() {
            $test(Kind::Redis70);
        }

        #[test]
        fn $valkey() {
            $test(Kind::Valkey80);
        }
    )+};
}

on_both! {
    one_that_wakes_up_is_told_at_once_and_left_to_sentinel =>
        one_that_wakes_up_is_told_at_once_and_left_to_sentinel_redis_70,
        one_that_wakes_up_is_told_at_once_and_left_to_sentinel_valkey_80;
    one_that_sentinel_cannot_reach_is_pointed_at_the_new_primary =>
        one_that_sentinel_cannot_reach_is_pointed_at_the_new_primary_redis_70,
        one_that_sentinel_cannot_reach_is_pointed_at_the_new_primary_valkey_80;
    one_with_writes_of_its_own_waits_for_a_person =>
        one_with_writes_of_its_own_waits_for_a_person_redis_70, one_with_writes_of_its_own_waits_for_a_person_valkey_80;
    one_that_lost_its_history_is_told_and_left =>
        one_that_lost_its_history_is_told_and_left_redis_70, one_that_lost_its_history_is_told_and_left_valkey_80;
}
