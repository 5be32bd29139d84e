//! A small world of nodes and Sentinels, in which every prefix of a rotation is resumed and aborted.

use std::collections::BTreeMap;

use super::*;
use crate::model::evidence::{Missing, Quorum, Reading};
use crate::model::remedy::RefusalCode;
use crate::model::rotation::{NodeSays, NodeView, UserState, WatcherSays, WatcherView, Way};
use crate::model::{Endpoint, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Old,
    New,
}

#[derive(Clone, Debug)]
struct Node {
    accepts: BTreeSet<Word>,
    shows: Word,
    requirepass: Word,
    away: bool,
    /// What a restart would bring: the passwords it accepts, and the one it shows.
    disk: (BTreeSet<Word>, Word),
}

#[derive(Clone, Debug)]
struct World {
    nodes: Vec<Node>,
    sentinels: Vec<Word>,
    /// A Sentinel was ever told, a node was ever refused the old password: what the record knows.
    told: bool,
    removed: bool,
    /// Killed in the middle of a step on these, as the record knows.
    unkept: BTreeSet<Endpoint>,
}

fn at(port: u16) -> Endpoint {
    Endpoint::new("10.0.0.1", port)
}

fn subject() -> Subject {
    Subject { user: "default".to_owned(), replicates: true, watches: true, single: false }
}

impl World {
    fn new() -> World {
        let accepts: BTreeSet<Word> = [Word::Old].into();
        let disk = (accepts.clone(), Word::Old);
        let node = Node { accepts, shows: Word::Old, requirepass: Word::Old, away: false, disk };
        let sentinels = vec![Word::Old; 3];
        World { nodes: vec![node; 3], sentinels, told: false, removed: false, unkept: BTreeSet::new() }
    }

    /// Node 0 is the primary.
    fn view(&self, way: Way) -> RotationView {
        let target = if way == Way::Forward { Word::New } else { Word::Old };
        let held = |word: Word| if word == target { Held::To } else { Held::From };
        let nodes = self.nodes.iter().zip(1..).map(|(node, port)| NodeView {
            address: at(port),
            says: if node.away {
                Reading::Missing(Missing::TimedOut)
            } else {
                Reading::Seen(NodeSays {
                    server: "Redis 7.0.15".to_owned(),
                    follows: (port != 1).then(|| at(1)),
                    link_up: port != 1,
                    busy_syncing: false,
                    loading: false,
                    failing_over: false,
                    serves: if port == 1 { vec![at(2), at(3)] } else { Vec::new() },
                    knows_two: true,
                    user: UserState {
                        exists: true,
                        on: true,
                        nopass: false,
                        accepts_to: node.accepts.contains(&target),
                        accepts_from: node.accepts.iter().any(|word| *word != target),
                        others: 0,
                    },
                    masteruser: String::new(),
                    masterauth: held(node.shows),
                    requirepass: held(node.requirepass),
                    config_file: "/etc/redis/redis.conf".to_owned(),
                    aclfile: String::new(),
                    lacks: Vec::new(),
                    watchers: [("0a".to_owned(), "default".to_owned())].into(),
                })
            },
        });
        let sentinels = (1..=3).map(|port| WatcherView {
            endpoint: at(26_000 + port),
            says: Reading::Seen(WatcherSays {
                id: "0a".to_owned(),
                primary: at(1),
                others: 2,
                troubled: Vec::new(),
                failover: false,
                tilt: Reading::Seen(false),
                quorum: Reading::Seen(Quorum { ok: true, text: String::new() }),
                lacks: Vec::new(),
            }),
        });
        RotationView { at: Timestamp::default(), nodes: nodes.collect(), sentinels: sentinels.collect() }
    }

    fn node(&mut self, at: &Endpoint) -> &mut Node {
        &mut self.nodes[usize::from(at.port) - 1]
    }

    fn make(&mut self, step: &Step, way: Way) {
        self.take_effect(step, way);
        if let Step::Allow { node } | Step::Present { node } | Step::Keep { node } = step {
            self.unkept.remove(node);
            let node = self.node(node);
            node.disk = (node.accepts.clone(), node.shows);
        }
    }

    fn take_effect(&mut self, step: &Step, way: Way) {
        let target = if way == Way::Forward { Word::New } else { Word::Old };
        match step {
            Step::Allow { node } => {
                self.node(node).accepts.insert(target);
            }
            Step::Present { node } => self.node(node).shows = target,
            Step::Tell { sentinel } => {
                self.told = true;
                self.sentinels[usize::from(sentinel.port) - 26_001] = target;
            }
            Step::Retire { node } => {
                self.removed |= way == Way::Forward;
                let node = self.node(node);
                node.accepts = [target].into();
                node.requirepass = target;
            }
            _ => {}
        }
    }

    /// Whatever logs in to whatever is let in.
    fn assert_nobody_is_refused(&self, after: &str) {
        for to in &self.nodes {
            for from in &self.nodes {
                assert!(to.accepts.contains(&from.shows), "{after}: a link would be refused: {self:?}");
            }
            for word in &self.sentinels {
                assert!(to.accepts.contains(word), "{after}: a Sentinel would be refused: {self:?}");
            }
        }
    }

    /// Whichever node is started anew lets everybody in, and is let in.
    fn assert_a_restart_refuses_nobody(&self, after: &str) {
        for place in 0..self.nodes.len() {
            let mut world = self.clone();
            let node = &mut world.nodes[place];
            (node.accepts, node.shows) = node.disk.clone();
            world.assert_nobody_is_refused(&format!("{after}, and node {place} restarts"));
        }
    }

    fn progress(&self, way: Way) -> Progress {
        Progress {
            unkept: self.unkept.clone(),
            sentinels_untouched: way == Way::Back && !self.told,
            unseen_accept: way == Way::Back && !self.removed,
            ..Progress::default()
        }
    }

    /// One process: at most `limit` steps, and then killed.
    fn run(&mut self, way: Way, limit: usize) -> (Next, usize) {
        let mut progress = self.progress(way);
        for made in 0..limit {
            match next(&subject(), &self.view(way), &progress) {
                Next::Step(step) => {
                    let on_files = matches!(step, Step::Allow { .. } | Step::Keep { .. });
                    assert!(on_files || self.unkept.is_empty(), "files are behind: {step:?} {self:?}");
                    self.make(&step, way);
                    let after = format!("{way:?}: {}", step.describe());
                    self.assert_nobody_is_refused(&after);
                    if self.unkept.is_empty() {
                        self.assert_a_restart_refuses_nobody(&after);
                    }
                    progress.made(step);
                }
                other => return (other, made),
            }
        }
        (Next::Stay("killed".to_owned()), limit)
    }

    /// Killed in the middle of the next step: it took effect, and its files were not written.
    fn cut(&mut self, way: Way) {
        if let Next::Step(step) = next(&subject(), &self.view(way), &self.progress(way)) {
            self.take_effect(&step, way);
            if let Step::Allow { node } | Step::Present { node } = step {
                self.unkept.insert(node);
            }
        }
    }

    fn assert_only(&self, word: Word) {
        for node in &self.nodes {
            assert_eq!((&node.accepts, node.shows, node.requirepass), (&[word].into(), word, word), "{self:?}");
            assert_eq!(node.disk, ([word].into(), word), "{self:?}");
        }
        assert!(self.sentinels.iter().all(|it| *it == word), "{self:?}");
    }
}

const LIMIT: usize = 100;

#[test]
fn nobody_is_refused_whatever_prefix_is_resumed_or_aborted() {
    let (end, length) = World::new().run(Way::Forward, LIMIT);
    assert_eq!(end, Next::Finished);
    assert!(length > 15, "{length} steps");
    for first in 0..=length {
        let mut world = World::new();
        world.run(Way::Forward, first);
        let mut resumed = world.clone();
        assert_eq!(resumed.run(Way::Forward, LIMIT).0, Next::Finished);
        resumed.assert_only(Word::New);

        let (end, back) = world.clone().run(Way::Back, LIMIT);
        assert_eq!(end, Next::Finished, "an abort after {first} steps");
        // An abort that is itself killed anywhere is aborted again.
        for second in 0..=back {
            let mut aborted = world.clone();
            aborted.run(Way::Back, second);
            assert_eq!(aborted.run(Way::Back, LIMIT).0, Next::Finished);
            aborted.assert_only(Word::Old);
        }
    }
}

#[test]
fn a_step_that_was_cut_before_its_files_were_written_is_written_before_anything_else_is_done() {
    let (_, length) = World::new().run(Way::Forward, LIMIT);
    for first in 0..=length {
        let mut world = World::new();
        world.run(Way::Forward, first);
        world.cut(Way::Forward);
        let mut kept = world.clone();
        let progress = Progress { keep_former: true, ..kept.progress(Way::Forward) };
        let left = steps(&subject(), &kept.view(Way::Forward), &progress);
        let written = left.iter().filter(|step| matches!(step, Step::Keep { .. })).count();
        assert_eq!(written, kept.unkept.len(), "and with both passwords kept it is no less so: {left:?}");
        assert_eq!(kept.run(Way::Forward, LIMIT).0, Next::Finished, "cut at {first}");
        kept.assert_only(Word::New);
        assert_eq!(world.run(Way::Back, LIMIT).0, Next::Finished, "cut at {first}");
        world.assert_only(Word::Old);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again_before_the_next_step() {
    let mut progress = Progress::default();
    let mut world = World::new();
    let Next::Step(step) = next(&subject(), &world.view(Way::Forward), &progress) else { panic!() };
    world.take_effect(&step, Way::Forward);
    progress.cut_short(&step);
    world.run(Way::Forward, 2);
    let Next::Step(again) = next(&subject(), &world.view(Way::Forward), &progress) else { panic!() };
    assert_eq!(again, Step::Keep { node: at(2) });
    progress.made(again.clone());
    assert!(steps(&subject(), &world.view(Way::Forward), &progress).contains(&again), "and once more at the end");
}

#[test]
fn a_resume_repeats_no_change_that_the_group_shows() {
    let mut world = World::new();
    world.run(Way::Forward, 6);
    let left = steps(&subject(), &world.view(Way::Forward), &Progress::default());
    assert!(!left.iter().any(|step| matches!(step, Step::Allow { .. } | Step::Present { .. })), "{left:?}");
    assert_eq!(
        left.iter().filter(|step| matches!(step, Step::Tell { .. })).count(),
        3,
        "what cannot be read is told again"
    );
}

#[test]
fn the_primary_learns_the_new_password_last() {
    let all = steps(&subject(), &World::new().view(Way::Forward), &Progress::default());
    assert_eq!(all[2], Step::Allow { node: at(1) });
    assert_eq!(all.first(), Some(&Step::Allow { node: at(2) }));
    assert_eq!(all.last(), Some(&Step::Quorum));
}

#[test]
fn an_abort_leaves_both_passwords_where_a_node_cannot_be_reached() {
    for first in 0..=20 {
        let mut world = World::new();
        world.run(Way::Forward, first);
        world.nodes[1].away = true;
        match world.run(Way::Back, LIMIT).0 {
            Next::Stay(reason) => assert!(reason.contains("10.0.0.1:2"), "{reason}"),
            other => panic!("after {first} steps: {other:?}"),
        }
        world.nodes[1].away = false;
        world.assert_nobody_is_refused("the node is back");
        assert_eq!(world.run(Way::Back, LIMIT).0, Next::Finished);
        world.assert_only(Word::Old);
    }
}

#[test]
fn a_step_of_an_abort_that_fails_keeps_the_other_password_valid() {
    let mut world = World::new();
    world.run(Way::Forward, 8);
    let failed = Step::Tell { sentinel: at(26_001) };
    let progress = Progress { failed: [failed.clone()].into(), ..Progress::default() };
    let left = steps(&subject(), &world.view(Way::Back), &progress);
    assert!(!left.contains(&failed) && left.iter().any(|step| matches!(step, Step::Tell { .. })), "{left:?}");
    assert!(!left.iter().any(|step| matches!(step, Step::Retire { .. })), "{left:?}");
}

#[test]
fn keeping_the_old_password_ends_before_the_first_removal() {
    let progress = Progress { keep_former: true, ..Progress::default() };
    let all = steps(&subject(), &World::new().view(Way::Forward), &progress);
    assert!(matches!(all.last(), Some(Step::Reconnect { .. })), "{all:?}");
}

#[test]
fn a_user_who_neither_replicates_nor_watches_is_only_allowed_proved_and_removed() {
    let of_clients = Subject { user: "app".to_owned(), replicates: false, watches: false, single: false };
    let mut view = World::new().view(Way::Forward);
    for node in &mut view.nodes {
        let Reading::Seen(says) = &mut node.says else { panic!() };
        says.requirepass = Held::Unset;
    }
    let all = steps(&of_clients, &view, &Progress::default());
    let kinds: Vec<&str> = all
        .iter()
        .map(|step| match step {
            Step::Allow { .. } => "allow",
            Step::Login => "login",
            Step::Retire { .. } => "retire",
            Step::Refused => "refused",
            Step::Keep { .. } => "keep",
            Step::Quorum => "quorum",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds.join(" "), "allow allow allow login retire retire retire refused keep keep keep quorum");
}

#[test]
fn a_server_with_one_password_is_switched_at_once() {
    let single = Subject { single: true, ..subject() };
    let all = steps(&single, &World::new().view(Way::Forward), &Progress::default());
    assert_eq!(all.first(), Some(&Step::Switch));
    assert!(!all.iter().any(|step| matches!(step, Step::Allow { .. } | Step::Retire { .. })), "{all:?}");
}

#[test]
fn whom_a_password_concerns_is_read_off_the_group() {
    let view = World::new().view(Way::Forward);
    assert_eq!(super::subject("default", &view, None), Ok(subject()));
    let app = super::subject("app", &view, None).unwrap();
    assert_eq!((app.replicates, app.watches), (false, false));
    let disagree = super::subject("default", &view, Some("watcher")).unwrap_err();
    assert_eq!(disagree[0].code, RefusalCode::LatentAuthMismatch);
}

/// Each damage, and the code that it is refused with at the beginning.
#[test]
fn every_obstacle_has_its_code() {
    type Damage = fn(&mut RotationView);
    fn node(view: &mut RotationView) -> &mut NodeSays {
        let Reading::Seen(says) = &mut view.nodes[2].says else { panic!() };
        says
    }
    fn sentinel(view: &mut RotationView) -> &mut WatcherSays {
        let Reading::Seen(says) = &mut view.sentinels[1].says else { panic!() };
        says
    }
    let table: &[(&str, Damage, RefusalCode)] = &[
        ("a node is away", |v| v.nodes[0].says = Reading::Missing(Missing::TimedOut), RefusalCode::EvidenceMissing),
        (
            "a node lets us not in",
            |v| v.nodes[0].says = Reading::Missing(Missing::Denied(String::new())),
            RefusalCode::PermissionDenied,
        ),
        (
            "a Sentinel is away",
            |v| v.sentinels[0].says = Reading::Missing(Missing::TimedOut),
            RefusalCode::EvidenceMissing,
        ),
        ("a Sentinel is not found", |v| sentinel(v).others = 3, RefusalCode::EvidenceMissing),
        ("Sentinels disagree", |v| sentinel(v).primary = at(2), RefusalCode::SentinelsDisagree),
        ("a failover runs", |v| sentinel(v).failover = true, RefusalCode::FailoverRunning),
        ("TILT", |v| sentinel(v).tilt = Reading::Seen(true), RefusalCode::Tilt),
        ("a node is held down", |v| sentinel(v).troubled.push("it".to_owned()), RefusalCode::SentinelActing),
        (
            "no quorum",
            |v| sentinel(v).quorum = Reading::Seen(Quorum { ok: false, text: String::new() }),
            RefusalCode::QuorumUnclear,
        ),
        (
            "no right at a Sentinel",
            |v| sentinel(v).lacks.push("SENTINEL SET".to_owned()),
            RefusalCode::PermissionDenied,
        ),
        ("no right at a node", |v| node(v).lacks.push("ACL SETUSER".to_owned()), RefusalCode::PermissionDenied),
        ("a link is down", |v| node(v).link_up = false, RefusalCode::EvidenceMissing),
        ("a full resync", |v| node(v).busy_syncing = true, RefusalCode::SyncRunning),
        ("FAILOVER", |v| node(v).failing_over = true, RefusalCode::FailoverRunning),
        ("a replica that no Sentinel lists", |v| node(v).serves.push(at(9)), RefusalCode::EvidenceMissing),
        ("a second primary", |v| node(v).follows = None, RefusalCode::RoleChanged),
        ("another masterauth", |v| node(v).masterauth = Held::Other, RefusalCode::LatentAuthMismatch),
        ("no masterauth", |v| node(v).masterauth = Held::Unset, RefusalCode::LatentAuthMismatch),
        ("neither password", |v| node(v).user.accepts_from = false, RefusalCode::LatentAuthMismatch),
        ("a third password", |v| node(v).user.others = 1, RefusalCode::NotOurTurn),
        ("both already", |v| node(v).user.accepts_to = true, RefusalCode::NotOurTurn),
        ("the user is off", |v| node(v).user.on = false, RefusalCode::SecretRejected),
        ("no password needed", |v| node(v).user.nopass = true, RefusalCode::SecretRejected),
        ("one password only", |v| node(v).knows_two = false, RefusalCode::NoSafeRemedy),
        ("no config file", |v| node(v).config_file.clear(), RefusalCode::NoSafeRemedy),
    ];
    let begin = Stage::Begin { take_over: false, short_window: false, persist: true };
    assert_eq!(obstacles(&subject(), &World::new().view(Way::Forward), begin), []);
    for (what, damage, code) in table {
        let mut view = World::new().view(Way::Forward);
        damage(&mut view);
        let found: BTreeMap<RefusalCode, _> =
            obstacles(&subject(), &view, begin).into_iter().map(|it| (it.code, it)).collect();
        assert!(found.len() == 1 && found.contains_key(code), "{what}: {found:?}");
    }
}
