//! The agent's own places on this host: `state_dir`, the ledger in it, `run_dir`. Looked at, and never written to: what
//! this user would make here, the daemon's user might not be able to use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::super::Exit;
use super::report::Section;
use crate::config::{AgentSettings, Settings};
use crate::control::{self, ControlError, Request};
use crate::daemon::LEDGER;
use crate::ledger::{Ledger, LedgerError};

/// Less than this is soon used up by a few incidents and SQLite's own files.
const ROOM_BYTES: u64 = 16 << 20;

pub async fn check(settings: &Settings) -> Section {
    let mut section = Section::new("this host");
    let agent = &settings.agent;
    user(&mut section, agent);
    state(&mut section, agent);
    daemon(&mut section, agent).await;
    section
}

/// A check by root says little about what the daemon's user may do.
fn user(section: &mut Section, agent: &AgentSettings) {
    let uid = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(&agent.state_dir).map(|meta| meta.uid()).unwrap_or(uid);
    if uid == 0 && owner != 0 {
        section.warn(
            "user",
            format!("this check runs as root, and the daemon as uid {owner}, who may do less"),
            ["sudo -u relinkd relinkd check   # credentials of the unit are not seen then".to_owned()],
        );
    }
}

fn state(section: &mut Section, agent: &AgentSettings) {
    let dir = &agent.state_dir;
    if !usable(section, "state_dir", dir, "StateDirectory=relinkd", true) {
        return;
    }
    if let Ok(disk) = rustix::fs::statvfs(dir)
        && disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES
    {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize) / 1024;
        section.warn(
            "disk",
            format!("only {free} KiB are free in {}; without room for the record nothing is changed", dir.display()),
            [format!("df -h {}", dir.display())],
        );
    }
    let path = dir.join(LEDGER);
    match Ledger::open_read_only(&path).and_then(|ledger| ledger.incidents(None, 1)) {
        Err(LedgerError::Absent { .. }) => section.ok("ledger", "none yet: the daemon makes one when it starts"),
        Err(error) => {
            let exit = if matches!(error, LedgerError::Denied { .. }) { Exit::Permission } else { Exit::Fault };
            section.problem(exit, "ledger", error.to_string(), []);
        }
        Ok(_) => match access(&path, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) => section.ok("ledger", format!("{} can be read and written", path.display())),
            Err(error) => section.problem(
                Exit::Permission,
                "ledger",
                format!("{} can be read, and not written: {error}; then nothing is changed", path.display()),
                [format!("chown relinkd: {}*", path.display())],
            ),
        },
    }
}

async fn daemon(section: &mut Section, agent: &AgentSettings) {
    let dir = &agent.run_dir;
    // The daemon makes it where its parent allows that.
    let parent = dir.parent().filter(|parent| access(*parent, Access::WRITE_OK | Access::EXEC_OK).is_ok());
    if let (false, Some(parent)) = (dir.exists(), parent) {
        section.ok("run_dir", format!("{} does not exist yet, and can be made in {}", dir.display(), parent.display()));
    } else if !usable(section, "run_dir", dir, "RuntimeDirectory=relinkd", false) {
        return;
    }
    match control::ask(dir, &Request::Status).await {
        Ok(answer) => {
            section.ok("daemon", format!("it runs, version {}", answer["version"].as_str().unwrap_or("unknown")));
        }
        Err(ControlError::NotRunning(_)) => section.ok("daemon", "it does not run now"),
        Err(error @ ControlError::Denied(_)) => section.problem(Exit::Permission, "daemon", error.to_string(), []),
        Err(error) => section.problem(Exit::Fault, "daemon", error.to_string(), ["systemctl status relinkd".into()]),
    }
}

/// Whether a directory is there and may be written in.
fn usable(section: &mut Section, what: &str, dir: &Path, unit_key: &str, needed: bool) -> bool {
    let path = dir.display();
    let make = || format!("install -d -m 0750 -o relinkd -g relinkd {path}   # systemd does it with {unit_key}");
    match std::fs::metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{path} does not exist; the unit makes it when it starts ({unit_key}), and nobody else");
            // The places of the unit as shipped: before its first start they are not there.
            match dir.starts_with("/var/lib/relinkd") || dir.starts_with("/run/relinkd") {
                true => section.warn(what, text, [make()]),
                false => section.problem(Exit::Fault, what, format!("{path} does not exist"), [make()]),
            }
            false
        }
        Err(error) => {
            section.problem(Exit::Permission, what, format!("{path}: {error}"), [make()]);
            false
        }
        Ok(meta) if !meta.is_dir() => {
            section.problem(Exit::Fault, what, format!("{path} is not a directory"), [make()]);
            false
        }
        Ok(meta) => match access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => {
                section.ok(what, format!("{path} is there and can be written"));
                true
            }
            Err(error) => {
                let uid = rustix::process::getuid().as_raw();
                let text = format!(
                    "{path} belongs to uid {} with mode {:04o}: {error} for uid {uid}",
                    meta.uid(),
                    meta.mode() & 0o7777
                );
                section.problem(Exit::Permission, what, text, [format!("chown relinkd: {path}")]);
                needed && access(dir, Access::EXEC_OK).is_ok()
            }
        },
    }
}
