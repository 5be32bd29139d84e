//! Trouble while the link is up, or reads up: what the next reconnect, the next write or the next failover will meet.
//!
//! It shows only in a deep look, which repeats the replica's handshake although the link is up: every 30 s, and when
//! the log tells of a lost link.

use std::time::Duration;

use super::{fact, finding, handshake_works, link_fact, same_place, standing};
use crate::model::Timestamp;
use crate::model::evidence::{
    Answer, CandidateView, Connect, Evidence, Flavour, LinkView, LogKind, PeerRole, Probe, Role, SentinelSays,
};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

/// How long a sign that may pass by itself has to last while the link is up.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// Whoever rotates sets one server after the other: for so long it is their turn, and nobody is refused meanwhile.
const HANDED_ON: Duration = Duration::from_secs(1);

fn whole_link(e: &Evidence) -> Option<&LinkView> {
    e.local_link().filter(|link| link.up)
}

fn probe_with_link_up(e: &Evidence) -> Option<&Probe> {
    whole_link(e)?;
    e.upstream.seen().filter(|probe| probe.connect == Connect::Open)
}

/// The primary would not take the login of a new connection. The present one was made before the password changed.
pub fn auth(e: &Evidence) -> Option<Finding> {
    if !e.standbys.is_empty() {
        return way_back(e);
    }
    let probe = probe_with_link_up(e)?;
    let settings = e.settings.seen()?;
    let saw = match (&probe.auth, &probe.ping) {
        (Answer::Error { text, .. }, _) => format!("{}: AUTH → {text}", probe.target),
        (Answer::NotAsked, ping) if !settings.masterauth_set && ping.code() == "NOAUTH" => {
            format!("{} without a password → {ping}", probe.target)
        }
        _ => return overtaken(e, probe),
    };
    let first = fact(Viewpoint::Probe, probe.at, saw, "the next reconnect of this replica will be refused");
    Some(finding(Cause::AuthLatent, false, vec![first, link_fact(e)]))
}

/// The store's newest password is another than the replica holds, and the primary takes both: a rotation is under way,
/// and ends with the old one taken away.
fn overtaken(e: &Evidence, probe: &Probe) -> Option<Finding> {
    let newest = newer_in_store(e).filter(|newest| handshake_works(&newest.proof))?;
    if !same_place(e, &newest.proof.target, &probe.target) {
        return None;
    }
    let first = fact(
        Viewpoint::Probe,
        newest.proof.at,
        format!("{} takes {} (version {})", newest.proof.target, newest.source, newest.version),
        "the store and the primary have moved on; this replica holds another password, which works until it is removed",
    );
    let because = vec![first, link_fact(e)];
    Some(Finding { unrefused: true, ..finding(Cause::AuthLatent, standing(e) < HANDED_ON, because) })
}

/// What the store holds now, where that is another than is in use and not the one before.
fn newer_in_store(e: &Evidence) -> Option<&CandidateView> {
    e.candidates.first().filter(|newest| !newest.in_use && !e.trend.store_left)
}

/// The primary's own `masterauth`: a replica that may be promoted would not take it, or the group has moved on.
fn way_back(e: &Evidence) -> Option<Finding> {
    let masterauth_set = e.settings.seen()?.masterauth_set;
    let refused = e.standbys.iter().find_map(|probe| match (&probe.auth, &probe.ping) {
        (Answer::Error { code, text }, _) if code == "WRONGPASS" => {
            Some((probe, format!("{}: AUTH → {text}", probe.target)))
        }
        (Answer::NotAsked, ping) if !masterauth_set && ping.code() == "NOAUTH" => {
            Some((probe, format!("{} without a password → {ping}", probe.target)))
        }
        _ => None,
    });
    let newest = newer_in_store(e).filter(|newest| newest.proof.auth.is_ok());
    let unrefused = refused.is_none();
    let suspected = unrefused && standing(e) < HANDED_ON;
    let (at, saw, means) = match (refused, newest) {
        (Some((probe, saw)), _) => {
            (probe.at, saw, "this is the primary: after a failover it could not come back as a replica of this one")
        }
        (None, Some(newest)) => (
            newest.proof.at,
            format!("{} takes {} (version {})", newest.proof.target, newest.source, newest.version),
            "the store and the replicas have moved on; this primary holds another masterauth for the way back",
        ),
        (None, None) => return None,
    };
    let own = fact(Viewpoint::Replica, e.ended, format!("{} is the primary", e.address), "no link is broken");
    let because = vec![fact(Viewpoint::Probe, at, saw, means), own];
    Some(Finding { unrefused, ..finding(Cause::AuthLatent, suspected, because) })
}

/// A refused REPLCONF makes the primary drop the link at the first acknowledgement, once a second, though it reads up
/// at almost every look (Redis 7.0.15, replicationSendAck and afterErrorReply).
pub fn replconf_refused(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let probe = e.upstream.seen().filter(|probe| probe.connect == Connect::Open)?;
    let Answer::Error { code, text } = &probe.replconf else { return None };
    if code != "NOPERM" && !text.contains("unknown command") {
        return None;
    }
    let first = fact(
        Viewpoint::Probe,
        probe.at,
        format!("{}: REPLCONF → {text}", probe.target),
        "the primary answers each acknowledgement with an error and drops the link for it, once a second",
    );
    let lost = e.logged(LogKind::LinkLost).map(|line| {
        fact(Viewpoint::Log, line.last, format!("{} ({} times)", line.sample, line.count), "it keeps dropping")
    });
    Some(finding(
        Cause::ReplconfRefused,
        false,
        [Some(first), lost, Some(link_fact(e))].into_iter().flatten().collect(),
    ))
}

/// PSYNC renamed away: every reconnect is a full resync. SYNC too: none works. SYNC alone is what nobody asks for while
/// PSYNC is known (Redis 7.0.15, syncWithMaster), and is switched off on purpose.
pub fn command_missing(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let by_probe = e.upstream.seen().and_then(|probe| match &probe.psync {
        Answer::Error { text, .. } if text.contains("unknown command") => {
            Some(fact(Viewpoint::Probe, probe.at, format!("{}: PSYNC → {text}", probe.target), MEANS))
        }
        _ => None,
    });
    let by_primary = e.primary_limits.seen().and_then(|limits| {
        let unknown = limits.unknown_commands.as_ref().filter(|unknown| unknown.iter().any(|name| name == "psync"))?;
        Some(fact(Viewpoint::Primary, limits.at, format!("COMMAND INFO knows no {}", unknown.join(", ")), MEANS))
    });
    // The log alone decides where this look got through to the primary and could not ask it: a line may be of another
    // address that the replica followed before, a Sentinel's.
    let asked = e.primary_limits.seen().is_some_and(|limits| limits.unknown_commands.is_some());
    let unasked = e.upstream.seen().is_some_and(|probe| probe.replconf.is_ok() && probe.psync == Answer::NotAsked);
    let by_log = e
        .logged(LogKind::PsyncUnsupported)
        .filter(|line| line.sample.contains("unknown command") && unasked && !asked && !resumed_since(e, line.last))
        .map(|line| fact(Viewpoint::Log, line.last, line.sample.clone(), MEANS));
    let facts: Vec<Fact> = [by_probe, by_primary, by_log].into_iter().flatten().chain([link_fact(e)]).collect();
    (facts.len() > 1).then(|| finding(Cause::CommandMissing, false, facts))
}

const MEANS: &str =
    "the command was renamed or switched off on the primary: without PSYNC each reconnect is a full resync";

/// A partial resync proves that PSYNC is known again.
fn resumed_since(e: &Evidence, at: Timestamp) -> bool {
    e.logged(LogKind::PartialResync).is_some_and(|line| line.last > at)
}

/// A primary that fails to save refuses a replica that needs no password, at its first PING; one that logs in has its
/// PING answered with NOAUTH and gets through. Links that stand stay up. Sentinel's PING gets the same error, which is no
/// answer for it: it takes a primary that lives for dead (Redis 7.0.15, processCommand, writeCommandsDeniedByDiskError,
/// sentinelPingReplyCallback).
pub fn primary_save_failing(e: &Evidence) -> Option<Finding> {
    let probe = probe_with_link_up(e)?;
    let answer = cannot_save(probe)?;
    let saw = format!("{}: PING → {answer}", probe.target);
    let means = if probe.ping == *answer {
        "its last save failed: the next reconnect will be refused"
    } else {
        "its last save failed: it refuses writes, and a Sentinel takes that answer for none; replicas that log in still link"
    };
    let first = fact(Viewpoint::Probe, probe.at, saw, means);
    let (down, answering) = (e.sentinels_flagging("s_down"), e.answering().count());
    let held_down = (down > 0).then(|| {
        let saw = format!("{down} of {answering} Sentinels hold {} down", probe.target);
        fact(Viewpoint::Sentinel, e.ended, saw, "they take that answer for none, and fail over as soon as they can")
    });
    let because = [Some(first), held_down, Some(link_fact(e))].into_iter().flatten().collect();
    Some(finding(Cause::PrimarySaveFailing, false, because))
}

/// The answer by which a primary tells that its saves fail, where it is one.
fn cannot_save(probe: &Probe) -> Option<&Answer> {
    [&probe.ping, &probe.ping_again].into_iter().find(|answer| answer.code() == "MISCONF")
}

/// A replica that cannot save aborts at the next write from its primary, unless told to ignore it (Redis 7.0.15,
/// writeCommandsDeniedByDiskError in processCommand). Before 7.0 it goes on (Redis 6.2.16: asked of a primary alone).
pub fn replica_save_failing(e: &Evidence) -> Option<Finding> {
    let local = e.local.seen()?;
    if local.flavour == Flavour::Redis && super::reach::major(&local.version) < 7 {
        return None;
    }
    local.role.link()?;
    let settings = e.settings.seen()?;
    let rdb = !local.rdb_last_save_ok && settings.save_stops_writes;
    if settings.ignores_disk_errors || (!rdb && local.aof_last_write_ok) {
        return None;
    }
    let saw = if rdb { "rdb_last_bgsave_status:err" } else { "aof_last_write_status:err" };
    let first = fact(
        Viewpoint::Replica,
        local.at,
        saw,
        "this server cannot save its data, and ends itself when the primary sends the next write",
    );
    let disk = e.host.disk.seen().map(|disk| {
        fact(Viewpoint::Host, disk.at, format!("{} has {} bytes free", disk.path, disk.free), "where it saves to")
    });
    Some(finding(Cause::ReplicaSaveFailing, false, [Some(first), disk].into_iter().flatten().collect()))
}

/// Sentinels hold a primary down, without a connection to it, that takes our login and says that it is the primary.
pub fn sentinel_auth_rejected(e: &Evidence) -> Option<Finding> {
    // To a primary that cannot save, Sentinels log in and get an error to each PING all the same.
    let probe = e.upstream.seen().filter(|probe| probe.connect == Connect::Open && cannot_save(probe).is_none())?;
    // A user made for replication may not ask ROLE; then the observer's INFO tells.
    let is_primary = matches!(probe.role.seen(), Some(PeerRole::Primary { .. }))
        || (probe.role.seen().is_none() && e.primary.seen().is_some_and(|there| there.role == Role::Primary));
    let well = (probe.auth.is_ok() || probe.ping.is_ok()) && is_primary;
    let answering = e.answering().count();
    let cut_off: Vec<&SentinelSays> = e
        .answering()
        .map(|(_, says)| says)
        .filter(|says| {
            same_place(e, &probe.target, &says.primary)
                && ["s_down", "disconnected"].iter().all(|f| says.flags.contains(*f))
        })
        .filter(|says| says.only_errors() != Some(false))
        .collect();
    let told = cut_off.iter().all(|says| says.only_errors().is_some());
    let cut_off = cut_off.len();
    // `errorstat_WRONGPASS` counts refused logins since the primary started: without one, no Sentinel was refused. (Each
    // replica's PING before its AUTH counts as NOAUTH.) Where the Sentinels' PINGs are answered, that says more.
    let refused =
        told || e.primary.seen().is_none_or(|primary| primary.errors.get("WRONGPASS").is_some_and(|count| *count > 0));
    if !well || !refused || cut_off == 0 || cut_off * 2 <= answering {
        return None;
    }
    let first = fact(
        Viewpoint::Sentinel,
        e.ended,
        if told {
            format!(
                "{cut_off} of {answering} Sentinels hold {} down, which answers their PINGs with errors",
                probe.target
            )
        } else {
            format!("{cut_off} of {answering} Sentinels hold {} down and have no connection to it", probe.target)
        },
        "they reach it as we do, so it is their login that fails: auth-pass or auth-user is stale",
    );
    let second = fact(
        Viewpoint::Probe,
        probe.at,
        format!("{} takes our login and says that it is a primary", probe.target),
        "it is healthy; a failover now would split the group",
    );
    // A Sentinel that does not tell of its PINGs and has just lost its way to the primary looks the same for some
    // seconds.
    let suspected = standing(e) < if told { Duration::from_secs(1) } else { SETTLED };
    Some(finding(Cause::SentinelAuthRejected, suspected, vec![first, second, link_fact(e)]))
}

/// The replica has followed its primary into emptiness.
pub fn primary_emptied(e: &Evidence) -> Option<Finding> {
    let local = e.local.seen()?;
    let link = local.role.link()?;
    if let Some((at, keys)) = e.trend.emptied.filter(|_| local.keys == 0) {
        let first = fact(
            Viewpoint::Memory,
            at,
            match keys {
                // After a restart only the record tells of it.
                0 => format!("this replica held keys, and holds none since it resynced with {}", link.primary),
                keys => {
                    format!("this replica held {keys} keys, and holds none since it resynced with {}", link.primary)
                }
            },
            "the primary restarted without its data, and every replica took that over",
        );
        return Some(finding(Cause::PrimaryEmptied, false, vec![first, link_fact(e)]));
    }
    let primary = e.primary.seen().filter(|_| !link.up)?;
    let another_history = primary.replid != local.replid && primary.replid2 != local.replid;
    (another_history && primary.keys == 0 && local.keys > 0 && !primary.loading).then(|| {
        let first = fact(
            Viewpoint::Primary,
            primary.at,
            format!("it holds no keys and has been up for {} s; this replica holds {}", primary.uptime_s, local.keys),
            "the next sync would empty this replica too",
        );
        finding(Cause::PrimaryEmptied, false, vec![first, link_fact(e)])
    })
}
