//! What a replica's handshake meets at a primary: the same steps in the same order with the same credentials, each
//! answer kept. Harmless at every step, and over when the replica itself would give up
//! (Redis 7.0.15, syncWithMaster).

use std::time::Duration;

use tokio::time::Instant;

use super::{Look, refused};
use crate::model::evidence::{Answer, Connect, Missing, PeerRole, Probe, Reading};
use crate::model::{Address, Endpoint, tame};
use crate::secrets::Secret;
use crate::wire::reply::info::Info;
use crate::wire::reply::{Reply, peer_role};
use crate::wire::{Dial, Reader, TlsSettings, WireError, speaks_tls};

/// A primary that has not let us connect by then is one that cannot be reached.
const CONNECT_MS: u64 = 1000;
/// A primary that has not answered a PING by then hangs.
const ANSWER_MS: u64 = 1000;
/// Silence for less than this is none: what came before has taken the time of this look, and the deadline is ours. (The
/// local server may take a second of a second and a half.)
const FAIR: Duration = Duration::from_millis(400);
/// The other way is tried within this.
const OTHERWISE_MS: u64 = 300;
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

/// The walk, and the connection where it came to its end.
pub async fn walk(look: &Look<'_>, walk: &Walk<'_>) -> (Probe, Option<Reader>) {
    let began = Instant::now();
    let mut probe = Probe {
        at: look.now(),
        took_us: 0,
        target: walk.target.clone(),
        tls: walk.tls.is_some(),
        user: walk.login.map_or(String::new(), |login| login.user.to_owned()),
        with_password: walk.login.is_some_and(|login| !login.secret.is_empty()),
        connect: Connect::Open,
        peer: None,
        version: None,
        other_transport: None,
        ping: Answer::NotAsked,
        auth: Answer::NotAsked,
        ping_again: Answer::NotAsked,
        replconf: Answer::NotAsked,
        psync: Answer::NotAsked,
        role: Reading::Missing(Missing::NotAsked),
    };
    let dial = Dial {
        address: Address::Tcp(walk.target.clone()),
        user: String::new(),
        password: None,
        tls: walk.tls.cloned(),
    };
    let within = look.left(CONNECT_MS);
    let reader = match Reader::open(&dial, within).await {
        Ok(reader) => {
            probe.peer = reader.peer().map(str::to_owned);
            steps(look, walk, reader, &mut probe).await
        }
        Err(error) => {
            probe.connect = connect(error, within);
            None
        }
    };
    if let (Connect::Tls(why), Some(bare)) = (&probe.connect, walk.tls.and_then(|tls| tls.bare.as_ref()))
        && WANTS_OURS.iter().any(|alert| why.contains(alert))
    {
        probe.connect = Connect::TlsSetup(format!("{why}: relinkd shows no certificate, {bare}"));
    }
    if mixed_up(&probe) {
        probe.other_transport = Some(answers_otherwise(look, walk).await);
    }
    probe.took_us = super::micros(began);
    (probe, reader)
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

/// Whether the port speaks TLS where plain failed, or plain where TLS failed.
async fn answers_otherwise(look: &Look<'_>, walk: &Walk<'_>) -> bool {
    if walk.tls.is_none() {
        return speaks_tls(walk.target, look.left(OTHERWISE_MS)).await;
    }
    match Reader::open(&Dial::plain(walk.target.clone()), look.left(OTHERWISE_MS)).await {
        Ok(mut reader) => {
            let reply = reader.ask(&["PING"], look.left(OTHERWISE_MS)).await;
            matches!(reply, Ok(Reply::Text(_) | Reply::Error { .. }))
        }
        Err(_) => false,
    }
}

async fn steps(look: &Look<'_>, walk: &Walk<'_>, mut reader: Reader, probe: &mut Probe) -> Option<Reader> {
    let within = look.left(ANSWER_MS);
    let reply = reader.ask(&["PING"], within).await;
    // A TLS 1.3 server judges our certificate after we have sent the last word of the handshake.
    if let Err(error @ WireError::Tls(_)) = reply {
        probe.connect = connect(error, within);
        return None;
    }
    probe.ping = pong(reply, within);
    let headless = walk.headless && probe.ping.code() == "MASTERDOWN";
    if !headless && !replica_goes_on(&probe.ping) {
        return None;
    }
    let login = walk.login?;
    if !login.secret.is_empty() {
        let within = look.left(ANSWER_MS);
        probe.auth = status(reader.login(login.user, login.secret, within).await, within);
        if !probe.auth.is_ok() {
            // No password is wanted here, so whoever answers tells its role without one: it may be a Sentinel.
            if matches!(&probe.auth, Answer::Error { text, .. } if text.contains("without any password")) {
                probe.role = role(reader.ask(&["ROLE"], look.left(ANSWER_MS)).await);
            }
            return None;
        }
        // A replica does not PING again, and what this PING meets does not stop it.
        probe.ping_again = asked(look, &mut reader, &["PING"]).await;
        still_talking(&probe.ping_again)?;
    }
    // Refused or not, a replica goes on.
    probe.replconf = asked(look, &mut reader, &["REPLCONF", "capa", "eof"]).await;
    still_talking(&probe.replconf)?;
    if walk.psync == AskPsync::WhenSafe {
        probe.version = version(look, walk, login, &mut reader).await;
    }
    let parses = probe.version.as_deref().is_some_and(parses_before_it_syncs);
    // Whoever has not logged in is refused before any command is looked at.
    let outside = probe.auth == Answer::NotAsked && probe.ping.code() == "NOAUTH";
    if walk.psync == AskPsync::KnownSafe || (walk.psync == AskPsync::WhenSafe && (parses || outside)) {
        probe.psync = asked(look, &mut reader, &["PSYNC", "?", "x"]).await;
        still_talking(&probe.psync)?;
    }
    // Each refusal would be a line in ACL LOG, and its INFO tells the same.
    if walk.headless && !login.is_default() {
        return Some(reader);
    }
    if let Some(refusal) = refused::lately(walk.target, login.user, "ROLE") {
        probe.role = role(Ok(refusal));
        return Some(reader);
    }
    let answer = reader.ask(&["ROLE"], look.left(ANSWER_MS)).await;
    answer.iter().for_each(|answer| refused::note(walk.target, login.user, "ROLE", answer));
    let stands = answer.is_ok();
    probe.role = role(answer);
    stands.then_some(reader)
}

async fn asked(look: &Look<'_>, reader: &mut Reader, command: &[&str]) -> Answer {
    let within = look.left(ANSWER_MS);
    status(reader.ask(command, within).await, within)
}

fn role(answer: Result<Reply, WireError>) -> Reading<PeerRole> {
    match answer {
        Ok(reply) => peer_role(&reply).map_or_else(|| Reading::Missing(reply.unfit("ROLE")), Reading::Seen),
        Err(error) => Reading::Missing((&error).into()),
    }
}

/// The peer's version: asked of itself where the default user may, and else of those who know it. A user made for
/// replication may not ask, and each refusal would be a line in ACL LOG.
async fn version(look: &Look<'_>, walk: &Walk<'_>, login: &Login<'_>, reader: &mut Reader) -> Option<String> {
    if login.is_default()
        && let Ok(Reply::Text(text)) = reader.ask(&["INFO", "server"], look.left(ANSWER_MS)).await
    {
        let told = Info::parse(&text).text("redis_version").to_owned();
        return (!told.is_empty()).then_some(told);
    }
    look.version_of(walk.target).await
}

/// Whether `PSYNC ? x` is refused for its offset and does nothing else: from Redis 7.0 on, and on Valkey, which tells
/// a Redis version of 7.2 or its own of 8 and later.
fn parses_before_it_syncs(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
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

/// An answer to PING. Whatever repeats our bytes to us (an echo service) sends a list, and is not to get a password.
fn pong(reply: Result<Reply, WireError>, within: Duration) -> Answer {
    match reply {
        Ok(Reply::List(_) | Reply::Int(_) | Reply::Nil) => Answer::NotRedis("no status in answer to PING".into()),
        other => status(other, within),
    }
}

fn status(reply: Result<Reply, WireError>, within: Duration) -> Answer {
    match reply {
        Ok(Reply::Text(text)) => Answer::Ok(tame(&text, SHOWN)),
        Ok(Reply::Error { code, text }) => Answer::Error { code: tame(&code, 64), text: tame(&text, SHOWN) },
        Ok(Reply::Int(number)) => Answer::Ok(number.to_string()),
        Ok(Reply::Nil) => Answer::Ok("nothing".into()),
        Ok(Reply::List(items)) => Answer::Ok(format!("a list of {}", items.len())),
        Err(WireError::TimedOut) if within < FAIR => Answer::NotAsked,
        Err(WireError::TimedOut) => Answer::TimedOut,
        Err(WireError::Protocol(begin)) => Answer::NotRedis(begin),
        Err(error @ (WireError::TooLarge(_) | WireError::NotARead(_))) => Answer::NotRedis(error.to_string()),
        Err(_) => Answer::Closed,
    }
}

fn connect(error: WireError, within: Duration) -> Connect {
    match error {
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
        status(Ok(Reply::error(text.into())), FAIR)
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
        assert_eq!(status(Err(WireError::TimedOut), short), Answer::NotAsked);
        assert_eq!(status(Err(WireError::TimedOut), FAIR), Answer::TimedOut);
        assert_eq!(status(Err(WireError::Closed), short), Answer::Closed, "that is the peer's");
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
    fn an_echo_service_is_no_primary() {
        let echo = pong(Ok(Reply::List(vec![Reply::Text("PING".into())])), FAIR);
        assert!(matches!(echo, Answer::NotRedis(_)));
    }
}
