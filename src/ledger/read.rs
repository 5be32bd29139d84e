//! Reading the record. A row that cannot be read is skipped and counted, and never stops the rest.

use rusqlite::{Params, params};

use super::{Ledger, LedgerError};
use crate::model::incident::{Entry, Incident, IncidentId, What};
use crate::model::{LinkId, Timestamp};

/// What a name or the beginning of one stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lookup {
    Found(Box<Incident>),
    #[default]
    None,
    /// The beginning fits several: these, oldest first.
    Many(Vec<IncidentId>),
}

/// The kind of an entry, as its row names it: the name under which serde writes it.
pub(super) const fn kind(what: &What) -> &'static str {
    match what {
        What::Blip { .. } => "blip",
        What::FailedOver { .. } => "failed_over",
        What::Opened { .. } => "opened",
        What::Diagnosed { .. } => "diagnosed",
        What::Held { .. } => "held",
        What::Proposed { .. } => "proposed",
        What::Approved { .. } => "approved",
        What::Rejected { .. } => "rejected",
        What::Withdrawn { .. } => "withdrawn",
        What::Acknowledged { .. } => "acknowledged",
        What::Intended { .. } => "intended",
        What::Finished { .. } => "finished",
        What::Ended { .. } => "ended",
        What::Interrupted { .. } => "interrupted",
        What::LinkUp { .. } => "link_up",
        What::LinkDown { .. } => "link_down",
        What::Escalated { .. } => "escalated",
        What::Told { .. } => "told",
        What::Resolved { .. } => "resolved",
    }
}

/// Every kind that this version knows. A row of another kind is from a newer one.
const KINDS: &[&str] = &[
    "blip",
    "failed_over",
    "opened",
    "diagnosed",
    "held",
    "proposed",
    "approved",
    "rejected",
    "withdrawn",
    "acknowledged",
    "intended",
    "finished",
    "ended",
    "interrupted",
    "link_up",
    "link_down",
    "escalated",
    "told",
    "resolved",
];

const COLUMNS: &str = "SELECT e.id, e.at, e.replica, e.grp, e.incident, e.kind, e.body FROM entry e";

impl Ledger {
    /// The entries in the order in which they were recorded: all, or those of one replica, of one incident, of both.
    pub fn entries(&self, replica: Option<&str>, incident: Option<&IncidentId>) -> Result<Vec<Entry>, LedgerError> {
        match incident {
            Some(id) => self
                .read("WHERE e.incident = ?1 AND (?2 IS NULL OR e.replica = ?2) ORDER BY e.id", params![id.0, replica]),
            None => self.read("WHERE ?1 IS NULL OR e.replica = ?1 ORDER BY e.id", params![replica]),
        }
    }

    /// What an agent replays when it starts: all entries of incidents that are open, or were touched at or after
    /// `since`.
    pub fn history(&self, replica: &str, since: Timestamp) -> Result<Vec<Entry>, LedgerError> {
        self.read(
            "JOIN incident i ON i.id = e.incident
             WHERE i.replica = ?1 AND (i.open OR i.touched_at >= ?2) ORDER BY e.id",
            params![replica, since.0],
        )
    }

    /// At most `limit` incidents, newest first; with `since`, those that were open at some moment after it.
    pub fn incidents(&self, since: Option<Timestamp>, limit: usize) -> Result<Vec<Incident>, LedgerError> {
        let ids = self.ids(
            "WHERE ?1 IS NULL OR open OR touched_at >= ?1 ORDER BY opened_at DESC, id DESC LIMIT ?2",
            params![since.map(|at| at.0), i64::try_from(limit).unwrap_or(i64::MAX)],
        )?;
        let mut incidents = Vec::with_capacity(ids.len());
        for id in ids {
            incidents.extend(self.fold(&id)?);
        }
        Ok(incidents)
    }

    /// Every incident that is not over, oldest first.
    pub fn open_incidents(&self) -> Result<Vec<Incident>, LedgerError> {
        let ids = self.ids("WHERE open ORDER BY opened_at, id", [])?;
        let mut incidents = Vec::with_capacity(ids.len());
        for id in ids {
            incidents.extend(self.fold(&id)?);
        }
        Ok(incidents)
    }

    /// The incident of this name, or the only one whose name begins so. Case does not matter.
    pub fn incident(&self, name: &str) -> Result<Lookup, LedgerError> {
        let mut ids = self.ids(
            "WHERE ?1 <> '' AND upper(substr(id, 1, length(?1))) = upper(?1) ORDER BY opened_at, id",
            params![name],
        )?;
        if let Some(whole) = ids.iter().position(|id| id.0.eq_ignore_ascii_case(name)) {
            ids = vec![ids.swap_remove(whole)];
        }
        match ids.as_slice() {
            [] => Ok(Lookup::None),
            [id] => match self.fold(id)? {
                Some(incident) => Ok(Lookup::Found(Box::new(incident))),
                None => Err(LedgerError::Other {
                    path: self.path.clone(),
                    why: format!("incident {id} is there, but the entry that opened it cannot be read"),
                }),
            },
            _ => Ok(Lookup::Many(ids)),
        }
    }

    /// None when the entry that opened the incident cannot be read.
    fn fold(&self, id: &IncidentId) -> Result<Option<Incident>, LedgerError> {
        let mut folded: Option<Incident> = None;
        for entry in self.entries(None, Some(id))? {
            match &mut folded {
                None => folded = Incident::open(&entry),
                Some(incident) => incident.take(&entry),
            }
        }
        Ok(folded)
    }

    fn ids(&self, filter: &str, params: impl Params) -> Result<Vec<IncidentId>, LedgerError> {
        let run = || {
            let mut statement = self.connection.prepare(&format!("SELECT id FROM incident {filter}"))?;
            let rows = statement.query_map(params, |row| row.get(0).map(IncidentId))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        run().map_err(|error| self.sorted(error))
    }

    pub(super) fn read(&self, filter: &str, params: impl Params) -> Result<Vec<Entry>, LedgerError> {
        let run = || {
            let mut statement = self.connection.prepare(&format!("{COLUMNS} {filter}"))?;
            let mut rows = statement.query(params)?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, kind, body): (i64, String, String) = (row.get(0)?, row.get(5)?, row.get(6)?);
                let Some(what) = self.parse(id, &kind, &body) else { continue };
                entries.push(Entry {
                    at: Timestamp(row.get(1)?),
                    link: LinkId { replica: row.get(2)?, group: row.get(3)? },
                    incident: IncidentId(row.get(4)?),
                    what,
                });
            }
            Ok(entries)
        };
        run().map_err(|error| self.sorted(error))
    }

    fn parse(&self, id: i64, kind: &str, body: &str) -> Option<What> {
        if !KINDS.contains(&kind) {
            self.skipped.borrow_mut().unknown.insert(id);
            return None;
        }
        match serde_json::from_str(body) {
            Ok(what) => Some(what),
            Err(error) => {
                self.skip_unreadable("entry", id, &error.to_string());
                None
            }
        }
    }
}
