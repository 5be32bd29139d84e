//! Where messages arrive: a small HTTP/1.1 server that records what it is sent and answers as a script says.
//!
//! One receiver can listen in several places. On loopback it is there from the start; [`Receiver::listen_beside`]
//! opens one more listener on loopback *inside* a server's namespace, where an agent beside that server reaches it
//! even while the server's network is cut. Sockets stay in the network in which they were made, so this needs no
//! process and no route there.
//!
//! What is *not* here: chunked bodies, TLS, and kept connections. Each request is answered and its connection closed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::{Shutdown, shutdown};

use crate::server::Server;

const LARGEST_BODY: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    pub at_wall: SystemTime,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `None` when the body is no JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What to answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: String::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: &str) -> Answer {
        body.clone_into(&mut self.body);
        self
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    script: VecDeque<Answer>,
}

#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Shut down on drop, which ends their threads.
    listeners: Vec<TcpListener>,
}

impl Receiver {
    /// On loopback, at a free port.
    pub fn start() -> Result<Receiver> {
        Receiver::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub fn bind(address: SocketAddr) -> Result<Receiver> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let mut receiver = Receiver { shared: Arc::default(), address, listeners: Vec::new() };
        receiver.serve(listener)?;
        Ok(receiver)
    }

    /// For an agent on the test's own host.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Listens on the server's host too: the URL for an agent beside it. On loopback that is [`Receiver::url`].
    pub fn listen_beside(&mut self, server: &Server) -> Result<String> {
        let Some(host) = server.host() else { return Ok(self.url()) };
        let listener = host.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let url = format!("http://{}/", listener.local_addr()?);
        self.serve(listener)?;
        Ok(url)
    }

    /// The next requests are answered with these, in order; after them with 200.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state().script.extend(answers);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// All requests once there are `count`; `None` when there are fewer after `patience`.
    pub fn wait_for(&self, count: usize, patience: Duration) -> Option<Vec<Request>> {
        self.wait_until(patience, |requests| requests.len() >= count)
    }

    /// All requests once they satisfy `condition`, which is asked at each arrival.
    pub fn wait_until(&self, patience: Duration, condition: impl Fn(&[Request]) -> bool) -> Option<Vec<Request>> {
        let waited =
            self.shared.arrived.wait_timeout_while(self.shared.state(), patience, |state| !condition(&state.requests));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!timeout.timed_out()).then(|| state.requests.clone())
    }

    /// The JSON bodies, in order of arrival.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        self.shared.state().requests.iter().filter_map(Request::json).collect()
    }

    fn serve(&mut self, listener: TcpListener) -> Result<()> {
        let accepting = listener.try_clone()?;
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            // Ends when the listener is shut down: accept(2) then answers EINVAL.
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.handle(&stream));
            }
        });
        self.listeners.push(listener);
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for listener in &self.listeners {
            let _ = shutdown(listener, Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that cannot be read is not one: its connection is closed without an answer.
    fn handle(&self, stream: &TcpStream) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let Ok(request) = read_request(stream) else { return };
        let mut state = self.state();
        let answer = state.script.pop_front().unwrap_or_else(|| Answer::status(200));
        state.requests.push(request);
        drop(state);
        self.arrived.notify_all();
        let _ = write_answer(stream, &answer);
    }
}

fn read_request(stream: &TcpStream) -> Result<Request> {
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(Error::from(ErrorKind::InvalidData));
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse()).map_err(|_| ErrorKind::InvalidData)?;
    if length > LARGEST_BODY {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(Request { method, path, headers, body, at: Instant::now(), at_wall: SystemTime::now() })
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if reader.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(Error::from(ErrorKind::UnexpectedEof));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn write_answer(mut stream: &TcpStream, answer: &Answer) -> Result<()> {
    let mut head =
        format!("HTTP/1.1 {} lab\r\nconnection: close\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.push_str(&answer.body);
    stream.write_all(head.as_bytes())
}
