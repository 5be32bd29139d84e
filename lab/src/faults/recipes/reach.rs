//! The primary is there and takes nobody, or is not there, as a replica without Sentinels sees it.

use std::io::{Error, Result};
use std::time::{Duration, Instant};

use super::{STEP, save};
use crate::ailment;
use crate::fault::{self, Fault};
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand, status};
use crate::impostor::{Impostor, Manner, closed_port};
use crate::process::poll;
use crate::server::Server;
use crate::transfer;

const UNWITNESSED: &str = "without Sentinels a restart is given a second";

pub const ALL: [Recipe; 13] = [
    Recipe::of("primary-down", "killed, no Sentinels", Stage::Plain, killed).after(1_000, UNWITNESSED),
    Recipe::of("primary-down", "a closed port, no Sentinels", Stage::Plain, at_a_closed_port).after(1_000, UNWITNESSED),
    Recipe::of("primary-unreachable", "cable pulled, no Sentinels", Stage::Wired, unplugged).after(1_000, UNWITNESSED),
    Recipe::of("primary-unreachable", "no such host, no Sentinels", Stage::Wired, at_no_host).after(1_000, UNWITNESSED),
    Recipe::of("primary-hung", "stopped, no Sentinels", Stage::Plain, stopped)
        .after(5_000, "without Sentinels a pause of up to 5 s is none"),
    Recipe::of("primary-hung", "a silent server, no Sentinels", Stage::Plain, at_a_silent_server)
        .after(5_000, "without Sentinels a pause of up to 5 s is none"),
    Recipe::of("primary-busy", "an endless script", Stage::Plain, busy).also(&["primary-hung"]),
    Recipe::of("primary-loading", "a slow load", Stage::Plain, loading).suspects(&["primary-down"]),
    Recipe::of("connections-exhausted", "maxclients", Stage::Plain, exhausted),
    Recipe::of("protected-mode", "switched on", Stage::Wired, protected),
    Recipe::of("name-unresolved", "no resolver answers", Stage::Wired, nameless),
    Recipe::of("name-unresolved", "a dead resolver that blocks the replica", Stage::Wired, held_up),
    Recipe::quiet("a link cut once", Stage::Plain, blip),
];

fn killed(stand: &Stand) -> Result<Broken> {
    save(stand.primary())?;
    let at = Instant::now();
    Broken::since(at, fault::kill(stand.primary()))
}

fn follow(stand: &Stand, (host, port): (String, u16)) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, fault::wrong_primary(stand.replica(), &host, port)?)
}

fn at_a_closed_port(stand: &Stand) -> Result<Broken> {
    follow(stand, closed_port()?)
}

fn at_no_host(stand: &Stand) -> Result<Broken> {
    follow(stand, ("10.77.0.250".to_owned(), 6379))
}

fn at_a_silent_server(stand: &Stand) -> Result<Broken> {
    let silent = Impostor::new(Manner::Silent)?;
    let broken = follow(stand, silent.endpoint())?;
    Broken::since(broken.at, super::kept(silent).and(broken.fault))
}

fn nameless(stand: &Stand) -> Result<Broken> {
    follow(stand, ("primary.invalid".to_owned(), 6379))
}

/// So long is a server watched that its resolver holds up, at least ten seconds at each try.
const HELD_UP: Duration = Duration::from_secs(8);

/// The name was followed before, as it is when a resolver dies.
fn held_up(stand: &Stand) -> Result<Broken> {
    let replica = stand.replica();
    let (host, port) = stand.primary().endpoint();
    fault::run(replica, &["REPLICAOF", "primary.relinkd.test", &port.to_string()])?;
    let named = || status(&stand.socket()).is_some_and(|status| status["cause"] == "name-unresolved");
    poll(STEP, named).ok_or_else(|| Error::other("a name without a resolver is not told"))?;
    let at = Instant::now();
    let dead = super::host(replica)?.dead_resolver()?;
    let silent = replica.wait_until(|server| server.query::<redis::Value>(&["PING"]).is_err(), STEP);
    silent.ok_or_else(|| Error::other("the server never stands still"))?;
    let _ended_early = replica.wait_until(|server| server.query::<redis::Value>(&["PING"]).is_ok(), HELD_UP);
    let server = replica.clone();
    let back = Fault::new("a name", move || {
        let back = |server: &Server| server.run(&["REPLICAOF", &host, &port.to_string()]).is_ok();
        server.wait_until(back, STEP).map(drop).ok_or_else(|| Error::other("it does not take its primary back"))
    });
    Broken::since(at, back.and(dead))
}

fn unplugged(stand: &Stand) -> Result<Broken> {
    let host = super::host(stand.primary())?;
    let unplugged = host.unplug()?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, unplugged)
}

fn stopped(stand: &Stand) -> Result<Broken> {
    let frozen = fault::freeze(stand.primary())?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, frozen)
}

fn busy(stand: &Stand) -> Result<Broken> {
    let script = ailment::endless_script(stand.primary())?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, script)
}

fn loading(stand: &Stand) -> Result<Broken> {
    super::large_to_load(stand)?;
    let slow = ailment::slow_load(stand.primary(), 1_000)?;
    Broken::since(Instant::now(), slow)
}

fn exhausted(stand: &Stand) -> Result<Broken> {
    let full = ailment::exhaust_connections(stand.primary())?;
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, full)
}

fn protected(stand: &Stand) -> Result<Broken> {
    let closed = fault::configure(stand.primary(), &[("protected-mode", "yes")])?;
    let at = Instant::now();
    fault::cut_replicas(stand.primary())?;
    Broken::since(at, closed)
}

fn blip(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    fault::cut_replicas(stand.primary())?;
    Broken::since(at, super::kept(()))
}
