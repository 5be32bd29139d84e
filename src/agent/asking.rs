//! What comes of a failover that was asked for. A Sentinel that takes the request may still give it up, and tells nobody:
//! only the address that the Sentinels name says whether a replica was promoted.

use std::time::Duration;

use super::Agent;
use crate::model::evidence::Evidence;
use crate::model::incident::What;
use crate::model::{Timestamp, human};

/// Sentinel's own default, for one that does not tell its `failover-timeout`.
const FAILOVER_TIMEOUT_MS: u64 = 180_000;

impl Agent {
    /// A failover that succeeds raises the epoch of the configuration, and nothing else does: that is how those are seen
    /// that others make. It is recorded, since the limit of an hour outlives this process. An epoch that rises by several is
    /// still one failover: every try takes a new one, and only that of the last becomes the configuration's (Redis 7.0.15,
    /// sentinelStartFailover and sentinelRefreshInstanceInfo).
    pub(super) fn note_failover(&mut self, e: &Evidence, now: Timestamp) {
        let told = e.answering().map(|(_, says)| (says.config_epoch, &says.primary));
        let Some((epoch, named)) = told.max_by_key(|(epoch, _)| *epoch) else { return };
        let by_most = e.answering().count() * 2 > e.sentinels_known();
        let known = self.memory.note_epoch(epoch, self.incidents.epoch(), by_most, now);
        if known.is_some_and(|known| epoch > known) && !self.unread {
            let (id, what) = (self.new_id(now), What::FailedOver { epoch, named: named.clone() });
            let entry = self.entry(id, what, now);
            self.push(entry);
            self.flush(None);
        }
    }

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
