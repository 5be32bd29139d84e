//! Credentials: each fault real, healed where that is safe, recorded and told.

mod live;

use lab::{Group, Kind, fault};
use live::{Scene, Setup};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";

fn rotated_on_the_primary_only(kind: Kind) {
    let Some(kind) = lab::require(kind) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let scene = Scene::start(group, &Setup { store: Some(NEW.to_owned()), ..Setup::default() });
    let full = scene.group.primary().sync_full();

    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-rejected", "{opened:#}");
    assert_eq!(opened["actions"][0]["remedy"], "realign-auth");
    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], opened["id"]);
    assert!(resolved["ruled_out"].as_array().unwrap().iter().any(|out| out["code"] == "primary-down"));

    assert!(scene.replica().is_link_up());
    assert_eq!(scene.group.primary().sync_full(), full, "the heal kept the partial resync");
    let conf = std::fs::read_to_string(scene.replica().conf_path()).unwrap();
    assert!(conf.contains(NEW), "the new password is in the server's own file");
    let incidents = scene.incidents();
    assert_eq!((incidents.len(), &incidents[0]["phase"]), (1, &serde_json::json!("resolved")));
    for place in [scene.agent.log(), serde_json::to_string(&scene.receiver.messages()).unwrap()] {
        assert!(!place.contains("CANARY"), "a password leaked: {place}");
    }
}

#[test]
fn a_password_rotated_on_the_primary_only_is_realigned_redis_70() {
    rotated_on_the_primary_only(Kind::Redis70);
}

#[test]
fn a_password_rotated_on_the_primary_only_is_realigned_valkey_80() {
    rotated_on_the_primary_only(Kind::Valkey80);
}
