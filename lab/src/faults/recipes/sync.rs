//! The data set or the stream does not come through.

use std::io::{Error, Result};
use std::time::{Duration, Instant};

use super::{BACKGROUND, BACKGROUND_MS, RETRY, RETRY_MS, STEP, host, kept, save};
use crate::ailment;
use crate::fault;
use crate::faults::recipe::{Broken, Recipe};
use crate::faults::stage::{Stage, Stand};
use crate::flapping;
use crate::group::Group;
use crate::kind::Kind;
use crate::server::Server;
use crate::transfer::{self, Writes};

/// A command is renamed by a restart, which may take its time.
pub const RESTART: &[&str] = &["primary-down", "primary-hung"];

/// How often a link is cut that flaps, and when that is seen to be more than a blip.
const TURN: Duration = Duration::from_secs(1);
const FIVE_DROPS: &str = "five drops, one a second";

pub const ALL: [Recipe; 20] = [
    Recipe::of("primary-emptied", "came back empty, and takes no replica", Stage::Plain, emptied)
        .suspects(&["primary-down"]),
    Recipe::of("primary-disk-full", "during a sync", Stage::Disks, primary_disk)
        .also(&["replica-hung", "backlog-too-small", "sync-running"])
        .suspects(&["unknown"])
        .after(RETRY_MS * 3, "three tries of the replica, once a second: one may be a child that was killed"),
    Recipe::of("primary-fork-failed", "no process left", Stage::Plain, fork)
        .lacks(|_| (!crate::namespaces_available()).then(|| "needs root".to_owned()))
        .after(RETRY_MS, RETRY),
    Recipe::of("primary-save-failing", "disk full", Stage::Disks, |stand| {
        let failing = ailment::fail_to_save(stand.primary())?;
        let at = Instant::now();
        transfer::reconnect(stand.replica())?;
        Broken::since(at, failing)
    }),
    Recipe::of("replica-disk-full", "during a sync", Stage::Disks, replica_disk)
        .also(&["replica-hung", "backlog-too-small", "sync-running"])
        .after(RETRY_MS, RETRY),
    Recipe::of("replica-save-failing", "disk full", Stage::Disks, |stand| {
        Broken::since(Instant::now(), ailment::fail_to_save(stand.replica())?)
    })
    .after(BACKGROUND_MS, BACKGROUND),
    Recipe::of("output-buffer-exceeded", "in a loop", Stage::Plain, output_buffer)
        .also(&["sync-running", "backlog-too-small"])
        .after(2_500, "a transfer that was cut twice, each a second or so"),
    Recipe::of("backlog-too-small", "outrun", Stage::Plain, backlog).also(&["replica-hung"]),
    Recipe::of("sync-timeout", "repl-timeout under the ping period", Stage::Plain, below_ping)
        .after(3_000, "repl-timeout (2 s here), looked at once a second"),
    Recipe::of("sync-timeout", "a transfer that stalls", Stage::Plain, stalls_for_short)
        .also(&["sync-running"])
        .after(3_000, "repl-timeout (2 s here), looked at once a second"),
    Recipe::of("sync-running", "a slow sender", Stage::Plain, slow_sender).after(RETRY_MS, RETRY),
    Recipe::of("sync-running", "a slow line", Stage::Wired, slow_line).after(RETRY_MS, RETRY),
    Recipe::of("sync-stalled", "the sender stops", Stage::Plain, stalled)
        .also(&["sync-running"])
        .after(10_000, "ten seconds without a byte"),
    Recipe::of("rdb-incompatible", "another server's data set", Stage::Plain, |stand| {
        let donor = donor(stand.group.kind()).ok_or_else(|| Error::other("no donor"))?;
        incompatible(stand, donor, &["SET", "a", "b"])
    })
    .lacks(|kind| {
        let Some(donor) = donor(kind) else {
            return Some("no server at hand sends a format that it refuses".to_owned());
        };
        donor.find().err()
    })
    .also(&["sync-running"])
    .after(RETRY_MS, RETRY),
    Recipe::of("rdb-incompatible", "a key that the primary can write in its own format only", Stage::Plain, |stand| {
        incompatible(stand, Kind::Valkey91, &["HSETEX", "a", "EX", "3600", "FIELDS", "1", "b", "c"])
    })
    .lacks(|kind| (kind == Kind::Valkey91).then(|| "it is the newest at hand".to_owned()))
    .also(&["sync-running"])
    .after(RETRY_MS, RETRY),
    Recipe::of("backlog-too-small", "at each of many drops", Stage::Fresh, |stand| {
        let at = Instant::now();
        Broken::since(at, flapping::outrun_again_and_again(stand.primary(), TURN)?)
    })
    .after(4_000, FIVE_DROPS)
    .spends(),
    Recipe::of("output-buffer-exceeded", "at each large value", Stage::Fresh, |stand| {
        let at = Instant::now();
        Broken::since(at, flapping::values_beyond_the_output_buffer(stand.primary(), TURN)?)
    })
    .suspects(&["backlog-too-small"])
    .after(4_000, FIVE_DROPS)
    .spends(),
    Recipe::of("unknown", "many drops, each resumed", Stage::Fresh, |stand| {
        let at = Instant::now();
        Broken::since(at, flapping::cut_again_and_again(stand.primary(), TURN))
    })
    .after(4_000, FIVE_DROPS)
    .spends(),
    Recipe::of("command-missing", "PSYNC renamed", Stage::Plain, |stand| renamed(stand, &["PSYNC"])).also(RESTART),
    Recipe::of("command-missing", "PSYNC and SYNC renamed", Stage::Plain, |stand| renamed(stand, &["PSYNC", "SYNC"]))
        .also(RESTART),
];

/// Before the replica is back, its primary has lost everything: what the replica holds is the last copy.
fn emptied(stand: &Stand) -> Result<Broken> {
    transfer::forget_disk(stand.primary())?;
    let at = Instant::now();
    let barred = ailment::rename_away(stand.primary(), &["PSYNC", "SYNC"])?;
    Broken::since(at, barred.and(super::written_back(stand.primary())))
}

fn large(stand: &Stand) -> Result<()> {
    stand.primary().write(1_000, 1_024).map_err(Error::other)
}

fn full_sync(stand: &Stand, fault: fault::Fault) -> Result<Broken> {
    let small = fault::outrun_backlog(stand.primary(), stand.replica())?;
    Broken::since(Instant::now(), small.and(fault))
}

fn primary_disk(stand: &Stand) -> Result<Broken> {
    large(stand)?;
    let by_disk = fault::configure(stand.primary(), &[("repl-diskless-sync", "no")])?;
    let disk = stand.primary().disk().ok_or_else(|| Error::other("no small disk"))?;
    full_sync(stand, by_disk.and(disk.fill()?))
}

fn replica_disk(stand: &Stand) -> Result<Broken> {
    large(stand)?;
    let disk = stand.replica().disk().ok_or_else(|| Error::other("no small disk"))?;
    full_sync(stand, disk.fill()?)
}

/// A failed fork ends Valkey in a diskless sync (8.0.1, rdbSaveToReplicasSockets aborts).
fn fork(stand: &Stand) -> Result<Broken> {
    let diskless = if stand.group.kind().is_valkey() { "no" } else { "yes" };
    let way = fault::configure(stand.primary(), &[("repl-diskless-sync", diskless)])?;
    let stuck = ailment::no_fork(stand.primary())?;
    transfer::restart_empty(stand.replica())?;
    Broken::since(Instant::now(), way.and(stuck))
}

fn output_buffer(stand: &Stand) -> Result<Broken> {
    let slow = transfer::slow_sync(stand.primary(), 1_000, 1_000)?;
    let tiny = fault::tiny_output_buffer(stand.primary())?;
    let at = Instant::now();
    let writes = Writes::start(stand.primary(), 64, 4_096, Duration::from_millis(10));
    Broken::since(at, tiny.and(slow).and(kept(writes)))
}

fn backlog(stand: &Stand) -> Result<Broken> {
    // The server's own default lets a replica wait five seconds for others to join the same transfer.
    let settings = [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "3")];
    let gathers = fault::configure(stand.primary(), &settings)?;
    full_sync(stand, gathers)
}

fn below_ping(stand: &Stand) -> Result<Broken> {
    let at = Instant::now();
    Broken::since(at, fault::timeout_below_ping(stand.primary(), stand.replica())?)
}

fn stalls_for_short(stand: &Stand) -> Result<Broken> {
    // A ping within the short timeout, or the link would time out again whenever it is idle.
    let pings = fault::configure(stand.primary(), &[("repl-ping-replica-period", "1")])?;
    // The servers send 16 KiB at once: with this pace that is nothing for eight seconds.
    let slow = transfer::slow_sync(stand.primary(), 100, 1_000_000)?;
    transfer::restart_empty(stand.replica())?;
    let at = Instant::now();
    let short = fault::configure(stand.replica(), &[("repl-timeout", "2")])?;
    Broken::since(at, pings.and(short).and(slow))
}

fn slow_sender(stand: &Stand) -> Result<Broken> {
    let slow = transfer::slow_sync(stand.primary(), 2_500, 2_000)?;
    transfer::restart_empty(stand.replica())?;
    Broken::since(Instant::now(), slow)
}

fn slow_line(stand: &Stand) -> Result<Broken> {
    let whole = fault::configure(stand.primary(), &[("rdbcompression", "no")])?;
    stand.primary().write(400, 1_024).map_err(Error::other)?;
    // What is still on its way would fill the line for seconds, and not a packet of anybody's came through.
    let arrived = |replica: &Server| replica.offset().is_some_and(|offset| Some(offset) == stand.primary().offset());
    stand.replica().wait_until(arrived, STEP).ok_or_else(|| Error::other("the writes do not arrive"))?;
    let slow = host(stand.primary())?.slow_down(500)?;
    transfer::restart_empty(stand.replica())?;
    Broken::since(Instant::now(), whole.and(slow))
}

fn stalled(stand: &Stand) -> Result<Broken> {
    let slow = transfer::slow_sync(stand.primary(), 3_000, 2_000)?;
    transfer::restart_empty(stand.replica())?;
    let receiving = |replica: &Server| {
        let read = replica.info("replication", "master_sync_read_bytes");
        read.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 0)
    };
    stand.replica().wait_until(receiving, STEP).ok_or_else(|| Error::other("no transfer begins"))?;
    let at = Instant::now();
    Broken::since(at, slow.and(ailment::freeze_children(stand.primary())?))
}

/// A server whose data sets this one cannot load. Valkey 9.1 writes an older format for Redis 8.2.
fn donor(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Redis70 => Some(Kind::Valkey80),
        Kind::Valkey80 | Kind::Valkey91 => Some(Kind::Redis82),
        Kind::Redis82 => None,
    }
}

fn incompatible(stand: &Stand, donor: Kind, key: &[&str]) -> Result<Broken> {
    let other = Group::builder(donor).start()?;
    fault::run(other.primary(), key)?;
    let (host, port) = other.primary().endpoint();
    let at = Instant::now();
    let moved = fault::wrong_primary(stand.replica(), &host, port)?;
    Broken::since(at, kept(other).and(moved))
}

fn renamed(stand: &Stand, commands: &[&str]) -> Result<Broken> {
    save(stand.primary())?;
    let renamed = ailment::rename_away(stand.primary(), commands)?;
    let saved = stand.primary().clone();
    Broken::since(Instant::now(), renamed.and(fault::Fault::new("a save", move || save(&saved))))
}
