//! A primary that takes the connection and does not answer.

use super::*;

#[test]
fn a_hello_that_is_not_answered_is_a_primary_that_hangs_and_no_cut() {
    let hello = |otherwise: Option<bool>| {
        move |e: &mut Evidence| {
            hang(e).stood(LONG);
            let connect = Connect::HelloUnanswered;
            *e.probe() = Probe { tls: true, connect, other_transport: otherwise, ..blank(PRIMARY) };
        }
    };
    let finding = found(hello(Some(false)));
    assert_eq!((finding.cause, finding.suspected), (Cause::PrimaryHung, false));
    assert!(finding.because[0].saw.contains("TLS hello"), "{finding:?}");
    assert!(finding.rejected.contains_key(&Cause::NetworkCut), "the connection opened");
    assert_eq!(verdict(hello(Some(true))), (Cause::TlsMismatch, false), "a plain PING is answered there");
    assert_eq!(cause(hello(None)), Some(Cause::Unknown), "no time was left to ask in plain: it may be either");
}

#[test]
fn the_step_that_was_not_answered_is_the_one_that_is_told() {
    let at_auth = |e: &mut Evidence| {
        hang(e);
        *e.probe() = Probe { auth: Answer::TimedOut, ping: error("NOAUTH x"), ..blank(PRIMARY) };
    };
    let finding = found(at_auth);
    assert!(finding.cause == Cause::PrimaryHung && finding.because[0].saw.contains("AUTH"), "{finding:?}");
}

#[test]
fn a_look_without_time_left_calls_nobody_silent() {
    let hurried = |e: &mut Evidence| {
        e.break_link(LinkState::Connect).alone().stood(LONG);
        *e.probe() = Probe { connect: Connect::NoTime, ..blank(PRIMARY) };
    };
    assert_eq!(cause(hurried), Some(Cause::Unknown));
    assert!(!super::super::unanswered(&Probe { connect: Connect::NoTime, ..blank(PRIMARY) }));
}

#[test]
fn a_server_that_accepts_and_does_not_answer_hangs() {
    assert_eq!(verdict(|e| _ = hang(e)), (Cause::PrimaryHung, true));
    assert_eq!(verdict(|e| _ = hang(e).told_down()), (Cause::PrimaryHung, false));
    assert_eq!(verdict(|e| _ = hang(e).stood(LONG)), (Cause::PrimaryHung, false));
    assert_eq!(verdict(|e| _ = hang(e).silence(0).silence(1).stood(LONG)), (Cause::PrimaryHung, true));
    assert_eq!(verdict(|e| _ = hang(e).alone()), (Cause::PrimaryHung, true), "a pause of a second");
    assert_eq!(verdict(|e| _ = hang(e).alone().stood(LONG)), (Cause::PrimaryHung, false));
}

/// A proxy on the way takes the connection for it, or a line that is full.
#[test]
fn a_primary_that_answers_the_sentinels_does_not_hang() {
    let answered = |for_s: u64| {
        move |e: &mut Evidence| {
            hang(e);
            e.each_sentinel(|says| (says.down_after_ms, says.last_reply_ms) = (30_000, Some(400)));
            let since = e.ended.before(Duration::from_secs(for_s));
            (e.trend.unreached_since, e.trend.unreached_seen) = (Some(since), Some(since));
        }
    };
    assert_eq!(verdict(answered(2)), (Cause::NetworkCut, true), "it may have been a pause");
    let swaps = |e: &mut Evidence| {
        answered(20)(e);
        e.each_sentinel(|says| says.last_reply_ms = Some(6_000));
    };
    assert_eq!(verdict(swaps), (Cause::PrimaryHung, false), "it answers now and then");
    let finding = found(answered(6));
    assert_eq!((finding.cause, finding.suspected), (Cause::NetworkCut, false));
    assert!(finding.because[0].means.contains("a proxy"), "{finding:?}");
}

#[test]
fn a_primary_that_hangs_is_seen_while_the_link_still_reads_up() {
    let finding = found(|e| {
        e.trend.reached = Some(T0);
        e.upstream = Reading::Seen(Probe { ping: Answer::TimedOut, ..blank(PRIMARY) });
        e.stood(LONG);
    });
    assert_eq!((finding.cause, finding.link_up), (Cause::PrimaryHung, true));
}
