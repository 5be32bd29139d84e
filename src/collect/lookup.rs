//! The name of a silent server's primary. A server looks it up in its event loop: with a dead resolver it stands still
//! for 10 s of every 11 s (Redis 7.0.15, connectWithMaster), and reads as hung.

use std::net::IpAddr;

use super::Look;
use super::local::Local;
use crate::model::Endpoint;
use crate::model::evidence::{Lookup, Missing, Reading, SentinelView};
use crate::wire;

/// A resolver that has given nothing by then holds the server up for longer.
const WITHIN_MS: u64 = 500;

/// None: the server answers, or nobody knows a name that it follows.
pub async fn of_a_silent_server(
    look: &Look<'_>,
    local: &Local,
    followed: Option<Endpoint>,
    sentinels: &[SentinelView],
) -> Option<Lookup> {
    if local.server != Reading::Missing(Missing::TimedOut) {
        return None;
    }
    let seen = followed.map(|name| (name, "relinkd saw it follow that name".to_owned()));
    let (name, told_by) = seen.or_else(|| told(look, sentinels))?;
    if name.host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let failed = wire::lookup(&name, look.left(WITHIN_MS)).await.err();
    Some(Lookup { at: look.now(), name, told_by, failed: failed.map(|error| error.to_string()) })
}

/// What a Sentinel read in the server's INFO while it still answered.
fn told(look: &Look<'_>, sentinels: &[SentinelView]) -> Option<(Endpoint, String)> {
    let crate::model::Address::Tcp(own) = &look.target.local.address else { return None };
    sentinels.iter().find_map(|view| {
        let replica = view.says.seen()?.replicas.iter().find(|replica| replica.endpoint == *own)?;
        Some((replica.primary.clone()?, format!("Sentinel {} read that name in its INFO", view.endpoint)))
    })
}
