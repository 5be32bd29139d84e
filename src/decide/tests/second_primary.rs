//! A former primary that came back writable: pointed at its successor, where nothing is lost by it.

use super::*;

fn returned() -> Case {
    Case::of(second_primary())
}

#[test]
fn one_without_writes_of_its_own_is_pointed_at_its_successor() {
    let case = returned();
    assert!(matches!(case.decide(), Decision::Apply(_)), "{:?}", case.decide());
    let plan = case.plan();
    assert_eq!(plan.steps[0].change, Change::Repoint { to: at(OTHER), discards: 0 });
    let expected = Precondition {
        run_id: Some("run-replica".into()),
        leads_up_to: Some(5_000),
        not_syncing: true,
        sentinels_name: Some(at(OTHER)),
        no_failover: true,
        is_primary: Some(at(OTHER)),
        ..Precondition::default()
    };
    assert_eq!(plan.steps[0].expect, expected, "one more write, and it does not happen");
}

#[test]
fn one_with_writes_of_its_own_is_proposed_whatever_the_mode() {
    for mode in [Mode::Auto, Mode::Propose] {
        let mut case = returned().mode(mode);
        case.e.server().repl_offset = 5_700;
        let Decision::Propose(plan) = case.decide() else { panic!("{:?}", case.decide()) };
        assert_eq!(plan.steps[0].change, Change::Repoint { to: at(OTHER), discards: 1_024 });
        assert_eq!(plan.steps[0].expect.leads_up_to, Some(6_024), "as far as it was said");
        let refusal = why_ask(&plan);
        assert_eq!(refusal.code, RefusalCode::DataAtRisk);
        assert!(refusal.detail.contains("discards up to 1024 bytes"), "{}", refusal.detail);
        // A few more writes do not make it another plan; many do.
        case.e.server().repl_offset = 6_000;
        assert_eq!(case.plan().steps, plan.steps);
        case.e.server().repl_offset = 6_100;
        assert_ne!(case.plan().steps, plan.steps);
    }
    let mut observed = returned().mode(Mode::Observe);
    observed.e.server().repl_offset = 5_700;
    observed.holds(RefusalCode::ObserveOnly);
}

#[test]
fn holds_while_what_it_costs_cannot_be_told() {
    holds_while(returned(), RefusalCode::DataAtRisk, |case| case.e.server().backlog_active = false);
    holds_while(returned(), RefusalCode::EvidenceMissing, |case| {
        case.e.server().replid = "stranger".into();
        case.e.trend.astray_since = Some(case.now.before(Duration::from_secs(60)));
    });
}

#[test]
fn holds_while_sentinel_may_still_demote_it() {
    let young = |case: &mut Case| _ = case.e.each_sentinel(|says| says.role_reported_ms = 9_000);
    holds_while(returned(), RefusalCode::SentinelActing, young);
    let remembered = |case: &mut Case| case.e.trend.failover_seen = Some(case.e.ended.before(Duration::from_secs(9)));
    holds_while(returned(), RefusalCode::SentinelActing, remembered);
    let running = |case: &mut Case| _ = case.e.sentinel(0).flags.insert("failover_in_progress".into());
    holds_while(returned(), RefusalCode::FailoverRunning, running);
}

#[test]
fn holds_while_a_sentinel_says_otherwise_or_the_target_does_not_prove_itself() {
    holds_while(returned(), RefusalCode::SentinelsDisagree, |case| case.e.sentinel(2).primary = at(REPLICA));
    holds_while(returned(), RefusalCode::LatentAuthMismatch, |case| {
        case.e.named = Reading::Seen(Probe { auth: error("WRONGPASS no"), psync: Answer::NotAsked, ..green(OTHER) });
    });
    holds_while(returned(), RefusalCode::TargetNotPrimary, |case| {
        let role = PeerRole::Replica { of: at(REPLICA), state: LinkState::Connected };
        case.e.named = Reading::Seen(Probe { role: Reading::Seen(role), ..green(OTHER) });
    });
    holds_while(returned(), RefusalCode::DataAtRisk, |case| {
        case.e.each_sentinel(|says| seen(&mut says.nodes).get_mut(OTHER).unwrap().keys = 0);
    });
}
