//! Which servers there are, where their programs lie, and what a test does when one is missing.
//!
//! Debian's packages are found on `PATH`, the two newer servers in the cache that `lab/install.sh` fills. A program
//! counts only when it says the version its kind promises: a test must not claim a server that it did not run on.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A server and its version line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Redis70,
    Valkey80,
    Redis82,
    Valkey91,
}

/// Where the program of a [`Kind`] lies. The same program is data node and, with `--sentinel`, Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub server: PathBuf,
    /// As the program says it, such as `7.0.15`.
    pub version: String,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Redis70, Kind::Valkey80, Kind::Redis82, Kind::Valkey91];

    /// The short name that `lab up --kind` takes.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Redis70 => "redis-7.0",
            Kind::Valkey80 => "valkey-8.0",
            Kind::Redis82 => "redis-8.2",
            Kind::Valkey91 => "valkey-9.1",
        }
    }

    pub fn from_code(code: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }

    pub fn is_valkey(self) -> bool {
        matches!(self, Kind::Valkey80 | Kind::Valkey91)
    }

    /// The version that a group of this one is upgraded to, where one is at hand.
    pub fn upgrade(self) -> Option<Kind> {
        match self {
            Kind::Redis70 => Some(Kind::Redis82),
            Kind::Valkey80 => Some(Kind::Valkey91),
            Kind::Redis82 | Kind::Valkey91 => None,
        }
    }

    /// The program, or what is missing and how to get it. Asked for its version once a process.
    pub fn find(self) -> Result<Binaries, String> {
        static FOUND: Mutex<BTreeMap<Kind, Binaries>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(&self) {
            return Ok(known.clone());
        }
        let server = self.program().ok_or_else(|| format!("{self} is not installed; run make setup"))?;
        let version = version_of(&server)?;
        let line = format!("{}.", self.version_line());
        if !version.starts_with(&line) {
            return Err(format!("{} is version {version}, but the lab wants {self}; run make setup", server.display()));
        }
        Ok(found.entry(self).or_insert(Binaries { server, version }).clone())
    }

    /// Whether the program was built with TLS, as it says itself when it is asked for a TLS port without a certificate.
    pub fn speaks_tls(self) -> bool {
        let Some(program) = self.program() else { return false };
        let tried = Command::new(program).args(["--port", "0", "--tls-port", "1"]).output();
        tried.is_ok_and(|output| {
            !String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("Failed finding TLS support")
        })
    }

    fn version_line(self) -> &'static str {
        match self {
            Kind::Redis70 => "7.0",
            Kind::Valkey80 => "8.0",
            Kind::Redis82 => "8.2",
            Kind::Valkey91 => "9.1",
        }
    }

    fn program(self) -> Option<PathBuf> {
        match self {
            Kind::Redis70 => on_path("redis-server"),
            Kind::Valkey80 => on_path("valkey-server"),
            Kind::Redis82 => in_cache("redis-server-8.2"),
            Kind::Valkey91 => in_cache("valkey-server-9.1"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let product = if self.is_valkey() { "Valkey" } else { "Redis" };
        write!(f, "{product} {}", self.version_line())
    }
}

/// The server that a test runs on, announced on stderr. Where it is missing, CI fails, so that coverage cannot
/// shrink unseen; elsewhere the test is skipped with a visible line.
///
/// ```no_run
/// let Some(kind) = lab::require(lab::Kind::Valkey80) else { return };
/// ```
///
/// With `LAB_NEWER` set, a test that is written for Debian's servers runs on the newer two instead, whatever its name says:
/// for a check of all that a release changes, and for captures.
pub fn require(kind: Kind) -> Option<Kind> {
    let kind = match kind {
        Kind::Redis70 if std::env::var_os("LAB_NEWER").is_some() => Kind::Redis82,
        Kind::Valkey80 if std::env::var_os("LAB_NEWER").is_some() => Kind::Valkey91,
        named => named,
    };
    match kind.find() {
        Ok(binaries) => {
            announce(&format!("on {kind} ({})", binaries.version));
            Some(kind)
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// The same rule for tests that need network namespaces.
pub fn require_namespaces() -> Option<()> {
    if crate::namespaces_available() {
        return Some(());
    }
    skip("network namespaces need root, iproute2 and nftables; run as root after make setup");
    None
}

/// The same rule for Ansible: the folder to put on PYTHONPATH, with `bin/ansible-playbook` in it.
pub fn ansible() -> Option<PathBuf> {
    let found = cached("ansible").filter(|dir| dir.join("bin/ansible-playbook").is_file());
    if found.is_none() {
        skip("Ansible is missing from the cache: run make setup");
    }
    found
}

/// The folder of moto's server, to put on PYTHONPATH.
pub(crate) fn moto() -> Option<PathBuf> {
    cached("moto").filter(|dir| dir.join("moto/server.py").is_file())
}

/// Says that a test does nothing here, and why; in CI that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason} (in CI nothing may be skipped)");
    announce(&format!("SKIPPED: {reason}"));
}

/// Past libtest's capture, which hides what `eprintln!` says in a test that passes.
pub(crate) fn announce(line: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("lab");
    let _ = writeln!(std::io::stderr(), "{test}: {line}");
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

pub(crate) fn in_cache(program: &str) -> Option<PathBuf> {
    cached("servers").and_then(|dir| dir.join(program).canonicalize().ok())
}

fn cached(name: &str) -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache").join(name).canonicalize().ok()
}

fn version_of(server: &Path) -> Result<String, String> {
    let output = Command::new(server)
        .arg("--version")
        .output()
        .map_err(|error| format!("{} did not start: {error}", server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned).ok_or_else(|| format!("{} --version names no version", server.display()))
}
