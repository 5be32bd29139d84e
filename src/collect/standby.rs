//! On the primary's own host: would it be taken back as a replica? Its `masterauth` is not in use while it is the
//! primary, so nothing tells that it is stale until a failover has made it a replica, with a link that never comes up.
//! What it would have to log in to are the replicas that may be promoted: they are asked.

use std::cmp::Reverse;

use super::Look;
use super::probe::{self, AskPsync, Login, Walk};
use crate::model::Endpoint;
use crate::model::evidence::{CandidateView, Evidence, Probe};
use crate::wire::reply::settings::Credentials;
use crate::wire::{TlsSettings, all};

/// Sentinel promotes the first that it can; the second stands for the others.
const ASKED: usize = 2;

/// Fills in what the standbys say to the present login, and to each candidate.
pub(super) async fn look(look: &Look<'_>, evidence: &mut Evidence, login: &Credentials, tls: Option<&TlsSettings>) {
    let places = standbys(evidence);
    let walk = async |user: &str, secret: &crate::secrets::Secret| -> Vec<Probe> {
        let login = Login { user, secret };
        all(places.iter().map(|target| {
            let walk =
                Walk { target, login: Some(&login), tls, psync: AskPsync::Never, account: false, headless: false };
            async move { probe::walk(look, &walk).await.probe }
        }))
        .await
    };
    let own = walk(&login.user, &login.secret).await;
    let mut candidates = Vec::new();
    for offer in look.candidates {
        let user = offer.user.as_deref().unwrap_or(&login.user);
        let proofs = walk(user, &offer.secret).await;
        // Taken is what all of them take.
        let refused = proofs.iter().find(|proof| !proof.auth.is_ok()).or(proofs.first()).cloned();
        candidates.extend(refused.map(|proof| CandidateView {
            source: offer.source.clone(),
            version: offer.version.clone(),
            user: user.to_owned(),
            print: offer.secret.print(&look.target.salt),
            in_use: login.user == user && login.secret == offer.secret,
            proof,
        }));
    }
    evidence.standbys = own;
    evidence.candidates = candidates;
    evidence.ended = look.now();
}

/// In Sentinel's order: priority, offset, run id (Redis 7.0.15, compareSlavesForPromotion).
fn standbys(e: &Evidence) -> Vec<Endpoint> {
    let named = e.named_primary().map(|(named, _)| named);
    let Some((_, says)) = e.answering().find(|(_, says)| Some(&says.primary) == named) else { return Vec::new() };
    let mut fit: Vec<_> = says.replicas.iter().filter(|replica| replica.promotable(says)).collect();
    fit.sort_by(|a, b| (a.priority, Reverse(a.offset), &a.run_id).cmp(&(b.priority, Reverse(b.offset), &b.run_id)));
    fit.into_iter().take(ASKED).map(|replica| replica.endpoint.clone()).collect()
}
