//! How everything stands at one moment: what `status`, the metrics and the status page are made of.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::watchers::SentinelState;
use crate::agent::Status;
use crate::decide::Failures;
use crate::model::Timestamp;
use crate::model::people::Pause;
use crate::watch::sentinel::SentinelBoard;

#[derive(Debug, Default)]
pub struct Snapshot {
    pub at: Timestamp,
    pub replicas: Vec<Status>,
    /// Every Sentinel's subscription, one by one.
    pub sentinels: Vec<SentinelState>,
    /// The same by group, with the events that were heard.
    pub boards: BTreeMap<String, SentinelBoard>,
    /// When each secret that could be fetched was changed.
    pub secrets: BTreeMap<String, Timestamp>,
    /// Whether a replica's `masterauth` is another than the store holds, where both are known.
    pub mismatches: BTreeMap<String, bool>,
    /// The pauses in force.
    pub pauses: Vec<Pause>,
    /// Too many remedies in a row have failed: nothing more is tried on this host.
    pub stopped: Option<Failures>,
    /// Where HTTP is served, and why not.
    pub listen: Option<String>,
    pub listen_trouble: Option<String>,
}

impl Snapshot {
    /// What `relinkd status --json` and `/api/v1/status` print.
    pub fn as_json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "at": self.at.to_string(),
            "replicas": self.replicas,
            "sentinels": self.sentinels,
            "pauses": self.pauses.iter().map(Pause::told).collect::<Vec<_>>(),
            "stopped": self.stopped.as_ref().map(|it| json!({ "failures": it.in_a_row, "last": it.last })),
            "http": { "listen": self.listen, "trouble": self.listen_trouble },
        })
    }

    /// The sentence of the present cycle: what is wrong, or that nothing is.
    pub fn sentence(all: &[Status]) -> String {
        let troubled: Vec<String> = all
            .iter()
            .filter(|status| status.incident.is_some() || status.ledger_trouble.is_some())
            .map(|status| format!("{}: {}", status.replica, status.sentence))
            .collect();
        match (troubled.as_slice(), all) {
            ([], [only]) => format!("{}: {}", only.replica, only.sentence),
            ([], _) => format!("watching {} instances, all well", all.len()),
            ([one], _) => one.clone(),
            ([first, rest @ ..], _) => format!("{first}; and {} more", rest.len()),
        }
    }

    /// Why the daemon is not ready; none when it is.
    pub fn not_ready(&self) -> Option<String> {
        let unseen = self.replicas.iter().find(|status| status.looked_at.is_none());
        let unrecorded = self.replicas.iter().find_map(|status| status.ledger_trouble.as_ref());
        match (unseen, unrecorded) {
            (Some(status), _) => Some(format!("{}: not looked yet", status.replica)),
            (None, Some(trouble)) => Some(format!("nothing can be recorded, so nothing is changed: {trouble}")),
            (None, None) => None,
        }
    }
}
