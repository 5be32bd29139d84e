//! INFO taken apart.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use super::{Reply, peer_role};
use crate::model::evidence::{CachedNode, Flavour, LinkState, LinkView, PeerRole, ReplicaOfPrimary, Role, ServerView};
use crate::model::group::NodeAccount;
use crate::model::{Endpoint, Timestamp};

/// The default of `replica-priority`; a primary's INFO leaves it out.
const DEFAULT_PRIORITY: u32 = 100;

/// INFO's `key:value` lines. The last of equal keys counts.
pub struct Info<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    pub fn parse(text: &'a str) -> Info<'a> {
        Info(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    pub fn text(&self, key: &str) -> &'a str {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key).parse().ok()
    }

    fn count(&self, key: &str) -> u64 {
        self.number(key).unwrap_or(0)
    }

    fn flag(&self, key: &str) -> bool {
        self.text(key) == "1"
    }

    /// The version and whose it is. Valkey also reports the Redis version that it is compatible with.
    fn flavour(&self) -> (Flavour, String) {
        match self.text("valkey_version") {
            "" => (Flavour::Redis, self.text("redis_version").to_owned()),
            version => (Flavour::Valkey, version.to_owned()),
        }
    }

    fn keys(&self) -> u64 {
        let databases = self.0.iter().filter(|(key, _)| {
            key.strip_prefix("db").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
        databases.filter_map(|(_, value)| pair(value, "keys")?.parse::<u64>().ok()).fold(0, u64::saturating_add)
    }

    /// Since Redis 7.0 one figure has the backlog and the buffers of replicas; before it the backlog stands alone.
    fn replication_buffers(&self) -> u64 {
        self.number("mem_total_replication_buffers").unwrap_or(self.count("mem_replication_backlog"))
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        let counted = self.0.iter().filter_map(|(key, value)| {
            let word = key.strip_prefix("errorstat_")?;
            Some((word.to_owned(), pair(value, "count")?.parse().ok()?))
        });
        counted.collect()
    }

    fn replicas(&self) -> Vec<ReplicaOfPrimary> {
        let listed = self.0.iter().filter_map(|(key, value)| {
            let index: u32 = key.strip_prefix("slave").or_else(|| key.strip_prefix("replica"))?.parse().ok()?;
            let replica = ReplicaOfPrimary {
                endpoint: Endpoint::new(pair(value, "ip")?, pair(value, "port")?.parse().ok()?),
                state: pair(value, "state").unwrap_or_default().to_owned(),
                offset: pair(value, "offset").and_then(|n| n.parse().ok()).unwrap_or(-1),
                lag_s: pair(value, "lag").and_then(|n| n.parse().ok()).unwrap_or(-1),
            };
            Some((index, replica))
        });
        let mut replicas: Vec<_> = listed.collect();
        replicas.sort_by_key(|(index, _)| *index);
        replicas.into_iter().map(|(_, replica)| replica).collect()
    }

    fn link(&self, state: Option<LinkState>) -> Option<LinkView> {
        let up = self.text("master_link_status") == "up";
        let syncing = self.flag("master_sync_in_progress");
        let told = match (up, syncing) {
            (true, _) => LinkState::Connected,
            (false, true) => LinkState::Sync,
            (false, false) => LinkState::Unknown,
        };
        Some(LinkView {
            primary: Endpoint::new(self.text("master_host"), self.number("master_port")?),
            up,
            state: state.unwrap_or(told),
            down_for_s: (!up).then(|| self.number("master_link_down_since_seconds").unwrap_or(-1)),
            last_io_s: self.number("master_last_io_seconds_ago").unwrap_or(-1),
            syncing,
            sync_read: self.count("master_sync_read_bytes"),
            sync_total: self.count("master_sync_total_bytes"),
            sync_last_io_s: self.number("master_sync_last_io_seconds_ago").unwrap_or(-1),
            offset: self.number("slave_repl_offset").unwrap_or(-1),
        })
    }

    /// What the AOF's last write came to, where one is kept.
    fn aof_last_write(&self) -> &'a str {
        if self.text("aof_enabled") == "0" { "ok" } else { self.text("aof_last_write_status") }
    }

    /// The role; `state` is what ROLE adds to it.
    fn role(&self, state: Option<LinkState>) -> Option<Role> {
        match self.text("role") {
            "master" | "primary" => Some(Role::Primary),
            "slave" | "replica" => self.link(state).map(Role::Replica),
            _ if self.text("redis_mode") == "sentinel" || self.text("valkey_mode") == "sentinel" => {
                Some(Role::Sentinel)
            }
            _ => None,
        }
    }
}

/// One data node, out of INFO's text and, where it may be asked, ROLE. `None` when the text tells no role.
pub fn server_view(text: &str, role: Option<&Reply>, at: Timestamp, took_us: u64) -> Option<ServerView> {
    let info = Info::parse(text);
    let state = match role.and_then(peer_role) {
        Some(PeerRole::Replica { state, .. }) => Some(state),
        _ => None,
    };
    let (flavour, version) = info.flavour();
    Some(ServerView {
        at,
        took_us,
        run_id: info.text("run_id").to_owned(),
        flavour,
        version,
        role: info.role(state)?,
        uptime_s: info.count("uptime_in_seconds"),
        loading: info.flag("loading"),
        loading_percent: info.number("loading_loaded_perc").filter(|share: &f64| share.is_finite()),
        loading_bytes: info.number("loading_loaded_bytes"),
        keys: info.keys(),
        used_memory: info.count("used_memory"),
        buffers: info.replication_buffers(),
        maxmemory: info.count("maxmemory"),
        replid: info.text("master_replid").to_owned(),
        replid2: info.text("master_replid2").to_owned(),
        repl_offset: info.number("master_repl_offset").unwrap_or(-1),
        second_repl_offset: info.number("second_repl_offset").unwrap_or(-1),
        backlog_active: info.flag("repl_backlog_active"),
        backlog_size: info.count("repl_backlog_size"),
        backlog_first: info.number("repl_backlog_first_byte_offset").unwrap_or(0),
        backlog_len: info.count("repl_backlog_histlen"),
        sync_full: info.count("sync_full"),
        sync_partial_ok: info.count("sync_partial_ok"),
        sync_partial_err: info.count("sync_partial_err"),
        rdb_last_save_ok: info.text("rdb_last_bgsave_status") != "err",
        unsaved_changes: info.number("rdb_changes_since_last_save"),
        rdb_saving: info.flag("rdb_bgsave_in_progress"),
        aof_last_write_ok: info.aof_last_write() != "err",
        output_buffer_cuts: info.number("client_output_buffer_limit_disconnections"),
        rejected_connections: info.count("rejected_connections"),
        errors: info.errors(),
        config_file: info.text("config_file").to_owned(),
        process_id: info.number("process_id"),
        failover_state: match info.text("master_failover_state") {
            "" => "no-failover".to_owned(),
            state => state.to_owned(),
        },
        priority: info.number("slave_priority").unwrap_or(DEFAULT_PRIORITY),
        replicas: info.replicas(),
    })
}

/// One data node with what an audit asks beside. `None` when the text tells no role.
pub fn node_account(text: &str, role: Option<&Reply>, at: Timestamp, took_us: u64) -> Option<NodeAccount> {
    let server = server_view(text, role, at, took_us)?;
    let info = Info::parse(text);
    let buffers = info.replication_buffers().saturating_add(info.count("mem_clients_normal"));
    Some(NodeAccount {
        data_bytes: server.used_memory.saturating_sub(buffers),
        host_memory: info.count("total_system_memory"),
        server,
    })
}

/// How far replication has come, out of INFO: what a primary has produced, or a replica has got.
pub fn repl_offset(text: &str) -> Option<u64> {
    Info::parse(text).number("master_repl_offset")
}

/// How far replication has come, and in which stream: what a primary has produced, or a replica has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub replid: String,
    pub offset: u64,
    /// It is a primary, or a replica whose link is up. One that syncs leaps to its primary's offset.
    pub steady: bool,
}

impl Progress {
    /// What was added since `first`; none where the two are not of one stream.
    pub fn since(&self, first: &Progress) -> Option<u64> {
        let one_stream = self.steady && first.steady && self.replid == first.replid;
        self.offset.checked_sub(first.offset).filter(|_| one_stream)
    }
}

pub fn progress(text: &str) -> Option<Progress> {
    let info = Info::parse(text);
    let role = info.role(None)?;
    Some(Progress {
        replid: info.text("master_replid").to_owned(),
        offset: info.number("master_repl_offset")?,
        steady: role.link().is_none_or(|link| link.up && !link.syncing && link.offset > 0),
    })
}

/// How many clients are connected; none where INFO does not say.
pub fn connected_clients(text: &str) -> Option<u64> {
    Info::parse(text).number("connected_clients")
}

/// A node out of the INFO that a Sentinel keeps. `None` when the text tells no role.
pub fn cached_node(text: &str, age_ms: u64) -> Option<CachedNode> {
    let info = Info::parse(text);
    let role = info.role(None)?;
    // A candidate has to say that it saves well; silence is not enough to promote it.
    let (flavour, version) = info.flavour();
    Some(CachedNode {
        age_ms,
        run_id: info.text("run_id").to_owned(),
        flavour,
        version,
        is_primary: role == Role::Primary,
        keys: info.keys(),
        repl_offset: match role.link() {
            Some(link) => link.offset,
            None => info.number("master_repl_offset").unwrap_or(-1),
        },
        replid2: info.text("master_replid2").to_owned(),
        second_repl_offset: info.number("second_repl_offset").unwrap_or(-1),
        link_up: role.link().is_some_and(|link| link.up),
        link_down_for_s: role.link().and_then(|link| link.down_for_s),
        priority: info.number("slave_priority").unwrap_or(DEFAULT_PRIORITY),
        rdb_last_save_ok: info.text("rdb_last_bgsave_status") == "ok",
        aof_last_write_ok: info.aof_last_write() == "ok",
        loading: info.flag("loading"),
        good_replicas: info.number("min_slaves_good_slaves"),
    })
}

/// Whose server this is, and its version; `None` when the text does not say.
pub fn build(text: &str) -> Option<(Flavour, String)> {
    Some(Info::parse(text).flavour()).filter(|(_, version)| !version.is_empty())
}

/// Whether a Sentinel is in TILT, out of its INFO; `None` when the text does not say.
pub fn tilt(text: &str) -> Option<bool> {
    Info::parse(text).number::<u8>("sentinel_tilt").map(|flag| flag != 0)
}

/// For how long a server, or a Sentinel, has been running.
pub fn uptime_s(text: &str) -> Option<u64> {
    Info::parse(text).number("uptime_in_seconds")
}

/// A value out of `a=1,b=2`.
fn pair<'a>(list: &'a str, key: &str) -> Option<&'a str> {
    list.split(',').filter_map(|part| part.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
}
