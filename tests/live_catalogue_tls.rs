//! TLS between replica and primary: spoken by one side only, and certificates that are over, of a stranger, or for
//! another name.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use catalogue::{QUICK, by_hand_named, held, over, reconnect, silence, undo};
use lab::{Certificates, Group, Kind, fault};
use live::{PATIENCE, Scene, Setup, on_each_server};

on_each_server! {
    plain_into_tls => a_replica_without_tls_at_a_tls_port_is_named_redis_70, a_replica_without_tls_at_a_tls_port_is_named_valkey_80;
    tls_into_plain => a_replica_with_tls_at_a_plain_port_is_named_redis_70, a_replica_with_tls_at_a_plain_port_is_named_valkey_80;
    expired => an_expired_certificate_is_named_redis_70, an_expired_certificate_is_named_valkey_80;
    untrusted => a_certificate_of_a_stranger_is_named_redis_70, a_certificate_of_a_stranger_is_named_valkey_80;
    another_name => a_certificate_for_another_name_is_no_fault_redis_70, a_certificate_for_another_name_is_no_fault_valkey_80;
}

fn scene(kind: Kind) -> Scene {
    let group = Group::builder(kind).replicas(1).tls().start().expect("a group");
    Scene::start(group, &Setup { policy: QUICK.to_owned(), ..Setup::default() })
}

fn plain_into_tls(kind: Kind) {
    let scene = scene(kind);
    let plain = fault::configure(scene.replica(), &[("tls-replication", "no")]).expect("no TLS");
    reconnect(scene.replica());
    let opened = held(&scene, "tls-mismatch", &["primary-unreachable", "network-cut"]);
    by_hand_named(&scene, "tls-mismatch", &format!("plain-into-tls-{}", kind.code()));
    undo(plain);
    over(&scene, &opened);
}

fn tls_into_plain(kind: Kind) {
    let scene = scene(kind);
    let plain = Group::builder(kind).start().expect("a primary without TLS");
    let (host, port) = plain.primary().endpoint();
    let moved = fault::wrong_primary(scene.replica(), &host, port).expect("the replica follows a plain port");
    let opened = held(&scene, "tls-mismatch", &[]);
    by_hand_named(&scene, "tls-mismatch", &format!("tls-into-plain-{}", kind.code()));
    undo(moved);
    over(&scene, &opened);
}

fn refused(kind: Kind, name: &str, make: impl Fn(&Certificates) -> std::io::Result<lab::Pair>) {
    let scene = scene(kind);
    let certificates = scene.group.certificates().expect("certificates").clone();
    let pair = make(&certificates).expect("a certificate");
    let other = certificates.shown_by(scene.group.primary(), &pair).expect("another certificate");
    reconnect(scene.replica());
    let opened = held(&scene, "tls-certificate", &[]);
    by_hand_named(&scene, "tls-certificate", &format!("{name}-{}", kind.code()));
    undo(other);
    over(&scene, &opened);
}

fn expired(kind: Kind) {
    refused(kind, "expired", Certificates::expired);
}

fn untrusted(kind: Kind) {
    refused(kind, "untrusted", Certificates::untrusted);
}

/// A replica looks at who signed, not at the name: its link stands, and relinkd has nothing to tell.
fn another_name(kind: Kind) {
    let scene = scene(kind);
    let certificates = scene.group.certificates().expect("certificates").clone();
    let pair = certificates.for_another_name().expect("a certificate");
    let other = certificates.shown_by(scene.group.primary(), &pair).expect("another certificate");
    reconnect(scene.replica());
    assert!(scene.replica().wait_link_up(PATIENCE).is_some(), "{}", scene.replica().log_text());
    let before = scene.status()["looked_at"].clone();
    scene.wait_status("two more looks", |status| {
        status["looked_at"].as_u64() > before.as_u64().map(|at| at + 1_500_000)
    });
    let seen = scene.verb_json(&["diagnose", "cache"]);
    assert_eq!(seen["cause"], serde_json::Value::Null, "{}", seen["because"]);
    silence(&scene);
    undo(other);
}
