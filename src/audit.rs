//! Would this group survive a failover today? One account of the group in, one verdict a check out.
//!
//! Each check has a stable name, says what was read and what it means, and names the command that mends it. What was
//! read on the primary only is not enough: every replica may be the primary tomorrow, so a limit is judged on each.
//!
//! Invariants: what was not read is [`Verdict::Unseen`] and never a pass; nothing here holds a secret.
//!
//! Not here: reading the group (`collect::group`), and mending it: an audit changes nothing.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Endpoint;
use crate::model::evidence::{CachedNode, Flavour, ServerView};
use crate::model::group::{GroupNode, GroupView};

mod data;
mod limits;
mod logins;
mod nodes;
mod sentinels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Fail,
    Warn,
    Unseen,
    Pass,
}

/// One check, of one node or of the whole group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// The data node or the Sentinel that it is about; none: the group.
    pub node: Option<Endpoint>,
    pub saw: String,
    pub means: String,
    /// What a person runs; empty where nothing is to mend.
    pub mend: Vec<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, saw: impl Into<String>, means: impl Into<String>) -> Check {
        Check { name, verdict, node: None, saw: saw.into(), means: means.into(), mend: Vec::new() }
    }

    fn pass(name: &'static str, saw: impl Into<String>) -> Check {
        Check::new(name, Verdict::Pass, saw, "")
    }

    fn at(self, node: &Endpoint) -> Check {
        Check { node: Some(node.clone()), ..self }
    }

    fn mend(mut self, command: impl Into<String>) -> Check {
        self.mend.push(command.into());
        self
    }
}

/// Every check of the group. `outage` is how long a replica shall be away and still come back by a partial resync.
pub fn judge(view: &GroupView, outage: Duration) -> Vec<Check> {
    let ground = Ground { view, outage };
    let mut checks = sentinels::checks(&ground);
    checks.extend(nodes::checks(&ground));
    checks.extend(data::checks(&ground));
    checks.extend(logins::checks(&ground));
    checks.extend(limits::checks(&ground));
    checks.extend(view.unfetched.iter().map(|problem| {
        Check::new("secrets", Verdict::Unseen, problem.clone(), "a login of ours is missing, so less could be read")
    }));
    checks
}

/// Whether the group would survive; none where nothing fails and something was not seen.
pub fn survives(checks: &[Check]) -> Option<bool> {
    let any = |verdict| checks.iter().any(|check| check.verdict == verdict);
    match (any(Verdict::Fail), any(Verdict::Unseen)) {
        (true, _) => Some(false),
        (false, true) => None,
        (false, false) => Some(true),
    }
}

/// What every check stands on.
struct Ground<'a> {
    view: &'a GroupView,
    outage: Duration,
}

/// A node by its own account, or by the newest one that a Sentinel keeps.
enum Known<'a> {
    Own(&'a ServerView),
    Told(&'a CachedNode),
}

impl<'a> Ground<'a> {
    fn known(&self, node: &'a GroupNode) -> Option<Known<'a>> {
        match node.account.seen() {
            Some(account) => Some(Known::Own(&account.server)),
            None => self.view.cached(&node.address).map(Known::Told),
        }
    }

    fn is_primary(&self, node: &GroupNode) -> bool {
        self.view.named_primary() == Some(&node.address)
    }

    fn replicas(&self) -> impl Iterator<Item = &'a GroupNode> {
        let named = self.view.named_primary();
        self.view.nodes.iter().filter(move |node| Some(&node.address) != named)
    }

    /// A majority of the answering Sentinels hold it down: nobody reaches it.
    fn is_dead(&self, node: &GroupNode) -> bool {
        node.account.seen().is_none()
            && self.view.flagging(&node.address, "s_down") * 2 > self.view.answering().count()
            && !matches!(node.account.missing(), Some(crate::model::evidence::Missing::Denied(_)))
    }

    /// The command line of a data node.
    fn cli(&self, address: &Endpoint) -> String {
        let node = self.view.nodes.iter().find(|node| node.address == *address);
        cli(node.and_then(|node| self.known(node)).map(|known| known.build().0), address)
    }

    /// The command line of a Sentinel: its flavour is not read, so it is taken for that of the data nodes.
    fn sentinel_cli(&self, address: &Endpoint) -> String {
        let flavour = self.view.nodes.iter().find_map(|node| Some(self.known(node)?.build().0));
        cli(flavour, address)
    }

    /// Sets a parameter for now and for the next start.
    fn set(&self, address: &Endpoint, parameter: &str, value: &str) -> String {
        let cli = self.cli(address);
        format!("{cli} CONFIG SET {parameter} {value} && {cli} CONFIG REWRITE")
    }
}

fn cli(flavour: Option<Flavour>, address: &Endpoint) -> String {
    let program = if flavour == Some(Flavour::Valkey) { "valkey-cli" } else { "redis-cli" };
    match address.port {
        0 => format!("{program} -s {}", address.host),
        port => format!("{program} -h {} -p {port}", address.host),
    }
}

/// A command whose last argument is the password that PWFILE holds, and that so stands on no command line: `-x` reads it
/// from standard input, and printf is the shell's own.
fn from_file(format: &str, cli: &str) -> String {
    format!("printf '{format}' \"$(cat PWFILE)\" | {cli} -x")
}

impl<'a> Known<'a> {
    fn build(&self) -> (Flavour, &'a str) {
        match self {
            Known::Own(server) => (server.flavour, &server.version),
            Known::Told(cached) => (cached.flavour, &cached.version),
        }
    }

    /// Redis 7.0 or newer, or any Valkey.
    fn is_since_redis_7(&self) -> bool {
        let (flavour, version) = self.build();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        flavour == Flavour::Valkey || major.is_some_and(|major| major >= 7)
    }

    fn keys(&self) -> u64 {
        match self {
            Known::Own(server) => server.keys,
            Known::Told(cached) => cached.keys,
        }
    }

    fn is_primary(&self) -> bool {
        match self {
            Known::Own(server) => server.role.link().is_none(),
            Known::Told(cached) => cached.is_primary,
        }
    }

    fn link_up(&self) -> bool {
        match self {
            Known::Own(server) => server.role.link().is_some_and(|link| link.up),
            Known::Told(cached) => cached.link_up,
        }
    }

    /// A replica that has had no link since its process began, or has replicated nothing.
    fn never_synced(&self) -> bool {
        let (down_for_s, offset) = match self {
            Known::Own(server) => match server.role.link() {
                Some(link) => (link.down_for_s, link.offset),
                None => return false,
            },
            Known::Told(cached) => (cached.link_down_for_s, cached.repl_offset),
        };
        !self.is_primary() && !self.link_up() && (down_for_s == Some(-1) || offset <= 1)
    }

    fn busy(&self) -> bool {
        match self {
            Known::Own(server) => server.loading || server.role.link().is_some_and(|link| link.syncing),
            Known::Told(cached) => cached.loading,
        }
    }

    fn saves(&self) -> bool {
        match self {
            Known::Own(server) => server.rdb_last_save_ok,
            Known::Told(cached) => cached.rdb_last_save_ok,
        }
    }

    fn appends(&self) -> bool {
        match self {
            Known::Own(server) => server.aof_last_write_ok,
            Known::Told(cached) => cached.aof_last_write_ok,
        }
    }

    fn priority(&self) -> u32 {
        match self {
            Known::Own(server) => server.priority,
            Known::Told(cached) => cached.priority,
        }
    }

    /// Where it comes from, to stand after what was read.
    fn source(&self) -> String {
        match self {
            Known::Own(_) => String::new(),
            Known::Told(cached) => format!(" (a Sentinel's reading, {} s old)", cached.age_ms / 1000),
        }
    }
}

/// Several places in one line.
fn list<'a>(addresses: impl IntoIterator<Item = &'a Endpoint>) -> String {
    addresses.into_iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
