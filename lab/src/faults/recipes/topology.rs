//! Who follows whom: addresses that are wrong in every way, with Sentinels to say so and without.

use std::io::{Error, Result};
use std::time::Instant;

use super::{PROBE, PROBE_MS, STEP, host, kept, save};
use crate::fault::{self, Fault};
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{FAILOVER_MS, Stage, Stand, TILT_MS};
use crate::group::Group;
use crate::impostor::{Impostor, Manner, closed_port};
use crate::server::Server;

pub const ALL: [Recipe; 14] = [
    Recipe::of("wrong-primary", "a closed port", Stage::Watched, |stand| {
        follow(stand, (host(stand.primary())?.address().to_owned(), 6380))
    }),
    Recipe::of("wrong-primary", "no such host", Stage::Watched, |stand| {
        follow(stand, ("10.77.0.250".to_owned(), 6379))
    })
    .after(PROBE_MS, PROBE),
    Recipe::of("wrong-primary", "an HTTP server", Stage::Watched, |stand| at_an_impostor(stand, Manner::Http)),
    Recipe::of("wrong-primary", "a silent server", Stage::Watched, |stand| at_an_impostor(stand, Manner::Silent))
        .after(PROBE_MS, PROBE),
    Recipe::of("wrong-primary", "a Sentinel's port", Stage::Watched, |stand| {
        follow(stand, stand.group.sentinel(0).endpoint())
    }),
    Recipe::of("wrong-primary", "a healthy replica", Stage::Watched, |stand| {
        follow(stand, stand.group.replica(1).endpoint())
    }),
    Recipe::of("wrong-primary", "a broken replica", Stage::Watched, at_a_broken_replica),
    Recipe::of("self-replication", "itself, with Sentinels", Stage::Watched, at_itself),
    Recipe::of("self-replication", "itself", Stage::Plain, at_itself),
    Recipe::of("upstream-broken", "a broken replica", Stage::Plain, |stand| at_another_groups(stand, "no")),
    Recipe::of("upstream-broken", "a broken replica that serves stale data", Stage::Plain, |stand| {
        at_another_groups(stand, "yes")
    }),
    Recipe::of("not-a-server", "an HTTP server", Stage::Plain, |stand| at_an_impostor(stand, Manner::Http)),
    Recipe::of("not-a-server", "a Sentinel's port", Stage::Plain, at_another_sentinel),
    Recipe::of("failover-running", "the primary dies and another is promoted", Stage::Moving, failover)
        .also(&["primary-down"])
        .after(3_000, "down-after (2 s here) and a PING period of a second")
        .failover_within(TILT_MS + 2 * FAILOVER_MS)
        .spends(),
];

fn follow(stand: &Stand, (host, port): (String, u16)) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, fault::wrong_primary(stand.replica(), &host, port)?)
}

/// What it follows lives until the replica is back where it was.
fn follow_kept<T: Send + 'static>(stand: &Stand, address: (String, u16), what: T) -> Result<Broken> {
    let broken = follow(stand, address)?;
    Broken::since(broken.at, kept(what).and(broken.fault))
}

fn at_itself(stand: &Stand) -> Result<Broken> {
    follow(stand, stand.replica().endpoint())
}

fn at_an_impostor(stand: &Stand, manner: Manner) -> Result<Broken> {
    let impostor = Impostor::beside(stand.primary(), manner)?;
    follow_kept(stand, impostor.endpoint(), impostor)
}

fn at_a_broken_replica(stand: &Stand) -> Result<Broken> {
    let other = stand.group.replica(1);
    let astray = fault::wrong_primary(other, host(stand.primary())?.address(), 6380)?;
    let broken = follow(stand, other.endpoint())?;
    Broken::since(broken.at, astray.and(broken.fault))
}

fn at_another_groups(stand: &Stand, stale: &str) -> Result<Broken> {
    let other = Group::builder(stand.group.kind()).replicas(1).config("replica-serve-stale-data", stale).start()?;
    other.primary().write(400, 16).map_err(Error::other)?;
    let filled = |replica: &Server| replica.query::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys == 400);
    other.replica(0).wait_until(filled, STEP).ok_or_else(|| Error::other("the data does not arrive"))?;
    let (upstream, (host, port)) = (other.replica(0), closed_port()?);
    fault::wrong_primary(upstream, &host, port)?.keep();
    let address = upstream.endpoint();
    follow_kept(stand, address, other)
}

fn at_another_sentinel(stand: &Stand) -> Result<Broken> {
    let other = Group::builder(stand.group.kind()).replicas(1).sentinels(1).start()?;
    let address = other.sentinel(0).endpoint();
    follow_kept(stand, address, other)
}

fn failover(stand: &Stand) -> Result<Broken> {
    save(stand.primary())?;
    stand.primary().kill9();
    Broken::since(Instant::now(), Fault::new("a failover", || Ok(())))
}
