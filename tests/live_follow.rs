//! The daemon follows the secret store: a rotation is over before any link breaks, on a replica's host and on the
//! primary's.

mod live;

use std::time::{Duration, Instant};

use lab::{Agent, Group, Kind, Receiver, Server};
use live::checks::{actions, text};
use live::{PATIENCE, RELINKD, Scene, Setup, config};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";
const WRONG: &str = "wrong-CANARY-3";

const OFTEN: &str = "settle = \"300ms\"\nbackground = \"2s\"\n[policy.realign-auth]\ncooldown = \"1s\"\n";

fn masterauth(server: &Server) -> String {
    server.query::<Vec<String>>(&["CONFIG", "GET", "masterauth"]).expect("masterauth")[1].clone()
}

/// How many logins the server has refused.
fn refused(server: &Server) -> u64 {
    let stats: String = server.query(&["INFO", "errorstats"]).expect("INFO");
    let count = |line: &str| line.strip_prefix("errorstat_WRONGPASS:count=").and_then(|n| n.trim().parse().ok());
    stats.lines().find_map(count).unwrap_or(0)
}

#[test]
fn a_rotation_with_both_passwords_valid_reaches_the_replica_before_the_old_one_goes() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let group = Group::builder(kind).replicas(1).sentinels(3).password(OLD).start().expect("a group");
    let setup = Setup { store: Some(OLD.to_owned()), policy: OFTEN.to_owned(), ..Setup::default() };
    let scene = Scene::start(group, &setup);
    let primary = scene.group.primary();
    let in_use = |status: &serde_json::Value| status["secret"]["standing"] == "in-use";
    scene.wait_status("the store is followed", in_use);
    let (full, partial) = (primary.sync_full(), primary.query::<String>(&["INFO", "stats"]).expect("INFO"));
    let resumed = |stats: &str| stats.lines().find(|line| line.starts_with("sync_partial_ok")).map(str::to_owned);
    assert_eq!(refused(primary), 0);

    // The store is ahead: no incident, no change, and few tries.
    let began = Instant::now();
    scene.store(NEW);
    let status = scene.wait_status("the store is ahead", |status| status["secret"]["standing"] == "ahead");
    assert!(text(&status["sentence"]).contains("is ahead") && status["incident"].is_null(), "{status:#}");
    std::thread::sleep(Duration::from_secs(5));
    let most = began.elapsed().as_secs() / 2 + 2;
    assert!((1..=most).contains(&refused(primary)), "{} refused logins, {most} at most", refused(primary));
    assert_eq!((masterauth(scene.replica()).as_str(), scene.incidents().len()), (OLD, 0));

    // The primary takes both: the replica gets the new one, and its link does not notice.
    primary.run(&["ACL", "SETUSER", "default", &format!(">{NEW}")]).expect("a second password");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-latent", "{opened:#}");
    assert!(opened["because"].to_string().contains("have moved on"), "{opened:#}");
    let resolved = scene.over(&text(&opened["id"]));
    assert_eq!(actions(&resolved).first(), Some(&("realign-auth".to_owned(), "changed".to_owned())), "{resolved:#}");
    assert_eq!(masterauth(scene.replica()), NEW);
    scene.wait_status("aligned", in_use);
    let now = primary.query::<String>(&["INFO", "stats"]).expect("INFO");
    assert_eq!((primary.sync_full(), resumed(&now)), (full, resumed(&partial)), "the link was not touched");

    // The old one goes, and a real reconnect is the proof.
    primary.run(&["ACL", "SETUSER", "default", &format!("<{OLD}")]).expect("the old password goes");
    scene.replica().run(&["CLIENT", "KILL", "TYPE", "master"]).expect("the link is cut");
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    assert_eq!(scene.incidents().len(), 1);
    scene.assert_no_secret();
}

/// A stale masterauth on the primary shows only when a failover has made it a replica. It is put right before.
#[test]
fn the_primarys_own_masterauth_is_put_right_before_a_failover_needs_it() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let receiver = Receiver::start().expect("a receiver");
    let mut agent = Agent::new(RELINKD).expect("a place for relinkd");
    let setup = Setup { store: Some(WRONG.to_owned()), policy: OFTEN.to_owned(), ..Setup::default() };
    let primary = group.primary().clone();
    primary.run(&["CONFIG", "SET", "masterauth", WRONG]).expect("a stale masterauth");
    let text_of = config(&agent, &group, &primary, &receiver.url(), &setup);
    agent.start(&text_of).expect("relinkd starts");
    let scene = Scene { agent, receiver, group };

    let (id, why) = scene.held("auth-latent", "secret-rejected");
    assert!(why.contains("which may be promoted, answers") && why.contains("WRONGPASS"), "{why}");
    let opened = scene.told_of(&id, "opened");
    assert!(opened["because"].to_string().contains("could not come back as a replica"), "{opened:#}");
    assert_eq!(masterauth(&primary), WRONG, "nothing was changed");

    scene.store(OLD);
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved).first(), Some(&("realign-auth".to_owned(), "changed".to_owned())), "{resolved:#}");
    assert_eq!(masterauth(&primary), OLD);
    let conf = std::fs::read_to_string(primary.conf_path()).expect("the server's file");
    assert!(
        conf.contains(&format!("masterauth \"{OLD}\"")) || conf.contains(&format!("masterauth {OLD}")),
        "persisted"
    );

    scene.group.sentinels()[0].run(&["SENTINEL", "FAILOVER", "mymaster"]).expect("a failover");
    primary
        .wait_until(Server::is_link_up, Duration::from_secs(60))
        .expect("the old primary is a replica with its link up");
    scene.assert_no_secret();
}
