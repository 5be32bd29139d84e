//! The environment store: a variable of this process, which cannot change while it runs.

use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use super::value::{UNVERSIONED, stored};
use super::{Lookup, Offer, SecretError};

pub(super) fn fetch(source: &str, name: &str, lookup: Lookup<'_>) -> Result<Vec<Offer>, SecretError> {
    let Some(value) = lookup(name) else {
        return Err(SecretError::NotFound(format!(
            "{source}: this variable is not set for relinkd; set it in the unit (EnvironmentFile=) and restart"
        )));
    };
    stored(source, UNVERSIONED, &Zeroizing::new(value.into_vec()))
}

/// A variable is the weakest of the stores, and the only one that cannot follow a rotation.
pub(super) fn audit(source: &str) -> Vec<String> {
    vec![format!(
        "{source}: root and relinkd's own user can read it in /proc, and it changes only with a restart, so it cannot follow a \
         rotation; a file is better"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_value_or_is_said_to_be_missing() {
        let lookup = |name: &str| match name {
            "SET" => Some("canary".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        assert_eq!(fetch("env:SET", "SET", &lookup).unwrap()[0].secret.expose(), "canary");
        assert!(matches!(fetch("env:EMPTY", "EMPTY", &lookup), Err(SecretError::Empty(_))));
        assert!(matches!(fetch("env:UNSET", "UNSET", &lookup), Err(SecretError::NotFound(_))));
    }
}
