//! Messages that wait: their order, their dates, and channels that are gone.

use std::time::Duration;

use relinkd::ledger::{Ledger, Retention};

use super::kit::*;

#[test]
fn a_message_waits_for_the_earlier_one_of_its_incident_and_channel_only() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    tell(&mut ledger, "01A", 0, 1, &["ops", "hook"]);
    tell(&mut ledger, "01A", 10, 2, &["ops", "hook"]);
    tell(&mut ledger, "01B", 20, 1, &["ops"]);
    assert_eq!(keys(&mut ledger, 20), ["ops 01A-1", "ops 01B-1", "hook 01A-1"]);
    let [first, hook] = ["ops", "hook"].map(|channel| ledger.due(channel, at(20)).unwrap()[0].id);
    ledger.delivered(hook, at(21)).unwrap();
    ledger.postpone(first, at(60_000), "connection refused").unwrap();
    assert_eq!(keys(&mut ledger, 100), ["ops 01B-1", "hook 01A-2"], "ops 01A-2 must not overtake ops 01A-1");
    assert_eq!(["ops", "hook"].map(|channel| ledger.next_due(channel).unwrap()), [Some(at(20)), Some(at(10))]);
    let later = ledger.due("ops", at(60_000)).unwrap();
    let again = later.iter().find(|delivery| delivery.id == first).unwrap();
    assert_eq!((again.sequence_key.as_str(), again.attempts), ("01A-1", 1));
    assert_eq!(again.notice, notice("01A", 0, 1));
    ledger.give_up(first, at(60_001), "refused for good").unwrap();
    assert_eq!(keys(&mut ledger, 60_002), ["ops 01A-2", "ops 01B-1", "hook 01A-2"]);
    assert_eq!((ledger.pending("ops").unwrap(), ledger.pending("hook").unwrap()), (2, 1));
}

/// Otherwise the courier would wake for a message that it may not send yet, again and again.
#[test]
fn a_message_that_is_held_back_is_not_what_falls_due_next() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    assert_eq!(ledger.next_due("ops").unwrap(), None);
    tell(&mut ledger, "01A", 0, 1, &["ops"]);
    tell(&mut ledger, "01A", 10, 2, &["ops"]);
    assert_eq!(ledger.next_due("ops").unwrap(), Some(at(0)));
    let first = ledger.due("ops", at(20)).unwrap()[0].id;
    ledger.postpone(first, at(60_000), "connection refused").unwrap();
    assert_eq!(ledger.next_due("ops").unwrap(), Some(at(60_000)));
    assert!(keys(&mut ledger, 59_999).is_empty());
}

#[test]
fn a_message_that_is_due_far_ahead_of_the_clock_is_brought_forward() {
    let (_dir, _path, mut ledger) = fresh(KEEP_ALL);
    tell(&mut ledger, "A", 172_800_000, 1, &["ops"]);
    tell(&mut ledger, "B", 500, 1, &["ops"]);
    assert_eq!(keys(&mut ledger, 1_000), ["ops B-1"]);
    ledger.bring_forward("ops", at(1_000), at(3_600_000)).unwrap();
    assert_eq!(keys(&mut ledger, 1_000), ["ops A-1", "ops B-1"]);
    ledger.postpone(1, at(600_000), "busy").unwrap();
    ledger.bring_forward("ops", at(1_000), at(3_600_000)).unwrap();
    assert_eq!(keys(&mut ledger, 1_000), ["ops B-1"], "an ordinary wait stands");
}

#[test]
fn a_disabled_channel_gets_nothing_until_it_is_enabled() {
    let (_dir, path, mut ledger) = fresh(KEEP_ALL);
    tell(&mut ledger, "01A", 0, 1, &["ops", "hook"]);
    ledger.disable_channel("ops", at(5), "410 Gone").unwrap();
    tell(&mut ledger, "01A", 10, 2, &["ops"]);
    drop(ledger);
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    assert_eq!(ledger.is_disabled("ops").unwrap(), Some((at(5), "410 Gone".to_owned())));
    assert_eq!(ledger.is_disabled("hook").unwrap(), None);
    assert_eq!(keys(&mut ledger, 100), ["hook 01A-1"]);
    ledger.enable_channel("ops").unwrap();
    tell(&mut ledger, "01A", 20, 3, &["ops"]);
    assert_eq!(keys(&mut ledger, 100), ["ops 01A-3", "hook 01A-1"]);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let reasons: i64 = raw
        .query_row("SELECT count(*) FROM delivery WHERE state = 'given-up' AND error LIKE '%410 Gone'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(reasons, 2);
}

#[test]
fn what_waits_for_a_channel_that_is_gone_is_given_up_and_holds_nothing_back() {
    let (_dir, _path, mut ledger) = fresh(Retention { max_age: Duration::from_secs(60), max_bytes: 1 << 40 });
    ledger.record(&one_of_each("01TELL", 2), None, &[]).unwrap();
    tell(&mut ledger, "01TELL", 30, 1, &["ops", "gone"]);
    ledger.give_up_strays(&["ops".to_owned(), "new".to_owned()], at(100)).unwrap();
    assert_eq!((ledger.pending("ops").unwrap(), ledger.pending("gone").unwrap()), (1, 0));
    let id = ledger.due("ops", at(100_000)).unwrap()[0].id;
    ledger.delivered(id, at(100_000)).unwrap();
    assert_eq!(ledger.prune(at(900_000)).unwrap().incidents, 1);
}
