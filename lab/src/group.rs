//! A replication group: one primary, its replicas, and the Sentinels that watch them.
//!
//! [`Builder::start`] answers when the group is whole: every replica's link is up, every Sentinel knows every replica
//! and every other Sentinel. Dropping the group kills its servers and removes all that it made.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::kind::{Binaries, Kind};
use crate::namespace::{Host, Switch};
use crate::process::poll;
use crate::sentinel::{self, GROUP_NAME, Watch};
use crate::server::{Duty, Server, Spec};
use crate::sweep::Place;
use crate::tls::Certificates;

const WHOLE: Duration = Duration::from_secs(30);
/// While they find each other, Sentinels say hello and look around more often: a group is whole after 0.3 s instead of
/// 2.2 s. Then they go on as the server would (sentinel.c: 2 s and 10 s).
const HURRIED: [(&str, &str); 2] = [("publish-period", "100"), ("info-period", "100")];
const SERVER_DEFAULTS: [(&str, &str); 2] = [("publish-period", "2000"), ("info-period", "10000")];
/// The default user's password where only an ACL user was asked for.
const ADMIN_PASSWORD: &str = "lab-admin";

/// A data node, by the role that it starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Primary,
    /// Counted from 0.
    Replica(usize),
}

#[derive(Clone, Debug, Default)]
struct Special {
    disk_kib: Option<u32>,
    user: Option<u32>,
    limits: Vec<String>,
    lines: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Builder {
    kind: Kind,
    replicas: usize,
    sentinels: usize,
    password: Option<String>,
    acl_user: Option<(String, String)>,
    namespaces: bool,
    together: bool,
    down_after_ms: u64,
    failover_timeout_ms: u64,
    lines: Vec<String>,
    tls: bool,
    special: BTreeMap<Node, Special>,
}

impl Builder {
    pub fn replicas(mut self, count: usize) -> Builder {
        self.replicas = count;
        self
    }

    pub fn sentinels(mut self, count: usize) -> Builder {
        self.sentinels = count;
        self
    }

    /// The default user's password, which replicas and Sentinels log in with too unless there is an ACL user.
    pub fn password(mut self, password: &str) -> Builder {
        self.password = Some(password.to_owned());
        self
    }

    /// Replicas log in as this user, which every node has with `+psync +replconf +ping` and no more.
    pub fn acl_user(mut self, name: &str, password: &str) -> Builder {
        self.acl_user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// A line of configuration for every data node. An empty value is written as `""`.
    pub fn config(mut self, key: &str, value: &str) -> Builder {
        self.lines.push(line(key, value));
        self
    }

    /// A line for one node only.
    pub fn config_of(mut self, node: Node, key: &str, value: &str) -> Builder {
        self.special.entry(node).or_default().lines.push(line(key, value));
        self
    }

    /// Defaults: 2000 and 6000, quick enough for a test. Production often has 30000 and 180000. With less than twice the
    /// period of their PINGs, a second, a stall of the machine is a failover that nobody asked for.
    pub fn sentinel_timers(mut self, down_after_ms: u64, failover_timeout_ms: u64) -> Builder {
        self.down_after_ms = down_after_ms;
        self.failover_timeout_ms = failover_timeout_ms;
        self
    }

    /// A host of its own for every server, in a network that can be broken. Needs root:
    /// [`crate::namespaces_available`].
    pub fn namespaces(mut self, wanted: bool) -> Builder {
        self.namespaces = wanted;
        self
    }

    /// With namespaces: each Sentinel stands on the host of a data node, as in small installations.
    pub fn sentinels_beside_nodes(mut self) -> Builder {
        self.together = true;
        self
    }

    /// The node's `dir` lies on a disk of this size. Needs root.
    pub fn small_disk(mut self, node: Node, size_kib: u32) -> Builder {
        self.special.entry(node).or_default().disk_kib = Some(size_kib);
        self
    }

    /// A limit for the node's process in prlimit(1)'s words, such as `--nofile=64`.
    pub fn limit(mut self, node: Node, limit: &str) -> Builder {
        self.special.entry(node).or_default().limits.push(limit.to_owned());
        self
    }

    /// The node runs as a user of its own, not as root, so that limits on processes count. Needs root.
    pub fn own_user(mut self, node: Node) -> Builder {
        // Limits count all processes of a user, so no two nodes share one, whoever runs at the same time.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) % 100;
        self.special.entry(node).or_default().user = Some(100_000 + std::process::id() % 1_000_000 * 100 + number);
        self
    }

    /// Data nodes speak TLS and nothing else. Sentinels do not, so a group of this kind has none.
    pub fn tls(mut self) -> Builder {
        self.tls = true;
        self
    }

    pub fn start(self) -> Result<Group> {
        let binaries = self.kind.find().map_err(Error::other)?;
        let place = Place::make()?;
        let switch = self.namespaces.then(|| Switch::make(&place)).transpose()?;
        let wanted = (self.replicas, self.sentinels);
        let certificates = self.tls.then(|| Certificates::make(&place.dir().join("tls"))).transpose()?;
        let mut group =
            Group { nodes: Vec::new(), sentinels: Vec::new(), settings: self, binaries, switch, certificates, place };
        group.launch_node(Node::Primary, &[])?;
        for number in 0..wanted.0 {
            group.launch_node(Node::Replica(number), &[])?;
        }
        group.wait_links()?;
        for _ in 0..wanted.1 {
            group.launch_sentinel(&[])?;
        }
        group.hurry_sentinels(HURRIED)?;
        group.wait_whole()?;
        group.hurry_sentinels(SERVER_DEFAULTS)?;
        Ok(group)
    }
}

/// Fields drop in this order, after [`Group::drop`] killed the servers: disks, then namespaces and directories.
#[derive(Debug)]
pub struct Group {
    nodes: Vec<Server>,
    sentinels: Vec<Server>,
    settings: Builder,
    binaries: Binaries,
    switch: Option<Switch>,
    certificates: Option<Certificates>,
    place: Place,
}

impl Group {
    /// By default: no replicas, no Sentinels, no password, loopback.
    pub fn builder(kind: Kind) -> Builder {
        Builder {
            kind,
            replicas: 0,
            sentinels: 0,
            password: None,
            acl_user: None,
            namespaces: false,
            together: false,
            down_after_ms: 2000,
            failover_timeout_ms: 6000,
            lines: Vec::new(),
            tls: false,
            special: BTreeMap::new(),
        }
    }

    /// The node that started as primary; after a failover see [`Group::current_primary`].
    pub fn primary(&self) -> &Server {
        self.node(0)
    }

    /// The nodes that started as replicas, counted from 0.
    pub fn replica(&self, number: usize) -> &Server {
        self.node(number + 1)
    }

    /// All data nodes in the order of their start: 0 is the first primary.
    pub fn node(&self, number: usize) -> &Server {
        &self.nodes[number]
    }

    pub fn sentinel(&self, number: usize) -> &Server {
        &self.sentinels[number]
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The name under which the Sentinels monitor it.
    pub fn name(&self) -> &'static str {
        GROUP_NAME
    }

    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// The default user's password, as the group was started.
    pub fn password(&self) -> Option<&str> {
        self.settings.admin_password()
    }

    /// What replicas log in with, as the group was started: user and password.
    pub fn replication_login(&self) -> (Option<&str>, Option<&str>) {
        match &self.settings.acl_user {
            Some((user, password)) => (Some(user), Some(password)),
            None => (None, self.settings.password.as_deref()),
        }
    }

    /// The private directory, with one below it for each server.
    pub fn dir(&self) -> &std::path::Path {
        self.place.dir()
    }

    /// The certificates of a group that speaks TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The node that a majority of all Sentinels name.
    pub fn current_primary(&self) -> Option<&Server> {
        let mut votes: BTreeMap<(String, u16), usize> = BTreeMap::new();
        for address in self.sentinels.iter().filter_map(Server::sentinel_primary) {
            *votes.entry(address).or_default() += 1;
        }
        let (address, _) = votes.into_iter().find(|(_, count)| count * 2 > self.sentinels.len())?;
        self.nodes.iter().find(|node| node.endpoint() == address)
    }

    /// One more host in the group's network, for a client. None on loopback.
    pub fn add_host(&self, name: &str) -> Result<Option<Host>> {
        self.switch.as_ref().map(|switch| switch.add_host(name)).transpose()
    }

    /// One more replica of the first primary, with extra configuration for it alone, which wins: another `replicaof`
    /// too. Does not wait for its link.
    pub fn add_replica(&mut self, settings: &[(&str, &str)]) -> Result<Server> {
        self.launch_node(Node::Replica(self.nodes.len() - 1), &lines(settings))?;
        Ok(self.node(self.nodes.len() - 1).clone())
    }

    /// One more Sentinel, with extra configuration: a second `monitor`, a user. Does not wait until it knows the others.
    pub fn add_sentinel(&mut self, settings: &[(&str, &str)]) -> Result<Server> {
        self.launch_sentinel(&lines(settings))?;
        Ok(self.sentinel(self.sentinels.len() - 1).clone())
    }

    fn launch_node(&mut self, node: Node, more: &[String]) -> Result<()> {
        let special = self.settings.special.get(&node).cloned().unwrap_or_default();
        let mut lines = self.settings.node_lines();
        if node != Node::Primary {
            let (host, port) = self.primary().endpoint();
            lines.push(format!("replicaof {host} {port}"));
        }
        lines.extend_from_slice(&special.lines);
        lines.extend_from_slice(more);
        let name = format!("node{}", self.nodes.len());
        let server = self.launch(&name, Duty::Data, lines, special)?;
        self.nodes.push(server);
        Ok(())
    }

    fn launch_sentinel(&mut self, more: &[String]) -> Result<()> {
        let mut lines = sentinel::conf_lines(&Watch {
            primary: self.primary(),
            quorum: self.settings.sentinels / 2 + 1,
            down_after_ms: self.settings.down_after_ms,
            failover_timeout_ms: self.settings.failover_timeout_ms,
            password: self.settings.admin_password(),
        });
        lines.extend_from_slice(more);
        let name = format!("sentinel{}", self.sentinels.len());
        let server = self.launch(&name, Duty::Sentinel, lines, Special::default())?;
        self.sentinels.push(server);
        Ok(())
    }

    fn launch(&self, name: &str, duty: Duty, lines: Vec<String>, special: Special) -> Result<Server> {
        let shared = match duty {
            Duty::Sentinel if self.settings.together => self.nodes.get(self.sentinels.len()).and_then(Server::host),
            Duty::Sentinel | Duty::Data => None,
        };
        let host = match (shared, &self.switch) {
            (Some(host), _) => Some(host.clone()),
            (None, Some(switch)) => Some(switch.add_host(name)?),
            (None, None) => None,
        };
        let admin_password = match duty {
            Duty::Data => self.settings.admin_password().map(str::to_owned),
            Duty::Sentinel => None,
        };
        Server::launch(Spec {
            kind: self.settings.kind,
            binaries: &self.binaries,
            duty,
            dir: self.place.dir().join(name),
            host,
            limits: special.limits,
            disk_kib: special.disk_kib,
            user: special.user,
            tls: self.certificates.clone().filter(|_| duty == Duty::Data),
            admin_password,
            lines,
        })
    }

    fn wait_links(&self) -> Result<()> {
        for replica in self.nodes.iter().skip(1) {
            if replica.wait_link_up(WHOLE).is_none() {
                let log = replica.log_text();
                return Err(Error::other(format!(
                    "the link of {} is not up after {WHOLE:?}:\n{log}",
                    replica.address()
                )));
            }
        }
        Ok(())
    }

    fn hurry_sentinels(&self, periods: [(&str, &str); 2]) -> Result<()> {
        for sentinel in &self.sentinels {
            for (period, ms) in periods {
                sentinel.run(&["SENTINEL", "DEBUG", period, ms]).map_err(Error::other)?;
            }
        }
        Ok(())
    }

    fn wait_whole(&self) -> Result<()> {
        let others = self.sentinels.len().saturating_sub(1);
        for sentinel in &self.sentinels {
            if poll(WHOLE, || sentinel.sentinel_is_whole(self.nodes.len() - 1, others)).is_none() {
                let log = sentinel.log_text();
                let address = sentinel.address();
                return Err(Error::other(format!(
                    "Sentinel {address} does not see a whole group after {WHOLE:?}:\n{log}"
                )));
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for server in self.sentinels.iter().chain(&self.nodes) {
            server.kill9();
        }
    }
}

impl Builder {
    fn admin_password(&self) -> Option<&str> {
        let fallback = self.acl_user.is_some().then_some(ADMIN_PASSWORD);
        self.password.as_deref().or(fallback)
    }

    /// Quick and small by default, and strict where a default of the server would hide a broken link. What a test
    /// sets comes last and wins.
    fn node_lines(&self) -> Vec<String> {
        let mut lines =
            ["save \"\"", "repl-diskless-sync-delay 0", "replica-serve-stale-data no"].map(str::to_owned).to_vec();
        match self.admin_password() {
            Some(password) => lines.push(format!("requirepass {}", quoted(password))),
            None => lines.push("protected-mode no".to_owned()),
        }
        match &self.acl_user {
            Some((user, password)) => {
                let login = quoted(&format!(">{password}"));
                lines.push(format!("user {user} on {login} resetchannels -@all +psync +replconf +ping"));
                lines.push(format!("masteruser {user}"));
                lines.push(format!("masterauth {}", quoted(password)));
            }
            None => lines.extend(self.password.as_deref().map(|word| format!("masterauth {}", quoted(word)))),
        }
        lines.extend_from_slice(&self.lines);
        lines
    }
}

fn line(key: &str, value: &str) -> String {
    if value.is_empty() { format!("{key} \"\"") } else { format!("{key} {value}") }
}

fn lines(settings: &[(&str, &str)]) -> Vec<String> {
    settings.iter().map(|(key, value)| line(key, value)).collect()
}

/// One word of a server's configuration, whatever is in it (sdssplitargs).
pub(crate) fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for byte in word.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}
