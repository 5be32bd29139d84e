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
    killed_after_it_asked =>
        killed_after_it_asked_for_a_failover_it_never_asks_again_redis_70,
        killed_after_it_asked_for_a_failover_it_never_asks_again_valkey_80;
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

    fn wait(&self, what: &str, desk: &Desk, until: impl Fn(&Book) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !until(self) {
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}\n{}", desk.agent.log());
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
        let desk = Desk::new(group);
        let policy = "settle = \"200ms\"\n[policy.realign-auth]\ncooldown = \"1s\"".to_owned();
        desk.configure(&Setup { policy, store: Some(PASSWORDS[0].to_owned()), ..Setup::default() });
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
        book.wait(when, &self.desk, |book| {
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

    // In the middle of a write: as soon as the log of the database grows.
    let wal = path.with_extension("db-wal");
    let size = || fs::metadata(&wal).map_or(0, |meta| meta.len());
    for growth in 1..=5_u64 {
        let pid = wired.desk.agent.pid().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        wired.break_link();
        let end = Instant::now() + PATIENCE;
        for _ in 0..growth {
            let known = size();
            while size() == known {
                assert!(Instant::now() < end, "nothing is written\n{}", wired.desk.agent.log());
                std::hint::spin_loop();
            }
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

fn killed_after_it_asked(kind: Kind) {
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
    wires.iter().for_each(|wire| wire.arm("FAILOVER\r\n", Moment::After, pid));
    desk.group.primary().kill9();
    let gave_up = |sentinel: &Server| sentinel.log_text().contains("-failover-abort-");
    let end = Instant::now() + PATIENCE;
    while !desk.group.sentinels().iter().any(gave_up) {
        assert!(Instant::now() < end, "no Sentinel gave up");
        std::thread::sleep(Duration::from_millis(20));
    }
    priorities(&desk.group, "100");
    let asked = || wires.iter().map(|wire| wire.passed("FAILOVER\r\n")).sum::<usize>();
    let end = Instant::now() + 2 * PATIENCE;
    while asked() == 0 {
        assert!(Instant::now() < end, "it never asked\n{}", desk.agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(wires.iter().any(|wire| wire.wait_tripped(Duration::from_secs(2))));
    desk.agent.kill9();
    let book = Book::of(&desk);
    // A turn that was missed on a busy machine is a run that ended before it asked anybody.
    let (intended, _, ended) = recorded(&book);
    assert_eq!(intended, ended + 1, "the run that asked is open");
    desk.agent.start_again().unwrap();
    book.wait("the incident ends", &desk, |book| book.count("resolved") == 1);
    assert_eq!((book.count("opened"), book.count("intended"), book.count("interrupted")), (1, intended, 1));
    assert_eq!(asked(), 1, "{}", desk.agent.log());
    let primaries = desk.group.nodes()[1..].iter().filter(|node| node.is_primary()).count();
    assert_eq!(primaries, 1);
}
