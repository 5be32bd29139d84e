//! The way to the primary, with Sentinels as witnesses, and what they make of their own condition.

use std::io::{Error, Result};
use std::time::Instant;

use super::{BACKGROUND, BACKGROUND_MS, STEP, host, save};
use crate::fault::{self, Fault};
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand};
use crate::server::Server;
use crate::transfer;

const WITNESSES_MS: u64 = 2_000;
const WITNESSES: &str = "two probes that wait a second each: between them the Sentinels hear the primary answer";
const REJECTED: &str = "the link's next packet, and an answer of the primary to the Sentinels, which ask once a second";
/// A Sentinel holds it down.
const DOWN_MS: u64 = 3_000;
const DOWN: &str = "down-after (2 s here) and a PING period of a second";
const SILENT_MS: u64 = 4_500;
const SILENT: &str = "2.5 s without an answer to the Sentinels' PINGs, one a second, and a probe that waits a second";
const PAUSE: &str = "five seconds, which may be a pause";
/// Sentinel tries what cannot work, and what comes of a primary that nobody can replace.
const SENTINELS_WORK: &[&str] = &["failover-running", "no-promotable-replica"];

pub const ALL: [Recipe; 11] = [
    Recipe::of("primary-down", "killed", Stage::Watched, killed).also(SENTINELS_WORK).after(DOWN_MS, DOWN),
    Recipe::of("primary-unreachable", "cable pulled", Stage::Watched, unplugged)
        .also(SENTINELS_WORK)
        .after(SILENT_MS, SILENT),
    Recipe::of("primary-hung", "stopped", Stage::Watched, stopped).also(SENTINELS_WORK).after(5_000, PAUSE),
    Recipe::of("network-cut", "both ways", Stage::Watched, cut)
        .suspects(&["primary-unreachable"])
        .after(WITNESSES_MS, WITNESSES),
    Recipe::of("network-cut", "one way", Stage::Watched, deaf)
        .suspects(&["primary-unreachable"])
        .after(WITNESSES_MS, WITNESSES),
    Recipe::of("network-cut", "both ways, and the link still reads up", Stage::Watched, unnoticed)
        .suspects(&["primary-unreachable"])
        .after(
            WITNESSES_MS + BACKGROUND_MS,
            "the next background look, and then the witnesses' time; the server itself notices after repl-timeout, 60 s",
        ),
    Recipe::of("network-rejected", "reset by a firewall", Stage::Watched, rejected)
        .suspects(&["primary-down"])
        .after(WITNESSES_MS, REJECTED),
    Recipe::of("quorum-lost", "two of three Sentinels dead", Stage::Watched, quorum)
        .after(7_000, "down-after (2 s here), and five seconds in which Sentinels may be restarting"),
    Recipe::of("quorum-lost", "and the primary dies", Stage::Watched, quorum_needed).suspects(&["primary-down"]),
    Recipe::of("no-promotable-replica", "all have priority 0", Stage::Watched, killed)
        .also(&["primary-down", "failover-running"])
        .after(5_500, "down-after (2 s here), and the time in which a failover would have begun"),
    Recipe::of("primary-emptied", "came back empty, link up again", Stage::Watched, emptied)
        .suspects(&["primary-down"])
        .after(BACKGROUND_MS, BACKGROUND),
];

fn killed(stand: &Stand) -> Result<Broken> {
    save(stand.primary())?;
    let at = Instant::now();
    Broken::since(at, fault::kill(stand.primary()))
}

/// The link is cut too: a replica whose packets vanish notices only after `repl-timeout`.
fn noticed(stand: &Stand, fault: Fault) -> Result<Broken> {
    let at = Instant::now();
    transfer::reconnect(stand.replica())?;
    Broken::since(at, fault)
}

fn unplugged(stand: &Stand) -> Result<Broken> {
    noticed(stand, host(stand.primary())?.unplug()?)
}

fn stopped(stand: &Stand) -> Result<Broken> {
    noticed(stand, fault::freeze(stand.primary())?)
}

fn cut(stand: &Stand) -> Result<Broken> {
    noticed(stand, host(stand.replica())?.cut_from(host(stand.primary())?)?)
}

fn deaf(stand: &Stand) -> Result<Broken> {
    noticed(stand, host(stand.replica())?.deaf_to(host(stand.primary())?)?)
}

fn unnoticed(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, host(stand.replica())?.cut_from(host(stand.primary())?)?)
}

fn rejected(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, host(stand.primary())?.reject(host(stand.replica())?, 6379)?)
}

fn two_dead(stand: &Stand) -> Fault {
    fault::kill(stand.group.sentinel(1)).and(fault::kill(stand.group.sentinel(2)))
}

fn quorum(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, two_dead(stand))
}

fn quorum_needed(stand: &Stand) -> Result<Broken> {
    save(stand.primary())?;
    let dead = two_dead(stand);
    let lost = |sentinel: &Server| sentinel.run(&["SENTINEL", "CKQUORUM", stand.group.name()]).is_err();
    stand.group.sentinel(0).wait_until(lost, STEP).ok_or_else(|| Error::other("the quorum is not lost"))?;
    let at = Instant::now();
    Broken::since(at, dead.and(fault::kill(stand.primary())))
}

fn emptied(stand: &Stand) -> Result<Broken> {
    transfer::forget_disk(stand.primary())?;
    let at = Instant::now();
    stand.primary().restart()?;
    Broken::since(at, super::written_back(stand.primary()))
}
