//! Every rule on its fault and on its look-alikes; all evidence is one healthy look, bent in few places.

use std::time::Duration;

use super::diagnose;
use crate::model::evidence::*;
use crate::model::finding::{Cause, Diagnosis, Finding};

mod deposed;
mod flapping;
mod group;
mod login;
mod sync;
mod topology;
pub(crate) mod world;

use world::*;

fn bent(bend: impl FnOnce(&mut Evidence)) -> Evidence {
    let mut evidence = healthy();
    bend(&mut evidence);
    evidence
}

fn found(bend: impl FnOnce(&mut Evidence)) -> Finding {
    match diagnose(&bent(bend)) {
        Diagnosis::Broken(finding) => finding,
        other => panic!("{other:?}"),
    }
}

/// The cause, with `true` when it is only suspected.
fn verdict(bend: impl FnOnce(&mut Evidence)) -> (Cause, bool) {
    let finding = found(bend);
    (finding.cause, finding.suspected)
}

fn cause(bend: impl FnOnce(&mut Evidence)) -> Option<Cause> {
    diagnose(&bent(bend)).cause()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_link_that_is_up_and_a_primary_are_healthy() {
    assert_eq!(cause(|_| {}), None);
    assert_eq!(cause(|e| e.server().role = Role::Primary), None);
    assert_eq!(cause(|e| e.upstream = Reading::Missing(Missing::NotAsked)), None, "a look that is not deep");
    assert_eq!(cause(|e| _ = e.silence(0).silence(1).silence(2)), None, "losing Sentinels is no fault of the link");
}

#[test]
fn the_local_server_is_judged_by_how_it_does_not_answer() {
    let local = |why: Missing| cause(|e| e.local = Reading::Missing(why));
    assert_eq!(local(Missing::Refused("connection refused".into())), Some(Cause::ReplicaDown));
    assert_eq!(local(Missing::TimedOut), Some(Cause::ReplicaHung));
    assert_eq!(local(Missing::Denied("NOPERM".into())), Some(Cause::ReplicaDenied));
    assert_eq!(local(Missing::Unsupported("HTTP/1.1".into())), Some(Cause::Unknown));
    assert_eq!(local(Missing::NotAsked), Some(Cause::Unknown));
    assert_eq!(local(Missing::Busy("BUSY Redis is busy running a script.".into())), Some(Cause::ReplicaHung));
    let ways_in = ["TLS: invalid peer certificate: Expired", "ERR max number of clients reached", "connection closed"];
    for why in ways_in {
        let way_in = bent(|e| e.local = Reading::Missing(Missing::Unreachable(why.into())));
        let Diagnosis::Inconclusive { missing, .. } = diagnose(&way_in) else { panic!("{why}") };
        assert!(missing[0].saw.contains(why), "{missing:?}");
    }
    let socket = found(|e| {
        e.address = crate::model::Address::Unix("/run/redis.sock".into());
        e.local = Reading::Missing(Missing::Denied("relinkd's own user may not open /run/redis.sock: EACCES".into()));
    });
    assert_eq!(socket.cause, Cause::ReplicaDenied);
    assert!(socket.because[0].means.contains("group"), "the password is not what fails: {socket:?}");
    assert_eq!(cause(|e| e.server().loading = true), Some(Cause::ReplicaLoading));
    let looked_up = |failed: Option<&str>| {
        cause(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            let (name, told_by) = (at("primary.example:6379"), "relinkd saw it".into());
            e.lookup = Some(Lookup { at: T0, name, told_by, failed: failed.map(str::to_owned) });
        })
    };
    assert_eq!(looked_up(Some("the resolver gives no answer in time")), Some(Cause::NameUnresolved));
    assert_eq!(looked_up(None), Some(Cause::ReplicaHung), "the name is not what holds it up");
}

#[test]
fn a_server_that_flushes_or_loads_in_a_sync_does_not_hang() {
    let flushing = "MASTER <-> REPLICA sync: Flushing old data";
    let silent = |bend: &dyn Fn(&mut Evidence)| {
        verdict(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            e.log(LogKind::Loading, flushing, 1);
            bend(e);
        })
    };
    let (runs, hangs) = ((Cause::SyncRunning, true), (Cause::ReplicaHung, false));
    assert_eq!(silent(&|_| {}), runs);
    assert_eq!(silent(&|e| e.ended = e.ended.after(Duration::from_secs(121))), hangs, "that is too long");
    for over in [LogKind::SyncFinished, LogKind::LoadFailed] {
        assert_eq!(silent(&|e| _ = e.log(over, "over", 1)), hangs, "{over:?}, read in one go with the other");
    }
    for before in [LogKind::FullResync, LogKind::Ready, LogKind::LinkLost] {
        assert_eq!(silent(&|e| _ = e.log(before, "before", 1)), runs, "{before:?}, read in one go with the other");
    }
    let started = |e: &mut Evidence| {
        e.log(LogKind::Ready, "Ready to accept connections", 1);
        let earlier = e.ended.before(Duration::from_secs(1));
        seen(&mut e.log).lines[0].last = earlier;
    };
    assert_eq!(silent(&started), hangs, "a process that came later");

    let remembered = |loading: bool, bend: &dyn Fn(&mut Evidence)| {
        verdict(|e| {
            e.local = Reading::Missing(Missing::TimedOut);
            e.trend.sync_seen = Some((e.ended.before(Duration::from_secs(20)), loading));
            bend(e);
        })
    };
    assert_eq!(remembered(true, &|_| {}), runs, "a slow line feeds the load: it answers every 2 MiB");
    assert_eq!(remembered(false, &|_| {}), hangs, "the log would tell of a load");
    let no_log = |e: &mut Evidence| e.log = Reading::Missing(Missing::NotAsked);
    assert_eq!(remembered(false, &no_log), runs);
    assert_eq!(remembered(true, &|e| _ = e.log(LogKind::SyncFinished, "done", 1)), hangs);
    let stopped = |e: &mut Evidence| _ = e.log(LogKind::Shutdown, "User requested shutdown...", 1);
    assert_eq!(silent(&stopped), (Cause::ReplicaDown, false));
}

#[test]
fn a_directory_that_is_not_the_servers_own_is_what_it_waits_for() {
    let line = "Opening the temp file needed for MASTER <-> REPLICA synchronization: Permission denied";
    let finding = found(|e| {
        e.local = Reading::Missing(Missing::TimedOut);
        e.log(LogKind::DumpWriteError, line, 1);
    });
    assert_eq!(finding.cause, Cause::ReplicaHung);
    assert!(finding.because[0].saw.contains("Permission denied"), "{finding:?}");
}

#[test]
fn a_stop_that_the_log_tells_of_is_over_when_a_later_process_has_answered() {
    let silent = |started_before_s: Option<u64>| {
        cause(|e| {
            e.log(LogKind::Shutdown, "Received SIGTERM scheduling shutdown...", 1);
            e.ended = e.ended.after(Duration::from_secs(20));
            e.trend.started = started_before_s.map(|s| e.ended.before(Duration::from_secs(s)));
            e.local = Reading::Missing(Missing::TimedOut);
        })
    };
    assert_eq!(silent(None), Some(Cause::ReplicaDown));
    assert_eq!(silent(Some(3_600)), Some(Cause::ReplicaDown), "it saves, and then it ends");
    assert_eq!(silent(Some(19)), Some(Cause::ReplicaHung), "what the log said of its start was too much to read");
}

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

fn cut(e: &mut Evidence) -> &mut Evidence {
    e.refuse();
    e.probe().connect = Connect::TimedOut;
    e.link().state = LinkState::Connecting;
    e
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

fn hang(e: &mut Evidence) -> &mut Evidence {
    e.break_link(LinkState::Handshake);
    e.upstream = Reading::Seen(Probe { ping: Answer::TimedOut, ..blank(PRIMARY) });
    e.primary = Reading::Missing(Missing::TimedOut);
    e
}

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
    assert!(!super::unanswered(&Probe { connect: Connect::NoTime, ..blank(PRIMARY) }));
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
        let for_long = |for_s: u64, heard_s: i64, reached: bool| {
            let connect = connect.clone();
            verdict(|e| {
                let since = e.ended.before(Duration::from_secs(for_s));
                e.upstream = Reading::Seen(Probe { connect, ..blank(PRIMARY) });
                e.each_sentinel(|says| says.last_reply_ms = Some(100));
                (e.trend.unreached_since, e.trend.unreached_seen) = (Some(since), Some(since));
                (e.link().last_io_s, e.trend.reached) = (heard_s, reached.then_some(T0));
            })
        };
        let behind = |heard_s: i64, reached: bool| for_long(20, heard_s, reached);
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
fn a_primary_that_hangs_is_seen_while_the_link_still_reads_up() {
    let finding = found(|e| {
        e.trend.reached = Some(T0);
        e.upstream = Reading::Seen(Probe { ping: Answer::TimedOut, ..blank(PRIMARY) });
        e.stood(LONG);
    });
    assert_eq!((finding.cause, finding.link_up), (Cause::PrimaryHung, true));
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

#[test]
fn what_answers_and_is_no_data_node_is_named() {
    let http = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        e.upstream = Reading::Seen(Probe { ping: Answer::NotRedis("HTTP/1.1 400".into()), ..blank(PRIMARY) });
    };
    assert_eq!(cause(http), Some(Cause::NotAServer));
    let sentinel = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        e.probe().role = Reading::Seen(PeerRole::Sentinel);
        e.probe().auth = error("ERR AUTH <password> called without any password configured for the default user.");
    };
    assert_eq!(cause(sentinel), Some(Cause::NotAServer), "not auth-unexpected");
}

#[test]
fn a_primary_that_fails_to_save_is_named_while_the_links_stand() {
    let text = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.";
    let down = |says: &mut SentinelSays| {
        says.flags = flags(&["master", "s_down", "o_down", "disconnected"]);
        (says.last_reply_ms, says.last_ok_ping_ms) = (Some(300), Some(20_000));
    };
    for (seen, expected) in [(error(text), Some(Cause::PrimarySaveFailing)), (error("ERR something else"), None)] {
        let failing = |e: &mut Evidence| {
            e.probe().ping_again = seen.clone();
            e.source().errors.insert("WRONGPASS".into(), 1);
        };
        assert_eq!(cause(failing), expected, "{seen}");
    }
    let dead_to_them = |e: &mut Evidence| {
        e.probe().ping_again = error(text);
        e.source().errors.insert("WRONGPASS".into(), 1);
        e.each_sentinel(down);
    };
    assert_eq!(cause(dead_to_them), Some(Cause::PrimarySaveFailing), "no Sentinel lacks a password");
}

#[test]
fn the_first_word_of_a_refusal_names_the_cause() {
    for (text, expected) in [
        ("DENIED Redis is running in protected mode", Cause::ProtectedMode),
        ("MISCONF Redis is configured to save RDB snapshots", Cause::PrimarySaveFailing),
        ("LOADING Redis is loading the dataset in memory", Cause::PrimaryLoading),
        ("BUSY Redis is busy running a script", Cause::PrimaryBusy),
        ("ERR max number of clients reached", Cause::ConnectionsExhausted),
        ("ERR something else", Cause::Unknown),
    ] {
        let refusing = |e: &mut Evidence| {
            e.break_link(LinkState::Connect);
            e.upstream = Reading::Seen(Probe { ping: error(text), ..blank(PRIMARY) });
        };
        assert_eq!(cause(refusing), Some(expected), "{text}");
        let behind_a_password = |e: &mut Evidence| {
            e.break_link(LinkState::Connect);
            e.probe().ping_again = error(text);
            e.probe().replconf = Answer::NotAsked;
            e.probe().psync = Answer::NotAsked;
        };
        // PSYNC meets them all but that one.
        let expected = if text.starts_with("MISCONF") { Cause::Unknown } else { expected };
        assert_eq!(cause(behind_a_password), Some(expected), "{text}, after AUTH");
    }
}

/// Redis 7.0.15: a replica's PING comes before its AUTH and is answered with NOAUTH; PSYNC is no write.
#[test]
fn a_primary_that_cannot_save_stops_no_replica_that_logs_in() {
    let failing = |state: LinkState, kind: Option<(LogKind, &'static str)>| {
        move |e: &mut Evidence| {
            e.break_link(state);
            e.probe().ping_again = error("MISCONF Redis is configured to save RDB snapshots");
            e.source().rdb_last_save_ok = false;
            kind.into_iter().for_each(|(kind, line)| _ = e.log(kind, line, 3));
        }
    };
    assert!(super::handshake_works(bent(failing(LinkState::Sync, None)).upstream.seen().unwrap()));
    assert_eq!(cause(failing(LinkState::Sync, None)), Some(Cause::SyncRunning));
    let aborted = "MASTER aborted replication with an error: ERR BGSAVE failed, replication can't continue";
    let fork = failing(LinkState::Handshake, Some((LogKind::SyncAborted, aborted)));
    assert_eq!(cause(fork), Some(Cause::PrimaryForkFailed), "the save failed for want of a fork, too");
    let sentinels = |e: &mut Evidence| {
        failing(LinkState::Sync, None)(e);
        e.stood(LONG).each_sentinel(|says| {
            says.flags = flags(&["master", "s_down", "disconnected"]);
            (says.last_reply_ms, says.last_ok_ping_ms) = (Some(300), Some(20_000));
        });
    };
    assert_eq!(cause(sentinels), Some(Cause::SyncRunning), "an error to each PING, and no login that fails");
    let rotated = |e: &mut Evidence| _ = e.reject_password();
    assert_eq!(cause(rotated), Some(Cause::AuthRejected));
}

#[test]
fn a_cut_that_is_over_and_a_replica_that_still_waits_is_named_with_the_proof() {
    let healed = |e: &mut Evidence| {
        e.break_link(LinkState::Connecting);
        e.trend.unreached_until = Some(e.began);
    };
    assert_eq!(verdict(healed), (Cause::NetworkCut, true), "an attempt may take a moment");
    let stood = |e: &mut Evidence| {
        healed(e);
        e.stood(Duration::from_secs(2));
    };
    assert_eq!(verdict(stood), (Cause::NetworkCut, false));
}

/// A sync that fails at once is tried again and again, and a look meets the replica at any step of an attempt
/// (Redis 7.0.15: `connecting` with a data set that it cannot load; Valkey 9.1.2: `handshake` with a primary that cannot
/// fork).
#[test]
fn a_replica_that_is_met_in_one_of_many_attempts_does_not_wait_in_an_old_one() {
    for (state, firm) in [(LinkState::Connecting, Cause::NetworkCut), (LinkState::Handshake, Cause::PrimaryHung)] {
        let answered_for = |s: u64| {
            move |e: &mut Evidence| {
                e.break_link(state).stood(Duration::from_secs(s + 2));
                e.trend.answered_since = Some(e.ended.before(Duration::from_secs(s)));
            }
        };
        assert_ne!(cause(answered_for(0)), Some(firm), "the first look that is answered");
        assert_eq!(verdict(answered_for(3)), (firm, false));
        for kind in [LogKind::PsyncUnsupported, LogKind::RdbUnreadable, LogKind::Ready] {
            let retried = |e: &mut Evidence| {
                answered_for(3)(e);
                e.log(kind, "of an attempt", 1);
            };
            assert_ne!(cause(retried), Some(firm), "{kind:?} a moment ago");
        }
    }
}

#[test]
fn a_replica_whose_syncs_begin_again_and_again_waits_in_no_old_attempt_though_no_log_says_so() {
    let waits = |attempts: u32, ago: u64| {
        cause(|e| {
            e.break_link(LinkState::Connecting).stood(LONG);
            e.log = Reading::Missing(Missing::NotAsked);
            (e.trend.attempts, e.trend.attempted) = (attempts, Some(e.ended.before(Duration::from_secs(ago))));
        })
    };
    assert_eq!(waits(1, 2), Some(Cause::NetworkCut));
    assert_eq!(waits(2, 2), Some(Cause::Unknown));
    assert_eq!(waits(2, 20), Some(Cause::NetworkCut), "that is over");
}

#[test]
fn a_replica_that_waits_for_a_diskless_sync_is_not_a_hung_primary() {
    let waits = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake).stood(LONG);
        e.source().replicas = vec![listed(REPLICA, "wait_bgsave")];
    };
    assert_eq!(cause(waits), Some(Cause::SyncRunning));
    let unseen = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake).stood(LONG);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.log = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(verdict(unseen), (Cause::SyncRunning, true), "what the primary does is not seen, so nothing is touched");
    let serves_none = |e: &mut Evidence| _ = e.break_link(LinkState::Handshake).stood(LONG);
    assert_eq!(verdict(serves_none), (Cause::PrimaryHung, false), "the primary tells that nobody waits there");
}

#[test]
fn a_group_without_passwords_has_green_handshakes_too() {
    let bare = Probe { with_password: false, ping: Answer::Ok("PONG".into()), ..green(PRIMARY) };
    let bare = Probe { auth: Answer::NotAsked, ping_again: Answer::NotAsked, ..bare };
    assert!(super::handshake_works(&bare));
    assert!(!super::handshake_works(&Probe { ping: error("LOADING"), ..bare.clone() }));
    assert!(!super::handshake_works(&Probe { psync: error("NOPERM no psync"), ..bare.clone() }));
    assert!(!super::handshake_works(&Probe { psync: Answer::NotAsked, ..bare.clone() }), "what was not asked");
    assert!(super::handshake_works(&Probe { ping_again: error("NOPERM no ping"), ..green(PRIMARY) }), "no fault");
    assert!(!super::handshake_works(&Probe { ping_again: error("LOADING"), ..green(PRIMARY) }));
    let of = |state| Reading::Seen(PeerRole::Replica { of: at(OTHER), state });
    assert!(!super::handshake_works(&Probe { role: of(LinkState::Connect), ..green(PRIMARY) }));
    assert!(
        super::handshake_works(&Probe { role: of(LinkState::Connected), ..green(PRIMARY) }),
        "it serves as one does"
    );
}

#[test]
fn where_nothing_fits_the_answer_says_what_was_not_seen() {
    let blind = bent(|e| {
        e.break_link(LinkState::Connect);
        e.settings = Reading::Missing(Missing::Denied("NOPERM config|get".into()));
        e.upstream = Reading::Missing(Missing::NotAsked);
        e.primary = Reading::Missing(Missing::NotAsked);
        e.log = Reading::Missing(Missing::Denied("permission denied".into()));
        e.silence(2);
    });
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&blind) else { panic!() };
    let told: Vec<&str> = missing.iter().map(|fact| fact.saw.as_str()).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].contains("CONFIG GET") && told[0].contains("NOPERM"));

    let waiting = bent(|e| _ = e.break_link(LinkState::Connect));
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&waiting) else { panic!() };
    assert!(missing[0].means.contains("has not linked yet"), "{missing:?}");

    let tls = bent(|e| {
        e.break_link(LinkState::Connect);
        e.upstream = Reading::Seen(Probe { connect: Connect::Tls("certificate expired".into()), ..blank(PRIMARY) });
    });
    let Diagnosis::Broken(told) = diagnose(&tls) else { panic!() };
    assert_eq!((told.cause, told.suspected), (Cause::TlsCertificate, true), "our own verification may be what fails");
    assert!(told.because[0].saw.contains("certificate expired"), "{told:?}");
}

#[test]
fn what_speaks_against_a_cause_is_kept_and_the_verdict_itself_is_never_among_it() {
    let finding = found(|e| _ = e.reject_password());
    assert_eq!(finding.cause, Cause::AuthRejected);
    for out in
        [Cause::PrimaryDown, Cause::NetworkCut, Cause::WrongPrimary, Cause::FailoverRunning, Cause::ReplicaDiskFull]
    {
        assert!(finding.rejected.contains_key(&out), "{out}");
    }
    assert!(!finding.rejected.contains_key(&Cause::AuthRejected));
    let silent = found(|e| _ = cut(e));
    assert!(!silent.rejected.contains_key(&Cause::PrimaryDown), "no answer rules nothing out");
    let alone = found(|e| _ = e.reject_password().alone());
    assert!(!alone.rejected.contains_key(&Cause::WrongPrimary), "nobody said whom to follow");
    let bare = found(|e| {
        e.break_link(LinkState::Sync);
        let ping = Answer::Ok("PONG".into());
        let probe = Probe { with_password: false, ping, auth: Answer::NotAsked, ..green(PRIMARY) };
        e.upstream = Reading::Seen(Probe { ping_again: Answer::NotAsked, ..probe });
    });
    assert!(bare.rejected.contains_key(&Cause::AuthMissing), "PONG without a password");
}

#[test]
fn no_number_that_a_server_may_send_makes_a_rule_panic() {
    for extreme in [i64::MIN, -1, 0, i64::MAX] {
        _ = cause(|e| {
            e.break_link(LinkState::Sync);
            (e.trend.offset, e.trend.replid) = (Some(extreme), Some("replid".into()));
            (e.source().backlog_first, e.source().second_repl_offset) = (extreme, extreme);
            (e.link().offset, e.link().last_io_s) = (extreme, extreme);
            (e.link().sync_read, e.link().sync_total) = (u64::MAX, 1);
            e.trend.sync_read = Some((T0.before(LONG), 0));
        });
    }
}

#[test]
fn a_server_that_was_told_to_stop_does_not_hang_and_one_that_came_back_does() {
    let mut e = healthy();
    e.log(LogKind::Shutdown, "Received SIGTERM scheduling shutdown...", 1);
    e.local = Reading::Missing(Missing::TimedOut);
    let Diagnosis::Broken(finding) = diagnose(&e) else { panic!() };
    assert_eq!(finding.cause, Cause::ReplicaDown);
    assert!(finding.because[1].saw.contains("SIGTERM"), "{:?}", finding.because);
    let mut later = e.clone();
    if let Reading::Seen(log) = &mut later.log {
        let stop = log.lines[0].last;
        log.lines[0].last = stop.before(Duration::from_secs(10));
    }
    later.log(LogKind::Ready, "Ready to accept connections", 1);
    assert_eq!(diagnose(&later).cause(), Some(Cause::ReplicaHung));
}
