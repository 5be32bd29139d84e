//! When to try again, and when to stop: pure.
//!
//! - What time may mend (no connection, 5xx, 408, 425, 429) is tried for about a day: after 1 s, doubling up to ten
//!   minutes, [`ATTEMPTS`] times in all; or when the receiver says (`Retry-After`), up to an hour.
//! - What the receiver rejects (any other 4xx, a redirect) is tried three times over some ten minutes, since someone may
//!   be putting the URL right, and is then given up, so that later messages get their turn.

use std::time::Duration;

use super::Verdict;
use crate::model::Timestamp;

/// Some 24 hours of back-off.
const ATTEMPTS: u32 = 150;

/// The waits after a first and a second rejection.
const REJECTED: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(600)];

const LONGEST: Duration = Duration::from_secs(600);

/// What to do about a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    /// Postpone until then.
    At(Timestamp),
    /// Give this message up.
    GiveUp,
    /// Disable the channel, and say so loudly.
    Disable,
}

/// What a verdict means for a delivery that has now been tried `attempts` times, this one included. `jitter` is any
/// random number.
pub fn schedule(attempts: u32, verdict: &Verdict, now: Timestamp, jitter: u64) -> Next {
    match verdict {
        Verdict::Delivered => Next::Done,
        Verdict::Disabled(_) => Next::Disable,
        Verdict::Retry { .. } if attempts >= ATTEMPTS => Next::GiveUp,
        Verdict::Retry { after: Some(wait), .. } => Next::At(now.after((*wait).max(backoff(1, jitter)))),
        Verdict::Retry { after: None, .. } => Next::At(now.after(backoff(attempts, jitter))),
        Verdict::Rejected(_) => match REJECTED.get(usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX)) {
            Some(wait) => Next::At(now.after(*wait)),
            None => Next::GiveUp,
        },
    }
}

/// The wait after `attempts` tries: one second, doubling up to ten minutes, and up to a quarter less by `jitter`, so
/// that a hundred hosts do not come back in step.
pub fn backoff(attempts: u32, jitter: u64) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1)));
    let whole = doubled.min(LONGEST);
    let quarter = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX) / 4;
    whole - Duration::from_micros(jitter % (quarter + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn wait(attempts: u32, verdict: &Verdict) -> Option<u64> {
        match schedule(attempts, verdict, NOW, 0) {
            Next::At(at) => Some(at.since(NOW).as_secs()),
            _ => None,
        }
    }

    #[test]
    fn back_off_doubles_up_to_ten_minutes() {
        let seconds: Vec<u64> = (0..14).map(|attempts| backoff(attempts, 0).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        assert_eq!(backoff(u32::MAX, 0), LONGEST);
    }

    #[test]
    fn jitter_takes_away_a_quarter_at_most() {
        for jitter in [0, 1, 12_345, 250_000, 250_001, u64::MAX] {
            for attempts in [1, 5, 60] {
                let (whole, waited) = (backoff(attempts, 0), backoff(attempts, jitter));
                assert!(waited <= whole && waited >= whole * 3 / 4, "{attempts} {jitter}: {waited:?}");
            }
        }
        assert_ne!(backoff(5, 1_000_000), backoff(5, 2_000_000));
    }

    #[test]
    fn a_receiver_that_is_away_is_tried_for_about_a_day() {
        let away = Verdict::Retry { after: None, why: "connection refused".to_owned() };
        let hours = (1..ATTEMPTS).filter_map(|attempts| wait(attempts, &away)).sum::<u64>() / 3600;
        assert!((22..=26).contains(&hours), "{hours} h");
        assert_eq!(schedule(ATTEMPTS, &away, NOW, 0), Next::GiveUp);
    }

    #[test]
    fn the_receivers_own_wait_is_kept() {
        let busy = |seconds| Verdict::Retry { after: Some(Duration::from_secs(seconds)), why: "429".to_owned() };
        assert_eq!(wait(1, &busy(30)), Some(30));
        assert_eq!(wait(9, &busy(30)), Some(30));
        assert_eq!(wait(9, &busy(0)), Some(1), "at once would be a hot loop");
    }

    #[test]
    fn a_rejected_message_is_given_up_at_the_third_attempt() {
        let rejected = Verdict::Rejected("404".to_owned());
        assert_eq!([1, 2].map(|attempts| wait(attempts, &rejected)), [Some(60), Some(600)]);
        assert_eq!(schedule(3, &rejected, NOW, 0), Next::GiveUp);
    }

    #[test]
    fn delivered_and_gone_end_it() {
        assert_eq!(schedule(1, &Verdict::Delivered, NOW, 0), Next::Done);
        assert_eq!(schedule(1, &Verdict::Disabled("410".to_owned()), NOW, 0), Next::Disable);
    }
}
