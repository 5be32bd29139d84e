//! Connections to Redis, Valkey and Sentinel: RESP2 over TCP, TLS or a Unix socket, under our own deadlines.
//!
//! Two types keep reading and writing apart. A [`Reader`] sends only what stands on a closed list of harmless
//! commands and refuses the rest before a byte leaves; everything that looks uses it. A [`Writer`] sends
//! anything, and only `act` may hold one.
//!
//! Invariants: every wait has an end that the caller names, and nothing is sent after it; a reply is bounded before it is stored; a connection
//! that was left in the middle of an answer is never used again; buffers between us and the socket are wiped before
//! they are freed, since a password may have passed through them.
//!
//! Not here: reconnecting, pooling, RESP3, what replies mean to us ([`reply`] only takes them apart).
//!
//! The protocol is read by [`resp`] and not by a client library: clients hide the order and the exact text of
//! errors, which is what a diagnosis stands on, and do not bound what a peer makes them store.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::model::evidence::Missing;
use crate::model::shell::quoted;
use crate::model::{Address, Endpoint, tame};
use crate::secrets::Secret;

pub mod reply;
pub mod resp;
mod all;
mod reads;
mod connection;
mod quoted;
mod tls;
mod reader;
mod subscription;
mod until;
mod writer;

pub use all::all;
pub use connection::{lookup, speaks_tls};
pub use reader::{Answers, Reader};
pub use subscription::Subscription;
pub use until::Until;
pub use writer::{Arg, Writer};

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub struct Dial {
    pub address: Address,
    /// Empty for the default user.
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Option<TlsSettings>,
}

impl Dial {
    /// Plain TCP without a password.
    pub fn plain(endpoint: Endpoint) -> Dial {
        Dial { address: Address::Tcp(endpoint), user: String::new(), password: None, tls: None }
    }
}

/// TLS towards a server. Files are PEM and are read again at each connection, so renewed ones count at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlsSettings {
    /// Who signs the server's certificate; with neither of the two, the system's roots.
    pub ca: Option<PathBuf>,
    /// A directory of such files (`tls-ca-cert-dir` of a server).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_dir: Option<PathBuf>,
    /// Our own certificate and its key, where the server asks for one.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name expected in the certificate; without it, the host that is dialled.
    pub server_name: Option<String>,
    /// The name in the certificate does not count, as it does not for a replica.
    pub any_name: bool,
    /// Why no certificate is shown, where the replica itself has one to show.
    #[serde(skip)]
    pub bare: Option<String>,
}

impl TlsSettings {
    /// The same for redis-cli and valkey-cli, as words of a shell.
    pub fn client_flags(&self) -> String {
        let files =
            [("--cacert", &self.ca), ("--cacertdir", &self.ca_dir), ("--cert", &self.cert), ("--key", &self.key)];
        let files = files
            .iter()
            .filter_map(|(flag, path)| Some(format!(" {flag} {}", quoted(&path.as_ref()?.to_string_lossy()))));
        let name = self.server_name.iter().map(|name| format!(" --sni {}", quoted(name)));
        format!("--tls{}", files.chain(name).collect::<String>())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    TimedOut,
    Refused,
    /// The peer cut the connection with a reset.
    Reset,
    /// The peer closed the connection, perhaps in the middle of a reply.
    Closed,
    /// No route and its kin: the system's words.
    Unreachable(String),
    /// There is no such Unix socket: its server has ended, or the path is another.
    NoSocket(String),
    /// A Unix socket that our own user may not open: the system's words.
    NotPermitted(String),
    NameUnresolved(String),
    Tls(String),
    /// Our own TLS settings do not hold, so nothing was said: a file that cannot be read, a name that is none.
    TlsSetup(String),
    /// The connection opened, and nothing came back to the TLS hello.
    HelloUnanswered,
    /// The connection took so long to open that too little time was left for the TLS hello.
    HelloCutShort,
    /// The server does not let us in: its first word, and the whole.
    Denied {
        code: String,
        text: String,
    },
    /// Bytes that are not RESP: their beginning, tamed.
    Protocol(String),
    /// A reply of at least so many bytes or elements, above what we take.
    TooLarge(usize),
    /// A change that was not sent: what was read before it counted until a moment that is over.
    TooLate,
    /// A command that a [`Reader`] does not send. This is an error of ours, not the server's.
    NotARead(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::TimedOut => f.write_str("no answer in time"),
            WireError::Refused => f.write_str("connection refused: nothing listens there, or a firewall rejects us"),
            WireError::Reset => f.write_str("connection reset by the peer"),
            WireError::Closed => f.write_str("connection closed by the peer"),
            WireError::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            WireError::NoSocket(why) => write!(f, "no server has this socket open: {why}"),
            WireError::NotPermitted(why) => write!(f, "relinkd's own user may not open {why}"),
            WireError::NameUnresolved(why) => write!(f, "name not resolved: {why}"),
            WireError::Tls(why) | WireError::TlsSetup(why) => write!(f, "TLS: {why}"),
            WireError::HelloUnanswered => {
                f.write_str("the connection opens, and the TLS hello is not answered in time")
            }
            WireError::HelloCutShort => f.write_str("the connection took too long to open for a TLS hello in time"),
            WireError::Denied { text, .. } => write!(f, "not let in: {text}"),
            WireError::Protocol(what) => write!(f, "not a Redis or Valkey server: it sent {what:?}"),
            WireError::TooLarge(size) => write!(f, "reply too large: {size} bytes or elements announced or read"),
            WireError::TooLate => f.write_str("not sent: what was read before it is too old by now"),
            WireError::NotARead(what) => write!(f, "refused to send {what}: not on the list of reading commands"),
        }
    }
}

impl std::error::Error for WireError {}

impl WireError {
    /// Whether our user or password was refused: trying again gives the same, and one more line in ACL LOG.
    pub fn is_refused_login(&self) -> bool {
        matches!(self, WireError::Denied { code, .. } if code == "WRONGPASS" || code == "NOAUTH")
    }

    /// A server's error in answer to our coming in.
    fn denied(code: &str, text: &str) -> WireError {
        WireError::Denied { code: tame(code, 64), text: tame(text, 300) }
    }
}

impl From<&WireError> for Missing {
    fn from(error: &WireError) -> Missing {
        match error {
            WireError::TimedOut | WireError::HelloUnanswered | WireError::HelloCutShort | WireError::TooLate => {
                Missing::TimedOut
            }
            WireError::Refused | WireError::NoSocket(_) => Missing::Refused(error.to_string()),
            WireError::Denied { text, .. } if text.contains("max number of clients") => {
                Missing::Unreachable(text.clone())
            }
            WireError::Denied { code, text } if code == "BUSY" => Missing::Busy(text.clone()),
            WireError::Denied { text, .. } => Missing::Denied(text.clone()),
            WireError::NotPermitted(_) => Missing::Denied(error.to_string()),
            WireError::Protocol(_) | WireError::TooLarge(_) | WireError::NotARead(_) => {
                Missing::Unsupported(error.to_string())
            }
            WireError::Reset
            | WireError::Closed
            | WireError::Unreachable(_)
            | WireError::NameUnresolved(_)
            | WireError::Tls(_)
            | WireError::TlsSetup(_) => Missing::Unreachable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
