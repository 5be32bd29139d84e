//! One connection: sockets opened, bytes sent, replies awaited, each under a deadline.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::quoted::Quoted;
use super::reply::Reply;
use super::resp::{Buffer, Decoder};
use super::{Dial, WireError, tls};
use crate::model::{Address, Endpoint};
use crate::secrets::Secret;

const READ_BYTES: usize = 16 * 1024;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Connection {
    stream: Box<dyn Stream>,
    incoming: Buffer,
    chunk: Box<[u8; READ_BYTES]>,
    /// The reply that is coming in, kept over cancelled waits.
    decoder: Option<Decoder>,
    /// An answer was left unread, or the stream is no longer RESP: nothing read from here on could be trusted.
    broken: bool,
    peer: Option<String>,
    /// How long the peer took to open the connection: one way there and back.
    round_trip: Duration,
    /// The passwords that were sent here: no error or status may repeat one.
    quoted: Quoted,
}

impl Connection {
    /// `lost_after`: what the peer has not acknowledged within this is given up for good. Without it the kernel goes on
    /// to send a command for minutes, also after the connection was closed.
    pub async fn open(dial: &Dial, deadline: Instant, lost_after: Option<Duration>) -> Result<Connection, WireError> {
        let Connected { stream, peer, round_trip } = connect(dial, deadline, lost_after).await?;
        Ok(Connection {
            stream,
            incoming: Buffer::default(),
            chunk: Box::new([0; READ_BYTES]),
            decoder: None,
            broken: false,
            peer,
            round_trip,
            quoted: Quoted::default(),
        })
    }

    /// The address that the connection really went to, after name resolution; none on a Unix socket.
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// How long the peer took to open the connection, without the time that its name took.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// To be called before a password is sent.
    pub fn keep_out(&mut self, secret: &Secret) {
        self.quoted.remember(secret);
    }

    /// Sends commands in one write and reads one reply for each, `caps[i]` bytes at most for the i-th. Where no time is
    /// left, not a byte is sent.
    pub async fn exchange(
        &mut self,
        commands: &Buffer,
        caps: &[usize],
        within: Duration,
    ) -> Result<Vec<Reply>, WireError> {
        let mut replies = Vec::with_capacity(caps.len());
        self.exchange_into(&mut replies, commands, caps, within).await?;
        Ok(replies)
    }

    /// The same, and the replies that came before an error are kept.
    pub async fn exchange_into(
        &mut self,
        replies: &mut Vec<Reply>,
        commands: &Buffer,
        caps: &[usize],
        within: Duration,
    ) -> Result<(), WireError> {
        let deadline = Instant::now() + within;
        self.begin(commands, deadline).await?;
        self.read_into(replies, caps, deadline).await?;
        self.end();
        Ok(())
    }

    /// Sends commands whose replies are read in parts, until [`Self::end`]. Where no time is left, not a byte is sent.
    pub async fn begin(&mut self, commands: &Buffer, deadline: Instant) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Closed);
        }
        if deadline <= Instant::now() {
            return Err(WireError::TimedOut);
        }
        // Stays set when an error or a cancelled future leaves answers unread.
        self.broken = true;
        self.send(commands, deadline).await
    }

    pub async fn read_into(
        &mut self,
        replies: &mut Vec<Reply>,
        caps: &[usize],
        deadline: Instant,
    ) -> Result<(), WireError> {
        for cap in caps {
            replies.push(self.receive(*cap, deadline).await?);
        }
        Ok(())
    }

    /// Every answer was read.
    pub fn end(&mut self) {
        self.broken = false;
    }

    pub async fn send(&mut self, commands: &Buffer, deadline: Instant) -> Result<(), WireError> {
        let write = async {
            self.stream.write_all(commands.bytes()).await?;
            self.stream.flush().await
        };
        match timeout_at(deadline, write).await {
            Err(_) => Err(WireError::TimedOut),
            // A server that turns us away says why, then closes: the reason may still be there to read.
            Ok(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(done) => done.map_err(|e| cut(&e)),
        }
    }

    /// The next reply. Cancel safe: what has come in is kept.
    pub async fn receive(&mut self, cap: usize, deadline: Instant) -> Result<Reply, WireError> {
        loop {
            let decoder = self.decoder.get_or_insert_with(|| Decoder::new(cap));
            let advanced = decoder.advance(self.incoming.bytes());
            if let Some((reply, length)) = advanced.map_err(|error| self.quoted.hide_in_error(error))? {
                self.incoming.consume(length);
                self.decoder = None;
                return Ok(self.quoted.hide(reply));
            }
            let read = self.stream.read(self.chunk.as_mut_slice());
            let count = match timeout_at(deadline, read).await {
                Err(_) => return Err(WireError::TimedOut),
                Ok(Err(e)) => return Err(cut(&e)),
                Ok(Ok(0)) => return Err(WireError::Closed),
                Ok(Ok(count)) => count,
            };
            let fresh = self.chunk.get_mut(..count).unwrap_or_default();
            self.incoming.append(fresh);
            zeroize::Zeroize::zeroize(fresh);
        }
    }
}

fn cut(error: &io::Error) -> WireError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => WireError::Reset,
        io::ErrorKind::UnexpectedEof => WireError::Closed,
        io::ErrorKind::TimedOut => WireError::TimedOut,
        io::ErrorKind::InvalidData => WireError::Tls(error.to_string()),
        _ => WireError::Unreachable(error.to_string()),
    }
}

struct Connected {
    stream: Box<dyn Stream>,
    /// The address at its other end.
    peer: Option<String>,
    round_trip: Duration,
}

/// A server that has had less than this for the answer to a TLS hello is not called silent, nor one that had less than
/// twice the time that it took to open the connection.
const HEARD: Duration = Duration::from_millis(300);

async fn connect(dial: &Dial, deadline: Instant, lost_after: Option<Duration>) -> Result<Connected, WireError> {
    let in_time = |_| WireError::TimedOut;
    match (&dial.address, &dial.tls) {
        (Address::Unix(path), None) => {
            let stream = timeout_at(deadline, unix(path)).await.map_err(in_time)??;
            Ok(Connected { stream, peer: None, round_trip: Duration::ZERO })
        }
        (Address::Unix(_), Some(_)) => Err(WireError::TlsSetup("a Unix socket carries no TLS; leave it out".into())),
        (Address::Tcp(endpoint), settings) => {
            let (stream, round_trip) = timeout_at(deadline, tcp(endpoint, deadline)).await.map_err(in_time)??;
            if let Some(ms) = lost_after.and_then(|span| u32::try_from(span.as_millis()).ok()).filter(|ms| *ms > 0) {
                rustix::net::sockopt::set_tcp_user_timeout(&stream, ms).map_err(|e| cut(&e.into()))?;
            }
            let peer = stream.peer_addr().ok().map(|address| address.to_string());
            let Some(settings) = settings else { return Ok(Connected { stream: Box::new(stream), peer, round_trip }) };
            let said = Instant::now();
            match timeout_at(deadline, tls::wrap(stream, settings, &endpoint.host)).await {
                Ok(wrapped) => Ok(Connected { stream: Box::new(wrapped?), peer, round_trip }),
                Err(_) if said.elapsed() >= HEARD.max(round_trip * 2) => Err(WireError::HelloUnanswered),
                Err(_) => Err(WireError::HelloCutShort),
            }
        }
    }
}

/// Whether whoever listens there speaks TLS; none where that did not show in time.
pub async fn speaks_tls(endpoint: &Endpoint, within: Duration) -> Option<bool> {
    let ends = Instant::now() + within;
    let (stream, round_trip) = match timeout_at(ends, tcp(endpoint, ends)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => return Some(false),
        Err(_) => return None,
    };
    let wait = ends.saturating_duration_since(Instant::now()).min(HEARD.max(round_trip * 3));
    match timeout(wait, tls::is_spoken(stream, &endpoint.host)).await {
        Ok(spoken) => Some(spoken),
        Err(_) => (wait >= HEARD.max(round_trip * 2)).then_some(false),
    }
}

async fn unix(path: &Path) -> Result<Box<dyn Stream>, WireError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        // A server that ended well has taken its file away; one that is left behind is refused.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(WireError::NoSocket(format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err(WireError::NotPermitted(format!("{}: {e}", path.display())))
        }
        Err(e) => Err(no_connection(&e, &path.display().to_string())),
    }
}

/// The addresses of a name. A resolver that does not answer is told from a peer that does not.
pub async fn lookup(endpoint: &Endpoint, within: Duration) -> Result<Vec<SocketAddr>, WireError> {
    let unresolved = |why: String| WireError::NameUnresolved(format!("{}: {why}", endpoint.host));
    let found = timeout(within, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let found = found.map_err(|_| unresolved("the resolver gives no answer in time".to_owned()))?;
    Ok(found.map_err(|error| unresolved(error.to_string()))?.collect())
}

/// The connection, and how long it took to open.
async fn tcp(endpoint: &Endpoint, deadline: Instant) -> Result<(TcpStream, Duration), WireError> {
    let found = lookup(endpoint, deadline.saturating_duration_since(Instant::now())).await?;
    let mut told = WireError::NameUnresolved(format!("{}: no address", endpoint.host));
    for address in found {
        let began = Instant::now();
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let round_trip = began.elapsed();
                stream.set_nodelay(true).map_err(|e| cut(&e))?;
                return Ok((stream, round_trip));
            }
            Err(e) => told = more_telling(told, no_connection(&e, &address.to_string())),
        }
    }
    Err(told)
}

/// Of what two addresses of one name say: a host that answered tells more than silence, and that more than a family of
/// addresses which this host has no route for.
fn more_telling(one: WireError, other: WireError) -> WireError {
    let rank = |error: &WireError| match error {
        WireError::Refused | WireError::Reset => 3,
        WireError::TimedOut => 2,
        WireError::NameUnresolved(_) => 0,
        _ => 1,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

fn no_connection(error: &io::Error, to: &str) -> WireError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => WireError::Refused,
        io::ErrorKind::ConnectionReset => WireError::Reset,
        io::ErrorKind::TimedOut => WireError::TimedOut,
        _ => WireError::Unreachable(format!("{to}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_of_a_names_addresses_is_kept() {
        let away = || WireError::Unreachable("[::1]:1: network is unreachable".into());
        let orders = [[WireError::Refused, away()], [away(), WireError::Refused]];
        for [first, second] in orders {
            assert_eq!(more_telling(first, second), WireError::Refused);
        }
        assert_eq!(more_telling(away(), WireError::TimedOut), WireError::TimedOut);
        assert_eq!(more_telling(WireError::NameUnresolved("x: no address".into()), away()), away());
    }
}
