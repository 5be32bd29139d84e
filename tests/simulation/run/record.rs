//! What a host writes down and sends, and whether its record tells a new agent what the old one knew.

use std::time::Duration;

use relinkd::agent::Input;
use relinkd::model::incident::{Announcement, What};

use super::super::check::{Kept, Promise, Scene, broken};
use super::super::host::{RETRY, Waiting};
use super::super::plant::Plant;
use super::Run;

impl Run {
    /// Writes what waits, oldest first, as the runner does.
    pub(super) fn catch_up(&mut self, index: usize) -> Kept {
        let now = self.world.now;
        loop {
            let host = &mut self.hosts[index];
            let Some(Waiting { mut entries, mut notice, doubt }) = host.waiting.pop_front() else { break };
            if !host.ledger_works {
                host.waiting.push_front(Waiting { entries, notice, doubt });
                host.failure_told = true;
                host.retry_at = now.after(RETRY);
                host.feed(Input::LedgerFailed("database or disk is full".into()), now);
                return Ok(());
            }
            if self.plant == Some(Plant::LosesMessage) && self.dice.one_in(10) {
                notice = None;
            }
            for entry in &entries {
                let words = told(&entry.what);
                *self.counts.entry(words.clone()).or_default() += 1;
                self.say(|| format!("{index}: {} {words}", entry.incident));
            }
            let host = &mut self.hosts[index];
            let scene = Scene {
                policy: &host.policy,
                clock: host.clock,
                skew_us: host.skew_us,
                seen: host.seen.as_deref(),
                doubt: &doubt,
                pauses: &host.pauses,
            };
            host.record.take(&entries, notice.as_deref(), &scene)?;
            host.ledger.append(&mut entries);
            host.outbox.extend(notice.map(|notice| *notice));
        }
        if std::mem::take(&mut self.hosts[index].failure_told) {
            self.hosts[index].feed(Input::LedgerRecovered, now);
        }
        Ok(())
    }

    pub(super) fn retry(&mut self, index: usize) -> Kept {
        let now = self.world.now;
        self.hosts[index].retry_at = now.after(RETRY);
        self.catch_up(index)?;
        // The ledger is back that could not be read at the start: everything begins anew from it.
        if self.hosts[index].unread && self.hosts[index].ledger_works && self.hosts[index].at_rest() {
            self.count("began anew with the ledger");
            self.hosts[index].die(now);
        }
        Ok(())
    }

    /// The oldest message goes out, and is noted as delivered, unless the process dies between the two.
    pub(super) fn deliver(&mut self, index: usize) -> Kept {
        let now = self.world.now;
        if !self.receiver_works {
            self.hosts[index].deliver_at = now.after(Duration::from_secs(5));
            return Ok(());
        }
        let host = &mut self.hosts[index];
        let Some(notice) = host.outbox.front().cloned() else { return Ok(()) };
        host.record.receive(&notice)?;
        host.deliver_at = now.after(Duration::from_millis(20));
        self.count(format!("message {}", notice.event.name()));
        if notice.event == Announcement::Proposed {
            self.read_by_a_person(index);
        }
        if self.dies(index, 40, "between a message and its note") {
            self.hosts[index].outbox.iter_mut().take(1).for_each(|notice| Plant::rename(self.plant, notice));
        } else {
            self.hosts[index].outbox.pop_front();
        }
        Ok(())
    }

    /// Who reads a proposal answers it, more often than not.
    fn read_by_a_person(&mut self, index: usize) {
        let now = self.world.now;
        match self.dice.roll(6) {
            0..3 => self.hosts[index].answered(now, |agent, by, now| agent.approve(by, None, now)),
            3 => self.hosts[index].answered(now, |agent, by, now| agent.reject(by, now)),
            _ => {}
        }
    }

    /// The agent that lived against one that replays.
    pub(super) fn compare(&mut self, index: usize) -> Kept {
        let now = self.world.now;
        let host = &self.hosts[index];
        let own = host.clock(now);
        let Some(agent) = host.agent.as_ref().filter(|_| host.at_rest() && host.ledger_works && !host.unread) else {
            return Ok(());
        };
        // What is dated ahead of the clock counts as new at each start, and so differs from life to life.
        if host.read_ahead {
            return Ok(());
        }
        // What was approved waits for its turn, and is forgotten by whoever starts anew.
        if agent.incidents().open().is_some_and(|open| open.people.approved.is_some()) {
            return Ok(());
        }
        let (lived, other) = (agent.incidents(), host.replayed(now));
        let other = other.incidents();
        let day = Duration::from_secs(23 * 3600);
        let runs = |incidents: &relinkd::agent::Incidents| {
            let young = incidents.runs().iter().filter(|run| own.since(run.began) < day);
            young.copied().collect::<Vec<_>>()
        };
        let failovers = |incidents: &relinkd::agent::Incidents| {
            let young = incidents.failovers().iter().filter(|at| own.since(**at) < Duration::from_secs(3600));
            young.copied().collect::<Vec<_>>()
        };
        let spans = [1, 60, 600, 3_600].map(Duration::from_secs);
        let same = lived.open() == other.open()
            // What was of a closed incident falls out of the history after a day, and bears on nothing.
            && (lived.open().is_none() || lived.healed_by_us() == other.healed_by_us())
            && runs(lived) == runs(other)
            && failovers(lived) == failovers(other)
            && spans.iter().all(|span| lived.auth_trouble(own, *span) == other.auth_trouble(own, *span));
        if !same {
            return broken(Promise::Replay, format!("host {index}:\nlived  {lived:#?}\nreplayed {other:#?}"));
        }
        self.count("compared with a replay");
        Ok(())
    }
}

/// An entry in a few words.
fn told(what: &What) -> String {
    match what {
        What::Held { refusal } => format!("held {}", refusal.code),
        What::Opened { finding, .. } => format!("opened {}", finding.cause),
        What::Diagnosed { finding, .. } => format!("diagnosed {}", finding.cause),
        What::Blip { .. } => "blip".into(),
        What::FailedOver { .. } => "failed over".into(),
        What::Approved { .. } => "approved".into(),
        What::Rejected { .. } => "rejected".into(),
        What::Withdrawn { .. } => "withdrawn".into(),
        What::Acknowledged { .. } => "acknowledged".into(),
        What::Proposed { plan, .. } => format!("proposed {}", plan.remedy),
        What::Intended { plan, .. } => format!("intended {}", plan.remedy),
        What::Finished { .. } => "finished".into(),
        What::Ended { outcome, .. } => format!("ended {}", outcome.code()),
        What::Interrupted { .. } => "interrupted".into(),
        What::LinkUp { .. } => "link-up".into(),
        What::LinkDown { .. } => "link-down".into(),
        What::Escalated { .. } => "escalated".into(),
        What::Told { event } => format!("told {}", event.name()),
        What::Resolved { by } => format!("resolved {by:?}"),
    }
}
