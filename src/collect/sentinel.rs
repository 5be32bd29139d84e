//! One Sentinel's account of the group, in one write.

use tokio::time::Instant;

use super::Look;
use crate::model::evidence::{Missing, Reading, SentinelSays, SentinelView};
use crate::model::turn::SENTINEL_MS;
use crate::model::{Address, Endpoint};
use crate::wire::reply::sentinel::{Answers, group_names, says};
use crate::wire::{Dial, Reader};

pub async fn look(look: &Look<'_>, dial: &Dial) -> SentinelView {
    let endpoint = match &dial.address {
        Address::Tcp(endpoint) => endpoint.clone(),
        Address::Unix(path) => Endpoint::new(path.display().to_string(), 0),
    };
    let ends = Instant::now() + look.left(SENTINEL_MS);
    let says = match tokio::time::timeout_at(ends, ask(look, dial)).await {
        Ok(Ok(says)) => Reading::Seen(says),
        Ok(Err(why)) => Reading::Missing(why),
        Err(_) => Reading::Missing(Missing::TimedOut),
    };
    SentinelView { endpoint, says }
}

async fn ask(look: &Look<'_>, dial: &Dial) -> Result<SentinelSays, Missing> {
    let within = look.left(SENTINEL_MS);
    let mut reader = Reader::connect(dial, within).await.map_err(|e| Missing::from(&e))?;
    let group = match &look.target.group {
        Some(group) => group.clone(),
        None => only_group(&mut reader, within).await?,
    };
    let began = Instant::now();
    let replies = reader
        .ask_all(
            &[
                &["SENTINEL", "MYID"],
                &["SENTINEL", "MASTER", &group],
                &["SENTINEL", "REPLICAS", &group],
                &["SENTINEL", "CKQUORUM", &group],
                &["INFO"],
                &["SENTINEL", "INFO-CACHE", &group],
            ],
            within,
        )
        .await
        .map_err(|e| Missing::from(&e))?;
    let [myid, master, replicas, ckquorum, info, info_cache] = replies.as_slice() else {
        return Err(Missing::Unsupported(format!("{} replies to six questions", replies.len())));
    };
    let answers = Answers { myid, master, replicas, ckquorum, info, info_cache };
    says(&answers, look.now(), super::micros(began))
}

/// The name of the one group that a Sentinel watches.
async fn only_group(reader: &mut Reader, within: std::time::Duration) -> Result<String, Missing> {
    let reply = reader.ask(&["SENTINEL", "MASTERS"], within).await.map_err(|e| Missing::from(&e))?;
    if let Some(why) = reply.refusal() {
        return Err(why);
    }
    match group_names(&reply).as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Missing::Unsupported("this Sentinel watches no group".into())),
        several => Err(Missing::Unsupported(format!(
            "this Sentinel watches {} groups ({}): say which one",
            several.len(),
            crate::model::tame(&several.join(", "), 120)
        ))),
    }
}
