//! What a Sentinel says of its group when it is asked: its own view, and what it keeps of each node.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Evidence, Flavour, Missing, Reading, Role};
use crate::model::turn::preference;
use crate::model::{Address, Endpoint, Timestamp};

/// For this long after Sentinels were last seen to disagree or to fail over, they may still be moving replicas.
/// Redis 7.0.15: followers publish `+switch-master` a second before the leader does, and a replica that was not
/// yet told is moved within seconds.
pub const AFTERMATH: Duration = Duration::from_secs(10);

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
    /// Why there are none, where SENTINEL REPLICAS was refused.
    #[serde(default)]
    pub replicas_missing: Option<Missing>,
    /// SENTINEL CKQUORUM: counts living Sentinels only, and said OK while all of them had a wrong
    /// password and saw everything down (Redis 7.0.15).
    pub ckquorum: Reading<Quorum>,
    pub tilt: Reading<bool>,
    /// What this Sentinel itself is, out of its INFO.
    #[serde(default)]
    pub build: Option<(Flavour, String)>,
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
    /// `min_slaves_good_slaves` of a primary: how many replicas count for `min-replicas-to-write`. Servers tell it only
    /// where that setting and `min-replicas-max-lag` are on (Redis 7.0.15 to Valkey 9.1.2, genRedisInfoString).
    #[serde(default)]
    pub good_replicas: Option<u32>,
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
    /// For how long it has had no link to the primary, by its own word; none while it has one. Sentinel reads the INFO of
    /// an unlinked replica each second (Redis 7.0.15, sentinelSendPeriodicCommands), and the server counts whole seconds
    /// by its wall clock, so this is right to a second or so.
    ///
    /// One that was never linked since its start (-1), or was not read for long, has been unlinked for nobody knows how
    /// long: no time at all counts. So a restart makes the time shorter, never longer.
    fn unlinked_ms(&self) -> Option<u64> {
        const OLD_MS: u64 = 15_000;
        let told = u64::try_from(self.link_down_ms).ok().filter(|_| self.info_refresh_ms <= OLD_MS);
        (!self.link_ok).then(|| told.map_or(0, |ms| ms.saturating_add(self.info_refresh_ms)))
    }

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
    /// Those that it does not hold down.
    pub fn in_sight(&self) -> impl Iterator<Item = &ReplicaInSentinel> {
        self.replicas.iter().filter(|replica| !replica.flags.contains("s_down"))
    }

    /// For how long more than half of the replicas in its sight have had no link, all of them at once; none while half of
    /// them are linked.
    pub fn most_unlinked_ms(&self) -> Option<u64> {
        let mut ages: Vec<u64> = self.in_sight().filter_map(ReplicaInSentinel::unlinked_ms).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages.get(self.in_sight().count() / 2).copied()
    }

    /// Whom it would promote at this moment.
    pub fn first_choice(&self) -> Option<&ReplicaInSentinel> {
        self.replicas.iter().filter(|replica| replica.promotable(self)).min_by(|a, b| preference(a, b))
    }

    /// `SENTINEL FAILOVER … COORDINATED` is known since Valkey 9.0. Redis 7.0.15 and 8.2.3 and Valkey 8.0.1 answer the
    /// word with `ERR wrong number of arguments`, and do nothing.
    pub fn knows_coordinated(&self) -> bool {
        self.build.as_ref().is_some_and(|(flavour, version)| {
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            *flavour == Flavour::Valkey && major.is_some_and(|major| major >= 9)
        })
    }

    /// The primary counts no replica as good, so that `min-replicas-to-write`, whatever it is, has it refuse writes; nobody
    /// has a link with which that might end; and whom this Sentinel would promote has got all that was acknowledged before.
    /// The minimum itself is not told by INFO. The count and the offset are up to 10 s old, and have to be younger than the
    /// break; the links are read each second while they are down.
    ///
    /// The offset of a primary without replicas grows on by what Sentinels publish there, 63 bytes a second for each of them
    /// (Redis 7.0.15, Valkey 9.1.2): up to that much is no write. Keys that expire are told apart from writes by nobody.
    pub fn primary_refuses_writes(&self) -> bool {
        /// Bytes a second and Sentinel, with long names; and what was under way.
        const CHATTER: u64 = 150;
        const LEAST: u64 = 512;
        let primary = self.nodes.seen().and_then(|nodes| nodes.get(&self.primary.to_string()));
        let Some((primary, first)) = primary.zip(self.first_choice()) else { return false };
        let since_ms =
            self.most_unlinked_ms().and_then(|age| age.checked_sub(primary.age_ms)).filter(|since| *since > 0);
        primary.good_replicas == Some(0)
            && self.in_sight().all(|replica| !replica.link_ok)
            && since_ms.is_some_and(|since_ms| {
                let sentinels = u64::from(self.others) + 1;
                let chatter = LEAST.saturating_add(sentinels.saturating_mul(CHATTER).saturating_mul(since_ms) / 1000);
                first.offset.saturating_add_unsigned(chatter) >= primary.repl_offset
            })
    }

    /// Whether both name one server: by one address, or by one run id under two spellings. Only some Sentinels of a group
    /// may announce names (`announce-hostnames`).
    pub fn names_as(&self, other: &SentinelSays) -> bool {
        let one_run = !self.primary_run_id.is_empty() && self.primary_run_id == other.primary_run_id;
        self.primary == other.primary || (one_run && self.primary.port == other.primary.port)
    }

    /// When it took up its primary, or was started.
    pub fn took_up_at(&self) -> Timestamp {
        self.at.before(Duration::from_millis(self.role_reported_ms))
    }

    /// Whether it took up its primary a moment ago, or was started then. One that tells no age, or a negative one after its
    /// clock was set back, would read as young for as long as that lasts.
    pub fn is_young(&self) -> bool {
        self.role_reported_ms > 0 && self.may_be_young()
    }

    /// The same, where what is not told counts as well.
    pub fn may_be_young(&self) -> bool {
        Duration::from_millis(self.role_reported_ms) < AFTERMATH
    }

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
