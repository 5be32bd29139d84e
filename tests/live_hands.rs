//! The hands by themselves, on real servers: what they read again before a change, in which order, and what they leave
//! alone. A relay lets the world move in the middle of a step.

mod live;

use std::thread;
use std::time::Duration;

use lab::{Group, Kind, Node, Server, fault};
use live::relay::on_word;
use live::{PATIENCE, on_each_server};
use relinkd::act::Hands;
use relinkd::model::Endpoint;
use relinkd::model::remedy::{Change, Handover, Outcome, Precondition, Step};
use relinkd::secrets::{Salt, Secret, SecretRef};
use relinkd::wire::Dial;

fn endpoint(server: &Server) -> Endpoint {
    let (host, port) = server.endpoint();
    Endpoint::new(host, port)
}

fn dial(endpoint: Endpoint, password: Option<&str>) -> Dial {
    Dial { password: password.map(Secret::new), ..Dial::plain(endpoint) }
}

fn step(expect: Precondition, change: Change) -> Step {
    Step { expect, change, within_ms: 2_000 }
}

fn run(hands: &mut Hands, step: &Step) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(hands.run(step, None))
}

/// Two primaries without a password; the first has data.
fn two_primaries(kind: Kind) -> Group {
    let group = Group::builder(kind).replicas(1).sentinels(0).start().expect("a group");
    group.primary().write(10, 100).expect("data");
    let offset = group.primary().offset();
    assert!(group.replica(0).wait_until(|replica| replica.offset() >= offset, PATIENCE).is_some());
    group.replica(0).run(&["REPLICAOF", "NO", "ONE"]).expect("a second primary");
    group
}

fn give_way(former: &Server, to: Endpoint) -> Step {
    let limit = i64::try_from(former.offset().expect("an offset")).expect("a small one");
    let expect = Precondition { leads_up_to: Some(limit), is_primary: Some(to.clone()), ..Precondition::default() };
    step(expect, Change::Repoint { to, discards: 0 })
}

/// A client writes to a former primary while the new one is asked for its role, far away: nothing is thrown away unasked.
fn writes_during_the_last_questions(kind: Kind) {
    let group = two_primaries(kind);
    let former = group.primary().clone();
    let writing = former.clone();
    let far = on_word(group.replica(0), "ROLE", move || writing.write(1, 100).expect("a write"));
    let mut hands = Hands::new(Dial::plain(endpoint(&former)), Vec::new(), None, None, Salt::fleeting());
    let outcome = run(&mut hands, &give_way(&former, far));
    let told = matches!(&outcome, Outcome::PreconditionGone(why) if why.contains("more than the plan allows"));
    assert!(told && former.is_primary(), "{outcome:?}");
}

/// What is written behind the last look is lost; it is told how much that was, and a long gap makes no change at all.
fn writes_behind_the_last_look(kind: Kind) {
    let attempt = |gap: Duration, changes: bool| {
        let group = two_primaries(kind);
        let former = group.primary().clone();
        let (plan, writing) = (give_way(&former, endpoint(group.replica(0))), former.clone());
        let word = if changes { "MULTI" } else { "INFO" };
        let local = on_word(&former, word, move || {
            thread::sleep(gap);
            writing.write(1, 100).expect("a write");
        });
        // The answer to INFO is late, and the write came before it: what the plan allows is another matter here.
        let allowed = if changes { plan.expect.leads_up_to } else { Some(i64::MAX) };
        let plan = Step { expect: Precondition { leads_up_to: allowed, ..plan.expect }, ..plan };
        let mut hands = Hands::new(Dial::plain(local), Vec::new(), None, None, Salt::fleeting());
        let outcome = run(&mut hands, &plan);
        assert_eq!(former.is_primary(), !matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
        outcome
    };
    let held = |outcome: &Outcome| matches!(outcome, Outcome::PreconditionGone(why) if why.contains("not sent"));
    let late = attempt(Duration::from_millis(300), false);
    assert!(held(&late), "{late:?}");
    // On a busy machine the last look may lie too far back by itself, and then nothing is changed either.
    let mut soon = attempt(Duration::ZERO, true);
    for _ in 0..2 {
        if held(&soon) {
            soon = attempt(Duration::ZERO, true);
        }
    }
    let told =
        matches!(&soon, Outcome::Changed(told) if told.contains("bytes of writes that it took in the last moment"));
    assert!(told, "{soon:?}");
}

fn masterauth(replica: &Server) -> String {
    replica.query::<Vec<String>>(&["CONFIG", "GET", "masterauth"]).expect("the parameter")[1].clone()
}

/// An undo while the Sentinels cannot be asked, or are at work: the login goes back, and the link is left alone. When its
/// precondition is gone for another reason the login is kept, and can be put back later.
fn an_undo_that_may_not_touch_the_link(kind: Kind) {
    let group = Group::builder(kind).replicas(1).sentinels(1).password("first").start().expect("a group");
    let replica = group.replica(0);
    fault::rotate_password(group.primary(), "second").expect("rotated").keep();
    replica.wait_link_down(PATIENCE).expect("the link is down");
    let file = group.dir().join("offered");
    std::fs::write(&file, "third").expect("a store");
    let salt = Salt::fleeting();
    let (print, primary) = (Secret::new("third").print(&salt), endpoint(group.primary()));
    let sentinels = vec![Dial::plain(endpoint(group.sentinel(0)))];
    let store = Some(SecretRef::File(file));
    let local = dial(endpoint(replica), Some("first"));
    let mut hands = Hands::new(local, sentinels, Some("mymaster".to_owned()), store, salt);
    let bounces = || replica.log_text().matches("127.0.0.1:1 ").count();
    let expect = Precondition {
        replica_of: Some(primary.clone()),
        link_down: true,
        sentinels_name: Some(primary.clone()),
        no_failover: true,
        ..Precondition::default()
    };
    let change = Change::RealignAuth {
        source: "file".into(),
        version: "1".into(),
        print,
        user: String::new(),
        bounce_to: primary.clone(),
    };
    let outcome = run(&mut hands, &step(expect.clone(), change));
    assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
    let bounced = bounces();
    assert_eq!((masterauth(replica).as_str(), bounced > 0), ("third", true));

    let undo = |expect: Precondition| step(expect, Change::RestoreAuth { bounce_to: primary.clone() });
    let other = Precondition { run_id: Some("another process".into()), ..expect.clone() };
    let gone = run(&mut hands, &undo(other));
    assert!(matches!(gone, Outcome::PreconditionGone(_)), "{gone:?}");
    assert_eq!(masterauth(replica), "third");

    group.sentinel(0).kill9();
    let outcome = run(&mut hands, &undo(expect.clone()));
    let told =
        matches!(&outcome, Outcome::Changed(told) if told.contains("the link was left alone: only 0 of 1 Sentinels"));
    assert!(told, "{outcome:?}");
    assert_eq!((masterauth(replica).as_str(), bounces()), ("first", bounced));
    let again = run(&mut hands, &undo(expect));
    assert!(matches!(&again, Outcome::Failed(why) if why.contains("not known any more")), "{again:?}");
}

/// Somebody promotes the replica while the Sentinels are asked. Then one Sentinel holds the primary down, and another one a
/// server of its own: that is no majority that holds this one down.
#[test]
fn what_has_changed_meanwhile_and_what_is_said_of_another_primary_valkey_80() {
    let Some(kind) = lab::require(Kind::Valkey80) else { return };
    let builder = Group::builder(kind).replicas(1).sentinels(3).password("first").sentinel_timers(2_000, 60_000);
    let group = builder.config_of(Node::Replica(0), "replica-priority", "0").start().expect("a group");
    let (primary, replica) = (endpoint(group.primary()), group.replica(0).clone());
    let hands = |sentinels: [Endpoint; 3]| {
        let local = dial(endpoint(group.replica(0)), Some("first"));
        let sentinels = sentinels.into_iter().map(Dial::plain).collect();
        Hands::new(local, sentinels, Some("mymaster".to_owned()), None, Salt::fleeting())
    };
    let [one, two, three] = [0, 1, 2].map(|number| group.sentinel(number));
    let promoted = replica.clone();
    let told = on_word(one, "SENTINEL", move || _ = promoted.run(&["REPLICAOF", "NO", "ONE"]).expect("promoted"));
    let expect = Precondition {
        replica_of: Some(primary.clone()),
        sentinels_name: Some(primary.clone()),
        no_failover: true,
        ..Precondition::default()
    };
    let bounce = step(expect, Change::BounceLink { to: primary.clone() });
    let outcome = run(&mut hands([told, endpoint(two), endpoint(three)]), &bounce);
    let gone = matches!(&outcome, Outcome::PreconditionGone(why) if why.contains("not a replica any more"));
    assert!(gone && replica.is_primary(), "{outcome:?}");

    let (host, port) = lab::closed_port().expect("a port");
    three.run(&["SENTINEL", "REMOVE", "mymaster"]).expect("forgotten");
    three.run(&["SENTINEL", "MONITOR", "mymaster", &host, &port.to_string(), "2"]).expect("watched");
    three.run(&["SENTINEL", "SET", "mymaster", "down-after-milliseconds", "1000"]).expect("soon");
    // It may come out of a failover that the others have not heard of.
    let since = Precondition { sentinels_name: Some(primary.clone()), no_failover: true, ..Precondition::default() };
    let outcome = run(&mut hands([one, two, three].map(endpoint)), &step(since, Change::Persist));
    let doubted =
        matches!(&outcome, Outcome::PreconditionGone(why) if why.contains(&format!("names {host}:{port} now")));
    assert!(doubted, "{outcome:?}");

    let locked_out = |sentinel: &Server| sentinel.run(&["SENTINEL", "SET", "mymaster", "auth-pass", "wrong"]).map(drop);
    let holds_down = |sentinel: &Server| {
        let down = |it: &Server| it.sentinel_field("flags").is_some_and(|flags| flags.contains("s_down"));
        assert!(sentinel.wait_until(down, PATIENCE).is_some(), "{}", sentinel.log_text());
    };
    locked_out(one).expect("a wrong password");
    holds_down(one);
    holds_down(three);
    let expect = Precondition { sentinels_name: Some(primary), primary_down: true, ..Precondition::default() };
    // Nobody is on the list of those to ask.
    let change = Change::RequestFailover { group: "mymaster".into(), sentinels: Vec::new(), how: Handover::Lost };
    let request = step(expect, change);
    let mut hands = hands([one, two, three].map(endpoint));
    let outcome = run(&mut hands, &request);
    let few =
        matches!(&outcome, Outcome::PreconditionGone(why) if why.contains("1 of 3 Sentinels hold the primary down"));
    assert!(few, "{outcome:?}");
    locked_out(two).expect("a wrong password");
    holds_down(two);
    let outcome = run(&mut hands, &request);
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("no Sentinel could be reached")), "{outcome:?}");
}

on_each_server! {
    writes_during_the_last_questions =>
        writes_during_the_last_questions_are_not_thrown_away_redis_70,
        writes_during_the_last_questions_are_not_thrown_away_valkey_80;
    writes_behind_the_last_look =>
        writes_behind_the_last_look_are_counted_redis_70, writes_behind_the_last_look_are_counted_valkey_80;
    an_undo_that_may_not_touch_the_link =>
        an_undo_leaves_the_link_alone_while_sentinels_are_at_work_redis_70,
        an_undo_leaves_the_link_alone_while_sentinels_are_at_work_valkey_80;
}
