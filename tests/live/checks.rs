//! What the live tests look at when a fault stands and when it is over: status, record, messages, and every place
//! where a password might show.

use std::path::Path;

use serde_json::Value;

use super::{Scene, Setup, config};

/// Every password of the live tests has this in it.
pub const CANARY: &str = "CANARY";

/// A link is over its incident sooner than by default, and a remedy may run again at once: a test breaks it often.
pub const QUICK: &str = "settle = \"300ms\"\n[policy.realign-auth]\ncooldown = \"1s\"\n";

impl Scene {
    /// A change of configuration and a restart of relinkd, as an operator would.
    pub fn reconfigure(&mut self, setup: &Setup) {
        let url = self.receiver.url();
        let replica = self.replica().clone();
        let text = config(&self.agent, &self.group, &replica, &url, setup);
        self.agent.start(&text).expect("relinkd starts again");
        self.wait_status("relinkd has looked", |status| !status["looked_at"].is_null());
    }

    /// What the secret store offers from now on.
    pub fn store(&self, text: &str) {
        self.agent.write_file("masterauth", text).expect("the store's file");
    }

    /// Waits until an incident is open under this cause and nothing of it is suspected; its id.
    pub fn fault(&self, cause: &str) -> String {
        let status = self.wait_status(cause, |status| {
            !status["incident"].is_null() && status["cause"] == cause && status["suspected"] == false
        });
        text(&status["incident"])
    }

    /// Waits until the fault stands and relinkd holds for this reason; the incident's id and the detail.
    pub fn held(&self, cause: &str, refusal: &str) -> (String, String) {
        let status = self.wait_status(&format!("{cause} held: {refusal}"), |status| {
            !status["incident"].is_null() && status["cause"] == cause && status["held"]["code"] == refusal
        });
        (text(&status["incident"]), text(&status["held"]["detail"]))
    }

    /// The message with which this incident announced an event.
    pub fn told_of(&self, id: &str, event: &str) -> Value {
        self.told(&format!("{event} of {id}"), |message| message["id"] == id && message["event"] == event)
    }

    /// Waits until the incident is resolved, in the status, in the record and in its last message; the message.
    pub fn over(&self, id: &str) -> Value {
        let resolved = self.told_of(id, "resolved");
        self.wait_status("the incident is over", |status| status["incident"] != id);
        let recorded = self.recorded(id);
        assert_eq!(recorded["phase"], "resolved", "{recorded:#}");
        assert_eq!(resolved["next_steps"], serde_json::json!([]), "nothing is left to do: {resolved:#}");
        resolved
    }

    /// The incident as the record holds it.
    pub fn recorded(&self, id: &str) -> Value {
        let all = self.incidents();
        let found = all.iter().find(|incident| incident["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not in the record: {all:#?}")).clone()
    }

    /// The events of one incident's messages, in order. Each stands once: nothing is told twice.
    pub fn events(&self, id: &str) -> Vec<String> {
        let messages = self.receiver.messages();
        // A message whose delivery was not recorded before a restart comes again, under the same number.
        let mut of_id: Vec<&Value> = messages.iter().filter(|message| message["id"] == id).collect();
        of_id.dedup_by_key(|message| message["sequence"].clone());
        let events: Vec<String> = of_id.iter().map(|message| text(&message["event"])).collect();
        for event in ["opened", "proposed", "escalated", "resolved"] {
            assert!(events.iter().filter(|told| *told == event).count() <= 1, "told twice: {messages:#?}");
        }
        events
    }

    /// No password in the log, the messages, the ledger's bytes, or what the verbs print.
    pub fn assert_no_secret(&self) {
        assert!(!self.agent.log().contains(CANARY), "in the log:\n{}", self.agent.log());
        for request in self.receiver.requests() {
            assert!(!request.body_text().contains(CANARY), "in a message: {}", request.body_text());
        }
        for file in files(&self.agent.dir().join("state")) {
            let bytes = std::fs::read(&file).expect("a file of the state directory");
            assert!(!bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()), "in {}", file.display());
        }
        for words in [&["status", "--json"][..], &["incidents", "--json"], &["diagnose", "cache"]] {
            let output = self.verb(words);
            let said = [output.stdout, output.stderr].concat();
            assert!(!String::from_utf8_lossy(&said).contains(CANARY), "in the output of {words:?}");
        }
    }
}

pub fn rules_out(message: &Value, cause: &str) -> bool {
    message["ruled_out"].as_array().is_some_and(|all| all.iter().any(|out| out["code"] == cause))
}

/// The remedies of a message's actions, with their outcomes.
pub fn actions(message: &Value) -> Vec<(String, String)> {
    let all = message["actions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|action| (text(&action["remedy"]), text(&action["outcome"]))).collect()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the state directory");
    let paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    assert!(!paths.is_empty(), "{} is empty", dir.display());
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
