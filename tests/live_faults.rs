//! The matrix of faults at its smallest: that it injects, watches, judges and reports. The matrix itself is `make faults`.

use std::path::PathBuf;
use std::time::Duration;

use lab::faults::{self, Faults};
use lab::{Kind, require};

#[test]
fn a_small_matrix_is_right_and_says_so_redis_70() {
    let Some(kind) = require(Kind::Redis70) else { return };
    let captures = std::env::temp_dir().join(format!("relinkd-captures-{}", std::process::id()));
    let small = Faults {
        relinkd: PathBuf::from(env!("CARGO_BIN_EXE_relinkd")),
        kinds: vec![kind],
        causes: vec!["auth-missing".to_owned(), "replica-down".to_owned()],
        rounds: 1,
        seed: 7,
        jobs: 2,
        quiet: Duration::ZERO,
        out: None,
        captures: Some(captures.clone()),
    };
    let (mut progress, mut report) = (Vec::new(), Vec::new());
    let right = faults::run(&small, &mut progress, &mut report).expect("the matrix runs");
    let report = String::from_utf8(report).expect("text");
    assert!(right && report.contains("**2 of 2 right"), "{report}");
    assert!(report.contains("| replica-down: killed | 1/1 |"), "{report}");
    assert_eq!(String::from_utf8_lossy(&progress).lines().count(), 2);
    let kept = captures.join("auth-missing/masterauth-emptied-redis-7.0/evidence.json");
    let evidence = std::fs::read_to_string(&kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
    assert!(evidence.contains("NOAUTH"), "{evidence}");
    std::fs::remove_dir_all(captures).expect("it was made above");
}

#[test]
fn a_cause_that_no_fault_leads_to_is_refused() {
    let none = Faults {
        relinkd: PathBuf::from(env!("CARGO_BIN_EXE_relinkd")),
        kinds: Vec::new(),
        causes: vec!["primary-don".to_owned()],
        rounds: 1,
        seed: 7,
        jobs: 1,
        quiet: Duration::ZERO,
        out: None,
        captures: None,
    };
    let refused = faults::run(&none, &mut Vec::new(), &mut Vec::new()).expect_err("no such cause");
    assert!(refused.to_string().contains("no fault leads to primary-don; there are: primary-down"), "{refused}");
}
