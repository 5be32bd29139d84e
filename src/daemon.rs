//! The only loop: inputs to the agents, effects to the hands; and the only place that spawns tasks.
//!
//! The loop itself never waits for a server, a disk or a receiver. Each agent has a runner that carries out its effects
//! in order, each channel a courier, each source of wake-ups a watcher. Agents live in the loop and have no locks.
//! A reload builds everything anew from the ledger, once no step is in flight.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::agent::{Agent, Effect, Host, Input};
use crate::config::Settings;
use crate::control::{self, Asked};
use crate::model::LinkId;
use crate::model::event::{Wake, Why};
use crate::model::people::Pause;

mod answers;
mod beginning;
pub mod clock;
mod courier;
mod doors;
mod effects;
mod error;
mod falls;
mod http;
mod keyring;
mod metrics;
mod record;
mod snapshot;
mod stores;
mod strays;
mod systemd;
mod upkeep;
mod watched;
mod watchers;

pub use beginning::revive;
use effects::Receipt;
pub use effects::{Hand, Runner, Work};
pub use error::DaemonError;
pub use record::Record;
pub use stores::Stores;
pub use watched::{Dials, Watched, group_dials};

use beginning::Past;
use clock::Clock;
use falls::{Alarm, Fallen, Falls};
use http::{Peek, Site};
use metrics::Metrics;
use upkeep::reload;
use watchers::Senses;

/// How long a step in flight may take to end when we stop or reload.
const DRAIN: Duration = Duration::from_secs(8);

/// The ledger's file within `state_dir`.
pub const LEDGER: &str = "ledger.db";

/// Why the loop came back.
enum Ended {
    Stop,
    Reload(Box<Settings>),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config_path: &Path, settings: Settings) -> Result<(), DaemonError> {
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    let mut settings = settings;
    let socket = control::bind(&settings.agent.run_dir)
        .map_err(|error| DaemonError::Socket(settings.agent.run_dir.clone(), error))?;
    let (asked_in, asked) = mpsc::channel(16);
    let control = tokio::spawn(doors::serve(socket, asked_in));
    let (peeks_in, peeks) = mpsc::channel(16);
    let mut doors = Doors { asked, peeks };
    let metrics = Metrics::new(Clock::start().now()).map_err(|error| DaemonError::Metrics(error.to_string()))?;
    let mut lasting = Lasting::new(Arc::new(metrics), beginning::PATIENCE);
    loop {
        let mut daemon = Daemon::assemble(&settings, &lasting).await?;
        lasting.patience = beginning::next_patience(lasting.patience, daemon.unread);
        lasting.lived = true;
        daemon.asks = std::mem::take(&mut lasting.asks);
        let web = daemon.open_http(peeks_in.clone());
        systemd::ready(&daemon.sentence());
        let (ended, asks) = daemon.live(config_path, &mut signals, &mut doors).await;
        lasting.asks = asks;
        web.abort();
        match ended {
            Ended::Stop => break,
            Ended::Reload(new) => settings = *new,
        }
    }
    // Who still waits for an answer gets it, or is told that we stop.
    drop(doors);
    let _ = control.await;
    let _ = std::fs::remove_file(settings.agent.run_dir.join(control::SOCKET));
    tracing::info!("stopped");
    Ok(())
}

/// Where questions come in.
struct Doors {
    asked: mpsc::Receiver<Asked>,
    peeks: mpsc::Receiver<Peek>,
}

/// What outlives a reload.
struct Lasting {
    metrics: Arc<Metrics>,
    falls: Shared<Falls>,
    /// How long the state directory is waited for.
    patience: Duration,
    /// This is not the first life, so a state directory that is not there is none that somebody has just misspelt.
    lived: bool,
    /// Answers that still wait for the ledger.
    asks: Asks,
}

impl Lasting {
    fn new(metrics: Arc<Metrics>, patience: Duration) -> Lasting {
        Lasting { metrics, falls: Shared::default(), patience, lived: false, asks: Asks::new() }
    }
}

/// Answers that wait for the ledger.
type Asks = JoinSet<answers::Recorded>;

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// One life of the assembly: from one set of settings to the next.
struct Daemon {
    clock: Clock,
    agents: Vec<Agent>,
    /// Whom each agent is about.
    links: Vec<LinkId>,
    /// Pauses in force, and those that were over within a day.
    pauses: Vec<Pause>,
    host: Host,
    asks: Asks,
    /// Where each agent's effects go.
    runners: Vec<mpsc::UnboundedSender<Work>>,
    inputs: mpsc::Receiver<(usize, Input)>,
    record: Arc<Record>,
    senses: Senses,
    runner_tasks: JoinSet<()>,
    /// Couriers and watchers: cut off at the end, they hold nothing that would be lost.
    background: JoinSet<()>,
    said: String,
    metrics: Arc<Metrics>,
    keys: Shared<keyring::Keys>,
    /// Why HTTP is not served.
    http_trouble: Shared<Option<String>>,
    settings: Settings,
    /// The ledger could not be read at the start: once it can, everything begins anew from it.
    unread: bool,
    /// Whether it can, on its way.
    ledger_back: JoinSet<bool>,
    alarm: Alarm,
    fallen: mpsc::UnboundedReceiver<Fallen>,
    falls: Shared<Falls>,
    /// When everything begins anew, since a task has fallen.
    anew: Option<tokio::time::Instant>,
}

impl Daemon {
    async fn assemble(settings: &Settings, lasting: &Lasting) -> Result<Daemon, DaemonError> {
        let clock = Clock::start();
        let (metrics, patience) = (&lasting.metrics, lasting.patience);
        metrics.begin_anew();
        metrics.expect(settings.replicas.keys(), settings.channels.keys());
        let record = Record::counted(settings, Arc::clone(metrics));
        let names = settings.replicas.keys().cloned().collect();
        let (salt, past) = tokio::join!(
            beginning::salt(&settings.agent.state_dir, patience, lasting.lived),
            Past::read(&record, names, clock.now(), patience),
        );
        let (salt, kept) = salt?;
        let (inputs_in, inputs) = mpsc::channel(1024);
        let (alarm, fallen) = Alarm::new();
        let watched = Watched::all(settings, &salt, clock);
        let places = keyring::places(settings, &watched);
        let stores = watched.first().map_or_else(|| Stores::new(clock), |one| one.stores.clone());
        let mut daemon = Daemon {
            clock,
            agents: Vec::new(),
            links: Vec::new(),
            pauses: Vec::new(),
            host: Host::default(),
            asks: Asks::new(),
            runners: Vec::new(),
            inputs,
            record: Arc::clone(&record),
            senses: Senses::new(watched.clone(), clock, inputs_in.clone(), alarm.clone()),
            runner_tasks: JoinSet::new(),
            background: JoinSet::new(),
            said: String::new(),
            metrics: Arc::clone(metrics),
            keys: Shared::default(),
            http_trouble: Shared::default(),
            settings: settings.clone(),
            unread: !kept || past.is_err(),
            ledger_back: JoinSet::new(),
            alarm,
            fallen,
            falls: Arc::clone(&lasting.falls),
            anew: None,
        };
        for (index, one) in watched.into_iter().enumerate() {
            daemon.links.push(one.link());
            let of_it = past.as_ref().map(|past| past.of(index)).map_err(String::as_str);
            daemon.agents.push(beginning::agent(&one, settings, clock.now(), of_it));
            let (effects_in, effects) = mpsc::unbounded_channel();
            daemon.runners.push(effects_in);
            let hand = daemon.hand(index, inputs_in.clone());
            let name = one.name.clone();
            let runner = Runner::new(index, one, hand).run(effects);
            daemon.runner_tasks.spawn(daemon.alarm.over_runner((index, &name), runner));
        }
        daemon.senses.refresh();
        let desk = keyring::Desk { salt, clock, board: Arc::clone(&daemon.keys), stores, inputs: inputs_in.clone() };
        for place in places {
            let what = format!("the follower of {place}");
            daemon.background.spawn(daemon.alarm.over(what, keyring::follow(place, desk.clone())));
        }
        for (name, channel) in &settings.channels {
            daemon.open_channel(name, channel);
        }
        daemon.let_strays_go();
        daemon.learn_standing(past.ok());
        for index in 0..daemon.agents.len() {
            daemon.feed(index, Input::Wake(Wake { at: clock.now(), why: Why::Start }));
        }
        daemon.falls().over();
        Ok(daemon)
    }

    /// What the effects of one agent are carried out with.
    fn hand(&self, index: usize, inputs: mpsc::Sender<(usize, Input)>) -> Hand {
        Hand {
            clock: self.clock,
            record: Arc::clone(&self.record),
            book: self.senses.book(index),
            pulse: self.senses.pulse(index),
            sentinels: self.senses.board(index),
            server_log: self.senses.server_log(index),
            inputs,
            retry_login: self.settings.policy.background,
        }
    }

    async fn live(mut self, config_path: &Path, signals: &mut Signals, doors: &mut Doors) -> (Ended, Asks) {
        let mut alive = tokio::time::interval(systemd::watchdog_period().unwrap_or(Duration::from_secs(10)));
        let mut beat = tokio::time::interval(metrics::BEAT);
        let mut prune = tokio::time::interval_at(tokio::time::Instant::now() + upkeep::SETTLED, upkeep::PRUNE);
        let mut refresh = tokio::time::interval(Duration::from_secs(10));
        let ended = loop {
            self.hand_out();
            let next = self.agents.iter().filter_map(Agent::poll_timeout).min();
            let timer = next.map(|at| tokio::time::Instant::from_std(self.clock.instant(at)));
            tokio::select! {
                Some((index, input)) = self.inputs.recv() => self.feed(index, input),
                () = sleep_until(timer) => self.timeouts(),
                Some(question) = doors.asked.recv() => self.answer(question),
                Some(Ok(done)) = self.asks.join_next(), if !self.asks.is_empty() => self.recorded(done),
                Some(peek) = doors.peeks.recv() => { let _ = peek.send(self.snapshot()); }
                due = beat.tick() => self.metrics.turned(due.elapsed()),
                _ = alive.tick() => { systemd::alive(); self.say(); }
                _ = prune.tick() => self.prune(),
                _ = refresh.tick() => {
                    self.senses.refresh();
                    self.ask_for_the_ledger();
                    if self.clock_was_set() {
                        break Ended::Reload(Box::new(self.settings.clone()));
                    }
                }
                Some(back) = self.ledger_back.join_next(), if !self.ledger_back.is_empty() => {
                    if matches!(back, Ok(true)) {
                        break Ended::Reload(Box::new(self.settings.clone()));
                    }
                }
                Some((index, dials)) = self.senses.fetched() => self.senses.adopt(index, dials),
                Some(fallen) = self.fallen.recv() => self.fell(fallen),
                () = sleep_until(self.anew) => break Ended::Reload(Box::new(self.settings.clone())),
                _ = signals.term.recv() => break Ended::Stop,
                _ = signals.int.recv() => break Ended::Stop,
                _ = signals.hup.recv() => if let Some(settings) = reload(config_path, &self.settings) {
                    break Ended::Reload(Box::new(settings));
                },
            }
        };
        if matches!(ended, Ended::Stop) {
            systemd::stopping();
        }
        let asks = self.drain(matches!(ended, Ended::Stop)).await;
        (ended, asks)
    }

    /// The wall clock has left ours behind, and nothing is open whose times would be torn apart.
    fn clock_was_set(&self) -> bool {
        let quiet = |agent: &Agent| agent.incidents().open().is_none() && !agent.is_acting();
        self.clock.is_off() && self.agents.iter().all(quiet)
    }

    fn feed(&mut self, index: usize, input: Input) {
        let now = self.clock.now();
        if let Some(agent) = self.agents.get_mut(index) {
            agent.handle(input, now);
            self.metrics.link(&agent.identity().link.replica, agent.link_up(), now);
        }
        self.hand_out();
        self.say();
    }

    fn timeouts(&mut self) {
        let now = self.clock.now();
        for agent in &mut self.agents {
            agent.handle_timeout(now);
        }
    }

    /// What the agents want done goes to their runners, in order.
    fn hand_out(&mut self) {
        self.hand_out_with(&mut None);
    }

    /// The same, when somebody waits for the record that this agent has just made.
    fn hand_out_for(&mut self, index: usize, receipt: Receipt) {
        let mut receipt = Some((index, receipt));
        self.hand_out_with(&mut receipt);
        receipt.into_iter().for_each(|(_, receipt)| receipt.settle(Ok(())));
    }

    fn hand_out_with(&mut self, receipt: &mut Option<(usize, Receipt)>) {
        let mut acted = false;
        for (index, (agent, runner)) in self.agents.iter_mut().zip(&self.runners).enumerate() {
            while let Some(effect) = agent.poll_effect() {
                let mut waiting = None;
                if let Effect::Record { entries, .. } = &effect {
                    entries.iter().for_each(|entry| self.host.take(entry));
                    acted |= entries.iter().any(|entry| Host::concerns(&entry.what));
                    waiting = receipt.take_if(|(whose, _)| *whose == index).map(|(_, receipt)| receipt);
                }
                let _ = runner.send(Work::for_someone(effect, waiting));
            }
        }
        if acted {
            self.tell_host();
        }
    }

    /// The sentence of the present cycle, for systemd and the log, when it changes.
    fn say(&mut self) {
        let sentence = self.sentence();
        if sentence != self.said {
            systemd::status(&sentence);
            tracing::info!("{sentence}");
            self.said = sentence;
        }
    }

    fn falls(&self) -> MutexGuard<'_, Falls> {
        self.falls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The HTTP port, for as long as these settings hold: it answers while a step in flight ends, too.
    fn open_http(&self, peeks: mpsc::Sender<Peek>) -> JoinHandle<()> {
        let Some(listen) = self.settings.agent.listen else { return tokio::spawn(async {}) };
        let site =
            Site::new(peeks, Arc::clone(&self.metrics), Arc::clone(&self.falls), self.clock, &self.settings, listen);
        tokio::spawn(http::serve(listen, site, Arc::clone(&self.http_trouble)))
    }

    /// A step is in flight whose end will be heard of.
    fn is_busy(&self) -> bool {
        let unwatched = self.falls().unwatched();
        self.agents.iter().enumerate().any(|(index, agent)| agent.is_acting() && !unwatched.contains(&index))
    }

    /// Lets the step in flight end and its record be made, within a bound; begins nothing new. What a person has asked for
    /// and the ledger has not taken in yet is left to the next life, or waited for where there is none: their answer and the
    /// record have to agree.
    async fn drain(mut self, last: bool) -> Asks {
        self.background.abort_all();
        self.metrics.show(&self.snapshot());
        self.senses.stop();
        for index in 0..self.agents.len() {
            self.feed(index, Input::Stopping);
        }
        let bound = tokio::time::sleep(DRAIN);
        tokio::pin!(bound);
        while self.is_busy() {
            tokio::select! {
                Some((index, input)) = self.inputs.recv() => self.feed(index, input),
                Some(fallen) = self.fallen.recv() => self.fell(fallen),
                () = &mut bound => {
                    tracing::warn!("a step did not end in time; the next start finds it interrupted and looks again");
                    break;
                }
            }
        }
        let mut asks = std::mem::take(&mut self.asks);
        while let Some(done) = tokio::select! {
            done = asks.join_next(), if last => done,
            () = &mut bound, if last => None,
            else => None,
        } {
            done.into_iter().for_each(|done| self.recorded(done));
        }
        self.hand_out();
        self.runners.clear();
        self.inputs.close();
        let _ = tokio::time::timeout(Duration::from_secs(3), async {
            while self.runner_tasks.join_next().await.is_some() {}
        })
        .await;
        asks
    }
}

async fn sleep_until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A board that one task writes and others read.
type Shared<T> = Arc<Mutex<T>>;
