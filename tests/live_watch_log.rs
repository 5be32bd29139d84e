//! The watcher of the log, beside real servers that write it.

#[path = "live/senses.rs"]
mod senses;

use std::sync::Mutex;

use lab::{Group, Kind};
use relinkd::model::event::Why;
use relinkd::model::evidence::LogKind;
use relinkd::watch::log::{LogBook, LogSource, Resolved, ServerLog, resolve};
use senses::{LOST, PATIENCE, clock, fact, is_read, run, until, watch_log, write};

fn count(book: &Mutex<LogBook>, kind: LogKind) -> u32 {
    fact(book, kind).map_or(0, |fact| fact.count)
}

#[tokio::test]
async fn a_servers_log_is_found_and_its_refusal_read() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).password("one").start().expect("a primary");
    let own = [("masterauth", "wrong"), ("logfile", "server.log")];
    let replica = group.add_replica(&own).expect("a replica");
    let dir = replica.data_dir().display().to_string();
    let said = ServerLog { logfile: "server.log".to_owned(), dir, process_id: replica.pid() };
    let source = resolve(&LogSource::Auto, Some(&said));
    assert_eq!(source, Resolved::File(replica.log_path()));
    let (book, mut woken) = watch_log(source);
    let woken = tokio::time::timeout(PATIENCE, woken.recv()).await.expect("nothing woke us");
    assert_eq!(woken.expect("the watcher ended").why, Why::Log);
    until("the refusal", || fact(&book, LogKind::AuthFailed).is_some()).await;
    let sample = fact(&book, LogKind::AuthFailed).unwrap().sample;
    assert!(sample.starts_with("Unable to AUTH to ") && sample.contains(": -WRONGPASS "), "{sample}");
    // Rotated under the server: it opens its log anew for each line.
    std::fs::rename(replica.log_path(), replica.dir().join("log.1")).unwrap();
    let before = count(&book, LogKind::AuthFailed);
    until("lines after the rename", || replica.log_path().exists() && count(&book, LogKind::AuthFailed) > before + 1)
        .await;
}

#[tokio::test]
async fn a_password_in_the_log_stays_there() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).config("rename-command", "AUTH \"\"").start().expect("a primary");
    let replica = group.add_replica(&[("masterauth", "hunter2")]).expect("a replica");
    assert!(replica.wait_log("hunter2", PATIENCE).is_some(), "the server writes its password into its log");
    let (book, _woken) = watch_log(Resolved::File(replica.log_path()));
    until("the refusal", || fact(&book, LogKind::AuthFailed).is_some()).await;
    let sample = fact(&book, LogKind::AuthFailed).unwrap().sample;
    assert!(sample.contains("unknown command 'AUTH'"), "{sample}");
    assert!(!format!("{book:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_hot_loops_log_is_read_within_the_budget() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).password("one").start().expect("a primary");
    let replica = group.add_replica(&[("masterauth", "")]).expect("a replica");
    let (book, _woken) = watch_log(Resolved::File(replica.log_path()));
    until("the flood is told", || {
        let view = book.lock().unwrap().view(clock());
        view.skipped && view.bytes_per_s > 256 * 1024 && view.lines.iter().any(|f| f.kind == LogKind::PsyncRefused)
    })
    .await;
    run(&replica, "CONFIG SET masterauth one");
    until("the end of the flood", || fact(&book, LogKind::SyncFinished).is_some()).await;
}

#[tokio::test]
async fn rotation_loses_no_telling_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&path, "");
    let (book, _woken) = watch_log(Resolved::File(path.clone()));
    is_read(&book).await;
    for round in 1..=3 {
        // By rename, with lines on either side of it that no poll has seen.
        write(&path, LOST);
        write(&path, LOST);
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        write(&path, LOST);
        until("lines around a rename", || count(&book, LogKind::LinkLost) == round * 5 - 2).await;
        // By copy and truncate, what was read before; then a file that is longer at once than it was.
        std::fs::File::create(&path).unwrap();
        write(&path, &format!("{}{LOST}", "padding\n".repeat(100)));
        until("the line after a truncation", || count(&book, LogKind::LinkLost) == round * 5 - 1).await;
        std::fs::remove_file(&path).unwrap();
        write(&path, LOST);
        until("the line of a file made anew", || count(&book, LogKind::LinkLost) == round * 5).await;
    }
    assert!(!book.lock().unwrap().view(clock()).skipped);
}
