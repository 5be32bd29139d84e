use std::io::Write;
use std::path::Path;

use tokio::sync::mpsc;

use crate::model::evidence::{LogKind, Reading};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_414_320_000);

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each sample is a real server's log, one line of each wording, behind the kind that a person gave it.
#[test]
fn every_sampled_line_is_of_the_kind_beside_it() {
    for server in ["redis-7.0.15", "redis-8.2.3", "valkey-8.1.8", "valkey-9.1.2-logfmt", "from-source"] {
        let sample = data(&format!("{server}.log"));
        assert!(sample.lines().count() > 10);
        for line in sample.lines().filter(|line| !line.starts_with("//")) {
            let (kind, line) = line.split_once('\t').expect(line);
            let want = (kind != "-").then(|| serde_json::from_value::<LogKind>(kind.into()).expect(kind));
            assert_eq!(classify(line).map(|(kind, _)| kind), want, "{server}: {line}");
        }
    }
}

#[test]
fn every_kind_stands_in_a_sample_of_each_vocabulary() {
    for servers in
        [["redis-7.0.15", "redis-8.2.3", "from-source"], ["valkey-8.1.8", "valkey-9.1.2-logfmt", "from-source"]]
    {
        let text: String = servers.iter().map(|server| data(&format!("{server}.log"))).collect();
        for phrase in phrases::PHRASES {
            let name = serde_json::to_value(phrase.kind).unwrap();
            let name = name.as_str().unwrap();
            assert!(text.lines().any(|line| line.split('\t').next() == Some(name)), "{servers:?} lack {name}");
        }
    }
}

fn follower() -> (Follower<impl Fn() -> Timestamp + Clone>, mpsc::Receiver<Wake>) {
    let (wake, woken) = mpsc::channel(4);
    (Follower { book: Arc::default(), wake, clock: || NOW }, woken)
}

const LOST: &str = "1:S 1795414319999 * Connection with master lost.\n";

#[test]
fn old_lines_count_as_evidence_only_within_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let long_ago = "1:S 1795414000000 # MASTER timeout: no data nor PING received...\n";
    std::fs::write(&path, format!("{long_ago}{LOST}")).unwrap();
    let (mut follower, _woken) = follower();
    let mut file = file::LogFile::new(path.clone(), BYTES_PER_S);
    assert!(!follower.look(&mut file, POLL), "what was there before us is no news");
    let view = locked(&follower.book).view(NOW);
    assert_eq!(view.lines.iter().map(|fact| (fact.kind, fact.count)).collect::<Vec<_>>(), [(LogKind::LinkLost, 1)]);
    File::append(&path, LOST);
    assert!(follower.look(&mut file, POLL));
    File::append(&path, "1:M 1795414320000 # Disconnecting timedout replica (full sync): 127.0.0.1:1\n");
    assert!(!follower.look(&mut file, POLL), "another replica's trouble wakes nobody");
    let view = locked(&follower.book).view(NOW);
    assert_eq!(view.lines.iter().map(|fact| fact.count).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_log_that_is_followed_anew_counts_each_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let lost = |ms: u64| format!("1:S {} * Connection with master lost.\n", 1_795_414_320_000 - ms);
    std::fs::write(&path, lost(9_000)).unwrap();
    let (mut follower, _woken) = follower();
    let mut counts = |file: &mut file::LogFile| {
        follower.look(file, POLL);
        locked(&follower.book).view(NOW).lines.iter().map(|fact| fact.count).collect::<Vec<_>>()
    };
    let mut file = file::LogFile::new(path.clone(), BYTES_PER_S);
    assert_eq!(counts(&mut file), [1]);
    File::append(&path, &lost(5_000));
    File::append(&path, &lost(5_000));
    let mut anew = file::LogFile::new(path.clone(), BYTES_PER_S);
    assert_eq!(counts(&mut anew), [3], "written meanwhile");
    File::append(&path, &lost(0));
    assert_eq!(counts(&mut anew), [4]);
    assert_eq!(counts(&mut file::LogFile::new(path, BYTES_PER_S)), [4]);
}

/// A signal handler names whole seconds.
#[test]
fn a_line_of_a_whole_second_is_not_passed_over_for_what_came_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, LOST).unwrap();
    let (mut follower, _woken) = follower();
    let mut followed = || {
        follower.look(&mut file::LogFile::new(path.clone(), BYTES_PER_S), POLL);
        let view = locked(&follower.book).view(NOW);
        view.lines.iter().map(|fact| (fact.kind, fact.count, fact.last)).collect::<Vec<_>>()
    };
    let lost = NOW.before(Duration::from_millis(1));
    assert_eq!(followed(), [(LogKind::LinkLost, 1, lost)]);
    File::append(&path, "1:signal-handler (1795414319) Received SIGTERM scheduling shutdown...\n");
    let stopped = (LogKind::Shutdown, 1, lost.after(Duration::from_micros(1)));
    let mut told = followed();
    told.sort_by_key(|(_, _, last)| *last);
    assert_eq!(told, [(LogKind::LinkLost, 1, lost), stopped], "after what was noted");
    assert_eq!(followed().len(), 2);
    assert!(followed().contains(&stopped), "it counts once");
}

struct File;

impl File {
    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// A stand-in for journalctl: what it prints is in the script; each run adds a line to `runs`.
fn fake_journalctl(dir: &Path, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("journalctl");
    std::fs::write(&path, format!("#!/bin/sh\necho \"$*\" >> {}/runs\n{script}\n", dir.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

async fn until(book: &Arc<Mutex<LogBook>>, holds: impl Fn(&Reading<crate::model::evidence::LogView>) -> bool) {
    let seen = async {
        while !holds(&locked(book).reading(NOW)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert!(ended.is_ok(), "{:?}", locked(book).reading(NOW));
}

#[tokio::test]
async fn the_journal_is_followed_and_its_end_is_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
echo '{"__REALTIME_TIMESTAMP":"1795414000000000","MESSAGE":"MASTER timeout: no data nor PING received..."}'
echo '{"__REALTIME_TIMESTAMP":"1795414319000000","MESSAGE":"1:S 23 Nov 2026 06:11:59.000 * Connection with master lost."}'
echo 'not json'
echo '{"__REALTIME_TIMESTAMP":"1795414319500000","MESSAGE":[67,111,110,110,101,99,116,105,111,110,32,119,105,116,104,32,109,97,115,116,101,114,32,108,111,115,116,46,255]}'
while [ ! -e "$(dirname "$0")/stop" ]; do sleep 0.02; done
echo 'Journal file corrupted' >&2
exit 3"#;
    let program = fake_journalctl(dir.path(), script);
    let (mut follower, mut woken) = follower();
    let book = follower.book.clone();
    tokio::select! {
        never = follower.journal(&program, "redis.service") => match never {},
        () = async {
            until(&book, |r| r.seen().is_some_and(|view| view.lines.iter().any(|f| f.kind == LogKind::LinkLost && f.count == 2))).await;
            assert_eq!(locked(&book).view(NOW).lines.len(), 1, "an old line counts for nothing");
            assert_eq!(woken.recv().await.map(|wake| wake.why), Some(Why::Log));
            std::fs::write(dir.path().join("stop"), "").unwrap();
            until(&book, |r| r.missing().is_some_and(|why| why.to_string().contains("Journal file corrupted"))).await;
            // Started again, it repeats its past; we do not.
            let runs = || std::fs::read_to_string(dir.path().join("runs")).unwrap();
            while runs().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            until(&book, |r| r.missing().is_some()).await;
            assert!(runs().lines().all(|run| run.ends_with("-f -n 200 -u redis.service")), "{}", runs());
            assert_eq!(locked(&book).view(NOW).lines[0].count, 2);
        } => {}
    }
}

#[tokio::test]
async fn a_journal_that_is_not_ours_to_read_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let hint = "echo 'Hint: You are currently not seeing messages from other users and the system.' >&2; exec sleep 60";
    let program = fake_journalctl(dir.path(), hint);
    let (mut follower, _woken) = follower();
    let book = follower.book.clone();
    tokio::select! {
        never = follower.journal(&program, "redis.service") => match never {},
        () = until(&book, |r| matches!(r, Reading::Missing(Missing::Denied(why)) if why.contains("systemd-journal"))) => {}
    }
}

#[tokio::test]
async fn a_journal_without_a_line_of_the_unit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let program = fake_journalctl(dir.path(), "exec sleep 60");
    let (mut follower, _woken) = follower();
    let book = follower.book.clone();
    tokio::select! {
        never = follower.journal(&program, "redis.service") => match never {},
        () = until(&book, |r| r.missing().is_some_and(|why| why.to_string().ends_with("no line of redis.service"))) => {}
    }
    assert!(locked(&book).reading(NOW).missing().is_some());
}

#[tokio::test]
async fn a_missing_journalctl_is_a_reason() {
    let (mut follower, _woken) = follower();
    let book = follower.book.clone();
    tokio::select! {
        never = follower.journal("/nonexistent/journalctl", "redis.service") => match never {},
        () = until(&book, |r| matches!(r, Reading::Missing(Missing::Unsupported(why)) if why.contains("cannot run"))) => {}
    }
}

#[tokio::test]
async fn a_journal_in_flood_is_drained_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"__REALTIME_TIMESTAMP":"1795414319000000","MESSAGE":"Retrying with SYNC..."}"#;
    let last = r#"{"__REALTIME_TIMESTAMP":"1795414319000000","MESSAGE":"Connection with master lost."}"#;
    let script = format!("yes '{line}' | head -c 20000000\nsleep 0.5\necho ''\necho '{last}'\nexec sleep 60");
    let program = fake_journalctl(dir.path(), &script);
    let (mut follower, _woken) = follower();
    let book = follower.book.clone();
    tokio::select! {
        never = follower.journal(&program, "redis.service") => match never {},
        () = until(&book, |r| r.seen().is_some_and(|view| view.skipped && view.lines.len() == 1)) => {}
    }
}
