//! One watched instance, put together from the settings: whom to dial, with what, and under which name. The command
//! line uses the same assembly, so a look by hand sees what the daemon sees.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use super::Shared;
use super::clock::Clock;
use super::stores::{Heard, Said, Stores, silence};
use crate::agent::Identity;
use crate::collect::Target;
use crate::config::{GroupSettings, ReplicaSettings, Settings};
use crate::model::evidence::{Missing, Reading, StoreView};
use crate::model::{Address, LinkId};
use crate::secrets::{Offer, Salt, Secret, SecretRef};
use crate::wire::{Dial, Reader};

/// An instance with its group, as configured.
#[derive(Clone, Debug)]
pub struct Watched {
    pub name: String,
    pub replica: ReplicaSettings,
    pub group: Option<(String, GroupSettings)>,
    pub salt: Salt,
    pub stores: Stores,
    /// The instance took the former of the store's passwords last.
    pub on_former: Shared<bool>,
}

/// How long the instance has to say whether it takes a password.
const LOGIN: Duration = Duration::from_millis(300);

/// The dials of an instance with their secrets fetched, and what could not be fetched.
#[derive(Clone, Debug)]
pub struct Dials {
    pub local: Dial,
    pub sentinels: Vec<Dial>,
    pub observer: Option<(String, Secret)>,
    pub problems: Vec<String>,
    /// Places that are asked on: what stands here is what they said before, or nothing.
    pub awaited: Vec<SecretRef>,
}

/// What a place gave for a login.
#[derive(Default)]
struct Given {
    /// The newest first.
    offers: Vec<Offer>,
    problem: Option<String>,
    awaited: Option<SecretRef>,
}

impl Given {
    fn first(self, dials: &mut Dials) -> Option<Offer> {
        dials.problems.extend(self.problem);
        dials.awaited.extend(self.awaited);
        self.offers.into_iter().next()
    }
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
    pub fn all(settings: &Settings, salt: &Salt, clock: Clock) -> Vec<Watched> {
        let stores = Stores::new(clock);
        let one = |(name, replica): (&String, &ReplicaSettings)| Watched {
            name: name.clone(),
            replica: replica.clone(),
            group: settings.group_of(replica).map(|group| (replica.group.clone().unwrap_or_default(), group.clone())),
            salt: salt.clone(),
            stores: stores.clone(),
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

    /// A login was refused that may have been made with what a slow store said before.
    pub fn doubt_stores(&self) {
        let group = self.group.as_ref().map(|(_, group)| group);
        let sentinel = group.and_then(|group| group.sentinel_password.as_ref());
        let observer = group.and_then(|group| group.observer.as_ref()).map(|observer| &observer.password);
        let places: Vec<&SecretRef> =
            [self.replica.password.as_ref(), sentinel, observer].into_iter().flatten().collect();
        self.stores.doubt(&places);
    }

    /// The user that is configured for the login of a replica to its primary.
    pub fn masteruser(&self) -> Option<String> {
        self.group.as_ref().and_then(|(_, group)| group.masteruser.clone())
    }

    /// Where a new `masterauth` would come from.
    pub fn store(&self) -> Option<&SecretRef> {
        self.group.as_ref()?.1.masterauth.as_ref()
    }

    /// Fetches the secrets that the dials need, each for as long as its store may take. One that cannot be fetched is left
    /// out and told of: the server's own refusal then says the rest.
    pub async fn dials(&self) -> Dials {
        self.dials_within(None).await
    }

    /// The same within a bound, which all of them have together: for who is late, what it said before, if anything.
    pub async fn dials_within(&self, patience: Option<Duration>) -> Dials {
        let group = self.group.as_ref().map(|(_, group)| group);
        let sentinel = group.and_then(|group| group.sentinel_password.as_ref());
        let observer = group.and_then(|group| group.observer.as_ref());
        let (own, sentinel, password) = tokio::join!(
            given(self.replica.password.as_ref(), &self.stores, patience),
            given(sentinel, &self.stores, patience),
            given(observer.map(|observer| &observer.password), &self.stores, patience),
        );
        let local = self.local_dial(&own.offers).await;
        let (sentinels, observer) = (Vec::new(), None);
        let mut dials = Dials { local, sentinels, observer, problems: Vec::new(), awaited: Vec::new() };
        own.first(&mut dials);
        if let Some(group) = group {
            let (sentinel, password) = (sentinel.first(&mut dials), password.first(&mut dials));
            (dials.sentinels, dials.observer) = dials_of(group, sentinel, password);
        }
        dials
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

    /// What the secret store offers as `masterauth`, with its user where one is configured. With `patience`, what it said
    /// before where it does not answer within that.
    pub async fn candidates(&self, patience: Option<Duration>) -> (Vec<Offer>, Reading<StoreView>) {
        let Some(reference) = self.store() else { return (Vec::new(), Reading::Missing(Missing::NotAsked)) };
        let (heard, silent) = match self.stores.ask(reference, patience).await {
            Said::Now(heard) => (heard, None),
            Said::NotYet { before: None, .. } => return (Vec::new(), Reading::Missing(Missing::TimedOut)),
            Said::NotYet { silent, before: Some(heard) } => (heard, Some(silent)),
        };
        let configured = self.masteruser();
        match heard.answer {
            Ok(mut offers) => {
                for offer in &mut offers {
                    offer.user = offer.user.take().or_else(|| configured.clone());
                }
                let offered = u32::try_from(offers.len()).unwrap_or(u32::MAX);
                let silent_ms = silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
                let view = StoreView { at: heard.at, source: reference.source(), offered, silent_ms };
                (offers, Reading::Seen(view))
            }
            Err(error) => {
                let again = silent.map(|_| format!(" (at {}; it is asked again)", heard.at)).unwrap_or_default();
                (Vec::new(), Reading::Missing(Missing::Refused(format!("{error}{again}"))))
            }
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
    let stores = Stores::new(Clock::start());
    let observer = group.observer.as_ref().map(|observer| &observer.password);
    let (sentinel, observer) =
        tokio::join!(given(group.sentinel_password.as_ref(), &stores, None), given(observer, &stores, None));
    problems.extend([sentinel.problem, observer.problem].into_iter().flatten());
    dials_of(group, sentinel.offers.into_iter().next(), observer.offers.into_iter().next())
}

fn dials_of(
    group: &GroupSettings,
    sentinel: Option<Offer>,
    observer: Option<Offer>,
) -> (Vec<Dial>, Option<(String, Secret)>) {
    let password = sentinel.map(|offer| offer.secret);
    let sentinel = |endpoint: &crate::model::Endpoint| Dial {
        address: Address::Tcp(endpoint.clone()),
        user: group.sentinel_user.clone().unwrap_or_default(),
        password: password.clone(),
        tls: group.tls.clone(),
    };
    let sentinels = group.sentinels.iter().map(sentinel).collect();
    let named = group.observer.as_ref().and_then(|observer| observer.user.clone());
    (sentinels, observer.map(|offer| (named.or(offer.user).unwrap_or_default(), offer.secret)))
}

async fn given(reference: Option<&SecretRef>, stores: &Stores, patience: Option<Duration>) -> Given {
    let Some(reference) = reference else { return Given::default() };
    if let Some(offers) = stores.known(reference) {
        return Given { offers, ..Given::default() };
    }
    match stores.ask(reference, patience).await {
        Said::Now(Heard { answer: Ok(offers), .. }) => Given { offers, ..Given::default() },
        Said::Now(Heard { answer: Err(error), .. }) => Given { problem: Some(error.to_string()), ..Given::default() },
        Said::NotYet { silent, .. } => {
            let offers = stores.offered(reference).unwrap_or_default();
            let problem = offers.is_empty().then(|| silence(reference, silent));
            Given { offers, problem, awaited: Some(reference.clone()) }
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
