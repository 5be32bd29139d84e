//! A log that floods, followed in a process of its own: the memory that is measured here is the follower's.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relinkd::model::Timestamp;
use relinkd::model::evidence::LogKind;
use relinkd::watch::log::{LogBook, Resolved, follow};

const PATIENCE: Duration = Duration::from_secs(30);
const LOST: &str = "1:S 23 Nov 2026 06:12:00.041 # Connection with master lost.\n";

#[tokio::test]
async fn a_flood_is_bounded_and_its_newest_lines_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, "");
    let book: Arc<Mutex<LogBook>> = Arc::default();
    let (wake, _woken) = tokio::sync::mpsc::channel(4);
    tokio::spawn(follow(Resolved::File(path.clone()), book.clone(), wake, clock));
    until("the log is read", || book.lock().unwrap().reading(clock()).seen().is_some()).await;
    // 20 MB a second for three seconds, the end of each step one long line.
    let flood = "1:S 23 Nov 2026 06:12:00.041 * Retrying with SYNC...\n".repeat(38_000) + &"x".repeat(64 * 1024);
    let before = resident_kib();
    for _ in 0..30 {
        write(&path, &flood);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    write(&path, &format!("\n{LOST}"));
    let newest = || book.lock().unwrap().view(clock()).lines.iter().any(|fact| fact.kind == LogKind::LinkLost);
    until("the newest line", newest).await;
    assert!(book.lock().unwrap().view(clock()).skipped);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB more after a flood of 60 MB");
}

/// Writes as a server does: opened anew each time.
fn write(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
