//! Who follows whom: replicas that follow a wrong address, and what comes of it with Sentinels and without.

mod live;

use std::time::{Duration, Instant};

use lab::{Group, Impostor, Kind, Manner, Server, fault};
use live::checks::actions;
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::Value;

/// So long that Sentinel's own repair (`+fix-slave-config`) does not come in between.
const FAILOVER_TIMEOUT_MS: u64 = 120_000;
const EAGER: &str = "settle = \"300ms\"\n[policy.repoint]\nafter = \"500ms\"\ncooldown = \"1s\"\nmax_per_hour = 60";
/// For so long after a failover, and after their own start, Sentinels may still be moving replicas.
const AFTERMATH_MS: u64 = 10_000;

fn group(kind: Kind) -> Group {
    let builder = Group::builder(kind).replicas(2).sentinels(3).password("secret");
    let group = builder.sentinel_timers(2_000, FAILOVER_TIMEOUT_MS).start().expect("a group");
    group.primary().write(100, 100).expect("data");
    for replica in &group.nodes()[1..] {
        level(group.primary(), replica);
    }
    group
}

fn level(primary: &Server, replica: &Server) {
    let offset = primary.offset();
    assert!(replica.wait_until(|replica| replica.offset() >= offset, PATIENCE).is_some(), "the replica keeps up");
}

fn scene(kind: Kind, policy: &str) -> Scene {
    let scene = Scene::start(group(kind), &Setup { policy: policy.to_owned(), ..Setup::default() });
    let settled = |sentinel: &Server| {
        let age = sentinel.sentinel_field("role-reported-time").and_then(|age| age.parse().ok());
        age.is_some_and(|age: u64| age > AFTERMATH_MS)
    };
    assert!(scene.group.sentinels().iter().all(|sentinel| sentinel.wait_until(settled, PATIENCE).is_some()));
    scene
}

fn follow(replica: &Server, address: &(String, u16)) {
    fault::wrong_primary(replica, &address.0, address.1).expect("it follows another address").keep();
}

fn dead_port() -> (String, u16) {
    lab::closed_port().expect("a port")
}

fn http() -> Impostor {
    Impostor::new(Manner::Http).expect("a web server")
}

/// How many incidents are over, and the last of them.
fn resolved(scene: &Scene, count: usize) -> Value {
    let began = Instant::now();
    loop {
        let incidents = scene.incidents();
        let over = incidents.iter().filter(|incident| incident["phase"] == "resolved").count();
        if over == count && incidents.len() == count {
            return incidents[0].clone();
        }
        let status = scene.status();
        assert!(began.elapsed() < PATIENCE, "{over} over\n{incidents:#?}\n{status:#}\n{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nobody says whom it should follow, so a replica of a replica is one like any other: also in the seconds in which its
/// upstream waits for others to join a transfer.
fn a_replica_of_a_replica_resyncs_and_nobody_is_told(kind: Kind) {
    let group = Group::builder(kind).replicas(2).config("repl-diskless-sync-delay", "3").start().expect("a group");
    group.primary().write(50, 16).expect("data");
    follow(group.replica(0), &group.replica(1).endpoint());
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());
    group.replica(0).run(&["CONFIG", "REWRITE"]).expect("it stays so over a restart");
    let scene = Scene::start(group, &Setup { sentinels: false, policy: EAGER.to_owned(), ..Setup::default() });
    lab::transfer::restart_empty(scene.replica()).expect("a restart without its data");
    scene.wait_status("a sync is about to run", |status| status.to_string().contains("sync-running"));
    assert!(scene.replica().wait_link_up(PATIENCE).is_some());
    scene.wait_status("it is well again", |status| status["link_up"] == true && status["incident"].is_null());
    assert_eq!(scene.receiver.messages(), Vec::<Value>::new(), "{}", scene.agent.log());
}

fn each_wrong_address_is_left_for_the_right_one(kind: Kind) {
    let scene = scene(kind, EAGER);
    let (primary, replica) = (scene.group.primary(), scene.replica());
    let full = primary.sync_full();
    let web = http();
    let astray = [
        ("the other replica", scene.group.replica(1).endpoint(), "wrong-primary"),
        ("a port where nobody listens", dead_port(), "wrong-primary"),
        ("itself", replica.endpoint(), "self-replication"),
        ("a Sentinel", scene.group.sentinel(0).endpoint(), "wrong-primary"),
        ("an HTTP server", web.endpoint(), "wrong-primary"),
    ];
    for (count, (what, address, cause)) in (1..).zip(astray) {
        follow(replica, &address);
        let incident = resolved(&scene, count);
        assert_eq!(incident["cause"]["code"], cause, "{what}: {incident:#}");
        // Whose precondition could not be read again in time stands in the record too, and is followed by another one.
        let did = actions(&incident);
        assert!(did.iter().all(|(remedy, _)| remedy == "repoint"), "{what}: {incident:#}");
        assert!(did.iter().any(|(_, outcome)| outcome == "changed"), "{what}: {incident:#}");
        assert!(replica.is_link_up(), "{what}");
        assert_eq!(replica.info("replication", "master_port"), Some(primary.endpoint().1.to_string()), "{what}");
        let told = scene.told(what, |message| message["id"] == incident["id"] && message["event"] == "resolved");
        // The link to a healthy replica reads up: nothing was broken there but the address.
        let words = ["relinked", "is sound again: it did not follow the primary"];
        assert!(words.iter().any(|word| told["summary"].as_str().is_some_and(|it| it.contains(word))), "{told:#}");
    }
    assert_eq!(primary.sync_full(), full, "each time by a partial resync");
    let conf = std::fs::read_to_string(replica.conf_path()).expect("its configuration");
    assert!(conf.contains(&primary.endpoint().1.to_string()), "the right address is in the server's own file");
}

/// The faults that end in a hold: relinkd only looks, so each stays until the test ends it.
fn nothing_moves_a_replica_unless_all_agree(kind: Kind) {
    let scene = scene(kind, EAGER);
    let replica = scene.replica();

    // One Sentinel watches another primary under this group's name.
    let other = scene.group.replica(1).endpoint();
    let stray = scene.group.sentinel(2);
    stray.run(&["SENTINEL", "REMOVE", "mymaster"]).expect("forgotten");
    stray.run(&["SENTINEL", "MONITOR", "mymaster", &other.0, &other.1.to_string(), "3"]).expect("monitored");
    stray.run(&["SENTINEL", "SET", "mymaster", "auth-pass", "secret"]).expect("its password");
    let nowhere = dead_port();
    follow(replica, &nowhere);
    scene.wait_status("in doubt", |status| {
        status["sentence"].as_str().is_some_and(|sentence| sentence.starts_with("failover-running"))
    });
    stays_at(&scene, &nowhere);

    // Two of three are gone: the last one's word is not enough.
    scene.group.sentinel(0).kill9();
    stray.kill9();
    let status = scene.wait_status("too few", |status| status["held"]["code"] == "quorum-unclear");
    assert_eq!((&status["cause"], &status["suspected"]), (&"primary-down".into(), &true.into()));
    stays_at(&scene, &nowhere);
    assert_eq!(scene.incidents()[0]["actions"], serde_json::json!([]));
}

fn stays_at(scene: &Scene, address: &(String, u16)) {
    std::thread::sleep(Duration::from_secs(2));
    // Sentinel cuts all clients of a replica that it reconfigures, and so our question.
    let port = (0..50).find_map(|_| scene.replica().info("replication", "master_port"));
    assert_eq!(port, Some(address.1.to_string()));
    let messages = scene.receiver.messages();
    assert!(messages.iter().all(|message| message["actions"] == serde_json::json!([])), "{messages:#?}");
}

fn a_primary_that_lost_its_data_is_not_followed(kind: Kind) {
    let scene = scene(kind, EAGER);
    let (primary, replica) = (scene.group.primary(), scene.replica());
    // Quicker than down-after: no Sentinel ever sees it down, and for ten seconds they still tell of its old data.
    let nowhere = dead_port();
    follow(replica, &nowhere);
    primary.kill9();
    let _ = std::fs::remove_file(primary.data_dir().join("dump.rdb"));
    primary.restart().expect("it comes back empty");
    let status = scene.wait_status("held", |status| status["held"]["code"] == "data-at-risk");
    assert_eq!(status["cause"], "wrong-primary", "{status:#}");
    let told = scene.told("data-at-risk", |message| message["held"].to_string().contains("data-at-risk"));
    assert_eq!(told["cause"]["code"], "wrong-primary");
    let seen = scene.diagnose(&format!("wrong-primary/{}-primary-empty", kind.code()));
    assert_eq!(seen["decision"]["hold"]["code"], "data-at-risk", "{seen:#}");
    stays_at(&scene, &nowhere);
    let keys = replica.info("keyspace", "db0").unwrap_or_default();
    assert!(keys.starts_with("keys=100,"), "its data is still there: {keys}");
}

fn a_target_that_is_no_primary_is_not_followed(kind: Kind) {
    let scene = scene(kind, EAGER);
    let (primary, other) = (scene.group.primary(), scene.group.replica(1));
    for sentinel in scene.group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "info-period", "3600000"]).expect("they do not look");
    }
    let nowhere = dead_port();
    follow(scene.replica(), &nowhere);
    // Somebody moved the primary's role by hand, and the Sentinels have not noticed.
    other.run(&["REPLICAOF", "NO", "ONE"]).expect("promoted by hand");
    primary.run(&["REPLICAOF", &other.endpoint().0, &other.endpoint().1.to_string()]).expect("demoted by hand");
    scene.wait_status("held", |status| status["held"]["code"] == "target-not-primary");
    stays_at(&scene, &nowhere);
}

fn without_sentinels(kind: Kind) -> Option<Scene> {
    let kind = lab::require(kind)?;
    let group = Group::builder(kind).replicas(2).password("secret").start().expect("a group");
    Some(Scene::start(group, &Setup { sentinels: false, policy: EAGER.to_owned(), ..Setup::default() }))
}

/// Nobody says who the primary is, so nothing is done, and the cause says what is there instead.
fn without_sentinels_what_is_there_is_named(kind: Kind) {
    let Some(scene) = without_sentinels(kind) else { return };
    let replica = scene.replica();
    let right = scene.group.primary().endpoint();
    let lonely = Group::builder(kind).sentinels(1).replicas(1).start().expect("some other group");
    let upstream = scene.group.replica(1);
    let (cut, web) = (dead_port(), http());
    let astray = [
        ("not-a-server", "an-http-server", web.endpoint()),
        ("not-a-server", "a-sentinel", lonely.sentinel(0).endpoint()),
        ("self-replication", "itself", replica.endpoint()),
        ("upstream-broken", "a-cut-replica", upstream.endpoint()),
    ];
    for (count, (cause, what, address)) in (1..).zip(astray) {
        if cause == "upstream-broken" {
            follow(upstream, &cut);
        }
        follow(replica, &address);
        let told = scene.told(what, |message| {
            message["cause"]["code"] == cause && message["event"] != "resolved" && message["primary"] == join(&address)
        });
        assert_eq!(told["held"][0]["refusal"], "no-safe-remedy", "{told:#}");
        let began = Instant::now();
        while scene.diagnose(&format!("{cause}/{}-{what}", kind.code()))["cause"] != cause {
            assert!(began.elapsed() < PATIENCE, "a look by hand never says {cause}");
        }
        follow(replica, &right);
        let incident = resolved(&scene, count);
        assert_eq!(incident["cause"]["code"], cause, "{incident:#}");
    }
}

fn join(address: &(String, u16)) -> String {
    format!("{}:{}", address.0, address.1)
}

/// relinkd's own user may not read the settings: what the replica would send is unknown, and nothing is guessed.
fn what_was_not_seen_is_unknown(kind: Kind) {
    let group = Group::builder(kind).replicas(1).password("secret").start().expect("a group");
    let user = ["ACL", "SETUSER", "watcher", "on", ">secret", "+info", "+role", "+ping", "+client|setname"];
    group.replica(0).run(&user).expect("a user");
    let setup = Setup { sentinels: false, replica: "user = \"watcher\"".to_owned(), ..Setup::default() };
    let scene = Scene::start(group, &setup);
    let rotated = fault::rotate_password(scene.group.primary(), "other").expect("rotated");
    let told = scene.told_event("opened");
    assert_eq!(told["cause"]["code"], "unknown", "{told:#}");
    assert!(told["because"].to_string().contains("allow +config|get"), "{told:#}");
    assert_eq!(told["held"][0]["refusal"], "no-safe-remedy");
    assert_eq!(scene.diagnose(&format!("unknown/{}-no-settings", kind.code()))["cause"], "unknown");
    rotated.undo().expect("back again");
    assert_eq!(scene.told_event("resolved")["id"], told["id"]);
}

fn a_wrong_address_by_hand(kind: Kind) {
    let scene = scene(kind, "mode = \"observe\"\n[policy.repoint]\nafter = \"500ms\"");
    follow(scene.replica(), &scene.group.replica(1).endpoint());
    let told = scene.told_event("opened");
    assert_eq!(told["cause"]["code"], "wrong-primary", "{told:#}");
    assert!(scene.replica().wait_link_up(PATIENCE).is_some(), "the link to the wrong address is up");
    let status = scene.wait_status("held", |status| status["held"]["code"] == "observe-only");
    assert_eq!(status["cause"], "wrong-primary");
    assert_eq!(scene.diagnose(&format!("wrong-primary/{}-chained", kind.code()))["cause"], "wrong-primary");
    stays_at(&scene, &scene.group.replica(1).endpoint());
}

on_each_server! {
    a_replica_of_a_replica_resyncs_and_nobody_is_told =>
        a_replica_of_a_replica_resyncs_and_nobody_is_told_redis_70,
        a_replica_of_a_replica_resyncs_and_nobody_is_told_valkey_80;
    each_wrong_address_is_left_for_the_right_one =>
        each_wrong_address_is_left_for_the_right_one_redis_70, each_wrong_address_is_left_for_the_right_one_valkey_80;
    nothing_moves_a_replica_unless_all_agree =>
        nothing_moves_a_replica_unless_all_agree_redis_70, nothing_moves_a_replica_unless_all_agree_valkey_80;
    a_primary_that_lost_its_data_is_not_followed =>
        a_primary_that_lost_its_data_is_not_followed_redis_70, a_primary_that_lost_its_data_is_not_followed_valkey_80;
    a_target_that_is_no_primary_is_not_followed =>
        a_target_that_is_no_primary_is_not_followed_redis_70, a_target_that_is_no_primary_is_not_followed_valkey_80;
    without_sentinels_what_is_there_is_named =>
        without_sentinels_what_is_there_is_named_redis_70, without_sentinels_what_is_there_is_named_valkey_80;
    what_was_not_seen_is_unknown => what_was_not_seen_is_unknown_redis_70, what_was_not_seen_is_unknown_valkey_80;
    a_wrong_address_by_hand => a_wrong_address_by_hand_redis_70, a_wrong_address_by_hand_valkey_80;
}
