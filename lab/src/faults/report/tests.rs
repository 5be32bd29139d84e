use super::*;

fn record(index: usize, fault: &str, kind: Kind, outcome: Outcome, firm_ms: Option<u64>) -> Record {
    let firm = firm_ms.map(Duration::from_millis);
    Record {
        index,
        fault: fault.to_owned(),
        cause: "network-cut".to_owned(),
        kind,
        round: 1,
        bound: Duration::from_millis(1_000),
        why: "a witness needs a second",
        score: Score { outcome, first: firm, firm, before: vec!["primary-down?".to_owned()] },
        story: "0.10 s primary-down".to_owned(),
        because: vec!["by hand: network-cut".to_owned()],
        healing: Vec::new(),
    }
}

fn figures(records: Vec<Record>) -> Figures {
    Figures {
        command: "lab faults --seed 1".to_owned(),
        day: "2026-11-25".to_owned(),
        versions: vec![(Kind::Redis70, "7.0.15".to_owned()), (Kind::Valkey91, "9.1.2".to_owned())],
        load: "0.5".to_owned(),
        took: Duration::from_secs(60),
        records,
        absent: vec![Absent { fault: "b".to_owned(), kind: Kind::Valkey91, why: "built without TLS".to_owned() }],
        quiet: Vec::new(),
        looks: None,
    }
}

#[test]
fn a_cell_tells_how_often_and_what_was_said_instead() {
    let wrong = Outcome::Wrong("primary-down".to_owned());
    let text = markdown(&figures(vec![
        record(0, "a", Kind::Redis70, Outcome::Right, Some(1_200)),
        record(0, "a", Kind::Redis70, wrong, None),
        record(0, "a", Kind::Valkey91, Outcome::Right, Some(2_500)),
        record(1, "b", Kind::Redis70, Outcome::Missing("nothing".to_owned()), None),
    ]));
    assert!(text.contains("**2 of 4 right (50.0 %)**, 1 wrong, 1 missing, 0 not made, 1 cells"), "{text}");
    assert!(text.contains("| a | 1/2: **primary-down** | 1/1 |"), "{text}");
    assert!(text.contains("| b | 0/1: **missing, nothing** | n/a: built without TLS |"), "{text}");
    assert!(
        text.contains("| a | 2 | 1.20 · 2.50 · 2.50 | 1.20 · 2.50 · 2.50 | 1.0 | **1.50** | primary-down? |"),
        "{text}"
    );
    assert!(
        text.contains("- **a** on Redis 7.0, round 1: on record: primary-down\n  - 0.10 s primary-down\n"),
        "{text}"
    );
}

#[test]
fn one_wrong_verdict_or_one_false_incident_is_too_many() {
    let right = || record(0, "a", Kind::Redis70, Outcome::Right, Some(10));
    assert!(figures(vec![right()]).is_right());
    assert!(!figures(vec![right(), record(1, "b", Kind::Redis70, Outcome::Wrong("x".to_owned()), None)]).is_right());
    let mut healed = right();
    healed.healing.push("auth-latent".to_owned());
    assert!(!figures(vec![healed]).is_right());
    let mut quiet = figures(vec![right()]);
    let span = Duration::from_secs(60);
    quiet.quiet.push(Quiet { kind: Kind::Redis70, span, incidents: Vec::new(), glimpses: None, writes: 9 });
    assert!(quiet.is_right() && markdown(&quiet).contains("**0 false incidents**"));
    quiet.quiet[0].incidents.push("quorum-lost at noon".to_owned());
    assert!(!quiet.is_right());
}
