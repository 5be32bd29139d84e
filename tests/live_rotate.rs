//! `relinkd rotate` on real groups: nobody is refused on the way, and it can be killed, resumed and aborted anywhere.

mod live;

use std::time::Duration;

use lab::traffic::{Login, Met, Traffic};
use lab::{Group, Kind, Node, Server, Signal};
use live::desk::Desk;
use live::rotation::{interrupted_at, restart_all_and_link, rotate, takes};
use live::{PATIENCE, Setup, on_each_server};
use serde_json::Value;

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";
/// The clients of a test share two cores with the Sentinels. One that is locked out for good is seen all the same.
const DOWN_AFTER_MS: u64 = 3_000;
const FAILOVER_TIMEOUT_MS: u64 = 6_000;

fn desk(group: Group, store: &str, lines: &str) -> Desk {
    let desk = Desk::new(group);
    desk.configure(&Setup { store: Some(store.to_owned()), group: lines.to_owned(), ..Setup::default() });
    desk
}

fn with_requirepass(kind: Kind) -> Group {
    let builder = Group::builder(kind).replicas(2).sentinels(3).password(OLD);
    builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group")
}

fn use_password(group: &Group, password: &str) {
    group.nodes().iter().for_each(|node| node.set_admin_password(Some(password)));
}

#[track_caller]
fn assert_taken(desk: &Desk, password: &str, other: &str) {
    let right = |node: &Server| takes(node, &[], password) && !takes(node, &[], other);
    assert!(desk.group.nodes().iter().all(right), "a node takes {other}, or not {password}");
}

#[track_caller]
fn assert_no_secret(desk: &Desk) {
    for name in ["ledger.db", "ledger.db-wal"] {
        let bytes = std::fs::read(desk.agent.dir().join("state").join(name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("CANARY"), "a password in {name}");
    }
}

fn nobody_is_refused(kind: Kind) {
    let mut desk = desk(with_requirepass(kind), NEW, "");
    // The daemon looks on, and sees no fault.
    let config = std::fs::read_to_string(desk.agent.config_path()).unwrap();
    desk.agent.start(&config.replace("[policy]", "[policy]\nbackground = \"1s\"")).unwrap();
    let (said, plan) = rotate(&desk, &["plan", "--detailed-exitcode"]);
    assert_eq!((said.exit, &plan["failed"]), (2, &Value::Bool(false)), "{plan:#}");
    let traffic = Traffic::start(&desk.group, &Login::of(OLD), &Login::of(NEW), "lab:count").unwrap();
    let (said, half) = rotate(&desk, &["run", "--keep-old"]);
    assert_eq!((said.exit, &half["failed"], &half["finished"]), (0, &false.into(), &false.into()), "{half:#}");
    use_password(&desk.group, NEW);
    traffic.retire_old();
    // What relinkd itself logs in with is a client's password too.
    desk.agent.write_file("replica-password", NEW).unwrap();
    let (said, whole) = rotate(&desk, &["resume", "--detailed-exitcode"]);
    assert_eq!((said.exit, &whole["finished"]), (2, &Value::Bool(true)), "{whole:#}");
    let met = traffic.end(&desk.group, "lab:count").unwrap();
    assert_undisturbed(&met, "all who log in");
    assert!(met.logins > 50 && met.acked > 100, "{met:#?}");
    assert_taken(&desk, NEW, OLD);
    assert_no_secret(&desk);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(desk.json(&["incidents"]), Value::Array(Vec::new()), "the daemon saw a fault: {}", desk.agent.log());
    desk.agent.stop().unwrap();
    restart_all_and_link(&desk.group);

    let (said, again) = rotate(&desk, &["run", "--detailed-exitcode"]);
    assert_eq!((said.exit, &again["changed"]), (0, &Value::Bool(false)), "{again:#}");
}

fn offer(desk: &Desk, new: &str, old: &str) {
    desk.agent.write_file("masterauth", &format!("{{\"password\":\"{new}\",\"previous\":\"{old}\"}}")).unwrap();
    desk.agent.write_file("replica-password", old).unwrap();
}

#[track_caller]
fn assert_undisturbed(met: &Met, what: &str) {
    let figures = (met.refused, met.write_errors, met.sdown, met.full_resyncs, met.lost);
    assert_eq!(figures, (0, 0, 0, 0, 0), "{what}: {met:#?}");
}

/// Every other step with SIGKILL; the steps between with an abort.
fn killed_anywhere_and_resumed(kind: Kind) {
    let desk = desk(with_requirepass(kind), NEW, "");
    let mut now = OLD.to_owned();
    for step in [2, 4, 6, 8, 11, 13, 15, 17, 19] {
        let new = format!("CANARY-{step}");
        offer(&desk, &new, &now);
        let traffic = Traffic::start(&desk.group, &Login::of(&now), &Login::of(&new), "lab:count").unwrap();
        traffic.retire_old();
        assert!(interrupted_at(&desk, &["run"], step, Signal::KILL), "no step {step}");
        let (said, state) = rotate(&desk, &["status", "--detailed-exitcode"]);
        // Killed just after the last step's end, it may have been whole.
        if said.exit == 2 {
            let (_, refused) = rotate(&desk, &["run"]);
            assert_eq!(refused["obstacles"][0]["code"], "not-our-turn", "{refused:#}");
            let (said, end) = rotate(&desk, &["resume"]);
            assert_eq!((said.exit, &end["finished"]), (0, &Value::Bool(true)), "after step {step}: {end:#}\n{state:#}");
        }
        use_password(&desk.group, &new);
        assert_undisturbed(&traffic.end(&desk.group, "lab:count").unwrap(), &format!("resumed at {step}"));
        now = new;
    }
    assert_no_secret(&desk);
    restart_all_and_link(&desk.group);
}

fn killed_anywhere_and_taken_back(kind: Kind) {
    let desk = desk(with_requirepass(kind), NEW, "");
    for step in [1, 3, 5, 7, 9, 10, 12, 14] {
        let new = format!("CANARY-never-{step}");
        offer(&desk, &new, OLD);
        let traffic = Traffic::start(&desk.group, &Login::of(OLD), &Login::of(OLD), "lab:count").unwrap();
        // Removal of the old password is what the clients with it are told of.
        if step >= 11 {
            traffic.retire_old();
        }
        let signal = if step == 3 { Signal::INT } else { Signal::KILL };
        assert!(interrupted_at(&desk, &["run"], step, signal), "no step {step}");
        let (said, end) = rotate(&desk, &["abort"]);
        assert_eq!((said.exit, &end["finished"]), (0, &Value::Bool(true)), "after step {step}: {end:#}");
        let met = traffic.end(&desk.group, "lab:count").unwrap();
        match step {
            12.. => assert_eq!((met.write_errors, met.sdown, met.full_resyncs, met.lost), (0, 0, 0, 0), "{met:#?}"),
            _ => assert_undisturbed(&met, &format!("aborted at {step}")),
        }
        assert_taken(&desk, OLD, &new);
    }
    assert_no_secret(&desk);
    restart_all_and_link(&desk.group);
}

/// What README and docs/rotation.md grant, and nothing else.
const ADMIN: &str = "resetkeys resetchannels -@all +ping +info +role +config|get +config|set +config|rewrite +acl|whoami \
     +acl|dryrun +acl|getuser +acl|setuser +acl|save +client|list +client|kill +client|setname";
const AT_SENTINEL: &str = "resetkeys resetchannels -@all +ping +info +client|setname +acl|whoami +acl|dryrun \
     +sentinel|myid +sentinel|master +sentinel|replicas +sentinel|sentinels +sentinel|ckquorum +sentinel|info-cache \
     +sentinel|set";
const WATCHER: &str = "resetkeys allchannels -@all +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish \
     +info +client|setname +client|kill +script|kill";

fn set_user(server: &Server, name: &str, password: &str, rights: &str) {
    let login = format!(">{password}");
    let words: Vec<&str> =
        ["ACL", "SETUSER", name, "on", &login].into_iter().chain(rights.split_whitespace()).collect();
    server.run(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// ACL users, each with the least rights; Sentinels that ask for a password and know each other's.
fn users_with_least_rights(kind: Kind) {
    let builder = Group::builder(kind).replicas(2).sentinels(3).acl_user("repl", OLD);
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    for node in group.nodes() {
        set_user(node, "admin", "admin-CANARY", ADMIN);
        set_user(node, "watcher", "watch-CANARY-1", WATCHER);
        node.run(&["CONFIG", "REWRITE"]).unwrap();
    }
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "CONFIG", "SET", "sentinel-pass", "among-CANARY"]).unwrap();
        let login = ["SENTINEL", "SET", "mymaster", "auth-user", "watcher", "auth-pass", "watch-CANARY-1"];
        sentinel.run(&login).unwrap();
        set_user(sentinel, "relinkd", "sentinel-CANARY", AT_SENTINEL);
    }
    for sentinel in group.sentinels() {
        sentinel.run(&["ACL", "SETUSER", "default", "resetpass", ">among-CANARY"]).unwrap();
        sentinel.set_admin_password(Some("among-CANARY"));
        sentinel.run(&["SENTINEL", "FLUSHCONFIG"]).unwrap();
    }
    let sees_all = |it: &Server| {
        it.sentinel_field("flags").as_deref() == Some("master")
            && it.sentinel_replicas().is_ok_and(|all| all.len() == 2 && all.iter().all(|r| r["flags"] == "slave"))
            && it.query::<String>(&["SENTINEL", "CKQUORUM", "mymaster"]).is_ok_and(|said| said.contains("OK 3"))
    };
    group.sentinels().iter().for_each(|it| assert!(it.wait_until(sees_all, PATIENCE).is_some(), "{}", it.log_text()));
    let desk = Desk::new(group);
    let file = |name: &str, text: &str| desk.agent.write_file(name, text).unwrap().display().to_string();
    let lines = format!(
        "masteruser = \"repl\"\nsentinel_user = \"relinkd\"\nsentinel_password = {{ file = \"{}\" }}\n\
         admin = {{ user = \"admin\", password = {{ file = \"{}\" }} }}\n\
         sentinel_auth = {{ user = \"watcher\", password = {{ file = \"{}\" }} }}",
        file("at-sentinel", "sentinel-CANARY"),
        file("admin", "admin-CANARY"),
        file("watcher", "{\"password\":\"watch-CANARY-2\",\"previous\":\"watch-CANARY-1\"}"),
    );
    desk.configure(&Setup { store: Some(NEW.to_owned()), group: lines, ..Setup::default() });

    let of_repl = |password: &str| Login { user: "repl".to_owned(), password: password.to_owned() };
    let traffic = Traffic::start(&desk.group, &of_repl(OLD), &of_repl(NEW), "lab:count").unwrap();
    let (said, half) = rotate(&desk, &["run", "--keep-old"]);
    assert_eq!((said.exit, &half["failed"]), (0, &false.into()), "{half:#}");
    let steps = half["steps"].as_array().unwrap();
    assert!(!steps.iter().any(|step| step["what"].as_str().unwrap().contains("auth-pass")), "{half:#}");
    traffic.retire_old();
    let (said, whole) = rotate(&desk, &["resume"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    assert_undisturbed(&traffic.end(&desk.group, "lab:count").unwrap(), "the replicator");

    let (said, whole) = rotate(&desk, &["run", "--user", "watcher"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    for node in desk.group.nodes() {
        assert!(takes(node, &["repl"], NEW) && !takes(node, &["repl"], OLD));
        assert!(takes(node, &["watcher"], "watch-CANARY-2") && !takes(node, &["watcher"], "watch-CANARY-1"));
    }
    // relinkd's own login.
    desk.agent.write_file("admin", "{\"password\":\"admin-CANARY-2\",\"previous\":\"admin-CANARY\"}").unwrap();
    let (said, whole) = rotate(&desk, &["run", "--user", "admin"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    assert_no_secret(&desk);
    restart_all_and_link(&desk.group);
}

/// Users in a file of their own, which CONFIG REWRITE does not write.
#[test]
fn an_aclfile_is_saved_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let place = lab::Place::make().unwrap();
    let mut builder = Group::builder(kind).replicas(2).sentinels(3).password(OLD);
    for (number, node) in [Node::Primary, Node::Replica(0), Node::Replica(1)].into_iter().enumerate() {
        let path = place.dir().join(format!("{number}.acl"));
        std::fs::write(&path, format!("user default on >{OLD} ~* &* +@all\n")).unwrap();
        builder = builder.config_of(node, "aclfile", &path.display().to_string());
    }
    let desk = desk(builder.start().expect("a group"), NEW, "");
    let (said, whole) = rotate(&desk, &["run"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    use_password(&desk.group, NEW);
    restart_all_and_link(&desk.group);
    assert_taken(&desk, NEW, OLD);
}

/// Without the ACL command a server knows one password, as every Redis before 6 does.
#[test]
fn a_server_with_one_password_is_refused_or_switched_in_a_short_window_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).config("rename-command", "ACL \"\"");
    let desk = desk(group.start().expect("a group"), NEW, "");
    let (said, refused) = rotate(&desk, &["run"]);
    assert_eq!((said.exit, &refused["obstacles"][0]["code"]), (1, &"no-safe-remedy".into()), "{refused:#}");
    let full = desk.group.primary().sync_full();
    let (said, whole) = rotate(&desk, &["run", "--short-window"]);
    assert_eq!((said.exit, &whole["finished"]), (0, &true.into()), "{whole:#}");
    assert!(whole["steps"][0]["detail"].as_str().unwrap().contains(" ms lay between"), "{whole:#}");
    use_password(&desk.group, NEW);
    assert_eq!(desk.group.primary().sync_full(), full);
    restart_all_and_link(&desk.group);
    assert_taken(&desk, NEW, OLD);
}

/// Nothing is begun, and nothing changed, where something stands in the way; each with its code and exit.
#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_changed_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let desk = desk(with_requirepass(kind), NEW, "");
    let replica = desk.group.replica(1);
    let refused_with = |what: &str, exit: i32, code: &str| {
        for verb in ["plan", "run"] {
            let (said, told) = rotate(&desk, &[verb]);
            let codes: Vec<&str> =
                told["obstacles"].as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap()).collect();
            assert!(said.exit == exit && codes.contains(&code), "{what}: {} {told:#}", said.exit);
        }
    };
    replica.run(&["CONFIG", "SET", "masterauth", "other-CANARY"]).unwrap();
    refused_with("a latent mismatch", 1, "latent-auth-mismatch");
    replica.run(&["CONFIG", "SET", "masterauth", OLD]).unwrap();

    let (host, port) = desk.group.primary().endpoint();
    replica.run(&["REPLICAOF", "NO", "ONE"]).unwrap();
    refused_with("a second primary", 1, "role-changed");
    replica.run(&["REPLICAOF", &host, &port.to_string()]).unwrap();
    assert!(replica.wait_link_up(PATIENCE).is_some());

    replica.run(&["ACL", "SETUSER", "default", ">third-CANARY"]).unwrap();
    refused_with("a password that we do not know", 1, "not-our-turn");
    replica.run(&["ACL", "SETUSER", "default", "<third-CANARY"]).unwrap();

    replica.run(&["ACL", "SETUSER", "default", &format!(">{NEW}")]).unwrap();
    refused_with("another host's rotation", 1, "not-our-turn");
    replica.run(&["ACL", "SETUSER", "default", &format!("<{NEW}")]).unwrap();

    desk.group.sentinel(2).freeze().unwrap();
    refused_with("a Sentinel that does not answer", 69, "evidence-missing");
    desk.group.sentinel(2).thaw().unwrap();

    for node in desk.group.nodes() {
        set_user(
            node,
            "weak",
            "weak-CANARY",
            "resetkeys -@all +ping +info +role +config|get +acl|getuser +acl|whoami +acl|dryrun +client|list +client|setname",
        );
    }
    let text = std::fs::read_to_string(desk.agent.config_path()).unwrap();
    let file = desk.agent.write_file("weak", "weak-CANARY").unwrap().display().to_string();
    let admin = format!("[group.mymaster]\nadmin = {{ user = \"weak\", password = {{ file = \"{file}\" }} }}");
    desk.agent.write_file("config.toml", &text.replace("[group.mymaster]", &admin)).unwrap();
    let whole = |sentinel: &Server| sentinel.query::<String>(&["SENTINEL", "CKQUORUM", "mymaster"]).is_ok();
    desk.group.sentinels().iter().for_each(|it| assert!(it.wait_until(whole, PATIENCE).is_some()));
    let (_, told) = rotate(&desk, &["plan"]);
    let rights = told["obstacles"].as_array().unwrap().iter().filter(|it| it["code"] == "permission-denied").count();
    assert_eq!(rights, 3, "{told:#}");
    desk.agent.write_file("config.toml", &text).unwrap();

    assert_taken(&desk, OLD, NEW);
    let (_, state) = rotate(&desk, &["status"]);
    assert_eq!(state, Value::Null, "no rotation was begun");

    // Rotated by hand, and the Sentinels forgotten.
    for node in desk.group.nodes() {
        node.run(&["CONFIG", "SET", "masterauth", NEW]).unwrap();
        node.run(&["CONFIG", "SET", "requirepass", NEW]).unwrap();
        node.set_admin_password(Some(NEW));
        node.run(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    }
    // The third is in TILT, and judges nobody, since it was frozen.
    for sentinel in desk.group.sentinels().iter().take(2) {
        assert!(sentinel.wait_until(sees_it_down, PATIENCE).is_some());
    }
    let (said, told) = rotate(&desk, &["plan"]);
    let codes: Vec<&str> = told["obstacles"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str()).collect();
    assert!(said.exit == 1 && codes.contains(&"sentinel-acting"), "{} {told:#}", said.exit);
}

fn sees_it_down(sentinel: &Server) -> bool {
    let fields: Vec<String> = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap_or_default();
    fields.chunks(2).any(|pair| pair[0] == "flags" && pair[1].contains("s_down"))
}

on_each_server! {
    nobody_is_refused =>
        nobody_is_refused_in_a_rotation_of_requirepass_redis_70,
        nobody_is_refused_in_a_rotation_of_requirepass_valkey_80;
    killed_anywhere_and_resumed =>
        a_rotation_that_is_killed_anywhere_is_resumed_redis_70, a_rotation_that_is_killed_anywhere_is_resumed_valkey_80;
    killed_anywhere_and_taken_back =>
        a_rotation_that_is_killed_anywhere_is_taken_back_redis_70,
        a_rotation_that_is_killed_anywhere_is_taken_back_valkey_80;
    users_with_least_rights =>
        users_are_rotated_with_the_least_rights_redis_70, users_are_rotated_with_the_least_rights_valkey_80;
}
