//! The acts: one fault each, and what has to come of it.

use std::fs;
use std::io::{Error, Result};
use std::time::Duration;

use super::NEW;
use super::client::KEY;
use super::screen::{Screen, Tone, span};
use super::story::{Story, words};
use crate::fault;
use crate::group::Group;
use crate::process::poll;
use crate::scene::{PATIENCE, Scene};
use crate::server::Server;

/// How far away the replica's next SYN is when the cut ends. Linux doubles the pause between SYNs, which go out after 1,
/// 3, 7, 15 s; from 6.5 on the first ones are a second apart (tcp_syn_linear_timeouts), so they go out after 1, 2, 3, 4,
/// 5, 7, 11, 19 s.
const LONG_WAIT: Duration = Duration::from_secs(6);

/// One row of the table at the end.
pub struct Told {
    pub fault: &'static str,
    pub cause: String,
    pub done: String,
    pub down_for: Option<Duration>,
    pub message_after: Option<Duration>,
    /// What did not go as it should.
    pub wrong: Vec<String>,
}

impl Told {
    pub fn skipped(fault: &'static str) -> Told {
        let (cause, done) = ("-".to_owned(), "skipped".to_owned());
        Told { fault, cause, done, down_for: None, message_after: None, wrong: Vec::new() }
    }

    fn of(fault: &'static str, story: &Story<'_>, expected: &Expected<'_>) -> Told {
        // The first verdict that stands; a suspicion where nothing firmer was told.
        let told = &story.messages;
        let firm = told.iter().find(|message| message["cause"]["suspected"] == false && message["event"] != "resolved");
        let cause = firm.or(told.first()).map_or_else(|| "-".to_owned(), |message| words(&message["cause"]["code"]));
        let last = story.last();
        let done: Vec<String> = last
            .and_then(|message| message["actions"].as_array())
            .into_iter()
            .flatten()
            .filter(|action| action["outcome"] == "changed")
            .map(|action| words(&action["remedy"]))
            .collect();
        let remedy = done.first().cloned();
        let held = last.and_then(|message| message["held"].as_array()?.last().cloned());
        let shown = match (&remedy, &held) {
            (Some(remedy), _) => remedy.clone(),
            (None, Some(held)) => format!("held: {}", words(&held["refusal"])),
            (None, None) => "nothing".to_owned(),
        };
        let total = last.and_then(|message| message["timings_ms"]["total"].as_u64()).map(Duration::from_millis);
        let mut told =
            Told { fault, cause, done: shown, down_for: total, message_after: story.first_message, wrong: Vec::new() };
        told.expect(expected.causes.contains(&told.cause.as_str()), "named another cause");
        told.expect(remedy.as_deref() == expected.remedy, "did something else");
        told.expect(expected.remedy.is_some() || held.is_some(), "gave no reason for holding back");
        let actions = last.and_then(|message| message["actions"].as_array());
        let failed = actions.is_some_and(|all| all.iter().any(|action| action["outcome"] == "failed"));
        told.expect(!failed, "an action failed");
        told.expect(story.met().failed.is_some(), "the client met no error");
        told.expect(story.refused_for().is_some(), "the client is still refused");
        told
    }

    fn expect(&mut self, holds: bool, else_what: &str) {
        if !holds {
            self.wrong.push(format!("{}: {else_what}", self.fault));
        }
    }
}

struct Expected<'a> {
    causes: &'a [&'a str],
    remedy: Option<&'a str>,
}

/// The key that the client reads, on every replica.
pub fn say_hello(group: &Group) -> Result<()> {
    run(group.primary(), &["SET", KEY, "hello"])?;
    for replica in group.nodes().iter().skip(1) {
        let arrived = replica.wait_until(|server| server.query::<String>(&["GET", KEY]).is_ok(), PATIENCE);
        arrived.ok_or_else(|| Error::other(format!("{KEY} did not reach {}", replica.address())))?;
    }
    Ok(())
}

pub fn rotation(scene: &Scene, screen: &mut Screen<'_>) -> Result<Told> {
    act(screen, "1  The password is rotated at the primary, and forgotten at the replicas")?;
    screen.say("CONFIG SET requirepass at the primary; the secret store has the new one; the links are cut once.")?;
    screen.blank()?;
    let group = &scene.group;
    let full = group.primary().sync_full();
    scene.offer(NEW)?;
    // Tried before the rotation: a trial that met it would call the login latent, and mend it before the link is cut.
    let ahead = poll(PATIENCE, || scene.status().is_some_and(|status| status["secret"]["standing"] == "ahead"));
    ahead.ok_or_else(|| Error::other(format!("relinkd did not try what the store offers:\n{}", scene.agent.log())))?;
    let mut story = Story::begin(scene);
    fault::rotate_password(group.primary(), NEW)?.keep();
    story.unfold(screen, "the incident is resolved", |story| story.heard("resolved"))?;
    story.tell_timings(screen)?;
    let other = group.replica(1);
    let state = if other.is_link_up() { "up" } else { "still down" };
    let text = format!("the replica without relinkd: link {state} after {}", span(story.elapsed()));
    screen.event(None, "beside it", &text, Tone::Plain)?;

    let expected = Expected { causes: &["auth-rejected"], remedy: Some("realign-auth") };
    let mut told = Told::of("password rotated on one side", &story, &expected);
    told.expect(scene.replica().is_link_up(), "the link is not up");
    told.expect(group.primary().sync_full() == full, "the heal cost a full resync");
    let conf = fs::read_to_string(scene.replica().conf_path())?;
    told.expect(conf.contains(NEW), "the new password is not in the server's own file");
    drop(story);
    finish_rotation(scene)?;
    screen.event(None, "then", "we finish the rotation by hand, on every node and Sentinel", Tone::Faint)?;
    Ok(told)
}

/// What the rotation should have done in the first place: the new password everywhere.
fn finish_rotation(scene: &Scene) -> Result<()> {
    let group = &scene.group;
    for node in group.nodes() {
        run(node, &["CONFIG", "SET", "masterauth", NEW])?;
        run(node, &["CONFIG", "SET", "requirepass", NEW])?;
        node.set_admin_password(Some(NEW));
        run(node, &["CONFIG", "REWRITE"])?;
    }
    scene.login_with(NEW)?;
    for sentinel in group.sentinels() {
        run(sentinel, &["SENTINEL", "SET", group.name(), "auth-pass", NEW])?;
    }
    let other = group.replica(1);
    other.wait_link_up(PATIENCE).ok_or_else(|| Error::other(format!("the link of {} stays down", other.address())))?;
    // Sentinels log in anew and see everybody again before the next act.
    let calm = |server: &Server| {
        server.sentinel_field("flags").as_deref() == Some("master")
            && server.sentinel_replicas().is_ok_and(|all| all.iter().all(|replica| replica["flags"] == "slave"))
    };
    for sentinel in group.sentinels() {
        let whole = sentinel.wait_until(calm, PATIENCE);
        whole.ok_or_else(|| Error::other(format!("Sentinel {} does not see a whole group", sentinel.address())))?;
    }
    Ok(())
}

pub fn primary_killed(scene: &Scene, screen: &mut Screen<'_>) -> Result<Told> {
    act(screen, "2  The primary is killed")?;
    screen.say("kill -9. Sentinel's work, and relinkd leaves it to Sentinel: it says why, and watches how it ends.")?;
    screen.blank()?;
    let mut story = Story::begin(scene);
    fault::kill(scene.group.primary()).keep();
    story.unfold(screen, "the incident is resolved", |story| story.heard("resolved"))?;
    story.tell_timings(screen)?;

    let causes = ["primary-down", "primary-unreachable"];
    let mut told = Told::of("primary killed", &story, &Expected { causes: &causes, remedy: None });
    let promoted = scene.group.replica(1);
    told.expect(promoted.is_primary(), "Sentinel promoted another replica");
    let follows = scene.replica().info("replication", "master_port");
    told.expect(follows == Some(promoted.endpoint().1.to_string()), "the replica does not follow the new primary");
    screen.event(None, "since then", &format!("{} is the primary", promoted.address()), Tone::Plain)?;
    Ok(told)
}

pub fn emptied(scene: &Scene, screen: &mut Screen<'_>) -> Result<Told> {
    act(screen, "3  The replica's masterauth is emptied")?;
    screen.say(
        "A template that lost a variable. The replica reconnects without a pause, two thousand times a second, and \
         writes a dozen lines to its log each time.",
    )?;
    screen.blank()?;
    let (replica, primary) = (scene.replica(), scene.group.replica(1));
    let log_before = fs::metadata(replica.log_path())?.len();
    let mut story = Story::begin(scene);
    run(replica, &["CONFIG", "SET", "masterauth", ""])?;
    fault::cut_replicas(primary)?;
    story.unfold(screen, "the incident is resolved", |story| story.heard("resolved"))?;
    story.tell_timings(screen)?;
    let written = fs::metadata(replica.log_path())?.len().saturating_sub(log_before);
    if let Some(refused) = story.refused_for() {
        let rate = written as f64 / 1e6 / refused.as_secs_f64().max(0.001);
        let text = format!("{} kB in {}, {rate:.1} MB/s", written / 1000, span(refused));
        screen.event(None, "its log", &text, Tone::Plain)?;
    }
    let expected = Expected { causes: &["auth-missing"], remedy: Some("realign-auth") };
    let mut told = Told::of("masterauth emptied", &story, &expected);
    told.expect(replica.is_link_up(), "the link is not up");
    Ok(told)
}

/// In a group of its own, whose servers each have a network.
pub fn network_cut(scene: &Scene, screen: &mut Screen<'_>) -> Result<Told> {
    act(screen, "4  The network between replica and primary is cut, and whole again")?;
    screen.say(&format!(
        "A second group, each server on a host of its own. Packets between replica and primary vanish. Then the way is \
         free, and the replica does not know it: its next attempt is more than {} away.",
        span(LONG_WAIT)
    ))?;
    screen.blank()?;
    let (primary, replica) = (scene.group.primary(), scene.replica());
    let (Some(here), Some(there)) = (replica.host(), primary.host()) else {
        return Err(Error::other("the servers have no network of their own"));
    };
    let mut story = Story::begin(scene);
    let cut = here.cut_from(there)?;
    // As if repl-timeout (60 s) had passed: the replica drops the dead link and tries again, in vain.
    run(replica, &["CLIENT", "KILL", "TYPE", "master"])?;
    let waits = || here.next_syn(&primary.endpoint()).is_some_and(|due| due > LONG_WAIT);
    story.unfold(screen, "the cut is told", |story| !story.messages.is_empty() && waits())?;
    cut.undo()?;
    screen.event(Some(story.elapsed()), "network", "whole again", Tone::Good)?;
    story.unfold(screen, "the incident is resolved", |story| story.heard("resolved"))?;
    story.tell_timings(screen)?;
    let expected = Expected { causes: &["network-cut"], remedy: Some("bounce-link") };
    let mut told = Told::of("network cut, then whole again", &story, &expected);
    told.expect(replica.is_link_up(), "the link is not up");
    Ok(told)
}

fn act(screen: &mut Screen<'_>, title: &str) -> Result<()> {
    screen.blank()?;
    screen.title(title)
}

/// The arguments may be secrets, and the error does not show them.
fn run(server: &Server, words: &[&str]) -> Result<()> {
    let name = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    server.run(words).map(drop).map_err(|error| Error::other(format!("{name} at {}: {error}", server.address())))
}
