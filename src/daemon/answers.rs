//! What is asked through the control socket. A pause waits for the ledger beside the loop: it holds, and is over, from the
//! moment in which that is recorded. What is said to an incident is recorded in its turn, behind the look or the step that
//! its agent is at, and is answered once that has been done: what was answered outlives the process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Daemon;
use super::beginning::Past;
use super::effects::Receipt;
use crate::agent::{Agent, Host, Input};
use crate::control::{Asked, Request};
use crate::ledger::{Ledger, LedgerError, Lookup};
use crate::model::event::{Wake, Why};
use crate::model::incident::IncidentId;
use crate::model::people::{Actor, Pause, Scope};
use crate::model::{Timestamp, tame};

/// The longest pause. What is to last longer is a mode of the policy.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// For this long a pause that is over still bears on what was there at its end.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// An answer that has come back from the ledger.
pub(super) struct Recorded {
    answer: oneshot::Sender<Value>,
    what: Looked,
}

enum Looked {
    /// These pauses are durable as they stand here.
    Pauses(Result<(Vec<Pause>, Value), String>),
    /// The incident, open or over, that a person takes.
    Taken { by: Actor, name: String, found: Result<Option<(String, IncidentId)>, String>, asked: String },
}

/// What the ledger knows of the whole host: its pauses, and what its remedies have done.
pub(super) fn standing(ledger: &mut Ledger, now: Timestamp) -> Result<(Vec<Pause>, Host), LedgerError> {
    let (pauses, acts) = (ledger.pauses(now.before(REMEMBERED))?, ledger.acts()?);
    let mut host = Host::default();
    acts.iter().for_each(|entry| host.take(&entry.dated_at_most(now)));
    Ok((pauses.into_iter().map(|pause| pause.dated_at_most(now)).collect(), host))
}

impl Daemon {
    pub(super) fn answer(&mut self, asked: Asked) {
        let Asked { request, by, answer } = asked;
        // Whoever asked was told by now that it failed.
        if answer.is_closed() {
            return;
        }
        let now = self.clock.now();
        let said = match request {
            Request::Status => self.snapshot().as_json(),
            Request::Look { replica, align } => match self.named(&replica) {
                Some(index) => {
                    self.feed(index, Input::Wake(Wake { at: now, why: if align { Why::Aligned } else { Why::Asked } }));
                    json!({ "looked": true })
                }
                None => json!({ "error": format!("no replica {replica:?} is watched here") }),
            },
            Request::Approve { incident, plan } => {
                return self.decided(&incident, answer, |agent| agent.approve(by, plan.as_deref(), now));
            }
            Request::Reject { incident } => return self.decided(&incident, answer, |agent| agent.reject(by, now)),
            Request::Ack { incident, by: name } => return self.take(incident, by, &name, answer),
            Request::Pause { scope, for_ms, reason } => return self.pause(scope, for_ms, &reason, by, answer),
            Request::Resume { scope } => return self.resume(scope.as_ref(), &by, answer),
        };
        let _ = answer.send(said);
    }

    /// The ledger has done its part.
    pub(super) fn recorded(&mut self, done: Recorded) {
        let now = self.clock.now();
        let said = match done.what {
            Looked::Pauses(Err(why)) => {
                json!({ "error": format!("it could not be recorded, so it is not in force: {why}") })
            }
            Looked::Pauses(Ok((changed, mut said))) => {
                // It may have been dated by the clock of a life before this one.
                let ahead: Vec<bool> = changed.iter().map(|pause| pause.began > now).collect();
                let changed: Vec<_> = changed.into_iter().map(|pause| pause.dated_at_most(now)).collect();
                let begun = changed.iter().find(|pause| pause.resumed.is_none()).map(|pause| pause.scope.clone());
                self.pauses.retain(|known| {
                    let is_that = |(new, ahead): (&Pause, &bool)| {
                        (new.began, &new.scope) == (known.began, &known.scope) || (*ahead && new.is_dated_anew(known))
                    };
                    let replaced = changed.iter().zip(&ahead).any(is_that);
                    !replaced && now.since(known.over()) < REMEMBERED
                });
                self.pauses.extend(changed);
                self.tell_pauses();
                // Only now does nothing begin any more: what began until the ledger had it is named too.
                if let Some(scope) = begun {
                    said["at_work"] = self.at_work(&scope).into();
                }
                said
            }
            Looked::Taken { by, name, found, asked } => match found {
                Err(why) => json!({ "error": why }),
                Ok(None) => refused(no_incident(&asked)),
                Ok(Some((replica, id))) => match self.named(&replica) {
                    None => refused(format!("{replica} is not watched by this daemon any more")),
                    Some(index) => return self.take_known(index, &id, by, name, done.answer),
                },
            },
        };
        let _ = done.answer.send(said);
    }

    /// Before anything is looked at, every agent hears of the pauses and of what the host has done. While these cannot
    /// be read no agent acts: a pause might be in force.
    pub(super) fn learn_standing(&mut self, past: Option<Past>) {
        if let Some(past) = past {
            (self.pauses, self.host) = (past.pauses, past.host);
        }
        self.tell_pauses();
        self.tell_host();
    }

    fn tell_pauses(&mut self) {
        for index in 0..self.agents.len() {
            self.feed(index, Input::Paused(self.pauses.clone()));
        }
    }

    pub(super) fn tell_host(&mut self) {
        let now = self.clock.now();
        for (agent, watched) in self.agents.iter_mut().zip(&self.links) {
            agent.handle(Input::Beside(self.host.beside(watched)), now);
        }
    }

    fn named(&self, replica: &str) -> Option<usize> {
        self.links.iter().position(|link| link.replica == replica)
    }

    /// The agent whose open incident has this id, or the beginning of it, or whose replica has this name.
    fn concerned(&self, asked: &str) -> Result<Option<usize>, String> {
        let begins =
            |id: &str| !asked.is_empty() && id.get(..asked.len()).is_some_and(|it| it.eq_ignore_ascii_case(asked));
        let fits = |(_, agent): &(usize, &Agent)| agent.incidents().open().is_some_and(|open| begins(&open.id.0));
        let found: Vec<usize> = self.agents.iter().enumerate().filter(fits).map(|(index, _)| index).collect();
        match found.as_slice() {
            [] => Ok(self.named(asked).filter(|index| self.agents[*index].incidents().open().is_some())),
            [one] => Ok(Some(*one)),
            _ => Err(format!("{asked:?} fits several open incidents; give more of the id")),
        }
    }

    fn decided(
        &mut self,
        asked: &str,
        answer: oneshot::Sender<Value>,
        decide: impl FnOnce(&mut Agent) -> Result<(), String>,
    ) {
        let found = self.concerned(asked).and_then(|index| index.ok_or_else(|| no_open(asked)));
        let done = found.and_then(|index| {
            let agent = self.agents.get_mut(index).ok_or_else(|| no_open(asked))?;
            let open = agent.incidents().open().cloned().ok_or_else(|| no_open(asked))?;
            decide(agent).map(|()| (index, json!({ "incident": open.id, "replica": open.link.replica })))
        });
        match done {
            Ok((index, said)) => self.hand_out_for(index, Receipt { said, answer }),
            Err(why) => _ = answer.send(refused(why)),
        }
    }

    fn take(&mut self, asked: String, by: Actor, name: &str, answer: oneshot::Sender<Value>) {
        let name = tame(name.trim(), 100);
        if name.is_empty() {
            let _ = answer.send(refused("ack needs a name: who takes it?".to_owned()));
            return;
        }
        match self.concerned(&asked) {
            Err(why) => _ = answer.send(refused(why)),
            Ok(Some(index)) => match self.agents[index].incidents().open().map(|open| open.id.clone()) {
                Some(id) => self.take_known(index, &id, by, name, answer),
                None => _ = answer.send(refused(no_open(&asked))),
            },
            // It may be over: the stop that it led to is not.
            Ok(None) => {
                let record = Arc::clone(&self.record);
                self.asks.spawn(async move {
                    let wanted = asked.clone();
                    let found = record.on_thread(move |record| record.with(|ledger| past(ledger, &wanted))).await;
                    Recorded { answer, what: Looked::Taken { by, name, found, asked } }
                });
            }
        }
    }

    fn take_known(&mut self, index: usize, id: &IncidentId, by: Actor, name: String, answer: oneshot::Sender<Value>) {
        let stopped = self.host.failures().in_a_row >= self.settings.policy.max_failures;
        let now = self.clock.now();
        let done = match self.agents.get_mut(index) {
            None => Err(no_incident(&id.0)),
            Some(agent) if !stopped && agent.incidents().open().is_none_or(|open| open.id != *id) => {
                Err(format!("incident {id} is over, and nothing waits for an answer"))
            }
            Some(agent) => agent.acknowledge(id, by, name, now),
        };
        match done {
            Ok(()) => {
                let said = json!({ "incident": id, "stop_lifted": stopped });
                self.hand_out_for(index, Receipt { said, answer });
            }
            Err(why) => _ = answer.send(refused(why)),
        }
    }

    fn pause(&mut self, scope: Scope, for_ms: u64, reason: &str, by: Actor, answer: oneshot::Sender<Value>) {
        let span = Duration::from_millis(for_ms);
        let reason = tame(reason.trim(), 300);
        let unknown = match &scope {
            Scope::Host => None,
            Scope::Group(name) => (!self.settings.groups.contains_key(name)).then_some(name),
            Scope::Replica(name) => self.named(name).is_none().then_some(name),
        };
        let wrong = match unknown {
            Some(name) => Some(format!("{name:?} is not in the configuration that the daemon runs with")),
            None if reason.is_empty() => Some("a pause needs a reason".to_owned()),
            None if span < Duration::from_secs(1) || span > LONGEST => {
                Some("a pause lasts 1 s to 30 days; for longer, set [policy] mode = \"observe\"".to_owned())
            }
            None => None,
        };
        if let Some(why) = wrong {
            let _ = answer.send(refused(why));
            return;
        }
        let now = self.clock.now();
        let pause = Pause { scope, owner: by, reason, began: now, ends: now.after(span), resumed: None };
        let said = json!({ "pause": pause.told() });
        tracing::warn!("{} pauses {} until {}: {}", pause.owner, pause.scope, pause.ends, pause.reason);
        self.keep(vec![pause], said, answer);
    }

    /// The instances within a scope on which a plan is in flight.
    fn at_work(&self, scope: &Scope) -> Vec<&str> {
        let all = self.agents.iter().zip(&self.links);
        all.filter(|(agent, link)| agent.is_acting() && scope.holds(link))
            .map(|(_, link)| link.replica.as_str())
            .collect()
    }

    fn resume(&mut self, scope: Option<&Scope>, by: &Actor, answer: oneshot::Sender<Value>) {
        let now = self.clock.now();
        let meant = |pause: &&Pause| pause.in_force(now) && scope.is_none_or(|scope| pause.scope == *scope);
        let mut over: Vec<Pause> = self.pauses.iter().filter(meant).cloned().collect();
        if over.is_empty() {
            let wider = self.pauses.iter().find(|pause| pause.in_force(now));
            let why = match (scope, wider) {
                (Some(scope), Some(wider)) => {
                    format!(
                        "no pause is for {scope} alone; {} paused {}: `relinkd resume` ends it",
                        wider.owner, wider.scope
                    )
                }
                _ => "nothing is paused".to_owned(),
            };
            let _ = answer.send(json!({ "resumed": [], "why": why }));
            return;
        }
        over.iter_mut().for_each(|pause| pause.resumed = Some((now, by.clone())));
        over.iter().for_each(|pause| tracing::warn!("{by} ends the pause of {}: {}", pause.scope, pause.reason));
        let said = json!({ "resumed": over.iter().map(Pause::told).collect::<Vec<_>>() });
        self.keep(over, said, answer);
    }

    /// Makes pauses durable, beside the loop.
    fn keep(&mut self, pauses: Vec<Pause>, said: Value, answer: oneshot::Sender<Value>) {
        let record = Arc::clone(&self.record);
        self.asks.spawn(async move {
            let kept = pauses.clone();
            let write = move |ledger: &mut Ledger| kept.iter().try_for_each(|pause| ledger.record_pause(pause));
            let done = record.on_thread(move |record| record.with(write)).await;
            Recorded { answer, what: Looked::Pauses(done.map(|()| (pauses, said))) }
        });
    }
}

/// A past incident: by its id or the beginning of it, or a replica's newest.
fn past(ledger: &mut Ledger, asked: &str) -> Result<Option<(String, IncidentId)>, LedgerError> {
    match ledger.incident(asked)? {
        Lookup::Found(incident) => Ok(Some((incident.link.replica, incident.id))),
        Lookup::Many(_) => Ok(None),
        Lookup::None => {
            let all = ledger.incidents(None, 1000)?;
            let newest = all.into_iter().find(|incident| incident.link.replica == asked);
            Ok(newest.map(|incident| (incident.link.replica, incident.id)))
        }
    }
}

fn refused(why: String) -> Value {
    json!({ "error": why, "refused": true })
}

fn no_open(asked: &str) -> String {
    format!(
        "no open incident's id begins with {asked:?}, and no replica of that name has one (relinkd status lists them)"
    )
}

fn no_incident(asked: &str) -> String {
    format!("no incident's id begins with {asked:?}, or more than one (relinkd incidents lists them)")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::daemon::Lasting;
    use crate::daemon::metrics::Metrics;
    use crate::diagnose::tests::world::*;
    use crate::model::evidence::CandidateView;

    async fn daemon(state_dir: &Path) -> Daemon {
        let text = format!("[agent]\nstate_dir = {state_dir:?}\n[replica.cache]\naddress = \"127.0.0.1:1\"\n");
        let settings = crate::config::parse(&[("config.toml".into(), text)]).unwrap();
        let metrics = Arc::new(Metrics::new(Timestamp(1)).unwrap());
        Daemon::assemble(&settings, &Lasting::new(metrics, Duration::from_secs(9))).await.unwrap()
    }

    fn pause(answer: oneshot::Sender<Value>) -> Asked {
        let by = Actor { uid: 0, name: "root".into(), sudo: None };
        Asked { request: Request::Pause { scope: Scope::Host, for_ms: 60_000, reason: "upgrade".into() }, by, answer }
    }

    /// What begins while the ledger takes a pause in is named, whatever it was at when the pause was asked for.
    #[tokio::test]
    async fn a_pause_names_what_began_before_it_was_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = daemon(dir.path()).await;
        let (answer, told) = oneshot::channel();
        daemon.answer(pause(answer));
        let (mut seen, now) = (healthy(), daemon.clock.now());
        seen.reject_password();
        seen.shift(now.before(Duration::from_millis(100)));
        seen.candidates.push(CandidateView {
            source: "file".into(),
            version: "1".into(),
            user: String::new(),
            print: "print-new".into(),
            in_use: false,
            proof: green(PRIMARY),
        });
        daemon.feed(0, Input::Looked(Box::new(seen)));
        assert!(daemon.agents[0].is_acting());
        let done = daemon.asks.join_next().await.unwrap().unwrap();
        daemon.recorded(done);
        assert_eq!(told.await.unwrap()["at_work"], json!(["cache"]));
    }

    /// Everything may begin anew while the ledger takes a pause in, and the new life may have read it before.
    #[tokio::test]
    async fn a_pause_that_is_being_recorded_outlives_a_reload_and_a_stop_waits_for_it() {
        for last in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut former = daemon(dir.path()).await;
            let mut next = daemon(dir.path()).await;
            let record = Arc::clone(&former.record);
            let slow = std::thread::spawn(move || {
                let busy = |_: &mut Ledger| {
                    std::thread::sleep(Duration::from_millis(300));
                    Ok(())
                };
                record.with(busy)
            });
            let (answer, mut told) = oneshot::channel();
            former.answer(pause(answer));
            let mut asks = former.drain(last).await;
            assert_eq!(told.try_recv().is_ok(), last, "an end is an answer to everybody");
            if !last {
                assert!(next.pauses.is_empty());
                next.asks = std::mem::take(&mut asks);
                let done = next.asks.join_next().await.unwrap().unwrap();
                next.recorded(done);
                assert!(told.await.unwrap()["pause"].is_object());
                assert_eq!(next.pauses.len(), 1, "it is in force");
            }
            slow.join().unwrap().unwrap();
            let kept = daemon(dir.path()).await.pauses;
            assert_eq!(kept.len(), 1, "in the record as it was told");
        }
    }

    /// Who asked while the daemon drained for a reload was told that it failed.
    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = daemon(dir.path()).await;
        let (answer, gone) = oneshot::channel();
        drop(gone);
        daemon.answer(pause(answer));
        assert_eq!(daemon.asks.len(), 0);
        let (answer, _waits) = oneshot::channel();
        daemon.answer(pause(answer));
        assert_eq!(daemon.asks.len(), 1);
    }
}
