//! What came before a look, and bears on what it means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::finding::{Cause, Flaps};

/// What the agent remembers from before this look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    /// The last time the link was seen up, before the present break.
    pub last_up: Option<Timestamp>,
    /// When the break was first seen.
    pub down_seen: Option<Timestamp>,
    /// The primary's counters when the break was first seen.
    pub sync_full: Option<u64>,
    pub sync_partial_err: Option<u64>,
    pub output_buffer_cuts: Option<u64>,
    /// Whose they are: the primary's `run_id`. Another process counts from its own beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_of: Option<String>,
    /// The replica's replication offset and replication id when the link was last seen up.
    pub offset: Option<i64>,
    pub replid: Option<String>,
    /// Bytes received by a running transfer at an earlier look, and when.
    pub sync_read: Option<(Timestamp, u64)>,
    /// Bytes of it loaded at that look.
    #[serde(default)]
    pub sync_loaded: Option<u64>,
    /// Full syncs that were seen to begin since the link was last up for long, whatever the log remembers.
    #[serde(default)]
    pub attempts: u32,
    /// When the newest of them was found.
    #[serde(default)]
    pub attempted: Option<Timestamp>,
    /// How far the furthest of those before this look came: bytes received and loaded.
    #[serde(default)]
    pub furthest: u64,
    /// When the local server last told that a sync was under way, and whether it was loading then; none where it has told
    /// otherwise since.
    #[serde(default)]
    pub sync_seen: Option<(Timestamp, bool)>,
    /// When Sentinels were last heard or seen to begin a failover, or to vote for one: not before, not after. Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<(Timestamp, Timestamp)>,
    /// Since when each Sentinel, by its address, has been heard without a gap: what it began since then is in `tries`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heard_since: BTreeMap<String, Timestamp>,
    /// Since when each Sentinel, by its id, has held the primary down by itself though it may reach its quorum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alone_since: BTreeMap<String, Timestamp>,
    /// The primary's `repl-ping-replica-period` when it could last be read, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping_period_s: Option<u64>,
    /// When Sentinels were last seen to disagree, or to run a failover.
    pub failover_seen: Option<Timestamp>,
    /// Since when the Sentinels that answer have named more than one address.
    #[serde(default)]
    pub disagree_since: Option<Timestamp>,
    /// Since when the replica has followed an address that the Sentinels do not name, or has been a primary that they do
    /// not name.
    pub astray_since: Option<Timestamp>,
    /// When the Sentinels were seen to name another primary while the local one served and none of them held it down:
    /// a failover that somebody asked for.
    #[serde(default)]
    pub handed_over: Option<Timestamp>,
    /// Since when the primary has not answered from here. Later than `down_seen` where something else broke the link.
    #[serde(default)]
    pub unreached_since: Option<Timestamp>,
    /// The first look at which it was found not to answer. Later than `unreached_since` where the replica told of an
    /// older break.
    #[serde(default)]
    pub unreached_seen: Option<Timestamp>,
    /// The last look of this break at which it did not answer.
    #[serde(default)]
    pub unreached_until: Option<Timestamp>,
    /// Since when the whole handshake has worked from here.
    #[serde(default)]
    pub answered_since: Option<Timestamp>,
    /// The end of the first look of an unbroken row at which it has worked, at the present target and while the link is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_in: Option<Timestamp>,
    /// The secret store still holds what this instance held before its present `masterauth`: others have moved on, and
    /// the store has not.
    #[serde(default)]
    pub store_left: bool,
    /// When the local server's process began, as it told when it last answered: no earlier, and up to two seconds later.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// Full transfers that were seen to begin since the break.
    pub transfers: u32,
    /// Full transfers that the primary's side was seen to end since the break, however long each of them took.
    #[serde(default)]
    pub cut_transfers: u32,
    /// Those of them that ended before the first byte.
    #[serde(default)]
    pub bulk_failures: u32,
    /// Transfers that the replica's own timeout was seen to end since the break, however long each of them took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timed_out: u32,
    /// The largest output buffer that the primary told a replica to have had since the break.
    #[serde(default)]
    pub output_largest: u64,
    /// Bytes by which the primary's stream grew while a transfer lasted, at the pace from its beginning to the next one's.
    #[serde(default)]
    pub grown: Option<u64>,
    /// How long that transfer lasted; none in captures of old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_ms: Option<u64>,
    /// When the present target of the probe was last found to answer here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Timestamp>,
    /// Keys that the replica held when the link was last seen up.
    #[serde(default)]
    pub keys: Option<u64>,
    /// When the replica was seen to have lost all keys to a primary of another history, and how many it had held; 0 where
    /// only the record tells of it.
    #[serde(default)]
    pub emptied: Option<(Timestamp, u64)>,
    /// The link drops again and again: as often, and as close together, that it is one story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<Drops>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Trend {
    /// Connections that the primary has cut for their output buffer since the break, where it counts them and was looked at
    /// before. CONFIG RESETSTAT begins anew with 0.
    pub fn cuts_since(&self, now: Option<u64>) -> Option<u64> {
        let (now, before) = now.zip(self.output_buffer_cuts)?;
        Some(now.checked_sub(before).unwrap_or(now))
    }
}

/// Drops of the link of late, and what they cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    pub flaps: Flaps,
    /// Lines of the replica's log that told of them, 0 where it could not be read.
    pub logged: u32,
    /// How it came back, as the replica's log tells.
    pub partial: u32,
    pub full: u32,
    /// What the primary has counted meanwhile, where its INFO could be read before and after.
    pub counted: Option<Counted>,
    /// What was named firmly while it was down, in order of time.
    pub named: Vec<Cause>,
    /// What it was found to be, where the link has not dropped since: a limit that was raised meanwhile is the mending, and
    /// says nothing else of the drops before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Cause>,
}

/// What a primary has counted over some time. Its counters are of all its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub over_ms: u64,
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
    /// `client_output_buffer_limit_disconnections`, where this server counts them.
    pub output_buffer_cuts: Option<u64>,
    /// Bytes of the replication stream.
    pub written: u64,
}

impl Counted {
    /// Bytes a second.
    pub fn write_rate(&self) -> u64 {
        self.written.saturating_mul(1_000) / self.over_ms.max(1)
    }
}
