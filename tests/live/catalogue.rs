//! What every fault of the catalogue has to show: the right first verdict, its look-alikes ruled out, one incident, one
//! message when it opens and one when it is over.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeSet;

use lab::{Fault, Group, Kind, Server, transfer};
use serde_json::{Value, json};

use super::live::{PATIENCE, Scene};

/// Quick to settle, and quick to look at what is still well.
pub const QUICK: &str = "settle = \"300ms\"\nbackground = \"1s\"\n";

/// The first message of the scene: it names the cause, holds or acts, and rules out what looks alike.
pub fn opened(scene: &Scene, code: &str, not: &[&str]) -> Value {
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], code, "{}\n{}", opened["because"], scene.agent.log());
    rules_out(&opened, not);
    opened
}

pub fn rules_out(message: &Value, causes: &[&str]) {
    let out: Vec<&str> = list(&message["ruled_out"]).filter_map(|out| out["code"].as_str()).collect();
    for cause in causes {
        assert!(out.contains(cause), "{cause} is not ruled out: {message:#}");
    }
}

/// The same, and relinkd keeps its hands off.
pub fn held(scene: &Scene, code: &str, not: &[&str]) -> Value {
    let opened = opened(scene, code, not);
    assert_eq!((&opened["actions"], &opened["cause"]["suspected"]), (&json!([]), &json!(false)), "{opened:#}");
    assert!(list(&opened["held"]).count() > 0 && list(&opened["next_steps"]).count() > 0, "{opened:#}");
    opened
}

/// A look by hand says the same; kept as a capture when that is asked for.
pub fn by_hand(scene: &Scene, code: &str, kind: Kind) -> Value {
    by_hand_named(scene, code, kind.code())
}

pub fn by_hand_named(scene: &Scene, code: &str, name: &str) -> Value {
    let seen = scene.diagnose(&format!("{code}/{name}"));
    assert_eq!(seen["cause"], code, "{}", seen["because"]);
    seen
}

/// Undone, the incident is over: it was one, told once at its beginning and once at its end.
pub fn over(scene: &Scene, opened: &Value) -> Value {
    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], opened["id"]);
    assert_eq!(told(scene).len(), 2, "{:?}\n{}", told(scene), scene.agent.log());
    one_incident(scene);
    resolved
}

/// Event and cause of each message. Delivery is at least once: one that came again after a restart counts once.
pub fn told(scene: &Scene) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen = BTreeSet::new();
    let messages = scene.receiver.messages();
    let once = messages.iter().filter(|message| seen.insert((word(&message["id"]), message["sequence"].as_u64())));
    once.map(|message| (word(&message["event"]), word(&message["cause"]["code"]))).collect()
}

pub fn one_incident(scene: &Scene) -> Value {
    let incidents = scene.incidents();
    assert_eq!((incidents.len(), &incidents[0]["phase"]), (1, &json!("resolved")), "{incidents:#?}");
    incidents[0].clone()
}

/// Nobody was told of anything, and the record holds no incident.
pub fn silence(scene: &Scene) {
    assert_eq!(scene.receiver.messages(), Vec::<Value>::new(), "{}", scene.agent.log());
    assert_eq!(scene.incidents(), Vec::<Value>::new(), "{}", scene.agent.log());
}

/// Some data, on every node.
pub fn filled(group: &Group) {
    group.primary().write(50, 16).expect("data");
    let arrived = |node: &Server| node.query::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys == 50);
    assert!(group.nodes().iter().all(|node| node.wait_until(arrived, PATIENCE).is_some()), "the data has arrived");
}

/// [`transfer::restart_empty`], which has to work.
pub fn restart_empty(replica: &Server) {
    transfer::restart_empty(replica).expect("a restart");
}

/// [`transfer::reconnect`], which has to work.
pub fn reconnect(replica: &Server) {
    transfer::reconnect(replica).expect("the link is cut");
}

pub fn undo(fault: Fault) {
    fault.undo().expect("the fault is undone");
}

pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
