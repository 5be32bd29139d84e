//! The watchers of all instances: spawned, spawned again when a secret has changed, stopped together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{mpsc, watch as board};
use tokio::task::JoinSet;

use super::Shared;
use super::clock::Clock;
use super::falls::Alarm;
use super::watched::{Dials, Watched, by_group};
use crate::agent::Input;
use crate::model::event::Wake;
use crate::watch::log::{self, LogBook, LogSource, ServerLog};
use crate::watch::replica::{self, PulseBoard};
use crate::watch::sentinel::{self, Pace, SentinelBoard};

/// Wake-ups that wait: one is as good as many.
const PENDING: usize = 4;

pub struct Senses {
    clock: Clock,
    alarm: Alarm,
    inputs: mpsc::Sender<(usize, Input)>,
    instances: Vec<Instance>,
    groups: BTreeMap<String, Group>,
    tasks: JoinSet<()>,
    fetching: JoinSet<()>,
    ready: mpsc::Sender<(usize, Dials)>,
    heard: mpsc::Receiver<(usize, Dials)>,
}

struct Instance {
    watched: Watched,
    book: Shared<LogBook>,
    pulse: Shared<PulseBoard>,
    server_log: board::Sender<Option<ServerLog>>,
    /// The dials that the present watchers use.
    dials: Option<Dials>,
    tasks: JoinSet<()>,
}

struct Group {
    members: Vec<usize>,
    board: Shared<SentinelBoard>,
    tasks: JoinSet<()>,
}

/// One Sentinel as the subscription sees it.
#[derive(Debug, Serialize)]
pub struct SentinelState {
    pub group: String,
    pub sentinel: String,
    pub connected_since: Option<String>,
    pub trouble: Option<String>,
}

impl Senses {
    pub fn new(watched: Vec<Watched>, clock: Clock, inputs: mpsc::Sender<(usize, Input)>, alarm: Alarm) -> Senses {
        let groups = by_group(&watched)
            .into_iter()
            .map(|(name, members)| {
                (name, Group { members, board: Arc::new(Mutex::new(SentinelBoard::default())), tasks: JoinSet::new() })
            })
            .collect();
        let instances = watched.into_iter().map(Instance::new).collect();
        let (ready, heard) = mpsc::channel(16);
        let (tasks, fetching) = (JoinSet::new(), JoinSet::new());
        Senses { clock, alarm, inputs, instances, groups, tasks, fetching, ready, heard }
    }

    pub fn book(&self, index: usize) -> Shared<LogBook> {
        self.instances.get(index).map(|one| Arc::clone(&one.book)).unwrap_or_default()
    }

    pub fn pulse(&self, index: usize) -> Shared<PulseBoard> {
        self.instances.get(index).map(|one| Arc::clone(&one.pulse)).unwrap_or_default()
    }

    /// The board of this instance's group; an empty one where it has none.
    pub fn board(&self, index: usize) -> Shared<SentinelBoard> {
        let group = self.groups.values().find(|group| group.members.contains(&index));
        group.map(|group| Arc::clone(&group.board)).unwrap_or_default()
    }

    pub fn server_log(&self, index: usize) -> board::Sender<Option<ServerLog>> {
        self.instances.get(index).map_or_else(|| board::channel(None).0, |one| one.server_log.clone())
    }

    /// Fetches every instance's secrets anew, on the side: a store may be slow, and the loop does not wait.
    pub fn refresh(&mut self) {
        if !self.fetching.is_empty() {
            while self.fetching.try_join_next().is_some() {}
        }
        if !self.fetching.is_empty() {
            return;
        }
        for (index, instance) in self.instances.iter().enumerate() {
            let (watched, ready) = (instance.watched.clone(), self.ready.clone());
            let what = format!("the fetching of secrets for {}", watched.name);
            self.fetching.spawn(self.alarm.over(what, async move {
                let dials = watched.dials().await;
                let _ = ready.send((index, dials)).await;
            }));
        }
    }

    /// The next instance whose secrets have been fetched.
    pub async fn fetched(&mut self) -> Option<(usize, Dials)> {
        self.heard.recv().await
    }

    /// Spawns the watchers of an instance, or spawns them anew when they would dial with a secret that has changed.
    pub fn adopt(&mut self, index: usize, dials: Dials) {
        let Some(instance) = self.instances.get_mut(index) else { return };
        if instance.dials.as_ref().is_some_and(|known| known.same_secrets(&dials)) {
            return;
        }
        for problem in &dials.problems {
            tracing::warn!(replica = instance.watched.name, "{problem}");
        }
        instance.dials = Some(dials.clone());
        self.watch_instance(index, &dials);
        self.watch_group(index, &dials);
    }

    fn watch_instance(&mut self, index: usize, dials: &Dials) {
        let knocks = self.forward(vec![index]);
        let clock = self.clock;
        let now = move || clock.now();
        let Some(instance) = self.instances.get_mut(index) else { return };
        instance.tasks.abort_all();
        let poll = replica::poll(
            dials.local.clone(),
            instance.watched.replica.poll,
            Arc::clone(&instance.pulse),
            knocks.clone(),
            now,
        );
        let name = &instance.watched.name;
        instance.tasks.spawn(self.alarm.over(format!("the poll of {name}"), async move {
            let _ = poll.await;
        }));
        let source = instance.watched.replica.log.clone();
        let told = instance.server_log.subscribe();
        let book = Arc::clone(&instance.book);
        let following = follow_log(source, told, book, knocks, clock);
        instance.tasks.spawn(self.alarm.over(format!("the follower of {name}'s log"), following));
    }

    /// One subscription to each Sentinel of a group, for all its members; the first of them has the dials.
    fn watch_group(&mut self, index: usize, dials: &Dials) {
        let Some(name) = self.instances.get(index).and_then(|one| one.watched.group_name().map(str::to_owned)) else {
            return;
        };
        let Some(members) = self.groups.get(&name).map(|group| group.members.clone()) else { return };
        if members.first() != Some(&index) {
            return;
        }
        let knocks = self.forward(members);
        let clock = self.clock;
        let Some(group) = self.groups.get_mut(&name) else { return };
        group.tasks.abort_all();
        for dial in &dials.sentinels {
            let now = move || clock.now();
            let listen = sentinel::listen(
                dial.clone(),
                name.clone(),
                Pace::default(),
                Arc::clone(&group.board),
                knocks.clone(),
                now,
            );
            let what = format!("the subscription to {} for {name}", dial.address);
            group.tasks.spawn(self.alarm.over(what, async move {
                let _ = listen.await;
            }));
        }
    }

    /// A way for a watcher to wake these agents.
    fn forward(&mut self, members: Vec<usize>) -> mpsc::Sender<Wake> {
        let (knocks, mut heard) = mpsc::channel::<Wake>(PENDING);
        let inputs = self.inputs.clone();
        self.tasks.spawn(self.alarm.over("the way from a watcher to its agents".to_owned(), async move {
            while let Some(wake) = heard.recv().await {
                tracing::debug!("woken by {:?}", wake.why);
                for index in &members {
                    if inputs.send((*index, Input::Wake(wake.clone()))).await.is_err() {
                        return;
                    }
                }
            }
        }));
        knocks
    }

    /// Every Sentinel's subscription, for status.
    pub fn sentinels(&self) -> Vec<SentinelState> {
        let mut all = Vec::new();
        for (name, group) in &self.groups {
            let board = group.board.lock().unwrap_or_else(PoisonError::into_inner);
            for (endpoint, link) in &board.links {
                all.push(SentinelState {
                    group: name.clone(),
                    sentinel: endpoint.to_string(),
                    connected_since: link.up_since.map(|at| at.to_string()),
                    trouble: link.trouble.clone(),
                });
            }
        }
        all
    }

    /// Each group's subscriptions, with the events that they heard.
    pub fn boards(&self) -> BTreeMap<String, SentinelBoard> {
        let board = |group: &Group| group.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.groups.iter().map(|(name, group)| (name.clone(), board(group))).collect()
    }

    pub fn stop(&mut self) {
        self.fetching.abort_all();
        self.tasks.abort_all();
        self.instances.iter_mut().for_each(|one| one.tasks.abort_all());
        self.groups.values_mut().for_each(|group| group.tasks.abort_all());
    }
}

impl Instance {
    fn new(watched: Watched) -> Instance {
        Instance {
            watched,
            book: Arc::default(),
            pulse: Arc::default(),
            server_log: board::channel(None).0,
            dials: None,
            tasks: JoinSet::new(),
        }
    }
}

/// Follows the log where the server says that it is, and elsewhere when the server says so.
async fn follow_log(
    source: LogSource,
    mut told: board::Receiver<Option<ServerLog>>,
    book: Shared<LogBook>,
    knocks: mpsc::Sender<Wake>,
    clock: Clock,
) {
    loop {
        let server = told.borrow_and_update().clone();
        if matches!(source, LogSource::Auto) && server.is_none() {
            if told.changed().await.is_err() {
                return;
            }
            continue;
        }
        let resolved = log::resolve(&source, server.as_ref());
        tracing::debug!("following {resolved:?}");
        let now = move || clock.now();
        let following = log::follow(resolved.clone(), Arc::clone(&book), knocks.clone(), now);
        tokio::pin!(following);
        loop {
            tokio::select! {
                never = &mut following => match never {},
                changed = told.changed() => if changed.is_err() {
                    return;
                },
            }
            // Another process of the server mostly writes where the one before it wrote.
            if log::resolve(&source, told.borrow_and_update().as_ref()) != resolved {
                break;
            }
        }
    }
}
