//! Where the new password comes from, and which the old one is.

use crate::cli::{Exit, Failure};
use crate::collect::rotation::{Group, Key, Pair};
use crate::config::{GroupSettings, Settings};
use crate::secrets::{self, Offer, Salt, Secret, SecretRef};

/// Whom a secret of the configuration belongs to.
#[derive(Clone, Debug)]
pub struct Source {
    /// As in `group.mymaster.masterauth`.
    pub key: String,
    /// None: the user is not written in the configuration; the secret may carry it.
    pub user: Option<String>,
    pub reference: SecretRef,
}

/// Every login at the nodes that the configuration has a secret for, `masterauth` first.
pub fn sources(settings: &Settings, name: &str, group: &GroupSettings) -> Vec<Source> {
    let mut all = Vec::new();
    if let Some(reference) = &group.masterauth {
        let key = format!("group.{name}.masterauth");
        all.push(Source { key, user: group.masteruser.clone(), reference: reference.clone() });
    }
    let logins = [("sentinel_auth", &group.sentinel_auth), ("observer", &group.observer), ("admin", &group.admin)];
    for (key, login) in logins.into_iter().filter_map(|(key, login)| Some((key, login.as_ref()?))) {
        let key = format!("group.{name}.{key}");
        all.push(Source { key, user: login.user.clone(), reference: login.password.clone() });
    }
    let replicas = settings.replicas.iter().filter(|(_, replica)| replica.group.as_deref() == Some(name));
    for (replica, password) in replicas.filter_map(|(name, it)| Some(((name, it), it.password.as_ref()?))) {
        let key = format!("replica.{}.password", replica.0);
        all.push(Source { key, user: replica.1.user.clone(), reference: password.clone() });
    }
    all
}

/// A source with what its store holds now, newest first.
#[derive(Clone, Debug)]
pub struct Stocked {
    pub source: Source,
    pub offers: Vec<Offer>,
}

impl Stocked {
    /// The user that it is for; `default` where nobody says.
    pub fn user(&self) -> String {
        let carried = self.offers.first().and_then(|offer| offer.user.clone());
        carried.or(self.source.user.clone()).unwrap_or_else(|| "default".to_owned())
    }
}

/// The stores of all sources, and what could not be fetched.
pub async fn stock(sources: Vec<Source>) -> (Vec<Stocked>, Vec<String>) {
    let (mut stocked, mut problems) = (Vec::new(), Vec::new());
    for source in sources {
        match secrets::fetch(&source.reference).await {
            Ok(offers) => stocked.push(Stocked { source, offers }),
            Err(error) => problems.push(format!("{}: {error}", source.key)),
        }
    }
    (stocked, problems)
}

/// Where the new password of this user comes from. Without a user it is `masterauth`.
pub fn chosen<'a>(
    stocked: &'a [Stocked],
    group: &str,
    user: Option<&str>,
    problems: &[String],
) -> Result<&'a Stocked, Failure> {
    let masterauth = format!("group.{group}.masterauth");
    let fits = |it: &&Stocked| match user {
        None => it.source.key == masterauth,
        Some(user) => it.user() == user,
    };
    stocked.iter().find(fits).ok_or_else(|| {
        let what = match user {
            None => format!("a rotation needs {masterauth}: the secret store holds the new password"),
            Some(user) => format!(
                "no secret of the configuration is for user {user}: it may be group.{group}.masterauth, \
                 sentinel_auth, observer or admin, or a replica's password"
            ),
        };
        let why = problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>();
        Failure::new(Exit::Config, format!("secret-unavailable: {what}{why}"))
    })
}

/// Old and new at the beginning: the new one is what the store offers, the old one what the nodes hold beside it.
pub fn pair_at_begin(group: &Group, chosen: &Stocked, all: &[Stocked]) -> Option<Pair> {
    let to = Key::of(chosen.offers.first()?.secret.clone());
    let is_default = chosen.user() == "default";
    let hashes = group.hashes();
    let candidates = plain(group, chosen, all, is_default);
    let held = candidates.iter().find(|secret| {
        let hash = secret.acl_hash();
        hash != to.hash && (hashes.is_empty() || hashes.contains(&hash))
    });
    let from = match held {
        Some(secret) => Key::of(secret.clone()),
        None => {
            let hash = hashes.into_iter().find(|hash| *hash != to.hash).unwrap_or_else(|| Secret::new(""));
            Key { secret: None, hash }
        }
    };
    Some(Pair { from, to })
}

/// Every password in clear that may be one of the two: what nodes show, what the store had before, what is configured.
fn plain(group: &Group, chosen: &Stocked, all: &[Stocked], with_requirepass: bool) -> Vec<Secret> {
    let own = chosen.offers.iter().map(|offer| offer.secret.clone());
    let others = all.iter().filter(|it| it.user() == chosen.user());
    let others = others.flat_map(|it| it.offers.iter().map(|offer| offer.secret.clone()));
    group.shown(with_requirepass).into_iter().chain(own).chain(others).collect()
}

/// The password with this fingerprint, wherever it still stands.
pub fn known_as(print: &str, salt: &Salt, group: &Group, chosen: &Stocked, all: &[Stocked]) -> Option<Key> {
    let plain = plain(group, chosen, all, chosen.user() == "default");
    let whole = plain.into_iter().map(Key::of).find(|key| key.print(salt) == print);
    whole.or_else(|| {
        let hashes = group.hashes().into_iter();
        hashes.map(|hash| Key { secret: None, hash }).find(|key| key.print(salt) == print)
    })
}
