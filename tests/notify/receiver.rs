//! A receiver on loopback: takes one request for each prepared answer, and keeps what it got.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the receiver does with one connection.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Status line and headers without the last blank line, and a body.
    Answer(String, Vec<u8>),
    /// As `Answer`, with the request's own first line as the body.
    Echo(String),
    /// Reads the request and says nothing more until the sender goes away.
    Silent,
    /// Closes without an answer, and with a reset.
    Reset,
    /// Headers that promise more than ever comes.
    CutShort,
}

impl Behaviour {
    pub fn status(status: &str) -> Behaviour {
        Behaviour::Answer(status.to_owned(), Vec::new())
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Receiver {
    pub port: u16,
    task: JoinHandle<Vec<Request>>,
}

impl Receiver {
    pub async fn start(behaviours: Vec<Behaviour>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut requests = Vec::new();
            for behaviour in behaviours {
                let (mut stream, _) = listener.accept().await.unwrap();
                requests.push(read(&mut stream).await);
                behave(stream, &behaviour, &requests[requests.len() - 1]).await;
            }
            requests
        });
        Receiver { port, task }
    }

    /// What came in, once every behaviour has been used.
    pub async fn requests(self) -> Vec<Request> {
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("a request is missing").unwrap()
    }

    /// Whether nobody has come so far. Ends the receiver.
    pub fn untouched(self) -> bool {
        let untouched = !self.task.is_finished();
        self.task.abort();
        untouched
    }
}

async fn read(stream: &mut TcpStream) -> Request {
    let mut raw = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let got = stream.read(&mut buffer).await.unwrap();
        assert!(got > 0, "the sender went away within its request");
        raw.extend_from_slice(&buffer[..got]);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let request = Request { line, headers, body: body.to_owned() };
        if request.body.len() >= request.header("content-length").unwrap().parse::<usize>().unwrap() {
            return request;
        }
    }
}

async fn behave(mut stream: TcpStream, behaviour: &Behaviour, request: &Request) {
    let (head, body) = match behaviour {
        Behaviour::Answer(head, body) => (head, body.clone()),
        Behaviour::Echo(head) => (head, request.line.clone().into_bytes()),
        Behaviour::Silent => {
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
        Behaviour::Reset => {
            stream.set_zero_linger().unwrap();
            return;
        }
        Behaviour::CutShort => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
            return;
        }
    };
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // The sender may stop reading before the end of a huge answer.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}
