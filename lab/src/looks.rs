//! How long one look at the whole takes: when all answer, and when nobody does.

use std::io::{Error, Result};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fault;
use crate::group::Group;
use crate::kind::Kind;
use crate::scene::{PATIENCE, Scene};
use crate::transfer;

const LOOKS: usize = 20;
const OBSERVE: &str = "mode = \"observe\"\n";

pub(crate) fn when_all_answer(scene: &Scene) -> Result<Vec<Duration>> {
    (0..LOOKS).map(|_| look(scene)).collect()
}

/// The primary's packets vanish; all others answer. None without namespaces.
pub(crate) fn into_a_black_hole(kind: Kind, relinkd: &Path) -> Result<Option<Vec<Duration>>> {
    let Some(scene) = wired(kind, relinkd)? else { return Ok(None) };
    let (Some(here), Some(there)) = (scene.replica().host(), scene.group.primary().host()) else { return Ok(None) };
    let _cut = here.cut_from(there)?;
    transfer::reconnect(scene.replica())?;
    let down = scene.replica().wait_link_down(PATIENCE);
    down.ok_or_else(|| Error::other("the link stays up although its packets vanish"))?;
    (0..LOOKS / 4).map(|_| look(&scene)).collect::<Result<_>>().map(Some)
}

/// The host has lost its network, and the local server is stopped. None without namespaces.
pub(crate) fn when_nobody_answers(kind: Kind, relinkd: &Path) -> Result<Option<Vec<Duration>>> {
    let Some(scene) = wired(kind, relinkd)? else { return Ok(None) };
    let Some(here) = scene.replica().host() else { return Ok(None) };
    let _cut = here.filter("iif eth0 drop")?;
    let _stopped = fault::freeze(scene.replica())?;
    (0..LOOKS / 4).map(|_| look(&scene)).collect::<Result<_>>().map(Some)
}

fn wired(kind: Kind, relinkd: &Path) -> Result<Option<Scene>> {
    if !crate::namespaces_available() {
        return Ok(None);
    }
    let group = Group::builder(kind).replicas(1).sentinels(3).password("word").namespaces(true).start()?;
    Scene::start(group, relinkd, OBSERVE).map(Some)
}

fn look(scene: &Scene) -> Result<Duration> {
    let told = scene.verb_json(&["diagnose", "cache"])?;
    let time = |key: &str| match &told["evidence"][key] {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok(),
        Value::Number(us) => jiff::Timestamp::from_microsecond(us.as_i64()?).ok(),
        _ => None,
    };
    let (Some(began), Some(ended)) = (time("began"), time("ended")) else {
        return Err(Error::other("relinkd diagnose --json tells no times"));
    };
    Duration::try_from(ended.duration_since(began)).map_err(Error::other)
}
