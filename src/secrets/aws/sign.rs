//! Signature Version 4, for the one form of request that is sent: POST / without a query. Pure; the test's figures come
//! from AWS's published suite and from botocore, and the live tests have botocore check each signature.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::super::Secret;

/// An access key. Its `Debug` shows the id alone, which is no secret.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Keys {
    pub id: String,
    pub secret: Secret,
    /// With temporary keys.
    pub token: Option<Secret>,
}

impl Keys {
    pub fn is_temporary(&self) -> bool {
        self.token.is_some()
    }
}

/// When and for what a signature is good.
pub(super) struct Scope<'a> {
    /// `20150830T123600Z`.
    pub stamp: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// The `Authorization` header. `headers`: all that are signed, by lower-case name, sorted; `host` and `x-amz-date` are
/// among them.
pub(super) fn authorization(keys: &Keys, scope: &Scope<'_>, headers: &[(&str, &str)], body: &[u8]) -> String {
    let Scope { stamp, region, service } = scope;
    let day = stamp.split('T').next().unwrap_or_default();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut request = Zeroizing::new("POST\n/\n\n".to_owned());
    for (name, value) in headers {
        request.push_str(name);
        request.push(':');
        request.push_str(value.trim());
        request.push('\n');
    }
    request.push('\n');
    request.push_str(&names);
    request.push('\n');
    request.push_str(&hex(&Sha256::digest(body)));
    let within = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{within}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let first = Zeroizing::new(format!("AWS4{}", keys.secret.expose()));
    let mut key = Zeroizing::new(first.as_bytes().to_vec());
    for part in [day, region, service, "aws4_request"] {
        key = Zeroizing::new(keyed(&key, part));
    }
    let signature = hex(&keyed(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{within}, SignedHeaders={names}, Signature={signature}", keys.id)
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    // An HMAC takes a key of any length: the error cannot be.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { stamp: "20150830T123600Z", region: "us-east-1", service: "service" };

    fn keys(token: Option<&str>) -> Keys {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        Keys { id: "AKIDEXAMPLE".to_owned(), secret, token: token.map(Secret::new) }
    }

    fn signature(header: &str) -> &str {
        header.rsplit('=').next().unwrap()
    }

    #[test]
    fn a_signature_is_what_aws_publishes_and_botocore_makes() {
        // aws-sig-v4-test-suite, post-vanilla.
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", SCOPE.stamp)];
        let header = authorization(&keys(None), &SCOPE, &headers, b"");
        let begins = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=";
        assert!(header.starts_with(begins), "{header}");
        assert_eq!(signature(&header), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");

        // botocore 1.44.8, SigV4Auth, with a body, a token and a target.
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("host", "secretsmanager.eu-central-1.amazonaws.com"),
            ("x-amz-date", SCOPE.stamp),
            ("x-amz-security-token", "a-token=="),
            ("x-amz-target", "secretsmanager.GetSecretValue"),
        ];
        let scope = Scope { region: "eu-central-1", service: "secretsmanager", ..SCOPE };
        let header = authorization(&keys(Some("a-token==")), &scope, &headers, br#"{"SecretId":"redis"}"#);
        assert_eq!(signature(&header), "7e96162ada4f53d343ad40b84bf407a6a278bd4bd50cf57802518927806b7ed6");
    }
}
