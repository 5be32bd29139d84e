//! Peers that are no servers: they listen where a server might and misbehave in one way each.

use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::port::Port;
use crate::server::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each command is answered with an error that repeats all that was ever said on this connection. On every other
    /// connection a login is taken first, and a PING.
    Echo,
    /// Bytes that are not RESP, without end.
    Garbage,
    /// A bulk string of half a gigabyte, which really comes.
    Huge,
    /// A status line without an end.
    EndlessLine,
    /// A list of lists of lists.
    Deep,
    /// A list of a million numbers.
    Long,
    /// A promising reply that stops in the middle, and the connection with it.
    Cut,
    /// The connection is closed before a word.
    Closes,
    /// Takes everything, says nothing.
    Silent,
    /// What a web server says to a command that is not HTTP.
    Http,
}

impl Manner {
    pub const ALL: [Manner; 10] = [
        Manner::Echo,
        Manner::Garbage,
        Manner::Huge,
        Manner::EndlessLine,
        Manner::Deep,
        Manner::Long,
        Manner::Cut,
        Manner::Closes,
        Manner::Silent,
        Manner::Http,
    ];
}

/// Shut down on drop.
#[derive(Debug)]
pub struct Impostor {
    listener: TcpListener,
    address: SocketAddr,
    met: Arc<AtomicUsize>,
}

impl Impostor {
    /// On loopback.
    pub fn new(manner: Manner) -> Result<Impostor> {
        Impostor::serve(manner, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    /// On the host of this server, where others of its network reach it; on loopback where it has none of its own.
    pub fn beside(server: &Server, manner: Manner) -> Result<Impostor> {
        let Some(host) = server.host() else { return Impostor::new(manner) };
        Impostor::serve(manner, host.inside(|| TcpListener::bind((host.address(), 0)))?)
    }

    fn serve(manner: Manner, listener: TcpListener) -> Result<Impostor> {
        let (address, met) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
        let (accepting, count) = (listener.try_clone()?, Arc::clone(&met));
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                // An error is a peer that had enough, which is the point.
                thread::spawn(move || drop(misbehave(manner, turn, stream)));
            }
        });
        Ok(Impostor { listener, address, met })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Host and port.
    pub fn endpoint(&self) -> (String, u16) {
        (self.address.ip().to_string(), self.address.port())
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections came.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// A port on loopback where nobody listens, as long as this process runs.
pub fn closed_port() -> Result<(String, u16)> {
    Ok((Ipv4Addr::LOCALHOST.to_string(), Port::reserve()?.keep()))
}

fn misbehave(manner: Manner, turn: usize, mut stream: TcpStream) -> Result<()> {
    let mut said = Vec::new();
    let mut chunk = [0; 16 * 1024];
    if manner == Manner::Closes {
        return stream.shutdown(Shutdown::Both);
    }
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        said.extend(chunk.get(..count).unwrap_or_default());
        match manner {
            Manner::Echo => echo(&mut stream, turn, chunk.get(..count).unwrap_or_default(), &said)?,
            Manner::Garbage => flood(&mut stream, b"", b"\xde\xad\xbe\xef no \0 RESP \xff\r\n")?,
            Manner::Huge => flood(&mut stream, b"$536870912\r\n", &[b'x'; 8192])?,
            Manner::EndlessLine => flood(&mut stream, b"+", &[b'y'; 8192])?,
            Manner::Deep => flood(&mut stream, b"", &b"*1\r\n".repeat(2048))?,
            Manner::Long => flood(&mut stream, b"*1000000\r\n", &b":1\r\n".repeat(2048))?,
            Manner::Cut => {
                stream.write_all(b"*3\r\n$6\r\nmaster\r\n:1")?;
                return stream.shutdown(Shutdown::Both);
            }
            Manner::Http => {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
                return stream.shutdown(Shutdown::Both);
            }
            Manner::Closes | Manner::Silent => {}
        }
    }
}

/// One answer for each command: its `*N` line is followed by the length and the text of its name.
fn echo(stream: &mut TcpStream, turn: usize, now: &[u8], said: &[u8]) -> Result<()> {
    let now = String::from_utf8_lossy(now);
    let mut lines = now.lines();
    let flat = String::from_utf8_lossy(said).replace("\r\n", " ");
    while let Some(line) = lines.next() {
        if !line.starts_with('*') {
            continue;
        }
        let answer = match lines.nth(1) {
            Some("AUTH" | "PING") if turn.is_multiple_of(2) => "+OK\r\n".to_owned(),
            _ => format!("-ERR what do you mean by {flat}\r\n"),
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn flood(stream: &mut TcpStream, first: &[u8], then: &[u8]) -> Result<()> {
    stream.write_all(first)?;
    loop {
        stream.write_all(then)?;
    }
}
