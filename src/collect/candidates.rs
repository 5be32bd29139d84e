//! What the secret store offers, each proved at one address: the whole of a replica's handshake with it.

use super::probe::{self, AskPsync, Knocked, Login, Walk};
use super::{Following, Look};
use crate::model::Endpoint;
use crate::model::evidence::{CandidateView, Probe};
use crate::secrets::Offer;
use crate::wire::all;

impl Look<'_> {
    /// A door that was knocked at before is used; `doors` has one place for each candidate.
    pub(super) async fn candidates(
        &self,
        target: &Endpoint,
        following: &Following,
        doors: impl Iterator<Item = Option<Knocked>>,
    ) -> Vec<CandidateView> {
        let offers = self.candidates.iter().zip(doors);
        all(offers.map(|(offer, door)| self.candidate(offer, target, following, door))).await
    }

    async fn candidate(
        &self,
        offer: &Offer,
        target: &Endpoint,
        following: &Following,
        door: Option<Knocked>,
    ) -> CandidateView {
        let present = following.credentials.as_ref();
        let user = match (&offer.user, present) {
            (Some(user), _) => user.as_str(),
            (None, Some(credentials)) => credentials.user.as_str(),
            (None, None) => "",
        };
        let in_use = present.is_some_and(|now| now.user == user && now.secret == offer.secret);
        // The replica's own login is tried there already, and each refusal is a line in the primary's ACL LOG.
        let same_walk = if in_use && *target == following.primary { self.walked_upstream().await } else { None };
        let proof = match same_walk {
            Some(probe) => probe,
            None => {
                let login = Login { user, secret: &offer.secret };
                let walk = Walk {
                    target,
                    login: Some(&login),
                    tls: following.tls.as_ref(),
                    psync: AskPsync::WhenSafe,
                    account: false,
                    headless: false,
                };
                match door {
                    Some(door) => probe::enter(self, &walk, door).await.probe,
                    None => probe::walk(self, &walk).await.probe,
                }
            }
        };
        CandidateView {
            source: offer.source.clone(),
            version: offer.version.clone(),
            user: user.to_owned(),
            print: offer.secret.print(&self.target.salt),
            in_use,
            proof,
        }
    }

    pub(super) async fn walked_upstream(&self) -> Option<Probe> {
        let mut walked = self.walked.subscribe();
        let ended = tokio::time::timeout_at(self.ends, walked.wait_for(Option::is_some)).await;
        ended.ok()?.ok()?.clone()
    }
}
