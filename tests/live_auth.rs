//! Credentials: each fault real, healed where that is safe, held with a name where it is not, recorded and told.

mod live;

use std::time::Instant;

use lab::{Group, Kind, Node, Server, ailment, fault, transfer};
use live::checks::{QUICK, actions, rules_out, text};
use live::{PATIENCE, Scene, Setup, on_each_server};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";
const WRONG: &str = "wrong-CANARY-3";

on_each_server! {
    rotated_on_the_primary_only =>
        a_password_rotated_on_the_primary_only_is_realigned_redis_70,
        a_password_rotated_on_the_primary_only_is_realigned_valkey_80;
    rotated_during_a_full_sync =>
        a_password_rotated_during_a_full_sync_is_set_and_the_sync_goes_on_redis_70,
        a_password_rotated_during_a_full_sync_is_set_and_the_sync_goes_on_valkey_80;
    a_missing_password =>
        a_missing_password_is_recognised_in_its_hot_loop_and_healed_redis_70,
        a_missing_password_is_recognised_in_its_hot_loop_and_healed_valkey_80;
    a_store_that_cannot_help =>
        nothing_is_changed_while_the_store_cannot_help_redis_70,
        nothing_is_changed_while_the_store_cannot_help_valkey_80;
    an_acl_user_in_trouble =>
        an_acl_user_in_trouble_is_named_and_healed_where_the_store_knows_better_redis_70,
        an_acl_user_in_trouble_is_named_and_healed_where_the_store_knows_better_valkey_80;
    at_a_primary_that_cannot_save =>
        a_password_is_realigned_at_a_primary_that_cannot_save_redis_70,
        a_password_is_realigned_at_a_primary_that_cannot_save_valkey_80;
    every_mode =>
        observe_and_propose_change_nothing_and_auto_heals_redis_70,
        observe_and_propose_change_nothing_and_auto_heals_valkey_80;
    a_proof_that_fails =>
        a_password_that_does_not_bring_the_link_up_is_taken_back_redis_70,
        a_password_that_does_not_bring_the_link_up_is_taken_back_valkey_80;
    a_config_file_that_cannot_be_written =>
        a_heal_that_cannot_be_persisted_stands_and_is_told_redis_70,
        a_heal_that_cannot_be_persisted_stands_and_is_told_valkey_80;
}

fn with_password(kind: Kind) -> Group {
    Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group")
}

fn with_store(store: &str) -> Setup {
    Setup { store: Some(store.to_owned()), policy: QUICK.to_owned(), ..Setup::default() }
}

fn masterauth(replica: &Server) -> String {
    let pair: Vec<String> = replica.query(&["CONFIG", "GET", "masterauth"]).expect("masterauth");
    pair[1].clone()
}

fn set(server: &Server, key: &str, value: &str) {
    server.run(&["CONFIG", "SET", key, value]).expect("CONFIG SET");
}

/// The store's password was tried, and the primary does not know it yet: tried later, it would be found latent first.
fn ahead(scene: &Scene) {
    scene.wait_status("the store is ahead", |status| status["secret"]["standing"] == "ahead");
}

/// The replica is in a long full sync that it was let into with the old password. A reconnect would start it over.
fn rotated_during_a_full_sync(kind: Kind) {
    let scene = Scene::start(with_password(kind), &with_store(NEW));
    ahead(&scene);
    let (primary, replica) = (scene.group.primary(), scene.replica());
    transfer::slow_sync(primary, 8000, 1000).expect("a slow sync").keep();
    let full = primary.sync_full();
    transfer::restart_empty(replica).expect("a restart");
    let reads = |replica: &Server| {
        let read = replica.info("replication", "master_sync_read_bytes");
        read.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 0)
    };
    assert!(replica.wait_until(reads, PATIENCE).is_some(), "the data set is on its way");
    set(primary, "requirepass", NEW);
    primary.set_admin_password(Some(NEW));
    replica.wait_until(|replica| masterauth(replica) == NEW, PATIENCE).expect("the password is set");
    assert!(!replica.is_link_up() && reads(replica), "while the transfer goes on");
    assert!(replica.wait_link_up(PATIENCE).is_some(), "{}", scene.agent.log());
    let resolved = scene.told_event("resolved");
    assert_eq!(actions(&resolved)[0], ("realign-auth".to_owned(), "changed".to_owned()), "{resolved:#}");
    assert_eq!(primary.sync_full(), full.map(|count| count + 1), "one transfer: {}", scene.agent.log());
    assert!(!replica.log_text().contains("127.0.0.1:1 "), "no reconnect was asked for");
}

fn rotated_on_the_primary_only(kind: Kind) {
    let scene = Scene::start(with_password(kind), &Setup { store: Some(NEW.to_owned()), ..Setup::default() });
    let full = scene.group.primary().sync_full();
    ahead(&scene);

    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "auth-rejected", "{opened:#}");
    assert_eq!(opened["actions"][0]["remedy"], "realign-auth");
    let resolved = scene.over(&text(&opened["id"]));
    assert!(rules_out(&resolved, "primary-down"), "{resolved:#}");
    eprintln!("{kind}: {}", resolved["timings_ms"]);

    assert!(scene.replica().is_link_up());
    assert_eq!(scene.group.primary().sync_full(), full, "the heal kept the partial resync");
    let conf = std::fs::read_to_string(scene.replica().conf_path()).expect("the server's file");
    assert!(conf.contains(NEW), "the new password is in the server's own file");
    assert_eq!(scene.incidents().len(), 1);
    assert_eq!(scene.events(&text(&opened["id"])), ["opened", "resolved"]);
    scene.assert_no_secret();
}

/// NOAUTH makes a replica reconnect thousands of times a second, with ten log lines each.
fn a_missing_password(kind: Kind) {
    let code = kind.code();
    let mut scene = Scene::start(with_password(kind), &with_store(""));
    set(scene.replica(), "masterauth", "");
    fault::cut_replicas(scene.group.primary()).expect("the links are cut");

    let (id, why) = scene.held("auth-missing", "secret-unavailable");
    assert!(why.contains("empty"), "{why}");
    let opened = scene.told_of(&id, "opened");
    assert!(rules_out(&opened, "primary-down") && rules_out(&opened, "network-cut"), "{opened:#}");

    // The loop runs, and relinkd looks at it no more often than its own timer says, however much is logged.
    let pid = scene.agent.pid().expect("relinkd runs");
    let (began, cpu, log, looks) = (Instant::now(), cpu_ticks(pid), scene.replica().log_text().len(), looks(&scene));
    let read = bytes_read(pid);
    // Valkey 9.1.2 hands the answer to a thread, and tries again once a second.
    let loops = if kind == Kind::Valkey91 { 1_000 } else { 1_000_000 };
    let grown = |server: &Server| server.log_text().len() > log + loops;
    scene.replica().wait_until(grown, PATIENCE).expect("the replica is in its hot loop");
    let (looked, took, burnt) = (looks_since(&scene, looks), began.elapsed(), cpu_ticks(pid) - cpu);
    let read = bytes_read(pid) - read;
    eprintln!(
        "{kind}: {loops} bytes of log in {took:?}, {read} bytes read, {looked} looks, {burnt} ticks of processor time"
    );
    assert!(u128::from(read) <= LOG_BUDGET_PER_S * took.as_millis() / 1000 + LOG_BUDGET_PER_S, "{read} bytes read");
    let most = took.as_millis().div_ceil(100) + 2;
    assert!(u128::from(looked) <= most, "{looked} looks in {took:?}");
    let told = scene.diagnose(&format!("auth-missing/masterauth-emptied-{code}"));
    assert_eq!(told["cause"], "auth-missing", "{told:#}");
    assert!(told["evidence"]["log"]["seen"]["lines"].to_string().contains("NOAUTH"), "{told:#}");

    scene.store(OLD);
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved).first(), Some(&("realign-auth".to_owned(), "changed".to_owned())), "{resolved:#}");
    assert_eq!(scene.events(&id), ["opened", "resolved"]);
    assert_eq!(masterauth(scene.replica()), OLD);
    scene.assert_no_secret();
}

/// How often relinkd has logged in to the primary; each look does once.
fn looks(scene: &Scene) -> u64 {
    let stats: String = scene.replica().query(&["INFO", "commandstats"]).expect("INFO");
    let calls = |line: &str| line.split(['=', ',']).nth(1).and_then(|number| number.parse::<u64>().ok());
    // Only a look asks for masterauth, and once each time; the test does not ask between two counts.
    stats.lines().find(|line| line.starts_with("cmdstat_config|get:")).and_then(calls).unwrap_or(0)
}

/// A look reads this many settings of the local server.
const SETTINGS_A_LOOK: u64 = relinkd::wire::reply::settings::SETTINGS.len() as u64;

fn looks_since(scene: &Scene, before: u64) -> u64 {
    (looks(scene) - before).div_ceil(SETTINGS_A_LOOK)
}

/// What relinkd reads of a log at most, bytes a second.
const LOG_BUDGET_PER_S: u128 = 256 * 1024;

/// Bytes that a process has read from files.
fn bytes_read(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("the process");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).and_then(|number| number.parse().ok());
    read.expect("rchar")
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

fn a_store_that_cannot_help(kind: Kind) {
    let code = kind.code();
    let mut scene = Scene::start(with_password(kind), &with_store(WRONG));

    ahead(&scene);
    // Wrong: the primary says no to it before anything is changed.
    let rotated = fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated");
    let (id, why) = scene.held("auth-rejected", "secret-rejected");
    assert!(why.contains("WRONGPASS") && why.contains("the store or the primary is stale"), "{why}");
    let opened = scene.told_of(&id, "opened");
    assert_eq!(opened["held"][0]["refusal"], "secret-rejected", "{opened:#}");
    assert!(opened["next_steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    scene.diagnose(&format!("auth-rejected/store-is-wrong-too-{code}"));

    // The same as the replica holds: the store has not learned of the rotation yet.
    scene.store(OLD);
    scene.wait_status("the store looks older", |status| text(&status["held"]["detail"]).contains("store looks older"));
    scene.diagnose(&format!("auth-rejected/store-looks-older-{code}"));

    std::fs::remove_file(scene.agent.dir().join("masterauth")).expect("the store's file goes");
    let (same, why) = scene.held("auth-rejected", "secret-unavailable");
    assert_eq!(same, id);
    assert!(why.contains("masterauth"), "{why}");
    scene.diagnose(&format!("auth-rejected/store-is-missing-{code}"));

    assert_eq!(masterauth(scene.replica()), OLD, "nothing was changed");
    assert_eq!(scene.recorded(&id)["actions"], serde_json::json!([]));
    rotated.undo().expect("the old password is back");
    let resolved = scene.over(&id);
    assert_eq!(resolved["actions"], serde_json::json!([]), "others healed it: {resolved:#}");
    assert_eq!(scene.events(&id), ["opened", "resolved"]);

    // The primary loses its password: whether it should have one is for a person to say.
    scene.store(OLD);
    let open = fault::rotate_password(scene.group.primary(), "").expect("the primary's password is gone");
    let (id, _) = scene.held("auth-unexpected", "no-safe-remedy");
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("auth-unexpected/primary-lost-its-password-{code}"));
    assert_eq!(masterauth(scene.replica()), OLD, "nothing was changed");
    open.undo().expect("the password is back");
    scene.over(&id);
    scene.assert_no_secret();
    scene.agent.kill9();
}

fn an_acl_user_in_trouble(kind: Kind) {
    let code = kind.code();
    let group = Group::builder(kind).replicas(1).sentinels(3).acl_user("repl", OLD).start().expect("a group");
    let scene = Scene::start(group, &with_store(&login("repl", OLD)));
    let primary = scene.group.primary().clone();

    let off = fault::user_off(&primary, "repl").expect("the user is switched off");
    let (id, why) = scene.held("auth-rejected", "secret-rejected");
    assert!(why.contains("store looks older") || why.contains("switched off"), "{why}");
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("auth-rejected/user-switched-off-{code}"));
    off.undo().expect("the user is back");
    scene.over(&id);

    let deleted = fault::user_deleted(&primary, "repl").expect("the user is deleted");
    let (id, _) = scene.held("auth-rejected", "secret-rejected");
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("auth-rejected/user-deleted-{code}"));

    // Another user logs in, and may not replicate: never written.
    primary.run(&["ACL", "SETUSER", "guest", "on", &format!(">{NEW}"), "+ping", "+info"]).expect("a user");
    scene.store(&login("guest", NEW));
    scene.wait_status("the guest may not replicate", |status| {
        text(&status["held"]["detail"]).contains("logs in and may not replicate")
    });
    scene.diagnose(&format!("auth-rejected/candidate-may-not-replicate-{code}"));
    assert_eq!(scene.recorded(&id)["actions"], serde_json::json!([]));
    scene.store(&login("repl", OLD));
    deleted.undo().expect("the user is back");
    scene.over(&id);

    // May log in and no more: a hot loop again.
    let lame = fault::user_without(&primary, "repl", "psync").expect("the user may not replicate");
    let (id, _) = scene.held("auth-forbidden", "no-safe-remedy");
    let opened = scene.told_of(&id, "opened");
    assert!(rules_out(&opened, "auth-rejected"), "{opened:#}");
    assert!(opened["next_steps"].to_string().contains("+psync"), "{opened:#}");
    scene.diagnose(&format!("auth-forbidden/user-without-psync-{code}"));
    lame.undo().expect("the user may replicate again");
    scene.over(&id);

    // What a probe asks is allowed, and not what a replica asks.
    primary.run(&["ACL", "SETUSER", "repl", "-psync", "+psync|?"]).expect("the user may only ask");
    fault::cut_replicas(&primary).expect("the links are cut");
    let (id, _) = scene.held("auth-forbidden", "no-safe-remedy");
    let recorded = scene.recorded(&id);
    assert!(recorded.to_string().contains("lets `PSYNC ?` through"), "{recorded:#}");
    primary.run(&["ACL", "SETUSER", "repl", "+psync"]).expect("the user may replicate again");
    scene.over(&id);

    // Names of users are no secret, and a wrong one is realigned with the password.
    set(scene.replica(), "masteruser", "nobody");
    fault::cut_replicas(&primary).expect("the links are cut");
    let resolved = scene.told("masteruser realigned", |message| {
        message["event"] == "resolved" && !message["actions"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(resolved["cause"]["code"], "auth-rejected", "{resolved:#}");

    // The password of the user is rotated.
    primary.run(&["ACL", "SETUSER", "repl", "resetpass", &format!(">{NEW}")]).expect("a new password");
    scene.store(&login("repl", NEW));
    fault::cut_replicas(&primary).expect("the links are cut");
    scene.told("the user's password is realigned", |message| {
        message["event"] == "resolved"
            && message["id"] != resolved["id"]
            && message["opened_at"].as_str() > resolved["opened_at"].as_str()
    });
    let user: Vec<String> = scene.replica().query(&["CONFIG", "GET", "masteruser"]).expect("masteruser");
    assert_eq!((user[1].as_str(), masterauth(scene.replica()).as_str()), ("repl", NEW));
    assert!(scene.replica().is_link_up());
    scene.assert_no_secret();
}

/// It answers each PING after AUTH with MISCONF, which stops no replica that logs in. And `masteruser default` is the
/// default user, who may tell of itself.
fn at_a_primary_that_cannot_save(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    // No Sentinel takes it for dead while this lasts.
    let group = Group::builder(kind).replicas(1).sentinels(3).sentinel_timers(120_000, 240_000).password(OLD);
    let group = group.config("masteruser", "default").small_disk(Node::Primary, 1024).start().expect("a group");
    group.primary().write(100, 1024).expect("data");
    let setup = Setup { policy: format!("background = \"1s\"\n{QUICK}"), ..with_store(NEW) };
    let scene = Scene::start(group, &setup);
    let primary = scene.group.primary();
    ahead(&scene);

    let failing = ailment::fail_to_save(primary).expect("a save fails");
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "primary-save-failing", "{opened:#}");
    assert!(opened["because"].to_string().contains("replicas that log in still link"), "{opened:#}");
    fault::rotate_password(primary, NEW).expect("the password is rotated").keep();
    let healed = scene.wait_status("the link is up again, and the save fails still", |status| {
        status["link_up"] == true && status["cause"] == "primary-save-failing" && masterauth(scene.replica()) == NEW
    });
    assert_eq!(healed["incident"], opened["id"], "{healed:#}");
    let id = text(&opened["id"]);
    let did = actions(&scene.recorded(&id));
    assert_eq!(did.first(), Some(&("realign-auth".to_owned(), "changed".to_owned())), "{did:?}");
    let seen = scene.diagnose(&format!("primary-save-failing/behind-a-password-{}", kind.code()));
    assert!(seen["evidence"]["primary"]["seen"].is_object(), "the default user may ask: {seen:#}");
    failing.undo().expect("room again, and a save");
    scene.over(&id);
    scene.assert_no_secret();
}

fn login(user: &str, password: &str) -> String {
    serde_json::json!({ "user": user, "password": password }).to_string()
}

fn every_mode(kind: Kind) {
    let code = kind.code();
    let mode = |mode: &str, store: Option<&str>| Setup {
        store: store.map(str::to_owned),
        policy: format!("mode = \"{mode}\"\n{QUICK}"),
        ..Setup::default()
    };
    let mut scene = Scene::start(with_password(kind), &mode("observe", Some(NEW)));
    ahead(&scene);
    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    let (id, why) = scene.held("auth-rejected", "observe-only");
    assert!(why.contains("masterauth"), "it says what it would do: {why}");
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("auth-rejected/rotated-on-the-primary-only-{code}"));
    assert_eq!(masterauth(scene.replica()), OLD);

    // The incident goes on over restarts, under whatever the operator allows.
    scene.reconfigure(&mode("propose", Some(NEW)));
    let proposed = scene.told_of(&id, "proposed");
    let said = proposed.to_string();
    assert!(said.contains("set masterauth from file:") && said.contains("CONFIG REWRITE"), "{proposed:#}");
    assert!(proposed["held"].to_string().contains("approval-needed"), "{proposed:#}");
    assert_eq!(masterauth(scene.replica()), OLD);

    scene.reconfigure(&mode("auto", None));
    let (same, why) = scene.held("auth-rejected", "secret-unavailable");
    assert_eq!(same, id);
    assert!(why.contains("no masterauth is configured"), "{why}");
    scene.diagnose(&format!("auth-rejected/no-store-{code}"));
    assert_eq!(masterauth(scene.replica()), OLD);

    scene.reconfigure(&mode("auto", Some(NEW)));
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved)[0].0, "realign-auth");
    assert_eq!(scene.events(&id), ["opened", "proposed", "resolved"]);
    assert_eq!(scene.incidents().len(), 1, "one break, one incident");
    scene.assert_no_secret();
}

/// The primary takes the password and allows `PSYNC ? x`, which is all that a proof can ask, and refuses the real one.
fn a_proof_that_fails(kind: Kind) {
    let group = Group::builder(kind).replicas(1).sentinels(3).acl_user("repl", OLD).start().expect("a group");
    let scene = Scene::start(group, &with_store(&login("trap", NEW)));
    let primary = scene.group.primary().clone();
    ahead(&scene);
    let trap = ["ACL", "SETUSER", "trap", "on", &format!(">{NEW}"), "+psync|?", "+replconf", "+ping"];
    primary.run(&trap).expect("a user whose real PSYNC is refused");
    let off = fault::user_off(&primary, "repl").expect("the user is switched off");

    let id = text(&scene.wait_status("it tries", |status| !status["incident"].is_null())["incident"]);
    let escalated = scene.told_of(&id, "escalated");
    let did = actions(&escalated);
    assert_eq!(did[0].1, "changed", "{escalated:#}");
    // Between its attempts, a second apart, Valkey 9.1.2 reads as if it synced.
    let proof = if kind == Kind::Valkey91 { "under-way" } else { "failed" };
    assert_eq!(did[1].1, proof, "the proof failed: {escalated:#}");
    assert_eq!(did[2].1, "changed", "and it was taken back: {escalated:#}");
    assert!(escalated.to_string().contains("taken back"), "{escalated:#}");

    off.undo().expect("the user is back");
    scene.over(&id);
    assert_eq!(masterauth(scene.replica()), OLD, "the former password is back");
    scene.assert_no_secret();
}

fn a_config_file_that_cannot_be_written(kind: Kind) {
    let scene = Scene::start(with_password(kind), &with_store(NEW));
    ahead(&scene);
    let conf = scene.replica().conf_path();
    let real = conf.with_file_name("real.conf");
    std::fs::rename(&conf, &real).expect("the file moves");
    std::os::unix::fs::symlink(&real, &conf).expect("a symlink");

    fault::rotate_password(scene.group.primary(), NEW).expect("the password is rotated").keep();
    let opened = scene.told_event("opened");
    let resolved = scene.over(&text(&opened["id"]));
    let last = actions(&resolved).pop().expect("actions");
    assert_eq!(last.1, "failed", "{resolved:#}");
    assert!(resolved.to_string().contains("is a symlink"), "{resolved:#}");
    assert!(std::fs::symlink_metadata(&conf).expect("the symlink").is_symlink(), "left alone");
    assert!(!std::fs::read_to_string(&real).expect("the file").contains(NEW));
    assert_eq!(masterauth(scene.replica()), NEW, "the heal stands");

    // A directory in the file's place: the server itself cannot write.
    std::fs::remove_file(&conf).expect("the symlink goes");
    std::fs::create_dir(&conf).expect("a directory");
    fault::rotate_password(scene.group.primary(), WRONG).expect("the password is rotated").keep();
    scene.store(WRONG);
    let again =
        scene.told("another incident", |message| message["event"] == "resolved" && message["id"] != resolved["id"]);
    assert!(again.to_string().contains("lasts until the server restarts"), "{again:#}");
    assert_eq!(masterauth(scene.replica()), WRONG);
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    scene.assert_no_secret();
}
