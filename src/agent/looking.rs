//! When to look again: on a wake-up, when a bound of the policy is reached, and ever more seldom while a fault stands.

use std::time::Duration;

use super::{Agent, Effect};
use crate::diagnose::sync_moves;
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::Cause;
use crate::model::remedy::{Decision, RefusalCode, Remedy};

/// How often at most the log of a healthy instance makes us look at its primary too.
const DEEP: Duration = Duration::from_secs(1);

/// For so long is a fault that is not decided yet looked at each second.
const UNDECIDED: Duration = Duration::from_secs(60);

/// A link that flaps is looked at so often, to see when it does no more.
const STEADY: Duration = Duration::from_secs(5);

impl Agent {
    pub(super) fn troubled(&self) -> bool {
        self.memory.down_seen().is_some() || self.incidents.open().is_some()
    }

    pub(super) fn look(&mut self, deep: bool, now: Timestamp) {
        if self.is_looking() {
            self.look_again = true;
            self.again_deep |= deep;
        } else if self.in_flight.is_none() {
            self.ask_for_look(false, deep || self.last.at.is_none(), now);
        }
    }

    pub(super) fn ask_for_look(&mut self, candidates: bool, deep: bool, now: Timestamp) {
        if self.is_looking() {
            return;
        }
        // A password of the store that is not in use yet: tried at its time, and at each look while it is the trouble.
        let latent = self.incidents.open().is_some_and(|open| open.finding.cause == Cause::AuthLatent)
            || self.last.fault == Some((Cause::AuthLatent, true));
        let differs = self.identity.has_store && self.store_differs();
        let owed = self.owes_a_trial() && self.identity.has_store;
        let candidates = candidates || owed || (differs && (latent || self.proof_is_due(now)));
        if candidates {
            self.note_trial(now);
        }
        // What the store offers is judged beside what is in use.
        let deep = deep || candidates;
        self.looking = Some(now);
        self.look_again = false;
        if deep {
            self.last_deep = Some(now);
            self.owes_deep = false;
        }
        self.again_deep = false;
        self.next_look = now.after(self.policy.background);
        self.proving = candidates;
        // A fault that was seen through a link that is up shows only when the handshake is repeated.
        self.deep = deep || self.latent;
        self.effects.push_back(Effect::Look { candidates, deep: self.deep });
    }

    /// Whoever asks wants to know of the store too, and may have written to it a moment ago.
    pub(super) fn look_for_someone(&mut self, now: Timestamp) {
        if self.identity.has_store && self.is_idle() {
            return self.ask_for_look(true, true, now);
        }
        self.look(true, now);
    }

    /// Neither a look nor a step is under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_looking() && self.in_flight.is_none()
    }

    /// A look that something outside asks for, in depth as soon as that is due.
    pub(super) fn look_deep_when_due(&mut self, now: Timestamp) {
        let due = self.deep_is_due(now);
        self.owes_deep |= !due;
        self.look(due, now);
    }

    /// After a healthy look: again at `next`, or in depth when the last wake-up came too early for that.
    pub(super) fn rest(&mut self, next: Timestamp, now: Timestamp) {
        let owed = std::mem::take(&mut self.owes_deep).then_some(self.last_deep).flatten();
        self.next_look = owed.map_or(next, |last| next.min(last.after(DEEP).max(now)));
    }

    /// When a quiet instance is looked at next: a background period from now at the latest, at a moment of the period that
    /// is its own. Instances that start together would look together for ever, each at its primary and at every Sentinel.
    pub(super) fn background(&self, now: Timestamp) -> Timestamp {
        let latest = now.after(self.policy.background);
        let period = u64::try_from(self.policy.background.as_micros()).unwrap_or(u64::MAX).max(1);
        let past = (latest.0.unsigned_abs() % period + period - self.phase() % period) % period;
        latest.before(Duration::from_micros(past))
    }

    /// The same over restarts, and another for each replica of each host. FNV-1a.
    fn phase(&self) -> u64 {
        let name = self.identity.host.bytes().chain([0]).chain(self.identity.link.replica.bytes());
        name.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Each deep look opens a connection to the primary: a chatty log must not make that a habit.
    fn deep_is_due(&self, now: Timestamp) -> bool {
        self.last_deep.is_none_or(|last| now.since(last) >= DEEP)
    }

    /// When to look again while something is wrong: often at first, then ever more seldom, and exactly when a bound
    /// of the contract or of the policy is reached.
    pub(super) fn wait(&mut self, now: Timestamp) {
        // A link that flaps is whole most of the time, and each drop that is felt wakes by itself.
        if self.flaps && self.memory.down_seen().is_none() {
            self.next_look = now.after(STEADY.min(self.policy.background));
            return;
        }
        let age = self.fault_age(now);
        // A replica that waits for its SYN to be answered does not notice the end of a cut for up to a minute: we do.
        let awaited = matches!(self.memory.verdict(), Some((Cause::NetworkCut | Cause::PrimaryUnreachable, _)));
        // What is suspected, or still comes in, is decided soon.
        let undecided = self.last.fault.is_some_and(|(cause, suspected)| suspected || cause == Cause::SyncRunning);
        let held = self.last.decision.as_ref().and_then(Decision::held_remedy);
        // The moments in which a failover may be asked for are short.
        let often = awaited || (undecided && age < UNDECIDED) || self.our_turn.is_some() || self.lacks_a_sight();
        let most = Duration::from_secs(match often {
            true => 1,
            // An order of promotion counts from when it is watched closely: the first turn is not to be slept through.
            false if self.waits_for_sentinel() => 2,
            false => 5,
        });
        let mut next = now.after((age / 4).clamp(Duration::from_millis(100), most));
        let bounds = [
            held.zip(self.memory.verdict()).map(|(remedy, (_, since))| since.after(self.policy.of(remedy).after)),
            self.memory.down_seen().map(|seen| seen.after(self.policy.blip)),
            self.memory.last_up().map(|up| up.after(self.policy.blip)),
            self.passing_since.map(|since| since.after(self.policy.patience)),
            self.our_turn,
            self.paused(now).map(|pause| pause.over()),
            self.pause_over(now).map(|over| over.after(self.policy.after_pause)),
            self.incidents.open().and_then(|incident| incident.people.expires),
        ];
        for bound in bounds.into_iter().flatten().filter(|bound| *bound > now) {
            next = next.min(bound);
        }
        // Each try of a password that is refused leaves a line in the primary's ACL LOG.
        if self.latent && self.memory.verdict().is_some_and(|(cause, _)| cause == Cause::AuthLatent) {
            // One that is only suspected was refused by nobody: the primary takes both.
            let suspected = self.last.fault.is_some_and(|(_, suspected)| suspected);
            next = now.after(if suspected { most } else { self.policy.background });
        }
        self.next_look = next;
    }

    /// A failover waits for nothing but what the next look may show.
    fn lacks_a_sight(&self) -> bool {
        self.failover_held_for(&[RefusalCode::EvidenceMissing, RefusalCode::EvidenceStale])
    }

    /// Sentinel has its time first.
    fn waits_for_sentinel(&self) -> bool {
        self.failover_held_for(&[RefusalCode::SentinelActing])
    }

    fn failover_held_for(&self, codes: &[RefusalCode]) -> bool {
        matches!(&self.last.decision, Some(Decision::Hold(refusal))
            if refusal.remedy == Some(Remedy::RequestFailover) && codes.contains(&refusal.code))
    }

    /// A sync that makes progress begins its patience anew each time.
    pub(super) fn note_progress(&mut self, cause: Cause, e: &Evidence, now: Timestamp) {
        let stood = self.memory.verdict().filter(|(known, _)| *known == cause).map(|(_, since)| now.since(since));
        let a_try =
            cause == Cause::SyncRunning && !sync_moves(e) && stood.is_none_or(|stood| stood < self.policy.patience);
        if cause != Cause::Unknown && !a_try {
            self.unnamed_since = None;
        }
        if !cause.passing() {
            self.passing_since = None;
            return;
        }
        if (cause == Cause::SyncRunning && sync_moves(e)) || self.passing_since.is_none() {
            self.passing_since = Some(now);
        }
    }

    pub(super) fn fault_age(&self, now: Timestamp) -> Duration {
        self.memory.down_seen().map_or(Duration::ZERO, |seen| now.since(seen))
    }
}
