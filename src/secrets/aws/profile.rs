//! The files that AWS's programs share, `~/.aws/credentials` and `~/.aws/config`: the part of their form that holds an
//! access key or a region. Pure but for reading them.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::{Secret, SecretError};
use super::Aws;
use super::sign::Keys;

/// Where the files are, and which profile is meant.
pub(super) struct Files {
    pub credentials: Option<PathBuf>,
    config: Option<PathBuf>,
    pub profile: String,
}

impl Files {
    pub fn of(store: &Aws, profile: Option<&str>) -> Files {
        let place = |variable: &str, name: &str| {
            let named = store.variable(variable).map(PathBuf::from);
            named.or_else(|| store.variable("HOME").map(|home| Path::new(&home).join(".aws").join(name)))
        };
        let profile = profile.map(str::to_owned).or_else(|| store.variable("AWS_PROFILE"));
        Files {
            credentials: place("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: place("AWS_CONFIG_FILE", "config"),
            profile: profile.unwrap_or("default".to_owned()),
        }
    }

    /// The profile's access key, from the first file that has one. None: neither does.
    pub fn keys(&self, source: &str) -> Result<Option<Keys>, SecretError> {
        for (path, is_config) in self.both() {
            let Some(text) = read(source, path)? else { continue };
            let profile = Profile::of(&text, &self.profile, is_config);
            match (profile.value("aws_access_key_id"), profile.value("aws_secret_access_key")) {
                (Some(id), Some(secret)) => {
                    let token = profile.value("aws_session_token").map(Secret::new);
                    return Ok(Some(Keys { id: id.to_owned(), secret: Secret::new(secret), token }));
                }
                (None, None) => {}
                _ => {
                    return Err(SecretError::Malformed(format!(
                        "{source}: the login at AWS: the profile {:?} in {} needs both aws_access_key_id and \
                         aws_secret_access_key",
                        self.profile,
                        path.display()
                    )));
                }
            }
            if let Some(way) = profile.other_way() {
                return Err(SecretError::Failed(format!(
                    "{source}: the login at AWS: the profile {:?} in {} logs in by {way}, which relinkd does not do; give \
                     it an access key, or give the host a role",
                    self.profile,
                    path.display()
                )));
            }
        }
        Ok(None)
    }

    pub fn region(&self, source: &str) -> Result<Option<String>, SecretError> {
        for (path, is_config) in self.both() {
            let Some(text) = read(source, path)? else { continue };
            if let Some(region) = Profile::of(&text, &self.profile, is_config).value("region") {
                return Ok(Some(region.to_owned()));
            }
        }
        Ok(None)
    }

    /// Where a profile was looked for, for a person.
    pub fn shown(&self) -> String {
        self.both().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(" and ")
    }

    fn both(&self) -> impl Iterator<Item = (&Path, bool)> {
        let credentials = self.credentials.as_deref().map(|path| (path, false));
        credentials.into_iter().chain(self.config.as_deref().map(|path| (path, true)))
    }
}

/// None: there is no such file.
fn read(source: &str, path: &Path) -> Result<Option<Zeroizing<String>>, SecretError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // A home that does not let relinkd in (ProtectHome=) has no file for it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !path.exists() => Ok(None),
        Err(error) => Err(SecretError::Denied(format!(
            "{source}: the login at AWS: {} cannot be read: {}",
            path.display(),
            error.kind()
        ))),
    }
}

struct Profile<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Profile<'a> {
    /// `[NAME]`; in the config file `[profile NAME]`, and `[default]`. A section that stands there twice is one.
    fn of(text: &'a str, name: &str, is_config: bool) -> Profile<'a> {
        let mut inside = false;
        let mut found = Vec::new();
        for line in text.lines() {
            if let Some(header) = line.trim_end().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let header = header.trim();
                let named = header.strip_prefix("profile ").map(str::trim);
                inside = if is_config {
                    named == Some(name) || (name == "default" && header == name)
                } else {
                    header == name
                };
            } else if inside && !line.starts_with([' ', '\t', '#', ';']) {
                // An indented line belongs to the settings of one service.
                found.extend(line.split_once('=').map(|(key, value)| (key.trim(), value.trim())));
            }
        }
        Profile(found)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| *value)
    }

    fn other_way(&self) -> Option<&'static str> {
        ["role_arn", "credential_process", "sso_session", "sso_start_url"]
            .into_iter()
            .find(|key| self.value(key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_in_either_file_under_its_own_form_of_header() {
        let credentials = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key= S\n\n[db]\nregion=x\n\
                           aws_access_key_id=B\n[other]\nregion = nowhere\n";
        let one = |name: &str, key: &str| Profile::of(credentials, name, false).value(key);
        assert_eq!(
            (one("default", "aws_access_key_id"), one("default", "aws_secret_access_key")),
            (Some("A"), Some("S"))
        );
        assert_eq!(
            (one("db", "aws_access_key_id"), one("db", "region"), one("none", "region")),
            (Some("B"), Some("x"), None)
        );
        let config = "[default]\nregion = eu-central-1\n[profile db]\nregion=eu-west-1\ns3 =\n  region = nested\n\
                      role_arn=arn\n[db]\nregion=wrong\n";
        let one = |name: &str| Profile::of(config, name, true).value("region");
        assert_eq!((one("default"), one("db")), (Some("eu-central-1"), Some("eu-west-1")));
        assert_eq!(Profile::of(config, "db", true).other_way(), Some("role_arn"));
    }
}
