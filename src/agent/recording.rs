//! What is written down: entries of the open incident, gathered until they are handed out together.

use super::{Agent, Effect};
use crate::model::Timestamp;
use crate::model::incident::{Entry, IncidentId, Notice, What};

impl Agent {
    /// An entry of the open incident.
    pub(super) fn record(&mut self, what: What, now: Timestamp) {
        let Some(id) = self.incidents.open().map(|incident| incident.id.clone()) else { return };
        let entry = self.entry(id, what, now);
        self.push(entry);
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.incidents.take(&entry);
        self.batch.push(entry);
    }

    pub(super) fn entry(&self, incident: IncidentId, what: What, now: Timestamp) -> Entry {
        Entry { at: now, link: self.identity.link.clone(), incident, what }
    }

    pub(super) fn flush(&mut self, notice: Option<Box<Notice>>) {
        if !self.batch.is_empty() || notice.is_some() {
            let entries = std::mem::take(&mut self.batch);
            self.effects.push_back(Effect::Record { entries, notice });
        }
    }

    /// A ULID: 48 bits of milliseconds, then bits that come out of the seed.
    pub(super) fn new_id(&mut self, now: Timestamp) -> IncidentId {
        self.ids_made += 1;
        let mix = |n: u64| {
            let mut z = self.identity.seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let random = (u128::from(mix(self.ids_made * 2)) << 64) | u128::from(mix(self.ids_made * 2 + 1));
        IncidentId::from_parts(now, random)
    }
}
