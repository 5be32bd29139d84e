//! How an instance's login to its primary stands to the secret store: what `relinkd align` reports, and what the next
//! round would make of it.

use super::{Held, candidates};
use crate::model::evidence::{CandidateView, Evidence};
use crate::model::remedy::RefusalCode;

/// Where an instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alignment<'a> {
    /// It holds the store's newest value, and the primary takes that.
    Aligned(&'a CandidateView),
    /// The store has a value that the primary takes, and the instance holds another.
    Stale(&'a CandidateView),
    /// It cannot be made so now.
    Held(Held),
}

/// The store against the instance, with the primary as the judge. The evidence has to come from a look in which the
/// store's values were tried.
pub fn alignment(e: &Evidence) -> Alignment<'_> {
    let newest = e.candidates.first();
    if let Some(newest) = newest.filter(|newest| newest.in_use && candidates::proved(e, newest)) {
        return Alignment::Aligned(newest);
    }
    match candidates::fitting_candidate(e) {
        Err(held) => Alignment::Held(held),
        Ok(accepted) if !accepted.in_use => Alignment::Stale(accepted),
        // The last value but one works and is held: nothing is wrong with the link, and setting the newest would break
        // it. Whoever waits for the newest has to hear that it is not there.
        Ok(accepted) => Alignment::Held((
            RefusalCode::SecretRejected,
            match newest {
                Some(newest) => format!(
                    "the store is ahead of the primary: {} refuses its newest version ({}) and takes the one before, \
                     which this instance holds; let the primary accept the new password first",
                    accepted.proof.target, newest.version
                ),
                None => format!("{} offers no newest version", accepted.source),
            },
        )),
    }
}
