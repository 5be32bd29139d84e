//! What comes of a failover that was asked for. A Sentinel that takes the request may still give it up, and tells nobody:
//! only the address that the Sentinels name says whether a replica was promoted.

use std::time::Duration;

use super::Agent;
use crate::model::evidence::Evidence;
use crate::model::{Timestamp, human};

/// Sentinel's own default, for one that does not tell its `failover-timeout`.
const FAILOVER_TIMEOUT_MS: u64 = 180_000;

impl Agent {
    /// Whether the Sentinels name another primary than the one that we asked them to replace.
    pub(super) fn replaced(&self, e: &Evidence) -> bool {
        let asked = self.incidents.asked().zip(e.named_primary());
        asked.is_some_and(|((of, _), (named, _))| of != named)
    }

    /// A person is called when nothing has come of the request within the time that Sentinel takes for a failover.
    pub(super) fn call_for_the_unanswered(&mut self, e: &Evidence, now: Timestamp) {
        let uncalled = self.incidents.open().is_some_and(|incident| incident.escalation.is_none());
        let Some((of, at)) = self.incidents.asked().filter(|_| uncalled) else { return };
        let told = e.answering().map(|(_, says)| says.failover_timeout_ms).max().unwrap_or(0);
        let timeout = Duration::from_millis(if told == 0 { FAILOVER_TIMEOUT_MS } else { told });
        let waited = now.since(*at);
        if e.named_primary().is_none_or(|(named, _)| named != of) || waited < timeout {
            return;
        }
        let why = format!(
            "a Sentinel took the request for a failover {} ago, and the Sentinels still name {of}: nothing came of it \
             within failover-timeout ({})",
            human(waited),
            human(timeout)
        );
        self.escalate(why, now);
    }
}
