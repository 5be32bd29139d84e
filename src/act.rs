//! The hands: one step at a time, its precondition read again just before. They decide nothing.
//!
//! Everything that relinkd can change in a server or a Sentinel stands in this module, so this is what to audit:
//! CONFIG SET of `masteruser` and `masterauth`, REPLICAOF, CONFIG REWRITE, SENTINEL FAILOVER, and, for a rotation
//! ([`rotation`]), the passwords of one user. Nothing else.
//! A command whose answer did not come has an unknown outcome: it is read back before anything is said of it.
//! The former password is kept in memory only, for the undo of the same run; after a crash it is gone.

use std::time::Duration;

use crate::model::Endpoint;
use crate::model::remedy::{Change, Outcome, Step};
use crate::secrets::{Salt, Secret, SecretRef};
use crate::wire::Dial;

pub mod config_file;
mod local;
mod precondition;
pub mod rotation;
mod sentinel;

/// How long one command of ours may take, unless the step gives it less.
const COMMAND: Duration = Duration::from_millis(1_000);

/// The hands of one instance.
pub struct Hands {
    local: Dial,
    sentinels: Vec<Dial>,
    group: Option<String>,
    /// Where a new `masterauth` comes from.
    store: Option<SecretRef>,
    salt: Salt,
    former: Option<Former>,
}

/// What the replica had before a change, for the undo of the same run.
struct Former {
    user: String,
    password: Secret,
}

/// Why a step did not happen: the world had moved, or the attempt failed.
enum Stop {
    Moved(String),
    Failed(String),
}

type Done = Result<Outcome, Stop>;

impl Hands {
    pub fn new(local: Dial, sentinels: Vec<Dial>, group: Option<String>, store: Option<SecretRef>, salt: Salt) -> Self {
        Hands { local, sentinels, group, store, salt, former: None }
    }

    /// Runs one step within its time. Never panics, always comes back.
    pub async fn run(&mut self, step: &Step) -> Outcome {
        let within = Duration::from_millis(step.within_ms).max(Duration::from_millis(100));
        // The step's own time bounds the change; checking the world first has a bound of its own.
        let bounded = tokio::time::timeout(within + precondition::BOUND, self.checked(step, within)).await;
        match bounded {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Stop::Moved(what))) => Outcome::PreconditionGone(what),
            Ok(Err(Stop::Failed(why))) => Outcome::Failed(why),
            Err(_) => Outcome::Failed(format!("{}: not done within {} ms", step.change.describe(), step.within_ms)),
        }
    }

    async fn checked(&mut self, step: &Step, within: Duration) -> Done {
        self.sentinels_still_agree(&step.expect).await?;
        match &step.change {
            Change::RealignAuth { source, version, print, user, bounce_to } => {
                let offer = local::Wanted { source, version, print, user };
                self.realign_auth(&step.expect, &offer, bounce_to).await
            }
            Change::PresetAuth { source, version, print, user } => {
                let offer = local::Wanted { source, version, print, user };
                self.preset_auth(&step.expect, &offer).await
            }
            Change::RestoreAuth { bounce_to } => self.restore_auth(&step.expect, bounce_to).await,
            Change::BounceLink { to } => self.bounce(&step.expect, to).await,
            Change::Repoint { to, .. } => self.repoint(&step.expect, to).await,
            Change::RequestFailover { group, sentinels } => self.request_failover(group, sentinels, within).await,
            Change::ProveLink => self.prove_link(within).await,
            Change::Persist => self.persist(&step.expect, within).await,
        }
    }

    fn sentinel_at(&self, endpoint: &Endpoint) -> Option<&Dial> {
        self.sentinels.iter().find(|dial| dial.address == crate::model::Address::Tcp(endpoint.clone()))
    }
}
