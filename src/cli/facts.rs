//! `relinkd facts`: this host's instances as one JSON object, for Ansible's facts.d and for Facter.
//!
//! The running daemon is asked; where none answers, the instances themselves and the record are. Facts are gathered at
//! the beginning of every run of a config manager, so this is quick, changes nothing, logs in nowhere but at the local
//! instances, and what cannot be learned is `null`, with the reason under `error`. The exit code is 0 all the same: with
//! another one Ansible drops all facts of the script (2.18, module_utils/facts/system/local.py). Only a mistake in the
//! configuration or in the arguments ends it as it does any other verb.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Ended, Exit, Failure, block_on, exit_for, once, say_json, status};
use crate::agent::{Status, UNSEEN};
use crate::collect;
use crate::config::{self, Settings};
use crate::control::{self, ControlError, Request};
use crate::daemon::clock::Clock;
use crate::daemon::{LEDGER, Watched};
use crate::ledger::{Ledger, LedgerError};
use crate::model::incident::Incident;
use crate::model::people::Pause;
use crate::wire::all;

/// How long a secret store is waited for: as long as a look of the daemon's waits.
const STORE: Duration = Duration::from_millis(700);

#[derive(Debug, Args)]
pub struct FactsArgs {
    /// As one fact called relinkd: Facter takes each key at the top for a fact.
    #[arg(long)]
    pub facter: bool,
    /// Taken, since other verbs take it: facts are JSON anyway.
    #[arg(long)]
    pub json: bool,
}

/// All of it. A key is added, and never taken away or given another meaning.
#[derive(Debug, Default, Serialize)]
struct Facts {
    /// Of this program.
    version: &'static str,
    /// Whether the running daemon says this.
    daemon: bool,
    daemon_version: Option<String>,
    host: Option<String>,
    /// How far relinkd may go by itself: the mode of the remedy that may go farthest.
    mode: Option<String>,
    /// Every link whole, and no incident open; none where that is not known of all.
    healthy: Option<bool>,
    /// None where the record could not be read.
    open_incidents: Option<usize>,
    /// Whether a pause holds any of the instances; none where the record could not be read.
    paused: Option<bool>,
    /// Whether the stop after failures in a row holds this host; only the daemon knows.
    stopped: Option<bool>,
    replicas: BTreeMap<String, Instance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Instance {
    address: String,
    group: Option<String>,
    /// `replica`, `primary`, `sentinel` or `unseen`.
    role: String,
    /// None on a primary, and where it was not seen.
    link_up: Option<bool>,
    primary: Option<String>,
    mode: Option<String>,
    /// The open incident, as `show` takes it.
    incident: Option<String>,
    phase: Option<&'static str>,
    /// What is wrong, also before it has become an incident; without the daemon that of the open incident.
    cause: Option<&'static str>,
    paused: Option<bool>,
    /// Whether the instance logs in to its primary with something else than the secret store holds.
    secret_mismatch: Option<bool>,
}

pub fn facts(config: &Path, args: &FactsArgs) -> Ended {
    let facts = match config::load(config) {
        Ok(settings) => block_on(gather(&settings))?,
        // Facts are gathered by users, too, who may not read it.
        Err(problems) if problems.are_of_permission() => {
            Facts { version: env!("CARGO_PKG_VERSION"), error: Some(problems.to_string()), ..Facts::default() }
        }
        Err(problems) => return Err(Failure::new(exit_for(&problems), problems)),
    };
    match args.facter {
        true => say_json(&json!({ "relinkd": facts })),
        false => say_json(&facts),
    }
    Ok(Exit::Fine)
}

async fn gather(settings: &Settings) -> Facts {
    let mode = json!(settings.policy.mode()).as_str().map(str::to_owned);
    let mut facts =
        Facts { version: env!("CARGO_PKG_VERSION"), host: Some(settings.agent.host.clone()), mode, ..Facts::default() };
    let mut errors = Vec::new();
    let told = match control::ask(&settings.agent.run_dir, &Request::Status).await {
        Ok(answer) => status::replicas(&answer).map(|all| (answer, all)).map_err(|failure| Some(failure.text)),
        Err(ControlError::NotRunning(_)) => Err(None),
        Err(error) => Err(Some(error.to_string())),
    };
    match told {
        Ok((answer, all)) => facts.take(&answer, all),
        Err(why) => {
            errors.extend(why);
            facts.replicas = by_ourselves(settings, facts.mode.as_deref(), &mut errors).await;
        }
    }
    facts.healthy = healthy(&facts.replicas);
    let known = facts.replicas.values().all(|one| one.paused.is_some());
    let open = facts.replicas.values().filter(|one| one.incident.is_some()).count();
    facts.open_incidents = known.then_some(open);
    facts.paused = known.then(|| facts.replicas.values().any(|one| one.paused == Some(true)));
    if !known && facts.healthy == Some(true) {
        facts.healthy = None;
    }
    facts.error = (!errors.is_empty()).then(|| errors.join("; "));
    facts
}

impl Facts {
    /// What the daemon says. Its settings are those that it runs with, whatever the files say by now.
    fn take(&mut self, answer: &Value, all: Vec<Status>) {
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        self.daemon = true;
        self.daemon_version = text("version");
        self.mode = text("mode").or_else(|| self.mode.take());
        self.stopped = Some(!answer["stopped"].is_null());
        for status in all {
            // What was seen before nobody looked any more is no fact of now.
            let seen = status.looked_at.is_some() && status.overdue_ms.is_none();
            let instance = Instance {
                address: status.address.to_string(),
                group: Some(status.group).filter(|group| !group.is_empty()),
                role: if seen { status.role } else { UNSEEN.to_owned() },
                link_up: status.link_up.filter(|_| seen),
                primary: status.primary.filter(|_| seen).map(|primary| primary.to_string()),
                mode: self.mode.clone(),
                incident: status.incident.map(|id| id.0),
                phase: status.phase.map(|phase| phase.name()),
                cause: status.cause.map(|cause| cause.code()),
                paused: Some(status.paused.is_some()),
                secret_mismatch: answer["secret_mismatch"][&status.replica].as_bool(),
            };
            self.replicas.insert(status.replica, instance);
        }
    }
}

/// One that is broken makes the whole so; one that is not known makes it unknown.
fn healthy(replicas: &BTreeMap<String, Instance>) -> Option<bool> {
    let all: Vec<_> = replicas.values().map(Instance::is_well).collect();
    if all.contains(&Some(false)) { Some(false) } else { (!all.contains(&None)).then_some(true) }
}

impl Instance {
    fn is_well(&self) -> Option<bool> {
        let broken = self.incident.is_some() || self.cause.is_some() || self.link_up == Some(false);
        if broken { Some(false) } else { (self.role != UNSEEN).then_some(true) }
    }
}

/// What the instances and the record say.
async fn by_ourselves(settings: &Settings, mode: Option<&str>, errors: &mut Vec<String>) -> BTreeMap<String, Instance> {
    let watched = Watched::all(settings, &once::salt(&settings.agent.state_dir), Clock::start());
    let (open, pauses) = match record(settings) {
        Ok((open, pauses)) => (open, Some(pauses)),
        Err(error) => {
            errors.push(error.to_string());
            (Vec::new(), None)
        }
    };
    let seen = all(watched.iter().map(glance)).await;
    let mut replicas = BTreeMap::new();
    for (one, (mut instance, troubles)) in watched.iter().zip(seen) {
        errors.extend(troubles.into_iter().map(|why| format!("{}: {why}", one.name)));
        let incident = open.iter().find(|incident| incident.link.replica == one.name);
        instance.mode = mode.map(str::to_owned);
        instance.incident = incident.map(|incident| incident.id.0.clone());
        instance.phase = incident.map(|incident| incident.phase.name());
        instance.cause = incident.map(|incident| incident.finding.cause.code());
        instance.paused = pauses.as_ref().map(|all| all.iter().any(|pause| pause.scope.holds(&one.link())));
        replicas.insert(one.name.clone(), instance);
    }
    replicas
}

/// The open incidents and the pauses in force. Where there is no record yet, there are none.
fn record(settings: &Settings) -> Result<(Vec<Incident>, Vec<Pause>), LedgerError> {
    let ledger = match Ledger::open_read_only(&settings.agent.state_dir.join(LEDGER)) {
        Err(LedgerError::Absent { .. }) => return Ok((Vec::new(), Vec::new())),
        opened => opened?,
    };
    let now = once::now();
    let pauses = ledger.pauses(now)?.into_iter().filter(|pause| pause.in_force(now)).collect();
    Ok((ledger.open_incidents()?, pauses))
}

/// One instance by its own word, and what could not be learned.
async fn glance(one: &Watched) -> (Instance, Vec<String>) {
    let clock = Clock::start();
    let now = move || clock.now();
    let asked = async {
        let dials = one.dials_within(Some(STORE)).await;
        let (server, settings) = collect::glance(&one.target(&dials), &now, collect::DEADLINE).await;
        (dials.problems, server, settings)
    };
    let ((mut troubles, server, settings), (offers, store)) = tokio::join!(asked, one.candidates(Some(STORE)));
    troubles.extend(server.missing().map(|why| format!("not seen: {why}")));
    troubles.extend(store.missing().filter(|_| one.store().is_some()).map(|why| format!("the secret store: {why}")));
    let link = server.seen().and_then(|view| view.role.link());
    let differs = || {
        let (offer, settings, configured) = (offers.first()?, settings.seen()?, one.masteruser());
        // The daemon counts the user whom the store names, and not the one who is configured beside it.
        let user = offer.user.as_deref().filter(|user| configured.as_deref() != Some(*user));
        Some(!settings.logs_in_with(user, &offer.secret.print(&one.salt)))
    };
    let instance = Instance {
        address: one.replica.address.to_string(),
        group: one.group_name().map(str::to_owned),
        role: server.seen().map_or(UNSEEN, |view| view.role.name()).to_owned(),
        link_up: link.map(|link| link.up),
        primary: link.map(|link| link.primary.to_string()),
        mode: None,
        incident: None,
        phase: None,
        cause: None,
        paused: None,
        secret_mismatch: differs(),
    };
    (instance, troubles)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `healthy`, the role and the link of an instance that the daemon tells of so.
    fn told(bend: &Value) -> (Option<bool>, String, Option<bool>) {
        let mut status = json!({
            "replica": "cache", "group": "", "address": { "unix": "/run/redis" }, "role": "replica", "link_up": true,
            "primary": null, "looked_at": 1, "sentence": "", "incident": null, "phase": null, "cause": null,
            "suspected": false, "held": null, "next_steps": [], "ledger_trouble": null,
        });
        for (key, value) in bend.as_object().unwrap() {
            status[key] = value.clone();
        }
        let answer = json!({ "replicas": [status] });
        let mut facts = Facts::default();
        facts.take(&answer, status::replicas(&answer).ok().unwrap());
        let cache = &facts.replicas["cache"];
        (healthy(&facts.replicas), cache.role.clone(), cache.link_up)
    }

    #[test]
    fn what_nobody_looks_at_is_neither_well_nor_broken() {
        let unseen = (None, UNSEEN.to_owned(), None);
        assert_eq!(told(&json!({})), (Some(true), "replica".to_owned(), Some(true)));
        assert_eq!(told(&json!({ "role": "primary", "link_up": null })), (Some(true), "primary".to_owned(), None));
        assert_eq!(told(&json!({ "looked_at": null })), unseen);
        assert_eq!(told(&json!({ "overdue_ms": 30_000 })), unseen);
        assert_eq!(told(&json!({ "link_up": false })).0, Some(false));
        assert_eq!(told(&json!({ "cause": "auth-latent" })).0, Some(false));
        assert_eq!(told(&json!({ "incident": "01JDA", "looked_at": null })).0, Some(false));
    }

    #[test]
    fn one_that_is_broken_outweighs_one_that_is_not_known() {
        let mut facts = Facts::default();
        let text = json!({
            "replica": "a", "group": "", "address": { "unix": "/a" }, "role": "unseen", "link_up": null, "primary": null,
            "looked_at": null, "sentence": "", "incident": null, "phase": null, "cause": null, "suspected": false,
            "held": null, "next_steps": [], "ledger_trouble": null,
        });
        let mut other = text.clone();
        (other["replica"], other["cause"]) = (json!("b"), json!("replica-down"));
        let answer = json!({ "replicas": [text, other] });
        facts.take(&answer, status::replicas(&answer).ok().unwrap());
        assert_eq!(healthy(&facts.replicas), Some(false));
        facts.replicas.remove("b");
        assert_eq!(healthy(&facts.replicas), None);
    }
}
