//! A replica that is far away from its primary and from most of its Sentinels: a look is as short as ever, so what it can
//! ask has to come back in time, and what does not come back in time has to say nothing.

mod live;

use std::time::Duration;

use lab::{Group, Kind, Node, fault, transfer};
use live::checks::text;
use live::{PATIENCE, Scene, Setup, on_each_server};

const RIGHT: &str = "right-CANARY-1";
const WRONG: &str = "wrong-CANARY-2";

/// Round trips between continents.
const FAR: Duration = Duration::from_millis(250);

on_each_server! {
    far_away => a_replica_far_away_is_healthy_and_healed_redis_70, a_replica_far_away_is_healthy_and_healed_valkey_80;
}

fn far_away(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(RIGHT).namespaces(true);
    let group = group.config_of(Node::Replica(0), "replica-priority", "0").start().expect("a group");
    let setup = Setup { store: Some(RIGHT.to_owned()), policy: "background = \"1s\"\n".to_owned(), ..Setup::default() };
    let scene = Scene::start(group, &setup);
    let host = scene.replica().host().expect("a host").clone();
    let _line = host.move_away(FAR).expect("a long line");
    scene.replica().wait_link_up(PATIENCE).expect("it reaches that far");

    for _ in 0..5 {
        let told = scene.verb_json(&["diagnose", "cache"]);
        assert!(told["cause"].is_null(), "a healthy link is no fault for being long: {told:#}");
    }
    assert_eq!(scene.incidents(), Vec::<serde_json::Value>::new());

    let full = scene.group.primary().sync_full();
    fault::configure(scene.replica(), &[("masterauth", WRONG)]).expect("a wrong password").keep();
    transfer::reconnect(scene.replica()).expect("the link is cut");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-rejected", "{opened:#}");
    assert_eq!(opened["actions"][0]["remedy"], "realign-auth", "{opened:#}");
    let resolved = scene.over(&text(&opened["id"]));
    assert_eq!(resolved["cause"]["code"], "auth-rejected", "{resolved:#}");
    eprintln!("{kind}: {}", resolved["timings_ms"]);
    assert_eq!(scene.group.primary().sync_full(), full, "the heal kept the partial resync");
    assert_eq!(scene.incidents().len(), 1);
}
