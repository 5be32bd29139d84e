//! The file itself: of an old version, of another program, damaged, locked, out of reach.

use std::path::Path;

use relinkd::ledger::{Ledger, LedgerError};
use relinkd::model::Timestamp;
use relinkd::model::finding::Cause;
use relinkd::model::incident::{Incident, IncidentId};
use relinkd::model::rotation::{self, Rotation, RotationEntry, RotationWhat, Subject, Way};

use super::kit::*;

#[test]
fn a_new_ledger_is_private_to_its_owner_and_group() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    ledger.check_writable().unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", path.display());
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640, "{file}");
    }
}

#[test]
fn rows_that_cannot_be_read_are_skipped_and_counted() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    let entries = one_of_each("01A", 0);
    ledger.record(&entries, None, &[]).unwrap();
    tell(&mut ledger, "01B", 0, 1, &["ops"]);
    tell(&mut ledger, "01B", 1, 2, &["ops"]);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(
        "UPDATE entry SET body = '{\"diagnosed\": {\"finding\":' WHERE id = 2;
         UPDATE entry SET kind = 'tuned', body = '{\"tuned\": 7}' WHERE id = 3;
         UPDATE notice SET body = 'nonsense' WHERE sequence = 1;",
    )
    .unwrap();
    let read = ledger.entries(None, Some(&IncidentId("01A".to_owned()))).unwrap();
    assert_eq!(read, [&entries[..1], &entries[3..]].concat());
    ledger.entries(None, None).unwrap();
    let skipped = ledger.skipped();
    assert_eq!((skipped.unknown.into_iter().collect::<Vec<_>>(), skipped.unreadable.len()), (vec![3], 1));
    assert!(keys(&mut ledger, 5).is_empty());
    assert_eq!(keys(&mut ledger, 5), ["ops 01B-2"], "the unreadable message must not hold back the next one");
    assert_eq!(ledger.skipped().unreadable.into_iter().collect::<Vec<_>>(), [("entry", 2), ("notice", 1)]);
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let rubbish = b"this is no database, but it is long enough to be taken for one by a hasty reader".repeat(99);
    std::fs::write(&path, &rubbish).unwrap();
    for error in [Ledger::open(&path, KEEP_ALL).unwrap_err(), Ledger::open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("mv "), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), rubbish);
}

#[test]
fn damage_inside_a_ledger_is_an_error_that_says_what_to_do() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    for n in 0..100 {
        ledger.record(&one_of_each(&format!("01{n:03}"), n), None, &[]).unwrap();
    }
    drop(ledger);
    let mut bytes = std::fs::read(&path).unwrap();
    let from = 4096 * 10;
    bytes[from..from + 4096 * 20].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    let error = ledger.entries(None, None).unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}");
}

/// A file of the first version has no tables for rotations. Opened, it has, and what it held is still there.
#[test]
fn a_ledger_of_the_first_version_takes_rotations_and_one_of_a_group_is_open_at_a_time() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    ledger.record(&one_of_each("01", 1), None, &[]).unwrap();
    let entries = ledger.entries(None, None).unwrap().len();
    drop(ledger);
    let plain = rusqlite::Connection::open(&path).unwrap();
    plain.execute_batch("DROP TABLE rotation_entry; DROP TABLE rotation; DROP TABLE pause; DROP INDEX entry_that_acts; PRAGMA user_version = 1;").unwrap();
    drop(plain);

    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    assert_eq!(ledger.entries(None, None).unwrap().len(), entries);
    let subject = Subject { user: "default".to_owned(), replicates: true, watches: true, single: false };
    let rotation = |id: &str| Rotation {
        id: id.to_owned(),
        group: "mymaster".to_owned(),
        subject: subject.clone(),
        old: "0a".to_owned(),
        new: "0b".to_owned(),
        taken_over: false,
        begun_at: Timestamp(1),
        ended_at: None,
    };
    ledger.begin_rotation(&rotation("a")).unwrap();
    assert!(ledger.begin_rotation(&rotation("b")).is_err(), "one is open");
    let line = |what| RotationEntry { at: Timestamp(2), what };
    let step = rotation::Step::Login;
    ledger.record_rotation("a", &line(RotationWhat::Intended { way: Way::Back, step: step.clone() })).unwrap();
    let open = ledger.open_rotation("mymaster").unwrap().unwrap();
    assert_eq!((open.way(), open.unfinished()), (Way::Back, Some(&step)));
    assert_eq!(ledger.open_rotation("another").unwrap(), None);
    ledger.record_rotation("a", &line(RotationWhat::Ended { way: Way::Back, detail: String::new() })).unwrap();
    assert_eq!(ledger.open_rotation("mymaster").unwrap(), None);
    let last = ledger.last_rotation("mymaster").unwrap().unwrap();
    assert_eq!((last.rotation.ended_at, last.entries.len()), (Some(Timestamp(2)), 2));
    ledger.begin_rotation(&rotation("b")).unwrap();
}

#[test]
fn files_of_others_and_of_newer_versions_are_refused_untouched() {
    let (_dir, path, ledger) = fresh(KEEP_ALL);
    drop(ledger);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for error in [Ledger::open(&path, KEEP_ALL).unwrap_err(), Ledger::open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, LedgerError::NewerSchema { found: 99, known: 3, .. }), "{error:?}");
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Ledger::open(&path, KEEP_ALL).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_lock_held_elsewhere_is_named_and_passes() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = ledger.record(&[opened("01A", 0)], None, &[]).unwrap_err();
    assert_eq!(error, LedgerError::Locked { path: path.clone() });
    assert_eq!(ledger.check_writable(), Err(LedgerError::Locked { path: path.clone() }));
    let reader = Ledger::open_read_only(&path).unwrap();
    assert!(reader.entries(None, None).unwrap().is_empty(), "a failed record left something");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.record(&[opened("01A", 0)], None, &[]).unwrap();
    assert_eq!(reader.entries(None, None).unwrap().len(), 1, "a reader must see new commits");
}

#[test]
fn directory_problems_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| Ledger::open(path, KEEP_ALL).unwrap_err().to_string();
    assert!(said(&dir.path().join("none/ledger.db")).contains("install -d -m 0750"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(said(&dir.path().join("file/ledger.db")).contains("is not a directory"));
    assert!(said(dir.path()).contains("a file is expected"));
    let absent = dir.path().join("ledger.db");
    assert_eq!(Ledger::open_read_only(&absent).unwrap_err(), LedgerError::Absent { path: absent.clone() });
    assert!(!absent.exists(), "reading must not make a ledger");
}

#[test]
fn a_reader_cannot_write() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    ledger.record(&[opened("01A", 0)], None, &[]).unwrap();
    let mut reader = Ledger::open_read_only(&path).unwrap();
    assert_eq!(reader.check_writable(), Err(LedgerError::ReadOnly { path }));
}

/// What must never read otherwise, whatever else later versions make of the same entries.
fn told(incident: &Incident) -> String {
    let codes = |causes: &[Cause]| causes.iter().map(|cause| cause.code()).collect::<Vec<_>>().join(" ");
    let mut text = format!("{} {} at {}\n", incident.id, incident.link.replica, incident.address);
    text += &format!("  {}, attempts {}, told {}\n", incident.phase.name(), incident.attempts, incident.sequence);
    text += &format!("  down {}, opened {}\n", incident.down_at, incident.opened_at);
    text += &format!("  causes {}\n", codes(&incident.causes));
    for fact in &incident.finding.because {
        text += &format!("  {}: {}, {}\n", fact.from.name(), fact.saw, fact.means);
    }
    for refusal in &incident.held {
        text += &format!("  held {}: {}\n", refusal.code, refusal.detail);
    }
    for action in &incident.actions {
        text += &format!("  {} {} in {} us\n", action.remedy, action.outcome.code(), action.took_us);
    }
    if let (Some(up), Some(end)) = (incident.up_at, incident.resolved_at) {
        text += &format!("  up {up}, resolved {end} by {:?}\n", incident.resolved_by);
    }
    text
}

/// A ledger that version 0.1.0 wrote. It is never made anew: what it folds to stays as it is for ever.
#[test]
fn the_ledger_of_version_0_1_0_opens_and_folds_as_it_did() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledger/v1.db");
    if std::env::var_os("RELINKD_MAKE_V1").is_some() && !kept.exists() {
        let mut ledger = Ledger::open(&kept, KEEP_ALL).unwrap();
        ledger.record(&one_of_each("01HF7YAT00RESOLVED", 0), None, &[]).unwrap();
        ledger.record(&[opened("01HF7YAT00STILLOPEN", 500)], None, &[]).unwrap();
        tell(&mut ledger, "01HF7YAT00STILLOPEN", 501, 1, &["ops", "hook"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    std::fs::copy(&kept, &path).unwrap();
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    let mut text = String::new();
    for incident in ledger.incidents(None, 10).unwrap() {
        text += &told(&incident);
    }
    text += &keys(&mut ledger, 1_000).join("\n");
    text.push('\n');
    assert_eq!(ledger.skipped(), Default::default());
    let expected = kept.with_extension("txt");
    if std::env::var_os("RELINKD_MAKE_V1").is_some() && !expected.exists() {
        std::fs::write(&expected, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(expected).unwrap());
}
