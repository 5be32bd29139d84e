//! The primary is there and takes nobody, or is not there, as a replica without Sentinels sees it.

use std::io::Result;
use std::time::Instant;

use super::save;
use crate::ailment;
use crate::fault;
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand};
use crate::impostor::{Impostor, Manner, closed_port};
use crate::transfer;

const UNWITNESSED: &str = "without Sentinels a restart is given a second";

pub const ALL: [Recipe; 12] = [
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
