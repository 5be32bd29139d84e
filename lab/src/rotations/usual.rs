//! A guide's order: `requirepass` on the primary first, then the replicas, then the Sentinels.

use std::io::{Error, Result};
use std::thread;
use std::time::{Duration, Instant};

use super::tally::Tally;
use super::{FIRST, KEY, failed, failovers, group};
use crate::kind::Kind;
use crate::server::Server;
use crate::traffic::{Login, Traffic};

/// Between two servers, as long as a person or a play of a config manager takes at least.
const HAND: Duration = Duration::from_millis(500);
/// How long it is watched after its end.
const AFTER: Duration = Duration::from_secs(3);
/// Tries of a command that was not answered in time: each of them may be given twice.
const TRIES: usize = 5;

pub fn row(kind: Kind, cut_once: bool, runs: usize, tally: &mut Tally) -> Result<()> {
    for number in 0..runs {
        let group = group(kind)?;
        let new = format!("word-new-{number}");
        let traffic = Traffic::start(&group, &Login::of(FIRST), &Login::of(&new), KEY).map_err(failed)?;
        let began = Instant::now();
        for (place, node) in group.nodes().iter().enumerate() {
            give(node, &["CONFIG", "SET", "requirepass", &new], Some(&new))?;
            node.set_admin_password(Some(&new));
            give(node, &["CONFIG", "SET", "masterauth", &new], None)?;
            if place == 0 && cut_once {
                cut(node)?;
            }
            thread::sleep(HAND);
        }
        for sentinel in group.sentinels() {
            give(sentinel, &["SENTINEL", "SET", group.name(), "auth-pass", &new], None)?;
            thread::sleep(HAND);
        }
        tally.took += began.elapsed();
        thread::sleep(AFTER);
        tally.add(&traffic.end(&group, KEY).map_err(failed)?);
        tally.failovers += failovers(&group);
    }
    Ok(())
}

/// A Sentinel writes and syncs its file before it answers, and a node that is made a replica loads a data set: on a busy
/// disk either may take longer than the lab waits for an answer. `then`: what it takes for a login once it was done.
fn give(server: &Server, command: &[&str], then: Option<&str>) -> Result<()> {
    let mut last = None;
    for _ in 0..TRIES {
        match server.run(command) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_timeout() => last = Some(error),
            // It took effect, and its answer was lost.
            Err(error) if last.is_some() && then.is_some() && error.code() == Some("WRONGPASS") => return Ok(()),
            Err(error) => return Err(unanswered(server, command, &error)),
        }
    }
    Err(last.map_or_else(|| Error::other("never asked"), |error| unanswered(server, command, &error)))
}

fn unanswered(server: &Server, command: &[&str], error: &redis::RedisError) -> Error {
    let shown = command.split_last().map_or_else(String::new, |(_, words)| words.join(" "));
    Error::other(format!("{}: {shown} …: {error}", server.address()))
}

/// What a moment of a bad network does: replicas and Sentinels have to log in again.
fn cut(node: &Server) -> Result<()> {
    for kind in ["replica", "pubsub"] {
        give(node, &["CLIENT", "KILL", "TYPE", kind], None)?;
    }
    let clients: String = node.query(&["CLIENT", "LIST"]).map_err(failed)?;
    for line in clients.lines().filter(|line| line.contains(" name=sentinel-")) {
        if let Some(id) = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()) {
            // It may have gone by itself since.
            let _ = node.run(&["CLIENT", "KILL", "ID", id]);
        }
    }
    Ok(())
}
