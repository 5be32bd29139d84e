//! Whom a password belongs to, as the group itself shows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::remedy::RefusalCode;
use crate::model::rotation::{Obstacle, RotationView, Subject};

/// What the user of this name is for. Nodes and Sentinels that disagree are an obstacle, since then no order of steps
/// would be right for all of them.
pub fn subject(user: &str, view: &RotationView, configured_watcher: Option<&str>) -> Result<Subject, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let seen: Vec<_> = view.nodes.iter().filter_map(|node| Some((&node.address, node.says.seen()?))).collect();
    let named = |name: &str| if name.is_empty() { "default".to_owned() } else { name.to_owned() };
    let replicators: BTreeMap<String, Vec<String>> = seen.iter().fold(BTreeMap::new(), |mut all, (address, says)| {
        all.entry(named(&says.masteruser)).or_insert_with(Vec::new).push(address.to_string());
        all
    });
    if replicators.len() > 1 {
        let told: Vec<String> =
            replicators.iter().map(|(user, nodes)| format!("{user} on {}", nodes.join(", "))).collect();
        obstacles.push(Obstacle {
            code: RefusalCode::LatentAuthMismatch,
            at: None,
            detail: format!("masteruser is not the same everywhere: {}; make it so first", told.join("; ")),
        });
    }
    let watchers: BTreeSet<&str> =
        seen.iter().flat_map(|(_, says)| says.watchers.values().map(String::as_str)).collect();
    let watcher = match (configured_watcher, watchers.len()) {
        (Some(configured), 0) => Some(configured),
        (Some(configured), _) if watchers.iter().all(|user| *user == configured) => Some(configured),
        (None, 1) => watchers.first().copied(),
        (None, 0) if view.sentinels.is_empty() => None,
        (None, 0) => {
            obstacles.push(Obstacle {
                code: RefusalCode::EvidenceMissing,
                at: None,
                detail: "CLIENT LIST of no node shows as whom the Sentinels log in; say so with [group] sentinel_auth"
                    .to_owned(),
            });
            None
        }
        _ => {
            let told: Vec<&str> = watchers.into_iter().collect();
            let configured = configured_watcher.map(|user| format!(", configured is {user}")).unwrap_or_default();
            obstacles.push(Obstacle {
                code: RefusalCode::LatentAuthMismatch,
                at: None,
                detail: format!(
                    "the Sentinels log in to the nodes as {}{configured}: make it one user first",
                    told.join(" and ")
                ),
            });
            None
        }
    };
    match obstacles.is_empty() {
        true => Ok(Subject {
            user: user.to_owned(),
            replicates: replicators.contains_key(user),
            watches: watcher == Some(user),
            single: seen.iter().any(|(_, says)| !says.knows_two),
        }),
        false => Err(obstacles),
    }
}
