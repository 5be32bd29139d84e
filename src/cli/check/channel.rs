//! A channel: does its URL resolve to one, and with `--notify`, does the receiver take a message?

use super::super::{Exit, once};
use super::report::Section;
use crate::config::Settings;
use crate::notify::{Channel, ChannelSettings, Verdict, test_notice};

pub async fn check(name: &str, settings: &ChannelSettings, all: &Settings, notify: bool) -> Section {
    let mut section = Section::new(format!("channel {name}"));
    let channel = Channel::new(settings.clone());
    match channel.prepare().await {
        Ok(()) => {}
        // A secret that could not be fetched stands under "secrets".
        Err(Verdict::Retry { .. }) => return section,
        Err(verdict) => {
            section.problem(Exit::Fault, "settings", verdict.why().unwrap_or_default(), []);
            return section;
        }
    }
    section.ok("settings", "its URL and secrets are of the right shape");
    if notify {
        let now = once::now();
        let notice = test_notice(&all.agent.host, now);
        match channel.send(&notice.key(), &notice, now).await {
            Verdict::Delivered => section.ok("message", "the test message was taken"),
            Verdict::Retry { why, .. } => section.problem(Exit::Unreachable, "message", why, []),
            Verdict::Disabled(why) | Verdict::Rejected(why) => section.problem(Exit::Fault, "message", why, []),
        }
    }
    section
}
