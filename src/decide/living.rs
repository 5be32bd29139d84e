//! `request-failover` of a primary that lives: most of its replicas cannot replicate, for a reason of its own that moving
//! the primary mends, while Sentinels see nothing wrong. What that costs decides how it is asked for, and by whom.
//!
//! Never on evidence of logins, rights, TLS, disks or buffers: those would be met again behind the next primary, or have
//! left the replicas without the data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failover::{majority, millis};
use super::{Context, Held, Mode, Policy};
use crate::diagnose::same_place;
use crate::model::evidence::{Connect, Evidence, Flavour, LinkView, SentinelSays};
use crate::model::finding::Cause;
use crate::model::human;
use crate::model::remedy::{Handover, Living, Plan, RefusalCode, Remedy};
use crate::model::turn::{Clock, UNLINKED_JITTER_MS};
use crate::model::{Endpoint, Timestamp};

/// What a primary runs out of without dying of it: it turns away every new link, and those that it has live on.
pub fn qualifies(cause: Cause) -> bool {
    matches!(cause, Cause::ConnectionsExhausted | Cause::PrimaryForkFailed)
}

/// How a failover would be made on this finding.
pub fn handover(c: &Context<'_>) -> Handover {
    if !qualifies(c.finding.cause) {
        return Handover::Lost;
    }
    let e = c.evidence;
    let why = match coordinated(e) {
        Ok(()) => return Handover::Coordinated,
        Err(why) => why,
    };
    let refusing = e.of_the_named().filter(|(_, says)| says.primary_refuses_writes()).count();
    if refusing >= majority(e) { Handover::Refusing } else { Handover::Costly { why } }
}

/// What is asked has to be understood by whoever is asked, and the primary hands over only to a replica that is linked:
/// asked for another one it holds back all writes for as long as failover-timeout, and nothing comes of it (14.9 s of 15 s,
/// Valkey 9.1.2: sentinelFailoverTo sends CLIENT PAUSE and FAILOVER in one transaction, and takes no pause back).
fn coordinated(e: &Evidence) -> Result<(), String> {
    if let Some((endpoint, says)) = e.answering().find(|(_, says)| !says.knows_coordinated()) {
        return Err(match &says.build {
            Some((flavour, version)) => {
                let name = if *flavour == Flavour::Valkey { "Valkey" } else { "Redis" };
                format!("COORDINATED is not known to Sentinel {endpoint} ({name} {version})")
            }
            None => format!("whether Sentinel {endpoint} knows COORDINATED is not told"),
        });
    }
    let unlinked = |says: &SentinelSays| says.first_choice().is_none_or(|first| !first.link_ok);
    match e.answering().any(|(_, says)| unlinked(says)) {
        true => Err("COORDINATED needs a replica that is linked".to_owned()),
        false => Ok(()),
    }
}

/// What the hands read again.
pub fn precondition(c: &Context<'_>, how: &Handover) -> Option<Living> {
    (*how != Handover::Lost).then(|| Living {
        unlinked_for_ms: millis(c.policy.of(Remedy::RequestFailover).after),
        coordinated: *how == Handover::Coordinated,
        refuses_writes: *how == Handover::Refusing,
    })
}

/// By which of a Sentinel's ages the turns are counted.
pub fn clock(c: &Context<'_>) -> Clock {
    if qualifies(c.finding.cause) { Clock::Unlinked } else { Clock::Agreed }
}

/// An age that is right to a second needs turns that are longer by as much.
pub fn jitter_ms(clock: Clock) -> u64 {
    match clock {
        Clock::Agreed => 0,
        Clock::Unlinked => UNLINKED_JITTER_MS,
    }
}

/// Whether the age of a Sentinel has run on without a jump for as long as an order of promotion has to stand.
pub fn has_run_on(c: &Context<'_>, id: &str, span: Duration) -> bool {
    clock(c) == Clock::Agreed || c.history.unlinked.get(id).is_some_and(|known| c.now.since(known.since) >= span)
}

/// What one Sentinel has said of unlinked replicas from look to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOn {
    /// Since when most have had no link; none while most are linked.
    pub begin: Option<Timestamp>,
    /// Since when it has given nobody a turn by another age than this.
    pub since: Timestamp,
    /// The end of the last look.
    pub seen: Timestamp,
}

/// Takes in a look. While most are linked nobody has a turn, so an age that comes after that, which Sentinel learns of up
/// to 10 s late, is good from the time before it on. What was not watched (a broken link is looked at every 5 s) counts
/// anew.
pub fn run_on(known: &BTreeMap<String, RunOn>, e: &Evidence) -> BTreeMap<String, RunOn> {
    const JITTER: Duration = Duration::from_millis(UNLINKED_JITTER_MS);
    const WATCHED: Duration = Duration::from_secs(7);
    let told = e.answering().map(|(_, says)| {
        let begin = says.most_unlinked_ms().map(|age| says.at.before(Duration::from_millis(age)));
        let known = known.get(&says.id).filter(|known| e.ended.since(known.seen) <= WATCHED);
        let (begin, since) = match (known.map(|known| (known.begin, known.since)), begin) {
            (Some((Some(was), since)), Some(is)) if is.since(was).max(was.since(is)) <= JITTER => (Some(was), since),
            (Some((None, since)), begin) => (begin, since),
            (_, begin) => (begin, e.ended),
        };
        (says.id.clone(), RunOn { begin, since, seen: e.ended })
    });
    told.collect()
}

/// Whether it is done without a person, as far as what it costs goes: where the mode is `auto`.
pub fn is_allowed(how: &Handover, policy: &Policy) -> bool {
    match how {
        Handover::Lost => true,
        Handover::Coordinated | Handover::Refusing => policy.allow_live_primary,
        Handover::Costly { .. } => false,
    }
}

/// Whether the plan is a person's to allow, whatever the mode.
pub fn asks_a_person(plan: &Plan, policy: &Policy) -> bool {
    plan.discards() > 0 || plan.handover().is_some_and(|how| !is_allowed(how, policy))
}

/// Whoever asks waits for the turn: an agent by itself, and one whose plan a person has approved. Every host proposes the
/// same, so two may be approved, or one beside an agent in `auto`.
pub fn takes_turns(c: &Context<'_>) -> bool {
    let by_itself = c.policy.of(Remedy::RequestFailover).mode == Mode::Auto && is_allowed(&handover(c), c.policy);
    by_itself || c.history.approved
}

/// The fault is the primary's and not this replica's: a majority of all Sentinels says so of most replicas, for long
/// enough, and where a replica can be asked it says the same.
pub fn most_cannot_replicate(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    follows_the_named(e)?;
    let need = majority(e);
    let after = c.policy.of(remedy).after;
    let ages: Vec<Duration> =
        e.of_the_named().filter_map(|(_, says)| says.most_unlinked_ms()).map(Duration::from_millis).collect();
    if ages.len() < need {
        return Err((
            RefusalCode::PrimarySeenAlive,
            format!(
                "the Sentinels see the primary alive, and {} of {} say that most replicas have no link, {need} are \
                 needed: it is this replica that is turned away",
                ages.len(),
                e.sentinels_known()
            ),
        ));
    }
    if ages.iter().filter(|age| **age >= after).count() < need {
        let longest = ages.into_iter().max().unwrap_or_default();
        return Err((
            RefusalCode::TooEarly,
            format!(
                "most replicas have had no link for {}, [policy.{remedy}] after is {}",
                human(longest),
                human(after)
            ),
        ));
    }
    let links = || e.successors.iter().filter_map(|one| Some((&one.endpoint, one.server.seen()?.role.link()?)));
    let served = |link: &LinkView| link.up || (link.syncing && link.sync_read > 0);
    let well = links().filter(|(_, link)| served(link)).count();
    if well * 2 >= links().count().max(1) {
        return Err((
            RefusalCode::PrimarySeenAlive,
            format!("{well} of {} replicas are linked or being sent the data set, by their own word", links().count()),
        ));
    }
    Ok(())
}

/// A cascade, or a replica that is astray, sees the want of a server that the Sentinels do not speak of.
fn follows_the_named(e: &Evidence) -> Result<(), Held> {
    let followed = e.local_link().map(|link| &link.primary);
    let Some((named, _)) = e.named_primary() else {
        return Err((RefusalCode::SentinelsDisagree, "no majority of the Sentinels names one address".to_owned()));
    };
    match followed {
        Some(followed) if followed == named || same_place(e, followed, named) => {}
        Some(followed) => {
            let what = format!("this replica follows {followed}, the Sentinels name {named}");
            return Err((RefusalCode::TargetNotPrimary, what));
        }
        None => return Err((RefusalCode::RoleChanged, "the instance is not a replica any more".to_owned())),
    }
    match e.upstream.seen().map(|probe| &probe.connect) {
        Some(Connect::Open) => Ok(()),
        _ => Err((RefusalCode::EvidenceMissing, "the primary was not reached from here".to_owned())),
    }
}

/// Where a Sentinel holds it down, its own failover comes first: it may have lost its connections for the same reason. And
/// one that does not answer might not know the word; where the others do, nothing is asked on a guess, nor at a cost.
pub fn sentinels_hold_it_up(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    if let Some((endpoint, _)) = e.answering().find(|(_, says)| says.flags.contains("s_down")) {
        let what =
            format!("Sentinel {endpoint} holds the primary down itself: the Sentinels' own failover comes first");
        return Err((RefusalCode::SentinelActing, what));
    }
    let (answering, known) = (e.answering().count(), e.sentinels_known());
    if answering < known && e.answering().all(|(_, says)| says.knows_coordinated()) {
        let what =
            format!("{answering} of {known} Sentinels answer: whether each of them knows COORDINATED is not seen");
        return Err((RefusalCode::EvidenceMissing, what));
    }
    Ok(())
}

/// What the primary's INFO says of its good replicas has to be younger than the break, or it speaks of other days.
pub fn count_is_of_now(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if !matches!(handover(c), Handover::Costly { .. }) {
        return Ok(());
    }
    for (sentinel, says) in c.evidence.answering() {
        let primary = says.nodes.seen().and_then(|nodes| nodes.get(&says.primary.to_string()));
        let counted = primary.filter(|primary| primary.good_replicas.is_some());
        if let Some((primary, unlinked)) = counted.zip(says.most_unlinked_ms())
            && primary.age_ms >= unlinked
        {
            let what = "how many good replicas the primary counts was read by Sentinel";
            return Err((RefusalCode::EvidenceStale, format!("{what} {sentinel} before they lost their links")));
        }
    }
    Ok(())
}

/// A replica with a link has all of the data, and may be handed over to; Sentinel goes by priority first.
pub fn linked_one_comes_first(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    if !qualifies(c.finding.cause) {
        return Ok(());
    }
    for (sentinel, says) in c.evidence.answering() {
        // A Sentinel reads a linked replica every 10 s; what the replica itself says is of this moment.
        let own = |name: &Endpoint| {
            c.evidence.successors.iter().find(|one| one.endpoint == *name)?.server.seen()?.role.link()
        };
        if let Some(first) = says.first_choice().filter(|first| first.link_ok)
            && own(&first.endpoint).is_some_and(|link| !link.up)
        {
            let what = format!("{} has lost its link, and Sentinel {sentinel} has not read that yet", first.endpoint);
            return Err((RefusalCode::EvidenceStale, what));
        }
        let linked = says.replicas.iter().find(|replica| replica.link_ok && replica.promotable(says));
        if let (Some(first), Some(linked)) = (says.first_choice().filter(|first| !first.link_ok), linked) {
            return Err((
                RefusalCode::DataAtRisk,
                format!(
                    "Sentinel {sentinel} would promote {}, which has no link, and {} has one: a lower replica-priority \
                     for the latter puts it first",
                    first.endpoint, linked.endpoint
                ),
            ));
        }
    }
    Ok(())
}
