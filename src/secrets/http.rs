//! One question over HTTP to a store that keeps secrets. Nothing of a URL is part of an error, and a body is wiped.

use std::time::Duration;

use reqwest::{ClientBuilder, RequestBuilder, Url};
use zeroize::Zeroizing;

use crate::model::tame;

/// More than this is no answer of ours to read: 1 MiB, the largest secret that Vault stores by default.
const ANSWER_BYTES: usize = 1 << 20;

pub(super) struct Answer {
    pub status: u16,
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
pub(super) enum Lost {
    TooLarge,
    /// In a few words, without the place.
    Away(String),
}

pub(super) async fn ask(request: RequestBuilder) -> Result<Answer, Lost> {
    let away = |error: reqwest::Error| {
        let stage = if error.is_connect() { "no connection" } else { "no answer" };
        Lost::Away(format!("{stage}: {}", innermost(error)))
    };
    let mut response = request.send().await.map_err(away)?;
    let status = response.status().as_u16();
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(Lost::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

pub(super) fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    tame(&inner.to_string(), 200)
}

/// What every client of a store keeps to.
pub(super) fn builder() -> ClientBuilder {
    // Fails when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("relinkd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(1)
        // For the questions of one fetch. A connection that was kept longer may be found dead.
        .pool_idle_timeout(Duration::from_secs(1))
}

/// An address to send secrets to: HTTPS, or in the clear to this host only, since a token that goes over the network in
/// the clear is everybody's. Nothing but scheme, host and port. None: any other.
pub fn safe_address(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let scheme_fits = url.scheme() == "https" || (url.scheme() == "http" && here);
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.path() == "/";
    let fits = scheme_fits && bare && url.fragment().is_none() && !host.is_empty();
    fits.then(|| text.trim_end_matches('/').to_owned())
}
