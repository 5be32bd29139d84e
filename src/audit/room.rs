//! Room for the data set: on the disk, and in memory.

use super::limits::Load;
use super::{Check, Ground, Verdict};
use crate::model::evidence::Reading;
use crate::model::group::GroupNode;
use crate::model::size;

const MEMORY: &str = "memory";

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let load = Load::of(g);
    let mut checks = Vec::new();
    for node in &g.view.nodes {
        checks.extend(disk(g, node, &load));
        checks.extend(memory(g, node, &load));
    }
    checks
}

/// Room for one RDB beside the one that is there: a sync writes a temporary file and renames it.
fn disk(g: &Ground<'_>, node: &GroupNode, load: &Load) -> Option<Check> {
    const NAME: &str = "disk";
    node.local.as_ref()?;
    let settings = node.settings.seen()?;
    let syncs_use_it = !settings.diskless_sync || settings.diskless_load == "disabled";
    if !syncs_use_it && !settings.persists() {
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
    // The last one is the measure; text and hashes take a tenth of their memory in it, and less. One that is smaller by far
    // is of a time with other data.
    let last = node.rdb_bytes.seen().copied().filter(|bytes| *bytes >= data / 200);
    let least = last.unwrap_or(data / 20);
    let said = last.map(|bytes| format!(", its last RDB took {}", size(bytes))).unwrap_or_default();
    let saw = format!("{} has {} free, the data set takes {} in memory{said}", disk.path, size(disk.free), size(data));
    let what = if syncs_use_it { "a sync" } else { "a save" };
    let (verdict, means) = if disk.free < least {
        (Verdict::Fail, format!("an RDB of the data set does not fit (an estimate): {what} would fail over and over"))
    } else if last.is_none() && disk.free < data {
        (
            Verdict::Warn,
            format!("whether an RDB of the data set fits is not sure: it is often smaller; {what} may fail"),
        )
    } else if disk.free < last.unwrap_or(data).saturating_mul(2) {
        (Verdict::Warn, "room for one RDB, and not for a second or for an append-only file's rewrite".to_owned())
    } else {
        return Some(Check::pass(NAME, saw).at(&node.address));
    };
    let check = Check::new(NAME, verdict, saw, means).at(&node.address).mend(format!("make room in {}", disk.path));
    // The check of memory would ask for the contrary.
    if !syncs_use_it || room(node).is_none_or(|room| data.saturating_mul(2) > room) {
        return Some(check);
    }
    Some(check.mends(g.set(
        &node.address,
        "repl-diskless-load",
        "swapdb",
        "or: a replica then takes its data without the disk, with memory for two copies; saves need it still",
    )))
}

/// Memory that is available now, and what the server itself has taken already.
pub(super) fn room(node: &GroupNode) -> Option<u64> {
    let account = node.account.seen()?;
    match node.memory.seen() {
        Some(memory) => Some(memory.available.saturating_add(account.server.used_memory)),
        None => Some(account.host_memory).filter(|bytes| *bytes > 0),
    }
}

/// Memory for one data set, for two where a sync keeps the old one until the new one is whole.
fn memory(g: &Ground<'_>, node: &GroupNode, load: &Load) -> Option<Check> {
    const NAME: &str = MEMORY;
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
            2 => check.mends(g.set(&node.address, "repl-diskless-load", "disabled", "")),
            _ => check,
        });
    }
    if let Some(check) = while_it_forks(node, load, room, &saw).or_else(|| beyond_the_host(g, node, data)) {
        return Some(check);
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
            .mends(g.set(&node.address, "maxmemory", &data.saturating_add(data / 4).to_string(), "")),
        );
    }
    Some(Check::pass(NAME, saw).at(&node.address))
}

/// What a sync takes beside the data set.
fn while_it_forks(node: &GroupNode, load: &Load, room: u64, saw: &str) -> Option<Check> {
    let data = load.data?;
    // A fork copies each page that is written while it works, and what is written waits for the replica beside.
    let pending = load.pending().unwrap_or(0);
    let hard = node.settings.seen().map_or(0, |settings| settings.output_hard);
    let waiting = if hard == 0 { pending } else { pending.min(hard) };
    let during_sync = data.saturating_add(pending.min(data)).saturating_add(waiting);
    (during_sync > room).then(|| {
        Check::new(
            MEMORY,
            Verdict::Warn,
            format!("{saw}; at this write rate a full sync takes {} (an estimate)", size(during_sync)),
            "while it forks for a replica, pages that are written are copied, and the writes wait beside: the kernel \
                 may end it",
        )
        .at(&node.address)
        .mend("add memory, or move other services away")
    })
}

/// A limit that never acts.
fn beyond_the_host(g: &Ground<'_>, node: &GroupNode, data: u64) -> Option<Check> {
    let account = node.account.seen()?;
    let maxmemory = account.server.maxmemory;
    let total = node.memory.seen().map_or(account.host_memory, |memory| memory.total);
    if total == 0 || maxmemory <= total {
        return None;
    }
    let best = total / 4 * 3;
    let check = Check::new(
        MEMORY,
        Verdict::Warn,
        format!("maxmemory {}, the host has {}", size(maxmemory), size(total)),
        "it never acts: the kernel ends the server before it evicts a key or refuses a write",
    )
    .at(&node.address);
    Some(match best > data {
        true => check.mends(g.set(&node.address, "maxmemory", &best.to_string(), "")),
        false => check.mend("add memory"),
    })
}
