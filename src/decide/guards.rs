//! Every reason not to act: one function each, and the list of which remedy obeys which.

use std::time::Duration;

use super::dropped::{SPAN, dropped};
use super::people::{agent_stopped, group_limit, left_by_a_pause, paused};
use super::remedies::leading;
use super::{Context, Held, LedgerHealth};
use crate::diagnose::{failover_in_doubt, handshake_works, recent_failover, same_place, shares_history};
use crate::model::evidence::{Answer, LinkState, Missing, PeerRole, Reading};
use crate::model::remedy::{RefusalCode, Remedy};
use crate::model::{human, rdb};

pub type Guard = fn(Remedy, &Context<'_>) -> Result<(), Held>;

/// So many plans that change nothing within [`SPAN`] are as good as one attempt that fails.
const IDLE: u32 = 4;

/// Obeyed by all remedies, in this order.
const ALWAYS: &[Guard] = &[
    stopping,
    ledger_unwritable,
    paused,
    evidence_stale,
    attempts_exhausted,
    agent_stopped,
    failover_running,
    too_early,
    left_by_a_pause,
    cooldown,
    hourly_limit,
    group_limit,
];

const REALIGN_AUTH: &[Guard] = &[no_tilt, sentinels_name_our_primary, settings_readable];
const BOUNCE_LINK: &[Guard] = &[no_tilt, sentinels_name_our_primary, sync_running, handshake_is_green];
const REPOINT: &[Guard] = &[
    no_tilt,
    sentinels_agree,
    no_dissent,
    failover_settled,
    of_this_group,
    sync_running,
    target_is_primary,
    target_takes_us,
    data_survives,
];

/// The first reason to hold, if there is one.
pub fn check(remedy: Remedy, context: &Context<'_>) -> Result<(), Held> {
    let own = match remedy {
        Remedy::RealignAuth => REALIGN_AUTH,
        Remedy::BounceLink => BOUNCE_LINK,
        Remedy::Repoint => REPOINT,
        Remedy::RequestFailover => super::failover::GUARDS,
    };
    ALWAYS.iter().chain(own).try_for_each(|guard| guard(remedy, context))
}

/// What holds for the rest of a run that was cut short. Its target was judged when it began, and the link is whole.
pub fn check_rest(remedy: Remedy, context: &Context<'_>) -> Result<(), Held> {
    const REST: &[Guard] = &[no_tilt, settings_readable];
    ALWAYS.iter().chain(REST).try_for_each(|guard| guard(remedy, context))
}

fn stopping(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if c.history.stopping {
        return Err((RefusalCode::Stopping, "relinkd is stopping; it looks again when it starts".to_owned()));
    }
    Ok(())
}

fn ledger_unwritable(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match &c.history.ledger {
        LedgerHealth::Writable => Ok(()),
        LedgerHealth::Unwritable(why) => {
            Err((RefusalCode::LedgerUnwritable, format!("nothing is changed that cannot be recorded first: {why}")))
        }
    }
}

/// A decision is made on what was seen just now, and after the last change of ours.
fn evidence_stale(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    const OLD: Duration = Duration::from_secs(2);
    let changed = c.history.runs.iter().filter_map(|run| run.ended).max();
    if changed.is_some_and(|changed| changed > c.evidence.began) {
        return Err((
            RefusalCode::EvidenceStale,
            "the look began before the last remedy ended; it is repeated first".to_owned(),
        ));
    }
    let age = c.now.since(c.evidence.ended);
    if age > OLD {
        return Err((RefusalCode::EvidenceStale, format!("the look is {} old; it is repeated first", human(age))));
    }
    Ok(())
}

/// For so long dropped plans are counted at all.
const HOUR: Duration = Duration::from_secs(3_600);

fn attempts_exhausted(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if c.history.attempts >= c.policy.max_attempts {
        return Err((
            RefusalCode::AttemptsExhausted,
            format!(
                "{} attempts in this incident, the last at {remedy} or before; a person is needed",
                c.history.attempts
            ),
        ));
    }
    // The world had moved: that costs no attempt. But what has moved each time will have moved again.
    let (idle, most) = (dropped(c).count(), c.policy.max_attempts.saturating_mul(IDLE) as usize);
    let lately = c.history.idle.iter().filter(|at| c.now.since(**at) < HOUR).count();
    // A request for a failover rests between dropped plans as it is (`dropped_just_now`), and nobody else may be there to ask.
    let seldom = remedy != Remedy::RequestFailover && idle > 0 && lately >= most;
    if idle >= most || seldom {
        return Err((
            RefusalCode::AttemptsExhausted,
            format!(
                "{lately} plans within the last hour, {idle} of them within {}, were dropped by what was read again just before \
                 the change; a person is needed, and until then it is tried {}",
                human(SPAN),
                if seldom { "once in so long" } else { "again when enough of them are older" }
            ),
        ));
    }
    Ok(())
}

fn failover_running(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match failover_in_doubt(c.evidence) {
        Some(sign) => Err((RefusalCode::FailoverRunning, sign.saw)),
        None => Ok(()),
    }
}

/// The cause has to stand, and to have stood for `[policy.REMEDY] after`.
fn too_early(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let (answering, known) = (c.evidence.answering().count(), c.evidence.sentinels_known());
    // No patience makes a witness out of a Sentinel that does not answer, and a failover needs them all the same.
    let unheard = known > 0 && answering * 2 <= known;
    if unheard && (c.finding.suspected || remedy == Remedy::RequestFailover) {
        return Err((RefusalCode::QuorumUnclear, few_sentinels(answering, known)));
    }
    if c.finding.suspected {
        return Err((RefusalCode::TooEarly, "the verdict is only suspected; evidence is still coming in".to_owned()));
    }
    let after = c.policy.of(remedy).after;
    let stood = c.history.cause_since.map_or(Duration::ZERO, |since| c.now.since(since));
    if stood < after {
        return Err((
            RefusalCode::TooEarly,
            format!("it has stood for {}, [policy.{remedy}] after is {}", human(stood), human(after)),
        ));
    }
    Ok(())
}

/// Counted from the end of the last run. While one is in flight nothing is decided; one that a crash cut off ends with the
/// next start.
fn cooldown(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let rest = c.policy.of(remedy).cooldown;
    // A failover is the group's, whichever instance of it on this host asked.
    let others = if remedy == Remedy::RequestFailover { c.history.group_runs.as_slice() } else { &[] };
    let last = c
        .history
        .runs
        .iter()
        .chain(others)
        .filter(|run| run.remedy == remedy)
        .map(|run| run.ended.unwrap_or(run.began))
        .max();
    match last {
        Some(last) if c.now.since(last) < rest => Err((
            RefusalCode::Cooldown,
            format!(
                "the last run of {remedy} ended {} ago, [policy.{remedy}] cooldown is {}",
                human(c.now.since(last)),
                human(rest)
            ),
        )),
        _ => Ok(()),
    }
}

fn hourly_limit(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let hour = Duration::from_secs(3600);
    let limit = c.policy.of(remedy).max_per_hour;
    let recent = c.history.runs.iter().filter(|run| run.remedy == remedy && c.now.since(run.began) < hour).count();
    if recent >= limit as usize {
        return Err((
            RefusalCode::Cooldown,
            format!("{recent} runs of {remedy} within the last hour, [policy.{remedy}] max_per_hour is {limit}"),
        ));
    }
    Ok(())
}

/// What a Sentinel in TILT says of failovers is not to be relied on. The hands refuse then too, and each plan that they
/// refuse would cost an attempt.
fn no_tilt(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match c.evidence.answering().find(|(_, says)| says.tilt == Reading::Seen(true)) {
        Some((endpoint, _)) => Err((RefusalCode::Tilt, format!("Sentinel {endpoint} is in TILT"))),
        None => Ok(()),
    }
}

/// A majority of all known Sentinels name one address.
fn sentinels_agree(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    if e.named_primary().is_some() {
        return Ok(());
    }
    let (answering, known) = (e.answering().count(), e.sentinels_known());
    if answering * 2 <= known {
        return Err((RefusalCode::QuorumUnclear, few_sentinels(answering, known)));
    }
    Err((RefusalCode::SentinelsDisagree, "no majority of the Sentinels names one address".to_owned()))
}

fn few_sentinels(answering: usize, known: usize) -> String {
    format!("only {answering} of {known} Sentinels answer from here: too few witnesses")
}

/// A Sentinel that names another address for longer than a failover takes has a wrong view, or the others have.
fn no_dissent(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let named = c.evidence.named_primary().map(|(named, _)| named);
    match c.evidence.answering().find(|(_, says)| Some(&says.primary) != named) {
        Some((endpoint, says)) => {
            Err((RefusalCode::SentinelsDisagree, format!("Sentinel {endpoint} names {} as the primary", says.primary)))
        }
        None => Ok(()),
    }
}

/// A former primary is Sentinel's to demote, as long as a failover has only just ended.
fn failover_settled(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if leading(c.evidence).is_none() {
        return Ok(());
    }
    match recent_failover(c.evidence) {
        Some(saw) => Err((RefusalCode::SentinelActing, saw)),
        None => Ok(()),
    }
}

/// Only a replica that a Sentinel lists is moved: one that follows another replica on purpose (a cascade) is unknown
/// to the Sentinels. It is known by its run id, since its address may read differently from there.
fn of_this_group(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if leading(c.evidence).is_some() {
        // A Sentinel that cannot log in to a former primary does not know its run id; but the new one has its history.
        return match shares_history(c.evidence) {
            true => Ok(()),
            false => Err((
                RefusalCode::EvidenceMissing,
                "that the named primary took over this server's history was not seen: it may be of another group, or \
                 was started anew without its dump; configure `observer`, or allow +sentinel|info-cache"
                    .to_owned(),
            )),
        };
    }
    let run_id = c.evidence.local.seen().map(|view| view.run_id.as_str()).unwrap_or_default();
    let listed = c.evidence.answering().any(|(_, says)| says.replicas.iter().any(|one| one.run_id == run_id));
    if run_id.is_empty() || !listed {
        return Err((
            RefusalCode::EvidenceMissing,
            "no Sentinel lists this server among the group's replicas: it may follow another one on purpose".to_owned(),
        ));
    }
    Ok(())
}

/// Where there are Sentinels, they have to agree on the primary that this replica follows. A replica without a group
/// has nobody to ask.
fn sentinels_name_our_primary(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    if e.sentinels.is_empty() {
        return Ok(());
    }
    sentinels_agree(remedy, c)?;
    if e.is_the_named_primary() {
        return Ok(());
    }
    let followed = e.local_link().map(|link| &link.primary);
    match (followed, e.named_primary()) {
        (Some(followed), Some((named, _))) if same_place(e, followed, named) => Ok(()),
        (Some(followed), Some((named, _))) => {
            Err((RefusalCode::TargetNotPrimary, format!("this replica follows {followed}, the Sentinels name {named}")))
        }
        _ => Err((RefusalCode::RoleChanged, "the instance is not a replica any more".to_owned())),
    }
}

/// Without the replica's own settings the old password could not be put back.
fn settings_readable(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match &c.evidence.settings {
        Reading::Seen(settings) if settings.login_not_text => Err((
            RefusalCode::EvidenceMissing,
            "the present masteruser or masterauth is not UTF-8: relinkd could not put it back; set both by hand"
                .to_owned(),
        )),
        Reading::Seen(_) => Ok(()),
        Reading::Missing(Missing::Denied(text)) => Err((
            RefusalCode::PermissionDenied,
            format!("CONFIG GET → {text}; relinkd's user on {} needs +config|get +config|set", c.evidence.address),
        )),
        Reading::Missing(why) => {
            Err((RefusalCode::EvidenceMissing, format!("the replica's own settings (CONFIG GET): {why}")))
        }
    }
}

fn sync_running(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let loading = c.evidence.local.seen().is_some_and(|view| view.loading);
    let syncing = c.evidence.local_link().is_some_and(|link| link.syncing || link.state == LinkState::Sync);
    if loading || syncing {
        return Err((
            RefusalCode::SyncRunning,
            "a data set is being transferred or loaded; touching the link starts it over".to_owned(),
        ));
    }
    Ok(())
}

fn handshake_is_green(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match c.evidence.upstream.seen() {
        Some(probe) if handshake_works(probe) => Ok(()),
        Some(_) => {
            Err((RefusalCode::EvidenceMissing, "the handshake with the primary does not work from here yet".to_owned()))
        }
        None => Err((RefusalCode::EvidenceMissing, "the handshake with the primary was not tried".to_owned())),
    }
}

/// The named instance itself has to claim the role of a primary.
fn target_is_primary(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let Some(probe) = c.evidence.named.seen() else {
        return Err((RefusalCode::EvidenceMissing, "the address that the Sentinels name was not reached".to_owned()));
    };
    match &probe.role {
        Reading::Seen(PeerRole::Primary { .. }) => Ok(()),
        Reading::Seen(_) => {
            Err((RefusalCode::TargetNotPrimary, format!("{} does not call itself a primary", probe.target)))
        }
        Reading::Missing(why) => Err((
            RefusalCode::EvidenceMissing,
            format!("ROLE of {}: {why}; the replication user needs +role, or configure `observer`", probe.target),
        )),
    }
}

/// With our password, or the replica would be taken from a link that works to one that does not.
fn target_takes_us(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    match c.evidence.named.seen() {
        Some(probe) if handshake_works(probe) => Ok(()),
        Some(probe) if probe.psync == Answer::NotAsked && (probe.auth.is_ok() || probe.auth == Answer::NotAsked) => {
            Err((
                RefusalCode::EvidenceMissing,
                format!("whether {} lets this replica PSYNC was not tried", probe.target),
            ))
        }
        Some(probe) => Err((
            RefusalCode::LatentAuthMismatch,
            format!(
                "{} does not take this replica's handshake: AUTH → {}, PSYNC → {}",
                probe.target, probe.auth, probe.psync
            ),
        )),
        None => Err((RefusalCode::EvidenceMissing, "the address that the Sentinels name was not reached".to_owned())),
    }
}

/// A replica with data is not sent to a primary that has none, nor to one whose data set it cannot load.
fn data_survives(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    let Some(local) = e.local.seen() else {
        return Err((RefusalCode::EvidenceMissing, "the local server was not seen".to_owned()));
    };
    let named = e.named_primary().map(|(named, _)| named.to_string()).unwrap_or_default();
    // What a Sentinel has cached is up to 10 s old; the primary's own ROLE is of this moment.
    let stands_at = match e.named.seen().map(|probe| &probe.role) {
        Some(Reading::Seen(PeerRole::Primary { offset })) => Some(*offset),
        _ => None,
    };
    if let (Some(offset), Some(link)) = (stands_at, local.role.link())
        && offset < link.offset
    {
        return Err((
            RefusalCode::DataAtRisk,
            format!("{named} stands at offset {offset}, this replica at {}: it may have lost its data", link.offset),
        ));
    }
    let node = e.answering().filter_map(|(_, says)| says.nodes.seen()?.get(&named)).min_by_key(|node| node.age_ms);
    let Some(node) = node else {
        return Err((
            RefusalCode::EvidenceMissing,
            format!("no Sentinel tells version and keys of {named}; its user needs +sentinel|info-cache"),
        ));
    };
    // A Sentinel reads INFO every 10 s (Redis 7.0.15, sentinel_info_period).
    let age = Duration::from_millis(node.age_ms);
    if age > Duration::from_secs(15) {
        return Err((RefusalCode::EvidenceStale, format!("what the Sentinels know of {named} is {} old", human(age))));
    }
    if node.keys == 0 && local.keys > 0 {
        return Err((RefusalCode::DataAtRisk, format!("{named} holds no keys, this replica holds {}", local.keys)));
    }
    if !rdb::loads((local.flavour, &local.version), (node.flavour, &node.version)) {
        return Err((
            RefusalCode::DataAtRisk,
            format!(
                "this server ({:?} {}) cannot load a data set of {:?} {}",
                local.flavour, local.version, node.flavour, node.version
            ),
        ));
    }
    Ok(())
}
