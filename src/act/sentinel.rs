//! The one change that is asked of a Sentinel.

use std::time::Duration;

use tokio::time::Instant;

use super::{Done, Hands, Stop};
use crate::model::Endpoint;
use crate::model::remedy::Outcome;
use crate::wire::reply::Reply;
use crate::wire::{Arg, Writer};

impl Hands {
    /// SENTINEL FAILOVER on the first of these that can be reached. The command is forced: no vote is asked for, and
    /// `-INPROG` is known to that one Sentinel only (Redis 7.0.15, sentinelCommand). So one request is sent, and when
    /// its answer is lost no second Sentinel is asked.
    ///
    /// All of it is over within `within`: other agents count on that a request arrives by then or never.
    pub(super) async fn request_failover(&self, group: &str, order: &[Endpoint], within: Duration) -> Done {
        let ends = Instant::now() + within;
        let mut unreached = Vec::new();
        for endpoint in order {
            let Some(dial) = self.sentinel_at(endpoint) else { continue };
            let left = ends.saturating_duration_since(Instant::now());
            let mut writer = match Writer::connect(dial, left / 2).await {
                Ok(writer) => writer,
                Err(error) => {
                    unreached.push(format!("{endpoint}: {error}"));
                    continue;
                }
            };
            let command = ["SENTINEL", "FAILOVER", group].map(Arg::from);
            let left = ends.saturating_duration_since(Instant::now());
            return match writer.run(&command, left).await {
                Ok(Reply::Text(_)) => Ok(Outcome::Changed(format!("Sentinel {endpoint} took the request"))),
                Ok(Reply::Error { code, text }) if code == "INPROG" => {
                    Ok(Outcome::AlreadySo(format!("Sentinel {endpoint} is at it already: {text}")))
                }
                Ok(Reply::Error { code, text }) if code == "NOPERM" => Err(Stop::Failed(format!(
                    "Sentinel {endpoint}: {text}; relinkd's user needs +sentinel|failover there"
                ))),
                Ok(Reply::Error { text, .. }) => Err(Stop::Failed(format!("Sentinel {endpoint}: {text}"))),
                Ok(_) => Err(Stop::Failed(format!("Sentinel {endpoint}: an answer that is not understood"))),
                Err(error) => Err(Stop::Failed(format!(
                    "Sentinel {endpoint}: {error}; whether it took the request is unknown, and no other one is asked"
                ))),
            };
        }
        Err(Stop::Failed(format!("no Sentinel could be reached: {}", unreached.join("; "))))
    }
}
