//! The generic webhook: the incident as JSON, with the headers of Standard Webhooks 1.0.0.
//!
//! The signed text is `{id}.{timestamp}.{body}`, so an id must hold no `.`, and the timestamp is that of the attempt: a
//! receiver refuses old ones. While a signing secret rotates, each value that the store offers signs, and the receiver
//! takes whichever it knows.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Unready, Verdict, http, render};
use crate::model::Timestamp;
use crate::model::incident::Notice;
use crate::secrets::{Offer, SecretRef};

#[derive(Clone, Debug)]
pub struct Webhook {
    pub(super) url: SecretRef,
    pub(super) secret: Option<SecretRef>,
    pub(super) timeout: Duration,
}

impl Webhook {
    pub(super) async fn send(&self, delivery_key: &str, notice: &Notice, now: Timestamp) -> Verdict {
        match self.attempt(delivery_key, notice, now).await {
            Ok(answer) => http::judge(&answer),
            Err(verdict) => verdict,
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), Unready> {
        http::url(&http::newest(&self.url).await?)?;
        if let Some(reference) = &self.secret {
            http::offers(reference).await?.iter().try_for_each(|offer| key(offer).map(drop))?;
        }
        Ok(())
    }

    async fn attempt(&self, delivery_key: &str, notice: &Notice, now: Timestamp) -> Result<http::Answer, Verdict> {
        let url = http::url(&http::newest(&self.url).await?)?;
        let body = render::report(notice).to_string();
        let id = delivery_key.replace('.', "-");
        let seconds = now.0.div_euclid(1_000_000);
        let mut headers = HeaderMap::new();
        put(&mut headers, "webhook-id", &id)?;
        put(&mut headers, "webhook-timestamp", &seconds.to_string())?;
        if let Some(reference) = &self.secret {
            let mut signatures = Vec::new();
            for offer in http::offers(reference).await? {
                signatures.push(sign(&key(&offer)?, &id, seconds, &body)?);
            }
            put(&mut headers, "webhook-signature", &signatures.join(" "))?;
        }
        http::post(&url, headers, body, self.timeout, now).await
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), Verdict> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| Verdict::Rejected(format!("the value of {name} cannot stand in a header")))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// What Standard Webhooks asks of a signing secret, which also tells a password that happens to be base64 from one.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The bytes of a signing secret: base64, with or without the prefix `whsec_`.
fn key(offer: &Offer) -> Result<Zeroizing<Vec<u8>>, Unready> {
    let text = offer.secret.expose().trim();
    let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).map(Zeroizing::new);
    match key {
        Ok(key) if KEY_BYTES.contains(&key.len()) => Ok(key),
        _ => Err(Unready::Shape(format!(
            "{} does not hold a signing secret: whsec_ and the base64 of 24 to 64 random bytes, as from: \
             echo whsec_$(openssl rand -base64 32)",
            offer.source
        ))),
    }
}

fn sign(key: &[u8], id: &str, seconds: i64, body: &str) -> Result<String, Verdict> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|_| Verdict::Rejected("the signing secret has a length that cannot be used".to_owned()))?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    fn offer(text: &str) -> Offer {
        Offer {
            source: "file:/key".to_owned(),
            version: String::new(),
            user: None,
            secret: Secret::new(text),
            changed: None,
        }
    }

    /// The test vector of the reference libraries of Standard Webhooks.
    #[test]
    fn signatures_are_those_of_the_reference() {
        for text in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"] {
            let key = key(&offer(text)).unwrap();
            let body = r#"{"test": 2432232314}"#;
            let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
            assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        }
    }

    #[test]
    fn what_is_no_signing_secret_is_named_by_its_place_only() {
        for text in ["whsec_", "canary with spaces", "whsec_canary!"] {
            let said = key(&offer(text)).unwrap_err().to_string();
            assert!(said.contains("file:/key") && !said.contains("canary"), "{said}");
        }
    }
}
