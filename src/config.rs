//! Settings: typed, complete, nothing left to check.
//!
//! Three stages: text → `raw` (the TOML as written, merged over all files, with its places) → `check` →
//! [`Settings`]. The invariant: settings exist only when no stage found a problem, and the problems of all stages and
//! files are told at once, each with file, line and key, and none with a value.
//!
//! Not here: whether a server answers, a secret can be fetched or a certificate exists. `relinkd check` asks for that.

mod check;
mod files;
mod keys;
mod problem;
mod raw;
mod section;
mod store;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::decide::Policy;
use crate::model::{Address, Endpoint};
use crate::notify::ChannelSettings;
use crate::secrets::SecretRef;
use crate::watch::log::LogSource;
use crate::wire::TlsSettings;

pub use keys::{TABLES, nearest};
pub use problem::{Problem, Problems};
pub use values::duration;

/// Where the configuration is looked for, unless `--config` names another place.
pub const DEFAULT_PATH: &str = "/etc/relinkd/config.toml";

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub agent: AgentSettings,
    /// By the name that Sentinel uses.
    pub groups: BTreeMap<String, GroupSettings>,
    pub replicas: BTreeMap<String, ReplicaSettings>,
    pub policy: Policy,
    pub channels: BTreeMap<String, ChannelSettings>,
}

impl Settings {
    /// The group that a replica belongs to.
    pub fn group_of(&self, replica: &ReplicaSettings) -> Option<&GroupSettings> {
        self.groups.get(replica.group.as_ref()?)
    }
}

/// `[agent]`: the daemon itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentSettings {
    /// What messages call this machine.
    pub host: String,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Where HTTP is served; none: nowhere.
    pub listen: Option<SocketAddr>,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
    /// The ledger forgets what is older.
    pub ledger_retain: Duration,
    pub ledger_max_size_bytes: u64,
}

impl Default for AgentSettings {
    fn default() -> Self {
        AgentSettings {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            state_dir: "/var/lib/relinkd".into(),
            run_dir: "/run/relinkd".into(),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9779))),
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            ledger_retain: Duration::from_secs(90 * 86_400),
            ledger_max_size_bytes: 256 << 20,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// `[group.NAME]`: a primary, its replicas, and the Sentinels that watch them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupSettings {
    /// At least one; no two are the same.
    pub sentinels: Vec<Endpoint>,
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<SecretRef>,
    /// What a replica logs in to its primary with. A user that the secret itself carries goes before this one.
    pub masteruser: Option<String>,
    pub masterauth: Option<SecretRef>,
    /// Towards the Sentinels and the nodes of the group.
    pub tls: Option<TlsSettings>,
    pub observer: Option<Login>,
    /// A login that may change passwords on every node of the group; `rotate` alone uses it.
    pub admin: Option<Login>,
    /// What the Sentinels log in to the nodes with (`auth-user`, `auth-pass`): a rotation of it takes it from here.
    pub sentinel_auth: Option<Login>,
}

impl GroupSettings {
    /// A group of which only the Sentinels are known.
    pub fn of(sentinels: Vec<Endpoint>) -> Self {
        GroupSettings {
            sentinels,
            sentinel_user: None,
            sentinel_password: None,
            masteruser: None,
            masterauth: None,
            tls: None,
            observer: None,
            admin: None,
            sentinel_auth: None,
        }
    }
}

/// A login at every node of a group. The observer's may read `INFO` and `ACL LOG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    pub user: Option<String>,
    pub password: SecretRef,
}

/// `[replica.NAME]`: an instance on this host, whatever its role is at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaSettings {
    pub address: Address,
    /// Names an entry of [`Settings::groups`].
    pub group: Option<String>,
    pub user: Option<String>,
    pub password: Option<SecretRef>,
    pub tls: Option<TlsSettings>,
    #[serde(serialize_with = "as_written")]
    pub log: LogSource,
    pub poll: Duration,
}

impl ReplicaSettings {
    /// An instance of which only the address is known.
    pub fn at(address: Address) -> Self {
        ReplicaSettings {
            address,
            group: None,
            user: None,
            password: None,
            tls: None,
            log: LogSource::Auto,
            poll: Duration::from_millis(100),
        }
    }
}

fn as_written<S: Serializer>(log: &LogSource, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(log)
}

/// Reads the file and its drop-ins, `conf.d/*.toml` beside it, in name order.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let mut report = problem::Report::default();
    let files = files::read(path, &mut report);
    settle(&files, report)
}

/// Settings from texts that were read elsewhere, in the order in which they override each other.
pub fn parse(files: &[(PathBuf, String)]) -> Result<Settings, Problems> {
    settle(files, problem::Report::default())
}

fn settle(files: &[(PathBuf, String)], mut report: problem::Report) -> Result<Settings, Problems> {
    let table = raw::read(files, &mut report);
    let settings = check::check(&table, &mut report);
    if report.is_clean() { Ok(settings) } else { Err(report.into_problems()) }
}
