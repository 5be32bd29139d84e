//! One Sentinel's account of the group, in one write.

use std::time::Duration;

use tokio::time::Instant;

use super::Look;
use crate::model::evidence::{Missing, Reading, SentinelSays, SentinelView};
use crate::model::turn::SENTINEL_MS;
use crate::model::{Address, Endpoint};
use crate::wire::reply::Reply;
use crate::wire::reply::sentinel::{Answers, group_names, is_unknown_group, says};
use crate::wire::{Dial, Reader, WireError};

/// What it says of the primary and of itself is handed to `heard` at once: the INFO of a whole group is longer than a
/// line that is far away carries in one go, and others wait for that word.
pub async fn look(look: &Look<'_>, dial: &Dial, heard: impl FnOnce(&SentinelSays)) -> SentinelView {
    let endpoint = match &dial.address {
        Address::Tcp(endpoint) => endpoint.clone(),
        Address::Unix(path) => Endpoint::new(path.display().to_string(), 0),
    };
    let says = match ask(look, dial, heard).await {
        Ok(says) => Reading::Seen(says),
        Err(why) => Reading::Missing(why),
    };
    SentinelView { endpoint, says }
}

async fn ask(look: &Look<'_>, dial: &Dial, heard: impl FnOnce(&SentinelSays)) -> Result<SentinelSays, Missing> {
    let missing = |error: WireError| Missing::from(&error);
    let began = Instant::now();
    let mut reader = Reader::open(dial, look.left(SENTINEL_MS)).await.map_err(missing)?;
    // One that has let us in late is far away, and not dead.
    let far = reader.round_trip() * 4;
    let ends = began + Duration::from_millis(SENTINEL_MS).max(far);
    let left = || look.left(u64::MAX).min(ends.saturating_duration_since(Instant::now()));
    let found = match &look.target.group {
        Some(_) => None,
        None => {
            let told = reader.enter(dial, &[&["SENTINEL", "MASTERS"]], &[], left()).await.map_err(missing)?;
            reader.rest(left()).await.map_err(missing)?;
            Some(only_group(told.first().unwrap_or(&Reply::Nil))?)
        }
    };
    let group = found.as_ref().or(look.target.group.as_ref()).map_or("", String::as_str);
    let first: [&[&str]; 5] = [
        &["SENTINEL", "MYID"],
        &["SENTINEL", "MASTER", group],
        &["SENTINEL", "REPLICAS", group],
        &["SENTINEL", "CKQUORUM", group],
        &["INFO"],
    ];
    let later: [&[&str]; 1] = [&["SENTINEL", "INFO-CACHE", group]];
    let asked = Instant::now();
    let replies = match found {
        None => reader.enter(dial, &first, &later, left()).await,
        Some(_) => reader.ask_first(&first, &later, left()).await,
    };
    let replies = replies.map_err(missing)?;
    let [myid, master, replicas, ckquorum, info] = replies.as_slice() else {
        return Err(Missing::Unsupported(format!("{} replies to five questions", replies.len())));
    };
    if is_unknown_group(master) {
        reader.rest(left()).await.map_err(missing)?;
        let masters = reader.ask_all(&[&["SENTINEL", "MASTERS"]], left()).await.map_err(missing)?;
        return Err(unknown_group(group, masters.first().unwrap_or(&Reply::Nil)));
    }
    let (at, took_us) = (look.now(), super::micros(asked));
    let told = |info_cache: &Reply| says(&Answers { myid, master, replicas, ckquorum, info, info_cache }, at, took_us);
    let first = told(&Reply::Nil)?;
    heard(&first);
    match reader.rest(left()).await {
        Ok(rest) => told(rest.first().unwrap_or(&Reply::Nil)),
        Err(error) => Ok(SentinelSays { nodes: Reading::Missing(missing(error)), ..first }),
    }
}

fn unknown_group(asked: &str, masters: &Reply) -> Missing {
    let known = match group_names(masters).as_slice() {
        [] => "it watches no group".to_owned(),
        names => format!("it knows: {}", crate::model::tame(&names.join(", "), 200)),
    };
    Missing::UnknownGroup(format!("does not know the group {:?}; {known}", crate::model::tame(asked, 64)))
}

/// The name of the one group that a Sentinel watches.
fn only_group(masters: &Reply) -> Result<String, Missing> {
    if let Some(why) = masters.refusal() {
        return Err(why);
    }
    match group_names(masters).as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Missing::Unsupported("this Sentinel watches no group".into())),
        several => Err(Missing::Unsupported(format!(
            "this Sentinel watches {} groups ({}): say which one",
            several.len(),
            crate::model::tame(&several.join(", "), 120)
        ))),
    }
}
