//! The unix socket through which the command line speaks to the daemon: one line of JSON in, one line out.
//!
//! The socket belongs to the daemon's user and group (mode 0660), so the file system says who may ask. Who asks for more
//! than the status is checked once more by what the kernel says of them, and is handed on with the question, to be
//! recorded. What changes the record is answered when that is durable. Nothing that is asked here changes a server by itself: the daemon looks, and decides under its guards.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::model::people::{Actor, Scope};

mod peer;

use peer::Peer;

/// The socket's name within `run_dir`.
pub const SOCKET: &str = "control.sock";

/// A question is short; an answer holds the status of a hundred instances.
const LONGEST_QUESTION: u64 = 4 * 1024;
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;

/// How long a question may take to come in and an answer to go out, and how long an answer from memory may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What changes the record is answered once that is on the disk: behind the look, or the step of a plan, that the
/// instance is at. A step may wait 15 s for a secret store.
const DURABLE: Duration = Duration::from_secs(30);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Request {
    /// The status of every instance.
    Status,
    /// Look at this instance now, and act under the usual guards.
    Look {
        replica: String,
        /// For `align`: the store's word goes before what the instance was given by others.
        #[serde(default)]
        align: bool,
    },
    /// Carry out what is proposed, if a new look leads to the same plan. `plan`: the print of the plan that was read.
    Approve {
        incident: String,
        plan: Option<String>,
    },
    Reject {
        incident: String,
    },
    /// Take an incident.
    Ack {
        incident: String,
        by: String,
    },
    Pause {
        scope: Scope,
        for_ms: u64,
        reason: String,
    },
    /// End pauses: those of this scope, or all.
    Resume {
        scope: Option<Scope>,
    },
}

impl Request {
    /// How long the answer may take.
    fn patience(&self) -> Duration {
        match self {
            Request::Status | Request::Look { .. } => PATIENCE,
            Request::Approve { .. }
            | Request::Reject { .. }
            | Request::Ack { .. }
            | Request::Pause { .. }
            | Request::Resume { .. } => DURABLE,
        }
    }
}

/// A question on its way, with what the client says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    #[serde(flatten)]
    request: Request,
    /// Who root was before sudo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sudo: Option<String>,
}

/// A question with the way to answer it.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    pub by: Actor,
    pub answer: oneshot::Sender<Value>,
}

/// Why the daemon did not answer.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody listens there.
    NotRunning(PathBuf),
    /// The socket is not ours to use.
    Denied(PathBuf),
    /// The daemon answers that this user may not.
    Forbidden(String),
    /// The daemon will not, and says why.
    Refused(String),
    Failed(PathBuf, String),
}

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ControlError::NotRunning(path) => {
                write!(f, "the daemon does not answer at {}: is it running? (systemctl status relinkd)", path.display())
            }
            ControlError::Denied(path) => {
                write!(
                    f,
                    "no permission to use {0}: ask as root, or be in its group (usermod -a -G $(stat -c %G {0}) YOU, and log in anew)",
                    path.display()
                )
            }
            ControlError::Forbidden(why) | ControlError::Refused(why) => f.write_str(why),
            ControlError::Failed(path, why) => write!(f, "asking the daemon at {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for ControlError {}

/// Takes the socket. A socket on which a daemon still answers is left alone.
pub fn bind(run_dir: &Path) -> io::Result<UnixListener> {
    let path = run_dir.join(SOCKET);
    std::fs::create_dir_all(run_dir)?;
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another relinkd answers there"));
        }
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The group that the socket belongs to, which may ask; the daemon's own where that cannot be read.
pub fn socket_group(listener: &UnixListener) -> u32 {
    let path = listener.local_addr().ok().and_then(|at| at.as_pathname().map(Path::to_owned));
    let group = path.and_then(|path| std::fs::metadata(path).ok()).map(|meta| meta.gid());
    group.unwrap_or_else(|| rustix::process::getegid().as_raw())
}

/// One connection: hands its question on and the answer back, each within its time. `group` may ask for changes.
pub async fn exchange(stream: UnixStream, group: u32, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let peer = Peer::of(&stream)?;
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(read.take(LONGEST_QUESTION)).read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Envelope>(&line) {
        Ok(Envelope { request, .. }) if request != Request::Status && !peer.may_change(group) => {
            let who = peer.actor(None);
            let error = format!("{who} is not in the group of the control socket (gid {group}): nothing is done");
            serde_json::json!({ "error": error, "forbidden": true })
        }
        Ok(Envelope { request, sudo }) => {
            let (answer, reply) = oneshot::channel();
            let (by, patience) = (peer.actor(sudo.as_deref()), request.patience());
            let put = async {
                let _ = asked.send(Asked { request, by, answer }).await;
                reply.await.unwrap_or_else(|_| serde_json::json!({ "error": "the daemon is stopping" }))
            };
            timeout(patience, put).await?
        }
        Err(_) => serde_json::json!({ "error": "not a question that this version knows" }),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    timeout(PATIENCE, write.write_all(&bytes)).await?
}

/// Asks the daemon.
pub async fn ask(run_dir: &Path, request: &Request) -> Result<Value, ControlError> {
    let path = run_dir.join(SOCKET);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning(path.clone()),
        io::ErrorKind::PermissionDenied => ControlError::Denied(path.clone()),
        _ => ControlError::Failed(path.clone(), error.to_string()),
    };
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let sudo = std::env::var("SUDO_USER").ok();
        let mut question = serde_json::to_vec(&Envelope { request: request.clone(), sudo })?;
        question.push(b'\n');
        stream.write_all(&question).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut line).await?;
        Ok::<String, io::Error>(line)
    };
    let (line, why) = match timeout(request.patience() + Duration::from_secs(1), asked).await {
        Ok(line) => (line.map_err(failed)?, "it ended before it answered"),
        Err(_) => (String::new(), "no answer in time"),
    };
    if line.is_empty() {
        let unsure = "; what was asked may be recorded all the same, relinkd status tells";
        let unsure = if request.patience() == DURABLE { unsure } else { "" };
        return Err(ControlError::Failed(path, format!("{why}{unsure}")));
    }
    let answer: Value = serde_json::from_str(&line)
        .map_err(|_| ControlError::Failed(path.clone(), "an answer that is not JSON".to_owned()))?;
    let is = |key: &str| answer.get(key).and_then(Value::as_bool).unwrap_or(false);
    match answer.get("error").and_then(Value::as_str) {
        Some(why) if is("forbidden") => Err(ControlError::Forbidden(why.to_owned())),
        Some(why) if is("refused") => Err(ControlError::Refused(why.to_owned())),
        Some(why) => Err(ControlError::Failed(path, why.to_owned())),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_gets_its_answer_and_nonsense_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(dir.path()).unwrap();
        let (send, mut asked) = mpsc::channel::<Asked>(4);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = exchange(stream, 0, send.clone()).await;
            }
        });
        let answerer = tokio::spawn(async move {
            let asked = asked.recv().await.unwrap();
            assert_eq!(asked.request, Request::Look { replica: "cache".to_owned(), align: false });
            asked.answer.send(serde_json::json!({ "looked": true })).unwrap();
        });
        let answer = ask(dir.path(), &Request::Look { replica: "cache".to_owned(), align: false }).await.unwrap();
        assert_eq!(answer["looked"], true);
        answerer.await.unwrap();

        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
        stream.write_all(b"{\"verb\":\"shutdown\"}\n").await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert!(told.contains("not a question"), "{told}");
        server.abort();
    }

    #[tokio::test]
    async fn a_live_socket_is_not_taken_and_a_dead_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(dir.path()).unwrap();
        assert_eq!(bind(dir.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(bind(dir.path()).is_ok());
        assert!(matches!(ask(&dir.path().join("none"), &Request::Status).await, Err(ControlError::NotRunning(_))));
    }
}
