//! What a start takes over from the state directory: the salt, and what the ledger holds of before. Each is waited for
//! within a bound, since a disk that hangs answers nobody, and who watches must not hang with it. Without the ledger the
//! agents watch, act not and record nothing. When the disk answers, everything begins anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::answers;
use super::clock::Clock;
use super::error::DaemonError;
use super::record::Record;
use super::watched::Watched;
use crate::agent::{Agent, Host};
use crate::config::Settings;
use crate::ledger::Ledger;
use crate::model::incident::Entry;
use crate::model::people::Pause;
use crate::model::{Timestamp, human};
use crate::secrets::Salt;

/// How long each part is waited for: a ledger of a hundred instances is read in well under a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is slow and not stuck is read in the end, and not begun anew for ever.
const MOST: Duration = Duration::from_secs(60);

/// How far back an agent remembers.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// The patience of the next start.
pub(super) fn next_patience(last: Duration, unread: bool) -> Duration {
    if unread { (last * 2).min(MOST) } else { PATIENCE }
}

/// The salt of the state directory, and whether it is the lasting one. A full disk at the first start is no reason not to
/// watch, and neither is one that hangs; only the latter is tried again. One that is not there ends the first start, and no
/// later one (`lived`): somebody may be moving it.
pub(super) async fn salt(state_dir: &Path, patience: Duration, lived: bool) -> Result<(Salt, bool), DaemonError> {
    let dir = state_dir.to_owned();
    let read = tokio::task::spawn_blocking(move || Salt::load_or_create(&dir).map_err(|error| (error, dir.is_dir())));
    match timeout(patience, read).await {
        Ok(Ok(Ok(salt))) => Ok((salt, true)),
        Ok(Ok(Err((error, false)))) if lived => {
            tracing::error!("{error}; relinkd watches meanwhile, and changes nothing");
            Ok((Salt::fleeting(), false))
        }
        Ok(Ok(Err((error, false)))) => Err(DaemonError::StateDir(state_dir.to_owned(), error)),
        Ok(Ok(Err((error, true)))) => {
            tracing::error!("{error}; fingerprints will not compare over restarts");
            Ok((Salt::fleeting(), true))
        }
        Ok(Err(_)) | Err(_) => {
            tracing::error!("state_dir {}: {}", state_dir.display(), silence(patience));
            Ok((Salt::fleeting(), false))
        }
    }
}

fn silence(patience: Duration) -> String {
    format!("no answer within {}: does its disk hang? relinkd watches meanwhile, and changes nothing", human(patience))
}

/// What the ledger holds from before.
pub(super) struct Past {
    /// Of each instance, in its place.
    histories: Vec<Vec<Entry>>,
    pub pauses: Vec<Pause>,
    pub host: Host,
}

impl Past {
    /// `names`: of the instances, in their order.
    pub async fn read(
        record: &Arc<Record>,
        names: Vec<String>,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Past, String> {
        let read = move |ledger: &mut Ledger| {
            let since = now.before(REMEMBERED);
            let histories = names.iter().map(|name| ledger.history(name, since)).collect::<Result<_, _>>()?;
            let (pauses, host) = answers::standing(ledger, now)?;
            Ok(Past { histories, pauses, host })
        };
        let done = timeout(patience, record.on_thread(move |record| record.with(read))).await;
        let done = done.unwrap_or_else(|_| Err(format!("the ledger: {}", silence(patience))));
        match &done {
            Ok(past) => past.histories.iter().for_each(|entries| record.know(entries)),
            Err(why) => tracing::error!("the ledger cannot be read: {why}"),
        }
        done
    }

    /// Of the instance at this place.
    pub fn of(&self, index: usize) -> &[Entry] {
        self.histories.get(index).map_or(&[], Vec::as_slice)
    }
}

/// An agent that takes up where the ledger ends. Without that it begins anew, and may not act.
pub(super) fn agent(watched: &Watched, settings: &Settings, now: Timestamp, past: Result<&[Entry], &str>) -> Agent {
    let seed = now.0.unsigned_abs() ^ (u64::from(std::process::id()) << 40);
    let mut agent = Agent::new(watched.identity(&settings.agent.host, seed), settings.policy.clone(), now);
    match past {
        Ok(entries) => agent.replay(entries, now),
        Err(why) => agent.without_ledger(why.to_owned()),
    }
    agent
}

/// The agent of one instance with what the ledger holds of it and of the whole host, for a round by hand.
pub async fn revive(
    record: &Arc<Record>,
    watched: &Watched,
    settings: &Settings,
    clock: Clock,
) -> Result<(Agent, Vec<Pause>, Host), String> {
    let now = clock.now();
    let past = Past::read(record, vec![watched.name.clone()], now, MOST).await?;
    let agent = agent(watched, settings, now, Ok(past.of(0)));
    Ok((agent, past.pauses, past.host))
}
