//! What the tests of the senses share: how relinkd reaches a server of the lab, one look, one log that is followed.

#![allow(dead_code)] // each test binary uses a part of it

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lab::{Kind, Server};
use relinkd::collect::{Ask, DEADLINE, Target, look};
use relinkd::model::event::Wake;
use relinkd::model::evidence::{Evidence, LogFact, LogKind, Missing, Reading};
use relinkd::model::{Address, Endpoint, LinkId, Timestamp};
use relinkd::secrets::{Offer, Salt, Secret};
use relinkd::watch::log::{LogBook, Resolved, follow};
use relinkd::wire::Dial;
use tokio::sync::mpsc::{Receiver, channel};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Redis and Valkey as Debian has them, each if it is here.
pub fn kinds() -> impl Iterator<Item = Kind> {
    [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require)
}

pub fn endpoint(server: &Server) -> Endpoint {
    let (host, port) = server.endpoint();
    Endpoint::new(host, port)
}

/// As the default user.
pub fn dial(server: &Server) -> Dial {
    Dial { password: server.admin_password().map(Secret::new), ..Dial::plain(endpoint(server)) }
}

pub fn through_socket(server: &Server) -> Dial {
    Dial { address: Address::Unix(server.socket_path()), ..dial(server) }
}

pub fn run(server: &Server, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    server.run(&words).unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// An address where nothing listens, so that attempts fail at once.
pub fn nowhere() -> Endpoint {
    let (host, port) = lab::closed_port().expect("a port");
    Endpoint::new(host, port)
}

pub fn follows(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.host, endpoint.port)
}

pub fn linked(replica: &Server) {
    assert!(replica.wait_link_up(PATIENCE).is_some(), "the link is not up:\n{}", replica.log_text());
}

pub fn unlinked(replica: &Server) {
    assert!(replica.wait_link_down(PATIENCE).is_some(), "the link is not down:\n{}", replica.log_text());
}

pub fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let seen = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok(), "never came: {what}");
}

pub fn target(local: Dial, sentinels: &[&Server]) -> Target {
    Target {
        link: LinkId { replica: "cache".into(), group: String::new() },
        local,
        sentinels: sentinels.iter().map(|sentinel| dial(sentinel)).collect(),
        group: None,
        observer: None,
        tls_upstream: None,
        salt: Salt([7; 16]),
    }
}

/// One look, which has to end soon after its deadline and to hold no password.
pub async fn seen(target: &Target, candidates: &[Offer], probe_upstream: bool) -> Evidence {
    let ask = Ask {
        meet_replicas: false,
        refused: &[],
        followed: None,
        candidates,
        probe_upstream,
        log: Reading::Missing(Missing::NotAsked),
        store: Reading::Missing(Missing::NotAsked),
        clock: &clock,
        deadline: DEADLINE,
    };
    let evidence = tokio::time::timeout(DEADLINE + Duration::from_secs(5), look(target, ask))
        .await
        .expect("a look ends by its deadline");
    assert!(evidence.began <= evidence.ended);
    let saved = serde_json::to_string(&evidence).unwrap();
    assert!(!saved.contains("canary"), "a password is in {saved}");
    assert_eq!(serde_json::from_str::<Evidence>(&saved).unwrap(), evidence);
    evidence
}

pub fn watch_log(source: Resolved) -> (Arc<Mutex<LogBook>>, Receiver<Wake>) {
    let book: Arc<Mutex<LogBook>> = Arc::default();
    let (wake, woken) = channel(64);
    tokio::spawn(follow(source, book.clone(), wake, clock));
    (book, woken)
}

pub async fn is_read(book: &Mutex<LogBook>) {
    until("the log is read", || book.lock().unwrap().reading(clock()).seen().is_some()).await;
}

pub fn fact(book: &Mutex<LogBook>, kind: LogKind) -> Option<LogFact> {
    book.lock().unwrap().view(clock()).lines.into_iter().find(|fact| fact.kind == kind)
}

pub const LOST: &str = "1:S 23 Nov 2026 06:12:00.041 # Connection with master lost.\n";

/// Writes as a server does: opened anew for each line.
pub fn write(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
