//! One POST: bounded in time and in what is read, with no redirect followed, and with the URL kept out of every word.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};

use super::{Unready, Verdict};
use crate::model::{Timestamp, tame};
use crate::secrets::{Offer, SecretError, SecretRef, fetch};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read of an answer. The rest is left unread.
const ANSWER_BYTES: usize = 4096;

/// The longest `Retry-After` that is honoured. A receiver that names a week would make us mute.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// An answer as far as it was read.
pub(super) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Sends `body` as JSON. The error is a verdict already.
pub(super) async fn post(
    url: &Url,
    headers: HeaderMap,
    body: String,
    timeout: Duration,
    now: Timestamp,
) -> Result<Answer, Verdict> {
    let request = client(url)?
        .post(url.clone())
        .header(CONTENT_TYPE, "application/json")
        .headers(headers)
        .body(body)
        .timeout(timeout);
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?, now));
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend(chunk.iter().take(ANSWER_BYTES - body.len())),
            Ok(None) => break,
            // The status has arrived, and it is what counts.
            Err(_) => break,
        }
    }
    Ok(Answer { status, retry_after, body })
}

/// The newest value of a reference.
pub(super) async fn newest(reference: &SecretRef) -> Result<Offer, Unready> {
    let nothing = || {
        let why = format!("{} holds nothing", reference.source());
        Unready::Secret(reference.clone(), SecretError::Empty(why))
    };
    offers(reference).await?.into_iter().next().ok_or_else(nothing)
}

/// All values of a reference, the newest first.
pub(super) async fn offers(reference: &SecretRef) -> Result<Vec<Offer>, Unready> {
    fetch(reference).await.map_err(|error| Unready::Secret(reference.clone(), error))
}

/// The value as a URL. The parser's error is not shown: what it quotes may be the secret.
pub(super) fn url(offer: &Offer) -> Result<Url, Unready> {
    let wrong = || Unready::Shape(format!("{} does not hold a URL that begins with https:// or http://", offer.source));
    let url = Url::parse(offer.secret.expose().trim()).map_err(|_| wrong())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong()),
    }
}

/// What a status means, where 2xx has been dealt with. Nothing of the answer's body is shown here: a receiver may echo
/// the path that it was asked for.
pub(super) fn judge(answer: &Answer) -> Verdict {
    let status = answer.status;
    let said = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    };
    match status.as_u16() {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Disabled(format!("{said}: the receiver wants no more messages")),
        408 | 425 | 429 | 500..=599 => Verdict::Retry { after: answer.retry_after, why: said },
        300..=399 => Verdict::Rejected(format!("{said}: redirects are not followed; put the final URL in")),
        _ => Verdict::Rejected(said),
    }
}

fn retry(why: String) -> Verdict {
    Verdict::Retry { after: None, why }
}

/// `Retry-After`, as seconds or as a date (RFC 9110, 10.2.3).
fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            Timestamp(at.as_microsecond()).since(now)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// No answer came. The innermost cause says why in the fewest words.
fn lost(error: reqwest::Error) -> Verdict {
    let error = error.without_url();
    if error.is_timeout() {
        return retry(match error.is_connect() {
            true => "no connection in time".to_owned(),
            false => "no answer in time".to_owned(),
        });
    }
    let stage = if error.is_connect() { "no connection" } else { "no answer" };
    retry(format!("{stage}: {}", innermost(&error)))
}

fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    tame(&error.to_string(), 200)
}

/// Made at the first message. One client for each scheme: that for `https` loads the system's certificate authorities
/// and cannot be made without any, which is no reason to keep a message from a receiver on plain `http`.
///
/// No connection is kept: messages are rare, and a kept one is often found dead when the next message is due.
fn client(url: &Url) -> Result<&'static Client, Verdict> {
    static PLAIN: OnceLock<Client> = OnceLock::new();
    static TLS: OnceLock<Client> = OnceLock::new();
    let tls = url.scheme() == "https";
    let cell = if tls { &TLS } else { &PLAIN };
    if let Some(client) = cell.get() {
        return Ok(client);
    }
    // Fails when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("relinkd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(0);
    // A proxy from the environment is for the way out; what is sent in the clear stays inside.
    let made = if tls { builder.build() } else { builder.tls_certs_only([]).no_proxy().build() };
    let made =
        made.map_err(|error| retry(format!("no HTTP client can be made: {}", innermost(&error.without_url()))))?;
    Ok(cell.get_or_init(|| made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_capped() {
        let now = Timestamp::from_millis(1_445_412_420_000);
        let seconds = |value| wait(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(seconds("Tue, 20 Oct 2015 07:28:00 GMT"), Some(0), "a date gone by is no wait");
        assert_eq!(seconds("999999999999"), Some(3600));
        assert_eq!(seconds("Wed, 21 Oct 2065 07:28:00 GMT"), Some(3600));
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_no_url_is_named_by_its_place_only() {
        for text in ["canary", "ftp://canary", "http:", "file:///canary", "https://"] {
            let offer = Offer {
                source: "file:/etc/relinkd/hook".to_owned(),
                version: String::new(),
                user: None,
                secret: crate::secrets::Secret::new(text),
                changed: None,
            };
            let said = url(&offer).unwrap_err().to_string();
            assert!(said.contains("file:/etc/relinkd/hook") && !said.contains("canary"), "{said}");
        }
    }
}
