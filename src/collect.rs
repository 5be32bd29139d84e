//! One look at the whole: all probes at once under one deadline, one [`Evidence`] out. Reads only.
//!
//! The local instance, every Sentinel and the host are asked at the same moment. What depends on an answer starts
//! as soon as that answer is there: the replica's own primary once the replica has told its address, the primary
//! that a majority of the Sentinels names once a majority has spoken. No stage waits for one that it does not
//! need, and each has its own bound within the deadline, so a black-holed peer costs its own reading and no other.
//!
//! Invariants: what was not seen is [`Missing`] with its reason; nothing secret is in the result; nothing is
//! spawned, so a look that is dropped has ended.
//!
//! Not here: what the readings mean (`diagnose`), the memory of earlier looks (`agent` fills in `trend`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::evidence::{
    CachedNode, CandidateView, EVIDENCE_FORMAT, Evidence, HostView, LogView, Missing, Probe, Reading, SentinelView,
    ServerView, SettingsView, StoreView, Successor, Trend, repeats,
};
use crate::model::turn::SENTINEL_MS;
use crate::model::{Endpoint, LinkId, Timestamp};
use crate::secrets::{Offer, Salt, Secret};
use crate::wire::reply::settings::{Credentials, ReplicaTls};
use crate::wire::{Dial, TlsSettings, all};

mod candidates;
mod elsewhere;
pub mod group;
pub mod rotation;
mod host;
mod local;
mod lookup;
mod primary;
mod probe;
mod refused;
mod sentinel;
mod standby;
mod successors;
mod votes;

use elsewhere::Leading;
use local::Local;
use probe::{AskPsync, Login, Walk};
use votes::{Ballot, Vote, verdict};

/// How long a look may take, unless the caller says otherwise.
pub const DEADLINE: Duration = Duration::from_millis(1500);

/// The local instance has to answer within this: what comes after needs the rest of the deadline.
const LOCAL_MS: u64 = 1000;

/// A link that has been silent for longer than a primary's ping period (10 s by default) and some slack is looked
/// at from the other side too, though it reads up.
const QUIET_S: i64 = 12;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Target {
    pub link: LinkId,
    /// The watched instance, with the credentials that are ours there.
    pub local: Dial,
    pub sentinels: Vec<Dial>,
    /// The Sentinels' name for the group. None: the only one that they watch.
    pub group: Option<String>,
    /// A user who may read INFO, CONFIG and CLIENT LIST of the primary.
    pub observer: Option<(String, Secret)>,
    /// How a replica of this group speaks TLS to its primary; counts where `tls-replication` is on.
    pub tls_upstream: Option<TlsSettings>,
    pub salt: Salt,
}

/// What this look shall answer, and what the caller already knows.
pub struct Ask<'a> {
    /// Passwords to prove against the primary; empty: prove none.
    pub candidates: &'a [Offer],
    /// Walk through the replica's handshake with its primary even though the link is up.
    pub probe_upstream: bool,
    pub log: Reading<LogView>,
    pub store: Reading<StoreView>,
    /// The primary that the replica was last seen to follow.
    pub followed: Option<Endpoint>,
    /// Look at every replica that a Sentinel has in sight, though nobody holds the primary down.
    pub meet_replicas: bool,
    /// Replicas that refused a login not long ago: with the same one they are not tried again.
    pub refused: &'a [Successor],
    pub clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
    pub deadline: Duration,
}

/// The instance by itself: what it is, whom it follows, and with what login. Nobody else is asked.
pub async fn glance(
    target: &Target,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
    deadline: Duration,
) -> (Reading<ServerView>, Reading<SettingsView>) {
    let Local { server, settings, .. } = local::look(&Look::new(target, &[], clock, deadline)).await;
    (server, settings)
}

/// One look. It ends within the deadline whatever its peers do.
pub async fn look(target: &Target, ask: Ask<'_>) -> Evidence {
    let began = (ask.clock)();
    let (known, following) = watch::channel(None);
    let (votes, counted) = watch::channel(Vec::new());
    let look = Look::new(target, ask.candidates, ask.clock, ask.deadline);
    let (near, mut sentinels, far, mut successors) = tokio::join!(
        look.near(ask.probe_upstream, &known),
        all(target.sentinels.iter().map(|dial| look.sentinel(dial, &votes))),
        look.far(following.clone(), counted.clone()),
        look.successors(&ask, following, counted),
    );
    count_each_once(&mut sentinels);
    tell_of_itself(&mut successors, &near.local.server);
    let lookup = lookup::of_a_silent_server(&look, &near.local, ask.followed, &sentinels).await;
    let account = far.account.unwrap_or(near.account);
    let tls = look.tls_as_a_replica(&near.local);
    let login = near.local.credentials.clone();
    let mut evidence = Evidence {
        format: EVIDENCE_FORMAT,
        link: target.link.clone(),
        address: target.local.address.clone(),
        began,
        ended: (ask.clock)(),
        local: near.local.server,
        settings: near.local.settings,
        upstream: near.upstream,
        lookup,
        named: far.named,
        primary: account.server,
        primary_limits: account.limits,
        sentinels,
        host: near.host,
        log: ask.log,
        candidates: far.candidates,
        store: ask.store,
        standbys: Vec::new(),
        successors,
        trend: Trend::default(),
    };
    if let Some(login) = login.filter(|_| ask.probe_upstream && evidence.is_the_named_primary()) {
        standby::look(&look, &mut evidence, &login, tls.as_ref()).await;
    }
    evidence
}

/// What every stage shares.
struct Look<'a> {
    target: &'a Target,
    candidates: &'a [Offer],
    clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
    ends: Instant,
    told: watch::Sender<Versions>,
    versions: watch::Receiver<Versions>,
    /// What the handshake with the replica's own login met, once it has ended.
    walked: watch::Sender<Option<Probe>>,
}

/// Which versions the group's nodes have, as far as anybody has told in this look.
#[derive(Clone, Debug, Default)]
struct Versions {
    by_address: BTreeMap<String, String>,
    /// Sentinels and observers that have answered, or will not.
    spoken: usize,
}

/// What a Sentinel read of late. Where its login is refused its reading only ages, and the address may have another server
/// by now: one before 7.0 would take our PSYNC for a full resync.
fn versions_that_hold(nodes: &BTreeMap<String, CachedNode>) -> impl Iterator<Item = (String, String)> {
    /// A Sentinel reads INFO every 10 s (Redis 7.0.15, sentinel_info_period).
    const HOLDS_MS: u64 = 12_000;
    let fresh = nodes.iter().filter(|(_, node)| node.age_ms <= HOLDS_MS);
    fresh.map(|(name, node)| (name.clone(), node.version.clone()))
}

/// What the local instance and its own primary told.
struct Near {
    local: Local,
    upstream: Reading<Probe>,
    account: primary::Account,
    host: HostView,
}

/// What the primary that the Sentinels name told.
struct Far {
    named: Reading<Probe>,
    candidates: Vec<CandidateView>,
    /// Its account of itself, where the local server is a primary too.
    account: Option<primary::Account>,
}

impl Far {
    fn nothing() -> Far {
        Far { named: Reading::Missing(Missing::NotAsked), candidates: Vec::new(), account: None }
    }
}

/// What the local server is.
#[derive(Clone)]
enum Stance {
    Unseen,
    Follows(Following),
    Leads(Leading),
}

/// Whom the local replica follows and how it logs in there. Holds a secret: never part of evidence.
#[derive(Clone)]
struct Following {
    /// The local server's own.
    run_id: String,
    primary: Endpoint,
    /// None: the settings could not be read.
    credentials: Option<Credentials>,
    tls: Option<TlsSettings>,
    up: bool,
}

impl<'a> Look<'a> {
    fn new(
        target: &'a Target,
        candidates: &'a [Offer],
        clock: &'a (dyn Fn() -> Timestamp + Send + Sync),
        deadline: Duration,
    ) -> Look<'a> {
        let (told, versions) = watch::channel(Versions::default());
        let walked = watch::channel(None).0;
        Look { target, candidates, clock, ends: Instant::now() + deadline, told, versions, walked }
    }
}

impl Look<'_> {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// What is left of the deadline, `limit_ms` at most.
    fn left(&self, limit_ms: u64) -> Duration {
        self.ends.saturating_duration_since(Instant::now()).min(Duration::from_millis(limit_ms))
    }

    /// The local instance, and then at once its primary and its disk.
    async fn near(&self, probe_upstream: bool, known: &watch::Sender<Option<Stance>>) -> Near {
        let local = local::look(self).await;
        let following = self.following(&local);
        let stance = match (&following, self.leading(&local)) {
            (Some(following), _) => Stance::Follows(following.clone()),
            (None, Some(leading)) => Stance::Leads(leading),
            (None, None) => Stance::Unseen,
        };
        known.send_replace(Some(stance));
        let wanted = probe_upstream || !self.candidates.is_empty() || local.link_is_doubtful(QUIET_S);
        let dir = local.settings.seen().map(|settings| settings.dir.as_str());
        let ((upstream, account), host) =
            tokio::join!(self.upstream(following.as_ref(), wanted), host::look(self, dir));
        Near { local, upstream, account, host }
    }

    fn following(&self, local: &Local) -> Option<Following> {
        let server = local.server.seen()?;
        let link = server.role.link()?;
        let (primary, tls) = (link.primary.clone(), self.tls_as_a_replica(local));
        Some(Following {
            run_id: server.run_id.clone(),
            primary,
            credentials: local.credentials.clone(),
            tls,
            up: link.up,
        })
    }

    /// How the local server speaks to a primary.
    fn tls_as_a_replica(&self, local: &Local) -> Option<TlsSettings> {
        match local.settings.seen() {
            Some(settings) => settings.tls_replication.then(|| as_configured(self.target.tls_upstream.as_ref(), local)),
            None => self.target.tls_upstream.clone(),
        }
    }

    /// The replica's own primary: the handshake with it, and its account of itself.
    async fn upstream(&self, following: Option<&Following>, wanted: bool) -> (Reading<Probe>, primary::Account) {
        let Some(following) = following else {
            return (Reading::Missing(Missing::NotAsked), primary::Account::not_asked());
        };
        let login = following.login();
        let walk = Walk {
            target: &following.primary,
            login: login.as_ref(),
            tls: following.tls.as_ref(),
            psync: if !following.up || !self.candidates.is_empty() { AskPsync::WhenSafe } else { AskPsync::Never },
            // A user made for replication has no right to read INFO, and each refusal is a line in ACL LOG. The default
            // user may.
            account: self.target.observer.is_none() && login.as_ref().is_some_and(Login::is_default),
            headless: false,
        };
        let probing = async {
            match wanted {
                true => {
                    let walked = probe::walk(self, &walk).await;
                    self.walked.send_replace(Some(walked.probe.clone()));
                    (Reading::Seen(walked.probe), walked.account)
                }
                false => (Reading::Missing(Missing::NotAsked), None),
            }
        };
        if let Some(observer) = &self.target.observer {
            let observing = async {
                let account = primary::as_observer(self, following, observer).await;
                let version = account.server.seen().map(|view| view.version.clone());
                self.tell(version.into_iter().map(|version| (following.primary.to_string(), version)));
                account
            };
            let ((probe, _), account) = tokio::join!(probing, observing);
            return (probe, account);
        }
        let (probe, account) = probing.await;
        (probe, account.unwrap_or_else(primary::Account::not_asked))
    }

    /// Takes in what a Sentinel or an observer knows of versions; also that it knows none.
    fn tell(&self, found: impl Iterator<Item = (String, String)>) {
        self.told.send_modify(|versions| {
            versions.by_address.extend(found);
            versions.spoken += 1;
        });
    }

    /// The version of a node, where somebody has told it by now.
    fn version_so_far(&self, address: &Endpoint) -> Option<String> {
        self.versions.borrow().by_address.get(&address.to_string()).cloned()
    }

    /// The version of a node, once somebody has told it; none when nobody will. `peer` is the address that a name led to.
    async fn version_of(&self, address: &Endpoint, peer: Option<&str>) -> Option<String> {
        let name = address.to_string();
        let speakers = self.target.sentinels.len() + usize::from(self.target.observer.is_some());
        let mut versions = self.versions.clone();
        let found = |told: &Versions| told.by_address.get(&name).or_else(|| told.by_address.get(peer?)).cloned();
        let heard = versions.wait_for(|told| found(told).is_some() || told.spoken >= speakers);
        match tokio::time::timeout(self.left(SENTINEL_MS), heard).await {
            Ok(Ok(told)) => found(&told),
            _ => None,
        }
    }

    async fn sentinel(&self, dial: &Dial, votes: &watch::Sender<Vec<Vote>>) -> SentinelView {
        let cast = |vote: Vote| votes.send_modify(|votes| votes.push(vote));
        let view = sentinel::look(self, dial, |says| cast(Some(Ballot::of(says)))).await;
        if view.says.missing().is_some() {
            cast(None);
        }
        let nodes = view.says.seen().and_then(|says| says.nodes.seen());
        self.tell(nodes.into_iter().flat_map(versions_that_hold));
        view
    }

    /// The primary that a majority of the Sentinels names: the handshake with it where it is not the one that the
    /// replica follows, and every candidate. Without Sentinels, candidates are proved against the replica's own
    /// primary; with Sentinels that do not agree, against none.
    async fn far(&self, mut stance: watch::Receiver<Option<Stance>>, mut votes: watch::Receiver<Vec<Vote>>) -> Far {
        let stance = stance.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        let following = match stance {
            Some(Stance::Follows(following)) => following,
            Some(Stance::Leads(leading)) => return self.elsewhere(leading, votes).await,
            Some(Stance::Unseen) | None => return Far::nothing(),
        };
        let count = self.target.sentinels.len();
        let voting = async {
            match votes.wait_for(|votes| verdict(votes, count).is_some()).await {
                Ok(votes) => verdict(&votes, count).flatten(),
                Err(_) => None,
            }
        };
        // A primary that is far away is knocked at before the Sentinels have spoken. No password is shown by that.
        let knocking =
            all(self.candidates.iter().map(|_| probe::knock(self, &following.primary, following.tls.as_ref())));
        tokio::pin!(voting, knocking);
        let mut knocked = None;
        let named = loop {
            tokio::select! {
                named = &mut voting => break named,
                doors = &mut knocking, if knocked.is_none() => knocked = Some(doors),
            }
        };
        let prove_at = if count == 0 { Some(&following.primary) } else { named.as_ref() };
        if prove_at == Some(&following.primary) {
            let doors = match knocked {
                Some(doors) => doors,
                None => knocking.await,
            };
            let candidates = self.candidates(&following.primary, &following, doors.into_iter().map(Some)).await;
            return Far { candidates, ..Far::nothing() };
        }
        let Some(elsewhere) = prove_at else { return Far::nothing() };
        let doors = self.candidates.iter().map(|_| None);
        let (named, candidates) =
            tokio::join!(self.named(elsewhere, &following), self.candidates(elsewhere, &following, doors));
        Far { named, candidates, account: None }
    }

    async fn named(&self, target: &Endpoint, following: &Following) -> Reading<Probe> {
        let login = following.login();
        // Whole, whatever the present link does: whether the replica would be taken there is the question.
        let walk = Walk {
            target,
            login: login.as_ref(),
            tls: following.tls.as_ref(),
            psync: AskPsync::WhenSafe,
            account: false,
            headless: false,
        };
        Reading::Seen(probe::walk(self, &walk).await.probe)
    }
}

impl Following {
    fn login(&self) -> Option<Login<'_>> {
        self.credentials.as_ref().map(|known| Login { user: &known.user, secret: &known.secret })
    }
}

/// `tls` of the group, or else what the replica itself does.
fn as_configured(configured: Option<&TlsSettings>, local: &Local) -> TlsSettings {
    let own = local.tls.as_ref();
    let Some(configured) = configured else { return own.map(as_the_replica).unwrap_or_default() };
    let lacks = configured.cert.is_none() && own.is_some_and(|files| !files.shown().0.is_empty());
    TlsSettings { bare: lacks.then(|| "as `tls` of the group names none".to_owned()), ..configured.clone() }
}

/// How the replica itself speaks TLS: it checks who signed a certificate and not for which name (Redis 7.0.15 and
/// Valkey 8.0.1, connCreateTLS). Its key may not be ours to read; then we show no certificate.
fn as_the_replica(files: &ReplicaTls) -> TlsSettings {
    let path = |name: &str| (!name.is_empty()).then(|| PathBuf::from(name));
    let (cert, key) = files.shown();
    let (mut own, mut bare) = (path(cert).zip(path(key)), None);
    if let Some((_, key)) = &own
        && let Err(error) = std::fs::File::open(key)
    {
        bare = Some(format!("as it may not read the replica's key ({}: {error})", key.display()));
        own = None;
    }
    let (cert, key) = own.unzip();
    TlsSettings { ca: path(&files.ca), ca_dir: path(&files.ca_dir), cert, key, server_name: None, any_name: true, bare }
}

/// The watched replica tells of itself over its own connection, with rights of its own.
fn tell_of_itself(successors: &mut [Successor], local: &Reading<ServerView>) {
    let Some(view) = local.seen() else { return };
    for own in successors.iter_mut().filter(|one| one.run_id == view.run_id) {
        own.server = local.clone();
    }
}

/// A Sentinel that is configured under two addresses answers twice and must not count twice.
fn count_each_once(views: &mut [SentinelView]) {
    let repeats = repeats(views.iter().map(|view| view.says.seen().map_or("", |says| says.id.as_str())));
    let endpoints: Vec<Endpoint> = views.iter().map(|view| view.endpoint.clone()).collect();
    for (view, first) in views.iter_mut().zip(repeats) {
        if let Some(first) = first.and_then(|index| endpoints.get(index)) {
            let why = format!("this is the Sentinel that also answers at {first}: list it once");
            view.says = Reading::Missing(Missing::Unsupported(why));
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
