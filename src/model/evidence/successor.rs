//! A replica of the group, looked at for itself before a failover.

use serde::{Deserialize, Serialize};

use super::{Answer, CachedNode, Missing, Probe, Reading, ServerView};
use crate::model::{Endpoint, Timestamp};

/// What a Sentinel tells of a replica is what it tells of itself; whether it would take the others in once it is promoted
/// shows only at its door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Successor {
    pub at: Timestamp,
    /// As the Sentinels list it.
    pub endpoint: Endpoint,
    pub run_id: String,
    /// Salted fingerprint of the logins that it was asked with, comparable within one daemon's life only.
    pub print: String,
    /// Who asked for its INFO; empty for the default user.
    pub user: String,
    /// What a replica's handshake meets there with the `masteruser` and `masterauth` of the watched instance.
    pub probe: Reading<Probe>,
    /// Its own account of itself (INFO).
    pub server: Reading<ServerView>,
}

impl Successor {
    /// A login of ours, or a question, was refused there. Each is a line in its ACL LOG.
    pub fn refused_us(&self) -> bool {
        let probe = self.probe.seen();
        let answers = probe.into_iter().flat_map(|probe| [&probe.auth, &probe.replconf, &probe.psync]);
        let denied = |answer: &Answer| matches!(answer.code(), "WRONGPASS" | "NOPERM" | "NOAUTH");
        answers.into_iter().any(denied) || matches!(self.server, Reading::Missing(Missing::Denied(_)))
    }
}

impl From<&ServerView> for CachedNode {
    fn from(view: &ServerView) -> CachedNode {
        let link = view.role.link();
        CachedNode {
            age_ms: 0,
            run_id: view.run_id.clone(),
            flavour: view.flavour,
            version: view.version.clone(),
            is_primary: link.is_none(),
            keys: view.keys,
            repl_offset: link.map_or(view.repl_offset, |link| link.offset),
            replid2: view.replid2.clone(),
            second_repl_offset: view.second_repl_offset,
            link_up: link.is_some_and(|link| link.up),
            link_down_for_s: link.and_then(|link| link.down_for_s),
            priority: view.priority,
            rdb_last_save_ok: view.rdb_last_save_ok,
            aof_last_write_ok: view.aof_last_write_ok,
            loading: view.loading,
            good_replicas: None,
        }
    }
}
