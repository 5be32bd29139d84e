//! relinkd is killed, and the receiver is away or in no mood: no message is lost.

use super::*;

#[test]
fn kill_9_at_any_moment_loses_no_message_redis_70() {
    let Some(kind) = redis() else { return };
    let policy = "settle = \"200ms\"\n[policy.realign-auth]\ncooldown = \"1s\"".to_owned();
    let mut desk = at_work(group(kind), &Setup { policy, ..setup() });
    let mut passwords = [NEW, PASSWORD].into_iter().cycle();
    // From before the break is seen to after the heal: some of these fall between an intent and its end.
    for delay_ms in [5, 30, 60, 90, 120, 150, 180, 220] {
        let password = passwords.next().unwrap();
        desk.agent.write_file("masterauth", password).unwrap();
        fault::rotate_password(desk.group.primary(), password).unwrap().keep();
        std::thread::sleep(Duration::from_millis(delay_ms));
        desk.agent.kill9();
        desk.agent.start_again().unwrap();
        desk.group
            .replica(0)
            .wait_link_up(PATIENCE)
            .unwrap_or_else(|| panic!("{delay_ms}: no heal\n{}", desk.agent.log()));
        well(&desk, "the incident ends after a crash");
    }
    let incidents = desk.json(&["incidents"]);
    let incidents = incidents.as_array().unwrap();
    assert!(!incidents.is_empty() && incidents.len() <= 8, "{} incidents of 8 breaks", incidents.len());
    assert!(incidents.iter().all(|one| one["phase"] == "resolved"), "{incidents:#?}");
    // What the outbox holds is delivered: every message of the ledger, and nothing under two ids.
    let end = Instant::now() + PATIENCE;
    let book =
        rusqlite::Connection::open_with_flags(ledger(&desk), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = |sql: &str| book.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    while count("SELECT count(*) FROM delivery WHERE state = 'waiting'") > 0 {
        assert!(Instant::now() < end, "messages still wait\n{}", desk.agent.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let got: BTreeSet<_> = delivered(&desk).into_iter().collect();
    let ids: BTreeSet<_> = got.iter().map(|(id, ..)| id.clone()).collect();
    assert_eq!(ids.len(), got.len(), "one id, two messages: {got:#?}");
    assert_eq!(ids.len(), count("SELECT count(*) FROM notice"), "{got:#?}");
    is_sound(&mut desk);
}

/// The store takes its time, also when it is asked for the last time, between the intent and the change.
#[test]
fn kill_9_between_the_intent_and_the_change_is_found_interrupted_and_healed_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    let (store, slow) = (desk.agent.dir().join("store"), desk.agent.dir().join("slow"));
    let password = desk.agent.write_file("masterauth", NEW).unwrap();
    let script = format!("#!/bin/sh\n[ -e {} ] && sleep 1\ncat {}\n", slow.display(), password.display());
    fs::write(&store, script).unwrap();
    fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    desk.configure(&Setup {
        group: format!("masterauth = {{ exec = [\"{}\"] }}", store.display()),
        policy: "[policy.realign-auth]\ncooldown = \"1s\"".to_owned(),
        ..Setup::default()
    });
    desk.agent.start_again().unwrap();
    well(&desk, "watching");
    fs::write(&slow, "").unwrap();
    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();

    let book =
        rusqlite::Connection::open_with_flags(ledger(&desk), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    book.busy_timeout(PATIENCE).unwrap();
    let count = |kind: &str| {
        let sql = "SELECT count(*) FROM entry WHERE kind = ?";
        book.query_row(sql, [kind], |row| row.get::<_, i64>(0)).unwrap()
    };
    let end = Instant::now() + PATIENCE;
    while count("intended") == 0 {
        assert!(Instant::now() < end, "no intent\n{}", desk.agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    desk.agent.kill9();
    assert_eq!((count("finished"), count("ended")), (0, 0), "too late: the step was over");
    let held: Vec<String> = desk.group.replica(0).query(&["CONFIG", "GET", "masterauth"]).unwrap();
    assert_eq!(held[1], PASSWORD, "nothing was changed yet");
    let incident = desk.json(&["incidents"])[0]["id"].clone();
    let before = delivered(&desk);

    fs::remove_file(&slow).unwrap();
    desk.agent.start_again().unwrap();
    assert_eq!(told(&desk, "resolved")["id"], incident, "the incident goes on");
    assert!(desk.group.replica(0).is_link_up());
    assert_eq!((count("interrupted"), count("opened")), (1, 1), "{}", desk.agent.log());
    let after: BTreeSet<_> = delivered(&desk).into_iter().collect();
    let ids: BTreeSet<_> = after.iter().map(|(id, ..)| id.clone()).collect();
    assert_eq!(ids.len(), after.len(), "one id, two messages: {after:#?}");
    assert!(before.iter().all(|message| after.contains(message)));
    is_sound(&mut desk);
}

#[test]
fn a_receiver_that_is_down_gets_its_messages_later_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = Desk::new(group(kind));
    desk.configure(&setup());
    // A port that was free a moment ago, and where nobody listens yet.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    desk.agent.write_file("url", &format!("http://{address}/hook")).unwrap();
    desk.agent.start_again().unwrap();
    well(&desk, "watching");
    rotate(&desk);
    desk.agent.wait_log("not delivered", PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).expect("a dead channel delays no heal");
    let id = desk.json(&["incidents"])[0]["id"].as_str().unwrap().to_owned();
    desk.agent.kill9();
    desk.receiver = lab::Receiver::bind(address).unwrap();
    desk.agent.start_again().unwrap();
    assert_eq!(told(&desk, "opened")["id"], id.as_str());
    assert_eq!(told(&desk, "resolved")["id"], id.as_str());
    let order: Vec<String> = delivered(&desk).into_iter().map(|(_, _, event)| event).collect();
    assert_eq!((order.first().unwrap().as_str(), order.last().unwrap().as_str()), ("opened", "resolved"));
}

#[test]
fn a_receiver_that_asks_for_patience_gets_it_redis_70() {
    let Some(kind) = redis() else { return };
    let desk = at_work(group(kind), &setup());
    desk.receiver.answer_next([Answer::status(429).header("Retry-After", "2")]);
    rotate(&desk);
    let requests = desk.receiver.wait_for(2, PATIENCE).unwrap_or_else(|| panic!("{}", desk.agent.log()));
    let id = |n: usize| requests[n].header("webhook-id").unwrap().to_owned();
    assert_eq!(id(0), id(1), "the same message again");
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_secs(2), "Retry-After was not waited for: {pause:?}");
}
