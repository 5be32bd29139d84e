//! A log that floods, followed in a process of its own: the memory that is measured here is the follower's.

#[path = "live/senses.rs"]
mod senses;

use std::time::Duration;

use relinkd::model::evidence::LogKind;
use relinkd::watch::log::Resolved;
use senses::{LOST, clock, fact, is_read, until, watch_log, write};

#[tokio::test]
async fn a_flood_is_bounded_and_its_newest_lines_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, "");
    let (book, _woken) = watch_log(Resolved::File(path.clone()));
    is_read(&book).await;
    // 20 MB a second for three seconds, the end of each step one long line.
    let flood = "1:S 23 Nov 2026 06:12:00.041 * Retrying with SYNC...\n".repeat(38_000) + &"x".repeat(64 * 1024);
    let before = resident_kib();
    for _ in 0..30 {
        write(&path, &flood);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    write(&path, &format!("\n{LOST}"));
    until("the newest line", || fact(&book, LogKind::LinkLost).is_some()).await;
    assert!(book.lock().unwrap().view(clock()).skipped);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB more after a flood of 60 MB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
