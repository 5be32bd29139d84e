//! Loopback ports that two labs never choose at the same time.
//!
//! A port is reserved by an abstract unix socket of its number: the kernel hands out each name once and takes it back
//! when the process is gone, so nothing stays on disk. The range lies below the kernel's ephemeral ports, so that no
//! outgoing connection of anybody takes a port between choosing and use. A stranger still may: callers try again.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 21_000;
const COUNT: u32 = 11_000;

/// A loopback port that stays this process's while the value lives.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _reservation: UnixListener,
}

impl Port {
    /// The next that is free.
    pub fn reserve() -> Result<Port> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Labs that start together begin apart, which only saves attempts.
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let candidate = FIRST + start.wrapping_add(step) % COUNT;
            if let Some(port) = u16::try_from(candidate).ok().and_then(Port::try_reserve) {
                return Ok(port);
            }
        }
        Err(Error::other(format!("no free loopback port from {FIRST} to {}", FIRST + COUNT - 1)))
    }

    /// Its number, for as long as this process runs.
    pub fn keep(self) -> u16 {
        let number = self.number;
        std::mem::forget(self);
        number
    }

    fn try_reserve(number: u16) -> Option<Port> {
        let name = SocketAddr::from_abstract_name(format!("relinkd-lab-port-{number}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Port { number, _reservation: reservation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice_and_returns_when_dropped() {
        let port = Port::reserve().unwrap();
        assert!(Port::try_reserve(port.number).is_none());
        let number = port.number;
        drop(port);
        assert!(Port::try_reserve(number).is_some());
    }
}
