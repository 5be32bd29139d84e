//! Each situation in which a failover would harm: Sentinel has given up, the harm is there, and relinkd holds with the
//! reason's name; when the last harm is gone, a person is asked, whose yes waits for the turn.

mod live;
#[path = "live/outage.rs"]
mod outage;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lab::{Certificates, Fault, Group, Kind, Port, Server, ailment, fault, transfer};
use live::checks::{actions, text};
use live::desk::Said;
use live::{PATIENCE, Scene, Setup, on_each_server};
use outage::{
    DOWN_AFTER_MS, EAGER, filled, given_up, gives_up, group, nothing_was_done, preferred, primary_again, priorities,
    requests, sentinels_tell, with,
};
use serde_json::Value;

on_each_server! {
    one_harm_after_the_other =>
        each_harm_holds_the_request_and_the_last_one_gone_lets_it_go_redis_70,
        each_harm_holds_the_request_and_the_last_one_gone_lets_it_go_valkey_80;
    trouble_that_stood_before =>
        tls_and_rights_that_stood_before_hold_the_request_redis_70,
        tls_and_rights_that_stood_before_hold_the_request_valkey_80;
    a_buffer_that_was_too_small =>
        a_buffer_that_was_too_small_holds_the_request_redis_70,
        a_buffer_that_was_too_small_holds_the_request_valkey_80;
    a_primary_that_lives_and_fails_to_save =>
        a_primary_that_lives_and_fails_to_save_is_not_failed_over_redis_70,
        a_primary_that_lives_and_fails_to_save_is_not_failed_over_valkey_80;
    on_the_minority_side =>
        nobody_is_asked_on_the_minority_side_of_a_cut_redis_70,
        nobody_is_asked_on_the_minority_side_of_a_cut_valkey_80;
}

/// Two of these are needed to keep Sentinel's own retry out of a test with many steps.
const FAILOVER_TIMEOUT_MS: u64 = 150_000;
const ASKS: &str =
    "after_pause = \"1s\"\n[policy.request-failover]\nmode = \"propose\"\nafter = \"2s\"\ncooldown = \"1s\"";
const MUCH: usize = 3_000;

/// The reason, with these words, wherever relinkd tells of it: status, page, record, metrics.
fn held(scene: &Scene, http: u16, refusal: &str, words: &str) {
    let status = scene.wait_status(&format!("{refusal}: {words}"), |status| {
        status["held"]["code"] == refusal && text(&status["held"]["detail"]).contains(words)
    });
    assert_eq!(status["held"]["remedy"], "request-failover", "{status:#}");
    let id = text(&status["incident"]);
    let (began, mut last) = (Instant::now(), Value::Null);
    while last["refusal"] != refusal || !text(&last["detail"]).contains(words) {
        assert!(began.elapsed() < PATIENCE, "not recorded: {refusal}: {words}: {last:#}");
        last = scene.recorded(&id)["held"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    }
    assert_eq!(last["remedy"], "request-failover", "{last:#}");
    assert!(get(http, "/").contains(&format!("<b>{refusal}</b>")));
    let series = format!("relinkd_holds_total{{refusal=\"{refusal}\",remedy=\"request-failover\"}} ");
    let scrape = get(http, "/metrics");
    assert!(scrape.lines().any(|line| line.starts_with(&series) && !line.ends_with(" 0")), "{series}: {scrape}");
    assert_eq!(requests(&scene.group), 0, "{refusal}: {}", sentinels_tell(&scene.group));
    println!("{}: {refusal}: {words}", scene.group.kind());
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// A server of a later version follows the primary, and what it would send nobody else could load.
fn newcomer(group: &Group) -> Option<Group> {
    let kind = if group.kind() == Kind::Redis70 { Kind::Valkey80 } else { Kind::Valkey91 };
    let kind = lab::require(kind)?;
    let other = Group::builder(kind).password("secret").config("replica-priority", "0").start().expect("a server");
    let (host, port) = group.primary().endpoint();
    other.primary().run(&["REPLICAOF", &host, &port.to_string()]).expect("it follows");
    assert!(other.primary().wait_link_up(PATIENCE).is_some());
    let known = |sentinel: &Server| sentinel.sentinel_replicas().is_ok_and(|all| all.len() == 3);
    assert!(group.sentinels().iter().all(|sentinel| sentinel.wait_until(known, PATIENCE).is_some()));
    Some(other)
}

/// The second replica has lost sight of the primary, and much is written meanwhile.
fn left_behind(group: &Group, newcomer: &Server) {
    let astray = fault::wrong_primary(group.replica(1), "127.0.0.1", 1).expect("astray");
    group.primary().write(MUCH, 1024).expect("data");
    let offset = group.primary().offset();
    for node in [group.replica(0), newcomer] {
        assert!(node.wait_until(|node| node.offset() >= offset, PATIENCE).is_some());
    }
    group.primary().kill9();
    astray.undo().expect("it follows the dead one");
}

/// A save of the replica fails: what is in the place of its file cannot be replaced.
fn cannot_save(replica: &Server) {
    // Without a link it would refuse to save.
    replica.run(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]).expect("a setting");
    transfer::forget_disk(replica).expect("the file of its last sync goes");
    std::fs::create_dir(replica.data_dir().join("dump.rdb")).expect("a directory in the file's place");
    ailment::begin_to_save(replica).expect("a save");
    last_save(replica, "err");
}

fn saves_again(replica: &Server) {
    std::fs::remove_dir(replica.data_dir().join("dump.rdb")).expect("the directory goes");
    ailment::begin_to_save(replica).expect("a save");
    last_save(replica, "ok");
}

fn last_save(server: &Server, wanted: &str) {
    let told = |server: &Server| server.info("persistence", "rdb_last_bgsave_status").as_deref() == Some(wanted);
    assert!(server.wait_until(told, PATIENCE).is_some(), "the last save is not {wanted}");
}

fn one_harm_after_the_other(kind: Kind) {
    let group = group(kind, FAILOVER_TIMEOUT_MS);
    let Some(newcomer) = newcomer(&group) else { return };
    let newcomer = newcomer.primary();
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let setup = Setup { listen: format!("127.0.0.1:{http}"), ..with(ASKS) };
    let scene = given_up(group, &setup, |scene| left_behind(&scene.group, newcomer));
    let (ours, other) = (scene.replica(), scene.group.replica(1));

    held(&scene, http, "no-promotable-replica", "priority 0");
    let opened = scene.told_event("opened");
    preferred(&scene.group, &[(newcomer, 10)]);
    held(&scene, http, "data-at-risk", "could not load what");
    cannot_save(ours);
    preferred(&scene.group, &[(ours, 10), (newcomer, 0)]);
    held(&scene, http, "data-at-risk", "fails to save its data");
    preferred(&scene.group, &[(other, 5)]);
    saves_again(ours);
    held(&scene, http, "data-at-risk", "more than max_lag_bytes");
    // It comes back without its data, and has never linked since: Sentinel takes that for fresh.
    transfer::restart_empty(other).expect("it starts");
    held(&scene, http, "data-at-risk", "has not synced since it started");

    let said = |words: &[&str]| {
        let said = Said::of(&scene.verb(words));
        assert_eq!(said.exit, 0, "{words:?}: {said:?}\n{}", scene.agent.log());
    };
    said(&["pause", "--for", "1h", "--reason", "upgrade"]);
    held(&scene, http, "paused", "upgrade");
    said(&["resume"]);
    held(&scene, http, "data-at-risk", "has not synced since it started");

    let sentinel = scene.group.sentinel(2);
    sentinel.run(&["SENTINEL", "DEBUG", "tilt-period", "6000"]).expect("a shorter period");
    let frozen = fault::freeze(sentinel).expect("frozen");
    std::thread::sleep(Duration::from_millis(2500));
    frozen.undo().expect("thawed");
    held(&scene, http, "tilt", &sentinel.address());
    held(&scene, http, "data-at-risk", "has not synced since it started");
    nothing_was_done(&scene);

    preferred(&scene.group, &[(other, 0)]);
    let proposed = scene.told_event("proposed");
    assert_eq!(proposed["id"], opened["id"]);
    let approved = Instant::now();
    said(&["approve", "cache"]);
    println!("{kind}: a primary {:?} after a person's yes", primary_again(&scene, approved));
    assert!(ours.is_primary());
    let resolved = scene.over(&text(&opened["id"]));
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
    assert_eq!(scene.incidents().len(), 1);
}

/// One primary, two replicas that Sentinel may not promote yet; the data is on disk, so the primary can come back with it.
fn kept(kind: Kind) -> Group {
    let builder = Group::builder(kind).replicas(2).sentinels(3).acl_user("repl", "secret");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    ailment::begin_to_save(group.primary()).expect("a save");
    last_save(group.primary(), "ok");
    group
}

/// The replica speaks TLS to a primary that does not.
fn speaks_tls(replica: &Server, certificates: &Certificates) -> Fault {
    let (ca, pair) = (certificates.ca().display().to_string(), certificates.good());
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let settings =
        [("tls-ca-cert-file", &*ca), ("tls-cert-file", &*cert), ("tls-key-file", &*key), ("tls-replication", "yes")];
    let fault = fault::configure(replica, &settings).expect("TLS");
    transfer::reconnect(replica).expect("the link is cut");
    fault
}

/// What broke the link before the primary died would break it again after a promotion: TLS, then rights.
fn trouble_that_stood_before(kind: Kind) {
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let tls = Group::builder(kind).tls().start().expect("certificates");
    let setup = Setup { listen: format!("127.0.0.1:{http}"), ..with(EAGER) };
    let mut spoken = None;
    let scene = given_up(kept(kind), &setup, |scene| {
        spoken = Some(speaks_tls(scene.replica(), tls.certificates().expect("certificates")));
        assert_eq!(scene.told_event("opened")["cause"]["code"], "tls-mismatch");
    });
    let first = scene.told_event("opened");
    priorities(&scene.group, 100);
    held(&scene, http, "latent-auth-mismatch", "tls-mismatch");
    std::thread::sleep(Duration::from_secs(6));
    held(&scene, http, "latent-auth-mismatch", "tls-mismatch");
    nothing_was_done(&scene);

    scene.group.primary().restart().expect("it comes back with its data");
    spoken.expect("a fault").undo().expect("plain again");
    scene.over(&text(&first["id"]));
    let short = fault::user_without(scene.group.primary(), "repl", "psync").expect("a right less");
    scene.told("rights", |message| message["cause"]["code"] == "auth-forbidden");
    scene.group.primary().kill9();
    held(&scene, http, "latent-auth-mismatch", "a login was refused");
    nothing_was_done(&scene);
    short.keep();
}

/// Replicas that are cut off by the primary's output buffer again and again have not got the whole data.
fn a_buffer_that_was_too_small(kind: Kind) {
    let port = Port::reserve().expect("a port");
    let http = port.number;
    let setup = Setup { listen: format!("127.0.0.1:{http}"), ..with(EAGER) };
    let scene = given_up(group(kind, FAILOVER_TIMEOUT_MS), &setup, |scene| {
        let primary = scene.group.primary();
        transfer::slow_sync(primary, 1000, 1000).expect("a slow sync").keep();
        fault::tiny_output_buffer(primary).expect("a tiny buffer").keep();
        let writes = transfer::Writes::start(primary, 64, 4096, Duration::from_millis(10));
        scene.told("the buffer", |message| message["cause"]["code"] == "output-buffer-exceeded");
        // What is only suspected is forgotten with its next cause.
        let firm = |status: &Value| status["cause"] == "output-buffer-exceeded" && status["suspected"] == false;
        scene.wait_status("a proof", firm);
        drop(writes);
    });
    priorities(&scene.group, 100);
    held(&scene, http, "data-at-risk", "output-buffer-exceeded");
    std::thread::sleep(Duration::from_secs(4));
    held(&scene, http, "data-at-risk", "output-buffer-exceeded");
    nothing_was_done(&scene);

    // It comes back without its data, and takes it from the replicas too.
    scene.group.primary().restart().expect("a restart without its data");
    let status = scene.wait_status("emptied", |status| status["cause"] == "primary-emptied");
    assert_eq!(status["held"]["code"], "no-safe-remedy", "{status:#}");
    let told = scene.told("emptied", |message| message["cause"]["code"] == "primary-emptied");
    assert_eq!((&told["severity"], &told["actions"]), (&"critical".into(), &serde_json::json!([])), "{told:#}");
    std::thread::sleep(Duration::from_secs(3));
    nothing_was_done(&scene);
}

/// A primary that fails to save answers -MISCONF. Sentinel takes it for dead and finds nobody; it lives.
fn a_primary_that_lives_and_fails_to_save(kind: Kind) {
    let scene = Scene::start(group(kind, FAILOVER_TIMEOUT_MS), &with(EAGER));
    priorities(&scene.group, 0);
    let primary = scene.group.primary();
    primary.run(&["CONFIG", "SET", "save", "3600 1000000"]).expect("a schedule");
    cannot_save(primary);
    gives_up(&scene);
    priorities(&scene.group, 100);
    let status = scene.wait_status("it is named", |status| status["cause"] == "primary-save-failing");
    assert_eq!(status["held"]["code"], "no-safe-remedy", "{status:#}");
    let by_hand = scene.diagnose(&format!("primary-save-failing/link-up-{}", kind.code()));
    assert_eq!(by_hand["cause"], "primary-save-failing", "{by_hand:#}");
    let told = scene.told("it is told", |message| message["cause"]["code"] == "primary-save-failing");
    assert_eq!(told["held"][0]["refusal"], "no-safe-remedy", "{told:#}");
    std::thread::sleep(Duration::from_secs(5));
    nothing_was_done(&scene);
    assert!(primary.is_primary());
    saves_again(primary);
    let resolved = scene.over(&text(&told["id"]));
    assert_eq!(actions(&resolved), [], "{resolved:#}");
}

/// relinkd, its replica and one Sentinel on the lesser side of a cut. On the other side the primary dies, and a replica
/// is promoted.
fn on_the_minority_side(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let builder = Group::builder(kind).replicas(2).sentinels(3).namespaces(true).sentinels_beside_nodes();
    let builder = builder.config("repl-timeout", "3").config("repl-ping-replica-period", "1");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    // Sentinel would move the replica by itself after the failover-timeout.
    let scene = Scene::start(group, &with(&format!("{EAGER}\n[policy.repoint]\nafter = \"1s\"")));
    let host = |server: &Server| server.host().expect("a host").clone();
    let here = host(scene.replica());
    let others = [scene.group.primary(), scene.group.replica(1)].map(host);
    let cuts = others.map(|other| here.cut_from(&other).expect("a cut"));
    let down = |sentinel: &Server| sentinel.sentinel_field("flags").is_some_and(|flags| flags.contains("s_down"));
    assert!(scene.group.sentinel(1).wait_until(down, PATIENCE).is_some());
    let opened = scene.told_event("opened");
    let never_asks = |until: Instant| {
        while Instant::now() < until {
            let status = scene.status();
            assert!(status["proposal"].is_null() && !scene.replica().is_primary(), "{status:#}");
            assert_eq!(requests(&scene.group), 0, "{}", sentinels_tell(&scene.group));
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    never_asks(Instant::now() + Duration::from_secs(4));
    scene.group.primary().kill9();
    let other = scene.group.replica(1);
    assert!(other.wait_until(Server::is_primary, PATIENCE).is_some(), "{}", sentinels_tell(&scene.group));
    let status = scene.status();
    assert_eq!(
        (&status["cause"], &status["held"]["code"]),
        (&"network-cut".into(), &"no-safe-remedy".into()),
        "{status:#}"
    );
    never_asks(Instant::now() + Duration::from_secs(3));
    for cut in cuts {
        cut.undo().expect("healed");
    }
    let resolved = scene.over(&text(&opened["id"]));
    assert!(actions(&resolved).iter().all(|(remedy, _)| remedy == "repoint"), "{resolved:#}");
    assert_eq!(scene.replica().info("replication", "master_host"), Some(other.endpoint().0));
    assert_eq!(requests(&scene.group), 0);
}
