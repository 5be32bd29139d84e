//! HTTPS with certificates made on the spot. The system's list of authorities is read once in a process and named by
//! the environment, so each case runs in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use relinkd::notify::{Channel, ChannelKind, ChannelSettings, Verdict};
use relinkd::secrets::SecretRef;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::receiver::{Behaviour, Receiver};
use super::stories;

/// An authority, and a certificate for `localhost` from it.
fn certificates(dir: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=lab \
            -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key.pem -out csr.pem
        echo subjectAltName=DNS:localhost > ext
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let out = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn child(test: &str, dir: &Path, authorities: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command.env("RELINKD_TEST_DIR", dir).env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
    for proxy in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn https_works_where_the_authority_is_known_and_fails_where_not() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let authority = |dir: &Path| dir.join("ca.pem").display().to_string();
    child("tls::child_delivers", dir.path(), &authority(dir.path()));
    child("tls::child_is_refused", dir.path(), &authority(other.path()));
    child("tls::child_finds_no_authorities", dir.path(), "/nonexistent");
}

#[tokio::test]
#[ignore = "run by https_works_where_the_authority_is_known_and_fails_where_not"]
async fn child_delivers() {
    assert_eq!(send_over_tls().await, Verdict::Delivered);
}

#[tokio::test]
#[ignore = "run by https_works_where_the_authority_is_known_and_fails_where_not"]
async fn child_is_refused() {
    let verdict = send_over_tls().await;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    assert!(verdict.why().unwrap().starts_with("no connection: invalid peer certificate"), "{verdict:?}");
}

/// As on a machine without ca-certificates: HTTPS says what is missing, and plain HTTP works.
#[tokio::test]
#[ignore = "run by https_works_where_the_authority_is_known_and_fails_where_not"]
async fn child_finds_no_authorities() {
    let verdict = send_over_tls().await;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    assert!(verdict.why().unwrap().contains("No CA certificates"), "{verdict:?}");

    let receiver = Receiver::start(vec![Behaviour::status("200 OK")]).await;
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    assert_eq!(send_to(&url).await, Verdict::Delivered);
    receiver.requests().await;
}

async fn send_to(url: &str) -> Verdict {
    let file = given_dir().join("url");
    std::fs::write(&file, url).unwrap();
    let kind = ChannelKind::Webhook { url: SecretRef::File(file), secret: None };
    let channel = Channel::new(ChannelSettings { kind, timeout: Duration::from_secs(5) });
    channel.send("key", &stories::healed(), stories::at(0)).await
}

fn given_dir() -> PathBuf {
    std::env::var_os("RELINKD_TEST_DIR").expect("run by another test").into()
}

/// One message to a TLS server of our own.
async fn send_over_tls() -> Verdict {
    let dir = given_dir();
    let certificate = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/hook", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let verdict = send_to(&url).await;
    server.abort();
    verdict
}
