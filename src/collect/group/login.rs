//! Each login of the group, tried at every node: whoever is primary tomorrow has to take it.

use std::collections::BTreeMap;

use super::super::probe::{AskPsync, Login, Walk, walk};
use crate::collect::Look;
use crate::model::Endpoint;
use crate::model::group::LoginProof;
use crate::wire::reply::settings::Credentials;
use crate::wire::{TlsSettings, all};

/// Nodes that hold the same login share a proof. A refused one costs one line in that node's ACL LOG.
pub async fn prove(
    look: &Look<'_>,
    held: &BTreeMap<String, Credentials>,
    places: &[(Endpoint, bool)],
    tls: Option<&TlsSettings>,
) -> Vec<LoginProof> {
    // A Unix socket stands in the list under its path, with port 0: no replica can follow it there.
    let places = || places.iter().filter(|(at, _)| at.port != 0);
    let tries = held.iter().flat_map(|(print, own)| places().map(move |(at, psync)| (print, own, at, *psync)));
    all(tries.map(|(print, own, at, psync)| async move {
        let login = Login { user: &own.user, secret: &own.secret };
        let psync = if psync { AskPsync::KnownSafe } else { AskPsync::Never };
        let walked =
            walk(look, &Walk { target: at, login: Some(&login), tls, psync, account: false, headless: false }).await;
        let probe = walked.probe;
        LoginProof { login: print.clone(), at: at.clone(), probe }
    }))
    .await
}
