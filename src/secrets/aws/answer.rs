//! What Secrets Manager answered, read: pure. Shapes and error codes as in the service's published model (2017-10-17);
//! the codes of refused logins, which the model does not list, as AWS's common errors name them. Of an error's text only
//! the ARN of who was refused is ever shown.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::fields::{FIELD, Field, Fields, is_word};
use super::super::http::Answer;
use super::super::value::{UNVERSIONED, offers};
use super::super::{Offer, SecretError};
use super::AwsPlace;
use super::login::Access;
use crate::model::Timestamp;

/// Why there is no offer.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: SecretError,
    /// It is the access key that is not taken: another one may be.
    pub login_is_dead: bool,
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Failure {
        Failure { error, login_is_dead: false }
    }
}

/// GetSecretValue's answer.
#[derive(Deserialize)]
pub(super) struct Found {
    #[serde(rename = "VersionId")]
    version: Option<String>,
    #[serde(rename = "SecretString")]
    text: Option<Field>,
    #[serde(rename = "SecretBinary")]
    binary: Option<IgnoredAny>,
    /// Seconds since the epoch.
    #[serde(rename = "CreatedDate")]
    created: Option<f64>,
}

#[derive(Deserialize)]
struct Errored {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Errored {
    /// The service answers in JSON; what stands before it, which judges the signature, may answer in XML.
    fn of(body: &[u8]) -> Option<Errored> {
        if let Ok(errored) = serde_json::from_slice(body) {
            return Some(errored);
        }
        let text = std::str::from_utf8(body).ok()?;
        let message = element(text, "Message").unwrap_or_default().to_owned();
        Some(Errored { code: element(text, "Code")?.to_owned(), message })
    }
}

/// The text of the first element of that name, where it needs no unescaping: keys, tokens, times and codes do not.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.split_once(&format!("<{name}>"))?.1;
    let inner = rest.split_once(&format!("</{name}>"))?.0.trim();
    (!inner.is_empty() && !inner.contains(['<', '&'])).then_some(inner)
}

pub(super) fn secret(source: &str, place: &AwsPlace, access: &Access, answer: &Answer) -> Result<Found, Failure> {
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body).map_err(|_| unlike(source, access, answer.status).into());
    }
    let Some(Errored { code, message }) = Errored::of(&answer.body) else {
        return Err(match answer.status {
            429 => throttled(source),
            500..=599 => away(source, answer.status),
            status => unlike(source, access, status),
        }
        .into());
    };
    // Some are written with the namespace of the service before a `#`.
    let code = code.rsplit('#').next().unwrap_or_default();
    let name = &place.name;
    let (from, region) = (&access.from, &access.region);
    Err(match code {
        "AccessDeniedException" | "AccessDenied" if message.contains("KMS") => SecretError::Denied(format!(
            "{source}: AWS lets {} read the secret and not use its KMS key; allow it kms:Decrypt on that key",
            principal(&message).unwrap_or(from)
        ))
        .into(),
        "AccessDeniedException" | "AccessDenied" => SecretError::Denied(format!(
            "{source}: AWS denies this to {}; its policy needs secretsmanager:GetSecretValue on {name}",
            principal(&message).unwrap_or(from)
        ))
        .into(),
        "ResourceNotFoundException" => SecretError::NotFound(format!(
            "{source}: Secrets Manager in {region} has no such secret, or no current value in it; write it, or correct the \
             name or [store.aws] region"
        ))
        .into(),
        "InvalidRequestException" if message.contains("delet") => SecretError::Deleted(format!(
            "{source}: the secret is marked for deletion in AWS; what it held is not used. Restore it (aws secretsmanager \
             restore-secret), or name another"
        ))
        .into(),
        "DecryptionFailure" => SecretError::Failed(format!(
            "{source}: Secrets Manager cannot decrypt the secret: its KMS key is disabled, or about to be deleted"
        ))
        .into(),
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            throttled(source).into()
        }
        "InvalidParameterException" | "ValidationException" => SecretError::Malformed(format!(
            "{source}: Secrets Manager takes this for no name of a secret; correct the reference"
        ))
        .into(),
        _ if is_of_the_login(code) => Failure { error: login(source, code, &message, from), login_is_dead: true },
        _ if answer.status >= 500 => away(source, answer.status).into(),
        _ => {
            let shown = if is_word(code) { code } else { "another error" };
            SecretError::Failed(format!(
                "{source}: Secrets Manager refuses (HTTP {}, {shown}); the secret's page in AWS may say why",
                answer.status
            ))
            .into()
        }
    })
}

fn is_of_the_login(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "RequestExpired"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "OptInRequired"
            | "NotAuthorized"
    )
}

fn login(source: &str, code: &str, message: &str, from: &str) -> SecretError {
    // "Signature expired: … is now earlier than …", "Signature not yet current: …".
    let by_the_clock = message.contains("Signature expired") || message.contains("not yet current");
    let why = match code {
        _ if by_the_clock || code == "RequestExpired" => {
            "the time of this host differs from AWS's by more than 5 minutes; set its clock"
        }
        "ExpiredTokenException" | "ExpiredToken" => "the session token has ended; put a new one there",
        "InvalidSignatureException" | "SignatureDoesNotMatch" => "the secret access key does not belong to the key id",
        "OptInRequired" => "the account has not turned this region on",
        _ => {
            "AWS does not know the access key: it was deleted, is for another partition, or its region is not turned on"
        }
    };
    SecretError::Denied(format!("{source}: the login at AWS with {from}: refused ({code}): {why}"))
}

/// Who was refused: `User: ARN is not authorized to perform: …`.
fn principal(message: &str) -> Option<&str> {
    let arn = message.strip_prefix("User: ")?.split(' ').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/_+=,.@-".contains(c);
    (arn.starts_with("arn:") && arn.len() <= 256 && arn.chars().all(plain)).then_some(arn)
}

fn throttled(source: &str) -> SecretError {
    SecretError::Unreachable(format!("{source}: AWS limits requests to Secrets Manager; it is asked again later"))
}

fn away(source: &str, status: u16) -> SecretError {
    SecretError::Unreachable(format!("{source}: Secrets Manager cannot answer now (HTTP {status})"))
}

fn unlike(source: &str, access: &Access, status: u16) -> SecretError {
    SecretError::Malformed(format!(
        "{source}: HTTP {status} with an answer that is not one of Secrets Manager; is {} its address?",
        access.address
    ))
}

impl Found {
    pub fn offers(self, source: &str, field: Option<&str>) -> Result<Vec<Offer>, SecretError> {
        let text = match self.text {
            Some(Field(Some(text))) => text,
            _ if self.binary.is_some() => {
                return Err(SecretError::Malformed(format!(
                    "{source}: a binary secret, and a password is text; store it with --secret-string"
                )));
            }
            _ => return Err(SecretError::Malformed(format!("{source}: AWS answers without a value"))),
        };
        let version = self.version.filter(|id| !id.is_empty() && is_word(id)).unwrap_or(UNVERSIONED.to_owned());
        let created = self.created.and_then(|at| jiff::Timestamp::from_millisecond((at * 1000.0) as i64).ok());
        let text = text.expose();
        match (serde_json::from_str::<Fields>(text), field) {
            (Ok(fields), field) => fields.offers(source, &version, field.unwrap_or(FIELD), created),
            (Err(_), Some(_)) => Err(SecretError::Malformed(format!(
                "{source}: the secret is no whole JSON object, so it has no fields; if all of it is the password, leave \
                 #FIELD out"
            ))),
            (Err(_), None) if text.trim_start().starts_with('{') => Err(SecretError::Malformed(format!(
                "{source}: the secret begins like a JSON object and is none, or is cut short; it is not used as it stands"
            ))),
            (Err(_), None) => {
                let password = text.strip_suffix('\n').unwrap_or(text).to_owned();
                let mut all = offers(source, &version, None, password, None)?;
                all.iter_mut().for_each(|offer| offer.changed = created.map(|at| Timestamp(at.as_microsecond())));
                Ok(all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;
    use crate::secrets::aws::sign::Keys;
    use zeroize::Zeroizing;

    /// Offers as `version user value`, an error as its kind and whether the login is dead.
    fn told(reference: &str, status: u16, body: &str) -> String {
        let place = AwsPlace::parse(reference).unwrap();
        let access = Access {
            keys: Keys { id: "AKIA".to_owned(), secret: Secret::new("canary"), token: None },
            from: "the profile \"x\"".to_owned(),
            region: "eu-central-1".to_owned(),
            address: "https://x".to_owned(),
            client: crate::secrets::http::builder().build().unwrap(),
        };
        let answer = Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()) };
        let read = secret("aws:x", &place, &access, &answer)
            .and_then(|found| found.offers("aws:x", place.field.as_deref()).map_err(Failure::from));
        match read {
            Ok(offers) => offers
                .iter()
                .map(|o| format!("{} {} {}", o.version, o.user.as_deref().unwrap_or("-"), o.secret.expose()))
                .collect::<Vec<_>>()
                .join("; "),
            Err(Failure { error, login_is_dead }) => {
                let said = format!("{error:?}");
                assert!(!said.contains("canary"), "{said}");
                let kind = said.split('(').next().unwrap_or_default();
                format!("{kind}{}", if login_is_dead { ", dead" } else { "" })
            }
        }
    }

    fn holds(text: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"ARN":"a","VersionId":"v-1","SecretString":{text},"CreatedDate":1523477145.713}}"#)
    }

    #[test]
    fn a_whole_value_or_a_field_is_offered_and_what_is_cut_short_is_not() {
        let table = [
            ("x", holds("canary"), "v-1 - canary"),
            ("x", holds("canary\n"), "v-1 - canary"),
            ("x", holds(r#"{"password":"canary","username":"repl"}"#), "v-1 repl canary"),
            ("x#f", holds(r#"{"f":"canary2","previous":"canary1"}"#), "v-1 - canary2; before v-1 - canary1"),
            ("x#f", holds(r#"{"g":"canary"}"#), "NotFound"),
            ("x", holds(r#"{"masterauth":"canary"}"#), "NotFound"),
            ("x#f", holds(r#"{"f":5}"#), "Malformed"),
            ("x#f", holds(r#"{"f":""}"#), "Empty"),
            ("x#f", holds("canary"), "Malformed"),
            ("x#f", holds(r#"{"f":"canary"#), "Malformed"),
            ("x", holds(r#"{"password":"canary"#), "Malformed"),
            ("x", holds(""), "Empty"),
            ("x", holds(" \n"), "Empty"),
            ("x", holds("can\nary"), "Malformed"),
            ("x", r#"{"VersionId":"v-1","SecretBinary":"Y2FuYXJ5"}"#.to_owned(), "Malformed"),
            ("x", r#"{"VersionId":"v-1"}"#.to_owned(), "Malformed"),
            ("x", r#"{"SecretString":"canary""#.to_owned(), "Malformed"),
            ("x", "<html>canary</html>".to_owned(), "Malformed"),
            ("x", String::new(), "Malformed"),
        ];
        for (reference, body, expected) in table {
            assert_eq!(told(reference, 200, &body), expected, "{reference} {body}");
        }
    }

    #[test]
    fn denied_missing_deleted_throttled_and_a_dead_login_are_told_apart() {
        let says = |code: &str, message: &str| format!(r#"{{"__type":"{code}","Message":"{message}"}}"#);
        let marked = "You can't perform this operation on the secret because it was marked for deletion.";
        let table = [
            (400, says("AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized canary"), "Denied"),
            (400, says("AccessDeniedException", "Access to KMS is not allowed canary"), "Denied"),
            (400, says("ResourceNotFoundException", "canary"), "NotFound"),
            (400, says("com.amazonaws.x#ResourceNotFoundException", "canary"), "NotFound"),
            (400, says("InvalidRequestException", marked), "Deleted"),
            (400, says("InvalidRequestException", "canary"), "Failed"),
            (400, says("DecryptionFailure", "canary"), "Failed"),
            (400, says("ThrottlingException", "Rate exceeded"), "Unreachable"),
            (400, says("ValidationException", "canary"), "Malformed"),
            (400, says("UnrecognizedClientException", "canary"), "Denied, dead"),
            (400, says("ExpiredTokenException", "canary"), "Denied, dead"),
            (403, says("InvalidSignatureException", "Signature expired: canary"), "Denied, dead"),
            (403, "<Errors><Error><Code>SignatureDoesNotMatch</Code></Error></Errors>".to_owned(), "Denied, dead"),
            (500, says("InternalServiceError", "canary"), "Unreachable"),
            (400, says("Some canary thing", "canary"), "Failed"),
            (429, "canary".to_owned(), "Unreachable"),
            (503, "<html>canary".to_owned(), "Unreachable"),
            (404, "<html>canary".to_owned(), "Malformed"),
            (302, String::new(), "Malformed"),
        ];
        for (status, body, expected) in table {
            assert_eq!(told("x", status, &body), expected, "{status} {body}");
        }
        let who = "User: arn:aws:sts::123456789012:assumed-role/db/i-0abc is not authorized to perform: x";
        assert_eq!(principal(who), Some("arn:aws:sts::123456789012:assumed-role/db/i-0abc"));
        assert_eq!(principal("User: can ary is not"), None);
    }
}
