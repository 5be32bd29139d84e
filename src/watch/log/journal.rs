//! The journal of one unit, through `journalctl -f` as a child: the journal's own files are no stable format for us
//! to read, and a child needs no library.
//!
//! Invariant: the child's output is always drained, so it never blocks; what exceeds the budget is passed over
//! unread. The child dies with the future that runs it. Not here: restarting (see [`super::follow`]).

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::model::evidence::Missing;
use crate::model::{Timestamp, tame};

use super::cutter::{Budget, Cutter};

/// One entry as JSON: journalctl leaves out fields over 4096 bytes, and a byte array takes at most four characters
/// a byte.
const MAX_ENTRY: usize = 32 * 1024;
/// How many lines of the past are read back.
const BACK: &str = "200";
/// Characters of the child's last words that are kept.
const LAST_WORDS: usize = 300;

/// What came out of the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub at: Timestamp,
    pub message: Vec<u8>,
}

/// One read of the child's output.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub entries: Vec<Entry>,
    /// Bytes of messages, those passed over estimated from the ones read.
    pub bytes: u64,
    pub skipped: bool,
}

pub(super) struct Journal {
    child: Child,
    cutter: Cutter,
    budget: Budget,
    /// Entries up to here were given already by the child before.
    given: Timestamp,
    newest: Timestamp,
    raw: u64,
    told: u64,
    last_words: String,
    chunk: Vec<u8>,
}

impl Journal {
    /// Starts the child. `given` is the time of the newest entry that is known already.
    pub fn start(program: &str, unit: &str, bytes_per_s: u64, given: Timestamp) -> Result<Journal, Missing> {
        let child = Command::new(program)
            .args(["-o", "json", "--output-fields=MESSAGE", "--no-pager", "-f", "-n", BACK, "-u", unit])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = child
            .map_err(|error| Missing::Unsupported(format!("cannot run {program} to read the journal: {error}")))?;
        let (cutter, budget) = (Cutter::new(MAX_ENTRY), Budget::new(bytes_per_s));
        let chunk = vec![0; 16 * 1024];
        Ok(Journal { child, cutter, budget, given, newest: given, raw: 0, told: 0, last_words: String::new(), chunk })
    }

    /// The time of the newest entry given.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Waits for output. An error is the end of this child, and why. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Came, Missing> {
        loop {
            let mut words = [0; 512];
            let read = tokio::select! {
                read = read_some(self.child.stdout.as_mut(), &mut self.chunk) => read,
                read = read_some(self.child.stderr.as_mut(), &mut words), if self.child.stderr.is_some() => {
                    match read {
                        Ok(got) if got > 0 => self.heard(words.get(..got).unwrap_or_default())?,
                        _ => self.child.stderr = None,
                    }
                    continue;
                }
            };
            return match read {
                Ok(got) if got > 0 => Ok(self.take(got)),
                _ => Err(Missing::Unsupported(self.ended().await)),
            };
        }
    }

    pub fn refill(&mut self, elapsed: Duration) {
        self.budget.refill(elapsed);
    }

    fn take(&mut self, got: usize) -> Came {
        let mut came = Came::default();
        let size = got as u64;
        if size > self.budget.left() {
            self.cutter.tear();
            came.skipped = true;
            came.bytes = size.saturating_mul(self.told).checked_div(self.raw).unwrap_or(size);
            return came;
        }
        self.budget.spend(size);
        let bytes = self.chunk.get(..got).unwrap_or_default();
        self.cutter.feed(bytes, &mut |line| came.entries.extend(entry(line)));
        came.bytes = came.entries.iter().map(|entry| entry.message.len() as u64 + 1).sum();
        self.raw = self.raw.saturating_add(size);
        self.told = self.told.saturating_add(came.bytes);
        came.entries.retain(|entry| entry.at > self.given);
        self.newest = came.entries.iter().map(|entry| entry.at).fold(self.newest, Timestamp::max);
        came
    }

    /// journalctl shows an empty journal to those who may not read it, with no more than a hint on stderr
    /// (systemd 252, journalctl.c, access_check).
    fn heard(&mut self, words: &[u8]) -> Result<(), Missing> {
        let text = String::from_utf8_lossy(words);
        if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            self.last_words = tame(line.trim(), LAST_WORDS);
        }
        if text.contains("not seeing messages from other users") || text.contains("insufficient permissions") {
            return Err(Missing::Denied(
                "the journal is not ours to read; add the agent's user to the group systemd-journal".to_owned(),
            ));
        }
        Ok(())
    }

    async fn ended(&mut self) -> String {
        let _ = self.child.start_kill();
        let status = self.child.wait().await;
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        match self.last_words.as_str() {
            "" => format!("journalctl ended: {how}"),
            words => format!("journalctl ended: {how}: {words}"),
        }
    }
}

async fn read_some(stream: Option<&mut (impl AsyncRead + Unpin)>, into: &mut [u8]) -> std::io::Result<usize> {
    match stream {
        Some(stream) => stream.read(into).await,
        None => Ok(0),
    }
}

/// One line of `journalctl -o json`. A message that is not UTF-8 comes as an array of bytes; one that is too long, as
/// null (systemd, "Journal JSON Format").
fn entry(line: &[u8]) -> Option<Entry> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let at = Timestamp(value.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?);
    let message = match value.get("MESSAGE")? {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => {
            bytes.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Entry { at, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_text_or_bytes() {
        let text = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1795414320041000","MESSAGE":"1:S 23 Nov 2026 06:12:00.041 * Connection with master lost."}"#;
        let found = entry(text).unwrap();
        assert_eq!(found.at, Timestamp(1_795_414_320_041_000));
        assert!(found.message.ends_with(b"lost."));
        let bytes = br#"{"__REALTIME_TIMESTAMP":"7","MESSAGE":[72,105,255]}"#;
        assert_eq!(entry(bytes), Some(Entry { at: Timestamp(7), message: vec![72, 105, 255] }));
        for none in [
            &br#"{"__REALTIME_TIMESTAMP":"7","MESSAGE":null}"#[..],
            br#"{"__REALTIME_TIMESTAMP":"7","MESSAGE":[300]}"#,
            br#"{"__REALTIME_TIMESTAMP":"x","MESSAGE":"m"}"#,
            br#"{"MESSAGE":"m"}"#,
            b"-- No entries --",
            b"",
        ] {
            assert_eq!(entry(none), None);
        }
    }
}
