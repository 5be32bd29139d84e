//! What was seen in one look at the whole, each view with its time, each absence with its reason.
//!
//! A missing reading is never taken for health, nor for sickness. No secret is ever part of evidence: a
//! password shows only as set or not, and as a salted fingerprint. So evidence can be saved and shared.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Address, Endpoint, LinkId, Timestamp};

mod probe;
mod sentinel;
mod successor;
mod trend;

pub use probe::{Answer, Connect, Lookup, PeerRole, Probe};
pub use sentinel::{AFTERMATH, CachedNode, Quorum, ReplicaInSentinel, SentinelSays, SentinelView, repeats};
pub use successor::Successor;
pub use trend::{Counted, Drops, Trend};

/// A reading, or why there is none. Never an `Option`: absence has a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    Seen(T),
    Missing(Missing),
}

/// Why a reading is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// No answer before the deadline.
    TimedOut,
    /// Nothing listens there; of what is no peer, the system's reason.
    Refused(String),
    /// The way to the peer does not work, or ends before an answer: no route, a name that is not found, TLS, a cut, a
    /// peer that is full. It says nothing of whether the peer lives. Captures of old have it as `refused`.
    Unreachable(String),
    /// The peer is in a long script or command, and says so (`-BUSY`).
    Busy(String),
    /// The peer answered, and does not let us: the error as it was given.
    Denied(String),
    /// The peer does not know what we asked for, or answered what we cannot read.
    Unsupported(String),
    /// A Sentinel answered, and watches no group of the name that it was asked for: which name, and which it knows.
    UnknownGroup(String),
    /// Nobody asked: not configured, or not needed for this look.
    NotAsked,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missing::TimedOut => f.write_str("no answer in time"),
            Missing::Refused(why) => write!(f, "refused: {why}"),
            Missing::Unreachable(why) | Missing::Busy(why) | Missing::UnknownGroup(why) => f.write_str(why),
            Missing::Denied(why) => write!(f, "denied: {why}"),
            Missing::Unsupported(why) => write!(f, "not understood: {why}"),
            Missing::NotAsked => f.write_str("not asked"),
        }
    }
}

impl<T> Reading<T> {
    pub fn seen(&self) -> Option<&T> {
        match self {
            Reading::Seen(value) => Some(value),
            Reading::Missing(_) => None,
        }
    }

    pub fn missing(&self) -> Option<&Missing> {
        match self {
            Reading::Seen(_) => None,
            Reading::Missing(why) => Some(why),
        }
    }
}

/// Everything that one look saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Raised when a field changes its meaning, so that a saved capture is never misread.
    pub format: u32,
    pub link: LinkId,
    pub address: Address,
    /// When the look began and ended. Everything inside was read between the two.
    pub began: Timestamp,
    pub ended: Timestamp,
    /// The watched instance, as it tells of itself.
    pub local: Reading<ServerView>,
    /// Its replication settings.
    pub settings: Reading<SettingsView>,
    /// What a replica's handshake with its own primary meets: same address, same credentials.
    pub upstream: Reading<Probe>,
    /// Tried when the local server does not answer and its primary has a name: a server that waits for its resolver
    /// answers nobody meanwhile.
    #[serde(default)]
    pub lookup: Option<Lookup>,
    /// The same towards the primary that the Sentinels name, when that is another address.
    pub named: Reading<Probe>,
    /// The primary's own account of itself (INFO), where our credentials allow it.
    pub primary: Reading<ServerView>,
    /// Limits on the primary that decide whether a sync can end (CONFIG GET), where allowed.
    pub primary_limits: Reading<LimitsView>,
    /// Every configured Sentinel, one by one.
    pub sentinels: Vec<SentinelView>,
    pub host: HostView,
    /// What the server's log said of late, by kind.
    pub log: Reading<LogView>,
    /// Passwords that the secret store offers, each proved or not against the primary. Empty unless asked for.
    pub candidates: Vec<CandidateView>,
    /// Why the store could not be read, when it was asked; `TimedOut` while it is asked on.
    pub store: Reading<StoreView>,
    /// On the primary's own host: what the replicas that Sentinel would promote first say to a login with this primary's
    /// `masteruser` and `masterauth`. They decide whether it can come back as a replica. Asked for in a deep look.
    #[serde(default)]
    pub standbys: Vec<Probe>,
    /// The replicas that a Sentinel has in sight, where a majority of the Sentinels holds the primary down.
    #[serde(default)]
    pub successors: Vec<Successor>,
    /// What the watcher remembers from before this look. Filled in by the agent.
    pub trend: Trend,
}

/// The present format of [`Evidence`].
pub const EVIDENCE_FORMAT: u32 = 1;

/// INFO and ROLE of one data node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    pub at: Timestamp,
    /// Time from the question to the answer, microseconds.
    pub took_us: u64,
    pub run_id: String,
    pub flavour: Flavour,
    pub version: String,
    pub role: Role,
    pub uptime_s: u64,
    pub loading: bool,
    /// Share of the data set loaded, percent, while loading.
    pub loading_percent: Option<f64>,
    /// Bytes of it that have been loaded, while loading, be it beside the old one (`async_loading`).
    #[serde(default)]
    pub loading_bytes: Option<u64>,
    /// Keys over all databases.
    pub keys: u64,
    pub used_memory: u64,
    /// What of it is the backlog and the buffers of replicas.
    #[serde(default)]
    pub buffers: u64,
    /// 0: no limit.
    pub maxmemory: u64,
    pub replid: String,
    pub replid2: String,
    /// `master_repl_offset`: what a primary has produced, or a replica has been told of.
    pub repl_offset: i64,
    /// The offset up to which `replid2` is valid; -1 for none.
    pub second_repl_offset: i64,
    pub backlog_active: bool,
    pub backlog_size: u64,
    /// The oldest offset that a partial resync can start from.
    pub backlog_first: i64,
    pub backlog_len: u64,
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
    pub rdb_last_save_ok: bool,
    /// `rdb_changes_since_last_save`: keys written since the last save, or since the start.
    #[serde(default)]
    pub unsaved_changes: Option<u64>,
    pub rdb_saving: bool,
    /// True where no AOF is kept: what its last write came to when there was one stays in INFO for good
    /// (Redis 7.0.15, stopAppendOnly).
    pub aof_last_write_ok: bool,
    /// Replication connections cut for their output buffer, where the server counts them (Redis 7.2+, Valkey).
    pub output_buffer_cuts: Option<u64>,
    pub rejected_connections: u64,
    /// `errorstat_*` counters, by error word.
    pub errors: BTreeMap<String, u64>,
    pub config_file: String,
    #[serde(default)]
    pub process_id: Option<u32>,
    /// `master_failover_state`: anything but `no-failover` means that FAILOVER runs on this node.
    pub failover_state: String,
    pub priority: u32,
    /// The connected replicas as a primary lists them.
    pub replicas: Vec<ReplicaOfPrimary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    Redis,
    Valkey,
}

/// What an instance is, with the link when it is a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Primary,
    Replica(LinkView),
    Sentinel,
}

impl Role {
    pub fn link(&self) -> Option<&LinkView> {
        match self {
            Role::Replica(link) => Some(link),
            _ => None,
        }
    }

    /// As status and facts name it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica(_) => "replica",
            Role::Sentinel => "sentinel",
        }
    }
}

/// The replica's side of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    pub primary: Endpoint,
    pub up: bool,
    pub state: LinkState,
    /// `master_link_down_since_seconds`; none while up, -1 when never connected since the process began
    /// (Redis 7.0.15 and Valkey 8.0.1, replicationCron: set only when an established link drops).
    pub down_for_s: Option<i64>,
    /// Seconds since the primary last said anything; -1 while down.
    pub last_io_s: i64,
    pub syncing: bool,
    /// Bytes received of the running transfer.
    pub sync_read: u64,
    /// Bytes in all, 0 where the server does not know (diskless).
    pub sync_total: u64,
    pub sync_last_io_s: i64,
    /// `slave_repl_offset`. Of an established link 0 is a place like any other: there a primary begins that came back
    /// without data (Redis 8.2.3); -1 where SYNC linked it, which tells none. Of a broken one without a kept link 1
    /// (Redis 7.0.15, genRedisInfoString).
    pub offset: i64,
}

impl LinkView {
    /// A full sync is under way: the data set is waited for, comes in, or is loaded.
    pub fn in_sync(&self) -> bool {
        self.syncing || self.state == LinkState::Sync
    }
}

/// ROLE's fourth element. `handshake` is real though the documentation leaves it out
/// (Redis 7.0.15, roleCommand).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Waiting for the next attempt, once a second.
    Connect,
    /// TCP or TLS on its way, unanswered.
    Connecting,
    Handshake,
    /// Waiting for the data set, receiving it, or loading it.
    Sync,
    Connected,
    Unknown,
}

/// `slaveN:` of a primary's INFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaOfPrimary {
    pub endpoint: Endpoint,
    /// `wait_bgsave`, `send_bulk` or `online`.
    pub state: String,
    pub offset: i64,
    pub lag_s: i64,
}

/// What CONFIG GET says of a replica's own settings. Never a password, only whether one is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsView {
    pub at: Timestamp,
    pub masteruser: String,
    pub masterauth_set: bool,
    /// Salted fingerprint of `masterauth`, comparable within one daemon's life only.
    pub masterauth_print: String,
    pub repl_timeout_s: u64,
    pub dir: String,
    pub logfile: String,
    pub diskless_load: String,
    pub serve_stale_data: bool,
    pub tls_replication: bool,
    /// `save` names points, and `stop-writes-on-bgsave-error` is on: a failed save then stops writes.
    #[serde(default)]
    pub save_stops_writes: bool,
    /// `replica-ignore-disk-write-errors`; false where the server does not know it.
    #[serde(default)]
    pub ignores_disk_errors: bool,
    /// `masteruser` or `masterauth` is not UTF-8: relinkd neither sends such a login nor could put it back.
    #[serde(default)]
    pub login_not_text: bool,
}

impl SettingsView {
    /// Whether this is the login with which the instance goes to its primary; without `user`, whoever it goes as.
    pub fn logs_in_with(&self, user: Option<&str>, print: &str) -> bool {
        self.masterauth_print == print && user.is_none_or(|user| user == self.masteruser)
    }
}

/// Settings of a primary on which a sync depends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    pub at: Timestamp,
    pub repl_timeout_s: u64,
    pub ping_period_s: u64,
    pub backlog_size: u64,
    pub diskless_sync: bool,
    /// Replica class of `client-output-buffer-limit`: hard bytes, soft bytes, soft seconds; 0 is no limit.
    pub output_hard: u64,
    pub output_soft: u64,
    pub output_soft_s: u64,
    /// The largest output buffer of a replica connection at this moment, bytes (CLIENT LIST).
    pub output_largest: Option<u64>,
    /// For how long the youngest connection of a replica has stood, seconds (CLIENT LIST, age); none where there is none.
    #[serde(default)]
    pub replica_age_s: Option<u64>,
    /// Commands of replication that the primary does not know under their own names (COMMAND INFO), where it may be
    /// asked.
    #[serde(default)]
    pub unknown_commands: Option<Vec<String>>,
}

/// The host beside the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// The file system that holds the server's `dir`.
    pub disk: Reading<Disk>,
    pub memory: Reading<Memory>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub at: Timestamp,
    pub path: String,
    pub total: u64,
    /// Bytes that an unprivileged process can still write.
    pub free: u64,
    /// None: this file system has no fixed number of inodes, and reads 0 (btrfs, vfat, many FUSE ones).
    pub inodes_free: Option<u64>,
}

impl Disk {
    pub fn out_of_inodes(&self) -> bool {
        self.inodes_free == Some(0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub at: Timestamp,
    pub total: u64,
    pub available: u64,
}

/// What the log said lately, newest of each kind. Kinds older than the log window are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    pub at: Timestamp,
    /// `file:/var/log/redis/redis-server.log` or `journal:redis-server.service`.
    pub source: String,
    pub lines: Vec<LogFact>,
    /// Bytes a second over the last second: a hot reconnect loop writes over 1 MB/s.
    pub bytes_per_s: u64,
    /// Whether bytes were passed over to stay within the budget.
    pub skipped: bool,
}

/// One kind of log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFact {
    pub kind: LogKind,
    pub first: Timestamp,
    pub last: Timestamp,
    /// How often within the log window (120 s).
    pub count: u32,
    /// The newest such line, without its prefix, tamed.
    pub sample: String,
}

/// Kinds of log lines that tell a cause, in the words of both Redis and Valkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// `Unable to AUTH to MASTER: -WRONGPASS …`
    AuthFailed,
    /// `Unexpected reply to PSYNC from master: -…`
    PsyncRefused,
    /// `MASTER aborted replication with an error: …`
    SyncAborted,
    /// `Error reply to PING from master: '-…'`
    PingRefused,
    /// `Error condition on socket for SYNC: …`, `Failed to read response from the server: error:… alert …`
    SocketError,
    /// `Unable to connect to MASTER: …`
    ConnectFailed,
    /// `Timeout connecting to the MASTER...`
    ConnectTimeout,
    /// `MASTER timeout: no data nor PING received...`
    LinkTimeout,
    /// `Connection with master lost.`
    LinkLost,
    /// `Master is currently unable to PSYNC but should be in the future: -…`
    PsyncLater,
    /// `Master does not support PSYNC or is in error state (reply: …)`
    PsyncUnsupported,
    /// `Trying a partial resynchronization (request …)`, `Partial resynchronization not possible (no cached master)`:
    /// PSYNC was sent, and what comes next is the primary's.
    PsyncAsked,
    /// `Full resync from master: …`
    FullResync,
    /// `Successful partial resynchronization with master.`
    PartialResync,
    /// `MASTER <-> REPLICA sync: Flushing old data`, `… Loading DB in memory`: the server may answer nothing meanwhile
    Loading,
    /// `MASTER <-> REPLICA sync: Finished with success`
    SyncFinished,
    /// `Failed enabling the AOF after successful master synchronization! …`, and the last words after ten of these
    AofFailed,
    /// `I/O error reading bulk count from MASTER: …`
    BulkCountError,
    /// `I/O error trying to sync with MASTER: …`
    TransferError,
    /// `Timeout receiving bulk data from MASTER...`
    TransferTimeout,
    /// `Write error or short write writing to the DB dump file …`, and the temp file's errors
    DumpWriteError,
    /// `Can't handle RDB format version …`, `Wrong signature trying to load DB from file`
    RdbVersion,
    /// `Failed trying to load the MASTER synchronization DB from disk…`: the last line of each load that fails
    LoadFailed,
    /// `Short read or OOM loading DB. …`
    RdbUnreadable,
    /// `Master did not respond to command during SYNC handshake`, `Failed to read response from the server`,
    /// `Error condition on socket for SYNC: Connection reset by peer`
    HandshakeCut,
    /// `WARNING: Receiving inline protocol from master, master stream corruption? …`: a full resync follows
    StreamBroken,
    /// `Replica was unable to write command to disk`
    ReplicaWriteFailed,
    /// On a primary: `… scheduled to be closed ASAP for overcoming of output buffer limits.`
    OutputBufferCut,
    /// On a primary: `Unable to partial resync with replica … for lack of backlog`
    BacklogTooShort,
    /// On a primary: `Disconnecting timedout replica …`
    ReplicaTimedOut,
    /// On a primary: `Background saving error`, `Write error saving DB on disk…`
    SaveFailed,
    /// On a primary: `Can't save in background: fork: …`
    ForkFailed,
    /// `User requested shutdown...`, `Received SIGTERM scheduling shutdown...`
    Shutdown,
    /// `Ready to accept connections`
    Ready,
}

/// A password that the secret store offers, and what the primary says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateView {
    /// Where it came from, without the value: `file:/etc/relinkd/masterauth`.
    pub source: String,
    /// The store's version of it, or the file's time of change.
    pub version: String,
    pub user: String,
    pub print: String,
    /// The replica already holds this user and password.
    pub in_use: bool,
    pub proof: Probe,
}

/// The secret store's answer, without the secret. `at`: when the question was put that it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    pub at: Timestamp,
    pub source: String,
    pub offered: u32,
    /// It was asked again so long before and has not answered: what it offers is what it said at `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<u64>,
}

impl Evidence {
    /// The link of the local instance, when it answers and is a replica.
    pub fn local_link(&self) -> Option<&LinkView> {
        self.local.seen().and_then(|view| view.role.link())
    }

    /// How far the running sync has come: bytes received and loaded.
    pub fn came(&self) -> u64 {
        let loaded = self.local.seen().and_then(|view| view.loading_bytes).unwrap_or(0);
        self.local_link().map_or(0, |link| link.sync_read).saturating_add(loaded)
    }

    /// The Sentinels that answered.
    pub fn answering(&self) -> impl Iterator<Item = (&Endpoint, &SentinelSays)> {
        self.sentinels.iter().filter_map(|s| s.says.seen().map(|says| (&s.endpoint, says)))
    }

    /// How many Sentinels exist as far as anybody knows: configured ones, or more where one that answers
    /// knows more.
    pub fn sentinels_known(&self) -> usize {
        let told = self.answering().map(|(_, s)| s.others as usize + 1).max().unwrap_or(0);
        told.max(self.sentinels.len())
    }

    /// The address that a majority of *all known* Sentinels name, with how many do.
    pub fn named_primary(&self) -> Option<(&Endpoint, usize)> {
        let need = self.sentinels_known() / 2 + 1;
        let spelt = |says: &SentinelSays| self.answering().filter(|(_, other)| other.primary == says.primary).count();
        let votes = |says: &SentinelSays| self.answering().filter(|(_, other)| other.names_as(says)).count();
        let named = self.answering().map(|(_, says)| says).filter(|says| votes(says) >= need);
        // Of two spellings the more usual one.
        named.max_by_key(|says| (spelt(says), Reverse(&says.primary))).map(|says| (&says.primary, votes(says)))
    }

    /// The Sentinels that speak of the primary which a majority names; where none is named, all. What another one holds
    /// against its own primary is nothing that is held against this.
    pub fn of_the_named(&self) -> impl Iterator<Item = (&Endpoint, &SentinelSays)> {
        let named = self.named_primary().map(|(named, _)| named);
        self.answering().filter(move |(_, says)| named.is_none_or(|named| says.primary == *named))
    }

    /// How many Sentinels hold this flag against the primary.
    pub fn sentinels_flagging(&self, flag: &str) -> usize {
        self.of_the_named().filter(|(_, says)| says.flags.contains(flag)).count()
    }

    /// The newest log fact of a kind, where the log could be read.
    pub fn logged(&self, kind: LogKind) -> Option<&LogFact> {
        self.log.seen().and_then(|log| log.lines.iter().find(|fact| fact.kind == kind))
    }
}
