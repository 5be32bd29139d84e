//! Carries out one agent's effects, strictly in order: a change never starts before the record of its intent is
//! durable. When a record fails, every change behind it is dropped, the records are kept and tried again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch as board};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::record::Record;
use super::stores::PATIENCE;
use super::watched::Watched;
use crate::act::Hands;
use crate::agent::{Effect, Input};
use crate::collect::{self, Ask};
use crate::model::event::{Wake, Why};
use crate::model::evidence::{Evidence, Missing, Reading, SentinelView, Successor};
use crate::model::incident::{Entry, Notice, What};
use crate::model::remedy::Step;
use crate::secrets::SecretRef;
use crate::watch::log::{LogBook, ServerLog};
use crate::watch::replica::PulseBoard;
use crate::watch::sentinel::SentinelBoard;
use crate::wire::Until;

/// How often records that failed are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the effects of an agent are carried out with.
pub struct Hand {
    pub clock: Clock,
    pub record: Arc<Record>,
    pub book: Arc<Mutex<LogBook>>,
    pub pulse: Arc<Mutex<PulseBoard>>,
    /// What the Sentinels of its group publish.
    pub sentinels: Arc<Mutex<SentinelBoard>>,
    /// Where the server logs, for whoever follows it.
    pub server_log: board::Sender<Option<ServerLog>>,
    pub inputs: mpsc::Sender<(usize, Input)>,
    /// A login that another replica refused is not tried there again before.
    pub retry_login: Duration,
}

/// Carries out the effects of one agent.
pub struct Runner {
    index: usize,
    watched: Watched,
    hand: Hand,
}

/// What a runner is to do, and who waits to hear that it is done.
pub struct Work {
    effect: Effect,
    /// Of a record.
    receipt: Option<Receipt>,
}

impl From<Effect> for Work {
    fn from(effect: Effect) -> Work {
        Work { effect, receipt: None }
    }
}

impl Work {
    /// A record whose receipt somebody waits for.
    pub fn for_someone(effect: Effect, receipt: Option<Receipt>) -> Work {
        Work { effect, receipt }
    }
}

/// What a person is told once their word is durable.
pub struct Receipt {
    pub said: Value,
    pub answer: oneshot::Sender<Value>,
}

impl Receipt {
    /// The record is kept and tried again, so what the person said is neither lost yet nor safe.
    pub fn settle(self, done: Result<(), &str>) {
        let said = match done {
            Ok(()) => self.said,
            Err(why) => {
                let error = format!(
                    "it is not recorded yet, since the ledger cannot be written: {why}; relinkd tries again each second, \
                     changes nothing meanwhile, and forgets it if it ends before"
                );
                json!({ "error": error, "refused": true })
            }
        };
        let _ = self.answer.send(said);
    }
}

/// The last look, as far as what follows needs it.
#[derive(Default)]
struct LastLook {
    began: Option<Until>,
    /// Replicas that refused a login within `retry_login`.
    refused: Vec<Successor>,
    /// Secret stores that had not answered when a look went on without them, and whose answer is still to be told.
    awaited: Vec<SecretRef>,
}

/// A record that waits for the ledger.
struct Waiting {
    entries: Vec<Entry>,
    notice: Option<Box<Notice>>,
    receipt: Option<Receipt>,
}

/// The records that wait, oldest first.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Waiting>,
    /// The agent was told that the ledger cannot be written.
    told: bool,
    /// A record has failed, and the agent has not looked since. What it wants applied it has decided before it heard of
    /// that, and it records that nothing came of it, whether or not the ledger works by now.
    blind: bool,
}

impl Runner {
    pub fn new(index: usize, watched: Watched, hand: Hand) -> Runner {
        Runner { index, watched, hand }
    }

    /// Runs on a task of its own.
    pub fn start(self, effects: mpsc::UnboundedReceiver<Work>) -> JoinHandle<()> {
        tokio::spawn(self.run(effects))
    }

    /// Ends when the loop lets go of the other end.
    pub async fn run(self, mut effects: mpsc::UnboundedReceiver<Work>) {
        let mut backlog = Backlog::default();
        let mut hands: Option<Hands> = None;
        let mut last = LastLook::default();
        let mut answers = self.watched.stores.answers();
        loop {
            let Work { effect, receipt } = tokio::select! {
                work = effects.recv() => match work {
                    Some(work) => work,
                    None => break,
                },
                () = tokio::time::sleep(RETRY), if !backlog.waiting.is_empty() => {
                    self.catch_up(&mut backlog).await;
                    continue;
                }
                Ok(()) = answers.changed(), if !last.awaited.is_empty() => {
                    self.note_answers(&mut last).await;
                    continue;
                }
            };
            match effect {
                Effect::Look { candidates, deep } => {
                    backlog.blind = false;
                    self.look(candidates, deep, &mut last).await;
                }
                Effect::Record { entries, notice } => {
                    // Attempts are counted by incident, so their numbers come again. Hands must not: they hold the
                    // login of their own time, and the former password for the undo of their own run.
                    if entries.iter().any(|entry| matches!(entry.what, What::Intended { .. })) {
                        hands = None;
                    }
                    backlog.waiting.push_back(Waiting { entries, notice, receipt });
                    self.catch_up(&mut backlog).await;
                }
                // The intent is among the records that wait, or was given up: nothing is changed.
                Effect::Apply { .. } if backlog.blind || !backlog.waiting.is_empty() => {}
                Effect::Apply { attempt, step } => self.apply(attempt, &step, &mut hands, &last).await,
            }
        }
        self.catch_up(&mut backlog).await;
    }

    /// Writes what waits, oldest first. Says so when it fails, and when all of it is durable again after a failure.
    async fn catch_up(&self, backlog: &mut Backlog) {
        while let Some(next) = backlog.waiting.front() {
            let (entries, notice) = (next.entries.clone(), next.notice.clone());
            let written = self.hand.record.on_thread(move |record| record.write(&entries, notice.as_deref())).await;
            if let Err(why) = written {
                if !backlog.told {
                    tracing::error!(
                        replica = self.watched.name,
                        "the ledger cannot be written, so nothing is changed: {why}"
                    );
                }
                let receipts = backlog.waiting.iter_mut().filter_map(|waiting| waiting.receipt.take());
                receipts.for_each(|receipt| receipt.settle(Err(&why)));
                (backlog.told, backlog.blind) = (true, true);
                self.send(Input::LedgerFailed(why)).await;
                return;
            }
            let written = backlog.waiting.pop_front().and_then(|written| written.receipt);
            written.into_iter().for_each(|receipt| receipt.settle(Ok(())));
        }
        if std::mem::take(&mut backlog.told) {
            self.send(Input::LedgerRecovered).await;
        }
    }

    async fn look(&self, candidates: bool, deep: bool, last: &mut LastLook) {
        last.began = Some(Until::now());
        let clock = self.hand.clock;
        let now = move || clock.now();
        let proving = async {
            match candidates {
                true => self.watched.candidates(Some(PATIENCE)).await,
                false => (Vec::new(), Reading::Missing(Missing::NotAsked)),
            }
        };
        let (dials, (offers, store)) = tokio::join!(self.watched.dials_within(Some(PATIENCE)), proving);
        for problem in &dials.problems {
            tracing::warn!(replica = self.watched.name, "{problem}");
        }
        let mut asked = dials.awaited.clone();
        asked.extend(self.watched.store().filter(|_| candidates).cloned());
        last.awaited.retain(|place| !asked.contains(place));
        last.awaited.extend(asked.into_iter().filter(|place| self.watched.stores.is_asking(place)));
        let log = self.hand.book.lock().unwrap_or_else(PoisonError::into_inner).reading(now());
        let followed = self.hand.pulse.lock().unwrap_or_else(PoisonError::into_inner).followed.clone();
        let ask = Ask {
            meet_replicas: false,
            refused: &last.refused,
            candidates: &offers,
            store,
            log,
            followed,
            clock: &now,
            deadline: collect::DEADLINE,
            probe_upstream: deep,
        };
        let mut evidence = collect::look(&self.watched.target(&dials), ask).await;
        evidence.trend.last_up = self.hand.pulse.lock().unwrap_or_else(PoisonError::into_inner).last_up;
        let board = self.hand.sentinels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (evidence.trend.tries, evidence.trend.heard_since) = (board.tries(), board.heard_since());
        self.note_log(&evidence);
        let recent = |one: &&Successor| one.refused_us() && now().since(one.at) < self.hand.retry_login;
        last.refused = evidence.successors.iter().filter(recent).cloned().collect();
        if denied(&evidence) {
            self.watched.doubt_stores();
        }
        self.send(Input::Looked(Box::new(evidence))).await;
    }

    /// A store has answered a question that the last look did not wait for: the next one is due.
    async fn note_answers(&self, last: &mut LastLook) {
        let asked = last.awaited.len();
        last.awaited.retain(|place| self.watched.stores.is_asking(place));
        if last.awaited.len() < asked {
            self.send(Input::Wake(Wake { at: self.hand.clock.now(), why: Why::Store })).await;
        }
    }

    /// Tells the log's follower where the server logs, when that was seen.
    fn note_log(&self, evidence: &Evidence) {
        let Some(settings) = evidence.settings.seen() else { return };
        let seen = ServerLog {
            logfile: settings.logfile.clone(),
            dir: settings.dir.clone(),
            process_id: evidence.local.seen().and_then(|view| view.process_id),
        };
        self.hand.server_log.send_if_modified(|known| {
            let new = known.as_ref() != Some(&seen);
            if new {
                *known = Some(seen);
            }
            new
        });
    }

    async fn apply(&self, attempt: u32, step: &Step, held: &mut Option<Hands>, last: &LastLook) {
        let hands = match held {
            Some(hands) => hands,
            None => {
                // What has to follow on its look soon goes with what the look itself was made with.
                let patience = step.expect.looked_within_ms.map(|_| PATIENCE);
                held.insert(self.hands(self.watched.dials_within(patience).await))
            }
        };
        let began = Instant::now();
        let outcome = hands.run(step, last.began).await;
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            replica = self.watched.name,
            "{}: {}: {}",
            step.change.describe(),
            outcome.code(),
            outcome.detail()
        );
        self.send(Input::Stepped { attempt, outcome, took_us }).await;
    }

    fn hands(&self, dials: super::watched::Dials) -> Hands {
        Hands::new(
            dials.local,
            dials.sentinels,
            self.watched.group_name().map(str::to_owned),
            self.watched.store().cloned(),
            self.watched.salt.clone(),
        )
    }

    async fn send(&self, input: Input) {
        // The loop has gone: it is stopping, and the ledger has the rest.
        let _ = self.hand.inputs.send((self.index, input)).await;
    }
}

/// The instance, a Sentinel or another replica did not take our login.
fn denied(evidence: &Evidence) -> bool {
    let sentinel = |view: &SentinelView| matches!(view.says, Reading::Missing(Missing::Denied(_)));
    let successor = |one: &Successor| matches!(one.server, Reading::Missing(Missing::Denied(_)));
    matches!(evidence.local, Reading::Missing(Missing::Denied(_)))
        || evidence.sentinels.iter().any(sentinel)
        || evidence.successors.iter().any(successor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Cause;
    use crate::model::incident::{IncidentId, What};
    use crate::model::remedy::{Change, Handover, Precondition};
    use crate::secrets::Salt;

    fn runner(state_dir: &std::path::Path) -> (Runner, mpsc::Receiver<(usize, Input)>) {
        runner_with(state_dir, "")
    }

    /// `more`: of the instance, and what follows on it.
    fn runner_with(state_dir: &std::path::Path, more: &str) -> (Runner, mpsc::Receiver<(usize, Input)>) {
        let text = format!("[agent]\nstate_dir = {state_dir:?}\n[replica.cache]\naddress = \"127.0.0.1:1\"\n{more}");
        let settings = crate::config::parse(&[("config.toml".into(), text)]).unwrap();
        let watched = Watched::all(&settings, &Salt::fleeting(), Clock::start()).remove(0);
        let (inputs, heard) = mpsc::channel(16);
        let hand = Hand {
            clock: Clock::start(),
            record: Record::of(&settings),
            book: Arc::default(),
            pulse: Arc::default(),
            sentinels: Arc::default(),
            server_log: board::channel(None).0,
            inputs,
            retry_login: settings.policy.background,
        };
        (Runner::new(0, watched, hand), heard)
    }

    fn blip(runner: &Runner) -> Effect {
        let entry = Entry {
            at: runner.hand.clock.now(),
            link: runner.watched.link(),
            incident: IncidentId("01J".to_owned()),
            what: What::Blip { cause: Cause::Unknown, down_ms: 1 },
        };
        Effect::Record { entries: vec![entry], notice: None }
    }

    /// The agent hears of a failure later than the ledger may work again, and says then that nothing was changed.
    #[tokio::test]
    async fn what_was_decided_before_a_failure_was_heard_of_is_not_applied() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("not-there-yet");
        let (runner, mut heard) = runner(&state_dir);
        let (effects, work) = mpsc::unbounded_channel();
        let (first, second, third) = (blip(&runner), blip(&runner), blip(&runner));
        let step = Step { expect: Precondition::default(), change: Change::ProveLink, within_ms: 100 };
        let apply = |attempt| Effect::Apply { attempt, step: Box::new(step.clone()) };
        effects.send(first.into()).unwrap();
        let running = runner.start(work);
        assert!(matches!(heard.recv().await, Some((0, Input::LedgerFailed(_)))));
        std::fs::create_dir(&state_dir).unwrap();
        effects.send(second.into()).unwrap();
        effects.send(apply(1).into()).unwrap();
        effects.send(Effect::Look { candidates: false, deep: false }.into()).unwrap();
        effects.send(third.into()).unwrap();
        effects.send(apply(2).into()).unwrap();
        drop(effects);
        let mut applied = Vec::new();
        while let Some((_, input)) = heard.recv().await {
            if let Input::Stepped { attempt, .. } = input {
                applied.push(attempt);
            }
        }
        running.await.unwrap();
        assert_eq!(applied, [2], "after a look the agent knows");
    }

    #[tokio::test]
    async fn one_record_that_had_to_wait_is_told_as_recovered_once_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("not-there-yet");
        let (runner, mut heard) = runner(&state_dir);
        let (effects, work) = mpsc::unbounded_channel();
        effects.send(blip(&runner).into()).unwrap();
        let running = runner.start(work);
        assert!(matches!(heard.recv().await, Some((0, Input::LedgerFailed(_)))));
        std::fs::create_dir(&state_dir).unwrap();
        let recovered = async {
            loop {
                match heard.recv().await {
                    Some((_, Input::LedgerFailed(_))) => {}
                    other => break other,
                }
            }
        };
        let recovered = tokio::time::timeout(Duration::from_secs(20), recovered).await;
        assert_eq!(recovered, Ok(Some((0, Input::LedgerRecovered))));
        drop(effects);
        running.await.unwrap();
        assert!(heard.recv().await.is_none(), "it is said once");
    }

    /// One Sentinel that refuses our login has the store asked anew at each look, and a store may be slow: what has to
    /// follow on its look within seconds does not wait for it.
    #[tokio::test]
    async fn a_store_that_is_doubted_and_slow_makes_no_look_too_old_to_act_on() {
        let dir = tempfile::tempdir().unwrap();
        let group = "group = \"g\"\n[group.g]\nsentinels = [\"127.0.0.1:1\"]\n\
                     sentinel_password = { exec = [\"/bin/sleep\", \"9\"] }\n";
        let (runner, mut heard) = runner_with(dir.path(), group);
        runner.watched.doubt_stores();
        let expect = Precondition { looked_within_ms: Some(5_000), no_failover: true, ..Precondition::default() };
        let change = Change::RequestFailover { group: "g".into(), sentinels: Vec::new(), how: Handover::Lost };
        let step = Step { expect, change, within_ms: 2_000 };
        let last = LastLook { began: Some(Until::now().earlier_by(Duration::from_secs(2))), ..LastLook::default() };
        let mut hands = None;
        let apply = tokio::time::timeout(Duration::from_secs(6), runner.apply(1, &step, &mut hands, &last));
        apply.await.expect("it does not wait for the store");
        let Some((0, Input::Stepped { outcome, .. })) = heard.recv().await else { panic!("no step") };
        assert!(!outcome.detail().contains("too old"), "{outcome:?}");
    }

    /// While the agent is at a look, its record waits, and so does who is to hear of it.
    #[tokio::test]
    async fn a_person_is_answered_when_their_word_is_durable_or_that_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("not-there-yet");
        let (runner, mut heard) = runner(&state_dir);
        let (effects, work) = mpsc::unbounded_channel();
        let ask = |effect| {
            let (answer, told) = oneshot::channel();
            let receipt = Receipt { said: json!({ "done": true }), answer };
            effects.send(Work::for_someone(effect, Some(receipt))).unwrap();
            told
        };
        let (failing, going_through) = (blip(&runner), blip(&runner));
        let record = Arc::clone(&runner.hand.record);
        let running = runner.start(work);
        let told = ask(failing).await.unwrap();
        assert!(told["error"].as_str().unwrap().contains("not recorded yet"), "{told}");
        std::fs::create_dir(&state_dir).unwrap();
        assert_eq!(ask(going_through).await.unwrap(), json!({ "done": true }));
        // Both: what failed was tried again, and in its order.
        let kept = record.with(|ledger| ledger.history("cache", crate::model::Timestamp(0))).unwrap();
        assert_eq!(kept.len(), 2);
        drop(effects);
        while heard.recv().await.is_some() {}
        running.await.unwrap();
    }
}
