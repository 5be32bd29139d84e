//! Entries, messages and ledgers to try things with.

use std::path::PathBuf;
use std::time::Duration;

use relinkd::ledger::{Ledger, Retention};
use relinkd::model::finding::{Cause, Fact, Finding, Viewpoint};
use relinkd::model::incident::{Announcement, Entry, Incident, IncidentId, Notice, ResolvedBy, What};
use relinkd::model::people::Actor;
use relinkd::model::remedy::{self, Action, Change, Outcome, Plan, Precondition, Refusal, RefusalCode, Remedy};
use relinkd::model::{Endpoint, LinkId, Timestamp};

pub const KEEP_ALL: Retention = Retention { max_age: Duration::from_secs(365 * 86_400), max_bytes: 1 << 40 };

pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

pub fn entry(id: &str, ms: i64, what: What) -> Entry {
    let link = LinkId { replica: "cache".to_owned(), group: "mymaster".to_owned() };
    Entry { at: at(ms), link, incident: IncidentId(id.to_owned()), what }
}

pub fn alice() -> Actor {
    Actor { uid: 1000, name: "alice".to_owned(), sudo: None }
}

pub fn opened(id: &str, ms: i64) -> Entry {
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

pub fn plan(ms: i64) -> Plan {
    let change = Change::BounceLink { to: Endpoint::new("10.0.0.20", 6379) };
    let expected =
        Fact { from: Viewpoint::Replica, saw: "link up".to_owned(), at: at(ms), means: "it worked".to_owned() };
    let step =
        remedy::Step { expect: Precondition { link_down: true, ..Precondition::default() }, change, within_ms: 500 };
    Plan { remedy: Remedy::BounceLink, steps: vec![step], undo: vec![], expected }
}

/// One entry of every kind, the last of which ends the incident.
pub fn one_of_each(id: &str, ms: i64) -> Vec<Entry> {
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

pub fn fold(entries: &[Entry]) -> Incident {
    let mut incident = Incident::open(&entries[0]).unwrap();
    entries[1..].iter().for_each(|entry| incident.take(entry));
    incident
}

/// The message that tells of an incident for the `sequence`th time.
pub fn notice(id: &str, ms: i64, sequence: u32) -> Notice {
    let mut incident = Incident::open(&opened(id, ms)).unwrap();
    incident.sequence = sequence;
    let event = Announcement::Opened;
    Notice { at: at(ms), host: "db-21".to_owned(), event, incident, next_steps: vec![] }
}

pub fn tell(ledger: &mut Ledger, id: &str, ms: i64, sequence: u32, channels: &[&str]) {
    let channels: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
    let told = entry(id, ms, What::Told { event: Announcement::Opened });
    ledger.record(&[told], Some(&notice(id, ms, sequence)), &channels).unwrap();
}

pub fn fresh(retention: Retention) -> (tempfile::TempDir, PathBuf, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path, retention).unwrap();
    (dir, path, ledger)
}

pub fn keys(ledger: &mut Ledger, ms: i64) -> Vec<String> {
    let due: Vec<_> = ["ops", "hook"].iter().flat_map(|channel| ledger.due(channel, at(ms)).unwrap()).collect();
    due.iter().map(|delivery| format!("{} {}", delivery.channel, delivery.sequence_key)).collect()
}
