//! Sending over real sockets: what each answer means, what is signed, and that nothing secret comes back.

use std::path::PathBuf;
use std::time::Duration;

use relinkd::model::Timestamp;
use relinkd::model::incident::Notice;
use relinkd::notify::{Channel, ChannelKind, ChannelSettings, Verdict, render, test_notice};
use relinkd::secrets::SecretRef;
use serde_json::Value;

use super::receiver::{Behaviour, Receiver, Request};
use super::{schema, stories};

/// Stands in every URL and signing secret here, and must stand in nothing that comes back.
const CANARY: &str = "T0CANARYB0";

const SIGNING: &str = "whsec_VDBDQU5BUllCMFQwQ0FOQVJZQjBUMENBTkFSWQ==";

struct Setup {
    _dir: tempfile::TempDir,
    url: PathBuf,
    signing: PathBuf,
}

fn setup(url: &str) -> Setup {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (url, signing) = (put("url", url), put("signing", SIGNING));
    Setup { _dir: dir, url, signing }
}

impl Setup {
    fn webhook(&self) -> Channel {
        let url = SecretRef::File(self.url.clone());
        let secret = Some(SecretRef::File(self.signing.clone()));
        let timeout = Duration::from_secs(5);
        Channel::new(ChannelSettings { kind: ChannelKind::Webhook { url, secret }, timeout })
    }

    fn slack(&self, timeout: Duration) -> Channel {
        let kind = ChannelKind::Slack { url: SecretRef::File(self.url.clone()) };
        Channel::new(ChannelSettings { kind, timeout })
    }
}

fn hook(port: u16) -> String {
    format!("http://127.0.0.1:{port}/hooks/{CANARY}?sig={CANARY}")
}

fn now() -> Timestamp {
    stories::at(0)
}

fn notice() -> Notice {
    stories::healed()
}

/// Sends one message to a receiver that behaves so.
async fn webhook(behaviour: Behaviour) -> (Verdict, Request) {
    let receiver = Receiver::start(vec![behaviour]).await;
    let setup = setup(&hook(receiver.port));
    let verdict = setup.webhook().send("01HF7YAT00M3XQ7B2K5N8RWZ4C-1", &notice(), now()).await;
    assert_hides(&verdict);
    (verdict, receiver.requests().await.remove(0))
}

async fn slack(status: &str, body: &str) -> Verdict {
    let receiver = Receiver::start(vec![Behaviour::Answer(status.to_owned(), body.as_bytes().to_vec())]).await;
    let setup = setup(&hook(receiver.port));
    let verdict = setup.slack(Duration::from_secs(5)).send("key", &notice(), now()).await;
    assert_hides(&verdict);
    receiver.requests().await;
    verdict
}

fn assert_hides(verdict: &Verdict) {
    let said = format!("{verdict:?}");
    for secret in [CANARY, SIGNING, "VDBDQU5BUllC", "127.0.0.1"] {
        assert!(!said.contains(secret), "{said}");
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Retry { .. } => "retry",
        Verdict::Disabled(_) => "disabled",
        Verdict::Rejected(_) => "rejected",
    }
}

#[tokio::test]
async fn the_request_is_the_contracts_json_under_standard_headers() {
    let (verdict, request) = webhook(Behaviour::status("204 No Content")).await;
    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(request.line, format!("POST /hooks/{CANARY}?sig={CANARY} HTTP/1.1"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("user-agent"), Some(concat!("relinkd/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(request.header("webhook-id"), Some("01HF7YAT00M3XQ7B2K5N8RWZ4C-1"));
    assert_eq!(request.header("webhook-timestamp"), Some("1700000000"));
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, render::report(&notice()));
}

/// Checked with another implementation of HMAC-SHA256 than the one that signed.
#[tokio::test]
async fn the_signature_verifies_with_openssl() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let (_, request) = webhook(Behaviour::status("200 OK")).await;
    let [id, timestamp] = ["webhook-id", "webhook-timestamp"].map(|name| request.header(name).unwrap().to_owned());
    // The bytes of SIGNING are the text T0CANARYB0T0CANARYB0T0CANARY.
    let script = "openssl dgst -sha256 -hmac T0CANARYB0T0CANARYB0T0CANARY -binary | openssl base64 -A";
    let mut shell = match Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(shell) => shell,
        Err(error) => return eprintln!("SKIPPED, no openssl here: {error}"),
    };
    shell.stdin.take().unwrap().write_all(format!("{id}.{timestamp}.{}", request.body).as_bytes()).unwrap();
    let out = shell.wait_with_output().unwrap();
    let expected = format!("v1,{}", String::from_utf8(out.stdout).unwrap());
    assert_eq!(request.header("webhook-signature"), Some(expected.as_str()));
}

#[tokio::test]
async fn without_a_signing_secret_nothing_is_signed() {
    let receiver = Receiver::start(vec![Behaviour::status("200 OK")]).await;
    let setup = setup(&hook(receiver.port));
    let kind = ChannelKind::Webhook { url: SecretRef::File(setup.url.clone()), secret: None };
    let channel = Channel::new(ChannelSettings { kind, timeout: Duration::from_secs(5) });
    assert_eq!(channel.send("key", &notice(), now()).await, Verdict::Delivered);
    let request = receiver.requests().await.remove(0);
    assert_eq!(request.header("webhook-signature"), None);
    assert_eq!(request.header("webhook-id"), Some("key"));
}

#[tokio::test]
async fn a_retry_keeps_its_id_and_takes_a_new_timestamp() {
    let receiver =
        Receiver::start(vec![Behaviour::status("503 Service Unavailable"), Behaviour::status("200 OK")]).await;
    let setup = setup(&hook(receiver.port));
    let channel = setup.webhook();
    assert_eq!(kind(&channel.send("01A-2", &notice(), now()).await), "retry");
    assert_eq!(channel.send("01A-2", &notice(), now().after(Duration::from_secs(7))).await, Verdict::Delivered);
    let requests = receiver.requests().await;
    let both = |name| [0, 1].map(|n: usize| requests[n].header(name).unwrap().to_owned());
    assert_eq!(both("webhook-id"), ["01A-2", "01A-2"]);
    assert_eq!(both("webhook-timestamp"), ["1700000000", "1700000007"]);
    assert_eq!(requests[0].body, requests[1].body);
    let [first, second] = both("webhook-signature");
    assert_ne!(first, second);
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let table = [
        ("200 OK", "delivered"),
        ("202 Accepted", "delivered"),
        ("301 Moved Permanently", "rejected"),
        ("400 Bad Request", "rejected"),
        ("401 Unauthorized", "rejected"),
        ("404 Not Found", "rejected"),
        ("408 Request Timeout", "retry"),
        ("410 Gone", "disabled"),
        ("418 I'm a teapot", "rejected"),
        ("425 Too Early", "retry"),
        ("429 Too Many Requests", "retry"),
        ("500 Internal Server Error", "retry"),
        ("502 Bad Gateway", "retry"),
        ("503 Service Unavailable", "retry"),
        ("599 Whatever", "retry"),
    ];
    for (status, meaning) in table {
        let (verdict, _) = webhook(Behaviour::status(status)).await;
        assert_eq!(kind(&verdict), meaning, "{status}: {verdict:?}");
        if let Some(why) = verdict.why() {
            assert!(why.contains(&status[..3]), "{status}: {why}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let ask = async |header: &str| match webhook(Behaviour::status(&format!("429 Slow Down\r\nretry-after: {header}")))
        .await
    {
        (Verdict::Retry { after, .. }, _) => after,
        (verdict, _) => panic!("{verdict:?}"),
    };
    assert_eq!(ask("7").await, Some(Duration::from_secs(7)));
    assert_eq!(ask("Tue, 14 Nov 2023 22:15:20 GMT").await, Some(Duration::from_secs(120)));
    assert_eq!(ask("604800").await, Some(Duration::from_secs(3600)));
    assert_eq!(ask("later").await, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(vec![Behaviour::status("200 OK")]).await;
    let location = format!("307 Temporary Redirect\r\nlocation: http://127.0.0.1:{}/{CANARY}", elsewhere.port);
    let (verdict, _) = webhook(Behaviour::status(&location)).await;
    assert_eq!(kind(&verdict), "rejected");
    assert!(verdict.why().unwrap().contains("not followed"), "{verdict:?}");
    assert!(elsewhere.untouched());
}

#[tokio::test]
async fn an_answer_that_echoes_the_url_does_not_give_it_away() {
    for status in ["400 Bad Request", "404 Not Found", "410 Gone", "500 Internal Server Error"] {
        webhook(Behaviour::Echo(status.to_owned())).await;
        slack(status, &format!("no such hook: /hooks/{CANARY}")).await;
    }
}

#[tokio::test]
async fn broken_connections_are_tried_again() {
    for behaviour in [Behaviour::Reset, Behaviour::CutShort] {
        let (verdict, _) = webhook(behaviour.clone()).await;
        assert_eq!(kind(&verdict), "retry", "{behaviour:?}: {verdict:?}");
    }
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let verdict = setup(&hook(free)).webhook().send("key", &notice(), now()).await;
    assert_eq!(verdict.why(), Some("no connection: Connection refused (os error 111)"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_times_out() {
    let receiver = Receiver::start(vec![Behaviour::Silent]).await;
    let setup = setup(&hook(receiver.port));
    let verdict = setup.slack(Duration::from_millis(200)).send("key", &notice(), now()).await;
    assert_eq!(verdict, Verdict::Retry { after: None, why: "no answer in time".to_owned() });
    receiver.requests().await;
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let (verdict, _) = webhook(Behaviour::Answer("200 OK".to_owned(), vec![b'x'; 64 << 20])).await;
    assert_eq!(verdict, Verdict::Delivered);
    assert_eq!(kind(&slack("200 OK", &"ok".repeat(1 << 20)).await), "rejected");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_an_error_and_no_panic() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"220 this is no TLS\r\n").await;
        let _ = stream.shutdown().await;
    });
    if ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].iter().any(|name| std::env::var_os(name).is_some()) {
        return eprintln!("SKIPPED, a proxy would be asked: tls_to_a_plain_port_is_an_error_and_no_panic");
    }
    let setup = setup(&hook(port).replace("http:", "https:"));
    let verdict = setup.webhook().send("key", &notice(), now()).await;
    plain.await.unwrap();
    assert_hides(&verdict);
    assert_eq!(kind(&verdict), "retry", "{verdict:?}");
}

#[tokio::test]
async fn slack_takes_a_message_only_with_its_ok() {
    assert_eq!(slack("200 OK", "ok").await, Verdict::Delivered);
    let table = [
        ("200 OK", "<html>please log in</html>", "rejected"),
        ("201 Created", "ok", "rejected"),
        ("400 Bad Request", "invalid_payload", "rejected"),
        ("403 Forbidden", "action_prohibited", "rejected"),
        ("404 Not Found", "channel_not_found", "rejected"),
        ("404 Not Found", "no_service", "disabled"),
        ("410 Gone", "channel_is_archived", "disabled"),
        ("429 Too Many Requests", "rate_limited", "retry"),
        ("500 Internal Server Error", "rollup_error", "retry"),
    ];
    for (status, body, meaning) in table {
        let verdict = slack(status, body).await;
        assert_eq!(kind(&verdict), meaning, "{status} {body}: {verdict:?}");
        assert!(status.starts_with('2') || verdict.why().unwrap().contains(body), "{verdict:?}");
    }
}

#[tokio::test]
async fn slack_gets_blocks_and_a_fallback_text() {
    let receiver = Receiver::start(vec![Behaviour::Answer("200 OK".to_owned(), b"ok".to_vec())]).await;
    let setup = setup(&hook(receiver.port));
    setup.slack(Duration::from_secs(5)).send("key", &notice(), now()).await;
    let request = receiver.requests().await.remove(0);
    assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), render::slack(&notice()));
    assert_eq!(request.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_store_that_is_away_is_tried_again_and_a_wrong_value_is_named() {
    let lost = setup("unused");
    std::fs::remove_file(&lost.url).unwrap();
    let verdict = lost.webhook().send("key", &notice(), now()).await;
    assert_eq!(kind(&verdict), "retry", "{verdict:?}");
    let wrong = setup(CANARY);
    let verdict = wrong.webhook().send("key", &notice(), now()).await;
    assert_eq!(kind(&verdict), "rejected");
    assert_hides(&verdict);
    assert!(verdict.why().unwrap().contains("does not hold a URL"), "{verdict:?}");
}

#[tokio::test]
async fn a_test_message_says_that_nothing_is_wrong() {
    let notice = test_notice("db-21", now());
    assert_eq!(render::summary(&notice), "a test message from relinkd on db-21: nothing is wrong");
    assert_eq!(render::text(&notice), render::summary(&notice) + "\n");
    let schema = schema::published();
    let report = render::report(&notice);
    assert_eq!(schema::problems(&schema, &schema, &report, ""), Vec::<String>::new());
    assert_eq!(report["severity"], "info");
    assert!(!notice.key().contains('.'));
}

#[test]
fn channels_do_not_show_where_they_lead() {
    let setup = setup(&hook(1));
    let shown = format!("{:?} {:?}", setup.webhook(), setup.slack(Duration::from_secs(1)));
    assert!(!shown.contains(CANARY) && shown.contains("file:"), "{shown}");
}
