//! The one table from cause to remedy, and from remedy to plan.

use super::candidates::{accepted_candidate, newest, taken_by_standbys};
use super::{Context, Held, Persist};
use crate::diagnose::{handshake_works, only_here};
use crate::model::Endpoint;
use crate::model::evidence::{CandidateView, Evidence, Role, ServerView};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::remedy::{Change, Plan, Precondition, RefusalCode, Remedy, Step};

/// The remedy that fits a finding, if one exists.
pub fn remedy_for(context: &Context<'_>) -> Option<Remedy> {
    if context.finding.flaps.is_some() {
        return None;
    }
    let whole_again = context.evidence.upstream.seen().is_some_and(handshake_works);
    match context.finding.cause {
        Cause::AuthMissing | Cause::AuthRejected | Cause::AuthLatent => Some(Remedy::RealignAuth),
        Cause::NetworkCut | Cause::PrimaryHung if whole_again && !context.finding.link_up => Some(Remedy::BounceLink),
        Cause::PrimaryDown | Cause::PrimaryUnreachable | Cause::PrimaryHung
            if context.evidence.sentinels.is_empty() =>
        {
            None
        }
        Cause::PrimaryDown | Cause::PrimaryUnreachable | Cause::PrimaryHung => Some(Remedy::RequestFailover),
        // What stands in the way of a failover is then the name of the hold.
        Cause::QuorumLost | Cause::NoPromotableReplica if !context.finding.link_up => Some(Remedy::RequestFailover),
        // While the primary lives; most replicas have to be turned away like this one.
        Cause::ConnectionsExhausted | Cause::PrimaryForkFailed
            if !context.finding.link_up && !context.evidence.sentinels.is_empty() =>
        {
            Some(Remedy::RequestFailover)
        }
        Cause::WrongPrimary => Some(Remedy::Repoint),
        Cause::SelfReplication if context.evidence.named_primary().is_some() => Some(Remedy::Repoint),
        Cause::SelfReplication
        | Cause::NetworkCut
        | Cause::NetworkRejected
        | Cause::PrimaryBusy
        | Cause::PrimaryLoading
        | Cause::NameUnresolved
        | Cause::ConnectionsExhausted
        | Cause::ProtectedMode
        | Cause::TlsMismatch
        | Cause::TlsCertificate
        | Cause::AuthUnexpected
        | Cause::AuthForbidden
        | Cause::SentinelAuthRejected
        | Cause::UpstreamBroken
        | Cause::NotAServer
        | Cause::FailoverRunning
        | Cause::QuorumLost
        | Cause::NoPromotableReplica
        | Cause::PrimaryEmptied
        | Cause::PrimaryDiskFull
        | Cause::PrimaryForkFailed
        | Cause::PrimarySaveFailing
        | Cause::ReplicaDiskFull
        | Cause::ReplicaSaveFailing
        | Cause::OutputBufferExceeded
        | Cause::BacklogTooSmall
        | Cause::SyncTimeout
        | Cause::SyncRunning
        | Cause::SyncStalled
        | Cause::RdbIncompatible
        | Cause::CommandMissing
        | Cause::ReplconfRefused
        | Cause::ReplicaDown
        | Cause::ReplicaHung
        | Cause::ReplicaLoading
        | Cause::ReplicaDenied
        | Cause::Unknown => None,
    }
}

/// Why nothing is done about a finding that has no remedy.
pub fn why_none(finding: &Finding) -> &'static str {
    match finding.cause {
        Cause::OutputBufferExceeded | Cause::BacklogTooSmall => {
            "a limit is too small; this version proposes the command and does not change limits itself"
        }
        _ if finding.flaps.is_some() => {
            "the link comes back by itself each time; what cuts it has to be found and ended"
        }
        Cause::FailoverRunning => "Sentinel is at work; anything done now could fight it",
        Cause::SyncRunning | Cause::PrimaryLoading | Cause::ReplicaLoading => {
            "it passes by itself; touching it would start it over"
        }
        Cause::PrimaryDown | Cause::PrimaryUnreachable | Cause::PrimaryHung => {
            "no Sentinel is configured, so nobody can be asked for a failover"
        }
        Cause::ReplicaDown | Cause::ReplicaHung => {
            "starting and stopping servers is the init system's work, and a person's"
        }
        Cause::ReplicaDenied => "relinkd cannot see the server; its user needs more permissions",
        Cause::NetworkCut | Cause::NetworkRejected => "the fault lies in the network between this host and the primary",
        Cause::NameUnresolved => "the fault lies in this host's name resolution",
        Cause::AuthUnexpected => "whether the primary should have a password is for a person to say",
        Cause::AuthForbidden => "the user's permissions are set on the primary",
        Cause::ConnectionsExhausted => "who may be cut off on the primary is for a person to say",
        Cause::PrimaryForkFailed => "the memory and the limits of the primary's host are for a person to change",
        Cause::PrimaryDiskFull | Cause::PrimarySaveFailing => {
            "the fault lies on the primary's host; a failover on such evidence could lose writes"
        }
        Cause::ReplicaDiskFull => "this host needs room; what may be deleted is for a person to say",
        Cause::SyncTimeout => {
            "a limit is too small; this version proposes the command and does not change limits itself"
        }
        Cause::QuorumLost => "Sentinels have to be started; until then nobody may fail over",
        Cause::NoPromotableReplica => "a forced failover would meet the same: no replica may be promoted",
        Cause::PrimaryEmptied => "what is left of the data has to be saved by a person before anything syncs again",
        Cause::SentinelAuthRejected => {
            "the Sentinels' password is set on the Sentinels; a failover now would split the group"
        }
        Cause::CommandMissing | Cause::ReplconfRefused => {
            "the primary's configuration or the user's permissions have to change"
        }
        Cause::ReplicaSaveFailing => "this host needs room or a working disk; until then each write may end the server",
        Cause::TlsMismatch | Cause::TlsCertificate => "TLS settings and certificates are for a person to change",
        Cause::SyncStalled => {
            "the transfer ends by repl-timeout and begins anew; starting it over now would gain nothing"
        }
        Cause::RdbIncompatible => "every retry may cost the replica its data; the versions have to be put right",
        Cause::Unknown => "what was seen does not name a cause, and nothing is done on a guess",
        _ => "no change that relinkd may make would help",
    }
}

/// The complete plan of a remedy, once the guards have passed.
pub fn plan(remedy: Remedy, context: &Context<'_>) -> Result<Plan, Held> {
    match remedy {
        Remedy::RealignAuth => realign_auth(context),
        Remedy::BounceLink => bounce_link(context),
        Remedy::Repoint => repoint(context),
        Remedy::RequestFailover => super::failover::plan(context),
    }
}

fn expected(context: &Context<'_>, saw: impl Into<String>, means: &str) -> Fact {
    Fact { from: Viewpoint::Replica, saw: saw.into(), at: context.now, means: means.to_owned() }
}

pub(super) fn own_primary(e: &Evidence) -> Result<Endpoint, Held> {
    e.local_link()
        .map(|link| link.primary.clone())
        .ok_or_else(|| (RefusalCode::RoleChanged, "the instance is not a replica any more".to_owned()))
}

/// What every change to a link re-reads just before: same process, same primary, still down, no data set on its way, no
/// failover.
fn unmoved(e: &Evidence, primary: &Endpoint) -> Precondition {
    Precondition {
        run_id: e.local.seen().map(|view| view.run_id.clone()),
        replica_of: Some(primary.clone()),
        link_down: true,
        not_syncing: true,
        sentinels_name: e.named_primary().map(|(named, _)| named.clone()),
        no_failover: !e.sentinels.is_empty(),
        ..Precondition::default()
    }
}

fn prove_and_persist(context: &Context<'_>, steps: &mut Vec<Step>) {
    steps.push(Step { expect: Precondition::default(), change: Change::ProveLink, within_ms: 5_000 });
    if context.policy.persist == Persist::Rewrite {
        steps.push(Step { expect: Precondition::default(), change: Change::Persist, within_ms: 5_000 });
    }
}

fn realign_auth(context: &Context<'_>) -> Result<Plan, Held> {
    let e = context.evidence;
    if e.is_the_named_primary() {
        return way_back(context);
    }
    let candidate = newest(context, accepted_candidate(e))?;
    let primary = own_primary(e)?;
    if context.finding.link_up || in_transfer(e) {
        return Ok(preset_auth(context, candidate, &primary));
    }
    let mut steps = vec![Step {
        expect: unmoved(e, &primary),
        change: Change::RealignAuth {
            source: candidate.source.clone(),
            version: candidate.version.clone(),
            print: candidate.print.clone(),
            user: candidate.user.clone(),
            bounce_to: primary.clone(),
        },
        within_ms: 2_000,
    }];
    prove_and_persist(context, &mut steps);
    Ok(Plan {
        remedy: Remedy::RealignAuth,
        steps,
        undo: vec![Step {
            expect: unmoved(e, &primary),
            change: Change::RestoreAuth { bounce_to: primary },
            within_ms: 2_000,
        }],
        expected: expected(
            context,
            "master_link_status:up",
            "the primary accepted the password and resumed the stream",
        ),
    })
}

/// A data set is coming in. Its connection was let in before, and needs no login until the next one: a reconnect would
/// cost the transfer, and the primary a fork.
fn in_transfer(e: &Evidence) -> bool {
    e.local_link().is_some_and(|link| link.syncing && link.sync_read > 0)
}

/// The same before the link breaks, and while a transfer is under way. Its proof is the candidate's own: a link that is up is not cut to test it.
fn preset_auth(context: &Context<'_>, candidate: &CandidateView, primary: &Endpoint) -> Plan {
    let expect = Precondition { link_down: false, not_syncing: false, ..unmoved(context.evidence, primary) };
    let will_be =
        expected(context, "the next reconnect will be accepted", "the primary took this password a moment ago");
    preset(context, candidate, expect, will_be)
}

/// The primary's own, for the day on which it is a replica.
fn way_back(context: &Context<'_>) -> Result<Plan, Held> {
    let e = context.evidence;
    let candidate = newest(context, taken_by_standbys(e))?;
    let expect = Precondition {
        run_id: e.local.seen().map(|view| view.run_id.clone()),
        still_primary: true,
        sentinels_name: e.named_primary().map(|(named, _)| named.clone()),
        no_failover: true,
        ..Precondition::default()
    };
    let means = "the replicas that may be promoted took this password a moment ago";
    Ok(preset(context, candidate, expect, expected(context, "it can come back as a replica after a failover", means)))
}

fn preset(context: &Context<'_>, candidate: &CandidateView, expect: Precondition, will_be: Fact) -> Plan {
    let change = Change::PresetAuth {
        source: candidate.source.clone(),
        version: candidate.version.clone(),
        print: candidate.print.clone(),
        user: candidate.user.clone(),
    };
    let mut steps = vec![Step { expect, change, within_ms: 2_000 }];
    if context.policy.persist == Persist::Rewrite {
        steps.push(Step { expect: Precondition::default(), change: Change::Persist, within_ms: 5_000 });
    }
    Plan { remedy: Remedy::RealignAuth, steps, undo: Vec::new(), expected: will_be }
}

fn bounce_link(context: &Context<'_>) -> Result<Plan, Held> {
    let primary = own_primary(context.evidence)?;
    let steps = vec![
        Step {
            expect: unmoved(context.evidence, &primary),
            change: Change::BounceLink { to: primary.clone() },
            within_ms: 2_000,
        },
        Step { expect: Precondition::default(), change: Change::ProveLink, within_ms: 5_000 },
    ];
    Ok(Plan {
        remedy: Remedy::BounceLink,
        steps,
        undo: Vec::new(),
        expected: expected(context, "master_link_status:up", "the reconnect succeeded at once"),
    })
}

/// The local server, where it calls itself a primary.
pub(super) fn leading(e: &Evidence) -> Option<&ServerView> {
    e.local.seen().filter(|view| view.role == Role::Primary)
}

/// Up to which offset a second primary may have come when it is pointed away, and how many bytes of writes that costs.
/// What it has that nobody else has is lost in any case when a Sentinel converts it; we ask first. The figure is rounded
/// up, so that a proposal stands while clients still write a little.
fn writes_at_stake(e: &Evidence, primary: &ServerView) -> Result<(i64, u64), Held> {
    const LEAST: u64 = 1024;
    let Some(bytes) = only_here(e) else {
        return Err((
            RefusalCode::DataAtRisk,
            "how much this server has that the new primary has not cannot be told".to_owned(),
        ));
    };
    let allowed = if bytes == 0 { 0 } else { bytes.checked_next_power_of_two().unwrap_or(u64::MAX).max(LEAST) };
    let more = i64::try_from(allowed - bytes).unwrap_or(i64::MAX);
    Ok((primary.repl_offset.saturating_add(more), allowed))
}

fn repoint(context: &Context<'_>) -> Result<Plan, Held> {
    let e = context.evidence;
    let (named, _) = e
        .named_primary()
        .ok_or_else(|| (RefusalCode::SentinelsDisagree, "no majority of the Sentinels names one address".to_owned()))?;
    // The link to the wrong address may well be up: that is the dangerous case.
    let (expect, discards) = match leading(e) {
        Some(primary) => {
            let (limit, discards) = writes_at_stake(e, primary)?;
            (Precondition { replica_of: None, leads_up_to: Some(limit), ..unmoved(e, named) }, discards)
        }
        None => (unmoved(e, &own_primary(e)?), 0),
    };
    let mut steps = vec![Step {
        expect: Precondition { link_down: false, is_primary: Some(named.clone()), ..expect },
        change: Change::Repoint { to: named.clone(), discards },
        within_ms: 2_000,
    }];
    prove_and_persist(context, &mut steps);
    Ok(Plan {
        remedy: Remedy::Repoint,
        steps,
        undo: Vec::new(),
        expected: expected(
            context,
            format!("link to {named} up"),
            "the replica follows the primary that the Sentinels name",
        ),
    })
}
