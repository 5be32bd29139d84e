//! An agent on each replica's host, all in `auto`, and one outage: one of them asks for the failover, and once, whoever
//! is late, stopped, gone or cut off. What counts is what the Sentinels write in their logs.

#[allow(dead_code)] // the simulation throws more kinds of dice
#[path = "simulation/dice.rs"]
mod dice;
mod live;
#[path = "live/outage.rs"]
mod outage;

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use dice::Dice;
use lab::{Agent, Group, Kind, Receiver, Server};
use live::tripwire::{Moment, Tripwire};
use live::{PATIENCE, RELINKD, Setup, config, on_each_server};
use rustix::process::{Pid, Signal, kill_process};

const DOWN_AFTER_MS: u64 = 2_000;
/// Far longer than a test: whatever moves the group before is not Sentinel's retry.
const FAILOVER_TIMEOUT_MS: u64 = 120_000;
/// The first round of turns, two of those that are twice as long, and a little.
const IN_THE_END: Duration = Duration::from_secs(130);
/// A second request would come within the turns of all that are left.
const AFTERWARDS: Duration = Duration::from_secs(12);
const POLICY: &str = "[policy.request-failover]\nafter = \"2s\"\ncooldown = \"1s\"";

struct Hosts {
    // Dropped in this order: the agents, the receivers, the servers.
    agents: Vec<Agent>,
    configs: Vec<String>,
    _receivers: Vec<Receiver>,
    group: Group,
}

impl Hosts {
    /// Four servers on four hosts, three Sentinels on three more; relinkd is set up beside each replica.
    fn new(kind: Kind) -> Hosts {
        let builder = Group::builder(kind).replicas(3).sentinels(3).namespaces(true).password("secret");
        let group = builder.sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS).start().expect("a group");
        outage::filled(&group);
        let (mut agents, mut configs, mut receivers) = (Vec::new(), Vec::new(), Vec::new());
        for replica in &group.nodes()[1..] {
            let mut receiver = Receiver::start().expect("a receiver");
            let url = receiver.listen_beside(replica).expect("a receiver in the replica's namespace");
            let agent = Agent::new(RELINKD).expect("a place for relinkd").beside(replica);
            let setup = Setup { policy: POLICY.to_owned(), ..Setup::default() };
            configs.push(config(&agent, &group, replica, &url, &setup));
            agents.push(agent);
            receivers.push(receiver);
        }
        Hosts { agents, configs, _receivers: receivers, group }
    }

    fn start(&mut self, number: usize) {
        self.agents[number].start(&self.configs[number]).expect("relinkd starts");
    }

    fn start_all(&mut self) {
        (0..3).for_each(|number| self.start(number));
    }

    fn priorities(&self, priorities: [u32; 3]) {
        for (replica, priority) in self.group.nodes()[1..].iter().zip(priorities) {
            replica.run(&["CONFIG", "SET", "replica-priority", &priority.to_string()]).expect("a priority");
        }
        let told = |sentinel: &Server| {
            let Ok(all) = sentinel.sentinel_replicas() else { return false };
            let of = |replica: &Server| {
                let port = replica.endpoint().1.to_string();
                let host = replica.endpoint().0;
                all.iter().find(|one| one["ip"] == host && one["port"] == port).map(|one| one["slave-priority"].clone())
            };
            let known = self.group.nodes()[1..].iter().map(of);
            known.zip(priorities).all(|(told, set)| told == Some(set.to_string()))
        };
        assert!(self.group.sentinels().iter().all(|sentinel| sentinel.wait_until(told, PATIENCE).is_some()));
    }

    /// The primary dies when nobody may be promoted, and Sentinel gives up.
    fn given_up(&self) {
        self.priorities([0, 0, 0]);
        self.group.primary().kill9();
        self.logged("-failover-abort-");
    }

    /// Some Sentinel writes this into its log.
    fn logged(&self, words: &str) {
        let began = Instant::now();
        while !self.group.sentinels().iter().any(|sentinel| sentinel.log_text().contains(words)) {
            assert!(began.elapsed() < PATIENCE, "no Sentinel says {words}\n{}", self.told());
            sleep(Duration::from_millis(20));
        }
    }

    /// Answers to `agent`'s questions do not leave the Sentinel any more; what else is between the two hosts goes on.
    fn cut_off(&self, agent: usize, sentinel: &Server) -> lab::Fault {
        let host = self.group.replica(agent).host().expect("a host").address().to_owned();
        let rule = format!("ip saddr {host} tcp dport {} drop", sentinel.endpoint().1);
        sentinel.host().expect("a host").filter(&rule).expect("a filter")
    }

    fn requests(&self) -> usize {
        let of = |sentinel: &Server| sentinel.log_text().matches("Executing user requested FAILOVER").count();
        self.group.sentinels().iter().map(of).sum()
    }

    fn promoted(&self) -> bool {
        self.group.nodes()[1..].iter().any(Server::is_primary)
    }

    fn told(&self) -> String {
        let agents = self.agents.iter().map(|agent| format!("{}\n", agent.log()));
        agents.chain(self.group.sentinels().iter().map(|one| one.log_text())).collect()
    }

    /// One request, one primary, one promotion; and it stays at that.
    fn one_request(&self, what: &str) {
        let took = self.primary_again(what);
        println!("{}: {what}: a primary after {took:?}", self.group.kind());
        self.stays_at_one(what);
    }

    fn primary_again(&self, what: &str) -> Duration {
        let began = Instant::now();
        while !self.promoted() {
            assert!(began.elapsed() < IN_THE_END, "{what}: no primary\n{}", self.told());
            sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }

    fn stays_at_one(&self, what: &str) {
        let until = Instant::now() + AFTERWARDS;
        while Instant::now() < until {
            assert_eq!(self.requests(), 1, "{what}\n{}", self.told());
            sleep(Duration::from_millis(200));
        }
        let primaries = self.group.nodes()[1..].iter().filter(|node| node.is_primary()).count();
        assert_eq!((primaries, self.promotions().len()), (1, 1), "{what}\n{}", self.told());
    }

    /// The epoch and the replica of each promotion, by the log of the Sentinel that made it.
    fn promotions(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for sentinel in self.group.sentinels() {
            let mut epoch = String::new();
            for line in sentinel.log_text().lines() {
                if let Some((_, newer)) = line.split_once("+new-epoch ") {
                    epoch = newer.to_owned();
                }
                if let Some((_, who)) = line.split_once("+promoted-slave ") {
                    all.push((epoch.clone(), who.to_owned()));
                }
            }
        }
        all
    }
}

fn hosts(kind: Kind) -> Option<Hosts> {
    lab::require_namespaces()?;
    Some(Hosts::new(kind))
}

fn all_at_once(kind: Kind) {
    let Some(mut hosts) = hosts(kind) else { return };
    hosts.start_all();
    hosts.given_up();
    hosts.priorities([100, 100, 100]);
    hosts.one_request("three agents");
}

/// The agent of the best replica does not exist, and another starts when the outage has stood for a while.
fn some_absent_and_late(kind: Kind) {
    let Some(mut hosts) = hosts(kind) else { return };
    hosts.start(1);
    hosts.given_up();
    hosts.priorities([10, 50, 100]);
    hosts.start(2);
    hosts.one_request("the best one's agent is absent, another is late");
}

/// The Sentinel that everybody would ask first is out of one agent's sight, and two agents are killed and start again
/// while they wait.
fn cut_off_and_restarted(kind: Kind) {
    let Some(mut hosts) = hosts(kind) else { return };
    hosts.start_all();
    let mut order: Vec<&Server> = hosts.group.sentinels().iter().collect();
    order.sort_by_key(|sentinel| sentinel.query::<String>(&["SENTINEL", "MYID"]).expect("an id"));
    let _cut = hosts.cut_off(0, order[0]);
    hosts.given_up();
    hosts.priorities([100, 100, 100]);
    for number in [1, 2] {
        hosts.agents[number].kill9();
        hosts.agents[number].start_again().expect("relinkd starts again");
    }
    hosts.one_request("one agent does not hear the first Sentinel, two start again");
}

/// The agent whose turn it is stands still when the Sentinels have just told it once more that it may ask, and goes on
/// when another has asked and the group has its primary: each answer that it has is good, and half a minute old.
fn stopped_just_before_it_asks(kind: Kind) {
    let group = outage::group(kind, FAILOVER_TIMEOUT_MS);
    let receiver = Receiver::start().expect("a receiver");
    let setup = Setup { policy: POLICY.to_owned(), ..Setup::default() };
    let [mut first, mut second] = [0, 1].map(|_| Agent::new(RELINKD).expect("a place for relinkd"));
    let mut text = config(&first, &group, group.replica(0), &receiver.url(), &setup);
    let wires: Vec<Tripwire> = group.sentinels().iter().map(|sentinel| Tripwire::before(&sentinel.address())).collect();
    for (sentinel, wire) in group.sentinels().iter().zip(&wires) {
        text = text.replace(&format!("\"{}\"", sentinel.address()), &format!("\"{}\"", wire.address()));
    }
    first.start(&text).expect("relinkd starts");
    assert!(first.wait_log("replicates from", PATIENCE).is_some(), "{}", first.log());
    outage::priorities(&group, 0);
    // The hands ask for the replicas last, a look asks for more.
    let pid = first.pid().expect("it runs");
    Tripwire::arm_together(&wires, "REPLICAS\r\n$8\r\nmymaster\r\n", Moment::Stopped, pid);
    group.primary().kill9();
    let wait = |what: &str, until: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !until() {
            assert!(began.elapsed() < IN_THE_END, "{what}\n{}", outage::sentinels_tell(&group));
            sleep(Duration::from_millis(20));
        }
    };
    wait("no Sentinel gave up", &|| outage::sentinels_tell(&group).contains("-failover-abort-"));
    outage::preferred(&group, &[(group.replica(0), 10), (group.replica(1), 100)]);
    assert!(wires[0].wait_tripped(IN_THE_END), "it was never about to ask\n{}", first.log());
    assert_eq!(outage::requests(&group), 0);
    second.start(&config(&second, &group, group.replica(1), &receiver.url(), &setup)).expect("relinkd starts");
    let over = |sentinel: &Server| {
        let told = sentinel.query::<std::collections::BTreeMap<String, String>>(&["SENTINEL", "MASTER", "mymaster"]);
        told.is_ok_and(|told| told["config-epoch"] != "0" && told["flags"] == "master")
    };
    wait("the other one did not ask", &|| group.sentinels().iter().all(over));
    first.signal(Signal::CONT).expect("it goes on");
    assert!(first.wait_log("precondition-gone", PATIENCE).is_some(), "{}", first.log());
    let until = Instant::now() + AFTERWARDS;
    while Instant::now() < until {
        assert_eq!(outage::requests(&group), 1, "{}\n{}", first.log(), outage::sentinels_tell(&group));
        sleep(Duration::from_millis(200));
    }
    assert_eq!(group.nodes()[1..].iter().filter(|node| node.is_primary()).count(), 1);
}

/// Two agents stand still for a while, each at some moment of the outage, and one hears a Sentinel no more from some moment
/// on. Figures: how long until there was a primary, once there could be one.
fn stopped_anywhere(kind: Kind, seed: u64) -> Option<Duration> {
    let (mut hosts, mut dice) = (hosts(kind)?, Dice(seed));
    hosts.start_all();
    hosts.priorities([0, 0, 0]);
    let first = dice.below(3);
    let stops = [first, (first + 1 + dice.below(2)) % 3].map(|agent| {
        let pid = i32::try_from(hosts.agents[agent].pid().expect("it runs")).expect("a pid");
        let (after, length) = (dice.between_ms(0, 14_000), dice.between_ms(1_000, 20_000));
        (agent, Pid::from_raw(pid).expect("a pid"), after, length)
    });
    let (deaf, sentinel, cut_after) = (dice.below(3), dice.below(3), dice.between_ms(0, 10_000));
    let mut what = format!("seed {seed}: {deaf} does not hear Sentinel {sentinel} after {cut_after:?}");
    for (agent, _, after, length) in &stops {
        what += &format!(", {agent} stands still after {after:?} for {length:?}");
    }
    hosts.group.primary().kill9();
    hosts.logged("+odown");
    let hosts = &hosts;
    let (took, _cut) = scope(|threads| {
        let cut = threads.spawn(move || {
            sleep(cut_after);
            hosts.cut_off(deaf, hosts.group.sentinel(sentinel))
        });
        for (_, pid, after, length) in stops {
            threads.spawn(move || {
                sleep(after);
                kill_process(pid, Signal::STOP).expect("it runs");
                sleep(length);
                kill_process(pid, Signal::CONT).expect("it stands still");
            });
        }
        hosts.logged("-failover-abort-");
        hosts.priorities([100, 100, 100]);
        (hosts.primary_again(&what), cut.join().expect("a cut"))
    });
    // Whoever stood still has gone on, and its turns come.
    hosts.stays_at_one(&what);
    let dropped = hosts.agents.iter().map(|agent| agent.log().matches("precondition-gone").count()).sum::<usize>();
    println!("{kind}: {what}: a primary after {took:?}, {dropped} requests were dropped by what was read again");
    Some(took)
}

/// One round, or `LAB_STOPS` of them with `cargo test --test live_agents stands_still_anywhere -- --nocapture`. `LAB_SEED`:
/// the first one's seed.
#[test]
fn one_request_whoever_stands_still_anywhere_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (rounds, seed) = (setting("LAB_STOPS").unwrap_or(1), setting("LAB_SEED").unwrap_or(1));
    let mut all: Vec<Duration> = (seed..seed + rounds).filter_map(|seed| stopped_anywhere(kind, seed)).collect();
    all.sort();
    if let (Some(median), Some(longest)) = (all.get(all.len() / 2), all.last()) {
        println!("{} rounds: a primary after {median:?} (median), {longest:?} at most", all.len());
    }
}

on_each_server! {
    all_at_once => one_request_of_three_agents_redis_70, one_request_of_three_agents_valkey_80;
    some_absent_and_late => one_request_while_agents_are_absent_and_late_redis_70, one_request_while_agents_are_absent_and_late_valkey_80;
    stopped_just_before_it_asks => one_request_while_an_agent_stands_still_redis_70, one_request_while_an_agent_stands_still_valkey_80;
    cut_off_and_restarted => one_request_while_agents_are_cut_off_and_restarted_redis_70, one_request_while_agents_are_cut_off_and_restarted_valkey_80;
}
