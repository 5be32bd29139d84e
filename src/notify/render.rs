//! A notice as others read it: JSON for programs, one sentence, plain text and Slack blocks for people. Pure.
//!
//! What broke, why, what was done, whether it is over, and what to do if it is not. Text that came from a server is
//! tamed here again, whatever happened to it before. Codes stand in the JSON; people get words.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod blocks;
mod plain;
mod report;
mod summary;
mod timings;
mod words;

pub use blocks::slack;
pub use plain::text;
pub use report::report;
pub use summary::summary;
pub use timings::Timings;

use crate::model::incident::{Incident, Notice};
use crate::model::remedy::Refusal;
use crate::model::tame;

/// Incidents whose name begins so are test messages.
pub(super) const TEST_PREFIX: &str = "TEST-";

/// Characters of one piece of server text.
const PIECE: usize = 400;

/// The most recent actions, as many as a message carries. The ledger has all of them.
const ACTIONS: usize = 20;

fn piece(text: &str) -> String {
    tame(text, PIECE)
}

fn is_test(notice: &Notice) -> bool {
    notice.incident.id.0.starts_with(TEST_PREFIX)
}

/// Each reason once for each remedy, in its latest wording, in the order of their last appearance.
fn refusals(incident: &Incident) -> Vec<&Refusal> {
    let last = |at: usize, it: &Refusal| {
        !incident.held.iter().skip(at + 1).any(|later| (later.code, later.remedy) == (it.code, it.remedy))
    };
    incident.held.iter().enumerate().filter(|(at, refusal)| last(*at, refusal)).map(|(_, refusal)| refusal).collect()
}
