//! Whether the data would survive: replicas that hold none, saves that fail, a primary that restarts empty.

use super::{Check, Ground, Verdict};
use crate::model::evidence::Missing;
use crate::model::group::GroupNode;
use crate::model::shell::quoted;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> = g.replicas().filter_map(|node| replica_data(g, node)).collect();
    for node in &g.view.nodes {
        checks.extend([save_status(g, node), append_status(g, node), persistence(g, node)].into_iter().flatten());
    }
    checks
}

/// Sentinel takes a replica that never had a link for a fresh one, and has promoted it: the whole group was empty
/// after that (Redis 7.0.15 and 8.2.3: master_link_down_since_seconds -1 passes sentinelSelectSlave).
fn replica_data(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "replica-data";
    let known = g.known(node).filter(|known| !known.is_primary())?;
    let primary_keys = g.view.primary().and_then(|primary| g.known(primary)).map(|primary| primary.keys());
    let saw = match primary_keys {
        Some(keys) => format!("{} keys, the primary has {keys}", known.keys()),
        None => format!("{} keys", known.keys()),
    };
    let (saw, means) = match (known.never_synced(), known.keys(), primary_keys) {
        (true, _, _) => (
            format!("it never synced since it started; {saw}{}", known.source()),
            "Sentinel takes it for fresh and may promote it, and every other node then takes over what it holds",
        ),
        (false, 0, Some(1..)) => (format!("{saw}{}", known.source()), "if it is promoted, every other node is emptied"),
        _ => return Some(Check::pass(NAME, format!("{saw}{}", known.source())).at(&node.address)),
    };
    let why = format!("relinkd diagnose   # on {}: why it has no data", quoted(&node.address.host));
    let check = |verdict, means: &str| Check::new(NAME, verdict, saw.clone(), means).at(&node.address);
    if known.priority() == 0 {
        return Some(
            check(Verdict::Warn, "it is not promoted while its replica-priority is 0")
                .mend(why)
                .mend("once it has synced: set its replica-priority back"),
        );
    }
    let verdict = if primary_keys == Some(0) && known.keys() == 0 { Verdict::Warn } else { Verdict::Fail };
    Some(
        check(verdict, means)
            .mend(format!(
                "{} CONFIG SET replica-priority 0   # not to be promoted until it has synced; then {} again",
                g.cli(&node.address),
                known.priority()
            ))
            .mend(why),
    )
}

/// A primary whose save fails answers -MISCONF to PING: no replica can connect, and Sentinel takes it for dead. A
/// replica ends itself at the next write (Redis 7.0.15, writeCommandsDeniedByDiskError).
fn save_status(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "save-status";
    let known = g.known(node)?;
    if known.saves() {
        return Some(Check::pass(NAME, format!("rdb_last_bgsave_status:ok{}", known.source())).at(&node.address));
    }
    let harmless = node.settings.seen().is_some_and(|settings| settings.save.is_empty() || !settings.stop_writes);
    let (verdict, means) = match harmless {
        true => (Verdict::Warn, "it cannot save; writes go on, since save or stop-writes-on-bgsave-error is off"),
        false => (
            Verdict::Fail,
            "as a primary it refuses writes, replicas and Sentinel's PING (-MISCONF) and is failed over; as a replica it \
             ends itself at the next write (from 7.0 on, with replica-ignore-disk-write-errors no)",
        ),
    };
    let cli = g.cli(&node.address);
    Some(
        Check::new(NAME, verdict, format!("rdb_last_bgsave_status:err{}", known.source()), means)
            .at(&node.address)
            .mend(format!("{cli} CONFIG GET dir   # df -h there, make room, look at its rights"))
            .mend(format!("{cli} BGSAVE   # then INFO persistence has to say rdb_last_bgsave_status:ok")),
    )
}

fn append_status(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "append-status";
    let known = g.known(node)?;
    if known.appends() {
        return Some(Check::pass(NAME, format!("aof_last_write_status:ok{}", known.source())).at(&node.address));
    }
    let cli = g.cli(&node.address);
    Some(
        Check::new(
            NAME,
            Verdict::Fail,
            format!("aof_last_write_status:err{}", known.source()),
            "it cannot write its append-only file: as a primary it refuses writes, as a replica it ends itself",
        )
        .at(&node.address)
        .mend(format!("{cli} CONFIG GET dir   # df -h there, and make room; it then recovers by itself")),
    )
}

/// A primary that comes back empty, or with old data, before Sentinel has noticed: every replica takes over what it has.
fn persistence(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    let settings = node.settings.seen()?;
    Some(match (settings.save.is_empty(), settings.append_only) {
        (true, false) => kept_nowhere(g, node),
        (true, true) => Check::pass(PERSISTENCE, "append-only file").at(&node.address),
        (false, true) => Check::pass(PERSISTENCE, "RDB and append-only file").at(&node.address),
        (false, false) => kept_now_and_then(g, node),
    })
}

const PERSISTENCE: &str = "persistence";

/// Whether something starts it again before Sentinel holds it down; none: that was not read. `process_supervised:no` tells
/// nothing: so say a unit of another type than `notify`, a container and what any other supervisor runs.
fn comes_back_first(g: &Ground<'_>, node: &GroupNode) -> Option<bool> {
    node.restart.seen().map(|restart| restart.is_sooner_than(g.down_after_ms()))
}

fn not_known(node: &GroupNode) -> String {
    match node.restart.missing() {
        None | Some(Missing::NotAsked) => "that is read on its own host alone".to_owned(),
        Some(why) => format!("not known: {why}"),
    }
}

fn kept_nowhere(g: &Ground<'_>, node: &GroupNode) -> Check {
    let holds_data = g.known(node).is_some_and(|known| known.keys() > 0);
    let (verdict, means) = match (g.is_primary(node), comes_back_first(g, node)) {
        (true, Some(true)) if holds_data => (
            Verdict::Fail,
            "systemd restarts it sooner than Sentinel holds it down: it comes back empty as primary, and every replica \
             empties itself"
                .to_owned(),
        ),
        (true, None) => (
            Verdict::Warn,
            format!(
                "if anything restarts it before Sentinel holds it down ({}), it comes back empty as primary, and every \
                 replica empties itself",
                not_known(node)
            ),
        ),
        (true, _) => (
            Verdict::Warn,
            "if anything restarts it before Sentinel holds it down, it comes back empty as primary, and every replica \
             empties itself"
                .to_owned(),
        ),
        (false, _) => (Verdict::Warn, "the same as for a primary, once it has been promoted".to_owned()),
    };
    Check::new(PERSISTENCE, verdict, "save \"\" and appendonly no", means)
        .at(&node.address)
        .mends(g.set(&node.address, "appendonly", "yes", ""))
        .mend("or keep it without: Restart=no in its unit, so that Sentinel promotes a replica instead")
}

/// With an RDB alone a primary that was restarted begins where its last save was, and every replica follows it back.
fn kept_now_and_then(g: &Ground<'_>, node: &GroupNode) -> Check {
    let unsaved = node.account.seen().and_then(|account| account.server.unsaved_changes).unwrap_or(0);
    let saw = format!("RDB, the last save is {unsaved} changes ago");
    if !g.is_primary(node) || unsaved == 0 || comes_back_first(g, node) == Some(false) {
        return Check::pass(PERSISTENCE, if g.is_primary(node) { saw } else { "RDB".to_owned() }).at(&node.address);
    }
    let means = match comes_back_first(g, node) {
        Some(_) => {
            "after a crash systemd starts it again sooner than Sentinel holds it down: it comes back as primary with that save, \
             and every replica loses the same changes"
                .to_owned()
        }
        None => format!(
            "if anything starts it again after a crash ({}), it comes back as primary with that save, and every replica \
             loses the same changes",
            not_known(node)
        ),
    };
    Check::new(PERSISTENCE, Verdict::Warn, saw, means)
        .at(&node.address)
        .mends(g.set(&node.address, "appendonly", "yes", ""))
        .mend("or keep it so: a RestartSec= above down-after, so that Sentinel promotes a replica instead")
}
