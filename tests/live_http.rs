//! The HTTP port of a real daemon: what it tells through a break and its heal, and what it lets nobody do.

mod live;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Group, Kind, Port, Signal, fault};
use live::checks::{CANARY, QUICK};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::Value;

const OLD: &str = "old-CANARY";
const NEW: &str = "new-CANARY";

struct Got {
    status: u16,
    head: String,
    body: String,
}

fn ask(port: u16, request: &str) -> Got {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer that ends");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Got { status, head: head.to_owned(), body: body.to_owned() }
}

fn get(port: u16, path: &str) -> Got {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"))
}

fn json(port: u16, path: &str) -> Value {
    let got = get(port, path);
    assert!(got.head.contains("content-type: application/json"), "{}", got.head);
    serde_json::from_str(&got.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", got.body))
}

/// The value of one series; none where it does not exist.
fn value(scrape: &str, series: &str) -> Option<f64> {
    scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Scrapes until a series has the value.
fn until(port: u16, series: &str, wanted: f64) -> String {
    let began = Instant::now();
    loop {
        let scrape = get(port, "/metrics").body;
        if value(&scrape, series) == Some(wanted) {
            return scrape;
        }
        assert!(began.elapsed() < PATIENCE, "{series} is never {wanted}:\n{scrape}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn scene(kind: Kind, port: u16) -> Scene {
    let group = Group::builder(kind).replicas(1).sentinels(1).password(OLD).start().expect("a group");
    let setup = Setup {
        store: Some(OLD.to_owned()),
        policy: QUICK.to_owned(),
        listen: format!("127.0.0.1:{port}"),
        ..Setup::default()
    };
    Scene::start(group, &setup)
}

fn a_break_and_its_heal_are_counted(kind: Kind) {
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let mut scene = scene(kind, http);
    until(http, "relinkd_sentinels_connected{group=\"mymaster\"}", 1.0);
    let scrape = until(http, "relinkd_secret_mismatch{replica=\"cache\"}", 0.0);
    assert_eq!(value(&scrape, "relinkd_link_up{replica=\"cache\"}"), Some(1.0), "{scrape}");
    assert_eq!(value(&scrape, "relinkd_paused"), Some(0.0));
    assert_eq!(value(&scrape, "relinkd_remedies_total{outcome=\"changed\",remedy=\"realign-auth\"}"), Some(0.0));
    assert!(value(&scrape, "relinkd_secret_age_seconds{secret=\"group.mymaster.masterauth\"}").is_some(), "{scrape}");
    assert_eq!((get(http, "/healthz").status, get(http, "/readyz").status), (200, 200));

    // The store is stale: relinkd holds, and says so everywhere.
    fault::rotate_password(scene.group.primary(), NEW).expect("rotated").keep();
    let scrape = until(http, "relinkd_holds_total{refusal=\"secret-rejected\",remedy=\"realign-auth\"}", 1.0);
    assert_eq!(value(&scrape, "relinkd_link_up{replica=\"cache\"}"), Some(0.0), "{scrape}");
    assert_eq!(
        value(&scrape, "relinkd_incident_open{cause=\"auth-rejected\",replica=\"cache\"}"),
        Some(1.0),
        "{scrape}"
    );
    assert_eq!(value(&scrape, "relinkd_detect_seconds_count"), Some(1.0));
    let page = get(http, "/").body;
    assert!(page.contains("secret-rejected") && page.contains("auth-rejected"), "{page}");

    scene.store(NEW);
    let healed = "relinkd_incidents_total{cause=\"auth-rejected\",replica=\"cache\",resolved_by=\"relinkd\"}";
    until(http, healed, 1.0);
    scene.told_event("resolved");
    let scrape = until(http, "relinkd_outbox_pending{channel=\"ops\"}", 0.0);
    assert_eq!(
        value(&scrape, "relinkd_remedies_total{outcome=\"changed\",remedy=\"realign-auth\"}"),
        Some(1.0),
        "{scrape}"
    );
    assert_eq!(value(&scrape, "relinkd_incident_open{cause=\"auth-rejected\",replica=\"cache\"}"), Some(0.0));
    assert_eq!(value(&scrape, "relinkd_link_up{replica=\"cache\"}"), Some(1.0));
    assert_eq!(value(&scrape, "relinkd_heal_seconds_count"), Some(1.0));
    assert!(value(&scrape, "relinkd_link_down_seconds_total{replica=\"cache\"}") > Some(0.0), "{scrape}");
    assert!(
        value(&scrape, "relinkd_notifications_total{channel=\"ops\",outcome=\"delivered\"}") >= Some(2.0),
        "{scrape}"
    );
    the_record_is_told_in_the_words_of_show(&scene, http);
    only_get_and_only_what_is_there(http);
    judged_by_promtool(&scrape);

    // A reload begins everything anew but the counters.
    scene.agent.signal(Signal::HUP).expect("a reload");
    let began = Instant::now();
    while scene.agent.log().matches("HTTP on http://").count() < 2 {
        assert!(began.elapsed() < PATIENCE, "it serves again\n{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let scrape = until(http, "relinkd_link_up{replica=\"cache\"}", 1.0);
    assert_eq!(value(&scrape, healed), Some(1.0), "{scrape}");
    let all = ["/", "/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/incidents", "/nowhere"];
    for path in all {
        assert!(!get(http, path).body.contains(CANARY), "{path}");
    }
    scene.assert_no_secret();
}

fn the_record_is_told_in_the_words_of_show(scene: &Scene, http: u16) {
    let listed = json(http, "/api/v1/incidents");
    assert_eq!(listed, scene.verb_json(&["incidents"]));
    let id = listed[0]["id"].as_str().expect("an id");
    let shown = json(http, &format!("/api/v1/incidents/{id}"));
    assert_eq!(shown, scene.verb_json(&["show", id]));
    let (mut told, mut said) = (json(http, "/api/v1/status"), scene.verb_json(&["status"]));
    for status in [&mut told, &mut said] {
        assert!(status.as_object_mut().and_then(|all| all.remove("at")).is_some());
        status["replicas"][0]["looked_at"].take();
    }
    assert_eq!(told, said);
}

fn only_get_and_only_what_is_there(http: u16) {
    for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let refused = ask(http, &format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(refused.status, 405, "{method}: {}", refused.head);
        assert!(refused.head.contains("allow: GET"), "{}", refused.head);
    }
    for path in ["/nowhere", "/metrics/", "/api/v1/incidents/", "/api/v1/incidents/01NONE", "/api/v1/incidents/%2e%2e"]
    {
        assert_eq!(get(http, path).status, 404, "{path}");
    }
    let elsewhere = ask(http, "GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!((elsewhere.status, elsewhere.body.contains("cache")), (421, false));
}

fn promtool() -> Option<std::path::PathBuf> {
    let fetched = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/promtool");
    let works = |path: &std::path::PathBuf| Command::new(path).arg("--version").output().is_ok();
    let found = [fetched, "promtool".into()].into_iter().find(works);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "promtool is missing: run scripts/setup");
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: promtool is not here to judge the metrics; scripts/setup fetches it");
    }
    found
}

fn judged_by_promtool(scrape: &str) {
    let Some(promtool) = promtool() else { return };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    child.stdin.take().expect("its input").write_all(scrape.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:#?}\n{scrape}");
    // Each metric that the shipped rules name is one that a daemon really has.
    let rules = include_str!("../docs/prometheus/relinkd.rules.yml");
    let names = rules.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.starts_with("relinkd_"));
    for name in names {
        assert!(scrape.contains(name), "the rules name {name}, which is not there:\n{scrape}");
    }
}

#[test]
fn the_shipped_alert_rules_fire_when_they_should() {
    let Some(promtool) = promtool() else { return };
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for words in
        [["check", "rules", "docs/prometheus/relinkd.rules.yml"], ["test", "rules", "tests/data/prometheus/alerts.yml"]]
    {
        let output = Command::new(&promtool).args(words).current_dir(dir).output().expect("promtool runs");
        assert!(output.status.success(), "{words:?}: {output:#?}");
    }
}

/// The port is taken at first, then beset by clients that say nothing: the daemon watches and heals all the while.
#[test]
fn clients_hold_up_nobody_but_themselves_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let port = Port::reserve().expect("a port");
    let squatter = TcpListener::bind(("127.0.0.1", port.number)).expect("its port");
    let scene = scene(kind, port.number);
    let trouble = scene.verb_json(&["status"])["http"]["trouble"].clone();
    assert!(trouble.as_str().is_some_and(|why| why.contains("cannot be listened on")), "{trouble}");
    drop(squatter);
    assert!(scene.agent.wait_log("HTTP on http://", PATIENCE).is_some(), "it is tried again");

    let connect = || TcpStream::connect(("127.0.0.1", port.number)).expect("a connection");
    let mut idle: Vec<TcpStream> = (0..60).map(|_| connect()).collect();
    for stream in idle.iter_mut().step_by(2) {
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").expect("half a request");
    }
    fault::rotate_password(scene.group.primary(), NEW).expect("rotated").keep();
    scene.store(NEW);
    scene.told_event("resolved");
    assert_eq!(get(port.number, "/healthz").status, 200, "those who say nothing are put out");
    let flood = ask(port.number, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 15)));
    assert_eq!(flood.status, 431, "{}", flood.head);
    drop(idle);
}

on_each_server! {
    a_break_and_its_heal_are_counted =>
        a_break_and_its_heal_are_counted_redis_70, a_break_and_its_heal_are_counted_valkey_80;
}
