//! What keeps the daemon in order over days: channels that are opened again, a ledger that comes back or grows, new settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Daemon, Record, courier, systemd};
use crate::config::{self, Settings};
use crate::ledger::Ledger;
use crate::notify::{Channel, ChannelSettings, LONGEST_WAIT};
use crate::secrets::Salt;

/// How often the ledger is pruned, and when for the first time: not while what broke in our absence is healed.
pub(super) const PRUNE: Duration = Duration::from_secs(3600);
pub(super) const SETTLED: Duration = Duration::from_secs(120);

impl Daemon {
    /// A channel with the courier that delivers to it. A restart, or new settings, give one another chance that its
    /// receiver had switched off, and its messages wait for no date that a former clock has set.
    pub(super) fn open_channel(&mut self, name: &str, channel: &ChannelSettings) {
        let courier = courier::Courier {
            name: name.to_owned(),
            channel: Channel::new(channel.clone()),
            record: Arc::clone(&self.record),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock,
        };
        let (record, channel, now) = (Arc::clone(&self.record), name.to_owned(), self.clock.now());
        let work = async move {
            let name = channel.clone();
            let enable = move |ledger: &mut Ledger| {
                ledger.enable_channel(&name)?;
                ledger.bring_forward(&name, now, now.after(LONGEST_WAIT))
            };
            if let Err(why) = record.on_thread(move |record| record.with(enable)).await {
                tracing::warn!(channel, "{why}");
            }
            courier.run().await;
        };
        self.background.spawn(self.alarm.over(format!("the courier of {name}"), work));
    }

    /// Whether the ledger can be used that could not be read at the start: asked beside the loop, since a disk that hangs
    /// does not answer.
    pub(super) fn ask_for_the_ledger(&mut self) {
        if self.unread && self.ledger_back.is_empty() {
            let (record, state_dir) = (Arc::clone(&self.record), self.settings.agent.state_dir.clone());
            let work = move |record: &Record| {
                let _hangs_with_its_disk = Salt::load(&state_dir);
                record.with(|ledger| ledger.check_writable())
            };
            let asked = async move { record.on_thread(work).await.is_ok() };
            self.ledger_back.spawn(asked);
        }
    }

    pub(super) fn prune(&mut self) {
        let (record, now) = (Arc::clone(&self.record), self.clock.now());
        self.background.spawn(self.alarm.over("the pruning of the ledger".to_owned(), async move {
            let mut forgotten = 0;
            // The ledger is let go of between two batches: an intent that is to be recorded does not wait for the last.
            let done = loop {
                match record.on_thread(move |record| record.with(|ledger| ledger.prune_some(now))).await {
                    Ok(pruned) => {
                        forgotten += pruned.incidents;
                        if !pruned.more {
                            break Ok(());
                        }
                    }
                    Err(why) => break Err(why),
                }
            };
            match done {
                Ok(()) if forgotten > 0 => tracing::info!("the ledger forgot {forgotten} incidents"),
                Ok(()) => {}
                Err(why) => tracing::warn!("the ledger could not be pruned: {why}"),
            }
        }));
    }
}

/// New settings, if they are good. Bad ones are told, and the old ones stay.
pub(super) fn reload(path: &Path, now: &Settings) -> Option<Settings> {
    systemd::reloading();
    let why = match config::load(path) {
        Ok(settings) if settings.agent.run_dir == now.agent.run_dir => {
            tracing::info!("configuration reloaded from {}", path.display());
            return Some(settings);
        }
        // The control socket is what keeps a second relinkd, or `relinkd heal`, from acting beside this one.
        Ok(settings) => format!(
            "[agent] run_dir is {} and the daemon runs with {}: a reload cannot change it, restart relinkd",
            settings.agent.run_dir.display(),
            now.agent.run_dir.display()
        ),
        Err(problems) => problems.to_string(),
    };
    tracing::error!("the new configuration is refused and the old one stays: {why}");
    systemd::ready("the new configuration is refused, the old one stays; see the log");
    None
}
