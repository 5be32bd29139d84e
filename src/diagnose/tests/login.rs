//! The login: the first bad reply, word for word.

use super::*;

#[test]
fn a_password_that_the_primary_does_not_take_is_rejected() {
    assert_eq!(verdict(|e| _ = e.reject_password()), (Cause::AuthRejected, false));
    let old = |e: &mut Evidence| {
        e.reject_password();
        e.probe().auth = error("ERR invalid password");
    };
    assert_eq!(cause(old), Some(Cause::AuthRejected), "before Redis 6.0");
}

#[test]
fn another_error_to_auth_is_not_called_a_rejected_password() {
    for text in ["ERR unknown command 'AUTH'", "LOADING Redis is loading", "ERR wrong number of arguments"] {
        let odd = |e: &mut Evidence| {
            e.reject_password();
            e.probe().auth = error(text);
        };
        assert_eq!(cause(odd), Some(Cause::Unknown), "{text}");
    }
}

#[test]
fn a_password_where_the_primary_has_none_is_unexpected() {
    let unexpected = |e: &mut Evidence| {
        e.reject_password();
        e.probe().auth = error("ERR AUTH <password> called without any password configured for the default user.");
    };
    assert_eq!(cause(unexpected), Some(Cause::AuthUnexpected));
}

fn without_password(e: &mut Evidence) {
    e.break_link(LinkState::Handshake);
    e.settings().masterauth_set = false;
    let refused = error("NOAUTH Authentication required.");
    let probe = Probe { with_password: false, replconf: refused.clone(), psync: refused, ..blank(PRIMARY) };
    e.upstream = Reading::Seen(Probe { ping: error("NOAUTH Authentication required."), ..probe });
}

#[test]
fn no_password_where_the_primary_wants_one_is_missing() {
    assert_eq!(verdict(without_password), (Cause::AuthMissing, false));
    let hot = |e: &mut Evidence| {
        without_password(e);
        e.link().state = LinkState::Sync;
        e.link().syncing = true;
    };
    assert_eq!(cause(hot), Some(Cause::AuthMissing), "a hot loop flickers through sync");
}

/// CONFIG GET is denied, so the probe ends with the first PING.
fn blind(e: &mut Evidence) -> &mut Evidence {
    e.break_link(LinkState::Connect);
    e.settings = Reading::Missing(Missing::Denied("NOPERM".into()));
    let ping = error("NOAUTH Authentication required.");
    e.upstream = Reading::Seen(Probe { with_password: false, ping, ..blank(PRIMARY) });
    e
}

#[test]
fn without_config_get_a_noauth_to_the_probe_says_nothing_about_the_replicas_password() {
    assert_eq!(cause(|e| _ = blind(e)), Some(Cause::Unknown));
}

#[test]
fn without_config_get_the_replicas_own_log_is_the_witness() {
    let wrong = "Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(cause(|e| _ = blind(e).log(LogKind::AuthFailed, wrong, 3)), Some(Cause::AuthRejected));
    let none = "MASTER aborted replication with an error: NOAUTH Authentication required.";
    assert_eq!(cause(|e| _ = blind(e).log(LogKind::SyncAborted, none, 3)), Some(Cause::AuthMissing));
    let old = |e: &mut Evidence| {
        blind(e).log(LogKind::AuthFailed, wrong, 3);
        e.ended = e.ended.after(Duration::from_secs(60));
    };
    assert_eq!(cause(old), Some(Cause::Unknown), "a line from another break");
}

#[test]
fn a_log_line_does_not_speak_where_the_probe_could() {
    let healed = |e: &mut Evidence| {
        e.break_link(LinkState::Connect).log(LogKind::AuthFailed, "Unable to AUTH to MASTER: -WRONGPASS", 3);
    };
    assert_eq!(cause(healed), Some(Cause::Unknown), "the password works again; the replica has not retried yet");
}

#[test]
fn a_user_who_may_not_replicate_is_forbidden() {
    let psync = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake);
        e.probe().psync = error("NOPERM this user has no permissions to run the 'psync' command");
    };
    assert_eq!(cause(psync), Some(Cause::AuthForbidden));
    let replconf = |e: &mut Evidence| {
        e.break_link(LinkState::Handshake);
        e.probe().replconf = error("NOPERM User repl has no permissions to run the 'replconf' command");
    };
    assert_eq!(cause(replconf), Some(Cause::ReplconfRefused), "the link comes up, and drops every second");
    let ping = |e: &mut Evidence| e.probe().ping_again = error("NOPERM no ping");
    assert_eq!(cause(ping), None, "a missing +ping is no fault");
    let old = |e: &mut Evidence| {
        e.break_link(LinkState::Connect).log(LogKind::PsyncRefused, "Unexpected reply to PSYNC: -NOPERM", 9);
        e.ended = e.ended.after(Duration::from_secs(60));
    };
    assert_eq!(cause(old), Some(Cause::Unknown));
}

/// `+psync|?` allows what the probe asks, and not what a replica asks.
#[test]
fn a_user_who_may_only_ask_as_a_probe_does_is_forbidden_by_the_lines_that_outlive_the_probe() {
    let refused = |line_ms: u64, let_in_ms: Option<u64>| {
        let ago = |e: &Evidence, ms| e.ended.before(Duration::from_millis(ms));
        diagnose(&bent(|e| {
            e.break_link(LinkState::Connect).log(LogKind::PsyncRefused, "Unexpected reply to PSYNC: -NOPERM", 9);
            seen(&mut e.log).lines[0].last = ago(e, line_ms);
            e.trend.let_in = let_in_ms.map(|ms| ago(e, ms));
        }))
    };
    assert_eq!(refused(200, None).cause(), Some(Cause::Unknown), "it may be of the time before the grant");
    assert_eq!(refused(200, Some(1_000)).cause(), Some(Cause::Unknown), "it may have been read late");
    assert_eq!(refused(12_000, Some(10_000)).cause(), Some(Cause::Unknown), "older than the grant");
    let Diagnosis::Broken(finding) = refused(200, Some(10_000)) else { panic!() };
    assert_eq!((finding.cause, finding.suspected), (Cause::AuthForbidden, false));
    assert!(finding.because[0].means.contains("`|?`"), "{finding:?}");
}

#[test]
fn the_first_obstacle_of_the_handshake_is_the_one_that_is_named() {
    let no_route_and_wrong_password = |e: &mut Evidence| {
        e.reject_password();
        e.probe().connect = Connect::Refused;
    };
    assert_eq!(cause(no_route_and_wrong_password), Some(Cause::PrimaryDown));
    let exhausted = |e: &mut Evidence| {
        e.reject_password();
        e.probe().ping = error("ERR max number of clients reached");
    };
    assert_eq!(cause(exhausted), Some(Cause::ConnectionsExhausted));
    let astray = |e: &mut Evidence| {
        e.reject_password().each_sentinel(|says| says.primary = at(OTHER));
    };
    assert_eq!(cause(astray), Some(Cause::WrongPrimary), "a password for the wrong server is not the trouble");
}

/// A primary that is far away: the look was over before the walk.
#[test]
fn what_a_look_was_too_short_to_ask_says_nothing_and_is_told() {
    let cut_short = |e: &mut Evidence| {
        e.break_link(LinkState::Connect).stood(LONG);
        let probe = e.probe();
        (probe.psync, probe.cut_short, probe.took_us) = (Answer::NotAsked, true, 1_480_000);
        probe.version = Some("7.0.15".into());
        e.primary = Reading::Missing(Missing::TimedOut);
    };
    let Diagnosis::Inconclusive { missing, .. } = diagnose(&bent(cut_short)) else { panic!("nothing was seen") };
    let told = &missing[0];
    assert!(told.saw.contains("the look was over before PSYNC was answered, 1480 ms"), "{told:?}");
    assert!(told.means.contains("far away"), "{told:?}");
    let before_the_login = |e: &mut Evidence| {
        cut_short(e);
        let target = blank(PRIMARY);
        *e.probe() = Probe { cut_short: true, with_password: true, ping: error("NOAUTH x"), ..target };
        e.log(LogKind::AuthFailed, "Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair", 5);
    };
    assert_eq!(verdict(before_the_login), (Cause::AuthRejected, false), "the replica's own log came further");
}
