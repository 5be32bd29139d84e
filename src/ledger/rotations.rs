//! The record of rotations: each with its lines, in tables of their own.
//!
//! Invariant: at most one rotation of a group is open, which the file itself holds us to.

use rusqlite::{OptionalExtension, Row, params};

use super::{Ledger, LedgerError, json};
use crate::model::Timestamp;
use crate::model::rotation::{Rotation, RotationEntry, RotationRecord, RotationWhat};

impl Ledger {
    /// Opens a rotation. Fails where one of this group is open.
    pub fn begin_rotation(&mut self, rotation: &Rotation) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare("INSERT INTO rotation (id, grp, begun_at, ended_at, body) VALUES (?1, ?2, ?3, NULL, ?4)")?
                .execute(params![rotation.id, rotation.group, rotation.begun_at.0, json(rotation)?])?;
            Ok(())
        })
    }

    /// One line, durable when this returns. `Ended` closes the rotation.
    pub fn record_rotation(&mut self, id: &str, entry: &RotationEntry) -> Result<(), LedgerError> {
        self.write(|transaction| {
            transaction
                .prepare("INSERT INTO rotation_entry (rotation, at, kind, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![id, entry.at.0, entry.what.kind(), json(&entry.what)?])?;
            if matches!(entry.what, RotationWhat::Ended { .. }) {
                transaction
                    .prepare("UPDATE rotation SET ended_at = ?2 WHERE id = ?1")?
                    .execute(params![id, entry.at.0])?;
            }
            Ok(())
        })
    }

    /// The rotation of this group that has not ended.
    pub fn open_rotation(&self, group: &str) -> Result<Option<RotationRecord>, LedgerError> {
        self.rotation("WHERE grp = ?1 AND ended_at IS NULL", group)
    }

    /// The newest rotation of this group, whether it has ended or not.
    pub fn last_rotation(&self, group: &str) -> Result<Option<RotationRecord>, LedgerError> {
        self.rotation("WHERE grp = ?1 ORDER BY ended_at IS NULL DESC, begun_at DESC LIMIT 1", group)
    }

    fn rotation(&self, filter: &str, group: &str) -> Result<Option<RotationRecord>, LedgerError> {
        let run = || {
            let sql = format!("SELECT id, body, ended_at FROM rotation {filter}");
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let found: Option<(String, String, Option<i64>)> =
                self.connection.query_row(&sql, params![group], row).optional()?;
            let Some((id, body, ended_at)) = found else { return Ok(None) };
            let mut statement =
                self.connection.prepare("SELECT id, at, body FROM rotation_entry WHERE rotation = ?1 ORDER BY id")?;
            let rows = statement.query_map(params![id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })?;
            Ok(Some((body, ended_at, rows.collect::<rusqlite::Result<Vec<_>>>()?)))
        };
        let Some((body, ended_at, rows)) = run().map_err(|error| self.sorted(error))? else { return Ok(None) };
        let rotation: Rotation = serde_json::from_str(&body).map_err(|error| LedgerError::Other {
            path: self.path.clone(),
            why: format!("the record of a rotation of {group} cannot be read: {error}"),
        })?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, at, body) in rows {
            match serde_json::from_str(&body) {
                Ok(what) => entries.push(RotationEntry { at: Timestamp(at), what }),
                Err(error) => self.skip_unreadable("rotation_entry", id, &error.to_string()),
            }
        }
        Ok(Some(RotationRecord { rotation: Rotation { ended_at: ended_at.map(Timestamp), ..rotation }, entries }))
    }
}
