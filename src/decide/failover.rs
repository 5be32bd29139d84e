//! `request-failover`: SENTINEL FAILOVER is forced, the Sentinel that gets it asks nobody for a vote. So the care
//! that the command lacks is supplied here.
//!
//! Every agent of the group keeps the same guards, and the last of them makes one ask after the other: `model::turn`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Context, Held, living};
use crate::diagnose::unanswered_by_pings;
use crate::model::evidence::{Answer, CachedNode, Connect, Evidence, Reading, ReplicaInSentinel, Role, SentinelSays};
use crate::model::finding::{Fact, Viewpoint};
use crate::model::remedy::{Change, Handover, Plan, Precondition, RefusalCode, Remedy, Step};
use crate::model::turn::{self, Clock, Seat, Turn, Turns, Unsure};
use crate::model::{human, rdb};

pub const GUARDS: &[super::guards::Guard] = &[
    tilt,
    primary_seen_alive,
    quorum_unclear,
    sentinel_acting,
    super::retry::sentinels_own_try,
    super::dropped::dropped_just_now,
    group_cooldown,
    group_hourly_limit,
    latent_auth_mismatch,
    super::troubles::trouble_stands,
    promotable_replica,
    living::linked_one_comes_first,
    living::count_is_of_now,
    candidates_keep_the_data,
    nobody_promoted_yet,
    super::successors::take_our_login,
    super::successors::keep_the_data,
    super::successors::looked_at,
    not_our_turn,
];

pub fn plan(context: &Context<'_>) -> Result<Plan, Held> {
    let e = context.evidence;
    let (named, _) = e
        .named_primary()
        .ok_or_else(|| (RefusalCode::SentinelsDisagree, "no majority of the Sentinels names one address".to_owned()))?;
    let how = living::handover(context);
    let turn = living::takes_turns(context).then(|| standing_turn(context));
    // One fixed order over all agents: the first request makes the second fail with INPROG. A Sentinel that has no
    // quorum, or another clock than the majority, is cut off or has just come back.
    let mut sentinels: Vec<_> = e
        .of_the_named()
        .filter(|(_, says)| says.ckquorum.seen().is_some_and(|quorum| quorum.ok))
        .filter(|(_, says)| turn.as_ref().is_none_or(|turn| turn.granted_after(says, late(context, says))))
        .map(|(endpoint, says)| (says.id.clone(), endpoint.clone()))
        .collect();
    sentinels.sort();
    let sentinels = sentinels.into_iter().map(|(_, endpoint)| endpoint).collect();
    Ok(Plan {
        remedy: Remedy::RequestFailover,
        steps: vec![Step {
            expect: Precondition {
                sentinels_name: Some(named.clone()),
                no_failover: true,
                primary_down: how == Handover::Lost,
                in_sight: Some(first_ms(context)),
                looked_within_ms: Some(FRESH_MS),
                turn,
                living: living::precondition(context, &how),
                ..Precondition::default()
            },
            change: Change::RequestFailover { group: e.link.group.clone(), sentinels, how },
            within_ms: turn::REQUEST_MS,
        }],
        undo: Vec::new(),
        expected: Fact {
            from: Viewpoint::Sentinel,
            saw: format!("the Sentinels name another address than {named}"),
            at: context.now,
            means: "a replica was promoted and the others follow it".to_owned(),
        },
    })
}

/// From the beginning of the look to the request: a look (1.5 s), the record of the intent, and what the hands read again.
pub(super) const FRESH_MS: u64 = 5_000;

pub(super) fn majority(e: &Evidence) -> usize {
    e.sentinels_known() / 2 + 1
}

/// A Sentinel in TILT takes the request and runs it later, when TILT ends (Redis 7.0.15).
fn tilt(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    for (endpoint, says) in c.evidence.answering() {
        match &says.tilt {
            Reading::Seen(false) => {}
            Reading::Seen(true) => return Err((RefusalCode::Tilt, format!("Sentinel {endpoint} is in TILT"))),
            Reading::Missing(why) => {
                return Err((
                    RefusalCode::EvidenceMissing,
                    format!("whether {endpoint} is in TILT: {why}; its user needs +info"),
                ));
            }
        }
    }
    Ok(())
}

/// Neither may we reach it, by the address that the replica follows or by the one that the Sentinels name, nor may it tell
/// the observer of itself, nor may fewer than a majority of all known Sentinels hold it down.
fn primary_seen_alive(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if living::qualifies(c.finding.cause) {
        return living::most_cannot_replicate(remedy, c);
    }
    let e = c.evidence;
    let Some(probe) = e.upstream.seen() else {
        return Err((RefusalCode::EvidenceMissing, "the primary was not tried from here".to_owned()));
    };
    let elsewhere = e.named_primary().is_some_and(|(named, _)| *named != probe.target);
    if elsewhere && e.named.seen().is_none() {
        return Err((RefusalCode::EvidenceMissing, "the address that the Sentinels name was not tried".to_owned()));
    }
    for probe in e.named.seen().into_iter().chain([probe]) {
        if let Some(why) = probe.connect.says_nothing() {
            let detail = format!("whether {} can be reached from here is not known: {why}", probe.target);
            return Err((RefusalCode::EvidenceMissing, detail));
        }
        if probe.connect == Connect::Open && probe.ping != Answer::TimedOut {
            return Err((
                RefusalCode::PrimarySeenAlive,
                format!("{} answers from here: PING → {}", probe.target, probe.ping),
            ));
        }
    }
    // It may have gone on, or have come back, behind the probe.
    let probed = probe.at.after(Duration::from_micros(probe.took_us));
    if let Some(told) = e.primary.seen().filter(|told| told.role == Role::Primary && told.at > probed) {
        let ago = human(c.now.since(told.at));
        let detail = format!("the INFO of a primary was read from here {ago} ago, though the probe meets none");
        return Err((RefusalCode::PrimarySeenAlive, detail));
    }
    let (answering, down, need) = (e.answering().count(), e.sentinels_flagging("s_down"), majority(e));
    if answering < need {
        return Err((
            RefusalCode::QuorumUnclear,
            format!("only {answering} of {} Sentinels answer from here, {need} are needed", e.sentinels_known()),
        ));
    }
    if down < need && unanswered_by_pings(e) {
        return Err((
            RefusalCode::SentinelActing,
            format!(
                "{down} of {} Sentinels hold it down yet, {need} are needed: its silence has to last for \
                 down-after-milliseconds",
                e.sentinels_known()
            ),
        ));
    }
    if down < need {
        return Err((
            RefusalCode::PrimarySeenAlive,
            format!("{down} of {} Sentinels hold it down, {need} are needed", e.sentinels_known()),
        ));
    }
    // A link reads up until repl-timeout; bytes that came after the Sentinels gave the primary up are a sign of life.
    let silent_s = e.local_link().filter(|link| link.up).and_then(|link| u64::try_from(link.last_io_s).ok());
    let given_up = e.answering().filter_map(|(_, says)| says.s_down_ms).max().unwrap_or(0);
    if silent_s.is_some_and(|silent| silent.saturating_mul(1000) < given_up) {
        return Err((
            RefusalCode::PrimarySeenAlive,
            "the link of this replica is up, and the primary has spoken on it since the Sentinels hold it down"
                .to_owned(),
        ));
    }
    Ok(())
}

/// CKQUORUM counts living Sentinels only; it is needed, and is not enough.
fn quorum_unclear(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    let passing = e.of_the_named().filter(|(_, says)| says.ckquorum.seen().is_some_and(|quorum| quorum.ok)).count();
    if passing < majority(e) {
        return Err((
            RefusalCode::QuorumUnclear,
            format!("{passing} of {} Sentinels pass CKQUORUM, {} are needed", e.sentinels_known(), majority(e)),
        ));
    }
    Ok(())
}

/// Sentinel's own failover is the normal case: it gets its due time first. The age of o_down is the time that it had.
fn sentinel_acting(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if living::qualifies(c.finding.cause) {
        return living::sentinels_hold_it_up(remedy, c);
    }
    let due = c.policy.of(remedy).after;
    let agreed: Vec<u64> = c.evidence.of_the_named().filter_map(|(_, says)| says.o_down_ms).collect();
    let Some(longest) = agreed.iter().max() else {
        return Err((
            RefusalCode::SentinelActing,
            "the Sentinels have not yet agreed that the primary is down".to_owned(),
        ));
    };
    let stood = Duration::from_millis(*longest);
    if stood < due {
        return Err((
            RefusalCode::SentinelActing,
            format!("the Sentinels agreed {} ago; they are given {} to fail over themselves", human(stood), human(due)),
        ));
    }
    Ok(())
}

/// Other agents and people fail over too: how long the primary has had its role tells of them, by the word of every
/// Sentinel that was there. The quorum that was lost and is back with two Sentinels started anew is no failover.
fn group_cooldown(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let rest = c.policy.of(remedy).cooldown;
    let mut witnesses = c.evidence.of_the_named().filter(|(_, says)| says.saw_the_role_begin());
    let young = witnesses.find(|(_, says)| Duration::from_millis(says.role_reported_ms) < rest);
    match young {
        Some((endpoint, says)) => Err((
            RefusalCode::Cooldown,
            format!(
                "Sentinel {endpoint} saw this primary get its role only {} ago; [policy.{remedy}] cooldown is {}",
                human(Duration::from_millis(says.role_reported_ms)),
                human(rest)
            ),
        )),
        None => Ok(()),
    }
}

/// Sentinel's own failovers, other agents' and people's count like ours.
fn group_hourly_limit(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let limit = c.policy.of(remedy).max_per_hour;
    let recent = c.history.failovers.iter().filter(|at| c.now.since(**at) < Duration::from_secs(3600)).count();
    if recent >= limit as usize {
        return Err((
            RefusalCode::Cooldown,
            format!(
                "{recent} failovers of this group were seen within the last hour, whoever made them; [policy.{remedy}] max_per_hour is {limit}"
            ),
        ));
    }
    Ok(())
}

/// A demoted primary that Sentinel cannot log in to stays a second writable primary for good.
fn latent_auth_mismatch(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if c.history.auth_trouble {
        return Err((
            RefusalCode::LatentAuthMismatch,
            "a login was refused in this group not long ago: passwords have to be equal everywhere before a failover"
                .to_owned(),
        ));
    }
    Ok(())
}

fn promotable_replica(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    for (endpoint, says) in c.evidence.answering() {
        if !says.replicas.iter().any(|replica| replica.promotable(says)) {
            let seen: Vec<String> = says
                .replicas
                .iter()
                .map(|r| format!("{} priority {} flags {}", r.endpoint, r.priority, join(r)))
                .collect();
            return Err((
                RefusalCode::NoPromotableReplica,
                format!("Sentinel {endpoint} finds none it may promote: {}", seen.join("; ")),
            ));
        }
    }
    Ok(())
}

fn join(replica: &ReplicaInSentinel) -> String {
    replica.flags.iter().cloned().collect::<Vec<_>>().join(",")
}

/// Whatever Sentinel might pick has to hold the data. It reads "never linked" as fresh, and has promoted a replica
/// without keys, which wiped the group (Redis 7.0.15 and 8.2.3).
fn candidates_keep_the_data(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    let missing = |what: String| (RefusalCode::EvidenceMissing, what);
    let risk = |what: String| (RefusalCode::DataAtRisk, what);
    let most_advanced = furthest(e);
    for (sentinel, says) in e.answering() {
        let nodes = says.nodes.seen().ok_or_else(|| {
            missing(format!("INFO-CACHE of {sentinel} could not be read; its user needs +sentinel|info-cache"))
        })?;
        let primary = nodes.get(&says.primary.to_string());
        let choices: Vec<_> = says.replicas.iter().filter(|replica| replica.promotable(says)).collect();
        for replica in &choices {
            let name = replica.endpoint.to_string();
            let node = nodes.get(&name).ok_or_else(|| missing(format!("{sentinel} has no INFO of {name}")))?;
            sound(&name, replica, node, primary).map_err(risk)?;
            for other in loaders(says, nodes).map_err(|name| missing(format!("{sentinel} has no INFO of {name}")))? {
                if !rdb::loads((other.flavour, &other.version), (node.flavour, &node.version)) {
                    return Err(risk(format!(
                        "{:?} {} could not load what {name} would send it",
                        other.flavour, other.version
                    )));
                }
            }
        }
        // A primary that steps down by itself has its replica take in all that it has first (Valkey 9.1.2, FAILOVER).
        if living::handover(c) != Handover::Coordinated
            && let Some(first) = choices.iter().min_by(|a, b| turn::preference(a, b))
            && first.offset.saturating_add_unsigned(c.policy.max_lag_bytes) < most_advanced
        {
            return Err(risk(format!(
                "{} would be promoted at offset {}, {most_advanced} has been seen; more than max_lag_bytes = {} would be lost",
                first.endpoint, first.offset, c.policy.max_lag_bytes
            )));
        }
    }
    Ok(())
}

/// The furthest offset that anybody has seen.
fn furthest(e: &Evidence) -> i64 {
    let told = e.answering().flat_map(|(_, says)| says.replicas.iter().map(|replica| replica.offset));
    let nodes = e.answering().filter_map(|(_, says)| says.nodes.seen());
    let cached = nodes.flat_map(|nodes| nodes.values().map(|node| node.repl_offset));
    let own = e.successors.iter().filter_map(|one| one.server.seen()?.role.link()).map(|link| link.offset);
    told.chain(cached).chain(own).chain(e.local_link().map(|link| link.offset)).max().unwrap_or(0)
}

/// Every server that would have to load what the promoted one sends: the other replicas, and the old primary when it
/// returns. A replica that is down and of which nothing is known is left out: it may be a ghost of a wrong announcement.
fn loaders<'a>(says: &'a SentinelSays, nodes: &'a BTreeMap<String, CachedNode>) -> Result<Vec<&'a CachedNode>, String> {
    let mut found: Vec<&CachedNode> = nodes.get(&says.primary.to_string()).into_iter().collect();
    for replica in &says.replicas {
        let name = replica.endpoint.to_string();
        match nodes.get(&name) {
            Some(node) => found.push(node),
            None if replica.flags.contains("s_down") => {}
            None => return Err(name),
        }
    }
    Ok(found)
}

/// A promotion that is under way, or that cannot be ruled out, is not asked for a second time.
fn nobody_promoted_yet(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let views: Vec<&SentinelSays> = c.evidence.answering().map(|(_, says)| says).collect();
    turn::all_in_sight(&views, first_ms(c), living::clock(c)).map_err(|unsure| {
        let code = match &unsure {
            Unsure::Promoted(_) => RefusalCode::FailoverRunning,
            Unsure::Old(..) => RefusalCode::EvidenceStale,
            Unsure::Lost(_) | Unsure::Split(_) => RefusalCode::EvidenceMissing,
        };
        (code, unsure.to_string())
    })
}

/// The age of a Sentinel's at which the first turn begins: Sentinel's own time comes first, and one that has just lost and
/// found its quorum begins to count anew.
fn first_ms(c: &Context<'_>) -> u64 {
    millis(c.policy.of(Remedy::RequestFailover).after.max(c.policy.stagger))
}

/// How long ago a Sentinel said what it says: a look at a silent primary lasts on for a second and more.
fn late(c: &Context<'_>, says: &SentinelSays) -> u64 {
    millis(c.now.since(says.at))
}

fn turns(c: &Context<'_>) -> Turns {
    // The age may be off in the look, and off the other way when it is read again.
    let jitter = living::jitter_ms(living::clock(c));
    Turns { first: first_ms(c), stagger: millis(c.policy.stagger) + 2 * jitter, spare: turn::SPARE_MS + jitter }
}

/// For so long an order has to stand, and a clock to run on.
fn a_turn(c: &Context<'_>) -> Duration {
    Duration::from_millis(turns(c).stagger)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The seats that have been ours for a whole turn. An order that has just changed gave the present turn to another, and
/// an agent that has just started knows of no order.
fn standing_turn(c: &Context<'_>) -> Turn {
    let stood = |id: &str, since| c.now.since(since) >= a_turn(c) && living::has_run_on(c, id, a_turn(c));
    let seats = c.history.seats.iter().filter(|(id, (_, since))| stood(id, *since));
    let run_id = c.evidence.local.seen().map(|view| view.run_id.clone()).unwrap_or_default();
    let seats = seats.map(|(id, (seat, _))| (id.clone(), *seat)).collect();
    Turn { run_id, turns: turns(c), seats, clock: living::clock(c) }
}

/// A proposal is nobody's turn; what is carried out has one.
fn not_our_turn(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    if !living::takes_turns(c) {
        return Ok(());
    }
    let turn = standing_turn(c);
    if e.of_the_named().filter(|(_, says)| turn.granted_after(says, late(c, says))).count() >= majority(e) {
        return Ok(());
    }
    let held = |detail: String| Err((RefusalCode::NotOurTurn, detail));
    let seats: Vec<Seat> = e.answering().filter_map(|(_, says)| Seat::of(says, &turn.run_id)).collect();
    let Some(seat) = seats.first().filter(|_| seats.len() >= majority(e)) else {
        return held("no majority of the Sentinels sees this server among the group's replicas: others ask".to_owned());
    };
    let place = format!("this replica is number {} of {} in the order of promotion", seat.rank + 1, seat.of);
    match turn_in(c) {
        Some(wait) => held(format!("{place}; its turn to ask comes in about {}", human(wait))),
        None => held(format!("{place}, and the Sentinels do not yet agree on when its turn is")),
    }
}

/// How long until a majority of the Sentinels gives us the turn, as far as it can be told; none where their clocks
/// differ too much to tell.
pub fn turn_in(c: &Context<'_>) -> Option<Duration> {
    let e = c.evidence;
    let run_id = c.evidence.local.seen().map(|view| view.run_id.as_str()).unwrap_or_default();
    let mut waits: Vec<u64> = e
        .answering()
        .filter_map(|(_, says)| {
            let seat = Seat::of(says, run_id)?;
            let stood = c.history.seats.get(&says.id).filter(|(known, _)| *known == seat);
            let stood = stood.map_or(Duration::ZERO, |(_, since)| c.now.since(*since));
            let ran = match living::clock(c) {
                Clock::Agreed => stood,
                Clock::Unlinked => {
                    c.history.unlinked.get(&says.id).map_or(Duration::ZERO, |known| c.now.since(known.since))
                }
            };
            let young = millis(a_turn(c).saturating_sub(stood.min(ran)));
            // Once the seat has stood for long enough, the turn may be another's.
            let age = living::clock(c).age(says)?.saturating_add(late(c, says));
            Some(young.saturating_add(turns(c).wait(age.saturating_add(young), seat)))
        })
        .collect();
    waits.sort_unstable();
    waits.get(majority(e) - 1).filter(|wait| **wait > 0).map(|wait| Duration::from_millis(*wait))
}

pub(super) fn sound(
    name: &str,
    replica: &ReplicaInSentinel,
    node: &CachedNode,
    primary: Option<&CachedNode>,
) -> Result<(), String> {
    let never_linked = replica.link_down_ms < 0 || (!node.link_up && node.link_down_for_s == Some(-1));
    if never_linked || node.repl_offset <= 1 {
        return Err(format!("{name} has not synced since it started, and Sentinel might promote it"));
    }
    match primary {
        Some(primary) if primary.keys == 0 || node.keys > 0 => {}
        Some(primary) => return Err(format!("{name} holds no keys, the primary held {}", primary.keys)),
        None if node.keys > 0 => {}
        None => return Err(format!("{name} holds no keys, and what the primary held is not known")),
    }
    if !node.rdb_last_save_ok || !node.aof_last_write_ok {
        return Err(format!("{name} fails to save its data"));
    }
    if node.loading {
        return Err(format!("{name} is loading its data set"));
    }
    Ok(())
}
