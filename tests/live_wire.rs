//! The wire against real servers: sockets, TLS, transactions, subscriptions.

mod servers;

use std::process::Command;
use std::time::Duration;

use relinkd::model::Endpoint;
use relinkd::model::evidence::Missing;
use relinkd::secrets::Secret;
use relinkd::wire::reply::Reply;
use relinkd::wire::{Arg, Dial, Reader, TlsSettings, WireError, Writer};
use servers::{AMPLE, Server, programs};

const PASSWORD: &str = "canary-right";

fn words(command: &str) -> Vec<Arg> {
    command.split(' ').map(Arg::from).collect()
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_tcp() {
    let server = Server::start("redis-server", PASSWORD, "");
    for dial in [server.unix(), server.dial()] {
        let mut reader = Reader::connect(&dial, AMPLE).await.unwrap();
        assert_eq!(reader.ask(&["PING"], AMPLE).await, Ok(Reply::Text("PONG".into())));
        let role = reader.ask_all(&[&["ROLE"], &["SENTINEL", "MYID"]], AMPLE).await.unwrap();
        assert!(matches!(role.as_slice(), [Reply::List(_), Reply::Error { .. }]), "{role:?}");
    }
}

#[tokio::test]
async fn a_transaction_runs_whole_or_not_at_all() {
    for program in programs() {
        let server = Server::start(program, PASSWORD, "user single on >canary-right ~* &* +@all -multi\n");
        let mut writer = Writer::connect(&server.dial(), AMPLE).await.unwrap();
        let set = vec![Arg::from("CONFIG"), "SET".into(), "masterauth".into(), Secret::new("canary new").into()];
        let done = writer.transaction(&[set, words("GET k")], AMPLE).await.unwrap();
        assert_eq!(done, Reply::List(vec![Reply::Text("OK".into()), Reply::Nil]));
        let held = writer.ask(&["CONFIG", "GET", "masterauth"], AMPLE).await.unwrap();
        assert_eq!(held.items().get(1).and_then(Reply::text), Some("canary new"));

        let refused = writer.transaction(&[words("SET k v"), words("NOSUCH x")], AMPLE).await.unwrap();
        assert!(matches!(&refused, Reply::Error { text, .. } if text.contains("unknown command")), "{refused:?}");
        assert_eq!(writer.run(&words("EXISTS k"), AMPLE).await, Ok(Reply::Int(0)));

        let single = Dial { user: "single".into(), ..server.dial() };
        let mut writer = Writer::connect(&single, AMPLE).await.unwrap();
        let refused = writer.transaction(&[words("SET k v")], AMPLE).await.unwrap();
        assert!(matches!(&refused, Reply::Error { code, .. } if code == "NOPERM"), "{refused:?}");
        assert_eq!(writer.run(&words("EXISTS k"), AMPLE).await, Ok(Reply::Int(0)), "ran outside of a transaction");
    }
}

#[tokio::test]
async fn a_subscription_hears_and_notices_a_frozen_server() {
    for program in programs() {
        let server = Server::start(program, PASSWORD, "");
        let reader = Reader::connect(&server.dial(), AMPLE).await.unwrap();
        let mut listening = reader.subscribe(&["+sdown", "+odown"], AMPLE).await.unwrap();
        let writer = Reader::connect(&server.dial(), AMPLE).await.unwrap();
        let mut patterns = writer.psubscribe(&["+*"], AMPLE).await.unwrap();
        server.run("PUBLISH +odown hello").await;
        let heard = Ok(("+odown".to_owned(), "hello".to_owned()));
        assert_eq!(listening.next(AMPLE, AMPLE).await, heard);
        assert_eq!(patterns.next(AMPLE, AMPLE).await, heard);

        // Several silences that are answered, until something is said.
        let quick = Duration::from_millis(5);
        let (heard, _) = tokio::join!(listening.next(quick, AMPLE), async {
            tokio::time::sleep(quick * 10).await;
            server.run("PUBLISH +sdown again").await
        });
        assert_eq!(heard, Ok(("+sdown".to_owned(), "again".to_owned())));
        server.freeze();
        assert_eq!(listening.next(quick, quick * 10).await, Err(WireError::TimedOut));
    }
}

#[tokio::test]
async fn a_channel_that_is_not_granted_is_denied() {
    let server = Server::start("redis-server", PASSWORD, "user ear on >canary-right resetchannels &+sdown +@all\n");
    let ear = Dial { user: "ear".into(), ..server.dial() };
    let denied = Reader::connect(&ear, AMPLE).await.unwrap().subscribe(&["+sdown", "+odown"], AMPLE).await;
    assert!(matches!(denied, Err(WireError::Denied { code, .. }) if code == "NOPERM"));
    assert!(Reader::connect(&ear, AMPLE).await.unwrap().subscribe(&["+sdown"], AMPLE).await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_full_says_so_at_once() {
    let server = Server::start("redis-server", "", "maxclients 2\n");
    let mut held = Vec::new();
    let told = loop {
        match Reader::connect(&server.dial(), AMPLE).await {
            Ok(reader) if held.len() < 2 => held.push(reader),
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(&told, WireError::Denied { text, .. } if text.contains("max number of clients")), "{told:?}");
    assert!(matches!(Missing::from(&told), Missing::Unreachable(_)));
}

/// A CA and a certificate of 127.0.0.1 that it signed.
fn certificates(dir: &std::path::Path) {
    let openssl = |line: &str| {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"));
    openssl(&format!("req -x509 {key} -keyout other.key -out other.pem -subj /CN=other"));
    openssl(&format!(
        "req -x509 {key} -keyout tls.key -out tls.pem -subj /CN=node -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
}

#[tokio::test]
async fn tls_lets_in_who_can_prove_it_and_names_what_is_wrong() {
    let files = tempfile::tempdir().unwrap();
    certificates(files.path());
    let at = |name: &str| files.path().join(name);
    let port = servers::free_port();
    let server = Server::start(
        "redis-server",
        PASSWORD,
        &format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n",
            at("tls.pem").display(),
            at("tls.key").display(),
            at("ca.pem").display()
        ),
    );
    let tls = TlsSettings {
        ca: Some(at("ca.pem")),
        cert: Some(at("tls.pem")),
        key: Some(at("tls.key")),
        ..TlsSettings::default()
    };
    let dial = |tls: &TlsSettings| Dial {
        address: relinkd::model::Address::Tcp(Endpoint::new("127.0.0.1", port)),
        tls: Some(tls.clone()),
        ..server.dial()
    };
    let mut reader = Reader::connect(&dial(&tls), AMPLE).await.unwrap();
    assert_eq!(reader.ask(&["PING"], AMPLE).await, Ok(Reply::Text("PONG".into())));

    let wrong = [
        (TlsSettings { ca: Some(at("other.pem")), ..tls.clone() }, "UnknownIssuer"),
        (TlsSettings { server_name: Some("elsewhere.example".into()), ..tls.clone() }, "elsewhere.example"),
        (TlsSettings { ca: Some(at("absent.pem")), ..tls.clone() }, "absent.pem"),
        (TlsSettings { ca: Some(at("tls.key")), ..tls.clone() }, "no usable certificate"),
        (TlsSettings { key: None, ..tls.clone() }, "without its key"),
        (TlsSettings { cert: None, key: None, ..tls.clone() }, "certificate"),
    ];
    for (settings, part) in wrong {
        let told = Reader::connect(&dial(&settings), AMPLE).await.unwrap_err();
        assert!(
            matches!(&told, WireError::Tls(why) | WireError::TlsSetup(why) if why.to_lowercase().contains(&part.to_lowercase())),
            "{part}: {told:?}"
        );
    }
    let plain = Dial { tls: Some(tls), ..server.dial() };
    let told = Reader::connect(&plain, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(told, WireError::HelloCutShort | WireError::HelloUnanswered | WireError::Tls(_)), "{told:?}");
}
