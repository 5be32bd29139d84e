//! What goes into the record, and the messages that go with it. Every entry is folded into [`super::Incidents`] in the
//! moment in which it is handed out, so that the agent that lives and the one that replays know the same.

use std::time::Duration;

use super::{Agent, Effect, telling};
use crate::decide::LedgerHealth;
use crate::model::Timestamp;
use crate::model::finding::{Cause, Finding};
use crate::model::incident::{Announcement, Entry, Incident, IncidentId, Notice, What};
use crate::model::remedy::{Refusal, RefusalCode};

impl Agent {
    /// What broke the link stays the name of its incident while the link heals through a state that passes by itself. A
    /// failover is none on the way back: it is what becomes of the group.
    pub(super) fn takes_over(&self, known: &Finding, cause: Cause, now: Timestamp) -> bool {
        let stood = self.memory.verdict().map_or(Duration::ZERO, |(_, since)| now.since(since));
        let lasts = !cause.passing() || cause == Cause::FailoverRunning;
        lasts || known.suspected || known.cause == Cause::Unknown || stood >= self.policy.patience
    }

    /// A standing fault opens at once, a suspicion when it outlasts a blip, a passing state when it outlasts patience.
    pub(super) fn opens(&self, finding: &Finding, now: Timestamp) -> bool {
        if self.unread {
            return false;
        }
        if finding.cause.passing() {
            return self.passing_since.is_some_and(|since| now.since(since) >= self.policy.patience);
        }
        // What is suspected behind a link that is up hurts nobody yet: it has to stand first.
        !finding.suspected || (!finding.link_up && self.fault_age(now) >= self.policy.blip)
    }

    pub(super) fn hold(&mut self, refusal: Refusal, now: Timestamp) {
        let exhausted = refusal.code == RefusalCode::AttemptsExhausted;
        let known = self.incidents.open().and_then(|incident| incident.held.last());
        let unchanged = known.is_some_and(|last| same_reason(last, &refusal));
        if !unchanged {
            self.record(What::Held { refusal: refusal.clone() }, now);
        }
        if exhausted {
            self.escalate(refusal.detail, now);
        }
        self.tell_if_due(now);
        self.wait(now);
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
        self.ledger = LedgerHealth::Unwritable(why);
        self.unread = true;
    }

    /// Nothing is changed behind a record that failed; the plan in flight ends here.
    pub(super) fn ledger_failed(&mut self, why: String, now: Timestamp) {
        self.ledger = LedgerHealth::Unwritable(why);
        self.effects.retain(|effect| !matches!(effect, Effect::Apply { .. }));
        if let Some(flight) = self.in_flight.take() {
            self.cut_short(flight, now);
        }
        self.wait(now);
    }
}

/// `data-at-risk` has many grounds, and who has mended one has to read of the next. Figures in it may change from look to
/// look.
fn same_reason(last: &Refusal, now: &Refusal) -> bool {
    let words = |refusal: &Refusal| refusal.detail.split(|c: char| c.is_ascii_digit()).collect::<String>();
    let ground = now.code != RefusalCode::DataAtRisk || words(last) == words(now);
    last.code == now.code && last.remedy == now.remedy && ground
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::remedy::Remedy;

    #[test]
    fn another_ground_is_another_reason_and_another_figure_is_not() {
        use RefusalCode::{Cooldown, DataAtRisk};
        let (behind, further) =
            ("would be promoted at offset 7, 900 has been seen", "would be promoted at offset 7, 1200 has been seen");
        for (one, other, same) in [
            ((DataAtRisk, behind), (DataAtRisk, further), true),
            ((DataAtRisk, behind), (DataAtRisk, "it fails to save its data"), false),
            ((Cooldown, "ended 3 s ago"), (Cooldown, "ended 1 min ago"), true),
            ((Cooldown, behind), (DataAtRisk, behind), false),
        ] {
            let held = |(code, detail): (RefusalCode, &str)| Refusal {
                code,
                remedy: Some(Remedy::RequestFailover),
                detail: detail.to_owned(),
            };
            assert_eq!(same_reason(&held(one), &held(other)), same, "{one:?} {other:?}");
        }
    }
}
