//! What fails may be relinkd's own way to the primary alone.

use std::time::Duration;

use super::{Witness, fact, witness};
use crate::model::evidence::Evidence;
use crate::model::finding::{Fact, Viewpoint};

/// Longer than a primary's ping period (10 s by default), and some slack.
const QUIET_S: i64 = 12;

/// The link is up, and what fails may be relinkd's own way to the primary alone: a name that only the server's container
/// knows, a firewall that lets the server's `bind-source-addr` or user through. The server has heard the primary since our
/// probe fails; or the probe has never come through from here, and the primary's next ping is not due.
pub(super) fn own_way(e: &Evidence) -> Option<Fact> {
    // Whom most Sentinels miss too is not missed by relinkd alone.
    if matches!(witness(e), Witness::Down(_) | Witness::Unanswered(_)) {
        return None;
    }
    let view = e.local.seen()?;
    let link = e.local_link().filter(|link| link.up)?;
    let silent_s = u64::try_from(link.last_io_s).ok()?;
    let heard = view.at.before(Duration::from_secs(silent_s + 1));
    let since = e.trend.unreached_seen.is_some_and(|seen| heard > seen);
    let unproved = e.trend.reached.is_none() && link.last_io_s <= QUIET_S;
    let means = match since {
        true => "the link works: it is relinkd's own way to the primary that fails, and the server's may differ",
        false => "the server may still hear it: it has been silent for no longer than between two of its pings",
    };
    (since || unproved).then(|| {
        let saw = format!("the link is up, the primary was heard {silent_s} s ago");
        fact(Viewpoint::Replica, view.at, saw, means)
    })
}
