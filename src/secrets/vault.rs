//! The Vault store, for HashiCorp Vault and OpenBao: reads one field of one secret in a KV engine, version 1 or 2, and
//! the version before it, in one answer.
//!
//! Invariants: redirects are not followed, everything of one fetch happens within `timeout`, and no URL, token, body
//! or value is part of an error. A secret that is deleted, empty or out of reach is an error and never an offer.
//! Engines that issue a new password at each read are refused: a look must not create anything.

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;

use super::fields::FIELD;
use super::{Offer, SecretError, SecretRef};

mod answer;
mod http;
mod login;

use answer::Kv;
use http::Server;
use login::Session;

/// `[store.vault]`: where it is, and how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VaultSettings {
    /// `https://HOST:PORT`, or `http://` on loopback.
    pub address: String,
    pub namespace: Option<String>,
    /// Who signs its certificate; none: the system's roots.
    pub ca: Option<PathBuf>,
    pub login: VaultLogin,
    /// For everything that one fetch asks, a login included.
    pub timeout: Duration,
    /// How often a followed secret is read again.
    pub poll: Duration,
}

/// The ways in. Each reads its own secret again at each login, so that it may rotate too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultLogin {
    /// A token that somebody else keeps, such as `vault agent` in a file.
    Token(SecretRef),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: SecretRef,
    },
    Kubernetes {
        mount: String,
        role: String,
        jwt: SecretRef,
    },
    /// None as role: any that fits the certificate.
    Certificate {
        mount: String,
        role: Option<String>,
        cert: PathBuf,
        key: PathBuf,
    },
}

impl VaultSettings {
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    pub const POLL: Duration = Duration::from_secs(30);
}

/// One Vault with its login, shared by all references of a configuration.
pub struct Vault {
    settings: VaultSettings,
    session: Mutex<Session>,
}

impl Vault {
    pub fn new(settings: VaultSettings) -> Vault {
        Vault { settings, session: Mutex::new(Session::default()) }
    }

    pub fn settings(&self) -> &VaultSettings {
        &self.settings
    }
}

/// `{ vault = "mount/path#field" }`.
#[derive(Clone)]
pub struct VaultRef {
    store: Arc<Vault>,
    /// The mount and the path in it, as one: only Vault knows where the one ends.
    path: String,
    field: String,
}

/// What a reference names, before it is known where Vault is.
#[derive(Debug)]
pub struct VaultPlace {
    path: String,
    field: String,
}

impl VaultPlace {
    /// None: not of the form `mount/path` or `mount/path#field`.
    pub fn parse(text: &str) -> Option<VaultPlace> {
        let (path, field) = text.split_once('#').unwrap_or((text, FIELD));
        let segments: Vec<&str> = path.split('/').collect();
        let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_control() || c == '#' || c == '?');
        let fits = segments.len() >= 2 && segments.iter().all(|s| plain(s) && *s != "." && *s != "..") && plain(field);
        fits.then(|| VaultPlace { path: path.to_owned(), field: field.to_owned() })
    }
}

impl VaultRef {
    pub fn new(place: VaultPlace, store: Arc<Vault>) -> VaultRef {
        VaultRef { store, path: place.path, field: place.field }
    }

    pub fn store(&self) -> &Vault {
        &self.store
    }

    fn place(&self) -> (&str, &str) {
        (&self.path, &self.field)
    }
}

impl fmt::Display for VaultRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault:{}#{}", self.path, self.field)
    }
}

/// One configuration has one Vault: two references are the same when they name the same field.
impl PartialEq for VaultRef {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for VaultRef {}

impl PartialOrd for VaultRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VaultRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// How many older versions are looked through for a value that differs: a write to another field of the same secret
/// makes a version too.
const VERSIONS_BACK: usize = 3;

pub(super) async fn fetch(source: &str, reference: &VaultRef) -> Result<Vec<Offer>, SecretError> {
    let limit = reference.store.settings.timeout;
    match tokio::time::timeout(limit, read(source, reference)).await {
        Ok(answer) => answer,
        Err(_) => Err(SecretError::TimedOut(format!(
            "{source}: no answer from {} within {} s; is it up, and can this host reach it?",
            reference.store.settings.address,
            limit.as_secs_f32()
        ))),
    }
}

/// A token may die before its time (revoked, or its parent was): then there is one new login and one more try.
async fn read(source: &str, reference: &VaultRef) -> Result<Vec<Offer>, SecretError> {
    let vault = &reference.store;
    let server = vault.server(source).await?;
    match offers(source, reference, &server).await {
        Err(SecretError::Denied(told)) => match vault.login_again(source, &server).await? {
            Some(server) => offers(source, reference, &server).await,
            None => Err(SecretError::Denied(told)),
        },
        answer => answer,
    }
}

async fn offers(source: &str, reference: &VaultRef, server: &Server) -> Result<Vec<Offer>, SecretError> {
    let kv = mount(source, reference, server).await?;
    let asked = kv.read_path(&reference.path);
    let found = answer::secret(source, &kv, &server.get(source, &asked, None).await?)?;
    let Some(current) = found.version else { return found.offers(source, &reference.field) };
    let mut offers = found.offers(source, &reference.field)?;
    for version in (1..current).rev().take(VERSIONS_BACK) {
        if offers.len() > 1 {
            break;
        }
        let older = server.get(source, &asked, Some(version)).await?;
        // Deleted, destroyed, without the field: then there is no password before this one.
        let older = answer::secret(source, &kv, &older).and_then(|older| older.offers(source, &reference.field));
        let former = older.ok().and_then(|older| older.into_iter().next());
        offers.extend(former.filter(|former| offers.iter().all(|one| one.secret != former.secret)));
    }
    Ok(offers)
}

/// Which engine the path belongs to. Vault tells it to any token that may read something below; where it does not, the
/// first part of the path is taken for a KV engine of version 2, and what comes of that tells the rest.
async fn mount(source: &str, reference: &VaultRef, server: &Server) -> Result<Kv, SecretError> {
    let asked = format!("sys/internal/ui/mounts/{}", reference.path);
    let told = server.get(source, &asked, None).await?;
    answer::mount(source, &reference.path, &told)
}

/// What a careful reader would object to: a token that may do more than read, which it does not need.
pub(super) async fn audit(source: &str, reference: &VaultRef) -> Vec<String> {
    let vault = &reference.store;
    let asking = async {
        let server = vault.server(source).await?;
        let path = mount(source, reference, &server).await?.read_path(&reference.path);
        let told = server.post(source, "sys/capabilities-self", &serde_json::json!({ "paths": [path] })).await?;
        Ok::<_, SecretError>(answer::excess(source, &path, &told))
    };
    match tokio::time::timeout(vault.settings.timeout, asking).await {
        Ok(Ok(objection)) => objection.into_iter().collect(),
        // `fetch` has told it already.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_path_of_two_parts_and_a_field() {
        let shown = |text: &str| VaultPlace::parse(text).map(|it| format!("{} {}", it.path, it.field));
        assert_eq!(shown("kv/redis/cache#masterauth").as_deref(), Some("kv/redis/cache masterauth"));
        assert_eq!(shown("kv/redis").as_deref(), Some("kv/redis password"));
        for text in ["", "kv", "kv/", "/kv/x", "kv//x", "kv/../sys/x#y", "kv/x#", "kv/x#a#b", "kv/x?version=1", "#x"] {
            assert_eq!(shown(text), None, "{text:?} was taken");
        }
    }
}
