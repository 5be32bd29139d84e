//! The connection that only reads.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::quoted::is_the_servers_own;
use super::reply::Reply;
use super::resp::{Buffer, CAP, CAP_INFO_CACHE, encode};
use super::subscription::Subscription;
use super::{Dial, WireError, reads};
use crate::secrets::Secret;

/// What we call ourselves in the server's CLIENT LIST.
const CLIENT_NAME: &str = "relinkd";

/// Asks, and changes nothing: commands that are not on the closed list are refused before a byte is sent.
pub struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Connects and says nothing yet: a probe wants to see each answer itself.
    pub async fn open(dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        Ok(Reader { connection: Connection::open(dial, Instant::now() + within, None).await? })
    }

    /// The address that the connection really went to, after name resolution.
    pub fn peer(&self) -> Option<&str> {
        self.connection.peer()
    }

    /// Connects and logs in. `within` bounds all of it.
    pub async fn connect(dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        let began = Instant::now();
        let reader = Reader::open(dial, within).await?;
        reader.logged_in(dial, within.saturating_sub(began.elapsed())).await
    }

    /// The same for commands that must not arrive later than their answer is waited for.
    pub(super) async fn connect_to_change(dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        let began = Instant::now();
        let reader = Reader { connection: Connection::open(dial, began + within, Some(within)).await? };
        reader.logged_in(dial, within.saturating_sub(began.elapsed())).await
    }

    async fn logged_in(self, dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        let mut reader = self;
        if let Some(secret) = &dial.password {
            reader.connection.keep_out(secret);
        }
        let name = ["CLIENT", "SETNAME", CLIENT_NAME];
        let login = dial.password.as_ref().map(|secret| login(&dial.user, secret));
        let commands: Vec<&[&str]> = login.iter().map(Vec::as_slice).chain([name.as_slice()]).collect();
        let replies = reader.ask_all(&commands, within).await?;
        match replies.into_iter().next().map(|reply| hide(reply, dial.password.as_ref())) {
            // CLIENT SETNAME may be forbidden: we can do without. A server that turns clients away (protected
            // mode, too many clients) answers before it reads, whatever the first command was.
            Some(Reply::Error { code, text }) if login.is_some() || turned_away(&code, &text) => {
                Err(WireError::denied(&code, &text))
            }
            _ => Ok(reader),
        }
    }

    /// AUTH alone, its answer as it came but for the password, which some errors repeat.
    pub async fn login(&mut self, user: &str, secret: &Secret, within: Duration) -> Result<Reply, WireError> {
        self.connection.keep_out(secret);
        self.ask(&login(user, secret), within).await.map(|reply| hide(reply, Some(secret)))
    }

    /// One command, one reply. A server's error is a reply: `Ok(Reply::Error { .. })`.
    pub async fn ask(&mut self, command: &[&str], within: Duration) -> Result<Reply, WireError> {
        let mut replies = self.ask_all(&[command], within).await?;
        replies.pop().ok_or(WireError::Closed)
    }

    /// Several commands in one write, their replies in order.
    pub async fn ask_all(&mut self, commands: &[&[&str]], within: Duration) -> Result<Vec<Reply>, WireError> {
        let mut packed = Buffer::default();
        let mut caps = Vec::with_capacity(commands.len());
        for command in commands {
            pack(command, false, &mut packed)?;
            caps.push(cap(command));
        }
        self.connection.exchange(&packed, &caps, within).await
    }

    /// Turns this connection into a subscription to exactly these channels.
    pub async fn subscribe(self, channels: &[&str], within: Duration) -> Result<Subscription, WireError> {
        Subscription::begin(self.connection, "SUBSCRIBE", channels, within).await
    }

    /// The same for patterns. A server's ACL wants the pattern itself granted (Redis 7.0.15, ACLCheckChannelPerm).
    pub async fn psubscribe(self, patterns: &[&str], within: Duration) -> Result<Subscription, WireError> {
        Subscription::begin(self.connection, "PSUBSCRIBE", patterns, within).await
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// Encodes a command that stands on the list.
pub(super) fn pack(command: &[&str], subscribing: bool, out: &mut Buffer) -> Result<(), WireError> {
    if !reads::allowed(command, subscribing) {
        return Err(WireError::NotARead(reads::name(command)));
    }
    encode(command.iter().map(|part| part.as_bytes()), out);
    Ok(())
}

fn login<'a>(user: &'a str, secret: &'a Secret) -> Vec<&'a str> {
    match user {
        "" => vec!["AUTH", secret.expose()],
        user => vec!["AUTH", user, secret.expose()],
    }
}

/// Takes a password out of an error. Where AUTH is renamed the server quotes its arguments, cut short
/// (Redis 7.0.15, processCommand: `unknown command 'AUTH', with args beginning with: …`).
fn hide(reply: Reply, secret: Option<&Secret>) -> Reply {
    let (Reply::Error { text, .. }, Some(secret)) = (&reply, secret) else { return reply };
    if is_the_servers_own(text) {
        return reply;
    }
    let kept = text.split(", with args beginning with").next().unwrap_or_default();
    let hidden = match secret.is_empty() {
        true => kept.to_owned(),
        false => kept.replace(secret.expose(), "(hidden)"),
    };
    Reply::error(hidden)
}

fn turned_away(code: &str, text: &str) -> bool {
    code == "DENIED" || text.contains("max number of clients")
}

fn cap(command: &[&str]) -> usize {
    match command.get(1) {
        Some(verb) if verb.eq_ignore_ascii_case("INFO-CACHE") => CAP_INFO_CACHE,
        _ => CAP,
    }
}
