//! What was true while a round went on, seen through the lab's own way to each server, which no fault touches.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::link::{command, field_of};
use crate::server::Server;

const LOOK: Duration = Duration::from_millis(100);

/// One look at all data nodes.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Timestamp,
    /// By node: none where it did not answer.
    pub nodes: Vec<Option<Standing>>,
    /// Nodes whose `masterauth` is not the group's password.
    pub stale: Vec<usize>,
    /// Which node most Sentinels name.
    pub named: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Primary,
    LinkUp,
    LinkDown,
}

/// What a Sentinel wrote into its log, by the time at which the witness read it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Timestamp,
    pub sentinel: usize,
    pub what: Line,
}

/// The lines are the same from Redis 7.0.15 to Valkey 9.1 (sentinel.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It begins a failover, its own or one that it was asked for.
    Tries,
    GivesUp,
    /// Somebody asked it for a failover, and it said OK.
    Asked,
}

const LINES: [(&str, Line); 3] = [
    ("+try-failover", Line::Tries),
    ("-failover-abort-", Line::GivesUp),
    ("Executing user requested FAILOVER", Line::Asked),
];

#[derive(Debug, Default)]
struct Notes {
    samples: Vec<Sample>,
    heard: Vec<Heard>,
    /// Time with a broken link, added up over the replicas that answered.
    broken: Duration,
}

/// Ends when it is dropped.
pub struct Witness {
    notes: Arc<Mutex<Notes>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub fn start(nodes: Vec<Server>, sentinels: Vec<Server>, password: &'static str) -> Witness {
        let (notes, stop) = (Arc::<Mutex<Notes>>::default(), Arc::<AtomicBool>::default());
        let (shared, ended) = (Arc::clone(&notes), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut last = Instant::now();
            let mut read = vec![0; sentinels.len()];
            while !ended.load(Ordering::Relaxed) {
                let sample = look(&nodes, &sentinels, password);
                let spent = last.elapsed();
                last = Instant::now();
                let mut heard = Vec::new();
                for (number, (sentinel, read)) in sentinels.iter().zip(&mut read).enumerate() {
                    let fresh = new_lines(sentinel, read);
                    let at = Timestamp::now();
                    heard.extend(lines(&fresh).map(|what| Heard { at, sentinel: number, what }));
                }
                let broken = sample.nodes.iter().flatten().filter(|one| **one == Standing::LinkDown).count();
                let mut notes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                notes.broken += spent * u32::try_from(broken).unwrap_or(0);
                notes.samples.push(sample);
                notes.heard.append(&mut heard);
                drop(notes);
                thread::sleep(LOOK);
            }
        });
        Witness { notes, stop, thread: Some(thread) }
    }

    pub fn begin(&self) {
        *self.notes() = Notes::default();
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.notes().samples.clone()
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.notes().heard.clone()
    }

    pub fn broken(&self) -> Duration {
        self.notes().broken
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(nodes: &[Server], sentinels: &[Server], password: &str) -> Sample {
    let addresses: Vec<(String, u16)> = sentinels.iter().filter_map(Server::sentinel_primary).collect();
    let named = nodes
        .iter()
        .position(|node| addresses.iter().filter(|address| **address == node.endpoint()).count() * 2 > sentinels.len());
    let seen: Vec<Option<(Standing, String)>> = nodes.iter().map(standing).collect();
    let stale = seen.iter().enumerate().filter(|(_, one)| one.as_ref().is_some_and(|(_, held)| held != password));
    let stale = stale.map(|(number, _)| number).collect();
    let nodes = seen.into_iter().map(|one| one.map(|(standing, _)| standing)).collect();
    Sample { at: Timestamp::now(), nodes, stale, named }
}

/// What a server wrote into its log since the last time, as far as its lines are whole.
fn new_lines(server: &Server, read: &mut u64) -> String {
    let mut fresh = Vec::new();
    let rest = File::open(server.log_path()).and_then(|mut log| {
        log.seek(SeekFrom::Start(*read))?;
        log.read_to_end(&mut fresh)
    });
    let whole = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    fresh.truncate(whole);
    if rest.is_ok() {
        *read += whole as u64;
    }
    String::from_utf8_lossy(&fresh).into_owned()
}

fn lines(text: &str) -> impl Iterator<Item = Line> {
    text.lines().filter_map(|line| LINES.iter().find(|(words, _)| line.contains(words)).map(|(_, what)| *what))
}

/// How a node stands, and the password that it would log in to a primary with.
fn standing(node: &Server) -> Option<(Standing, String)> {
    // A frozen server would hold the look up; whoever is stopped is not asked.
    if node.is_stopped() {
        return None;
    }
    let mut connection = node.connect().ok()?;
    let text: String = command(&["INFO", "replication"]).query(&mut connection).ok()?;
    let held: Vec<String> = command(&["CONFIG", "GET", "masterauth"]).query(&mut connection).ok()?;
    let standing = match (field_of(&text, "role"), field_of(&text, "master_link_status")) {
        (Some("master"), _) => Standing::Primary,
        (_, Some("up")) => Standing::LinkUp,
        _ => Standing::LinkDown,
    };
    Some((standing, held.into_iter().nth(1).unwrap_or_default()))
}
