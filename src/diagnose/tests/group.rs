//! Trouble behind a link that is up, Sentinels that cannot do their work, and TLS on one side only.

use super::*;
use crate::model::Address;

fn no_quorum(says: &mut SentinelSays) {
    let text = "NOQUORUM 1 usable Sentinels.".to_owned();
    says.ckquorum = Reading::Seen(Quorum { ok: false, text });
}

fn gone(e: &mut Evidence, index: usize) {
    e.sentinels[index].says = Reading::Missing(Missing::Refused("connection refused".into()));
}

#[test]
fn a_lost_quorum_is_proved_by_dead_sentinels_and_not_by_silent_ones() {
    let dead = |e: &mut Evidence| {
        no_quorum(e.sentinel(0));
        gone(e, 1);
        gone(e, 2);
    };
    assert_eq!(verdict(|e| dead(e)), (Cause::QuorumLost, true), "they may be restarting");
    assert_eq!(
        verdict(|e| {
            dead(e);
            e.stood(LONG);
        }),
        (Cause::QuorumLost, false)
    );
    assert_eq!(
        verdict(|e| {
            dead(e);
            e.refuse();
        }),
        (Cause::QuorumLost, false),
        "it is needed now"
    );
    let cut_off = |e: &mut Evidence| no_quorum(e.silence(1).silence(2).sentinel(0));
    assert_eq!(cause(cut_off), None, "we may be cut off together with the one that answers");
    let no_route = |e: &mut Evidence| {
        cut(e).stood(LONG);
        e.probe().connect = Connect::Unreachable("network is unreachable".into());
        no_quorum(e.sentinel(0));
        for index in [1, 2] {
            let why = Missing::Unreachable("cannot be reached: no route to host".into());
            e.sentinels[index].says = Reading::Missing(why);
        }
    };
    assert_eq!(verdict(no_route), (Cause::NetworkCut, true), "this host lost its route: nobody is known for dead");
    let hides = |e: &mut Evidence| {
        dead(e);
        e.reject_password();
    };
    assert_eq!(cause(hides), Some(Cause::AuthRejected), "what breaks the link comes first, and can be healed");
}

#[test]
fn nobody_is_promotable_only_once_the_sentinels_have_had_their_try() {
    let nobody = |e: &mut Evidence| {
        e.refuse().told_down().each_sentinel(|says| says.replicas.iter_mut().for_each(|r| r.priority = 0));
    };
    assert_eq!(verdict(nobody), (Cause::NoPromotableReplica, false));
    let fresh = |e: &mut Evidence| {
        nobody(e);
        e.each_sentinel(|says| says.o_down_ms = Some(2_000));
    };
    assert_eq!(cause(fresh), Some(Cause::PrimaryDown));
    let unread = |e: &mut Evidence| {
        e.refuse().told_down();
        e.each_sentinel(|says| says.replicas.iter_mut().for_each(|r| r.info_refresh_ms = 9_000));
    };
    assert_eq!(cause(unread), Some(Cause::PrimaryDown), "what a Sentinel has not read yet says nothing");
}

#[test]
fn sentinels_without_a_login_are_told_from_a_dead_primary_by_our_own() {
    let cut_off = |e: &mut Evidence| {
        e.stood(LONG).each_sentinel(|says| says.flags = flags(&["master", "s_down", "disconnected"]));
        seen(&mut e.primary).errors.insert("WRONGPASS".into(), 3);
    };
    assert_eq!(verdict(cut_off), (Cause::SentinelAuthRejected, false));
    assert_eq!(
        verdict(|e| {
            cut_off(e);
            e.stood(Duration::from_secs(4));
        }),
        (Cause::SentinelAuthRejected, true)
    );
    assert_eq!(
        cause(|e| {
            cut_off(e);
            seen(&mut e.primary).errors.clear();
        }),
        None,
        "nobody was refused there"
    );
    assert_eq!(
        cause(|e| {
            cut_off(e);
            e.sentinel(0).flags = flags(&["master"]);
            e.sentinel(1).flags = flags(&["master"]);
        }),
        None
    );
    let answered = |reply_ms, good_ms| {
        move |e: &mut Evidence| {
            e.each_sentinel(|says| {
                says.flags = flags(&["master", "s_down", "disconnected"]);
                (says.last_reply_ms, says.last_ok_ping_ms) = (Some(reply_ms), Some(good_ms));
            });
            seen(&mut e.primary).errors.insert("WRONGPASS".into(), 3);
            e.stood(Duration::from_secs(2));
        }
    };
    assert_eq!(verdict(answered(900, 4_000)), (Cause::SentinelAuthRejected, false), "answered, with errors only");
    let as_the_replicas_user = |observed: Reading<ServerView>| {
        move |e: &mut Evidence| {
            answered(900, 4_000)(e);
            e.probe().role = Reading::Missing(Missing::Denied("NOPERM no role".into()));
            (e.primary, e.probe().user) = (observed, "repl".into());
        }
    };
    let there = healthy().primary;
    assert_eq!(verdict(as_the_replicas_user(there)), (Cause::SentinelAuthRejected, false), "the observer may tell");
    let unseen = Reading::Missing(Missing::NotAsked);
    assert_eq!(cause(as_the_replicas_user(unseen)), None, "it may be a former primary");
    let only_noauth = |e: &mut Evidence| {
        cut_off(e);
        seen(&mut e.primary).errors = [("NOAUTH".to_owned(), 9)].into();
    };
    assert_eq!(cause(only_noauth), None, "each replica's first PING is counted so");
    assert_eq!(cause(answered(4_000, 4_000)), None, "their network is cut; the count of errors is of another day");
    assert_ne!(
        cause(|e| {
            cut_off(e);
            e.refuse();
        }),
        Some(Cause::SentinelAuthRejected)
    );
}

#[test]
fn a_password_that_fails_behind_a_standing_link_is_latent() {
    let stale =
        |e: &mut Evidence| e.probe().auth = error("WRONGPASS invalid username-password pair or user is disabled.");
    let finding = found(stale);
    assert_eq!((finding.cause, finding.link_up), (Cause::AuthLatent, true));
    assert_eq!(
        cause(|e| {
            stale(e);
            e.break_link(LinkState::Connect);
        }),
        Some(Cause::AuthRejected)
    );
}

#[test]
fn an_old_line_about_psync_does_not_outlive_its_cause() {
    let line = "Master does not support PSYNC or is in error state (reply: -ERR unknown command 'PSYNC')";
    let logged = |e: &mut Evidence| {
        e.log(LogKind::PsyncUnsupported, line, 1);
        e.probe().psync = Answer::NotAsked;
        e.primary_limits = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(cause(logged), Some(Cause::CommandMissing));
    let unprobed = |e: &mut Evidence| {
        logged(e);
        e.upstream = Reading::Missing(Missing::NotAsked);
    };
    assert_eq!(cause(unprobed), None, "it may be of a Sentinel that the replica followed by mistake");
    assert_eq!(cause(|e| _ = e.log(LogKind::PsyncUnsupported, line, 1)), None, "the primary knows the command again");
    let known = |e: &mut Evidence| seen(&mut e.primary_limits).unknown_commands = Some(vec!["psync".into()]);
    assert_eq!(cause(known), Some(Cause::CommandMissing));
    let sync_alone = |e: &mut Evidence| seen(&mut e.primary_limits).unknown_commands = Some(vec!["sync".into()]);
    assert_eq!(cause(sync_alone), None, "nobody asks for SYNC while PSYNC is known");
}

#[test]
fn a_replica_that_cannot_save_is_told_unless_it_is_set_to_go_on() {
    assert_eq!(cause(|e| e.server().rdb_last_save_ok = false), Some(Cause::ReplicaSaveFailing));
    let no_save_points = |e: &mut Evidence| {
        e.server().rdb_last_save_ok = false;
        seen(&mut e.settings).save_stops_writes = false;
    };
    assert_eq!(cause(no_save_points), None);
    let ignores = |e: &mut Evidence| {
        e.server().aof_last_write_ok = false;
        seen(&mut e.settings).ignores_disk_errors = true;
    };
    assert_eq!(cause(ignores), None);
    let of = |flavour: Flavour, version: &'static str| {
        cause(move |e| {
            e.server().rdb_last_save_ok = false;
            (e.server().flavour, e.server().version) = (flavour, version.to_owned());
        })
    };
    assert_eq!(of(Flavour::Redis, "6.2.16"), None, "it applies what its primary sends all the same");
    assert_eq!(of(Flavour::Redis, "7.0.15"), Some(Cause::ReplicaSaveFailing));
    assert_eq!(of(Flavour::Valkey, "8.0.1"), Some(Cause::ReplicaSaveFailing));
}

#[test]
fn a_server_that_ended_itself_over_its_disk_is_told_from_one_that_was_stopped() {
    let gone = |local: Missing, kind: LogKind, line: &str, bend: &dyn Fn(&mut Evidence)| {
        cause(|e| {
            e.log(kind, line, 1);
            e.local = Reading::Missing(local);
            bend(e);
        })
    };
    let refused = || Missing::Refused("connection refused".into());
    let panic = "Guru Meditation: Replica was unable to write command to disk. #server.c:4095";
    let goes_on = "Replica is applying a command even though it is unable to write to disk.";
    let aof = "Failed enabling the AOF after successful master synchronization! Trying it again in one second.";
    assert_eq!(gone(refused(), LogKind::ReplicaWriteFailed, panic, &|_| {}), Some(Cause::ReplicaSaveFailing));
    assert_eq!(gone(refused(), LogKind::ReplicaWriteFailed, goes_on, &|_| {}), Some(Cause::ReplicaDown));
    assert_eq!(gone(refused(), LogKind::AofFailed, aof, &|_| {}), Some(Cause::ReplicaSaveFailing));
    assert_eq!(gone(Missing::TimedOut, LogKind::AofFailed, aof, &|_| {}), Some(Cause::ReplicaSaveFailing), "ten tries");
    let back = |e: &mut Evidence| {
        e.log(LogKind::Ready, "Ready to accept connections", 1);
        let at = e.ended.before(Duration::from_secs(9));
        seen(&mut e.log).lines[0].last = at;
    };
    assert_eq!(
        gone(refused(), LogKind::ReplicaWriteFailed, panic, &back),
        Some(Cause::ReplicaDown),
        "of the life before"
    );
}

#[test]
fn tls_on_one_side_only_is_proved_by_trying_the_other_way() {
    let closed = |e: &mut Evidence, otherwise: Option<bool>| {
        e.break_link(LinkState::Connect);
        *e.probe() =
            Probe { connect: Connect::Open, ping: Answer::Closed, other_transport: otherwise, ..blank(PRIMARY) };
    };
    assert_eq!(verdict(|e| closed(e, Some(true))), (Cause::TlsMismatch, false));
    assert_eq!(verdict(|e| closed(e, None)), (Cause::TlsMismatch, true), "a capture from before it was tried");
    assert_eq!(cause(|e| closed(e, Some(false))), Some(Cause::Unknown), "a proxy with nothing behind it");
    let silent = |e: &mut Evidence, otherwise: bool| {
        e.stood(LONG).break_link(LinkState::Connecting);
        let connect = Connect::TimedOut;
        *e.probe() = Probe { tls: true, connect, other_transport: Some(otherwise), ..blank(PRIMARY) };
    };
    assert_eq!(cause(|e| silent(e, true)), Some(Cause::TlsMismatch));
    assert_eq!(cause(|e| silent(e, false)), Some(Cause::NetworkCut));
}

#[test]
fn a_certificate_for_another_name_does_not_stop_a_replica() {
    let shown = |why: &str| {
        let connect = Connect::Tls(format!("invalid peer certificate: {why}"));
        cause(|e| {
            e.break_link(LinkState::Connect);
            *e.probe() = Probe { tls: true, connect, ..blank(PRIMARY) };
        })
    };
    assert_eq!(shown("certificate expired: verification time 3 (UNIX)"), Some(Cause::TlsCertificate));
    assert_eq!(shown("UnknownIssuer"), Some(Cause::TlsCertificate));
    assert_eq!(shown("certificate not valid for name \"10.0.0.1\""), Some(Cause::Unknown));
}

#[test]
fn the_replicas_log_tells_who_refuses_whose_certificate() {
    let told = |sample: &str| {
        let Diagnosis::Broken(told) = diagnose(&bent(|e| {
            e.break_link(LinkState::Connect).log(LogKind::SocketError, sample, 1);
            *e.probe() = Probe { tls: true, connect: Connect::TlsSetup("no certificate".into()), ..blank(PRIMARY) };
        })) else {
            panic!("{sample}")
        };
        (told.cause, told.suspected, told.because[0].means.clone())
    };
    let by = |who: &str| (Cause::TlsCertificate, false, who.to_owned());
    assert_eq!(
        told("Error condition on socket for SYNC: error:0A000086:SSL routines::certificate verify failed"),
        by("this replica does not accept the primary's certificate")
    );
    // TLS 1.3: a client's handshake is over before the server has seen its certificate (Redis 7.0.15 to Valkey 9.1.2).
    for alert in ["sslv3 alert certificate expired", "tlsv1 alert unknown ca", "tlsv13 alert certificate required"] {
        let line = format!("Failed to read response from the server: error:0A000418:SSL routines::{alert}");
        assert_eq!(told(&line), by("the primary does not accept this replica's certificate"));
    }
    let refused = cause(|e| {
        e.break_link(LinkState::Connect).log(LogKind::SocketError, "Error condition on socket for SYNC: refused", 1);
        *e.probe() = Probe { tls: true, connect: Connect::TlsSetup("no certificate".into()), ..blank(PRIMARY) };
    });
    assert_eq!(refused, Some(Cause::Unknown), "not a word of certificates");
}

const WRONG: &str = "Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn tls_that_fails_for_the_probe_alone_hides_nothing_that_the_replica_tells() {
    let with = |connect: Connect, logged: bool| {
        move |e: &mut Evidence| {
            e.break_link(LinkState::Connect);
            *e.probe() = Probe { tls: true, connect, ..blank(PRIMARY) };
            if logged {
                e.log(LogKind::AuthFailed, WRONG, 3);
            }
        }
    };
    let setup = || Connect::TlsSetup("CertificateRequired: relinkd shows no certificate".into());
    assert_eq!(cause(with(setup(), false)), Some(Cause::Unknown), "our own trouble is nobody's cause");
    assert_eq!(verdict(with(setup(), true)), (Cause::AuthRejected, false));
    let refused = || Connect::Tls("invalid peer certificate: UnknownIssuer".into());
    assert_eq!(verdict(with(refused(), false)), (Cause::TlsCertificate, true));
    assert_eq!(verdict(with(refused(), true)), (Cause::AuthRejected, false), "the replica gets as far as AUTH");
    let no_login = |e: &mut Evidence| {
        e.break_link(LinkState::Connect).log(LogKind::AuthFailed, WRONG, 3);
        e.settings().login_not_text = true;
        *e.probe() = Probe { with_password: false, ping: error("NOAUTH x"), ..blank(PRIMARY) };
    };
    assert_eq!(verdict(no_login), (Cause::AuthRejected, false), "a login that relinkd cannot send");
}

#[test]
fn a_primary_without_its_data_is_named_while_the_replica_still_holds_it() {
    let empty = |e: &mut Evidence| {
        e.break_link(LinkState::Connect);
        let primary = seen(&mut e.primary);
        (primary.keys, primary.replid, primary.replid2) = (0, "f".repeat(40), "0".repeat(40));
        e.server().keys = 50;
    };
    assert_eq!(verdict(empty), (Cause::PrimaryEmptied, false));
    assert_ne!(
        cause(|e| {
            empty(e);
            seen(&mut e.primary).loading = true;
        }),
        Some(Cause::PrimaryEmptied)
    );
    assert_ne!(
        cause(|e| {
            empty(e);
            seen(&mut e.primary).keys = 1;
        }),
        Some(Cause::PrimaryEmptied)
    );
    let followed = |e: &mut Evidence| {
        e.server().keys = 0;
        e.trend.emptied = Some((e.ended, 50));
    };
    assert_eq!(cause(followed), Some(Cause::PrimaryEmptied));
}

/// The primary's own host: what it would log in with, were it a replica again.
fn on_the_primary(e: &mut Evidence, said: Answer) {
    e.local = match std::mem::replace(&mut e.local, Reading::Missing(Missing::NotAsked)) {
        Reading::Seen(view) => Reading::Seen(ServerView { role: Role::Primary, ..view }),
        missing => missing,
    };
    e.address = Address::Tcp(at(PRIMARY));
    e.upstream = Reading::Missing(Missing::NotAsked);
    e.standbys = vec![Probe { auth: said, ..green(OTHER) }];
}

#[test]
fn a_primary_whose_own_password_no_standby_takes_is_latent_and_one_that_is_taken_is_well() {
    let wrong = || error("WRONGPASS invalid username-password pair or user is disabled.");
    let finding = found(|e| on_the_primary(e, wrong()));
    assert_eq!((finding.cause, finding.link_up), (Cause::AuthLatent, true));
    assert!(finding.because[0].means.contains("could not come back as a replica"), "{finding:?}");
    assert_eq!(cause(|e| on_the_primary(e, Answer::Ok("OK".into()))), None);
    assert_eq!(cause(|e| on_the_primary(e, Answer::TimedOut)), None, "what was not judged is no fault");
}
