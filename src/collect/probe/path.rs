//! One walk behind the door: the login, what a replica asks behind it, and at last PSYNC.

use std::time::Duration;

use tokio::time::Instant;

use super::{ANSWER_MS, AskPsync, Login, Walk, status, still_talking};
use crate::collect::primary::{Account, Questions};
use crate::collect::{Look, micros, refused};
use crate::model::evidence::{Answer, PeerRole, Probe, Reading};
use crate::wire::reply::info::Info;
use crate::wire::reply::{Reply, peer_role};
use crate::wire::{Answers, Reader, WireError};

/// One walk on its way.
pub(super) struct Path<'a, 'p> {
    pub look: &'a Look<'a>,
    pub walk: &'a Walk<'a>,
    pub login: &'a Login<'a>,
    /// Silence for less than this is none.
    pub fair: Duration,
    pub reader: Reader,
    pub probe: &'p mut Probe,
    pub account: Option<Account>,
}

impl Path<'_, '_> {
    /// Nothing where the walk ended before its end.
    pub async fn steps(&mut self) -> Option<()> {
        let auth = self.log_in().await?;
        self.rest(auth).await
    }

    /// Whether AUTH is still to be sent, together with what comes after. A server that answers without a login does so
    /// after one that is refused too, and each command that its default user lacks would be a line in ACL LOG: there
    /// AUTH goes alone.
    async fn log_in(&mut self) -> Option<bool> {
        let login = self.login;
        if login.secret.is_empty() {
            return Some(false);
        }
        if self.probe.ping.code() == "NOAUTH" {
            return Some(true);
        }
        let within = self.look.left(ANSWER_MS);
        let reply = self.reader.login(login.user, login.secret, within).await;
        self.probe.auth = self.status(reply, within);
        // No password is wanted here, so whoever answers tells its role without one: it may be a Sentinel.
        if matches!(&self.probe.auth, Answer::Error { text, .. } if text.contains("without any password")) {
            self.probe.role = role(self.reader.ask(&["ROLE"], self.look.left(ANSWER_MS)).await);
        }
        self.probe.auth.is_ok().then_some(false)
    }

    /// What a replica asks behind its login, and what tells us who answers. A replica does not PING again, and what this
    /// PING meets does not stop it; nor does a REPLCONF that is refused.
    async fn rest(&mut self, auth: bool) -> Option<()> {
        let (look, walk, login) = (self.look, self.walk, self.login);
        let within = look.left(ANSWER_MS);
        let with_password = !login.secret.is_empty();
        // Whoever has not logged in is refused before any command is looked at, so PSYNC may go along.
        let outside = walk.psync == AskPsync::WhenSafe && !with_password && self.probe.ping.code() == "NOAUTH";
        self.probe.version = look.version_so_far(walk.target).filter(|_| walk.psync == AskPsync::WhenSafe);
        let version =
            walk.psync == AskPsync::WhenSafe && !outside && self.probe.version.is_none() && login.is_default();
        // Each refusal would be a line in ACL LOG, and its INFO tells the same.
        let refusal = refused::lately(walk.target, login.user, "ROLE");
        let role_due = refusal.is_none() && (!walk.headless || login.is_default());
        let steps: [(bool, &[&str]); 5] = [
            (with_password, &["PING"]),
            (true, &["REPLCONF", "capa", "eof"]),
            (role_due, &["ROLE"]),
            (version, &["INFO", "server"]),
            (outside, PSYNC),
        ];
        let commands: Vec<&[&str]> = steps.iter().filter(|(due, _)| *due).map(|(_, command)| *command).collect();
        let sent = auth.then_some((login.user, login.secret));
        let mut answers = self.reader.ask_each(sent, &commands, within).await;
        if auth {
            self.probe.auth = self.next(&mut answers, within);
            self.probe.auth.is_ok().then_some(())?;
        }
        if with_password {
            self.probe.ping_again = self.next(&mut answers, within);
            still_talking(&self.probe.ping_again)?;
        }
        self.probe.replconf = self.next(&mut answers, within);
        still_talking(&self.probe.replconf)?;
        if let Some(refusal) = refusal {
            self.probe.role = role(Ok(refusal));
        } else if role_due {
            let answer = answers.take()?;
            answer.iter().for_each(|answer| refused::note(walk.target, login.user, "ROLE", answer));
            let stands = answer.is_ok();
            self.probe.role = role(answer);
            stands.then_some(())?;
        }
        if version {
            self.probe.version = answers.take()?.ok().and_then(version_in);
        }
        if outside {
            self.probe.psync = self.next(&mut answers, within);
            return still_talking(&self.probe.psync);
        }
        if walk.psync == AskPsync::WhenSafe && self.probe.version.is_none() {
            self.probe.version = look.version_of(walk.target, self.probe.peer.as_deref()).await;
        }
        self.last().await
    }

    /// PSYNC where it is due, and the peer's account of itself where that is wanted. PSYNC goes first: behind an answer
    /// that is still on its way out it is refused for that (Redis 7.0.15, syncCommand: "invalid with pending output").
    async fn last(&mut self) -> Option<()> {
        let (look, walk) = (self.look, self.walk);
        let safe = || self.probe.version.as_deref().is_some_and(parses_before_it_syncs);
        let psync = match walk.psync {
            AskPsync::Never => false,
            AskPsync::KnownSafe => true,
            AskPsync::WhenSafe => safe(),
        };
        let questions = walk.account.then(|| Questions::new(walk.target, self.login.user));
        let asked = questions.as_ref().map(Questions::commands).unwrap_or_default();
        let commands: Vec<&[&str]> = psync.then_some(PSYNC).into_iter().chain(asked.iter().copied()).collect();
        if commands.is_empty() {
            return Some(());
        }
        let (within, began) = (look.left(ANSWER_MS), Instant::now());
        let mut answers = self.reader.ask_each(None, &commands, within).await;
        if psync {
            self.probe.psync = self.next(&mut answers, within);
            still_talking(&self.probe.psync)?;
        }
        let Some(questions) = &questions else { return Some(()) };
        let mut replies = Vec::with_capacity(asked.len());
        while replies.len() < asked.len() {
            match answers.take()? {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    self.account = Some(Account::missing((&error).into()));
                    return None;
                }
            }
        }
        self.account = Some(questions.read(look, replies, micros(began)));
        Some(())
    }

    fn next(&mut self, answers: &mut Answers, within: Duration) -> Answer {
        match answers.take() {
            Some(reply) => self.status(reply, within),
            None => Answer::NotAsked,
        }
    }

    /// The answer, and whether the look was over before one could come.
    fn status(&mut self, reply: Result<Reply, WireError>, within: Duration) -> Answer {
        let answer = status(reply, within, self.fair);
        self.probe.cut_short |= answer == Answer::NotAsked;
        answer
    }
}

/// See [`Probe::psync`].
const PSYNC: &[&str] = &["PSYNC", "?", "x"];

fn role(answer: Result<Reply, WireError>) -> Reading<PeerRole> {
    match answer {
        Ok(reply) => peer_role(&reply).map_or_else(|| Reading::Missing(reply.unfit("ROLE")), Reading::Seen),
        Err(error) => Reading::Missing((&error).into()),
    }
}

fn version_in(info: Reply) -> Option<String> {
    let version = Info::parse(info.text()?).text("redis_version").to_owned();
    (!version.is_empty()).then_some(version)
}

/// Whether `PSYNC ? x` is refused for its offset and does nothing else: from Redis 7.0 on, and on Valkey, which tells
/// a Redis version of 7.2 or its own of 8 and later.
fn parses_before_it_syncs(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
}
