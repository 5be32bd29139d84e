//! The wire against real servers: sockets, TLS, transactions, subscriptions.

#[path = "live/senses.rs"]
mod senses;

use std::time::Duration;

use lab::{Group, Kind};
use relinkd::model::evidence::Missing;
use relinkd::model::{Address, Endpoint};
use relinkd::secrets::Secret;
use relinkd::wire::reply::Reply;
use relinkd::wire::{Arg, Dial, Reader, TlsSettings, WireError, Writer};
use senses::{PATIENCE, dial, kinds, run, through_socket};

const PASSWORD: &str = "canary-right";

fn words(command: &str) -> Vec<Arg> {
    command.split(' ').map(Arg::from).collect()
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_tcp() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).password(PASSWORD).start().expect("a server");
    for dial in [through_socket(group.primary()), dial(group.primary())] {
        let mut reader = Reader::connect(&dial, PATIENCE).await.unwrap();
        assert_eq!(reader.ask(&["PING"], PATIENCE).await, Ok(Reply::Text("PONG".into())));
        let role = reader.ask_all(&[&["ROLE"], &["SENTINEL", "MYID"]], PATIENCE).await.unwrap();
        assert!(matches!(role.as_slice(), [Reply::List(_), Reply::Error { .. }]), "{role:?}");
    }
}

#[tokio::test]
async fn a_transaction_runs_whole_or_not_at_all() {
    for kind in kinds() {
        let single = "single on >canary-right ~* &* +@all -multi";
        let group = Group::builder(kind).password(PASSWORD).config("user", single).start().expect("a server");
        let mut writer = Writer::connect(&dial(group.primary()), PATIENCE).await.unwrap();
        let set = vec![Arg::from("CONFIG"), "SET".into(), "masterauth".into(), Secret::new("canary new").into()];
        let done = writer.transaction(&[set, words("GET k")], PATIENCE).await.unwrap();
        assert_eq!(done, Reply::List(vec![Reply::Text("OK".into()), Reply::Nil]));
        let held = writer.ask(&["CONFIG", "GET", "masterauth"], PATIENCE).await.unwrap();
        assert_eq!(held.items().get(1).and_then(Reply::text), Some("canary new"));

        let refused = writer.transaction(&[words("SET k v"), words("NOSUCH x")], PATIENCE).await.unwrap();
        assert!(matches!(&refused, Reply::Error { text, .. } if text.contains("unknown command")), "{refused:?}");
        assert_eq!(writer.run(&words("EXISTS k"), PATIENCE).await, Ok(Reply::Int(0)));

        let single = Dial { user: "single".into(), ..dial(group.primary()) };
        let mut writer = Writer::connect(&single, PATIENCE).await.unwrap();
        let refused = writer.transaction(&[words("SET k v")], PATIENCE).await.unwrap();
        assert!(matches!(&refused, Reply::Error { code, .. } if code == "NOPERM"), "{refused:?}");
        assert_eq!(writer.run(&words("EXISTS k"), PATIENCE).await, Ok(Reply::Int(0)), "ran outside of a transaction");
    }
}

#[tokio::test]
async fn a_subscription_hears_and_notices_a_frozen_server() {
    for kind in kinds() {
        let group = Group::builder(kind).password(PASSWORD).start().expect("a server");
        let server = group.primary();
        let reader = Reader::connect(&dial(server), PATIENCE).await.unwrap();
        let mut listening = reader.subscribe(&["+sdown", "+odown"], PATIENCE).await.unwrap();
        let writer = Reader::connect(&dial(server), PATIENCE).await.unwrap();
        let mut patterns = writer.psubscribe(&["+*"], PATIENCE).await.unwrap();
        run(server, "PUBLISH +odown hello");
        let heard = Ok(("+odown".to_owned(), "hello".to_owned()));
        assert_eq!(listening.next(PATIENCE, PATIENCE).await, heard);
        assert_eq!(patterns.next(PATIENCE, PATIENCE).await, heard);

        // Several silences that are answered, until something is said.
        let quick = Duration::from_millis(5);
        let (heard, _) = tokio::join!(listening.next(quick, PATIENCE), async {
            tokio::time::sleep(quick * 10).await;
            run(server, "PUBLISH +sdown again");
        });
        assert_eq!(heard, Ok(("+sdown".to_owned(), "again".to_owned())));
        server.freeze().unwrap();
        assert_eq!(listening.next(quick, quick * 10).await, Err(WireError::TimedOut));
    }
}

#[tokio::test]
async fn a_channel_that_is_not_granted_is_denied() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let ear = "ear on >canary-right resetchannels &+sdown +@all";
    let group = Group::builder(kind).password(PASSWORD).config("user", ear).start().expect("a server");
    let ear = Dial { user: "ear".into(), ..dial(group.primary()) };
    let denied = Reader::connect(&ear, PATIENCE).await.unwrap().subscribe(&["+sdown", "+odown"], PATIENCE).await;
    assert!(matches!(denied, Err(WireError::Denied { code, .. }) if code == "NOPERM"));
    assert!(Reader::connect(&ear, PATIENCE).await.unwrap().subscribe(&["+sdown"], PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_full_says_so_at_once() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let group = Group::builder(kind).config("maxclients", "2").start().expect("a server");
    let mut held = Vec::new();
    let told = loop {
        match Reader::connect(&dial(group.primary()), PATIENCE).await {
            Ok(reader) if held.len() < 2 => held.push(reader),
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(&told, WireError::Denied { text, .. } if text.contains("max number of clients")), "{told:?}");
    assert!(matches!(Missing::from(&told), Missing::Unreachable(_)));
}

#[tokio::test]
async fn tls_lets_in_who_can_prove_it_and_names_what_is_wrong() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let port = lab::Port::reserve().expect("a port");
    let group = Group::builder(kind).password(PASSWORD).tls().config("tls-auth-clients", "yes");
    let group = group.config("port", &port.number.to_string()).start().expect("a server");
    let certificates = group.certificates().expect("certificates");
    let (good, stranger) = (certificates.good(), certificates.untrusted().expect("a stranger's"));
    let tls = TlsSettings {
        ca: Some(certificates.ca()),
        cert: Some(good.cert.clone()),
        key: Some(good.key.clone()),
        ..TlsSettings::default()
    };
    let over = |tls: &TlsSettings| Dial { tls: Some(tls.clone()), ..dial(group.primary()) };
    let mut reader = Reader::connect(&over(&tls), PATIENCE).await.unwrap();
    assert_eq!(reader.ask(&["PING"], PATIENCE).await, Ok(Reply::Text("PONG".into())));

    let wrong = [
        (TlsSettings { ca: Some(stranger.cert), ..tls.clone() }, "UnknownIssuer"),
        (TlsSettings { server_name: Some("elsewhere.example".into()), ..tls.clone() }, "elsewhere.example"),
        (TlsSettings { ca: Some("absent.pem".into()), ..tls.clone() }, "absent.pem"),
        (TlsSettings { ca: Some(good.key), ..tls.clone() }, "no usable certificate"),
        (TlsSettings { key: None, ..tls.clone() }, "without its key"),
        (TlsSettings { cert: None, key: None, ..tls.clone() }, "certificate"),
    ];
    for (settings, part) in wrong {
        let told = Reader::connect(&over(&settings), PATIENCE).await.unwrap_err();
        assert!(
            matches!(&told, WireError::Tls(why) | WireError::TlsSetup(why) if why.to_lowercase().contains(&part.to_lowercase())),
            "{part}: {told:?}"
        );
    }
    let plain = Dial { address: Address::Tcp(Endpoint::new("127.0.0.1", port.number)), ..over(&tls) };
    let told = Reader::connect(&plain, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(told, WireError::HelloCutShort | WireError::HelloUnanswered | WireError::Tls(_)), "{told:?}");
}
