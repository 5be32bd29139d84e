//! `[store.*]`: the secret stores that have to be told where they are and how to log in.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::keys;
use super::problem::{Report, VaultHere};
use super::section::Section;
use crate::secrets::{SecretRef, Vault, VaultLogin, VaultSettings};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const POLL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Where a service account's token lies in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// `[store.vault]`, read before any reference to it.
pub(super) fn vault(root: &Section<'_>, report: &mut Report) -> VaultHere {
    let Some(node) = root.node("store") else { return VaultHere::Absent };
    let Some(stores) = Section::open("store".to_owned(), node, keys::REMOTE_STORES, report) else {
        return VaultHere::Wrong;
    };
    let Some(node) = stores.node("vault") else { return VaultHere::Absent };
    let Some(section) = Section::open("store.vault".to_owned(), node, keys::VAULT, report) else {
        return VaultHere::Wrong;
    };
    section.require("address", "\"https://vault.example:8200\"", report);
    let address = section.parsed("address", ADDRESS, &address, report);
    let namespace = section.word("namespace", report);
    let ca = section.absolute_path("ca", report);
    let timeout = section.duration("timeout", TIMEOUT, report);
    let poll = section.duration("poll", POLL, report);
    let login = login(&section, report);
    let (Some(address), Some(login)) = (address, login) else { return VaultHere::Wrong };
    if matches!(login, VaultLogin::Certificate { .. }) && !address.starts_with("https://") {
        let text = "shows a certificate, which needs an address that begins with https://";
        report.add(section.place, Some("store.vault.certificate"), text);
    }
    VaultHere::Known(Arc::new(Vault::new(VaultSettings {
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

/// A token that goes over the network in the clear is everybody's.
fn address(text: &str) -> Result<String, String> {
    let wrong = || ADDRESS.to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let scheme_fits = url.scheme() == "https" || (url.scheme() == "http" && here);
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.path() == "/";
    let fits = scheme_fits && bare && url.fragment().is_none() && !host.is_empty();
    if fits { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

const MOUNT: &str = "where the auth method is mounted, without \"auth/\", as in \"approle\"";

fn mount(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && !part.contains(['?', '#', ' ']);
    if text.split('/').all(plain) { Ok(text.to_owned()) } else { Err(MOUNT.to_owned()) }
}
