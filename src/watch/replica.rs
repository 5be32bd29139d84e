//! The fast poll of the local instance: ROLE at each tick on a kept connection, and INFO once a second.
//!
//! Polling is the only early witness: Sentinel publishes nothing when a replica's link goes down (Redis 7.0.15, seen
//! for 20 s with three Sentinels).
//!
//! What wakes: the first pulse, another kind of pulse, another primary, the link up or down, and the primary falling
//! silent or speaking again on a link that is up. What does not: the states between `connect` and `sync`, which a hot
//! reconnect loop changes at each sample; and a connection that is cut and comes back at once, because Sentinel cuts
//! all clients when it reconfigures a server.
//!
//! [`Pulse::Absent`] says only that there was no answer: a replica whose resolver is dead stalls for ten seconds and
//! is alive (Redis 7.0.15, connectWithMaster resolves in the event loop).
//!
//! Not here: anything about the instance beyond its pulse (`collect`).

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, MissedTickBehavior};

use crate::model::event::{Pulse, Wake, Why};
use crate::model::evidence::{LinkState, PeerRole};
use crate::model::{Endpoint, Timestamp, tame};
use crate::wire::reply::info::Info;
use crate::wire::reply::{Reply, peer_role};
use crate::wire::{Dial, Reader, WireError};

use super::{REFUSED, knock, locked};

/// How long one question, or one connection with its login, may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How often INFO is read beside ROLE.
const INFO: Duration = Duration::from_secs(1);
/// The pauses between attempts while there is no connection: doubled each time, up to the second.
const AWAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// A primary pings its replicas every 10 s by default (`repl-ping-replica-period`), so a link that is up and has been
/// silent for longer than this deserves a look, long before `repl-timeout` ends it.
const QUIET_S: i64 = 12;
/// So many cuts in a row are followed by a new connection at once.
const CUTS: usize = 3;
/// The first word of an error is all that is kept of it.
const CODE: usize = 32;

/// What the poll last saw, for the daemon to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PulseBoard {
    pub last: Option<(Timestamp, Pulse)>,
    /// When the link was last seen up.
    pub last_up: Option<Timestamp>,
    /// Whom it was last seen to follow.
    pub followed: Option<Endpoint>,
    /// Why there is no answer, while there is none.
    pub trouble: Option<String>,
}

/// Polls for ever: keeps the board, and wakes when the pulse tells something new.
pub async fn poll<C>(
    dial: Dial,
    every: Duration,
    board: Arc<Mutex<PulseBoard>>,
    wake: Sender<Wake>,
    clock: C,
) -> Infallible
where
    C: Fn() -> Timestamp + Clone,
{
    let mut finger = Finger { dial, reader: None, info_due: Instant::now(), quiet_s: -1 };
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = AWAY.0;
    loop {
        ticks.tick().await;
        let felt = finger.feel().await;
        let now = clock();
        let trouble = felt.as_ref().err().map(ToString::to_string);
        let refused = felt.as_ref().err().is_some_and(WireError::is_refused_login);
        let pulse = felt.unwrap_or_else(|error| pulse_of(&error));
        if locked(&board).post(now, &pulse, trouble) {
            knock(&wake, now, Why::Replica(pulse));
        }
        if finger.reader.is_some() {
            away = AWAY.0;
        } else {
            tokio::time::sleep(if refused { REFUSED } else { away }).await;
            away = (away * 2).min(AWAY.1);
        }
    }
}

impl PulseBoard {
    /// Keeps a pulse; whether it is news.
    fn post(&mut self, now: Timestamp, pulse: &Pulse, trouble: Option<String>) -> bool {
        let news = self.last.as_ref().is_none_or(|(_, before)| is_news(before, pulse));
        if let Pulse::Replica { of, up, .. } = pulse {
            self.last_up = if *up { Some(now) } else { self.last_up };
            self.followed = Some(of.clone());
        }
        self.trouble = trouble;
        match &mut self.last {
            Some((at, same)) if same == pulse => *at = now,
            last => *last = Some((now, pulse.clone())),
        }
        news
    }
}

fn is_news(before: &Pulse, now: &Pulse) -> bool {
    match (before, now) {
        (Pulse::Replica { of: a, up: was, quiet_s: p }, Pulse::Replica { of: b, up: is, quiet_s: q }) => {
            a != b || was != is || (*p > QUIET_S) != (*q > QUIET_S)
        }
        _ => before != now,
    }
}

/// The pulse of an instance that gave no role.
fn pulse_of(error: &WireError) -> Pulse {
    match error {
        WireError::Denied { code, .. } => Pulse::Refusing { code: tame(code, CODE) },
        WireError::NotPermitted(_) => Pulse::Refusing { code: "EACCES".to_owned() },
        // Something answers, and it is no server that we know.
        WireError::Protocol(_) | WireError::TooLarge(_) | WireError::NotARead(_) => {
            Pulse::Refusing { code: "PROTOCOL".to_owned() }
        }
        WireError::TimedOut
        | WireError::Refused
        | WireError::NoSocket(_)
        | WireError::Reset
        | WireError::Closed
        | WireError::Unreachable(_)
        | WireError::NameUnresolved(_)
        | WireError::Tls(_)
        | WireError::TlsSetup(_)
        | WireError::HelloUnanswered
        | WireError::HelloCutShort
        | WireError::TooLate => Pulse::Absent,
    }
}

/// The kept connection.
struct Finger {
    dial: Dial,
    reader: Option<Reader>,
    info_due: Instant,
    /// `master_last_io_seconds_ago` as INFO last gave it.
    quiet_s: i64,
}

impl Finger {
    async fn feel(&mut self) -> Result<Pulse, WireError> {
        let mut felt = match self.reader.take() {
            Some(reader) => self.ask(reader).await,
            None => self.feel_anew().await,
        };
        // Cut: by Sentinel (twice in a row when it reconfigures a server), by a restart, by an operator. Whether the
        // server is still there shows at once.
        for _ in 0..CUTS {
            if !matches!(felt, Err(WireError::Closed | WireError::Reset)) {
                break;
            }
            felt = self.feel_anew().await;
        }
        felt
    }

    async fn feel_anew(&mut self) -> Result<Pulse, WireError> {
        let reader = Reader::connect(&self.dial, ANSWER).await?;
        self.info_due = Instant::now();
        self.ask(reader).await
    }

    /// Asks once, and keeps the connection if it still stands. After an error or a timeout it does not.
    async fn ask(&mut self, mut reader: Reader) -> Result<Pulse, WireError> {
        let role = if Instant::now() < self.info_due {
            reader.ask(&["ROLE"], ANSWER).await?
        } else {
            let mut replies = reader.ask_all(&[&["ROLE"], &["INFO", "replication"]], ANSWER).await?.into_iter();
            self.info_due = Instant::now() + INFO;
            let role = replies.next().ok_or(WireError::Closed)?;
            let io = |info: Reply| Info::parse(info.text()?).number("master_last_io_seconds_ago");
            self.quiet_s = replies.next().and_then(io).unwrap_or(-1);
            role
        };
        self.reader = Some(reader);
        let pulse = pulse(&role, self.quiet_s);
        if !matches!(pulse, Pulse::Replica { up: true, .. }) {
            // What INFO said of this link is not true of the next one.
            self.quiet_s = -1;
        }
        Ok(pulse)
    }
}

fn pulse(role: &Reply, quiet_s: i64) -> Pulse {
    match (peer_role(role), role) {
        (Some(PeerRole::Primary { .. }), _) => Pulse::Primary,
        (Some(PeerRole::Replica { of, state }), _) => {
            let up = state == LinkState::Connected;
            Pulse::Replica { of, up, quiet_s: if up { quiet_s } else { -1 } }
        }
        (Some(PeerRole::Sentinel), _) => Pulse::Refusing { code: "SENTINEL".to_owned() },
        (None, Reply::Error { code, .. }) => Pulse::Refusing { code: tame(code, CODE) },
        (None, _) => Pulse::Refusing { code: "PROTOCOL".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;

    fn replica(port: u16, up: bool, quiet_s: i64) -> Pulse {
        Pulse::Replica { of: Endpoint::new("10.0.0.20", port), up, quiet_s }
    }

    fn role(state: &str) -> Reply {
        let text = |text: &str| Reply::Text(text.to_owned());
        Reply::List(vec![text("slave"), text("10.0.0.20"), Reply::Int(6379), text(state), Reply::Int(7)])
    }

    #[test]
    fn the_first_pulse_and_each_change_are_news() {
        let mut board = PulseBoard::default();
        let refusing = Pulse::Refusing { code: "LOADING".to_owned() };
        let pulses = [
            (replica(6379, true, 1), true),
            (replica(6379, true, 9), false),
            (replica(6379, true, 13), true),
            (replica(6379, true, 20), false),
            (replica(6379, true, 0), true),
            (replica(6379, false, -1), true),
            (replica(6380, false, -1), true),
            (replica(6380, true, 0), true),
            (Pulse::Absent, true),
            (Pulse::Absent, false),
            (refusing.clone(), true),
            (refusing, false),
            (Pulse::Primary, true),
            (Pulse::Primary, false),
        ];
        for (n, (pulse, news)) in pulses.into_iter().enumerate() {
            let now = Timestamp(i64::try_from(n).unwrap());
            assert_eq!(board.post(now, &pulse, None), news, "{n}: {pulse:?}");
            assert_eq!(board.last, Some((now, pulse)));
        }
        assert_eq!(board.last_up, Some(Timestamp(7)));
    }

    #[test]
    fn a_hot_loop_is_one_pulse() {
        let seen: Vec<Pulse> = ["connect", "connecting", "handshake", "sync", "none", "new-word"]
            .iter()
            .map(|s| pulse(&role(s), 3))
            .collect();
        assert!(seen.iter().all(|p| *p == replica(6379, false, -1)), "{seen:?}");
        assert_eq!(pulse(&role("connected"), 3), replica(6379, true, 3));
    }

    #[test]
    fn what_is_no_role_is_refusing_and_silence_is_absent() {
        let code = |pulse: Pulse| match pulse {
            Pulse::Refusing { code } => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(pulse(&Reply::error("NOPERM no".to_owned()), 0)), "NOPERM");
        assert_eq!(code(pulse(&Reply::Text("HTTP".to_owned()), 0)), "PROTOCOL");
        assert_eq!(code(pulse(&Reply::List(vec![Reply::Text("sentinel".to_owned())]), 0)), "SENTINEL");
        let denied = WireError::Denied { code: "WRONGPASS".to_owned(), text: "WRONGPASS x".to_owned() };
        assert_eq!(code(pulse_of(&denied)), "WRONGPASS");
        assert_eq!(code(pulse_of(&WireError::Protocol("x".to_owned()))), "PROTOCOL");
        for silent in [WireError::TimedOut, WireError::Refused, WireError::Closed, WireError::Reset] {
            assert_eq!(pulse_of(&silent), Pulse::Absent);
        }
    }
}
