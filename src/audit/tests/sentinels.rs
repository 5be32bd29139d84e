//! What Sentinels could not do, or do not see.

use super::*;

#[test]
fn sentinels_that_could_not_act_are_told() {
    each(&[
        ("one is silent", |v| v.sentinels[2].says = Reading::Missing(Missing::TimedOut), &["warn sentinels-reachable"]),
        (
            "two are silent",
            |v| v.sentinels[1..].iter_mut().for_each(|s| s.says = Reading::Missing(Missing::TimedOut)),
            &["unseen sentinels-reachable"],
        ),
        (
            "only one exists",
            |v| {
                v.sentinels.truncate(1);
                v.sentinels[0].peers = Reading::Seen(Vec::new());
                says_all(v, |says| (says.others, says.quorum) = (0, 1));
            },
            &["warn sentinel-count", "warn sentinel-hosts"],
        ),
        (
            "two live on the primary's host, and one of them is dialled as localhost",
            |v| {
                v.sentinels[1].endpoint = Endpoint::new("127.0.0.1", 26380);
                peers_of(v, 1)[0].endpoint = Endpoint::new("10.0.0.1", 26380);
            },
            &["warn sentinel-hosts"],
        ),
        (
            "two live on the primary's host",
            |v| v.sentinels[1].endpoint = Endpoint::new("10.0.0.1", 26380),
            &["warn sentinel-hosts"],
        ),
        ("one is not configured", |v| v.sentinels[2].configured = false, &["warn sentinels-configured"]),
        (
            "no majority lives",
            |v| says_of(v, 1).ckquorum = Reading::Seen(Quorum { ok: false, text: "NOQUORUM".into() }),
            &["fail quorum-reached 1"],
        ),
        ("one names another primary", |v| says_of(v, 3).primary = at(3), &["fail sentinels-agree"]),
        ("a quorum that is never reached", |v| says_all(v, |says| says.quorum = 4), &["fail quorum-setting"]),
        ("a quorum of one", |v| says_all(v, |says| says.quorum = 1), &["warn quorum-setting"]),
        ("a quorum of all", |v| says_all(v, |says| says.quorum = 3), &["warn quorum-setting"]),
        ("one does not tell the others", |v| v.sentinels[0].peers = denied(), &["unseen sentinel-peers"]),
        ("one does not tell nameless replicas", |v| v.sentinels[0].ghosts = denied(), &["unseen announced-addresses"]),
        (
            "their user may not promote a node",
            |v| {
                let lacks = vec!["+slaveof".to_owned()];
                v.nodes[1].rights =
                    Reading::Seen(Rights { sentinels: [("snt".to_owned(), lacks)].into(), ..Rights::default() });
            },
            &["fail sentinel-acl 2"],
        ),
        ("their rights were not asked", |v| v.nodes[1].rights = Reading::Missing(Missing::NotAsked), &[]),
        (
            "one alone lists a replica",
            |v| (1..=2).for_each(|n| says_of(v, n).replicas.retain(|replica| replica.endpoint != at(3))),
            &["unseen sentinel-logins 3", "warn candidates"],
        ),
        ("quorums differ", |v| says_of(v, 1).quorum = 3, &["warn quorum-setting"]),
        ("timers differ", |v| says_of(v, 1).down_after_ms = 6_000, &["warn sentinel-timers"]),
        ("a nervous timer", |v| says_all(v, |says| says.down_after_ms = 100), &["warn sentinel-timers"]),
        ("a short failover", |v| says_all(v, |says| says.failover_timeout_ms = 5_000), &["warn sentinel-timers"]),
        ("one does not reach another", |v| peers_of(v, 1)[0].down = true, &["warn sentinel-peers"]),
        ("a failover runs", |v| says_of(v, 1).failover_state = Some("x".into()), &["warn failover-running"]),
        ("one is in TILT", |v| says_of(v, 2).tilt = Reading::Seen(true), &["warn sentinel-tilt 2"]),
        (
            "all are refused by a healthy primary",
            |v| says_all(v, |says| says.flags = flags(&["master", "s_down", "disconnected"])),
            &["fail sentinel-logins 1"],
        ),
        (
            "all are refused, and down-after has not passed yet",
            |v| says_all(v, |says| (says.last_reply_ms, says.last_ok_ping_ms) = (Some(400), Some(4_400))),
            &["fail sentinel-logins 1"],
        ),
        (
            "one gets nothing but errors from a replica",
            |v| {
                let replica = &mut says_of(v, 1).replicas[0];
                (replica.last_reply_ms, replica.last_ok_ping_ms) = (Some(400), 4_400);
            },
            &["warn sentinel-logins 2"],
        ),
        (
            "one is refused by a replica",
            |v| says_of(v, 1).replicas[0].flags = flags(&["slave", "disconnected"]),
            &["warn sentinel-logins 2"],
        ),
    ]);
}

/// A stale password and a cut network have different cures.
#[test]
fn sentinels_that_get_errors_are_told_from_those_that_get_nothing() {
    let said = |reply: Option<u64>, good: Option<u64>| {
        let mut view = sound();
        says_all(&mut view, |says| {
            says.flags = flags(&["master", "s_down"]);
            (says.last_reply_ms, says.last_ok_ping_ms) = (reply, good);
        });
        let found = judge(&view, OUTAGE)
            .into_iter()
            .find(|check| check.name == "sentinel-logins" && check.verdict == Verdict::Fail);
        let found = found.expect("they hold it down");
        (found.means.clone(), found.mend.join("\n"))
    };
    let (means, mend) = said(Some(300), Some(60_000));
    assert!(
        means.starts_with("their login is refused (auth-user, auth-pass):") && mend.contains("auth-pass"),
        "{means}"
    );
    assert!(
        mend.contains("grep -q . PWFILE && printf") && mend.contains("\"$(cat PWFILE)\" |") && !mend.contains(" -a "),
        "no password on a command line: {mend}"
    );
    let (means, mend) = said(Some(60_000), Some(60_000));
    assert!(means.starts_with("no login is refused there") && !mend.contains("auth-pass"), "{means}: {mend}");
    assert!(said(None, None).0.contains("or the network"), "not told");
}
