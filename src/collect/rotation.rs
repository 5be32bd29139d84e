//! What a rotation has to see: every Sentinel and every node of a group, each node asked by one who may administer it.
//!
//! Reading gives a [`Group`], which holds the secrets that the nodes hold. Once it is known which two passwords are
//! meant, [`Group::view`] says of each what it is, and only that leaves.
//!
//! Invariant: a password leaves only towards a node of the group, in AUTH. Nothing is changed.
//!
//! Not here: what comes next (`rotate`), what changes anything (`act::rotation`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group::{GroupTarget, listed, sentinels};
use super::{Look, Target};
use crate::model::evidence::{Missing, Reading};
use crate::model::group::GroupSentinel;
use crate::model::rotation::{Held, NodeSays, NodeView, RotationView, UserState, WatcherSays, WatcherView};
use crate::model::{Address, Endpoint, LinkId, Timestamp};
use crate::secrets::{Salt, Secret};
use crate::wire::{Dial, Reader, TlsSettings, all};

mod node;
mod sentinel;

use node::RawNode;

const DEADLINE: Duration = Duration::from_secs(5);

/// A login that may administer the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminLogin {
    /// Empty for the default user.
    pub user: String,
    pub password: Secret,
}

/// A password as far as it is known: always by its hash, as the servers show it, and mostly itself too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub secret: Option<Secret>,
    /// [`Secret::acl_hash`].
    pub hash: Secret,
}

impl Key {
    pub fn of(secret: Secret) -> Key {
        Key { hash: secret.acl_hash(), secret: Some(secret) }
    }

    /// What the record knows it by.
    pub fn print(&self, salt: &Salt) -> String {
        self.hash.print(salt)
    }
}

/// The two passwords of a rotation in the way that it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub from: Key,
    pub to: Key,
}

impl Pair {
    pub fn turned(self) -> Pair {
        Pair { from: self.to, to: self.from }
    }

    fn held(&self, secret: &Secret) -> Held {
        match secret.acl_hash() {
            _ if secret.is_empty() => Held::Unset,
            hash if hash == self.to.hash => Held::To,
            hash if hash == self.from.hash => Held::From,
            _ => Held::Other,
        }
    }
}

/// The group with the secrets that its nodes hold. Never serialised.
pub struct Group {
    at: Timestamp,
    user: String,
    sentinels: Vec<(GroupSentinel, Vec<String>)>,
    nodes: Vec<(Endpoint, Reading<RawNode>)>,
}

/// How a node is spoken to.
pub struct Admin<'a> {
    /// Tried in this order, the first that is taken counts.
    pub logins: &'a dyn Fn(&Endpoint) -> Vec<AdminLogin>,
    pub tls: Option<&'a TlsSettings>,
}

impl Admin<'_> {
    pub fn dial(&self, address: &Endpoint, login: &AdminLogin) -> Dial {
        Dial {
            address: Address::Tcp(address.clone()),
            user: login.user.clone(),
            password: Some(login.password.clone()),
            tls: self.tls.cloned(),
        }
    }
}

/// Reads the whole group for a rotation of this user's password.
pub async fn group(
    target: &GroupTarget,
    admin: &Admin<'_>,
    user: &str,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Option<Group> {
    let at = clock();
    let one = Target {
        link: LinkId { replica: String::new(), group: target.name.clone() },
        local: target.sentinels.first()?.clone(),
        sentinels: target.sentinels.clone(),
        group: Some(target.name.clone()),
        observer: None,
        tls_upstream: target.tls.clone(),
        salt: target.salt.clone(),
    };
    let look = Look::new(&one, &[], clock, DEADLINE);
    let told = sentinels(&look, &target.sentinels).await;
    let addresses: Vec<Endpoint> = listed(&told).into_keys().collect();
    let (lacks, nodes) = tokio::join!(
        all(told.iter().map(|sentinel| sentinel::lacks(target, &sentinel.endpoint))),
        all(addresses.iter().map(|address| node::read(admin, address, user))),
    );
    Some(Group {
        at,
        user: user.to_owned(),
        sentinels: told.into_iter().zip(lacks).collect(),
        nodes: addresses.into_iter().zip(nodes).collect(),
    })
}

impl Group {
    /// Whether anybody answered at all.
    pub fn was_reached(&self) -> bool {
        self.sentinels.iter().any(|(sentinel, _)| sentinel.says.seen().is_some())
    }

    fn seen(&self) -> impl Iterator<Item = (&Endpoint, &RawNode)> {
        self.nodes.iter().filter_map(|(address, node)| Some((address, node.seen()?)))
    }

    /// The user that the nodes follow their primary as, where they agree; empty for the default user.
    pub fn masteruser(&self) -> Option<&str> {
        let users: BTreeSet<&str> = self.seen().map(|(_, node)| node.masteruser.as_str()).collect();
        (users.len() == 1).then(|| users.first().copied()).flatten()
    }

    /// Every password that a node shows in its settings, the most frequent `masterauth` first.
    pub fn shown(&self, with_requirepass: bool) -> Vec<Secret> {
        let mut counts: Vec<(Secret, usize)> = Vec::new();
        for secret in self.seen().map(|(_, node)| &node.masterauth).filter(|secret| !secret.is_empty()) {
            match counts.iter_mut().find(|(known, _)| known == secret) {
                Some((_, count)) => *count += 1,
                None => counts.push((secret.clone(), 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut shown: Vec<Secret> = counts.into_iter().map(|(secret, _)| secret).collect();
        if with_requirepass {
            shown.extend(self.seen().map(|(_, node)| node.requirepass.clone()).filter(|secret| !secret.is_empty()));
        }
        shown
    }

    /// The hashes of the user's passwords over all nodes.
    pub fn hashes(&self) -> Vec<Secret> {
        let mut hashes: Vec<Secret> = Vec::new();
        for hash in self.seen().flat_map(|(_, node)| &node.hashes) {
            if !hashes.contains(hash) {
                hashes.push(hash.clone());
            }
        }
        hashes
    }

    /// The login that each node took, to be tried first the next time.
    pub fn took(&self) -> BTreeMap<Endpoint, AdminLogin> {
        self.seen().map(|(address, node)| (address.clone(), node.login.clone())).collect()
    }

    /// Asks nodes that know no hashes by login, so that [`Group::view`] can tell what they accept.
    pub async fn try_logins(&mut self, admin: &Admin<'_>, pair: &Pair) {
        let unsure = self.nodes.iter_mut().filter_map(|(address, node)| match node {
            Reading::Seen(node) if !node.knows_two => Some((address, node)),
            _ => None,
        });
        all(unsure.map(|(address, node)| async move {
            let asked = [&pair.from, &pair.to].map(|key| (key, admin));
            for (key, admin) in asked {
                let Some(secret) = &key.secret else { continue };
                if takes(admin, address, "", secret).await && !node.hashes.contains(&key.hash) {
                    node.hashes.push(key.hash.clone());
                }
            }
        }))
        .await;
    }

    /// The account without secrets.
    pub fn view(&self, pair: &Pair) -> RotationView {
        let nodes = self.nodes.iter().map(|(address, node)| NodeView {
            address: address.clone(),
            says: match node {
                Reading::Seen(node) => Reading::Seen(self.says(node, pair)),
                Reading::Missing(why) => Reading::Missing(why.clone()),
            },
        });
        let sentinels = self.sentinels.iter().map(|(sentinel, lacks)| WatcherView {
            endpoint: sentinel.endpoint.clone(),
            says: watcher(sentinel, lacks),
        });
        RotationView { at: self.at, nodes: nodes.collect(), sentinels: sentinels.collect() }
    }

    fn says(&self, node: &RawNode, pair: &Pair) -> NodeSays {
        let (from, to) = (node.hashes.contains(&pair.from.hash), node.hashes.contains(&pair.to.hash));
        let link = node.server.role.link();
        NodeSays {
            server: format!("{:?} {}", node.server.flavour, node.server.version),
            follows: link.map(|link| link.primary.clone()),
            link_up: link.is_some_and(|link| link.up),
            busy_syncing: link.is_some_and(|link| link.syncing),
            loading: node.server.loading,
            failing_over: !matches!(node.server.failover_state.as_str(), "" | "no-failover"),
            serves: node.server.replicas.iter().map(|replica| replica.endpoint.clone()).collect(),
            knows_two: node.knows_two,
            user: UserState {
                exists: node.exists,
                on: node.on,
                nopass: node.nopass,
                accepts_from: from,
                accepts_to: to,
                others: node.hashes.len().saturating_sub(usize::from(from) + usize::from(to)),
            },
            masteruser: node.masteruser.clone(),
            masterauth: pair.held(&node.masterauth),
            requirepass: match self.user.as_str() {
                "default" => pair.held(&node.requirepass),
                _ => Held::Unset,
            },
            config_file: node.server.config_file.clone(),
            aclfile: node.aclfile.clone(),
            lacks: node.lacks.clone(),
            watchers: node.watchers.clone(),
        }
    }
}

fn watcher(sentinel: &GroupSentinel, lacks: &[String]) -> Reading<WatcherSays> {
    let says = match &sentinel.says {
        Reading::Seen(says) => says,
        Reading::Missing(why) => return Reading::Missing(why.clone()),
    };
    let bad = |flags: &BTreeSet<String>| {
        let bad: Vec<&str> = flags.iter().map(String::as_str).filter(|flag| TROUBLE.contains(flag)).collect();
        (!bad.is_empty()).then(|| bad.join(","))
    };
    let primary = bad(&says.flags).map(|flags| format!("{} as {flags}", says.primary));
    let replicas = says.replicas.iter().filter_map(|it| Some(format!("{} as {}", it.endpoint, bad(&it.flags)?)));
    let peers = sentinel.peers.seen().into_iter().flatten().filter(|peer| peer.down);
    let peers = peers.map(|peer| format!("Sentinel {} as s_down", peer.endpoint));
    Reading::Seen(WatcherSays {
        id: says.id.clone(),
        primary: says.primary.clone(),
        others: says.others,
        troubled: primary.into_iter().chain(replicas).chain(peers).collect(),
        failover: says.fails_over(),
        tilt: says.tilt.clone(),
        quorum: says.ckquorum.clone(),
        lacks: lacks.to_vec(),
    })
}

/// Flags of a node that Sentinel cannot use. `disconnected` alone stands for a moment after each new login.
const TROUBLE: [&str; 3] = ["s_down", "o_down", "disconnected"];

/// Whether a node takes a login, by AUTH alone.
pub async fn takes(admin: &Admin<'_>, address: &Endpoint, user: &str, secret: &Secret) -> bool {
    let login = AdminLogin { user: user.to_owned(), password: secret.clone() };
    Reader::connect(&admin.dial(address, &login), node::WITHIN).await.is_ok()
}

fn denied(text: &str) -> Missing {
    Missing::Denied(text.to_owned())
}
