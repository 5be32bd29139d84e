//! One incident as it unfolds: what the client meets and what relinkd posts, told when it happens.

use std::io::{Error, Result};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::client::{Client, KEY, Met};
use super::screen::{Screen, Tone};
use crate::scene::{PATIENCE, Scene};

const PAUSE: Duration = Duration::from_millis(3);
/// A message tells of what came before the client could read again, and arrives a moment after that.
const MESSAGE_FIRST: Duration = Duration::from_millis(60);
/// How much evidence is shown; a message has more.
const EVIDENCE: usize = 3;

/// Begun just before the break.
pub struct Story<'a> {
    scene: &'a Scene,
    client: Client,
    began: Instant,
    began_wall: SystemTime,
    /// Requests that the receiver had before, and that have been told since.
    seen: usize,
    told_failed: bool,
    told_again: bool,
    told_cause: String,
    /// Directories that are of no interest to the reader.
    dirs: [String; 2],
    told_actions: usize,
    told_held: Vec<String>,
    pub messages: Vec<Value>,
    /// When the first message came.
    pub first_message: Option<Duration>,
}

impl<'a> Story<'a> {
    pub fn begin(scene: &'a Scene) -> Story<'a> {
        let client = Client::start(scene.replica());
        // The client has read once before anything breaks.
        std::thread::sleep(Duration::from_millis(20));
        Story {
            scene,
            client,
            began: Instant::now(),
            began_wall: SystemTime::now(),
            seen: scene.receiver.requests().len(),
            told_failed: false,
            told_again: false,
            told_cause: String::new(),
            dirs: [scene.agent.dir(), scene.group.dir()].map(|dir| format!("{}/", dir.display())),
            told_actions: 0,
            told_held: Vec::new(),
            messages: Vec::new(),
            first_message: None,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn met(&self) -> Met {
        self.client.met()
    }

    pub fn last(&self) -> Option<&Value> {
        self.messages.last()
    }

    pub fn heard(&self, event: &str) -> bool {
        self.messages.iter().any(|message| message["event"] == event)
    }

    /// Tells what happens until `done` holds.
    pub fn unfold(&mut self, screen: &mut Screen<'_>, what: &str, done: impl Fn(&Story<'_>) -> bool) -> Result<()> {
        let patience = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() > patience {
                return Err(Error::other(format!("{what}: not within {PATIENCE:?}")));
            }
            self.tell_client(screen)?;
            self.tell_messages(screen)?;
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(MESSAGE_FIRST);
        self.tell_client(screen)
    }

    /// The client's own news, where they are old enough for no message to come before them.
    fn tell_client(&mut self, screen: &mut Screen<'_>) -> Result<()> {
        let told = self.elapsed().saturating_sub(MESSAGE_FIRST);
        self.tell_client_until(screen, told)
    }

    fn tell_client_until(&mut self, screen: &mut Screen<'_>, until: Duration) -> Result<()> {
        let met = self.met();
        if let Some((at, error)) = met.failed.filter(|_| !self.told_failed) {
            self.told_failed = true;
            screen.event(Some(at - self.began), "client", &format!("GET {KEY} → {error}"), Tone::Bad)?;
        }
        let again = met.works_again.map(|at| at - self.began);
        if let Some(at) = again.filter(|at| *at <= until && !self.told_again && self.told_failed) {
            self.told_again = true;
            screen.event(Some(at), "client", &format!("GET {KEY} → \"hello\""), Tone::Good)?;
        }
        Ok(())
    }

    fn tell_messages(&mut self, screen: &mut Screen<'_>) -> Result<()> {
        let requests = self.scene.receiver.requests();
        for request in requests.get(self.seen..).unwrap_or_default() {
            self.seen += 1;
            let Some(message) = request.json() else { continue };
            let at = request.at - self.began;
            self.first_message.get_or_insert(at);
            self.tell_news(screen, &message)?;
            let summary = format!("{}: {}", words(&message["event"]), words(&message["summary"]));
            self.tell_client_until(screen, at)?;
            screen.event(Some(at), "message", &summary, Tone::Strong)?;
            self.messages.push(message);
        }
        Ok(())
    }

    /// What this message says that no earlier one said: the cause with its evidence, what was done, what was held.
    fn tell_news(&mut self, screen: &mut Screen<'_>, message: &Value) -> Result<()> {
        let cause = words(&message["cause"]["code"]);
        if cause != self.told_cause && message["event"] != "resolved" {
            let because = message["because"].as_array().map(Vec::as_slice).unwrap_or_default();
            let at = because.iter().filter_map(|fact| self.since_break(&fact["at"])).max();
            let doubt = if message["cause"]["suspected"] == true { " (suspected)" } else { "" };
            let text = format!("{cause}{doubt}: {}", words(&message["cause"]["title"]));
            screen.event(at, "diagnosis", &text, Tone::Strong)?;
            for (number, fact) in because.iter().take(EVIDENCE).enumerate() {
                let label = if number == 0 { "evidence" } else { "" };
                let text = format!("{}: {} ({})", words(&fact["from"]), words(&fact["saw"]), words(&fact["means"]));
                screen.event(None, label, &text, Tone::Faint)?;
            }
            self.told_cause = cause;
        }
        let actions = message["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
        for action in actions.iter().skip(self.told_actions) {
            let mut text = words(&action["detail"]);
            for dir in &self.dirs {
                text = text.replace(dir, "");
            }
            let text = format!("{}, {}: {text}", words(&action["remedy"]), words(&action["outcome"]));
            let at = self.since_break(&action["at"]);
            self.tell_client_until(screen, at.unwrap_or_default())?;
            screen.event(at, "action", &text, Tone::Plain)?;
        }
        self.told_actions = self.told_actions.max(actions.len());
        for held in message["held"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = format!("{}: {}", words(&held["refusal"]), words(&held["detail"]));
            if !self.told_held.contains(&text) {
                screen.event(None, "held back", &text, Tone::Plain)?;
                self.told_held.push(text);
            }
        }
        Ok(())
    }

    /// The milliseconds, as the last message has them.
    pub fn tell_timings(&self, screen: &mut Screen<'_>) -> Result<()> {
        let Some(message) = self.last() else { return Ok(()) };
        let stage = |name: &str| message["timings_ms"][name].as_u64().map(|ms| format!("{name} {ms}"));
        let stages: Vec<String> =
            ["detect", "diagnose", "decide", "act", "verify", "total"].iter().filter_map(|name| stage(name)).collect();
        screen.event(None, "ms", &stages.join(" · "), Tone::Plain)
    }

    /// How long the client was refused.
    pub fn refused_for(&self) -> Option<Duration> {
        let met = self.met();
        Some(met.works_again? - met.failed?.0)
    }

    /// A time of relinkd's, counted from the break. Both clocks are this machine's.
    fn since_break(&self, at: &Value) -> Option<Duration> {
        let at: jiff::Timestamp = at.as_str()?.parse().ok()?;
        Some(SystemTime::from(at).duration_since(self.began_wall).unwrap_or_default())
    }
}

/// A string of a message, without its quotes.
pub fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
