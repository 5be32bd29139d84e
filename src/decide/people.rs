//! What people have said, and what the whole host has tried: pauses, what they leave behind, and the stop after too
//! many failures.

use std::time::Duration;

use super::{Context, Held};
use crate::model::human;
use crate::model::remedy::{RefusalCode, Remedy};

pub(super) fn paused(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let Some(pause) = &c.history.paused else { return Ok(()) };
    Err((
        RefusalCode::Paused,
        format!(
            "{} paused {} until {} ({}): relinkd watches, records and tells; `relinkd resume` ends it before",
            pause.owner, pause.scope, pause.ends, pause.reason
        ),
    ))
}

/// Nothing fires because a pause ends: what was there then has to stand on, in sight, for as long as `after_pause` and
/// the remedy's own `after` say, counted from the end of the pause. What broke later is news, and so is a person's yes.
pub(super) fn left_by_a_pause(remedy: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let Some(over) = c.history.pause_over.filter(|over| *over <= c.now) else { return Ok(()) };
    let began = c.history.fault_since.or(c.history.cause_since).unwrap_or(over);
    if began > over || c.history.approved {
        return Ok(());
    }
    let wanted = c.policy.after_pause.max(c.policy.of(remedy).after);
    let stood = c.now.since(over);
    if stood < wanted || c.evidence.began <= over {
        return Err((
            RefusalCode::TooEarly,
            format!(
                "a pause ended {} ago, and this was there before: it has to stand for {} after it",
                human(stood),
                human(wanted)
            ),
        ));
    }
    Ok(())
}

/// Too many remedies in a row have failed on this host: something is not understood, and a person has to look.
pub(super) fn agent_stopped(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let failures = &c.history.failures;
    if failures.in_a_row < c.policy.max_failures {
        return Ok(());
    }
    Err((
        RefusalCode::AttemptsExhausted,
        format!(
            "{} remedies in a row failed on this host, the last was {}; nothing more is tried on any instance here until \
             a person says `relinkd ack ID --by NAME`",
            failures.in_a_row, failures.last
        ),
    ))
}

/// All remedies of an hour, over every instance of the group on this host.
pub(super) fn group_limit(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let limit = c.policy.max_per_hour;
    let within = |run: &&super::Run| c.now.since(run.began) < Duration::from_secs(3600);
    let recent = c.history.group_runs.iter().filter(within).count();
    if recent >= limit as usize {
        return Err((
            RefusalCode::Cooldown,
            format!(
                "{recent} remedies on the group's instances here within the last hour, [policy] max_per_hour is {limit}"
            ),
        ));
    }
    Ok(())
}
