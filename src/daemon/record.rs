//! The ledger as the daemon holds it: shared, reopened when it comes back, never written on the loop's own thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::LEDGER;
use super::metrics::Metrics;
use crate::config::Settings;
use crate::ledger::{Ledger, LedgerError, Retention};
use crate::model::incident::{Entry, Notice};

pub struct Record {
    path: PathBuf,
    retention: Retention,
    /// None while it cannot be opened.
    ledger: Mutex<Option<Ledger>>,
    /// Counts what has become durable.
    metrics: Option<Arc<Metrics>>,
    /// Every channel that gets a copy of each message.
    channels: Vec<String>,
    /// Rung when a message was put in the outbox.
    pub posted: Notify,
}

impl Record {
    pub fn of(settings: &Settings) -> Arc<Record> {
        Arc::new(Record::with_metrics(settings, None))
    }

    /// The daemon's own: what is recorded is counted.
    pub fn counted(settings: &Settings, metrics: Arc<Metrics>) -> Arc<Record> {
        Arc::new(Record::with_metrics(settings, Some(metrics)))
    }

    fn with_metrics(settings: &Settings, metrics: Option<Arc<Metrics>>) -> Record {
        let agent = &settings.agent;
        Record {
            metrics,
            path: agent.state_dir.join(LEDGER),
            retention: Retention { max_age: agent.ledger_retain, max_bytes: agent.ledger_max_size_bytes },
            ledger: Mutex::new(None),
            channels: settings.channels.keys().cloned().collect(),
            posted: Notify::new(),
        }
    }

    /// Makes these durable. Blocks: the caller gives it a thread of its own.
    pub fn write(&self, entries: &[Entry], notice: Option<&Notice>) -> Result<(), LedgerError> {
        self.with(|ledger| ledger.record(entries, notice, &self.channels))?;
        if let Some(metrics) = &self.metrics {
            metrics.count(entries);
        }
        if notice.is_some() {
            self.posted.notify_waiters();
        }
        Ok(())
    }

    /// What was recorded before this life of the daemon: known, and not counted.
    pub fn know(&self, entries: &[Entry]) {
        if let Some(metrics) = &self.metrics {
            metrics.know(entries);
        }
    }

    /// Uses the ledger, opening it first where that is needed. After an error that may mean a lost file the next use
    /// opens it anew.
    pub fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut held = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = match held.as_mut() {
            Some(ledger) => ledger,
            None => held.insert(Ledger::open(&self.path, self.retention)?),
        };
        let done = work(ledger);
        if done.is_err() {
            *held = None;
        }
        done
    }

    /// [`Record::with`] on a thread that may block.
    pub async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Record) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, String> {
        let record = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&record)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("the ledger's thread ended unexpectedly".to_owned()),
        }
    }
}
