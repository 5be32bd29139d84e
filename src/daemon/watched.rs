//! One watched instance, put together from the settings: whom to dial, with what, and under which name. The command
//! line uses the same assembly, so a look by hand sees what the daemon sees.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use super::Shared;
use crate::agent::Identity;
use crate::collect::Target;
use crate::config::{GroupSettings, ReplicaSettings, Settings};
use crate::model::evidence::{Missing, Reading, StoreView};
use crate::model::{Address, LinkId, Timestamp};
use crate::secrets::{self, Offer, Salt, Secret, SecretRef};
use crate::wire::{Dial, Reader};

/// An instance with its group, as configured.
#[derive(Clone, Debug)]
pub struct Watched {
    pub name: String,
    pub replica: ReplicaSettings,
    pub group: Option<(String, GroupSettings)>,
    pub salt: Salt,
    pub kept: Kept,
    /// The instance took the former of the store's passwords last.
    pub on_former: Shared<bool>,
}

/// How long the instance has to say whether it takes a password.
const LOGIN: Duration = Duration::from_millis(300);

/// What slow stores said last, so that a look need not wait for them. The newest answer of each place.
#[derive(Clone, Debug, Default)]
pub struct Kept(Shared<Vec<(SecretRef, Vec<Offer>)>>);

impl Kept {
    pub fn keep(&self, place: &SecretRef, offers: Vec<Offer>) {
        if !place.is_slow() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|(known, _)| known == place) {
            Some((_, known)) => *known = offers,
            None => all.push((place.clone(), offers)),
        }
    }

    fn known(&self, place: &SecretRef) -> Option<Vec<Offer>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| known == place).map(|(_, offers)| offers.clone())
    }

    /// A login with it was refused: the next look asks the store itself.
    fn forget(&self, places: &[&SecretRef]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| !places.contains(&known));
    }
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
        let kept = Kept::default();
        let one = |(name, replica): (&String, &ReplicaSettings)| Watched {
            name: name.clone(),
            replica: replica.clone(),
            group: settings.group_of(replica).map(|group| (replica.group.clone().unwrap_or_default(), group.clone())),
            salt: salt.clone(),
            kept: kept.clone(),
            on_former: Shared::default(),
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

    /// A login was refused that may have been made with a password that is kept.
    pub fn doubt_kept(&self) {
        let group = self.group.as_ref().map(|(_, group)| group);
        let sentinel = group.and_then(|group| group.sentinel_password.as_ref());
        let observer = group.and_then(|group| group.observer.as_ref()).map(|observer| &observer.password);
        let places: Vec<&SecretRef> =
            [self.replica.password.as_ref(), sentinel, observer].into_iter().flatten().collect();
        self.kept.forget(&places);
    }

    /// The user that is configured for the login of a replica to its primary.
    pub fn masteruser(&self) -> Option<String> {
        self.group.as_ref().and_then(|(_, group)| group.masteruser.clone())
    }

    /// Where a new `masterauth` would come from.
    pub fn store(&self) -> Option<&SecretRef> {
        self.group.as_ref()?.1.masterauth.as_ref()
    }

    /// Fetches the secrets that the dials need. One that cannot be fetched is left out and told of: the server's own
    /// refusal then says the rest.
    pub async fn dials(&self) -> Dials {
        let mut problems = Vec::new();
        let offers = fetch_all(self.replica.password.as_ref(), &self.kept, &mut problems).await;
        let local = self.local_dial(&offers).await;
        let (sentinels, observer) = match &self.group {
            Some((_, group)) => dials_of(group, &self.kept, &mut problems).await,
            None => (Vec::new(), None),
        };
        Dials { local, sentinels, observer, problems }
    }

    /// With the password that the instance takes: in the middle of a rotation that may still be the former one. The
    /// one that was taken last goes first, so a change costs one refused login and not one a look.
    async fn local_dial(&self, offers: &[Offer]) -> Dial {
        let with = |offer: Option<&Offer>| Dial {
            address: self.replica.address.clone(),
            user: self.replica.user.clone().or_else(|| offer?.user.clone()).unwrap_or_default(),
            password: offer.map(|offer| offer.secret.clone()),
            tls: self.replica.tls.clone(),
        };
        let [newest, former, ..] = offers else { return with(offers.first()) };
        let on_former = *self.on_former.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = if on_former { (former, newest) } else { (newest, former) };
        let (first, second) = (with(Some(first)), with(Some(second)));
        if takes(&first).await == Some(false) && takes(&second).await == Some(true) {
            *self.on_former.lock().unwrap_or_else(PoisonError::into_inner) = !on_former;
            return second;
        }
        first
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

/// Whether the instance takes a login; none where it says nothing of that.
async fn takes(dial: &Dial) -> Option<bool> {
    match Reader::connect(dial, LOGIN).await {
        Ok(_) => Some(true),
        Err(error) => matches!(Missing::from(&error), Missing::Denied(_)).then_some(false),
    }
}

/// How the Sentinels of a group are dialled, and the login of its observer.
pub async fn group_dials(group: &GroupSettings, problems: &mut Vec<String>) -> (Vec<Dial>, Option<(String, Secret)>) {
    dials_of(group, &Kept::default(), problems).await
}

async fn dials_of(
    group: &GroupSettings,
    kept: &Kept,
    problems: &mut Vec<String>,
) -> (Vec<Dial>, Option<(String, Secret)>) {
    let password = fetch_one(group.sentinel_password.as_ref(), kept, problems).await.map(|offer| offer.secret);
    let sentinel = |endpoint: &crate::model::Endpoint| Dial {
        address: Address::Tcp(endpoint.clone()),
        user: group.sentinel_user.clone().unwrap_or_default(),
        password: password.clone(),
        tls: group.tls.clone(),
    };
    let sentinels = group.sentinels.iter().map(sentinel).collect();
    let observer = match &group.observer {
        None => None,
        Some(observer) => fetch_one(Some(&observer.password), kept, problems)
            .await
            .map(|offer| (observer.user.clone().or(offer.user).unwrap_or_default(), offer.secret)),
    };
    (sentinels, observer)
}

async fn fetch_one(reference: Option<&SecretRef>, kept: &Kept, problems: &mut Vec<String>) -> Option<Offer> {
    fetch_all(reference, kept, problems).await.into_iter().next()
}

/// The newest first.
async fn fetch_all(reference: Option<&SecretRef>, kept: &Kept, problems: &mut Vec<String>) -> Vec<Offer> {
    let Some(reference) = reference else { return Vec::new() };
    if let Some(offers) = kept.known(reference) {
        return offers;
    }
    match secrets::fetch(reference).await {
        Ok(offers) => {
            kept.keep(reference, offers.clone());
            offers
        }
        Err(error) => {
            problems.push(error.to_string());
            Vec::new()
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
