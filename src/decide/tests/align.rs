//! How `align` reads an instance's login beside the store's.

use super::*;
use crate::decide::{Alignment, alignment};

fn offers(offers: Vec<CandidateView>) -> crate::model::evidence::Evidence {
    let mut case = stale_password();
    case.e.candidates = offers;
    case.e
}

fn held(alignment: Alignment<'_>) -> (RefusalCode, String) {
    match alignment {
        Alignment::Held(held) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_newest_in_use_and_accepted_is_aligned() {
    let e = offers(vec![CandidateView { in_use: true, ..candidate(green(PRIMARY)) }]);
    assert!(matches!(alignment(&e), Alignment::Aligned(_)));
}

#[test]
fn a_value_that_the_primary_takes_and_the_instance_does_not_hold_is_to_be_set() {
    let e = offers(vec![candidate(green(PRIMARY)), CandidateView { in_use: true, ..candidate(green(PRIMARY)) }]);
    let Alignment::Stale(to) = alignment(&e) else { panic!() };
    assert!(!to.in_use, "both work, the newest is wanted");
}

#[test]
fn a_store_ahead_of_the_primary_is_told_and_left() {
    let e = offers(vec![
        candidate(rejected_proof()),
        CandidateView { in_use: true, version: "before".into(), ..candidate(green(PRIMARY)) },
    ]);
    let (code, detail) = held(alignment(&e));
    assert_eq!(code, RefusalCode::SecretRejected);
    assert!(detail.contains("ahead of the primary") && detail.contains("2026-11-23"), "{detail}");
}

#[test]
fn the_former_value_is_set_where_only_that_one_works() {
    let e = offers(vec![
        candidate(rejected_proof()),
        CandidateView { print: "print-former".into(), ..candidate(green(PRIMARY)) },
    ]);
    let Alignment::Stale(to) = alignment(&e) else { panic!() };
    assert_eq!(to.print, "print-former");
}

#[test]
fn a_held_value_that_the_primary_refuses_is_not_aligned() {
    let e = offers(vec![CandidateView { in_use: true, ..candidate(rejected_proof()) }]);
    let (code, detail) = held(alignment(&e));
    assert_eq!(code, RefusalCode::SecretRejected);
    assert!(detail.contains("the store looks older"), "{detail}");
}

/// On the host of a primary the replicas that may be promoted are the judges.
#[test]
fn a_primarys_own_login_is_proved_at_the_replicas_that_may_be_promoted() {
    let primary = |offers: Vec<CandidateView>| {
        let mut case = stale_password();
        case.e.server().role = Role::Primary;
        case.e.candidates = offers;
        case.e
    };
    let taken = || candidate(Probe { psync: Answer::NotAsked, ..green(OTHER) });
    assert!(matches!(alignment(&primary(vec![CandidateView { in_use: true, ..taken() }])), Alignment::Aligned(_)));
    assert!(matches!(alignment(&primary(vec![taken()])), Alignment::Stale(_)));
    let refused = candidate(Probe { auth: error("WRONGPASS invalid"), ..blank(OTHER) });
    assert_eq!(held(alignment(&primary(vec![refused]))).0, RefusalCode::SecretRejected);
    let (code, detail) = held(alignment(&primary(Vec::new())));
    assert_eq!(code, RefusalCode::EvidenceMissing);
    assert!(detail.contains("no replica that may be promoted"), "{detail}");
}
