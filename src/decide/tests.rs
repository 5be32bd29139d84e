//! Every remedy's plan, and every reason to hold: given once, and lifted.

use std::time::Duration;

use super::*;
use crate::diagnose::diagnose;
use crate::diagnose::tests::world::*;
use crate::model::evidence::*;
use crate::model::finding::Diagnosis;
use crate::model::remedy::{Change, Precondition};

mod align;
mod failover;
mod living;
mod plans;
mod proof;
mod second_primary;
mod steps;
mod successors;
mod turns;

/// All that a decision looks at, whole: what a test does not bend speaks for acting.
struct Case {
    e: Evidence,
    suspected: Option<bool>,
    policy: Policy,
    history: History,
    now: Timestamp,
    /// How long the order of promotion has been what it is now.
    order_stood: Duration,
}

impl Case {
    fn of(evidence: Evidence) -> Case {
        let now = evidence.ended;
        let history = History { cause_since: Some(now.before(Duration::from_secs(60))), ..History::default() };
        let order_stood = Duration::from_secs(60);
        Case { e: evidence, suspected: None, policy: Policy::default(), history, now, order_stood }
    }

    fn decide(&self) -> Decision {
        let Diagnosis::Broken(mut finding) = diagnose(&self.e) else { panic!("{:?}", diagnose(&self.e)) };
        finding.suspected = self.suspected.unwrap_or(finding.suspected);
        let history = self.known_order();
        let Case { e, policy, now, .. } = self;
        decide(&Context { evidence: e, finding: &finding, policy, history: &history, now: *now })
    }

    fn known_order(&self) -> History {
        let since = self.now.before(self.order_stood);
        let seats = self.e.answering().filter_map(|(_, says)| Some((says.id.clone(), Seat::of(says, "run-replica")?)));
        History { seats: seats.map(|(id, seat)| (id, (seat, since))).collect(), ..self.history.clone() }
    }

    #[track_caller]
    fn holds(&self, code: RefusalCode) -> String {
        match self.decide() {
            Decision::Hold(refusal) => {
                assert_eq!(refusal.code, code, "{}", refusal.detail);
                assert!(!refusal.detail.is_empty());
                refusal.detail
            }
            other => panic!("it does not hold: {other:?}"),
        }
    }

    #[track_caller]
    fn plan(&self) -> Plan {
        match self.decide() {
            Decision::Apply(plan) | Decision::Propose(plan) => plan,
            Decision::Hold(refusal) => panic!("it holds: {refusal:?}"),
        }
    }

    fn mode(mut self, mode: Mode) -> Case {
        for remedy in self.policy.remedies.values_mut() {
            remedy.mode = mode;
        }
        self
    }

    fn ran(&mut self, remedy: Remedy, ended_ago: Duration) {
        let ended = self.now.before(ended_ago);
        self.history.runs.push(Run { remedy, began: ended.before(Duration::from_secs(1)), ended: Some(ended) });
    }
}

/// Bends a case that acts until it holds for `code`, and shows that it acted before.
#[track_caller]
fn holds_while(mut case: Case, code: RefusalCode, bend: impl FnOnce(&mut Case)) -> String {
    case.plan();
    bend(&mut case);
    case.holds(code)
}

fn candidate(proof: Probe) -> CandidateView {
    CandidateView {
        source: "file:/etc/relinkd/masterauth".into(),
        version: "2026-11-23".into(),
        user: String::new(),
        print: "print-new".into(),
        in_use: false,
        proof,
    }
}

fn rejected_proof() -> Probe {
    Probe { ping: error("NOAUTH Authentication required."), auth: error("WRONGPASS invalid"), ..blank(PRIMARY) }
}

/// A rejected password, and one in the store that the primary takes.
fn stale_password() -> Case {
    let mut e = healthy();
    e.reject_password();
    e.store =
        Reading::Seen(StoreView { at: T0, source: "file:/etc/relinkd/masterauth".into(), offered: 1, silent_ms: None });
    e.candidates = vec![candidate(green(PRIMARY))];
    Case::of(e)
}

/// A cut that is over while the replica still waits.
fn healed_cut() -> Case {
    let mut e = healthy();
    e.break_link(LinkState::Connecting).stood(Duration::from_secs(5));
    Case::of(e)
}

/// The Sentinels have long named another address than the replica follows.
fn astray() -> Case {
    let mut e = healthy();
    e.each_sentinel(|says| says.primary = at(OTHER));
    e.named = Reading::Seen(green(OTHER));
    Case::of(e)
}

/// [policy.request-failover] after, one stagger, and a little.
const SECOND_TURN_MS: u64 = 10_000 + turn::SMALLEST_STAGGER_MS + 1_000;

/// The primary is dead for half a minute, and no Sentinel has begun a failover.
fn dead_primary() -> Case {
    let mut e = healthy();
    e.refuse().told_down().stood(Duration::from_secs(30));
    // The replica is the second in the order of promotion, and has its turn.
    e.each_sentinel(|says| says.o_down_ms = Some(SECOND_TURN_MS));
    Case::of(e)
}

fn each() -> [(Remedy, Case); 4] {
    [
        (Remedy::RealignAuth, stale_password()),
        (Remedy::BounceLink, healed_cut()),
        (Remedy::Repoint, astray()),
        (Remedy::RequestFailover, dead_primary()),
    ]
}

#[test]
fn by_default_every_remedy_is_applied() {
    for (remedy, case) in each() {
        match case.decide() {
            Decision::Apply(plan) => assert_eq!(plan.remedy, remedy),
            other => panic!("{remedy}: {other:?}"),
        }
    }
}

#[test]
fn a_mode_decides_last_and_never_lifts_a_guard() {
    for (remedy, case) in each() {
        let case = case.mode(Mode::Propose);
        assert!(matches!(case.decide(), Decision::Propose(_)), "{remedy}");
    }
    for (remedy, case) in each() {
        let case = case.mode(Mode::Auto);
        assert!(matches!(case.decide(), Decision::Apply(_)), "{remedy}");
    }
    for (remedy, case) in each() {
        let told = case.mode(Mode::Observe).holds(RefusalCode::ObserveOnly);
        assert!(told.contains("it would "), "{remedy}: {told}");
    }
    for mode in [Mode::Auto, Mode::Propose, Mode::Observe] {
        let mut case = stale_password().mode(mode);
        case.history.stopping = true;
        case.holds(RefusalCode::Stopping);
    }
}

#[test]
fn holds_every_remedy_while_stopping() {
    for (_, case) in each() {
        holds_while(case, RefusalCode::Stopping, |case| case.history.stopping = true);
    }
}

#[test]
fn holds_every_remedy_while_the_ledger_cannot_be_written() {
    for (_, case) in each() {
        let told = holds_while(case, RefusalCode::LedgerUnwritable, |case| {
            case.history.ledger = LedgerHealth::Unwritable("disk full".into());
        });
        assert!(told.contains("disk full"));
    }
}

#[test]
fn holds_every_remedy_while_a_sentinel_is_in_tilt() {
    for (_, case) in each() {
        holds_while(case, RefusalCode::Tilt, |case| case.e.sentinel(2).tilt = Reading::Seen(true));
    }
}

#[test]
fn holds_every_remedy_while_the_look_is_old_or_from_before_the_last_change() {
    for (_, case) in each() {
        holds_while(case, RefusalCode::EvidenceStale, |case| {
            case.now = case.e.ended.after(Duration::from_millis(2_001))
        });
    }
    for (_, case) in each() {
        holds_while(case, RefusalCode::EvidenceStale, |case| {
            let ended = Some(case.e.began.after(Duration::from_millis(1)));
            case.history.runs.push(Run { remedy: Remedy::BounceLink, began: T0, ended });
        });
    }
    let mut same_instant = stale_password();
    same_instant.now = same_instant.e.ended.after(Duration::from_secs(2));
    same_instant.plan();
}

#[test]
fn holds_every_remedy_while_attempts_are_exhausted() {
    for (_, mut case) in each() {
        case.history.attempts = case.policy.max_attempts - 1;
        holds_while(case, RefusalCode::AttemptsExhausted, |case| case.history.attempts += 1);
    }
}

#[test]
fn holds_every_remedy_while_the_verdict_is_suspected() {
    for (_, case) in each() {
        holds_while(case, RefusalCode::TooEarly, |case| case.suspected = Some(true));
    }
}

#[test]
fn holds_every_remedy_until_the_cause_has_stood() {
    for (remedy, mut case) in each() {
        case.policy.remedies.entry(remedy).and_modify(|policy| policy.after = Duration::from_secs(20));
        case.history.cause_since = Some(case.now.before(Duration::from_secs(20)));
        case.e.each_sentinel(|says| says.o_down_ms = says.o_down_ms.map(|_| 29_000));
        holds_while(case, RefusalCode::TooEarly, |case| {
            case.history.cause_since = Some(case.now.before(Duration::from_millis(19_999)));
        });
    }
    let mut unknown = healed_cut();
    unknown.history.cause_since = None;
    unknown.holds(RefusalCode::TooEarly);
}

#[test]
fn holds_every_remedy_during_its_cooldown_and_only_its_own() {
    for (remedy, mut case) in each() {
        let rest = case.policy.of(remedy).cooldown;
        case.ran(remedy, rest);
        let other = if remedy == Remedy::BounceLink { Remedy::Repoint } else { Remedy::BounceLink };
        case.ran(other, Duration::from_millis(5));
        case.e.began = case.now;
        holds_while(case, RefusalCode::Cooldown, |case| case.ran(remedy, rest - Duration::from_millis(1)));
    }
}

#[test]
fn a_run_that_a_crash_cut_off_counts_for_the_cooldown() {
    holds_while(stale_password(), RefusalCode::Cooldown, |case| {
        let began = case.now.before(Duration::from_secs(9));
        case.history.runs.push(Run { remedy: Remedy::RealignAuth, began, ended: None });
    });
}

#[test]
fn holds_every_remedy_at_its_hourly_limit() {
    for (remedy, mut case) in each() {
        let policy = RemedyPolicy { max_per_hour: 3, cooldown: Duration::ZERO, ..case.policy.of(remedy) };
        case.policy.remedies.insert(remedy, policy);
        for minutes in [10, 20, 61] {
            case.ran(remedy, Duration::from_secs(minutes * 60));
        }
        holds_while(case, RefusalCode::Cooldown, |case| case.ran(remedy, Duration::from_secs(300)));
    }
}

#[test]
fn holds_every_remedy_while_a_failover_may_be_running() {
    for (remedy, case) in each() {
        // The rule names failover-running; what a verdict from before it could still do is held back too.
        let Diagnosis::Broken(finding) = diagnose(&case.e) else { panic!() };
        let mut moved = case;
        moved.e.sentinel(2).failover_state = Some("wait_start".into());
        let Case { e, policy, history, now, .. } = &moved;
        let decision = decide(&Context { evidence: e, finding: &finding, policy, history, now: *now });
        let Decision::Hold(refusal) = decision else { panic!("{remedy}: {decision:?}") };
        assert_eq!((refusal.code, refusal.remedy), (RefusalCode::FailoverRunning, Some(remedy)));
    }
}

#[test]
fn holds_a_change_to_the_link_while_too_few_sentinels_answer() {
    for case in [stale_password(), healed_cut()] {
        holds_while(case, RefusalCode::QuorumUnclear, |case| _ = case.e.silence(0).silence(1));
    }
    let mut two = stale_password();
    two.e.silence(0);
    two.plan();
}

#[test]
fn holds_while_sentinels_have_long_disagreed_without_a_majority() {
    holds_while(stale_password(), RefusalCode::SentinelsDisagree, |case| {
        case.e.silence(0);
        let other = case.e.sentinel(1);
        (other.primary, other.primary_run_id) = (at(OTHER), "run-other".into());
    });
}

#[test]
fn a_replica_without_a_group_is_healed_without_sentinels() {
    for mut case in [stale_password(), healed_cut()] {
        case.e.alone();
        assert!(matches!(case.decide(), Decision::Apply(_)));
    }
    let mut dead = dead_primary();
    dead.e.alone();
    let told = dead.holds(RefusalCode::NoSafeRemedy);
    assert!(told.contains("no Sentinel is configured"), "{told}");
}

/// Four times `max_attempts` of them are enough within ten minutes; and within an hour, but for one in ten minutes and for
/// what rests by itself.
#[test]
fn plans_that_are_dropped_again_and_again_call_a_person() {
    let dropped = |case: &mut Case, minutes: &[u64]| {
        let ago = |count: u64, m: u64| (0..count).map(move |s| m * 60 + s);
        let (now, last) = (case.now, minutes.len() as u64);
        let mut all: Vec<_> = ago(20 - last, 15).chain(minutes.iter().map(|m| m * 60)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        case.history.idle = all.into_iter().map(|s| now.before(Duration::from_secs(s))).collect();
    };
    for case in [stale_password, dead_primary] {
        holds_while(case(), RefusalCode::AttemptsExhausted, |case| {
            let every = Duration::from_secs(28);
            case.history.idle = (1..=20).rev().map(|n| case.now.before(every * n)).collect();
        });
    }
    let told = holds_while(stale_password(), RefusalCode::AttemptsExhausted, |case| dropped(case, &[2]));
    assert!(told.contains("once in so long"), "{told}");
    let mut nobody_else_asks = dead_primary();
    dropped(&mut nobody_else_asks, &[2]);
    nobody_else_asks.plan();
    let mut rested = stale_password();
    dropped(&mut rested, &[]);
    rested.plan();
}
