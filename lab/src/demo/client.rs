//! A client of the replica: it reads one key, again and again, and notes when that fails and when it works again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::server::Server;

pub const KEY: &str = "greeting";

const PAUSE: Duration = Duration::from_millis(2);

/// What the client met since it began.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// The first error, in the server's words.
    pub failed: Option<(Instant, String)>,
    /// The first answer after the last error.
    pub works_again: Option<Instant>,
}

/// Ends when it is dropped.
pub struct Client {
    met: Arc<Mutex<Met>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    pub fn start(server: &Server) -> Client {
        let (met, stop) = (Arc::<Mutex<Met>>::default(), Arc::<AtomicBool>::default());
        let (notes, ended, server) = (Arc::clone(&met), Arc::clone(&stop), server.clone());
        let thread = thread::spawn(move || {
            let mut kept = None;
            while !ended.load(Ordering::Relaxed) {
                read(&server, &mut kept, &notes);
                thread::sleep(PAUSE);
            }
        });
        Client { met, stop, thread: Some(thread) }
    }

    pub fn met(&self) -> Met {
        locked(&self.met).clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One GET on the kept connection. A connection that is cut is no failed read: Sentinel cuts all clients when it
/// reconfigures a server, and clients come back.
fn read(server: &Server, kept: &mut Option<redis::Connection>, notes: &Mutex<Met>) {
    if kept.is_none() {
        *kept = server.connect().ok();
    }
    let Some(connection) = kept.as_mut() else { return };
    match redis::cmd("GET").arg(KEY).query::<String>(connection) {
        Ok(_) => {
            let mut met = locked(notes);
            if met.failed.is_some() && met.works_again.is_none() {
                met.works_again = Some(Instant::now());
            }
        }
        Err(error) => match error.code() {
            Some(code) => {
                let mut met = locked(notes);
                let text = format!("{code} {}", error.detail().unwrap_or_default());
                met.failed.get_or_insert_with(|| (Instant::now(), text));
                met.works_again = None;
            }
            None => *kept = None,
        },
    }
}

fn locked(met: &Mutex<Met>) -> MutexGuard<'_, Met> {
    met.lock().unwrap_or_else(PoisonError::into_inner)
}
