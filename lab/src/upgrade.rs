//! A whole group to a newer version, the way it is done: each replica, then a failover, then the former primary.

use std::io::{Error, Result};
use std::time::Duration;

use crate::group::Group;
use crate::kind::Kind;
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(30);

/// One node at a time, each given up by SIGTERM. The group has Sentinels, and saves at its end.
pub fn one_by_one(group: &Group, newer: Kind) -> Result<()> {
    let (primary, replicas) = group.nodes().split_first().ok_or_else(|| Error::other("a group without nodes"))?;
    for replica in replicas {
        replica.upgrade(newer)?;
        within(replica, "its link is not up", Server::is_link_up)?;
        let others = group.sentinels().len().saturating_sub(1);
        for sentinel in group.sentinels() {
            within(sentinel, "it does not see a whole group", |one| one.sentinel_is_whole(replicas.len(), others))?;
        }
    }
    let asks = group.sentinels().first().ok_or_else(|| Error::other("a group without Sentinels"))?;
    within(asks, "it begins no failover", |one| one.run(&["SENTINEL", "FAILOVER", group.name()]).is_ok())?;
    for sentinel in group.sentinels() {
        within(sentinel, "it names the former primary", |one| one.sentinel_primary() != Some(primary.endpoint()))?;
    }
    within(primary, "it is still a primary", |node| !node.is_primary())?;
    primary.upgrade(newer)?;
    let linked = |node: &Server| node.is_primary() || node.is_link_up();
    group.nodes().iter().try_for_each(|node| within(node, "its link is not up", linked))
}

fn within(server: &Server, problem: &str, condition: impl FnMut(&Server) -> bool) -> Result<()> {
    let met = server.wait_until(condition, PATIENCE);
    met.map(drop).ok_or_else(|| Error::other(format!("{}: {problem} within {PATIENCE:?}", server.address())))
}
