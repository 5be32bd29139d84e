//! Since when each configured secret has had its present value, and which `masterauth` the store of a group holds now:
//! by fingerprint. For the metrics only; whoever uses a secret fetches it himself.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Shared;
use super::clock::Clock;
use crate::config::Settings;
use crate::model::Timestamp;
use crate::secrets::{self, Salt, SecretRef};

/// An `exec` store runs a program each time.
const EVERY: Duration = Duration::from_secs(60);

/// A secret as it was last seen in its store.
#[derive(Clone, Debug)]
pub struct Seen {
    pub print: String,
    /// The user that the store names with it.
    pub user: Option<String>,
    pub since: Timestamp,
}

/// By the secret's key in the configuration, such as `group.mymaster.masterauth`.
pub type Keys = BTreeMap<String, Seen>;

/// Never ends by itself.
pub async fn watch(settings: Settings, salt: Salt, clock: Clock, board: Shared<Keys>) {
    let places = places(&settings);
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        for (key, place) in &places {
            let newest = secrets::fetch(place).await.ok().and_then(|offers| offers.into_iter().next());
            let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(offer) = newest else {
                board.remove(key);
                continue;
            };
            let print = offer.secret.print(&salt);
            let first_seen = board.get(key).filter(|seen| seen.print == print).map_or(clock.now(), |seen| seen.since);
            let since = changed_at(&offer.version).unwrap_or(first_seen);
            board.insert(key.clone(), Seen { print, user: offer.user, since });
        }
    }
}

/// A file's version is its time of change, and a program may print one.
fn changed_at(version: &str) -> Option<Timestamp> {
    version.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_microsecond()))
}

fn places(settings: &Settings) -> Vec<(String, SecretRef)> {
    let mut all = Vec::new();
    let mut add = |key: String, place: Option<&SecretRef>| all.extend(place.map(|place| (key, place.clone())));
    for (name, group) in &settings.groups {
        add(masterauth(name), group.masterauth.as_ref());
        add(format!("group.{name}.sentinel_password"), group.sentinel_password.as_ref());
        add(format!("group.{name}.observer.password"), group.observer.as_ref().map(|one| &one.password));
    }
    for (name, replica) in &settings.replicas {
        add(format!("replica.{name}.password"), replica.password.as_ref());
    }
    all
}

/// The key of a group's `masterauth`.
pub fn masterauth(group: &str) -> String {
    format!("group.{group}.masterauth")
}

/// The board as it stands.
pub fn read(board: &Shared<Keys>) -> Keys {
    Arc::clone(board).lock().unwrap_or_else(PoisonError::into_inner).clone()
}
