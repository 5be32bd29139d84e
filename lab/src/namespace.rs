//! A network of its own for a group: one namespace a host, a bridge in one more, addresses 10.77.0.y.
//!
//! Nothing is changed outside the namespaces made here, which is what lets cuts be tested at all: on loopback all
//! servers share one host, and there is nothing to cut. That is why faults of the network are methods of [`Host`],
//! and `Server::host` answers `None` on loopback.
//!
//! Admin commands of the lab do not use this network but unix sockets, so a cut never blinds the test itself.

use std::fmt;
use std::fs::{self, File};
use std::io::{Error, Result, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fault::Fault;
use crate::sweep::Place;

/// Whether this machine lets us make namespaces and filter in them. Tried once, for real.
pub fn namespaces_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let tried = Place::make().and_then(|place| {
            let host = Switch::make(&place)?.add_host("probe")?;
            host.filter("tcp dport 1 drop")?.undo().map_err(Error::other)
        });
        tried.is_ok()
    })
}

/// The bridge to which every host of a group is wired.
#[derive(Debug)]
pub(crate) struct Switch {
    prefix: String,
    hosts: AtomicU32,
}

impl Switch {
    /// The namespaces live as long as `place`.
    pub(crate) fn make(place: &Place) -> Result<Switch> {
        let switch = Switch { prefix: place.namespace_prefix().to_owned(), hosts: AtomicU32::new(0) };
        ip(&["netns", "add", &switch.netns()])?;
        ip_batch(&switch.netns(), "link add bridge0 type bridge\nlink set bridge0 up\n")?;
        Ok(switch)
    }

    fn netns(&self) -> String {
        format!("{}switch", self.prefix)
    }

    pub(crate) fn add_host(&self, name: &str) -> Result<Host> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let host = Host {
            netns: format!("{}{name}", self.prefix),
            address: format!("10.77.0.{number}"),
            number: u8::try_from(number).map_err(Error::other)?,
            switch: self.netns(),
            port: format!("port{number}"),
        };
        ip(&["netns", "add", &host.netns])?;
        let wire = format!(
            "link add {port} type veth peer name eth0 address {mac} netns {netns}\nlink set {port} master bridge0 up\n",
            port = host.port,
            netns = host.netns,
            mac = host.mac()
        );
        ip_batch(&self.netns(), &wire)?;
        let up = format!("link set lo up\naddr add {}/24 broadcast + dev eth0 nodad\nlink set eth0 up\n", host.address);
        ip_batch(&host.netns, &up)?;
        Ok(host)
    }
}

/// One host of the group's network. Each fault answers a [`Fault`], which undoes itself when dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    netns: String,
    address: String,
    number: u8,
    switch: String,
    port: String,
}

impl Host {
    pub fn address(&self) -> &str {
        &self.address
    }

    /// As `ip netns` knows it.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    pub fn netns_path(&self) -> PathBuf {
        path_of(&self.netns)
    }

    /// The last part of its address.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// What others know it by on the wire.
    pub(crate) fn mac(&self) -> String {
        format!("02:77:00:00:00:{:02x}", self.number)
    }

    /// The namespace to which all hosts are wired.
    pub(crate) fn switch(&self) -> &str {
        &self.switch
    }

    /// Packets between the two hosts vanish, both ways. Other hosts are not affected.
    pub fn cut_from(&self, peer: &Host) -> Result<Fault> {
        let here = self.deaf_to(peer)?;
        Ok(here.and(peer.deaf_to(self)?))
    }

    /// One way: packets from `peer` vanish here, packets to `peer` still arrive.
    pub fn deaf_to(&self, peer: &Host) -> Result<Fault> {
        self.filter(&format!("ip saddr {} drop", peer.address))
    }

    /// This host answers `peer`'s segments to `tcp_port` with a reset, as a firewall or a closed port does.
    pub fn reject(&self, peer: &Host, tcp_port: u16) -> Result<Fault> {
        self.filter(&format!("ip saddr {} tcp dport {tcp_port} reject with tcp reset", peer.address))
    }

    /// The cable is pulled at the switch: nothing gets in or out.
    pub fn unplug(&self) -> Result<Fault> {
        let set = |state| {
            let (switch, port) = (self.switch.clone(), self.port.clone());
            move || ip(&["-n", &switch, "link", "set", &port, state])
        };
        set("down")()?;
        Ok(Fault::new(format!("{self} unplugged"), set("up")))
    }

    /// What this host sends leaves at `kbit_per_s`, through a token bucket that queues up to two seconds.
    pub fn slow_down(&self, kbit_per_s: u32) -> Result<Fault> {
        let rate = format!("{kbit_per_s}kbit");
        let add = ["-n", &self.netns, "qdisc", "add", "dev", "eth0", "root", "tbf"];
        let shape = ["rate", &rate, "burst", "16kb", "latency", "2s"];
        succeed(Command::new("tc").args(add).args(shape))?;
        let netns = self.netns.clone();
        Ok(Fault::new(format!("{self} slowed to {rate}"), move || {
            succeed(Command::new("tc").args(["-n", &netns, "qdisc", "del", "dev", "eth0", "root"]))
        }))
    }

    /// The resolver of resolv.conf(5) is reached, and answers nothing: each lookup takes as long as libc has patience,
    /// 10 s by default.
    pub fn dead_resolver(&self) -> Result<Fault> {
        let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let named = conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next());
        for address in named.filter(|address| address.contains('.') && !address.starts_with("127.")) {
            ip(&["-n", &self.netns, "addr", "replace", &format!("{address}/32"), "dev", "lo"])?;
        }
        self.filter("udp dport 53 drop")
    }

    /// Any rule for packets that come in at this host, in nft's words. A table of its own each, so that undoing one
    /// never touches another.
    pub fn filter(&self, rule: &str) -> Result<Fault> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let table = format!("fault{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.nft(&format!(
            "table inet {table} {{\nchain input {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n"
        ))?;
        let host = self.clone();
        Ok(Fault::new(format!("at {self}: {rule}"), move || host.nft(&format!("delete table inet {table}\n"))))
    }

    /// Runs `work` on a thread that has entered this host's network. Sockets made there stay there, so a listener
    /// can be handed back and served from any thread.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.netns, work)
    }

    /// When the next SYN goes out of a connection that is being opened to this address; none: there is no such.
    pub fn next_syn(&self, (host, port): &(String, u16)) -> Option<Duration> {
        let peer = u32::from_ne_bytes(host.parse::<Ipv4Addr>().ok()?.octets());
        let peer = format!("{peer:08X}:{port:04X}");
        // proc_pid_net(5): address of the peer, state (02 is SYN_SENT), and the timer's end in hundredths of a second.
        let table = self.inside(|| fs::read_to_string("/proc/thread-self/net/tcp")).ok()?;
        let due = table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = fields.get(2) == Some(&peer.as_str()) && fields.get(3) == Some(&"02");
            fields.get(5).filter(|_| ours)?.split_once(':')
        });
        Some(Duration::from_millis(u64::from_str_radix(due?.1, 16).ok()? * 10))
    }

    fn nft(&self, ruleset: &str) -> Result<()> {
        let net = format!("--net={}", self.netns_path().display());
        with_input(Command::new("nsenter").args([&net, "--", "nft", "-f", "-"]), ruleset)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

fn path_of(netns: &str) -> PathBuf {
    Path::new("/run/netns").join(netns)
}

/// The same in any namespace.
pub(crate) fn inside<T: Send>(netns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let entrance = File::open(path_of(netns))?;
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(entrance.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        entered.join().map_err(|_| Error::other(format!("panicked inside {netns}")))?
    })
}

pub(crate) fn ip(args: &[&str]) -> Result<()> {
    succeed(Command::new("ip").args(args))
}

pub(crate) fn ip_batch(netns: &str, lines: &str) -> Result<()> {
    with_input(Command::new("ip").args(["-n", netns, "-batch", "-"]), lines)
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    with_input(command, "")
}

fn with_input(command: &mut Command, input: &str) -> Result<()> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::other(format!("{name}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!("{name} {input:?} failed, {}: {}", output.status, said.trim())))
}
