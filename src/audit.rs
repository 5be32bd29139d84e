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
use crate::model::evidence::{Missing, SentinelSays};
use crate::model::group::{GroupNode, GroupView};
use crate::model::shell::from_file;

mod addresses;
mod advice;
mod alike;
mod candidates;
mod data;
mod known;
mod limits;
mod links;
mod logins;
mod nodes;
mod room;
mod sentinels;

use known::Known;

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

    fn mends(mut self, commands: impl IntoIterator<Item = String>) -> Check {
        self.mend.extend(commands);
        self
    }
}

/// Every check of the group. `outage` is how long a replica shall be away and still come back by a partial resync.
pub fn judge(view: &GroupView, outage: Duration) -> Vec<Check> {
    let ground = Ground { view, outage };
    let mut checks = sentinels::checks(&ground);
    checks.extend(links::checks(&ground));
    checks.extend(nodes::checks(&ground));
    checks.extend(addresses::checks(&ground));
    checks.extend(candidates::checks(&ground));
    checks.extend(alike::checks(&ground));
    checks.extend(data::checks(&ground));
    checks.extend(logins::checks(&ground));
    checks.extend(limits::checks(&ground));
    checks.extend(room::checks(&ground));
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

    fn replicas(&self) -> impl Iterator<Item = &'a GroupNode> + '_ {
        let named = self.view.named_primary();
        self.view.nodes.iter().filter(move |node| Some(&node.address) != named && self.is_placed(node))
    }

    /// An instance of ours that could not be read, under an address that no Sentinel lists, may be one that they list under
    /// another.
    fn is_placed(&self, node: &GroupNode) -> bool {
        node.account.seen().is_some() || self.is_listed(&node.address)
    }

    fn is_listed(&self, address: &Endpoint) -> bool {
        self.view.answering().any(|(_, says)| says.flags_of(address).is_some())
    }

    /// The Sentinels that let us read which replicas they list.
    fn listing(&self) -> impl Iterator<Item = &'a SentinelSays> {
        self.view.answering().map(|(_, says)| says).filter(|says| says.replicas_missing.is_none())
    }

    /// The largest down-after of the Sentinels.
    fn down_after_ms(&self) -> u64 {
        self.view.answering().map(|(_, says)| says.down_after_ms).max().unwrap_or(0)
    }

    /// A majority of the answering Sentinels hold it down: nobody reaches it.
    fn is_dead(&self, node: &GroupNode) -> bool {
        node.account.seen().is_none()
            && self.view.flagging(&node.address, "s_down") * 2 > self.view.answering().count()
            && !matches!(node.account.missing(), Some(Missing::Denied(_)))
    }
}

/// Several places in one line.
fn list<'a>(addresses: impl IntoIterator<Item = &'a Endpoint>) -> String {
    addresses.into_iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
