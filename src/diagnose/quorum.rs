//! Why Sentinel cannot give the group a new primary: too few of them, or nobody to promote.

use super::{fact, finding, link_fact, standing};
use crate::model::evidence::{Connect, Evidence};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};

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

/// A Sentinel says itself that the others are too few (SENTINEL CKQUORUM → NOQUORUM).
pub fn lost(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let (endpoint, text, at) = e.answering().find_map(|(endpoint, says)| {
        let quorum = says.ckquorum.seen().filter(|quorum| !quorum.ok)?;
        Some((endpoint, quorum.text.clone(), says.at))
    })?;
    let silent = e.sentinels.iter().filter(|sentinel| sentinel.says.seen().is_none()).count();
    let first = fact(
        Viewpoint::Sentinel,
        at,
        format!("{endpoint}: {text}"),
        format!("no failover can be authorised; {silent} of {} Sentinels do not answer from here", e.sentinels_known()),
    );
    let because = [Some(first), primary_gone(e), Some(link_fact(e))];
    // Sentinels that are restarted one after the other are no news while the primary is well.
    let passing = primary_gone(e).is_none() && standing(e) < super::latent::SETTLED;
    Some(finding(Cause::QuorumLost, passing, because.into_iter().flatten().collect()))
}

/// The Sentinels agree that the primary is down, and none of the replicas may be promoted by their rules.
pub fn no_promotable_replica(e: &Evidence) -> Option<Finding> {
    e.local_link()?;
    let gone = primary_gone(e)?;
    let agreed: Vec<_> = e.answering().filter(|(_, says)| says.flags.contains("o_down")).collect();
    if agreed.is_empty() || agreed.iter().any(|(_, says)| says.replicas.iter().any(|r| r.promotable(says))) {
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
