//! The login: an access key and a region, from where AWS's own programs would take them. The first way that is set up
//! counts, and when it fails that is the error: going on to the next would log in as somebody else.
//!
//! Temporary keys are kept until 5 minutes before their end, and used until it when no new ones can be had.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Url};

use super::super::http::{builder, innermost, safe_address};
use super::super::{Secret, SecretError, SecretRef, fetch};
use super::profile::Files;
use super::remote::{self, WebIdentity};
use super::sign::Keys;
use super::{Aws, AwsLogin, AwsPlace};

/// A service on this host, or one hop away: on a host without it the packets of a question to it may vanish.
const NEAR: Duration = Duration::from_secs(1);

const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";

/// Hosts that a container's endpoint may have in the clear, as the SDKs hold it: ECS, and EKS Pod Identity.
const CONTAINERS: &[&str] = &["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost"];

/// What a request needs.
pub(super) struct Access {
    pub keys: Keys,
    /// Where the key is from, for a person.
    pub from: String,
    pub region: String,
    pub address: String,
    pub client: Client,
}

#[derive(Default)]
pub(super) struct Session {
    clients: Option<Clients>,
    kept: Option<Temporary>,
    /// Of the instance: it cannot change.
    region: Option<String>,
}

#[derive(Clone)]
struct Clients {
    far: Client,
    /// Without a proxy, which is for the way out, and impatient.
    near: Client,
}

/// Keys that somebody hands out for a time.
#[derive(Clone)]
pub(super) struct Temporary {
    pub keys: Keys,
    pub from: String,
    pub ends: Option<Timestamp>,
}

impl Temporary {
    fn lives_for(&self, span: SignedDuration) -> bool {
        self.ends.is_none_or(|ends| Timestamp::now().duration_until(ends) > span)
    }
}

impl Aws {
    /// `dead`: keys that AWS did not take, so that others are asked for.
    pub(super) async fn access(
        &self,
        source: &str,
        place: &AwsPlace,
        dead: Option<&Keys>,
    ) -> Result<Access, SecretError> {
        let mut session = self.session.lock().await;
        session.kept.take_if(|kept| dead == Some(&kept.keys));
        let clients = match &session.clients {
            Some(clients) => clients.clone(),
            None => session.clients.insert(self.clients(source)?).clone(),
        };
        let Temporary { keys, from, .. } = self.keys(source, &clients, &mut session, place).await?;
        let region = self.region(source, &clients, &mut session, place).await?;
        let (address, client) = match self.endpoint(source, "SECRETS_MANAGER")? {
            Some(address) if address.starts_with("http://") => (address, clients.near),
            Some(address) => (address, clients.far),
            None => (format!("https://secretsmanager.{region}.{}", remote::domain(&region)), clients.far),
        };
        Ok(Access { keys, from, region, address, client })
    }

    fn clients(&self, source: &str) -> Result<Clients, SecretError> {
        let failed = |error| {
            let why = innermost(error);
            SecretError::Failed(format!("{source}: no TLS client can be made for AWS: {why}"))
        };
        let limit = self.settings.timeout;
        let near = builder().tls_certs_only([]).no_proxy().connect_timeout(NEAR).timeout(limit);
        Ok(Clients {
            far: builder().connect_timeout(limit).build().map_err(failed)?,
            near: near.build().map_err(failed)?,
        })
    }

    async fn keys(
        &self,
        source: &str,
        clients: &Clients,
        session: &mut Session,
        place: &AwsPlace,
    ) -> Result<Temporary, SecretError> {
        let own = |keys, from: &str| Temporary { keys, from: from.to_owned(), ends: None };
        match &self.settings.login {
            AwsLogin::Key { id, secret, token } => {
                let secret = one(source, "secret_access_key", secret).await?;
                let token = match token {
                    Some(token) => Some(one(source, "session_token", token).await?),
                    None => None,
                };
                return Ok(own(Keys { id: id.clone(), secret, token }, "[store.aws] access_key_id"));
            }
            AwsLogin::Profile(name) => {
                let files = Files::of(self, Some(name));
                return match files.keys(source)? {
                    Some(keys) => Ok(own(keys, &format!("the profile {name:?}"))),
                    None => Err(SecretError::NotFound(format!(
                        "{source}: the login at AWS: no access key under the profile {name:?} in {}",
                        files.shown()
                    ))),
                };
            }
            AwsLogin::Found => {}
        }
        if let Some(id) = self.variable("AWS_ACCESS_KEY_ID") {
            let secret = self.variable("AWS_SECRET_ACCESS_KEY").ok_or_else(|| {
                SecretError::NotFound(format!(
                    "{source}: the login at AWS: AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not"
                ))
            })?;
            let token = self.variable("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok(own(Keys { id, secret: Secret::new(secret), token }, "AWS_ACCESS_KEY_ID of the environment"));
        }
        let by_web_identity = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        if !by_web_identity {
            let files = Files::of(self, None);
            if let Some(keys) = files.keys(source)? {
                return Ok(own(keys, &format!("the profile {:?}", files.profile)));
            }
        }
        if let Some(kept) = session.kept.clone().filter(|kept| kept.lives_for(SignedDuration::from_mins(5))) {
            return Ok(kept);
        }
        let handed = match by_web_identity {
            true => self.by_web_identity(source, clients, session, place).await,
            false => self.by_the_host(source, clients).await,
        };
        match handed {
            Ok(handed) => Ok(session.kept.insert(handed).clone()),
            Err(error) => session.kept.clone().filter(|kept| kept.lives_for(SignedDuration::ZERO)).ok_or(error),
        }
    }

    async fn by_web_identity(
        &self,
        source: &str,
        clients: &Clients,
        session: &mut Session,
        place: &AwsPlace,
    ) -> Result<Temporary, SecretError> {
        let role = self.variable("AWS_ROLE_ARN").ok_or_else(|| {
            SecretError::NotFound(format!(
                "{source}: the login at AWS: AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"
            ))
        })?;
        let file = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE").unwrap_or_default();
        let token = one(source, "the web identity's token", &SecretRef::File(file.into())).await?;
        let session_name = self.variable("AWS_ROLE_SESSION_NAME").unwrap_or("relinkd".to_owned());
        let (sts, client) = match self.endpoint(source, "STS")? {
            Some(address) if address.starts_with("http://") => (address, &clients.near),
            Some(address) => (address, &clients.far),
            None => {
                let region = self.region(source, clients, session, place).await?;
                (format!("https://sts.{region}.{}", remote::domain(&region)), &clients.far)
            }
        };
        remote::from_web_identity(source, client, &sts, &WebIdentity { role, session: session_name, token }).await
    }

    /// A container's endpoint, or the instance's role.
    async fn by_the_host(&self, source: &str, clients: &Clients) -> Result<Temporary, SecretError> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
        if let Some(text) = relative.or_else(|| self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            let url = container_url(&text).ok_or_else(|| {
                SecretError::Malformed(format!(
                    "{source}: the login at AWS: AWS_CONTAINER_CREDENTIALS_FULL_URI must be https://, or http:// to this \
                     host or to the container's agent"
                ))
            })?;
            let token = match self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(file) => Some(one(source, "the container's token", &SecretRef::File(file.into())).await?),
                None => self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
            };
            let client = if url.scheme() == "https" { &clients.far } else { &clients.near };
            return remote::from_container(source, client, url, token.as_ref()).await;
        }
        let handed = match self.instance() {
            Some(base) => remote::from_instance(source, &clients.near, &base).await?,
            None => None,
        };
        handed.ok_or_else(|| {
            SecretError::NotFound(format!(
                "{source}: the login at AWS: no access key was found. Looked for: AWS_ACCESS_KEY_ID, \
                 AWS_WEB_IDENTITY_TOKEN_FILE, the profile {:?} in {}, AWS_CONTAINER_CREDENTIALS_*, the role of an EC2 \
                 instance. Or set [store.aws] access_key_id and secret_access_key",
                Files::of(self, None).profile,
                Files::of(self, None).shown()
            ))
        })
    }

    async fn region(
        &self,
        source: &str,
        clients: &Clients,
        session: &mut Session,
        place: &AwsPlace,
    ) -> Result<String, SecretError> {
        let profile = match &self.settings.login {
            AwsLogin::Profile(name) => Some(name.as_str()),
            _ => None,
        };
        let said = place.region().map(str::to_owned).or_else(|| self.settings.region.clone());
        let said = said.or_else(|| self.variable("AWS_REGION")).or_else(|| self.variable("AWS_DEFAULT_REGION"));
        let said = match said {
            Some(region) => Some(region),
            None => Files::of(self, profile).region(source)?,
        };
        let said = match (said, session.region.clone(), self.instance()) {
            (Some(region), ..) | (None, Some(region), _) => Some(region),
            (None, None, Some(base)) => {
                session.region = remote::region_of_instance(source, &clients.near, &base).await?;
                session.region.clone()
            }
            (None, None, None) => None,
        };
        // It becomes a part of a host's name.
        let plain = |region: &String| region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        said.filter(|region| (4..=32).contains(&region.len())).filter(plain).ok_or_else(|| {
            SecretError::NotFound(format!(
                "{source}: no AWS region is known; set [store.aws] region = \"eu-central-1\""
            ))
        })
    }

    /// Another address than AWS's own, from the configuration or from AWS's own variables.
    fn endpoint(&self, source: &str, service: &str) -> Result<Option<String>, SecretError> {
        let own = format!("AWS_ENDPOINT_URL_{service}");
        let configured = self.settings.endpoint.as_ref().filter(|_| service == "SECRETS_MANAGER");
        let told = configured.cloned().or_else(|| self.variable(&own)).or_else(|| self.variable("AWS_ENDPOINT_URL"));
        let Some(told) = told else { return Ok(None) };
        safe_address(&told).map(Some).ok_or_else(|| {
            SecretError::Malformed(format!(
                "{source}: {own} or AWS_ENDPOINT_URL must be https://HOST:PORT; http:// only to this host"
            ))
        })
    }

    /// Where the instance's metadata would be. None: it was turned off.
    fn instance(&self) -> Option<String> {
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return None;
        }
        let told = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Some(told.map_or(INSTANCE.to_owned(), |text| text.trim_end_matches('/').to_owned()))
    }
}

fn container_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str().unwrap_or_default();
    let here = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (url.scheme() == "https" || (url.scheme() == "http" && (here || CONTAINERS.contains(&host)))).then_some(url)
}

/// A secret of the login itself, out of a store on this host.
async fn one(source: &str, key: &str, reference: &SecretRef) -> Result<Secret, SecretError> {
    let offers = Box::pin(fetch(reference))
        .await
        .map_err(|error| error.reworded(|why| format!("{source}: the login at AWS: {key}: {why}")))?;
    let first = offers.into_iter().next().map(|offer| offer.secret);
    first.ok_or_else(|| SecretError::Empty(format!("{source}: the login at AWS: {key} is empty")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_in_the_clear_to_this_host_and_its_agents_only() {
        for text in
            ["http://169.254.170.2/x", "http://[fd00:ec2::23]/v1", "http://127.0.0.1:8/x", "https://a.example/x"]
        {
            assert!(container_url(text).is_some(), "{text}");
        }
        for text in ["http://10.0.0.1/x", "http://169.254.170.2.example/x", "ftp://127.0.0.1/x", "x"] {
            assert!(container_url(text).is_none(), "{text}");
        }
    }
}
