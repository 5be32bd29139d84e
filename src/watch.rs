//! What wakes us: the poll of the local instance, Sentinel's events, the server's log.
//!
//! Each watcher is a future that never ends. It keeps what it saw on a board that the daemon may read (a
//! [`log::LogBook`], a [`replica::PulseBoard`], a [`sentinel::SentinelBoard`]) and sends a [`Wake`] when a look at
//! the whole is due. A wake-up carries no truth: whoever receives one goes and looks.
//!
//! Invariant: a watcher never waits for its reader. A full channel means that a look is already due, so one more
//! wake-up would add nothing and is dropped.
//!
//! Not here: spawning (the daemon's), judging (`diagnose`), and any command that changes a server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::model::Timestamp;
use crate::model::event::{Wake, Why};

pub mod log;
pub mod replica;
pub mod sentinel;

/// The pause after our login was refused. With the same password the next attempt ends the same, as one more line in the
/// peer's ACL LOG; a password that has changed starts the watchers anew.
const REFUSED: Duration = Duration::from_secs(30);

/// Says that a look is due. Never waits.
fn knock(wake: &Sender<Wake>, at: Timestamp, why: Why) {
    // Full: a wake-up is already waiting. Closed: the daemon is stopping.
    let _ = wake.try_send(Wake { at, why });
}

/// The board behind a lock. What stands on a board is whole after each call, so a panic elsewhere spoils nothing.
fn locked<T>(board: &Mutex<T>) -> MutexGuard<'_, T> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
