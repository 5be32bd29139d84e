//! What a replica's handshake meets at a primary: the same steps in the same order with the same credentials, each
//! answer kept. Harmless at every step, and over when the replica itself would give up
//! (Redis 7.0.15, syncWithMaster).
//!
//! A primary may be far away, and a look is short: what needs no answer of the step before goes out with it in one write,
//! so the whole takes four round trips, and five or six with TLS. The first PING goes alone, since nobody gets a password
//! who has not answered it as a server does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::Instant;

use super::Look;
use super::primary::Account;
use crate::model::evidence::{Answer, Connect, Missing, Probe, Reading};
use crate::model::{Endpoint, Timestamp, tame};
use crate::secrets::Secret;
use crate::wire::reply::Reply;
use crate::wire::{Dial, Reader, TlsSettings, WireError, speaks_tls};

mod path;

use path::Path;

/// A primary that has not let us connect by then is one that cannot be reached.
const CONNECT_MS: u64 = 1000;
/// A primary that has not answered a PING by then hangs.
const ANSWER_MS: u64 = 1000;
/// Silence for less than this is none: what came before has taken the time of this look, and the deadline is ours. (The
/// local server may take a second of a second and a half.) Of a peer that is far away nor is less than twice its way.
const FAIR: Duration = Duration::from_millis(400);
/// The other way is given so long for an answer, and more where the peer is far away.
const OTHERWISE: Duration = Duration::from_millis(300);
/// How much of an answer is kept.
const SHOWN: usize = 300;
/// The alerts of a server that asks for a certificate and gets none: TLS 1.3 and 1.2 (Redis 7.0.15 with OpenSSL 3).
const WANTS_OURS: [&str; 2] = ["CertificateRequired", "HandshakeFailure"];

pub struct Login<'a> {
    /// Empty for the default user.
    pub user: &'a str,
    /// Empty: a replica without `masterauth` sends no AUTH, whatever `masteruser` says.
    pub secret: &'a Secret,
}

impl Login<'_> {
    /// Whether it is the default user who speaks: the one without a name, under its own, or whoever sends no AUTH.
    pub fn is_default(&self) -> bool {
        matches!(self.user, "" | "default") || self.secret.is_empty()
    }
}

pub struct Walk<'a> {
    pub target: &'a Endpoint,
    /// None: not known, so nothing is asked that credentials decide: the walk ends with the first PING.
    pub login: Option<&'a Login<'a>>,
    pub tls: Option<&'a TlsSettings>,
    pub psync: AskPsync,
    /// Whether the peer is asked for its account of itself on the way.
    pub account: bool,
    /// The target is a replica that has lost its own primary, and tells everybody so; that does not stop the walk.
    pub headless: bool,
}

/// Whether to try PSYNC too. It leaves two lines in the primary's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskPsync {
    Never,
    /// If the peer's version, found out on the way, is one that parses the offset first.
    WhenSafe,
    /// The caller knows the version.
    KnownSafe,
}

pub struct Walked {
    pub probe: Probe,
    /// The connection, where the walk came to its end.
    pub reader: Option<Reader>,
    /// Where it was wanted, and the walk came so far.
    pub account: Option<Account>,
}

/// A door that was knocked at: whether it opened, and what answered the first PING. Nobody has shown a login yet.
pub struct Knocked {
    probe: Probe,
    began: Instant,
    opened: Option<Reader>,
}

pub async fn walk(look: &Look<'_>, walk: &Walk<'_>) -> Walked {
    enter(look, walk, knock(look, walk.target, walk.tls).await).await
}

/// Connects, and sends the first PING.
pub async fn knock(look: &Look<'_>, target: &Endpoint, tls: Option<&TlsSettings>) -> Knocked {
    let began = Instant::now();
    let mut probe = blank(look.now(), target, tls.is_some());
    let dial = Dial { tls: tls.cloned(), ..Dial::plain(target.clone()) };
    let within = look.left(CONNECT_MS);
    let opened = match Reader::open(&dial, within).await {
        Ok(mut reader) => {
            probe.peer = reader.peer().map(str::to_owned);
            probe.own_host = reader.peer().is_some_and(is_own);
            let within = look.left(ANSWER_MS);
            match reader.ask(&["PING"], within).await {
                // A TLS 1.3 server judges our certificate after we have sent the last word of the handshake.
                Err(error @ WireError::Tls(_)) => probe.connect = connect(error, within),
                // Whatever repeats our bytes to us (an echo service) sends a list, and is not to get a password.
                Ok(Reply::List(_) | Reply::Int(_) | Reply::Nil) => {
                    probe.ping = Answer::NotRedis("no status in answer to PING".into());
                }
                reply => probe.ping = status(reply, within, fair(&reader)),
            }
            probe.cut_short = probe.connect == Connect::Open && probe.ping == Answer::NotAsked;
            Some(reader)
        }
        Err(error) => {
            probe.connect = connect(error, within);
            probe.cut_short = probe.connect == Connect::NoTime;
            None
        }
    };
    if let (Connect::Tls(why), Some(bare)) = (&probe.connect, tls.and_then(|tls| tls.bare.as_ref()))
        && WANTS_OURS.iter().any(|alert| why.contains(alert))
    {
        probe.connect = Connect::TlsSetup(format!("{why}: relinkd shows no certificate, {bare}"));
    }
    if mixed_up(&probe) {
        probe.other_transport = answers_otherwise(look, target, tls.is_some()).await;
    }
    probe.took_us = super::micros(began);
    Knocked { probe, began, opened }
}

/// The rest of a walk, behind a door that was knocked at.
pub async fn enter(look: &Look<'_>, walk: &Walk<'_>, knocked: Knocked) -> Walked {
    let Knocked { mut probe, began, opened } = knocked;
    probe.user = walk.login.map_or(String::new(), |login| login.user.to_owned());
    probe.with_password = walk.login.is_some_and(|login| !login.secret.is_empty());
    let headless = walk.headless && probe.ping.code() == "MASTERDOWN";
    let (Some(reader), Some(login)) = (opened.filter(|_| headless || replica_goes_on(&probe.ping)), walk.login) else {
        return Walked { probe, reader: None, account: None };
    };
    let fair = fair(&reader);
    let mut path = Path { look, walk, login, fair, reader, probe: &mut probe, account: None };
    let ended = path.steps().await.is_some();
    let (reader, account) = (ended.then_some(path.reader), path.account);
    probe.took_us = super::micros(began);
    Walked { probe, reader, account }
}

/// Silence for less than this is none.
fn fair(reader: &Reader) -> Duration {
    FAIR.max(reader.round_trip() * 2)
}

fn blank(at: Timestamp, target: &Endpoint, tls: bool) -> Probe {
    Probe {
        at,
        took_us: 0,
        target: target.clone(),
        tls,
        user: String::new(),
        with_password: false,
        connect: Connect::Open,
        peer: None,
        own_host: false,
        version: None,
        other_transport: None,
        cut_short: false,
        ping: Answer::NotAsked,
        auth: Answer::NotAsked,
        ping_again: Answer::NotAsked,
        replconf: Answer::NotAsked,
        psync: Answer::NotAsked,
        role: Reading::Missing(Missing::NotAsked),
    }
}

/// Whether what is sent there comes from there: an address of this host. Nothing is sent.
fn is_own(peer: &str) -> bool {
    let Ok(peer) = peer.parse::<SocketAddr>() else { return false };
    let any: SocketAddr =
        if peer.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    if peer.ip().is_loopback() {
        return true;
    }
    let from = UdpSocket::bind(any).and_then(|socket| socket.connect(peer).and_then(|()| socket.local_addr()));
    from.is_ok_and(|from| from.ip() == peer.ip())
}

/// A plain PING into a TLS port is answered with a close; a TLS hello into a plain port with nothing at all, or with
/// bytes that are not TLS (Redis 7.0.15, tlsHandleEvent and processInlineBuffer).
fn mixed_up(probe: &Probe) -> bool {
    match &probe.connect {
        Connect::Open => !probe.tls && probe.ping == Answer::Closed,
        Connect::HelloUnanswered => true,
        Connect::Tls(why) => !["certificate", "fatal alert"].iter().any(|word| why.contains(word)),
        _ => false,
    }
}

/// Whether the port speaks TLS where plain failed, or plain where TLS failed; none where the time was too short to tell.
async fn answers_otherwise(look: &Look<'_>, target: &Endpoint, tls: bool) -> Option<bool> {
    if !tls {
        return speaks_tls(target, look.left(ANSWER_MS)).await;
    }
    let mut reader = match Reader::open(&Dial::plain(target.clone()), look.left(CONNECT_MS)).await {
        Ok(reader) => reader,
        Err(WireError::TimedOut) => return None,
        Err(_) => return Some(false),
    };
    let way = reader.round_trip();
    let within = look.left(ANSWER_MS).min(OTHERWISE.max(way * 3));
    match reader.ask(&["PING"], within).await {
        Err(WireError::TimedOut) => (within >= OTHERWISE.max(way * 2)).then_some(false),
        reply => Some(matches!(reply, Ok(Reply::Text(_) | Reply::Error { .. }))),
    }
}

/// Which answers to its first PING a replica takes for a living primary: anything but these ends the attempt.
fn replica_goes_on(answer: &Answer) -> bool {
    match answer {
        Answer::Ok(_) => true,
        Answer::Error { code, text } => {
            matches!(code.as_str(), "NOAUTH" | "NOPERM") || text.starts_with("ERR operation not permitted")
        }
        _ => false,
    }
}

fn still_talking(answer: &Answer) -> Option<()> {
    matches!(answer, Answer::Ok(_) | Answer::Error { .. }).then_some(())
}

fn status(reply: Result<Reply, WireError>, within: Duration, fair: Duration) -> Answer {
    match reply {
        Ok(Reply::Text(text)) => Answer::Ok(tame(&text, SHOWN)),
        Ok(Reply::Error { code, text }) => Answer::Error { code: tame(&code, 64), text: tame(&text, SHOWN) },
        Ok(Reply::Int(number)) => Answer::Ok(number.to_string()),
        Ok(Reply::Nil) => Answer::Ok("nothing".into()),
        Ok(Reply::List(items)) => Answer::Ok(format!("a list of {}", items.len())),
        Err(WireError::TimedOut) if within < fair => Answer::NotAsked,
        Err(WireError::TimedOut) => Answer::TimedOut,
        Err(WireError::Protocol(begin)) => Answer::NotRedis(begin),
        Err(error @ (WireError::TooLarge(_) | WireError::NotARead(_))) => Answer::NotRedis(error.to_string()),
        Err(_) => Answer::Closed,
    }
}

fn connect(error: WireError, within: Duration) -> Connect {
    match error {
        WireError::HelloCutShort => Connect::NoTime,
        WireError::TimedOut | WireError::HelloUnanswered | WireError::NameUnresolved(_) if within < FAIR => {
            Connect::NoTime
        }
        WireError::TimedOut => Connect::TimedOut,
        WireError::Refused => Connect::Refused,
        WireError::Reset | WireError::Closed => Connect::Reset,
        WireError::NameUnresolved(why) => Connect::NameUnresolved(why),
        WireError::Tls(why) => Connect::Tls(why),
        WireError::TlsSetup(why) => Connect::TlsSetup(why),
        WireError::HelloUnanswered => Connect::HelloUnanswered,
        WireError::Unreachable(why) => Connect::Unreachable(why),
        other => Connect::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Answer {
        status(Ok(Reply::error(text.into())), FAIR, FAIR)
    }

    #[test]
    fn a_replica_stops_at_the_same_answers_to_its_first_ping() {
        for text in ["NOAUTH Authentication required.", "NOPERM no", "ERR operation not permitted"] {
            assert!(replica_goes_on(&error(text)), "{text}");
        }
        for text in ["LOADING Redis is loading", "MISCONF no", "BUSY no", "DENIED no", "ERR max number of clients"] {
            assert!(!replica_goes_on(&error(text)), "{text}");
        }
        assert!(!replica_goes_on(&Answer::TimedOut) && !replica_goes_on(&Answer::Closed));
    }

    #[test]
    fn a_deadline_of_ours_is_no_silence_of_the_peers() {
        let short = FAIR - Duration::from_millis(1);
        assert_eq!(status(Err(WireError::TimedOut), short, FAIR), Answer::NotAsked);
        assert_eq!(status(Err(WireError::TimedOut), FAIR, FAIR), Answer::TimedOut);
        assert_eq!(status(Err(WireError::TimedOut), FAIR, FAIR * 2), Answer::NotAsked, "it is far away");
        assert_eq!(status(Err(WireError::Closed), short, FAIR), Answer::Closed, "that is the peer's");
        for silence in [WireError::TimedOut, WireError::HelloUnanswered] {
            assert_eq!(connect(silence, short), Connect::NoTime);
        }
        assert_eq!(connect(WireError::TimedOut, FAIR), Connect::TimedOut);
        assert_eq!(connect(WireError::Refused, short), Connect::Refused);
    }

    #[test]
    fn the_default_user_is_known_under_every_name_that_it_has() {
        let (some, none) = (Secret::new("x".to_owned()), Secret::new(String::new()));
        let default = |user, secret| Login { user, secret }.is_default();
        assert!(default("", &some) && default("default", &some));
        assert!(default("repl", &none), "no AUTH is sent");
        assert!(!default("repl", &some));
    }

    #[test]
    fn an_address_of_this_host_is_told_from_another() {
        assert!(is_own("127.0.0.1:6379") && is_own("127.8.8.8:1"));
        assert!(!is_own("192.0.2.1:6379"), "TEST-NET-1");
        assert!(!is_own("/run/redis.sock"));
    }
}
