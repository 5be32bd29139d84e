//! AWS as far as it can be installed: moto's server, with Secrets Manager, IAM, STS and the instance metadata service.
//!
//! It checks each signature with botocore's own signer and each permission against IAM's policies, once [`Moto::guard`]
//! says so. What it does not have: KMS behind a secret, throttling, the endpoint of a container.

use std::fs;
use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kind::{announce, moto, skip};
use crate::port::Port;
use crate::process::{Process, Wrapping, poll};
use crate::sweep::Place;

/// A large Python program, on a busy machine.
const START: Duration = Duration::from_secs(90);

/// Where everything lies, as moto's own instance metadata says.
const REGION: &str = "us-east-1";

/// Killed on drop.
#[derive(Debug)]
pub struct Moto {
    // Dropped in this order: the server, then its directory.
    process: Process,
    port: Port,
    _place: Place,
}

impl Moto {
    /// Empty, and taking any key. Where it is not installed, CI fails; elsewhere the test is skipped with a visible line.
    pub fn require() -> Option<Moto> {
        let Some(folder) = moto() else {
            skip("moto's server is not installed; run make setup");
            return None;
        };
        let started = Moto::start(&folder).unwrap_or_else(|error| panic!("moto's server did not start: {error}"));
        announce("on moto's server");
        Some(started)
    }

    fn start(folder: &std::path::Path) -> Result<Moto> {
        let (place, port) = (Place::make()?, Port::reserve()?);
        let mut command = Wrapping::default().command("python3");
        let log = fs::File::create(place.dir().join("moto.log"))?;
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.number.to_string()]);
        command.env("PYTHONPATH", folder).env("HOME", place.dir()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let process = Process::start(command, place.dir())?;
        let mut moto = Moto { process, port, _place: place };
        let up = poll(START, || moto.process.ended().is_some() || moto.secrets("ListSecrets", json!({})).is_ok());
        if up.is_none() || moto.process.ended().is_some() {
            let log = fs::read_to_string(moto._place.dir().join("moto.log")).unwrap_or_default();
            return Err(Error::other(format!("it did not answer within {START:?}; its log:\n{log}")));
        }
        Ok(moto)
    }

    /// Of every service.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    pub fn region(&self) -> &'static str {
        REGION
    }

    /// From now on keys, signatures and policies are checked; or not any more. What the lab itself asks passes only while
    /// they are not.
    pub fn guard(&self, on: bool) -> Result<()> {
        let free = if on { "0" } else { "1000000000" };
        self.send("moto_api", "/moto-api/reset-auth", &[], free).map(drop)
    }

    /// An operation of Secrets Manager, such as `CreateSecret`.
    pub fn secrets(&self, operation: &str, body: Value) -> Result<Value> {
        let target = format!("X-Amz-Target: secretsmanager.{operation}");
        let headers = [target.as_str(), "Content-Type: application/x-amz-json-1.1"];
        let answer = self.send("secretsmanager", "/", &headers, &body.to_string())?;
        serde_json::from_str(&answer).map_err(Error::other)
    }

    /// A new user of IAM with this policy, or with none: the id of its access key, and the key.
    pub fn user(&self, name: &str, policy: Option<Value>) -> Result<(String, String)> {
        self.iam(&format!("Action=CreateUser&UserName={name}"))?;
        if let Some(policy) = policy {
            let document = encoded(&policy.to_string());
            self.iam(&format!("Action=PutUserPolicy&UserName={name}&PolicyName=p&PolicyDocument={document}"))?;
        }
        let made = self.iam(&format!("Action=CreateAccessKey&UserName={name}"))?;
        let part = |tag: &str| {
            let rest = made.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
            rest.split('<').next().unwrap_or_default().to_owned()
        };
        Ok((part("AccessKeyId"), part("SecretAccessKey")))
    }

    /// A role of IAM with this policy: its ARN.
    pub fn role(&self, name: &str, policy: Value) -> Result<String> {
        let trust = encoded(&json!({ "Version": "2012-10-17", "Statement": [] }).to_string());
        self.iam(&format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={trust}"))?;
        let document = encoded(&policy.to_string());
        self.iam(&format!("Action=PutRolePolicy&RoleName={name}&PolicyName=p&PolicyDocument={document}"))?;
        Ok(format!("arn:aws:iam::123456789012:role/{name}"))
    }

    /// Stops answering, with its connections open; and goes on.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::STOP)
    }

    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::CONT)
    }

    fn iam(&self, form: &str) -> Result<String> {
        let form = format!("{form}&Version=2010-05-08");
        self.send("iam", "/", &["Content-Type: application/x-www-form-urlencoded"], &form)
    }

    fn send(&self, service: &str, path: &str, headers: &[&str], body: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number))?;
        stream.set_read_timeout(Some(START))?;
        let head = headers.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        // Which service is meant, moto reads off the signature's scope; the signature itself counts under guard only.
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n{head}Authorization: AWS4-HMAC-SHA256 \
             Credential=lab/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=none\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port.number,
            body.len(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Error::other("no answer"))?;
        match head.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(body.to_owned()),
            _ => Err(Error::other(format!("{service}{path}: {answer}"))),
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
