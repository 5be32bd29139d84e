//! Child processes that cannot outlive the lab.
//!
//! `setpriv --pdeathsig KILL` makes the kernel kill a child when the *thread* that started it ends (prctl(2),
//! PR_SET_PDEATHSIG). A test's thread ends long before its process does, so one thread, which lives as long as the
//! process, starts them all. `setpriv`, `nsenter` and `prlimit` each replace themselves by the next program, so the
//! child's pid is the server's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::Host;

type Job = (Command, Sender<Result<Child>>);

/// How a program is wrapped before it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrapping<'a> {
    pub host: Option<&'a Host>,
    /// Limits for prlimit(1), each such as `--nofile=64`.
    pub limits: &'a [String],
    /// A user of its own, to whom the limits of a process count apply: they do not to root. Files stay within reach.
    pub user: Option<u32>,
}

impl Wrapping<'_> {
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words: Vec<&OsStr> = Vec::new();
        let net = self.host.map(|host| format!("--net={}", host.netns_path().display()));
        if let Some(net) = &net {
            words.extend(["nsenter", net, "--"].map(OsStr::new));
        }
        if !self.limits.is_empty() {
            words.push(OsStr::new("prlimit"));
            words.extend(self.limits.iter().map(OsStr::new));
            words.push(OsStr::new("--"));
        }
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsStr::new));
        let user = self.user.map(|user| user.to_string());
        if let Some(user) = &user {
            words.extend(["--reuid", user, "--clear-groups"].map(OsStr::new));
            words.extend(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"].map(OsStr::new));
        }
        words.push(OsStr::new("--"));
        words.push(program.as_ref());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }
}

/// A running child. Killed and reaped on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stopped: bool,
}

impl Process {
    /// Starts `command`, which should come from [`Wrapping::command`], in the lab's directory `dir` and in a process
    /// group of its own: a Ctrl-C at the terminal is for the lab, not for its servers. Its standard input is an empty
    /// file in `dir`: that is how `clear.sh` knows the lab's processes.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Result<Process> {
        let stdin = dir.join("stdin");
        File::create(&stdin)?;
        command.process_group(0).current_dir(dir).stdin(File::open(&stdin)?);
        let (reply, started) = channel();
        spawner().send((command, reply)).map_err(|_| Error::other("the spawning thread is gone"))?;
        let child = started.recv().map_err(|_| Error::other("the spawning thread is gone"))??;
        Ok(Process { child, stopped: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        let gone = || Error::other(format!("process {} has ended", self.child.id()));
        if self.stopped {
            return Err(gone());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        kill_process(pid, signal).map_err(Error::from)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.stopped |= status.is_some();
        status
    }

    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stopped = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn spawner() -> &'static Sender<Job> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                let _ = reply.send(command.spawn());
            }
        });
        sender
    })
}

/// Polls until `condition` holds. How long that took, or `None` when `patience` ran out.
pub(crate) fn poll(patience: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= patience {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
