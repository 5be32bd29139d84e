//! Each secret resolved, and never shown: where it is, its version, how many values, and who else could read it.

use super::super::once::in_the_unit;
use super::report::{Section, exit_of_secret};
use crate::config::Settings;
use crate::secrets::{self, SecretRef};
use crate::wire::all;

pub async fn check(settings: &Settings) -> Section {
    let mut section = Section::new("secrets");
    // A place that several keys name is asked once.
    let mut places: Vec<(&SecretRef, Vec<String>)> = Vec::new();
    for (key, reference) in named(settings) {
        match places.iter_mut().find(|(known, _)| *known == reference) {
            Some((_, keys)) => keys.push(key),
            None => places.push((reference, vec![key])),
        }
    }
    places.sort();
    let answers = all(places.iter().map(|(reference, _)| secrets::fetch(reference))).await;
    for ((reference, keys), answer) in places.into_iter().zip(answers) {
        let what = keys.join(", ");
        match answer {
            Ok(offers) => {
                let version = offers.first().map_or("", |offer| offer.version.as_str());
                let previous = if offers.len() > 1 { ", and a previous value" } else { "" };
                section.ok(&what, format!("{reference} holds a value (version {version}{previous})"));
            }
            Err(error) if reference.is_of_the_unit() && !in_the_unit() => {
                section.warn(&what, format!("{error}; not judged: this command does not run in the unit"), []);
            }
            Err(error) => section.problem(exit_of_secret(&error), &what, error.to_string(), []),
        }
        for objection in secrets::audit(reference).await {
            section.warn(&what, objection, []);
        }
    }
    section
}

/// Every reference of the settings, with its key.
fn named(settings: &Settings) -> Vec<(String, &SecretRef)> {
    let mut all = Vec::new();
    for (name, replica) in &settings.replicas {
        all.extend(replica.password.as_ref().map(|secret| (format!("replica.{name}.password"), secret)));
    }
    for (name, group) in &settings.groups {
        let key = |key: &str| format!("group.{name}.{key}");
        all.extend(group.sentinel_password.as_ref().map(|secret| (key("sentinel_password"), secret)));
        all.extend(group.masterauth.as_ref().map(|secret| (key("masterauth"), secret)));
        let logins = [("observer", &group.observer), ("admin", &group.admin), ("sentinel_auth", &group.sentinel_auth)];
        let logins = logins.into_iter().filter_map(|(name, login)| Some((name, login.as_ref()?)));
        all.extend(logins.map(|(name, login)| (key(&format!("{name}.password")), &login.password)));
    }
    for (name, channel) in &settings.channels {
        all.extend(channel.kind.secrets().into_iter().map(|(key, secret)| (format!("notify.{name}.{key}"), secret)));
    }
    all
}
