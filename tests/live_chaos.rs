//! Two rounds of the lab's chaos, so that it cannot rot: `make chaos` plays hundreds.

use lab::Kind;
use lab::chaos::{Chaos, run};

#[test]
fn in_random_trouble_nothing_wrong_is_done() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    if lab::require_namespaces().is_none() {
        return;
    }
    let chaos =
        Chaos { relinkd: env!("CARGO_BIN_EXE_relinkd").into(), kind, rounds: 2, seed: 2780, only: None, jobs: 2 };
    let verdict = run(&chaos, &|line| eprintln!("{line}"));
    assert!(verdict.good, "{verdict}");
}
