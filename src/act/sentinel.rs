//! The one change that is asked of a Sentinel.

use super::{Done, Hands, Stop, too_late};
use crate::model::Endpoint;
use crate::model::remedy::{Handover, Outcome};
use crate::wire::reply::Reply;
use crate::wire::{Arg, Until, WireError, Writer};

impl Hands {
    /// SENTINEL FAILOVER on the first of these that can be reached. The command is forced: no vote is asked for, and
    /// `-INPROG` is known to that one Sentinel only (Redis 7.0.15, sentinelCommand). So one request is sent, and when
    /// its answer is lost no second Sentinel is asked.
    ///
    /// With COORDINATED the Sentinels vote, one acts, and the primary takes part (Valkey 9.1.2).
    ///
    /// It arrives by `until` or never, whatever holds this process up: other agents count on that. So that moment was
    /// fixed before the Sentinels were asked, and what the kernel may take to deliver is left free before it.
    pub(super) async fn request_failover(&self, group: &str, how: &Handover, order: &[Endpoint], until: Until) -> Done {
        let mut unreached = Vec::new();
        for endpoint in order {
            let Some(dial) = self.sentinel_at(endpoint) else { continue };
            if until.is_over() {
                return Err(too_late("SENTINEL FAILOVER"));
            }
            let half = until.left() / 2;
            let mut writer = match Writer::connect(dial, half).await {
                Ok(writer) => writer,
                Err(error) => {
                    unreached.push(format!("{endpoint}: {error}"));
                    continue;
                }
            };
            writer.good_until(until.earlier_by(half));
            // A Sentinel that does not know the word refuses the whole, and forces nothing: `ERR wrong number of arguments`
            // (Redis 7.0.15 and 8.2.3, Valkey 8.0.1).
            let word = (*how == Handover::Coordinated).then_some("COORDINATED");
            let command: Vec<Arg> = ["SENTINEL", "FAILOVER", group].into_iter().chain(word).map(Arg::from).collect();
            return match writer.run(&command, until.left()).await {
                Err(WireError::TooLate) => Err(too_late("SENTINEL FAILOVER")),
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
