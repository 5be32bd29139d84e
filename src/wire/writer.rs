//! The connection that can change something. Only `act` holds one; `tests/tidy.rs` sees to it.

use std::time::Duration;

use super::reply::Reply;
use super::resp::{Buffer, CAP, encode};
use super::{Dial, Reader, Until, WireError};
use crate::secrets::Secret;

/// One word of a command. `Debug` hides a secret, and its bytes are copied only into a buffer that is wiped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    Text(String),
    Secret(Secret),
}

impl Arg {
    fn bytes(&self) -> &[u8] {
        match self {
            Arg::Text(text) => text.as_bytes(),
            Arg::Secret(secret) => secret.expose().as_bytes(),
        }
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Arg {
        Arg::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Arg {
        Arg::Text(text)
    }
}

impl From<Secret> for Arg {
    fn from(secret: Secret) -> Arg {
        Arg::Secret(secret)
    }
}

#[derive(Debug)]
pub struct Writer {
    reader: Reader,
    good_until: Option<Until>,
}

impl Writer {
    /// Connects and logs in, as [`Reader::connect`] does. What the peer does not acknowledge for as long as `within` is
    /// given up, so that no command arrives when nobody waits for its answer any more.
    pub async fn connect(dial: &Dial, within: Duration) -> Result<Writer, WireError> {
        Ok(Writer { reader: Reader::connect_to_change(dial, within).await?, good_until: None })
    }

    /// Nothing is changed on this connection after that: [`WireError::TooLate`], without a byte sent. It is looked at
    /// right before each write.
    pub fn good_until(&mut self, until: Until) {
        self.good_until = Some(self.good_until.map_or(until, |known| known.min(until)));
    }

    fn in_time(&self) -> Result<(), WireError> {
        match self.good_until.is_some_and(Until::is_over) {
            true => Err(WireError::TooLate),
            false => Ok(()),
        }
    }

    /// One command of any kind. `TimedOut`, `Reset` and `Closed` leave its outcome unknown: read back.
    pub async fn run(&mut self, command: &[Arg], within: Duration) -> Result<Reply, WireError> {
        let mut packed = Buffer::default();
        self.pack(command, &mut packed);
        self.in_time()?;
        let mut replies = self.reader.connection.exchange(&packed, &[CAP], within).await?;
        replies.pop().ok_or(WireError::Closed)
    }

    /// MULTI, the commands, EXEC. Gives EXEC's reply (one element for each command, each perhaps an error), or the
    /// error of the first command that the server would not queue: then none has run.
    ///
    /// MULTI is answered before the rest is sent. A user who may not MULTI would otherwise run the commands one by
    /// one, without the transaction. What follows goes in one write, and EXEC is atomic either way.
    pub async fn transaction(&mut self, commands: &[Vec<Arg>], within: Duration) -> Result<Reply, WireError> {
        let began = tokio::time::Instant::now();
        let opened = self.run(&[Arg::from("MULTI")], within).await?;
        if matches!(opened, Reply::Error { .. }) {
            return Ok(opened);
        }
        let mut packed = Buffer::default();
        for command in commands {
            self.pack(command, &mut packed);
        }
        encode([b"EXEC".as_slice()].into_iter(), &mut packed);
        let caps = vec![CAP; commands.len() + 1];
        let left = within.saturating_sub(began.elapsed());
        // Behind a MULTI that is given up the connection is closed, and the server forgets it.
        self.in_time()?;
        let mut replies = self.reader.connection.exchange(&packed, &caps, left).await?;
        let done = replies.pop().ok_or(WireError::Closed)?;
        Ok(replies.into_iter().find(|reply| matches!(reply, Reply::Error { .. })).unwrap_or(done))
    }

    fn pack(&mut self, command: &[Arg], packed: &mut Buffer) {
        for arg in command {
            if let Arg::Secret(secret) = arg {
                self.reader.connection.keep_out(secret);
            }
        }
        encode(command.iter().map(Arg::bytes), packed);
    }

    /// A reading command, as [`Reader::ask`].
    pub async fn ask(&mut self, command: &[&str], within: Duration) -> Result<Reply, WireError> {
        self.reader.ask(command, within).await
    }

    /// Reading commands in one write, as [`Reader::ask_all`].
    pub async fn ask_all(&mut self, commands: &[&[&str]], within: Duration) -> Result<Vec<Reply>, WireError> {
        self.reader.ask_all(commands, within).await
    }
}
