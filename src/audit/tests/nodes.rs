//! Nodes that could not take over, would lose data, or would not let the others in.

use super::*;

#[test]
fn nodes_that_could_not_take_over_are_told() {
    each(&[
        ("nobody may be promoted", |v| (2..=3).for_each(|n| server_of(v, n).priority = 0), &["fail candidates"]),
        ("only one may be promoted", |v| server_of(v, 2).priority = 0, &["warn candidates"]),
        (
            "both are too long without their primary for Sentinel",
            |v| says_all(v, |says| says.replicas.iter_mut().for_each(|r| r.link_down_ms = 60_000)),
            &["fail candidates"],
        ),
        (
            "there is no replica",
            |v| {
                v.nodes.truncate(1);
                says_all(v, |says| says.replicas.clear());
                v.logins.truncate(1);
            },
            &["fail candidates", "unseen masterauth 1"],
        ),
        ("a link is down", |v| down(v, 3, 5), &["fail replica-link 3"]),
        (
            "a replica loads",
            |v| {
                down(v, 3, 5);
                link_of(v, 3).syncing = true;
            },
            &["warn replica-link 3"],
        ),
        ("a replica follows another replica", |v| link_of(v, 3).primary = at(2), &["warn replica-link 3"]),
        ("a replica never synced", |v| down(v, 3, -1), &["fail replica-link 3", "fail replica-data 3"]),
        ("a replica is empty", |v| server_of(v, 3).keys = 0, &["fail replica-data 3"]),
        ("all are empty", |v| (1..=3).for_each(|n| server_of(v, n).keys = 0), &[]),
        ("two primaries", |v| server_of(v, 3).role = Role::Primary, &["fail role 3"]),
        (
            "a newer replica, whose data the others cannot load",
            |v| server_of(v, 3).version = "7.2.4".into(),
            &["fail versions"],
        ),
        (
            "a newer one that is not to be promoted",
            |v| {
                server_of(v, 3).version = "7.2.4".into();
                server_of(v, 3).priority = 0;
            },
            &["warn candidates", "warn versions"],
        ),
        (
            "a replica that is gone for everybody",
            |v| {
                v.nodes[2].account = Reading::Missing(Missing::TimedOut);
                v.nodes[2].settings = Reading::Missing(Missing::TimedOut);
                v.logins.remove(2);
                says_all(v, |says| says.replicas[1].flags = flags(&["slave", "s_down"]));
            },
            &["warn node-reachable 3", "warn candidates"],
        ),
        (
            "a nameless replica",
            |v| v.sentinels[0].ghosts = Reading::Seen(vec!["10.0.0.3:0".into()]),
            &["warn announced-addresses"],
        ),
        (
            "this host's replica is not listed",
            |v| says_all(v, |says| says.replicas.retain(|replica| replica.endpoint != at(2))),
            &["fail listed 2", "warn candidates"],
        ),
        ("stale data here, none there", |v| settings_of(v, 3).serve_stale_data = false, &["warn stale-data"]),
        ("a new primary would refuse writes", |v| settings_of(v, 3).min_replicas_to_write = 2, &["fail min-replicas"]),
        ("the present one would, later", |v| settings_of(v, 1).min_replicas_to_write = 2, &["warn min-replicas"]),
        (
            "the same with the guard off",
            |v| (settings_of(v, 3).min_replicas_to_write, settings_of(v, 3).min_replicas_max_lag_s) = (2, 0),
            &[],
        ),
        (
            "the replica that would be left is dead",
            |v| {
                settings_of(v, 2).min_replicas_to_write = 1;
                v.nodes[2].account = Reading::Missing(Missing::TimedOut);
                v.nodes[2].settings = Reading::Missing(Missing::TimedOut);
                v.logins.remove(2);
                says_all(v, |says| says.replicas[1].flags = flags(&["slave", "s_down"]));
            },
            &["warn node-reachable 3", "warn candidates", "fail min-replicas"],
        ),
        (
            "the replica that would be left has no link",
            |v| {
                settings_of(v, 2).min_replicas_to_write = 1;
                down(v, 3, 5);
            },
            &["fail replica-link 3", "fail min-replicas"],
        ),
    ]);
}

#[test]
fn data_at_risk_is_told() {
    each(&[
        ("a save fails", |v| server_of(v, 3).rdb_last_save_ok = false, &["fail save-status 3"]),
        (
            "a save fails, and nothing stops for it",
            |v| {
                server_of(v, 3).rdb_last_save_ok = false;
                settings_of(v, 3).stop_writes = false;
            },
            &["warn save-status 3"],
        ),
        ("the append-only file fails", |v| server_of(v, 1).aof_last_write_ok = false, &["fail append-status 1"]),
        (
            "a primary that is started again at once keeps nothing",
            |v| {
                settings_of(v, 1).save.clear();
                v.nodes[0].restart = restart("always", 100);
            },
            &["fail persistence 1"],
        ),
        (
            "one that is not started again keeps nothing",
            |v| {
                settings_of(v, 1).save.clear();
                v.nodes[0].restart = restart("no", 100);
            },
            &["warn persistence 1"],
        ),
        (
            "a primary keeps nothing, and what starts it again was not read",
            |v| settings_of(v, 1).save.clear(),
            &["warn persistence 1"],
        ),
        (
            "a primary keeps an RDB that is behind, and what starts it again was not read",
            |v| server_of(v, 1).unsaved_changes = Some(1000),
            &["warn persistence 1"],
        ),
        (
            "the same, and Sentinel is quicker than systemd",
            |v| {
                server_of(v, 1).unsaved_changes = Some(1000);
                v.nodes[0].restart = restart("always", 60_000);
            },
            &[],
        ),
        (
            "the same with an append-only file",
            |v| (server_of(v, 1).unsaved_changes, settings_of(v, 1).append_only) = (Some(1000), true),
            &[],
        ),
        (
            "an empty replica that is not promoted",
            |v| (server_of(v, 3).keys, server_of(v, 3).priority) = (0, 0),
            &["warn candidates", "warn replica-data 3"],
        ),
        (
            "the same where its host has no unit for it, as in a container",
            |v| {
                server_of(v, 1).unsaved_changes = Some(1000);
                v.nodes[0].restart = Reading::Missing(Missing::Unsupported("no system unit".into()));
            },
            &["warn persistence 1"],
        ),
        (
            "the same where nothing starts it again",
            |v| {
                server_of(v, 1).unsaved_changes = Some(1000);
                v.nodes[0].restart = restart("no", 100);
            },
            &[],
        ),
        ("a replica keeps nothing", |v| settings_of(v, 3).save.clear(), &["warn persistence 3"]),
    ]);
}

#[test]
fn logins_that_would_fail_are_told() {
    /// Node `holder` has a login of its own, refused or not at `at_node`.
    fn other(view: &mut GroupView, holder: usize, at_node: usize, auth: Answer) {
        settings_of(view, holder).login = "b".into();
        let mut proofs = [1, 2, 3].map(|number| proof("b", number)).to_vec();
        proofs[at_node - 1].probe.auth = auth;
        view.logins.extend(proofs);
    }
    each(&[
        (
            "one replica's would be refused by the other, once that is primary",
            |v| other(v, 3, 2, error("WRONGPASS no")),
            &["fail masterauth 3", "warn masterauth-equal"],
        ),
        (
            "the primary has none",
            |v| {
                other(v, 1, 2, Answer::NotAsked);
                settings_of(v, 1).masterauth_set = false;
            },
            &["fail masterauth 1", "warn masterauth-equal"],
        ),
        (
            "refused only by itself, where it never logs in",
            |v| other(v, 3, 3, error("WRONGPASS no")),
            &["warn masterauth-equal"],
        ),
        (
            "a peer loads",
            |v| {
                v.logins[2].probe.auth = Answer::NotAsked;
                v.logins[2].probe.ping = error("LOADING Redis is loading");
            },
            &["unseen masterauth 1", "unseen masterauth 2"],
        ),
        (
            "psync is not allowed on a node",
            |v| v.logins[2].probe.psync = error("NOPERM no"),
            &["fail replication-acl 3"],
        ),
        (
            "replconf is renamed on a node",
            |v| v.logins[0].probe.replconf = error("ERR unknown command 'REPLCONF'"),
            &["fail replication-acl 1"],
        ),
        (
            "a login that is not text",
            |v| {
                settings_of(v, 3).login_not_text = true;
                settings_of(v, 3).login = "mangled".into();
            },
            &["unseen masterauth 3"],
        ),
        (
            "psync was not tried, and the link that is up has done it",
            |v| v.logins[0].probe.psync = Answer::NotAsked,
            &[],
        ),
        (
            "psync was not tried, and the user's rules allow it",
            |v| {
                v.logins[1].probe.psync = Answer::NotAsked;
                v.nodes[1].rights = may_replicate(true);
            },
            &[],
        ),
        (
            "psync was not tried, and the user's rules do not allow it",
            |v| {
                v.logins[1].probe.psync = Answer::NotAsked;
                v.nodes[1].rights = may_replicate(false);
            },
            &["fail replication-acl 2"],
        ),
        ("psync was not tried", |v| v.logins[1].probe.psync = Answer::NotAsked, &["unseen replication-acl 2"]),
    ]);
}

/// Its data would be lost to the others after a failover: `versions` asks for that very 0.
#[test]
fn a_newer_replica_is_not_to_be_made_a_candidate() {
    let raised = |newer: bool| {
        let mut view = sound();
        server_of(&mut view, 3).priority = 0;
        if newer {
            server_of(&mut view, 3).version = "7.2.4".into();
        }
        let checks = judge(&view, OUTAGE);
        checks.into_iter().flat_map(|check| check.mend).any(|mend| mend.contains("replica-priority 100"))
    };
    assert!(raised(false) && !raised(true));
}

/// `replica-data` wants that 0: Sentinel promotes an empty replica as it does any other, and all are empty then.
#[test]
fn an_empty_replica_is_not_to_be_made_a_candidate() {
    let table: &[(&str, Change, bool)] = &[
        ("it follows and holds data", |_| (), true),
        ("it is empty", |v| server_of(v, 3).keys = 0, false),
        ("it never synced", |v| down(v, 3, -1), false),
        ("its link is down", |v| down(v, 3, 5), false),
        ("it cannot be read", |v| v.nodes[2].account = Reading::Missing(Missing::TimedOut), false),
        ("it is empty as the primary is", |v| (server_of(v, 3).keys, server_of(v, 1).keys) = (0, 0), true),
        (
            "it is empty, and the primary cannot be read",
            |v| {
                server_of(v, 3).keys = 0;
                v.nodes[0].account = Reading::Missing(Missing::TimedOut);
            },
            false,
        ),
    ];
    for (what, change, raised) in table {
        for all in [true, false] {
            let mut view = sound();
            server_of(&mut view, 3).priority = 0;
            if all {
                server_of(&mut view, 2).priority = 0;
            }
            says_all(&mut view, |says| says.replicas[1].priority = 0);
            change(&mut view);
            let checks = judge(&view, OUTAGE).into_iter().filter(|check| check.name == "candidates");
            let mends: Vec<String> = checks.flat_map(|check| check.mend).collect();
            let of_3 = |mend: &&String| mend.contains("10.0.0.3") && mend.contains("replica-priority 100");
            assert_eq!(mends.iter().any(|mend| of_3(&mend)), *raised, "{what}: {mends:#?}");
            // Without a primary no link comes up before a promotion, and a person chooses.
            let primary_tells = view.nodes[0].account.seen().is_some();
            let says = if primary_tells { "keep 10.0.0.3:6379 at 0" } else { "the primary does not answer: of " };
            let kept = mends.iter().any(|mend| mend.contains(says));
            assert_eq!(kept, !raised, "{what}: {mends:#?}");
        }
    }
}
