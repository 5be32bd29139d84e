//! A client that writes without a pause to whom the Sentinels name, and remembers every write that was acknowledged.

use std::collections::HashSet;
use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::{Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult};

use crate::namespace::Host;
use crate::sentinel::GROUP_NAME;
use crate::server::Server;

const PAUSE: Duration = Duration::from_millis(5);
/// A client that lost its primary asks for it this often.
const ASK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_millis(500);

/// A gap between two acknowledged writes beyond this counts as time without a primary.
const GAP: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct Notes {
    /// Each with the number of the node that took it.
    acked: Vec<(u64, usize)>,
    last: Option<Instant>,
    without: Duration,
}

/// Ends when it is dropped.
pub struct Writer {
    notes: Arc<Mutex<Notes>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes from `host`, over the network.
    pub fn start(host: Host, sentinels: Vec<Server>, nodes: &[Server], password: &str) -> Writer {
        let nodes: Vec<(String, u16)> = nodes.iter().map(Server::endpoint).collect();
        let (notes, stop) = (Arc::<Mutex<Notes>>::default(), Arc::<AtomicBool>::default());
        let (shared, ended, password) = (Arc::clone(&notes), Arc::clone(&stop), password.to_owned());
        let thread = thread::spawn(move || {
            let _ = host.inside(|| {
                write(&sentinels, &nodes, &password, &shared, &ended);
                Ok(())
            });
        });
        Writer { notes, stop, thread: Some(thread) }
    }

    /// Begins to count anew: what was acknowledged before is somebody else's round.
    pub fn begin(&self) {
        let mut notes = self.notes();
        *notes = Notes { last: Some(Instant::now()), ..Notes::default() };
    }

    /// How long nobody took a write, up to now.
    pub fn without_primary(&self) -> Duration {
        let notes = self.notes();
        notes.without + open_gap(&notes)
    }

    /// How many writes were acknowledged, and how many of them `primary` does not hold, by the node that took them.
    pub fn lost(&self, primary: &Server, nodes: usize) -> Result<(usize, Vec<usize>)> {
        let acked = self.notes().acked.clone();
        let mut connection = primary.connect().map_err(std::io::Error::other)?;
        let mut lost = vec![0; nodes];
        for batch in acked.chunks(500) {
            let mut asked = redis::cmd("MGET");
            batch.iter().for_each(|(number, _)| {
                asked.arg(key(*number));
            });
            let held: Vec<Option<u64>> = asked.query(&mut connection).map_err(std::io::Error::other)?;
            let held: HashSet<u64> = held.into_iter().flatten().collect();
            for (_, node) in batch.iter().filter(|(number, _)| !held.contains(number)) {
                lost[*node] += 1;
            }
        }
        Ok((acked.len(), lost))
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open_gap(notes: &Notes) -> Duration {
    notes.last.map(|last| last.elapsed()).filter(|gap| *gap > GAP).unwrap_or_default()
}

fn key(number: u64) -> String {
    format!("chaos:{number}")
}

fn write(sentinels: &[Server], nodes: &[(String, u16)], password: &str, notes: &Mutex<Notes>, stop: &AtomicBool) {
    let mut kept: Option<(usize, Connection)> = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some((node, connection)) = kept.as_mut() else {
            kept = named(sentinels).and_then(|address| {
                let node = nodes.iter().position(|node| *node == address)?;
                Some((node, connect(&address, Some(password)).ok()?))
            });
            if kept.is_none() {
                thread::sleep(ASK);
            }
            continue;
        };
        number += 1;
        match redis::cmd("SET").arg(key(number)).arg(number).exec(connection) {
            Ok(()) => {
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                let gap = open_gap(&notes);
                notes.without += gap;
                notes.last = Some(Instant::now());
                notes.acked.push((number, *node));
                drop(notes);
                thread::sleep(PAUSE);
            }
            // Whatever was said, READONLY or nothing: look for the primary again.
            Err(_) => {
                kept = None;
                thread::sleep(ASK);
            }
        }
    }
}

/// What the first Sentinel that can be reached says, as clients do it.
fn named(sentinels: &[Server]) -> Option<(String, u16)> {
    sentinels.iter().find_map(|sentinel| {
        let mut connection = connect(&sentinel.endpoint(), None).ok()?;
        let asked = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(GROUP_NAME).query(&mut connection);
        asked.ok().flatten()
    })
}

fn connect((host, port): &(String, u16), password: Option<&str>) -> RedisResult<Connection> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let info = ConnectionAddr::Tcp(host.clone(), *port).into_connection_info()?.set_redis_settings(settings);
    let connection = redis::Client::open(info)?.get_connection_with_timeout(ANSWER)?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.set_write_timeout(Some(ANSWER))?;
    Ok(connection)
}
