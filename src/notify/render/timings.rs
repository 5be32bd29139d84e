//! Where the time went, in stages that follow each other.

use std::time::Duration;

use serde::Serialize;

use crate::model::incident::Incident;
use crate::model::remedy::{Action, Change};

/// Milliseconds, none where the stage has not been seen. What took any time at all counts as 1 at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// From the break to the look that found it.
    pub detect: Option<u64>,
    /// The look, and the verdict on it.
    pub diagnose: Option<u64>,
    /// From the verdict to the recorded intent, with every wait that the policy asks for.
    pub decide: Option<u64>,
    /// The changes themselves, over all attempts.
    pub act: Option<u64>,
    /// What was left until the link was seen up.
    pub verify: Option<u64>,
    /// From the break until the link was seen up.
    pub total: Option<u64>,
}

impl Timings {
    pub fn of(incident: &Incident) -> Timings {
        let diagnose = Duration::from_micros(incident.diagnose_us.saturating_add(incident.look_us));
        // A fault found before it broke the link has no break to count from.
        if incident.up_at.is_some_and(|up| up <= incident.opened_at) {
            return Timings { diagnose: millis(diagnose), ..Timings::default() };
        }
        let detect = incident.opened_at.since(incident.down_at).saturating_sub(diagnose);
        let decide = incident.intended_at.map(|at| at.since(incident.opened_at));
        let act = incident.acted_at.and(decide).map(|_| incident.actions.iter().filter_map(change).sum::<Duration>());
        let total = incident.up_at.map(|up| up.since(incident.down_at));
        let verify = match (total, decide, act) {
            (Some(total), Some(decide), Some(act)) => Some(total.saturating_sub(detect + diagnose + decide + act)),
            _ => None,
        };
        Timings {
            detect: millis(detect),
            diagnose: millis(diagnose),
            decide: decide.and_then(millis),
            act: act.and_then(millis),
            verify: verify.and_then(millis),
            total: total.and_then(millis),
        }
    }
}

/// How long a change took; none for the steps that wait for the link, or come after it.
fn change(action: &Action) -> Option<Duration> {
    let after = [Change::ProveLink, Change::Persist].iter().any(|change| change.describe() == action.what);
    (!after).then(|| Duration::from_micros(action.took_us))
}

/// Rounded, and never to nothing.
pub(super) fn millis(span: Duration) -> Option<u64> {
    let us = span.as_micros();
    let ms = if us == 0 { 0 } else { us.saturating_add(500).div_euclid(1_000).max(1) };
    u64::try_from(ms).ok()
}
