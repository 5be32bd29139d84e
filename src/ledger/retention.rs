//! What leaves the record: whole incidents, oldest first, by age and by size.

use std::time::Duration;

use rusqlite::{Transaction, params};

use super::{Ledger, LedgerError};
use crate::model::Timestamp;

/// How long and how much to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A closed incident goes this long after its last entry.
    pub max_age: Duration,
    /// Closed incidents go, oldest first, until the file is within this.
    pub max_bytes: u64,
}

/// What [`Ledger::prune`] has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub incidents: u64,
    pub bytes: u64,
    /// There may be more to remove.
    pub more: bool,
}

/// How many incidents go in one transaction, so that a commit of the agent's never waits long behind it.
const BATCH: u32 = 16;

/// An incident that may go: closed, and with no message still to deliver.
const MAY_GO: &str = "NOT i.open AND NOT EXISTS (
    SELECT 1 FROM notice n JOIN delivery d ON d.notice = n.id WHERE n.incident = i.id AND d.state = 'waiting')";

impl Ledger {
    /// Removes what is too old, then what is too much, and gives the space back to the file system. Open incidents and
    /// undelivered messages stay, whatever their age and size.
    pub fn prune(&mut self, now: Timestamp) -> Result<Pruned, LedgerError> {
        let mut all = Pruned { more: true, ..Pruned::default() };
        while all.more {
            let some = self.prune_some(now)?;
            all = Pruned { incidents: all.incidents + some.incidents, bytes: all.bytes + some.bytes, more: some.more };
        }
        Ok(all)
    }

    /// A part of [`Ledger::prune`], short enough for a commit of the agent's to wait behind it.
    pub fn prune_some(&mut self, now: Timestamp) -> Result<Pruned, LedgerError> {
        let before = self.used_bytes()?;
        let limit = now.before(self.retention.max_age);
        self.write(|transaction| {
            transaction.execute("DELETE FROM rotation WHERE ended_at < ?1", params![limit.0]).map(|_| ())
        })?;
        self.write(|transaction| transaction.execute("DELETE FROM pause WHERE over < ?1", params![limit.0]))?;
        let mut incidents = self.remove(&format!("AND i.touched_at < {}", limit.0))?;
        if incidents == 0 && self.used_bytes()? > self.retention.max_bytes {
            incidents = self.remove("")?;
        }
        if incidents > 0 {
            self.shrink()?;
        }
        Ok(Pruned { incidents, bytes: before.saturating_sub(self.used_bytes()?), more: incidents > 0 })
    }

    /// The pages that hold something, in bytes.
    pub fn used_bytes(&self) -> Result<u64, LedgerError> {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let read = || {
            let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
            Ok(u64::try_from(pages * number("PRAGMA page_size")?).unwrap_or(0))
        };
        read().map_err(|error| self.sorted(error))
    }

    fn remove(&mut self, filter: &str) -> Result<u64, LedgerError> {
        self.write(|transaction| {
            let ids = {
                let mut statement = transaction.prepare(&format!(
                    "SELECT i.id FROM incident i WHERE {MAY_GO} {filter} ORDER BY i.opened_at, i.id LIMIT {BATCH}"
                ))?;
                let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()?
            };
            for id in &ids {
                forget(transaction, id)?;
            }
            Ok(ids.len() as u64)
        })
    }

    /// The free pages go back to the file system, and the WAL is emptied into the file.
    fn shrink(&mut self) -> Result<(), LedgerError> {
        let run = || {
            // Each row that this pragma yields stands for one page that was given back, so it is stepped to its end.
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            drop(rows);
            // A reader that is busy makes this do less, not fail.
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        run().map_err(|error| self.sorted(error))
    }
}

fn forget(transaction: &Transaction<'_>, incident: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM notice WHERE incident = ?1",
        "DELETE FROM entry WHERE incident = ?1",
        "DELETE FROM incident WHERE id = ?1",
    ] {
        transaction.prepare(sql)?.execute(params![incident])?;
    }
    Ok(())
}
