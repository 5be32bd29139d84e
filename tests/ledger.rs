//! The record on real files: order, retention, damage, locks, full and read-only disks, two processes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use relinkd::ledger::{Ledger, LedgerError, Lookup, Retention};
use relinkd::model::finding::{Cause, Fact, Finding, Viewpoint};
use relinkd::model::incident::{Announcement, Entry, Incident, IncidentId, Notice, Phase, ResolvedBy, What};
use relinkd::model::people::{Actor, Pause, Scope};
use relinkd::model::remedy::{self, Action, Change, Outcome, Plan, Precondition, Refusal, RefusalCode, Remedy};
use relinkd::model::rotation::{self, Rotation, RotationEntry, RotationWhat, Subject, Way};
use relinkd::model::{Endpoint, LinkId, Timestamp};

const KEEP_ALL: Retention = Retention { max_age: Duration::from_secs(365 * 86_400), max_bytes: 1 << 40 };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn entry(id: &str, ms: i64, what: What) -> Entry {
    let link = LinkId { replica: "cache".to_owned(), group: "mymaster".to_owned() };
    Entry { at: at(ms), link, incident: IncidentId(id.to_owned()), what }
}

fn alice() -> Actor {
    Actor { uid: 1000, name: "alice".to_owned(), sudo: None }
}

fn opened(id: &str, ms: i64) -> Entry {
    let fact = Fact {
        from: Viewpoint::Probe,
        saw: "AUTH → WRONGPASS".to_owned(),
        at: at(ms),
        means: "the password is refused".to_owned(),
    };
    let finding = Finding {
        cause: Cause::AuthRejected,
        suspected: false,
        link_up: false,
        unrefused: false,
        flaps: None,
        because: vec![fact],
        rejected: [(Cause::PrimaryDown, "PING → NOAUTH in 1 ms".to_owned())].into(),
    };
    let what = What::Opened {
        finding,
        address: "10.0.0.21:6379".parse().unwrap(),
        primary: Some(Endpoint::new("10.0.0.20", 6379)),
        down_at: at(ms - 12),
        diagnose_us: 900,
        look_us: 8_000,
    };
    entry(id, ms, what)
}

fn plan(ms: i64) -> Plan {
    let change = Change::BounceLink { to: Endpoint::new("10.0.0.20", 6379) };
    let expected =
        Fact { from: Viewpoint::Replica, saw: "link up".to_owned(), at: at(ms), means: "it worked".to_owned() };
    let step =
        remedy::Step { expect: Precondition { link_down: true, ..Precondition::default() }, change, within_ms: 500 };
    Plan { remedy: Remedy::BounceLink, steps: vec![step], undo: vec![], expected }
}

/// One entry of every kind, the last of which ends the incident.
fn one_of_each(id: &str, ms: i64) -> Vec<Entry> {
    let finding = Finding {
        cause: Cause::Unknown,
        suspected: true,
        link_up: false,
        unrefused: false,
        flaps: None,
        because: vec![],
        rejected: Default::default(),
    };
    let refusal =
        Refusal { code: RefusalCode::TooEarly, remedy: Some(Remedy::BounceLink), detail: "0.2 s of 1 s".to_owned() };
    let action = Action {
        remedy: Remedy::BounceLink,
        what: "reconnect".to_owned(),
        outcome: Outcome::Changed("OK".to_owned()),
        at: at(ms + 7),
        took_us: 6_000,
    };
    let rest = [
        What::Diagnosed { finding, primary: None },
        What::Held { refusal },
        What::Proposed { plan: plan(ms), expires: Some(at(ms + 3_600_000)) },
        What::Approved { by: alice() },
        What::Withdrawn { why: "the server was started anew".to_owned() },
        What::Proposed { plan: plan(ms), expires: None },
        What::Rejected { by: alice(), until: at(ms + 9_000) },
        What::Acknowledged { by: alice(), name: "bob".to_owned() },
        What::Intended { attempt: 1, plan: plan(ms) },
        What::Interrupted { attempt: 1 },
        What::Intended { attempt: 2, plan: plan(ms) },
        What::Finished { attempt: 2, action },
        What::Ended { attempt: 2, outcome: Outcome::Changed("done".to_owned()) },
        What::LinkUp { at: at(ms + 9) },
        What::LinkDown { at: at(ms + 10) },
        What::LinkUp { at: at(ms + 11) },
        What::Escalated { why: "it flaps".to_owned() },
        What::Told { event: Announcement::Escalated },
        What::Resolved { by: ResolvedBy::Relinkd },
    ];
    let mut entries = vec![opened(id, ms)];
    entries.extend((1..).zip(rest).map(|(n, what)| entry(id, ms + n, what)));
    entries
}

fn fold(entries: &[Entry]) -> Incident {
    let mut incident = Incident::open(&entries[0]).unwrap();
    entries[1..].iter().for_each(|entry| incident.take(entry));
    incident
}

/// The message that tells of an incident for the `sequence`th time.
fn notice(id: &str, ms: i64, sequence: u32) -> Notice {
    let mut incident = Incident::open(&opened(id, ms)).unwrap();
    incident.sequence = sequence;
    let event = Announcement::Opened;
    Notice { at: at(ms), host: "db-21".to_owned(), event, incident, next_steps: vec![] }
}

fn tell(ledger: &mut Ledger, id: &str, ms: i64, sequence: u32, channels: &[&str]) {
    let channels: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
    let told = entry(id, ms, What::Told { event: Announcement::Opened });
    ledger.record(&[told], Some(&notice(id, ms, sequence)), &channels).unwrap();
}

fn fresh(retention: Retention) -> (tempfile::TempDir, PathBuf, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path, retention).unwrap();
    (dir, path, ledger)
}

fn keys(ledger: &mut Ledger, ms: i64) -> Vec<String> {
    let due: Vec<_> = ["ops", "hook"].iter().flat_map(|channel| ledger.due(channel, at(ms)).unwrap()).collect();
    due.iter().map(|delivery| format!("{} {}", delivery.channel, delivery.sequence_key)).collect()
}

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
    assert_eq!(ledger.pauses(at(3_000)).unwrap(), [pause], "its end before its time is the same pause");
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

/// Runs one of the ignored tests below in a process of its own, as `wrap` says, with `dir` to work in; says that it
/// skips the test where the wrapper is not allowed.
fn in_another_process(test: &str, dir: &Path, wrap: &[&str]) {
    let exe = std::env::current_exe().unwrap();
    if let [program, args @ ..] = wrap {
        let tried = Command::new(program).args(args).arg(&exe).arg("--list").output();
        if !tried.is_ok_and(|out| out.status.success()) {
            eprintln!("SKIPPED, {} is not allowed here: {test}", wrap.join(" "));
            return;
        }
    }
    let mut line: Vec<&std::ffi::OsStr> = wrap.iter().map(std::ffi::OsStr::new).collect();
    line.push(exe.as_os_str());
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["--exact", test, "--ignored", "--nocapture"]).env("RELINKD_TEST_DIR", dir);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

fn given_dir() -> PathBuf {
    std::env::var_os("RELINKD_TEST_DIR").expect("run by another test").into()
}

#[test]
fn one_process_reads_while_another_has_written_and_been_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_and_is_killed", "--ignored"])
        .env("RELINKD_TEST_DIR", dir.path())
        .output()
        .unwrap();
    assert_eq!(out.status.signal(), Some(9), "{out:?}");
    assert!(path.with_extension("db-wal").metadata().unwrap().len() > 0, "the kill left no WAL; the test is void");
    let reader = Ledger::open_read_only(&path).unwrap();
    assert_eq!(reader.entries(None, None).unwrap(), one_of_each("01A", 0));
    let mut writer = Ledger::open(&path, KEEP_ALL).unwrap();
    writer.record(&[opened("01B", 50)], None, &[]).unwrap();
    in_another_process("child_reads_two_incidents", dir.path(), &[]);
}

#[test]
#[ignore = "run by one_process_reads_while_another_has_written_and_been_killed"]
fn child_writes_and_is_killed() {
    let mut ledger = Ledger::open(&given_dir().join("ledger.db"), KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

#[test]
#[ignore = "run by one_process_reads_while_another_has_written_and_been_killed"]
fn child_reads_two_incidents() {
    let ledger = Ledger::open_read_only(&given_dir().join("ledger.db")).unwrap();
    assert_eq!(ledger.incidents(None, 10).unwrap().len(), 2);
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    in_another_process("child_fills_the_disk", dir.path(), &["unshare", "--mount", "--map-root-user"]);
}

#[test]
#[ignore = "run by a_full_disk_is_named_and_nothing_is_lost, in a mount namespace of its own"]
fn child_fills_the_disk() {
    let dir = given_dir();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&dir).status().unwrap();
    assert!(mounted.success());
    let path = dir.join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    let mut kept = 0;
    let error = loop {
        match ledger.record(&one_of_each(&format!("01{kept:05}"), kept * 100), None, &[]) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the disk never filled");
    };
    assert!(kept > 0);
    assert_eq!(error, LedgerError::Full { path: path.clone() });
    assert_eq!(ledger.incidents(None, 10_000).unwrap().len() as i64, kept);
    let grown = Command::new("mount").args(["-o", "remount,size=4m"]).arg(&dir).status().unwrap();
    assert!(grown.success());
    ledger.check_writable().unwrap();
    ledger.record(&one_of_each("02", 0), None, &[]).unwrap();
    assert_eq!(ledger.incidents(None, 10_000).unwrap().len() as i64, kept + 1);
    drop(ledger);

    // Full before the daemon starts.
    let filler = std::fs::write(dir.join("filler"), vec![0; 8 << 20]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = match Ledger::open(&path, KEEP_ALL) {
        Err(error) => error,
        Ok(mut ledger) => ledger.check_writable().unwrap_err(),
    };
    assert_eq!(error, LedgerError::Full { path });
}

#[test]
fn a_read_only_file_system_is_named_and_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    in_another_process("child_meets_a_read_only_disk", dir.path(), &["unshare", "--mount", "--map-root-user"]);
}

#[test]
#[ignore = "run by a_read_only_file_system_is_named_and_can_still_be_read, in a mount namespace of its own"]
fn child_meets_a_read_only_disk() {
    let dir = given_dir();
    let mount = |options: &str| Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&dir).status();
    assert!(mount("size=4m").unwrap().success());
    let path = dir.join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    drop(ledger);
    assert!(mount("remount,ro").unwrap().success());
    let error = match Ledger::open(&path, KEEP_ALL) {
        Err(error) => error,
        Ok(mut ledger) => ledger.check_writable().unwrap_err(),
    };
    assert_eq!(error, LedgerError::ReadOnly { path: path.clone() });
    assert_eq!(Ledger::open_read_only(&path).unwrap().incidents(None, 10).unwrap().len(), 1);
    let fresh = dir.join("fresh.db");
    assert_eq!(Ledger::open(&fresh, KEEP_ALL).unwrap_err(), LedgerError::ReadOnly { path: fresh });
}

/// As a member of the group that may read, and nobody else: what `relinkd incidents` meets on a host.
#[test]
fn a_reader_without_write_permission_sees_a_closed_ledger_and_one_left_by_a_crash() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let mut ledger = Ledger::open(&path, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    drop(ledger);
    let crashed = dir.path().join("crashed.db");
    let mut ledger = Ledger::open(&crashed, KEEP_ALL).unwrap();
    ledger.record(&one_of_each("01A", 0), None, &[]).unwrap();
    std::mem::forget(ledger);
    for file in ["ledger.db", "crashed.db", "crashed.db-wal", "crashed.db-shm"] {
        std::fs::set_permissions(dir.path().join(file), std::fs::Permissions::from_mode(0o444)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let root = rustix::process::geteuid().is_root();
    let drop_rights = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    in_another_process("child_reads_without_rights", dir.path(), if root { &drop_rights } else { &[] });
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "run by a_reader_without_write_permission_sees_a_closed_ledger_and_one_left_by_a_crash, as a user without rights"]
fn child_reads_without_rights() {
    for name in ["ledger.db", "crashed.db"] {
        let reader = Ledger::open_read_only(&given_dir().join(name)).unwrap();
        let incidents = reader.incidents(None, 10).unwrap();
        assert_eq!(incidents.iter().map(|incident| incident.phase).collect::<Vec<_>>(), [Phase::Resolved], "{name}");
    }
    let error = Ledger::open(&given_dir().join("fresh.db"), KEEP_ALL).unwrap_err();
    assert!(matches!(error, LedgerError::Denied { .. }), "{error:?}");
}
