//! A group on three hosts, each with a node, a Sentinel and a relinkd, a client that writes, and the ways to upset it.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::judge::Happened;
use super::plan::{Upset, Who};
use super::witness::Witness;
use super::writer::Writer;
use crate::agent::Agent;
use crate::fault::{self, Fault};
use crate::group::{Group, Node};
use crate::kind::Kind;
use crate::process::poll;
use crate::receiver::Receiver;
use crate::server::Server;

pub const HOSTS: usize = 3;
const PASSWORD: &str = "chaos";
const PRIORITY: &str = "100";
/// Sentinel needs two of its PING periods to be sure on a busy machine.
const DOWN_AFTER_MS: u64 = 2_000;
/// Sentinel tries again after twice this. A request keeps clear of each try, from 9.5 s before it to 6.6 s after
/// (`decide::retry`): of 20 s that leaves 4, less than a turn, and of 60 s it leaves 44, in which each relinkd has two. A
/// primary that stays away for three quarters of a minute then does not meet the next try.
const FAILOVER_TIMEOUT_MS: u64 = 30_000;
/// Sentinel's own next try, then as long as it may wait until it moves a replica, and a margin.
pub const RECOVERS: Duration = Duration::from_millis(3 * FAILOVER_TIMEOUT_MS + 10_000);
const DISK_KIB: u32 = 24 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// Dropped in this order: the client and the witness, relinkd, the receivers, the servers.
pub struct Stage {
    pub writer: Writer,
    pub witness: Witness,
    pub agents: Vec<Agent>,
    pub receivers: Vec<Receiver>,
    pub group: Group,
    relinkd: PathBuf,
}

impl Stage {
    pub fn set(kind: Kind, relinkd: &Path, mode: &str) -> Result<Stage> {
        let mut builder = Group::builder(kind)
            .replicas(HOSTS - 1)
            .sentinels(HOSTS)
            .namespaces(true)
            .sentinels_beside_nodes()
            .password(PASSWORD)
            // What was acknowledged has to outlive a SIGKILL.
            .config("appendonly", "yes")
            .config("repl-timeout", "10")
            .config("repl-ping-replica-period", "2")
            .sentinel_timers(DOWN_AFTER_MS, FAILOVER_TIMEOUT_MS);
        for node in [Node::Primary, Node::Replica(0), Node::Replica(1)] {
            builder = builder.small_disk(node, DISK_KIB);
        }
        let group = builder.start()?;
        let client = group.add_host("client")?.ok_or_else(|| Error::other("no network to cut"))?;
        let writer = Writer::start(client, group.sentinels().to_vec(), group.nodes(), PASSWORD);
        let witness = Witness::start(group.nodes().to_vec(), group.sentinels().to_vec(), PASSWORD);
        let (mut agents, mut receivers) = (Vec::new(), Vec::new());
        for node in group.nodes() {
            let mut receiver = Receiver::start()?;
            let url = receiver.listen_beside(node)?;
            let mut agent = Agent::new(relinkd)?.beside(node);
            fs::create_dir_all(agent.dir().join("state"))?;
            agent.write_file("url", &url)?;
            agent.write_file("password", PASSWORD)?;
            let config = config(agent.dir(), &group, node, mode);
            agent.start(&config)?;
            agents.push(agent);
            receivers.push(receiver);
        }
        Ok(Stage { writer, witness, agents, receivers, group, relinkd: relinkd.to_owned() })
    }

    /// Whom an upset means at this moment.
    pub fn number(&self, who: Who) -> usize {
        let primary = self.primary();
        match who {
            Who::Primary => primary,
            Who::Replica(nth) => (0..HOSTS).filter(|number| *number != primary).nth(nth).unwrap_or(primary),
        }
    }

    fn primary(&self) -> usize {
        let named = self.group.current_primary().map(Server::endpoint);
        let of = |address| self.group.nodes().iter().position(|node| node.endpoint() == address);
        named.and_then(of).or_else(|| self.group.nodes().iter().position(Server::is_primary)).unwrap_or(0)
    }

    /// Makes an upset. Which nodes it concerns, and the way back; a relinkd or Sentinels that were killed come back by
    /// [`Stage::revive`].
    pub fn upset(&mut self, upset: Upset) -> Result<(Vec<usize>, Option<Fault>)> {
        let host = |stage: &Stage, number: usize| stage.group.node(number).host().cloned();
        match upset {
            Upset::Kill(who) => {
                let number = self.number(who);
                Ok((vec![number], Some(fault::kill(self.group.node(number)))))
            }
            Upset::Hang(who) => {
                let number = self.number(who);
                Ok((vec![number], fault::freeze(self.group.node(number)).ok()))
            }
            Upset::Unplug(who) => {
                let number = self.number(who);
                Ok((vec![number], host(self, number).map(|host| host.unplug()).transpose()?))
            }
            Upset::Cut(one, other) | Upset::Deaf(one, other) => {
                let pair = [self.number(one), self.number(other)];
                let (Some(here), Some(there)) = (host(self, pair[0]), host(self, pair[1])) else {
                    return Ok((pair.to_vec(), None));
                };
                let fault = match upset {
                    Upset::Cut(..) => here.cut_from(&there)?,
                    _ => here.deaf_to(&there)?,
                };
                Ok((pair.to_vec(), Some(fault)))
            }
            Upset::Password(nth) => {
                let number = self.number(Who::Replica(nth));
                let node = self.group.node(number);
                let fault = set(node, "masterauth", "wrong", PASSWORD);
                let _ = node.run(&["CLIENT", "KILL", "TYPE", "master"]);
                Ok((vec![number], fault))
            }
            Upset::FullDisk(who) => {
                let number = self.number(who);
                Ok((vec![number], self.group.node(number).disk().map(|disk| disk.fill()).transpose()?))
            }
            Upset::KillAgent(who) => {
                let number = self.number(who);
                self.agents[number].kill9();
                Ok((vec![number], None))
            }
            Upset::KillSentinels(count) => {
                self.group.sentinels().iter().take(count).for_each(Server::kill9);
                Ok((Vec::new(), None))
            }
            Upset::NoCandidate => {
                let fault = (0..2).filter_map(|nth| {
                    let node = self.group.node(self.number(Who::Replica(nth)));
                    set(node, "replica-priority", "0", PRIORITY)
                });
                Ok((Vec::new(), fault.reduce(Fault::and)))
            }
            Upset::Scatter => {
                self.quorum(1);
                let mut fault: Option<Fault> = None;
                for (one, other) in [(0, 1), (0, 2), (1, 2)] {
                    let (Some(here), Some(there)) = (host(self, one), host(self, other)) else { continue };
                    let cut = here.cut_from(&there)?;
                    fault = Some(match fault.take() {
                        Some(before) => before.and(cut),
                        None => cut,
                    });
                }
                Ok(((0..HOSTS).collect(), fault))
            }
        }
    }

    fn quorum(&self, votes: usize) {
        for sentinel in self.group.sentinels() {
            let _ = sentinel.run(&["SENTINEL", "SET", self.group.name(), "quorum", &votes.to_string()]);
        }
    }

    /// What the undoing of an upset may have left: it was told to a server that was dead or hung then, or a restart brought
    /// back what Sentinel's CONFIG REWRITE had written down.
    pub fn put_right(&self) {
        self.quorum(HOSTS / 2 + 1);
        for node in self.group.nodes() {
            let _ = node.run(&["CONFIG", "SET", "replica-priority", PRIORITY, "masterauth", PASSWORD]);
        }
    }

    /// Starts again what an upset has ended: relinkd, Sentinels, a node that its own full disk has ended.
    pub fn revive(&mut self, over: &Happened) -> Result<()> {
        match over.upset {
            Upset::KillSentinels(_) => self.start_sentinels(),
            Upset::KillAgent(_) => self.start_agents(&over.nodes),
            Upset::FullDisk(_) => self.start_nodes(&over.nodes),
            _ => Ok(()),
        }
    }

    /// Starts again whatever does not run.
    pub fn revive_all(&mut self) -> Result<()> {
        let all: Vec<usize> = (0..HOSTS).collect();
        self.start_sentinels()?;
        self.start_agents(&all)?;
        self.start_nodes(&all)
    }

    fn start_sentinels(&self) -> Result<()> {
        self.group.sentinels().iter().filter(|sentinel| sentinel.pid().is_none()).try_for_each(Server::restart)
    }

    fn start_agents(&mut self, numbers: &[usize]) -> Result<()> {
        for number in numbers {
            let agent = &mut self.agents[*number];
            if agent.pid().is_none() {
                agent.start_again()?;
            }
        }
        Ok(())
    }

    fn start_nodes(&self, numbers: &[usize]) -> Result<()> {
        let nodes = numbers.iter().map(|number| self.group.node(*number));
        nodes.filter(|node| node.pid().is_none()).try_for_each(Server::restart)
    }

    /// One primary that all Sentinels name, both others linked to it, every Sentinel content.
    pub fn wait_whole(&self, patience: Duration) -> bool {
        poll(patience, || {
            std::thread::sleep(Duration::from_millis(100));
            let Some(primary) = self.group.current_primary() else { return false };
            let agreed = self.group.sentinels().iter().all(|sentinel| {
                sentinel.sentinel_primary() == Some(primary.endpoint())
                    && sentinel.sentinel_is_whole(HOSTS - 1, HOSTS - 1)
            });
            let linked = |node: &Server| {
                node.endpoint() == primary.endpoint()
                    || (node.is_link_up()
                        && node.info("replication", "master_host") == Some(primary.endpoint().0.clone()))
            };
            agreed && primary.is_primary() && self.group.nodes().iter().all(linked)
        })
        .is_some()
    }

    /// Everything that was written so far has arrived at every node: a replica of a new group reads linked before it has a
    /// write, and rightly nobody promotes it then.
    pub fn wait_filled(&self, patience: Duration) -> bool {
        let Some(primary) = self.group.current_primary() else { return false };
        let written = poll(patience, || primary.offset().filter(|offset| *offset > 1).is_some());
        let offset = primary.offset();
        let arrived = || self.group.nodes().iter().all(|node| node.offset() >= offset);
        written.is_some() && poll(patience, arrived).is_some()
    }

    /// Waits until no relinkd has an open incident. What is still open then, by agent.
    pub fn open_incidents(&self) -> Result<Vec<String>> {
        let open = || -> Result<Vec<String>> {
            let mut open = Vec::new();
            for number in 0..HOSTS {
                let all = self.incidents(number)?;
                let standing = all.iter().filter(|one| one["phase"] != "resolved");
                open.extend(standing.map(|one| format!("at node {number}: {}", one["summary"])));
            }
            Ok(open)
        };
        poll(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(200));
            open().is_ok_and(|open| open.is_empty())
        });
        open()
    }

    /// The incidents of one relinkd's record, whole.
    pub fn incidents(&self, number: usize) -> Result<Vec<Value>> {
        let output = self
            .group
            .node(number)
            .command_beside(&self.relinkd)
            .arg("--config")
            .arg(self.agents[number].config_path())
            .args(["incidents", "--json"])
            .output()?;
        // No answer is not an empty record.
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            Error::other(format!("no record of the relinkd at node {number}: {}", said.trim()))
        })
    }
}

/// A setting goes wrong, and is right again: what it was is known, whatever another upset has made of it meanwhile.
fn set(node: &Server, key: &'static str, wrong: &str, right: &'static str) -> Option<Fault> {
    node.run(&["CONFIG", "SET", key, wrong]).ok()?;
    let server = node.clone();
    let put = move || server.run(&["CONFIG", "SET", key, right]).map(drop).map_err(Error::other);
    Some(Fault::new(format!("{key} of {}", node.address()), put))
}

fn config(dir: &Path, group: &Group, node: &Server, mode: &str) -> String {
    let dir = dir.display();
    let sentinels: Vec<String> = group.sentinels().iter().map(|server| format!("{:?}", server.address())).collect();
    format!(
        "[agent]\nhost = \"{address}\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlisten = \"off\"\n\n\
         [group.{name}]\nsentinels = [{sentinels}]\nmasterauth = {{ file = \"{dir}/password\" }}\n\n\
         [replica.cache]\naddress = \"{address}\"\ngroup = \"{name}\"\npassword = {{ file = \"{dir}/password\" }}\n\n\
         [notify.chaos]\nkind = \"webhook\"\nurl = {{ file = \"{dir}/url\" }}\n\n\
         [policy]\nmode = \"{mode}\"\nsettle = \"1s\"\nbackground = \"5s\"\n\n\
         [policy.repoint]\ncooldown = \"5s\"\nmax_per_hour = 1000\n\n\
         [policy.realign-auth]\ncooldown = \"2s\"\nmax_per_hour = 1000\n\n\
         [policy.bounce-link]\ncooldown = \"2s\"\nmax_per_hour = 1000\n\n\
         [policy.request-failover]\nafter = \"5s\"\ncooldown = \"10s\"\nmax_per_hour = 1000\n",
        name = group.name(),
        sentinels = sentinels.join(", "),
        address = node.address(),
    )
}
