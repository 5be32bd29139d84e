//! A primary that lives and has no connection left to give, or cannot make a data set to send: most of its replicas are
//! turned away, and it is moved only where that loses no acknowledged write, or where a person has read what it costs.

mod live;
#[path = "live/outage.rs"]
mod outage;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::{Agent, Group, Kind, Node, Server, ailment, fault};
use live::checks::{actions, text};
use live::desk::Said;
use live::{PATIENCE, RELINKD, Scene, config, on_each_server};
use outage::{TURNS, filled, preferred, requests, sentinels_tell, with};

const ALLOWED: &str =
    "[policy.request-failover]\nmode = \"auto\"\nafter = \"2s\"\ncooldown = \"1s\"\nallow_live_primary = true";
const FAILOVER_TIMEOUT_MS: u64 = 30_000;
/// Ten of these is for how long a replica may have had no link and still be promoted.
const DOWN_AFTER_MS: u64 = 6_000;

/// Clients that came and do not leave, and the connection of one who was there before.
struct Crowd {
    admin: redis::Connection,
    _clients: Vec<TcpStream>,
}

impl Crowd {
    /// The primary is full, and these replicas have lost their places.
    fn fill(group: &Group, cut: &[usize]) -> Crowd {
        let primary = group.primary();
        let mut admin = primary.connect().expect("a connection");
        let (host, port) = primary.endpoint();
        let clients: Vec<TcpStream> =
            (0..30).map(|_| TcpStream::connect((host.as_str(), port)).expect("a client")).collect();
        let mut ask =
            |words: &[&str]| redis::Cmd::new().arg(words).query::<redis::Value>(&mut admin).expect("an answer");
        let listed = |told: &redis::Value| redis::from_redis_value_ref::<String>(told).expect("text").lines().count();
        while listed(&ask(&["CLIENT", "LIST"])) < clients.len() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let places: Vec<String> = cut.iter().map(|replica| place(group.replica(*replica))).collect();
        // What is acknowledged in the moment of the cut may be lost, as ever in replication: nothing is meanwhile.
        ask(&["CLIENT", "PAUSE", "20000", "WRITE"]);
        let offset = primary.offset();
        for replica in cut {
            let level = |replica: &Server| replica.offset() >= offset;
            assert!(group.replica(*replica).wait_until(level, PATIENCE).is_some(), "it has all");
        }
        // Beside the crowd the Sentinels have six connections, and we have ours: it is full whoever looks in or leaves, and
        // has room for the Sentinels when they come to make a replica of it.
        ask(&["CONFIG", "SET", "maxclients", &(clients.len() + 4).to_string()]);
        for place in &places {
            ask(&["CLIENT", "KILL", "ADDR", place]);
        }
        ask(&["CLIENT", "UNPAUSE"]);
        for replica in cut {
            let replica = group.replica(*replica);
            assert!(replica.wait_link_down(PATIENCE).is_some(), "{}", replica.address());
        }
        Crowd { admin, _clients: clients }
    }

    fn disperse(mut self) {
        redis::Cmd::new().arg(&["CONFIG", "SET", "maxclients", "10000"]).exec(&mut self.admin).expect("room");
    }
}

/// The address of a replica's link, as its primary sees it.
fn place(replica: &Server) -> String {
    let links: String = replica.query(&["CLIENT", "LIST", "TYPE", "master"]).expect("the link");
    let own = links.split_whitespace().find_map(|field| field.strip_prefix("laddr="));
    own.expect("its own end").to_owned()
}

/// So many writes are acknowledged before anything happens.
const BEFORE: usize = 200;

/// One client that stays with the server that was the primary when it came.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<u32>, BTreeMap<String, u32>)>,
}

impl Writer {
    fn start(primary: &Server) -> Writer {
        let mut connection = primary.connect().expect("a connection");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let thread = std::thread::spawn(move || {
            let (mut acked, mut refused) = (Vec::new(), BTreeMap::new());
            for number in 0_u32.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let set = redis::Cmd::new().arg(&["SET", &format!("write:{number}"), "x"]).exec(&mut connection);
                match set {
                    Ok(()) => {
                        acked.push(number);
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => match error.code() {
                        Some(code) => *refused.entry(code.to_owned()).or_insert(0) += 1,
                        None => break,
                    },
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            (acked, refused)
        });
        assert!(primary.wait_until(|_| count.load(Ordering::Relaxed) >= BEFORE, PATIENCE).is_some(), "it writes");
        Writer { stop, thread }
    }

    /// How many writes were acknowledged, how many of these the server does not have, and how many were refused, by word.
    fn end(self, at: &Server) -> (usize, usize, BTreeMap<String, u32>) {
        self.stop.store(true, Ordering::Relaxed);
        let (acked, refused) = self.thread.join().expect("the writer");
        let mut connection = at.connect().expect("a connection");
        let kept = |number: &&u32| {
            let key = format!("write:{number}");
            redis::Cmd::new().arg(&["EXISTS", &key]).query::<u32>(&mut connection).expect("an answer") == 0
        };
        let lost = acked.iter().filter(kept).count();
        (acked.len(), lost, refused)
    }
}

/// Data everywhere; our replica comes second, and the last one first.
fn group(kind: Kind, replicas: usize, settings: &[(&str, &str)]) -> Group {
    let mut builder = Group::builder(kind).replicas(replicas).sentinels(3).password("secret");
    for (key, value) in settings {
        builder = builder.config(key, value);
    }
    builder
        .config("repl-ping-replica-period", "1")
        .sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS)
        .start()
        .expect("a group")
}

fn moved_to(scene: &Scene, began: Instant) -> &Server {
    let former = scene.group.primary().endpoint();
    loop {
        match scene.group.current_primary() {
            Some(named) if named.endpoint() != former => return named,
            _ => assert!(
                began.elapsed() < TURNS,
                "not moved\n{:#}\n{:#?}\n{}",
                scene.status(),
                scene.incidents(),
                sentinels_see(scene)
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What each Sentinel says of the replicas, for a failure's sake.
fn sentinels_see(scene: &Scene) -> String {
    scene.group.sentinels().iter().map(|sentinel| format!("{:#?}\n", sentinel.sentinel_replicas())).collect()
}

fn told(scene: &Scene, event: &str) -> serde_json::Value {
    let began = Instant::now();
    loop {
        if let Some(found) = scene.receiver.messages().into_iter().find(|message| message["event"] == event) {
            return found;
        }
        assert!(began.elapsed() < TURNS, "no {event}\n{:#}\n{}", scene.status(), scene.agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn not_moved(scene: &Scene) {
    assert_eq!(requests(&scene.group), 0, "{}", sentinels_tell(&scene.group));
    assert!(scene.group.nodes()[1..].iter().all(|node| !node.is_primary()), "nothing was promoted");
}

/// Three replicas, of which the last is linked; ours has the second turn. Sentinels read a linked one every 10 s.
fn one_is_linked(kind: Kind) -> Group {
    let group = group(kind, 3, &[]);
    filled(&group);
    let priorities = [(group.replica(0), 50), (group.replica(1), 90), (group.replica(2), 10)];
    preferred(&group, &priorities);
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "info-period", "10000"]).expect("as by default");
    }
    group
}

#[test]
fn a_primary_that_turns_most_away_hands_over_and_no_acknowledged_write_is_lost_valkey_91() {
    let Some(kind) = lab::require(Kind::Valkey91) else { return };
    let scene = Scene::start(one_is_linked(kind), &with(ALLOWED));
    let writer = Writer::start(scene.group.primary());
    let crowd = Crowd::fill(&scene.group, &[0, 1]);
    let began = Instant::now();
    let now = moved_to(&scene, began);
    println!("{kind}: moved after {:?}", began.elapsed());
    assert_eq!(now.endpoint(), scene.group.replica(2).endpoint());
    let resolved = told(&scene, "resolved");
    let (acked, lost, refused) = writer.end(now);
    println!("{kind}: {acked} writes were acknowledged, {lost} of them lost; refused: {refused:?}");
    assert!(acked > BEFORE && lost == 0, "{lost} of {acked}");
    assert_eq!(told(&scene, "opened")["cause"]["code"], "connections-exhausted");
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
    assert!(scene.group.primary().log_text().contains("FAILOVER requested to"), "the primary itself handed over");
    drop(crowd);
}

#[test]
fn by_default_a_primary_that_lives_is_moved_when_a_person_says_so_valkey_91() {
    let Some(kind) = lab::require(Kind::Valkey91) else { return };
    let by_default = ALLOWED.replace("allow_live_primary = true", "");
    let scene = Scene::start(one_is_linked(kind), &with(&by_default));
    let writer = Writer::start(scene.group.primary());
    let crowd = Crowd::fill(&scene.group, &[0, 1]);
    let proposed = told(&scene, "proposed");
    let detail = proposed["held"].to_string();
    assert!(detail.contains("approval-needed") && detail.contains("allow_live_primary"), "{detail}");
    assert!(detail.contains("SENTINEL FAILOVER mymaster COORDINATED, asked of"), "{detail}");
    std::thread::sleep(Duration::from_secs(2));
    not_moved(&scene);
    let yes = Said::of(&scene.verb(&["approve", "cache"]));
    assert_eq!(yes.exit, 0, "{yes:?}\n{}", scene.agent.log());
    let now = moved_to(&scene, Instant::now());
    told(&scene, "resolved");
    let (acked, lost, _) = writer.end(now);
    assert!(acked > BEFORE && lost == 0, "{lost} of {acked}");
    drop(crowd);
}

/// Nobody is linked, and the primary wants one replica: what it does not acknowledge cannot be lost.
fn refused_writes_are_not_lost(kind: Kind) {
    let group = group(kind, 2, &[("min-replicas-to-write", "1")]);
    filled(&group);
    preferred(&group, &[(group.replica(0), 10)]);
    let scene = Scene::start(group, &with(ALLOWED));
    let writer = Writer::start(scene.group.primary());
    // Whom Sentinel would promote goes last: the other one alone must have nothing.
    let crowd = Crowd::fill(&scene.group, &[1, 0]);
    let began = Instant::now();
    let now = moved_to(&scene, began);
    println!("{kind}: moved after {:?}", began.elapsed());
    assert!(scene.group.primary().wait_log("REPLICAOF", TURNS).is_some(), "the former one is made a replica");
    let resolved = told(&scene, "resolved");
    let (acked, lost, refused) = writer.end(now);
    println!("{kind}: {acked} writes were acknowledged, {lost} of them lost; refused: {refused:?}");
    assert!(acked >= BEFORE && lost == 0, "{lost} of {acked}");
    assert!(refused.contains_key("NOREPLICAS"), "{refused:?}");
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
    assert!(!scene.receiver.messages().iter().any(|message| message["event"] == "proposed"), "no person was asked");
    drop(crowd);
}

/// The primary has another history now and cannot fork, so no replica gets what it would need; and it takes no writes.
/// Beside each replica an agent sees that: one of them asks.
#[test]
fn a_primary_that_cannot_fork_is_failed_over_by_one_of_two_agents_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let Some(()) = lab::require_namespaces() else { return };
    let builder = Group::builder(kind).replicas(2).sentinels(3).password("secret").own_user(Node::Primary);
    let builder = builder.config("min-replicas-to-write", "1").config("repl-diskless-sync", "yes");
    let builder = builder.config_of(Node::Primary, "enable-debug-command", "yes");
    let builder = builder.config_of(Node::Primary, "jemalloc-bg-thread", "no");
    let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
    filled(&group);
    preferred(&group, &[(group.replica(0), 10)]);
    let scene = Scene::start(group, &with(ALLOWED));
    let mut second = Agent::new(RELINKD).expect("a place for relinkd");
    let beside = config(&second, &scene.group, scene.group.replica(1), &scene.receiver.url(), &with(ALLOWED));
    second.start(&beside).expect("relinkd starts");
    assert!(second.wait_log("replicates from", PATIENCE).is_some(), "{}", second.log());

    let primary = scene.group.primary();
    let _stuck = ailment::no_fork(primary).expect("no fork");
    primary.run(&["DEBUG", "CHANGE-REPL-ID"]).expect("another history");
    fault::cut_replicas(primary).expect("no links");
    let began = Instant::now();
    let now = moved_to(&scene, began);
    println!("{kind}: moved after {:?}", began.elapsed());
    assert_eq!(now.endpoint(), scene.group.replica(0).endpoint());
    let resolved = |scene: &Scene| {
        let all = scene.receiver.messages().into_iter().filter(|message| message["event"] == "resolved");
        all.collect::<Vec<_>>()
    };
    let end = Instant::now() + TURNS;
    while resolved(&scene).len() < 2 {
        assert!(Instant::now() < end, "{:#?}\n{}", scene.receiver.messages(), scene.agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked: Vec<_> = resolved(&scene).iter().flat_map(actions).collect();
    assert_eq!(asked, [("request-failover".to_owned(), "changed".to_owned())]);
    let opened = scene.receiver.messages().into_iter().filter(|message| message["event"] == "opened");
    assert!(opened.map(|one| text(&one["cause"]["code"])).all(|cause| cause == "primary-fork-failed"));
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
}

/// Neither of the two: a person reads what it costs, and may have it all the same.
fn what_costs_writes_is_a_persons_to_allow(kind: Kind) {
    let group = group(kind, 2, &[]);
    filled(&group);
    let scene = Scene::start(group, &with(ALLOWED));
    let crowd = Crowd::fill(&scene.group, &[0, 1]);
    let proposed = told(&scene, "proposed");
    let detail = proposed["held"].to_string();
    assert!(detail.contains("data-at-risk") && detail.contains("5,093 of 5,646"), "{detail}");
    let why = if kind.is_valkey() { "(Valkey 8.0." } else { "(Redis 7.0." };
    assert!(detail.contains("COORDINATED is not known to Sentinel") && detail.contains(why), "{detail}");
    let (id, plan) = (text(&proposed["id"]), text(&proposed["proposal"]["plan"]));
    std::thread::sleep(Duration::from_secs(3));
    not_moved(&scene);
    let yes = Said::of(&scene.verb(&["approve", &id, "--plan", &plan]));
    assert_eq!(yes.exit, 0, "{yes:?}\n{}", scene.agent.log());
    moved_to(&scene, Instant::now());
    let resolved = told(&scene, "resolved");
    assert_eq!(actions(&resolved), [("request-failover".to_owned(), "changed".to_owned())], "{resolved:#}");
    assert_eq!(requests(&scene.group), 1, "{}", sentinels_tell(&scene.group));
    drop(crowd);
}

/// One replica of two is turned away: its own link is to be mended, and the primary stays.
fn one_that_is_turned_away_alone(kind: Kind) {
    let group = group(kind, 2, &[]);
    filled(&group);
    let scene = Scene::start(group, &with(ALLOWED));
    let crowd = Crowd::fill(&scene.group, &[0]);
    let (id, detail) = scene.held("connections-exhausted", "primary-seen-alive");
    assert!(detail.contains("0 of 3 say that most replicas have no link, 2 are needed"), "{detail}");
    std::thread::sleep(Duration::from_secs(4));
    scene.held("connections-exhausted", "primary-seen-alive");
    not_moved(&scene);
    crowd.disperse();
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved), [], "{resolved:#}");
}

/// Two Sentinels know the word, and the third would have to.
#[test]
fn one_sentinel_of_an_older_version_and_nothing_is_handed_over_valkey() {
    let (Some(kind), Some(newer)) = (lab::require(Kind::Valkey80), lab::require(Kind::Valkey91)) else { return };
    let group = one_is_linked(kind);
    for sentinel in &group.sentinels()[..2] {
        sentinel.upgrade(newer).expect("a newer Sentinel");
    }
    let whole = |sentinel: &Server| {
        sentinel.sentinel_field("num-other-sentinels").as_deref() == Some("2")
            && sentinel.sentinel_field("flags").as_deref() == Some("master")
            && sentinel.sentinel_replicas().is_ok_and(|all| {
                all.len() == 3 && all.iter().all(|one| one["master-link-status"] == "ok" && one["flags"] == "slave")
            })
    };
    assert!(group.sentinels().iter().all(|sentinel| sentinel.wait_until(whole, PATIENCE).is_some()));
    let scene = Scene::start(group, &with(ALLOWED));
    let crowd = Crowd::fill(&scene.group, &[0, 1]);
    let detail = told(&scene, "proposed")["held"].to_string();
    let third = scene.group.sentinel(2).address();
    assert!(detail.contains(&format!("COORDINATED is not known to Sentinel {third} (Valkey 8.0.")), "{detail}");
    std::thread::sleep(Duration::from_secs(3));
    not_moved(&scene);
    drop(crowd);
}

/// An older Sentinel refuses the word as a whole: nothing is forced by mistake.
#[test]
fn a_sentinel_that_does_not_know_coordinated_does_nothing() {
    for kind in [Kind::Redis70, Kind::Valkey80, Kind::Redis82] {
        let Some(kind) = lab::require(kind) else { continue };
        let group = Group::builder(kind).replicas(1).sentinels(1).start().expect("a group");
        let answer = group.sentinel(0).run(&["SENTINEL", "FAILOVER", "mymaster", "COORDINATED"]);
        let told = answer.expect_err("a refusal").to_string();
        assert!(told.contains("wrong number of arguments"), "{kind}: {told}");
        assert_eq!((requests(&group), group.replica(0).is_primary()), (0, false), "{kind}");
    }
}

on_each_server! {
    refused_writes_are_not_lost =>
        a_primary_that_refuses_writes_is_failed_over_and_nothing_is_lost_redis_70,
        a_primary_that_refuses_writes_is_failed_over_and_nothing_is_lost_valkey_80;
    what_costs_writes_is_a_persons_to_allow =>
        what_costs_writes_is_a_persons_to_allow_redis_70, what_costs_writes_is_a_persons_to_allow_valkey_80;
    one_that_is_turned_away_alone =>
        one_replica_that_is_turned_away_moves_no_primary_redis_70,
        one_replica_that_is_turned_away_moves_no_primary_valkey_80;
}
