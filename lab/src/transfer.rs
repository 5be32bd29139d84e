//! Faults of a sync, and what makes one last: an empty replica, a slow sender, writes that go on meanwhile.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fault::{Fault, configure, run};
use crate::server::Server;

/// The replica comes back without the data set that it had kept on disk: only a full sync helps.
pub fn restart_empty(replica: &Server) -> Result<()> {
    replica.kill9();
    forget_disk(replica)?;
    replica.restart()
}

/// The server's data set on disk is gone, where it had one.
pub fn forget_disk(server: &Server) -> Result<()> {
    match fs::remove_file(server.data_dir().join("dump.rdb")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The replica has to connect anew.
pub fn reconnect(replica: &Server) -> Result<()> {
    run(replica, &["CLIENT", "KILL", "TYPE", "master"])
}

/// A data set of `keys` keys that takes `us_per_key` for each of them to send, in full size.
pub fn slow_sync(primary: &Server, keys: usize, us_per_key: u32) -> Result<Fault> {
    primary.write(keys, 1024).map_err(Error::other)?;
    let pace = [("rdbcompression", "no"), ("rdb-key-save-delay", &us_per_key.to_string())];
    let slow = configure(primary, &pace)?;
    let server = primary.clone();
    // The child that sends keeps its pace, and holds the replica's connection open even when the primary closes it.
    Ok(Fault::new("a slow child", move || end_children(&server)).and(slow))
}

/// Ends the processes that the server has forked.
fn end_children(server: &Server) -> Result<()> {
    let Some(pid) = server.pid() else { return Ok(()) };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        server.command_beside("kill").args(["-9", child]).status()?;
    }
    Ok(())
}

/// Writes on the primary until dropped, as clients would.
#[derive(Debug)]
pub struct Writes {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writes {
    /// Batches of `keys` keys with `bytes` each, a pause after each batch. What the server refuses is left unwritten.
    pub fn start(primary: &Server, keys: usize, bytes: usize, pause: Duration) -> Writes {
        let stop = Arc::new(AtomicBool::new(false));
        let (server, ended) = (primary.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let _ = server.write(keys, bytes);
                thread::sleep(pause);
            }
        });
        Writes { stop, thread: Some(thread) }
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}
