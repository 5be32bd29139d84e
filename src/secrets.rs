//! Secrets, and the stores that hold them. A [`Secret`] hides itself: it has no `Display`, its `Debug` says only
//! that it is one, it is wiped on drop, and it leaves through [`Secret::expose`] alone, which `wire`, `act` and
//! `notify` call at the last moment.
//!
//! A [`SecretRef`] names a place; [`fetch`] asks that place now and answers with [`Offer`]s, the newest first.
//! Invariants: an empty answer is an error and never an offer, and no error, warning or name holds a value or
//! anything that a program printed. Whether a server accepts an offer is not known here: `act` proves that.

mod aws;
mod credential;
mod env;
mod exec;
mod fields;
mod file;
mod http;
mod salt;
mod value;
mod vault;

pub use aws::{Aws, AwsLogin, AwsPlace, AwsRef, AwsSettings};
pub use http::safe_address;
pub use vault::{Vault, VaultLogin, VaultPlace, VaultRef, VaultSettings};

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::model::Timestamp;

/// A password, token, or URL that grants access.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(Zeroizing::new(value.into()))
    }

    /// The value itself. Call this only where it leaves for its destination.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its SHA-256 in hex, as ACL GETUSER shows passwords and ACL SETUSER takes them. Unsalted, so a secret too.
    pub fn acl_hash(&self) -> Secret {
        Secret::new(Sha256::digest(self.0.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// A short salted fingerprint: tells two secrets apart, and cannot be looked up in a table of hashes.
    pub fn print(&self, salt: &Salt) -> String {
        let mut hash = Sha256::new();
        hash.update(salt.0);
        hash.update(self.0.as_bytes());
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What fingerprints are salted with: random, kept in the state directory, so that prints compare over restarts on
/// one host and nowhere else.
#[derive(Clone)]
pub struct Salt(pub [u8; 16]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(hidden)")
    }
}

/// More than this is no password: 64 KiB.
const LIMIT_BYTES: usize = 64 * 1024;

/// Where a secret is kept, as the config names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretRef {
    /// A file that holds the value, or JSON `{"user"?, "password", "previous"?}`.
    File(PathBuf),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable of the daemon.
    Env(String),
    /// A program and its arguments, run without a shell; it prints JSON or the value as its first line.
    Exec(Vec<String>),
    /// A field of a secret in HashiCorp Vault or OpenBao.
    Vault(VaultRef),
    /// A secret in AWS Secrets Manager, or a field of it.
    Aws(AwsRef),
}

impl SecretRef {
    /// The place in a few words, safe to show: a program's arguments are left out.
    pub fn source(&self) -> String {
        self.to_string()
    }

    /// How often it is worth asking whether the value has changed; none where it cannot.
    pub fn pace(&self) -> Option<Duration> {
        match self {
            SecretRef::File(_) | SecretRef::Credential(_) => Some(Duration::from_secs(1)),
            SecretRef::Env(_) => None,
            SecretRef::Exec(_) => Some(Duration::from_secs(30)),
            SecretRef::Vault(place) => Some(place.store().settings().poll),
            SecretRef::Aws(place) => Some(place.store().settings().poll),
        }
    }

    /// Whether systemd hands it to the unit: a command beside the unit does not get it.
    pub fn is_of_the_unit(&self) -> bool {
        matches!(self, SecretRef::Credential(_) | SecretRef::Env(_))
    }

    /// Whether asking may take long: a look does not wait for it when it knows an answer.
    pub fn is_slow(&self) -> bool {
        matches!(self, SecretRef::Exec(_) | SecretRef::Vault(_) | SecretRef::Aws(_))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
            SecretRef::Credential(name) => write!(f, "credential:{name}"),
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::Exec(argv) => write!(f, "exec:{}", argv.first().map_or("", String::as_str)),
            SecretRef::Vault(place) => place.fmt(f),
            SecretRef::Aws(place) => place.fmt(f),
        }
    }
}

/// As [`SecretRef::source`]: people do put tokens on a command line.
impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({self})")
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One value that a store holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// [`SecretRef::source`] of the place it came from.
    pub source: String,
    /// Tells two values of one place apart: a file's time of change, a program's own `version`, else `unknown`.
    pub version: String,
    /// The ACL user that the value belongs to, where the store says so. None: the user that the replica already has.
    pub user: Option<String>,
    pub secret: Secret,
    /// When this value came into the store, where the store says so.
    pub changed: Option<Timestamp>,
}

/// Why a place gave no secret. Each holds the whole sentence for the reader, and never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretError {
    NotFound(String),
    /// It was there, and was taken away.
    Deleted(String),
    Denied(String),
    Empty(String),
    Malformed(String),
    TooLarge(String),
    TimedOut(String),
    /// The store answers nobody until it is unsealed.
    Sealed(String),
    /// The store cannot be reached, or cannot answer now.
    Unreachable(String),
    Failed(String),
}

impl SecretError {
    /// The same error under other words.
    fn reworded(self, say: impl FnOnce(String) -> String) -> SecretError {
        match self {
            SecretError::NotFound(text) => SecretError::NotFound(say(text)),
            SecretError::Deleted(text) => SecretError::Deleted(say(text)),
            SecretError::Denied(text) => SecretError::Denied(say(text)),
            SecretError::Empty(text) => SecretError::Empty(say(text)),
            SecretError::Malformed(text) => SecretError::Malformed(say(text)),
            SecretError::TooLarge(text) => SecretError::TooLarge(say(text)),
            SecretError::TimedOut(text) => SecretError::TimedOut(say(text)),
            SecretError::Sealed(text) => SecretError::Sealed(say(text)),
            SecretError::Unreachable(text) => SecretError::Unreachable(say(text)),
            SecretError::Failed(text) => SecretError::Failed(say(text)),
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::NotFound(text)
            | SecretError::Deleted(text)
            | SecretError::Denied(text)
            | SecretError::Empty(text)
            | SecretError::Malformed(text)
            | SecretError::TooLarge(text)
            | SecretError::TimedOut(text)
            | SecretError::Sealed(text)
            | SecretError::Unreachable(text)
            | SecretError::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for SecretError {}

/// How a name is looked up in the environment: handed in, so that tests need not change their own.
type Lookup<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// Asks the place now. The newest offer stands first; there is at least one.
///
/// Files are read in place, without leaving the task: keep them on a local file system.
pub async fn fetch(reference: &SecretRef) -> Result<Vec<Offer>, SecretError> {
    fetch_in(reference, &|name| std::env::var_os(name)).await
}

async fn fetch_in(reference: &SecretRef, lookup: Lookup<'_>) -> Result<Vec<Offer>, SecretError> {
    let source = reference.source();
    match reference {
        SecretRef::File(path) => file::fetch(&source, path),
        SecretRef::Credential(name) => credential::fetch(&source, name, lookup),
        SecretRef::Env(name) => env::fetch(&source, name, lookup),
        SecretRef::Exec(argv) => exec::fetch(&source, argv, lookup).await,
        SecretRef::Vault(place) => vault::fetch(&source, place).await,
        SecretRef::Aws(place) => aws::fetch(&source, place).await,
    }
}

/// What a careful reader would object to about the place itself. Says nothing when the place cannot be read:
/// [`fetch`] says that.
pub async fn audit(reference: &SecretRef) -> Vec<String> {
    let source = reference.source();
    match reference {
        SecretRef::File(path) => file::audit(&source, path),
        SecretRef::Credential(name) => credential::audit(&source, name, &|name| std::env::var_os(name)),
        SecretRef::Env(_) => env::audit(&source),
        SecretRef::Exec(argv) => exec::audit(&source, argv),
        SecretRef::Vault(place) => vault::audit(&source, place).await,
        SecretRef::Aws(place) => aws::audit(&source, place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_shows_its_place_and_never_an_argument() {
        let table = [
            (SecretRef::File("/etc/relinkd/masterauth".into()), "file:/etc/relinkd/masterauth"),
            (SecretRef::Credential("masterauth".into()), "credential:masterauth"),
            (SecretRef::Env("MASTERAUTH".into()), "env:MASTERAUTH"),
            (SecretRef::Exec(vec!["/usr/bin/prog".into(), "--token=canary".into()]), "exec:/usr/bin/prog"),
            (SecretRef::Exec(vec![]), "exec:"),
        ];
        for (reference, source) in table {
            assert_eq!(reference.source(), source);
            assert_eq!(format!("{reference:?}"), format!("SecretRef({source})"));
            assert_eq!(serde_json::to_string(&reference).unwrap(), format!("\"{source}\""));
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        let print = secret.print(&Salt([7; 16]));
        assert!(!print.contains("hunter2") && print.len() == 12);
        assert_ne!(print, secret.print(&Salt([8; 16])));
    }
}
