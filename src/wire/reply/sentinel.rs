//! What a Sentinel says of a group, taken apart.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::{Reply, info};
use crate::model::evidence::{CachedNode, Missing, Quorum, Reading, ReplicaInSentinel, SentinelSays};
use crate::model::group::SentinelPeer;
use crate::model::{Endpoint, Timestamp, tame};

/// An age that a Sentinel does not have: it has never read that instance's INFO. The server says 0 then
/// (Redis 7.0.15, addReplySentinelRedisInstance), which would pass for fresh.
pub const NEVER_MS: u64 = u64::MAX;

/// The answers to everything that one Sentinel is asked about a group.
pub struct Answers<'a> {
    pub myid: &'a Reply,
    pub master: &'a Reply,
    pub replicas: &'a Reply,
    pub ckquorum: &'a Reply,
    pub info: &'a Reply,
    pub info_cache: &'a Reply,
}

/// One Sentinel's account. Missing when SENTINEL MASTER is refused or tells no address; every other answer may be
/// refused alone.
pub fn says(answers: &Answers<'_>, at: Timestamp, took_us: u64) -> Result<SentinelSays, Missing> {
    let fields = Fields::of(answers.master);
    let primary = fields.endpoint("ip", "port").ok_or_else(|| answers.master.unfit("SENTINEL MASTER"))?;
    let replicas = replicas(answers.replicas);
    let run_id = fields.text("runid");
    Ok(SentinelSays {
        at,
        took_us,
        primary_run_id: run_id.to_owned(),
        id: answers.myid.text().unwrap_or_default().to_owned(),
        flags: fields.flags(),
        last_ok_ping_ms: fields.number("last-ok-ping-reply"),
        last_reply_ms: fields.number("last-ping-reply"),
        s_down_ms: fields.number("s-down-time"),
        o_down_ms: fields.number("o-down-time"),
        config_epoch: fields.number("config-epoch").unwrap_or(0),
        quorum: fields.number("quorum").unwrap_or(0),
        others: fields.number("num-other-sentinels").unwrap_or(0),
        down_after_ms: fields.number("down-after-milliseconds").unwrap_or(0),
        failover_timeout_ms: fields.number("failover-timeout").unwrap_or(0),
        failover_state: fields.get("failover-state").map(str::to_owned),
        info_refresh_ms: fields.info_age_ms(),
        role_reported_ms: fields.number("role-reported-time").unwrap_or(0),
        uptime_s: answers.info.text().and_then(info::uptime_s),
        ckquorum: quorum(answers.ckquorum),
        tilt: match answers.info.text().and_then(info::tilt) {
            Some(tilt) => Reading::Seen(tilt),
            None => Reading::Missing(answers.info.unfit("INFO")),
        },
        build: answers.info.text().and_then(info::build),
        nodes: match answers.info_cache {
            Reply::List(groups) => Reading::Seen(nodes(groups, (&primary, run_id), &replicas)),
            other => Reading::Missing(other.unfit("SENTINEL INFO-CACHE")),
        },
        replicas_missing: match answers.replicas {
            Reply::List(_) => None,
            other => Some(other.unfit("SENTINEL REPLICAS")),
        },
        replicas,
        primary,
    })
}

/// The other Sentinels out of SENTINEL SENTINELS. Without those whose address is not known yet.
pub fn peers(reply: &Reply) -> Reading<Vec<SentinelPeer>> {
    let one = |reply: &Reply| {
        let fields = Fields::of(reply);
        let flags = fields.flags();
        Some(SentinelPeer {
            id: fields.text("runid").to_owned(),
            endpoint: fields.endpoint("ip", "port")?,
            // Its connection to one that it has just found is `disconnected` for a moment.
            down: flags.contains("s_down"),
        })
    };
    match reply {
        Reply::List(items) => Reading::Seen(items.iter().filter_map(one).collect()),
        other => Reading::Missing(other.unfit("SENTINEL SENTINELS")),
    }
}

/// Replicas out of SENTINEL REPLICAS that stand there without a usable address. A primary that refuses REPLCONF never
/// learns a replica's port, and Sentinel takes over the 0 (Redis 7.0.15, sentinelRefreshInstanceInfo).
pub fn ghosts(replicas: &Reply) -> Reading<Vec<String>> {
    let Reply::List(items) = replicas else { return Reading::Missing(replicas.unfit("SENTINEL REPLICAS")) };
    let listed = items.iter().map(Fields::of).filter(|fields| fields.endpoint("ip", "port").is_none());
    let name = |fields: Fields<'_>| tame(&format!("{}:{}", fields.text("ip"), fields.text("port")), 80);
    Reading::Seen(listed.map(name).collect())
}

/// The answer to a name that it does not watch (Redis 7.0.15 and Valkey 8.0.1, sentinelGetMasterByNameOrReplyError).
pub fn is_unknown_group(reply: &Reply) -> bool {
    matches!(reply, Reply::Error { code, text } if code == "ERR" && text.contains("No such master"))
}

/// The group names out of SENTINEL MASTERS.
pub fn group_names(masters: &Reply) -> Vec<String> {
    masters.items().iter().filter_map(|master| Fields::of(master).get("name").map(str::to_owned)).collect()
}

fn quorum(reply: &Reply) -> Reading<Quorum> {
    match reply {
        Reply::Text(text) => Reading::Seen(Quorum { ok: true, text: tame(text, 300) }),
        Reply::Error { code, text } if code == "NOQUORUM" => Reading::Seen(Quorum { ok: false, text: tame(text, 300) }),
        other => Reading::Missing(other.unfit("SENTINEL CKQUORUM")),
    }
}

fn replicas(reply: &Reply) -> Vec<ReplicaInSentinel> {
    let one = |reply: &Reply| {
        let fields = Fields::of(reply);
        Some(ReplicaInSentinel {
            endpoint: fields.endpoint("ip", "port")?,
            run_id: fields.text("runid").to_owned(),
            flags: fields.flags(),
            priority: fields.number("slave-priority").unwrap_or(0),
            offset: fields.number("slave-repl-offset").unwrap_or(-1),
            link_ok: fields.text("master-link-status") == "ok",
            link_down_ms: fields.number("master-link-down-time").unwrap_or(-1000),
            info_refresh_ms: fields.info_age_ms(),
            last_ok_ping_ms: fields.number("last-ok-ping-reply").unwrap_or(NEVER_MS),
            last_reply_ms: fields.number("last-ping-reply"),
            primary: fields.endpoint("master-host", "master-port"),
            // Since Redis 6.2; before that every replica was announced.
            announced: fields.text("replica-announced") != "0",
            reports_primary: fields.text("role-reported") == "master",
            s_down_ms: fields.number("s-down-time"),
        })
    };
    reply.items().iter().filter_map(one).collect()
}

/// INFO-CACHE: `[group, [[age, info], …], …]`, the primary first, and no address anywhere: nodes are known again
/// by their run id (Redis 7.0.15, sentinelCommand).
fn nodes(groups: &[Reply], primary: (&Endpoint, &str), replicas: &[ReplicaInSentinel]) -> BTreeMap<String, CachedNode> {
    let mut nodes = BTreeMap::new();
    for entry in groups.iter().flat_map(Reply::items) {
        let [age, text] = entry.items() else { continue };
        let age_ms = age.int().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(NEVER_MS);
        let Some(node) = text.text().and_then(|text| info::cached_node(text, age_ms)) else { continue };
        let address = match node.run_id.as_str() {
            "" => None,
            id if id == primary.1 => Some(primary.0),
            id => replicas.iter().find(|replica| replica.run_id == id).map(|replica| &replica.endpoint),
        };
        if let Some(address) = address {
            nodes.insert(address.to_string(), node);
        }
    }
    nodes
}

/// Names and values: flat as in RESP2, or in pairs.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(reply: &'a Reply) -> Fields<'a> {
        let items = reply.items();
        let pairs: Vec<&[Reply]> = match items.first() {
            Some(Reply::List(_)) => items.iter().map(Reply::items).collect(),
            _ => items.chunks(2).collect(),
        };
        Fields(pairs.iter().filter_map(|pair| Some((pair.first()?.text()?, pair.get(1)?.text()?))).collect())
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn text(&self, key: &str) -> &'a str {
        self.get(key).unwrap_or_default()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    fn flags(&self) -> BTreeSet<String> {
        self.text("flags").split(',').filter(|flag| !flag.is_empty()).map(str::to_owned).collect()
    }

    /// `None` for the `?` and the port 0 that stand for an unknown address.
    fn endpoint(&self, host: &str, port: &str) -> Option<Endpoint> {
        let host = self.get(host).filter(|host| !host.is_empty() && *host != "?")?;
        let port = self.number(port).filter(|port| *port != 0)?;
        Some(Endpoint::new(host, port))
    }

    fn info_age_ms(&self) -> u64 {
        match self.number("info-refresh") {
            Some(0) | None if self.text("runid").is_empty() => NEVER_MS,
            age => age.unwrap_or(NEVER_MS),
        }
    }
}
