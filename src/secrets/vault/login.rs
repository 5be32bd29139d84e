//! The login: one token for all references, renewed at half of its life, made anew when it cannot be renewed any more.
//! A login that was refused is not repeated at once: Vault locks users out, and a secret_id may have few uses.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::super::http::Answer;
use super::super::{Offer, Secret, SecretError, SecretRef, fetch};
use super::http::{Server, says};
use super::{Vault, VaultLogin};

/// How long a refused login stands.
const REFUSED: Duration = Duration::from_secs(10);

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Session {
    /// Logged in.
    server: Option<Server>,
    life: Life,
    refused: Option<(Instant, SecretError)>,
}

/// How long a token lives. Nothing is set for one that never ends, or whose end is not ours to know.
#[derive(Clone, Copy, Default)]
struct Life {
    /// As granted at the login.
    granted: Duration,
    ends: Option<Instant>,
    renew_at: Option<Instant>,
}

impl Life {
    fn of(lease_s: u64, renewable: bool) -> Life {
        let (granted, now) = (Duration::from_secs(lease_s), Instant::now());
        if lease_s == 0 {
            return Life::default();
        }
        Life { granted, ends: Some(now + granted), renew_at: renewable.then(|| now + granted / 2) }
    }

    /// Over, or so close to it that a request might come too late.
    fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| Instant::now() + self.granted / 20 >= ends)
    }

    fn wants_renewal(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }
}

/// `auth` of a login or a renewal.
#[derive(Deserialize)]
struct Granted {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Looked {
    data: Itself,
}

#[derive(Deserialize)]
struct Itself {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Vault {
    /// The server with a token that lives.
    pub(super) async fn server(&self, source: &str) -> Result<Server, SecretError> {
        let mut session = self.session.lock().await;
        if let VaultLogin::Token(reference) = &self.settings.login {
            let token = self.one(source, "token", reference).await?;
            if session.server.as_ref().is_none_or(|server| !server.has(&token)) {
                let server = Server::new(source, &self.settings)?.with(token);
                session.life = life_of(source, &server).await?;
                session.server = Some(server);
            } else if let Some(server) = session.server.clone().filter(|_| session.life.is_over()) {
                // Whoever keeps the token may have renewed it. If nobody did, Vault says so at the next question.
                session.life = life_of(source, &server).await?;
            }
        }
        if let Some(server) = session.server.clone() {
            if session.life.wants_renewal() {
                self.renew(source, &server, &mut session).await;
            }
            let kept_by_others = matches!(self.settings.login, VaultLogin::Token(_));
            if kept_by_others || (!session.life.is_over() && session.server.is_some()) {
                return Ok(server);
            }
        }
        self.log_in(source, &mut session).await
    }

    /// After a refusal: a new login where the token itself is dead; none where it lives, so that it was the path that is
    /// denied.
    pub(super) async fn login_again(&self, source: &str, refused: &Server) -> Result<Option<Server>, SecretError> {
        let itself = refused.get(source, "auth/token/lookup-self", None).await?;
        if itself.status != 403 {
            return Ok(None);
        }
        if matches!(self.settings.login, VaultLogin::Token(_)) {
            return Err(SecretError::Denied(format!(
                "{source}: Vault does not take the token of [store.vault]: it has ended or was revoked; put a new one \
                 there"
            )));
        }
        let mut session = self.session.lock().await;
        // Another fetch may have been here first.
        match &session.server {
            Some(server) if !server.same_login(refused) => Ok(Some(server.clone())),
            _ => self.log_in(source, &mut session).await.map(Some),
        }
    }

    async fn renew(&self, source: &str, server: &Server, session: &mut Session) {
        let granted = session.life.granted;
        session.life.renew_at = Some(Instant::now() + RETRY.min(granted / 4));
        let Ok(answer) = server.post(source, "auth/token/renew-self", &json!({})).await else { return };
        match (answer.status, serde_json::from_slice::<Granted>(&answer.body)) {
            (200, Ok(Granted { auth })) => {
                let life = Life::of(auth.lease_duration, auth.renewable);
                // Its longest life is near: a new login gives a whole one.
                if life.granted < granted / 2 && !matches!(self.settings.login, VaultLogin::Token(_)) {
                    session.server = None;
                } else {
                    session.life = Life { granted, ..life };
                }
            }
            (403, _) if !matches!(self.settings.login, VaultLogin::Token(_)) => session.server = None,
            _ => {}
        }
    }

    async fn log_in(&self, source: &str, session: &mut Session) -> Result<Server, SecretError> {
        if let Some((at, error)) = &session.refused
            && at.elapsed() < REFUSED
        {
            return Err(error.clone());
        }
        session.server = None;
        match self.granted(source).await {
            Ok((server, life)) => {
                (session.life, session.refused) = (life, None);
                session.server = Some(server.clone());
                Ok(server)
            }
            Err(error) => {
                if matches!(error, SecretError::Denied(_) | SecretError::Malformed(_)) {
                    session.refused = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }

    async fn granted(&self, source: &str) -> Result<(Server, Life), SecretError> {
        let server = Server::new(source, &self.settings)?;
        let (section, mount, body) = match &self.settings.login {
            VaultLogin::Token(_) => ("token", "token", json!({})),
            VaultLogin::AppRole { mount, role_id, secret_id } => {
                let secret_id = self.one(source, "approle.secret_id", secret_id).await?;
                ("approle", mount.as_str(), json!({ "role_id": role_id, "secret_id": secret_id.expose() }))
            }
            VaultLogin::Kubernetes { mount, role, jwt } => {
                let jwt = self.one(source, "kubernetes.jwt", jwt).await?;
                ("kubernetes", mount.as_str(), json!({ "role": role, "jwt": jwt.expose() }))
            }
            VaultLogin::Certificate { mount, role: Some(role), .. } => {
                ("certificate", mount.as_str(), json!({ "name": role }))
            }
            VaultLogin::Certificate { mount, role: None, .. } => ("certificate", mount.as_str(), json!({})),
        };
        let answer = server.post(source, &format!("auth/{mount}/login"), &body).await?;
        match (answer.status, serde_json::from_slice::<Granted>(&answer.body)) {
            (200, Ok(Granted { auth })) => {
                let life = Life::of(auth.lease_duration, auth.renewable);
                Ok((server.with(Secret::new(auth.client_token)), life))
            }
            _ => Err(refusal(source, section, mount, &answer)),
        }
    }

    /// A secret of the login itself, out of a store on this host.
    async fn one(&self, source: &str, key: &str, reference: &SecretRef) -> Result<Secret, SecretError> {
        let offers = Box::pin(fetch(reference)).await.map_err(|error| {
            error.reworded(|why| format!("{source}: the login at Vault: [store.vault] {key}: {why}"))
        })?;
        let first: Option<Offer> = offers.into_iter().next();
        first
            .map(|offer| offer.secret)
            .ok_or_else(|| SecretError::Empty(format!("{source}: [store.vault] {key} is empty")))
    }
}

/// How long a token lives that somebody else made. One that may not look at itself is used as it is.
async fn life_of(source: &str, server: &Server) -> Result<Life, SecretError> {
    let answer = server.get(source, "auth/token/lookup-self", None).await?;
    Ok(match serde_json::from_slice::<Looked>(&answer.body) {
        Ok(Looked { data }) if answer.status == 200 => Life::of(data.ttl, data.renewable),
        _ => Life::default(),
    })
}

fn refusal(source: &str, section: &str, mount: &str, answer: &Answer) -> SecretError {
    let place = format!("{source}: the login at Vault, auth/{mount} ([store.vault.{section}])");
    if answer.status == 404 || says(answer, "no handler for route") {
        return SecretError::NotFound(format!("{place}: no such auth method is enabled there, or in this namespace"));
    }
    let what = match section {
        "approle" => "the role_id is wrong, or the secret_id is wrong, used up or over",
        "kubernetes" => {
            "the service account or its namespace is not bound to this role, or Vault cannot review its token"
        }
        "certificate" => "no certificate was shown that this role takes",
        _ => "it was refused",
    };
    match answer.status {
        400..=499 => SecretError::Denied(format!("{place}: refused (HTTP {}): {what}", answer.status)),
        status => {
            SecretError::Malformed(format!("{place}: HTTP {status} with an answer that is no login; is this Vault?"))
        }
    }
}
