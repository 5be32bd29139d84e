//! Nothing is left behind: who owns what on this machine, and its removal.
//!
//! Everything that a lab makes carries its owner in its name, `relinkd-lab-<pid>-<start>`: a directory below the
//! system's temporary one, and network namespaces with that prefix. `<start>` is the process's start time, so that a
//! pid used again is not taken for the owner. Three nets catch what is left, each when the one before tore:
//!
//! 1. `Drop` of a group, an agent: the usual way, also in a panic that unwinds.
//! 2. The keeper, a shell that waits on a pipe from the owner. Ctrl-C, SIGTERM, SIGKILL and abort close the pipe.
//! 3. [`sweep`], once at each lab's first start: removes what belongs to owners that are dead.
//!
//! All three run the same `clear.sh`. Processes die by themselves before that: see [`crate::process`].

use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const CLEAR: &str = include_str!("clear.sh");
const PREFIX: &str = "relinkd-lab-";

/// A private directory, and a prefix for the namespaces that go with it. Removed on drop, with every process that
/// the lab started there and every mount below it.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    namespace_prefix: String,
}

impl Place {
    pub fn make() -> Result<Place> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let owner = owner()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = owner.dir.join(number.to_string());
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        Ok(Place { dir, namespace_prefix: format!("{}-{number}-", owner.name) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn namespace_prefix(&self) -> &str {
        &self.namespace_prefix
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What fails here is left to the keeper, and after it to the next sweep.
        let _ = clear_command(&self.dir, &self.namespace_prefix).status();
    }
}

/// Removes what labs whose process is gone left behind. Returns their names.
pub fn sweep() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for dir in [std::env::temp_dir(), PathBuf::from("/run/netns")] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        left.extend(entries.flatten().filter_map(|entry| owner_in(&entry.file_name().to_string_lossy())));
    }
    left.sort();
    left.dedup();
    left.retain(|name| !is_alive(name));
    for name in &left {
        clear_command(&std::env::temp_dir().join(name), &format!("{name}-")).status()?;
    }
    Ok(left)
}

struct Owner {
    name: String,
    dir: PathBuf,
    /// Kept for its standard input: the keeper acts when that closes.
    _keeper: Child,
}

fn owner() -> Result<&'static Owner> {
    static OWNER: OnceLock<std::result::Result<Owner, String>> = OnceLock::new();
    OWNER
        .get_or_init(|| become_owner().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|reason| Error::other(reason.clone()))
}

fn become_owner() -> Result<Owner> {
    sweep()?;
    let pid = std::process::id();
    let start = start_time(pid).ok_or_else(|| Error::other("/proc does not show this process"))?;
    let name = format!("{PREFIX}{pid}-{start}");
    let dir = std::env::temp_dir().join(&name);
    let mut keeper = clear_command(&dir, &format!("{name}-"));
    // Its own process group, so that the Ctrl-C that ends the owner does not end the keeper too.
    keeper.arg("wait").stdin(Stdio::piped()).process_group(0);
    let keeper = keeper.spawn()?;
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(Owner { name, dir, _keeper: keeper })
}

fn clear_command(dir: &Path, namespace_prefix: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", CLEAR, "relinkd-lab-clear"]).arg(dir).arg(namespace_prefix);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// `relinkd-lab-12-34` out of itself, or out of a namespace's name such as `relinkd-lab-12-34-1-n2`.
fn owner_in(name: &str) -> Option<String> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let start: u64 = parts.next()?.parse().ok()?;
    Some(format!("{PREFIX}{pid}-{start}"))
}

fn is_alive(owner: &str) -> bool {
    let mut parts = owner.trim_start_matches(PREFIX).split('-');
    let pid = parts.next().and_then(|part| part.parse().ok());
    let start = parts.next().and_then(|part| part.parse().ok());
    pid.is_some_and(|pid| start_time(pid).is_some_and(|now| Some(now) == start))
}

/// Field 22 of `/proc/<pid>/stat`. The second field, the name, may itself hold spaces and brackets.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner_and_a_reused_pid_is_not_the_owner() {
        let pid = std::process::id();
        let start = start_time(pid).unwrap();
        let name = format!("relinkd-lab-{pid}-{start}");
        assert_eq!(owner_in(&format!("{name}-3-n1")).as_ref(), Some(&name));
        assert_eq!(owner_in("relinkd-lab-x-1"), None);
        assert_eq!(owner_in("relinkd-12-1"), None);
        assert!(is_alive(&name));
        assert!(!is_alive(&format!("relinkd-lab-{pid}-{}", start + 1)));
    }
}
