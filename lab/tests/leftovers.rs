//! Whatever kills a lab, nothing of it stays.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Agent, Group, Kind};

const PATIENCE: Duration = Duration::from_secs(20);

/// A `lab up` in a process of its own, and the directory that it owns.
fn lab_up(kind: Kind, more: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["up", "--replicas", "1", "--sentinels", "1", "--kind", kind.code()]).args(more);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let primary = lines.into_iter().find(|line| line.starts_with("primary")).unwrap();
    let log = primary.split_whitespace().nth(2).unwrap();
    let owner = Path::new(log).ancestors().nth(3).unwrap().to_str().unwrap().to_owned();
    assert!(owner.contains(&format!("relinkd-lab-{}-", child.id())), "{owner}");
    (child, owner)
}

/// Processes, namespaces, mounts and the directory of one lab.
fn traces(owner: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(cwd) = std::fs::read_link(entry.path().join("cwd")) else { continue };
        if cwd.starts_with(owner) {
            found.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    let name = Path::new(owner).file_name().unwrap().to_str().unwrap();
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let namespace = entry.file_name().to_string_lossy().into_owned();
        if namespace.starts_with(name) {
            found.push(format!("namespace {namespace}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(owner)).map(str::to_owned));
    found.extend(Path::new(owner).exists().then(|| owner.to_owned()));
    found
}

fn assert_gone(owner: &str) {
    wait_for_none(|| traces(owner));
}

fn wait_for_none(left: impl Fn() -> Vec<String>) {
    let end = Instant::now() + PATIENCE;
    while !left().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(left(), Vec::<String>::new());
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn nothing_stays_after_sigkill_sigterm_or_ctrl_c() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let network: &[&str] = if lab::require_namespaces().is_some() { &["--namespaces"] } else { &[] };
    for name in ["-KILL", "-TERM", "-INT"] {
        let (mut child, owner) = lab_up(kind, network);
        assert!(traces(&owner).len() > 3, "{:?}", traces(&owner));
        signal(&child, name);
        child.wait().unwrap();
        assert_gone(&owner);
    }
}

/// The keeper killed too, as by a machine out of memory: servers die by themselves, the rest waits for the next lab.
#[test]
fn the_next_sweep_removes_what_even_the_keeper_could_not() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let network: &[&str] = if lab::require_namespaces().is_some() { &["--namespaces"] } else { &[] };
    let (mut child, owner) = lab_up(kind, network);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut keepers = 0;
    for pid in std::fs::read_to_string(children).unwrap().split_whitespace() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        if String::from_utf8_lossy(&line).contains("relinkd-lab-clear") {
            keepers += 1;
            assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
        }
    }
    assert_eq!(keepers, 1);
    signal(&child, "-KILL");
    child.wait().unwrap();
    wait_for_none(|| traces(&owner).into_iter().filter(|trace| trace.starts_with("process")).collect());
    lab::sweep::sweep().unwrap();
    assert_gone(&owner);
}

#[test]
fn a_panic_takes_the_group_and_the_agent_with_it() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (sender, dirs) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let group = Group::builder(kind).replicas(1).start().unwrap();
        let mut agent = Agent::new("/bin/sh").unwrap();
        sender.send((group.dir().to_owned(), agent.dir().to_owned())).unwrap();
        // Stands for relinkd: sh takes "run" for a script in its directory.
        agent.write_file("run", "echo started; exec sleep 600").unwrap();
        agent.start("").unwrap();
        assert!(agent.wait_log("started", PATIENCE).is_some());
        assert!(agent.pid().is_some());
        panic!("as a test that fails");
    });
    assert!(panicked.join().is_err());
    let (group, agent) = dirs.recv().unwrap();
    assert_gone(group.to_str().unwrap());
    assert_gone(agent.to_str().unwrap());
}
