//! A group comes up whole, breaks as told, heals, and is gone without a trace.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Group, Kind, Node, fault};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_group_comes_up_whole_and_goes_away_without_a_trace() {
    for kind in Kind::ALL {
        let Some(kind) = lab::require(kind) else { continue };
        let start = Instant::now();
        let group = Group::builder(kind).replicas(2).sentinels(3).password("sec\"ret one").start().unwrap();
        println!("{kind}: up in {:?}", start.elapsed());
        assert_eq!(group.current_primary().unwrap().address(), group.primary().address());
        assert_eq!(group.replica(1).role_state().as_deref(), Some("connected"));
        let pids: Vec<u32> = group.nodes().iter().chain(group.sentinels()).filter_map(lab::Server::pid).collect();
        assert_eq!(pids.len(), 6);
        let dir = group.dir().to_owned();
        let start = Instant::now();
        drop(group);
        println!("{kind}: gone in {:?}", start.elapsed());
        assert!(!dir.exists());
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} still runs");
        }
    }
}

#[test]
fn rotating_the_primarys_password_breaks_the_link_with_wrongpass_until_undone() {
    for kind in [Kind::Redis70, Kind::Valkey80] {
        let Some(kind) = lab::require(kind) else { continue };
        let group = Group::builder(kind).replicas(1).password("old").start().unwrap();
        let rotated = fault::rotate_password(group.primary(), "new").unwrap();
        assert!(group.replica(0).wait_log("WRONGPASS", PATIENCE).is_some());
        assert!(group.replica(0).wait_link_down(PATIENCE).is_some());
        rotated.undo().unwrap();
        assert!(group.replica(0).wait_link_up(PATIENCE).is_some());
        assert_eq!(group.primary().sync_full(), Some(1), "a partial resync was enough");
    }
}

#[test]
fn a_user_loses_and_regains_psync() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let group = Group::builder(kind).replicas(1).acl_user("repl", "pw").start().unwrap();
    let denied = fault::user_without(group.primary(), "repl", "psync").unwrap();
    assert!(group.replica(0).wait_log("NOPERM", PATIENCE).is_some());
    denied.undo().unwrap();
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());
    let deleted = fault::user_deleted(group.primary(), "repl").unwrap();
    assert!(group.replica(0).wait_log("WRONGPASS", PATIENCE).is_some());
    deleted.undo().unwrap();
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());
}

#[test]
fn faults_of_a_resync_and_of_the_process_come_and_go() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).replicas(1).start().unwrap();
    let (primary, replica) = (group.primary().clone(), group.replica(0).clone());

    let before = primary.sync_full().unwrap();
    let shrunk = fault::outrun_backlog(&primary, &replica).unwrap();
    assert!(primary.wait_until(|server| server.sync_full() == Some(before + 1), PATIENCE).is_some());
    shrunk.undo().unwrap();
    assert_eq!(primary.query::<Vec<String>>(&["CONFIG", "GET", "repl-backlog-size"]).unwrap()[1], "1048576");
    assert!(replica.wait_link_up(PATIENCE).is_some());

    let strict = fault::tiny_output_buffer(&primary).unwrap();
    primary.write(1, 8 << 20).unwrap();
    assert!(primary.wait_log("overcoming of output buffer limits", PATIENCE).is_some());
    strict.undo().unwrap();

    let astray = fault::wrong_primary(&replica, "127.0.0.1", 1).unwrap();
    assert!(replica.wait_log("Connection refused", PATIENCE).is_some());
    astray.undo().unwrap();
    assert!(replica.wait_link_up(PATIENCE).is_some());

    let impatient = fault::timeout_below_ping(&primary, &replica).unwrap();
    assert!(replica.wait_log("MASTER timeout", PATIENCE).is_some());
    impatient.undo().unwrap();

    let killed = fault::kill(&primary);
    assert!(replica.wait_link_down(PATIENCE).is_some());
    killed.undo().unwrap();
    assert!(replica.wait_link_up(PATIENCE).is_some());

    let another = group.add_replica(&[("replica-priority", "0")]).unwrap();
    assert!(another.wait_link_up(PATIENCE).is_some());
    assert_eq!(another.info("replication", "slave_priority").as_deref(), Some("0"));
    another.terminate().unwrap();
    assert_eq!(another.pid(), None);
    another.restart().unwrap();
    assert!(another.wait_link_up(PATIENCE).is_some());
}

#[test]
fn sentinels_fail_over_a_group_that_logs_in_by_acl_users() {
    for kind in [Kind::Redis70, Kind::Valkey80] {
        let Some(kind) = lab::require(kind) else { continue };
        let group = Group::builder(kind).replicas(2).sentinels(3).acl_user("repl", "pw").start().unwrap();
        let _killed = fault::kill(group.primary());
        let first = group.primary().address();
        let moved = |_: &lab::Server| group.current_primary().is_some_and(|primary| primary.address() != first);
        assert!(group.sentinel(0).wait_until(moved, PATIENCE).is_some());
        let primary = group.current_primary().unwrap();
        let other = if primary.address() == group.replica(0).address() { group.replica(1) } else { group.replica(0) };
        let follows = |server: &lab::Server| {
            let port = server.info("replication", "master_port");
            port == Some(primary.endpoint().1.to_string()) && server.is_link_up()
        };
        assert!(other.wait_until(follows, PATIENCE).is_some());
    }
}

#[test]
fn a_small_disk_fills_and_is_freed() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    if lab::require_namespaces().is_none() {
        return;
    }
    let group = Group::builder(kind)
        .replicas(1)
        .small_disk(Node::Primary, 512)
        .limit(Node::Replica(0), "--nofile=256")
        .config_of(Node::Replica(0), "replica-priority", "7")
        .config("repl-diskless-sync", "no")
        .start()
        .unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", group.replica(0).pid().unwrap())).unwrap();
    assert!(limits.contains("Max open files            256"), "{limits}");
    assert_eq!(group.replica(0).info("replication", "slave_priority").as_deref(), Some("7"));
    let full = group.primary().disk().unwrap().fill().unwrap();
    let _ = group.primary().run(&["BGSAVE"]).unwrap();
    let failed = |server: &lab::Server| server.info("persistence", "rdb_last_bgsave_status").as_deref() == Some("err");
    assert!(group.primary().wait_until(failed, PATIENCE).is_some());
    assert!(group.primary().log_text().contains("No space left on device"));
    full.undo().unwrap();
    let _ = group.primary().run(&["SAVE"]).unwrap();
    let mount = group.primary().data_dir().to_owned();
    drop(group);
    let mounts = Command::new("mount").output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&mounts).contains(mount.to_str().unwrap()));
}
