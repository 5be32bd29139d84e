//! The watched instance: INFO, ROLE and its replication settings, in one write.

use tokio::time::Instant;

use super::{LOCAL_MS, Look};
use crate::model::evidence::{Reading, ServerView, SettingsView};
use crate::wire::reply::settings::{Credentials, Own, ReplicaTls, SETTINGS, settings};
use crate::wire::reply::{Reply, info};
use crate::wire::{Reader, WireError};

pub struct Local {
    pub server: Reading<ServerView>,
    pub settings: Reading<SettingsView>,
    /// With what the replica logs in to its primary; none where the settings could not be read, or are not UTF-8.
    pub credentials: Option<Credentials>,
    /// How it speaks TLS there; none where the settings could not be read.
    pub tls: Option<ReplicaTls>,
}

impl Local {
    /// Whether the link is down, or up and silent for so long that it may be dead.
    pub fn link_is_doubtful(&self, quiet_s: i64) -> bool {
        let Some(link) = self.server.seen().and_then(|server| server.role.link()) else { return false };
        let timeout_s = self
            .settings
            .seen()
            .map_or(i64::MAX, |settings| i64::try_from(settings.repl_timeout_s).unwrap_or(i64::MAX));
        !link.up || link.last_io_s > quiet_s.min(timeout_s / 2)
    }
}

pub async fn look(look: &Look<'_>) -> Local {
    let ends = Instant::now() + look.left(LOCAL_MS);
    let asked = match ask(look, ends).await {
        // Sentinel cuts all clients of a server that it reconfigures, and we may have been one of them (Redis 7.0.15,
        // CLIENT KILL TYPE normal): a server that has gone refuses the next connection.
        Err(WireError::Closed | WireError::Reset) => ask(look, ends).await,
        asked => asked,
    };
    match asked {
        Ok(local) => local,
        Err(error) => Local {
            server: Reading::Missing((&error).into()),
            settings: Reading::Missing((&error).into()),
            credentials: None,
            tls: None,
        },
    }
}

async fn ask(look: &Look<'_>, ends: Instant) -> Result<Local, WireError> {
    let left = || ends.saturating_duration_since(Instant::now());
    let mut reader = Reader::connect(&look.target.local, left()).await?;
    let gets = SETTINGS.map(|name| ["CONFIG", "GET", name]);
    let mut commands: Vec<&[&str]> = vec![&["INFO"], &["ROLE"]];
    commands.extend(gets.iter().map(|get| get.as_slice()));
    let began = Instant::now();
    let mut replies = reader.ask_all(&commands, left()).await?.into_iter();
    let took_us = super::micros(began);
    let at = look.now();
    let (info, role) = (replies.next().unwrap_or(Reply::Nil), replies.next());
    let server = match info.text().and_then(|text| info::server_view(text, role.as_ref(), at, took_us)) {
        Some(view) => Reading::Seen(view),
        None => Reading::Missing(info.unfit("INFO")),
    };
    Ok(match settings(replies.collect(), at, &look.target.salt) {
        Ok(Own { view, login, tls }) => {
            Local { server, settings: Reading::Seen(view), credentials: login, tls: Some(tls) }
        }
        Err(why) => Local { server, settings: Reading::Missing(why), credentials: None, tls: None },
    })
}
