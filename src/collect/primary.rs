//! The primary's account of itself: INFO, the limits that decide whether a sync can end, and its largest output
//! buffer.

use tokio::time::Instant;

use super::{Following, Look, refused};
use crate::model::evidence::{LimitsView, Missing, Reading, ServerView};
use crate::model::{Address, Endpoint};
use crate::secrets::Secret;
use crate::wire::reply::settings::{LIMITS, NEEDED, limits, unknown_commands};
use crate::wire::reply::{Reply, info};
use crate::wire::{Dial, Reader};

const WITHIN_MS: u64 = 1000;
/// The observer may lack it; a replica's own log and PSYNC tell the same while the link is down.
const COMMAND_INFO: &str = "COMMAND INFO";

pub struct Account {
    pub server: Reading<ServerView>,
    pub limits: Reading<LimitsView>,
}

impl Account {
    pub fn not_asked() -> Account {
        Account::missing(Missing::NotAsked)
    }

    pub fn missing(why: Missing) -> Account {
        Account { server: Reading::Missing(why.clone()), limits: Reading::Missing(why) }
    }
}

/// Asked with the observer's own credentials, on a connection of its own.
pub async fn as_observer(look: &Look<'_>, following: &Following, observer: &(String, Secret)) -> Account {
    let dial = Dial {
        address: Address::Tcp(following.primary.clone()),
        user: observer.0.clone(),
        password: Some(observer.1.clone()),
        tls: following.tls.clone(),
    };
    let questions = Questions::new(&following.primary, &observer.0);
    let began = Instant::now();
    match Reader::connect_and_ask(&dial, &questions.commands(), look.left(WITHIN_MS)).await {
        Ok((_, replies)) => questions.read(look, replies, super::micros(began)),
        Err(error) => Account::missing((&error).into()),
    }
}

/// What a primary is asked, of itself and in this order.
pub struct Questions<'a> {
    at: &'a Endpoint,
    user: &'a str,
    commands: Vec<Vec<&'static str>>,
}

impl<'a> Questions<'a> {
    pub fn new(at: &'a Endpoint, user: &'a str) -> Questions<'a> {
        let [psync, sync, replconf] = NEEDED;
        let mut commands = vec![vec!["INFO"], vec!["CLIENT", "LIST", "TYPE", "replica"]];
        commands.extend(LIMITS.map(|name| vec!["CONFIG", "GET", name]));
        if refused::lately(at, user, COMMAND_INFO).is_none() {
            commands.push(vec!["COMMAND", "INFO", psync, sync, replconf]);
        }
        Questions { at, user, commands }
    }

    pub fn commands(&self) -> Vec<&[&str]> {
        self.commands.iter().map(Vec::as_slice).collect()
    }

    pub fn read(&self, look: &Look<'_>, replies: Vec<Reply>, took_us: u64) -> Account {
        let (now, mut replies) = (look.now(), replies.into_iter());
        let (info, clients) = (replies.next().unwrap_or(Reply::Nil), replies.next());
        let limited: Vec<Reply> = replies.by_ref().take(LIMITS.len()).collect();
        let known = replies.next();
        known.iter().for_each(|answer| refused::note(self.at, self.user, COMMAND_INFO, answer));
        let unknown = known.as_ref().and_then(unknown_commands);
        Account {
            server: match info.text().and_then(|text| info::server_view(text, None, now, took_us)) {
                Some(view) => Reading::Seen(view),
                None => Reading::Missing(info.unfit("INFO")),
            },
            limits: match limits(limited, clients.as_ref(), now) {
                Ok(view) => Reading::Seen(LimitsView { unknown_commands: unknown, ..view }),
                Err(why) => Reading::Missing(why),
            },
        }
    }
}
