//! The AWS Secrets Manager store: the current value of one secret, and the one before it (the stages AWSCURRENT and
//! AWSPREVIOUS), in one answer.
//!
//! One call of one API, signed by ourselves (`sign`), with the credentials that AWS's own programs would take
//! (`login`). Invariants as for Vault: no redirects, everything of one fetch within `timeout`, and no URL, key, body or
//! value in an error. A secret that is marked for deletion, empty, cut short or out of reach is an error and never an
//! offer.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;

use super::{Offer, SecretError, SecretRef, file};

mod answer;
mod login;
mod profile;
mod remote;
mod sign;

use answer::Failure;
use login::{Access, Session};
use profile::Files;

/// `[store.aws]`. All of it may be left out where the host has a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AwsSettings {
    /// None: what the environment, the profile or the instance says.
    pub region: Option<String>,
    /// Another place than AWS's own in that region, such as a VPC endpoint: as [`super::safe_address`] gives it.
    pub endpoint: Option<String>,
    pub login: AwsLogin,
    /// For everything that one fetch asks, credentials included.
    pub timeout: Duration,
    /// How often a followed secret is read again.
    pub poll: Duration,
}

/// As whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsLogin {
    /// What AWS's own programs would find, in this order: environment, web identity, profile, container, instance.
    Found,
    /// This profile of the shared files, and nothing else.
    Profile(String),
    /// An access key, whose secret parts are read again at each use.
    Key { id: String, secret: SecretRef, token: Option<SecretRef> },
}

impl AwsSettings {
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    pub const POLL: Duration = Duration::from_secs(60);
}

impl Default for AwsSettings {
    fn default() -> Self {
        AwsSettings {
            region: None,
            endpoint: None,
            login: AwsLogin::Found,
            timeout: AwsSettings::TIMEOUT,
            poll: AwsSettings::POLL,
        }
    }
}

/// How a variable is looked up: handed in, so that tests need not change their own environment.
type Variables = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Secrets Manager with its login, shared by all references of a configuration.
pub struct Aws {
    settings: AwsSettings,
    variables: Variables,
    session: Mutex<Session>,
}

impl Aws {
    pub fn new(settings: AwsSettings) -> Aws {
        Aws::among(settings, |name| std::env::var_os(name))
    }

    /// With other variables than this process has.
    pub fn among(settings: AwsSettings, variables: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Aws {
        Aws { settings, variables: Box::new(variables), session: Mutex::new(Session::default()) }
    }

    pub fn settings(&self) -> &AwsSettings {
        &self.settings
    }

    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    }
}

/// `{ aws = "name#field" }`.
#[derive(Clone)]
pub struct AwsRef {
    store: Arc<Aws>,
    place: AwsPlace,
}

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AwsPlace {
    /// The secret's name or ARN.
    name: String,
    /// None: the whole value, or the usual field where that is JSON.
    field: Option<String>,
}

impl AwsPlace {
    /// None: not of the form `name` or `name#field`.
    pub fn parse(text: &str) -> Option<AwsPlace> {
        let (name, field) = match text.split_once('#') {
            Some((name, field)) => (name, Some(field)),
            None => (text, None),
        };
        // As CreateSecret takes them, with `:` for ARNs and `!` for secrets that another service manages.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-!:".contains(c);
        let name_fits = (1..=2048).contains(&name.len()) && name.chars().all(allowed);
        let field_fits = |field: &str| !field.is_empty() && !field.chars().any(|c| c.is_control() || c == '#');
        let fits = name_fits && field.is_none_or(field_fits);
        fits.then(|| AwsPlace { name: name.to_owned(), field: field.map(str::to_owned) })
    }

    /// Where a secret lies that is named by its ARN.
    fn region(&self) -> Option<&str> {
        let mut parts = self.name.split(':');
        let (arn, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        (arn == "arn" && service == "secretsmanager").then(|| parts.next())?
    }
}

impl AwsRef {
    pub fn new(place: AwsPlace, store: Arc<Aws>) -> AwsRef {
        AwsRef { store, place }
    }

    pub fn store(&self) -> &Aws {
        &self.store
    }
}

impl fmt::Display for AwsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aws:{}", self.place.name)?;
        self.place.field.as_ref().map_or(Ok(()), |field| write!(f, "#{field}"))
    }
}

/// One configuration has one `[store.aws]`: two references are the same when they name the same place.
impl PartialEq for AwsRef {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for AwsRef {}

impl PartialOrd for AwsRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AwsRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

pub(super) async fn fetch(source: &str, reference: &AwsRef) -> Result<Vec<Offer>, SecretError> {
    let limit = reference.store.settings.timeout;
    match tokio::time::timeout(limit, read(source, reference)).await {
        Ok(answer) => answer,
        Err(_) => Err(SecretError::TimedOut(format!(
            "{source}: no answer from AWS within {} s; can this host reach it?",
            limit.as_secs_f32()
        ))),
    }
}

/// Credentials may be taken back before their time: then there are new ones and one more try.
async fn read(source: &str, reference: &AwsRef) -> Result<Vec<Offer>, SecretError> {
    let store = &reference.store;
    let access = store.access(source, &reference.place, None).await?;
    match offers(source, &reference.place, &access).await {
        Err(Failure { login_is_dead: true, .. }) if access.keys.is_temporary() => {
            let access = store.access(source, &reference.place, Some(&access.keys)).await?;
            offers(source, &reference.place, &access).await
        }
        answer => answer,
    }
    .map_err(|failure| failure.error)
}

async fn offers(source: &str, place: &AwsPlace, access: &Access) -> Result<Vec<Offer>, Failure> {
    let ask = async |stage: &str| {
        let answer = remote::secret_value(source, place, access, stage).await?;
        answer::secret(source, place, access, &answer)
    };
    let mut offers = ask("AWSCURRENT").await?.offers(source, place.field.as_deref())?;
    let former = match ask("AWSPREVIOUS").await {
        Ok(found) => found.offers(source, place.field.as_deref()),
        // Out of reach: it may be the one that the primary wants.
        Err(Failure { error: error @ (SecretError::Unreachable(_) | SecretError::TooLarge(_)), .. }) => {
            return Err(error.into());
        }
        // There is none before this one, or this login may not read it.
        Err(Failure { error, .. }) => Err(error),
    };
    let former = former.ok().and_then(|former| former.into_iter().next());
    offers.extend(former.filter(|former| offers.iter().all(|one| one.secret != former.secret)));
    Ok(offers)
}

/// What a careful reader would object to: long-lived keys that others can read.
pub(super) fn audit(source: &str, reference: &AwsRef) -> Vec<String> {
    let store = &reference.store;
    match store.settings.login {
        AwsLogin::Found if store.variable("AWS_ACCESS_KEY_ID").is_some() => vec![format!(
            "{source}: AWS_ACCESS_KEY_ID of the environment changes only with a restart; a role of the host or [store.aws] \
             access_key_id with secret_access_key is better"
        )],
        AwsLogin::Found | AwsLogin::Profile(_) => match Files::of(store, None).credentials.filter(|path| path.exists())
        {
            Some(path) => objections(source, &path),
            None => Vec::new(),
        },
        AwsLogin::Key { .. } => Vec::new(),
    }
}

fn objections(source: &str, path: &Path) -> Vec<String> {
    file::audit(&format!("{source}: file:{}", path.display()), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_name_or_an_arn_and_a_field() {
        let shown = |text: &str| {
            let place = AwsPlace::parse(text)?;
            let region = place.region().unwrap_or("-").to_owned();
            Some(format!("{} {} {region}", place.name, place.field.as_deref().unwrap_or("-")))
        };
        assert_eq!(shown("redis/cache#masterauth").as_deref(), Some("redis/cache masterauth -"));
        assert_eq!(shown("redis-cache").as_deref(), Some("redis-cache - -"));
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis/cache-AbCdEf";
        assert_eq!(shown(&format!("{arn}#auth key")), Some(format!("{arn} auth key eu-central-1")));
        for text in ["", "#x", "a b", "a#", "a#b#c", "a?x", "a\"", "a\\", "ä", &"x".repeat(2049)] {
            assert_eq!(shown(text), None, "{text:?} was taken");
        }
    }
}
