//! `relinkd audit` where Sentinels, or relinkd at the Sentinels, may do too little.

mod live;

use lab::{Agent, Group, Kind, Server};
use live::{RELINKD, Setup, config};
use serde_json::Value;

const PASSWORD: &str = "right-CANARY-1";
/// What a Sentinel needs at a data node, but for the three that move it.
const WATCHING: [&str; 9] = [
    "+ping",
    "+info",
    "+role",
    "+subscribe",
    "+publish",
    "+client|setname",
    "+client|kill",
    "+config|rewrite",
    "+script|kill",
];

/// The checks that do not pass, and the exit code.
fn not_passed(group: &Group, setup: &Setup) -> (Vec<Value>, Option<i32>) {
    let agent = Agent::new(RELINKD).expect("a place for relinkd");
    let text = config(&agent, group, group.replica(0), "http://127.0.0.1:9/", setup);
    let watch = agent.write_file("watch", PASSWORD).expect("a password");
    agent.write_file("config.toml", &text.replace("WATCH", &watch.display().to_string())).expect("a configuration");
    let mut command = group.replica(0).command_beside(RELINKD);
    command.arg("--config").arg(agent.config_path()).args(["audit", "--json", "--sample", "100ms"]);
    let output = command.output().expect("the audit runs");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = json["checks"].as_array().expect("checks").iter().filter(|check| check["verdict"] != "pass");
    (checks.cloned().collect(), output.status.code())
}

/// The same as `verdict name`.
fn audit(group: &Group, setup: &Setup) -> (Vec<String>, Option<i32>) {
    let (checks, code) = not_passed(group, setup);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told: Vec<String> =
        checks.iter().map(|check| format!("{} {}", word(&check["verdict"]), word(&check["name"]))).collect();
    told.sort();
    told.dedup();
    (told, code)
}

/// Runs each `ACL SETUSER` that the audit advises, where it says so: a server refuses a rule too many.
#[track_caller]
fn give_what_is_advised(group: &Group) {
    let (checks, code) = not_passed(group, &Setup::default());
    assert_eq!(code, Some(1), "{checks:#?}");
    let mut given = 0;
    for check in checks.iter().filter(|check| check["name"] == "sentinel-acl") {
        let node = group.nodes().iter().find(|node| check["node"] == node.address()).expect("a node of the group");
        let lines = check["mend"].as_array().expect("lines").iter().filter_map(Value::as_str);
        for line in lines.filter(|line| line.contains(" ACL SETUSER ")) {
            let (_, words) = line.split_once(" ACL ").expect("a command");
            let (words, _) = words.split_once("   #").expect("a comment");
            let words: Vec<&str> = words.split(' ').map(|word| word.trim_matches('\'')).collect();
            node.run(&[&["ACL"], &words[..]].concat()).unwrap_or_else(|error| panic!("{line}: {error}"));
            given += 1;
        }
    }
    assert!(given > 0, "{checks:#?}");
}

fn group_of(kind: Kind) -> Group {
    let group = Group::builder(kind).replicas(1).sentinels(3).password(PASSWORD).config("save", "3600 1");
    group.sentinel_timers(60_000, 180_000).start().expect("a group")
}

/// Their PINGs are answered, every check of theirs is well, and SENTINEL FAILOVER aborts.
fn sentinels_that_may_not_promote_are_told(kind: Kind) {
    let group = group_of(kind);
    let one_replica = || (vec!["warn candidates".to_owned()], Some(0));
    assert_eq!(audit(&group, &Setup::default()), one_replica());
    let login = format!(">{PASSWORD}");
    for node in group.nodes() {
        let user = ["ACL", "SETUSER", "snt", "on", &login, "allkeys", "allchannels", "-@all"];
        node.run(&[&user[..], &WATCHING].concat()).expect("a user");
    }
    for sentinel in group.sentinels() {
        let set = ["SENTINEL", "SET", "mymaster", "auth-user", "snt", "auth-pass", PASSWORD];
        sentinel.run(&set).expect("another login");
    }
    let all_as_it = |node: &Server| {
        let clients: String = node.query(&["CLIENT", "LIST"]).unwrap_or_default();
        let commands: Vec<&str> =
            clients.lines().filter(|line| line.contains("name=sentinel-") && line.contains("-cmd ")).collect();
        commands.len() == 3 && commands.iter().all(|line| line.contains("user=snt"))
    };
    for node in group.nodes() {
        node.wait_until(all_as_it, live::PATIENCE).expect("the Sentinels use it");
    }
    // It holds every channel, and lacks the command alone.
    for node in group.nodes() {
        node.run(&["ACL", "SETUSER", "snt", "-publish"]).expect("one right less");
    }
    give_what_is_advised(&group);
    let (told, _) = audit(&group, &Setup::default());
    assert!(!told.iter().any(|check| check.contains("sentinel-acl")), "{told:?}");
    // It lacks the channel alone.
    for node in group.nodes() {
        node.run(&["ACL", "SETUSER", "snt", "resetchannels", "&other"]).expect("no channel");
        node.wait_until(all_as_it, live::PATIENCE).expect("the Sentinels are back");
    }
    give_what_is_advised(&group);
    let (told, _) = audit(&group, &Setup::default());
    assert!(!told.iter().any(|check| check.contains("sentinel-acl")), "{told:?}");
}

/// A user that may not list replicas, nor Sentinels, leaves a healthy group unknown and not unfit.
fn what_sentinels_do_not_tell_is_unseen(kind: Kind) {
    let group = group_of(kind);
    let login = format!(">{PASSWORD}");
    for sentinel in group.sentinels() {
        let user = ["ACL", "SETUSER", "watch", "on", &login, "allchannels", "-@all", "+ping", "+info", "+role"];
        let asks = ["+client|setname", "+sentinel|master", "+sentinel|masters", "+sentinel|myid", "+sentinel|ckquorum"];
        sentinel.run(&[&user[..], &asks].concat()).expect("a user");
    }
    let lines = "sentinel_user = \"watch\"\nsentinel_password = { file = \"WATCH\" }";
    let (told, code) = audit(&group, &Setup { group: lines.to_owned(), ..Setup::default() });
    let unseen = ["announced-addresses", "candidates", "listed", "sentinel-peers"];
    let expected: Vec<String> = unseen.iter().map(|name| format!("unseen {name}")).collect();
    assert_eq!((told, code), (expected, Some(3)));
}

/// With what is configured, since the instance of this host cannot be asked for its own.
#[test]
fn the_others_are_read_while_the_local_instance_hangs_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = group_of(kind);
    group.replica(0).freeze().expect("it hangs");
    let (told, code) = audit(&group, &Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
    group.replica(0).thaw().expect("it goes on");
    assert!(told.contains(&"unseen node-reachable".to_owned()) && code == Some(3), "{told:?} {code:?}");
    assert!(!told.contains(&"unseen write-rate".to_owned()), "the primary was read: {told:?}");
}

live::on_each_server! {
    sentinels_that_may_not_promote_are_told =>
        sentinels_that_may_not_promote_are_told_redis_70, sentinels_that_may_not_promote_are_told_valkey_80;
    what_sentinels_do_not_tell_is_unseen =>
        what_sentinels_do_not_tell_is_unseen_redis_70, what_sentinels_do_not_tell_is_unseen_valkey_80;
}
