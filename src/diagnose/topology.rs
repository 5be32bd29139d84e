//! Who should follow whom: the replica's address for its primary against what the Sentinels name.

use std::net::IpAddr;
use std::time::Duration;

use super::{fact, finding, link_fact};
use crate::model::evidence::{AFTERMATH, Answer, Connect, Evidence, LinkState, PeerRole, Probe, SentinelSays};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::{Address, Endpoint};

/// A disagreement that outlasts this is none of a failover: some Sentinel watches another group, or was cut off. It
/// no longer hides what is wrong with the replica; whether to act on such a vote is the guards' to say.
pub const LASTING_DISAGREEMENT: Duration = Duration::from_secs(30);

pub fn self_replication(e: &Evidence) -> Option<Finding> {
    let link = e.local_link()?;
    let Address::Tcp(own) = &e.address else { return None };
    let own_run = e.local.seen().map(|view| view.run_id.as_str());
    let upstream_run = e.primary.seen().map(|view| view.run_id.as_str());
    let by_address = link.primary == *own;
    let by_run_id = own_run.is_some_and(|run| !run.is_empty()) && own_run == upstream_run;
    // Both ends of the probe's connection are this host, and what answers on our port there has no link either: the
    // address that we know may be the loopback alone. Before a password, a server that serves no stale data says no more.
    let came_back = |probe: &&Probe| {
        let downs = [&probe.ping, &probe.ping_again, &probe.psync];
        probe.own_host && downs.into_iter().any(|answer| matches!(answer.code(), "MASTERDOWN" | "NOMASTERLINK"))
    };
    let by_way = !link.up && link.primary.port == own.port && e.upstream.seen().as_ref().is_some_and(came_back);
    (by_address || by_run_id || by_way).then(|| {
        finding(
            Cause::SelfReplication,
            false,
            vec![
                fact(
                    Viewpoint::Replica,
                    e.ended,
                    format!("{} follows {}", e.address, link.primary),
                    "that is the replica itself; it can never link",
                ),
                link_fact(e),
            ],
        )
    })
}

/// Signs that a failover runs, in what the Sentinels say now. Sentinels that disagree count as one while the view of
/// any of them is young: `role-reported-time` starts anew when a Sentinel takes up another primary (Redis 7.0.15,
/// sentinelResetMaster). One that has named another address for long is out of touch, and proves no failover.
pub fn failover_in_doubt(e: &Evidence) -> Option<Fact> {
    for (endpoint, says) in e.answering() {
        if says.fails_over() {
            let state = says.failover_state.as_deref().unwrap_or("failover_in_progress");
            return Some(fact(
                Viewpoint::Sentinel,
                says.at,
                format!("{endpoint} runs a failover ({state})"),
                "Sentinel is moving the group; every link may change at any moment",
            ));
        }
    }
    let young = e.answering().any(|(_, says)| says.may_be_young());
    let lasting = e.trend.disagree_since.is_some_and(|since| e.ended.since(since) >= LASTING_DISAGREEMENT);
    if let Some((first, other)) = disagreement(e).filter(|_| young && !lasting) {
        return Some(fact(
            Viewpoint::Sentinel,
            e.ended,
            format!("some Sentinels name {first}, others {other}"),
            "they disagree for about a second around a failover",
        ));
    }
    None
}

/// Two addresses that Sentinels name at once.
pub fn disagreement(e: &Evidence) -> Option<(&Endpoint, &Endpoint)> {
    let mut named = e.answering().map(|(_, says)| says);
    let first = named.next()?;
    named.find(|other| !first.names_as(other)).map(|other| (&first.primary, &other.primary))
}

pub fn failover_running(e: &Evidence) -> Option<Finding> {
    let link = e.local_link()?;
    if let Some(sign) = failover_in_doubt(e) {
        let settled = link.up && e.named_primary().is_some_and(|(named, _)| same_place(e, &link.primary, named));
        // A link that is up, to the address that the majority names, is no fault whoever still tidies up.
        if settled {
            return None;
        }
        return Some(finding(Cause::FailoverRunning, false, vec![sign, link_fact(e)]));
    }
    let (named, _) = e.named_primary()?;
    if same_place(e, &link.primary, named) {
        return None;
    }
    let means = "Sentinel moves this replica itself; it is given that time";
    recent_failover(e).map(|saw| {
        let sign = fact(Viewpoint::Sentinel, e.ended, saw, means);
        finding(Cause::FailoverRunning, false, vec![sign, link_fact(e)])
    })
}

/// That a failover has only just ended.
pub fn recent_failover(e: &Evidence) -> Option<String> {
    let (named, _) = e.named_primary()?;
    let recent = e.trend.failover_seen.is_some_and(|seen| e.ended.since(seen) < AFTERMATH)
        || e.answering().any(|(_, says)| says.is_young());
    recent.then(|| format!("the Sentinels name {named} since less than {} s", AFTERMATH.as_secs()))
}

pub fn wrong_primary(e: &Evidence) -> Option<Finding> {
    let link = e.local_link()?;
    let (named, votes) = e.named_primary()?;
    if same_place(e, &link.primary, named) || cascades(e, &link.primary, named) {
        return None;
    }
    Some(finding(
        Cause::WrongPrimary,
        false,
        vec![
            fact(
                Viewpoint::Sentinel,
                e.ended,
                format!("{votes} of {} Sentinels name {named} as the primary", e.sentinels_known()),
                format!("this replica follows {} instead", link.primary),
            ),
            link_fact(e),
        ],
    ))
}

/// Whether this is a replica of a replica on purpose. Sentinel learns of replicas from their primary's INFO alone and keeps
/// those that it once knew (Redis 7.0.15, sentinelRefreshInstanceInfo): one that it does not list never followed the
/// primary, and Sentinel will not move it there.
fn cascades(e: &Evidence, followed: &Endpoint, named: &Endpoint) -> bool {
    let run_id = e.local.seen().map_or("", |view| view.run_id.as_str());
    let listed = |says: &SentinelSays| {
        says.replicas
            .iter()
            .any(|one| e.address == Address::Tcp(one.endpoint.clone()) || (!run_id.is_empty() && one.run_id == run_id))
    };
    let knows_upstream = |says: &SentinelSays| says.replicas.iter().any(|one| one.endpoint == *followed);
    let told = match e.upstream.seen().and_then(|probe| probe.role.seen()) {
        Some(PeerRole::Replica { of, .. }) => same_place(e, of, named),
        Some(PeerRole::Primary { .. } | PeerRole::Sentinel) => false,
        None => e.answering().any(|(_, says)| knows_upstream(says)),
    };
    told && !e.answering().any(|(_, says)| listed(says))
}

pub fn upstream_broken(e: &Evidence) -> Option<Finding> {
    let probe = e.upstream.seen()?;
    super::broken_link(e)?;
    let told = [&probe.ping, &probe.ping_again, &probe.psync]
        .into_iter()
        .find(|answer| matches!(answer.code(), "MASTERDOWN" | "NOMASTERLINK"));
    if let Some(Answer::Error { text, .. }) = told
        && text.contains("failing over")
    {
        let saw = format!("{} → {text}", probe.target);
        let means = "the primary hands over by FAILOVER, and takes no replica until that has ended";
        return Some(finding(
            Cause::FailoverRunning,
            false,
            vec![fact(Viewpoint::Probe, probe.at, saw, means), link_fact(e)],
        ));
    }
    let by_role = match probe.role.seen() {
        Some(PeerRole::Replica { of, state }) if *state != LinkState::Connected => Some(of),
        _ => None,
    };
    let saw = match (told, by_role) {
        (Some(answer), _) => format!("{} → {answer}", probe.target),
        (None, Some(of)) => format!("{} is a replica of {of}, and its link is down", probe.target),
        (None, None) => return None,
    };
    Some(finding(
        Cause::UpstreamBroken,
        false,
        vec![
            fact(Viewpoint::Probe, probe.at, saw, "the server that this replica follows has no link itself"),
            link_fact(e),
        ],
    ))
}

/// Whether two addresses mean the same server as far as this look can tell. A name and an IP are taken for the
/// same unless the connections that the probes made prove otherwise: to call a replica astray for a spelling would
/// be worse than to miss one.
pub fn same_place(e: &Evidence, followed: &Endpoint, named: &Endpoint) -> bool {
    if followed == named {
        return true;
    }
    if followed.port != named.port {
        return false;
    }
    let literal = |endpoint: &Endpoint| endpoint.host.parse::<IpAddr>().ok();
    match (literal(followed), literal(named)) {
        (Some(a), Some(b)) => a == b,
        _ => {
            let peer = |probe: &Probe| match probe.connect {
                Connect::Open if probe.ping != Answer::NotAsked => probe.peer.clone(),
                _ => None,
            };
            let here = e.upstream.seen().and_then(peer);
            let there = e.named.seen().and_then(peer);
            match (here, there) {
                (Some(here), Some(there)) => here == there,
                _ => true,
            }
        }
    }
}
