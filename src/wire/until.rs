//! Until when a change may still be sent.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment up to which what was read before a change counts. It comes whether or not this process runs meanwhile
/// (SIGSTOP, a disk that stalls its one thread), and also while the host is suspended: CLOCK_BOOTTIME. A guest that its
/// hypervisor holds still knows nothing of that, on any clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(Duration);

impl Until {
    /// To be taken before the first question, not after the last answer.
    pub fn within(span: Duration) -> Until {
        Until(since_boot().saturating_add(span))
    }

    /// This moment: what counts for some time from now on is told by it.
    pub fn now() -> Until {
        Until(since_boot())
    }

    pub fn later_by(self, span: Duration) -> Until {
        Until(self.0.saturating_add(span))
    }

    pub fn earlier_by(self, span: Duration) -> Until {
        Until(self.0.saturating_sub(span))
    }

    pub fn left(self) -> Duration {
        self.0.saturating_sub(since_boot())
    }

    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
