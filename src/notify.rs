//! Messages on their way to people and programs: rendered, signed, sent, and judged by the answer.
//!
//! What is to be sent stands in the ledger's outbox; the daemon reads it there, calls [`Channel::send`], and writes
//! down what [`schedule`] makes of the [`Verdict`]. Delivery is at least once: a message whose answer was lost is sent
//! again under the same key.
//!
//! Invariant: no error, verdict or log line holds a URL or a signing secret; the URL of a chat webhook is a password.
//! Secrets are fetched anew for each attempt, so a rotated one is used without a restart.
//!
//! Not here: the outbox (`ledger`), and when a message is due (`agent`).

use std::time::Duration;

use serde::Serialize;

use crate::model::finding::{Cause, Finding};
use crate::model::incident::{Announcement, Incident, IncidentId, Notice, Phase};
use crate::model::{Address, Endpoint, LinkId, Timestamp};
use crate::secrets::{SecretError, SecretRef};

mod courier;
mod http;
pub mod render;
mod slack;
mod webhook;

pub use courier::{Next, backoff, schedule};
pub use http::LONGEST_WAIT;

/// `[notify.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelSettings {
    pub kind: ChannelKind,
    /// For one attempt, from the connection to the end of the answer.
    pub timeout: Duration,
}

impl ChannelSettings {
    pub fn of(kind: ChannelKind) -> Self {
        ChannelSettings { kind, timeout: Duration::from_secs(10) }
    }
}

/// Where a channel leads. The URLs are secrets: who knows one can post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// The incident as JSON, signed as Standard Webhooks has it where there is a signing secret.
    Webhook { url: SecretRef, secret: Option<SecretRef> },
    /// A Slack incoming webhook.
    Slack { url: SecretRef },
}

impl ChannelKind {
    /// As `kind` in the configuration names it.
    pub fn name(&self) -> &'static str {
        match self {
            ChannelKind::Webhook { .. } => "webhook",
            ChannelKind::Slack { .. } => "slack",
        }
    }

    /// What it needs to send, by key.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        match self {
            ChannelKind::Webhook { url, secret: Some(secret) } => vec![("url", url), ("secret", secret)],
            ChannelKind::Webhook { url, secret: None } | ChannelKind::Slack { url } => vec![("url", url)],
        }
    }
}

/// A channel, ready to send.
#[derive(Clone, Debug)]
pub enum Channel {
    Webhook(webhook::Webhook),
    Slack(slack::Slack),
}

/// What an answer, or its absence, means for the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// Nothing is wrong that time may not mend. `after`: the wait that the receiver asked for.
    Retry {
        after: Option<Duration>,
        why: String,
    },
    /// The receiver is gone for good, or wants no more.
    Disabled(String),
    /// The receiver does not take this message, or not at this URL.
    Rejected(String),
}

impl Verdict {
    /// What went wrong; none when it was delivered.
    pub fn why(&self) -> Option<&str> {
        match self {
            Verdict::Delivered => None,
            Verdict::Retry { why, .. } | Verdict::Disabled(why) | Verdict::Rejected(why) => Some(why),
        }
    }
}

/// Why a channel cannot send: nothing was sent.
#[derive(Debug)]
pub enum Unready {
    /// The store does not give it.
    Secret(SecretRef, SecretError),
    /// The store gives what cannot be used; told without its value.
    Shape(String),
}

impl std::fmt::Display for Unready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unready::Secret(_, error) => error.fmt(f),
            Unready::Shape(why) => f.write_str(why),
        }
    }
}

/// A store that is away is no reason to drop a message.
impl From<Unready> for Verdict {
    fn from(unready: Unready) -> Verdict {
        let why = unready.to_string();
        match unready {
            Unready::Secret(..) => Verdict::Retry { after: None, why },
            Unready::Shape(_) => Verdict::Rejected(why),
        }
    }
}

impl Channel {
    pub fn new(settings: ChannelSettings) -> Channel {
        let timeout = settings.timeout;
        match settings.kind {
            ChannelKind::Webhook { url, secret } => Channel::Webhook(webhook::Webhook { url, secret, timeout }),
            ChannelKind::Slack { url } => Channel::Slack(slack::Slack { url, timeout }),
        }
    }

    /// Whether its secrets are there and of the right shape. Nothing is sent.
    pub async fn prepare(&self) -> Result<(), Unready> {
        match self {
            Channel::Webhook(webhook) => webhook.prepare().await,
            Channel::Slack(slack) => slack.prepare().await,
        }
    }

    /// One attempt. `delivery_key` is the same over all attempts for one message; `now` is the time of this one.
    pub async fn send(&self, delivery_key: &str, notice: &Notice, now: Timestamp) -> Verdict {
        match self {
            Channel::Webhook(webhook) => webhook.send(delivery_key, notice, now).await,
            Channel::Slack(slack) => slack.send(notice, now).await,
        }
    }
}

/// A message that says that nothing is wrong, for `notify test` and `check --notify`. Its JSON has the shape of any other.
pub fn test_notice(host: &str, now: Timestamp) -> Notice {
    let id = IncidentId(format!("{}{}", render::TEST_PREFIX, now.0));
    let finding = Finding {
        cause: Cause::Unknown,
        suspected: false,
        link_up: true,
        unrefused: false,
        flaps: None,
        because: Vec::new(),
        rejected: Default::default(),
    };
    let incident = Incident {
        id,
        link: LinkId { replica: "test".to_owned(), group: String::new() },
        address: Address::Tcp(Endpoint::new("127.0.0.1", 6379)),
        primary: None,
        phase: Phase::Resolved,
        causes: vec![finding.cause],
        finding,
        actions: Vec::new(),
        held: Vec::new(),
        proposal: None,
        people: crate::model::people::People::default(),
        escalation: None,
        opened_at: now,
        down_at: now,
        sound_at: None,
        up_at: Some(now),
        resolved_at: Some(now),
        resolved_by: None,
        attempts: 0,
        idle: 0,
        idle_at: Vec::new(),
        touched: false,
        in_flight: None,
        intended_at: None,
        acted_at: None,
        diagnose_us: 0,
        look_us: 0,
        sequence: 1,
        told_at: Some(now),
        told_cause: None,
        told_phase: None,
    };
    Notice { at: now, host: host.to_owned(), event: Announcement::Resolved, incident, next_steps: Vec::new() }
}
