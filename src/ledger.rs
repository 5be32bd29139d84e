//! The record: entries, outbox and retention, in one SQLite file.
//!
//! Record first, then act: when [`Ledger::record`] returns, what it was given is on the disk, the message that tells of
//! it included, so a crash can neither lose a message nor repeat an unsafe step. When it fails, nothing of it is there.
//!
//! Invariant: entries are appended, and leave only through [`Ledger::prune`], a whole incident at a time, never one that
//! is open or has a message still to deliver.
//!
//! Not here: what an entry means (`model::incident` folds them), when to send and how often to retry (`notify`). All
//! calls block on the disk: the daemon makes them from a blocking task.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::model::incident::{Entry, Notice, What};

mod error;
mod outbox;
mod pauses;
mod read;
mod retention;
mod rotations;
mod schema;

pub use error::LedgerError;
pub use outbox::Delivery;
pub use read::Lookup;
pub use retention::{Pruned, Retention};

/// The record of one relinkd, in one file. One daemon writes it; any number of processes read it meanwhile.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    retention: Retention,
    skipped: RefCell<Skipped>,
}

/// Rows that reading has passed over so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Entries of a kind that only a newer relinkd knows, by row id.
    pub unknown: BTreeSet<i64>,
    /// Entries and messages that cannot be read, by table and row id.
    pub unreadable: BTreeSet<(&'static str, i64)>,
}

impl Ledger {
    /// Opens the ledger for writing, and makes it where there is none.
    pub fn open(path: &Path, retention: Retention) -> Result<Ledger, LedgerError> {
        let connection = schema::open(path)?;
        Ok(Ledger { connection, path: path.to_owned(), retention, skipped: RefCell::default() })
    }

    /// Opens the ledger for reading, whether the daemon runs or not. Every write through it fails as `ReadOnly`.
    pub fn open_read_only(path: &Path) -> Result<Ledger, LedgerError> {
        let connection = schema::open_read_only(path)?;
        let retention = Retention { max_age: Duration::MAX, max_bytes: u64::MAX };
        Ok(Ledger { connection, path: path.to_owned(), retention, skipped: RefCell::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends entries and, with them, a message for each channel: all or nothing, durable when it returns.
    pub fn record(&mut self, entries: &[Entry], tell: Option<&Notice>, channels: &[String]) -> Result<(), LedgerError> {
        self.write(|transaction| {
            for entry in entries {
                append(transaction, entry)?;
            }
            match tell {
                Some(notice) if !channels.is_empty() => outbox::put(transaction, notice, channels),
                _ => Ok(()),
            }
        })
    }

    /// Proves that a commit succeeds now, by making one.
    pub fn check_writable(&mut self) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute("UPDATE write_check SET count = count + 1", [])?;
            Ok(())
        })
    }

    /// What reading has passed over since this ledger was opened.
    pub fn skipped(&self) -> Skipped {
        self.skipped.borrow().clone()
    }

    /// Takes the write lock at once, so that a lock held elsewhere shows before any work is done.
    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run(&mut self.connection).map_err(|error| LedgerError::of(&self.path, error))
    }

    fn sorted(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::of(&self.path, error)
    }

    fn skip_unreadable(&self, table: &'static str, row: i64, why: &str) {
        if self.skipped.borrow_mut().unreadable.insert((table, row)) {
            tracing::warn!(ledger = %self.path.display(), table, row, why, "a row of the ledger cannot be read and is skipped");
        }
    }
}

fn append(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    transaction
        .prepare("INSERT INTO entry (at, replica, grp, incident, kind, body) VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![
            entry.at.0,
            entry.link.replica,
            entry.link.group,
            entry.incident.0,
            read::kind(&entry.what),
            json(&entry.what)?
        ])?;
    // The end of an incident is final: a message told after it does not open it again.
    transaction
        .prepare(
            "INSERT INTO incident (id, replica, opened_at, touched_at, open) VALUES (?1, ?2, ?3, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET touched_at = max(touched_at, ?3), open = min(open, ?4)",
        )?
        .execute(params![
            entry.incident.0,
            entry.link.replica,
            entry.at.0,
            !matches!(entry.what, What::Resolved { .. } | What::Blip { .. } | What::FailedOver { .. })
        ])?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
