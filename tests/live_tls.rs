//! TLS as servers have it by default: they ask whoever connects for a certificate (`tls-auth-clients yes`).

mod servers;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use relinkd::collect::{Ask, DEADLINE, Target, look};
use relinkd::diagnose::diagnose;
use relinkd::model::evidence::{Answer, Connect, Evidence, Missing, Probe, Reading};
use relinkd::model::finding::Cause;
use relinkd::model::{LinkId, Timestamp};
use relinkd::secrets::Salt;
use relinkd::wire::TlsSettings;
use servers::{Server, free_port, programs};

const PASSWORD: &str = "canary-right";

/// An authority alone in a directory as OpenSSL wants it, and a certificate of 127.0.0.1 that it signed.
fn certificates(dir: &Path) {
    let openssl = |line: &str| {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    std::fs::create_dir(dir.join("trusted")).unwrap();
    openssl(&format!("req -x509 {key} -keyout ca.key -out trusted/ca.pem -subj /CN=ca"));
    openssl("rehash trusted");
    openssl(&format!(
        "req -x509 {key} -keyout node.key -out node.pem -subj /CN=node -CA trusted/ca.pem -CAkey ca.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
}

struct Pair {
    primary: Server,
    replica: Server,
    files: tempfile::TempDir,
}

impl Pair {
    /// The replica's link is up. `trusted`: the line by which it knows its authority; `shown`: which pair of settings
    /// has its certificate.
    async fn start(program: &str, trusted: &str, shown: [&str; 2]) -> Pair {
        let files = tempfile::tempdir().unwrap();
        certificates(files.path());
        let [cert, key] = ["node.pem", "node.key"].map(|name| files.path().join(name).display().to_string());
        let ca = files.path().join("trusted").display().to_string();
        let port = free_port();
        let primary = Server::start(
            program,
            PASSWORD,
            &format!(
                "tls-port {port}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}/ca.pem\n\
                 repl-diskless-sync-delay 0\n"
            ),
        );
        let replica = Server::start(
            program,
            PASSWORD,
            &format!(
                "tls-replication yes\n{} {cert}\n{} {key}\n{trusted}\nmasterauth {PASSWORD}\nreplicaof 127.0.0.1 {port}\n",
                shown[0], shown[1]
            )
            .replace("TRUSTED", &ca),
        );
        replica.until_link("up").await;
        Pair { primary, replica, files }
    }

    async fn plain(program: &str) -> Pair {
        Pair::start(program, "tls-ca-cert-file TRUSTED/ca.pem", ["tls-cert-file", "tls-key-file"]).await
    }

    async fn look(&self, tls_upstream: Option<TlsSettings>) -> Evidence {
        let clock = || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Timestamp(i64::try_from(now.as_micros()).unwrap())
        };
        let target = Target {
            link: LinkId { replica: "cache".into(), group: String::new() },
            local: self.replica.dial(),
            sentinels: Vec::new(),
            group: None,
            observer: None,
            tls_upstream,
            salt: Salt([7; 16]),
        };
        let ask = Ask {
            meet_replicas: false,
            refused: &[],
            followed: None,
            candidates: &[],
            probe_upstream: true,
            log: Reading::Missing(Missing::NotAsked),
            store: Reading::Missing(Missing::NotAsked),
            clock: &clock,
            deadline: DEADLINE,
        };
        look(&target, ask).await
    }

    async fn walk(&self, tls_upstream: Option<TlsSettings>) -> Probe {
        self.look(tls_upstream).await.upstream.seen().expect("a probe").clone()
    }
}

#[tokio::test]
async fn the_probe_trusts_and_shows_what_the_replica_does_however_that_is_configured() {
    for program in programs() {
        let pair = Pair::plain(program).await;
        assert!(pair.walk(None).await.auth.is_ok(), "{program}");
        let client = ["tls-client-cert-file", "tls-client-key-file"];
        // The server's own certificate is still needed to be one (Redis 7.0.15, tlsConfigure).
        let both = format!(
            "tls-ca-cert-dir TRUSTED\ntls-cert-file {0}/node.pem\ntls-key-file {0}/node.key",
            pair.files.path().display()
        );
        let pair = Pair::start(program, &both, client).await;
        let walk = pair.walk(None).await;
        assert!(walk.auth.is_ok(), "{program}: {walk:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_relinkd_alone_does_not_show_is_no_fault_of_the_primarys() {
    for program in programs() {
        let pair = Pair::plain(program).await;
        let configured = TlsSettings {
            ca: Some(pair.files.path().join("trusted/ca.pem")),
            server_name: Some("127.0.0.1".into()),
            ..TlsSettings::default()
        };
        let walk = pair.walk(Some(configured.clone())).await;
        assert!(matches!(&walk.connect, Connect::TlsSetup(why) if why.contains("shows no certificate")), "{walk:?}");
        pair.primary.run("CONFIG SET requirepass canary-new").await;
        pair.replica.run("CLIENT KILL TYPE master").await;
        pair.replica.until_link("down").await;
        assert_eq!(diagnose(&pair.look(Some(configured)).await).cause(), Some(Cause::Unknown), "{program}");
        assert_eq!(diagnose(&pair.look(None).await).cause(), Some(Cause::AuthRejected), "{program}");
    }
}

#[tokio::test]
async fn a_stopped_primary_hangs_over_tls_as_it_does_without() {
    for program in programs() {
        let pair = Pair::plain(program).await;
        pair.primary.freeze();
        let evidence = pair.look(None).await;
        let walk = evidence.upstream.seen().expect("a probe");
        assert_eq!((&walk.connect, walk.other_transport), (&Connect::HelloUnanswered, Some(false)), "{program}");
        assert_eq!(diagnose(&evidence).cause(), Some(Cause::PrimaryHung), "{program}");
    }
}

/// It takes connections and closes them, as a proxy does that has nothing behind it: not a word of TLS is said.
#[tokio::test]
async fn a_port_that_closes_every_connection_is_no_tls_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::sleep(Duration::from_millis(5));
            drop(stream);
        }
    });
    let pair = Pair::plain("redis-server").await;
    pair.replica.run("CONFIG SET tls-replication no").await;
    let closes = |port: u16| format!("REPLICAOF 127.0.0.1 {port}");
    pair.replica.run(&closes(port)).await;
    let walk = pair.walk(None).await;
    assert_eq!((&walk.ping, walk.other_transport), (&Answer::Closed, Some(false)), "{walk:?}");
    let tls_port: u16 = pair.primary.run("CONFIG GET tls-port").await.items()[1].text().unwrap().parse().unwrap();
    pair.replica.run(&closes(tls_port)).await;
    let walk = pair.walk(None).await;
    assert_eq!((&walk.ping, walk.other_transport), (&Answer::Closed, Some(true)), "whoever signed it: {walk:?}");
}
