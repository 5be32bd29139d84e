//! A host that is far away: what it sends and what it gets travels for as long as on a long line.
//!
//! A kernel need not have netem. So the host's frames go through a VXLAN device into datagrams, a thread of ours holds
//! them, and they come out of a VXLAN device at the switch, and the other way round. Each thread sits at the far end of
//! its datagrams: what a VXLAN device sends to an address of its own namespace takes no way at all (Linux 6.18,
//! encap_bypass_if_local).

use std::io::Result;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::namespace::{Host, inside, ip, ip_batch, succeed};

/// Where the kernel takes datagrams in.
const VXLAN: u16 = 4789;
/// Larger than what any frame becomes.
const LARGEST: usize = 65_536;
/// The head of a VXLAN datagram, and of the frame in it.
const VXLAN_HEAD: usize = 8;
const ETHERNET: usize = 14;

impl Host {
    /// This host moves `round_trip` away from all others. Its address and its open connections stay.
    pub fn move_away(&self, round_trip: Duration) -> Result<Fault> {
        let (n, mac, relay) = (self.number(), self.mac(), VXLAN + 1000 + u16::from(self.number()));
        let vxlan = format!("type vxlan id {n} dstport {VXLAN} nolearning");
        ip_batch(
            self.switch(),
            &format!(
                "link set lo up\naddr replace 10.79.0.254/24 dev bridge0\nlink add far{n} {vxlan}\n\
                 link set far{n} mtu 1500 gso_max_segs 1 master bridge0 up\n"
            ),
        )?;
        let mut back = Fault::new("the far end of a line", {
            let switch = self.switch().to_owned();
            move || ip(&["-n", &switch, "link", "del", &format!("far{n}")])
        });
        sends_to(self.switch(), &format!("far{n}"), &format!("10.79.0.{n}"), relay)?;
        ip_batch(
            self.netns(),
            &format!(
                "link set eth0 down\naddr flush dev eth0\nlink set eth0 address 02:79:00:00:00:{n:02x}\n\
                 addr add 10.79.0.{n}/24 dev eth0\nlink set eth0 up\n\
                 link add far0 address {mac} {vxlan}\n\
                 addr add 10.77.0.{n}/24 broadcast + dev far0 nodad\nlink set far0 mtu 1500 gso_max_segs 1 up\n"
            ),
        )?;
        let netns = self.netns().to_owned();
        back = Fault::new("a long line", move || {
            ip_batch(
                &netns,
                &format!(
                    "link del far0\nlink set eth0 down\naddr flush dev eth0\n\
                     link set eth0 address {mac}\n\
                     addr add 10.77.0.{n}/24 broadcast + dev eth0 nodad\nlink set eth0 up\n"
                ),
            )
        })
        .and(back);
        sends_to(self.netns(), "far0", "10.79.0.254", relay)?;
        let ended = Arc::new(AtomicBool::new(false));
        for netns in [self.switch(), self.netns()] {
            hold(inside(netns, || UdpSocket::bind(("0.0.0.0", relay)))?, round_trip / 2, &ended)?;
        }
        let ends = move || {
            ended.store(true, Ordering::Relaxed);
            Ok(())
        };
        Ok(Fault::new(format!("{self} moved {round_trip:?} away"), ends).and(back))
    }
}

/// Everything that leaves by this device goes there.
fn sends_to(netns: &str, device: &str, address: &str, port: u16) -> Result<()> {
    let entry = ["-n", netns, "fdb", "append", "00:00:00:00:00:00", "dev", device, "dst", address];
    succeed(Command::new("bridge").args(entry).args(["port", &port.to_string()]))
}

/// What comes in is handed to this namespace's own device, `one_way` later.
fn hold(socket: UdpSocket, one_way: Duration, ended: &Arc<AtomicBool>) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (out, ended) = (socket.try_clone()?, Arc::clone(ended));
    let (held, due) = channel();
    thread::spawn(move || let_go(&out, &due));
    thread::spawn(move || {
        let mut datagram = vec![0; LARGEST];
        while !ended.load(Ordering::Relaxed) {
            // A read that ends without a datagram is a pause, or another's refusal: the line stays.
            let Ok(length) = socket.recv(&mut datagram) else { continue };
            let mut frame = datagram.get(..length).unwrap_or_default().to_vec();
            sum_up(&mut frame);
            if held.send((Instant::now() + one_way, frame)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

fn let_go(socket: &UdpSocket, due: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, frame)) = due.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // Lost, as on any line.
        let _ = socket.send_to(&frame, ("127.0.0.1", VXLAN));
    }
}

/// Between namespaces nobody computes TCP's checksum, and whoever gets the frame from us looks at it.
fn sum_up(datagram: &mut [u8]) -> Option<()> {
    let packet = datagram.get_mut(VXLAN_HEAD + ETHERNET - 2..)?;
    if packet.get(..2)? != [8, 0] || *packet.get(2 + 9)? != 6 {
        return None;
    }
    let packet = packet.get_mut(2..)?;
    let head = usize::from(*packet.first()? & 15) * 4;
    let whole = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let addresses: Vec<u8> = packet.get(12..20)?.to_vec();
    let segment = packet.get_mut(head..whole)?;
    segment.get_mut(16..18)?.fill(0);
    let length = u16::try_from(segment.len()).ok()?;
    let pseudo = [&addresses[..], &[0, 6], &length.to_be_bytes()].concat();
    let sum = checksum(&[pseudo, segment.to_vec()].concat());
    segment.get_mut(16..18)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
