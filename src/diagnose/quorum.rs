//! Why Sentinel cannot give the group a new primary: too few of them, or nobody to promote.

use super::{fact, finding, link_fact, standing};
use crate::model::evidence::{Connect, Evidence, Missing, ReplicaInSentinel, SentinelSays};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

/// Sentinels that agree elect one of them within this (Redis 7.0.15: about a second), and it flags its failover.
const BEGINS_WITHIN_MS: u64 = 2_500;

/// Promotable but for the age of what the Sentinel knows: it reads INFO every second once the primary is down, and
/// until then up to 10 s of age say nothing about the replica.
fn eligible(replica: &ReplicaInSentinel, says: &SentinelSays) -> bool {
    ReplicaInSentinel { info_refresh_ms: 0, ..replica.clone() }.promotable(says)
}

/// The primary cannot be reached from here: the situation in which Sentinel is needed.
fn primary_gone(e: &Evidence) -> Option<Fact> {
    let probe = e.upstream.seen()?;
    let saw = match &probe.connect {
        Connect::Refused => "connection refused",
        Connect::Reset => "connection reset",
        Connect::TimedOut => "no answer in time",
        Connect::Unreachable(_) => "unreachable",
        _ => return None,
    };
    Some(fact(
        Viewpoint::Probe,
        probe.at,
        format!("connect to {} → {saw}", probe.target),
        "the group needs a new primary",
    ))
}

/// The primary is gone, and the Sentinels are too few to replace it.
pub fn lost(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let gone = primary_gone(e)?;
    let first = too_few(e)?;
    Some(finding(Cause::QuorumLost, false, vec![first, gone, link_fact(e)]))
}

/// Nothing is broken yet, and the next failover cannot happen. Sentinels that are restarted one after the other pass
/// through this.
pub fn lost_before_it_is_needed(e: &Evidence) -> Option<Finding> {
    e.local_link().filter(|link| link.up)?;
    let first = too_few(e)?;
    Some(finding(Cause::QuorumLost, standing(e) < super::latent::SETTLED, vec![first, link_fact(e)]))
}

/// A Sentinel says itself that the others are too few (SENTINEL CKQUORUM → NOQUORUM). One that says so may be cut off
/// from the others together with us: the rest have to be known for dead, or a majority has to say it.
fn too_few(e: &Evidence) -> Option<Fact> {
    let saying: Vec<_> = e
        .answering()
        .filter_map(|(endpoint, says)| {
            let quorum = says.ckquorum.seen().filter(|quorum| !quorum.ok)?;
            Some((endpoint, quorum.text.as_str(), says.at))
        })
        .collect();
    let (endpoint, text, at) = *saying.first()?;
    let known = e.sentinels_known();
    let dead =
        e.sentinels.iter().filter(|sentinel| matches!(sentinel.says.missing(), Some(Missing::Refused(_)))).count();
    if (saying.len() + dead) * 2 <= known {
        return None;
    }
    let silent = e.sentinels.len() - e.answering().count();
    Some(fact(
        Viewpoint::Sentinel,
        at,
        format!("{endpoint}: {text}"),
        format!("no failover can be authorised; {silent} of {known} Sentinels do not answer from here"),
    ))
}

/// The Sentinels agree that the primary is down, and none of the replicas may be promoted by their rules.
pub fn no_promotable_replica(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let gone = primary_gone(e)?;
    let agreed: Vec<_> = e.answering().filter(|(_, says)| says.flags.contains("o_down")).collect();
    if agreed.is_empty() || agreed.iter().any(|(_, says)| says.replicas.iter().any(|r| eligible(r, says))) {
        return None;
    }
    // A failover that begins looks the same until it is flagged; meanwhile the way to the primary has a firmer verdict.
    if agreed.iter().filter_map(|(_, says)| says.o_down_ms).max().unwrap_or(0) < BEGINS_WITHIN_MS {
        return None;
    }
    let (endpoint, says) = agreed.first()?;
    let seen: Vec<String> = says
        .replicas
        .iter()
        .map(|r| {
            let flags: Vec<&str> = r.flags.iter().map(String::as_str).collect();
            format!("{} (priority {}, {}, link down {} ms)", r.endpoint, r.priority, flags.join(","), r.link_down_ms)
        })
        .collect();
    let first = fact(
        Viewpoint::Sentinel,
        says.at,
        format!("{endpoint} knows {} replicas: {}", says.replicas.len(), seen.join("; ")),
        "none of them may be promoted: priority 0, down, or too long without its primary",
    );
    Some(finding(Cause::NoPromotableReplica, false, vec![first, gone, link_fact(e)]))
}
