//! The other side of a second primary: a local server that calls itself a primary while the Sentinels name another. That
//! one is probed with what the local server would log in with, and tells of itself where it may be asked.

use tokio::sync::watch;

use super::local::Local;
use super::{Credentials, Far, Following, Look, TlsSettings, Vote, verdict};
use crate::model::Address;
use crate::model::evidence::Role;

/// A local primary, and how it would log in elsewhere. Holds a secret: never part of evidence.
#[derive(Clone)]
pub(super) struct Leading {
    run_id: String,
    credentials: Option<Credentials>,
    tls: Option<TlsSettings>,
}

impl Look<'_> {
    pub(super) fn leading(&self, local: &Local) -> Option<Leading> {
        let view = local.server.seen().filter(|view| view.role == Role::Primary)?;
        let (credentials, tls) = (local.credentials.clone(), self.tls_as_a_replica(local));
        Some(Leading { run_id: view.run_id.clone(), credentials, tls })
    }

    /// Asks nobody where the Sentinels mean the local server, as they do nearly always.
    pub(super) async fn elsewhere(&self, leading: Leading, mut votes: watch::Receiver<Vec<Vote>>) -> Far {
        let count = self.target.sentinels.len();
        let heard = votes.wait_for(|votes| verdict(votes, count).is_some()).await.map(|votes| votes.clone());
        let heard = heard.unwrap_or_default();
        let Some(named) = verdict(&heard, count).flatten() else { return Far::nothing() };
        let itself = heard.iter().flatten().any(|ballot| ballot.primary == named && ballot.run_id == leading.run_id);
        if itself || self.target.local.address == Address::Tcp(named.clone()) {
            return Far::nothing();
        }
        let Leading { run_id, credentials, tls } = leading;
        let there = Following { run_id, primary: named, credentials, tls, up: false };
        let (named, account) = self.upstream(Some(&there), true).await;
        Far { named, account: Some(account), ..Far::nothing() }
    }
}
