//! Secrets, and the stores that hold them. A [`Secret`] hides itself: it has no `Display`, its `Debug` says only
//! that it is one, it is wiped on drop, and it leaves through [`Secret::expose`] alone, which `wire`, `act` and
//! `notify` call at the last moment.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

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

/// A password that a store offers. It counts only after a primary has taken it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where it came from, without the value: `file:/etc/relinkd/masterauth`.
    pub source: String,
    /// The store's version of it, or the file's time of change.
    pub version: String,
    /// None: the user that the replica already has.
    pub user: Option<String>,
    pub secret: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        let print = secret.print(&Salt([7; 16]));
        assert!(!print.contains("hunter2") && print.len() == 12);
        assert_ne!(print, secret.print(&Salt([8; 16])));
    }
}
