//! A group, a place for relinkd's files, and no daemon unless a test starts it.

use std::process::{Command, Output, Stdio};

use lab::{Agent, Group, Receiver};
use serde_json::Value;

use super::{RELINKD, Setup, config, short_tilt};

pub struct Desk {
    // Dropped in this order: relinkd, the receiver, the servers.
    pub agent: Agent,
    pub receiver: Receiver,
    pub group: Group,
}

/// What a verb said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Said {
        Said {
            exit: output.status.code().unwrap_or_else(|| panic!("killed: {:?}", output.status)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Desk {
    pub fn new(group: Group) -> Desk {
        short_tilt(&group);
        Desk { agent: Agent::new(RELINKD).unwrap(), receiver: Receiver::start().unwrap(), group }
    }

    pub fn configure(&self, setup: &Setup) {
        let text = config(&self.agent, &self.group, self.group.replica(0), &self.receiver.url(), setup);
        self.agent.write_file("config.toml", &text).unwrap();
    }

    /// A verb with this desk's configuration, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(RELINKD);
        command.arg("--config").arg(self.agent.config_path()).args(words).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
    }

    pub fn json(&self, words: &[&str]) -> Value {
        self.run(&[words, &["--json"]].concat()).json()
    }
}
