//! What is recorded reads back, as entries and as incidents.

use relinkd::ledger::{Ledger, Lookup};
use relinkd::model::incident::IncidentId;

use super::kit::*;

#[test]
fn entries_of_every_kind_read_back_as_recorded() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    let entries = one_of_each("01A", 0);
    ledger.record(&entries, None, &[]).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    assert_eq!(ledger.entries(None, None).unwrap(), entries);
    assert_eq!(ledger.entries(Some("cache"), Some(&IncidentId("01A".to_owned()))).unwrap(), entries);
    assert!(ledger.entries(Some("other"), None).unwrap().is_empty());
    assert_eq!(ledger.incident("01A").unwrap(), Lookup::Found(Box::new(fold(&entries))));
    assert_eq!(ledger.skipped(), Default::default());
}

#[test]
fn the_stored_kind_is_the_name_that_serde_writes() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let named: bool = raw
        .query_row(
            "SELECT min(body LIKE '{\"' || kind || '\":%') AND count(DISTINCT kind) = 17 FROM entry",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(named);
}

/// The daemon hands it to a blocking task.
#[test]
fn a_ledger_may_move_between_threads() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    let ledger = std::thread::spawn(move || ledger.check_writable().map(|()| ledger)).join().unwrap().unwrap();
    assert!(ledger.entries(None, None).unwrap().is_empty());
}

#[test]
fn history_holds_open_incidents_and_those_touched_since() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    ledger.record(&[opened("01B", 1_000)], None, &[]).unwrap();
    ledger.record(&one_of_each("01C", 9_000), None, &[]).unwrap();
    let touched = |since| {
        let mut ids: Vec<String> =
            ledger.history("cache", at(since)).unwrap().into_iter().map(|entry| entry.incident.0).collect();
        ids.dedup();
        ids
    };
    assert_eq!(touched(0), ["01A", "01B", "01C"]);
    assert_eq!(touched(5_000), ["01B", "01C"]);
    assert_eq!(touched(50_000), ["01B"]);
    assert!(ledger.history("other", at(0)).unwrap().is_empty());
}

#[test]
fn incidents_come_newest_first_and_are_found_by_a_unique_beginning() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    ledger.record(&one_of_each("01ABC", 0), None, &[]).unwrap();
    ledger.record(&one_of_each("01ABD", 5_000), None, &[]).unwrap();
    ledger.record(&[opened("01AB", 9_000)], None, &[]).unwrap();
    let ids = |since: Option<i64>, limit| {
        let found = ledger.incidents(since.map(at), limit).unwrap();
        found.into_iter().map(|incident| incident.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 10), ["01AB", "01ABD", "01ABC"]);
    assert_eq!(ids(None, 2), ["01AB", "01ABD"]);
    assert_eq!(ids(Some(6_000), 10), ["01AB"]);

    let found = |name| match ledger.incident(name).unwrap() {
        Lookup::Found(incident) => incident.id.0,
        Lookup::None => "none".to_owned(),
        Lookup::Many(ids) => format!("{} of them", ids.len()),
    };
    assert_eq!(
        ["01abc", "01AB", "01", "", "%", "01ABCX"].map(found),
        ["01ABC", "01AB", "3 of them", "none", "none", "none"]
    );
}
