//! One account of a whole group: every Sentinel that anybody knows, every data node that they list, the write rate
//! between two readings, and each node's login tried at every node. Reads only.
//!
//! A node is read with the observer's login where one is configured, an instance of this host with its own, and any
//! other with what a replica of this host logs in with (or the configured `masterauth`, where none can be read), if that is the default user: a user made for replication may
//! not read INFO, and each refusal would be a line in ACL LOG. What cannot be read is missing with its reason.
//!
//! Invariants: a password leaves only towards a node of the group, in AUTH; nothing is spawned.
//!
//! Not here: what it means for a failover (`audit`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Look, Target, sentinel};
use crate::model::evidence::{Flavour, Missing, Reading, SentinelView};
use crate::model::group::{GroupNode, GroupSentinel, GroupView, SentinelPeer};
use crate::model::turn::SENTINEL_MS;
use crate::model::{Address, Endpoint, LinkId, Timestamp};
use crate::secrets::{Salt, Secret};
use crate::wire::reply::{Reply, sentinel as replies};
use crate::wire::{Dial, Reader, TlsSettings, all};

mod login;
mod node;
mod rights;

use node::Node;

/// What the account may take beside the time between its two readings.
const DEADLINE: Duration = Duration::from_secs(8);
/// How long a Sentinel has to list the others; one that is far away gets as much for its main account.
const SURROUNDINGS_MS: u64 = 3 * SENTINEL_MS;
/// Sentinels that are found and not configured are asked too, up to so many.
const FOUND_AT_MOST: usize = 16;

/// Which group, and the logins that are ours in it.
#[derive(Clone, Debug)]
pub struct GroupTarget {
    /// The Sentinels' name for the group.
    pub name: String,
    /// At least one.
    pub sentinels: Vec<Dial>,
    /// The instances of the group on this host, by their name in the configuration.
    pub locals: Vec<(String, Dial)>,
    pub observer: Option<(String, Secret)>,
    /// The group's `masterauth` as it is configured here, where it is the default user's password.
    pub masterauth: Option<Secret>,
    /// How the nodes of the group are spoken to where they replicate over TLS.
    pub tls: Option<TlsSettings>,
    pub salt: Salt,
    /// Secrets that could not be fetched.
    pub unfetched: Vec<String>,
}

/// The account, with its two readings `sample` apart.
pub async fn group(
    target: &GroupTarget,
    sample: Duration,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Option<GroupView> {
    let began = clock();
    // No look at one instance is made with it: `local` is dialled nowhere.
    let one = Target {
        link: LinkId { replica: String::new(), group: target.name.clone() },
        local: target.sentinels.first()?.clone(),
        sentinels: target.sentinels.clone(),
        group: Some(target.name.clone()),
        observer: target.observer.clone(),
        tls_upstream: target.tls.clone(),
        salt: target.salt.clone(),
    };
    let look = Look::new(&one, &[], clock, DEADLINE + sample);
    let (sentinels, locals) = tokio::join!(
        sentinels(&look, &target.sentinels),
        all(target.locals.iter().map(|(name, dial)| node::read(&look, dial, Some(name.clone())))),
    );
    let login = Login::of(target, &locals);
    let mut nodes = placed(locals, &target.locals, &sentinels);
    let known: BTreeSet<Endpoint> = nodes.iter().map(|(address, _)| address.clone()).collect();
    let others: Vec<Endpoint> = listed(&sentinels).into_keys().filter(|address| !known.contains(address)).collect();
    let read = all(others.iter().map(|address| {
        let dial = login.dial(address);
        let look = &look;
        async move { node::read(look, &dial, None).await }
    }))
    .await;
    nodes.extend(others.into_iter().zip(read));
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    let builds = builds(&sentinels);
    let places: Vec<(Endpoint, bool)> = nodes
        .iter()
        .map(|(address, node)| {
            let told = builds.get(address).map(|(flavour, version)| (*flavour, version.as_str()));
            (address.clone(), node.build().or(told).is_some_and(takes_psync_probe))
        })
        .collect();
    let (nodes, logins) = readings(&look, nodes, &places, &login, sample).await;
    Some(GroupView {
        name: target.name.clone(),
        began,
        ended: clock(),
        sentinels,
        nodes,
        logins,
        unfetched: target.unfetched.clone(),
        tls: login.tls.as_ref().or(target.tls.as_ref()).map(TlsSettings::client_flags),
    })
}

/// The second reading, and meanwhile each login at every node.
async fn readings(
    look: &Look<'_>,
    nodes: Vec<(Endpoint, Node)>,
    places: &[(Endpoint, bool)],
    login: &Login,
    sample: Duration,
) -> (Vec<GroupNode>, Vec<crate::model::group::LoginProof>) {
    let held: BTreeMap<String, crate::wire::reply::settings::Credentials> =
        nodes.iter().filter_map(|(_, node)| Some((node.login()?, node.credentials.clone()?))).collect();
    tokio::join!(
        all(nodes.into_iter().map(|(address, node)| node.again(look, address, sample))),
        login::prove(look, &held, places, login.tls.as_ref()),
    )
}

/// The builds of the nodes as the Sentinels read them.
fn builds(sentinels: &[GroupSentinel]) -> BTreeMap<Endpoint, (Flavour, String)> {
    let told = sentinels.iter().filter_map(|sentinel| sentinel.says.seen()?.nodes.seen()).flatten();
    told.filter_map(|(address, node)| Some((address.parse().ok()?, (node.flavour, node.version.clone())))).collect()
}

/// `PSYNC ? x` is refused for its offset from Redis 7.0 on and in every Valkey. What an older server does with it was
/// not measured, so it is not sent to one, nor to one whose version is not known.
fn takes_psync_probe((flavour, version): (Flavour, &str)) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    flavour == Flavour::Valkey || major.is_some_and(|major| major >= 7)
}

/// With what the nodes of other hosts are read.
struct Login {
    user: String,
    password: Option<Secret>,
    tls: Option<TlsSettings>,
}

impl Login {
    fn of(target: &GroupTarget, locals: &[Node]) -> Login {
        let settings = locals.iter().filter_map(|node| node.group_node.settings.seen());
        let tls = match settings.map(|settings| settings.tls_replication).next() {
            Some(true) => Some(target.tls.clone().unwrap_or_default()),
            Some(false) => None,
            None => target.tls.clone(),
        };
        let own = locals.iter().filter_map(|node| node.credentials.as_ref());
        let own = own.filter(|own| own.user.is_empty() && !own.secret.is_empty()).map(|own| own.secret.clone()).next();
        match &target.observer {
            Some((user, password)) => Login { user: user.clone(), password: Some(password.clone()), tls },
            None => {
                let none_read = locals.iter().all(|node| node.group_node.settings.seen().is_none());
                let configured = target.masterauth.clone().filter(|_| none_read);
                Login { user: String::new(), password: own.or(configured), tls }
            }
        }
    }

    fn dial(&self, address: &Endpoint) -> Dial {
        Dial {
            address: Address::Tcp(address.clone()),
            user: self.user.clone(),
            password: self.password.clone(),
            tls: self.tls.clone(),
        }
    }
}

/// Every node that a Sentinel lists, with its run id where one knows it.
pub(super) fn listed(sentinels: &[GroupSentinel]) -> BTreeMap<Endpoint, String> {
    let mut nodes: BTreeMap<Endpoint, String> = BTreeMap::new();
    for says in sentinels.iter().filter_map(|sentinel| sentinel.says.seen()) {
        nodes.entry(says.primary.clone()).or_default();
        for replica in &says.replicas {
            nodes.entry(replica.endpoint.clone()).or_insert_with(|| replica.run_id.clone());
        }
        for (address, node) in says.nodes.seen().into_iter().flatten() {
            if let Some(run_id) = address.parse().ok().and_then(|address: Endpoint| nodes.get_mut(&address)) {
                run_id.clone_from(&node.run_id);
            }
        }
    }
    nodes
}

/// The instances of this host under the addresses that the Sentinels have for them; one that they do not list stays
/// under its own.
fn placed(locals: Vec<Node>, dials: &[(String, Dial)], sentinels: &[GroupSentinel]) -> Vec<(Endpoint, Node)> {
    let listed = listed(sentinels);
    let place = |node: &Node, dial: &Dial| {
        let own = match &dial.address {
            Address::Tcp(endpoint) => endpoint.clone(),
            Address::Unix(path) => Endpoint::new(path.display().to_string(), 0),
        };
        let run_id = node.run_id().filter(|run_id| !run_id.is_empty());
        let by_run_id = listed.iter().find(|(_, known)| run_id == Some(known.as_str())).map(|(address, _)| address);
        if listed.contains_key(&own) { own } else { by_run_id.cloned().unwrap_or(own) }
    };
    locals.into_iter().zip(dials).map(|(node, (_, dial))| (place(&node, dial), node)).collect()
}

/// The configured Sentinels, then those that they know beside.
pub(super) async fn sentinels(look: &Look<'_>, configured: &[Dial]) -> Vec<GroupSentinel> {
    let mut accounts = all(configured.iter().map(|dial| sentinel_account(look, dial, true))).await;
    let mut views: Vec<SentinelView> = accounts
        .iter()
        .map(|account| SentinelView { endpoint: account.endpoint.clone(), says: account.says.clone() })
        .collect();
    super::count_each_once(&mut views);
    for (account, view) in accounts.iter_mut().zip(views) {
        account.says = view.says;
    }
    let answered: BTreeSet<&str> = accounts.iter().filter_map(|s| s.says.seen()).map(|says| says.id.as_str()).collect();
    let dialled: BTreeSet<&Endpoint> = accounts.iter().map(|account| &account.endpoint).collect();
    let peers = accounts.iter().filter_map(|account| account.peers.seen()).flatten();
    let news = peers.filter(|peer| !answered.contains(peer.id.as_str()) && !dialled.contains(&peer.endpoint));
    let found: BTreeSet<Endpoint> = news.map(|peer| peer.endpoint.clone()).take(FOUND_AT_MOST).collect();
    let Some(like) = configured.first() else { return accounts };
    let dials: Vec<Dial> =
        found.into_iter().map(|endpoint| Dial { address: Address::Tcp(endpoint), ..like.clone() }).collect();
    let found = all(dials.iter().map(|dial| sentinel_account(look, dial, false))).await;
    // One that answers under a second address of its own is no further Sentinel.
    let ids: BTreeSet<String> = accounts.iter().filter_map(|s| Some(s.says.seen()?.id.clone())).collect();
    accounts.extend(found.into_iter().filter(|s| s.says.seen().is_none_or(|says| !ids.contains(&says.id))));
    accounts
}

async fn sentinel_account(look: &Look<'_>, dial: &Dial, configured: bool) -> GroupSentinel {
    let (view, (peers, ghosts)) = tokio::join!(sentinel::look(look, dial, |_| ()), surroundings(look, dial));
    GroupSentinel { endpoint: view.endpoint, configured, says: view.says, peers, ghosts }
}

/// The other Sentinels and the nameless replicas that a Sentinel lists.
async fn surroundings(look: &Look<'_>, dial: &Dial) -> (Reading<Vec<SentinelPeer>>, Reading<Vec<String>>) {
    let within = look.left(SURROUNDINGS_MS);
    let group = look.target.group.as_deref().unwrap_or_default();
    let asked = async {
        let mut reader = Reader::connect(dial, within).await?;
        reader.ask_all(&[&["SENTINEL", "SENTINELS", group], &["SENTINEL", "REPLICAS", group]], within).await
    };
    let why = match tokio::time::timeout(within, asked).await {
        Ok(Ok(replies)) => {
            let (peers, replicas) = (replies.first().unwrap_or(&Reply::Nil), replies.get(1).unwrap_or(&Reply::Nil));
            return (replies::peers(peers), replies::ghosts(replicas));
        }
        Ok(Err(error)) => Missing::from(&error),
        Err(_) => Missing::TimedOut,
    };
    (Reading::Missing(why.clone()), Reading::Missing(why))
}

fn not_asked<T>() -> Reading<T> {
    Reading::Missing(Missing::NotAsked)
}
