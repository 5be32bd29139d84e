//! Before a failover each replica is looked at for itself: whether it holds the data and saves it, and whether it takes in
//! who has to log in to it once it leads. And a rotation in which nobody was refused is no trouble with logins.

mod live;
#[path = "live/outage.rs"]
mod outage;

use std::time::{Duration, Instant};

use lab::{Group, Kind};
use live::{Scene, Setup, on_each_server};
use outage::{
    DOWN_AFTER_MS, EAGER, FAILOVER_TIMEOUT_MS, filled, given_up, group, nothing_was_done, primary_again, priorities,
    with,
};
use relinkd::collect::DEADLINE;
use serde_json::Value;

on_each_server! {
    held_while_a_candidate_has_another_password =>
        held_while_a_candidate_has_another_password_redis_70, held_while_a_candidate_has_another_password_valkey_80;
    held_while_a_candidate_cannot_save =>
        held_while_a_candidate_cannot_save_redis_70, held_while_a_candidate_cannot_save_valkey_80;
    held_while_a_candidate_cannot_be_read =>
        held_while_a_candidate_cannot_be_read_redis_70, held_while_a_candidate_cannot_be_read_valkey_80;
    held_while_a_candidate_is_out_of_reach =>
        held_while_a_candidate_is_out_of_reach_redis_70, held_while_a_candidate_is_out_of_reach_valkey_80;
    asked_after_a_routine_rotation => asked_after_a_routine_rotation_redis_70, asked_after_a_routine_rotation_valkey_80;
}

/// The address of the second replica and these words stand in what is held against a failover.
fn held_for_the_other_one(scene: &Scene, refusal: &str, words: &[&str]) {
    let other = scene.group.replica(1).address();
    let told = |held: &Value| {
        let detail = held["detail"].to_string();
        held["code"] == refusal && detail.contains(&other) && words.iter().all(|word| detail.contains(word))
    };
    scene.wait_status(&format!("{refusal}: {words:?}"), |status| told(&status["held"]));
    nothing_was_done(scene);
}

/// Its own password is another than the group's: old connections stand, and no Sentinel sees anything. Whoever had to
/// log in to it after its promotion could not.
fn held_while_a_candidate_has_another_password(kind: Kind) {
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &with(EAGER), |scene| {
        let other = scene.group.replica(1);
        other.run(&["CONFIG", "SET", "requirepass", "another"]).expect("another password");
        other.set_admin_password(Some("another"));
        other.run(&["CONFIG", "RESETSTAT"]).expect("counts of errors begin anew");
    });
    priorities(&scene.group, 100);
    held_for_the_other_one(&scene, "latent-auth-mismatch", &["AUTH with its masterauth → WRONGPASS"]);
    let sentinels = scene.group.sentinels();
    assert!(
        sentinels
            .iter()
            .all(|one| one.sentinel_replicas().is_ok_and(|all| all.iter().all(|it| it["flags"] == "slave")))
    );
    // Looked at each second, and tried once a period.
    std::thread::sleep(Duration::from_secs(4));
    let refused = scene.group.replica(1).info("errorstats", "errorstat_WRONGPASS").unwrap_or_default();
    assert!(["count=1", "count=2"].contains(&refused.as_str()), "{refused}");
}

/// Nothing stands in its INFO but the failed save.
fn held_while_a_candidate_cannot_save(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let builder =
        Group::builder(kind).replicas(2).sentinels(3).password("secret").small_disk(lab::Node::Replica(1), 2048);
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    let scene = given_up(group, &with(EAGER), |scene| {
        let other = scene.group.replica(1);
        other.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).expect("it goes on");
        lab::ailment::fail_to_save(other).expect("a save fails").keep();
    });
    priorities(&scene.group, 100);
    held_for_the_other_one(&scene, "data-at-risk", &["fails to save"]);
}

/// A user made for replication may not read INFO, and there is no observer.
fn held_while_a_candidate_cannot_be_read(kind: Kind) {
    let builder = Group::builder(kind).replicas(2).sentinels(3).acl_user("repl", "secret");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    let scene = given_up(group, &with(&format!("background = \"2s\"\n{EAGER}")), |_| ());
    priorities(&scene.group, 100);
    held_for_the_other_one(&scene, "evidence-missing", &["asked as repl", "NOPERM", "+info", "observer"]);
    // The right that it names lifts it, within a period.
    for node in &scene.group.nodes()[1..] {
        node.run(&["ACL", "SETUSER", "repl", "+info"]).expect("the right");
    }
    primary_again(&scene, Instant::now());
}

/// Sentinels see it and we do not, and nobody else that we ask answers either: such a look has to end in time all the same.
fn held_while_a_candidate_is_out_of_reach(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let builder = Group::builder(kind).replicas(2).sentinels(3).namespaces(true).password("secret");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    let scene = given_up(group, &with(EAGER), |_| ());
    let ours = scene.replica().host().expect("a host").address().to_owned();
    let silent = [scene.group.primary(), scene.group.replica(1), scene.group.sentinel(2)];
    let _cuts = silent.map(|server| {
        let rule = format!("ip saddr {ours} tcp dport {} drop", server.endpoint().1);
        server.host().expect("a host").filter(&rule).expect("a filter")
    });
    priorities(&scene.group, 100);
    held_for_the_other_one(&scene, "evidence-missing", &["reached from here"]);
    let file = scene.agent.dir().join("evidence.json");
    let look = || {
        scene.verb(&["diagnose", "cache", "--save", &file.to_string_lossy()]);
        let evidence: Value = serde_json::from_slice(&std::fs::read(&file).expect("evidence")).expect("evidence");
        assert_eq!(evidence["successors"].as_array().map(Vec::len), Some(2));
        let time = |what: &str| evidence[what].as_i64().expect("microseconds");
        Duration::from_micros(u64::try_from(time("ended") - time("began")).expect("forward"))
    };
    // The quickest of some: no load makes one quicker than it is.
    let quick = DEADLINE + Duration::from_millis(500);
    let mut looks = vec![look()];
    while looks.len() < 5 && looks.iter().all(|took| *took >= quick) {
        looks.push(look());
    }
    println!("{kind}: looks at which hardly anybody answers took {looks:?}");
    assert!(looks.iter().any(|took| *took < quick), "{looks:?}");
}

/// Both passwords were accepted all the while, the new one was proved and set: nobody was refused.
fn asked_after_a_routine_rotation(kind: Kind) {
    let policy = format!("settle = \"300ms\"\nbackground = \"2s\"\n{EAGER}");
    let setup = Setup { store: Some("secret".to_owned()), policy, ..Setup::default() };
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &setup, |scene| {
        for node in scene.group.nodes() {
            node.run(&["ACL", "SETUSER", "default", ">another"]).expect("a second password");
        }
        scene.store("another");
        let told = scene.told_event("opened");
        assert_eq!(told["cause"]["code"], "auth-latent", "{told:#}");
        scene.told_event("resolved");
    });
    priorities(&scene.group, 100);
    primary_again(&scene, Instant::now());
}
