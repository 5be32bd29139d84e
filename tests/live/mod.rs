//! What the live tests share: a real group from the lab, relinkd beside one of its replicas, a receiver for messages.

#![allow(dead_code)] // each test binary uses a part of it

pub mod checks;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lab::{Agent, Group, Receiver, Server};
use serde_json::Value;

pub mod desk;
pub mod relay;
pub mod rotation;
pub mod tripwire;

/// One test a kind of server, named after it.
#[allow(unused_macros)] // not every binary has scenes of this kind
macro_rules! on_each_server {
    ($($scene:ident => $redis:ident, $valkey:ident;)+) => {
        $(
            #[test]
            fn $redis() {
                if let Some(kind) = lab::require(lab::Kind::Redis70) {
                    $scene(kind);
                }
            }

            #[test]
            fn $valkey() {
                if let Some(kind) = lab::require(lab::Kind::Valkey80) {
                    $scene(kind);
                }
            }
        )+
    };
}
#[allow(unused_imports)]
pub(crate) use on_each_server;

pub const RELINKD: &str = env!("CARGO_BIN_EXE_relinkd");

/// Long enough for a slow machine, short enough to fail a test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How relinkd is set up in a scene.
pub struct Setup {
    /// What the secret store offers as `masterauth`; none: no store is configured.
    pub store: Option<String>,
    /// Lines for `[policy]` and its sub-sections.
    pub policy: String,
    /// Lines for `[group.mymaster]`.
    pub group: String,
    /// Lines for `[replica.cache]`.
    pub replica: String,
    /// Where HTTP is served: off unless a test asks for it, since tests run side by side.
    pub listen: String,
    /// Whether the Sentinels of the group are configured.
    pub sentinels: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            store: None,
            policy: String::new(),
            group: String::new(),
            replica: String::new(),
            listen: "off".to_owned(),
            sentinels: true,
        }
    }
}

/// relinkd at work beside the first replica.
pub struct Scene {
    // Dropped in this order: relinkd, the receiver, the servers.
    pub agent: Agent,
    pub receiver: Receiver,
    pub group: Group,
}

impl Scene {
    /// Starts relinkd beside `replica(0)` and waits until it has looked.
    pub fn start(group: Group, setup: &Setup) -> Scene {
        short_tilt(&group);
        let mut receiver = Receiver::start().expect("a receiver");
        let replica = group.replica(0).clone();
        let url = match replica.host() {
            Some(_) => receiver.listen_beside(&replica).expect("a receiver in the replica's namespace"),
            None => receiver.url(),
        };
        let mut agent = Agent::new(RELINKD).expect("a place for relinkd").beside(&replica);
        let config = config(&agent, &group, &replica, &url, setup);
        agent.start(&config).expect("relinkd starts");
        let scene = Scene { agent, receiver, group };
        scene.wait_status("relinkd has looked", |status| !status["looked_at"].is_null());
        scene
    }

    pub fn replica(&self) -> &Server {
        self.group.replica(0)
    }

    /// Runs a verb of relinkd with this scene's configuration, in the replica's namespace.
    pub fn verb(&self, words: &[&str]) -> Output {
        let mut command: Command = self.replica().command_beside(RELINKD);
        command.arg("--config").arg(self.agent.config_path()).args(words).output().expect("the verb runs")
    }

    pub fn verb_json(&self, words: &[&str]) -> Value {
        let output = self.verb(&[words, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{words:?}: {error}\n{}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// The daemon's status of the replica.
    pub fn status(&self) -> Value {
        self.verb_json(&["status"])["replicas"][0].clone()
    }

    pub fn wait_status(&self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = Value::Null;
        while began.elapsed() < PATIENCE {
            let output = self.verb(&["status", "--json"]);
            if let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) {
                last = status["replicas"][0].clone();
                if until(&last) {
                    return last;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: not within {PATIENCE:?}\nstatus: {last:#}\nlog:\n{}", self.agent.log());
    }

    /// The incidents of the record, newest first.
    pub fn incidents(&self) -> Vec<Value> {
        self.verb_json(&["incidents"]).as_array().cloned().unwrap_or_default()
    }

    /// Waits until a message fits, and gives it.
    pub fn told(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = self.receiver.messages().into_iter().find(&fits) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no message: {what}\ngot: {:#?}\nlog:\n{}", self.receiver.messages(), self.agent.log());
    }

    pub fn told_event(&self, event: &str) -> Value {
        self.told(event, |message| message["event"] == event)
    }

    /// One look by hand. With CAPTURE set, its evidence is kept as a scenario: tests/scenarios/CAUSE/NAME/evidence.json.
    pub fn diagnose(&self, scenario: &str) -> Value {
        let mut words = vec!["diagnose", "cache"];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(scenario);
        let file = folder.join("evidence.json");
        let path = file.to_string_lossy().into_owned();
        let capture = std::env::var_os("CAPTURE").is_some();
        if capture {
            std::fs::create_dir_all(&folder).expect("the scenario's folder");
            words.extend(["--save", &path]);
        }
        let told = self.verb_json(&words);
        if capture {
            // The lab's directories bear another name each time.
            let text = std::fs::read_to_string(&file).expect("the capture");
            let dir = |path: &std::path::Path| path.display().to_string();
            let text = text.replace(&dir(self.agent.dir()), "/etc/relinkd").replace(&dir(self.group.dir()), "/var/lib");
            std::fs::write(&file, text).expect("the capture");
        }
        told
    }
}

/// A Sentinel that stands still for two seconds is in TILT for 30 s, in which nobody changes anything. A busy machine makes
/// any of them stand still.
pub fn short_tilt(group: &Group) {
    for sentinel in group.sentinels() {
        sentinel.run(&["SENTINEL", "DEBUG", "tilt-period", "5000"]).expect("a shorter period");
    }
}

/// A whole configuration. Passwords stand in files beside it.
pub fn config(agent: &Agent, group: &Group, replica: &Server, url: &str, setup: &Setup) -> String {
    let file = |name: &str, text: &str| agent.write_file(name, text).expect("a secret's file").display().to_string();
    let dir = agent.dir().display().to_string();
    let mut text = format!(
        "[agent]\nhost = \"db-21\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlog_level = \"debug\"\nlisten = \"{}\"\n\n[policy]\n{}\n",
        setup.listen, setup.policy
    );
    std::fs::create_dir_all(agent.dir().join("state")).expect("a state directory");
    let with_group = setup.sentinels && !group.sentinels().is_empty();
    if with_group {
        let sentinels: Vec<String> = group.sentinels().iter().map(|s| format!("\"{}\"", s.address())).collect();
        text += &format!("[group.mymaster]\nsentinels = [{}]\n{}\n", sentinels.join(", "), setup.group);
        if let Some(store) = &setup.store {
            text += &format!("masterauth = {{ file = \"{}\" }}\n", file("masterauth", store));
        }
    }
    text += &format!("\n[replica.cache]\naddress = \"{}\"\n{}\n", replica.address(), setup.replica);
    if let Some(certificates) = group.certificates() {
        text += &format!("tls = {{ ca = \"{}\" }}\n", certificates.ca().display());
    }
    if with_group {
        text += "group = \"mymaster\"\n";
    }
    if let Some(password) = group.password() {
        text += &format!("password = {{ file = \"{}\" }}\n", file("replica-password", password));
    }
    text + &format!("\n[notify.ops]\nkind = \"webhook\"\nurl = {{ file = \"{}\" }}\n", file("url", url))
}
