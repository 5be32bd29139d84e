//! The replica itself, and a REPLCONF that its primary does not know.

use std::io::{Error, Result};
use std::time::Instant;

use super::save;
use crate::ailment;
use crate::fault::{self, Fault};
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand};
use crate::upgrade;

pub const ALL: [Recipe; 7] = [
    Recipe::of("replconf-refused", "REPLCONF renamed", Stage::Plain, replconf).also(super::sync::RESTART),
    Recipe::of("replica-down", "killed", Stage::Plain, |stand| {
        let at = Instant::now();
        Broken::since(at, fault::kill(stand.replica()))
    }),
    Recipe::of("replica-hung", "stopped", Stage::Plain, |stand| {
        let at = Instant::now();
        Broken::since(at, fault::freeze(stand.replica())?)
    })
    .after(3_000, "a poll and two looks that wait a second each: less may be a pause"),
    Recipe::of("replica-loading", "a slow load", Stage::Plain, |stand| {
        super::large_to_load(stand)?;
        let slow = ailment::slow_load(stand.replica(), 1_000)?;
        Broken::since(Instant::now(), slow)
    }),
    Recipe::of("replica-denied", "its password changed", Stage::Plain, denied),
    Recipe::quiet("a restart by its unit", Stage::Plain, restarted),
    Recipe::quiet("a rolling upgrade", Stage::Rolling, upgraded)
        .lacks(|kind| match kind.upgrade() {
            None => Some("it is the newest at hand".to_owned()),
            Some(newer) => newer.find().err(),
        })
        .spends(),
];

fn replconf(stand: &Stand) -> Result<Broken> {
    save(stand.primary())?;
    let renamed = ailment::rename_away(stand.primary(), &["REPLCONF"])?;
    let saved = stand.primary().clone();
    Broken::since(Instant::now(), renamed.and(Fault::new("a save", move || save(&saved))))
}

fn denied(stand: &Stand) -> Result<Broken> {
    let changed = ailment::change_password(stand.replica(), "its-own")?;
    let at = Instant::now();
    fault::cut_clients(stand.replica())?;
    Broken::since(at, changed)
}

/// Replicas, a failover by request, and the former primary: the whole of it is watched.
fn upgraded(stand: &Stand) -> Result<Broken> {
    let newer = stand.group.kind().upgrade().ok_or_else(|| Error::other("nothing newer is at hand"))?;
    let at = Instant::now();
    upgrade::one_by_one(&stand.group, newer)?;
    Broken::since(at, super::kept(()))
}

fn restarted(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    stand.replica().terminate()?;
    stand.replica().restart()?;
    Broken::since(at, super::kept(()))
}
