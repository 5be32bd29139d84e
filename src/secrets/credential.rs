//! The systemd store: a credential is a file that systemd lays into `$CREDENTIALS_DIRECTORY` when the unit starts
//! (systemd.exec(5), LoadCredential=). It does not change while the unit runs.

use std::path::PathBuf;

use super::{Lookup, Offer, SecretError, file};

pub(super) fn fetch(source: &str, name: &str, lookup: Lookup<'_>) -> Result<Vec<Offer>, SecretError> {
    let path = path_of(source, name, lookup)?;
    file::fetch(source, &path).map_err(|error| match error {
        SecretError::NotFound(_) => SecretError::NotFound(format!(
            "{source}: systemd handed over no credential of that name; add LoadCredential={name}:/etc/relinkd/{name} \
             to the unit (systemctl edit relinkd) and restart it"
        )),
        error => error,
    })
}

pub(super) fn audit(source: &str, name: &str, lookup: Lookup<'_>) -> Vec<String> {
    path_of(source, name, lookup).map(|path| file::audit(source, &path)).unwrap_or_default()
}

fn path_of(source: &str, name: &str, lookup: Lookup<'_>) -> Result<PathBuf, SecretError> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(SecretError::Malformed(format!(
            "{source}: a credential's name is a file name, without any slash; correct the reference in the config"
        )));
    }
    let Some(dir) = lookup("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()) else {
        return Err(SecretError::NotFound(format!(
            "{source}: $CREDENTIALS_DIRECTORY is not set, so systemd has handed no credentials to this process; \
             the unit gets them with LoadCredential={name}:/etc/relinkd/{name}, and a command outside the unit cannot \
             read them"
        )));
    };
    Ok(PathBuf::from(dir).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_from_the_directory_that_systemd_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("masterauth"), "canary").unwrap();
        let lookup = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| dir.path().as_os_str().to_owned());
        assert_eq!(fetch("credential:masterauth", "masterauth", &lookup).unwrap()[0].secret.expose(), "canary");
        let absent = fetch("credential:other", "other", &lookup).unwrap_err();
        assert!(matches!(&absent, SecretError::NotFound(text) if text.contains("LoadCredential=other:")), "{absent}");
        for name in ["", "..", "../masterauth", "/etc/shadow"] {
            assert!(matches!(fetch("credential:x", name, &lookup), Err(SecretError::Malformed(_))), "{name:?}");
        }
    }

    #[test]
    fn without_systemd_the_reader_is_told_what_is_missing() {
        let error = fetch("credential:masterauth", "masterauth", &|_| None).unwrap_err();
        assert!(matches!(&error, SecretError::NotFound(text) if text.contains("$CREDENTIALS_DIRECTORY is not set")));
        assert!(audit("credential:masterauth", "masterauth", &|_| None).is_empty());
    }
}
