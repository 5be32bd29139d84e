//! Follows every configured secret in its store: one task a place, so that a slow store holds up nobody else. What a
//! task sees goes three ways: to the agents, for the `masterauth` of their group; to the looks, which take what a
//! remote store said last where it has not answered in time (`stores`); and to the metrics, by fingerprint.
//!
//! Files are read again every second rather than watched: one read out of the page cache costs less than telling
//! apart what inotify says of a rename, a symlink that is swapped or a network file system.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use super::clock::Clock;
use super::stores::{Heard, Stores};
use super::watched::Watched;
use crate::agent::Input;
use crate::config::Settings;
use crate::model::Timestamp;
use crate::model::event::{Offered, StoreNews};
use crate::secrets::{self, Offer, Salt, SecretError, SecretRef};

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

/// One place, and who wants to know of it.
pub struct Place {
    reference: SecretRef,
    keys: Vec<String>,
    /// The agents whose `masterauth` it is, with the user that is configured beside it.
    members: Vec<(usize, Option<String>)>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.keys.join(", "))
    }
}

/// What every task works with.
#[derive(Clone)]
pub struct Desk {
    pub salt: Salt,
    pub clock: Clock,
    pub board: Shared<Keys>,
    pub stores: Stores,
    pub inputs: mpsc::Sender<(usize, Input)>,
}

/// Every place of the settings, once.
pub fn places(settings: &Settings, watched: &[Watched]) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for (key, reference) in named(settings) {
        let members =
            watched.iter().enumerate().filter(|(_, one)| one.group_name().map(masterauth).as_ref() == Some(&key));
        let members = members.map(|(index, one)| (index, one.masteruser())).collect::<Vec<_>>();
        match all.iter_mut().find(|place| place.reference == reference) {
            Some(place) => {
                place.keys.push(key);
                place.members.extend(members);
            }
            None => all.push(Place { reference, keys: vec![key], members }),
        }
    }
    all
}

/// Never ends by itself, unless the place cannot change.
pub async fn follow(place: Place, desk: Desk) {
    let mut told: Option<Result<Offered, String>> = None;
    loop {
        let asked = desk.clock.now();
        let answer = secrets::fetch(&place.reference).await;
        let now = desk.clock.now();
        note(&place, &desk, &answer, now);
        let said = match &answer {
            Ok(offers) => offers.first().map(|offer| offered(offer, &desk.salt)).ok_or("it offers nothing".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if told.as_ref() != Some(&said) {
            if let Err(why) = &said {
                tracing::warn!("{place}: {why}");
            }
            if !tell(&place, &desk, &said, now).await {
                return;
            }
            told = Some(said);
        }
        desk.stores.heard(&place.reference, Heard { at: asked, answer });
        let Some(pace) = place.reference.pace() else { return };
        tokio::time::sleep(jittered(pace, &desk)).await;
    }
}

/// False: the loop has gone.
async fn tell(place: &Place, desk: &Desk, said: &Result<Offered, String>, at: Timestamp) -> bool {
    for (index, configured) in &place.members {
        let with_user = |offered: Offered| {
            let user = offered.user.clone().or_else(|| configured.clone());
            Offered { user, ..offered }
        };
        let news = StoreNews { at, source: place.reference.source(), said: said.clone().map(with_user) };
        if desk.inputs.send((*index, Input::Store(Box::new(news)))).await.is_err() {
            return false;
        }
    }
    true
}

fn offered(offer: &Offer, salt: &Salt) -> Offered {
    Offered {
        version: offer.version.clone(),
        print: offer.secret.print(salt),
        user: offer.user.clone(),
        changed: offer.changed,
    }
}

/// For the metrics.
fn note(place: &Place, desk: &Desk, answer: &Result<Vec<Offer>, SecretError>, now: Timestamp) {
    let mut board = desk.board.lock().unwrap_or_else(PoisonError::into_inner);
    for key in &place.keys {
        let Some(offer) = answer.as_ref().ok().and_then(|offers| offers.first()) else {
            board.remove(key);
            continue;
        };
        let print = offer.secret.print(&desk.salt);
        let first_seen = board.get(key).filter(|seen| seen.print == print).map_or(now, |seen| seen.since);
        let since = offer.changed.unwrap_or(first_seen);
        board.insert(key.clone(), Seen { print, user: offer.user.clone(), since });
    }
}

/// Hosts that were started together do not ask a store together: a quarter more or less. The clock is random enough.
fn jittered(pace: Duration, desk: &Desk) -> Duration {
    let share = u32::try_from(desk.clock.now().0.unsigned_abs() % 501).unwrap_or(0) + 750;
    pace * share / 1000
}

fn named(settings: &Settings) -> Vec<(String, SecretRef)> {
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
