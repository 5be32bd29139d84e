//! A channel: does its URL resolve to one, and with `--notify`, does the receiver take a message?

use super::super::{Exit, notify};
use super::report::Section;
use crate::config::Settings;
use crate::notify::{Channel, ChannelSettings, Unready};

pub async fn check(name: &str, settings: &ChannelSettings, all: &Settings, post: bool) -> Section {
    let mut section = Section::new(format!("channel {name}"));
    let channel = Channel::new(settings.clone());
    let posted = match post {
        true => notify::post(&channel, &all.agent.host).await.map(Some),
        false => channel.prepare().await.map(|()| None),
    };
    let verdict = match posted {
        Ok(verdict) => verdict,
        // It stands under "secrets".
        Err(Unready::Secret(..)) => return section,
        Err(Unready::Shape(why)) => {
            section.problem(Exit::Fault, "settings", why, []);
            return section;
        }
    };
    section.ok("settings", "its URL and secrets are of the right shape");
    if let Some(verdict) = verdict {
        match verdict.why() {
            None => section.ok("message", "the test message was taken"),
            Some(why) => section.problem(notify::exit_of(&verdict), "message", why, []),
        }
    }
    section
}
