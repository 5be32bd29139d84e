//! Reasons to hold that no other test comes by. Each is told in every place: the status, the record (`show`), a message,
//! the metrics. Then what stood in the way goes, and the incident ends.
//!
//! Two codes are not among them. `stopping` holds between SIGTERM and the end of the step in flight, and no question is
//! answered any more by then. `role-changed` needs an instance that stops being a replica within one look.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;
#[path = "live/outage.rs"]
mod outage;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use lab::{Builder, Group, Kind, Port, Server, fault, transfer};
use live::checks::{actions, text};
use live::{PATIENCE, Scene, Setup};
use rusqlite::Connection;
use serde_json::Value;

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";

/// A refusal that was seen: its remedy and its code, and words of its detail.
type Refused = (&'static str, &'static str, &'static str);

/// The reason that stands now.
fn held(scene: &Scene, (remedy, code, words): Refused) -> Refused {
    scene.wait_status(&format!("{code}: {words}"), |status| {
        let held = &status["held"];
        held["code"] == code && held["remedy"] == remedy && text(&held["detail"]).contains(words)
    });
    println!("{}: {code}: {words}", scene.group.kind());
    (remedy, code, words)
}

/// The incident is over, and whoever asks later learns of each refusal.
fn told_everywhere(scene: &Scene, http: u16, id: &str, all: &[Refused]) -> Value {
    let message = scene.told_of(id, "resolved");
    let shown = scene.verb_json(&["show", id]);
    for (place, report) in [("the message", &message), ("show", &shown)] {
        for (remedy, code, words) in all {
            let fits = |held: &Value| {
                held["refusal"] == *code && held["remedy"] == *remedy && text(&held["detail"]).contains(words)
            };
            let known = report["held"].as_array().is_some_and(|held| held.iter().any(fits));
            assert!(known, "{place} does not tell of {code}: {words}: {:#}", report["held"]);
        }
    }
    let scrape = scrape(http);
    for (remedy, code, _) in all {
        let series = format!("relinkd_holds_total{{refusal=\"{code}\",remedy=\"{remedy}\"}} ");
        let counted = scrape.lines().any(|line| line.starts_with(&series) && !line.ends_with(" 0"));
        assert!(counted, "{series} is not counted: {scrape}");
    }
    message
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// relinkd beside the replica, and the port of its metrics.
fn start(group: Group, setup: Setup) -> (Scene, u16, Port) {
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let scene = Scene::start(group, &Setup { listen: format!("127.0.0.1:{http}"), ..setup });
    (scene, http, port)
}

fn incident(scene: &Scene) -> String {
    text(&scene.wait_status("an incident", |status| !status["incident"].is_null())["incident"])
}

fn watched_by_three(kind: Kind) -> Builder {
    Group::builder(kind).replicas(1).sentinels(3).password(OLD).sentinel_timers(30_000, 120_000)
}

/// The Sentinel watches another address under the group's name.
fn stray(sentinel: &Server) {
    let (host, port) = lab::closed_port().expect("a port");
    watches(sentinel, &host, port);
}

fn watches(sentinel: &Server, host: &str, port: u16) {
    sentinel.run(&["SENTINEL", "REMOVE", "mymaster"]).expect("forgotten");
    sentinel.run(&["SENTINEL", "MONITOR", "mymaster", host, &port.to_string(), "2"]).expect("watched");
    sentinel.run(&["SENTINEL", "SET", "mymaster", "auth-pass", NEW]).expect("its password");
}

/// A failover that may run, Sentinels that do not agree, a record that cannot be written: a password that has been taken
/// away waits for each of them behind a link that is still up.
#[test]
fn what_a_new_password_waits_for_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let policy = "settle = \"300ms\"\nbackground = \"1s\"".to_owned();
    let setup = Setup { store: Some(NEW.to_owned()), policy, ..Setup::default() };
    let (scene, http, _port) = start(watched_by_three(kind).start().expect("a group"), setup);
    let (primary, one, other) = (scene.group.primary(), scene.group.sentinel(1), scene.group.sentinel(2));

    stray(other);
    primary.run(&["CONFIG", "SET", "requirepass", NEW]).expect("another password");
    primary.set_admin_password(Some(NEW));
    let running = held(&scene, ("realign-auth", "failover-running", "some Sentinels name"));
    let id = incident(&scene);
    stray(one);
    let disagree = held(&scene, ("realign-auth", "sentinels-disagree", "no majority of the Sentinels"));

    let ledger = Connection::open(scene.agent.dir().join("state/ledger.db")).expect("the ledger");
    ledger.execute_batch("BEGIN IMMEDIATE").expect("its lock");
    let (host, port) = primary.endpoint();
    [one, other].into_iter().for_each(|sentinel| watches(sentinel, &host, port));
    let unwritable = held(&scene, ("realign-auth", "ledger-unwritable", "nothing is changed that cannot be recorded"));
    let masterauth: Vec<String> = scene.replica().query(&["CONFIG", "GET", "masterauth"]).expect("its password");
    assert_eq!(masterauth.last().map(String::as_str), Some(OLD), "nothing was changed");
    ledger.execute_batch("ROLLBACK").expect("unlocked");

    let resolved = told_everywhere(&scene, http, &id, &[running, disagree, unwritable]);
    assert_eq!(actions(&resolved)[0], ("realign-auth".to_owned(), "changed".to_owned()), "{resolved:#}");
}

/// Without CONFIG GET the log alone names the cause, and what would be changed could not be put back.
#[test]
fn what_a_user_without_rights_cannot_heal_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let group = watched_by_three(kind).start().expect("a group");
    let user = ["ACL", "SETUSER", "watcher", "on", ">old-CANARY-1", "~*", "&*", "+@all", "-config"];
    group.replica(0).run(&user).expect("a user");
    let log = group.replica(0).log_path().display().to_string();
    let setup = Setup {
        store: Some(NEW.to_owned()),
        policy: "settle = \"300ms\"".to_owned(),
        replica: format!("user = \"watcher\"\nlog = \"file:{log}\""),
        ..Setup::default()
    };
    let (scene, http, _port) = start(group, setup);
    fault::rotate_password(scene.group.primary(), NEW).expect("rotated").keep();
    let denied = held(&scene, ("realign-auth", "permission-denied", "needs +config|get +config|set"));
    let id = incident(&scene);
    scene.replica().run(&["ACL", "SETUSER", "watcher", "+config"]).expect("the right");
    let resolved = told_everywhere(&scene, http, &id, &[denied]);
    assert_eq!(actions(&resolved)[0], ("realign-auth".to_owned(), "changed".to_owned()), "{resolved:#}");
}

/// A replica that loads from a foreign server, and Sentinels that know the named primary from long ago.
#[test]
fn what_a_repoint_waits_for_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let group = watched_by_three(kind).start().expect("a group");
    catalogue::filled(&group);
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "info-period", "3600000"]).expect("they do not look");
    }
    let foreign = Group::builder(kind).password(OLD).start().expect("a server of another group");
    let slow = transfer::slow_sync(foreign.primary(), 1000, 10_000).expect("a slow sync");
    let policy = "settle = \"300ms\"\n[policy.repoint]\nmode = \"observe\"\nafter = \"500ms\"".to_owned();
    let (scene, http, _port) = start(group, Setup { policy, ..Setup::default() });
    let follow = |(host, port): (String, u16)| {
        scene.replica().run(&["REPLICAOF", &host, &port.to_string()]).expect("it follows");
    };

    let read_long_ago = |sentinel: &Server| {
        let age = sentinel.sentinel_field("info-refresh").and_then(|age| age.parse::<u64>().ok());
        age.is_some_and(|age| age > 15_000)
    };
    assert!(scene.group.sentinels().iter().all(|sentinel| sentinel.wait_until(read_long_ago, PATIENCE).is_some()));
    follow(foreign.primary().endpoint());
    let syncing = held(&scene, ("repoint", "sync-running", "touching the link starts it over"));
    let id = incident(&scene);
    drop(slow);
    follow(lab::closed_port().expect("a port"));
    let stale = held(&scene, ("repoint", "evidence-stale", "what the Sentinels know of"));
    // Both lift by themselves as a rule, so nobody is told before the link has been down for a blip.
    scene.told_event("opened");
    follow(scene.group.primary().endpoint());
    let resolved = told_everywhere(&scene, http, &id, &[syncing, stale]);
    assert_eq!(actions(&resolved), [], "{resolved:#}");
}

/// The other replica is the first to be promoted, so its host's agent has the first turn; there is none, and ours comes.
#[test]
fn what_a_failover_waits_for_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let setup = Setup { listen: format!("127.0.0.1:{http}"), ..outage::with(outage::EAGER) };
    let scene = outage::given_up(outage::group(kind, outage::FAILOVER_TIMEOUT_MS), &setup, |_| ());
    let id = incident(&scene);
    outage::preferred(&scene.group, &[(scene.replica(), 20), (scene.group.replica(1), 10)]);
    let waits = held(&scene, ("request-failover", "not-our-turn", "number 2 of 2 in the order of promotion"));
    outage::primary_again(&scene, Instant::now());
    let resolved = told_everywhere(&scene, http, &id, &[waits]);
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    assert_eq!(outage::requests(&scene.group), 1, "{}", outage::sentinels_tell(&scene.group));
}
