//! One question to Vault, and what its status means. Nothing of an answer's body is ever shown: what is known of it is
//! said in our own words.

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, Identity, Url};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{Answer, Lost, ask, builder, innermost};
use super::super::{Secret, SecretError};
use super::{VaultLogin, VaultSettings};

/// Where to ask, and as whom.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    base: Url,
    /// As it may be shown.
    address: String,
    namespace: Option<String>,
    token: Option<Secret>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// Whether Vault's own error says this, so that one status can be told from its like.
pub(super) fn says(answer: &Answer, words: &str) -> bool {
    serde_json::from_slice::<Errors>(&answer.body).is_ok_and(|said| said.errors.iter().any(|e| e.contains(words)))
}

impl Server {
    pub fn new(source: &str, settings: &VaultSettings) -> Result<Server, SecretError> {
        let wrong = |what: String| SecretError::Malformed(format!("{source}: {what}"));
        let base = Url::parse(&settings.address).map_err(|_| wrong("[store.vault] address is no URL".to_owned()))?;
        Ok(Server {
            client: client(source, settings)?,
            base,
            address: settings.address.clone(),
            namespace: settings.namespace.clone(),
            token: None,
        })
    }

    pub fn with(self, token: Secret) -> Server {
        Server { token: Some(token), ..self }
    }

    pub fn has(&self, token: &Secret) -> bool {
        self.token.as_ref() == Some(token)
    }

    pub fn same_login(&self, other: &Server) -> bool {
        self.token == other.token
    }

    pub async fn get(&self, source: &str, path: &str, version: Option<u64>) -> Result<Answer, SecretError> {
        let mut url = self.url(path);
        if let Some(version) = version {
            url.set_query(Some(&format!("version={version}")));
        }
        self.send(source, self.client.get(url)).await
    }

    pub async fn post(&self, source: &str, path: &str, body: &Value) -> Result<Answer, SecretError> {
        self.send(source, self.client.post(self.url(path)).body(body.to_string())).await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        url
    }

    async fn send(&self, source: &str, request: reqwest::RequestBuilder) -> Result<Answer, SecretError> {
        let mut request = request.header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| {
                SecretError::Malformed(format!("{source}: the Vault token has characters that no token has"))
            })?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        let answer = ask(request).await.map_err(|lost| match lost {
            Lost::TooLarge => SecretError::TooLarge(format!("{source}: Vault answers with more than 1 MiB")),
            Lost::Away(why) => SecretError::Unreachable(format!("{source}: Vault at {}: {why}", self.address)),
        })?;
        self.refuse_unready(source, &answer)?;
        Ok(answer)
    }

    /// What an answer means whatever was asked.
    fn refuse_unready(&self, source: &str, answer: &Answer) -> Result<(), SecretError> {
        let address = &self.address;
        match answer.status {
            503 if says(answer, "sealed") => Err(SecretError::Sealed(format!(
                "{source}: Vault at {address} is sealed and answers nothing; somebody has to unseal it"
            ))),
            300..=399 => Err(SecretError::Unreachable(format!(
                "{source}: Vault at {address} answers with a redirect, which is not followed; set [store.vault] address \
                 to the active server or to a load balancer"
            ))),
            429 => Err(SecretError::Unreachable(format!(
                "{source}: Vault at {address} limits requests (429), or is a standby; it is asked again later"
            ))),
            status @ 500..=599 => Err(SecretError::Unreachable(format!(
                "{source}: Vault at {address} cannot answer now (HTTP {status}); see its log"
            ))),
            _ => Ok(()),
        }
    }
}

/// A client of our own for each session: it may carry our certificate, which is read again at each login.
fn client(source: &str, settings: &VaultSettings) -> Result<Client, SecretError> {
    let builder = builder().connect_timeout(settings.timeout);
    let builder = match &settings.ca {
        // A proxy from the environment is for the way out; what is sent in the clear stays inside.
        None if settings.address.starts_with("http://") => builder.tls_certs_only([]).no_proxy(),
        None => builder,
        Some(ca) => {
            let text = pem(source, "ca", ca)?;
            let authorities = Certificate::from_pem_bundle(&text).map_err(|_| no_pem(source, "ca", ca))?;
            builder.tls_certs_only(authorities)
        }
    };
    let builder = match &settings.login {
        VaultLogin::Certificate { cert, key, .. } => {
            let mut both = pem(source, "certificate.cert", cert)?;
            both.push(b'\n');
            both.extend_from_slice(&pem(source, "certificate.key", key)?);
            builder.identity(Identity::from_pem(&both).map_err(|_| no_pem(source, "certificate.cert", cert))?)
        }
        _ => builder,
    };
    builder.build().map_err(|error| {
        let why = innermost(error);
        SecretError::Failed(format!("{source}: no TLS client can be made for Vault: {why}"))
    })
}

fn pem(source: &str, key: &str, path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        let text = format!("{source}: [store.vault] {key}: {} cannot be read: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => SecretError::NotFound(text),
            std::io::ErrorKind::PermissionDenied => SecretError::Denied(text),
            _ => SecretError::Failed(text),
        }
    })
}

fn no_pem(source: &str, key: &str, path: &std::path::Path) -> SecretError {
    SecretError::Malformed(format!("{source}: [store.vault] {key}: {} is not PEM, or not whole", path.display()))
}
