//! One real server process: data node or Sentinel.
//!
//! Each has a private directory with its configuration (so `CONFIG REWRITE` works), its log and a unix socket. The
//! lab's own commands go through that socket as the admin: they reach the server whatever the network's state is, and
//! protected mode does not concern them.

use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value};
use rustix::process::Signal;

use crate::disk::SmallDisk;
use crate::kind::{Binaries, Kind};
use crate::namespace::Host;
use crate::port::Port;
use crate::process::{Process, Wrapping, poll};
use crate::tls::Certificates;

/// How long a server may take to start, to stop, or to answer the lab.
const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);
/// A command may wait for a disk that others write to as well (CONFIG REWRITE), and is given only once.
const DONE: Duration = Duration::from_secs(10);
/// A stranger may take a port between its choice and its use.
const PORT_ATTEMPTS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Data,
    Sentinel,
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    pub kind: Kind,
    pub binaries: &'a Binaries,
    pub duty: Duty,
    pub dir: PathBuf,
    /// A host of its own, where the port is the usual one; without, loopback and a port of the lab's choice.
    pub host: Option<Host>,
    pub limits: Vec<String>,
    pub disk_kib: Option<u32>,
    pub user: Option<u32>,
    pub tls: Option<Certificates>,
    pub admin_password: Option<String>,
    /// Lines for the configuration beside those that every server of the lab has.
    pub lines: Vec<String>,
}

/// A handle: clones speak of the same process, which ends with its group.
#[derive(Clone, Debug)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    program: Mutex<PathBuf>,
    duty: Duty,
    dir: PathBuf,
    host: Option<Host>,
    limits: Vec<String>,
    disk: Option<SmallDisk>,
    user: Option<u32>,
    tls: Option<Certificates>,
    port: u16,
    admin_password: Mutex<Option<String>>,
    process: Mutex<Option<Process>>,
    _reservation: Option<Port>,
}

impl Server {
    pub(crate) fn launch(spec: Spec<'_>) -> Result<Server> {
        fs::DirBuilder::new().mode(0o700).create(&spec.dir)?;
        let disk = spec.disk_kib.map(|kib| SmallDisk::mount(&spec.dir.join("disk"), kib)).transpose()?;
        let mut server = Inner {
            kind: spec.kind,
            program: Mutex::new(spec.binaries.server.clone()),
            duty: spec.duty,
            dir: spec.dir,
            host: spec.host,
            limits: spec.limits,
            disk,
            user: spec.user,
            tls: spec.tls,
            port: 0,
            admin_password: Mutex::new(spec.admin_password),
            process: Mutex::new(None),
            _reservation: None,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            server.choose_port()?;
            server.write_conf(&spec.lines)?;
            let Err(error) = server.start() else { return Ok(Server(Arc::new(server))) };
            if attempts == PORT_ATTEMPTS || !server.log_text().contains("Address already in use") {
                return Err(error);
            }
            fs::remove_file(server.log_path())?;
        }
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where clients, replicas and Sentinels reach it.
    pub fn endpoint(&self) -> (String, u16) {
        (self.0.address().to_owned(), self.0.port)
    }

    /// `host:port`, as configurations write it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.0.address(), self.0.port)
    }

    /// Its host in the group's own network; `None` on loopback, where there is no network to break.
    pub fn host(&self) -> Option<&Host> {
        self.0.host.as_ref()
    }

    /// The small disk under its data, where it was given one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.0.disk.as_ref()
    }

    /// The private directory: configuration, log, admin socket.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// What the server knows as `dir`: where its RDB file goes.
    pub fn data_dir(&self) -> &Path {
        self.0.data_dir()
    }

    pub fn conf_path(&self) -> PathBuf {
        self.0.conf_path()
    }

    pub fn log_path(&self) -> PathBuf {
        self.0.log_path()
    }

    pub fn log_text(&self) -> String {
        self.0.log_text()
    }

    /// Its unix socket.
    pub fn socket_path(&self) -> PathBuf {
        self.0.socket_path()
    }

    /// `None` while it is not running.
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.0.process();
        process.as_mut().and_then(|process| process.ended().is_none().then(|| process.pid()))
    }

    /// A new connection, logged in as the admin.
    pub fn connect(&self) -> RedisResult<redis::Connection> {
        self.0.connect()
    }

    /// One command as the admin, on a connection of its own.
    pub fn run(&self, words: &[&str]) -> RedisResult<Value> {
        let mut connection = self.connect()?;
        connection.set_read_timeout(Some(DONE))?;
        crate::link::command(words).query(&mut connection)
    }

    /// A question, with the answer converted; who gets none in time asks again.
    pub fn query<T: redis::FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        crate::link::command(words).query(&mut self.connect()?)
    }

    /// After a test changed the default user's password: what the lab logs in with from now on.
    pub fn set_admin_password(&self, password: Option<&str>) {
        *self.0.admin_password.lock().unwrap_or_else(PoisonError::into_inner) = password.map(str::to_owned);
    }

    pub fn admin_password(&self) -> Option<String> {
        self.0.admin_password.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn kill9(&self) {
        if let Some(mut process) = self.0.process().take() {
            process.kill9();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&self) -> Result<()> {
        let Some(mut process) = self.0.process().take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        match process.wait(STOP) {
            Some(_) => Ok(()),
            None => Err(Error::other(format!("{} did not stop within {STOP:?} of SIGTERM", self.address()))),
        }
    }

    /// SIGSTOP: the kernel still accepts connections for it, and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether it stands under SIGSTOP, and would answer nobody.
    pub fn is_stopped(&self) -> bool {
        let stat = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stat.is_some_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T')))
    }

    /// Starts it again from its configuration as it is now; kills it before, if it runs.
    pub fn restart(&self) -> Result<()> {
        self.kill9();
        self.0.start()
    }

    /// Stops it as its unit would, and starts the program of another version with the same configuration and data.
    pub fn upgrade(&self, newer: Kind) -> Result<()> {
        let program = newer.find().map_err(Error::other)?.server;
        self.terminate()?;
        *self.0.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
        self.0.start()
    }

    /// The user that it runs as, where it has one of its own.
    pub fn user(&self) -> Option<u32> {
        self.0.user
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match self.0.process().as_mut() {
            Some(process) => process.signal(signal),
            None => Err(Error::other(format!("{} is not running", self.address()))),
        }
    }

    /// A command that runs on this server's host: same network, and it cannot outlive a lab whose process dies. The
    /// caller starts it, from a thread that lives as long as the command shall.
    pub fn command_beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Wrapping { host: self.host(), ..Wrapping::default() }.command(program)
    }
}

impl Inner {
    fn choose_port(&mut self) -> Result<()> {
        self.port = match (&self.host, self.duty) {
            (Some(_), Duty::Data) => 6379,
            (Some(_), Duty::Sentinel) => 26379,
            (None, _) => {
                let port = Port::reserve()?;
                let number = port.number;
                self._reservation = Some(port);
                number
            }
        };
        Ok(())
    }

    fn write_conf(&self, lines: &[String]) -> Result<()> {
        let bind = if self.host.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let port = match self.tls {
            Some(_) => format!("port 0\ntls-port {}", self.port),
            None => format!("port {}", self.port),
        };
        let mut conf = vec![
            port,
            format!("bind {bind}"),
            format!("dir {}", self.data_dir().display()),
            format!("logfile {}", self.log_path().display()),
            format!("unixsocket {}", self.socket_path().display()),
            "unixsocketperm 700".to_owned(),
            "daemonize no".to_owned(),
        ];
        conf.extend(self.tls.iter().flat_map(Certificates::conf_lines));
        conf.extend_from_slice(lines);
        fs::write(self.conf_path(), conf.join("\n") + "\n")
    }

    fn start(&self) -> Result<()> {
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut command =
            Wrapping { host: self.host.as_ref(), limits: &self.limits, user: self.user }.command(&program);
        command.arg(self.conf_path());
        if self.duty == Duty::Sentinel {
            command.arg("--sentinel");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(command, &self.dir)?;
        let mut ended = None;
        let up = poll(START, || {
            ended = process.ended();
            ended.is_some() || self.answers()
        });
        if up.is_some() && ended.is_none() {
            *self.process() = Some(process);
            return Ok(());
        }
        let state = ended.map_or(format!("does not answer after {START:?}"), |status| format!("ended, {status}"));
        let log = self.log_text();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(Error::other(format!("{} at port {} {state}; its log ends:\n{tail}", program.display(), self.port)))
    }

    /// Any answer is one: a replica without its link says MASTERDOWN, a node with data says LOADING.
    fn answers(&self) -> bool {
        let asked = self.connect().and_then(|mut connection| redis::cmd("PING").query::<Value>(&mut connection));
        match asked {
            Ok(_) => true,
            Err(error) => error.code().is_some(),
        }
    }

    fn connect(&self) -> RedisResult<redis::Connection> {
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = ConnectionAddr::Unix(self.socket_path()).into_connection_info()?.set_redis_settings(settings);
        let mut connection = redis::Client::open(info)?.get_connection()?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        let password = self.admin_password.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(password) = password {
            redis::cmd("AUTH").arg(password).exec(&mut connection)?;
        }
        Ok(connection)
    }

    fn address(&self) -> &str {
        self.host.as_ref().map_or("127.0.0.1", Host::address)
    }

    fn data_dir(&self) -> &Path {
        self.disk.as_ref().map_or(&self.dir, SmallDisk::dir)
    }

    fn conf_path(&self) -> PathBuf {
        self.dir.join(match self.duty {
            Duty::Data => "server.conf",
            Duty::Sentinel => "sentinel.conf",
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn socket_path(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    fn log_text(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
