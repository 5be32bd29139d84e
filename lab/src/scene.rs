//! relinkd at work beside a replica of a real group: what the demo and the bench stand on.
//!
//! Here, and in `demo` and `bench`, the lab speaks relinkd's public words: its configuration, its verbs, its messages.

use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::agent::Agent;
use crate::group::Group;
use crate::process::poll;
use crate::receiver::Receiver;
use crate::server::Server;

/// How long anything may take that should take a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Dropped in this order: relinkd, the receiver, the servers.
pub(crate) struct Scene {
    pub agent: Agent,
    pub receiver: Receiver,
    pub group: Group,
    relinkd: PathBuf,
    config: String,
}

impl Scene {
    /// relinkd beside `replica(0)`, with lines for `[policy]` and what follows it. The secret store offers what
    /// [`Scene::offer`] puts there, and to begin with the group's own password. Waits for relinkd's first look.
    pub fn start(group: Group, relinkd: &Path, policy: &str) -> Result<Scene> {
        let mut receiver = Receiver::start()?;
        let replica = group.replica(0).clone();
        let url = receiver.listen_beside(&replica)?;
        let agent = Agent::new(relinkd)?.beside(&replica);
        fs::create_dir_all(agent.dir().join("state"))?;
        agent.write_file("url", &url)?;
        let password = group.password().unwrap_or_default().to_owned();
        agent.write_file("masterauth", &password)?;
        agent.write_file("replica-password", &password)?;
        let config = config(agent.dir(), &group, policy);
        let mut scene = Scene { agent, receiver, group, relinkd: relinkd.to_owned(), config };
        scene.restart(policy)?;
        Ok(scene)
    }

    /// Stops relinkd, and starts it with another policy.
    pub fn restart(&mut self, policy: &str) -> Result<()> {
        if self.agent.pid().is_some() {
            self.agent.stop()?;
        }
        self.config = config(self.agent.dir(), &self.group, policy);
        self.agent.start(&self.config)?;
        match poll(PATIENCE, || self.status().is_some_and(|status| !status["looked_at"].is_null())) {
            Some(_) => Ok(()),
            None => Err(Error::other(format!("relinkd did not look within {PATIENCE:?}:\n{}", self.agent.log()))),
        }
    }

    pub fn replica(&self) -> &Server {
        self.group.replica(0)
    }

    /// Puts a password into the secret store, whole at every moment.
    pub fn offer(&self, password: &str) -> Result<()> {
        self.swap("masterauth", password)
    }

    /// With what relinkd logs in to its own instance.
    pub fn login_with(&self, password: &str) -> Result<()> {
        self.swap("replica-password", password)
    }

    fn swap(&self, name: &str, text: &str) -> Result<()> {
        let new = self.agent.write_file(&format!("{name}.new"), text)?;
        fs::rename(new, self.agent.dir().join(name))
    }

    /// A verb with this scene's configuration, in the replica's network.
    pub fn verb(&self, words: &[&str]) -> Result<Output> {
        self.command(words).output()
    }

    /// The same, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.replica().command_beside(&self.relinkd);
        command.arg("--config").arg(self.agent.config_path()).args(words);
        command
    }

    pub fn verb_json(&self, words: &[&str]) -> Result<Value> {
        let output = self.verb(&[words, &["--json"]].concat())?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            Error::other(format!("relinkd {}: {error}: {}", words.join(" "), said.trim()))
        })
    }

    /// What the daemon says of the replica; none while it does not answer.
    pub fn status(&self) -> Option<Value> {
        let mut status = self.verb_json(&["status"]).ok()?;
        status["replicas"].as_array_mut()?.first_mut().map(Value::take)
    }
}

fn config(dir: &Path, group: &Group, policy: &str) -> String {
    let dir = dir.display();
    let sentinels: Vec<String> = group.sentinels().iter().map(|server| format!("{:?}", server.address())).collect();
    format!(
        "[agent]\nhost = \"demo\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nlisten = \"off\"\n\n\
         [group.{name}]\nsentinels = [{sentinels}]\nmasterauth = {{ file = \"{dir}/masterauth\" }}\n\n\
         [replica.cache]\naddress = \"{address}\"\ngroup = \"{name}\"\n\
         password = {{ file = \"{dir}/replica-password\" }}\n\n\
         [notify.demo]\nkind = \"webhook\"\nurl = {{ file = \"{dir}/url\" }}\n\n\
         [policy]\n{policy}\n",
        name = group.name(),
        sentinels = sentinels.join(", "),
        address = group.replica(0).address(),
    )
}
