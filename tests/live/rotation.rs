//! What the live tests of rotations share.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lab::{Group, Server, Signal};
use serde_json::Value;

use super::PATIENCE;
use super::desk::{Desk, Said};

/// A verb, its JSON, and no password in anything that it says.
#[track_caller]
pub fn rotate(desk: &Desk, words: &[&str]) -> (Said, Value) {
    let said = desk.run(&[&["rotate"], words, &["--json"]].concat());
    assert!(!format!("{said:?}").contains("CANARY"), "a password leaked: {said:?}");
    let json = said.json();
    (said, json)
}

pub fn takes(node: &Server, user: &[&str], password: &str) -> bool {
    let mut connection = node.connect().expect("an admin connection");
    redis::cmd("AUTH").arg(user).arg(password).query::<()>(&mut connection).is_ok()
}

/// Every server killed and started again: what it runs with is in its files.
pub fn restart_all_and_link(group: &Group) {
    for server in group.sentinels().iter().chain(group.nodes()) {
        server.kill9();
    }
    for node in group.nodes() {
        node.restart().expect("it starts");
    }
    for sentinel in group.sentinels() {
        sentinel.restart().expect("it starts");
    }
    for replica in group.nodes().iter().skip(1) {
        assert!(replica.wait_link_up(PATIENCE).is_some(), "after a restart: {}", replica.log_text());
    }
    let usable = format!("OK {} usable", group.sentinels().len());
    for sentinel in group.sentinels() {
        let whole = |it: &Server| {
            it.sentinel_field("flags").as_deref() == Some("master")
                && it.sentinel_replicas().is_ok_and(|all| all.len() == 2 && all.iter().all(|r| r["flags"] == "slave"))
                // Only those whom it does not hold down are counted, and itself.
                && it.query::<String>(&["SENTINEL", "CKQUORUM", group.name()]).is_ok_and(|said| said.starts_with(&usable))
        };
        assert!(sentinel.wait_until(whole, PATIENCE).is_some(), "a Sentinel after a restart: {}", sentinel.log_text());
    }
}

/// Starts a rotation and ends it with a signal when it says that it begins its `step`-th step. False: it had ended.
pub fn interrupted_at(desk: &Desk, words: &[&str], step: usize, signal: Signal) -> bool {
    let mut child = desk.command(&[&["rotate"], words].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mark = format!("[{step}/");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.map_while(Result::ok).any(|line| {
        assert!(!line.contains("CANARY"), "{line}");
        line.starts_with(&mark)
    });
    if reached {
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, signal);
    }
    child.wait().unwrap();
    reached
}
