//! The way to the primary: dead, hung, out of reach, cut off from here only. And what is no fault at all.

mod live;
#[path = "live/outage.rs"]
mod outage;

use std::time::{Duration, Instant};

use lab::{Builder, Fault, Group, Host, Kind, Node, Server, fault};
use live::checks::{QUICK, actions, rules_out, text};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::Value;

on_each_server! {
    a_dead_primary_and_sentinels_at_work =>
        a_dead_primary_is_left_to_sentinel_and_the_incident_ends_with_its_failover_redis_70,
        a_dead_primary_is_left_to_sentinel_and_the_incident_ends_with_its_failover_valkey_80;
    a_primary_that_nobody_can_replace =>
        a_dead_or_hung_primary_that_nobody_can_replace_is_told_and_held_redis_70,
        a_dead_or_hung_primary_that_nobody_can_replace_is_told_and_held_valkey_80;
    sentinels_that_do_not_answer =>
        a_dead_primary_is_only_suspected_while_no_sentinel_answers_redis_70,
        a_dead_primary_is_only_suspected_while_no_sentinel_answers_valkey_80;
    a_cut_and_its_end =>
        a_cut_network_is_told_from_a_dead_primary_and_bounced_when_it_heals_redis_70,
        a_cut_network_is_told_from_a_dead_primary_and_bounced_when_it_heals_valkey_80;
    rejected_and_unreachable =>
        a_firewall_is_told_from_a_primary_out_of_everyones_reach_redis_70,
        a_firewall_is_told_from_a_primary_out_of_everyones_reach_valkey_80;
    what_is_no_fault =>
        what_operators_and_sentinels_do_every_day_is_no_fault_redis_70,
        what_operators_and_sentinels_do_every_day_is_no_fault_valkey_80;
}

fn quick() -> Setup {
    Setup { policy: QUICK.to_owned(), ..Setup::default() }
}

/// Sentinel takes the replica with the lowest priority first, and none with priority 0.
fn group(kind: Kind, ours: &str, other: &str) -> Builder {
    Group::builder(kind).replicas(2).sentinels(3).config_of(Node::Replica(0), "replica-priority", ours).config_of(
        Node::Replica(1),
        "replica-priority",
        other,
    )
}

fn cut_link(replica: &Server) {
    let cut: i64 = replica.query(&["CLIENT", "KILL", "TYPE", "master"]).expect("CLIENT KILL");
    assert_eq!(cut, 1, "the link stood");
}

fn a_dead_primary_and_sentinels_at_work(kind: Kind) {
    let scene = Scene::start(group(kind, "50", "10").start().expect("a group"), &quick());
    // A primary sends a fresh replica nothing before its first REPLCONF ACK: let the stream reach both, or the one
    // that is promoted has nothing to go on from.
    scene.group.primary().write(10, 10).expect("some keys");
    for replica in [scene.replica(), scene.group.replica(1)] {
        let arrived = |replica: &Server| replica.query::<i64>(&["DBSIZE"]).is_ok_and(|keys| keys == 10);
        replica.wait_until(arrived, PATIENCE).expect("the stream has arrived");
    }
    let full = scene.group.replica(1).sync_full();
    let _dead = fault::kill(scene.group.primary());
    if std::env::var_os("CAPTURE").is_some() {
        // It passes within two seconds: looked for only where it is to be kept.
        let name = format!("failover-running/primary-killed-{}", kind.code());
        let caught = (0..20).any(|_| scene.diagnose(&name)["cause"] == "failover-running");
        assert!(caught, "the failover was not seen");
    }
    let opened = scene.told_event("opened");
    assert!(["primary-down", "failover-running"].contains(&text(&opened["cause"]["code"]).as_str()), "{opened:#}");
    let id = text(&opened["id"]);
    let resolved = scene.over(&id);
    assert_eq!(resolved["actions"], serde_json::json!([]), "Sentinel healed it: {resolved:#}");
    let status = scene.status();
    assert_eq!(status["primary"], scene.group.replica(1).address(), "{status:#}");
    assert!(scene.replica().is_link_up());
    assert_eq!(scene.group.replica(1).sync_full(), full, "a partial resync");
    assert_eq!(scene.incidents().len(), 1);
    eprintln!("{kind}: {:?} {}", scene.events(&id), resolved["timings_ms"]);
}

fn a_primary_that_nobody_can_replace(kind: Kind) {
    let code = kind.code();
    // Sentinel's own next try is far away: near it relinkd holds for that reason, and for no other.
    let group = group(kind, "0", "0").sentinel_timers(outage::DOWN_AFTER_MS, outage::FAILOVER_TIMEOUT_MS);
    let group = group.config("repl-timeout", "3").config("repl-ping-replica-period", "1");
    let policy = format!("{QUICK}[policy.request-failover]\nafter = \"1s\"\ncooldown = \"1s\"\n");
    let scene = Scene::start(group.start().expect("a group"), &Setup { policy, ..Setup::default() });
    let primary = scene.group.primary().clone();

    let dead = fault::kill(&primary);
    // Its first name depends on how quick the Sentinels are: down, or a failover that has begun.
    let id = text(&scene.wait_status("an incident", |status| !status["incident"].is_null())["incident"]);
    scene.told_of(&id, "opened");
    // Sentinel tries and gives up; then relinkd says why it does not ask for one more.
    outage::gives_up(&scene);
    let fleeting = ["too-early", "failover-running", "sentinel-acting"];
    let why = held_but_not(&scene, "no-promotable-replica", &fleeting);
    assert_eq!(why["code"], "no-promotable-replica", "{why:#}");
    let told = scene.diagnose(&format!("no-promotable-replica/dead-primary-{code}"));
    assert_eq!(told["cause"], "no-promotable-replica", "{told:#}");
    assert!(told["because"].to_string().contains("priority 0"), "{told:#}");
    dead.undo().expect("the primary starts again");
    let resolved = scene.over(&id);
    assert_eq!(resolved["actions"], serde_json::json!([]), "{resolved:#}");
    assert_eq!(scene.events(&id).first().map(String::as_str), Some("opened"));

    // The kernel still accepts connections for a stopped process.
    let frozen = fault::freeze(&primary).expect("the primary is frozen");
    let id = scene.fault("primary-hung");
    let opened = scene.told_of(&id, "opened");
    assert!(rules_out(&opened, "network-cut"), "{opened:#}");
    scene.diagnose(&format!("primary-hung/frozen-{code}"));
    frozen.undo().expect("the primary goes on");
    scene.over(&id);
    assert!(scene.replica().is_link_up());
}

/// Waits until relinkd holds for another reason than these; that reason.
fn held_but_not(scene: &Scene, cause: &str, fleeting: &[&str]) -> Value {
    scene
        .wait_status("a lasting hold", |status| {
            let code = text(&status["held"]["code"]);
            status["cause"] == cause && !code.is_empty() && !fleeting.contains(&code.as_str())
        })
        .get("held")
        .cloned()
        .unwrap_or_default()
}

fn sentinels_that_do_not_answer(kind: Kind) {
    let code = kind.code();
    let scene = Scene::start(group(kind, "50", "10").start().expect("a group"), &quick());
    let frozen: Vec<Fault> =
        scene.group.sentinels().iter().map(|sentinel| fault::freeze(sentinel).expect("a frozen Sentinel")).collect();
    let dead = fault::kill(scene.group.primary());
    let opened = scene.told_event("opened");
    assert_eq!(opened["cause"]["code"], "primary-down", "{opened:#}");
    assert_eq!(opened["cause"]["suspected"], true, "{opened:#}");
    let told = scene.diagnose(&format!("primary-down/sentinels-do-not-answer-{code}"));
    assert!(told["because"].to_string().contains("only 0 of 3 Sentinels answer"), "{told:#}");
    dead.undo().expect("the primary starts again");
    let resolved = scene.over(&text(&opened["id"]));
    assert_eq!(resolved["actions"], serde_json::json!([]), "{resolved:#}");
    for sentinel in frozen {
        sentinel.undo().expect("the Sentinel goes on");
    }
}

fn hosts(scene: &Scene) -> (Host, Host) {
    let host = |server: &Server| server.host().cloned().expect("a host of its own");
    (host(scene.replica()), host(scene.group.primary()))
}

fn a_cut_and_its_end(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let code = kind.code();
    // repl-timeout is the default 60 s: a replica that waits for its SYN to be answered waits long.
    let scene = Scene::start(group(kind, "0", "0").namespaces(true).start().expect("a group"), &quick());
    let (here, there) = hosts(&scene);
    let full = scene.group.primary().sync_full();

    let cut = here.cut_from(&there).expect("a cut");
    cut_link(scene.replica());
    let began = Instant::now();
    let id = scene.fault("network-cut");
    let opened = scene.told_of(&id, "opened");
    assert!(!rules_out(&opened, "network-cut"), "{opened:#}");
    let why = held_but_not(&scene, "network-cut", &["too-early"]);
    assert_eq!(why["code"], "no-safe-remedy", "{why:#}");
    let told = scene.diagnose(&format!("network-cut/both-ways-{code}"));
    assert_eq!((&told["cause"], &told["suspected"]), (&"network-cut".into(), &false.into()), "{told:#}");
    // SYN is sent again after 1, 3, 7 and 15 s, or from Linux 6.5 on after 1 to 5, 7, 11 and 19 s
    // (tcp_syn_linear_timeouts): let the replica get into the long wait.
    let primary = scene.group.primary().endpoint();
    let long_wait = |_: &Server| here.next_syn(&primary).is_some_and(|due| due > Duration::from_secs(6));
    assert!(scene.replica().wait_until(long_wait, PATIENCE * 2).is_some(), "it waits for its SYN to be answered");
    assert_eq!(scene.replica().role_state().as_deref(), Some("connecting"));
    let healed = Instant::now();
    cut.undo().expect("the network is whole");
    let up = scene.replica().wait_link_up(PATIENCE).expect("the link is up");
    eprintln!("{kind}: up {up:?} after the cut ended, {:?} after the break", healed.duration_since(began) + up);
    let resolved = scene.over(&id);
    assert_eq!(actions(&resolved).first(), Some(&("bounce-link".to_owned(), "changed".to_owned())), "{resolved:#}");
    assert_eq!(scene.group.primary().sync_full(), full, "a partial resync");
    assert_eq!(resolved["cause"]["code"], "network-cut", "{resolved:#}");

    // One way only: what the primary sends does not arrive here. From here it looks the same.
    let deaf = here.deaf_to(&there).expect("a one-way cut");
    cut_link(scene.replica());
    let id = scene.fault("network-cut");
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("network-cut/one-way-{code}"));
    deaf.undo().expect("the network is whole");
    scene.over(&id);
    assert_eq!(scene.group.primary().sync_full(), full, "a partial resync");
}

fn rejected_and_unreachable(kind: Kind) {
    let Some(()) = lab::require_namespaces() else { return };
    let code = kind.code();
    // Sentinel's default: what decides long before it has passed are the PINGs that the Sentinels have answered.
    let built = group(kind, "0", "0").namespaces(true).sentinel_timers(30_000, 60_000);
    let scene = Scene::start(built.start().expect("a group"), &quick());
    let (here, there) = hosts(&scene);

    let began = Instant::now();
    let rejected = there.reject(&here, 6379).expect("a firewall");
    let id = scene.fault("network-rejected");
    scene.told("network-rejected", |message| {
        message["id"] == id.as_str() && message["cause"]["code"] == "network-rejected"
    });
    let firm = began.elapsed();
    assert!(firm < Duration::from_secs(10), "{firm:?}, long before the 30 s");
    scene.diagnose(&format!("network-rejected/tcp-reset-{code}"));
    rejected.undo().expect("the firewall is open");
    let resolved = scene.over(&id);
    assert_eq!(resolved["actions"], serde_json::json!([]), "{resolved:#}");
    eprintln!("{kind}: firm after {firm:?}, {:?}", scene.events(&id));

    let began = Instant::now();
    let unplugged = there.unplug().expect("the primary's cable");
    cut_link(scene.replica());
    let id = scene.fault("primary-unreachable");
    eprintln!("{kind}: unreachable, firm after {:?}", began.elapsed());
    scene.told_of(&id, "opened");
    scene.diagnose(&format!("primary-unreachable/unplugged-{code}"));
    unplugged.undo().expect("the cable is back");
    scene.over(&id);
    assert!(scene.replica().is_link_up());
}

fn what_is_no_fault(kind: Kind) {
    let group = group(kind, "50", "10").sentinel_timers(4_000, 8_000).config("enable-debug-command", "yes");
    let mut scene = Scene::start(group.start().expect("a group"), &quick());
    let replica = scene.replica().clone();
    let pid = scene.agent.pid();

    // As Sentinel does when it reconfigures a server: every client is cut, relinkd's own connections too.
    for clients in ["normal", "pubsub"] {
        replica.run(&["CLIENT", "KILL", "TYPE", clients, "SKIPME", "no"]).ok();
    }
    well(&scene, "clients cut");

    scene.group.primary().run(&["DEBUG", "SLEEP", "1"]).expect("DEBUG SLEEP");
    well(&scene, "a pause of the primary");
    replica.run(&["DEBUG", "SLEEP", "1"]).expect("DEBUG SLEEP");
    well(&scene, "a pause of the replica");

    fault::cut_replicas(scene.group.primary()).expect("the links are cut");
    well(&scene, "a link that heals by itself");

    replica.terminate().expect("SIGTERM");
    replica.restart().expect("it starts again");
    well(&scene, "a restart by hand");

    // Planned failovers: to another replica, then to ours, then away from ours.
    for ours in [false, true, false] {
        let sentinel = scene.group.sentinel(0);
        let asks = |sentinel: &Server| sentinel.run(&["SENTINEL", "FAILOVER", scene.group.name()]).is_ok();
        sentinel.wait_until(asks, PATIENCE).expect("the failover begins");
        let done = |_: &Server| {
            let now = scene.group.current_primary().map(Server::address);
            now.is_some() && (now == Some(replica.address())) == ours && linked(scene.group.nodes()) == 2
        };
        replica.wait_until(done, PATIENCE).expect("the failover is over");
        scene.wait_status("its role is seen", |status| (status["role"] == "primary") == ours);
        well(&scene, "a planned failover");
    }
    assert_eq!(scene.receiver.messages(), Vec::<Value>::new());
    assert_eq!(scene.incidents(), Vec::<Value>::new());
    assert!(pid.is_some() && scene.agent.pid() == pid, "it still runs");
}

/// How many of the nodes are replicas with their link up.
fn linked(nodes: &[Server]) -> usize {
    nodes.iter().filter(|node| !node.is_primary() && node.is_link_up()).count()
}

/// Waits until all is well again; nobody was told, and no incident is open.
fn well(scene: &Scene, after: &str) {
    let now = scene.status()["looked_at"].clone();
    scene.verb(&["status"]);
    scene.wait_status(&format!("well after {after}"), |status| {
        status["incident"].is_null()
            && (status["role"] == "primary" || status["link_up"] == true)
            && text(&status["looked_at"]) >= text(&now)
    });
    let messages = scene.receiver.messages();
    assert!(messages.is_empty(), "after {after}: {messages:#?}");
}
