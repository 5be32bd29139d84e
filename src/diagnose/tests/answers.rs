//! What answers at the address: no data node, or one that refuses.

use super::*;

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
    assert!(super::super::handshake_works(bent(failing(LinkState::Sync, None)).upstream.seen().unwrap()));
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
fn a_group_without_passwords_has_green_handshakes_too() {
    let bare = Probe { with_password: false, ping: Answer::Ok("PONG".into()), ..green(PRIMARY) };
    let bare = Probe { auth: Answer::NotAsked, ping_again: Answer::NotAsked, ..bare };
    assert!(super::super::handshake_works(&bare));
    assert!(!super::super::handshake_works(&Probe { ping: error("LOADING"), ..bare.clone() }));
    assert!(!super::super::handshake_works(&Probe { psync: error("NOPERM no psync"), ..bare.clone() }));
    assert!(!super::super::handshake_works(&Probe { psync: Answer::NotAsked, ..bare.clone() }), "what was not asked");
    assert!(
        super::super::handshake_works(&Probe { ping_again: error("NOPERM no ping"), ..green(PRIMARY) }),
        "no fault"
    );
    assert!(!super::super::handshake_works(&Probe { ping_again: error("LOADING"), ..green(PRIMARY) }));
    let of = |state| Reading::Seen(PeerRole::Replica { of: at(OTHER), state });
    assert!(!super::super::handshake_works(&Probe { role: of(LinkState::Connect), ..green(PRIMARY) }));
    assert!(
        super::super::handshake_works(&Probe { role: of(LinkState::Connected), ..green(PRIMARY) }),
        "it serves as one does"
    );
}
