//! The HTTP port: GET only, loopback by default. It tells, and changes nothing.
//!
//! A client can hold up other clients, never the daemon: connections are counted, each serves one request and has its
//! time, bodies are not read, and the ledger is read on threads that are counted too. The loop is asked for a
//! [`Snapshot`]; one that does not answer makes `/healthz` fail, and the metrics stand still but for the lag.
//! A port that cannot be had keeps nobody from watching: it is said, and tried again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::clock::Clock;
use super::falls::Falls;
use super::metrics::{Metrics, STALLED};
use super::snapshot::Snapshot;
use crate::ledger::{Ledger, LedgerError, Lookup};
use crate::model::incident::{Incident, Notice};
use crate::notify::render;

mod page;

/// Connections at once; the next ones wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// For one request and its answer, slow clients included.
const EXCHANGE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(3);
const HEADERS_BYTES: usize = 16 * 1024;
/// Between two attempts to get the port.
const AGAIN: Duration = Duration::from_secs(5);
/// The loop answers in microseconds, or it is busy with something that it should not wait for.
const ANSWER: Duration = Duration::from_secs(1);
/// Readers of the ledger at once, and how long one may take.
const READERS: usize = 2;
const READ: Duration = Duration::from_secs(3);
/// The newest incidents that are listed.
const INCIDENTS: usize = 100;

/// A question to the loop.
pub type Peek = oneshot::Sender<Snapshot>;

/// What the answers are made of.
pub struct Site {
    pub peeks: mpsc::Sender<Peek>,
    pub metrics: Arc<Metrics>,
    pub falls: Shared<Falls>,
    pub clock: Clock,
    pub host: String,
    pub ledger: PathBuf,
    pub channels: Vec<String>,
    pub loopback: bool,
    readers: Arc<Semaphore>,
}

/// Why the ledger gave nothing.
enum Unread {
    Busy,
    Failed(String),
}

type Answer = Response<Full<Bytes>>;

impl Site {
    pub fn new(
        peeks: mpsc::Sender<Peek>,
        metrics: Arc<Metrics>,
        falls: Shared<Falls>,
        clock: Clock,
        settings: &crate::config::Settings,
        listen: SocketAddr,
    ) -> Site {
        Site {
            peeks,
            metrics,
            falls,
            clock,
            host: settings.agent.host.clone(),
            ledger: settings.agent.state_dir.join(super::LEDGER),
            channels: settings.channels.keys().cloned().collect(),
            loopback: listen.ip().is_loopback(),
            readers: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// What of the daemon is down.
    fn fallen(&self) -> Option<String> {
        self.falls.lock().unwrap_or_else(PoisonError::into_inner).sentence()
    }
}

/// Never ends by itself.
pub async fn serve(listen: SocketAddr, site: Site, trouble: Shared<Option<String>>) {
    let site = Arc::new(site);
    let tell = |why: Option<String>| *trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    if !site.loopback {
        tracing::warn!("[agent] listen = {listen}: whoever reaches it may read it; it asks for no password");
    }
    let mut said = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tell(None);
                tracing::info!("HTTP on http://{listen}/");
                accept(&listener, &site).await;
            }
            Err(error) => {
                let why = format!("{listen} cannot be listened on: {error}");
                if !std::mem::replace(&mut said, true) {
                    tracing::error!("{why}; nothing else depends on it; change [agent] listen, or set it to \"off\"");
                }
                tell(Some(why));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener, site: &Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = Arc::clone(site);
                connections.spawn(async move {
                    let _ = timeout(EXCHANGE, exchange(stream, site)).await;
                    drop(place);
                });
            }
            // Out of descriptors, as a rule: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn exchange(stream: TcpStream, site: Arc<Site>) {
    let service = hyper::service::service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<Answer, Infallible>(answer(&site, &request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADERS_BYTES).keep_alive(false);
    // What a client does wrong is its own affair.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(site: &Site, request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET: control goes through the control socket\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    // A page of elsewhere that a browser on this host shows could give its own name our address.
    if site.loopback && !request.headers().get(HOST).is_none_or(is_here) {
        return text(StatusCode::MISDIRECTED_REQUEST, "ask for localhost or for an address\n");
    }
    match request.uri().path() {
        "/" => page(site).await,
        "/metrics" => metrics(site).await,
        "/healthz" => health(site.metrics.standstill(), site.fallen()),
        "/readyz" => readiness(peek(site).await.as_ref()),
        "/api/v1/status" => match peek(site).await {
            Some(snapshot) => data(StatusCode::OK, &snapshot.as_json()),
            None => busy(),
        },
        "/api/v1/incidents" => match incidents(site, INCIDENTS).await {
            Ok(all) => data(StatusCode::OK, &all.into_iter().map(|one| report(site, one)).collect()),
            Err(unread) => unreadable(unread),
        },
        path => match path.strip_prefix("/api/v1/incidents/") {
            Some(id) => incident(site, id).await,
            None => data(StatusCode::NOT_FOUND, &json!({ "error": "no such path" })),
        },
    }
}

/// Whether a Host header names this machine by an address, or as localhost.
fn is_here(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

async fn peek(site: &Site) -> Option<Snapshot> {
    let (peek, told) = oneshot::channel();
    let asked = async {
        site.peeks.send(peek).await.ok()?;
        told.await.ok()
    };
    timeout(ANSWER, asked).await.ok().flatten()
}

fn health(standstill: Duration, fallen: Option<String>) -> Answer {
    let stalled =
        (standstill >= STALLED).then(|| format!("the daemon's loop has not turned for {} s", standstill.as_secs()));
    match stalled.or(fallen) {
        None => text(StatusCode::OK, "ok\n"),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
    }
}

fn readiness(snapshot: Option<&Snapshot>) -> Answer {
    match snapshot.map(Snapshot::not_ready) {
        Some(None) => text(StatusCode::OK, "ready\n"),
        Some(Some(why)) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop does not answer\n"),
    }
}

async fn metrics(site: &Site) -> Answer {
    if let Some(snapshot) = peek(site).await {
        site.metrics.show(&snapshot);
    }
    let channels = site.channels.clone();
    let pending = read(site, move |ledger| {
        let count = |name: String| ledger.pending(&name).map(|count| (name, count));
        channels.into_iter().map(count).collect::<Result<Vec<_>, _>>()
    });
    site.metrics.outbox(&pending.await.unwrap_or_default());
    match site.metrics.text() {
        Ok(bytes) => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

async fn page(site: &Site) -> Answer {
    let Some(snapshot) = peek(site).await else { return busy() };
    let incidents = incidents(site, page::INCIDENTS).await.map_err(|unread| match unread {
        Unread::Busy => "it is being read by others".to_owned(),
        Unread::Failed(why) => why,
    });
    let html = page::render(&site.host, &snapshot, &incidents);
    let mut answer = respond(StatusCode::OK, "text/html; charset=utf-8", html.into_bytes());
    let nothing_from_elsewhere = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(nothing_from_elsewhere));
    answer
}

async fn incidents(site: &Site, most: usize) -> Result<Vec<Incident>, Unread> {
    read(site, move |ledger| ledger.incidents(None, most)).await
}

async fn incident(site: &Site, id: &str) -> Answer {
    let name = id.to_owned();
    let plain = !id.is_empty() && id.len() <= 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let found = match plain {
        true => read(site, move |ledger| ledger.incident(&name)).await,
        false => Ok(Lookup::None),
    };
    let absent = |why: String| data(StatusCode::NOT_FOUND, &json!({ "error": why }));
    match found {
        Ok(Lookup::Found(incident)) => data(StatusCode::OK, &report(site, *incident)),
        Ok(Lookup::Many(ids)) => absent(format!("this fits {} incidents: ask for one", ids.len())),
        // Before the first incident there may be no ledger.
        Ok(Lookup::None) => absent("no such incident".to_owned()),
        Err(unread) => unreadable(unread),
    }
}

/// The same words as `relinkd show --json`.
fn report(site: &Site, incident: Incident) -> Value {
    render::report(&Notice::of(&site.host, site.clock.now(), incident))
}

/// Reads the ledger on a thread that may block. One that hangs keeps its place among the readers.
async fn read<T: Default + Send + 'static>(
    site: &Site,
    work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, Unread> {
    let place = timeout(ANSWER, Arc::clone(&site.readers).acquire_owned());
    let Ok(Ok(place)) = place.await else { return Err(Unread::Busy) };
    let path = site.ledger.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let _place = place;
        match Ledger::open_read_only(&path) {
            Ok(ledger) => work(&ledger),
            // Before the first record there is none.
            Err(LedgerError::Absent { .. }) => Ok(T::default()),
            Err(error) => Err(error),
        }
    });
    match timeout(READ, reading).await {
        Ok(Ok(read)) => read.map_err(|error| Unread::Failed(error.to_string())),
        Ok(Err(_)) => Err(Unread::Failed("the reading ended unexpectedly".to_owned())),
        Err(_) => Err(Unread::Busy),
    }
}

fn unreadable(unread: Unread) -> Answer {
    match unread {
        Unread::Busy => busy(),
        Unread::Failed(why) => data(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": why })),
    }
}

fn busy() -> Answer {
    data(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "no answer in time; try again" }))
}

fn data(status: StatusCode, value: &Value) -> Answer {
    let mut text = format!("{value:#}");
    text.push('\n');
    respond(status, "application/json", text.into_bytes())
}

fn text(status: StatusCode, text: &str) -> Answer {
    respond(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_not_healthy() {
        assert_eq!(health(STALLED - Duration::from_millis(1), None).status(), StatusCode::OK);
        assert_eq!(health(STALLED, None).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health(Duration::ZERO, Some("fell".into())).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_daemon_that_does_not_answer_or_cannot_record_is_not_ready() {
        assert_eq!(readiness(None).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness(Some(&Snapshot::default())).status(), StatusCode::OK);
    }

    #[test]
    fn a_name_of_elsewhere_is_not_here() {
        for (host, here) in [
            ("localhost:9779", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9779", true),
            ("[::1]:9779", true),
            ("10.0.0.21", true),
            ("evil.example:9779", false),
            ("127.0.0.1.evil.example", false),
            ("[evil]:1", false),
            ("", false),
        ] {
            assert_eq!(is_here(&HeaderValue::from_static(host)), here, "{host:?}");
        }
    }
}
