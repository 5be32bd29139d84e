//! What goes wrong, who meddles, and what mends: one roll of the dice, one of these.

use std::time::Duration;

use relinkd::decide::{Mode, Policy};
use relinkd::model::event::{SentinelEvent, Why};
use relinkd::model::incident::What;
use relinkd::model::remedy::Remedy;

use super::run::Run;
use super::world::{HOSTS, Link, Process, Target};

type Trouble = fn(&mut Run);

/// Breaking and mending are about as likely, so that the world is neither whole for long nor broken for good.
const ALL: &[(&str, Trouble)] = &[
    ("kill the primary", |run| run.with_primary(|run, host| run.world.kill_node(host))),
    ("the primary dies, and the Sentinels give up", give_up),
    ("the primary dies, and the Sentinels give up", give_up),
    ("the primary dies, and the Sentinels give up", give_up),
    ("all is mended", |run| run.world.mend()),
    ("all is mended", |run| run.world.mend()),
    ("all is mended", |run| run.world.mend()),
    ("all is mended", |run| run.world.mend()),
    ("all is mended", |run| run.world.mend()),
    ("all is mended", |run| run.world.mend()),
    ("kill a node", |run| {
        let host = run.dice.below(HOSTS);
        run.world.kill_node(host);
    }),
    ("hang a node", |run| {
        let host = run.dice.below(HOSTS);
        if run.world.nodes[host].process == Process::Up {
            run.world.nodes[host].process = Process::Hung;
        }
    }),
    ("start a node", start),
    ("start all nodes", |run| (0..HOSTS).for_each(|host| run.world.start_node(host))),
    ("start all nodes", |run| (0..HOSTS).for_each(|host| run.world.start_node(host))),
    ("a node comes back empty", |run| {
        let host = run.dice.below(HOSTS);
        run.world.kill_node(host);
        (run.world.nodes[host].keys, run.world.nodes[host].offset) = (0, 0);
        run.world.start_node(host);
    }),
    ("data is written", |run| run.with_primary(|run, host| run.world.nodes[host].keys = 1_000)),
    ("data is written", |run| run.with_primary(|run, host| run.world.nodes[host].keys = 1_000)),
    ("cut two hosts", |run| {
        let (a, b) = (run.dice.below(HOSTS), run.dice.below(HOSTS));
        (run.world.cut[a][b], run.world.cut[b][a]) = (a != b, a != b);
    }),
    ("a replica's packets vanish for a while", |run| {
        let host = run.dice.below(HOSTS);
        if let Some(followed) = run.world.nodes[host].follows {
            run.world.follow(host, followed);
            let until = run.world.now.after(run.dice.between_ms(8_000, 40_000));
            run.world.nodes[host].link = Link::Stuck { until };
        }
    }),
    ("cut one way", |run| {
        let (a, b) = (run.dice.below(HOSTS), run.dice.below(HOSTS));
        run.world.cut[a][b] = a != b;
    }),
    ("heal the network", |run| run.world.cut = Default::default()),
    ("heal the network", |run| run.world.cut = Default::default()),
    ("rotate the password", |run| {
        rotate(run);
        run.world.store.offers = vec![run.world.password, run.world.password - 1];
    }),
    ("rotate and cut", |run| {
        rotate(run);
        run.world.store.offers = vec![run.world.password, run.world.password - 1];
        shake(run);
    }),
    ("rotate and cut", |run| {
        rotate(run);
        run.world.store.offers = vec![run.world.password, run.world.password - 1];
        shake(run);
    }),
    ("rotate and cut, and a Sentinel is pointed elsewhere", |run| {
        rotate(run);
        run.world.store.offers = vec![run.world.password, run.world.password - 1];
        let host = run.dice.below(HOSTS);
        run.world.stray(host);
        shake(run);
    }),
    ("the store lags", |run| {
        rotate(run);
        shake(run);
    }),
    ("the store catches up", |run| run.world.store.offers = vec![run.world.password, run.world.password - 1]),
    ("the store is away", |run| run.world.store.works = false),
    ("the store is back", |run| run.world.store.works = true),
    ("the store is back", |run| run.world.store.works = true),
    ("cut the links", shake),
    ("the primary takes no PSYNC", |run| run.with_primary(|run, host| run.world.nodes[host].lame = true)),
    ("rotate, and PSYNC is not taken", |run| {
        run.with_primary(|run, host| run.world.nodes[host].lame = true);
        rotate(run);
        run.world.store.offers = vec![run.world.password, run.world.password - 1];
        shake(run);
    }),
    ("PSYNC is taken again", unlame),
    ("PSYNC is taken again", unlame),
    ("kill a Sentinel", |run| {
        let host = run.dice.below(HOSTS);
        run.world.sentinels[host].up = false;
        run.world.sentinels[host].failover = None;
    }),
    ("start all Sentinels", |run| run.world.sentinels.iter_mut().for_each(|sentinel| sentinel.up = true)),
    ("a Sentinel is pointed elsewhere", |run| {
        let host = run.dice.below(HOSTS);
        run.world.stray(host);
    }),
    ("a Sentinel is out of the others' hearing", |run| {
        let host = run.dice.below(HOSTS);
        run.world.sentinels[host].alone = true;
    }),
    ("all Sentinels hear each other", |run| run.world.sentinels.iter_mut().for_each(|sentinel| sentinel.alone = false)),
    ("TILT", |run| {
        let host = run.dice.below(HOSTS);
        run.world.sentinels[host].tilt_until = run.world.now.after(Duration::from_secs(30));
    }),
    ("nobody may be promoted", |run| run.world.nodes.iter_mut().for_each(|node| node.priority = 0)),
    ("all may be promoted", |run| run.world.nodes.iter_mut().for_each(|node| node.priority = 100)),
    ("all may be promoted", |run| run.world.nodes.iter_mut().for_each(|node| node.priority = 100)),
    ("point a replica elsewhere", |run| {
        let (host, to) = (run.dice.below(HOSTS), run.dice.below(HOSTS + 1));
        let node = &run.world.nodes[host];
        if node.process == Process::Up && node.follows.is_some() {
            run.world.follow(host, if to < HOSTS { Target::Node(to) } else { Target::Nowhere });
        }
    }),
    ("a person fails over", |run| {
        let host = run.dice.below(HOSTS);
        if run.world.sentinels[host].up && run.world.sentinels[host].failover.is_none() {
            run.world.begin_failover(host, None);
        }
    }),
    ("kill -9 an agent", |run| {
        let host = run.dice.below(HOSTS);
        run.crash(host, "at any moment");
    }),
    ("stop an agent", |run| {
        let host = run.dice.below(HOSTS);
        run.stop(host);
    }),
    ("set a clock forward", |run| set_clock(run, 1)),
    ("set a clock back", |run| set_clock(run, -1)),
    ("other settings", |run| {
        let host = run.dice.below(HOSTS);
        run.stop(host);
        run.hosts[host].policy = policy(run);
    }),
    ("the ledger fails", |run| {
        let host = run.dice.below(HOSTS);
        run.hosts[host].ledger_works = false;
    }),
    ("the ledger fails", |run| {
        let host = run.dice.below(HOSTS);
        run.hosts[host].ledger_works = false;
    }),
    ("all ledgers work", |run| run.hosts.iter_mut().for_each(|host| host.ledger_works = true)),
    ("all ledgers work", |run| run.hosts.iter_mut().for_each(|host| host.ledger_works = true)),
    ("the receiver is away", |run| run.receiver_works = false),
    ("the receiver is back", |run| run.receiver_works = true),
    ("a person asks", |run| wake(run, Why::Asked)),
    ("a person pauses a host", |run| {
        let (host, now) = (run.dice.below(HOSTS), run.world.now);
        let span = run.dice.between_ms(5_000, 900_000);
        if run.hosts[host].agent.is_some() && run.hosts[host].ledger_works {
            run.hosts[host].pause(now, span);
        }
    }),
    ("a person resumes", |run| {
        let (host, now) = (run.dice.below(HOSTS), run.world.now);
        if run.hosts[host].agent.is_some() && run.hosts[host].ledger_works {
            run.hosts[host].resume(now);
        }
    }),
    ("a person approves", approve),
    ("a person approves", approve),
    ("a person approves", approve),
    ("a person says no", |run| {
        let (host, now) = (run.dice.below(HOSTS), run.world.now);
        run.hosts[host].answered(now, |agent, by, now| agent.reject(by, now));
    }),
    ("a person takes an incident", |run| take(run, None)),
    ("a line in a log", |run| wake(run, Why::Log)),
    ("a Sentinel speaks", |run| wake(run, spoken())),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

pub fn strike(run: &mut Run) {
    let (mut name, mut trouble) = ALL[run.dice.below(ALL.len())];
    if run.logins_hold && (name.starts_with("rotate") || name == "the store lags") {
        (name, trouble) = ("the primary dies, and the Sentinels give up", give_up);
    }
    run.count(format!("trouble: {name}"));
    run.say(|| format!("trouble: {name}"));
    trouble(run);
}

fn give_up(run: &mut Run) {
    let later = run.world.now.after(Duration::from_secs(150));
    run.world.sentinels.iter_mut().for_each(|sentinel| sentinel.not_before = later);
    run.with_primary(|run, host| run.world.kill_node(host));
}

fn start(run: &mut Run) {
    let host = run.dice.below(HOSTS);
    run.world.start_node(host);
}

fn unlame(run: &mut Run) {
    run.world.nodes.iter_mut().for_each(|node| node.lame = false);
}

/// On every server; the replicas go on with what they have until their links break.
pub fn rotate(run: &mut Run) {
    run.world.password += 1;
    let password = run.world.password;
    run.world.nodes.iter_mut().for_each(|node| node.requirepass = password);
}

pub fn shake(run: &mut Run) {
    for host in 0..HOSTS {
        if let Some(followed) = run.world.nodes[host].follows
            && run.world.nodes[host].process == Process::Up
        {
            run.world.follow(host, followed);
        }
    }
}

/// Of everything that is proposed anywhere.
fn approve(run: &mut Run) {
    let now = run.world.now;
    for host in &mut run.hosts {
        host.answered(now, |agent, by, now| agent.approve(by, None, now));
    }
}

/// The last incident of a host, or of one of them.
pub fn take(run: &mut Run, host: Option<usize>) {
    let host = host.unwrap_or_else(|| run.dice.below(HOSTS));
    let now = run.world.now;
    let last = run.hosts[host].ledger.iter().rev().find(|entry| matches!(entry.what, What::Opened { .. }));
    if let Some(id) = last.map(|entry| entry.incident.clone()) {
        run.hosts[host].answered(now, |agent, by, now| agent.acknowledge(&id, by, "carol".into(), now));
    }
}

fn wake(run: &mut Run, why: Why) {
    let host = run.dice.below(HOSTS);
    let now = run.world.now;
    run.hosts[host].wake(why, now);
}

pub fn spoken() -> Why {
    Why::Sentinel(SentinelEvent {
        sentinel: super::base::at("10.0.0.11:26379"),
        name: "+sdown".into(),
        group: Some("mymaster".into()),
        text: String::new(),
    })
}

/// While relinkd does not run: in its life it follows a clock that nobody sets.
fn set_clock(run: &mut Run, way: i64) {
    let host = run.dice.below(HOSTS);
    run.crash(host, "before its clock is set");
    let span = run.dice.between_ms(1, 200_000).max(run.dice.between_ms(0, 172_800_000));
    let chosen = &mut run.hosts[host];
    chosen.skew_us += way * i64::try_from(span.as_micros()).unwrap();
    // Back, everything seems younger; forward, nobody can tell how old it is.
    chosen.clock += u32::from(way > 0);
}

/// Settings as a person might have them.
pub fn policy(run: &mut Run) -> Policy {
    let mut policy = Policy::default();
    for (remedy, rules) in &mut policy.remedies {
        rules.mode = match run.dice.roll(8) {
            0 => Mode::Observe,
            1 | 2 => Mode::Propose,
            _ => Mode::Auto,
        };
        if *remedy == Remedy::RequestFailover {
            (rules.after, rules.cooldown) = (Duration::from_secs(2), Duration::from_secs(120));
            rules.max_per_hour = 6;
        }
    }
    if run.dice.one_in(4) {
        policy.remind = Duration::from_secs(120);
    }
    policy
}
