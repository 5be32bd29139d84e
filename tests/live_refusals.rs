//! Reasons to hold that no other test comes by. Each is told in every place: the status, the record (`show`), a message,
//! the metrics. Then what stood in the way goes, and the incident ends.
//!
//! `stopping` holds between SIGTERM and the end of the step in flight, and no status is told any more by then: the record
//! and the metrics tell of it at once, and the next life's message.
//!
//! `role-changed` is not among them. A look sees one role, so what it leads to never fails for want of another: who is no
//! replica any more when the hands ask again ends the attempt (`tests/live_hands.rs`). `relinkd rotate` is where the code is
//! shown (`tests/live_rotate.rs`).

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;
#[path = "live/outage.rs"]
mod outage;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use lab::{Agent, Builder, Group, Kind, Port, Receiver, Server, fault, transfer};
use live::checks::{actions, text};
use live::relay::on_word;
use live::{PATIENCE, RELINKD, Scene, Setup, config};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
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
        for refused in all {
            assert!(tells(report, refused), "{place} does not tell of {refused:?}: {:#}", report["held"]);
        }
    }
    counted(http, all);
    message
}

fn tells(report: &Value, (remedy, code, words): &Refused) -> bool {
    let fits =
        |held: &Value| held["refusal"] == *code && held["remedy"] == *remedy && text(&held["detail"]).contains(words);
    report["held"].as_array().is_some_and(|held| held.iter().any(fits))
}

fn counted(http: u16, all: &[Refused]) {
    let scrape = scrape(http);
    for (remedy, code, _) in all {
        let series = format!("relinkd_holds_total{{refusal=\"{code}\",remedy=\"{remedy}\"}} ");
        let counted = scrape.lines().any(|line| line.starts_with(&series) && !line.ends_with(" 0"));
        assert!(counted, "{series} is not counted: {scrape}");
    }
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

/// Two replicas of one host need a new password. The last step for one of them is in flight at SIGTERM, and a look at the
/// other, which would be the next to be mended.
#[test]
fn what_is_not_begun_before_the_end_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).replicas(2).sentinels(1).password(OLD).start().expect("a group");
    let [one, other] = [0, 1].map(|number| group.replica(number).clone());
    let port = Port::reserve().expect("a port");
    let (receiver, mut agent) = (Receiver::start().expect("a receiver"), Agent::new(RELINKD).expect("a place for it"));
    let (begun, at_rewrite) = mpsc::channel();
    let (go_on, held_up) = mpsc::channel::<()>();
    let held_up = Mutex::new(held_up);
    let first = on_word(&one, "REWRITE", move || {
        let _ = begun.send(());
        let _ = held_up.lock().unwrap().recv_timeout(PATIENCE);
    });
    let stops: Arc<Mutex<Option<Pid>>> = Arc::default();
    let armed = Arc::clone(&stops);
    let second = on_word(&other, "masterauth", move || {
        if let Some(pid) = armed.lock().unwrap().take() {
            kill_process(pid, Signal::TERM).expect("it runs");
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let policy = "settle = \"300ms\"\nbackground = \"10m\"".to_owned();
    let listen = format!("127.0.0.1:{}", port.number);
    let setup = Setup { store: Some(NEW.to_owned()), listen, policy, ..Setup::default() };
    let cache = config(&agent, &group, &one, &receiver.url(), &setup).replace(&one.address(), &first.to_string());
    let login = format!("password = {{ file = \"{}/replica-password\" }}", agent.dir().display());
    let both = format!("{cache}\n[replica.other]\naddress = \"{second}\"\ngroup = \"mymaster\"\n{login}\n");
    agent.start(&both).expect("relinkd starts");
    let mut scene = Scene { agent, receiver, group };
    scene.wait_status("relinkd has looked", |status| !status["looked_at"].is_null());

    let primary = scene.group.primary();
    primary.run(&["CONFIG", "SET", "requirepass", NEW]).expect("another password");
    primary.set_admin_password(Some(NEW));
    let breaks = |replica: &Server| {
        let ((nobody, closed), (host, port)) = (lab::closed_port().expect("a port"), primary.endpoint());
        for (host, port) in [(nobody, closed), (host, port)] {
            replica.run(&["REPLICAOF", &host, &port.to_string()]).expect("it follows");
        }
    };
    breaks(&one);
    at_rewrite.recv_timeout(PATIENCE).expect("the plan comes to its last step");
    let pid = scene.agent.pid().and_then(|pid| i32::try_from(pid).ok());
    *stops.lock().unwrap() = pid.and_then(Pid::from_raw);
    breaks(&other);
    let refused = ("realign-auth", "stopping", "relinkd is stopping");
    let began = Instant::now();
    let id = loop {
        let all = scene.incidents();
        let found = all.iter().find(|incident| incident["replica"] == "other" && tells(incident, &refused));
        if let Some(incident) = found {
            break text(&incident["id"]);
        }
        assert!(began.elapsed() < PATIENCE, "{all:#?}\n{}", scene.agent.log());
    };
    counted(port.number, &[refused]);
    go_on.send(()).expect("it waits");
    assert!(
        scene.agent.wait(PATIENCE).expect("it ran").is_some_and(|status| status.success()),
        "{}",
        scene.agent.log()
    );
    // The password, the proof of the link, CONFIG REWRITE.
    let realigned = ["changed"; 3].map(|outcome| ("realign-auth".to_owned(), outcome.to_owned()));
    let of_the_one = scene.incidents().into_iter().find(|incident| incident["replica"] == "cache");
    assert_eq!(actions(&of_the_one.expect("an incident")), realigned);

    scene.agent.start_again().expect("relinkd starts again");
    let resolved = scene.told_of(&id, "resolved");
    assert!(tells(&resolved, &refused) && tells(&scene.verb_json(&["show", &id]), &refused), "{resolved:#}");
    assert_eq!(actions(&resolved), realigned, "{resolved:#}");
}
