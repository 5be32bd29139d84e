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
        score: Score { outcome, first: firm, firm, before: vec!["primary-down?".to_owned()], beside: Vec::new() },
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
fn what_was_on_record_beside_the_cause_is_counted_and_named() {
    let mut one = record(0, "a", Kind::Redis70, Outcome::Right, Some(10));
    one.score.beside = vec!["sync-running".to_owned()];
    let text = markdown(&figures(vec![one, record(0, "a", Kind::Redis70, Outcome::Right, Some(10))]));
    assert!(text.contains("| a | 2/2 +1 | – |") && text.contains("| a | 1 of 2 | sync-running |"), "{text}");
    assert!(text.contains("\n1 of the right ones had no other firm verdict"), "{text}");
}

#[test]
fn a_verdict_that_its_evidence_does_not_explain_is_listed_with_its_story() {
    let text = markdown(&figures(vec![
        record(0, "a", Kind::Redis70, Outcome::Right, Some(1_900)),
        record(0, "a", Kind::Valkey91, Outcome::Right, Some(2_500)),
    ]));
    assert!(text.contains("1 of 2 firm verdicts came within a second"), "{text}");
    let listed =
        "- **a** on Valkey 9.1, round 1: 1.50 s after 1.0 s (a witness needs a second)\n  - 0.10 s primary-down";
    assert!(text.contains(listed) && !text.contains("**a** on Redis 7.0"), "{text}");
}

#[test]
fn what_a_person_wrote_above_a_report_stays() {
    let first = below_mark(None, "one").expect("no file");
    assert!(first.starts_with("# Faults") && first.ends_with("one"));
    let written = first.replace("# Faults, and what relinkd said\n", "# Faults\n\nAs seen.\n");
    let second = below_mark(Some(&written), "two").expect("a mark");
    assert!(second.starts_with("# Faults\n\nAs seen.\n") && second.ends_with("two") && !second.contains("one"));
    assert_eq!(below_mark(Some("# A letter\n"), "three"), None, "it is no report, and stays as it is");
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
