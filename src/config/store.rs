//! `[store.*]`: the secret stores that have to be told where they are and how to log in.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::keys;
use super::problem::{Here, Report};
use super::section::Section;
use crate::secrets::{Aws, AwsLogin, AwsSettings, SecretRef, Vault, VaultLogin, VaultSettings, safe_address};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const POLL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Where a service account's token lies in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The remote stores, read before any reference to them. Neither can be the way in to the other.
pub(super) fn read(root: &Section<'_>, report: &mut Report) {
    let stores = root.node("store").map(|node| Section::open("store".to_owned(), node, keys::REMOTE_STORES, report));
    let (vault, aws) = match &stores {
        Some(Some(stores)) => (vault(stores, report), aws(stores, report)),
        Some(None) => (Here::Wrong, Here::Wrong),
        None => (Here::Absent, Here::Absent),
    };
    report.vault = vault;
    report.aws = match aws {
        // A host that has a role needs to say nothing.
        Here::Absent => Here::Known(Arc::new(Aws::new(AwsSettings::default()))),
        aws => aws,
    };
}

/// `[store.aws]`.
fn aws(stores: &Section<'_>, report: &mut Report) -> Here<Aws> {
    let Some(node) = stores.node("aws") else { return Here::Absent };
    let Some(section) = Section::open("store.aws".to_owned(), node, keys::AWS, report) else { return Here::Wrong };
    let region = section.parsed("region", REGION, &region, report);
    let endpoint = section.parsed("endpoint", ENDPOINT, &endpoint, report);
    let timeout = section.duration("timeout", TIMEOUT, report);
    let poll = section.duration("poll", POLL, report);
    for key in ["secret_access_key", "session_token"] {
        section.needs(key, "access_key_id", report);
    }
    let login = aws_login(&section, report);
    let Some(login) = login else { return Here::Wrong };
    Here::Known(Arc::new(Aws::new(AwsSettings {
        region,
        endpoint,
        login,
        timeout: timeout.unwrap_or(AwsSettings::TIMEOUT),
        poll: poll.unwrap_or(AwsSettings::POLL),
    })))
}

/// A profile, an access key, or neither.
fn aws_login(section: &Section<'_>, report: &mut Report) -> Option<AwsLogin> {
    let (profile, id) = (section.word("profile", report), section.word("access_key_id", report));
    let (secret, token) = (section.secret("secret_access_key", report), section.secret("session_token", report));
    match (section.has("profile"), section.has("access_key_id")) {
        (true, true) => {
            let text = "names both profile and access_key_id; leave one of them out";
            report.add(section.place, Some(&section.path), text);
            None
        }
        (true, false) => profile.map(AwsLogin::Profile),
        (false, true) => {
            section.require("secret_access_key", "{ credential = \"aws-secret-access-key\" }", report);
            id.zip(secret).map(|(id, secret)| AwsLogin::Key { id, secret, token })
        }
        (false, false) => Some(AwsLogin::Found),
    }
}

const REGION: &str = "the name of an AWS region, as in \"eu-central-1\"";

fn region(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if plain && (4..=32).contains(&text.len()) { Ok(text.to_owned()) } else { Err(REGION.to_owned()) }
}

const ENDPOINT: &str = "\"https://HOST:PORT\"; http:// only to this host, as in \"http://127.0.0.1:4566\"; without it AWS's own in the region";

fn endpoint(text: &str) -> Result<String, String> {
    safe_address(text).ok_or_else(|| ENDPOINT.to_owned())
}

/// `[store.vault]`.
fn vault(stores: &Section<'_>, report: &mut Report) -> Here<Vault> {
    let Some(node) = stores.node("vault") else { return Here::Absent };
    let Some(section) = Section::open("store.vault".to_owned(), node, keys::VAULT, report) else {
        return Here::Wrong;
    };
    section.require("address", "\"https://vault.example:8200\"", report);
    let address = section.parsed("address", ADDRESS, &address, report);
    let namespace = section.word("namespace", report);
    let ca = section.absolute_path("ca", report);
    let timeout = section.duration("timeout", TIMEOUT, report);
    let poll = section.duration("poll", POLL, report);
    let login = login(&section, report);
    let (Some(address), Some(login)) = (address, login) else { return Here::Wrong };
    if matches!(login, VaultLogin::Certificate { .. }) && !address.starts_with("https://") {
        let text = "shows a certificate, which needs an address that begins with https://";
        report.add(section.place, Some("store.vault.certificate"), text);
    }
    Here::Known(Arc::new(Vault::new(VaultSettings {
        address,
        namespace,
        ca,
        login,
        timeout: timeout.unwrap_or(VaultSettings::TIMEOUT),
        poll: poll.unwrap_or(VaultSettings::POLL),
    })))
}

/// Exactly one way in.
fn login(section: &Section<'_>, report: &mut Report) -> Option<VaultLogin> {
    let given: Vec<&str> = keys::VAULT_LOGINS.iter().copied().filter(|key| section.has(key)).collect();
    let [only] = given.as_slice() else {
        let text = format!("needs exactly one login of {}", keys::VAULT_LOGINS.join(", "));
        report.add_absent(section.place, Some(&section.path), text);
        return None;
    };
    if *only == "token" {
        return section.secret("token", report).map(VaultLogin::Token);
    }
    let node = section.node(only)?;
    let known = match *only {
        "approle" => keys::VAULT_APPROLE,
        "kubernetes" => keys::VAULT_KUBERNETES,
        _ => keys::VAULT_CERTIFICATE,
    };
    let own = Section::open(section.path_of(only), node, known, report)?;
    let mount = match own.parsed("mount", MOUNT, &mount, report) {
        Some(mount) => mount,
        None if own.has("mount") => return None,
        None if *only == "certificate" => "cert".to_owned(),
        None => (*only).to_owned(),
    };
    match *only {
        "approle" => {
            own.require("role_id", "\"...\"", report);
            own.require("secret_id", "{ file = \"/etc/relinkd/vault-secret-id\" }", report);
            let (role_id, secret_id) = (own.word("role_id", report), own.secret("secret_id", report));
            Some(VaultLogin::AppRole { mount, role_id: role_id?, secret_id: secret_id? })
        }
        "kubernetes" => {
            own.require("role", "\"relinkd\"", report);
            let (role, jwt) = (own.word("role", report), own.secret("jwt", report));
            let jwt = match own.has("jwt") {
                true => jwt?,
                false => SecretRef::File(PathBuf::from(SERVICE_ACCOUNT)),
            };
            Some(VaultLogin::Kubernetes { mount, role: role?, jwt })
        }
        _ => {
            own.require("cert", "\"/etc/relinkd/vault.pem\"", report);
            own.require("key", "\"/etc/relinkd/vault.key\"", report);
            let role = own.word("role", report);
            let (cert, key) = (own.absolute_path("cert", report), own.absolute_path("key", report));
            Some(VaultLogin::Certificate { mount, role, cert: cert?, key: key? })
        }
    }
}

const ADDRESS: &str = "\"https://HOST:PORT\"; http:// only to this host, as in \"http://127.0.0.1:8200\"";

fn address(text: &str) -> Result<String, String> {
    safe_address(text).ok_or_else(|| ADDRESS.to_owned())
}

const MOUNT: &str = "where the auth method is mounted, without \"auth/\", as in \"approle\"";

fn mount(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && !part.contains(['?', '#', ' ']);
    if text.split('/').all(plain) { Ok(text.to_owned()) } else { Err(MOUNT.to_owned()) }
}
