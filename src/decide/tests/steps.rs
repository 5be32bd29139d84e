//! What a person is told to run.

use super::*;

fn firm(cause: Cause) -> Finding {
    Finding {
        cause,
        suspected: false,
        link_up: false,
        unrefused: false,
        flaps: None,
        because: vec![],
        rejected: BTreeMap::new(),
    }
}

#[test]
fn every_cause_without_a_remedy_says_why() {
    for cause in Cause::ALL {
        let finding = firm(*cause);
        let Case { mut e, policy, history, now, .. } = dead_primary();
        e.local = Reading::Missing(Missing::TimedOut);
        let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
        let decision = decide(&context);
        assert!(!next_steps(&context, &decision).is_empty(), "{cause}");
        if let Decision::Hold(refusal) = decision {
            assert!(!refusal.detail.is_empty(), "{cause}");
        }
    }
}

#[test]
fn a_limit_that_is_advised_is_more_than_there_is() {
    let advised = |hard: u64, soft: u64, grown: Option<u64>| {
        let mut e = healthy();
        e.break_link(LinkState::Sync);
        (e.limits().output_hard, e.limits().output_soft, e.trend.grown) = (hard, soft, grown);
        let Case { policy, history, now, .. } = dead_primary();
        let finding = firm(Cause::OutputBufferExceeded);
        let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
        let steps = next_steps(&context, &decide(&context));
        let (_, from) = steps[0].split_once("'replica ").expect("a limit");
        from.split_once('\'').expect("its end").0.to_owned()
    };
    assert_eq!(advised(256 << 20, 64 << 20, None), "1gb 512mb 60");
    assert_eq!(advised(4 << 30, 2 << 30, None), "8gb 4gb 60");
    assert_eq!(advised(4 << 30, 2 << 30, Some(5 << 30)), "32gb 16gb 60");
    assert_eq!(advised(4 << 30, 0, None), "8gb 0 60", "a limit that is not there stays away");
    assert_eq!(advised(0, 2 << 30, None), "0 2gb 60");
}

/// What a person would run for each cause, with Sentinels and without.
fn every_step() -> Vec<(Cause, bool, String)> {
    let mut all = Vec::new();
    for (cause, alone) in Cause::ALL.iter().flat_map(|cause| [(*cause, false), (*cause, true)]) {
        let finding = firm(cause);
        let mut e = healthy();
        e.break_link(LinkState::Connect);
        if alone {
            e.alone();
        }
        let Case { policy, history, now, .. } = dead_primary();
        let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
        let steps = next_steps(&context, &decide(&context));
        all.extend(steps.into_iter().map(|step| (cause, alone, step)));
    }
    all
}

#[test]
fn no_step_empties_a_password_or_asks_a_sentinel_that_is_not_there() {
    let all = every_step();
    let reads = |step: &str| step.contains("cat PWFILE");
    assert!(all.iter().filter(|(_, _, step)| reads(step)).count() > 8);
    for (cause, alone, step) in &all {
        assert!(!reads(step) || step.starts_with("grep -q . PWFILE && "), "{cause}: {step}");
        assert!(!alone || !["SENTINEL ", "26379", "MASTER"].iter().any(|word| step.contains(word)), "{cause}: {step}");
    }
}

#[test]
fn what_is_to_last_is_kept_where_there_is_a_file_to_keep_it_in() {
    let mut e = healthy();
    e.break_link(LinkState::Connect);
    e.link().primary = at(OTHER);
    let steps = |e: &Evidence, cause| {
        let finding = firm(cause);
        let Case { policy, history, now, .. } = dead_primary();
        let context = Context { evidence: e, finding: &finding, policy: &policy, history: &history, now };
        next_steps(&context, &decide(&context))
    };
    let keeps = |steps: &[String]| steps.iter().any(|step| step.contains("CONFIG REWRITE   #"));
    for (file, kept) in [("/etc/redis/redis.conf", true), ("", false)] {
        let Reading::Seen(view) = &mut e.local else { panic!("a view") };
        view.config_file = file.into();
        for cause in [Cause::AuthMissing, Cause::WrongPrimary, Cause::UpstreamBroken] {
            assert_eq!(keeps(&steps(&e, cause)), kept, "{cause}, {file:?}");
        }
    }
}

#[test]
fn nobody_is_told_to_make_a_server_follow_itself() {
    let mut e = healthy();
    e.break_link(LinkState::Connect);
    let (Some((named, _)), finding) = (e.named_primary(), firm(Cause::SelfReplication)) else { panic!("a majority") };
    e.address = crate::model::Address::Tcp(named.clone());
    let Case { policy, history, now, .. } = dead_primary();
    let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
    let steps = next_steps(&context, &decide(&context));
    assert!(steps.len() > 1 && !steps.iter().any(|step| step.contains("REPLICAOF")), "{steps:#?}");
    // Configured by its loopback address, and known by its run id.
    let mut same = healthy();
    same.break_link(LinkState::Connect);
    let run_id = same.server().run_id.clone();
    same.each_sentinel(|says| says.primary_run_id = run_id.clone());
    let steps = steps_of(&same, Cause::SelfReplication);
    assert!(!steps.iter().any(|step| step.contains("REPLICAOF")), "{steps:#?}");
}

/// Promoted with that in its file it would take no write.
#[test]
fn what_stops_the_writers_of_a_second_primary_is_not_kept() {
    let mut e = healthy();
    e.server().role = Role::Primary;
    let steps = steps_of(&e, Cause::WrongPrimary);
    let at = |what: &str| steps.iter().position(|step| step.contains(what));
    let (set, back) = (at("min-replicas-to-write 1000"), at("min-replicas-to-write N"));
    assert!(set.is_some() && set < back, "{steps:#?}");
    assert!(!steps.iter().any(|step| step.contains("-cli") && step.contains(" CONFIG REWRITE   #")), "{steps:#?}");
}

#[test]
fn where_replication_speaks_tls_so_do_the_steps_at_the_primary() {
    for cause in
        [Cause::AuthRejected, Cause::SentinelAuthRejected, Cause::PrimarySaveFailing, Cause::ConnectionsExhausted]
    {
        let mut e = healthy();
        e.break_link(LinkState::Connect);
        let Reading::Seen(settings) = &mut e.settings else { panic!("settings") };
        settings.tls_replication = true;
        let steps = steps_of(&e, cause);
        let elsewhere = |step: &&String| step.contains("-cli -h 10.0.0.20 ");
        let bare: Vec<_> = steps.iter().filter(elsewhere).filter(|step| !step.contains(" --tls ")).collect();
        assert!(bare.is_empty() && steps.iter().any(|step| step.contains(" --tls ")), "{cause}: {steps:#?}");
    }
}

fn steps_of(e: &Evidence, cause: Cause) -> Vec<String> {
    let Case { policy, history, now, .. } = dead_primary();
    let finding = firm(cause);
    let context = Context { evidence: e, finding: &finding, policy: &policy, history: &history, now };
    next_steps(&context, &decide(&context))
}

#[test]
fn a_timeout_that_is_advised_is_never_below_the_present_one() {
    for (here, there, advised) in [(60, 60, 120), (300, 60, 600), (60, 900, 1800)] {
        let mut e = healthy();
        e.break_link(LinkState::Sync);
        e.limits().repl_timeout_s = there;
        let Reading::Seen(settings) = &mut e.settings else { panic!("settings") };
        settings.repl_timeout_s = here;
        let finding = firm(Cause::SyncTimeout);
        let Case { policy, history, now, .. } = dead_primary();
        let context = Context { evidence: &e, finding: &finding, policy: &policy, history: &history, now };
        let steps = next_steps(&context, &decide(&context));
        let set = format!("CONFIG SET repl-timeout {advised} ");
        assert_eq!(steps.iter().filter(|step| step.contains(&set)).count(), 2, "{steps:#?}");
    }
}
