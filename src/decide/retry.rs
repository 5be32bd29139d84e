//! `request-failover` beside Sentinel's own next try. A forced failover asks for no vote, and a try of its own starts with
//! the next epoch of whoever starts it: two that do not know of each other may promote two replicas, and with one epoch
//! (Redis 7.0.15 and Valkey 8.0.1, sentinelStartFailover). Then neither configuration overrides the other
//! (sentinelProcessHelloMessage), and each Sentinel demotes the other's primary. So Sentinel's try is kept away from like
//! the turn of another agent: `tests/model/retry.rs` plays it through.

use std::time::Duration;

use super::failover::FRESH_MS;
use super::{Context, Held};
use crate::model::Timestamp;
use crate::model::evidence::SentinelSays;
use crate::model::human;
use crate::model::remedy::{RefusalCode, Remedy};
use crate::model::turn::{DESYNC_MS, ELECTION_MS, PROMOTION_MS, SIGHT_MS};

/// From the look that leads to a request until everybody can see what came of it.
const BEFORE: Duration = Duration::from_millis(FRESH_MS + PROMOTION_MS + SIGHT_MS);
/// From a try until everybody can see what came of that.
const AFTER: Duration = Duration::from_millis(ELECTION_MS + PROMOTION_MS + SIGHT_MS);
/// By so much more is each further try late that nobody saw.
const DESYNC: Duration = Duration::from_millis(DESYNC_MS);
/// What that may add up to; nobody has missed so many.
const LATEST: Duration = Duration::from_millis(5 * DESYNC_MS);

/// Within this a Sentinel that hears the others has their word, and tries: it asks each of them every second
/// (Redis 7.0.15, SENTINEL_ASK_PERIOD).
const AGREED: Duration = Duration::from_secs(15);

const BESIDE: &str = "a request beside that could promote a second replica";

/// Between these two a try began, or its first one has to.
pub type Span = (Timestamp, Timestamp);

/// Each try that is known adds a moment and what follows from it, and takes none away: whoever did not vote for it goes on
/// by an earlier one, and who voted waits as long as who was voted for (sentinelVoteLeader). Only a Sentinel that was heard
/// all the while does not go by a try any more that is over for two periods: what followed from it is known as well.
pub fn sentinels_own_try(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    for (sentinel, says) in c.evidence.of_the_named() {
        let period = Duration::from_millis(says.failover_timeout_ms.saturating_mul(2));
        if let Some(alone) = alone(says, period, c) {
            let when = format!("has held the primary down for {} by itself, and tries when others agree", human(alone));
            return Err((RefusalCode::SentinelActing, format!("Sentinel {sentinel} {when}: {BESIDE}")));
        }
        let Some(first) = first_try(says) else { continue };
        let since = c.evidence.trend.heard_since.get(&sentinel.to_string());
        let followed = |(from, to): &Span| {
            c.now.since(*to) >= period.saturating_mul(2) && since.is_some_and(|since| *since < from.after(period))
        };
        let counts = |base: &Span| base.1.after(period) > first.0 && !followed(base);
        let known = c.history.tries.iter().copied().filter(counts);
        // Whoever voted for the first try waits from then, and that was late itself.
        let first = (first, (first.0, first.1.after(DESYNC)));
        let bases = known.map(|base| (base, base)).chain([first]);
        let due = bases.flat_map(|(base, later)| [Some(base), next_after(later, period, c.now)]).flatten();
        let near = due.filter(|(from, to)| c.now.after(BEFORE) > *from && c.now <= to.after(AFTER)).min();
        if let Some((from, _)) = near {
            let when = match from.since(c.now) {
                Duration::ZERO => format!("may be trying since {}", human(c.now.since(from))),
                left => format!("tries by itself in about {}", human(left)),
            };
            return Err((RefusalCode::SentinelActing, format!("Sentinel {sentinel} {when}: {BESIDE}")));
        }
    }
    Ok(())
}

/// A Sentinel that holds the primary down by itself, and for all that is known reaches its quorum: it has not tried yet, and
/// does as soon as others agree. What it did not tell of its quorum may be well.
pub fn holds_down_alone(says: &SentinelSays) -> bool {
    let reaches = says.ckquorum.seen().is_none_or(|quorum| quorum.ok);
    says.s_down_ms.is_some() && says.o_down_ms.is_none() && reaches
}

/// For how long such a one has held the primary down, while others are about to agree. Where enough of them say the same it
/// has only just come to hear them, and asks each second; after a while they will not, whatever the reason.
fn alone(says: &SentinelSays, period: Duration, c: &Context<'_>) -> Option<Duration> {
    let down = says.s_down_ms.filter(|_| holds_down_alone(says)).map(Duration::from_millis)?;
    let enough = c.evidence.sentinels_flagging("s_down") >= usize::try_from(says.quorum).unwrap_or(usize::MAX);
    let since = c.evidence.trend.alone_since.get(&says.id);
    let agree = enough && since.is_none_or(|since| c.now.since(*since) < AGREED);
    (agree || down < period).then_some(down)
}

/// A Sentinel tries as soon as it holds the primary objectively down, unless it has done so, or has voted, within twice its
/// failover-timeout (sentinelStartFailoverIfNeeded). One that was just started has done neither. None: it is far from it.
fn first_try(says: &SentinelSays) -> Option<Span> {
    let ago = |ms: u64| says.at.before(Duration::from_millis(ms));
    let began = match (says.o_down_ms.or(says.s_down_ms), says.uptime_s) {
        (Some(down_ms), _) => ago(down_ms),
        (None, Some(uptime_s)) if uptime_s.saturating_mul(1_000) < says.down_after_ms.saturating_add(5_000) => {
            ago(uptime_s.saturating_mul(1_000)).after(Duration::from_millis(says.down_after_ms))
        }
        (None, _) => return None,
    };
    Some((began, began.after(DESYNC)))
}

/// The next of the tries that follow this one, as far as it is not over.
fn next_after((from, to): Span, period: Duration, now: Timestamp) -> Option<Span> {
    let passed = u32::try_from(now.since(to).as_micros().checked_div(period.as_micros())?).ok()?;
    let span = |count: u32| {
        let drift = DESYNC.saturating_mul(count).min(LATEST);
        let past = period.saturating_mul(count);
        (from.after(past), to.after(past).after(drift))
    };
    (passed.max(1)..).take(2).map(span).find(|(_, to)| now <= to.after(AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_millis(i64::try_from(s * 1_000).unwrap())
    }

    #[test]
    fn tries_follow_each_other_ever_less_surely() {
        let (base, period) = ((at(100), at(101)), Duration::from_secs(60));
        let due = |now: u64| next_after(base, period, at(now)).map(|(from, to)| (from, to.since(from).as_millis()));
        assert_eq!(due(102), Some((at(160), 2_100)));
        assert_eq!(due(165), Some((at(160), 2_100)), "it may run yet");
        assert_eq!(due(171), Some((at(220), 3_200)));
        assert_eq!(due(100 + 60 * 50 + 20), Some((at(100 + 60 * 51), 6_500)));
        assert_eq!(next_after(base, Duration::ZERO, at(102)), None, "the Sentinel does not tell its timeout");
    }
}
