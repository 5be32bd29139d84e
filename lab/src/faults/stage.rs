//! Where faults happen: a few shapes of a group, each made for the faults that need it, with relinkd beside its first
//! replica. Faults of one stage follow each other in one group for as long as it recovers.

use std::fs;
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::agent::Agent;
use crate::group::{Builder, Group, Node};
use crate::kind::Kind;
use crate::process::poll;
use crate::server::Server;

/// How long a group may take to be whole again after a fault, and relinkd to see it so: a Sentinel may be in TILT meanwhile.
const RECOVERY: Duration = Duration::from_secs(60);
/// For so long after a Sentinel took up a primary it may still be moving replicas, and relinkd gives it that time.
pub const AFTERMATH_MS: u64 = 10_000;
pub const DOWN_AFTER_MS: u64 = 2_000;
/// Of the groups in which one is promoted. An election that nobody wins is held again after twice this.
pub const FAILOVER_MS: u64 = 10_000;
/// For so long a Sentinel that stood still, or whose clock was set, holds nobody down (Redis 7.0.15 and Valkey 8.0.1,
/// sentinel.c, SENTINEL_TILT_PERIOD).
pub const TILT_MS: u64 = 30_000;
pub const PASSWORD: &str = "word";
pub const USER: &str = "repl";
/// relinkd only watches: a fault stays until the lab ends it. A healthy link is looked at in depth more often than by
/// default (30 s), and so are passing states recorded sooner (30 s).
pub const POLICY: &str = "mode = \"observe\"\nsettle = \"300ms\"\nbackground = \"2s\"\npatience = \"2s\"\n";

const PATIENT: &str = "mode = \"observe\"\nbackground = \"2s\"\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A primary and a replica on loopback.
    Plain,
    /// The same, and no fault has been at it: what a link that flaps costs is counted over two minutes.
    Fresh,
    /// The same, each on a host of its own.
    Wired,
    /// The same on loopback, each with a small disk.
    Disks,
    /// With a password for all.
    Password,
    /// The replica logs in as a user of its own.
    User,
    /// Both speak TLS.
    Tls,
    /// Two replicas and three Sentinels, each on a host of its own; nobody may be promoted, so nothing moves.
    Watched,
    /// Two replicas and three Sentinels that log in with the group's password.
    Guarded,
    /// Two replicas, of which the other one is promoted, and three Sentinels.
    Moving,
    /// The same, with data that outlives a restart, and relinkd as patient as by default.
    Rolling,
}

impl Stage {
    pub const ALL: [Stage; 11] = [
        Stage::Plain,
        Stage::Fresh,
        Stage::Wired,
        Stage::Disks,
        Stage::Password,
        Stage::User,
        Stage::Tls,
        Stage::Watched,
        Stage::Guarded,
        Stage::Moving,
        Stage::Rolling,
    ];

    /// Why this stage cannot be had on this machine with this server.
    pub fn missing(self, kind: Kind) -> Option<String> {
        let rooted = matches!(self, Stage::Wired | Stage::Disks | Stage::Watched);
        if self == Stage::Tls && !kind.speaks_tls() {
            return Some("built without TLS".to_owned());
        }
        (rooted && !crate::namespaces_available()).then(|| "needs root, iproute2 and nftables".to_owned())
    }

    fn builder(self, kind: Kind) -> Builder {
        let pair = Group::builder(kind).replicas(1);
        let three = Group::builder(kind).replicas(2).sentinels(3).sentinel_timers(DOWN_AFTER_MS, 120_000);
        match self {
            Stage::Plain | Stage::Fresh => limited(pair),
            Stage::Wired => pair.namespaces(true),
            Stage::Disks => pair.small_disk(Node::Primary, 4096).small_disk(Node::Replica(0), 4096),
            Stage::Password => pair.password(PASSWORD),
            Stage::User => pair.acl_user(USER, PASSWORD),
            Stage::Tls => pair.tls(),
            Stage::Watched => three.namespaces(true).config("replica-priority", "0"),
            Stage::Guarded => three.password(PASSWORD).config("replica-priority", "0"),
            Stage::Rolling => three.sentinel_timers(DOWN_AFTER_MS, FAILOVER_MS).config("save", "3600 1").config_of(
                Node::Replica(0),
                "replica-priority",
                "0",
            ),
            Stage::Moving => {
                three.sentinel_timers(DOWN_AFTER_MS, FAILOVER_MS).config_of(Node::Replica(0), "replica-priority", "0")
            }
        }
    }

    /// Whether the Sentinels' first seconds, in which they may be moving replicas, have to be over.
    fn settles(self) -> bool {
        matches!(self, Stage::Watched | Stage::Guarded | Stage::Rolling)
    }
}

/// The primary's number of processes can be limited, which takes root. A thread that cannot be made would end Valkey 8.0
/// (jemalloc tries without end).
fn limited(pair: Builder) -> Builder {
    if !crate::namespaces_available() {
        return pair;
    }
    pair.own_user(Node::Primary).config_of(Node::Primary, "jemalloc-bg-thread", "no")
}

/// Dropped in this order: relinkd, then the servers.
pub struct Stand {
    pub stage: Stage,
    pub agent: Agent,
    pub group: Group,
    relinkd: Arc<Path>,
}

impl Stand {
    /// Whole, and seen so by relinkd.
    pub fn start(stage: Stage, kind: Kind, relinkd: &Arc<Path>) -> Result<Stand> {
        let policy = if stage == Stage::Rolling { PATIENT } else { POLICY };
        Stand::with(stage, stage.builder(kind), relinkd, policy)
    }

    pub fn with(stage: Stage, builder: Builder, relinkd: &Arc<Path>, policy: &str) -> Result<Stand> {
        let group = builder.start()?;
        group.primary().write(400, 16).map_err(Error::other)?;
        let mut agent = Agent::new(relinkd)?.beside(group.replica(0));
        fs::create_dir_all(agent.dir().join("state"))?;
        agent.write_file("password", group.password().unwrap_or_default())?;
        let text = config(&agent, &group, policy);
        agent.start(&text)?;
        let stand = Stand { stage, agent, group, relinkd: Arc::clone(relinkd) };
        stand.wait_whole()?;
        Ok(stand)
    }

    pub fn primary(&self) -> &Server {
        self.group.primary()
    }

    /// The one that relinkd watches.
    pub fn replica(&self) -> &Server {
        self.group.replica(0)
    }

    /// What relinkd logs in to the replica with.
    pub fn login(&self) -> std::path::PathBuf {
        self.agent.dir().join("password")
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.agent.dir().join("run/control.sock")
    }

    /// A verb with this configuration, in the replica's network.
    pub fn verb(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.replica().command_beside(&*self.relinkd);
        command.arg("--config").arg(self.agent.config_path()).args(words).output()
    }

    pub fn verb_json(&self, words: &[&str]) -> Result<Value> {
        let output = self.verb(&[words, &["--json"]].concat())?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            Error::other(format!("relinkd {}: {error}: {}", words.join(" "), said.trim()))
        })
    }

    /// Waits until the group is whole, and relinkd sees nothing wrong.
    pub fn wait_whole(&self) -> Result<()> {
        let links = || self.group.nodes().iter().skip(1).all(Server::is_link_up);
        let level = || {
            let keys = |server: &Server| server.query::<u64>(&["DBSIZE"]).ok();
            let of_primary = keys(self.primary());
            self.group.nodes().iter().all(|node| keys(node) == of_primary)
        };
        let sentinels = || {
            let (replicas, others) = (self.group.nodes().len() - 1, self.group.sentinels().len().saturating_sub(1));
            let whole =
                |one: &Server| one.sentinel_is_whole(replicas, others) && !is_in_tilt(one) && self.is_settled(one);
            self.group.sentinels().iter().all(whole)
        };
        let seen = || status(&self.socket()).is_some_and(|status| status["cause"].is_null());
        let whole = poll(RECOVERY, || {
            let whole = links() && level() && sentinels() && seen();
            // A group of Sentinels is many questions: not too often.
            std::thread::sleep(Duration::from_millis(20));
            whole
        });
        whole.map(drop).ok_or_else(|| {
            let said = status(&self.socket()).map_or("nothing".to_owned(), |status| status["sentence"].to_string());
            Error::other(format!("the group is not whole within {RECOVERY:?}; relinkd says {said}"))
        })
    }

    /// How many failovers the Sentinels have begun.
    pub fn failovers(&self) -> usize {
        self.group.sentinels().iter().map(|sentinel| sentinel.log_text().matches("+try-failover").count()).sum()
    }

    fn is_settled(&self, sentinel: &Server) -> bool {
        let age = sentinel.sentinel_field("role-reported-time").and_then(|age| age.parse::<u64>().ok());
        !self.stage.settles() || age.is_some_and(|age| age > AFTERMATH_MS)
    }
}

fn is_in_tilt(sentinel: &Server) -> bool {
    sentinel.info("sentinel", "sentinel_tilt").as_deref() == Some("1")
}

/// What `relinkd status --json` prints of the instance, asked where that verb asks.
pub fn status(socket: &Path) -> Option<Value> {
    let asked = || -> Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"{\"verb\":\"status\"}\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    let mut answer: Value = serde_json::from_str(&asked().ok()?).ok()?;
    let status = answer["replicas"].as_array_mut()?.first_mut().map(Value::take)?;
    (!status["looked_at"].is_null()).then_some(status)
}

fn config(agent: &Agent, group: &Group, policy: &str) -> String {
    let dir = agent.dir().display();
    let mut text = format!(
        "[agent]\nhost = \"lab\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlog_level = \"debug\"\n\n\
         [policy]\n{policy}\n"
    );
    let mut replica = format!("[replica.cache]\naddress = \"{}\"\n", group.replica(0).address());
    if !group.sentinels().is_empty() {
        let sentinels: Vec<String> = group.sentinels().iter().map(|server| format!("{:?}", server.address())).collect();
        text += &format!("[group.{}]\nsentinels = [{}]\n\n", group.name(), sentinels.join(", "));
        replica += &format!("group = \"{}\"\n", group.name());
    }
    if group.password().is_some() {
        replica += &format!("password = {{ file = \"{dir}/password\" }}\n");
    }
    if let Some(certificates) = group.certificates() {
        replica += &format!("tls = {{ ca = \"{}\" }}\n", certificates.ca().display());
    }
    text + &replica
}
