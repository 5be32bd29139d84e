//! The outbox: each message once, and a delivery of it for each channel.
//!
//! Invariant: within one incident and channel, messages leave in the order in which they were recorded; a later one
//! waits until the earlier one is delivered or given up. Nothing is dropped in silence: a delivery that is given up keeps
//! its row and its reason.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Ledger, LedgerError, json};
use crate::model::Timestamp;
use crate::model::incident::Notice;

/// How many deliveries one look at the outbox returns at most; the rest follow at the next.
const BATCH: i64 = 64;

/// Keeps the order within an incident: a later message waits for the earlier one on the same channel.
const FIRST_OF_ITS_INCIDENT: &str = "d.state = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM delivery e JOIN notice m ON m.id = e.notice
    WHERE e.state = 'waiting' AND e.channel = d.channel AND e.id < d.id AND m.incident = n.incident)";

/// A message that is due on one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub id: i64,
    pub channel: String,
    /// The same over all retries and channels: the receiver's key for telling a repeat from a new message.
    pub sequence_key: String,
    pub notice: Notice,
    /// Attempts made so far.
    pub attempts: u32,
}

/// A delivery as its row has it, its message not yet read.
struct Waiting {
    id: i64,
    channel: String,
    attempts: u32,
    notice: i64,
    body: String,
}

/// On a channel that is disabled the message is given up at once: a dead channel must not grow the ledger, and its
/// stale messages must not pour out when it comes back.
pub(super) fn put(transaction: &Transaction<'_>, notice: &Notice, channels: &[String]) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO notice (at, incident, sequence, body) VALUES (?, ?, ?, ?)",
        params![notice.at.0, notice.incident.id.0, notice.sequence(), json(notice)?],
    )?;
    let id = transaction.last_insert_rowid();
    let mut statement = transaction.prepare(
        "INSERT INTO delivery (notice, channel, due_at, state, ended_at, error)
         SELECT ?1, ?2, ?3, iif(d.channel IS NULL, 'waiting', 'given-up'),
                iif(d.channel IS NULL, NULL, ?3), 'the channel is disabled: ' || d.why
         FROM (SELECT 1) LEFT JOIN disabled_channel d ON d.channel = ?2",
    )?;
    for channel in channels {
        statement.execute(params![id, channel, notice.at.0])?;
    }
    Ok(())
}

impl Ledger {
    /// The deliveries that are due on a channel, oldest first, at most one for each incident. A stored message that
    /// cannot be read is given up here, so that it does not hold back those after it.
    pub fn due(&mut self, channel: &str, now: Timestamp) -> Result<Vec<Delivery>, LedgerError> {
        let rows = self.waiting(channel, now).map_err(|error| self.sorted(error))?;
        let mut due = Vec::with_capacity(rows.len());
        for Waiting { id, channel, attempts, notice, body } in rows {
            match serde_json::from_str::<Notice>(&body) {
                Ok(notice) => due.push(Delivery { id, channel, sequence_key: notice.key(), notice, attempts }),
                Err(error) => {
                    self.skip_unreadable("notice", notice, &error.to_string());
                    self.give_up(id, now, "the stored message cannot be read")?;
                }
            }
        }
        Ok(due)
    }

    fn waiting(&self, channel: &str, now: Timestamp) -> rusqlite::Result<Vec<Waiting>> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT d.id, d.channel, d.attempts, n.id, n.body
             FROM delivery d JOIN notice n ON n.id = d.notice
             WHERE d.channel = ?1 AND {FIRST_OF_ITS_INCIDENT} AND d.due_at <= ?2 ORDER BY d.id LIMIT ?3",
        ))?;
        let rows = statement.query_map(params![channel, now.0, BATCH], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                channel: row.get(1)?,
                attempts: row.get(2)?,
                notice: row.get(3)?,
                body: row.get(4)?,
            })
        })?;
        rows.collect()
    }

    /// The moment at which the next delivery on a channel falls due; none when nothing waits. One that waits for an
    /// earlier message of its incident does not count: it falls due when that one is done.
    pub fn next_due(&self, channel: &str) -> Result<Option<Timestamp>, LedgerError> {
        let query = format!(
            "SELECT min(d.due_at) FROM delivery d JOIN notice n ON n.id = d.notice
             WHERE d.channel = ?1 AND {FIRST_OF_ITS_INCIDENT}"
        );
        self.connection
            .query_row(&query, [channel], |row| row.get(0))
            .map(|at: Option<i64>| at.map(Timestamp))
            .map_err(|error| self.sorted(error))
    }

    /// The receiver has taken it.
    pub fn delivered(&mut self, id: i64, at: Timestamp) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE delivery SET state = 'delivered', attempts = attempts + 1, ended_at = ?2, error = NULL
                 WHERE id = ?1 AND state = 'waiting'",
                params![id, at.0],
            )?;
            Ok(())
        })
    }

    /// An attempt has failed; the next one is made at `until`.
    pub fn postpone(&mut self, id: i64, until: Timestamp, error: &str) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE delivery SET attempts = attempts + 1, due_at = ?2, error = ?3
                 WHERE id = ?1 AND state = 'waiting'",
                params![id, until.0, error],
            )?;
            Ok(())
        })
    }

    /// No further attempt will be made.
    pub fn give_up(&mut self, id: i64, at: Timestamp, error: &str) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE delivery SET state = 'given-up', attempts = attempts + 1, ended_at = ?2, error = ?3
                 WHERE id = ?1 AND state = 'waiting'",
                params![id, at.0, error],
            )?;
            Ok(())
        })
    }

    /// The receiver has said that it wants no more. What waits for it is given up, and so is what comes after, until
    /// the channel is enabled.
    pub fn disable_channel(&mut self, channel: &str, at: Timestamp, why: &str) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO disabled_channel (channel, at, why) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![channel, at.0, why],
            )?;
            transaction.execute(
                "UPDATE delivery SET state = 'given-up', ended_at = ?2, error = 'the channel is disabled: ' || ?3
                 WHERE channel = ?1 AND state = 'waiting'",
                params![channel, at.0, why],
            )?;
            Ok(())
        })
    }

    /// What waits for a channel that is none of these is given up: nobody delivers it.
    pub fn give_up_strays(&mut self, channels: &[String], at: Timestamp) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE delivery SET state = 'given-up', ended_at = ?2,
                        error = 'the channel ' || channel || ' is not in the configuration any more'
                 WHERE state = 'waiting' AND channel NOT IN (SELECT value FROM json_each(?1))",
                params![json(&channels)?, at.0],
            )?;
            Ok(())
        })
    }

    /// What would fall due later than `latest`, as after the system's clock was set back, falls due now.
    pub fn bring_forward(&mut self, channel: &str, now: Timestamp, latest: Timestamp) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE delivery SET due_at = ?2 WHERE channel = ?1 AND state = 'waiting' AND due_at > ?3",
                params![channel, now.0, latest.0],
            )?;
            Ok(())
        })
    }

    /// Messages recorded from now on go out again.
    pub fn enable_channel(&mut self, channel: &str) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM disabled_channel WHERE channel = ?1", params![channel])?;
            Ok(())
        })
    }

    /// Since when and why a channel is disabled, if it is.
    pub fn is_disabled(&self, channel: &str) -> Result<Option<(Timestamp, String)>, LedgerError> {
        self.connection
            .query_row("SELECT at, why FROM disabled_channel WHERE channel = ?1", params![channel], |row| {
                Ok((Timestamp(row.get(0)?), row.get(1)?))
            })
            .optional()
            .map_err(|error| self.sorted(error))
    }

    /// How many messages wait for a channel.
    pub fn pending(&self, channel: &str) -> Result<u64, LedgerError> {
        self.connection
            .query_row(
                "SELECT count(*) FROM delivery WHERE channel = ?1 AND state = 'waiting'",
                params![channel],
                |row| row.get::<_, i64>(0),
            )
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(|error| self.sorted(error))
    }
}
