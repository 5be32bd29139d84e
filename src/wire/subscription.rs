//! A connection that listens. Silence is questioned: a frozen Sentinel keeps its sockets open and says nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::WireError;
use super::connection::Connection;
use super::reader::pack;
use super::reply::Reply;
use super::resp::{Buffer, CAP, encode};

pub struct Subscription {
    connection: Connection,
    /// When the peer last sent anything. Kept here so that a cancelled wait does not start the clock anew.
    heard: Instant,
    /// When a PING went out that nothing has answered.
    pinged: Option<Instant>,
}

impl Subscription {
    pub(super) async fn begin(
        mut connection: Connection,
        verb: &'static str,
        channels: &[&str],
        within: Duration,
    ) -> Result<Subscription, WireError> {
        let command: Vec<&str> = std::iter::once(verb).chain(channels.iter().copied()).collect();
        let mut packed = Buffer::default();
        pack(&command, true, &mut packed)?;
        let deadline = Instant::now() + within;
        connection.send(&packed, deadline).await?;
        // One confirmation for each channel; one error for all when any is forbidden.
        for _ in channels {
            if let Reply::Error { code, text } = connection.receive(CAP, deadline).await? {
                return Err(WireError::denied(&code, &text));
            }
        }
        Ok(Subscription { connection, heard: Instant::now(), pinged: None })
    }

    /// The next message: its channel and its payload. PINGs after `ping_every` of silence, and is `TimedOut` when
    /// nothing at all comes back `within` that. Cancel safe.
    pub async fn next(&mut self, ping_every: Duration, within: Duration) -> Result<(String, String), WireError> {
        loop {
            let deadline = match self.pinged {
                Some(at) => at + within,
                None => self.heard + ping_every,
            };
            match self.connection.receive(CAP, deadline).await {
                Ok(reply) => {
                    self.heard = Instant::now();
                    self.pinged = None;
                    if let Some(message) = message(reply)? {
                        return Ok(message);
                    }
                }
                Err(WireError::TimedOut) if self.pinged.is_none() => {
                    let mut ping = Buffer::default();
                    encode([b"PING".as_slice()].into_iter(), &mut ping);
                    // Marked first: a cancelled send counts as sent, and its silence as silence.
                    let now = Instant::now();
                    self.pinged = Some(now);
                    self.connection.send(&ping, now + within).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

/// A message out of a push; `None` for a pong or a confirmation.
fn message(reply: Reply) -> Result<Option<(String, String)>, WireError> {
    match reply {
        Reply::List(items) => {
            let mut words = items.into_iter().map(Reply::into_text);
            Ok(match (words.next().flatten().as_deref(), words.len()) {
                (Some("message"), 2) => words.next().flatten().zip(words.next().flatten()),
                (Some("pmessage"), 3) => {
                    words.next();
                    words.next().flatten().zip(words.next().flatten())
                }
                _ => None,
            })
        }
        Reply::Error { code, text } => Err(WireError::denied(&code, &text)),
        _ => Ok(None),
    }
}
