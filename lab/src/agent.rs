//! A relinkd under test: its own directory, its configuration, its log.
//!
//! The lab knows nothing of what the configuration says. Its caller writes it, with the paths of [`Agent::dir`].

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Error, Result, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::namespace::Host;
use crate::process::{Process, Wrapping, poll};
use crate::server::Server;
use crate::sweep::Place;

const STOP: Duration = Duration::from_secs(15);

/// Killed on drop, its directory removed.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    program: PathBuf,
    host: Option<Host>,
    environment: Vec<(OsString, OsString)>,
    place: Place,
}

impl Agent {
    /// Not started yet: what its configuration needs to name is known first.
    pub fn new(program: impl AsRef<Path>) -> Result<Agent> {
        let place = Place::make()?;
        Ok(Agent { process: None, program: program.as_ref().to_owned(), host: None, environment: Vec::new(), place })
    }

    /// It runs on this server's host, in its network.
    pub fn beside(mut self, server: &Server) -> Agent {
        self.host = server.host().cloned();
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Agent {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Private and writable; gone when the agent is dropped.
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// A file in its directory that none but the owner may read, such as a secret.
    pub fn write_file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir().join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// `relinkd run --config …` with this configuration.
    pub fn start(&mut self, config: &str) -> Result<()> {
        self.write_file("config.toml", config)?;
        self.start_again()
    }

    /// With the configuration as it lies there; the log goes on.
    pub fn start_again(&mut self) -> Result<()> {
        self.kill9();
        let log = OpenOptions::new().append(true).create(true).open(self.log_path())?;
        let mut command = Wrapping { host: self.host.as_ref(), ..Wrapping::default() }.command(&self.program);
        command.arg("run").arg("--config").arg(self.config_path());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdout(log.try_clone()?).stderr(log);
        self.process = Some(Process::start(command, self.dir())?);
        Ok(())
    }

    /// `None` while it is not running.
    pub fn pid(&mut self) -> Option<u32> {
        self.process.as_mut().and_then(|process| process.ended().is_none().then(|| process.pid()))
    }

    /// Such as `Signal::HUP` for a reload.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.running()?.signal(signal)
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.running()?.signal(Signal::TERM)?;
        self.wait(STOP)?.ok_or_else(|| Error::other(format!("the agent did not stop within {STOP:?} of SIGTERM")))
    }

    /// Waits until it ends by itself; `None` when it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let status = self.running()?.wait(patience);
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// All that it wrote to standard output and standard error, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn wait_log(&self, text: &str, patience: Duration) -> Option<Duration> {
        poll(patience, || self.log().contains(text))
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir().join("agent.log")
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| Error::other("the agent is not running"))
    }
}
