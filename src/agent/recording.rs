//! What goes into the record, and the messages that go with it. Every entry is folded into [`super::Incidents`] in the
//! moment in which it is handed out, so that the agent that lives and the one that replays know the same.

use super::{Agent, Effect, lately, telling};
use crate::decide::LedgerHealth;
use crate::model::Timestamp;
use crate::model::finding::Cause;
use crate::model::incident::{Announcement, Entry, Incident, IncidentId, Notice, What};
use crate::model::remedy::{Refusal, RefusalCode};

impl Agent {
    pub(super) fn hold(&mut self, refusal: Refusal, now: Timestamp) {
        let exhausted = refusal.code == RefusalCode::AttemptsExhausted;
        let cause = self.incidents.open().map(|incident| incident.finding.cause);
        let written = self.unsteady || cause.is_some_and(|cause| self.holds_already(cause, &refusal, now));
        if !written {
            self.record(What::Held { refusal: refusal.clone() }, now);
        }
        if exhausted {
            self.escalate(refusal.detail, now);
        }
        self.tell_if_due(now);
        self.wait(now);
    }

    /// The record tells of this hold already, or has told of it so often that it has to stand first.
    fn holds_already(&mut self, cause: Cause, refusal: &Refusal, now: Timestamp) -> bool {
        let hold = lately::hold(cause, refusal);
        let since = match &self.hold_stands {
            Some((known, since)) if *known == hold => *since,
            _ => self.hold_stands.insert((hold, now)).1,
        };
        self.incidents.lately().held(cause, refusal, now.since(since), now)
    }

    pub(super) fn tell_if_due(&mut self, now: Timestamp) {
        let due = self.incidents.open().and_then(|incident| {
            let decision = self.last.decision.as_ref();
            let said = self.incidents.said();
            telling::due(incident, said, decision, self.passing_since, &self.policy, now)
                .map(|event| (event, incident.clone()))
        });
        match due {
            Some((event, incident)) => self.tell(event, incident, now),
            None => self.flush(None),
        }
    }

    /// Records that a message goes out, and hands it out in the same transaction.
    pub(super) fn tell(&mut self, event: Announcement, incident: Incident, now: Timestamp) {
        let entry = self.entry(incident.id.clone(), What::Told { event }, now);
        let mut told = incident;
        told.take(&entry);
        self.push(entry);
        let mut next_steps = Vec::new();
        if event != Announcement::Resolved {
            next_steps.extend(self.ways_to_answer(&told));
            next_steps.extend(self.last.next_steps.iter().cloned());
        }
        let notice = Notice { at: now, host: self.identity.host.clone(), event, incident: told, next_steps };
        self.flush(Some(Box::new(notice)));
    }

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

    /// What the ledger holds from before cannot be read: this agent watches and records nothing, or a second incident
    /// would begin beside one that is open there. It gives way to one that has read it.
    pub fn without_ledger(&mut self, why: String) {
        self.unread = true;
        self.without_standing(why);
    }

    /// The pauses, and what the remedies of this host have done, cannot be read: this agent records, and changes nothing,
    /// since a pause might be in force. It gives way to one that knows them.
    pub fn without_standing(&mut self, why: String) {
        self.standing_unknown = Some(why);
    }

    pub(super) fn ledger_health(&self) -> LedgerHealth {
        match &self.standing_unknown {
            Some(why) => LedgerHealth::Unwritable(why.clone()),
            None => self.ledger.clone(),
        }
    }

    /// Nothing is changed behind a record that failed; the plan in flight ends here.
    pub(super) fn ledger_failed(&mut self, why: String, now: Timestamp) {
        let news = self.ledger == LedgerHealth::Writable;
        self.ledger = LedgerHealth::Unwritable(why);
        self.effects.retain(|effect| !matches!(effect, Effect::Apply { .. }));
        let cut = self.in_flight.take();
        let at_work = cut.is_some();
        if let Some(flight) = cut {
            self.cut_short(flight, now);
        }
        // It is said again with each attempt to write, once a second: looks would be put off for ever.
        if news || at_work {
            self.wait(now);
        }
    }
}
