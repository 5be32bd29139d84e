//! A connection from a certain address of this host.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::TcpStream;

use super::connection::lookup;
use crate::model::Endpoint;

/// A replica's `bind-source-addr`. Where it is of no use at once, to bind or to connect from, the replica goes from wherever
/// the kernel lets it (Redis 7.0.15, anetTcpGenericConnect with ANET_CONNECT_BE_BINDING), and so does what goes by this.
#[derive(Debug)]
pub struct SourceAddress {
    /// It may be a name, and an address of link scope (`fe80::1%eth0`): the first that can be bound counts.
    addresses: Vec<SocketAddr>,
    elsewhere: Mutex<Option<String>>,
}

impl SourceAddress {
    /// None where it is empty or means any address.
    pub async fn told(told: &str, within: Duration) -> Option<SourceAddress> {
        if told.is_empty() {
            return None;
        }
        let (addresses, elsewhere) = match lookup(&Endpoint::new(told, 0), within).await {
            Ok(found) if found.iter().any(|address| address.ip().is_unspecified()) => return None,
            Ok(found) => (found, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Some(SourceAddress { addresses, elsewhere: Mutex::new(elsewhere) })
    }

    /// Why a connection went from another address; none where the last one that opened did not.
    pub fn elsewhere(&self) -> Option<String> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, elsewhere: Option<String>) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
    }

    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self.bound(to).and_then(|socket| begin(socket, to)) {
            Ok(stream) => {
                stream.writable().await?;
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                self.note(None);
                return Ok(stream);
            }
            Err(error) if is_the_peers(&error) => return Err(error),
            // A name that leads nowhere is told in its own words.
            Err(_) if self.addresses.is_empty() => {}
            Err(error) => self.note(Some(error.to_string())),
        }
        TcpStream::connect(to).await
    }

    fn bound(&self, to: SocketAddr) -> io::Result<OwnedFd> {
        let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let kind = if to.is_ipv6() { "IPv6" } else { "IPv4" };
        let mut told = io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{} is {kind}, and it is not", to.ip()));
        for from in self.addresses.iter().filter(|from| from.is_ipv6() == to.is_ipv6()) {
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
            match bind(&socket, from) {
                Ok(()) => return Ok(socket),
                Err(error) => told = error.into(),
            }
        }
        Err(told)
    }
}

/// What fails here fails before a packet could be answered, but for a peer on this host.
fn begin(socket: OwnedFd, to: SocketAddr) -> io::Result<TcpStream> {
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => TcpStream::from_std(socket.into()),
        Err(error) => Err(error.into()),
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | TimedOut)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    /// From where a connection came to a listener at `to`, and what is told of that.
    async fn came_from(told: &str, to: &str) -> (String, String) {
        let listener = TcpListener::bind((to, 0)).await.unwrap();
        let source = SourceAddress::told(told, WITHIN).await.unwrap();
        let stream = source.connect(listener.local_addr().unwrap()).await.unwrap();
        (stream.local_addr().unwrap().ip().to_string(), source.elsewhere().unwrap_or_default())
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_bound_is_told_and_not_used() {
        for told in ["", "0.0.0.0", "::"] {
            assert!(SourceAddress::told(told, WITHIN).await.is_none(), "{told:?} is no certain address");
        }
        let own = |from: &str| (from.to_owned(), String::new());
        assert_eq!(came_from("127.0.0.9", "127.0.0.1").await, own("127.0.0.9"));
        assert_eq!(came_from("localhost", "127.0.0.1").await, own("127.0.0.1"), "a name");
        for (told, why) in [
            ("192.0.2.1", "annot assign requested address"),
            ("::1", "127.0.0.1 is IPv4, and it is not"),
            ("name.invalid", "name.invalid: "),
        ] {
            let (from, elsewhere) = came_from(told, "127.0.0.1").await;
            assert!(from == "127.0.0.1" && elsewhere.contains(why), "{told}: {from} {elsewhere}");
        }
    }

    /// To a broadcast address every `connect` fails at once, and no packet is sent.
    #[tokio::test]
    async fn a_connection_that_fails_at_once_from_there_goes_without_as_the_servers_does() {
        let source = SourceAddress::told("127.0.0.9", WITHIN).await.unwrap();
        source.connect(([255, 255, 255, 255], 9).into()).await.unwrap_err();
        assert!(source.elsewhere().is_some_and(|why| why.contains("os error")), "{source:?}");
        let source = SourceAddress::told("127.0.0.9", WITHIN).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let refused = source.connect(closed).await.unwrap_err();
        assert!(refused.kind() == io::ErrorKind::ConnectionRefused && source.elsewhere().is_none(), "the peer's word");
    }
}
