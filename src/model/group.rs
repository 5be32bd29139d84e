//! A whole group in one account: every Sentinel, every data node, and what each node's login meets at the others.
//!
//! As in [`evidence`](super::evidence), what was not read says why, and no secret is part of it: a login is a user
//! name and a salted fingerprint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence::{CachedNode, Disk, Memory, Missing, Probe, Reading, SentinelSays, ServerView};
use super::{Endpoint, Timestamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// The Sentinels' name for it.
    pub name: String,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub sentinels: Vec<GroupSentinel>,
    /// Every node that a Sentinel lists and every instance that is configured here, in the order of their addresses.
    pub nodes: Vec<GroupNode>,
    /// Each node's login, tried at every node. None where the settings of no node could be read.
    pub logins: Vec<LoginProof>,
    /// Secrets of ours that could not be fetched: whole sentences, without any value.
    pub unfetched: Vec<String>,
    /// What the servers' own client needs on its command line to speak TLS to this group; none without TLS.
    pub tls: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSentinel {
    pub endpoint: Endpoint,
    /// False: not in our configuration, another Sentinel told of it.
    pub configured: bool,
    pub says: Reading<SentinelSays>,
    /// The other Sentinels as this one lists them.
    pub peers: Reading<Vec<SentinelPeer>>,
    /// Replicas that it lists without a usable address, as in `10.0.0.2:0`.
    pub ghosts: Reading<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelPeer {
    pub id: String,
    pub endpoint: Endpoint,
    pub down: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNode {
    /// As the Sentinels list it.
    pub address: Endpoint,
    /// Its name in our configuration, where it is an instance on this host.
    pub local: Option<String>,
    pub account: Reading<NodeAccount>,
    pub settings: Reading<NodeSettings>,
    /// Its replication offset, read twice.
    pub growth: Reading<Growth>,
    /// The disk below its `dir`; asked of local instances only.
    pub disk: Reading<Disk>,
    pub memory: Reading<Memory>,
    /// The size of the RDB that lies in its `dir`, where it is younger than a day; asked of local instances only.
    pub rdb_bytes: Reading<u64>,
    /// What others may do here; asked with the login of the default user only.
    pub rights: Reading<Rights>,
    /// What its supervisor does when it ends; asked of local instances only.
    pub restart: Reading<Restart>,
}

/// What the users of others may do at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The users that Sentinels are connected with, and which commands of a failover each lacks.
    pub sentinels: BTreeMap<String, Vec<String>>,
    /// Whether a user may PSYNC and REPLCONF, by its rules. Asked where trying it is not safe (Redis 6.2).
    pub replicates: BTreeMap<String, bool>,
}

/// `Restart=` and `RestartSec=` of a node's unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    pub policy: String,
    pub after_ms: u64,
}

impl Restart {
    /// Whether a process that was killed is started again sooner than this.
    pub fn is_sooner_than(&self, ms: u64) -> bool {
        !matches!(self.policy.as_str(), "no" | "on-success" | "on-watchdog") && self.after_ms < ms
    }
}

/// What a node tells of itself in INFO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeAccount {
    pub server: ServerView,
    /// `used_memory` without the buffers of replication and clients: what a data set of this size takes.
    pub data_bytes: u64,
    /// `total_system_memory`; 0 where it is not told.
    pub host_memory: u64,
}

/// What a node tells of its settings in CONFIG GET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    pub masteruser: String,
    pub masterauth_set: bool,
    /// `masteruser` or `masterauth` is not UTF-8: it cannot be tried from here.
    pub login_not_text: bool,
    /// Salted fingerprint of `masteruser` and `masterauth` together; also of an empty `masterauth`.
    pub login: String,
    pub repl_timeout_s: u64,
    pub ping_period_s: u64,
    pub backlog_size: u64,
    /// For how long a primary without any replica keeps its backlog; 0: for ever.
    pub backlog_ttl_s: u64,
    /// Replica class of `client-output-buffer-limit`; 0 is no limit.
    pub output_hard: u64,
    pub output_soft: u64,
    pub output_soft_s: u64,
    pub diskless_sync: bool,
    pub diskless_sync_delay_s: u64,
    /// `disabled`, `on-empty-db`, `swapdb` or `flush-before-load`.
    pub diskless_load: String,
    /// `repl-rdb-channel` (Redis 8) or `dual-channel-replication-enabled` (Valkey 8): during a sync the replica itself
    /// keeps what is written meanwhile.
    pub rdb_channel: bool,
    pub serve_stale_data: bool,
    pub save: String,
    pub append_only: bool,
    pub stop_writes: bool,
    pub min_replicas_to_write: u64,
    pub min_replicas_max_lag_s: u64,
    /// `replica-announce-ip`, and `-port`; empty and 0 where it announces nothing.
    pub announce_ip: String,
    pub announce_port: u16,
    /// `replica-announced`; true where the server does not know it.
    pub announced: bool,
    pub dir: String,
    pub priority: u64,
    pub tls_replication: bool,
}

impl NodeSettings {
    pub fn persists(&self) -> bool {
        !self.save.is_empty() || self.append_only
    }

    /// How many replicas a write needs. Both settings have to be set for the guard to act (Redis 7.0.15,
    /// refreshGoodSlavesCount).
    pub fn min_replicas(&self) -> u64 {
        if self.min_replicas_max_lag_s == 0 { 0 } else { self.min_replicas_to_write }
    }
}

/// A replication offset at two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    pub bytes: u64,
    pub over_ms: u64,
}

impl Growth {
    pub fn bytes_per_s(&self) -> u64 {
        self.bytes.saturating_mul(1000) / self.over_ms.max(1)
    }
}

/// A login of a node, tried at another by the steps of a replica's handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginProof {
    /// [`NodeSettings::login`] of those who hold it.
    pub login: String,
    pub at: Endpoint,
    pub probe: Probe,
}

impl GroupView {
    /// Whether anybody answered at all: a server that turns us away has answered.
    pub fn was_reached(&self) -> bool {
        let told = |why: Option<&Missing>| {
            matches!(why, None | Some(Missing::Denied(_) | Missing::Unsupported(_) | Missing::UnknownGroup(_)))
        };
        self.sentinels.iter().any(|sentinel| told(sentinel.says.missing()))
            || self.nodes.iter().any(|node| told(node.account.missing()))
    }

    /// The Sentinels that answered.
    pub fn answering(&self) -> impl Iterator<Item = (&Endpoint, &SentinelSays)> {
        self.sentinels.iter().filter_map(|sentinel| Some((&sentinel.endpoint, sentinel.says.seen()?)))
    }

    /// How many Sentinels exist as far as anybody knows.
    pub fn sentinels_known(&self) -> usize {
        let told = self.answering().map(|(_, says)| says.others as usize + 1).max().unwrap_or(0);
        told.max(self.sentinels.len())
    }

    /// The address that most answering Sentinels name as primary.
    pub fn named_primary(&self) -> Option<&Endpoint> {
        let mut votes: BTreeMap<&Endpoint, usize> = BTreeMap::new();
        for (_, says) in self.answering() {
            *votes.entry(&says.primary).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(named, _)| named)
    }

    pub fn primary(&self) -> Option<&GroupNode> {
        let named = self.named_primary()?;
        self.nodes.iter().find(|node| node.address == *named)
    }

    /// A node's INFO as the Sentinels last read it, the newest of them.
    pub fn cached(&self, address: &Endpoint) -> Option<&CachedNode> {
        let name = address.to_string();
        let told = self.answering().filter_map(|(_, says)| says.nodes.seen()?.get(&name));
        told.min_by_key(|node| node.age_ms)
    }

    /// How many answering Sentinels hold a flag against a node.
    pub fn flagging(&self, address: &Endpoint, flag: &str) -> usize {
        self.answering().filter(|(_, says)| says.flags_of(address).is_some_and(|flags| flags.contains(flag))).count()
    }
}
