//! The replicas of a group whose primary is held down, or turns most of them away, each looked at for itself: one of them is promoted next, and the
//! others have to log in to it. Nobody's word is taken for that: the login of the watched replica is tried at each, and
//! each is asked for its INFO, by the observer where one is configured.
//!
//! Invariant: who was refused is not tried again with the same logins within the caller's period (`Ask::refused`): each
//! refusal is a line in an ACL LOG.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::probe::{self, AskPsync, Login, Walk};
use super::votes::{Ballot, Vote, settled};
use super::{Ask, Following, Look, Stance};
use crate::model::evidence::{Answer, Connect, Missing, Probe, Reading, ServerView, Successor};
use crate::model::{Address, Endpoint};
use crate::secrets::Secret;
use crate::wire::reply::{Reply, info};
use crate::wire::{Dial, Reader, TlsSettings, all};

/// What one replica may take in all; less where the look ends before.
const WITHIN_MS: u64 = 1000;

/// Sentinels beyond a majority may know of one replica more: so long is waited for them.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// A replica's address, and how a replica speaks to it.
struct Door {
    at: Endpoint,
    tls: Option<TlsSettings>,
    /// It is the watched replica's own.
    own: bool,
}

impl Look<'_> {
    /// Asks nobody unless the caller wants it, or a majority of the Sentinels holds the primary down, or says that most
    /// replicas have no link. In the last case nobody either where this replica's own login was refused: it would be
    /// refused by all of them.
    pub(super) async fn successors(
        &self,
        ask: &Ask<'_>,
        mut stance: watch::Receiver<Option<Stance>>,
        mut votes: watch::Receiver<Vec<Vote>>,
    ) -> Vec<Successor> {
        let stance = stance.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        let Some(Stance::Follows(following)) = stance else { return Vec::new() };
        let count = self.target.sentinels.len();
        let answers = |votes: &[Vote]| {
            let of = |says_so: fn(&Ballot) -> bool| settled(votes, count, says_so);
            Some((of(|ballot| ballot.down)?, of(|ballot| ballot.most_unlinked)?))
        };
        let told = match votes.wait_for(|votes| answers(votes).is_some()).await {
            Ok(votes) => answers(&votes).unwrap_or_default(),
            Err(_) => (false, false),
        };
        let wanted = match told {
            _ if ask.meet_replicas => true,
            (true, _) => true,
            (false, most_unlinked) => most_unlinked && !following.up && self.is_turned_away_only().await,
        };
        if !wanted {
            return Vec::new();
        }
        let _ = tokio::time::timeout(STRAGGLERS, votes.wait_for(|votes| votes.len() >= count)).await;
        let listed: BTreeMap<Endpoint, String> =
            votes.borrow().iter().flatten().flat_map(|ballot| ballot.in_sight.iter().cloned()).collect();
        let login = following.login();
        let print = self.print(&following);
        all(listed.iter().map(|(endpoint, run_id)| {
            let known = ask.refused.iter().find(|known| known.endpoint == *endpoint && known.print == print);
            let (door, login) = (self.door(endpoint, run_id, &following), login.as_ref());
            let (endpoint, run_id, print) = (endpoint.clone(), run_id.clone(), print.clone());
            async move {
                if let Some(known) = known {
                    return known.clone();
                }
                let user = match &self.target.observer {
                    Some((user, _)) => user.clone(),
                    None => login.map_or(String::new(), |login| login.user.to_owned()),
                };
                let (probe, server) = self.successor(&door, login).await;
                Successor { at: self.now(), endpoint, run_id, print, user, probe, server }
            }
        }))
        .await
    }

    /// The primary was met, and nothing that it said to this replica was about its login.
    async fn is_turned_away_only(&self) -> bool {
        const LOGIN: [&str; 3] = ["NOAUTH", "WRONGPASS", "NOPERM"];
        let Some(probe) = self.walked_upstream().await else { return false };
        let said = [&probe.ping_again, &probe.replconf, &probe.psync];
        probe.connect == Connect::Open
            && !matches!(probe.auth, Answer::Error { .. })
            && !said.iter().any(|answer| LOGIN.contains(&answer.code()))
    }

    /// Where to knock. The watched replica is dialled as always: the address that the Sentinels have for it may not lead
    /// back to this host.
    fn door(&self, endpoint: &Endpoint, run_id: &str, following: &Following) -> Door {
        let own = !run_id.is_empty() && run_id == following.run_id;
        match &self.target.local.address {
            Address::Tcp(local) if own => Door { at: local.clone(), tls: self.target.local.tls.clone(), own },
            _ => Door { at: endpoint.clone(), tls: following.tls.clone(), own },
        }
    }

    async fn successor(&self, door: &Door, login: Option<&Login<'_>>) -> (Reading<Probe>, Reading<ServerView>) {
        let (tls, psync) = (door.tls.as_ref(), AskPsync::WhenSafe);
        let walk = Walk { target: &door.at, login, tls, psync, account: false, headless: true };
        let walking = async {
            if login.is_none() {
                return (Reading::Missing(Missing::NotAsked), None);
            }
            let walked = probe::walk(self, &walk).await;
            (Reading::Seen(walked.probe), walked.reader)
        };
        let ((probe, reader), observed) = tokio::join!(walking, self.as_observer(door));
        let server = match (observed, reader) {
            (Some(observed), _) => observed,
            (None, _) if door.own => Reading::Missing(Missing::NotAsked),
            (None, Some(reader)) => self.account_of(reader).await,
            (None, None) => Reading::Missing(probe.seen().map_or(Missing::NotAsked, stopped_at)),
        };
        (probe, server)
    }

    /// None: no observer is configured, or none is needed.
    async fn as_observer(&self, door: &Door) -> Option<Reading<ServerView>> {
        let (user, password) = self.target.observer.as_ref().filter(|_| !door.own)?;
        let dial = Dial {
            address: Address::Tcp(door.at.clone()),
            user: user.clone(),
            password: Some(password.clone()),
            tls: door.tls.clone(),
        };
        Some(match Reader::connect(&dial, self.left(WITHIN_MS)).await {
            Ok(reader) => self.account_of(reader).await,
            Err(error) => Reading::Missing((&error).into()),
        })
    }

    async fn account_of(&self, mut reader: Reader) -> Reading<ServerView> {
        let began = tokio::time::Instant::now();
        match reader.ask(&["INFO"], self.left(WITHIN_MS)).await {
            Ok(Reply::Text(text)) => match info::server_view(&text, None, self.now(), super::micros(began)) {
                Some(view) => Reading::Seen(view),
                None => Reading::Missing(Missing::Unsupported("INFO tells no role".into())),
            },
            Ok(reply) => Reading::Missing(reply.unfit("INFO")),
            Err(error) => Reading::Missing((&error).into()),
        }
    }

    fn print(&self, following: &Following) -> String {
        let salt = &self.target.salt;
        let own = following.credentials.as_ref().map(|own| own.print(salt)).unwrap_or_default();
        let observer = self.target.observer.as_ref();
        let observer = observer.map(|(user, secret)| Secret::new(format!("{user}\n{}", secret.expose())).print(salt));
        format!("{own}+{}", observer.unwrap_or_default())
    }
}

/// Why a handshake came to no end.
fn stopped_at(probe: &Probe) -> Missing {
    let answers = [&probe.auth, &probe.ping_again, &probe.replconf, &probe.psync, &probe.ping];
    match (&probe.connect, answers.into_iter().find(|answer| matches!(answer, Answer::Error { .. }))) {
        (Connect::Open, Some(Answer::Error { text, .. })) => Missing::Denied(text.clone()),
        (Connect::Open | Connect::TimedOut | Connect::HelloUnanswered | Connect::NoTime, _) => Missing::TimedOut,
        (Connect::Refused, _) => Missing::Refused("connection refused".into()),
        (Connect::Reset, _) => Missing::Refused("connection reset".into()),
        (Connect::Unreachable(why) | Connect::NameUnresolved(why) | Connect::Tls(why) | Connect::TlsSetup(why), _) => {
            Missing::Refused(why.clone())
        }
    }
}
