//! A second primary: the local server calls itself one, and the Sentinels name another. After a failover the former
//! primary comes back writable, for about ten seconds until a Sentinel converts it, or for good where no Sentinel can
//! log in (Redis 7.0.15 and Valkey 8.0.1: 10.1 s after SIGCONT, 10.4 s after a restart; every write in between is lost).
//!
//! The address that Sentinels use may be the local server's own under another name, so addresses prove nothing: run ids
//! do, and a Sentinel's knowledge of one counts only when it was read after the local process began.

use std::time::Duration;

use super::topology::failover_in_doubt;
use super::{fact, finding};
use crate::model::evidence::{CachedNode, Evidence, Role, SentinelSays, ServerView};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::{Address, Endpoint};

/// How long after a promotion the Sentinels may still name the former primary.
pub const PROMOTION: Duration = Duration::from_secs(3);

/// How long a primary that served until the Sentinels named another may stay one: somebody asked for a failover, and
/// Sentinel converts it within ten seconds and some (Redis 7.0.15: 10.1 s; 11 s from the request).
const HANDOVER: Duration = Duration::from_secs(15);

/// What the Sentinels' word makes of a local primary.
enum Standing<'a> {
    /// It is the one that they name, or no majority names any.
    Rightful,
    /// They name an address that may still be the local server itself.
    Unclear,
    Deposed {
        named: &'a Endpoint,
        votes: usize,
        proof: Fact,
    },
}

pub fn returned_primary(e: &Evidence) -> Option<Finding> {
    let Some(Standing::Deposed { named, votes, proof }) = standing(e).filter(|_| settled(e)) else { return None };
    let named_by = format!("{votes} of {} Sentinels name {named} as the primary", e.sentinels_known());
    let means = "this server calls itself a primary too: what clients write to it will be lost";
    let first = fact(Viewpoint::Sentinel, e.ended, named_by, means);
    Some(finding(Cause::WrongPrimary, false, vec![first, proof, stake(e)]))
}

/// Whether a local primary may have been replaced, and what was seen does not tell: a matter of seconds.
pub fn role_in_doubt(e: &Evidence) -> bool {
    match standing(e) {
        Some(Standing::Unclear) => true,
        Some(Standing::Deposed { .. }) => !settled(e),
        Some(Standing::Rightful) | None => false,
    }
}

/// Whether a majority of the Sentinels names the local server, and none of them holds it down.
pub fn serves(e: &Evidence) -> bool {
    let named = e.named_primary().is_some() && e.sentinels_flagging("s_down") == 0;
    named && matches!(standing(e), Some(Standing::Rightful))
}

/// None where the local server is no primary.
fn standing(e: &Evidence) -> Option<Standing<'_>> {
    let local = e.local.seen().filter(|view| view.role == Role::Primary && !view.loading)?;
    let Some((named, votes)) = e.named_primary() else { return Some(Standing::Rightful) };
    let naming: Vec<_> = e.answering().filter(|(_, says)| says.primary == *named).collect();
    let itself = e.address == Address::Tcp(named.clone())
        || naming.iter().any(|(_, says)| says.primary_run_id == local.run_id)
        || e.primary.seen().is_some_and(|there| there.run_id == local.run_id);
    if local.run_id.is_empty() || itself {
        return Some(Standing::Rightful);
    }
    let told = e.primary.seen().filter(|there| !there.run_id.is_empty()).map(|there| {
        let saw = format!("{named} is another process: run id {}", there.run_id);
        fact(Viewpoint::Primary, there.at, saw, format!("this one is {}", local.run_id))
    });
    let read_since = |says: &&(&Endpoint, &SentinelSays)| {
        !says.1.primary_run_id.is_empty() && says.1.info_refresh_ms < local.uptime_s.saturating_mul(1_000)
    };
    let heard = naming.iter().find(read_since).map(|(endpoint, says)| {
        let saw = format!("{endpoint} knows {named} by run id {}", says.primary_run_id);
        fact(Viewpoint::Sentinel, says.at, saw, format!("this one is {}", local.run_id))
    });
    Some(match told.or(heard) {
        Some(proof) => Standing::Deposed { named, votes, proof },
        None => Standing::Unclear,
    })
}

/// Whether it is certain which of the two is the former one. A replica that Sentinel has just promoted is a primary for
/// a second or two before the Sentinels name it (Redis 7.0.15: +promoted-slave comes before +switch-master), and looks
/// the same. The one whose history the other took over is the former one; else the time tells.
fn settled(e: &Evidence) -> bool {
    let due = e.trend.handed_over.is_some_and(|since| e.ended.since(since) < HANDOVER);
    if due && !lost_by_sentinels(e) {
        return false;
    }
    let stood = e.trend.astray_since.is_some_and(|since| e.ended.since(since) >= PROMOTION);
    shares_history(e) || (stood && failover_in_doubt(e).is_none())
}

/// Whether most Sentinels hold the local server down, now that it is a replica to them: they will not convert it.
fn lost_by_sentinels(e: &Evidence) -> bool {
    let run_id = e.local.seen().map_or("", |view| view.run_id.as_str());
    let lost = |says: &SentinelSays| {
        says.replicas.iter().any(|one| {
            let here = e.address == Address::Tcp(one.endpoint.clone()) || (one.run_id == run_id && !run_id.is_empty());
            here && one.flags.contains("s_down")
        })
    };
    e.answering().filter(|(_, says)| lost(says)).count() * 2 > e.answering().count()
}

/// Whether the local server is a primary that the Sentinels do not name, settled or not.
pub fn is_astray(e: &Evidence) -> bool {
    matches!(standing(e), Some(Standing::Deposed { .. }))
}

/// What is at stake, as far as it can be told.
fn stake(e: &Evidence) -> Fact {
    let local = e.local.seen();
    let (at, offset) = local.map_or((e.ended, -1), |view| (view.at, view.repl_offset));
    let (saw, means) = match only_here(e) {
        Some(0) => (
            format!("offset {offset} lies within what the new primary has"),
            "it has taken no write of its own so far".to_owned(),
        ),
        Some(bytes) => (
            format!("{bytes} bytes of its stream, up to offset {offset}, are in this server alone"),
            "writes that are lost when it becomes a replica".to_owned(),
        ),
        None => (
            match local.and_then(|view| view.unsaved_changes) {
                Some(changes) => format!("{changes} changes since its start or last save, in a history of its own"),
                None => format!("offset {offset}, in a history of its own"),
            },
            "how much it has that the new primary has not cannot be told from here".to_owned(),
        ),
    };
    fact(Viewpoint::Replica, at, saw, means)
}

/// The history that the named primary took over, and up to which offset it has it.
fn taken_over(e: &Evidence) -> Option<(&str, i64)> {
    let (named, _) = e.named_primary()?;
    let own = e.primary.seen().filter(|there| there.role == Role::Primary);
    let own = own.map(|there: &ServerView| (there.replid2.as_str(), there.second_repl_offset));
    let name = named.to_string();
    let cached = e.answering().filter_map(|(_, says)| says.nodes.seen()?.get(&name));
    let cached = cached.filter(|node| node.is_primary).max_by_key(|node| node.second_repl_offset);
    let cached = cached.map(|node: &CachedNode| (node.replid2.as_str(), node.second_repl_offset));
    // `second_repl_offset` is the first offset that is not of the former history (Redis 7.0.15, shiftReplicationId).
    let (history, first_new) = own.or(cached)?;
    let exists = first_new > 0 && history.bytes().any(|byte| byte != b'0');
    exists.then_some((history, first_new - 1))
}

/// Up to which offset the local server and the named primary have the same; none where they share no history.
fn shared_until(e: &Evidence) -> Option<i64> {
    let local = e.local.seen()?;
    let (history, until) = taken_over(e)?;
    if local.replid == history {
        return Some(until);
    }
    // Started anew from its dump, it has the former history as its second one (Redis 7.0.15, loadDataFromDisk).
    (local.replid2 == history && local.second_repl_offset > 0).then(|| until.min(local.second_repl_offset - 1))
}

/// Whether the named primary was once a replica of the local server's history.
pub fn shares_history(e: &Evidence) -> bool {
    shared_until(e).is_some()
}

/// Bytes of the replication stream that a local primary has and the named one has not: writes, and a PING now and then.
/// None where that cannot be told: without a backlog the offset does not move with the writes.
pub fn only_here(e: &Evidence) -> Option<u64> {
    let local = e.local.seen().filter(|view| view.backlog_active)?;
    Some(u64::try_from(local.repl_offset.saturating_sub(shared_until(e)?)).unwrap_or(0))
}
