//! The host beside the replica: the disk that holds its `dir`, and memory.
//!
//! A dead NFS server holds statvfs for ever. The call runs on a thread of its own, which nobody waits for past the
//! deadline and which the end of the process does not wait for either. A path that holds [`HELD_AT_MOST`] of them
//! is not asked again, so a hung mount costs a few threads and no more.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Look;
use crate::model::Timestamp;
use crate::model::evidence::{Disk, HostView, Memory, Missing, Reading};

const DISK_MS: u64 = 500;

/// Several instances may share a directory, so one call at a time would be too few.
const HELD_AT_MOST: u32 = 4;

/// How many threads each path holds.
static HELD: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// One thread's place in [`HELD`], given back on drop.
struct Place(String);

impl Place {
    fn take(path: &str) -> Option<Place> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(path.to_owned()).or_default();
        if *count >= HELD_AT_MOST {
            return None;
        }
        *count += 1;
        Some(Place(path.to_owned()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.0)),
        }
    }
}

pub async fn look(look: &Look<'_>, dir: Option<&str>) -> HostView {
    let disk = match dir {
        Some(dir) if !dir.is_empty() => disk(look, dir).await,
        _ => Err(Missing::NotAsked),
    };
    let memory = std::fs::read_to_string("/proc/meminfo").map_err(|e| reason(&e));
    let memory = memory.and_then(|text| {
        memory_of(&text, look.now()).ok_or_else(|| Missing::Unsupported("/proc/meminfo tells no MemAvailable".into()))
    });
    HostView { disk: reading(disk), memory: reading(memory) }
}

/// The size of a file of a server's, where that is younger than `younger_than`: an old one tells nothing of today's data.
pub async fn recent_file(look: &Look<'_>, dir: &str, name: &str, younger_than: Duration) -> Reading<u64> {
    if dir.is_empty() || name.is_empty() {
        return Reading::Missing(Missing::NotAsked);
    }
    let path = Path::new(dir).join(name);
    let found = held_by_nobody(look, dir, move || std::fs::metadata(path)).await;
    reading(found.and_then(|file| {
        let age = file.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        match age < younger_than {
            true => Ok(file.len()),
            false => Err(Missing::Unsupported("the last RDB is old".to_owned())),
        }
    }))
}

/// What a call on a file system answers, on a thread that may be held for ever.
async fn held_by_nobody<T: Send + 'static>(
    look: &Look<'_>,
    dir: &str,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Missing> {
    let place = Place::take(dir).ok_or(Missing::TimedOut)?;
    let (tell, told) = oneshot::channel();
    let ask = move || {
        let result = call();
        drop(place);
        // The look may have ended meanwhile: then nobody waits for this.
        let _ = tell.send(result);
    };
    std::thread::Builder::new().name("statvfs".into()).spawn(ask).map_err(|e| reason(&e))?;
    match tokio::time::timeout(look.left(DISK_MS), told).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(error))) => Err(reason(&error)),
        Ok(Err(_)) | Err(_) => Err(Missing::TimedOut),
    }
}

async fn disk(look: &Look<'_>, dir: &str) -> Result<Disk, Missing> {
    let path = dir.to_owned();
    let stat = held_by_nobody(look, dir, move || Ok(rustix::fs::statvfs(path.as_str())?)).await?;
    Ok(Disk {
        at: look.now(),
        path: dir.to_owned(),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes_free: inodes_free(stat.f_files, stat.f_favail),
    })
}

/// The memory of the host as a process sees it that lives in a control group with a limit (`MemoryMax=`, a container).
pub fn within_cgroup(memory: Memory, process_id: u32) -> Memory {
    within(memory, process_id, Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn within(memory: Memory, process_id: u32, proc: &Path, root: &Path) -> Memory {
    let of_process = |name: &str| std::fs::read_to_string(proc.join(process_id.to_string()).join(name));
    // The number may be that of another PID namespace.
    let is_server = of_process("comm").is_ok_and(|comm| comm.starts_with("redis") || comm.starts_with("valkey"));
    let cgroup = of_process("cgroup").unwrap_or_default();
    let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).filter(|_| is_server) else {
        return memory;
    };
    // Each group above has a limit of its own.
    Path::new(path).ancestors().fold(memory, |memory, group| {
        let read = |name: &str| std::fs::read_to_string(root.join(group).join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (Some(most), Some(used)) = (number("memory.max"), number("memory.current")) else { return memory };
        // Pages of files are given back before the limit acts.
        let stat = read("memory.stat").unwrap_or_default();
        let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok()).unwrap_or(0);
        let free = most.saturating_sub(used.saturating_sub(files));
        Memory { total: memory.total.min(most), available: memory.available.min(free), ..memory }
    })
}

fn inodes_free(total: u64, free: u64) -> Option<u64> {
    (total > 0).then_some(free)
}

fn memory_of(text: &str, at: Timestamp) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { at, total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
}

fn reason(error: &io::Error) -> Missing {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Missing::Denied(error.to_string()),
        _ => Missing::Refused(error.to_string()),
    }
}

fn reading<T>(result: Result<T, Missing>) -> Reading<T> {
    match result {
        Ok(value) => Reading::Seen(value),
        Err(why) => Reading::Missing(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hung_mount_costs_a_bounded_number_of_threads() {
        let places: Vec<_> = (0..10).filter_map(|_| Place::take("/hung")).collect();
        assert_eq!(places.len(), HELD_AT_MOST as usize);
        drop(places);
        assert!(Place::take("/hung").is_some());
        assert!(!HELD.lock().unwrap().contains_key("/hung"));
    }

    #[test]
    fn a_file_system_without_a_number_of_inodes_is_not_out_of_them() {
        assert_eq!(inodes_free(0, 0), None);
        assert_eq!(inodes_free(100, 0), Some(0));
    }

    #[test]
    fn a_limit_of_a_group_above_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, root) = (dir.path().join("proc"), dir.path().join("sys"));
        let unit = root.join("system.slice/redis.service");
        for path in [&proc.join("7"), &proc.join("8"), &unit] {
            std::fs::create_dir_all(path).unwrap();
        }
        let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).unwrap();
        for (process, comm) in [("7", "redis-server\n"), ("8", "bash\n")] {
            write(proc.join(process).join("comm"), comm);
            write(proc.join(process).join("cgroup"), "0::/system.slice/redis.service\n");
        }
        write(unit.join("memory.max"), "max\n");
        write(unit.join("memory.current"), "50\n");
        write(root.join("system.slice/memory.max"), "100\n");
        write(root.join("system.slice/memory.current"), "70\n");
        write(root.join("system.slice/memory.stat"), "anon 40\ninactive_file 20\n");
        let host = Memory { at: Timestamp(1), total: 1_000, available: 900 };
        let limited = Memory { total: 100, available: 50, ..host };
        assert_eq!(within(host.clone(), 7, &proc, &root), limited);
        assert_eq!(within(host.clone(), 8, &proc, &root), host, "a number of another namespace");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:        8 kB\n";
        assert_eq!(memory_of(text, Timestamp(1)), Some(Memory { at: Timestamp(1), total: 16_384, available: 8_192 }));
        assert_eq!(memory_of("MemTotal: x kB\n", Timestamp(1)), None);
    }
}
