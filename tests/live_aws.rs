//! The AWS store on moto's server, which checks each signature with botocore's signer and each permission against IAM's
//! policies: each way in, each way in which a secret can be absent, and a rotation in AWS that reaches the replica. A
//! container's endpoint is a recorder that follows AWS's pages, and so is all that moto cannot do: throttle, lose a KMS key.

mod live;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::{Answer, Group, Kind, Moto, Receiver};
use live::checks::actions;
use live::{Scene, Setup};
use relinkd::secrets::{self, Aws, AwsLogin, AwsPlace, AwsRef, AwsSettings, Offer, SecretError, SecretRef};
use serde_json::{Value, json};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";

/// relinkd's own way to AWS, in an environment of the test's choice.
struct Reading {
    store: Arc<Aws>,
}

impl Reading {
    fn new(settings: AwsSettings, variables: &[(&str, &str)]) -> Reading {
        let all: BTreeMap<String, String> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Reading { store: Arc::new(Aws::among(settings, move |name| all.get(name).map(Into::into))) }
    }

    fn reference(&self, place: &str) -> SecretRef {
        SecretRef::Aws(AwsRef::new(AwsPlace::parse(place).unwrap(), Arc::clone(&self.store)))
    }

    async fn fetch(&self, place: &str) -> Result<Vec<Offer>, SecretError> {
        let answer = secrets::fetch(&self.reference(place)).await;
        assert!(!format!("{answer:?}").contains("CANARY"), "{answer:?}");
        answer
    }

    /// Offers as `user value`, an error as its kind and text.
    async fn told(&self, place: &str) -> String {
        match self.fetch(place).await {
            Ok(offers) => offers
                .iter()
                .map(|o| format!("{} {}", o.user.as_deref().unwrap_or("-"), o.secret.expose()))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => format!("{}: {error}", format!("{error:?}").split('(').next().unwrap_or_default()),
        }
    }

    async fn expect(&self, place: &str, kind: &str, words: &str) {
        let told = self.told(place).await;
        assert!(told.starts_with(&format!("{kind}: aws:{place}")) && told.contains(words), "{told}");
    }
}

fn settings(moto: &Moto) -> AwsSettings {
    AwsSettings {
        region: Some(moto.region().to_owned()),
        endpoint: Some(moto.address()),
        timeout: Duration::from_secs(20),
        ..AwsSettings::default()
    }
}

/// An access key in a file, as `[store.aws]` has it.
fn with_key(moto: &Moto, dir: &Path, (id, secret): &(String, String)) -> AwsSettings {
    let path = dir.join("secret-access-key");
    fs::write(&path, secret).unwrap();
    AwsSettings {
        login: AwsLogin::Key { id: id.clone(), secret: SecretRef::File(path), token: None },
        ..settings(moto)
    }
}

fn may_read() -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*" }
    ] })
}

fn create(moto: &Moto, name: &str, text: &str) {
    moto.secrets("CreateSecret", json!({ "Name": name, "SecretString": text, "ClientRequestToken": token() })).unwrap();
}

fn put(moto: &Moto, name: &str, text: &str) {
    let body = json!({ "SecretId": name, "SecretString": text, "ClientRequestToken": token() });
    moto.secrets("PutSecretValue", body).unwrap();
}

/// A new UUID's worth of letters, as AWS's programs send with each write.
fn token() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("00000000-0000-4000-8000-{:012}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn a_secret_is_read_with_the_one_before_it_and_each_absence_has_its_own_name() {
    let Some(mut moto) = Moto::require() else { return };
    let dir = tempfile::tempdir().unwrap();
    create(&moto, "redis/cache", &json!({ "password": OLD }).to_string());
    create(&moto, "plain", &format!("{OLD}\n"));
    create(&moto, "torn", "{\"password\":\"torn-CANARY");
    moto.secrets("CreateSecret", json!({ "Name": "binary", "SecretBinary": "Q0FOQVJZ" })).unwrap();
    let key = moto.user("relinkd", Some(may_read())).unwrap();
    let nobody = moto.user("nobody", None).unwrap();
    moto.guard(true).unwrap();
    let aws = Reading::new(with_key(&moto, dir.path(), &key), &[]);

    assert_eq!(aws.told("redis/cache").await, format!("- {OLD}"));
    let first = aws.fetch("redis/cache#password").await.unwrap().remove(0);
    assert!(first.version.starts_with("00000000-0000-4000-8000-") && first.changed.is_some(), "{first:?}");
    assert_eq!(aws.told("plain").await, format!("- {OLD}"));
    moto.guard(false).unwrap();
    put(&moto, "redis/cache", &json!({ "password": NEW, "username": "repl" }).to_string());
    put(&moto, "plain", NEW);
    moto.guard(true).unwrap();
    assert_eq!(aws.told("redis/cache#password").await, format!("repl {NEW}; - {OLD}"));
    assert_eq!(aws.told("plain").await, format!("- {NEW}; - {OLD}"));
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:redis/cache";
    let elsewhere = Reading::new(AwsSettings { region: None, ..with_key(&moto, dir.path(), &key) }, &[]);
    assert_eq!(elsewhere.told(arn).await, format!("repl {NEW}; - {OLD}"), "the ARN names the region");

    aws.expect("redis/cache#pass", "NotFound", "it has: password").await;
    aws.expect("plain#password", "Malformed", "no whole JSON object").await;
    aws.expect("torn", "Malformed", "cut short").await;
    aws.expect("torn#password", "Malformed", "no whole JSON object").await;
    aws.expect("binary", "Malformed", "a binary secret").await;
    aws.expect("never", "NotFound", "in us-east-1 has no such secret").await;
    let other = AwsSettings { region: Some("eu-central-1".to_owned()), ..with_key(&moto, dir.path(), &key) };
    Reading::new(other, &[]).expect("plain", "NotFound", "in eu-central-1 has no such secret").await;
    let denied = Reading::new(with_key(&moto, dir.path(), &nobody), &[]);
    denied.expect("plain", "Denied", "denies this to arn:aws:iam::123456789012:user/nobody; its policy needs").await;
    let wrong = Reading::new(with_key(&moto, dir.path(), &(key.0.clone(), "wrong-CANARY".to_owned())), &[]);
    wrong.expect("plain", "Denied", "the secret access key does not belong to the key id").await;
    let unknown = Reading::new(with_key(&moto, dir.path(), &("AKIANOBODY".to_owned(), key.1.clone())), &[]);
    unknown.expect("plain", "Denied", "AWS does not know the access key").await;
    fs::write(dir.path().join("secret-access-key"), "").unwrap();
    aws.expect("plain", "Empty", "the login at AWS: secret_access_key").await;
    fs::write(dir.path().join("secret-access-key"), &key.1).unwrap();
    moto.guard(false).unwrap();
    moto.secrets("DeleteSecret", json!({ "SecretId": "redis/cache" })).unwrap();
    moto.guard(true).unwrap();
    aws.expect("redis/cache#password", "Deleted", "marked for deletion").await;

    let hasty = AwsSettings { timeout: Duration::from_millis(300), ..with_key(&moto, dir.path(), &key) };
    moto.freeze().unwrap();
    let began = Instant::now();
    Reading::new(hasty, &[]).expect("plain", "TimedOut", "within 0.3 s").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    moto.thaw().unwrap();
    drop(moto);
    aws.expect("plain", "Unreachable", "127.0.0.1").await;
}

#[tokio::test]
async fn each_way_in_that_awss_own_programs_have_works_and_says_why_it_does_not() {
    let Some(moto) = Moto::require() else { return };
    let dir = tempfile::tempdir().unwrap();
    create(&moto, "plain", NEW);
    let (id, secret) = moto.user("relinkd", Some(may_read())).unwrap();
    let role = moto.role("db", may_read()).unwrap();
    moto.guard(true).unwrap();
    let fine = format!("- {NEW}");
    let address = moto.address();
    let bare = || AwsSettings { endpoint: Some(moto.address()), ..AwsSettings::default() };
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };

    let environment = [
        ("AWS_ACCESS_KEY_ID", id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &secret),
        ("AWS_REGION", moto.region()),
        ("AWS_ENDPOINT_URL", &address),
    ];
    let by_environment = Reading::new(AwsSettings::default(), &environment);
    assert_eq!(by_environment.told("plain").await, fine);
    assert!(secrets::audit(&by_environment.reference("plain")).await[0].contains("only with a restart"));
    Reading::new(AwsSettings::default(), &environment[..1])
        .expect("plain", "NotFound", "AWS_SECRET_ACCESS_KEY is not")
        .await;

    // The shared files, under their variables and at home.
    let keys = format!(
        "[default]\naws_access_key_id=AKIAX\naws_secret_access_key=x\n[db]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
    );
    let (keys, config) = (
        file("credentials", &keys),
        file("config", "[profile db]\nregion = us-east-1\n[profile far]\nrole_arn = arn\n"),
    );
    let files = [("AWS_SHARED_CREDENTIALS_FILE", keys.as_str()), ("AWS_CONFIG_FILE", &config), ("AWS_PROFILE", "db")];
    assert_eq!(Reading::new(bare(), &files).told("plain").await, fine);
    let profile = |name: &str| AwsSettings { login: AwsLogin::Profile(name.to_owned()), ..bare() };
    let by_profile = Reading::new(profile("db"), &files[..2]);
    assert_eq!(by_profile.told("plain").await, fine);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!secrets::audit(&by_profile.reference("plain")).await.is_empty(), "others can read the keys");
    Reading::new(profile("none"), &files)
        .expect("plain", "NotFound", "no access key under the profile \"none\" in")
        .await;
    Reading::new(profile("far"), &files).expect("plain", "Failed", "logs in by role_arn").await;

    // A web identity, as EKS mounts it: STS hands out keys, which are kept, and replaced when they die.
    let token = file("token", "a.web-identity-CANARY.c");
    let identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", &role),
        ("AWS_ENDPOINT_URL_STS", &address),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ];
    // moto asks for permission to assume a role even with a token, which AWS does not: the door is open for that.
    moto.guard(false).unwrap();
    let pod = Reading::new(bare(), &identity);
    assert_eq!(pod.told("plain").await, fine);
    moto.guard(true).unwrap();
    assert_eq!(pod.told("plain").await, fine, "with a session token, signed");
    fs::remove_file(dir.path().join("token")).unwrap();
    assert_eq!(pod.told("plain").await, fine, "the keys are kept");
    Reading::new(bare(), &identity).expect("plain", "NotFound", "the web identity's token").await;

    // An instance's role: moto's metadata service hands out keys that its IAM does not know.
    let instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", address.as_str())];
    Reading::new(bare(), &instance).expect("plain", "Denied", "the instance's role default-role: refused").await;
    moto.guard(false).unwrap();
    assert_eq!(Reading::new(bare(), &instance).told("plain").await, fine, "keys and region out of the metadata");
    let off = [instance[0], ("AWS_EC2_METADATA_DISABLED", "true")];
    Reading::new(bare(), &off)
        .expect("plain", "NotFound", "no access key was found. Looked for: AWS_ACCESS_KEY_ID")
        .await;
    let began = Instant::now();
    let nowhere = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1"), ("HOME", "/nowhere")];
    Reading::new(bare(), &nowhere).expect("plain", "NotFound", "in /nowhere/.aws/credentials and").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Shapes as in "Container credential provider" of AWS's guide for SDKs and tools.
#[tokio::test]
async fn a_containers_keys_are_kept_until_they_end_and_what_moto_cannot_refuse_is_named() {
    let agent = Receiver::start().unwrap();
    let service = Receiver::start().unwrap();
    let handed = |id: &str, ends: &str| {
        let keys = json!({ "AccessKeyId": id, "SecretAccessKey": "s-CANARY", "Token": "t-CANARY", "Expiration": ends });
        Answer::status(200).body(&keys.to_string())
    };
    let said = |text: &str| {
        Answer::status(200).body(&json!({ "VersionId": "v", "SecretString": text, "CreatedDate": 1.5 }).to_string())
    };
    let refuses = |code: &str, message: &str| {
        Answer::status(400).body(&json!({ "__type": code, "Message": message }).to_string())
    };
    let none = || refuses("ResourceNotFoundException", "…staging label: AWSPREVIOUS");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pod"), "pod-token-CANARY\n").unwrap();
    let (uri, token) = (format!("{}v1/credentials", agent.url()), dir.path().join("pod").display().to_string());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        ("AWS_REGION", "eu-central-1"),
    ];
    let settings = AwsSettings { endpoint: Some(service.url()), ..AwsSettings::default() };
    let settings =
        AwsSettings { endpoint: settings.endpoint.map(|it| it.trim_end_matches('/').to_owned()), ..settings };
    let aws = Reading::new(settings, &variables);

    agent.answer_next([handed("ASIAONE", "2999-01-01T00:00:00Z"), handed("ASIATWO", "2999-01-01T00:00:00Z")]);
    service.answer_next([said(NEW), said(OLD), said(NEW), none()]);
    assert_eq!(aws.told("plain").await, format!("- {NEW}; - {OLD}"));
    assert_eq!(aws.told("plain").await, format!("- {NEW}"));
    let asked = agent.requests();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, Some("pod-token-CANARY")), "kept");
    let request = &service.requests()[0];
    assert_eq!(request.header("x-amz-target"), Some("secretsmanager.GetSecretValue"));
    assert_eq!(request.header("x-amz-security-token"), Some("t-CANARY"));
    assert_eq!(request.json().unwrap(), json!({ "SecretId": "plain", "VersionStage": "AWSCURRENT" }));
    assert_eq!(service.requests()[1].json().unwrap()["VersionStage"], "AWSPREVIOUS");

    // Taken back before their time: others are asked for, once.
    service.answer_next([refuses("ExpiredTokenException", "The security token included in the request is expired")]);
    service.answer_next([said(NEW), none()]);
    assert_eq!(aws.told("plain").await, format!("- {NEW}"));
    assert_eq!(agent.requests().len(), 2);
    let last = service.requests().pop().unwrap();
    assert!(last.header("authorization").unwrap().contains("Credential=ASIATWO/"), "{last:?}");

    let table = [
        (refuses("ThrottlingException", "Rate exceeded"), "Unreachable", "limits requests"),
        (refuses("DecryptionFailure", "CANARY"), "Failed", "cannot decrypt the secret: its KMS key"),
        (refuses("AccessDeniedException", "Access to KMS is not allowed"), "Denied", "kms:Decrypt"),
        (Answer::status(503).body("CANARY"), "Unreachable", "cannot answer now (HTTP 503)"),
        (Answer::status(200).body("<html>CANARY"), "Malformed", "not one of Secrets Manager"),
        (said(""), "Empty", "is empty"),
    ];
    for (answer, kind, words) in table {
        service.answer_next([answer]);
        aws.expect("plain", kind, words).await;
    }
    // The value before the current one is out of reach: half an answer is none.
    service.answer_next([said(NEW), refuses("ThrottlingException", "Rate exceeded")]);
    aws.expect("plain", "Unreachable", "limits requests").await;
    service.answer_next([said(NEW), refuses("AccessDeniedException", "CANARY")]);
    assert_eq!(aws.told("plain").await, format!("- {NEW}"), "who may read the current one only gets that");
    let redirect = Answer::status(302).header("Location", &agent.url());
    service.answer_next([redirect]);
    aws.expect("plain", "Malformed", "HTTP 302").await;
    assert_eq!(agent.requests().len(), 2, "no redirect is followed");
}

/// The whole of a rotation in AWS, with each side behind in turn: nothing is taken from a secret that is marked for
/// deletion, the newest value heals, the one before it is tried second, and the next one is set before the link breaks.
#[test]
fn a_replica_follows_aws_and_each_side_that_is_behind_is_named() {
    let (Some(kind), Some(moto)) = (lab::require(Kind::Valkey80), Moto::require()) else { return };
    const NEXT: &str = "next-CANARY-3";
    const PLACE: &str = "redis/cache";
    let json = |password: &str| json!({ "masterauth": password }).to_string();
    create(&moto, PLACE, &json(OLD));
    let (id, secret) = moto.user("relinkd", Some(may_read())).unwrap();
    moto.guard(true).unwrap();
    let as_admin = |act: &dyn Fn(&Moto)| {
        moto.guard(false).unwrap();
        act(&moto);
        moto.guard(true).unwrap();
    };
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("secret-access-key");
    fs::write(&file, &secret).unwrap();
    let policy = format!(
        "settle = \"300ms\"\nbackground = \"2s\"\n[policy.realign-auth]\ncooldown = \"1s\"\n[store.aws]\nregion = \"us-east-1\"\n\
         endpoint = \"{}\"\ntimeout = \"10s\"\npoll = \"1s\"\naccess_key_id = \"{id}\"\nsecret_access_key = {{ file = \"{}\" }}\n",
        moto.address(),
        file.display()
    );
    let setup = Setup { policy, group: format!("masterauth = {{ aws = \"{PLACE}#masterauth\" }}"), ..Setup::default() };
    let group = Group::builder(kind).replicas(1).sentinels(1).password(OLD).start().expect("a group");
    let scene = Scene::start(group, &setup);
    let masterauth = || scene.replica().query::<Vec<String>>(&["CONFIG", "GET", "masterauth"]).unwrap()[1].clone();
    let standing = |name: &'static str| move |status: &Value| status["secret"]["standing"] == name;
    scene.wait_status("the store is followed", standing("in-use"));
    let checked = scene.verb(&["check"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("aws:redis/cache#masterauth"), "{checked}");

    // The primary moves on, and AWS has nothing that may be used; then something that is old.
    as_admin(&|moto| drop(moto.secrets("DeleteSecret", json!({ "SecretId": PLACE })).unwrap()));
    lab::fault::rotate_password(scene.group.primary(), NEW).expect("rotated").keep();
    let (incident, why) = scene.held("auth-rejected", "secret-unavailable");
    assert!(why.contains("marked for deletion in AWS"), "{why}");
    as_admin(&|moto| drop(moto.secrets("RestoreSecret", json!({ "SecretId": PLACE })).unwrap()));
    let status = scene.wait_status("the store is behind", |status| status["held"]["code"] == "secret-rejected");
    assert!(status["held"]["detail"].to_string().contains("the store looks older than the primary"), "{status:#}");
    assert_eq!(status["secret"]["standing"], "behind", "{status:#}");
    assert_eq!(masterauth(), OLD, "nothing was written");
    as_admin(&|moto| put(moto, PLACE, &json(NEW)));
    let resolved = scene.over(&incident);
    assert_eq!(actions(&resolved).last(), Some(&("realign-auth".to_owned(), "changed".to_owned())), "{resolved:#}");
    assert_eq!(masterauth(), NEW);

    // AWS is ahead of the primary: nothing is changed, and a replica that loses its password gets AWSPREVIOUS.
    as_admin(&|moto| put(moto, PLACE, &json(NEXT)));
    let status = scene.wait_status("the store is ahead", standing("ahead"));
    assert!(status["sentence"].to_string().contains("aws:redis/cache#masterauth is ahead"), "{status:#}");
    assert_eq!((masterauth().as_str(), scene.incidents().len()), (NEW, 1));
    scene.replica().run(&["CONFIG", "SET", "masterauth", "stale-CANARY-4"]).unwrap();
    scene.replica().run(&["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    scene.wait_status("an incident", |_| scene.incidents().len() == 2);
    let id = scene.incidents()[0]["id"].as_str().unwrap().to_owned();
    scene.over(&id);
    assert_eq!(masterauth(), NEW, "the primary does not know AWSCURRENT yet");

    // The primary takes both: the link gets the current one, and does not notice.
    scene.group.primary().run(&["ACL", "SETUSER", "default", &format!(">{NEXT}")]).unwrap();
    scene.wait_status("followed", standing("in-use"));
    assert_eq!(masterauth(), NEXT);
    scene.assert_no_secret();
    assert!(!scene.agent.log().contains(&secret), "the access key stands in the log");
}
