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
    /// How large the replies may be that are still to be fetched.
    later: Vec<usize>,
}

impl Reader {
    /// Connects and says nothing yet: a probe wants to see each answer itself.
    pub async fn open(dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        Ok(Reader { connection: Connection::open(dial, Instant::now() + within, None).await?, later: Vec::new() })
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
        let connection = Connection::open(dial, began + within, Some(within)).await?;
        let reader = Reader { connection, later: Vec::new() };
        reader.logged_in(dial, within.saturating_sub(began.elapsed())).await
    }

    /// Connects, logs in and asks, all of it in one write: a peer that is far away is heard after two round trips.
    /// Whoever refuses the login refuses the questions with it.
    pub async fn connect_and_ask(
        dial: &Dial,
        commands: &[&[&str]],
        within: Duration,
    ) -> Result<(Reader, Vec<Reply>), WireError> {
        let began = Instant::now();
        let mut reader = Reader::open(dial, within).await?;
        let replies = reader.enter(dial, commands, &[], within.saturating_sub(began.elapsed())).await?;
        reader.connection.end();
        Ok((reader, replies))
    }

    async fn logged_in(mut self, dial: &Dial, within: Duration) -> Result<Reader, WireError> {
        self.enter(dial, &[], &[], within).await?;
        self.connection.end();
        Ok(self)
    }

    /// Logs in and asks on a connection that has just been opened: the replies to `first`. Those to `later`, which go out
    /// in the same write, are to be fetched by [`Self::rest`]; until then nothing else can be asked.
    pub async fn enter(
        &mut self,
        dial: &Dial,
        first: &[&[&str]],
        later: &[&[&str]],
        within: Duration,
    ) -> Result<Vec<Reply>, WireError> {
        let deadline = Instant::now() + within;
        if let Some(secret) = &dial.password {
            self.connection.keep_out(secret);
        }
        let name = ["CLIENT", "SETNAME", CLIENT_NAME];
        let login = dial.password.as_ref().map(|secret| login(&dial.user, secret));
        let before = login.iter().map(Vec::as_slice).chain([name.as_slice()]);
        let all: Vec<&[&str]> = before.chain(first.iter().chain(later).copied()).collect();
        let (packed, mut caps) = packed(&all)?;
        self.later = caps.split_off(caps.len() - later.len());
        let mut replies = Vec::with_capacity(caps.len());
        let mut ended = self.connection.begin(&packed, deadline).await;
        if ended.is_ok() {
            ended = self.connection.read_into(&mut replies, &caps, deadline).await;
        }
        let asked = replies.split_off(replies.len().min(caps.len() - first.len()));
        match replies.into_iter().next().map(|reply| hide(reply, dial.password.as_ref())) {
            // CLIENT SETNAME may be forbidden: we can do without. A server that turns clients away (protected
            // mode, too many clients) answers before it reads, whatever the first command was.
            Some(Reply::Error { code, text }) if login.is_some() || turned_away(&code, &text) => {
                Err(WireError::denied(&code, &text))
            }
            _ => ended.map(|()| asked),
        }
    }

    /// The same on a connection that is in use.
    pub async fn ask_first(
        &mut self,
        first: &[&[&str]],
        later: &[&[&str]],
        within: Duration,
    ) -> Result<Vec<Reply>, WireError> {
        let deadline = Instant::now() + within;
        let all: Vec<&[&str]> = first.iter().chain(later).copied().collect();
        let (packed, mut caps) = packed(&all)?;
        self.later = caps.split_off(first.len());
        let mut replies = Vec::with_capacity(caps.len());
        self.connection.begin(&packed, deadline).await?;
        self.connection.read_into(&mut replies, &caps, deadline).await?;
        Ok(replies)
    }

    /// The replies that [`Self::enter`] or [`Self::ask_first`] left for later.
    pub async fn rest(&mut self, within: Duration) -> Result<Vec<Reply>, WireError> {
        let (caps, mut replies) = (std::mem::take(&mut self.later), Vec::new());
        self.connection.read_into(&mut replies, &caps, Instant::now() + within).await?;
        self.connection.end();
        Ok(replies)
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
        let mut replies = Vec::with_capacity(commands.len());
        self.ask_into(&mut replies, commands, within).await?;
        Ok(replies)
    }

    /// Several commands in one write, behind a login where there is one. Each answer is kept for itself, so that a peer
    /// which closes or falls silent after some of them has still given those.
    pub async fn ask_each(
        &mut self,
        login: Option<(&str, &Secret)>,
        commands: &[&[&str]],
        within: Duration,
    ) -> Answers {
        let auth = login.map(|(user, secret)| {
            self.connection.keep_out(secret);
            self::login(user, secret)
        });
        let all: Vec<&[&str]> = auth.iter().map(Vec::as_slice).chain(commands.iter().copied()).collect();
        let mut replies = Vec::with_capacity(all.len());
        let ended = self.ask_into(&mut replies, &all, within).await.err();
        if let (Some((_, secret)), Some(first)) = (login, replies.first_mut()) {
            *first = hide(std::mem::replace(first, Reply::Nil), Some(secret));
        }
        Answers { replies: replies.into_iter(), ended }
    }

    async fn ask_into(
        &mut self,
        replies: &mut Vec<Reply>,
        commands: &[&[&str]],
        within: Duration,
    ) -> Result<(), WireError> {
        let (packed, caps) = packed(commands)?;
        self.connection.exchange_into(replies, &packed, &caps, within).await
    }

    /// How long the peer took to open the connection.
    pub fn round_trip(&self) -> Duration {
        self.connection.round_trip()
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

/// The answers to commands that went out in one write, in their order.
pub struct Answers {
    replies: std::vec::IntoIter<Reply>,
    ended: Option<WireError>,
}

impl Answers {
    /// The next answer. Where there is none, why, and for those behind it nothing.
    pub fn take(&mut self) -> Option<Result<Reply, WireError>> {
        self.replies.next().map(Ok).or_else(|| self.ended.take().map(Err))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// Several commands, and how large the reply to each may be.
fn packed(commands: &[&[&str]]) -> Result<(Buffer, Vec<usize>), WireError> {
    let mut packed = Buffer::default();
    for command in commands {
        pack(command, false, &mut packed)?;
    }
    Ok((packed, commands.iter().map(|command| cap(command)).collect()))
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
