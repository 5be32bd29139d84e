//! Plans that were dropped by what the hands read again just before the change: they cost no attempt, and what is in the
//! way may last.

use std::time::Duration;

use super::{Context, Held};
use crate::model::remedy::{RefusalCode, Remedy};
use crate::model::{Timestamp, human};

/// Only those of so late count: what was in the way may have cleared, and nobody else is there to try.
pub(super) const SPAN: Duration = Duration::from_secs(600);

/// When such plans came to their end, the last one last.
pub(super) fn dropped<'a>(c: &'a Context<'_>) -> impl Iterator<Item = &'a Timestamp> {
    c.history.idle.iter().filter(|at| c.now.since(**at) < SPAN)
}

/// A request that was dropped needs no cool-down. But what drops it may last for minutes (a disk that syncs slowly, a
/// Sentinel that is slow), and a person is called after so many: the first is made anew at once, and then ever more seldom.
pub(super) fn dropped_just_now(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    const MOST: Duration = Duration::from_secs(30);
    let Some(last) = dropped(c).last() else { return Ok(()) };
    let doublings = u32::try_from(dropped(c).count()).unwrap_or(u32::MAX).checked_sub(2);
    let rest = doublings.map_or(Duration::ZERO, |twice| Duration::from_secs(2_u64.saturating_pow(twice)).min(MOST));
    let age = c.now.since(*last);
    if age >= rest {
        return Ok(());
    }
    let (age, rest) = (human(age), human(rest));
    let detail =
        format!("a plan was dropped {age} ago by what was read again just before it; the next rests for {rest}");
    Err((RefusalCode::Cooldown, detail))
}
