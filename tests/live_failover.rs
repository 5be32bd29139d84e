//! Failovers: Sentinel's own, which relinkd watches and leaves alone, and the one that it asks for when Sentinel has
//! given up and what stopped it is over.

mod live;
#[path = "live/outage.rs"]
mod outage;

use std::time::{Duration, Instant};

use lab::{Group, Kind, Server, fault};
use live::checks::{actions, text};
use live::desk::Said;
use live::{PATIENCE, Scene, on_each_server};
use outage::{
    DOWN_AFTER_MS, EAGER, FAILOVER_TIMEOUT_MS, TURNS, filled, given_up, group, held, nothing_was_done, preferred,
    primary_again, priorities, requests, sentinels_tell, with,
};
use serde_json::Value;

/// Sentinel may promote the second replica only: relinkd's own stays one.
fn only_the_other_one(group: &Group) {
    group.replica(0).run(&["CONFIG", "SET", "replica-priority", "0"]).expect("a priority");
    let known = |sentinel: &Server| {
        sentinel.sentinel_replicas().is_ok_and(|all| all.iter().any(|one| one["slave-priority"] == "0"))
    };
    assert!(group.sentinels().iter().all(|sentinel| sentinel.wait_until(known, PATIENCE).is_some()));
}

/// What a Sentinel wrote of its own next attempt, and the seconds from now until then.
fn sentinels_own_retry(group: &Group) -> Option<u64> {
    let line = group.sentinels().iter().find_map(|sentinel| {
        let text = sentinel.log_text();
        let at = text.rfind("I will not start a failover before ")?;
        Some(text[at..].lines().next()?.trim_start_matches("I will not start a failover before ").to_owned())
    })?;
    let output = std::process::Command::new("date").args(["-d", line.trim(), "+%s"]).output().ok()?;
    let at: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    at.checked_sub(now)
}

fn asked_when_sentinel_has_given_up(kind: Kind) {
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &with(EAGER), |_| ());
    held(&scene, "no-promotable-replica");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "primary-down", "{opened:#}");
    nothing_was_done(&scene);

    let began = Instant::now();
    priorities(&scene.group, 100);
    let cleared = Instant::now();
    let retry = sentinels_own_retry(&scene.group);
    let promoted = || scene.group.nodes()[1..].iter().any(Server::is_primary);
    while !promoted() {
        assert!(began.elapsed() < TURNS, "no primary\n{:#}\n{}", scene.status(), scene.agent.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    println!(
        "{kind}: a primary {:?} after a replica could be promoted ({:?} after all Sentinels knew it); Sentinel's own next attempt was {} s away",
        began.elapsed(),
        cleared.elapsed(),
        retry.map_or("an unknown number of".to_owned(), |s| s.to_string()),
    );
    assert!(retry.is_none_or(|seconds| seconds > 60), "Sentinel itself would have waited: {retry:?}");

    let resolved = scene.told_event("resolved");
    assert_eq!(resolved["id"], opened["id"]);
    assert_eq!(resolved["actions"][0]["remedy"], "request-failover", "{resolved:#}");
    assert_eq!(resolved["actions"][0]["outcome"], "changed");
    assert_eq!(resolved["actions"].as_array().map(Vec::len), Some(1), "one request: {resolved:#}");
    let primaries = scene.group.nodes()[1..].iter().filter(|node| node.is_primary()).count();
    assert_eq!(primaries, 1, "{}", sentinels_tell(&scene.group));
    assert_eq!(scene.incidents().len(), 1);
}

/// Each Sentinel is cut off from the others when the primary dies: each tries, and nobody is elected. Then a majority can
/// be had again, and each of them would wait for two minutes.
fn asked_when_a_majority_is_back(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let builder = Group::builder(kind).replicas(2).sentinels(3).namespaces(true).password("secret");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "SET", "mymaster", "quorum", "1"]).expect("each may try alone");
    }
    let scene = Scene::start(group, &with(EAGER));
    let host = |number: usize| scene.group.sentinel(number).host().expect("a host");
    let cuts = [(0, 1), (0, 2), (1, 2)].map(|(one, other)| host(one).cut_from(host(other)).expect("a cut"));
    scene.group.primary().kill9();
    let began = Instant::now();
    let gave_up = |sentinel: &Server| sentinel.log_text().contains("-failover-abort-not-elected");
    while !scene.group.sentinels().iter().all(gave_up) {
        assert!(began.elapsed() < TURNS, "not every Sentinel gave up\n{}", sentinels_tell(&scene.group));
        std::thread::sleep(Duration::from_millis(50));
    }
    nothing_was_done(&scene);
    for cut in cuts {
        cut.undo().expect("healed");
    }
    let (healed, retry) = (Instant::now(), sentinels_own_retry(&scene.group));
    let took = primary_again(&scene, healed);
    println!("{kind}: a primary {took:?} after the cut; Sentinel's own next attempt was {retry:?} s away");
    assert!(retry.is_none_or(|seconds| seconds > 60), "Sentinel itself would have waited: {retry:?}");
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
}

/// The quorum is lost when the primary dies, and comes back: then Sentinel itself is quick, and gets no help.
fn the_quorum_comes_back(kind: Kind) {
    let scene = Scene::start(group(kind, FAILOVER_TIMEOUT_MS), &with(EAGER));
    let dead = fault::kill(scene.group.sentinel(1)).and(fault::kill(scene.group.sentinel(2)));
    scene.group.primary().kill9();
    let opened = scene.told_event("opened");
    scene.wait_status("no quorum", |status| status["held"]["code"] == "quorum-unclear");
    std::thread::sleep(Duration::from_secs(4));
    nothing_was_done(&scene);
    let back = Instant::now();
    dead.undo().expect("the Sentinels are back");
    let took = primary_again(&scene, back);
    println!("{kind}: a primary {took:?} after the quorum was back, {} requests", requests(&scene.group));
    // Two that were started together may split their votes, and wait for two minutes: then it is asked, and rightly.
    let quick = took < Duration::from_secs(15) || requests(&scene.group) == 1;
    assert!(quick, "{took:?}\n{}", sentinels_tell(&scene.group));
    scene.over(&text(&opened["id"]));
    assert!(requests(&scene.group) <= 1);
}

/// With the default policy but for `after`: the quorum is lost by a stop and back by a start, and whom the Sentinels gave
/// their votes is gone. Two of three have known the primary for seconds then, which is no sign of a failover.
fn asked_when_the_quorum_is_back(kind: Kind) {
    let group = group(kind, FAILOVER_TIMEOUT_MS);
    preferred(&group, &[(group.replica(0), 10)]);
    let scene = Scene::start(group, &with("[policy.request-failover]\nafter = \"2s\""));
    let dead = fault::kill(scene.group.sentinel(1)).and(fault::kill(scene.group.sentinel(2)));
    scene.group.primary().kill9();
    scene.wait_status("no quorum", |status| status["held"]["code"] == "quorum-unclear");
    nothing_was_done(&scene);
    dead.undo().expect("the Sentinels are back");
    let back = Instant::now();
    votes_for_nobody(&scene.group);
    let took = primary_again(&scene, back);
    let retry = sentinels_own_retry(&scene.group);
    println!("{kind}: a primary {took:?} after the quorum was back; Sentinel's own next attempt was {retry:?} s away");
    assert!(retry.is_some_and(|seconds| seconds > 15), "{retry:?}\n{}", sentinels_tell(&scene.group));
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
    let resolved = scene.told_event("resolved");
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
}

/// Each Sentinel gives its vote to one that never comes, and waits for twice the failover-timeout.
fn votes_for_nobody(group: &Group) {
    let (host, port) = group.primary().endpoint();
    let ghost = "f".repeat(40);
    for sentinel in group.sentinels() {
        let vote = ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", &host, &port.to_string(), "100", &ghost];
        sentinel.run(&vote).expect("a vote");
    }
}

/// Each Sentinel has promised its vote to one that never came: a failover is due, and nobody begins it.
fn nobody_begins_what_is_due(kind: Kind) {
    let policy = EAGER.replace("after = \"2s\"", "after = \"4s\"");
    let group = group(kind, FAILOVER_TIMEOUT_MS);
    preferred(&group, &[(group.replica(0), 10)]);
    let scene = Scene::start(group, &with(&policy));
    votes_for_nobody(&scene.group);
    scene.group.primary().kill9();
    let died = Instant::now();
    scene.wait_status("Sentinel has its time", |status| {
        status["held"]["code"] == "sentinel-acting" && text(&status["held"]["detail"]).contains("fail over themselves")
    });
    let took = primary_again(&scene, died);
    let told = sentinels_tell(&scene.group);
    println!("{kind}: a primary {took:?} after the death, of which {DOWN_AFTER_MS} ms were down-after-milliseconds");
    assert!(took > Duration::from_millis(DOWN_AFTER_MS + 4_000), "Sentinel has its due time: {took:?}");
    assert_eq!(
        (requests(&scene.group), told.matches("+try-failover").count()),
        (1, 1),
        "only the one asked for: {told}"
    );
    let resolved = scene.told_event("resolved");
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
}

/// Twice its failover-timeout after the last try, Sentinel tries again. What could be asked for just before that is not.
fn left_to_sentinels_own_next_try(kind: Kind) {
    let scene = given_up(group(kind, 15_000), &with(EAGER), |_| ());
    let began = Instant::now();
    while !text(&scene.status()["held"]["detail"]).contains("tries by itself in about") {
        assert!(began.elapsed() < TURNS, "{:#}\n{}", scene.status(), scene.agent.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(scene.status()["held"]["code"], "sentinel-acting");
    priorities(&scene.group, 100);
    let took = primary_again(&scene, Instant::now());
    println!("{kind}: a primary {took:?} later, by Sentinel's own next try");
    assert_eq!(requests(&scene.group), 0, "{}", sentinels_tell(&scene.group));
    assert!(actions(&scene.told_event("resolved")).is_empty());
}

/// The message has the steps, the plan's name and its end. An answer to what the world has left behind does nothing.
fn proposed_where_a_person_decides(kind: Kind) {
    let policy = "[policy.request-failover]\nmode = \"propose\"\nafter = \"2s\"\ncooldown = \"1s\"";
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &with(policy), |_| ());
    priorities(&scene.group, 100);
    let proposed = scene.told_event("proposed");
    assert_eq!(proposed["phase"], "proposed");
    let detail = proposed["held"].to_string();
    assert!(detail.contains("approval-needed") && detail.contains("SENTINEL FAILOVER mymaster, asked of"), "{detail}");
    assert_eq!(scene.diagnose(&format!("primary-down/{}-given-up", kind.code()))["cause"], "primary-down");
    let (id, plan) = (text(&proposed["id"]), text(&proposed["proposal"]["plan"]));
    assert_eq!(proposed["proposal"]["remedy"], "request-failover", "{proposed:#}");
    assert!(proposed["proposal"]["expires"].is_string(), "{proposed:#}");
    assert_eq!(proposed["next_steps"][0], format!("relinkd approve {id} --plan {plan}   # to do what is proposed"));
    std::thread::sleep(Duration::from_secs(2));
    nothing_was_done(&scene);
    let proposals = || scene.receiver.messages().iter().filter(|message| message["event"] == "proposed").count();
    assert_eq!(proposals(), 1, "told once");

    let said = |words: &[&str]| Said::of(&scene.verb(words));
    priorities(&scene.group, 0);
    let moved = said(&["approve", &id, "--plan", &plan]);
    assert!(moved.exit == 1 && moved.out.contains("not carried out"), "{moved:?}");
    assert!(moved.out.contains("no-promotable-replica"), "{moved:?}");
    let status = held(&scene, "no-promotable-replica");
    assert!(status["proposal"].is_null() && text(&status["withdrawn"]).contains("no-promotable-replica"), "{status:#}");
    nothing_was_done(&scene);

    priorities(&scene.group, 100);
    let again = scene.wait_status("proposed anew", |status| !status["proposal"].is_null());
    let yes = said(&["approve", &id, "--plan", &text(&again["proposal"]["plan"])]);
    assert_eq!(yes.exit, 0, "{yes:?}\n{}", scene.agent.log());
    primary_again(&scene, Instant::now());
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    let answers: Vec<_> = resolved["answers"].as_array().into_iter().flatten().map(|it| text(&it["answer"])).collect();
    assert_eq!(answers, ["approved", "approved"]);
    assert_eq!((requests(&scene.group), scene.incidents().len()), (1, 1), "{}", sentinels_tell(&scene.group));
}

fn held_after_login_trouble(kind: Kind) {
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &with(EAGER), |scene| {
        let rotated = fault::rotate_password(scene.group.primary(), "other").expect("rotated");
        let told = scene.told_event("opened");
        assert_eq!(told["cause"]["code"], "auth-rejected");
        rotated.undo().expect("back again");
        scene.told_event("resolved");
    });
    priorities(&scene.group, 100);
    held(&scene, "latent-auth-mismatch");
    nothing_was_done(&scene);
}

fn held_without_a_majority(kind: Kind) {
    let group = group(kind, FAILOVER_TIMEOUT_MS);
    let scene = Scene::start(group, &with(EAGER));
    scene.group.sentinel(0).kill9();
    scene.group.sentinel(1).kill9();
    scene.group.primary().kill9();
    let status = held(&scene, "quorum-unclear");
    assert_eq!(status["cause"], "primary-down");
    assert_eq!(status["suspected"], true, "one witness of three cannot tell a dead primary from a cut network");
    scene.told_event("opened");
    std::thread::sleep(Duration::from_secs(3));
    held(&scene, "quorum-unclear");
    nothing_was_done(&scene);
}

fn held_after_another_failover(kind: Kind) {
    let group = group(kind, FAILOVER_TIMEOUT_MS);
    only_the_other_one(&group);
    let policy = EAGER.replace("cooldown = \"1s\"", "cooldown = \"10m\"");
    let scene = Scene::start(group, &with(&policy));
    // One that has only just begun when a primary gets its role cannot tell that from its own beginning.
    let has_run = |one: &Server| one.info("server", "uptime_in_seconds").and_then(|s| s.parse().ok()) >= Some(7);
    for sentinel in scene.group.sentinels() {
        sentinel.wait_until(has_run, PATIENCE).expect("time passes");
    }
    scene.group.primary().kill9();
    scene.told_event("resolved");
    assert!(scene.group.replica(1).is_primary());
    scene.group.replica(1).kill9();
    held(&scene, "cooldown");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!scene.replica().is_primary(), "nothing was promoted");
}

fn held_while_sentinels_see_the_primary(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let builder = Group::builder(kind)
        .replicas(2)
        .sentinels(3)
        .namespaces(true)
        .sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS);
    let builder = builder.config("repl-timeout", "3").config("repl-ping-replica-period", "1");
    let scene = Scene::start(builder.start().expect("a group"), &with(EAGER));
    // Connections open, and nothing that is said on them arrives: it lives for the Sentinels, so the way is cut.
    let (primary, replica) = (scene.group.primary().host().expect("a host"), scene.replica().host().expect("a host"));
    let rule = format!("ip saddr {} tcp dport 6379 tcp flags & psh == psh drop", replica.address());
    let _mute = primary.filter(&rule).expect("a filter");
    let status = held(&scene, "no-safe-remedy");
    assert_eq!(status["cause"], "network-cut", "{status:#}");
    nothing_was_done(&scene);
}

fn sentinels_own_failover_is_left_alone(kind: Kind) {
    let group = group(kind, 6000);
    only_the_other_one(&group);
    // A failover passes within this: nobody has to hear of it.
    let policy = format!("blip = \"10s\"\n{EAGER}");
    let scene = Scene::start(group, &with(&policy));
    scene.group.primary().kill9();
    let began = Instant::now();
    while scene.diagnose(&format!("failover-running/{}", kind.code()))["cause"] != "failover-running" {
        assert!(began.elapsed() < PATIENCE, "a failover was never seen to run");
    }
    scene.wait_status("linked to the new primary", |status| status["link_up"] == true && status["incident"].is_null());
    assert!(scene.group.replica(1).is_primary());
    // The record is written behind what the status says.
    let written = |_: &Server| scene.incidents().first().is_some_and(|incident| incident["phase"] == "resolved");
    assert!(scene.replica().wait_until(written, PATIENCE).is_some(), "{:#?}", scene.incidents());
    assert_eq!(scene.receiver.messages(), Vec::<Value>::new(), "nobody is told");
    let incidents = scene.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!((&incidents[0]["phase"], &incidents[0]["actions"]), (&"resolved".into(), &serde_json::json!([])));
    assert!(scene.agent.log().contains("cache: failover-running"), "{}", scene.agent.log());
}

on_each_server! {
    asked_when_sentinel_has_given_up => asked_when_sentinel_has_given_up_redis_70, asked_when_sentinel_has_given_up_valkey_80;
    asked_when_a_majority_is_back => asked_when_a_majority_is_back_redis_70, asked_when_a_majority_is_back_valkey_80;
    the_quorum_comes_back => relieved_when_the_quorum_is_back_redis_70, relieved_when_the_quorum_is_back_valkey_80;
    asked_when_the_quorum_is_back => asked_when_the_quorum_is_back_redis_70, asked_when_the_quorum_is_back_valkey_80;
    nobody_begins_what_is_due => asked_when_sentinel_never_began_redis_70, asked_when_sentinel_never_began_valkey_80;
    left_to_sentinels_own_next_try =>
        left_to_sentinels_own_next_try_redis_70, left_to_sentinels_own_next_try_valkey_80;
    proposed_where_a_person_decides => proposed_where_a_person_decides_redis_70, proposed_where_a_person_decides_valkey_80;
    held_after_login_trouble => held_after_login_trouble_redis_70, held_after_login_trouble_valkey_80;
    held_without_a_majority => held_without_a_majority_redis_70, held_without_a_majority_valkey_80;
    held_after_another_failover => held_after_another_failover_redis_70, held_after_another_failover_valkey_80;
    held_while_sentinels_see_the_primary =>
        held_while_sentinels_see_the_primary_redis_70, held_while_sentinels_see_the_primary_valkey_80;
    sentinels_own_failover_is_left_alone =>
        sentinels_own_failover_is_left_alone_redis_70, sentinels_own_failover_is_left_alone_valkey_80;
}
