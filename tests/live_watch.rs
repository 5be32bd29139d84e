//! The watchers of a replica and of a Sentinel on real servers. `live_watch_log.rs` has the third, of the log.
//!
//! Each test waits for what it expects and fails when it does not come; none asserts how long that took.

#[path = "live/senses.rs"]
mod senses;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lab::{Group, Kind, Server};
use relinkd::model::event::{Pulse, Wake, Why};
use relinkd::secrets::Secret;
use relinkd::watch::replica::{PulseBoard, poll};
use relinkd::watch::sentinel::{Pace, SentinelBoard, listen};
use relinkd::wire::Dial;
use senses::{PATIENCE, clock, dial, endpoint, follows, nowhere, run, until};
use tokio::sync::mpsc::{Receiver, channel};

async fn next(woken: &mut Receiver<Wake>) -> Why {
    tokio::time::timeout(PATIENCE, woken.recv()).await.expect("nothing woke us").expect("the watcher ended").why
}

fn pair(kind: Kind) -> (Group, Server, Server) {
    let group = Group::builder(kind).replicas(1).start().expect("a pair");
    let (primary, replica) = (group.primary().clone(), group.replica(0).clone());
    (group, primary, replica)
}

fn watch_replica(server: &Server, every_ms: u64) -> (Arc<Mutex<PulseBoard>>, Receiver<Wake>) {
    let board: Arc<Mutex<PulseBoard>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(poll(dial(server), Duration::from_millis(every_ms), board.clone(), wake, clock));
    (board, woken)
}

#[tokio::test]
async fn a_link_that_breaks_and_heals_wakes_each_time() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (_group, primary, replica) = pair(kind);
    let (board, mut woken) = watch_replica(&replica, 10);
    let endpoint = endpoint(&primary);
    let is_up = |why: Why| match why {
        Why::Replica(Pulse::Replica { of, up, quiet_s }) => assert!(of == endpoint && up, "{of} {up} {quiet_s}"),
        other => panic!("{other:?}"),
    };
    is_up(next(&mut woken).await);
    let last_up = board.lock().unwrap().last_up.expect("seen up");
    let told_quiet = || matches!(board.lock().unwrap().last, Some((_, Pulse::Replica { quiet_s: 0.., .. })));
    until("INFO tells since when the primary is silent", told_quiet).await;
    primary.kill9();
    let down = next(&mut woken).await;
    assert!(
        matches!(&down, Why::Replica(Pulse::Replica { of, up: false, quiet_s: -1 }) if *of == endpoint),
        "{down:?}"
    );
    assert!(board.lock().unwrap().last_up.is_some_and(|at| at >= last_up));
    primary.restart().unwrap();
    is_up(next(&mut woken).await);
    // Another primary is news though the link is down both before and after.
    let away = nowhere();
    run(&replica, &format!("REPLICAOF {}", follows(&away)));
    let moved = next(&mut woken).await;
    assert!(matches!(moved, Why::Replica(Pulse::Replica { of, up: false, .. }) if of == away));
    run(&replica, "REPLICAOF NO ONE");
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Primary));
}

#[tokio::test]
async fn a_hot_reconnect_loop_is_one_wake() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).password("one").start().expect("a primary");
    let replica = group.add_replica(&[("masterauth", "")]).expect("a replica");
    let (board, mut woken) = watch_replica(&replica, 1);
    assert!(matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: false, .. })));
    // The server's own count of refused attempts says that the loop runs; the poll sees it in many states.
    let refused = || {
        let count = group.primary().info("errorstats", "errorstat_NOAUTH");
        count.and_then(|count| count.strip_prefix("count=")?.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = refused();
    let at = board.lock().unwrap().last.clone().map(|(at, _)| at);
    until("a thousand more attempts", || refused() > before + 1_000).await;
    assert!(board.lock().unwrap().last.clone().map(|(at, _)| at) > at, "the poll stands still");
    assert!(woken.try_recv().is_err(), "a hot loop woke us again");
}

#[tokio::test]
async fn a_client_kill_is_not_an_absence() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (_group, _, replica) = pair(kind);
    let (board, mut woken) = watch_replica(&replica, 10);
    assert!(matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: true, .. })));
    let ours = || {
        let list: String = replica.query(&["CLIENT", "LIST"]).unwrap();
        let line = list.lines().find(|line| line.contains(" name=relinkd ")).map(str::to_owned);
        line.and_then(|line| line.split(' ').next().map(str::to_owned))
    };
    for _ in 0..3 {
        let before = ours().expect("our connection");
        // What Sentinel sends when it reconfigures a server (Redis 7.0.15, sentinelSendSlaveOf).
        run(&replica, "CLIENT KILL TYPE normal");
        until("we are back", || ours().is_some_and(|now| now != before)).await;
    }
    let at = board.lock().unwrap().last.clone().unwrap().0;
    until("polls go on", || board.lock().unwrap().last.clone().unwrap().0 > at).await;
    assert!(woken.try_recv().is_err(), "a cut connection woke us");
    assert_eq!(board.lock().unwrap().trouble, None);
}

#[tokio::test]
async fn a_restart_is_an_absence_and_a_return() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (_group, _, replica) = pair(kind);
    let (board, mut woken) = watch_replica(&replica, 10);
    next(&mut woken).await;
    replica.kill9();
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Absent));
    assert!(board.lock().unwrap().trouble.as_deref().is_some_and(|why| why.starts_with("connection refused")));
    replica.restart().unwrap();
    while !matches!(next(&mut woken).await, Why::Replica(Pulse::Replica { up: true, .. })) {}
}

#[tokio::test]
async fn a_frozen_instance_is_absent_until_it_answers() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (_group, primary, replica) = pair(kind);
    let (board, mut woken) = watch_replica(&replica, 10);
    next(&mut woken).await;
    replica.freeze().unwrap();
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Absent));
    assert_eq!(board.lock().unwrap().trouble.as_deref(), Some("no answer in time"));
    replica.thaw().unwrap();
    let back = next(&mut woken).await;
    assert!(
        matches!(&back, Why::Replica(Pulse::Replica { of, up: true, .. }) if *of == endpoint(&primary)),
        "{back:?}"
    );
}

/// One line in ACL LOG, and not one a second for good: the watcher is started anew with a password that has changed.
#[tokio::test]
async fn a_login_that_is_refused_is_told_and_not_tried_again_at_once() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).password("right").start().expect("a server");
    let board: Arc<Mutex<PulseBoard>> = Arc::default();
    let (wake, mut woken) = channel(8);
    let right = dial(group.primary());
    let wrong = Dial { password: Some(Secret::new("wrong")), ..right.clone() };
    let poller = tokio::spawn(poll(wrong, Duration::from_millis(10), board.clone(), wake.clone(), clock));
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Refusing { code: "WRONGPASS".to_owned() }));
    // It would have tried four times by then.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    poller.abort();
    let refusals = group.primary().info("errorstats", "errorstat_WRONGPASS");
    assert_eq!(refusals.as_deref(), Some("count=1"));
    tokio::spawn(poll(right, Duration::from_millis(10), board.clone(), wake, clock));
    assert_eq!(next(&mut woken).await, Why::Replica(Pulse::Primary));
    assert!(!format!("{board:?}").contains("wrong"));
}

fn watch_sentinel(dial: Dial, group: &str) -> (Arc<Mutex<SentinelBoard>>, Receiver<Wake>) {
    let pace = Pace {
        ping_every: Duration::from_millis(50),
        answer: Duration::from_secs(1),
        away: (Duration::from_millis(20), Duration::from_millis(200)),
        settled: Duration::from_secs(1),
        refused: Duration::from_secs(30),
    };
    let board: Arc<Mutex<SentinelBoard>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(listen(dial, group.to_owned(), pace, board.clone(), wake, clock));
    (board, woken)
}

/// A Sentinel of a primary alone, which it does not hold down while a test runs.
fn sentinel(kind: Kind, lines: &[(&str, &str)]) -> (Group, Server) {
    let mut group = Group::builder(kind).sentinel_timers(60_000, 180_000).start().expect("a primary");
    let sentinel = group.add_sentinel(lines).expect("a Sentinel");
    (group, sentinel)
}

fn is_link(why: &Why, want: bool) -> bool {
    matches!(why, Why::SentinelLink { up, .. } if *up == want)
}

#[tokio::test]
async fn a_frozen_sentinel_is_noticed_and_heard_again() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let (_group, sentinel) = sentinel(kind, &[]);
    let (board, mut woken) = watch_sentinel(dial(&sentinel), "mymaster");
    assert!(is_link(&next(&mut woken).await, true));
    assert_eq!(board.lock().unwrap().connected(), 1);
    sentinel.freeze().unwrap();
    while !is_link(&next(&mut woken).await, false) {}
    assert_eq!(board.lock().unwrap().connected(), 0);
    let trouble = board.lock().unwrap().links[&endpoint(&sentinel)].trouble.clone();
    assert_eq!(trouble.as_deref(), Some("no answer in time"));
    sentinel.thaw().unwrap();
    while !is_link(&next(&mut woken).await, true) {}
}

#[tokio::test]
async fn events_of_the_group_wake_and_those_of_others_do_not() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut group = Group::builder(kind).sentinel_timers(300, 180_000).start().expect("a primary");
    let other = format!("monitor other {} 1", follows(&endpoint(group.primary())));
    let quick = ("sentinel", "down-after-milliseconds other 300");
    let sentinel = group.add_sentinel(&[("sentinel", &other), quick]).expect("a Sentinel");
    let (board, mut woken) = watch_sentinel(dial(&sentinel), "mymaster");
    assert!(is_link(&next(&mut woken).await, true));
    group.primary().kill9();
    let mut names = Vec::new();
    while !names.iter().any(|name| name == "-failover-abort-no-good-slave") {
        match next(&mut woken).await {
            Why::Sentinel(event) => {
                assert_ne!(event.group.as_deref(), Some("other"), "{event:?}");
                names.push(event.name);
            }
            other => panic!("{other:?}"),
        }
    }
    for name in ["+sdown", "+odown", "+new-epoch", "+try-failover", "+elected-leader"] {
        assert!(names.iter().any(|seen| seen == name), "{name} is not in {names:?}");
    }
    let link = board.lock().unwrap().links[&endpoint(&sentinel)].clone();
    assert_eq!(link.events["+sdown"], 1);
}

#[tokio::test]
async fn a_sentinel_that_grants_few_channels_is_heard_through_them() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let acl = "watcher on >pw resetchannels &+set &+switch-master -@all +ping +subscribe +psubscribe +client|setname";
    let (_group, sentinel) = sentinel(kind, &[("user", acl)]);
    let watcher = Dial { user: "watcher".to_owned(), password: Some(Secret::new("pw")), ..dial(&sentinel) };
    let (_board, mut woken) = watch_sentinel(watcher, "mymaster");
    assert!(is_link(&next(&mut woken).await, true));
    run(&sentinel, "SENTINEL SET mymaster down-after-milliseconds 4000");
    let Why::Sentinel(event) = next(&mut woken).await else { panic!("no event") };
    assert_eq!((event.name.as_str(), event.group.as_deref()), ("+set", Some("mymaster")));
}

#[tokio::test]
async fn a_sentinel_that_grants_nothing_is_told_with_the_rule_to_add() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let acl = "watcher on >pw resetchannels -@all +ping +subscribe +psubscribe";
    let (_group, sentinel) = sentinel(kind, &[("user", acl)]);
    let watcher = Dial { user: "watcher".to_owned(), password: Some(Secret::new("pw")), ..dial(&sentinel) };
    let (board, mut woken) = watch_sentinel(watcher, "mymaster");
    assert!(is_link(&next(&mut woken).await, false));
    let trouble = board.lock().unwrap().links[&endpoint(&sentinel)].trouble.clone().unwrap();
    assert!(trouble.contains("NOPERM") && trouble.contains("allchannels"), "{trouble}");
}
