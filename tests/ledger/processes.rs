//! Several processes, crashes, full and read-only disks.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use relinkd::ledger::{Ledger, LedgerError};
use relinkd::model::incident::Phase;

use super::kit::*;

/// Runs one of the ignored tests below in a process of its own, as `wrap` says, with `dir` to work in; says that it
/// skips the test where the wrapper is not allowed.
fn in_another_process(test: &str, dir: &Path, wrap: &[&str]) {
    let exe = std::env::current_exe().unwrap();
    if let [program, args @ ..] = wrap {
        let tried = Command::new(program).args(args).arg(&exe).arg("--list").output();
        if !tried.is_ok_and(|out| out.status.success()) {
            eprintln!("SKIPPED, {} is not allowed here: {test}", wrap.join(" "));
            return;
        }
    }
    let mut line: Vec<&std::ffi::OsStr> = wrap.iter().map(std::ffi::OsStr::new).collect();
    line.push(exe.as_os_str());
    let mut command = Command::new(line[0]);
    command
        .args(&line[1..])
        .args(["--exact", &format!("processes::{test}"), "--ignored", "--nocapture"])
        .env("RELINKD_TEST_DIR", dir);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

fn given_dir() -> PathBuf {
    std::env::var_os("RELINKD_TEST_DIR").expect("run by another test").into()
}

#[test]
fn one_process_reads_while_another_has_written_and_been_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child_writes_and_is_killed", "--ignored"])
        .env("RELINKD_TEST_DIR", dir.path())
        .output()
        .unwrap();
    assert_eq!(out.status.signal(), Some(9), "{out:?}");
    assert!(path.with_extension("db-wal").metadata().unwrap().len() > 0, "the kill left no WAL; the test is void");
    let reader = Ledger::open_read_only(&path).unwrap();
    assert_eq!(reader.entries(None, None).unwrap(), one_of_each("01A", 0));
    let mut writer = Ledger::open(&path, KEEP_ALL).unwrap();
    writer.record(&[opened("01B", 50)], None, &[]).unwrap();
    in_another_process("child_reads_two_incidents", dir.path(), &[]);
}

#[test]
#[ignore = "run by one_process_reads_while_another_has_written_and_been_killed"]
fn child_writes_and_is_killed() {
    let mut ledger = Ledger::open(&given_dir().join("ledger.db"), KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

#[test]
#[ignore = "run by one_process_reads_while_another_has_written_and_been_killed"]
fn child_reads_two_incidents() {
    let ledger = Ledger::open_read_only(&given_dir().join("ledger.db")).unwrap();
    assert_eq!(ledger.incidents(None, 10).unwrap().len(), 2);
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    in_another_process("child_fills_the_disk", dir.path(), &["unshare", "--mount", "--map-root-user"]);
}

#[test]
#[ignore = "run by a_full_disk_is_named_and_nothing_is_lost, in a mount namespace of its own"]
fn child_fills_the_disk() {
    let dir = given_dir();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&dir).status().unwrap();
    assert!(mounted.success());
    let path = dir.join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    let mut kept = 0;
    let error = loop {
        match ledger.record(&one_of_each(&format!("01{kept:05}"), kept * 100), None, &[]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the disk never filled");
    };
    assert!(kept > 0);
    assert_eq!(error, LedgerError::Full { path: path.clone() });
    assert_eq!(ledger.incidents(None, 10_000).unwrap().len() as i64, kept);
    let grown = Command::new("mount").args(["-o", "remount,size=4m"]).arg(&dir).status().unwrap();
    assert!(grown.success());
    ledger.check_writable().unwrap();
    ledger.record(&one_of_each("02", 0), None, &[]).unwrap();
    assert_eq!(ledger.incidents(None, 10_000).unwrap().len() as i64, kept + 1);
    drop(ledger);

    // Full before the daemon starts.
    let filler = std::fs::write(dir.join("filler"), vec![0; 8 << 20]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = match Ledger::open(&path, KEEP_ALL) {
        Err(error) => error,
        Ok(mut ledger) => ledger.check_writable().unwrap_err(),
    };
    assert_eq!(error, LedgerError::Full { path });
}

#[test]
fn a_read_only_file_system_is_named_and_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    in_another_process("child_meets_a_read_only_disk", dir.path(), &["unshare", "--mount", "--map-root-user"]);
}

#[test]
#[ignore = "run by a_read_only_file_system_is_named_and_can_still_be_read, in a mount namespace of its own"]
fn child_meets_a_read_only_disk() {
    let dir = given_dir();
    let mount = |options: &str| Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&dir).status();
    assert!(mount("size=4m").unwrap().success());
    let path = dir.join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    drop(ledger);
    assert!(mount("remount,ro").unwrap().success());
    let error = match Ledger::open(&path, KEEP_ALL) {
        Err(error) => error,
        Ok(mut ledger) => ledger.check_writable().unwrap_err(),
    };
    assert_eq!(error, LedgerError::ReadOnly { path: path.clone() });
    assert_eq!(Ledger::open_read_only(&path).unwrap().incidents(None, 10).unwrap().len(), 1);
    let fresh = dir.join("fresh.db");
    assert_eq!(Ledger::open(&fresh, KEEP_ALL).unwrap_err(), LedgerError::ReadOnly { path: fresh });
}

/// As a member of the group that may read, and nobody else: what `relinkd incidents` meets on a host.
#[test]
fn a_reader_without_write_permission_sees_a_closed_ledger_and_one_left_by_a_crash() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    drop(ledger);
    let crashed = dir.path().join("crashed.db");
    let mut ledger = Ledger::open(&crashed, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    std::mem::forget(ledger);
    for file in ["ledger.db", "crashed.db", "crashed.db-wal", "crashed.db-shm"] {
        std::fs::set_permissions(dir.path().join(file), std::fs::Permissions::from_mode(0o444)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let root = rustix::process::geteuid().is_root();
    let drop_rights = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    in_another_process("child_reads_without_rights", dir.path(), if root { &drop_rights } else { &[] });
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "run by a_reader_without_write_permission_sees_a_closed_ledger_and_one_left_by_a_crash, as a user without rights"]
fn child_reads_without_rights() {
    for name in ["ledger.db", "crashed.db"] {
        let reader = Ledger::open_read_only(&given_dir().join(name)).unwrap();
        let incidents = reader.incidents(None, 10).unwrap();
        assert_eq!(incidents.iter().map(|incident| incident.phase).collect::<Vec<_>>(), [Phase::Resolved], "{name}");
    }
    let error = Ledger::open(&given_dir().join("fresh.db"), KEEP_ALL).unwrap_err();
    assert!(matches!(error, LedgerError::Denied { .. }), "{error:?}");
}
