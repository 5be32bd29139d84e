//! The questions over HTTP: to Secrets Manager, and to those who hand out temporary keys: an instance's metadata service
//! (version 2 only), a container's endpoint, and STS for a web identity. Shapes as AWS documents them for its SDKs.

use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;

use super::super::fields::{Field, is_word};
use super::super::http::{Answer, Lost, ask};
use super::super::{Secret, SecretError};
use super::AwsPlace;
use super::answer::element;
use super::login::{Access, Temporary};
use super::sign::{Keys, Scope, authorization};

/// Where AWS's endpoints of a region are: the partitions of botocore 1.44.8.
pub(super) fn domain(region: &str) -> &'static str {
    const OTHERS: &[(&str, &str)] = &[
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
    ];
    OTHERS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("amazonaws.com", |(_, domain)| domain)
}

pub(super) async fn secret_value(
    source: &str,
    place: &AwsPlace,
    access: &Access,
    stage: &str,
) -> Result<Answer, SecretError> {
    let address = &access.address;
    let url = Url::parse(address).map_err(|_| SecretError::Malformed(format!("{source}: {address} is no URL")))?;
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
    let body = json!({ "SecretId": place.name, "VersionStage": stage }).to_string();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let token = access.keys.token.as_ref().map(Secret::expose);
    let mut headers = vec![("content-type", "application/x-amz-json-1.1"), ("host", &host), ("x-amz-date", &stamp)];
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    headers.push(("x-amz-target", "secretsmanager.GetSecretValue"));
    let scope = Scope { stamp: &stamp, region: &access.region, service: "secretsmanager" };
    let signed = authorization(&access.keys, &scope, &headers, body.as_bytes());
    let mut request = access.client.post(url).body(body);
    headers.push(("authorization", &signed));
    for (name, text) in headers.into_iter().filter(|(name, _)| *name != "host") {
        request = request.header(name, header(source, text)?);
    }
    ask(request).await.map_err(|lost| match lost {
        Lost::TooLarge => SecretError::TooLarge(format!("{source}: AWS answers with more than 1 MiB")),
        Lost::Away(why) => SecretError::Unreachable(format!("{source}: Secrets Manager at {address}: {why}")),
    })
}

fn header(source: &str, text: &str) -> Result<HeaderValue, SecretError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        SecretError::Malformed(format!("{source}: the login at AWS has characters that no key or token has"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Keys as metadata services hand them out.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Handed {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Field>,
    token: Option<Field>,
    expiration: Option<String>,
}

fn handed(source: &str, from: String, answer: &Answer) -> Result<Temporary, SecretError> {
    let handed = serde_json::from_slice::<Handed>(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(handed) = handed else {
        return Err(SecretError::Malformed(format!(
            "{source}: the login at AWS: {from} answers with HTTP {} and hands out no keys",
            answer.status
        )));
    };
    match handed {
        Handed {
            access_key_id: Some(id),
            secret_access_key: Some(Field(Some(secret))),
            token: Some(Field(token @ Some(_))),
            expiration,
            ..
        } => Ok(Temporary {
            keys: Keys { id, secret, token },
            from,
            ends: expiration.and_then(|text| text.parse().ok()),
        }),
        Handed { code, .. } => Err(SecretError::Denied(format!(
            "{source}: the login at AWS: {from} hands out no keys{}",
            code.filter(|code| is_word(code)).map_or(String::new(), |code| format!(": {code}"))
        ))),
    }
}

/// The role of an EC2 instance. None: nobody answers there, so this is no instance.
pub(super) async fn from_instance(source: &str, near: &Client, base: &str) -> Result<Option<Temporary>, SecretError> {
    let Some(token) = session(source, near, base).await? else { return Ok(None) };
    let what = "the instance's metadata service";
    let path = "latest/meta-data/iam/security-credentials/";
    let named = metadata(source, near, base, path, &token).await?;
    let role = std::str::from_utf8(&named.body).unwrap_or_default().lines().next().unwrap_or_default().trim();
    if named.status == 404 || (named.status == 200 && role.is_empty()) {
        return Err(SecretError::NotFound(format!(
            "{source}: the login at AWS: this instance has no role; attach an instance profile to it, or set \
             [store.aws] profile or access_key_id"
        )));
    }
    let plain = role.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c));
    if named.status != 200 || !plain || role.len() > 128 {
        return Err(SecretError::Malformed(format!(
            "{source}: the login at AWS: {what} answers with HTTP {} and names no role",
            named.status
        )));
    }
    let answer = metadata(source, near, base, &format!("{path}{role}"), &token).await?;
    handed(source, format!("the instance's role {role}"), &answer).map(Some)
}

pub(super) async fn region_of_instance(source: &str, near: &Client, base: &str) -> Result<Option<String>, SecretError> {
    let Some(token) = session(source, near, base).await? else { return Ok(None) };
    let answer = metadata(source, near, base, "latest/meta-data/placement/region", &token).await?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
    Ok((answer.status == 200).then(|| text.to_owned()))
}

/// The token that version 2 asks for. None: nobody answers.
async fn session(source: &str, near: &Client, base: &str) -> Result<Option<Secret>, SecretError> {
    let request = near.put(format!("{base}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "60");
    // In a container that is one hop too far away the question arrives and the answer does not.
    let request = request.timeout(std::time::Duration::from_secs(2));
    let answer = match ask(request).await {
        Ok(answer) => answer,
        Err(_) => return Ok(None),
    };
    match (answer.status, std::str::from_utf8(&answer.body)) {
        (200, Ok(token)) => Ok(Some(Secret::new(token))),
        (403, _) => Err(SecretError::Denied(format!(
            "{source}: the login at AWS: the instance's metadata service is turned off for this instance"
        ))),
        // Something else answers there, as in some other clouds.
        _ => Ok(None),
    }
}

async fn metadata(source: &str, near: &Client, base: &str, path: &str, token: &Secret) -> Result<Answer, SecretError> {
    let request =
        near.get(format!("{base}/{path}")).header("x-aws-ec2-metadata-token", header(source, token.expose())?);
    ask(request).await.map_err(|lost| away(source, "the instance's metadata service", lost))
}

/// The endpoint that ECS, or EKS Pod Identity, gives to a container.
pub(super) async fn from_container(
    source: &str,
    client: &Client,
    url: Url,
    token: Option<&Secret>,
) -> Result<Temporary, SecretError> {
    let what = "the container's credentials endpoint";
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.header("authorization", header(source, token.expose().trim_end())?);
    }
    let answer = ask(request).await.map_err(|lost| away(source, what, lost))?;
    handed(source, what.to_owned(), &answer)
}

/// Who a pod or a job says it is.
pub(super) struct WebIdentity {
    pub role: String,
    pub session: String,
    pub token: Secret,
}

pub(super) async fn from_web_identity(
    source: &str,
    client: &Client,
    sts: &str,
    who: &WebIdentity,
) -> Result<Temporary, SecretError> {
    let from = format!("the web identity of {}", who.role);
    let mut form = Url::parse(sts).map_err(|_| SecretError::Malformed(format!("{source}: {sts} is no URL")))?;
    form.query_pairs_mut().extend_pairs([
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &who.role),
        ("RoleSessionName", &who.session),
        ("WebIdentityToken", who.token.expose().trim()),
    ]);
    let body = form.query().unwrap_or_default().to_owned();
    let request = client.post(sts).header("content-type", "application/x-www-form-urlencoded").body(body);
    let answer = ask(request).await.map_err(|lost| away(source, "AWS STS", lost))?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    let (id, secret, token) =
        (element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken"));
    match (answer.status, id, secret, token) {
        (200, Some(id), Some(secret), Some(token)) => Ok(Temporary {
            keys: Keys { id: id.to_owned(), secret: Secret::new(secret), token: Some(Secret::new(token)) },
            from,
            ends: element(text, "Expiration").and_then(|text| text.parse().ok()),
        }),
        (429 | 500..=599, ..) => Err(SecretError::Unreachable(format!(
            "{source}: the login at AWS: STS cannot answer now (HTTP {})",
            answer.status
        ))),
        (status, ..) => {
            let code = element(text, "Code").filter(|code| is_word(code)).unwrap_or("no reason");
            Err(SecretError::Denied(format!(
                "{source}: the login at AWS: STS refuses {from} (HTTP {status}, {code}); does the role's trust policy name \
                 this identity provider and service account?"
            )))
        }
    }
}

fn away(source: &str, what: &str, lost: Lost) -> SecretError {
    let why = match lost {
        Lost::TooLarge => "an answer of more than 1 MiB".to_owned(),
        Lost::Away(why) => why,
    };
    SecretError::Unreachable(format!("{source}: the login at AWS: {what}: {why}"))
}
