//! Changes to the local server: its password for the primary, its link, the address that it follows, its file.

use std::time::Duration;

use tokio::time::Instant;

use super::{COMMAND, Done, Former, Hands, Stop, config_file, too_late};
use crate::model::Endpoint;
use crate::model::evidence::{LinkState, ServerView};
use crate::model::remedy::{Outcome, Precondition};
use crate::secrets::{self, Secret};
use crate::wire::reply::settings::is_mangled;
use crate::wire::reply::{Reply, info};
use crate::wire::{Arg, WireError, Writer};

/// Port 1 of the loopback: REPLICAOF to it and back, inside one transaction, forces an attempt at once and keeps the
/// cached primary, so a partial resync follows. REPLICAOF with the address that it has already does nothing at all,
/// and REPLICAOF NO ONE costs a full resync (Redis 7.0.15 to Valkey 9.1.2, replicaofCommand).
const ELSEWHERE: [&str; 3] = ["REPLICAOF", "127.0.0.1", "1"];

/// How long the store may take in all. Each store has a bound of its own; together with the login to it, Vault's come
/// to this.
const STORE: Duration = Duration::from_secs(15);

/// The password that a plan means, by its fingerprint.
pub(super) struct Wanted<'a> {
    pub source: &'a str,
    pub version: &'a str,
    pub print: &'a str,
    pub user: &'a str,
}

fn failed(what: &str, why: impl std::fmt::Display) -> Stop {
    Stop::Failed(format!("{what}: {why}"))
}

fn words(parts: &[&str]) -> Vec<Arg> {
    parts.iter().map(|part| Arg::from(*part)).collect()
}

fn follow(target: &Endpoint) -> Vec<Arg> {
    words(&["REPLICAOF", &target.host, &target.port.to_string()])
}

fn set(key: &str, value: Arg) -> Vec<Arg> {
    vec![Arg::from("CONFIG"), Arg::from("SET"), Arg::from(key), value]
}

impl Hands {
    pub(super) async fn writer(&self) -> Result<Writer, Stop> {
        Writer::connect(&self.local, COMMAND).await.map_err(|error| failed("the local server", error))
    }

    pub(super) async fn realign_auth(&mut self, expect: &Precondition, wanted: &Wanted<'_>, to: &Endpoint) -> Done {
        let secret = self.fetch(wanted).await?;
        let mut writer = self.unmoved(expect).await?;
        let former = read_credentials(&mut writer).await?;
        if is_mangled(&former.0) || is_mangled(former.1.expose()) {
            let why = "the present masteruser or masterauth is not UTF-8 and could not be put back; set both by hand";
            return Err(Stop::Moved(why.to_owned()));
        }
        self.former = Some(Former { user: former.0, password: former.1 });
        self.set_credentials(&mut writer, wanted.user, secret, Some(to)).await?;
        Ok(Outcome::Changed(format!("masterauth is now {} (version {}); reconnecting", wanted.source, wanted.version)))
    }

    pub(super) async fn preset_auth(&mut self, expect: &Precondition, wanted: &Wanted<'_>) -> Done {
        let secret = self.fetch(wanted).await?;
        let mut writer = self.unmoved(expect).await?;
        self.set_credentials(&mut writer, wanted.user, secret, None).await?;
        Ok(Outcome::Changed(format!("masterauth is now {} (version {})", wanted.source, wanted.version)))
    }

    /// The store again: exactly the value that was proved, or none. It may take its time, so it comes before the world is
    /// read again.
    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Secret, Stop> {
        let Some(store) = &self.store else {
            return Err(Stop::Moved("no secret store is configured any more".to_owned()));
        };
        let late = |_| Stop::Moved(format!("{} does not answer within {} s", wanted.source, STORE.as_secs()));
        let offers = tokio::time::timeout(STORE, secrets::fetch(store)).await.map_err(late)?;
        let offers = offers.map_err(|error| Stop::Moved(error.to_string()))?;
        let found = offers.into_iter().find(|offer| offer.secret.print(&self.salt) == wanted.print);
        found.map(|offer| offer.secret).ok_or_else(|| {
            Stop::Moved(format!("{} does not offer the password any more that was proved a moment ago", wanted.source))
        })
    }

    /// The link is touched only where all is as it was. While the Sentinels are at work, or out of reach, the login alone
    /// is put back: what was not proved does not stay either way.
    pub(super) async fn restore_auth(&mut self, expect: &Precondition, to: &Endpoint) -> Done {
        let Some(former) = &self.former else {
            return Err(Stop::Failed("the former password is not known any more; set masterauth by hand".to_owned()));
        };
        let (user, password) = (former.user.clone(), former.password.clone());
        let (mut writer, kept) = match self.unmoved(expect).await {
            Ok(writer) => (writer, None),
            Err(Stop::Failed(why)) => return Err(Stop::Failed(why)),
            Err(Stop::Moved(why)) => {
                let here = Precondition { sentinels_name: None, no_failover: false, ..expect.clone() };
                (self.unmoved(&here).await?, Some(why))
            }
        };
        self.set_credentials(&mut writer, &user, password, kept.is_none().then_some(to)).await?;
        self.former = None;
        let told = "the former masterauth is back".to_owned();
        Ok(Outcome::Changed(kept.map_or(told.clone(), |why| format!("{told}; the link was left alone: {why}"))))
    }

    /// CONFIG SET and the bounce, all or nothing, and read back when the answer was lost.
    async fn set_credentials(
        &self,
        writer: &mut Writer,
        user: &str,
        secret: Secret,
        bounce_to: Option<&Endpoint>,
    ) -> Result<(), Stop> {
        let print = secret.print(&self.salt);
        let mut commands = vec![set("masteruser", Arg::from(user)), set("masterauth", Arg::from(secret))];
        commands.extend(bounce_to.into_iter().flat_map(|to| [words(&ELSEWHERE), follow(to)]));
        const WHAT: &str = "CONFIG SET masterauth";
        match writer.transaction(&commands, COMMAND).await {
            Ok(reply) => all_done(WHAT, reply),
            Err(WireError::TooLate) => Err(too_late(WHAT)),
            Err(error) => {
                let mut writer = self.writer().await?;
                let (_, now) = read_credentials(&mut writer).await?;
                if now.print(&self.salt) == print {
                    return Ok(());
                }
                Err(failed(WHAT, format!("{error}; read back: it did not take effect")))
            }
        }
    }

    pub(super) async fn bounce(&mut self, expect: &Precondition, to: &Endpoint) -> Done {
        let mut writer = self.unmoved(expect).await?;
        let reply = writer.transaction(&[words(&ELSEWHERE), follow(to)], COMMAND).await;
        match reply {
            Ok(reply) => all_done("the reconnect", reply)?,
            Err(WireError::TooLate) => return Err(too_late("the reconnect")),
            Err(error) => self.follows(to).await.map_err(|_| failed("the reconnect", error))?,
        }
        Ok(Outcome::Changed(format!("reconnecting to {to}")))
    }

    pub(super) async fn repoint(&mut self, expect: &Precondition, to: &Endpoint) -> Done {
        let mut writer = self.unmoved(expect).await?;
        if let Some(limit) = expect.leads_up_to {
            return self.give_up_writes(&mut writer, limit, to).await;
        }
        match writer.run(&follow(to), COMMAND).await {
            Ok(Reply::Text(text)) if text.contains("Already") => Ok(Outcome::AlreadySo(text)),
            Ok(Reply::Text(_)) => Ok(Outcome::Changed(format!("it follows {to} now"))),
            Ok(reply) => Err(failed("REPLICAOF", refusal(reply))),
            Err(WireError::TooLate) => Err(too_late("REPLICAOF")),
            Err(error) => {
                self.follows(to).await.map_err(|_| failed("REPLICAOF", error))?;
                Ok(Outcome::Changed(format!("it follows {to} now (read back, the answer was lost)")))
            }
        }
    }

    /// A second primary. No command makes REPLICAOF depend on the offset, so what is written between the last look and it
    /// is lost; read in the same transaction, the offset says how much that was.
    async fn give_up_writes(&self, writer: &mut Writer, limit: i64, to: &Endpoint) -> Done {
        const WHAT: &str = "REPLICAOF";
        let commands = [words(&["INFO", "replication"]), follow(to)];
        let reply = match writer.transaction(&commands, COMMAND).await {
            Ok(reply) => reply,
            Err(WireError::TooLate) => return Err(too_late(WHAT)),
            Err(error) => {
                self.follows(to).await.map_err(|_| failed(WHAT, error))?;
                return Ok(Outcome::Changed(format!("it follows {to} now (read back, the answer was lost)")));
            }
        };
        let offset = reply.items().first().and_then(Reply::text).and_then(info::repl_offset);
        let more = offset.map_or(0, |offset| offset.saturating_sub(u64::try_from(limit).unwrap_or(0)));
        all_done(WHAT, reply)?;
        Ok(Outcome::Changed(match more {
            0 => format!("it follows {to} now"),
            _ => format!(
                "it follows {to} now; {more} bytes of writes that it took in the last moment, more than was decided on, \
                 are lost"
            ),
        }))
    }

    /// Reads back whom the replica follows.
    async fn follows(&self, to: &Endpoint) -> Result<(), Stop> {
        let mut writer = self.writer().await?;
        let view = super::precondition::read_local(&mut writer).await?;
        match view.role.link() {
            Some(link) if link.primary == *to => Ok(()),
            _ => Err(Stop::Failed("it follows another address".to_owned())),
        }
    }

    /// Polls until the link reads up. A data set on its way is a link that works, and takes its time.
    pub(super) async fn prove_link(&self, within: Duration) -> Done {
        let began = Instant::now();
        let mut writer = self.writer().await?;
        const LONGEST_PAUSE: Duration = Duration::from_millis(20);
        let mut pause = Duration::from_millis(1);
        let mut progress = Progress { state: LinkState::Unknown, since: began };
        loop {
            let view = replication(&mut writer).await;
            // Sentinel, or the server itself, may cut this connection meanwhile: that is no answer on the link.
            let Ok(view) = view else {
                if began.elapsed() + pause >= within {
                    return Err(Stop::Failed(format!(
                        "the local server did not tell of its link within {} ms",
                        within.as_millis()
                    )));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                writer = self.writer().await?;
                continue;
            };
            let Some(link) = view.role.link() else {
                return Err(Stop::Moved("the instance is not a replica any more".to_owned()));
            };
            if link.up {
                let ms = began.elapsed().as_millis();
                return Ok(Outcome::Changed(format!("link to {} up after {ms} ms", link.primary)));
            }
            progress.note(link.state);
            if began.elapsed() + pause >= within {
                return match progress.is_a_sync() {
                    true => Ok(Outcome::UnderWay("the replica waits in a full resync".to_owned())),
                    false => Err(Stop::Failed(format!("the link did not come up within {} ms", within.as_millis()))),
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// CONFIG REWRITE, with a look at the file before and after.
    pub(super) async fn persist(&self, expect: &Precondition, within: Duration) -> Done {
        // Behind a change of the same run nothing is asked of the world again.
        let mut writer = match expect == &Precondition::default() {
            true => self.writer().await?,
            false => self.unmoved(expect).await?,
        };
        let view = super::precondition::read_local(&mut writer).await?;
        let before = config_file::look(&view.config_file);
        if let Some(reason) = before.reason_to_leave() {
            return Err(Stop::Failed(format!(
                "not written to the config file: {reason}; it lasts until the server restarts"
            )));
        }
        match writer.run(&words(&["CONFIG", "REWRITE"]), within).await {
            Ok(Reply::Text(_)) => {
                let warnings = before.warnings_after(&config_file::look(&view.config_file));
                let told = format!("written to {}", view.config_file);
                Ok(Outcome::Changed([vec![told], warnings].concat().join("; ")))
            }
            Ok(reply) => {
                Err(failed("CONFIG REWRITE", format!("{}; the change lasts until the server restarts", refusal(reply))))
            }
            Err(WireError::TooLate) => Err(too_late("CONFIG REWRITE")),
            Err(error) => Err(failed("CONFIG REWRITE", format!("{error}; whether the file was written is unknown"))),
        }
    }

    /// With what the replica itself logs in to its primary.
    pub(super) async fn own_credentials(&self) -> Result<(String, Secret), String> {
        let mut writer = Writer::connect(&self.local, COMMAND).await.map_err(|error| error.to_string())?;
        read_credentials(&mut writer).await.map_err(|stop| match stop {
            Stop::Moved(why) | Stop::Failed(why) => why,
        })
    }
}

/// Tells a sync on its way from a hot reconnect loop, in which the state is another at nearly every sample: a replica
/// whose PSYNC and SYNC are both refused tries again at once (Redis 7.0.15 and Valkey 8.0.1, syncWithMaster). Valkey 9.1.2
/// tries once a second and reads as syncing between: there a look has to tell.
struct Progress {
    state: LinkState,
    since: Instant,
}

impl Progress {
    /// For this long a sync waits in one state, or goes from the handshake to the transfer, and never back.
    const STEADY: Duration = Duration::from_secs(1);

    fn note(&mut self, state: LinkState) {
        let onward = (self.state, state) == (LinkState::Handshake, LinkState::Sync);
        if state != self.state && !onward {
            self.since = Instant::now();
        }
        self.state = state;
    }

    fn is_a_sync(&self) -> bool {
        matches!(self.state, LinkState::Sync | LinkState::Handshake) && self.since.elapsed() >= Self::STEADY
    }
}

async fn replication(writer: &mut Writer) -> Result<ServerView, WireError> {
    let replies = writer.ask_all(&[&["INFO", "replication"], &["ROLE"]], COMMAND).await?;
    let [Reply::Text(text), role] = replies.as_slice() else { return Err(WireError::Closed) };
    info::server_view(text, Some(role), crate::model::Timestamp::default(), 0).ok_or(WireError::Closed)
}

/// Each parameter by a command of its own: CONFIG GET takes several only from Redis 7.0 on.
async fn read_credentials(writer: &mut Writer) -> Result<(String, Secret), Stop> {
    let asked: [&[&str]; 2] = [&["CONFIG", "GET", "masteruser"], &["CONFIG", "GET", "masterauth"]];
    let replies = writer.ask_all(&asked, COMMAND).await.map_err(|error| failed("CONFIG GET", error))?;
    let mut values = Vec::with_capacity(2);
    for reply in replies {
        match reply {
            // Valkey 8 names a parameter twice, under its old name and its new one.
            Reply::List(items) => values.push(items.into_iter().nth(1).and_then(Reply::into_text).unwrap_or_default()),
            other => return Err(failed("CONFIG GET", refusal(other))),
        }
    }
    match <[String; 2]>::try_from(values) {
        Ok([user, password]) => Ok((user, Secret::new(password))),
        Err(_) => Err(failed("CONFIG GET", "a reply is missing")),
    }
}

/// EXEC's reply: each of its commands has to have gone well.
fn all_done(what: &str, reply: Reply) -> Result<(), Stop> {
    match reply {
        Reply::List(items) => match items.into_iter().find(|item| matches!(item, Reply::Error { .. })) {
            None => Ok(()),
            Some(error) => Err(failed(what, refusal(error))),
        },
        other => Err(failed(what, refusal(other))),
    }
}

/// A server's error, with what to do about it where that is known.
fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Error { code, text } if code == "NOPERM" => format!(
            "{text}; relinkd's user needs +multi +exec +replicaof +config|get +config|set +config|rewrite on this server"
        ),
        Reply::Error { text, .. } => text,
        other => other.unfit("the command").to_string(),
    }
}
