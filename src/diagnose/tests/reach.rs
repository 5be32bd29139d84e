//! The way to the primary, and what the Sentinels see of it.

use super::*;

#[test]
fn a_refused_connection_is_a_dead_primary_or_a_rejecting_network_by_what_the_sentinels_see() {
    assert_eq!(verdict(|e| _ = e.refuse()), (Cause::PrimaryDown, true), "they may not have noticed yet");
    assert_eq!(verdict(|e| _ = e.refuse().stood(Duration::from_secs(6))), (Cause::PrimaryDown, true));
    assert_eq!(verdict(|e| _ = e.refuse().stood(Duration::from_secs(7))), (Cause::NetworkRejected, false));
    assert_eq!(verdict(|e| _ = e.refuse().told_down()), (Cause::PrimaryDown, false));
    assert_eq!(verdict(|e| _ = e.refuse().alone()), (Cause::PrimaryDown, true), "it may be restarting");
    assert_eq!(
        verdict(|e| _ = e.refuse().alone().stood(LONG)),
        (Cause::PrimaryDown, false),
        "nobody else can be asked"
    );
    assert_eq!(
        verdict(|e| {
            e.refuse();
            e.probe().connect = Connect::Reset;
            e.stood(LONG);
        }),
        (Cause::NetworkRejected, false)
    );
}

#[test]
fn the_sentinels_own_pings_decide_long_before_down_after() {
    let pinged = |ages_ms: [u64; 3]| {
        move |e: &mut Evidence| {
            e.each_sentinel(|says| says.down_after_ms = 30_000);
            for (index, age_ms) in ages_ms.into_iter().enumerate() {
                e.sentinel(index).last_reply_ms = Some(age_ms);
            }
            e.trend.unreached_seen = Some(e.ended.before(Duration::from_secs(1)));
            e.trend.unreached_since = e.trend.unreached_seen;
        }
    };
    let refused = |ages_ms| verdict(|e| pinged(ages_ms)(e.refuse()));
    assert_eq!(refused([400, 300, 9_000]), (Cause::NetworkRejected, false));
    assert_eq!(refused([400, 1_100, 1_200]), (Cause::PrimaryDown, true), "one is no majority");
    assert_eq!(refused([2_700, 2_600, 400]), (Cause::PrimaryDown, false));
    assert_eq!(refused([2_700, 1_500, 400]), (Cause::PrimaryDown, true), "they may not have asked yet");
    let silent = |ages_ms| verdict(|e| pinged(ages_ms)(cut(e)));
    assert_eq!(silent([400, 300, 200]), (Cause::NetworkCut, false));
    assert_eq!(silent([2_700, 2_600, 2_500]), (Cause::PrimaryUnreachable, false));
    let just_began_to_watch = |e: &mut Evidence| {
        pinged([400, 400, 400])(e.refuse());
        e.each_sentinel(|says| says.role_reported_ms = 450);
    };
    assert_eq!(verdict(just_began_to_watch), (Cause::PrimaryDown, true), "its ages begin when it begins");
    let of_another = |e: &mut Evidence| {
        pinged([400, 400, 400])(e.refuse());
        e.trend.unreached_seen = None;
    };
    assert_eq!(verdict(of_another), (Cause::PrimaryDown, true), "silent since when?");
}

#[test]
fn silence_is_an_unreachable_primary_or_a_cut_by_what_the_sentinels_see() {
    assert_eq!(verdict(|e| _ = cut(e)), (Cause::PrimaryUnreachable, true), "they may not have noticed yet");
    assert_eq!(verdict(|e| _ = cut(e).stood(LONG)), (Cause::NetworkCut, false));
    assert_eq!(verdict(|e| _ = cut(e).told_down()), (Cause::PrimaryUnreachable, false));
    assert_eq!(verdict(|e| _ = cut(e).alone().stood(LONG)), (Cause::PrimaryUnreachable, false));
    let one_look = |link_up: bool| {
        verdict(|e| {
            cut(e).alone();
            e.link().up = link_up;
            e.ended = e.began.after(Duration::from_millis(1_010));
            e.trend.unreached_since = Some(e.began);
            e.trend.unreached_seen = Some(e.began.after(Duration::from_millis(250)));
        })
    };
    assert_eq!(one_look(true), (Cause::PrimaryUnreachable, true), "one lost SYN, and the link knows of no break");
    assert_eq!(one_look(false), (Cause::PrimaryUnreachable, false));
    let two_looks = |e: &mut Evidence| {
        cut(e).alone();
        e.link().up = true;
        e.trend.unreached_seen = Some(e.ended.before(Duration::from_secs(2)));
    };
    assert_eq!(verdict(two_looks), (Cause::PrimaryUnreachable, false));
    let no_route = |e: &mut Evidence| {
        cut(e).stood(LONG);
        e.probe().connect = Connect::Unreachable("no route to host".into());
    };
    assert_eq!(verdict(no_route), (Cause::NetworkCut, false));
}

#[test]
fn a_line_that_is_full_of_the_data_set_is_no_firm_cut() {
    let with_read = |read: u64, witnesses: bool, connect: &Connect, last_byte_s: i64| {
        verdict(|e| {
            cut(e).stood(LONG);
            if !witnesses {
                e.alone();
            }
            e.link().state = LinkState::Sync;
            (e.link().syncing, e.link().sync_read, e.link().sync_last_io_s) = (true, read, last_byte_s);
            e.probe().connect = connect.clone();
            e.probe().ping = Answer::TimedOut;
        })
    };
    let silent_in_a_sync =
        |witnesses, connect: &Connect, last_byte_s| with_read(1_000, witnesses, connect, last_byte_s);
    let (lost, open) = (Connect::TimedOut, Connect::Open);
    assert_eq!(silent_in_a_sync(false, &lost, 2), (Cause::SyncRunning, false), "bytes arrive");
    assert_eq!(silent_in_a_sync(false, &lost, 3), (Cause::PrimaryUnreachable, true));
    assert_eq!(silent_in_a_sync(false, &lost, 10), (Cause::PrimaryUnreachable, false), "nothing for too long");
    assert_eq!(silent_in_a_sync(true, &lost, 3), (Cause::NetworkCut, true));
    assert_eq!(silent_in_a_sync(true, &lost, 10), (Cause::NetworkCut, false));
    assert_eq!(silent_in_a_sync(false, &open, 3), (Cause::PrimaryHung, true));
    assert_eq!(silent_in_a_sync(false, &open, 10), (Cause::PrimaryHung, false));
    assert_eq!(with_read(0, false, &lost, 3), (Cause::PrimaryUnreachable, false), "nothing of it has come yet");
    assert_eq!(with_read(0, true, &lost, 3), (Cause::NetworkCut, false));
    assert_eq!(with_read(0, false, &open, 3), (Cause::PrimaryHung, false));
    let unanswered = |e: &mut Evidence| {
        hang(e).stood(LONG).each_sentinel(|says| says.last_reply_ms = Some(20_000));
        e.trend.unreached_seen = Some(e.began);
        (e.link().syncing, e.link().sync_read, e.link().sync_last_io_s) = (true, 1_000, 3);
    };
    assert_eq!(verdict(unanswered), (Cause::PrimaryHung, false), "no line of ours is in their way");
    let held_down = |e: &mut Evidence| {
        cut(e).told_down().stood(LONG);
        (e.link().syncing, e.link().sync_last_io_s) = (true, 3);
    };
    assert_eq!(verdict(held_down), (Cause::PrimaryUnreachable, false), "others cannot reach it either");
}

#[test]
fn witnesses_are_given_their_time_from_when_the_primary_fell_silent_and_not_from_the_break() {
    let later = |e: &mut Evidence| {
        e.refuse().stood(LONG);
        e.trend.unreached_since = Some(e.ended.before(Duration::from_secs(2)));
    };
    assert_eq!(verdict(later), (Cause::PrimaryDown, true), "the link was down for another reason before");
    let told_by_the_replica = |e: &mut Evidence| {
        e.refuse();
        e.link().down_for_s = Some(60);
    };
    assert_eq!(verdict(told_by_the_replica), (Cause::NetworkRejected, false), "all that a look by hand can know");
}

#[test]
fn in_a_minority_partition_the_verdict_never_stands() {
    let minority = |e: &mut Evidence| {
        cut(e).stood(LONG).silence(1).silence(2);
        e.sentinel(0).flags = flags(&["master", "s_down"]);
    };
    assert_eq!(verdict(minority), (Cause::NetworkCut, true));
    let refused = |e: &mut Evidence| _ = e.refuse().stood(LONG).silence(1).silence(2);
    assert_eq!(verdict(refused), (Cause::PrimaryDown, true));
}

#[test]
fn sentinels_that_nobody_configured_count_too() {
    let two_of_five = |e: &mut Evidence| {
        e.refuse().told_down().stood(LONG).silence(2);
        e.each_sentinel(|says| says.others = 4);
    };
    assert_eq!(verdict(two_of_five), (Cause::PrimaryDown, true), "two of five are no majority");
}

#[test]
fn witnesses_who_contradict_each_other_or_are_in_tilt_prove_nothing() {
    let one_each = |e: &mut Evidence| {
        e.refuse().stood(LONG).silence(2);
        e.sentinel(0).flags = flags(&["master", "s_down"]);
    };
    assert_eq!(verdict(one_each), (Cause::PrimaryDown, true));
    let tilted = |e: &mut Evidence| _ = e.refuse().stood(LONG).each_sentinel(|says| says.tilt = Reading::Seen(true));
    assert_eq!(verdict(tilted), (Cause::PrimaryDown, true), "in TILT nobody is declared down");
    let unanswered = found(|e| {
        e.refuse().stood(LONG).each_sentinel(|says| {
            (says.tilt, says.last_reply_ms) = (Reading::Seen(true), Some(20_000));
        });
        e.trend.unreached_seen = Some(e.began);
    });
    assert_eq!((unanswered.cause, unanswered.suspected), (Cause::PrimaryDown, false), "their PINGs go on");
    assert!(unanswered.because[1].means.contains("3 of them are in TILT"), "{unanswered:?}");
}

/// A name that only the server's container knows, a firewall that lets the server's own address through.
#[test]
fn a_primary_that_the_server_still_hears_is_not_lost_because_relinkd_does_not_reach_it() {
    type Case = (Connect, Cause);
    let cases: [Case; 3] = [
        (Connect::TimedOut, Cause::NetworkCut),
        (Connect::Refused, Cause::NetworkRejected),
        (Connect::NameUnresolved("no such host".into()), Cause::NameUnresolved),
    ];
    for (connect, expected) in cases {
        let pinged = |period_s: Option<u64>, for_s: u64, heard_s: i64, reached: bool| {
            let connect = connect.clone();
            verdict(|e| {
                (e.primary_limits, e.trend.ping_period_s) = (Reading::Missing(Missing::TimedOut), period_s);
                let since = e.ended.before(Duration::from_secs(for_s));
                e.upstream = Reading::Seen(Probe { connect, ..blank(PRIMARY) });
                e.each_sentinel(|says| says.last_reply_ms = Some(100));
                (e.trend.unreached_since, e.trend.unreached_seen) = (Some(since), Some(since));
                (e.link().last_io_s, e.trend.reached) = (heard_s, reached.then_some(T0));
            })
        };
        let for_long = |for_s: u64, heard_s: i64, reached: bool| pinged(None, for_s, heard_s, reached);
        let behind = |heard_s: i64, reached: bool| for_long(20, heard_s, reached);
        assert_eq!(pinged(Some(60), 40, 20, true), (expected, true), "it pings each minute");
        assert_eq!(for_long(40, 20, true), (expected, false), "one ping came after the cut, and the next is overdue");
        assert_eq!(for_long(40, 20, false), (expected, false));
        assert_eq!(for_long(59, 0, true), (expected, true));
        assert_eq!(for_long(90, 0, true), (expected, false), "no connection is taken any more");
        assert_eq!(for_long(900, 0, false), (expected, true), "none ever was, from here");
        assert_eq!(behind(0, true), (expected, true), "it was heard after our probe had failed");
        assert_eq!(behind(20, true), (expected, false), "not since");
        assert_eq!(behind(30, false), (expected, false), "its ping is overdue");
    }
    let just_begun = |heard_s: i64| {
        verdict(|e| {
            e.upstream = Reading::Seen(Probe { connect: Connect::Refused, ..blank(PRIMARY) });
            e.each_sentinel(|says| says.last_reply_ms = Some(100));
            let since = e.ended.before(Duration::from_secs(2));
            (e.trend.unreached_since, e.trend.unreached_seen) = (Some(since), Some(since));
            e.link().last_io_s = heard_s;
        })
    };
    assert_eq!(just_begun(9), (Cause::NetworkRejected, true), "no probe has ever come through");
}

#[test]
fn a_name_that_does_not_resolve_is_named_before_anything_about_the_primary() {
    let finding = found(|e| {
        e.refuse().told_down();
        e.probe().connect = Connect::NameUnresolved("no such host".into());
    });
    assert_eq!((finding.cause, finding.suspected), (Cause::NameUnresolved, false));
    let behind_a_link = |for_s: u64| {
        verdict(|e| {
            e.upstream =
                Reading::Seen(Probe { connect: Connect::NameUnresolved("no answer".into()), ..blank(PRIMARY) });
            e.trend.unreached_seen = Some(e.ended.before(Duration::from_secs(for_s)));
            (e.trend.reached, e.link().last_io_s) = (Some(T0), 9);
        })
    };
    assert_eq!(behind_a_link(0), (Cause::NameUnresolved, true), "one packet to the resolver was lost");
    assert_eq!(behind_a_link(4), (Cause::NameUnresolved, true));
    assert_eq!(behind_a_link(6), (Cause::NameUnresolved, false));
}
