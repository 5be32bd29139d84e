//! The words of the project: plain data that every other module speaks, and nothing that acts.
//!
//! Everything here can be serialised, so that evidence, decisions and incidents can be kept and read again.
//! Nothing here reads a clock, a socket or a file.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod event;
pub mod evidence;
pub mod finding;
pub mod group;
pub mod incident;
pub mod people;
pub mod rdb;
pub mod remedy;
pub mod rotation;
pub mod shell;
pub mod turn;

/// An instant: microseconds since the Unix epoch, handed in by the caller and never read from a clock here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const fn from_millis(ms: i64) -> Self {
        Timestamp(ms * 1_000)
    }

    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Time since `earlier`; zero when `earlier` lies ahead, so a clock that steps back never panics.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn after(self, delay: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn before(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-23T06:12:00.041Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

/// A TCP address as Redis and Sentinel write it: a host name or an IP, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Endpoint { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    /// `host:port`, `ip:port` or `[ipv6]:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address; write HOST:PORT, as in 10.0.0.11:6379 or [::1]:6379");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 || host.chars().any(|c| c.is_whitespace() || c == '/' || c == '@') {
            return Err(wrong());
        }
        Ok(Endpoint::new(host, port))
    }
}

/// What was saved is read again, whatever it is: a server tells of a replica at port 0 while it knows none, and of names
/// that no person would be let write.
impl TryFrom<String> for Endpoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let told = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = told.ok_or_else(|| format!("{text:?} is not HOST:PORT"))?;
        let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        Ok(Endpoint::new(inner.filter(|inner| inner.contains(':')).unwrap_or(host), port))
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

/// Where a local instance listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    Tcp(Endpoint),
    Unix(std::path::PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(endpoint) => endpoint.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    /// `HOST:PORT`, or `unix:/path` (a bare absolute path counts as a socket too).
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            Some(path) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(path) => Err(format!("{path:?} is not an absolute path; write unix:/run/redis/redis.sock")),
            None => text.parse().map(Address::Tcp),
        }
    }
}

/// One watched instance: its name in the config, and the Sentinel group that it belongs to (empty without one).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId {
    pub replica: String,
    pub group: String,
}

/// A time span as people write it: `41 ms`, `2.3 s`, `4 min 10 s`, `3 h 5 min`.
pub fn human(span: Duration) -> String {
    let ms = span.as_millis();
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{ms} ms"),
        1..=9 => format!("{}.{} s", seconds, (ms % 1000) / 100),
        10..=119 => format!("{seconds} s"),
        120..=7199 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, (seconds % 3600) / 60),
    }
}

/// Bytes as people write them: `512 B`, `16 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let unit = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter().find(|(_, bits)| bytes >> bits > 0);
    let Some((unit, bits)) = unit else { return format!("{bytes} B") };
    let tenths = (bytes >> (bits - 10)).saturating_mul(10) >> 10;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}

/// Text that came from a server, made safe to show: control characters replaced, cut at `limit` characters.
pub fn tame(text: &str, limit: usize) -> String {
    let mut out: String = text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_back_as_written() {
        for text in ["10.0.0.11:6379", "db-1.example:6380", "[::1]:26379"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "6379", "host", "host:0", "host:99999", "::1:6379", "a b:1", "redis://h:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn whatever_address_was_saved_is_read_again() {
        for (host, port) in [("10.0.0.2", 0), ("", 0), ("/run/sentinel.sock", 0), ("::1", 6379), ("a b", 1), ("[x]", 1)]
        {
            let endpoint = Endpoint::new(host, port);
            let saved = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(serde_json::from_str::<Endpoint>(&saved).unwrap(), endpoint, "{saved}");
        }
        assert!(serde_json::from_str::<Endpoint>("\"no port\"").is_err());
    }

    #[test]
    fn a_clock_that_steps_back_gives_zero() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_041).to_string(), "2023-11-14T22:13:20.041Z");
    }

    #[test]
    fn spans_read_like_speech() {
        let said: Vec<String> =
            [41, 2_300, 42_000, 250_000, 11_100_000].into_iter().map(|ms| human(Duration::from_millis(ms))).collect();
        assert_eq!(said, ["41 ms", "2.3 s", "42 s", "4 min 10 s", "3 h 5 min"]);
    }

    #[test]
    fn server_text_cannot_break_a_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\n", 9), "a [31mb ");
        assert_eq!(tame("abcdef", 3), "abc…");
    }
}
