//! One process rotates a group at a time, on this host. Another host's rotation shows on the nodes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cli::{Exit, Failure};

/// Held until it is dropped, and let go by the kernel when this process is killed.
pub fn take(state_dir: &Path, group: &str) -> Result<File, Failure> {
    let path = state_dir.join(format!("rotate-{group}.lock"));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&path);
    let file = file.map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::PermissionDenied { Exit::Permission } else { Exit::Fault };
        Failure::new(exit, format!("{}: {error}", path.display()))
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => {
            let text = format!("not-our-turn: another relinkd rotates group {group} on this host right now");
            Err(Failure::new(Exit::Fault, text))
        }
    }
}
