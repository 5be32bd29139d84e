//! Carries one channel's messages from the outbox to their receiver. Each channel has a courier of its own, so that a
//! slow one delays nobody, and never a fix.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::metrics::Metrics;
use super::record::Record;
use crate::ledger::Delivery;
use crate::model::Timestamp;
use crate::notify::{Channel, Next, Verdict, schedule};

/// How long to wait at most before the outbox is read again, whatever it said.
const IDLE: Duration = Duration::from_secs(60);

pub struct Courier {
    pub name: String,
    pub channel: Channel,
    pub record: Arc<Record>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

impl Courier {
    /// Never ends by itself.
    pub async fn run(self) {
        loop {
            // Asked for before the outbox is read, so that a message that comes meanwhile is not overlooked.
            let posted = self.record.posted.notified();
            let pause = self.deliver_what_is_due().await;
            tokio::select! {
                () = posted => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends all that is due now, and says how long nothing else will be.
    async fn deliver_what_is_due(&self) -> Duration {
        loop {
            let (now, name) = (self.clock.now(), self.name.clone());
            let due = self.record.on_thread(move |record| record.with(|ledger| ledger.due(&name, now))).await;
            let due = match due {
                Ok(due) if due.is_empty() => break,
                Ok(due) => due,
                Err(why) => {
                    tracing::warn!(channel = self.name, "the outbox cannot be read: {why}");
                    return Duration::from_secs(2);
                }
            };
            for delivery in due {
                if !self.deliver(delivery).await {
                    return Duration::from_secs(2);
                }
            }
        }
        let name = self.name.clone();
        let next = self.record.on_thread(move |record| record.with(|ledger| ledger.next_due(&name))).await;
        match next {
            Ok(Some(at)) => at.since(self.clock.now()).clamp(Duration::from_millis(20), IDLE),
            _ => IDLE,
        }
    }

    /// One attempt, and the record of what came of it. False when it could not be recorded: then it is not tried again
    /// at once, or a receiver would get the same message in a loop.
    async fn deliver(&self, delivery: Delivery) -> bool {
        let sent_at = self.clock.now();
        let verdict = self.channel.send(&delivery.sequence_key, &delivery.notice, sent_at).await;
        let now = self.clock.now();
        let next = schedule(delivery.attempts + 1, &verdict, now, jitter(now, delivery.id));
        self.tell(&delivery, &verdict, next);
        self.metrics.delivery(&self.name, outcome(next));
        let (id, name) = (delivery.id, self.name.clone());
        let why = verdict.why().unwrap_or_default().to_owned();
        let recorded = self
            .record
            .on_thread(move |record| {
                record.with(|ledger| match next {
                    Next::Done => ledger.delivered(id, now),
                    Next::At(until) => ledger.postpone(id, until, &why),
                    Next::GiveUp => ledger.give_up(id, now, &why),
                    Next::Disable => ledger.disable_channel(&name, now, &why),
                })
            })
            .await;
        if let Err(why) = &recorded {
            tracing::warn!(channel = self.name, "what came of a delivery cannot be recorded: {why}");
        }
        recorded.is_ok()
    }

    fn tell(&self, delivery: &Delivery, verdict: &Verdict, next: Next) {
        let (key, channel) = (&delivery.sequence_key, &self.name);
        let why = verdict.why().unwrap_or_default();
        match next {
            Next::Done => tracing::info!(channel, key, "message delivered"),
            Next::At(until) => tracing::warn!(channel, key, "message not delivered, again at {until}: {why}"),
            Next::GiveUp => tracing::error!(channel, key, "message given up: {why}"),
            Next::Disable => tracing::error!(
                channel,
                key,
                "the receiver says that it is gone: the channel is switched off until its settings change or relinkd restarts: {why}"
            ),
        }
    }
}

/// One of [`super::metrics::DELIVERIES`].
fn outcome(next: Next) -> &'static str {
    match next {
        Next::Done => "delivered",
        Next::At(_) => "retried",
        Next::GiveUp => "given-up",
        Next::Disable => "disabled",
    }
}

/// Spreads the retries of many hosts. Not a secret, so the clock is random enough.
fn jitter(now: Timestamp, id: i64) -> u64 {
    now.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id.unsigned_abs()
}
