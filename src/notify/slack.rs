//! Slack's incoming webhook. It takes a message with 200 and the body `ok`; anything else is an error in plain words,
//! such as `invalid_payload` (400), `no_service` (404, the URL was revoked) or `channel_is_archived` (410).

use std::time::Duration;

use reqwest::header::HeaderMap;

use super::{Unready, Verdict, http, render};
use crate::model::Timestamp;
use crate::model::incident::Notice;
use crate::secrets::SecretRef;

/// Words with which Slack says that the URL will never work again.
const GONE: [&str; 3] = ["no_service", "no_active_hooks", "channel_is_archived"];

/// Words of Slack's that may be shown. Others are not: what stands in an answer might be the URL's own path.
const KNOWN: [&str; 13] = [
    "no_service",
    "no_active_hooks",
    "channel_is_archived",
    "channel_not_found",
    "user_not_found",
    "action_prohibited",
    "invalid_payload",
    "invalid_blocks",
    "invalid_token",
    "no_text",
    "no_team",
    "rate_limited",
    "rollup_error",
];

#[derive(Clone, Debug)]
pub struct Slack {
    pub(super) url: SecretRef,
    pub(super) timeout: Duration,
}

impl Slack {
    pub(super) async fn send(&self, notice: &Notice, now: Timestamp) -> Verdict {
        match self.attempt(notice, now).await {
            Ok(answer) => judge(&answer),
            Err(verdict) => verdict,
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), Unready> {
        http::url(&http::newest(&self.url).await?).map(drop)
    }

    async fn attempt(&self, notice: &Notice, now: Timestamp) -> Result<http::Answer, Verdict> {
        let url = http::url(&http::newest(&self.url).await?)?;
        http::post(&url, HeaderMap::new(), render::slack(notice).to_string(), self.timeout, now).await
    }
}

fn judge(answer: &http::Answer) -> Verdict {
    let body = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
    let word = KNOWN.iter().find(|word| **word == body);
    if let Some(word) = word.filter(|word| GONE.contains(word)) {
        return Verdict::Disabled(format!("Slack says {word}: make a new incoming webhook, and put its URL in"));
    }
    let said = |why: String| word.map_or(why.clone(), |word| format!("{why} ({word})"));
    match http::judge(answer) {
        Verdict::Delivered if answer.status.as_u16() == 200 && body == "ok" => Verdict::Delivered,
        // Not Slack, or not the right URL. Sending for a day what may have arrived would be a flood.
        Verdict::Delivered => Verdict::Rejected(format!(
            "HTTP {} without Slack's \"ok\": is this the URL of an incoming webhook?",
            answer.status.as_u16()
        )),
        Verdict::Retry { after, why } => Verdict::Retry { after, why: said(why) },
        Verdict::Rejected(why) => Verdict::Rejected(said(why)),
        Verdict::Disabled(why) => Verdict::Disabled(said(why)),
    }
}
