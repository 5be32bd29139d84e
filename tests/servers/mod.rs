//! Private servers on loopback for the live tests of the senses. Each is killed, by its own pid, when dropped.

#![allow(dead_code)] // each test binary uses its part

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use relinkd::model::{Address, Endpoint};
use relinkd::secrets::Secret;
use relinkd::wire::reply::Reply;
use relinkd::wire::{Arg, Dial, Writer};
use rustix::process::{Pid, Signal, kill_process};

pub const AMPLE: Duration = Duration::from_secs(20);

/// The servers that the tests run on: Redis always, Valkey where it is installed.
pub fn programs() -> Vec<&'static str> {
    let valkey = Command::new("valkey-server").arg("--version").stdout(Stdio::null()).status();
    if !valkey.is_ok_and(|status| status.success()) {
        eprintln!("skipped on Valkey: valkey-server is not installed");
        return vec!["redis-server"];
    }
    vec!["redis-server", "valkey-server"]
}

pub struct Server {
    child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub password: String,
}

impl Server {
    /// Starts a data node; `config` is in the form of its config file.
    pub fn start(program: &str, password: &str, config: &str) -> Server {
        let mut lines = config.to_owned();
        if !password.is_empty() {
            lines.push_str(&format!("\nrequirepass {password}\n"));
        }
        Server::launch(program, password, &lines, &[])
    }

    /// Starts a Sentinel that watches `primary` as `mymaster`.
    pub fn sentinel(program: &str, primary: &Server) -> Server {
        let config = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel auth-pass mymaster {}\n\
             sentinel down-after-milliseconds mymaster 60000\n",
            primary.port, primary.password
        );
        Server::launch(program, "", &config, &["--sentinel"])
    }

    fn launch(program: &str, password: &str, config: &str, args: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let place = dir.path().display();
        let file = dir.path().join("server.conf");
        let own = format!("port {port}\nbind 127.0.0.1\ndir {place}\nunixsocket {place}/s\nlogfile {place}/log\n");
        std::fs::write(&file, own + config).unwrap();
        let child = Command::new(program)
            .arg(&file)
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program} does not start: {e}; install it"));
        let server = Server { child, dir, port, password: password.into() };
        eventually("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.port)
    }

    pub fn dial(&self) -> Dial {
        let password = (!self.password.is_empty()).then(|| Secret::new(self.password.clone()));
        Dial { password, ..Dial::plain(self.endpoint()) }
    }

    pub fn unix(&self) -> Dial {
        Dial { address: Address::Unix(self.file("s")), ..self.dial() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One command as the person who owns the server; an error is a failed test.
    pub async fn run(&self, command: &str) -> Reply {
        let mut writer = Writer::connect(&self.dial(), AMPLE).await.unwrap();
        let words: Vec<Arg> = command.split(' ').map(Arg::from).collect();
        let reply = writer.run(&words, AMPLE).await.unwrap();
        assert!(!matches!(reply, Reply::Error { .. }), "{command}: {reply:?}");
        reply
    }

    pub async fn info(&self, field: &str) -> String {
        let text = self.run("INFO").await.into_text().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }

    /// Waits until the replica's link is up, or is down.
    pub async fn until_link(&self, wanted: &str) {
        let began = Instant::now();
        while self.info("master_link_status").await != wanted {
            assert!(began.elapsed() < AMPLE, "the link is not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub fn stop(&mut self) {
        let _ = kill_process(self.pid(), Signal::CONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port where nobody listens, and that no other lab takes while this process runs.
pub fn free_port() -> u16 {
    lab::Port::reserve().expect("a port").keep()
}

pub fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < AMPLE, "not seen in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
