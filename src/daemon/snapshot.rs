//! How everything stands at one moment: what `status`, the metrics and the status page are made of.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde_json::{Value, json};

use super::watchers::SentinelState;
use super::{Daemon, keyring};
use crate::agent::{Agent, Status};
use crate::decide::{Failures, Mode};
use crate::model::Timestamp;
use crate::model::people::Pause;
use crate::watch::sentinel::SentinelBoard;

#[derive(Debug, Default)]
pub struct Snapshot {
    pub at: Timestamp,
    /// [`crate::decide::Policy::mode`].
    pub mode: Option<Mode>,
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
    /// Tasks of ours that panicked within an hour: none, or [`super::falls::Falls::told`].
    pub panics: Value,
    /// Where HTTP is served, and why not.
    pub listen: Option<String>,
    pub listen_trouble: Option<String>,
}

impl Daemon {
    /// What is so now, in a sentence.
    pub(super) fn sentence(&self) -> String {
        let now = self.clock.now();
        let well = || Snapshot::sentence(&self.agents.iter().map(|agent| agent.status(now)).collect::<Vec<_>>());
        self.falls().sentence().unwrap_or_else(well)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (keys, now) = (keyring::read(&self.keys), self.clock.now());
        let failures = self.host.failures();
        let stopped = failures.in_a_row >= self.settings.policy.max_failures;
        let mismatch = |agent: &Agent| {
            let status = agent.status(now);
            let stored = keys.get(&keyring::masterauth(&status.group))?;
            Some((status.replica, !agent.logs_in_with(stored.user.as_deref(), &stored.print)?))
        };
        let falls = self.falls();
        let unwatched = falls.unwatched();
        let status = |(index, agent): (usize, &Agent)| match falls.sentence() {
            Some(why) if unwatched.contains(&index) => agent.status(now).unwatched(&why),
            _ => agent.status(now),
        };
        Snapshot {
            at: now,
            mode: Some(self.settings.policy.mode()),
            replicas: self.agents.iter().enumerate().map(status).collect(),
            panics: falls.told(),
            sentinels: self.senses.sentinels(),
            boards: self.senses.boards(),
            mismatches: self.agents.iter().filter_map(mismatch).collect(),
            secrets: keys.into_iter().map(|(key, seen)| (key, seen.since)).collect(),
            pauses: self.pauses.iter().filter(|pause| pause.in_force(now)).cloned().collect(),
            stopped: stopped.then(|| failures.clone()),
            listen: self.settings.agent.listen.map(|listen| listen.to_string()),
            listen_trouble: self.http_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Snapshot {
    /// What `relinkd status --json` and `/api/v1/status` print.
    pub fn as_json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "at": self.at.to_string(),
            "mode": self.mode,
            "replicas": self.replicas,
            "secret_mismatch": self.mismatches,
            "sentinels": self.sentinels,
            "pauses": self.pauses.iter().map(Pause::told).collect::<Vec<_>>(),
            "stopped": self.stopped.as_ref().map(|it| json!({ "failures": it.in_a_row, "last": it.last })),
            "panics": self.panics,
            "http": { "listen": self.listen, "trouble": self.listen_trouble },
        })
    }

    /// The sentence of the present cycle: what is wrong, or that nothing is.
    pub fn sentence(all: &[Status]) -> String {
        let troubled: Vec<String> = all
            .iter()
            .filter(|status| {
                status.incident.is_some() || status.ledger_trouble.is_some() || status.overdue_ms.is_some()
            })
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
        let overdue = self.replicas.iter().find(|status| status.overdue_ms.is_some());
        let unrecorded = self.replicas.iter().find_map(|status| status.ledger_trouble.as_ref());
        match (unseen, overdue, unrecorded) {
            (Some(status), ..) | (None, Some(status), _) => Some(format!("{}: {}", status.replica, status.sentence)),
            (None, None, Some(trouble)) => Some(format!("nothing can be recorded, so nothing is changed: {trouble}")),
            (None, None, None) => None,
        }
    }
}
