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

    fn missing(why: Missing) -> Account {
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
    match Reader::connect(&dial, look.left(WITHIN_MS)).await {
        Ok(reader) => account(look, reader, &following.primary, &observer.0).await,
        Err(error) => Account::missing((&error).into()),
    }
}

/// Asked on a connection that is logged in, as `user`.
pub async fn account(look: &Look<'_>, mut reader: Reader, at: &Endpoint, user: &str) -> Account {
    let gets = LIMITS.map(|name| ["CONFIG", "GET", name]);
    let [psync, sync, replconf] = NEEDED;
    let known = ["COMMAND", "INFO", psync, sync, replconf];
    let mut commands: Vec<&[&str]> = vec![&["INFO"], &["CLIENT", "LIST", "TYPE", "replica"]];
    commands.extend(gets.iter().map(|get| get.as_slice()));
    if refused::lately(at, user, COMMAND_INFO).is_none() {
        commands.push(&known);
    }
    let began = Instant::now();
    let mut replies = match reader.ask_all(&commands, look.left(WITHIN_MS)).await {
        Ok(replies) => replies.into_iter(),
        Err(error) => return Account::missing((&error).into()),
    };
    let (took_us, now) = (super::micros(began), look.now());
    let (info, clients) = (replies.next().unwrap_or(Reply::Nil), replies.next());
    let limited: Vec<Reply> = replies.by_ref().take(LIMITS.len()).collect();
    let known = replies.next();
    known.iter().for_each(|answer| refused::note(at, user, COMMAND_INFO, answer));
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
