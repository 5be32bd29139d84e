//! A relay in front of a server or a receiver that kills relinkd at a word: before the word arrives there, or once it
//! was answered and before relinkd reads the answer. Or it stops relinkd there, and the answer lies in its socket for when
//! it goes on. The product needs no part in it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The peer never gets the word.
    Before,
    /// The peer has answered; relinkd never learns it.
    After,
    /// The peer has answered what ended with the word, and relinkd stands still as soon as the answer is in its socket:
    /// SIGSTOP.
    Stopped,
}

struct Armed {
    word: &'static str,
    moment: Moment,
    pid: u32,
    /// How many relays have to see the word before the signal.
    all: Arc<Barrier>,
}

#[derive(Default)]
struct State {
    armed: Mutex<Option<Armed>>,
    tripped: Mutex<usize>,
    change: Condvar,
    /// All that the peer was given, for counting.
    passed: Mutex<Vec<u8>>,
}

/// Shut down on drop.
pub struct Tripwire {
    listener: TcpListener,
    state: Arc<State>,
}

impl Tripwire {
    /// In front of `host:port`.
    pub fn before(peer: &str) -> Tripwire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state: Arc<State> = Arc::default();
        let (accepting, shared, peer) = (listener.try_clone().unwrap(), Arc::clone(&state), peer.to_owned());
        thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                // A peer that is away is away for relinkd too: its connection is closed.
                if let Ok(server) = TcpStream::connect(&peer) {
                    relay(client, server, &shared);
                }
            }
        });
        Tripwire { listener, state }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub fn arm(&self, word: &'static str, moment: Moment, pid: u32) {
        Tripwire::arm_together(std::slice::from_ref(self), word, moment, pid);
    }

    /// Goes off once each of them has seen the word; none lets it through before.
    pub fn arm_together(wires: &[Tripwire], word: &'static str, moment: Moment, pid: u32) {
        let all = Arc::new(Barrier::new(wires.len()));
        for wire in wires {
            *wire.state.armed.lock().unwrap() = Some(Armed { word, moment, pid, all: Arc::clone(&all) });
        }
    }

    /// Waits for the kill, or the stop.
    pub fn wait_tripped(&self, patience: Duration) -> bool {
        let tripped = self.state.tripped.lock().unwrap();
        let (mut tripped, _) = self.state.change.wait_timeout_while(tripped, patience, |count| *count == 0).unwrap();
        std::mem::take(&mut *tripped) > 0
    }

    /// How often the peer was given this word.
    pub fn passed(&self, word: &str) -> usize {
        let passed = self.state.passed.lock().unwrap();
        passed.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl State {
    /// The armed word at this moment is in what was said, and relinkd is dead now, or stands still.
    fn trips(&self, said: &[u8], moment: Moment) -> bool {
        let Some(found) = self.meets(said, moment) else { return false };
        self.shoots(&found, Signal::KILL);
        true
    }

    /// All of the relays have met the word.
    fn meets(&self, said: &[u8], moment: Moment) -> Option<Armed> {
        let mut armed = self.armed.lock().unwrap();
        let fits = |armed: &Armed| {
            let word = armed.word.as_bytes();
            let found = match moment {
                Moment::Stopped => said.ends_with(word),
                Moment::Before | Moment::After => said.windows(word.len()).any(|window| window == word),
            };
            armed.moment == moment && found
        };
        let found = armed.take_if(|armed| fits(armed))?;
        drop(armed);
        found.all.wait();
        Some(found)
    }

    fn shoots(&self, found: &Armed, signal: Signal) {
        if found.all.wait().is_leader() {
            kill_process(Pid::from_raw(i32::try_from(found.pid).unwrap()).unwrap(), signal).unwrap();
        }
        found.all.wait();
        *self.tripped.lock().unwrap() += 1;
        self.change.notify_all();
    }
}

fn relay(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let (up, down) = (Arc::clone(state), Arc::clone(state));
    // What was said last on this connection: an answer belongs to it.
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
    let (mut from_server, mut to_server) = (server.try_clone().unwrap(), server);
    thread::spawn(move || {
        let mut chunk = [0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut chunk) {
            let words = &chunk[..count];
            if up.trips(words, Moment::Before) {
                break;
            }
            *said.lock().unwrap() = words.to_vec();
            up.passed.lock().unwrap().extend(words);
            if to_server.write_all(words).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
        let _ = from_client.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut chunk = [0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut chunk) {
            if down.trips(&heard.lock().unwrap(), Moment::After) {
                break;
            }
            let stopping = down.meets(&heard.lock().unwrap(), Moment::Stopped);
            if to_client.write_all(&chunk[..count]).is_err() {
                break;
            }
            if let Some(found) = stopping {
                down.shoots(&found, Signal::STOP);
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
