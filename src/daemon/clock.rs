//! The only clock: wall time at its start, carried on by the monotonic one, so that a step of the system's clock
//! moves no bound and no order of ours.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// How far the wall clock may run away from us before a quiet moment is used to follow it.
const DRIFT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    from: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { wall: wall(), from: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        self.wall.after(self.from.elapsed())
    }

    /// When `at` comes, for a timer.
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.from + at.since(self.wall)
    }

    /// Whether the system's clock was set, or has drifted: the daemon starts anew by it when nothing is open.
    pub fn is_off(&self) -> bool {
        let (now, wall) = (self.now(), wall());
        now.since(wall) > DRIFT || wall.since(now) > DRIFT
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
