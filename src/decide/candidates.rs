//! Which password of the secret store a server should hold: the first that the primary takes, and on a primary's host the
//! first that the replicas take. What was not tried, or is not the store's last word, is never taken for it.

use std::time::Duration;

use super::remedies::own_primary;
use super::{Context, Held};
use crate::diagnose::{handshake_works, same_place};
use crate::model::evidence::{Answer, CandidateView, Evidence, Missing, PeerRole, Probe, Reading, Role};
use crate::model::human;
use crate::model::remedy::RefusalCode;

/// The password of the store that this instance should hold, whatever its role.
pub(super) fn fitting_candidate(e: &Evidence) -> Result<&CandidateView, Held> {
    match e.local.seen().map(|view| &view.role) {
        Some(Role::Primary) => taken_by_standbys(e),
        _ => accepted_candidate(e),
    }
}

/// Whether a password did at its target what it is there for. Nobody asks a replica for its replication stream.
pub(super) fn proved(e: &Evidence, candidate: &CandidateView) -> bool {
    match e.local.seen().map(|view| &view.role) {
        Some(Role::Primary) => candidate.proof.auth.is_ok() && candidate.proof.replconf.is_ok(),
        _ => handshake_works(&candidate.proof),
    }
}

/// The first password of the store that all replicas take which may be promoted, on the host of a primary.
pub(super) fn taken_by_standbys(e: &Evidence) -> Result<&CandidateView, Held> {
    if let Some(taken) = e.candidates.iter().find(|candidate| proved(e, candidate)) {
        return Ok(taken);
    }
    if e.candidates.is_empty() && e.store.seen().is_some_and(|store| store.offered > 0) {
        let detail = "this server is the primary, and no replica that may be promoted was found to try a password at";
        return Err((RefusalCode::EvidenceMissing, detail.to_owned()));
    }
    no_candidates(e)?;
    if let Some(untried) = e.candidates.iter().find(|candidate| !judged(&candidate.proof.auth)) {
        let detail = format!("{} could not be tried at {}", untried.source, untried.proof.target);
        return Err((RefusalCode::EvidenceMissing, detail));
    }
    let told = e.candidates.iter().map(|candidate| {
        let (name, proof) = (format!("{} (version {})", candidate.source, candidate.version), &candidate.proof);
        format!("{}, which may be promoted, answers {name} with {}", proof.target, proof.auth)
    });
    Err((RefusalCode::SecretRejected, told.collect::<Vec<_>>().join("; ")))
}

/// A store that has not answered yet may say something else in a moment. Until it does, what it said before this fault
/// is told with its age, and nothing is set: the hands would have to wait for the store themselves, and nobody would hear of
/// the incident meanwhile.
pub(super) fn newest<'a>(
    context: &Context<'_>,
    found: Result<&'a CandidateView, Held>,
) -> Result<&'a CandidateView, Held> {
    let Some(store) = context.evidence.store.seen() else { return found };
    let Some(silent_ms) = store.silent_ms.filter(|_| context.history.fault_since.is_none_or(|since| store.at < since))
    else {
        return found;
    };
    let before = match found {
        Ok(candidate) => format!("{} takes it, and it is set once the store says it again", candidate.proof.target),
        Err((RefusalCode::SecretRejected, why)) => why,
        Err(other) => return Err(other),
    };
    let (silent, age) = (human(Duration::from_millis(silent_ms)), human(context.now.since(store.at)));
    let detail =
        format!("{} has not answered for {silent}, and is waited for; what it said {age} ago: {before}", store.source);
    Err((RefusalCode::EvidenceMissing, detail))
}

/// The store gave none.
fn no_candidates(e: &Evidence) -> Result<(), Held> {
    if !e.candidates.is_empty() {
        return Ok(());
    }
    Err(match &e.store {
        Reading::Missing(Missing::NotAsked) => (
            RefusalCode::SecretUnavailable,
            "no masterauth is configured for this group: relinkd has no password to offer; set [group.NAME] masterauth"
                .to_owned(),
        ),
        Reading::Missing(Missing::TimedOut) => (
            RefusalCode::EvidenceMissing,
            "the secret store has not answered yet, and is waited for: what it says is used as soon as it comes"
                .to_owned(),
        ),
        Reading::Missing(why) => (RefusalCode::SecretUnavailable, format!("the secret store: {why}")),
        Reading::Seen(store) => (RefusalCode::SecretUnavailable, format!("{} offers no password", store.source)),
    })
}

/// The first password of the store that the primary takes for a whole handshake.
pub(super) fn accepted_candidate(e: &Evidence) -> Result<&CandidateView, Held> {
    no_candidates(e)?;
    let followed = own_primary(e)?;
    for candidate in &e.candidates {
        let proof = &candidate.proof;
        if !same_place(e, &proof.target, &followed) {
            let detail = format!("passwords were tried at {}, this replica follows {followed}", proof.target);
            return Err((RefusalCode::TargetNotPrimary, detail));
        }
        // Where no Sentinel names a primary, a replica may follow another one for good.
        if let Reading::Seen(PeerRole::Replica { of, .. }) = &proof.role
            && !e.sentinels.is_empty()
        {
            return Err((RefusalCode::TargetNotPrimary, format!("{} is itself a replica of {of}", proof.target)));
        }
    }
    if let Some(found) = e.candidates.iter().find(|candidate| handshake_works(&candidate.proof)) {
        return Ok(found);
    }
    // A password that the primary did not judge is not a rejected one.
    if let Some(untried) = e.candidates.iter().find(|candidate| !judged(&candidate.proof.auth)) {
        let (name, proof) = (&untried.source, &untried.proof);
        let detail =
            format!("{name} could not be tried at {}: PING → {}, AUTH → {}", proof.target, proof.ping, proof.auth);
        return Err((RefusalCode::EvidenceMissing, detail));
    }
    if let Some(unproved) = e.candidates.iter().find(|candidate| may_replicate_unseen(&candidate.proof)) {
        let why = match unproved.proof.cut_short {
            true => "for want of time: it is too far away for one look",
            false => {
                "for want of the primary's version (before Redis 7.0 the question itself begins a full resync): \
                 configure `observer`, or allow +sentinel|info-cache"
            }
        };
        let (source, at) = (&unproved.source, &unproved.proof.target);
        let detail = format!("{source} logs in at {at}; whether it may replicate was not tried, {why}");
        return Err((RefusalCode::EvidenceMissing, detail));
    }
    let told = e.candidates.iter().map(verdict_on).collect::<Vec<_>>().join("; ");
    Err((RefusalCode::SecretRejected, told))
}

fn may_replicate_unseen(proof: &Probe) -> bool {
    proof.auth.is_ok() && proof.replconf.is_ok() && proof.psync == Answer::NotAsked
}

fn judged(auth: &Answer) -> bool {
    matches!(auth, Answer::Ok(_) | Answer::Error { .. })
}

/// What the primary said to a candidate, and which side that makes look stale.
fn verdict_on(candidate: &CandidateView) -> String {
    let name = format!("{} (version {})", candidate.source, candidate.version);
    let proof = &candidate.proof;
    if proof.auth.is_ok() {
        return format!("{name} logs in and may not replicate: REPLCONF → {}, PSYNC → {}", proof.replconf, proof.psync);
    }
    let stale = if candidate.in_use && !candidate.user.is_empty() {
        "the replica already holds it, so the store looks older than the primary's password, or the user is switched off or deleted there"
    } else if candidate.in_use {
        "the replica already holds it, so the store looks older than the primary's password"
    } else {
        "neither what the replica holds nor what the store offers is the primary's password: the store or the primary is stale"
    };
    format!("the primary answers {name} with {}; {stale}", proof.auth)
}
