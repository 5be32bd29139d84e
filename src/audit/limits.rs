//! Sizes and times against the write rate and the data set: what a reconnect and a full sync would meet. Each is
//! judged on every node, since each may be the primary tomorrow.
//!
//! How long a transfer takes is an estimate, from the figures below; the checks that stand on it say so.

use std::time::Duration;

use super::{Check, Ground, Verdict};
use crate::model::evidence::Reading;
use crate::model::group::{GroupNode, NodeSettings};
use crate::model::{human, size};

/// A network of 1 Gbit/s, and a processor that loads an RDB of small keys.
const TRANSFER_BYTES_PER_S: u64 = 100 << 20;
const LOAD_BYTES_PER_S: u64 = 50 << 20;
/// The server's own default of the hard limit for replicas.
const DEFAULT_OUTPUT_HARD: u64 = 256 << 20;
const LEAST_BACKLOG: u64 = 1 << 20;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let load = Load::of(g);
    let mut checks = vec![rate(&load)];
    for node in &g.view.nodes {
        if let Some(settings) = node.settings.seen() {
            checks.push(backlog(g, node, settings, &load));
            checks.push(output_buffer(g, node, settings, &load));
            checks.push(timeout(g, node, settings, &load));
        }
        checks.extend(disk(g, node, &load));
        checks.extend(memory(g, node, &load));
    }
    checks
}

/// What the group has to carry.
struct Load {
    bytes_per_s: Option<u64>,
    over_ms: u64,
    data: Option<u64>,
    /// Wait, transfer and load of a full sync, seconds.
    sync_s: Option<u64>,
    load_s: Option<u64>,
}

impl Load {
    fn of(g: &Ground<'_>) -> Load {
        let growth =
            g.view.nodes.iter().filter_map(|node| node.growth.seen()).max_by_key(|growth| growth.bytes_per_s());
        let own = |node: &GroupNode| node.account.seen().map(|account| account.data_bytes);
        // A replica holds the same data; the largest says the least too little.
        let data = g.view.nodes.iter().filter_map(own).max();
        let delay = |node: &GroupNode| node.settings.seen().map(|settings| settings.diskless_sync_delay_s);
        let wait_s = g.view.nodes.iter().filter_map(delay).max().unwrap_or(0);
        let load_s = data.map(|data| data / LOAD_BYTES_PER_S);
        Load {
            bytes_per_s: growth.map(|growth| growth.bytes_per_s()),
            over_ms: growth.map_or(0, |growth| growth.over_ms),
            data,
            sync_s: data.map(|data| wait_s + data / TRANSFER_BYTES_PER_S + load_s.unwrap_or(0) + 1),
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
        .mend("see node-reachable"),
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
        return Check::pass(NAME, saw).at(&node.address);
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
        None => check.mend(g.set(&node.address, "repl-backlog-size", &best.to_string())),
    }
}

/// While a replica takes a data set, the primary keeps every write for it.
fn output_buffer(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, load: &Load) -> Check {
    const NAME: &str = "output-buffer";
    let (hard, soft, soft_s) = (settings.output_hard, settings.output_soft, settings.output_soft_s);
    let limit = |bytes: u64| if bytes == 0 { "none".to_owned() } else { size(bytes) };
    let soft_said = if soft == 0 { "none".to_owned() } else { format!("{} for {soft_s} s", size(soft)) };
    let saw = format!("limit for replicas: hard {}, soft {soft_said}", limit(hard));
    let (Some(rate), Some(sync_s), Some(data)) = (load.bytes_per_s, load.sync_s, load.data) else {
        return Check::new(NAME, Verdict::Unseen, saw, "write rate or data set are not known").at(&node.address);
    };
    let pending = rate.saturating_mul(sync_s);
    // From Redis 7.0 on the hard limit does not act below the backlog's size (checkClientOutputBufferLimits).
    let floored = g.known(node).is_some_and(|known| known.is_since_redis_7());
    let effective = if floored { hard.max(settings.backlog_size) } else { hard };
    let over_hard = hard != 0 && pending > effective;
    let seconds_below = soft.checked_div(rate).unwrap_or(u64::MAX);
    let over_soft = soft != 0 && soft_s != 0 && pending > soft && sync_s.saturating_sub(seconds_below) > soft_s;
    let mend = roomier(g, node, settings, pending);
    let about = format!("about {sync_s} s for {} (an estimate), in which {} are written", size(data), size(pending));
    let (verdict, means) = if over_hard || over_soft {
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
    Check::new(NAME, verdict, saw, means).at(&node.address).mend(mend)
}

/// Limits that let twice of it wait, and no less than they let now. The soft one is as far away: what a sync makes wait
/// stays there until it is over, so a minute of grace is none.
fn roomier(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, pending: u64) -> String {
    let roomy = pending.saturating_mul(2).max(DEFAULT_OUTPUT_HARD);
    let best = roomy.checked_next_power_of_two().unwrap_or(1 << 62);
    let raised = |present: u64| if present == 0 { 0 } else { present.max(best) };
    let (hard, soft) = (raised(settings.output_hard), raised(settings.output_soft));
    let value = format!("'replica {hard} {soft} {}'", settings.output_soft_s.max(60));
    format!(
        "{}   # so much memory for each replica that syncs, at most",
        g.set(&node.address, "client-output-buffer-limit", &value)
    )
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
    Check::new(NAME, verdict, saw, means).at(&node.address).mend(g.set(
        &node.address,
        "repl-timeout",
        &best.to_string(),
    ))
}

/// Room for one RDB beside the one that is there: a sync writes a temporary file and renames it.
fn disk(g: &Ground<'_>, node: &GroupNode, load: &Load) -> Option<Check> {
    const NAME: &str = "disk";
    node.local.as_ref()?;
    let settings = node.settings.seen()?;
    let diskless = settings.diskless_sync && settings.diskless_load != "disabled" && !settings.persists();
    if diskless {
        return Some(Check::pass(NAME, "neither syncs nor saves use the disk").at(&node.address));
    }
    let (disk, data) = match (&node.disk, load.data) {
        (Reading::Seen(disk), Some(data)) => (disk, data),
        (Reading::Missing(why), _) => {
            return Some(
                Check::new(NAME, Verdict::Unseen, format!("{}: {why}", settings.dir), "its free space is not known")
                    .at(&node.address)
                    .mend("run it as a user who may enter the directories above"),
            );
        }
        (_, None) => return None,
    };
    let saw = format!("{} has {} free, the data set takes {} in memory", disk.path, size(disk.free), size(data));
    let (verdict, means) = if disk.free < data {
        (
            Verdict::Fail,
            "an RDB of the data set may not fit (an estimate: it is often smaller): a sync would fail over and over",
        )
    } else if disk.free < data.saturating_mul(2) {
        (Verdict::Warn, "room for one RDB, and not for a second or for an append-only file's rewrite")
    } else {
        return Some(Check::pass(NAME, saw).at(&node.address));
    };
    let check = Check::new(NAME, verdict, saw, means).at(&node.address).mend(format!("make room in {}", disk.path));
    // The check of memory would ask for the contrary.
    if room(node).is_none_or(|room| data.saturating_mul(2) > room) {
        return Some(check);
    }
    Some(check.mend(format!(
        "{}   # or: a replica then takes its data without the disk, with memory for two copies",
        g.set(&node.address, "repl-diskless-load", "swapdb")
    )))
}

/// Memory that is available now, and what the server itself has taken already.
fn room(node: &GroupNode) -> Option<u64> {
    let account = node.account.seen()?;
    match node.memory.seen() {
        Some(memory) => Some(memory.available.saturating_add(account.server.used_memory)),
        None => Some(account.host_memory).filter(|bytes| *bytes > 0),
    }
}

/// Memory for one data set, for two where a sync keeps the old one until the new one is whole.
fn memory(g: &Ground<'_>, node: &GroupNode, load: &Load) -> Option<Check> {
    const NAME: &str = "memory";
    let (account, data) = (node.account.seen()?, load.data?);
    let copies = match node.settings.seen() {
        Some(settings) if settings.diskless_load == "swapdb" => 2,
        _ => 1,
    };
    let need = data.saturating_mul(copies);
    let room = room(node)?;
    let saw = match copies {
        1 => format!("{} of memory for a data set of {}", size(room), size(data)),
        _ => format!("{} of memory for two copies of {} (repl-diskless-load swapdb)", size(room), size(data)),
    };
    if need > room {
        let check = Check::new(
            NAME,
            Verdict::Fail,
            saw,
            "a full sync, or the data set itself, does not fit into the memory of its host",
        )
        .at(&node.address)
        .mend("add memory, or move other services away");
        return Some(match copies {
            2 => check.mend(g.set(&node.address, "repl-diskless-load", "disabled")),
            _ => check,
        });
    }
    let maxmemory = account.server.maxmemory;
    if maxmemory > 0 && data > maxmemory {
        return Some(
            Check::new(
                NAME,
                Verdict::Warn,
                format!("maxmemory {}, the data set takes {}", size(maxmemory), size(data)),
                "a replica ignores maxmemory; once it is primary it evicts keys or refuses writes",
            )
            .at(&node.address)
            .mend(g.set(&node.address, "maxmemory", &data.saturating_add(data / 4).to_string())),
        );
    }
    Some(Check::pass(NAME, saw).at(&node.address))
}
