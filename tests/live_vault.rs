//! The Vault store on a real OpenBao: each way in, each way in which a secret can be absent, and a rotation in Vault
//! that reaches the replica. HashiCorp Vault cannot be installed here; what is asked and answered is the same API.

mod live;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::{Answer, Group, Kind, OpenBao, Receiver};
use live::checks::QUICK;
use live::{Scene, Setup};
use relinkd::secrets::{self, Offer, SecretError, SecretRef, Vault, VaultLogin, VaultPlace, VaultRef, VaultSettings};
use serde_json::{Value, json};

const OLD: &str = "old-CANARY-1";
const NEW: &str = "new-CANARY-2";

/// A place for the secrets of a login.
struct Store {
    dir: tempfile::TempDir,
    settings: VaultSettings,
}

impl Store {
    fn new(address: String, login: impl FnOnce(&Store) -> VaultLogin) -> Store {
        let settings = VaultSettings {
            address,
            namespace: None,
            ca: None,
            login: VaultLogin::Token(SecretRef::Env(String::new())),
            timeout: Duration::from_secs(20),
            poll: VaultSettings::POLL,
        };
        let mut store = Store { dir: tempfile::tempdir().unwrap(), settings };
        store.settings.login = login(&store);
        store
    }

    fn file(&self, name: &str, text: &str) -> SecretRef {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        SecretRef::File(path)
    }

    fn open(&self) -> Reading {
        Reading { vault: Arc::new(Vault::new(self.settings.clone())) }
    }
}

struct Reading {
    vault: Arc<Vault>,
}

impl Reading {
    fn reference(&self, place: &str) -> SecretRef {
        SecretRef::Vault(VaultRef::new(VaultPlace::parse(place).unwrap(), Arc::clone(&self.vault)))
    }

    async fn fetch(&self, place: &str) -> Result<Vec<Offer>, SecretError> {
        let answer = secrets::fetch(&self.reference(place)).await;
        assert!(!format!("{answer:?}").contains("CANARY"), "{answer:?}");
        answer
    }

    /// Offers as `version user value`, an error as its kind and text.
    async fn told(&self, place: &str) -> String {
        match self.fetch(place).await {
            Ok(offers) => offers
                .iter()
                .map(|o| format!("{} {} {}", o.version, o.user.as_deref().unwrap_or("-"), o.secret.expose()))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => format!("{}: {error}", format!("{error:?}").split('(').next().unwrap_or_default()),
        }
    }

    async fn expect(&self, place: &str, kind: &str, words: &str) {
        let told = self.told(place).await;
        assert!(told.starts_with(&format!("{kind}: vault:{place}")) && told.contains(words), "{told}");
    }
}

fn engines(bao: &OpenBao) {
    bao.write("sys/mounts/team/kv", json!({ "type": "kv", "options": { "version": "2" } })).unwrap();
    bao.write("sys/mounts/old", json!({ "type": "kv", "options": { "version": "1" } })).unwrap();
    policy(
        bao,
        "",
        "relinkd",
        "path \"team/kv/data/redis/*\" { capabilities = [\"read\"] }\npath \"old/redis\" { capabilities = [\"read\"] }",
    );
    // A new engine upgrades itself for a moment, and refuses meanwhile.
    retried(|| bao.write("team/kv/data/redis/warm", json!({ "data": { "x": "y" } })));
}

fn retried(act: impl Fn() -> std::io::Result<Value>) -> Value {
    let began = Instant::now();
    loop {
        match act() {
            Ok(answer) => return answer,
            Err(error) if began.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn put(bao: &OpenBao, place: &str, data: Value) {
    bao.write(&format!("team/kv/data/{place}"), json!({ "data": data })).unwrap();
}

fn policy(bao: &OpenBao, namespace: &str, name: &str, rules: &str) {
    bao.write(&format!("{namespace}//sys/policies/acl/{name}"), json!({ "policy": rules })).unwrap();
}

/// The role_id and a new secret_id of a role.
fn approle(bao: &OpenBao, namespace: &str, role: &str, settings: Value) -> (String, String) {
    let _enabled_before = bao.write(&format!("{namespace}//sys/auth/approle"), json!({ "type": "approle" }));
    let path = format!("{namespace}//auth/approle/role/{role}");
    bao.write(&path, settings).unwrap();
    let role_id = bao.read(&format!("{path}/role-id")).unwrap()["data"]["role_id"].as_str().unwrap().to_owned();
    (role_id, secret_id(bao, &path))
}

fn secret_id(bao: &OpenBao, path: &str) -> String {
    bao.write(&format!("{path}/secret-id"), json!({})).unwrap()["data"]["secret_id"].as_str().unwrap().to_owned()
}

fn with_approle((role_id, secret_id): (String, String)) -> impl FnOnce(&Store) -> VaultLogin {
    move |store| VaultLogin::AppRole {
        mount: "approle".to_owned(),
        role_id,
        secret_id: store.file("secret-id", &secret_id),
    }
}

#[tokio::test]
async fn a_secret_is_read_with_the_one_before_it_and_each_absence_has_its_own_name() {
    let Some(mut bao) = OpenBao::require() else { return };
    engines(&bao);
    let store =
        Store::new(bao.address(), with_approle(approle(&bao, "", "relinkd", json!({ "token_policies": "relinkd" }))));
    let vault = store.open();

    put(&bao, "redis/cache", json!({ "password": OLD }));
    assert_eq!(vault.told("team/kv/redis/cache").await, format!("1 - {OLD}"));
    put(&bao, "redis/cache", json!({ "password": NEW, "user": "repl" }));
    assert_eq!(vault.told("team/kv/redis/cache#password").await, format!("2 repl {NEW}; 1 - {OLD}"));
    assert!(vault.fetch("team/kv/redis/cache").await.unwrap()[0].changed.is_some());
    // Another field of the same secret makes a version too.
    put(&bao, "redis/cache", json!({ "password": NEW, "user": "repl", "note": "x" }));
    assert_eq!(vault.told("team/kv/redis/cache").await, format!("3 repl {NEW}; 1 - {OLD}"));
    bao.write("old/redis", json!({ "masterauth": NEW, "previous": OLD })).unwrap();
    assert_eq!(vault.told("old/redis#masterauth").await, format!("unknown - {NEW}; before unknown - {OLD}"));

    vault.expect("team/kv/redis/cache#pass", "NotFound", "it has: note, password").await;
    put(&bao, "redis/empty", json!({ "password": "" }));
    vault.expect("team/kv/redis/empty#password", "Empty", "is empty").await;
    vault.expect("team/kv/redis/never#password", "NotFound", "holds no secret at this path").await;
    vault.expect("team/kv/other#password", "Denied", "path \"team/kv/data/other\" { capabilities = [\"read\"] }").await;
    vault.expect("nowhere/x#password", "Denied", "capabilities").await;
    bao.delete("team/kv/data/redis/cache").unwrap();
    vault.expect("team/kv/redis/cache#password", "Deleted", "version, 3, was deleted").await;

    // With a login that may do everything, Vault tells a wrong mount; and check tells that it may do too much.
    let all = Store::new(bao.address(), |store| VaultLogin::Token(store.file("token", bao.root_token())));
    let root = all.open();
    root.expect("nowhere/x#password", "NotFound", "no secrets engine is mounted at \"nowhere\"").await;
    let objections = secrets::audit(&root.reference("team/kv/redis/empty")).await;
    assert!(objections[0].contains("may do more here than it needs (root)"), "{objections:?}");
    assert!(secrets::audit(&vault.reference("team/kv/redis/empty")).await.is_empty());
    bao.write("sys/mounts/transit", json!({ "type": "transit" })).unwrap();
    root.expect("transit/keys/x#password", "Malformed", "another kind than kv").await;

    bao.seal().unwrap();
    vault.expect("team/kv/redis/empty#password", "Sealed", "somebody has to unseal it").await;
    bao.unseal().unwrap();
    put(&bao, "redis/cache", json!({ "password": NEW }));
    assert_eq!(vault.told("team/kv/redis/cache").await.split(';').next().unwrap(), format!("4 - {NEW}"));

    let mut hasty = store.settings.clone();
    hasty.timeout = Duration::from_millis(300);
    let hasty = Reading { vault: Arc::new(Vault::new(hasty)) };
    bao.freeze().unwrap();
    let began = Instant::now();
    hasty.expect("team/kv/redis/cache#password", "TimedOut", "within 0.3 s").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    bao.thaw().unwrap();
    drop(bao);
    vault.expect("team/kv/redis/cache#password", "Unreachable", "127.0.0.1").await;
}

#[tokio::test]
async fn each_way_in_works_is_renewed_and_says_why_it_is_refused() {
    let Some(bao) = OpenBao::require() else { return };
    engines(&bao);
    put(&bao, "redis/cache", json!({ "password": OLD }));
    let fine = format!("1 - {OLD}");
    const PLACE: &str = "team/kv/redis/cache#password";

    // AppRole, with a token that lives for 2 s and at most 5: renewed at half of its life, then made anew.
    let short = json!({ "token_policies": "relinkd", "token_ttl": "2s", "token_max_ttl": "5s" });
    let store = Store::new(bao.address(), with_approle(approle(&bao, "", "short", short)));
    let vault = store.open();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        assert_eq!(vault.told(PLACE).await, fine, "after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Revoked from outside: noticed, and logged in again.
    bao.write(
        "auth/approle/role/short",
        json!({ "token_policies": "relinkd", "token_ttl": "1h", "token_max_ttl": "2h" }),
    )
    .unwrap();
    let vault = store.open();
    assert_eq!(vault.told(PLACE).await, fine);
    bao.write("sys/leases/revoke-prefix/auth/approle", json!({})).unwrap();
    let revoked = Instant::now();
    while revoked.elapsed() < Duration::from_secs(3) {
        assert_eq!(vault.told(PLACE).await, fine, "a dead token is replaced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    store.file("secret-id", "wrong-CANARY");
    let vault = store.open();
    vault.expect(PLACE, "Denied", "auth/approle ([store.vault.approle]): refused").await;
    store.file("secret-id", "");
    store.open().expect(PLACE, "Empty", "[store.vault] approle.secret_id").await;

    // A token in a file, which somebody replaces.
    let token = |policies: &str| {
        let made = bao.write("auth/token/create", json!({ "policies": [policies], "ttl": "1h" })).unwrap();
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    let store = Store::new(bao.address(), |store| VaultLogin::Token(store.file("token", "s.CANARY")));
    let vault = store.open();
    vault.expect(PLACE, "Denied", "does not take the token").await;
    store.file("token", &token("relinkd"));
    assert_eq!(vault.told(PLACE).await, fine);

    // A namespace of its own, where the same path holds another value.
    bao.write("sys/namespaces/team1", json!({})).unwrap();
    bao.write("team1//sys/mounts/team/kv", json!({ "type": "kv", "options": { "version": "2" } })).unwrap();
    policy(&bao, "team1", "relinkd", "path \"team/kv/data/redis/*\" { capabilities = [\"read\"] }");
    retried(|| bao.write("team1//team/kv/data/redis/cache", json!({ "data": { "password": NEW } })));
    let login = approle(&bao, "team1", "relinkd", json!({ "token_policies": "relinkd" }));
    let mut store = Store::new(bao.address(), with_approle(login));
    store.settings.namespace = Some("team1".to_owned());
    assert_eq!(store.open().told(PLACE).await, format!("1 - {NEW}"));
    store.settings.namespace = Some("team2".to_owned());
    store.open().expect(PLACE, "NotFound", "no such auth method is enabled there, or in this namespace").await;

    // TLS certificate.
    let good = bao.certificates().good();
    bao.write("sys/auth/cert", json!({ "type": "cert" })).unwrap();
    let authority = std::fs::read_to_string(bao.certificates().ca()).unwrap();
    bao.write("auth/cert/certs/relinkd", json!({ "certificate": authority, "token_policies": "relinkd" })).unwrap();
    let mut store = Store::new(bao.tls_address(), |_| VaultLogin::Certificate {
        mount: "cert".to_owned(),
        role: Some("relinkd".to_owned()),
        cert: good.cert.clone(),
        key: good.key.clone(),
    });
    store.open().expect(PLACE, "Unreachable", "UnknownIssuer").await;
    store.settings.ca = Some(bao.certificates().ca());
    assert_eq!(store.open().told(PLACE).await, fine);
    let stranger = bao.certificates().untrusted().unwrap();
    store.settings.login =
        VaultLogin::Certificate { mount: "cert".to_owned(), role: None, cert: stranger.cert, key: stranger.key };
    store.open().expect(PLACE, "Denied", "no certificate was shown that this role takes").await;
}

/// A cluster's API server cannot be installed here, and reviews tokens by one call that Kubernetes publishes
/// (authentication.k8s.io/v1, TokenReview): a recorder stands for that call, the rest is OpenBao's own.
#[tokio::test]
async fn a_service_account_logs_in_when_the_cluster_vouches_for_its_token() {
    let Some(bao) = OpenBao::require() else { return };
    engines(&bao);
    put(&bao, "redis/cache", json!({ "password": OLD }));
    const PLACE: &str = "team/kv/redis/cache#password";
    let api = Receiver::start().unwrap();
    let review = |authenticated: bool| {
        let user = json!({ "username": "system:serviceaccount:db:relinkd", "uid": "u-1", "groups": ["system:serviceaccounts"] });
        let user = if authenticated { user } else { json!({}) };
        let audiences = ["https://kubernetes.default.svc"];
        let status = json!({ "authenticated": authenticated, "user": user, "audiences": audiences });
        let body = json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status });
        Answer::status(201).header("Content-Type", "application/json").body(&body.to_string())
    };
    bao.write("sys/auth/kubernetes", json!({ "type": "kubernetes" })).unwrap();
    let authority = std::fs::read_to_string(bao.certificates().ca()).unwrap();
    let host = json!({ "kubernetes_host": api.url(), "kubernetes_ca_cert": authority, "disable_local_ca_jwt": true });
    bao.write("auth/kubernetes/config", host).unwrap();
    let bound = json!({
        "bound_service_account_names": "relinkd", "bound_service_account_namespaces": "db", "token_policies": "relinkd"
    });
    bao.write("auth/kubernetes/role/relinkd", bound).unwrap();
    let jwt = service_account("relinkd");
    let store = Store::new(bao.address(), |store| VaultLogin::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "relinkd".to_owned(),
        jwt: store.file("jwt", &jwt),
    });

    api.answer_next([review(true)]);
    let vault = store.open();
    let told = vault.told(PLACE).await;
    let asked = api.requests();
    assert_eq!(told, format!("1 - {OLD}"), "{asked:#?}");
    assert_eq!(asked[0].path, "/apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(asked[0].json().unwrap()["spec"]["token"], jwt.as_str());
    assert_eq!(vault.told(PLACE).await, format!("1 - {OLD}"));
    assert_eq!(api.requests().len(), 1, "the token is kept");

    let refused = "auth/kubernetes ([store.vault.kubernetes]): refused";
    api.answer_next([review(false)]);
    store.open().expect(PLACE, "Denied", refused).await;
    // Vouched for, and bound to no role.
    store.file("jwt", &service_account("other"));
    store.open().expect(PLACE, "Denied", refused).await;
    store.file("jwt", "no.CANARY.token");
    let told = store.open().told(PLACE).await;
    assert!(told.contains(refused) || told.contains("cannot answer now"), "{told}");
}

/// A token as a pod finds it. Its signature is the cluster's to judge.
fn service_account(name: &str) -> String {
    let part = |value: Value| base64(value.to_string().as_bytes());
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "sub": format!("system:serviceaccount:db:{name}"),
        "aud": ["https://kubernetes.default.svc"], "iat": 1_700_000_000, "exp": 4_000_000_000_u64,
        "kubernetes.io": { "namespace": "db", "serviceaccount": { "name": name, "uid": "u-1" } }
    });
    let head = part(json!({ "alg": "RS256", "typ": "JWT", "kid": "k" }));
    format!("{head}.{}.{}", part(claims), base64(b"not-a-signature-CANARY"))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The store's newest version is what the primary wants: the replica that fell behind is realigned out of Vault. When
/// the store is empty or deleted, nothing is written anywhere.
#[test]
fn a_replica_is_realigned_out_of_vault_and_nothing_is_ever_taken_from_an_empty_one() {
    let (Some(kind), Some(bao)) = (lab::require(Kind::Redis70), OpenBao::require()) else { return };
    engines(&bao);
    put(&bao, "redis/cache", json!({ "password": OLD }));
    let login = approle(&bao, "", "relinkd", json!({ "token_policies": "relinkd" }));
    let group = Group::builder(kind).replicas(2).sentinels(3).password(OLD).start().expect("a group");
    let ids = tempfile::tempdir().unwrap();
    let file = ids.path().join("secret-id-CANARY");
    std::fs::write(&file, &login.1).unwrap();
    let policy = format!(
        "{QUICK}\n[store.vault]\naddress = \"{}\"\ntimeout = \"5s\"\npoll = \"1s\"\n\
         approle = {{ role_id = \"{}\", secret_id = {{ file = \"{}\" }} }}\n",
        bao.address(),
        login.0,
        file.display()
    );
    let setup =
        Setup { policy, group: "masterauth = { vault = \"team/kv/redis/cache\" }".to_owned(), ..Setup::default() };
    let scene = Scene::start(group, &setup);
    let masterauth = || scene.replica().query::<Vec<String>>(&["CONFIG", "GET", "masterauth"]).unwrap()[1].clone();

    bao.delete("team/kv/data/redis/cache").unwrap();
    lab::fault::rotate_password(scene.group.primary(), NEW).expect("rotated").keep();
    let (id, why) = scene.held("auth-rejected", "secret-unavailable");
    assert!(why.contains("was deleted in Vault"), "{why}");
    put(&bao, "redis/cache", json!({ "password": "" }));
    scene.wait_status("empty", |status| status["held"]["detail"].to_string().contains("is empty"));
    put(&bao, "redis/cache", json!({ "user": "default" }));
    scene.wait_status("no field", |status| status["held"]["detail"].to_string().contains("no field of that name"));
    assert_eq!(masterauth(), OLD, "nothing was written");
    put(&bao, "redis/cache", json!({ "password": NEW }));
    scene.over(&id);
    assert_eq!(masterauth(), NEW);
    scene.assert_no_secret();
    let log = scene.agent.log();
    assert!(!log.contains(&login.1), "the secret_id stands in the log");
}
