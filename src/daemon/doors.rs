//! The control socket's connections, side by side: one that waits for the record holds up no status.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::control::{self, Asked};

/// So many are heard at a time; others wait in the socket's own queue.
const AT_ONCE: usize = 64;

/// How long those who wait are given when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Ends when the daemon listens no more.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    let group = control::socket_group(&listener);
    let mut talks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if talks.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => _ = talks.spawn(control::exchange(stream, group, asked.clone())),
                // Out of descriptors, as a rule: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = talks.join_next(), if !talks.is_empty() => {}
            () = asked.closed() => break,
        }
    }
    let _ = tokio::time::timeout(FAREWELL, async { while talks.join_next().await.is_some() {} }).await;
}
