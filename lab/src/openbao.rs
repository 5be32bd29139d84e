//! A real OpenBao: a private server on loopback, in the clear and over TLS, with its storage in memory.

use std::fs;
use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kind::{announce, in_cache, skip};
use crate::port::Port;
use crate::process::{Process, Wrapping, poll};
use crate::sweep::Place;
use crate::tls::Certificates;

/// A binary of 180 MB, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Killed on drop.
#[derive(Debug)]
pub struct OpenBao {
    // Dropped in this order: the server, then its directory.
    process: Process,
    plain: Port,
    tls: Port,
    root_token: String,
    unseal_key: String,
    certificates: Certificates,
    _place: Place,
}

impl OpenBao {
    /// Unsealed and empty. Where it is not installed, CI fails; elsewhere the test is skipped with a visible line.
    pub fn require() -> Option<OpenBao> {
        let Some(program) = in_cache("bao") else {
            skip("OpenBao is not installed; run make setup");
            return None;
        };
        let bao = OpenBao::start(&program).unwrap_or_else(|error| panic!("OpenBao did not start: {error}"));
        announce("on OpenBao");
        Some(bao)
    }

    fn start(program: &Path) -> Result<OpenBao> {
        let place = Place::make()?;
        let certificates = Certificates::make(&place.dir().join("tls"))?;
        let (plain, tls, good) = (Port::reserve()?, Port::reserve()?, certificates.good());
        let conf = place.dir().join("bao.hcl");
        let text = format!(
            "disable_mlock = true\nstorage \"inmem\" {{}}\napi_addr = \"http://127.0.0.1:{plain}\"\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{plain}\"\n  tls_disable = true\n}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{tls}\"\n  cluster_address = \"127.0.0.1:0\"\n  \
             tls_cert_file = {:?}\n  tls_key_file = {:?}\n}}\n",
            good.cert,
            good.key,
            plain = plain.number,
            tls = tls.number,
        );
        fs::write(&conf, text)?;
        let mut command = Wrapping::default().command(program);
        let log = fs::File::create(place.dir().join("bao.log"))?;
        command.args(["server", "-config"]).arg(&conf).stdout(log.try_clone()?).stderr(log);
        // It writes a token helper's file where HOME says, and must not write in the developer's.
        command.env("HOME", place.dir()).stdin(Stdio::null());
        let process = Process::start(command, place.dir())?;
        let mut bao = OpenBao {
            process,
            plain,
            tls,
            root_token: String::new(),
            unseal_key: String::new(),
            certificates,
            _place: place,
        };
        let up = poll(START, || bao.process.ended().is_some() || bao.send("GET", "sys/seal-status", None).is_ok());
        if up.is_none() || bao.process.ended().is_some() {
            let log = fs::read_to_string(bao._place.dir().join("bao.log")).unwrap_or_default();
            return Err(Error::other(format!("it did not answer within {START:?}; its log:\n{log}")));
        }
        let made = bao.ask("PUT", "sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 }))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (bao.root_token, bao.unseal_key) = (text(&made["root_token"]), text(&made["keys"][0]));
        bao.unseal()?;
        Ok(bao)
    }

    /// In the clear.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain.number)
    }

    pub fn tls_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls.number)
    }

    /// Of the TLS listener; also good for certificates of clients.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    pub fn seal(&self) -> Result<()> {
        self.ask("PUT", "sys/seal", Value::Null).map(drop)
    }

    /// Until it serves again.
    pub fn unseal(&self) -> Result<()> {
        self.ask("PUT", "sys/unseal", json!({ "key": self.unseal_key }))?;
        let active = || matches!(self.send("GET", "sys/health", None), Ok((200, _)));
        poll(START, active).map(drop).ok_or_else(|| Error::other("OpenBao does not become active"))
    }

    /// Stops answering, with its connections open; and goes on.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::STOP)
    }

    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::CONT)
    }

    /// Writes with the root token; an answer that is no success is an error.
    pub fn write(&self, path: &str, body: Value) -> Result<Value> {
        self.ask("POST", path, body)
    }

    pub fn read(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, Value::Null)
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        self.ask("DELETE", path, Value::Null).map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let (status, answer) = self.send(method, path, (!body.is_null()).then_some(body))?;
        match status {
            200..=299 => Ok(answer),
            _ => Err(Error::other(format!("{method} {path}: HTTP {status}: {answer}"))),
        }
    }

    /// `NAMESPACE//PATH` asks within a namespace.
    fn send(&self, method: &str, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let (namespace, path) = path.split_once("//").unwrap_or(("", path));
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.plain.number))?;
        stream.set_read_timeout(Some(START))?;
        write!(
            stream,
            "{method} /v1/{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nX-Vault-Token: {}\r\nX-Vault-Namespace: {namespace}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.root_token,
            body.len(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Error::other("no answer"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}
