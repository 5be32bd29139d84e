//! What a Sentinel says of its group when it is asked: its own view, and what it keeps of each node.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Evidence, Flavour, Reading, Role};
use crate::model::{Address, Endpoint, Timestamp};

/// One Sentinel's account of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelView {
    pub endpoint: Endpoint,
    pub says: Reading<SentinelSays>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelSays {
    pub at: Timestamp,
    pub took_us: u64,
    pub id: String,
    pub primary: Endpoint,
    /// The primary's run id, as it stood in the INFO that is `info_refresh_ms` old; empty where there was none.
    #[serde(default)]
    pub primary_run_id: String,
    /// Flags of the primary: `master`, `s_down`, `o_down`, `disconnected`, `failover_in_progress` and so on.
    pub flags: BTreeSet<String>,
    /// Milliseconds since the primary last answered its PING well (`last-ok-ping-reply`), and since it last answered at
    /// all, be it with an error (`last-ping-reply`): a Sentinel that cannot log in has answers, and no good one
    /// (Redis 7.0.15, sentinelPingReplyCallback). It pings every second, or every `down-after` if that is less.
    #[serde(default)]
    pub last_ok_ping_ms: Option<u64>,
    #[serde(default)]
    pub last_reply_ms: Option<u64>,
    /// How long it has been held subjectively and objectively down, milliseconds.
    pub s_down_ms: Option<u64>,
    pub o_down_ms: Option<u64>,
    pub config_epoch: u64,
    pub quorum: u32,
    /// How many other Sentinels it knows.
    pub others: u32,
    pub down_after_ms: u64,
    pub failover_timeout_ms: u64,
    /// `failover-state` while a failover runs on this Sentinel.
    pub failover_state: Option<String>,
    /// Milliseconds since it last read the primary's INFO: the age of its view.
    pub info_refresh_ms: u64,
    /// Milliseconds since the primary has reported its present role: short after a failover.
    pub role_reported_ms: u64,
    /// For how long this Sentinel has been running, out of its INFO.
    #[serde(default)]
    pub uptime_s: Option<u64>,
    pub replicas: Vec<ReplicaInSentinel>,
    /// SENTINEL CKQUORUM: counts living Sentinels only, and said OK while all of them had a wrong
    /// password and saw everything down (Redis 7.0.15).
    pub ckquorum: Reading<Quorum>,
    pub tilt: Reading<bool>,
    /// INFO of the group's data nodes as this Sentinel last read it, by address (SENTINEL INFO-CACHE).
    pub nodes: Reading<BTreeMap<String, CachedNode>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    pub ok: bool,
    pub text: String,
}

/// One replica as a Sentinel lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaInSentinel {
    pub endpoint: Endpoint,
    pub run_id: String,
    pub flags: BTreeSet<String>,
    pub priority: u32,
    pub offset: i64,
    pub link_ok: bool,
    /// `master-link-down-time`, milliseconds; -1000 means never linked since it started, which Sentinel
    /// reads as fresh (Redis 7.0.15, sentinelSelectSlave).
    pub link_down_ms: i64,
    pub info_refresh_ms: u64,
    pub last_ok_ping_ms: u64,
    /// Since its last answer to a PING, well or not.
    #[serde(default)]
    pub last_reply_ms: Option<u64>,
    pub primary: Option<Endpoint>,
    pub announced: bool,
    /// `role-reported`: it calls itself a primary, as one does that was promoted and is not yet listed as such.
    #[serde(default)]
    pub reports_primary: bool,
    /// How long it has been held down, milliseconds.
    #[serde(default)]
    pub s_down_ms: Option<u64>,
}

/// A data node out of SENTINEL INFO-CACHE: what a failover has to know of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedNode {
    /// Age of the cached INFO, milliseconds.
    pub age_ms: u64,
    pub run_id: String,
    pub flavour: Flavour,
    pub version: String,
    pub is_primary: bool,
    pub keys: u64,
    pub repl_offset: i64,
    /// The history that it had before the present one, and the offset that it left it at.
    #[serde(default)]
    pub replid2: String,
    #[serde(default)]
    pub second_repl_offset: i64,
    pub link_up: bool,
    pub link_down_for_s: Option<i64>,
    pub priority: u32,
    pub rdb_last_save_ok: bool,
    pub aof_last_write_ok: bool,
    pub loading: bool,
}

/// Ages in milliseconds, of the last answer and of the last good one, at a PING a second.
fn nothing_but_errors(reply: u64, good: u64) -> bool {
    reply < 2_500 && reply.saturating_add(500) < good
}

/// Where each of these ids has come before, if it has: a Sentinel that is listed under two addresses has one vote. An
/// empty id says nothing.
pub fn repeats<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<Option<usize>> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let place = |(index, id)| match id {
        "" => None,
        id => match known.entry(id) {
            Entry::Vacant(first) => {
                first.insert(index);
                None
            }
            Entry::Occupied(first) => Some(*first.get()),
        },
    };
    ids.into_iter().enumerate().map(place).collect()
}

impl ReplicaInSentinel {
    /// Whether this Sentinel may promote the replica, by its own rules (Redis 7.0.15 to Valkey 9.0.5,
    /// sentinelSelectSlave). That its link is up is not among them.
    pub fn promotable(&self, says: &SentinelSays) -> bool {
        let bad = ["s_down", "o_down", "disconnected"].iter().any(|flag| self.flags.contains(*flag));
        let stale_after = if says.flags.contains("s_down") { 5_000 } else { 30_000 };
        let longest_down = says.s_down_ms.unwrap_or(0).saturating_add(says.down_after_ms.saturating_mul(10));
        !bad && self.priority != 0
            && self.last_ok_ping_ms <= 5_000
            && self.info_refresh_ms <= stale_after
            && self.link_down_ms <= i64::try_from(longest_down).unwrap_or(i64::MAX)
    }
}

impl SentinelSays {
    /// Whether this Sentinel is in the middle of a failover of the group.
    pub fn fails_over(&self) -> bool {
        self.flags.contains("failover_in_progress") || self.failover_state.is_some()
    }

    /// Whether it was there when the primary got its role. The age of a role begins anew when the Sentinel takes over
    /// another primary, and also with its own start (Redis 7.0.15, sentinelResetMaster and createSentinelRedisInstance):
    /// one that was just restarted knows the primary since then, and no failover follows from that.
    pub fn saw_the_role_begin(&self) -> bool {
        const STARTING: Duration = Duration::from_secs(5);
        let known = Duration::from_millis(self.role_reported_ms);
        self.uptime_s.is_none_or(|uptime_s| known.saturating_add(STARTING) < Duration::from_secs(uptime_s))
    }

    /// When the primary last answered this Sentinel's PING, well or not; not later than in truth. None: not known, or
    /// never since it watches this primary, whose ages all begin together (Redis 7.0.15, createInstanceLink and
    /// sentinelResetMaster).
    pub fn answered_at(&self) -> Option<Timestamp> {
        let age_ms = self.last_reply_ms.filter(|age| age.saturating_add(100) < self.role_reported_ms)?;
        Some(self.at.before(Duration::from_millis(age_ms).saturating_add(Duration::from_micros(self.took_us))))
    }

    /// Whether the primary answers this Sentinel's PINGs, and with nothing but errors: so it is where the login fails
    /// (NOAUTH: seen every second on Redis 7.0.15 and Valkey 9.1.2), and not where the network is cut. None: not told.
    pub fn only_errors(&self) -> Option<bool> {
        Some(nothing_but_errors(self.last_reply_ms?, self.last_ok_ping_ms?))
    }

    /// The same of any node of the group that this Sentinel lists.
    pub fn only_errors_of(&self, address: &Endpoint) -> Option<bool> {
        if self.primary == *address {
            return self.only_errors();
        }
        let replica = self.replicas.iter().find(|replica| replica.endpoint == *address)?;
        Some(nothing_but_errors(replica.last_reply_ms?, replica.last_ok_ping_ms))
    }

    /// What this Sentinel holds of a node of the group; none where it does not list it.
    pub fn flags_of(&self, address: &Endpoint) -> Option<&BTreeSet<String>> {
        if self.primary == *address {
            return Some(&self.flags);
        }
        self.replicas.iter().find(|replica| replica.endpoint == *address).map(|replica| &replica.flags)
    }
}

impl Evidence {
    /// Whether the local instance is the primary that a majority of the Sentinels name: by its address, or by its run id
    /// where its address reads differently from there.
    pub fn is_the_named_primary(&self) -> bool {
        let (Some(view), Some((named, _))) = (self.local.seen(), self.named_primary()) else { return false };
        let known = |says: &SentinelSays| {
            let node = says.nodes.seen().and_then(|nodes| nodes.get(&named.to_string()));
            node.is_some_and(|node| node.run_id == view.run_id)
        };
        let here = self.address == Address::Tcp(named.clone()) || self.answering().any(|(_, says)| known(says));
        view.role == Role::Primary && here
    }
}
