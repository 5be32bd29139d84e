//! The unix socket through which the command line speaks to the daemon: one line of JSON in, one line out.
//!
//! The socket belongs to the daemon's user and group (mode 0660), so the file system says who may ask. Nothing that
//! is asked here changes a server: a look is what the daemon would take anyway.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The socket's name within `run_dir`.
pub const SOCKET: &str = "control.sock";

/// A question is short; an answer holds the status of a hundred instances.
const LONGEST_QUESTION: u64 = 4 * 1024;
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The status of every instance.
    Status,
    /// Look at this instance now, and act under the usual guards.
    Look { replica: String },
}

/// A question with the way to answer it.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    pub answer: oneshot::Sender<Value>,
}

/// Why the daemon did not answer.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody listens there.
    NotRunning(PathBuf),
    /// The socket is not ours to use.
    Denied(PathBuf),
    Failed(PathBuf, String),
}

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ControlError::NotRunning(path) => {
                write!(f, "the daemon does not answer at {}: is it running? (systemctl status relinkd)", path.display())
            }
            ControlError::Denied(path) => {
                write!(f, "no permission to use {}: join the group of the relinkd user, or ask as root", path.display())
            }
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

/// Hands questions on and answers back, one connection after the other, each within its time.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = timeout(PATIENCE, exchange(stream, &asked)).await;
            }
            // Out of descriptors, as a rule: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn exchange(stream: UnixStream, asked: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST_QUESTION)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let (answer, reply) = oneshot::channel();
            let _ = asked.send(Asked { request, answer }).await;
            reply.await.unwrap_or_else(|_| serde_json::json!({ "error": "the daemon is stopping" }))
        }
        Err(_) => serde_json::json!({ "error": "not a question that this version knows" }),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
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
        let mut question = serde_json::to_vec(request)?;
        question.push(b'\n');
        stream.write_all(&question).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut line).await?;
        Ok::<String, io::Error>(line)
    };
    let line = match timeout(PATIENCE + Duration::from_secs(1), asked).await {
        Ok(line) => line.map_err(failed)?,
        Err(_) => return Err(ControlError::Failed(path, "no answer in time".to_owned())),
    };
    let answer: Value = serde_json::from_str(&line)
        .map_err(|_| ControlError::Failed(path.clone(), "an answer that is not JSON".to_owned()))?;
    match answer.get("error").and_then(Value::as_str) {
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
        let server = tokio::spawn(serve(listener, send));
        let answerer = tokio::spawn(async move {
            let asked = asked.recv().await.unwrap();
            assert_eq!(asked.request, Request::Look { replica: "cache".to_owned() });
            asked.answer.send(serde_json::json!({ "looked": true })).unwrap();
        });
        let answer = ask(dir.path(), &Request::Look { replica: "cache".to_owned() }).await.unwrap();
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
