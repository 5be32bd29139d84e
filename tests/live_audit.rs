//! `relinkd audit` on real groups: a healthy one passes, each planted weakness is found, and nothing is told of what
//! could not be read but that.

mod live;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::{Agent, Group, Kind, Server};
use live::desk::Desk;
use live::{RELINKD, Setup, on_each_server};
use serde_json::Value;

const PASSWORD: &str = "right-CANARY-1";
const WRONG: &str = "wrong-CANARY-2";
const OBSERVER: &str = "observer-CANARY-3";

/// What an audit said, and how it ended.
struct Audit {
    code: i32,
    json: Value,
    text: String,
}

fn desk(group: Group) -> Desk {
    let desk = Desk::new(group);
    desk.configure(&Setup::default());
    desk
}

fn audit(desk: &Desk, words: &[&str]) -> Audit {
    let run = |form: &[&str]| {
        let said = desk.run(&[&["audit"], form, words].concat());
        assert!(!format!("{said:?}").contains("CANARY"), "a password leaked: {said:?}");
        said
    };
    let said = run(&["--json"]);
    Audit { code: said.exit, json: said.json(), text: run(&[]).out }
}

impl Audit {
    /// The checks of a name that did not pass, as `verdict node`, sorted.
    fn of(&self, name: &str) -> Vec<String> {
        let checks = self.json["checks"].as_array().expect("checks");
        let of_name: Vec<&Value> = checks.iter().filter(|check| check["name"] == name).collect();
        assert!(!of_name.is_empty(), "no check {name} in {:#}", self.json);
        let mut told: Vec<String> = of_name
            .iter()
            .filter(|check| check["verdict"] != "pass")
            .map(|check| {
                let node = check["node"].as_str().map(|node| format!(" {node}")).unwrap_or_default();
                format!("{}{node}", check["verdict"].as_str().unwrap_or_default())
            })
            .collect();
        told.sort();
        told
    }

    fn not_passed(&self) -> Vec<&Value> {
        self.json["checks"].as_array().expect("checks").iter().filter(|check| check["verdict"] != "pass").collect()
    }

    #[track_caller]
    fn expect(&self, name: &str, expected: &[String]) {
        assert_eq!(self.of(name), expected, "{name} in {:#}", self.json);
    }
}

fn set(server: &Server, parameter: &str, value: &str) {
    server.run(&["CONFIG", "SET", parameter, value]).unwrap_or_else(|error| panic!("{parameter} {value}: {error}"));
}

fn fail(server: &Server) -> String {
    format!("fail {}", server.address())
}

fn warn(server: &Server) -> String {
    format!("warn {}", server.address())
}

/// Sentinels that do not meddle while a test breaks things.
fn group_of(kind: Kind) -> Group {
    let group = Group::builder(kind).replicas(2).sentinels(3).password(PASSWORD).config("save", "3600 1");
    let group = group.sentinel_timers(60_000, 180_000).start().expect("a group");
    group.primary().write(10, 100).expect("some data");
    // What starts the lab's servers again is not known, so a save that is behind would be told.
    group.primary().run(&["SAVE"]).expect("a save");
    for number in 0..2 {
        let there = |replica: &Server| replica.query::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys == 10);
        group.replica(number).wait_until(there, live::PATIENCE).expect("the data arrives");
    }
    group
}

fn a_healthy_group_would_survive(kind: Kind) {
    let desk = desk(group_of(kind));
    let (full, rejected) =
        (desk.group.primary().sync_full(), desk.group.primary().info("stats", "acl_access_denied_auth"));
    let said = audit(&desk, &["--sample", "100ms"]);
    assert!(said.not_passed().is_empty(), "{:#?}", said.not_passed());
    assert_eq!((said.code, &said.json["survives"], &said.json["group"]), (0, &Value::Bool(true), &"mymaster".into()));
    assert!(said.text.starts_with("mymaster would survive a failover: yes\n"), "{}", said.text);
    let names: std::collections::BTreeSet<&str> =
        said.json["checks"].as_array().unwrap().iter().filter_map(|check| check["name"].as_str()).collect();
    for name in ["masterauth", "backlog", "output-buffer", "repl-timeout", "disk", "memory", "candidates", "versions"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    assert_eq!(desk.group.primary().sync_full(), full, "an audit disturbs no link");
    assert_eq!(desk.group.primary().info("stats", "acl_access_denied_auth"), rejected, "and tries no wrong login");
}

/// From one Sentinel, and from an instance behind a Unix socket, the whole group is found.
#[test]
fn the_group_is_found_from_one_sentinel_and_a_socket_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let desk = desk(group_of(kind));
    let replica = desk.group.replica(0);
    let text = std::fs::read_to_string(desk.agent.config_path()).unwrap();
    let one = format!("sentinels = [\"{}\"]", desk.group.sentinel(0).address());
    let socket = format!("address = \"unix:{}\"", replica.socket_path().display());
    let text: Vec<&str> = text
        .lines()
        .map(|line| match line {
            line if line.starts_with("sentinels = ") => one.as_str(),
            line if line.starts_with("address = ") => socket.as_str(),
            line => line,
        })
        .collect();
    desk.agent.write_file("config.toml", &text.join("\n")).unwrap();
    let said = audit(&desk, &["--sample", "100ms"]);
    said.expect("sentinels-configured", &["warn".to_owned()]);
    assert_eq!((said.not_passed().len(), said.code), (1, 0), "{:#?}", said.not_passed());
    let checks = said.json["checks"].as_array().unwrap();
    let disk = checks.iter().find(|check| check["name"] == "disk").expect("the disk of the local instance");
    assert_eq!(disk["node"], replica.address(), "under the address that the Sentinels have for it");
    assert_eq!(checks.iter().filter(|check| check["name"] == "masterauth").count(), 3);
}

/// Ends the client when the audit panics too.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn each_planted_weakness_is_found(kind: Kind) {
    let desk = desk(group_of(kind));
    let (primary, first, second) = (desk.group.primary(), desk.group.replica(0), desk.group.replica(1));

    // Latent logins: every link stays up.
    set(primary, "masterauth", "");
    set(second, "masterauth", WRONG);
    second.run(&["ACL", "SETUSER", "default", "-psync"]).unwrap();
    set(second, "repl-timeout", "10");
    set(second, "replica-serve-stale-data", "yes");
    set(second, "min-replicas-to-write", "2");
    set(first, "repl-backlog-size", "16384");
    set(first, "client-output-buffer-limit", "replica 20000 0 0");
    set(primary, "save", "");
    set(first, "replica-priority", "0");
    set(second, "replica-priority", "0");
    desk.group.sentinel(0).run(&["SENTINEL", "SET", "mymaster", "quorum", "1"]).unwrap();
    desk.group.sentinel(1).run(&["SENTINEL", "SET", "mymaster", "down-after-milliseconds", "61000"]).unwrap();

    let done = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let _done = Done(&done);
        scope.spawn(|| {
            // At most 20 MB/s: on a quick machine an unbounded client writes more than any limit holds.
            while !done.load(Ordering::Relaxed) {
                primary.write(100, 1000).expect("the primary takes writes");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        audit(&desk, &["--sample", "300ms"])
    });
    assert_eq!((said.code, &said.json["survives"]), (1, &Value::Bool(false)));
    assert!(said.text.starts_with("mymaster would survive a failover: no, "), "{}", said.text);
    let mut masterauth = vec![fail(primary), fail(second)];
    masterauth.sort();
    said.expect("masterauth", &masterauth);
    said.expect("masterauth-equal", &["warn".to_owned()]);
    said.expect("replication-acl", &[fail(second)]);
    said.expect("repl-timeout", &[fail(second)]);
    said.expect("stale-data", &["warn".to_owned()]);
    said.expect("min-replicas", &["warn".to_owned()]);
    assert!(said.of("backlog").contains(&warn(first)), "{:#}", said.json);
    said.expect("output-buffer", &[fail(first)]);
    said.expect("persistence", &[warn(primary)]);
    said.expect("candidates", &["fail".to_owned()]);
    said.expect("quorum-setting", &["warn".to_owned()]);
    said.expect("sentinel-timers", &["warn".to_owned()]);
    said.expect("replica-link", &[]);

    // What it says mends what it found.
    for check in said.not_passed().iter().filter(|check| check["name"] == "candidates") {
        for step in check["mend"].as_array().unwrap() {
            let words: Vec<&str> = step.as_str().unwrap().split(" && ").next().unwrap().split(' ').skip(6).collect();
            for server in [first, second]
                .iter()
                .filter(|server| step.as_str().unwrap().contains(&server.endpoint().1.to_string()))
            {
                server.run(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            }
        }
    }
    assert!(!audit(&desk, &["--sample", "100ms"]).of("candidates").contains(&"fail".to_owned()));

    // A replica that starts without its login never syncs, and Sentinel would take it for fresh.
    second.run(&["CONFIG", "REWRITE"]).unwrap();
    second.restart().expect("it starts");
    let said = audit(&desk, &["--sample", "100ms"]);
    said.expect("replica-data", &[fail(second)]);
    said.expect("replica-link", &[fail(second)]);

    // A primary that cannot save refuses PING.
    set(primary, "save", "3600 1");
    let _ = std::fs::remove_file(primary.data_dir().join("dump.rdb"));
    std::fs::create_dir_all(primary.data_dir().join("dump.rdb/in-the-way")).unwrap();
    primary.run(&["BGSAVE"]).unwrap();
    let failed = |server: &Server| server.info("persistence", "rdb_last_bgsave_status").as_deref() == Some("err");
    primary.wait_until(failed, live::PATIENCE).expect("the save fails");
    audit(&desk, &["--sample", "100ms"]).expect("save-status", &[fail(primary)]);
}

/// A user made for replication may not read INFO: what it hides is unseen, and an observer shows it.
fn what_cannot_be_read_is_unseen(kind: Kind) {
    let group = Group::builder(kind).replicas(2).sentinels(3).acl_user("repl", PASSWORD).config("save", "3600 1");
    let group = group.sentinel_timers(60_000, 180_000).start().expect("a group");
    let desk = desk(group);
    let said = audit(&desk, &["--sample", "100ms"]);
    assert_eq!((said.code, &said.json["survives"]), (3, &Value::Null), "{:#}", said.json);
    assert!(said.text.starts_with("mymaster would survive a failover: unknown, "), "{}", said.text);
    let mut others = ["primary", "replica"].map(|_| String::new()).to_vec();
    others[0] = format!("unseen {}", desk.group.primary().address());
    others[1] = format!("unseen {}", desk.group.replica(1).address());
    others.sort();
    said.expect("node-reachable", &others);
    said.expect("masterauth", &others);
    said.expect("replication-acl", &[]);
    assert!(said.text.contains("observer = {"), "it says what to configure: {}", said.text);

    let password = desk.agent.write_file("observer", OBSERVER).unwrap();
    for node in desk.group.nodes() {
        let login = format!(">{OBSERVER}");
        let rights = ["+ping", "+info", "+role", "+config|get", "+client|setname"];
        let user = ["ACL", "SETUSER", "observer", "on", &login, "resetkeys", "resetchannels", "-@all"];
        node.run(&[&user[..], &rights[..]].concat()).unwrap();
    }
    let observer = format!("observer = {{ user = \"observer\", password = {{ file = \"{}\" }} }}", password.display());
    desk.configure(&Setup { group: observer, ..Setup::default() });
    let said = audit(&desk, &["--sample", "100ms"]);
    assert!(said.not_passed().is_empty(), "{:#?}", said.not_passed());
    assert_eq!(said.code, 0);
    let tried: Option<String> = desk.group.primary().info("stats", "acl_access_denied_auth");
    assert!(matches!(tried.as_deref(), None | Some("0")), "a login was refused: {tried:?}");
}

/// Sentinels with a stale password see a healthy group down, and Sentinels that are gone cannot elect.
#[test]
fn sentinels_that_are_cut_off_or_gone_are_told_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(3).password(PASSWORD).config("save", "3600 1");
    let group = group.sentinel_timers(1_000, 180_000).start().expect("a group");
    let desk = desk(group);
    let nodes = desk.group.nodes();
    let sentinels = desk.group.sentinels();
    let login = |sentinel: &Server, password: &str| {
        sentinel.run(&["SENTINEL", "SET", "mymaster", "auth-pass", password]).unwrap();
    };
    let settled = |node: &Server| node.info("server", "uptime_in_seconds").is_some_and(|s| s.parse().unwrap_or(0) >= 3);
    for node in nodes {
        node.wait_until(settled, live::PATIENCE).expect("it runs for a while");
    }
    login(&sentinels[0], WRONG);
    let flagged = |sentinel: &Server| {
        let master: Vec<String> = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap_or_default();
        master.iter().any(|field| field.contains("s_down"))
    };
    let sorted = |word: fn(&Server) -> String| {
        let mut all: Vec<String> = nodes.iter().map(word).collect();
        all.sort();
        all
    };
    sentinels[0].wait_until(flagged, live::PATIENCE).expect("its login is refused");
    audit(&desk, &["--sample", "100ms"]).expect("sentinel-logins", &sorted(warn));
    for sentinel in sentinels {
        login(sentinel, WRONG);
    }
    for sentinel in sentinels {
        sentinel.wait_until(flagged, live::PATIENCE).expect("its login is refused");
    }
    let said = audit(&desk, &["--sample", "100ms"]);
    said.expect("sentinel-logins", &sorted(fail));
    said.expect("quorum-reached", &[]);
    for sentinel in sentinels {
        login(sentinel, PASSWORD);
    }

    desk.group.sentinel(1).kill9();
    desk.group.sentinel(2).kill9();
    let no_quorum = |sentinel: &Server| sentinel.run(&["SENTINEL", "CKQUORUM", "mymaster"]).is_err();
    desk.group.sentinel(0).wait_until(no_quorum, live::PATIENCE).expect("the others are missed");
    let said = audit(&desk, &["--sample", "100ms"]);
    said.expect("quorum-reached", &[fail(desk.group.sentinel(0))]);
    said.expect("sentinels-reachable", &["unseen".to_owned()]);
    assert_eq!(said.code, 1);
}

#[test]
fn without_any_answer_or_any_group_it_says_so() {
    let agent = Agent::new(RELINKD).expect("a place for relinkd");
    let run = |text: &str| {
        agent.write_file("config.toml", text).unwrap();
        let config = agent.config_path();
        let output = std::process::Command::new(RELINKD).arg("--config").arg(config).arg("audit").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let dir = agent.dir().display();
    let paths = format!("[agent]\nstate_dir = \"{dir}\"\nrun_dir = \"{dir}\"\nlisten = \"off\"\n");
    let (code, text) = run(&format!("{paths}[replica.cache]\naddress = \"127.0.0.1:1\"\n"));
    assert!(code == Some(78) && text.contains("[group.NAME]"), "{code:?} {text}");
    let group = "[group.mymaster]\nsentinels = [\"127.0.0.1:1\"]\n[replica.cache]\naddress = \"127.0.0.1:1\"\ngroup = \"mymaster\"\n";
    let (code, text) = run(&format!("{paths}{group}"));
    assert!(code == Some(69) && text.contains("no Sentinel and no node"), "{code:?} {text}");
}

on_each_server! {
    a_healthy_group_would_survive => a_healthy_group_would_survive_redis_70, a_healthy_group_would_survive_valkey_80;
    each_planted_weakness_is_found => each_planted_weakness_is_found_redis_70, each_planted_weakness_is_found_valkey_80;
    what_cannot_be_read_is_unseen => what_cannot_be_read_is_unseen_redis_70, what_cannot_be_read_is_unseen_valkey_80;
}
