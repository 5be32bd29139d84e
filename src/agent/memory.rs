//! What the agent remembers from look to look, beside the record: when the link was last up and how far it had come,
//! since when a fault has been in sight. It is lost at a restart, and every rule has to do without it.

use crate::diagnose::{failover_in_doubt, same_place};
use crate::model::Timestamp;
use crate::model::evidence::{Evidence, LogKind, ServerView, Trend};
use crate::model::finding::Cause;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    trend: Trend,
    cause: Option<(Cause, Timestamp)>,
}

impl Memory {
    /// What came before this look, for the look to carry along.
    pub fn trend(&self) -> Trend {
        self.trend.clone()
    }

    pub fn last_up(&self) -> Option<Timestamp> {
        self.trend.last_up
    }

    /// The fast poll saw the link up at this time: closer than our own last look.
    pub fn last_up_was(&mut self, polled: Option<Timestamp>) {
        self.trend.last_up = self.trend.last_up.max(polled);
    }

    pub fn down_seen(&self) -> Option<Timestamp> {
        self.trend.down_seen
    }

    /// The verdict that stands, and since when.
    pub fn verdict(&self) -> Option<(Cause, Timestamp)> {
        self.cause
    }

    /// Since when this cause has been the verdict, without another in between.
    pub fn cause_since(&mut self, cause: Cause, at: Timestamp) -> Timestamp {
        match self.cause {
            Some((known, since)) if known == cause => since,
            _ => {
                self.cause = Some((cause, at));
                at
            }
        }
    }

    /// Takes in a look before it is judged: what changes from look to look.
    pub fn before_judging(&mut self, e: &Evidence) {
        if failover_in_doubt(e).is_some() {
            self.trend.failover_seen = Some(e.ended);
        }
        let astray = e
            .local_link()
            .zip(e.named_primary())
            .is_some_and(|(link, (named, _))| !same_place(e, &link.primary, named));
        self.trend.astray_since = astray.then(|| self.trend.astray_since.unwrap_or(e.ended));
        let whole = e.local_link().is_none_or(|link| link.up);
        if whole {
            self.link_whole(e);
        } else {
            self.link_broken(e);
        }
    }

    fn link_whole(&mut self, e: &Evidence) {
        let Some(local) = e.local.seen() else {
            return;
        };
        self.trend.last_up = Some(e.ended);
        self.trend.sync_read = None;
        self.trend.transfers = 0;
        if let Some(link) = local.role.link() {
            self.note_emptied(local, e.ended);
            self.trend.offset = Some(link.offset);
            self.trend.replid = Some(local.replid.clone());
            self.trend.keys = Some(local.keys);
        }
        if let Some(primary) = e.primary.seen() {
            self.trend.sync_full = Some(primary.sync_full);
            self.trend.sync_partial_err = Some(primary.sync_partial_err);
            self.trend.output_buffer_cuts = primary.output_buffer_cuts;
        }
    }

    /// Another history, and not a key left of those that were there: the primary came back without its data. FLUSHALL
    /// keeps the history, and so does a failover, whose new primary knows the old one as its second.
    fn note_emptied(&mut self, local: &ServerView, at: Timestamp) {
        if local.keys > 0 {
            self.trend.emptied = None;
        } else if let (Some(replid), Some(keys)) = (self.trend.replid.as_deref(), self.trend.keys)
            && keys > 0
            && replid != local.replid
            && replid != local.replid2
        {
            self.trend.emptied = Some((at, keys));
        }
    }

    fn link_broken(&mut self, e: &Evidence) {
        // While the link is down, INFO still tells how far the kept (cached) link had come; a full resync drops it
        // (Redis 7.0.15, genRedisInfoString).
        if let Some(local) = e.local.seen()
            && let Some(link) = local.role.link()
            && link.offset > self.trend.offset.unwrap_or(1)
        {
            self.trend.offset = Some(link.offset);
            self.trend.replid = Some(local.replid.clone());
        }
        let seen = *self.trend.down_seen.get_or_insert(e.began);
        if let Some(primary) = e.primary.seen() {
            self.trend.output_buffer_cuts = self.trend.output_buffer_cuts.or(primary.output_buffer_cuts);
        }
        if let Some(line) = e.logged(LogKind::FullResync).filter(|line| line.last >= seen) {
            self.trend.transfers = line.count;
        }
    }

    /// After a look was judged to be a fault.
    pub fn fault_seen(&mut self, e: &Evidence) {
        self.trend.down_seen.get_or_insert(e.began);
        if let Some(link) = e.local_link().filter(|link| link.syncing) {
            self.trend.sync_read = Some((e.ended, link.sync_read));
        }
    }

    /// After a look was judged healthy, or an incident ended.
    pub fn fault_gone(&mut self) {
        self.trend.down_seen = None;
        self.cause = None;
    }
}
