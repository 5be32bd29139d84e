//! A Sentinel group, broken in front of a person who watches: what the client meets, what relinkd makes of it, what it
//! does, whom it tells, in milliseconds. [`play`] is a test too: it says whether each act went as it should.

use std::io::{Error, Result, Write};
use std::path::Path;
use std::time::Duration;

use crate::group::{Group, Node};
use crate::kind::Kind;
use crate::scene::Scene;

mod acts;
mod client;
mod screen;
mod shell;
mod story;

use acts::Told;
use screen::{Screen, Tone, span};
use story::words;

const OLD: &str = "spring-2026";
const NEW: &str = "autumn-2026";
/// The screen says so.
const DOWN_AFTER_MS: u64 = 1_000;

/// What to play, and where.
pub struct Play<'a> {
    /// The relinkd to show.
    pub relinkd: &'a Path,
    pub kind: Kind,
    pub colours: bool,
    /// Between the acts, for whoever reads along.
    pub pause: Duration,
}

/// All acts, and a table of them at the end. Whether each went as it should.
pub fn play(play: &Play<'_>, out: &mut dyn Write) -> Result<bool> {
    let mut screen = Screen::new(out, play.colours);
    let scene = open(play, &mut screen)?;
    let mut told = vec![acts::rotation(&scene, &mut screen)?];
    rest(play);
    told.push(acts::primary_killed(&scene, &mut screen)?);
    rest(play);
    told.push(acts::emptied(&scene, &mut screen)?);
    rest(play);
    drop(scene);
    told.push(in_a_network(play, &mut screen)?);
    end(&mut screen, &told)
}

/// The group and relinkd, left running while `goes_on` says so; messages are shown as they come.
pub fn shell(play: &Play<'_>, out: &mut dyn Write, goes_on: impl Fn() -> bool) -> Result<()> {
    let mut screen = Screen::new(out, play.colours);
    let scene = open(play, &mut screen)?;
    shell::explain(&scene, play.relinkd, &mut screen)?;
    let mut seen = 0;
    while goes_on() {
        let news = scene.receiver.wait_for(seen + 1, Duration::from_millis(200));
        for message in news.iter().flat_map(|requests| requests.iter().skip(seen)).filter_map(|request| request.json())
        {
            screen.event(None, &words(&message["event"]), &words(&message["summary"]), Tone::Strong)?;
        }
        seen = news.map_or(seen, |requests| requests.len());
    }
    Ok(())
}

fn rest(play: &Play<'_>) {
    std::thread::sleep(play.pause);
}

/// The group of the acts on loopback. The replica with relinkd is no candidate while another is there, so that it
/// stays a replica.
fn open(play: &Play<'_>, screen: &mut Screen<'_>) -> Result<Scene> {
    let found = play.kind.find().map_err(Error::other)?;
    let group = Group::builder(play.kind)
        .replicas(2)
        .sentinels(3)
        .password(OLD)
        .sentinel_timers(DOWN_AFTER_MS, 6_000)
        .config_of(Node::Replica(0), "replica-priority", "200")
        .start()?;
    acts::say_hello(&group)?;
    let scene = Scene::start(group, play.relinkd, "")?;
    let group = &scene.group;
    screen.title(&format!("relinkd at work: {} {}", product(play.kind), found.version))?;
    screen.blank()?;
    screen.table(&[
        row(&["", "address", ""]),
        row(&["primary", &group.primary().address(), ""]),
        row(&["replica", &group.replica(0).address(), "relinkd stands beside it"]),
        row(&["replica", &group.replica(1).address(), "nothing does"]),
        row(&["Sentinels", &group.sentinel(0).address(), "and two more; they watch the group as mymaster"]),
        row(&["receiver", &scene.receiver.url(), "prints what relinkd posts"]),
    ])?;
    screen.blank()?;
    screen.say(
        "replica-serve-stale-data is off, so that a replica without its link says so to its clients. Sentinel takes a \
         silent server for down after 1 s. Times count from the break; in the line of ms, and in what relinkd says, \
         from when relinkd last saw the link up.",
    )?;
    Ok(scene)
}

/// The act that needs a network to break.
fn in_a_network(play: &Play<'_>, screen: &mut Screen<'_>) -> Result<Told> {
    if !crate::namespaces_available() {
        screen.blank()?;
        screen.title("4  The network between replica and primary is cut")?;
        screen.say("Skipped: network namespaces are not allowed here. They need root, iproute2 and nftables.")?;
        return Ok(Told::skipped("network cut, then whole again"));
    }
    let group = Group::builder(play.kind).replicas(1).sentinels(3).sentinel_timers(DOWN_AFTER_MS, 6_000);
    let group = group.password(OLD).namespaces(true).start()?;
    acts::say_hello(&group)?;
    let scene = Scene::start(group, play.relinkd, "")?;
    acts::network_cut(&scene, screen)
}

fn end(screen: &mut Screen<'_>, told: &[Told]) -> Result<bool> {
    let mut rows = vec![row(&["fault", "cause named", "what was done", "link down", "first message"])];
    rows.extend(told.iter().map(|told| {
        let time = |at: Option<Duration>| at.map_or_else(|| "-".to_owned(), span);
        vec![
            told.fault.to_owned(),
            told.cause.clone(),
            told.done.clone(),
            time(told.down_for),
            told.message_after.map_or_else(|| "-".to_owned(), |at| format!("after {}", span(at))),
        ]
    }));
    screen.blank()?;
    screen.table(&rows)?;
    screen.blank()?;
    let wrong: Vec<&str> = told.iter().flat_map(|told| told.wrong.iter().map(String::as_str)).collect();
    for what in &wrong {
        screen.say(&format!("Not as it should be: {what}"))?;
    }
    if wrong.is_empty() {
        screen.say("Each went as it should. To play with such a group yourself: make demo-shell")?;
    }
    Ok(wrong.is_empty())
}

fn product(kind: Kind) -> &'static str {
    if kind.is_valkey() { "Valkey" } else { "Redis" }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}
