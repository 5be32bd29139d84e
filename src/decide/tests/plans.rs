//! What each remedy does, step by step, and what only it holds for.

use super::*;

fn changes(plan: &Plan) -> Vec<&'static str> {
    let name = |change: &Change| match change {
        Change::RealignAuth { .. } => "realign",
        Change::PresetAuth { .. } => "preset",
        Change::RestoreAuth { .. } => "restore",
        Change::BounceLink { .. } => "bounce",
        Change::Repoint { .. } => "repoint",
        Change::RequestFailover { .. } => "failover",
        Change::ProveLink => "prove",
        Change::Persist => "persist",
    };
    plan.steps.iter().map(|step| name(&step.change)).collect()
}

#[test]
fn a_password_is_set_proved_and_then_persisted_and_can_be_taken_back() {
    let plan = stale_password().plan();
    assert_eq!(changes(&plan), ["realign", "prove", "persist"]);
    let expect = Precondition {
        run_id: Some("run-replica".into()),
        replica_of: Some(at(PRIMARY)),
        link_down: true,
        not_syncing: true,
        sentinels_name: Some(at(PRIMARY)),
        no_failover: true,
        ..Precondition::default()
    };
    assert_eq!(plan.steps[0].expect, expect);
    let change = Change::RealignAuth {
        source: "file:/etc/relinkd/masterauth".into(),
        version: "2026-11-23".into(),
        print: "print-new".into(),
        user: String::new(),
        bounce_to: at(PRIMARY),
    };
    assert_eq!(plan.steps[0].change, change);
    assert_eq!(plan.undo.len(), 1);
    assert_eq!(plan.undo[0].change, Change::RestoreAuth { bounce_to: at(PRIMARY) });
    assert_eq!(plan.undo[0].expect, expect, "an undo is a change like others");
}

#[test]
fn a_transfer_that_was_let_in_before_is_not_cut_for_a_password() {
    let with_link = |syncing: bool, sync_read: u64| {
        let mut case = stale_password();
        let link = case.e.link();
        (link.state, link.syncing, link.sync_read, link.sync_total) = (LinkState::Sync, syncing, sync_read, 9_000_000);
        case.plan()
    };
    let plan = with_link(true, 4_096);
    assert_eq!(changes(&plan), ["preset", "persist"]);
    let expect = &plan.steps[0].expect;
    assert!(!expect.link_down && !expect.not_syncing && expect.no_failover, "{expect:?}");
    assert_eq!(changes(&with_link(true, 0)), ["realign", "prove", "persist"], "a hot loop flickers through sync");
}

#[test]
fn persist_runtime_leaves_the_config_file_alone() {
    let mut case = stale_password();
    case.policy.persist = Persist::Runtime;
    assert_eq!(changes(&case.plan()), ["realign", "prove"]);
    let mut case = astray();
    case.policy.persist = Persist::Runtime;
    assert_eq!(changes(&case.plan()), ["repoint", "prove"]);
}

#[test]
fn the_first_password_that_works_is_taken() {
    let mut case = stale_password();
    case.e.candidates = vec![
        CandidateView { print: "print-previous".into(), ..candidate(rejected_proof()) },
        candidate(green(PRIMARY)),
        CandidateView { print: "print-third".into(), ..candidate(green(PRIMARY)) },
    ];
    let Change::RealignAuth { print, .. } = &case.plan().steps[0].change else { panic!() };
    assert_eq!(print, "print-new");
}

#[test]
fn holds_while_the_store_has_no_password_to_offer() {
    let told = |store: Reading<StoreView>| {
        holds_while(stale_password(), RefusalCode::SecretUnavailable, |case| {
            case.e.candidates.clear();
            case.e.store = store;
        })
    };
    assert!(told(Reading::Missing(Missing::NotAsked)).contains("no masterauth is configured"));
    assert!(told(Reading::Missing(Missing::Refused("no such file".into()))).contains("no such file"));
    assert!(
        told(Reading::Seen(StoreView { at: T0, source: "env:X".into(), offered: 0, silent_ms: None }))
            .contains("env:X")
    );
}

#[test]
fn what_a_store_said_before_the_fault_is_told_and_not_set_while_it_does_not_answer() {
    let before = |offer: CandidateView| {
        move |case: &mut Case| {
            let at = case.history.fault_since.unwrap_or(case.now).before(Duration::from_secs(20));
            case.e.store =
                Reading::Seen(StoreView { at, source: "vault:kv/redis".into(), offered: 1, silent_ms: Some(900) });
            case.e.candidates = vec![offer];
        }
    };
    let told = |offer| holds_while(stale_password(), RefusalCode::EvidenceMissing, before(offer));
    let good = told(candidate(green(PRIMARY)));
    assert!(good.contains("vault:kv/redis has not answered for 900 ms") && good.contains("takes it"), "{good}");
    assert!(good.contains(" ago: "), "{good}");
    let bad = told(candidate(rejected_proof()));
    assert!(bad.contains("has not answered") && bad.contains("is stale"), "{bad}");
    holds_while(stale_password(), RefusalCode::EvidenceMissing, |case| {
        case.e.candidates.clear();
        case.e.store = Reading::Missing(Missing::TimedOut);
    });
    // What it has said since is good enough to be asked for once more, by the hands.
    let mut case = stale_password();
    before(candidate(green(PRIMARY)))(&mut case);
    case.history.fault_since = Some(T0.before(Duration::from_secs(3600)));
    case.plan();
}

#[test]
fn holds_while_the_primary_takes_no_candidate_and_says_which_side_looks_stale() {
    let told = |offer: CandidateView| {
        holds_while(stale_password(), RefusalCode::SecretRejected, |case| case.e.candidates = vec![offer])
    };
    let other = told(candidate(rejected_proof()));
    assert!(other.contains("the store or the primary is stale"), "{other}");
    let same = told(CandidateView { in_use: true, ..candidate(rejected_proof()) });
    assert!(same.contains("the store looks older"), "{same}");
    let powerless = told(candidate(Probe { psync: error("NOPERM no psync"), ..green(PRIMARY) }));
    assert!(powerless.contains("may not replicate") && powerless.contains("NOPERM"), "{powerless}");
}

#[test]
fn a_primary_that_cannot_save_takes_a_password_all_the_same() {
    let mut failing = stale_password();
    failing.e.candidates =
        vec![candidate(Probe { ping_again: error("MISCONF Redis is configured"), ..green(PRIMARY) })];
    failing.plan();
}

#[test]
fn a_password_that_could_not_be_tried_is_not_a_rejected_one() {
    for proof in [
        Probe { connect: Connect::TimedOut, ..blank(PRIMARY) },
        Probe { ping: error("ERR max number of clients reached"), ..blank(PRIMARY) },
        Probe { auth: Answer::TimedOut, ..blank(PRIMARY) },
        Probe { auth: Answer::Closed, ..blank(PRIMARY) },
    ] {
        holds_while(stale_password(), RefusalCode::EvidenceMissing, |case| case.e.candidates = vec![candidate(proof)]);
    }
}

#[test]
fn holds_while_the_password_was_proved_at_no_primary_or_elsewhere() {
    let role = Reading::Seen(PeerRole::Replica { of: at(OTHER), state: LinkState::Connected });
    holds_while(stale_password(), RefusalCode::TargetNotPrimary, |case| {
        case.e.candidates = vec![candidate(Probe { role, ..green(PRIMARY) })];
    });
    holds_while(stale_password(), RefusalCode::TargetNotPrimary, |case| {
        case.e.candidates = vec![candidate(green(OTHER))];
    });
    let mut chained = stale_password();
    let role = Reading::Seen(PeerRole::Replica { of: at(OTHER), state: LinkState::Connected });
    chained.e.candidates = vec![candidate(Probe { role, ..green(PRIMARY) })];
    chained.e.alone();
    chained.plan();
    let mut silent = stale_password();
    silent.e.candidates[0].proof.role = Reading::Missing(Missing::Denied("NOPERM role".into()));
    silent.plan();
}

#[test]
fn holds_a_password_while_the_old_one_could_not_be_put_back() {
    let wrong = "Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair or user is disabled.";
    let told = holds_while(stale_password(), RefusalCode::PermissionDenied, |case| {
        case.e.upstream = Reading::Seen(Probe { ping: error("NOAUTH"), ..blank(PRIMARY) });
        case.e.log(LogKind::AuthFailed, wrong, 3);
        case.e.settings = Reading::Missing(Missing::Denied("NOPERM config|get".into()));
    });
    assert!(told.contains("+config|get"), "{told}");
    holds_while(stale_password(), RefusalCode::EvidenceMissing, |case| {
        case.e.settings = Reading::Missing(Missing::TimedOut);
    });
}

#[test]
fn a_bounce_is_one_change_and_its_proof() {
    let plan = healed_cut().plan();
    assert_eq!(changes(&plan), ["bounce", "prove"]);
    assert!(plan.undo.is_empty());
    let expect = &plan.steps[0].expect;
    assert!(expect.link_down && expect.not_syncing && expect.no_failover);
    assert_eq!(expect.replica_of, Some(at(PRIMARY)));
}

#[test]
fn holds_a_bounce_while_a_data_set_is_on_its_way() {
    // Only a verdict from before can meet this: the rules name a running sync first.
    let case = healed_cut();
    let Diagnosis::Broken(finding) = diagnose(&case.e) else { panic!() };
    let bends: [fn(&mut Evidence); 3] =
        [|e| e.link().syncing = true, |e| e.link().state = LinkState::Sync, |e| e.server().loading = true];
    for bend in bends {
        let mut moved = case.e.clone();
        bend(&mut moved);
        let Case { policy, history, now, .. } = &case;
        let context = Context { evidence: &moved, finding: &finding, policy, history, now: *now };
        assert_eq!(guards::check(Remedy::BounceLink, &context).unwrap_err().0, RefusalCode::SyncRunning);
    }
}

#[test]
fn a_cut_that_lasts_is_not_bounced() {
    let mut case = healed_cut();
    case.e.upstream = Reading::Seen(Probe { connect: Connect::TimedOut, ..blank(PRIMARY) });
    case.e.stood(Duration::from_secs(60));
    case.holds(RefusalCode::NoSafeRemedy);
}

#[test]
fn a_replica_is_pointed_where_the_sentinels_say_after_the_target_proves_itself() {
    let plan = astray().plan();
    assert_eq!(changes(&plan), ["repoint", "prove", "persist"]);
    let expect = &plan.steps[0].expect;
    assert_eq!(expect.is_primary, Some(at(OTHER)));
    assert_eq!(expect.sentinels_name, Some(at(OTHER)));
    assert_eq!(expect.replica_of, Some(at(PRIMARY)), "the address that it follows now");
    assert!(!expect.link_down, "the link to the wrong address may be up");
    assert!(expect.not_syncing && expect.no_failover);
    assert_eq!(plan.steps[0].change, Change::Repoint { to: at(OTHER), discards: 0 });
    assert!(plan.undo.is_empty(), "never back to an address that no Sentinel names");
}

#[test]
fn a_replica_of_itself_is_pointed_away_only_where_sentinels_name_another() {
    let mut case = astray();
    case.e.break_link(LinkState::Connect);
    case.e.link().primary = at(REPLICA);
    assert_eq!(case.plan().remedy, Remedy::Repoint);
    case.e.alone();
    case.holds(RefusalCode::NoSafeRemedy);
}

#[test]
fn holds_a_repoint_while_the_target_is_not_proved_a_primary() {
    let role = |role: Reading<PeerRole>, code: RefusalCode| {
        holds_while(astray(), code, |case| case.e.named = Reading::Seen(Probe { role, ..green(OTHER) }));
    };
    let replica = PeerRole::Replica { of: at(PRIMARY), state: LinkState::Connected };
    role(Reading::Seen(replica), RefusalCode::TargetNotPrimary);
    role(Reading::Seen(PeerRole::Sentinel), RefusalCode::TargetNotPrimary);
    role(Reading::Missing(Missing::Denied("NOPERM".into())), RefusalCode::EvidenceMissing);
    holds_while(astray(), RefusalCode::EvidenceMissing, |case| case.e.named = Reading::Missing(Missing::TimedOut));
}

#[test]
fn holds_a_repoint_while_the_target_does_not_take_this_replica() {
    let psync = |psync: Answer, code: RefusalCode| {
        holds_while(astray(), code, |case| case.e.named = Reading::Seen(Probe { psync, ..green(OTHER) }));
    };
    psync(error("NOPERM no psync"), RefusalCode::LatentAuthMismatch);
    psync(Answer::NotAsked, RefusalCode::EvidenceMissing);
}

fn target(case: &mut Case, bend: impl Fn(&mut CachedNode)) {
    case.e.each_sentinel(|says| {
        let Reading::Seen(nodes) = &mut says.nodes else { panic!() };
        bend(nodes.get_mut(OTHER).unwrap());
    });
}

#[test]
fn holds_a_repoint_while_data_would_be_lost_or_that_is_not_known() {
    let holds = |code: RefusalCode, bend: &dyn Fn(&mut CachedNode)| {
        holds_while(astray(), code, |case| target(case, bend));
    };
    holds(RefusalCode::DataAtRisk, &|node| node.keys = 0);
    holds(RefusalCode::DataAtRisk, &|node| node.version = "8.2.0".into());
    holds(RefusalCode::DataAtRisk, &|node| (node.flavour, node.version) = (Flavour::Valkey, "9.0.0".into()));
    holds(RefusalCode::EvidenceStale, &|node| node.age_ms = 20_000);
    holds_while(astray(), RefusalCode::EvidenceMissing, |case| {
        case.e.each_sentinel(|says| says.nodes = Reading::Missing(Missing::Denied("NOPERM".into())));
    });
    let mut nothing_to_lose = astray();
    nothing_to_lose.e.server().keys = 0;
    target(&mut nothing_to_lose, |node| node.keys = 0);
    nothing_to_lose.plan();
}

#[test]
fn holds_a_repoint_while_a_data_set_is_being_loaded() {
    holds_while(astray(), RefusalCode::SyncRunning, |case| case.e.link().syncing = true);
}

#[test]
fn no_plan_in_words_names_a_fingerprint() {
    for (remedy, case) in each() {
        let told = in_words(&case.plan());
        assert!(!told.contains("print-new"), "{remedy}: {told}");
    }
}
