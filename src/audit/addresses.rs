//! Whether the group's nodes are found: listed by the Sentinels, each under an address of its own that is right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Check, Ground, Verdict, list};
use crate::model::Endpoint;
use crate::model::evidence::{Reading, ReplicaOfPrimary, SentinelSays};
use crate::model::group::GroupNode;

const ANNOUNCED: &str = "announced-addresses";

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> = g.view.nodes.iter().filter_map(|node| listed(g, node)).collect();
    checks.extend(ghosts(g));
    checks.extend(g.view.nodes.iter().filter_map(|node| served(g, node)));
    checks.extend(g.view.nodes.iter().filter_map(|node| announces(g, node)));
    checks
}

/// No Sentinel lets us read which replicas it lists.
pub(super) fn replicas_not_read(name: &'static str, g: &Ground<'_>, means: &str) -> Check {
    let why = g
        .view
        .answering()
        .find_map(|(at, says)| Some(format!("{at}: SENTINEL REPLICAS: {}", says.replicas_missing.as_ref()?)));
    Check::new(name, Verdict::Unseen, why.unwrap_or_else(|| "no Sentinel tells its replicas".to_owned()), means)
        .mend("its user (sentinel_user) needs +sentinel|replicas")
}

/// An instance of ours that Sentinel does not list is never promoted, nor moved to a new primary.
fn listed(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "listed";
    let name = node.local.as_ref().filter(|_| g.is_placed(node))?;
    g.view.answering().next()?;
    // Each of them names its primary, whatever it lets us read beside.
    let tells = |says: &&SentinelSays| says.replicas_missing.is_none() || says.primary == node.address;
    let answering = g.view.answering().filter(|(_, says)| tells(says)).count();
    let by = g.view.answering().filter(|(_, says)| says.flags_of(&node.address).is_some()).count();
    if answering == 0 {
        return Some(
            replicas_not_read(NAME, g, "whether it would be moved after a failover is not known").at(&node.address),
        );
    }
    Some(match by * 2 > answering {
        true => Check::pass(NAME, format!("{by} of {answering} Sentinels list it")).at(&node.address),
        false => Check::new(
            NAME,
            Verdict::Fail,
            format!("{by} of {answering} Sentinels list {name} under this address"),
            "it is not moved to a new primary after a failover, and never promoted",
        )
        .at(&node.address)
        .mend(format!(
            "{} CONFIG GET 'replica-announce*'   # wrong address, or replica-announced no",
            g.cli(&node.address)
        ))
        .mend(format!("{} INFO replication   # does it follow this group's primary?", g.cli(&node.address))),
    })
}

fn ghosts(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "announced-addresses";
    g.view.answering().next()?;
    let mut by_ghost: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    let mut unread = Vec::new();
    for sentinel in g.view.sentinels.iter().filter(|sentinel| sentinel.says.seen().is_some()) {
        match &sentinel.ghosts {
            Reading::Seen(ghosts) => {
                ghosts.iter().for_each(|ghost| by_ghost.entry(ghost).or_default().push(&sentinel.endpoint));
            }
            Reading::Missing(why) => unread.push(format!("{}: SENTINEL REPLICAS: {why}", sentinel.endpoint)),
        }
    }
    if by_ghost.is_empty() && !unread.is_empty() {
        return Some(
            Check::new(
                NAME,
                Verdict::Unseen,
                unread.join("; "),
                "replicas that it lists without an address are not seen",
            )
            .mend("its user (sentinel_user) needs +sentinel|replicas"),
        );
    }
    if by_ghost.is_empty() {
        return Some(Check::pass(NAME, "every listed replica has an address"));
    }
    let said: Vec<String> =
        by_ghost.iter().map(|(ghost, by)| format!("{ghost} on {}", list(by.iter().copied()))).collect();
    Some(
        Check::new(
            NAME,
            Verdict::Warn,
            format!("listed without a usable address: {}", said.join("; ")),
            "a primary that refuses REPLCONF never learns a replica's port; the entry stays and is never promoted",
        )
        .mend("see replication-acl; then, while every replica is up, on one Sentinel after the other, 30 s apart:")
        .mend(format!("SENTINEL RESET {}   # it forgets replicas that are down at that moment", g.group())),
    )
}

/// Replicas by the address that this node has for them.
pub(super) fn unlisted<'a>(g: &Ground<'a>, node: &'a GroupNode) -> Vec<&'a Endpoint> {
    let Some(account) = node.account.seen() else { return Vec::new() };
    if g.listing().next().is_none() {
        return Vec::new();
    }
    // Where Sentinels go by host names, which a node does not list, the port has to do.
    let is_listed = |served: &Endpoint| {
        g.view.nodes.iter().filter(|other| g.is_listed(&other.address)).any(|other| {
            let by_name = [&other.address, served].iter().any(|at| at.host.parse::<IpAddr>().is_err());
            other.address == *served || (by_name && other.address.port == served.port)
        })
    };
    // Port 0 is told by the Sentinels' own lists.
    let served = account.server.replicas.iter().map(|replica| &replica.endpoint);
    served.filter(|served| served.port != 0 && !is_listed(served)).collect()
}

/// Addresses under which a node serves several replicas.
pub(super) fn twins(node: &GroupNode) -> Vec<&Endpoint> {
    let Some(account) = node.account.seen() else { return Vec::new() };
    // One that has come back is listed twice until its old connection times out; that one acknowledges nothing any more.
    let lives = |replica: &&ReplicaOfPrimary| replica.state == "online" && (0..=3).contains(&replica.lag_s);
    let mut count: BTreeMap<&Endpoint, usize> = BTreeMap::new();
    for replica in account.server.replicas.iter().filter(|replica| replica.endpoint.port != 0).filter(lives) {
        *count.entry(&replica.endpoint).or_default() += 1;
    }
    count.into_iter().filter(|(_, times)| *times > 1).map(|(at, _)| at).collect()
}

/// Replicas that a node serves, and that a failover would pass by: it is Sentinel who moves them.
fn served(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    let twice = twins(node);
    if !twice.is_empty() {
        return Some(
            Check::new(
                ANNOUNCED,
                Verdict::Fail,
                format!("several of its replicas announce {}", list(twice.iter().copied())),
                "Sentinel takes them for one: the others are not moved to a new primary, and never promoted",
            )
            .at(&node.address)
            .mend("give each its own replica-announce-ip and replica-announce-port, and restart its link")
            .mend(format!("{} INFO replication   # has to list each of them once", g.cli(&node.address))),
        );
    }
    let unlisted = unlisted(g, node);
    if unlisted.is_empty() {
        return None;
    }
    let means = match g.is_primary(node) {
        true => {
            "it is not moved to a new primary after a failover, and never promoted: replica-announced no, or it is younger \
             than 10 s and the Sentinels have not read of it yet"
        }
        false => {
            "a replica of a replica, or one that just came: Sentinel does not move it when this node is lost, and its login \
             is not audited"
        }
    };
    Some(
        Check::new(
            ANNOUNCED,
            Verdict::Warn,
            format!("it serves {}, which no Sentinel lists", list(unlisted.iter().copied())),
            means,
        )
        .at(&node.address)
        .mend(format!("{} CONFIG GET 'replica-announce*'   # on that replica", g.any_cli()))
        .mend("run the audit again in 10 s; if it stays so, replicate from the primary, with replica-announced yes"),
    )
}

/// What a node says of its own address counts once it is a replica: then Sentinel lists it by that.
fn announces(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    let settings = node.settings.seen()?;
    if !g.is_listed(&node.address) {
        return None;
    }
    let (ip, port) = (settings.announce_ip.as_str(), settings.announce_port);
    let is_number = |host: &str| host.parse::<IpAddr>().is_ok();
    let comparable = !ip.is_empty() && is_number(ip) == is_number(&node.address.host);
    let other_ip = comparable && !ip.eq_ignore_ascii_case(&node.address.host);
    let other_port = port != 0 && port != node.address.port;
    if !other_ip && !other_port && settings.announced {
        return None;
    }
    let (saw, means) = match settings.announced {
        false => (
            "replica-announced no".to_owned(),
            "as a replica it is not listed by Sentinel: after a failover it is not promoted, nor moved to a new primary",
        ),
        true => (
            format!(
                "it announces {}:{}, and the Sentinels know it as {}",
                if ip.is_empty() { &node.address.host } else { ip },
                if port == 0 { node.address.port } else { port },
                node.address
            ),
            "as a replica, after a failover, it is listed under an address where nobody may reach it",
        ),
    };
    let check = Check::new(ANNOUNCED, Verdict::Warn, saw, means).at(&node.address);
    Some(match (settings.announced, other_ip, other_port) {
        (false, ..) => check.mends(g.set(&node.address, "replica-announced", "yes", "")),
        (true, ip, port) => {
            let check = if ip {
                check.mends(g.set(&node.address, "replica-announce-ip", &node.address.host, ""))
            } else {
                check
            };
            let own = node.address.port.to_string();
            if port { check.mends(g.set(&node.address, "replica-announce-port", &own, "")) } else { check }
        }
    })
}
