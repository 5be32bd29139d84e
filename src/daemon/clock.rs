//! The only clock: wall time at its start, carried on by one that nobody sets, so that a step of the system's clock moves
//! no bound and no order of ours. It goes on while the host is suspended: what was seen before is old afterwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// How far the wall clock may run away from us before a quiet moment is used to follow it.
const DRIFT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    /// Since boot.
    from: Duration,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { wall: wall(), from: since_boot() }
    }

    pub fn now(&self) -> Timestamp {
        self.wall.after(since_boot().saturating_sub(self.from))
    }

    /// When `at` comes, for a timer. A timer stands still with the host: who waits for one looks here when it wakes.
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }

    /// Whether the system's clock was set, or has drifted: the daemon starts anew by it when nothing is open.
    pub fn is_off(&self) -> bool {
        let (now, wall) = (self.now(), wall());
        now.since(wall) > DRIFT || wall.since(now) > DRIFT
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
