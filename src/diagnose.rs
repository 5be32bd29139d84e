//! From evidence to a cause: pure rules in one list, in order of precedence. The first that fits names the cause.
//!
//! The order follows the way a replica's handshake goes, so that what hides something else is named first:
//! the local server, the topology, the way to the primary, the login, the sync. What is missing is neither
//! health nor sickness: where no rule fits and the link is down, the answer is inconclusive and says what was
//! not seen. No clock and no memory stands here; what came before this look is in `Evidence::trend`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::model::Timestamp;
use crate::model::evidence::{Connect, Evidence, LinkState, LinkView, Missing, Reading, Role};
use crate::model::finding::{Cause, Diagnosis, Fact, Finding, Viewpoint};

mod auth;
mod circle;
mod deposed;
mod flapping;
mod latent;
mod local;
mod output_buffer;
mod quorum;
mod reach;
mod ruled_out;
mod sync;
mod tls;
mod topology;

pub use deposed::{PROMOTION, is_astray, only_here, role_in_doubt, serves, shares_history};
pub use flapping::{advised_backlog, advised_limit, cause_of_drops, more_than_now};
pub use reach::{handshake_works, unanswered, unanswered_by_pings};
pub use sync::{is_fresh, moves as sync_moves};
pub use topology::{LASTING_DISAGREEMENT, disagreement, failover_in_doubt, recent_failover, same_place};

type Rule = fn(&Evidence) -> Option<Finding>;

/// Every rule, in order of precedence.
const RULES: &[Rule] = &[
    local::replica_denied,
    local::held_up_by_a_lookup,
    local::could_not_save,
    local::held_up_by_a_sync,
    local::replica_hung,
    local::replica_down,
    local::replica_loading,
    topology::self_replication,
    topology::failover_running,
    topology::wrong_primary,
    deposed::returned_primary,
    latent::primary_save_failing,
    latent::sentinel_auth_rejected,
    quorum::lost,
    quorum::no_promotable_replica,
    reach::name_unresolved,
    tls::certificate,
    tls::mismatch,
    reach::refused,
    reach::silent,
    reach::hung,
    reach::not_a_server,
    reach::refusing,
    latent::primary_emptied,
    auth::missing,
    auth::unexpected,
    auth::rejected,
    topology::upstream_broken,
    auth::forbidden,
    latent::replconf_refused,
    latent::command_missing,
    latent::auth,
    sync::rdb_incompatible,
    sync::replica_disk_full,
    sync::primary_fork_failed,
    flapping::link,
    output_buffer::exceeded,
    flapping::cut_online,
    sync::sync_timeout,
    sync::primary_disk_full,
    sync::backlog_too_small,
    sync::sync_stalled,
    latent::replica_save_failing,
    quorum::lost_before_it_is_needed,
    circle::begins_again,
    sync::sync_running,
    reach::healed_unnoticed,
];

/// Names the cause of what was seen. The same evidence always gives the same answer.
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let ruled_out = || ruled_out::by(evidence);
    if let Some(mut finding) = RULES.iter().find_map(|rule| rule(evidence)) {
        // A primary has no link that could be down, and one that flaps reads up at almost every look.
        finding.link_up = match evidence.local_link() {
            Some(_) if finding.flaps.is_some() => true,
            Some(link) => link.up,
            None => finding.cause == Cause::AuthLatent,
        };
        finding.rejected = ruled_out();
        finding.rejected.remove(&finding.cause);
        return Diagnosis::Broken(finding);
    }
    match evidence.local.seen().map(|view| &view.role) {
        Some(Role::Primary) => Diagnosis::Healthy(format!("{} is a primary", evidence.address)),
        Some(Role::Replica(link)) if link.up => {
            let untried = match evidence.settings.missing() {
                Some(Missing::Denied(_) | Missing::Unsupported(_)) => {
                    "; its login there was not tried, since CONFIG GET is refused"
                }
                _ => "",
            };
            Diagnosis::Healthy(format!("{} replicates from {}{untried}", evidence.address, link.primary))
        }
        _ => Diagnosis::Inconclusive { missing: what_is_missing(evidence), rejected: ruled_out() },
    }
}

/// What a person would have to look at, because we could not.
fn what_is_missing(e: &Evidence) -> Vec<Fact> {
    let mut missing: Vec<Fact> = circle::fails_without_a_name(e).into_iter().collect();
    let mut note = |from, what: &str, why: Option<&Missing>, means: &str| {
        if let Some(why) = why {
            missing.push(Fact { from, saw: format!("{what}: {why}"), at: e.ended, means: means.to_owned() });
        }
    };
    note(Viewpoint::Replica, "the local server", e.local.missing(), local::unseen(e));
    note(
        Viewpoint::Replica,
        "CONFIG GET on the local server",
        e.settings.missing().filter(|_| e.local.seen().is_some()),
        "the handshake cannot be repeated with the replica's own credentials; allow +config|get",
    );
    let not_text = Missing::Unsupported("masteruser or masterauth is not UTF-8".to_owned());
    note(
        Viewpoint::Replica,
        "the replica's own login",
        e.settings.seen().filter(|settings| settings.login_not_text).map(|_| &not_text),
        "relinkd does not send such a login, so whether the primary takes it is unseen",
    );
    note(
        Viewpoint::Probe,
        "the handshake with the primary",
        e.upstream.missing(),
        "the way to the primary is untested",
    );
    if let Some((saw, at)) = e.upstream.seen().and_then(reach::stops_at) {
        let cut_short = e.upstream.seen().is_some_and(|probe| probe.cut_short);
        let means = match e.upstream.seen().map(|probe| &probe.connect) {
            Some(Connect::TlsSetup(_)) => "that is relinkd's own way there alone: see tls of the group",
            Some(Connect::NoTime) => "the local server took the time; nothing is known of the way to the primary",
            _ if cut_short => "the primary is far away, or slow: what it was not asked in time says nothing of it",
            _ => "a replica that meets this does not link; no rule knows what is behind it",
        };
        missing.push(Fact { from: Viewpoint::Probe, saw, at, means: means.to_owned() });
    }
    let mut note = |from, what: &str, why: Option<&Missing>, means: &str| {
        if let Some(why) = why {
            missing.push(Fact { from, saw: format!("{what}: {why}"), at: e.ended, means: means.to_owned() });
        }
    };
    note(Viewpoint::Log, "the server's log", e.log.missing(), "faults of the sync itself show there first");
    note(
        Viewpoint::Primary,
        "INFO of the primary",
        e.primary.missing(),
        "its disk, backlog and buffers are unseen; configure `observer` for the group",
    );
    for sentinel in &e.sentinels {
        note(
            Viewpoint::Sentinel,
            &format!("Sentinel {}", sentinel.endpoint),
            sentinel.says.missing(),
            "one witness fewer on whether the primary lives",
        );
    }
    if missing.is_empty() {
        missing.push(Fact {
            from: Viewpoint::Replica,
            saw: describe_link(e.local_link()),
            at: e.ended,
            means: "everything that was asked answered well; the replica has not linked yet".to_owned(),
        });
    }
    missing
}

/// One line on the link as the replica tells of it.
pub(crate) fn describe_link(link: Option<&LinkView>) -> String {
    let Some(link) = link else { return "no link".to_owned() };
    let state = match link.state {
        LinkState::Connect => "connect (waits for its next attempt)",
        LinkState::Connecting => "connecting",
        LinkState::Handshake => "handshake",
        LinkState::Sync => "sync",
        LinkState::Connected => "connected",
        LinkState::Unknown => "unknown",
    };
    let since = match link.down_for_s {
        Some(-1) => ", never linked since the server started".to_owned(),
        Some(s) => format!(", down for {s} s"),
        None => String::new(),
    };
    format!("link to {} {}, ROLE says {state}{since}", link.primary, if link.up { "up" } else { "down" })
}

pub(crate) fn fact(from: Viewpoint, at: Timestamp, saw: impl Into<String>, means: impl Into<String>) -> Fact {
    Fact { from, saw: saw.into(), at, means: means.into() }
}

/// The link as the replica tells of it, as the last line of most findings.
fn link_fact(e: &Evidence) -> Fact {
    let at = e.local.seen().map_or(e.ended, |view| view.at);
    fact(Viewpoint::Replica, at, describe_link(e.local_link()), "how the replica itself tells it")
}

fn finding(cause: Cause, suspected: bool, because: Vec<Fact>) -> Finding {
    Finding { cause, suspected, link_up: false, unrefused: false, flaps: None, because, rejected: Default::default() }
}

/// How long the fault has been in sight, as we remember it or as the replica tells it, whichever is longer.
fn standing(e: &Evidence) -> Duration {
    let seen = e.trend.down_seen.map_or(Duration::ZERO, |seen| e.ended.since(seen));
    let told = e.local_link().and_then(|link| link.down_for_s).and_then(|s| u64::try_from(s).ok());
    seen.max(Duration::from_secs(told.unwrap_or(0)))
}

/// The link, when the local server is a replica and the link is down.
fn broken_link(e: &Evidence) -> Option<&LinkView> {
    e.local_link().filter(|link| !link.up)
}

fn denied<T>(reading: &Reading<T>) -> Option<&str> {
    match reading {
        Reading::Missing(Missing::Denied(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
