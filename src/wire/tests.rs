//! The wire against peers that misbehave, on loopback sockets of our own.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use reply::Reply;

const SOON: Duration = Duration::from_millis(100);
const AMPLE: Duration = Duration::from_secs(20);

/// A peer that reads one request and answers it with `answer`, then goes on as `after` says.
enum After {
    Close,
    Hold,
}

async fn peer(answer: Vec<u8>, after: After) -> Dial {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await;
        let _ = socket.write_all(&answer).await;
        if matches!(after, After::Hold) {
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    Dial::plain(Endpoint::new("127.0.0.1", port))
}

async fn ping(answer: &[u8], after: After, within: Duration) -> Result<Reply, WireError> {
    let dial = peer(answer.to_vec(), after).await;
    Reader::open(&dial, AMPLE).await?.ask(&["PING"], within).await
}

#[tokio::test]
async fn peers_that_misbehave_are_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let told = ping(http, After::Close, AMPLE).await.unwrap_err();
    assert!(matches!(&told, WireError::Protocol(text) if text.contains("HTTP/1.1 400")), "{told}");

    let cases: [(&[u8], WireError); 5] = [
        (b"", WireError::Closed),
        (b"$10\r\nhalf", WireError::Closed),
        (b"*2\r\n+OK\r\n", WireError::Closed),
        (b"*1000000000\r\n", WireError::TooLarge(1_000_000_000)),
        (b"$999999999\r\n", WireError::TooLarge(999_999_999)),
    ];
    for (answer, expected) in cases {
        assert_eq!(ping(answer, After::Close, AMPLE).await, Err(expected), "{answer:?}");
    }
    assert_eq!(ping(b"$10\r\nhalf", After::Hold, SOON).await, Err(WireError::TimedOut));
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let dial = Dial::plain(Endpoint::new("127.0.0.1", free));
    assert_eq!(Reader::connect(&dial, AMPLE).await.unwrap_err(), WireError::Refused);
    let dial = Dial { address: Address::Unix("/nowhere/redis.sock".into()), ..dial };
    assert!(matches!(Reader::connect(&dial, AMPLE).await, Err(WireError::NoSocket(_))));
}

#[tokio::test]
async fn a_connection_left_in_the_middle_of_an_answer_is_not_used_again() {
    let dial = peer(Vec::new(), After::Hold).await;
    let mut reader = Reader::open(&dial, AMPLE).await.unwrap();
    assert_eq!(reader.ask(&["PING"], SOON).await, Err(WireError::TimedOut));
    assert_eq!(reader.ask(&["PING"], AMPLE).await, Err(WireError::Closed));
}

#[tokio::test]
async fn a_reader_does_not_send_what_is_no_read() {
    let dial = peer(b"+OK\r\n".to_vec(), After::Hold).await;
    let mut reader = Reader::open(&dial, AMPLE).await.unwrap();
    let refused = reader.ask(&["CONFIG", "SET", "masterauth", "canary"], AMPLE).await.unwrap_err();
    assert_eq!(refused, WireError::NotARead("CONFIG SET".into()));
    assert_eq!(reader.ask(&["PING"], AMPLE).await, Ok(Reply::Text("OK".into())));
}

#[tokio::test]
async fn a_login_that_fails_gives_the_servers_words() {
    let answer = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n";
    let dial = Dial { password: Some(Secret::new("canary")), ..peer(answer.to_vec(), After::Hold).await };
    let told = Reader::connect(&dial, AMPLE).await.unwrap_err();
    assert!(matches!(&told, WireError::Denied { code, .. } if code == "WRONGPASS"), "{told:?}");
    assert!(!format!("{dial:?} {told:?} {told}").contains("canary"));
}

#[tokio::test]
async fn a_server_that_quotes_the_password_is_not_repeated() {
    for words in ["ERR unknown command `AUTH`, with args beginning with: `canary", "ERR canary is wrong"] {
        let answer = format!("-{words}\r\n+OK\r\n").into_bytes();
        let mut reader = Reader::open(&peer(answer.clone(), After::Hold).await, AMPLE).await.unwrap();
        let told = reader.login("", &Secret::new("canary"), AMPLE).await.unwrap();
        let dial = Dial { password: Some(Secret::new("canary")), ..peer(answer, After::Hold).await };
        let denied = Reader::connect(&dial, AMPLE).await.unwrap_err();
        assert!(!format!("{told:?} {denied:?}").contains("canary"), "{told:?} {denied:?}");
    }
}

#[tokio::test]
async fn a_subscriber_notices_a_frozen_peer() {
    let dial = peer(b"*3\r\n$9\r\nsubscribe\r\n$6\r\n+sdown\r\n:1\r\n".to_vec(), After::Hold).await;
    let reader = Reader::open(&dial, AMPLE).await.unwrap();
    let mut listening = reader.subscribe(&["+sdown"], AMPLE).await.unwrap();
    assert_eq!(listening.next(SOON, SOON).await, Err(WireError::TimedOut));
}

#[tokio::test]
async fn a_subscriber_passes_over_pongs() {
    let answer = b"*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n\
        *4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$6\r\n+sdown\r\n$2\r\nhi\r\n";
    let reader = Reader::open(&peer(answer.to_vec(), After::Hold).await, AMPLE).await.unwrap();
    let mut listening = reader.psubscribe(&["*"], AMPLE).await.unwrap();
    assert_eq!(listening.next(AMPLE, AMPLE).await, Ok(("+sdown".into(), "hi".into())));
}

#[test]
fn an_arg_hides_its_secret() {
    let command = [Arg::from("AUTH"), Arg::from(Secret::new("canary"))];
    assert_eq!(format!("{command:?}"), r#"[Text("AUTH"), Secret(Secret(hidden))]"#);
}

#[test]
fn only_a_refused_connection_says_that_nothing_listens() {
    let missing = |error: WireError| Missing::from(&error);
    assert!(matches!(missing(WireError::Refused), Missing::Refused(_)));
    assert!(matches!(missing(WireError::NoSocket("/run/x".into())), Missing::Refused(_)));
    for way in [
        WireError::Unreachable("no route to host".into()),
        WireError::NameUnresolved("x".into()),
        WireError::Tls("invalid peer certificate: Expired".into()),
        WireError::TlsSetup("cannot read x".into()),
        WireError::Reset,
        WireError::Closed,
        WireError::denied("ERR", "ERR max number of clients reached"),
    ] {
        assert!(matches!(missing(way.clone()), Missing::Unreachable(_)), "{way:?}");
    }
    assert!(matches!(missing(WireError::NotPermitted("/run/x".into())), Missing::Denied(_)));
    assert!(matches!(missing(WireError::HelloUnanswered), Missing::TimedOut));
}

#[test]
fn an_error_is_a_refusal_of_ours_only_where_it_is_about_who_we_are() {
    let refusal = |text: &str| Reply::error(text.to_owned()).refusal().unwrap();
    for text in ["NOAUTH x", "WRONGPASS x", "NOPERM x", "DENIED x"] {
        assert!(matches!(refusal(text), Missing::Denied(_)), "{text}");
    }
    assert!(matches!(refusal("BUSY Redis is busy running a script."), Missing::Busy(_)));
    for text in ["MISCONF x", "MASTERDOWN x", "LOADING x", "ERR x", "NEWWORD x"] {
        assert!(matches!(refusal(text), Missing::Unsupported(_)), "{text}");
    }
}

#[tokio::test]
async fn a_socket_file_tells_a_server_that_has_ended_from_one_that_is_not_ours_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.sock");
    let dial = Dial { address: Address::Unix(path.clone()), ..Dial::plain(crate::model::Endpoint::new("x", 1)) };
    let open = async || Reader::open(&dial, std::time::Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(open().await, WireError::NoSocket(_)), "it took its file away");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(open().await, WireError::Refused, "it left its file behind");
}

/// Its answers lie in the socket when a process goes on that was stopped: only the clock tells how old they are.
#[tokio::test]
async fn a_change_that_is_too_late_is_not_sent_at_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = Dial::plain(Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port()));
    let heard = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut chunk).await {
            heard.extend_from_slice(&chunk[..count]);
            let asked = chunk[..count].iter().filter(|byte| **byte == b'*').count();
            let _ = socket.write_all(&b"+OK\r\n".repeat(asked)).await;
        }
        String::from_utf8(heard).unwrap()
    });
    let mut writer = Writer::connect(&dial, AMPLE).await.unwrap();
    writer.good_until(Until::within(AMPLE));
    assert!(writer.run(&[Arg::from("FIRST")], AMPLE).await.is_ok());
    assert_eq!(writer.run(&[Arg::from("SECOND")], Duration::ZERO).await, Err(WireError::TimedOut), "no time is left");
    writer.good_until(Until::within(SOON));
    std::thread::sleep(SOON);
    writer.good_until(Until::within(AMPLE));
    assert_eq!(writer.run(&[Arg::from("THIRD")], AMPLE).await, Err(WireError::TooLate), "the earlier bound stays");
    let all = writer.transaction(&[vec![Arg::from("FOURTH")]], AMPLE).await;
    assert_eq!(all, Err(WireError::TooLate));
    assert!(writer.ask(&["PING"], AMPLE).await.is_ok(), "reading goes on");
    drop(writer);
    let heard = heard.await.unwrap();
    assert!(heard.contains("FIRST") && heard.contains("PING"), "{heard}");
    assert!(["SECOND", "THIRD", "MULTI", "FOURTH"].iter().all(|word| !heard.contains(word)), "{heard}");
}

#[test]
fn files_and_names_are_words_of_the_clients_command_line() {
    let tls = TlsSettings {
        ca: Some("/etc/my cas/ca.pem".into()),
        key: Some("/etc/key.pem".into()),
        server_name: Some("db;reboot".into()),
        ..TlsSettings::default()
    };
    assert_eq!(tls.client_flags(), "--tls --cacert '/etc/my cas/ca.pem' --key /etc/key.pem --sni 'db;reboot'");
}
