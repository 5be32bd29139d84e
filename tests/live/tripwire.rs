//! A relay in front of a server or a receiver that kills relinkd at a word: before the word arrives there, or once it
//! was answered and before relinkd reads the answer. The product needs no part in it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The peer never gets the word.
    Before,
    /// The peer has answered; relinkd never learns it.
    After,
}

struct Armed {
    word: &'static str,
    moment: Moment,
    pid: u32,
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
        *self.state.armed.lock().unwrap() = Some(Armed { word, moment, pid });
    }

    /// Waits for the kill.
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
    /// The armed word at this moment is in what was said, and relinkd is dead now.
    fn trips(&self, said: &[u8], moment: Moment) -> bool {
        let mut armed = self.armed.lock().unwrap();
        let fits = |armed: &Armed| {
            let word = armed.word.as_bytes();
            armed.moment == moment && said.windows(word.len()).any(|window| window == word)
        };
        let Some(found) = armed.take_if(|armed| fits(armed)) else { return false };
        let pid = Pid::from_raw(i32::try_from(found.pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        *self.tripped.lock().unwrap() += 1;
        self.change.notify_all();
        true
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
            if to_client.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
