//! What is forgotten, and what never is.

use std::time::Duration;

use relinkd::ledger::{Ledger, Retention};
use relinkd::model::incident::What;
use relinkd::model::people::{Pause, Scope};

use super::kit::*;

#[test]
fn retention_by_age_spares_open_incidents_and_undelivered_messages() {
    let (_dir, _path, mut ledger) = fresh(Retention { max_age: Duration::from_secs(60), max_bytes: 1 << 40 });
    ledger.record(&one_of_each("01OLD", 0), None, &[]).unwrap();
    ledger.record(&[opened("01OPEN", 1)], None, &[]).unwrap();
    ledger.record(&one_of_each("01TELL", 2), None, &[]).unwrap();
    tell(&mut ledger, "01TELL", 30, 1, &["ops"]);
    ledger.record(&one_of_each("01NEW", 70_000), None, &[]).unwrap();
    let left = |ledger: &Ledger| {
        ledger.incidents(None, 10).unwrap().into_iter().map(|incident| incident.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ledger.prune(at(100_000)).unwrap().incidents, 1);
    assert_eq!(left(&ledger), ["01NEW", "01TELL", "01OPEN"]);
    let id = ledger.due("ops", at(100_000)).unwrap()[0].id;
    ledger.delivered(id, at(100_000)).unwrap();
    assert_eq!(ledger.prune(at(100_001)).unwrap().incidents, 1);
    assert_eq!(left(&ledger), ["01NEW", "01OPEN"]);
    assert_eq!(ledger.prune(at(100_001)).unwrap().incidents, 0);
}

#[test]
fn retention_by_size_drops_the_oldest_and_shrinks_the_file() {
    let max_bytes = 400_000;
    let (_dir, path, mut ledger) = fresh(Retention { max_age: KEEP_ALL.max_age, max_bytes });
    ledger.record(&[opened("00OPEN", 0)], None, &[]).unwrap();
    for n in 0..300 {
        ledger.record(&one_of_each(&format!("01{n:04}"), n * 100), None, &[]).unwrap();
    }
    let pruned = ledger.prune(at(60_000)).unwrap();
    assert!(pruned.incidents > 0 && pruned.bytes > 0, "{pruned:?}");
    let left = ledger.incidents(None, 1_000).unwrap();
    assert_eq!(left.first().unwrap().id.0, "010299");
    assert_eq!(left.last().unwrap().id.0, "00OPEN");
    assert_eq!(left.len() as u64, 301 - pruned.incidents);
    assert!(ledger.used_bytes().unwrap() <= max_bytes);
    assert!(std::fs::metadata(&path).unwrap().len() <= max_bytes, "the space was not given back");
}

#[test]
fn one_part_of_pruning_is_short() {
    let (_dir, _path, mut ledger) = fresh(Retention { max_age: Duration::from_secs(60), max_bytes: 1 << 40 });
    for n in 0..40 {
        ledger.record(&one_of_each(&format!("01{n:04}"), n), None, &[]).unwrap();
    }
    let parts: Vec<_> = std::iter::from_fn(|| Some(ledger.prune_some(at(900_000)).unwrap()))
        .take_while(|part| part.more)
        .map(|part| part.incidents)
        .collect();
    assert_eq!(parts, [16, 16, 8], "whoever has an intent to record waits for sixteen at most");
    assert!(ledger.incidents(None, 10).unwrap().is_empty());
}

#[test]
fn pauses_and_acts_outlive_the_process_and_go_when_they_are_old() {
    let (_dir, path, mut ledger) = fresh(Retention { max_age: Duration::from_secs(60), max_bytes: 1 << 40 });
    let mut pause = Pause {
        scope: Scope::Replica("cache".to_owned()),
        owner: alice(),
        reason: "upgrade".to_owned(),
        began: at(0),
        ends: at(10_000),
        resumed: None,
    };
    ledger.record_pause(&pause).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(&path, Retention { max_age: Duration::from_secs(60), max_bytes: 1 << 40 }).unwrap();
    assert_eq!(ledger.pauses(at(5_000)).unwrap(), [pause.clone()]);
    pause.resumed = Some((at(4_000), alice()));
    ledger.record_pause(&pause).unwrap();
    assert_eq!(ledger.pauses(at(5_000)).unwrap(), []);
    assert_eq!(ledger.pauses(at(3_000)).unwrap(), [pause.clone()], "its end before its time is the same pause");
    // The clock is set back, and the pause is ended as what it is dated at by then.
    let ahead = Pause { began: at(20_000), ends: at(30_000), ..pause.clone() };
    ledger.record_pause(&Pause { resumed: None, ..ahead.clone() }).unwrap();
    let dated = Pause { resumed: None, ..ahead }.dated_at_most(at(8_000));
    assert!(dated.in_force(at(9_000)));
    ledger.record_pause(&Pause { resumed: Some((at(9_000), alice())), ..dated }).unwrap();
    assert!(!ledger.pauses(at(0)).unwrap().iter().any(|pause| pause.resumed.is_none()), "it stays ended");
    // What somebody else asked for meanwhile goes on.
    let other =
        Pause { reason: "another".to_owned(), began: at(8_500), ends: at(9_500), resumed: None, ..pause.clone() };
    ledger.record_pause(&other).unwrap();
    let ended = Pause { began: at(8_400), ends: at(9_400), resumed: Some((at(8_600), alice())), ..pause.clone() };
    ledger.record_pause(&ended).unwrap();
    assert!(ledger.pauses(at(0)).unwrap().contains(&other));
    let acts: Vec<What> = ledger.acts().unwrap().into_iter().map(|entry| entry.what).collect();
    assert!(matches!(
        acts.as_slice(),
        [
            What::Acknowledged { .. },
            What::Intended { .. },
            What::Interrupted { .. },
            What::Intended { .. },
            What::Ended { .. }
        ]
    ));
    ledger.prune(at(600_000)).unwrap();
    assert_eq!(ledger.pauses(at(0)).unwrap(), []);
}
