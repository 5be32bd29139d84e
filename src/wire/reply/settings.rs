//! CONFIG GET and CLIENT LIST taken apart.
//!
//! Each parameter is asked by a command of its own: CONFIG GET takes several only from Redis 7.0 on.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Reply;
use crate::model::Timestamp;
use crate::model::evidence::{LimitsView, Missing, SettingsView};
use crate::model::group::NodeSettings;
use crate::secrets::{Salt, Secret};

/// What [`settings`] wants asked, in this order.
pub const SETTINGS: [&str; 17] = [
    "masteruser",
    "masterauth",
    "repl-timeout",
    "dir",
    "logfile",
    "repl-diskless-load",
    "replica-serve-stale-data",
    "tls-replication",
    "save",
    "stop-writes-on-bgsave-error",
    "replica-ignore-disk-write-errors",
    "tls-ca-cert-file",
    "tls-cert-file",
    "tls-key-file",
    "tls-ca-cert-dir",
    "tls-client-cert-file",
    "tls-client-key-file",
];

/// What [`limits`] wants asked, in this order.
pub const LIMITS: [&str; 5] = [
    "repl-timeout",
    "repl-ping-replica-period",
    "repl-backlog-size",
    "repl-diskless-sync",
    "client-output-buffer-limit",
];

/// What [`node`] wants asked, in this order.
pub const NODE: [&str; 25] = [
    "masteruser",
    "masterauth",
    "repl-timeout",
    "repl-ping-replica-period",
    "repl-backlog-size",
    "client-output-buffer-limit",
    "repl-diskless-sync",
    "repl-diskless-sync-delay",
    "repl-diskless-load",
    "replica-serve-stale-data",
    "save",
    "appendonly",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "dir",
    "replica-priority",
    "tls-replication",
    "min-replicas-max-lag",
    "repl-backlog-ttl",
    "replica-announce-ip",
    "replica-announce-port",
    "replica-announced",
    "dbfilename",
    "repl-rdb-channel",
    "dual-channel-replication-enabled",
];

/// With what a replica logs in to its primary. Never part of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Empty for the default user.
    pub user: String,
    /// Empty when none is set.
    pub secret: Secret,
}

/// The files of the replica's own TLS settings; empty where none is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaTls {
    pub ca: String,
    pub ca_dir: String,
    pub cert: String,
    pub key: String,
    /// `tls-client-cert-file` and its key: where they are set, a replica shows these.
    pub client_cert: String,
    pub client_key: String,
}

impl ReplicaTls {
    /// The certificate that a replica shows to its primary, and its key (Redis 7.0.15, tlsConfigure: the client's own,
    /// or else the server's).
    pub fn shown(&self) -> (&str, &str) {
        match self.client_cert.as_str() {
            "" => (&self.cert, &self.key),
            client => (client, &self.client_key),
        }
    }
}

/// A replica's own side of its link.
#[derive(Debug)]
pub struct Own {
    pub view: SettingsView,
    /// None: its `masteruser` or `masterauth` is not UTF-8, so what we hold of it is not what it sends.
    pub login: Option<Credentials>,
    pub tls: ReplicaTls,
}

impl Credentials {
    /// A salted fingerprint of the pair.
    pub fn print(&self, salt: &Salt) -> String {
        Secret::new(format!("{}\n{}", self.user, self.secret.expose())).print(salt)
    }
}

/// A replica's settings, out of the answers to CONFIG GET for each of [`SETTINGS`].
pub fn settings(answers: Vec<Reply>, at: Timestamp, salt: &Salt) -> Result<Own, Missing> {
    let [
        user,
        secret,
        timeout,
        dir,
        logfile,
        diskless_load,
        serve_stale,
        tls,
        save,
        stop,
        ignore,
        ca,
        cert,
        key,
        ca_dir,
        client_cert,
        client_key,
    ] = values(answers)?;
    let login_not_text = [&user, &secret].into_iter().any(|value| is_mangled(value));
    let credentials = Credentials { user, secret: Secret::new(secret) };
    let view = SettingsView {
        at,
        masteruser: credentials.user.clone(),
        masterauth_set: !credentials.secret.is_empty(),
        masterauth_print: match credentials.secret.is_empty() {
            true => String::new(),
            false => credentials.secret.print(salt),
        },
        repl_timeout_s: number(&timeout),
        dir,
        logfile,
        diskless_load,
        serve_stale_data: serve_stale != "no",
        tls_replication: tls == "yes",
        save_stops_writes: !save.is_empty() && stop == "yes",
        ignores_disk_errors: ignore == "yes",
        login_not_text,
    };
    let tls = ReplicaTls { ca, ca_dir, cert, key, client_cert, client_key };
    Ok(Own { view, login: (!login_not_text).then_some(credentials), tls })
}

/// Whether bytes that are no UTF-8 were replaced in what a server sent ([`Reply`]).
pub fn is_mangled(value: &str) -> bool {
    value.contains(char::REPLACEMENT_CHARACTER)
}

/// What a node holds beside its settings.
#[derive(Debug)]
pub struct Held {
    /// With what it logs in to its primary; none where that is not UTF-8.
    pub login: Option<Credentials>,
    /// The name of its RDB below `dir`.
    pub file: String,
}

/// A node's settings in both roles, out of the answers to CONFIG GET for each of [`NODE`].
pub fn node(answers: Vec<Reply>, salt: &Salt) -> Result<(NodeSettings, Held), Missing> {
    let [
        user,
        secret,
        timeout,
        ping_period,
        backlog,
        output,
        diskless,
        delay,
        load,
        stale,
        save,
        aof,
        stop,
        min,
        dir,
        priority,
        tls,
        max_lag,
        backlog_ttl,
        announce_ip,
        announce_port,
        announced,
        file,
        rdb_channel,
        dual_channel,
    ] = values(answers)?;
    let login_not_text = [&user, &secret].into_iter().any(|value| is_mangled(value));
    let credentials = Credentials { user, secret: Secret::new(secret) };
    let [output_hard, output_soft, output_soft_s] = replica_class(&output);
    let settings = NodeSettings {
        masteruser: credentials.user.clone(),
        masterauth_set: !credentials.secret.is_empty(),
        login_not_text,
        login: credentials.print(salt),
        repl_timeout_s: number(&timeout),
        ping_period_s: number(&ping_period),
        backlog_size: number(&backlog),
        backlog_ttl_s: number(&backlog_ttl),
        output_hard,
        output_soft,
        output_soft_s,
        diskless_sync: diskless == "yes",
        rdb_channel: rdb_channel == "yes" || dual_channel == "yes",
        diskless_sync_delay_s: number(&delay),
        diskless_load: load,
        serve_stale_data: stale != "no",
        save,
        append_only: aof == "yes",
        stop_writes: stop == "yes",
        min_replicas_to_write: number(&min),
        min_replicas_max_lag_s: number(&max_lag),
        announce_ip,
        announce_port: announce_port.parse().unwrap_or(0),
        announced: announced != "no",
        dir,
        priority: number(&priority),
        tls_replication: tls == "yes",
    };
    Ok((settings, Held { login: (!login_not_text).then_some(credentials), file }))
}

/// A primary's limits, out of the answers to CONFIG GET for each of [`LIMITS`] and, where allowed, CLIENT LIST.
pub fn limits(answers: Vec<Reply>, clients: Option<&Reply>, at: Timestamp) -> Result<LimitsView, Missing> {
    let [timeout, ping_period, backlog, diskless, output] = values(answers)?;
    let [output_hard, output_soft, output_soft_s] = replica_class(&output);
    Ok(LimitsView {
        at,
        repl_timeout_s: number(&timeout),
        ping_period_s: number(&ping_period),
        backlog_size: number(&backlog),
        diskless_sync: diskless == "yes",
        output_hard,
        output_soft,
        output_soft_s,
        output_largest: clients.and_then(Reply::text).map(largest_output),
        replica_age_s: clients.and_then(Reply::text).and_then(youngest),
        unknown_commands: None,
    })
}

/// The commands that a replica needs of its primary and that a config can rename away.
pub const NEEDED: [&str; 3] = ["psync", "sync", "replconf"];

/// Which of [`NEEDED`] the server does not know, out of COMMAND INFO for them; nothing where it may not be asked.
pub fn unknown_commands(answer: &Reply) -> Option<Vec<String>> {
    let Reply::List(items) = answer else { return None };
    let unknown = NEEDED.iter().zip(items).filter(|(_, item)| item.items().is_empty());
    Some(unknown.map(|(name, _)| (*name).to_owned()).collect())
}

/// The largest output buffer (`omem`) in a CLIENT LIST; 0 when nobody is listed.
pub fn largest_output(clients: &str) -> u64 {
    of_each(clients, "omem=").max().unwrap_or(0)
}

/// The least `age` in a CLIENT LIST.
fn youngest(clients: &str) -> Option<u64> {
    of_each(clients, "age=").min()
}

fn of_each<'a>(clients: &'a str, field: &'a str) -> impl Iterator<Item = u64> + 'a {
    clients.split_whitespace().filter_map(move |word| word.strip_prefix(field)?.parse().ok())
}

/// One value for each answer. A server that does not know a parameter sends an empty list: the value is empty.
/// An error in any answer makes all of it missing: half a view would pass for a whole one.
fn values<const N: usize>(answers: Vec<Reply>) -> Result<[String; N], Missing> {
    let mut found = Vec::with_capacity(N);
    for answer in answers {
        let Reply::List(pairs) = answer else { return Err(answer.unfit("CONFIG GET")) };
        found.push(pairs.into_iter().nth(1).and_then(Reply::into_text).unwrap_or_default());
    }
    let count = found.len();
    found.try_into().map_err(|_| Missing::Unsupported(format!("{count} answers to {N} CONFIG GET")))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// Hard bytes, soft bytes and soft seconds of the replica class in `normal 0 0 0 slave 268435456 67108864 60 …`.
fn replica_class(text: &str) -> [u64; 3] {
    let mut words = text.split_whitespace();
    if !words.any(|word| word == "slave" || word == "replica") {
        return [0; 3];
    }
    std::array::from_fn(|_| words.next().map_or(0, number))
}
