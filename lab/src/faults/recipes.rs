//! Every fault of the matrix, by family.

pub mod local;
pub mod login;
pub mod network;
pub mod reach;
pub mod sync;
pub mod topology;

use std::io::{Error, Result};
use std::time::Duration;

use super::recipe::Recipe;
use super::stage::Stand;
use crate::fault::Fault;
use crate::namespace::Host;
use crate::server::Server;

/// Every fault, in the order of the contract's causes.
pub fn all() -> Vec<Recipe> {
    let mut all = Vec::new();
    all.extend(reach::ALL);
    all.extend(network::ALL);
    all.extend(login::ALL);
    all.extend(topology::ALL);
    all.extend(sync::ALL);
    all.extend(local::ALL);
    all
}

/// How long a step on the way to a fault may take.
const STEP: Duration = Duration::from_secs(20);
/// A replica tries again once a second (Redis 7.0, replicationCron).
const RETRY_MS: u64 = 1_000;
const RETRY: &str = "the replica's next try, once a second";
/// An attempt that nobody answers is given up after a second.
const PROBE_MS: u64 = 1_000;
const PROBE: &str = "a probe that waits a second for an answer";
/// How often a link that is up is looked at in depth here.
const BACKGROUND_MS: u64 = 2_000;
const BACKGROUND: &str = "the next background look, every 2 s here and 30 s by default";

/// Data whose load, at this pace, takes four seconds and is looked into every few milliseconds.
fn large_to_load(stand: &Stand) -> Result<()> {
    stand.primary().write(4_000, 16).map_err(Error::other)?;
    let arrived = |replica: &Server| replica.query::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys >= 4_000);
    let arrived = stand.replica().wait_until(arrived, STEP);
    arrived.map(drop).ok_or_else(|| Error::other("the data does not arrive"))
}

/// What it holds comes back with it.
fn save(server: &Server) -> Result<()> {
    let saved = server.wait_until(|server| server.run(&["SAVE"]).is_ok(), STEP);
    saved.map(drop).ok_or_else(|| Error::other(format!("{} does not save", server.address())))
}

fn host(server: &Server) -> Result<&Host> {
    server.host().ok_or_else(|| Error::other(format!("{} has no host of its own", server.address())))
}

/// Lives until the fault is undone.
fn kept<T: Send + 'static>(what: T) -> Fault {
    Fault::new("a prop", move || {
        drop(what);
        Ok(())
    })
}

/// Undoing puts the data back that the group began with, on disk too.
fn written_back(primary: &Server) -> Fault {
    let primary = primary.clone();
    Fault::new("no data", move || {
        primary.write(400, 16).map_err(Error::other)?;
        save(&primary)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_faults_share_a_name() {
        let names: BTreeSet<String> = all().iter().map(Recipe::name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn a_bound_says_where_it_comes_from() {
        for recipe in all() {
            assert_eq!(recipe.bound.is_zero(), recipe.why.is_empty(), "{}", recipe.name());
        }
    }
}
