//! Pauses, and what the remedies of this whole host have done: what outlives any one incident.

use rusqlite::params;

use super::{Ledger, LedgerError, json};
use crate::model::Timestamp;
use crate::model::incident::Entry;
use crate::model::people::Pause;

/// Enough to count an hour of remedies and a row of failures, however busy a host is.
const ACTS: i64 = 4000;

impl Ledger {
    /// Makes a pause durable, or its end before its time. One that began at this moment with this scope is the same; with
    /// its end goes what the clock, before it was set back, dated later.
    pub fn record_pause(&mut self, pause: &Pause) -> Result<(), LedgerError> {
        self.write(|transaction| {
            if pause.resumed.is_some() {
                let later: Vec<(i64, String)> = transaction
                    .prepare("SELECT rowid, body FROM pause WHERE scope = ?2 AND began > ?1 AND over > ?3")?
                    .query_map(params![pause.began.0, json(&pause.scope)?, pause.over().0], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                let same = |body: &str| serde_json::from_str(body).is_ok_and(|known| pause.is_dated_anew(&known));
                for (row, _) in later.iter().filter(|(_, body)| same(body)) {
                    transaction.execute("DELETE FROM pause WHERE rowid = ?1", params![row])?;
                }
            }
            transaction.execute(
                "INSERT INTO pause (began, scope, over, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (began, scope) DO UPDATE SET over = ?3, body = ?4",
                params![pause.began.0, json(&pause.scope)?, pause.over().0, json(pause)?],
            )?;
            Ok(())
        })
    }

    /// The pauses that are in force, or were at or after `since`, oldest first.
    pub fn pauses(&self, since: Timestamp) -> Result<Vec<Pause>, LedgerError> {
        let run = || {
            let mut statement =
                self.connection.prepare("SELECT rowid, body FROM pause WHERE over >= ?1 ORDER BY began, scope")?;
            let rows = statement.query_map(params![since.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let rows = run().map_err(|error| self.sorted(error))?;
        let mut pauses = Vec::with_capacity(rows.len());
        for (row, body) in rows {
            match serde_json::from_str(&body) {
                Ok(pause) => pauses.push(pause),
                Err(error) => self.skip_unreadable("pause", row, &error.to_string()),
            }
        }
        Ok(pauses)
    }

    /// The newest entries, of all replicas, that say when a remedy began, how it ended, and that a person has taken an
    /// incident; in the order in which they were recorded.
    pub fn acts(&self) -> Result<Vec<Entry>, LedgerError> {
        let mut acts = self.read(
            "WHERE e.kind IN ('intended', 'ended', 'interrupted', 'acknowledged') ORDER BY e.id DESC LIMIT ?1",
            params![ACTS],
        )?;
        acts.reverse();
        Ok(acts)
    }
}
