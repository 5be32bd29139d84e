//! Reading a server: its INFO and ROLE, the state of its replication link, and waiting for a change of it.

use std::time::{Duration, Instant};

use redis::{Cmd, Connection, RedisResult, Value};

use crate::process::poll;
use crate::server::Server;

impl Server {
    /// One field of one INFO section; `None` when the server does not answer or has no such field.
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let text: String = self.query(&["INFO", section]).ok()?;
        field_of(&text, field).map(str::to_owned)
    }

    /// ROLE's own word for the link: `connect`, `connecting`, `handshake`, `sync`, `connected`. `None` for a primary.
    pub fn role_state(&self) -> Option<String> {
        let Value::Array(parts) = self.query(&["ROLE"]).ok()? else { return None };
        let role: String = redis::from_redis_value(parts.first()?.clone()).ok()?;
        if role != "slave" {
            return None;
        }
        redis::from_redis_value(parts.get(3)?.clone()).ok()
    }

    pub fn is_primary(&self) -> bool {
        self.info("replication", "role").as_deref() == Some("master")
    }

    pub fn is_link_up(&self) -> bool {
        self.info("replication", "master_link_status").as_deref() == Some("up")
    }

    /// Full resyncs that this server gave, as a primary.
    pub fn sync_full(&self) -> Option<u64> {
        self.info("stats", "sync_full")?.parse().ok()
    }

    /// Partial resyncs that this server granted, as a primary.
    pub fn sync_partial_ok(&self) -> Option<u64> {
        self.info("stats", "sync_partial_ok")?.parse().ok()
    }

    /// The replication offset as this server counts it.
    pub fn offset(&self) -> Option<u64> {
        let field = if self.is_primary() { "master_repl_offset" } else { "slave_repl_offset" };
        self.info("replication", field)?.parse().ok()
    }

    /// How long from now until the link was up. Looks every millisecond on a kept connection.
    pub fn wait_link_up(&self, patience: Duration) -> Option<Duration> {
        self.wait_link("up", patience)
    }

    pub fn wait_link_down(&self, patience: Duration) -> Option<Duration> {
        self.wait_link("down", patience)
    }

    pub fn wait_until(&self, mut condition: impl FnMut(&Server) -> bool, patience: Duration) -> Option<Duration> {
        poll(patience, || condition(self))
    }

    /// Waits for a text in the log, wherever it stands.
    pub fn wait_log(&self, text: &str, patience: Duration) -> Option<Duration> {
        poll(patience, || self.log_text().contains(text))
    }

    /// `count` keys of `value_bytes` each, as a client would write them.
    pub fn write(&self, count: usize, value_bytes: usize) -> RedisResult<()> {
        let mut connection = self.connect()?;
        let value = "x".repeat(value_bytes);
        let keys: Vec<usize> = (0..count).collect();
        for batch in keys.chunks(1000) {
            let mut pipeline = redis::pipe();
            for key in batch {
                pipeline.cmd("SET").arg(format!("lab:{key}")).arg(&value).ignore();
            }
            pipeline.exec(&mut connection)?;
        }
        Ok(())
    }

    fn wait_link(&self, wanted: &str, patience: Duration) -> Option<Duration> {
        let start = Instant::now();
        let mut kept: Option<Connection> = None;
        while start.elapsed() < patience {
            if kept.is_none() {
                kept = self.connect().ok();
            }
            let asked = kept.as_mut().map(|connection| command(&["INFO", "replication"]).query::<String>(connection));
            match asked {
                Some(Ok(text)) if field_of(&text, "master_link_status") == Some(wanted) => {
                    return Some(start.elapsed());
                }
                Some(Ok(_)) => {}
                // Sentinel cuts all clients when it reconfigures a server.
                Some(Err(_)) | None => kept = None,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

pub(crate) fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

pub(crate) fn field_of<'a>(info: &'a str, field: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
}
