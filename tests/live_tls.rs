//! TLS as servers have it by default: they ask whoever connects for a certificate (`tls-auth-clients yes`).

#[path = "live/senses.rs"]
mod senses;

use std::time::Duration;

use lab::{Certificates, Group, Kind, Server};
use relinkd::collect::Target;
use relinkd::diagnose::diagnose;
use relinkd::model::evidence::{Answer, Connect, Evidence, Probe};
use relinkd::model::finding::Cause;
use relinkd::wire::TlsSettings;
use senses::{endpoint, follows, kinds, linked, run, seen, target, through_socket, unlinked};

const PASSWORD: &str = "canary-right";

fn pair(kind: Kind) -> (Group, Server) {
    let builder = Group::builder(kind).replicas(1).tls().config("tls-auth-clients", "yes").password(PASSWORD);
    let group = builder.start().expect("a pair that speaks TLS");
    let replica = group.replica(0).clone();
    (group, replica)
}

fn certificates(group: &Group) -> &Certificates {
    group.certificates().expect("certificates")
}

/// The group's authority alone in a directory as OpenSSL wants it.
fn trusted(group: &Group) -> String {
    let dir = group.dir().join("trusted");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(certificates(group).ca(), dir.join("ca.crt")).unwrap();
    assert!(std::process::Command::new("openssl").arg("rehash").arg(&dir).status().unwrap().success());
    dir.display().to_string()
}

async fn look(replica: &Server, tls_upstream: Option<TlsSettings>) -> Evidence {
    seen(&Target { tls_upstream, ..target(through_socket(replica), &[]) }, &[], true).await
}

async fn probe(replica: &Server, tls_upstream: Option<TlsSettings>) -> Probe {
    look(replica, tls_upstream).await.upstream.seen().expect("a probe").clone()
}

#[tokio::test]
async fn the_probe_trusts_and_shows_what_the_replica_does_however_that_is_configured() {
    for kind in kinds() {
        let (mut group, replica) = pair(kind);
        assert!(probe(&replica, None).await.auth.is_ok(), "{kind}");
        // The server's own certificate is still needed to be one (Redis 7.0.15, tlsConfigure).
        let good = certificates(&group).good();
        let (cert, key) = (good.cert.display().to_string(), good.key.display().to_string());
        let (dir, none) = (trusted(&group), ("tls-ca-cert-file", ""));
        let client = [("tls-client-cert-file", cert.as_str()), ("tls-client-key-file", &key)];
        let another =
            group.add_replica(&[&[none, ("tls-ca-cert-dir", &dir)], &client[..]].concat()).expect("a replica");
        linked(&another);
        let walk = probe(&another, None).await;
        assert!(walk.auth.is_ok(), "{kind}: {walk:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_relinkd_alone_does_not_show_is_no_fault_of_the_primarys() {
    for kind in kinds() {
        let (group, replica) = pair(kind);
        let configured = TlsSettings {
            ca: Some(certificates(&group).ca()),
            server_name: Some("127.0.0.1".into()),
            ..TlsSettings::default()
        };
        let walk = probe(&replica, Some(configured.clone())).await;
        assert!(matches!(&walk.connect, Connect::TlsSetup(why) if why.contains("shows no certificate")), "{walk:?}");
        run(group.primary(), "CONFIG SET requirepass canary-new");
        run(&replica, "CLIENT KILL TYPE master");
        unlinked(&replica);
        assert_eq!(diagnose(&look(&replica, Some(configured)).await).cause(), Some(Cause::Unknown), "{kind}");
        assert_eq!(diagnose(&look(&replica, None).await).cause(), Some(Cause::AuthRejected), "{kind}");
    }
}

#[tokio::test]
async fn a_stopped_primary_hangs_over_tls_as_it_does_without() {
    for kind in kinds() {
        let (group, replica) = pair(kind);
        group.primary().freeze().unwrap();
        let evidence = look(&replica, None).await;
        let walk = evidence.upstream.seen().expect("a probe");
        assert_eq!((&walk.connect, walk.other_transport), (&Connect::HelloUnanswered, Some(false)), "{kind}");
        assert_eq!(diagnose(&evidence).cause(), Some(Cause::PrimaryHung), "{kind}");
    }
}

/// It takes connections and closes them, as a proxy does that has nothing behind it: not a word of TLS is said.
#[tokio::test]
async fn a_port_that_closes_every_connection_is_no_tls_port() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::sleep(Duration::from_millis(5));
            drop(stream);
        }
    });
    let (group, replica) = pair(kind);
    run(&replica, "CONFIG SET tls-replication no");
    run(&replica, &format!("REPLICAOF 127.0.0.1 {port}"));
    let walk = probe(&replica, None).await;
    assert_eq!((&walk.ping, walk.other_transport), (&Answer::Closed, Some(false)), "{walk:?}");
    run(&replica, &format!("REPLICAOF {}", follows(&endpoint(group.primary()))));
    let walk = probe(&replica, None).await;
    assert_eq!((&walk.ping, walk.other_transport), (&Answer::Closed, Some(true)), "whoever signed it: {walk:?}");
}
