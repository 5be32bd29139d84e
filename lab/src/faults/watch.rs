//! What relinkd says of its replica, from moment to moment: its status, asked fifty times a second.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::score::{Trail, Verdict};
use super::stage::status;

const EVERY: Duration = Duration::from_millis(20);

type Changes = Arc<Mutex<Vec<(Instant, Option<Verdict>)>>>;

/// Looks until dropped.
pub struct Watch {
    changes: Changes,
    stop: Arc<AtomicBool>,
}

impl Watch {
    pub fn start(socket: PathBuf) -> Watch {
        let (changes, stop) = (Changes::default(), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&changes), Arc::clone(&stop));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(status) = status(&socket) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let now = verdict(&status);
                    if seen.last().is_none_or(|(_, last)| *last != now) {
                        seen.push((Instant::now(), now));
                    }
                }
                thread::sleep(EVERY);
            }
        });
        Watch { changes, stop }
    }

    /// What was said at this moment, and each change from then on.
    pub fn since(&self, at: Instant) -> Trail {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let first = changes.iter().rposition(|(seen, _)| *seen <= at).unwrap_or(0);
        let rest = changes.iter().skip(first);
        rest.map(|(seen, verdict)| (seen.saturating_duration_since(at), verdict.clone())).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn verdict(status: &Value) -> Option<Verdict> {
    let text = |key: &str| status[key].as_str().map(str::to_owned);
    Some(Verdict {
        cause: text("cause")?,
        suspected: status["suspected"].as_bool().unwrap_or_default(),
        incident: text("incident"),
    })
}
