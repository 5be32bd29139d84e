//! What was true while a round went on, seen through the lab's own way to each server, which no fault touches.

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

#[derive(Debug, Default)]
struct Notes {
    samples: Vec<Sample>,
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
            while !ended.load(Ordering::Relaxed) {
                let sample = look(&nodes, &sentinels, password);
                let spent = last.elapsed();
                last = Instant::now();
                let broken = sample.nodes.iter().flatten().filter(|one| **one == Standing::LinkDown).count();
                let mut notes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                notes.broken += spent * u32::try_from(broken).unwrap_or(0);
                notes.samples.push(sample);
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
