//! Nodes that are not found, or under a wrong address.

use super::*;

#[test]
fn nodes_that_sentinels_do_not_find_are_told() {
    each(&[
        ("all are listed", |v| serves(v, 1, &[at(2), at(3)]), &[]),
        ("a replica of a replica", |v| serves(v, 2, &[at(9)]), &["warn announced-addresses 2"]),
        ("a replica that no Sentinel lists", |v| serves(v, 1, &[at(2), at(3), at(9)]), &["warn announced-addresses 1"]),
        ("two under one address", |v| serves(v, 1, &[at(2), at(3), at(3)]), &["fail announced-addresses 1"]),
        (
            "one that has come back, beside its old connection",
            |v| {
                serves(v, 1, &[at(2), at(3), at(3)]);
                server_of(v, 1).replicas[1].lag_s = 20;
            },
            &[],
        ),
        (
            "Sentinels go by names",
            |v| {
                let named = Endpoint::new("db3", 6379);
                v.nodes[2].address = named.clone();
                v.logins[2].at = named.clone();
                says_all(v, |says| says.replicas[1].endpoint = named.clone());
                serves(v, 1, &[at(2), at(3)]);
            },
            &[],
        ),
        ("a primary that announces its own", |v| settings_of(v, 1).announce_ip = "10.0.0.1".into(), &[]),
        ("one that announces another", |v| settings_of(v, 1).announce_port = 22, &["warn announced-addresses 1"]),
        ("a name beside a number", |v| settings_of(v, 1).announce_ip = "db1".into(), &[]),
        ("a primary that is not announced", |v| settings_of(v, 1).announced = false, &["warn announced-addresses 1"]),
    ]);
}

#[test]
fn what_sentinels_do_not_tell_of_replicas_is_no_fault_of_theirs() {
    each(&[
        (
            "all are refused",
            |v| {
                says_all(v, |says| {
                    says.replicas.clear();
                    says.replicas_missing = Some(Missing::Denied("NOPERM no".into()));
                });
                v.sentinels.iter_mut().for_each(|sentinel| sentinel.ghosts = denied());
            },
            &["unseen listed 2", "unseen announced-addresses", "unseen candidates"],
        ),
        (
            "one is refused",
            |v| {
                let says = says_of(v, 1);
                says.replicas.clear();
                says.replicas_missing = Some(Missing::Denied("NOPERM no".into()));
                v.sentinels[0].ghosts = denied();
            },
            &["unseen announced-addresses"],
        ),
    ]);
}

/// `localhost` here, and a number there, while it cannot be read who it is.
#[test]
fn an_instance_that_is_not_recognised_is_no_node_more() {
    let mut view = sound();
    let mut twin = node(2);
    twin.address = Endpoint::new("localhost", 6379);
    twin.account = Reading::Missing(Missing::TimedOut);
    twin.settings = Reading::Missing(Missing::TimedOut);
    twin.growth = Reading::Missing(Missing::TimedOut);
    view.nodes[1].local = None;
    view.nodes.push(twin);
    settings_of(&mut view, 3).min_replicas_to_write = 2;
    let mut silent = proof("a", 2);
    silent.at = Endpoint::new("localhost", 6379);
    (silent.probe.auth, silent.probe.ping) = (Answer::NotAsked, Answer::TimedOut);
    view.logins.push(silent);
    assert_eq!(told(&view), ["unseen node-reachable localhost", "fail min-replicas"]);
}

/// More replicas exist than are listed: nobody has to add one.
#[test]
fn a_replica_that_is_there_is_not_to_be_added() {
    let mut view = sound();
    view.nodes.remove(2);
    view.logins.remove(2);
    says_all(&mut view, |says| says.replicas.truncate(1));
    let advice = |view: &GroupView| {
        let check = judge(view, OUTAGE).into_iter().find(|check| check.name == "candidates").unwrap();
        check.mend.join("\n")
    };
    assert!(advice(&view).contains("add a second replica"));
    serves(&mut view, 1, &[at(2), at(9)]);
    assert!(!advice(&view).contains("add a"), "{}", advice(&view));
}
