//! Bad days, with real servers and real impostors: whatever happens around relinkd, it lives, tells no lies, touches
//! nothing that it cannot record, and loses no message.

#[path = "bad_days/ledger.rs"]
mod ledger;
mod live;
#[path = "bad_days/messages.rs"]
mod messages;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Answer, Group, Impostor, Kind, Manner, Signal, fault};
use live::desk::Desk;
use live::{PATIENCE, Setup, config};
use serde_json::Value;

const PASSWORD: &str = "old-password-1";
const NEW: &str = "new-password-2";

/// What relinkd may ever have had in memory, floods or not.
const MEMORY_KIB: u64 = 40 * 1024;

fn redis() -> Option<Kind> {
    lab::require(Kind::Redis70)
}

fn group(kind: Kind) -> Group {
    Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap()
}

fn setup() -> Setup {
    Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() }
}

/// relinkd beside a group, at work.
fn at_work(group: Group, setup: &Setup) -> Desk {
    let mut desk = Desk::new(group);
    desk.configure(setup);
    desk.agent.start_again().unwrap();
    wait(&desk, "the first look", |status| !status["looked_at"].is_null());
    desk
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn status(desk: &Desk) -> Option<Value> {
    let said = desk.run(&["status", "--json"]);
    let all: Value = serde_json::from_str(&said.out).ok()?;
    all["replicas"].as_array()?.iter().find(|one| one["replica"] == "cache").cloned()
}

fn wait(desk: &Desk, what: &str, until: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    let mut last = Value::Null;
    while Instant::now() < end {
        if let Some(status) = status(desk) {
            if until(&status) {
                return status;
            }
            last = status;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: not within {PATIENCE:?}\n{last:#}\n{}", desk.agent.log());
}

fn well(desk: &Desk, what: &str) {
    wait(desk, what, |status| status["cause"].is_null() && !status["looked_at"].is_null());
}

fn told(desk: &Desk, event: &str) -> Value {
    let fits = |m: &Value| m["event"] == event;
    let arrived = desk.receiver.wait_until(PATIENCE, |all| all.iter().filter_map(|r| r.json()).any(|m| fits(&m)));
    assert!(arrived.is_some(), "no {event}\n{:#?}\n{}", desk.receiver.messages(), desk.agent.log());
    desk.receiver.messages().into_iter().find(fits).unwrap()
}

/// Alive, without a panic in its log, and never larger than it may be.
fn is_sound(desk: &mut Desk) {
    let pid = desk.agent.pid().unwrap_or_else(|| panic!("relinkd died\n{}", desk.agent.log()));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak_kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak_kib < MEMORY_KIB, "{line}");
    assert!(!desk.agent.log().contains("panicked"), "{}", desk.agent.log());
}

fn rotate(desk: &Desk) {
    desk.agent.write_file("masterauth", NEW).unwrap();
    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();
}

fn ledger(desk: &Desk) -> PathBuf {
    desk.agent.dir().join("state/ledger.db")
}

/// Every message that the receiver got, as `(id of the message, incident, event)`.
fn delivered(desk: &Desk) -> Vec<(String, String, String)> {
    let one = |request: &lab::Request| {
        let message = request.json()?;
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        Some((request.header("webhook-id")?.to_owned(), text("id"), text("event")))
    };
    desk.receiver.requests().iter().filter_map(one).collect()
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for_redis_70() {
    let Some(kind) = redis() else { return };
    let group = group(kind);
    let away = fault::kill(group.replica(0));
    let mut desk = Desk::new(group);
    // Told after patience, as a restart would be; here at once.
    desk.configure(&Setup { policy: "patience = \"0s\"".to_owned(), ..setup() });
    desk.agent.start_again().unwrap();
    wait(&desk, "it says that the server is away", |status| status["cause"] == "replica-down");
    let said = desk.run(&["status"]);
    assert!(said.exit == 69 && said.out.starts_with("replica-down"), "{said:?}");
    assert_eq!(desk.run(&["heal"]).exit, 69);
    away.undo().unwrap();
    well(&desk, "it watches once the server is there");
    is_sound(&mut desk);
    assert_eq!(told(&desk, "opened")["cause"]["code"], "replica-down");
    rotate(&desk);
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).expect("and it heals");
}

#[test]
fn a_user_with_too_few_permissions_is_named_with_the_rule_redis_70() {
    let Some(kind) = redis() else { return };
    let group = group(kind);
    let words = ["ACL", "SETUSER", "watcher", "reset", "on", ">old-password-1", "+ping", "+role"];
    group.replica(0).query::<String>(&words).unwrap();
    let mut desk = at_work(group, &Setup { replica: "user = \"watcher\"".to_owned(), ..setup() });
    let status = wait(&desk, "denied", |status| status["cause"] == "replica-denied");
    let steps = status["next_steps"].to_string();
    assert!(steps.contains("ACL SETUSER") && steps.contains("+info") && steps.contains("'+config|get'"), "{status:#}");
    let diagnosis = desk.json(&["diagnose"]);
    assert!(diagnosis["because"].to_string().contains("NOPERM"), "{diagnosis:#}");
    desk.group.replica(0).query::<String>(&["ACL", "SETUSER", "watcher", "+@all", "~*"]).unwrap();
    well(&desk, "the rule is enough");
    is_sound(&mut desk);
}

#[test]
fn restarts_role_changes_and_another_server_on_the_port_are_no_drama_redis_70_then_valkey_80() {
    let (Some(kind), Some(valkey)) = (redis(), lab::require(Kind::Valkey80)) else { return };
    // Without Sentinels: nobody undoes what the test does to the roles.
    let group = Group::builder(kind).replicas(1).password(PASSWORD).start().unwrap();
    let mut desk = at_work(group, &Setup { sentinels: false, ..Setup::default() });
    let replica = desk.group.replica(0).clone();
    let (host, port) = desk.group.primary().endpoint();
    let port = port.to_string();

    replica.restart().unwrap();
    replica.wait_link_up(PATIENCE).unwrap();
    well(&desk, "after a restart");
    replica.query::<String>(&["REPLICAOF", "NO", "ONE"]).unwrap();
    wait(&desk, "promoted", |status| status["sentence"].as_str().is_some_and(|text| text.contains("primary")));
    well(&desk, "promoted");
    replica.query::<String>(&["REPLICAOF", &host, &port]).unwrap();
    replica.wait_link_up(PATIENCE).unwrap();
    well(&desk, "demoted");

    // The data of one flavour may not suit the other: it starts empty, as after a change of packages and a wipe.
    replica.terminate().unwrap();
    let server = valkey.find().expect("installed").server;
    let dir = replica.dir().to_owned();
    let own_port = replica.endpoint().1.to_string();
    let data = dir.join("other");
    fs::create_dir(&data).unwrap();
    let mut command = replica.command_beside(&server);
    command.args(["--port", &own_port, "--dir"]).arg(&data).args(["--requirepass", PASSWORD, "--masterauth", PASSWORD]);
    command.args(["--replicaof", &host, &port, "--save", "", "--logfile"]).arg(dir.join("other.log"));
    let mut other = command.spawn().unwrap();
    wait(&desk, "the server is gone", |status| status["cause"] == "replica-down" || status["cause"].is_null());
    lab_link_up(&desk);
    well(&desk, "another server on the port");
    let seen = desk.json(&["diagnose"]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(
        (&seen["healthy"], &seen["evidence"]["local"]["seen"]["flavour"]),
        (&true.into(), &"valkey".into()),
        "{seen:#}"
    );
    is_sound(&mut desk);
    // A server that is away is told, once it has been for longer than a blip; nothing else was wrong.
    for message in desk.receiver.messages() {
        let code = message["cause"]["code"].as_str().unwrap();
        assert!(["replica-down", "replica-loading", "sync-running"].contains(&code), "{message:#}");
    }
}

/// Valkey does not know the lab's admin: its own INFO tells through relinkd.
fn lab_link_up(desk: &Desk) {
    wait(desk, "the other server's link", |status| status["link_up"] == true);
}

/// Each manner at once on the watched address, on a Sentinel's address, and on the primary's.
fn impostors(manner: Manner) {
    let Some(kind) = redis() else { return };
    let impostor = Impostor::new(manner).expect("an impostor");
    let group = group(kind);
    let mut desk = Desk::new(group);
    desk.configure(&setup());
    let path = desk.agent.config_path();
    let text = fs::read_to_string(&path).unwrap();
    let address = impostor.address();
    let text = text.replace("sentinels = [", &format!("sentinels = [\"{address}\", "));
    let strange = format!("\n[replica.strange]\naddress = \"{address}\"\ngroup = \"mymaster\"\n");
    desk.agent.start(&(text + &strange)).unwrap();
    well(&desk, "the real one is watched beside the impostor");
    let met = impostor.met();
    fault::wrong_primary(desk.group.replica(0), "127.0.0.1", impostor.port()).unwrap().keep();
    let seen = wait(&desk, "a broken link", |status| !status["cause"].is_null());
    let named = desk.run(&["diagnose", "--json"]);
    let end = Instant::now() + PATIENCE;
    while impostor.met() < met + 6 {
        assert!(Instant::now() < end, "{manner:?} was not asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(seen["cause"].is_string() && [1, 3, 69, 77].contains(&named.exit), "{manner:?}: {named:?}");
    let all: Value = desk.json(&["status"]);
    let strange = all["replicas"].as_array().unwrap().iter().find(|one| one["replica"] == "strange").unwrap();
    assert!(strange["cause"].is_string(), "{manner:?} passes for a healthy instance: {strange:#}");
    is_sound(&mut desk);
    let began = Instant::now();
    assert!(desk.agent.stop().unwrap().success(), "{manner:?}");
    assert!(began.elapsed() < Duration::from_secs(12), "{manner:?}");
}

#[test]
fn impostors_that_flood_cost_no_memory_redis_70() {
    for manner in [Manner::Garbage, Manner::Huge, Manner::EndlessLine, Manner::Deep, Manner::Long] {
        impostors(manner);
    }
}

#[test]
fn impostors_that_fall_short_are_named_redis_70() {
    for manner in [Manner::Echo, Manner::Cut, Manner::Closes, Manner::Silent, Manner::Http] {
        impostors(manner);
    }
    assert_eq!(Manner::ALL.len(), 10, "a manner is not tried");
}

#[test]
fn a_reload_takes_good_settings_and_refuses_bad_ones_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = at_work(group(kind), &setup());
    let good = fs::read_to_string(desk.agent.config_path()).unwrap();
    desk.agent.write_file("config.toml", &format!("{good}\n[polcy]\nmode = \"observe\"\n")).unwrap();
    desk.agent.signal(Signal::HUP).unwrap();
    desk.agent.wait_log("the new configuration is refused and the old one stays", PATIENCE).unwrap();
    assert!(desk.agent.log().contains("polcy"), "{}", desk.agent.log());
    is_sound(&mut desk);

    // The socket is what tells a second pair of hands that there is a first.
    let moved = good.replace("/run\"\nlog_level", "/elsewhere\"\nlog_level");
    assert_ne!(moved, good);
    desk.agent.write_file("config.toml", &moved).unwrap();
    desk.agent.signal(Signal::HUP).unwrap();
    desk.agent.wait_log("a reload cannot change it, restart relinkd", PATIENCE).unwrap();

    desk.agent.write_file("config.toml", &good.replace("[policy]", "[policy]\nmode = \"observe\"")).unwrap();
    desk.agent.signal(Signal::HUP).unwrap();
    desk.agent.wait_log("configuration reloaded", PATIENCE).unwrap();
    well(&desk, "after the reload");
    rotate(&desk);
    wait(&desk, "the new policy counts", |status| status["held"]["code"] == "observe-only");
    let open = desk.json(&["incidents"])[0]["id"].clone();

    desk.agent.write_file("config.toml", &good).unwrap();
    desk.agent.signal(Signal::HUP).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("{}", desk.agent.log()));
    assert_eq!(told(&desk, "resolved")["id"], open, "the incident goes on over a reload");
    is_sound(&mut desk);
}

#[test]
fn sigterm_ends_it_soon_and_leaves_no_socket_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = at_work(group(kind), &setup());
    rotate(&desk);
    let began = Instant::now();
    let ended = desk.agent.stop().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!desk.agent.dir().join("run/control.sock").exists());
    assert_eq!(desk.run(&["status"]).exit, 69);
    desk.agent.start_again().unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).expect("the next start goes on");
}

/// A store that takes a connection and never answers delays the verdict on itself, and no message.
#[test]
fn a_store_that_hangs_holds_up_its_own_verdict_and_nobody_elses_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    const TIMEOUT: Duration = Duration::from_secs(8);
    let group = Group::builder(kind).replicas(2).sentinels(1).password(PASSWORD).start().unwrap();
    let mut desk = Desk::new(group);
    // The kernel takes connections for it, and nobody reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = lab::Port::reserve().unwrap();
    let token = desk.agent.write_file("token", "t").unwrap();
    let text = config(
        &desk.agent,
        &desk.group,
        desk.group.replica(0),
        &desk.receiver.url(),
        &Setup {
            group: "masterauth = { vault = \"kv/redis\" }".to_owned(),
            policy: format!(
                "[store.vault]\naddress = \"http://{}\"\ntimeout = \"{}s\"\ntoken = {{ file = \"{}\" }}",
                silent.local_addr().unwrap(),
                TIMEOUT.as_secs(),
                token.display()
            ),
            listen: format!("127.0.0.1:{}", http.number),
            ..Setup::default()
        },
    );
    let other = format!(
        "\n[replica.other]\naddress = \"{}\"\npassword = {{ file = \"{}\" }}\n",
        desk.group.replica(1).address(),
        desk.agent.dir().join("replica-password").display()
    );
    desk.agent.start(&(text + &other)).unwrap();
    well(&desk, "watching");

    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();
    let began = Instant::now();
    fault::freeze(desk.group.replica(1)).unwrap().keep();
    let told = |name: &str| {
        let arrived = desk.receiver.messages().iter().any(|message| message["replica"] == name);
        arrived.then(|| began.elapsed())
    };
    let (mut others, mut own, mut slowest) = (None, None, Duration::ZERO);
    let held = loop {
        assert!(began.elapsed() < TIMEOUT + PATIENCE, "no verdict\n{}", desk.agent.log());
        let asked = Instant::now();
        let now = status(&desk).expect("the daemon answers");
        slowest = slowest.max(asked.elapsed());
        (others, own) = (others.or_else(|| told("other")), own.or_else(|| told("cache")));
        if now["held"]["code"] == "secret-unavailable" {
            break now["held"]["detail"].to_string();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let verdict = began.elapsed();
    assert!(held.contains("within 8 s"), "{held}");
    // The question may have been on its way already: the store is followed, and not asked a second time first.
    assert!(verdict < TIMEOUT * 2, "{verdict:?}");
    // Told once the link has been down for `blip`, and not when the store has had its time.
    assert!(own.is_some_and(|at| at < TIMEOUT), "its own message waits for the store: {own:?}");
    assert!(others.is_some_and(|at| at < TIMEOUT), "the other instance's fault waits for nothing: {others:?}");
    // It is asked all the time, so one that waited for the store would take nearly as long as that.
    assert!(slowest < TIMEOUT - Duration::from_secs(2), "the loop answered after {slowest:?}");
    assert!(!desk.agent.log().contains("watchdog"), "{}", desk.agent.log());
}

/// What the store said before the break is tried and told. Nothing is set before it answers again, and then at once.
#[test]
fn a_store_that_hangs_delays_no_message_and_heals_as_soon_as_it_answers_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    let (store, hangs) = (desk.agent.dir().join("store"), desk.agent.dir().join("hangs"));
    let password = desk.agent.write_file("masterauth", PASSWORD).unwrap();
    let script = "#!/bin/sh\nwhile [ -e HANGS ]; do sleep 0.05; done\ncat PASSWORD\n";
    let script = script.replace("HANGS", &hangs.display().to_string());
    fs::write(&store, script.replace("PASSWORD", &password.display().to_string())).unwrap();
    fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = format!("masterauth = {{ exec = [\"{}\"] }}", store.display());
    desk.configure(&Setup { group: place, ..Setup::default() });
    desk.agent.start_again().unwrap();
    wait(&desk, "the store is followed", |status| status["secret"]["standing"] == "in-use");
    fs::write(&hangs, "").unwrap();
    // An answer is good for a second: what the store said last may not be the answer to what comes.
    std::thread::sleep(Duration::from_millis(1_500));
    let began = Instant::now();
    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();
    let first = desk.receiver.wait_for(1, PATIENCE).expect("a message");
    // `blip` is 1 s, a look 0.7 s for the store and 1.5 s at most; the program has 10 s, and is not waited for.
    let (after, message) = (first[0].at.duration_since(began), first[0].json().unwrap());
    assert!(after < Duration::from_secs(10), "told after {after:?}\n{}", desk.agent.log());
    println!("told after {after:?}");
    let held = &message["held"][0];
    assert_eq!((&message["event"], &held["refusal"]), (&"opened".into(), &"evidence-missing".into()), "{message:#}");
    let why = held["detail"].as_str().unwrap();
    assert!(why.contains("has not answered for") && why.contains("ago: the primary answers"), "{why}");
    desk.agent.write_file("masterauth", NEW).unwrap();
    let began = Instant::now();
    fs::remove_file(&hangs).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap_or_else(|| panic!("no heal\n{}", desk.agent.log()));
    let healed = began.elapsed();
    assert!(healed < Duration::from_secs(10), "healed {healed:?} after the store's answer\n{}", desk.agent.log());
    println!("healed {healed:?} after the store's answer");
    assert_eq!(told(&desk, "resolved")["actions"][0]["remedy"], "realign-auth");
    is_sound(&mut desk);
}
