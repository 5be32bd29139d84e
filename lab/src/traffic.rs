//! Clients at work while a group's password changes: logins with the old one and with the new, writes that are counted
//! when they are acknowledged, and eyes on every link.
//!
//! What counts as refused: a login with the old password before [`Traffic::retire_old`], and one with the new after the
//! node has once taken it. A link that reads other than up is down for as long as it takes until it reads up again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::{Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult};

use crate::group::Group;
use crate::link::{command, field_of};
use crate::server::Server;

const PAUSE: Duration = Duration::from_millis(4);
const LOOK: Duration = Duration::from_millis(2);
const ANSWER: Duration = Duration::from_secs(5);

/// What a login is made with; an empty user is the default user.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Login {
    pub fn of(password: &str) -> Login {
        Login { user: String::new(), password: password.to_owned() }
    }
}

#[derive(Debug, Default)]
struct Counters {
    logins: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    acked: AtomicU64,
    write_errors: AtomicU64,
    down_us: AtomicU64,
    falls: AtomicU64,
    longest_us: AtomicU64,
    stop: AtomicBool,
    old_is_retired: AtomicBool,
    /// Clients that still log in with the old password.
    old_at_work: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl Counters {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn fell(&self, since: Instant) {
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        Counters::add(&self.down_us, us);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, text: String) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < 10 {
            texts.push(text);
        }
    }
}

/// What the clients met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    pub logins: u64,
    pub refused: u64,
    /// Logins that nobody answered in time: no refusal, and no login either.
    pub unanswered: u64,
    pub acked: u64,
    pub write_errors: u64,
    /// Summed over all replicas.
    pub link_down: Duration,
    pub link_falls: u64,
    pub longest_fall: Duration,
    /// Events of the Sentinels.
    pub sdown: u64,
    pub full_resyncs: u64,
    /// Acknowledged writes that the primary of the Sentinels does not have at the end.
    pub lost: u64,
    /// The first refusals, for a person.
    pub texts: Vec<String>,
}

pub struct Traffic {
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
    sdown: u64,
    full: u64,
    written: u64,
}

impl Traffic {
    /// On every node a client with each login, a writer on the primary, and an eye on each replica. The key that is
    /// written is `key`, so that one group may serve several runs.
    pub fn start(group: &Group, old: &Login, new: &Login, key: &str) -> RedisResult<Traffic> {
        let counters: Arc<Counters> = Arc::default();
        let mut threads = Vec::new();
        for node in group.nodes() {
            for (login, is_old) in [(old, true), (new, false)] {
                let (node, login, counters) = (node.clone(), login.clone(), Arc::clone(&counters));
                Counters::add(&counters.old_at_work, u64::from(is_old));
                threads.push(std::thread::spawn(move || log_in(&node, &login, is_old, &counters)));
            }
        }
        for replica in group.nodes().iter().filter(|node| !node.is_primary()) {
            let mut connection = replica.connect()?;
            let counters = Arc::clone(&counters);
            threads.push(std::thread::spawn(move || look(&mut connection, &counters)));
        }
        let primary = group.nodes().iter().find(|node| node.is_primary()).unwrap_or_else(|| group.primary());
        let mut connection = primary.connect()?;
        let written: Option<u64> = command(&["GET", key]).query(&mut connection)?;
        let (key, of_writer) = (key.to_owned(), Arc::clone(&counters));
        threads.push(std::thread::spawn(move || write(&mut connection, &key, &of_writer)));
        Ok(Traffic { counters, threads, sdown: sdown(group), full: full(group)?, written: written.unwrap_or(0) })
    }

    /// The clients with the old password go away: from here on a refused one is part of the plan. Returns when none of
    /// them has a login under way, which on a busy machine may have been begun long before.
    pub fn retire_old(&self) {
        self.counters.old_is_retired.store(true, Ordering::Relaxed);
        let ends = Instant::now() + 2 * ANSWER;
        while self.counters.old_at_work.load(Ordering::Relaxed) > 0 && Instant::now() < ends {
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends all clients, and counts.
    pub fn end(self, group: &Group, key: &str) -> RedisResult<Met> {
        self.counters.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        let all = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let acked = read(&all.acked);
        // An old primary that Sentinel cannot reach goes on as one; what it takes is lost to the group.
        let primary = group.current_primary().unwrap_or_else(|| group.primary());
        let stands: Option<u64> = patiently(|| primary.query(&["GET", key]))?;
        Ok(Met {
            logins: read(&all.logins),
            refused: read(&all.refused),
            unanswered: read(&all.unanswered),
            acked,
            write_errors: read(&all.write_errors),
            link_down: Duration::from_micros(read(&all.down_us)),
            link_falls: read(&all.falls),
            longest_fall: Duration::from_micros(read(&all.longest_us)),
            sdown: sdown(group).saturating_sub(self.sdown),
            full_resyncs: full(group)?.saturating_sub(self.full),
            lost: (self.written + acked).saturating_sub(stands.unwrap_or(0)),
            texts: all.texts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}

/// `+sdown` in the Sentinels' logs.
fn sdown(group: &Group) -> u64 {
    group.sentinels().iter().map(|sentinel| sentinel.log_text().matches(" +sdown ").count() as u64).sum()
}

fn full(group: &Group) -> RedisResult<u64> {
    let of = |node: &Server| patiently(|| node.query::<String>(&["INFO", "stats"]));
    let count = |text: String| field_of(&text, "sync_full").and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    group.nodes().iter().map(|node| of(node).map(count)).sum()
}

/// A server that loads a data set, or waits for its disk, may take longer than the lab waits for one answer.
fn patiently<T>(ask: impl Fn() -> RedisResult<T>) -> RedisResult<T> {
    let slow = |answer: &RedisResult<T>| answer.as_ref().is_err_and(redis::RedisError::is_timeout);
    (0..4).map(|_| ask()).find(|answer| !slow(answer)).unwrap_or_else(&ask)
}

fn dial(node: &Server) -> RedisResult<Connection> {
    let (host, port) = node.endpoint();
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let info = ConnectionAddr::Tcp(host, port).into_connection_info()?.set_redis_settings(settings);
    let connection = redis::Client::open(info)?.get_connection_with_timeout(ANSWER)?;
    connection.set_read_timeout(Some(ANSWER))?;
    Ok(connection)
}

fn log_in(node: &Server, login: &Login, is_old: bool, counters: &Counters) {
    let mut taken_once = is_old;
    let words: Vec<&str> =
        [login.user.as_str(), login.password.as_str()].into_iter().filter(|w| !w.is_empty()).collect();
    let retired = || is_old && counters.old_is_retired.load(Ordering::Relaxed);
    while counters.goes_on() && !retired() {
        let taken = dial(node).and_then(|mut connection| redis::cmd("AUTH").arg(&words).query::<()>(&mut connection));
        match taken {
            Ok(()) => {
                taken_once = true;
                Counters::add(&counters.logins, 1);
            }
            Err(error) if taken_once && counters.goes_on() => {
                Counters::add(&counters.logins, 1);
                let which = if is_old { "old" } else { "new" };
                let (counter, said) = match error.code() {
                    Some(code) => (&counters.refused, code.to_owned()),
                    None => (&counters.unanswered, error.to_string()),
                };
                Counters::add(counter, 1);
                counters.note(format!("{which} at {}: {said}", node.address()));
            }
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
    if is_old {
        counters.old_at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

fn write(connection: &mut Connection, key: &str, counters: &Counters) {
    while counters.goes_on() {
        let done: RedisResult<u64> = redis::cmd("INCR").arg(key).query(connection);
        match done {
            Ok(_) => Counters::add(&counters.acked, 1),
            Err(error) => {
                Counters::add(&counters.write_errors, 1);
                counters.note(format!("write: {:?}", error.code().unwrap_or("no answer")));
                std::thread::sleep(PAUSE);
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn look(connection: &mut Connection, counters: &Counters) {
    let mut down_since: Option<Instant> = None;
    while counters.goes_on() {
        if let Ok(text) = command(&["INFO", "replication"]).query::<String>(connection) {
            let up = field_of(&text, "master_link_status") == Some("up");
            match (up, down_since) {
                (false, None) => {
                    down_since = Some(Instant::now());
                    Counters::add(&counters.falls, 1);
                }
                (true, Some(since)) => {
                    down_since = None;
                    counters.fell(since);
                }
                _ => {}
            }
        }
        std::thread::sleep(LOOK);
    }
    if let Some(since) = down_since {
        counters.fell(since);
    }
}
