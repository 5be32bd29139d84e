//! What fails may be relinkd's own way to the primary alone.

use std::time::Duration;

use super::{Witness, fact, witness};
use crate::model::evidence::{Connect, Evidence};
use crate::model::finding::{Fact, Viewpoint};

/// Slack beyond a primary's ping period.
const SLACK_S: u64 = 2;

/// The period where the primary never told it (`repl-ping-replica-period`), and the least that is believed.
const PING_S: u64 = 10;

/// For so long has a way that once was open to be closed to every probe: no burst of loss lasts through so many.
const CHANGED: Duration = Duration::from_secs(60);

/// The link is up, and what fails may be relinkd's own way to the primary alone: a name that only the server's container
/// knows, a firewall that lets the server's `bind-source-addr` or user through. The server has heard the primary since our
/// probe fails; or the probe has never come through from here, and the primary's next ping is not due. A ping that is overdue
/// ends both: packets of old arrive for a moment after a cut of the way back. And a way that probes came through before and
/// that is closed to all of them since is no peculiarity of ours: the server's next connection meets the same, though the
/// one it has goes on.
pub(super) fn own_way(e: &Evidence) -> Option<Fact> {
    // Whom most Sentinels miss too is not missed by relinkd alone.
    if matches!(witness(e), Witness::Down(_) | Witness::Unanswered(_)) {
        return None;
    }
    let view = e.local.seen()?;
    let link = e.local_link().filter(|link| link.up)?;
    let silent_s = u64::try_from(link.last_io_s).ok()?;
    let heard = view.at.before(Duration::from_secs(silent_s + 1));
    // Where our own way is closed nothing is read of the primary now.
    let period = e.primary_limits.seen().map(|limits| limits.ping_period_s).or(e.trend.ping_period_s);
    let period = period.map_or(PING_S, |period| period.max(PING_S));
    if silent_s > period.saturating_add(SLACK_S) || has_closed(e) {
        return None;
    }
    let since = e.trend.unreached_seen.is_some_and(|seen| heard > seen);
    let unproved = e.trend.reached.is_none();
    let means = match since {
        true => "the link works: it is relinkd's own way to the primary that fails, and the server's may differ",
        false => "the server may still hear it: it has been silent for no longer than between two of its pings",
    };
    (since || unproved).then(|| {
        let saw = format!("the link is up, the primary was heard {silent_s} s ago");
        fact(Viewpoint::Replica, view.at, saw, means)
    })
}

/// Probes came through before, and none has for long. Whether it is the way or the primary, the link that goes on does not
/// tell by itself: a name that is gone, or most Sentinels, who see the primary alive.
fn has_closed(e: &Evidence) -> bool {
    let nameless = e.upstream.seen().is_some_and(|probe| matches!(probe.connect, Connect::NameUnresolved(_)));
    let stood = e.trend.unreached_seen.is_some_and(|seen| e.ended.since(seen) >= CHANGED);
    e.trend.reached.is_some() && stood && (nameless || matches!(witness(e), Witness::Alive(_)))
}
