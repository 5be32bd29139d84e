//! `kill -9` at each effect, on a real group: a relay in front of the server, of a Sentinel or of the receiver kills
//! relinkd at a word. After the next start nothing is lost, nothing is told under two names, and nothing that is not
//! safe to repeat is repeated.

mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Group, Kind, Server, fault};
use live::desk::Desk;
use live::tripwire::{Moment, Tripwire};
use live::{PATIENCE, Setup, on_each_server};
use rusqlite::{Connection, OpenFlags};

/// One agent of two hosts asks in its own turns only.
const TURNS: Duration = Duration::from_secs(90);

const PASSWORDS: [&str; 2] = ["old-password-1", "new-password-2"];

on_each_server! {
    killed_around_each_step =>
        killed_around_each_step_it_looks_anew_and_ends_what_it_began_redis_70,
        killed_around_each_step_it_looks_anew_and_ends_what_it_began_valkey_80;
    killed_around_a_message =>
        killed_around_a_message_it_sends_it_once_or_again_under_the_same_name_redis_70,
        killed_around_a_message_it_sends_it_once_or_again_under_the_same_name_valkey_80;
    killed_while_it_records =>
        killed_while_it_records_it_has_all_of_a_record_or_nothing_redis_70,
        killed_while_it_records_it_has_all_of_a_record_or_nothing_valkey_80;
    killed_around_a_preset =>
        killed_around_a_password_set_in_time_it_ends_what_it_began_redis_70,
        killed_around_a_password_set_in_time_it_ends_what_it_began_valkey_80;
    killed_around_a_repoint =>
        killed_around_a_repoint_it_looks_anew_and_ends_what_it_began_redis_70,
        killed_around_a_repoint_it_looks_anew_and_ends_what_it_began_valkey_80;
    killed_around_an_undo =>
        killed_around_an_undo_it_leaves_nothing_half_set_redis_70,
        killed_around_an_undo_it_leaves_nothing_half_set_valkey_80;
    killed_around_its_request =>
        killed_around_its_request_for_a_failover_one_is_made_redis_70,
        killed_around_its_request_for_a_failover_one_is_made_valkey_80;
}

/// The record as another process reads it.
struct Book(Connection);

impl Book {
    fn of(desk: &Desk) -> Book {
        let path = desk.agent.dir().join("state/ledger.db");
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        Book(connection)
    }

    fn number(&self, sql: &str) -> i64 {
        self.0.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Entries of a kind.
    fn count(&self, kind: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM entry WHERE kind = '{kind}'"))
    }

    fn wait(&self, what: &str, desk: &Desk, patience: Duration, until: impl Fn(&Book) -> bool) {
        let end = Instant::now() + patience;
        while !until(self) {
            assert!(Instant::now() < end, "{what}: not within {patience:?}\n{}", desk.agent.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// relinkd reaches its replica and its receiver through relays.
struct Wired {
    desk: Desk,
    replica: Tripwire,
    receiver: Tripwire,
    breaks: i64,
}

impl Wired {
    fn start(kind: Kind) -> Wired {
        let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORDS[0]).start().unwrap();
        Wired::with(group, PASSWORDS[0], "settle = \"200ms\"\n[policy.realign-auth]\ncooldown = \"1s\"")
    }

    fn with(group: Group, store: &str, policy: &str) -> Wired {
        let desk = Desk::new(group);
        desk.configure(&Setup { policy: policy.to_owned(), store: Some(store.to_owned()), ..Setup::default() });
        let address = desk.group.replica(0).address();
        let replica = Tripwire::before(&address);
        let url = desk.receiver.url();
        let receiver = Tripwire::before(url.trim_start_matches("http://").trim_end_matches('/'));
        let text = fs::read_to_string(desk.agent.config_path()).unwrap();
        let ours = format!("address = \"{}\"", replica.address());
        let text = text.replace(&format!("address = \"{address}\""), &ours);
        assert!(text.contains(&ours), "{text}");
        desk.agent.write_file("config.toml", &text).unwrap();
        desk.agent.write_file("url", &format!("http://{}/", receiver.address())).unwrap();
        let mut wired = Wired { desk, replica, receiver, breaks: 0 };
        wired.start_again();
        wired
    }

    fn start_again(&mut self) {
        self.desk.agent.start_again().unwrap();
        let end = Instant::now() + PATIENCE;
        let looked = |desk: &Desk| desk.run(&["status"]).exit != 69 || desk.agent.log().contains("cache: ");
        while !looked(&self.desk) {
            assert!(Instant::now() < end, "it does not start\n{}", self.desk.agent.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Breaks the link; the store has what mends it.
    fn break_link(&mut self) {
        self.breaks += 1;
        let password = PASSWORDS[usize::try_from(self.breaks).unwrap() % 2];
        self.desk.agent.write_file("masterauth", password).unwrap();
        fault::rotate_password(self.desk.group.primary(), password).unwrap().keep();
    }

    /// Dead at the armed word.
    fn dies(&mut self, when: &str, at: impl Fn(&Wired) -> &Tripwire) {
        assert!(at(self).wait_tripped(PATIENCE), "{when}: it never came\n{}", self.desk.agent.log());
        self.desk.agent.kill9();
    }

    /// The next life ends what the last one began.
    fn goes_on(&mut self, when: &str) {
        self.start_again();
        let up = self.desk.group.replica(0).wait_link_up(PATIENCE);
        assert!(up.is_some(), "{when}: no heal\n{}", self.desk.agent.log());
        let breaks = self.breaks;
        let book = Book::of(&self.desk);
        book.wait(when, &self.desk, PATIENCE, |book| {
            book.count("resolved") == breaks
                && book.number("SELECT count(*) FROM delivery WHERE state = 'waiting'") == 0
        });
        assert_eq!(book.count("opened"), breaks, "{when}: one break, one incident");
    }

    /// Everything that the record says was told has arrived, in order, each under one name.
    fn all_told(&self) {
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut order: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for request in self.desk.receiver.requests() {
            let message = request.json().unwrap();
            let id = message["id"].as_str().unwrap().to_owned();
            let key = request.header("webhook-id").unwrap().to_owned();
            seen.entry(key.clone()).or_default().insert(message.to_string());
            let number: i64 = key.rsplit('-').next().unwrap().parse().unwrap();
            let numbers = order.entry(id).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
        assert!(seen.values().all(|bodies| bodies.len() == 1), "one name, two messages: {seen:#?}");
        let book = Book::of(&self.desk);
        assert_eq!(i64::try_from(seen.len()).unwrap(), book.number("SELECT count(*) FROM notice"));
        assert_eq!(book.count("told"), book.number("SELECT count(*) FROM notice"));
        for (id, numbers) in order {
            let due: Vec<i64> = (1..=numbers.len()).map(|n| i64::try_from(n).unwrap()).collect();
            assert_eq!(numbers, due, "{id}");
        }
    }

    /// What a restart of the replica would bring.
    fn masterauth_on_disk(&self) -> String {
        let conf = fs::read_to_string(self.desk.group.replica(0).conf_path()).unwrap();
        // Valkey 8 writes the parameter under its new name.
        let value = |line| ["masterauth ", "primaryauth "].iter().find_map(|name| str::strip_prefix(line, name));
        let line = conf.lines().rev().find_map(value);
        line.unwrap_or_default().trim_matches('"').to_owned()
    }

    fn store(&self) -> String {
        fs::read_to_string(self.desk.agent.dir().join("masterauth")).unwrap()
    }

    fn masterauth(&self) -> String {
        let set: Vec<String> = self.desk.group.replica(0).query(&["CONFIG", "GET", "masterauth"]).unwrap();
        set[1].clone()
    }
}

/// `(intended, finished, ended)` so far.
fn recorded(book: &Book) -> (i64, i64, i64) {
    (book.count("intended"), book.count("finished"), book.count("ended"))
}

fn killed_around_each_step(kind: Kind) {
    let mut wired = Wired::start(kind);
    let book = Book::of(&wired.desk);
    // Finished steps of the plan when it dies, and intents that the break needs in all.
    let moments = [
        ("after the intent, before the step", "EXEC", Moment::Before, 0, 2),
        ("after the step, before its outcome is recorded", "EXEC", Moment::After, 0, 2),
        ("between two steps", "REWRITE", Moment::Before, 2, 2),
        ("after the last step, before its outcome is recorded", "REWRITE", Moment::After, 2, 2),
    ];
    for (when, word, moment, finished, intents) in moments {
        let (intended, finished_before, ended) = recorded(&book);
        let held = wired.masterauth();
        let pid = wired.desk.agent.pid().unwrap();
        wired.replica.arm(word, moment, pid);
        wired.break_link();
        wired.dies(when, |wired| &wired.replica);
        assert_eq!(recorded(&book), (intended + 1, finished_before + finished, ended), "{when}");
        let written = (word, moment) == ("REWRITE", Moment::After);
        assert_eq!(wired.masterauth_on_disk() == wired.store(), written, "{when}");
        let untouched = (word, moment) == ("EXEC", Moment::Before);
        assert_eq!(wired.masterauth() == held, untouched, "{when}");
        wired.goes_on(when);
        assert_eq!(book.count("intended"), intended + intents, "{when}: {}", wired.desk.agent.log());
        assert_ne!(wired.masterauth(), held, "{when}");
        assert_eq!(wired.masterauth_on_disk(), wired.store(), "{when}: a restart would bring back the old password");
    }
    assert_eq!(book.count("interrupted"), 4);
    wired.all_told();
}

/// The link is up, and the old password is taken away under it.
fn killed_around_a_preset(kind: Kind) {
    let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORDS[0]).start().unwrap();
    let policy = "settle = \"200ms\"\nbackground = \"1s\"\n[policy.realign-auth]\ncooldown = \"1s\"";
    let mut wired = Wired::with(group, PASSWORDS[0], policy);
    let book = Book::of(&wired.desk);
    for (when, moment) in [("before a password is set in time", Moment::Before), ("after it", Moment::After)] {
        let (intended, finished, ended) = recorded(&book);
        let held = wired.masterauth();
        wired.breaks += 1;
        let password = PASSWORDS[usize::try_from(wired.breaks).unwrap() % 2];
        wired.replica.arm("EXEC", moment, wired.desk.agent.pid().unwrap());
        wired.desk.agent.write_file("masterauth", password).unwrap();
        let primary = wired.desk.group.primary();
        primary.run(&["CONFIG", "SET", "requirepass", password]).unwrap();
        primary.set_admin_password(Some(password));
        wired.dies(when, |wired| &wired.replica);
        assert_eq!(recorded(&book), (intended + 1, finished, ended), "{when}");
        assert_eq!(wired.masterauth() == held, moment == Moment::Before, "{when}");
        assert!(wired.desk.group.replica(0).is_link_up(), "{when}: it was not touched");
        wired.goes_on(when);
        assert_eq!(book.count("intended"), intended + 2, "{when}: {}", wired.desk.agent.log());
        assert_eq!((wired.masterauth(), wired.masterauth_on_disk()), (wired.store(), wired.store()), "{when}");
    }
    assert_eq!(book.count("interrupted"), 2);
    wired.all_told();
}

fn killed_around_a_repoint(kind: Kind) {
    let group = Group::builder(kind).replicas(1).sentinels(1).sentinel_timers(1_000, 120_000).password(PASSWORDS[0]);
    let policy = "settle = \"200ms\"\n[policy.repoint]\nafter = \"500ms\"\ncooldown = \"1s\"";
    let mut wired = Wired::with(group.start().unwrap(), PASSWORDS[0], policy);
    let book = Book::of(&wired.desk);
    let right = wired.desk.group.primary().endpoint().1.to_string();
    let followed = |wired: &Wired| wired.desk.group.replica(0).info("replication", "master_port").unwrap();
    for (when, moment) in [("before REPLICAOF", Moment::Before), ("after REPLICAOF", Moment::After)] {
        let (intended, finished, ended) = recorded(&book);
        wired.breaks += 1;
        wired.replica.arm("REPLICAOF", moment, wired.desk.agent.pid().unwrap());
        fault::wrong_primary(wired.desk.group.replica(0), "127.0.0.1", 1).unwrap().keep();
        wired.dies(when, |wired| &wired.replica);
        assert_eq!(recorded(&book), (intended + 1, finished, ended), "{when}");
        assert_eq!(followed(&wired) == right, moment == Moment::After, "{when}");
        wired.goes_on(when);
        assert_eq!(followed(&wired), right, "{when}");
        let conf = fs::read_to_string(wired.desk.group.replica(0).conf_path()).unwrap();
        let line = conf.lines().rev().find(|line| line.starts_with("replicaof "));
        assert!(line.is_some_and(|line| line.ends_with(&right)), "{when}: a restart would follow {line:?}");
        assert_eq!(book.count("intended"), intended + 2, "{when}: {}", wired.desk.agent.log());
    }
    assert_eq!(book.count("interrupted"), 2);
    wired.all_told();
}

/// The password of the store is taken by every question and by no link. The former one was in memory only.
fn killed_around_an_undo(kind: Kind) {
    for (when, moment) in [("before the undo", Moment::Before), ("after the undo", Moment::After)] {
        let group = Group::builder(kind).replicas(1).sentinels(1).acl_user("repl", PASSWORDS[0]).start().unwrap();
        let store = format!("{{\"user\":\"trap\",\"password\":\"{}\"}}", PASSWORDS[1]);
        let mut wired = Wired::with(group, &store, "settle = \"200ms\"\n[policy.realign-auth]\ncooldown = \"1s\"");
        let book = Book::of(&wired.desk);
        let primary = wired.desk.group.primary().clone();
        let trap = ["ACL", "SETUSER", "trap", "on", &format!(">{}", PASSWORDS[1]), "+psync|?", "+replconf", "+ping"];
        // Tried once, and refused: before the link breaks it is not tried again.
        let standing = |desk: &Desk| desk.json(&["status"])["replicas"][0]["secret"]["standing"].clone();
        let end = Instant::now() + PATIENCE;
        while standing(&wired.desk) != "ahead" {
            assert!(Instant::now() < end, "{when}: {}\n{}", standing(&wired.desk), wired.desk.agent.log());
        }
        primary.run(&trap).unwrap();
        // Only the undo sets this user.
        wired.replica.arm("$4\r\nrepl\r\n", moment, wired.desk.agent.pid().unwrap());
        fault::user_off(&primary, "repl").unwrap().keep();
        wired.breaks += 1;
        wired.dies(when, |wired| &wired.replica);
        assert_eq!(recorded(&book), (1, 2, 0), "{when}: set, and not proved");
        let undone = moment == Moment::After;
        let user: Vec<String> = wired.desk.group.replica(0).query(&["CONFIG", "GET", "masteruser"]).unwrap();
        let both = (user[1].as_str(), wired.masterauth());
        let whole = if undone { ("repl", PASSWORDS[0].to_owned()) } else { ("trap", PASSWORDS[1].to_owned()) };
        assert_eq!(both, whole, "{when}: nothing is half set");
        primary.run(&["ACL", "SETUSER", "trap", "+psync"]).unwrap();
        wired.goes_on(when);
        assert_eq!(book.count("interrupted"), 1, "{when}");
        wired.all_told();
    }
}

fn killed_around_a_message(kind: Kind) {
    let mut wired = Wired::start(kind);
    for (when, moment) in [
        ("after the record, before the message is sent", Moment::Before),
        ("after the message was sent, before that is noted", Moment::After),
    ] {
        let before = wired.desk.receiver.requests().len();
        let pid = wired.desk.agent.pid().unwrap();
        wired.receiver.arm("POST", moment, pid);
        wired.break_link();
        wired.dies(when, |wired| &wired.receiver);
        let book = Book::of(&wired.desk);
        assert!(book.number("SELECT count(*) FROM delivery WHERE state = 'waiting'") > 0, "{when}");
        let arrived = wired.desk.receiver.requests().len() - before;
        assert_eq!(arrived, usize::from(moment == Moment::After), "{when}");
        wired.goes_on(when);
    }
    let keys: Vec<String> =
        wired.desk.receiver.requests().iter().map(|r| r.header("webhook-id").unwrap().to_owned()).collect();
    let names: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(keys.len(), names.len() + 1, "the one whose answer was lost came again: {keys:?}");
    wired.all_told();
}

/// SQLite's, and a frame of its log is a little more.
const PAGE: u64 = 4_096;

fn killed_while_it_records(kind: Kind) {
    let mut wired = Wired::start(kind);
    let path: PathBuf = wired.desk.agent.dir().join("state/ledger.db");
    // Another process holds the lock while the record waits for it.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    wired.break_link();
    wired.desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    wired.desk.agent.kill9();
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    assert_eq!(recorded(&Book::of(&wired.desk)), (0, 0, 0));
    wired.goes_on("while the ledger was locked");

    // In the middle of a write: as soon as the log of the database has grown by a page, by two, and so on.
    let wal = path.with_extension("db-wal");
    let size = || fs::metadata(&wal).map_or(0, |meta| meta.len());
    for growth in 1..=5_u64 {
        let pid = wired.desk.agent.pid().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let known = size();
        wired.break_link();
        let end = Instant::now() + PATIENCE;
        while size() < known + growth * PAGE {
            assert!(Instant::now() < end, "nothing is written\n{}", wired.desk.agent.log());
            std::hint::spin_loop();
        }
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wired.desk.agent.kill9();
        let sound: String = Book::of(&wired.desk).0.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        wired.goes_on(&format!("at write {growth}"));
    }
    wired.all_told();
}

/// The primary dies while no replica may be promoted: Sentinel gives up.
fn given_up(kind: Kind) -> Group {
    let builder = Group::builder(kind).replicas(2).sentinels(3).password(PASSWORDS[0]);
    let group = builder.sentinel_timers(2_000, 60_000).start().unwrap();
    group.primary().write(100, 100).unwrap();
    let offset = group.primary().offset();
    for replica in &group.nodes()[1..] {
        assert!(replica.wait_until(|replica| replica.offset() >= offset, PATIENCE).is_some());
    }
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "info-period", "500"]).unwrap();
    }
    priorities(&group, "0");
    group
}

fn priorities(group: &Group, priority: &str) {
    for replica in &group.nodes()[1..] {
        replica.run(&["CONFIG", "SET", "replica-priority", priority]).unwrap();
    }
    let known = |sentinel: &Server| {
        sentinel
            .sentinel_replicas()
            .is_ok_and(|all| all.iter().all(|one| one.get("slave-priority").map(String::as_str) == Some(priority)))
    };
    for sentinel in group.sentinels() {
        assert!(sentinel.wait_until(known, PATIENCE).is_some(), "Sentinels learn of the priority");
    }
}

/// Killed after it asked, it never asks again. Killed before, it cannot know that it has not: it rests, and asks once.
fn killed_around_its_request(kind: Kind) {
    for moment in [Moment::Before, Moment::After] {
        killed_at_its_request(kind, moment);
    }
}

fn killed_at_its_request(kind: Kind, moment: Moment) {
    let mut desk = Desk::new(given_up(kind));
    let policy = "[policy.request-failover]\nmode = \"auto\"\nafter = \"2s\"\ncooldown = \"1s\"".to_owned();
    desk.configure(&Setup { policy, ..Setup::default() });
    let mut text = fs::read_to_string(desk.agent.config_path()).unwrap();
    let mut wires = Vec::new();
    for sentinel in desk.group.sentinels() {
        let wire = Tripwire::before(&sentinel.address());
        text = text.replace(&format!("\"{}\"", sentinel.address()), &format!("\"{}\"", wire.address()));
        wires.push(wire);
    }
    desk.agent.start(&text).unwrap();
    desk.agent.wait_log("replicates from", PATIENCE).unwrap();
    let pid = desk.agent.pid().unwrap();
    wires.iter().for_each(|wire| wire.arm("FAILOVER\r\n", moment, pid));
    desk.group.primary().kill9();
    let gave_up = |sentinel: &Server| sentinel.log_text().contains("-failover-abort-");
    let end = Instant::now() + PATIENCE;
    while !desk.group.sentinels().iter().any(gave_up) {
        assert!(Instant::now() < end, "no Sentinel gave up");
        std::thread::sleep(Duration::from_millis(20));
    }
    priorities(&desk.group, "100");
    let asked = || wires.iter().map(|wire| wire.passed("FAILOVER\r\n")).sum::<usize>();
    let end = Instant::now() + TURNS;
    while !wires.iter().any(|wire| wire.wait_tripped(Duration::from_millis(5))) {
        assert!(Instant::now() < end, "it never asked\n{}", desk.agent.log());
    }
    desk.agent.kill9();
    assert_eq!(asked(), usize::from(moment == Moment::After));
    let book = Book::of(&desk);
    // A turn that was missed on a busy machine is a run that ended before it asked anybody.
    let (intended, _, ended) = recorded(&book);
    assert_eq!(intended, ended + 1, "the run that asked is open");
    desk.agent.start_again().unwrap();
    book.wait("the incident ends", &desk, TURNS, |book| book.count("resolved") == 1);
    assert_eq!((book.count("opened"), book.count("interrupted")), (1, 1));
    assert_eq!(book.count("intended") > intended, moment == Moment::Before, "{}", desk.agent.log());
    assert_eq!(asked(), 1, "{}", desk.agent.log());
    let primaries = desk.group.nodes()[1..].iter().filter(|node| node.is_primary()).count();
    assert_eq!(primaries, 1);
}
