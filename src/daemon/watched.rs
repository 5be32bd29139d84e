//! One watched instance, put together from the settings: whom to dial, with what, and under which name. The command
//! line uses the same assembly, so a look by hand sees what the daemon sees.

use std::collections::BTreeMap;

use crate::agent::Identity;
use crate::collect::Target;
use crate::config::{GroupSettings, ReplicaSettings, Settings};
use crate::model::evidence::{Missing, Reading, StoreView};
use crate::model::{Address, LinkId, Timestamp};
use crate::secrets::{self, Offer, Salt, Secret, SecretRef};
use crate::wire::Dial;

/// An instance with its group, as configured.
#[derive(Clone, Debug)]
pub struct Watched {
    pub name: String,
    pub replica: ReplicaSettings,
    pub group: Option<(String, GroupSettings)>,
    pub salt: Salt,
}

/// The dials of an instance with their secrets fetched, and what could not be fetched.
#[derive(Clone, Debug)]
pub struct Dials {
    pub local: Dial,
    pub sentinels: Vec<Dial>,
    pub observer: Option<(String, Secret)>,
    pub problems: Vec<String>,
}

impl Dials {
    /// Whether the secrets are the same as in another fetch.
    pub fn same_secrets(&self, other: &Dials) -> bool {
        let passwords = |dials: &Dials| {
            let sentinels = dials.sentinels.iter().map(|dial| dial.password.clone());
            sentinels.chain([dials.local.password.clone()]).collect::<Vec<_>>()
        };
        passwords(self) == passwords(other)
    }
}

impl Watched {
    /// Every instance of the settings, in the order of their names.
    pub fn all(settings: &Settings, salt: &Salt) -> Vec<Watched> {
        let one = |(name, replica): (&String, &ReplicaSettings)| Watched {
            name: name.clone(),
            replica: replica.clone(),
            group: settings.group_of(replica).map(|group| (replica.group.clone().unwrap_or_default(), group.clone())),
            salt: salt.clone(),
        };
        settings.replicas.iter().map(one).collect()
    }

    pub fn link(&self) -> LinkId {
        LinkId { replica: self.name.clone(), group: self.group_name().unwrap_or_default().to_owned() }
    }

    pub fn group_name(&self) -> Option<&str> {
        self.group.as_ref().map(|(name, _)| name.as_str())
    }

    pub fn identity(&self, host: &str, seed: u64) -> Identity {
        Identity {
            link: self.link(),
            address: self.replica.address.clone(),
            host: host.to_owned(),
            has_store: self.store().is_some(),
            seed,
        }
    }

    /// Where a new `masterauth` would come from.
    pub fn store(&self) -> Option<&SecretRef> {
        self.group.as_ref()?.1.masterauth.as_ref()
    }

    /// Fetches the secrets that the dials need. One that cannot be fetched is left out and told of: the server's own
    /// refusal then says the rest.
    pub async fn dials(&self) -> Dials {
        let mut problems = Vec::new();
        let password = fetch_one(self.replica.password.as_ref(), &mut problems).await;
        let local = Dial {
            address: self.replica.address.clone(),
            user: self
                .replica
                .user
                .clone()
                .or(password.as_ref().and_then(|offer| offer.user.clone()))
                .unwrap_or_default(),
            password: password.map(|offer| offer.secret),
            tls: self.replica.tls.clone(),
        };
        let (sentinels, observer) = match &self.group {
            Some((_, group)) => group_dials(group, &mut problems).await,
            None => (Vec::new(), None),
        };
        Dials { local, sentinels, observer, problems }
    }

    pub fn target(&self, dials: &Dials) -> Target {
        Target {
            link: self.link(),
            local: dials.local.clone(),
            sentinels: dials.sentinels.clone(),
            group: self.group_name().map(str::to_owned),
            observer: dials.observer.clone(),
            tls_upstream: self.group.as_ref().and_then(|(_, group)| group.tls.clone()),
            salt: self.salt.clone(),
        }
    }

    /// What the secret store offers as `masterauth`, with its user where one is configured.
    pub async fn candidates(&self, now: Timestamp) -> (Vec<Offer>, Reading<StoreView>) {
        let Some(reference) = self.store() else { return (Vec::new(), Reading::Missing(Missing::NotAsked)) };
        let configured = self.group.as_ref().and_then(|(_, group)| group.masteruser.clone());
        match secrets::fetch(reference).await {
            Ok(mut offers) => {
                for offer in &mut offers {
                    offer.user = offer.user.take().or_else(|| configured.clone());
                }
                let offered = u32::try_from(offers.len()).unwrap_or(u32::MAX);
                (offers, Reading::Seen(StoreView { at: now, source: reference.source(), offered }))
            }
            Err(error) => (Vec::new(), Reading::Missing(Missing::Refused(error.to_string()))),
        }
    }
}

/// How the Sentinels of a group are dialled, and the login of its observer.
pub async fn group_dials(group: &GroupSettings, problems: &mut Vec<String>) -> (Vec<Dial>, Option<(String, Secret)>) {
    let password = fetch_one(group.sentinel_password.as_ref(), problems).await.map(|offer| offer.secret);
    let sentinel = |endpoint: &crate::model::Endpoint| Dial {
        address: Address::Tcp(endpoint.clone()),
        user: group.sentinel_user.clone().unwrap_or_default(),
        password: password.clone(),
        tls: group.tls.clone(),
    };
    let sentinels = group.sentinels.iter().map(sentinel).collect();
    let observer = match &group.observer {
        None => None,
        Some(observer) => fetch_one(Some(&observer.password), problems)
            .await
            .map(|offer| (observer.user.clone().or(offer.user).unwrap_or_default(), offer.secret)),
    };
    (sentinels, observer)
}

async fn fetch_one(reference: Option<&SecretRef>, problems: &mut Vec<String>) -> Option<Offer> {
    match secrets::fetch(reference?).await {
        Ok(offers) => offers.into_iter().next(),
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    }
}

/// Which instances belong to which group, by their place in the list.
pub fn by_group(watched: &[Watched]) -> BTreeMap<String, Vec<usize>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, one) in watched.iter().enumerate() {
        if let Some(group) = one.group_name() {
            groups.entry(group.to_owned()).or_default().push(index);
        }
    }
    groups
}
