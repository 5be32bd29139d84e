//! Sizes and times against the write rate and the data set: what a reconnect and a full sync would meet. Each is
//! judged on every node, since each may be the primary tomorrow.
//!
//! How long a transfer takes is an estimate, from the figures below; the checks that stand on it say so.

use std::time::Duration;

use super::room::room;
use super::{Check, Ground, Verdict};
use crate::model::group::{GroupNode, NodeSettings};
use crate::model::{human, size};

/// A network of 1 Gbit/s, and a processor that loads an RDB of small keys.
const TRANSFER_BYTES_PER_S: u64 = 100 << 20;
const LOAD_BYTES_PER_S: u64 = 50 << 20;
/// The server's own default of the hard limit for replicas.
const DEFAULT_OUTPUT_HARD: u64 = 256 << 20;
const LEAST_BACKLOG: u64 = 1 << 20;
/// The server's own default of `repl-ping-replica-period`, seconds.
const PING_S: u64 = 10;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let load = Load::of(g);
    let mut checks = vec![rate(&load)];
    for node in &g.view.nodes {
        if let Some(settings) = node.settings.seen() {
            checks.push(backlog(g, node, settings, &load));
            checks.push(output_buffer(g, node, settings, &load));
            checks.push(timeout(g, node, settings, &load));
        }
    }
    checks
}

/// What the group has to carry.
pub(super) struct Load {
    pub bytes_per_s: Option<u64>,
    over_ms: u64,
    pub data: Option<u64>,
    /// Transfer and load of a full sync, seconds. What is written while a diskless sync is waited for
    /// (`repl-diskless-sync-delay`) is not kept for the replica: that begins with the fork (Redis 7.0.15,
    /// canFeedReplicaReplBuffer).
    sync_s: Option<u64>,
    load_s: Option<u64>,
}

impl Load {
    /// What is written during one full sync.
    pub(super) fn pending(&self) -> Option<u64> {
        Some(self.bytes_per_s?.saturating_mul(self.sync_s?))
    }

    pub(super) fn of(g: &Ground<'_>) -> Load {
        // The primary's own word. A replica that catches up grows faster than anything is written.
        let growth = g.view.primary().and_then(|primary| primary.growth.seen());
        let growth =
            growth.or_else(|| g.replicas().filter_map(|node| node.growth.seen()).min_by_key(|it| it.bytes_per_s()));
        let own = |node: &GroupNode| node.account.seen().map(|account| account.data_bytes);
        // A replica holds the same data; the largest says the least too little.
        let data = g.view.nodes.iter().filter_map(own).max();
        let load_s = data.map(|data| data / LOAD_BYTES_PER_S);
        Load {
            bytes_per_s: growth.map(|growth| growth.bytes_per_s()),
            over_ms: growth.map_or(0, |growth| growth.over_ms),
            data,
            sync_s: data.map(|data| data / TRANSFER_BYTES_PER_S + load_s.unwrap_or(0) + 1),
            load_s,
        }
    }
}

fn rate(load: &Load) -> Check {
    const NAME: &str = "write-rate";
    match load.bytes_per_s {
        Some(rate) => Check::pass(
            NAME,
            format!(
                "{}/s over {}; ask again at the busiest hour",
                size(rate),
                human(Duration::from_millis(load.over_ms))
            ),
        ),
        None => Check::new(
            NAME,
            Verdict::Unseen,
            "no node's replication offset could be read twice",
            "backlog and output buffer could not be judged against it",
        )
        .mend("see node-reachable; where a replica syncs, run the audit again when it is done"),
    }
}

/// The size that covers an outage, as a power of two.
fn wished(rate: u64, outage: Duration) -> u64 {
    let need = u128::from(rate) * outage.as_millis() / 1000;
    let need = u64::try_from(need).unwrap_or(1 << 62).max(LEAST_BACKLOG);
    need.checked_next_power_of_two().unwrap_or(1 << 62)
}

fn backlog(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, load: &Load) -> Check {
    const NAME: &str = "backlog";
    let Some(rate) = load.bytes_per_s else {
        return Check::new(
            NAME,
            Verdict::Unseen,
            format!("repl-backlog-size {}", size(settings.backlog_size)),
            "the write rate is not known",
        )
        .at(&node.address);
    };
    let held = match rate {
        0 => "nothing is written now".to_owned(),
        rate => format!(
            "holds {} of {}/s",
            human(Duration::from_millis(settings.backlog_size.saturating_mul(1000) / rate)),
            size(rate)
        ),
    };
    let saw = format!("repl-backlog-size {}, {held}", size(settings.backlog_size));
    let need = u128::from(rate) * g.outage.as_millis() / 1000;
    if u128::from(settings.backlog_size) >= need {
        return kept(g, node, settings).unwrap_or_else(|| Check::pass(NAME, saw).at(&node.address));
    }
    let best = wished(rate, g.outage);
    let check = Check::new(
        NAME,
        Verdict::Warn,
        saw,
        format!("a replica that is away for {} needs a full sync; {} would cover it", human(g.outage), size(best)),
    )
    .at(&node.address);
    // Up to Redis 6.2 it is taken at once, and later as it fills.
    let fits = |room: u64| best.saturating_add(load.data.unwrap_or(0)) <= room;
    match room(node).filter(|room| !fits(*room)) {
        Some(room) => check.mend(format!(
            "add memory, or audit with a shorter --outage: {} do not fit beside the data set into {}",
            size(best),
            size(room)
        )),
        None => check.mends(g.set(&node.address, "repl-backlog-size", &best.to_string(), "")),
    }
}

/// A primary that has had no replica at all for so long gives its backlog up (Redis 7.0.15, replicationCron).
fn kept(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings) -> Option<Check> {
    let (ttl_s, outage_s) = (settings.backlog_ttl_s, g.outage.as_secs());
    (ttl_s != 0 && ttl_s < outage_s).then(|| {
        Check::new(
            "backlog",
            Verdict::Warn,
            format!("repl-backlog-ttl {ttl_s} s"),
            "where every replica is away at once, the backlog is given up after that, and each needs a full sync",
        )
        .at(&node.address)
        .mends(g.set(&node.address, "repl-backlog-ttl", &outage_s.saturating_mul(2).max(3600).to_string(), ""))
    })
}

/// While a replica takes a data set, the primary keeps every write for it.
fn output_buffer(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, load: &Load) -> Check {
    const NAME: &str = "output-buffer";
    let (hard, soft, soft_s) = (settings.output_hard, settings.output_soft, settings.output_soft_s);
    let limit = |bytes: u64| if bytes == 0 { "none".to_owned() } else { size(bytes) };
    let soft_said = if soft == 0 { "none".to_owned() } else { format!("{} for {soft_s} s", size(soft)) };
    let saw = format!("limit for replicas: hard {}, soft {soft_said}", limit(hard));
    let (Some(rate), Some(sync_s), Some(data), Some(pending)) =
        (load.bytes_per_s, load.sync_s, load.data, load.pending())
    else {
        return Check::new(NAME, Verdict::Unseen, saw, "write rate or data set are not known").at(&node.address);
    };
    // From Redis 7.0 on the hard limit does not act below the backlog's size (checkClientOutputBufferLimits).
    let floored = g.known(node).is_some_and(|known| known.is_since_redis_7());
    let effective = if floored { hard.max(settings.backlog_size) } else { hard };
    let over_hard = hard != 0 && pending > effective;
    let seconds_below = soft.checked_div(rate).unwrap_or(u64::MAX);
    // With 0 seconds it cuts at the first look above it (checkClientOutputBufferLimits): it is no way to turn it off.
    let over_soft = soft != 0 && pending > soft && sync_s.saturating_sub(seconds_below) > soft_s;
    let mend = roomier(g, node, settings, pending);
    let about = format!("about {sync_s} s for {} (an estimate), in which {} are written", size(data), size(pending));
    let (verdict, means) = if (over_hard || over_soft) && kept_by_replicas(g, settings) {
        (
            Verdict::Warn,
            format!(
                "a full sync takes {about}. The replica itself keeps them (repl-rdb-channel, dual-channel-replication-enabled) \
                 up to its own limit, and only what is beyond waits here"
            ),
        )
    } else if over_hard || over_soft {
        (
            Verdict::Fail,
            format!("a full sync takes {about}: the primary cuts the replica, which begins again, for ever"),
        )
    } else if hard != 0 && hard < DEFAULT_OUTPUT_HARD && hard < data {
        (Verdict::Warn, format!("below the server's default and below the data set; a full sync takes {about}"))
    } else if hard != 0 && pending.saturating_mul(2) > effective {
        (Verdict::Warn, format!("a full sync takes {about}: twice the writes, or a slower transfer, and it is cut"))
    } else {
        return Check::pass(NAME, saw).at(&node.address);
    };
    Check::new(NAME, verdict, saw, means).at(&node.address).mends(mend)
}

/// Redis 8 and Valkey 8 can send the data set and what is written meanwhile side by side, where both ends have it on.
fn kept_by_replicas(g: &Ground<'_>, settings: &NodeSettings) -> bool {
    let all = g.view.nodes.iter().all(|node| node.settings.seen().is_some_and(|settings| settings.rdb_channel));
    all && settings.diskless_sync
}

/// Limits that let twice of it wait, and no less than they let now. The soft one is as far away: what a sync makes wait
/// stays there until it is over, so a minute of grace is none.
fn roomier(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, pending: u64) -> Vec<String> {
    let roomy = pending.saturating_mul(2).max(DEFAULT_OUTPUT_HARD);
    let best = roomy.checked_next_power_of_two().unwrap_or(1 << 62);
    let raised = |present: u64| if present == 0 { 0 } else { present.max(best) };
    let (hard, soft) = (raised(settings.output_hard), raised(settings.output_soft));
    let value = format!("replica {hard} {soft} {}", settings.output_soft_s.max(60));
    g.set(&node.address, "client-output-buffer-limit", &value, "so much memory for each replica that syncs, at most")
}

/// A primary says nothing but a PING a period on an idle link; and a replica that loads may be silent for long.
fn timeout(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, load: &Load) -> Check {
    const NAME: &str = "repl-timeout";
    let period = |other: &GroupNode| other.settings.seen().map(|settings| settings.ping_period_s);
    let slowest = g.view.nodes.iter().filter_map(period).max().unwrap_or(0);
    let timeout_s = settings.repl_timeout_s;
    let saw = format!("repl-timeout {timeout_s} s, the longest ping period in the group {slowest} s");
    if timeout_s == 0 || slowest == 0 {
        return Check::new(NAME, Verdict::Unseen, saw, "one of the two could not be read").at(&node.address);
    }
    let load_s = load.load_s.unwrap_or(0);
    let best = (slowest * 6).max(load_s * 2).max(60);
    let (verdict, means) = if timeout_s <= slowest {
        (Verdict::Fail, "an idle link is taken for a dead one, again and again".to_owned())
    } else if timeout_s < slowest * 2 {
        (Verdict::Warn, "one lost or late ping cuts the link".to_owned())
    } else if timeout_s <= load_s {
        (
            Verdict::Warn,
            format!("a replica may load the data set for about {load_s} s (an estimate) and be cut meanwhile"),
        )
    } else {
        return Check::pass(NAME, saw).at(&node.address);
    };
    let check = Check::new(NAME, verdict, saw, means).at(&node.address);
    // A long timeout notices a hung primary late: where the pings are what is odd, they are mended.
    let rare: Vec<&GroupNode> =
        g.view.nodes.iter().filter(|node| period(node).is_some_and(|s| s > PING_S && s * 2 > timeout_s)).collect();
    if rare.is_empty() || timeout_s < PING_S * 2 || timeout_s <= load_s {
        return check.mends(g.set(&node.address, "repl-timeout", &best.to_string(), ""));
    }
    let ping = PING_S.to_string();
    rare.iter().fold(check, |check, node| check.mends(g.set(&node.address, "repl-ping-replica-period", &ping, "")))
}
