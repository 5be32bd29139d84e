//! A rotation that another host began, one that was killed between a change and its file, and one in a pause.

mod live;

use lab::Signal;
use lab::{Agent, Group, Kind, Server};
use live::desk::{Desk, Said};
use live::rotation::{interrupted_at, restart_all_and_link, rotate, takes};
use live::{RELINKD, Setup, config};
use rusqlite::Connection;
use serde_json::Value;

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";

/// relinkd on the host of the second replica: a record and a config of its own.
struct Elsewhere(Agent);

impl Elsewhere {
    fn beside(desk: &Desk) -> Elsewhere {
        let agent = Agent::new(RELINKD).unwrap();
        let setup = Setup { store: Some(NEW.to_owned()), ..Setup::default() };
        let text = config(&agent, &desk.group, desk.group.replica(1), &desk.receiver.url(), &setup);
        agent.write_file("config.toml", &text).unwrap();
        Elsewhere(agent)
    }

    #[track_caller]
    fn rotate(&self, words: &[&str]) -> (Said, Value) {
        let mut command = std::process::Command::new(RELINKD);
        command.arg("--config").arg(self.0.config_path()).arg("rotate").args(words).arg("--json");
        let said = Said::of(&command.output().unwrap());
        assert!(!format!("{said:?}").contains("CANARY"), "a password leaked: {said:?}");
        let json = said.json();
        (said, json)
    }
}

fn desk(kind: Kind) -> Desk {
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let desk = Desk::new(group);
    desk.configure(&Setup { store: Some(NEW.to_owned()), ..Setup::default() });
    desk
}

fn conf(node: &Server) -> String {
    std::fs::read_to_string(node.conf_path()).unwrap()
}

/// As if relinkd had been killed between a change on this node and CONFIG REWRITE: the file of before, and no record of
/// the step's end.
fn as_if_unwritten(desk: &Desk, node: &Server, before: &str) {
    std::fs::write(node.conf_path(), before).unwrap();
    let ledger = Connection::open(desk.agent.dir().join("state/ledger.db")).unwrap();
    ledger.execute("DELETE FROM rotation_entry WHERE kind = 'done'", []).unwrap();
}

#[test]
fn what_was_killed_between_a_change_and_its_file_is_written_before_anything_else_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = desk(kind);
    let nodes = desk.group.nodes();
    let before: Vec<String> = nodes.iter().map(conf).collect();
    // The first step is at the replica whose address sorts first.
    assert!(interrupted_at(&desk, &["run", "--keep-old"], 2, Signal::KILL));
    let first = nodes.iter().zip(&before).find(|(node, before)| conf(node) != **before);
    let (node, before) = first.expect("a node whose file was written");
    as_if_unwritten(&desk, node, before);
    let (said, half) = rotate(&desk, &["resume", "--keep-old"]);
    assert_eq!((said.exit, &half["failed"]), (0, &false.into()), "{half:#}");
    let written = half["steps"][0]["what"].as_str().unwrap();
    assert!(written.starts_with("write the files") || written.starts_with("accept both"), "{half:#}");
    // With both passwords valid, every server starts anew: nobody is refused.
    restart_all_and_link(&desk.group);
    for node in nodes {
        assert!(takes(node, &[], OLD) && takes(node, &[], NEW), "{}", node.address());
    }
    let (said, whole) = rotate(&desk, &["resume"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
}

#[test]
fn what_another_host_began_is_refused_here_and_finished_with_take_over_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = desk(kind);
    let there = Elsewhere::beside(&desk);
    assert!(interrupted_at(&desk, &["run"], 5, Signal::KILL));
    let (said, refused) = there.rotate(&["run"]);
    let obstacle = &refused["obstacles"][0];
    assert_eq!((said.exit, &obstacle["code"]), (1, &"not-our-turn".into()), "{refused:#}");
    assert!(obstacle["detail"].as_str().unwrap().contains("--take-over"), "{refused:#}");
    assert_eq!(there.rotate(&["status"]).1, Value::Null, "nothing was begun");
    assert_eq!(there.rotate(&["plan", "--take-over", "--detailed-exitcode"]).0.exit, 2);
    // The old password is what this host still logs in with, and the other nodes' masterauth tells it.
    let (said, whole) = there.rotate(&["run", "--take-over"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    for node in desk.group.nodes() {
        node.set_admin_password(Some(NEW));
        assert!(takes(node, &[], NEW) && !takes(node, &[], OLD));
    }
    // Where it began, it is still open, and ends with nothing to do but to prove it.
    desk.agent.write_file("replica-password", NEW).unwrap();
    let (said, state) = rotate(&desk, &["status", "--detailed-exitcode"]);
    assert_eq!(said.exit, 2, "{state:#}");
    let (said, end) = rotate(&desk, &["resume"]);
    assert_eq!((said.exit, &end["finished"]), (0, &true.into()), "{end:#}");
    restart_all_and_link(&desk.group);
}

#[test]
fn a_pause_holds_a_rotation_before_it_begins_and_between_two_steps_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut desk = desk(kind);
    desk.agent.start_again().unwrap();
    desk.agent.wait_log("replicates from", live::PATIENCE).expect("it looks");
    let paused = |scope: &[&str]| {
        let said = desk.run(&[&["pause", "--for", "10m", "--reason", "kernel upgrade"], scope].concat());
        assert_eq!(said.exit, 0, "{said:?}");
    };
    let held = |told: &Value| {
        let obstacle = told["obstacles"].as_array().unwrap().iter().find(|it| it["code"] == "paused");
        let detail = obstacle.unwrap_or_else(|| panic!("{told:#}"))["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("kernel upgrade") && detail.contains("relinkd resume"), "{detail}");
    };
    paused(&["--group", "mymaster"]);
    for verb in ["plan", "run"] {
        let (said, told) = rotate(&desk, &[verb]);
        assert_eq!(said.exit, 1, "{told:#}");
        held(&told);
    }
    assert_eq!(rotate(&desk, &["status"]).1, Value::Null, "nothing was begun");
    assert_eq!(desk.run(&["resume", "--group", "mymaster"]).exit, 0);

    assert!(interrupted_at(&desk, &["run", "--keep-old"], 5, Signal::KILL));
    paused(&["--replica", "cache"]);
    for verb in ["resume", "abort"] {
        let (said, told) = rotate(&desk, &[verb]);
        assert_eq!((said.exit, &told["steps"]), (1, &Value::Array(Vec::new())), "{told:#}");
        held(&told);
    }
    assert_eq!(desk.run(&["resume"]).exit, 0);
    let (said, end) = rotate(&desk, &["abort"]);
    assert_eq!((said.exit, &end["finished"]), (0, &true.into()), "{end:#}");
    for node in desk.group.nodes() {
        assert!(takes(node, &[], OLD) && !takes(node, &[], NEW));
    }
}
