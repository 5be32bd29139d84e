//! Whole groups with a few writes, left in peace: whatever relinkd records meanwhile is a false incident.

use std::io::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::score::{Trail, story};
use super::stage::{PASSWORD, Stage, Stand};
use super::watch::Watch;
use crate::group::Group;
use crate::kind::Kind;
use crate::transfer::Writes;

/// As an operator would have it, with every default of relinkd.
const POLICY: &str = "mode = \"observe\"\n";
/// Sentinel's own defaults.
const TIMERS_MS: (u64, u64) = (30_000, 180_000);

/// What was seen of one group in its quiet period.
pub struct Quiet {
    pub kind: Kind,
    pub span: Duration,
    pub incidents: Vec<String>,
    /// Verdicts that nobody recorded.
    pub glimpses: Option<String>,
    pub writes: u64,
}

/// A group of each kind, all at once.
pub fn watch(kinds: &[Kind], span: Duration, relinkd: &Arc<Path>) -> Result<Vec<Quiet>> {
    if span.is_zero() {
        return Ok(Vec::new());
    }
    thread::scope(|scope| {
        let all: Vec<_> = kinds.iter().map(|kind| scope.spawn(move || one(*kind, span, relinkd))).collect();
        let joined = all.into_iter().map(|one| one.join().map_err(|_| Error::other("a quiet group's thread ended"))?);
        joined.collect()
    })
}

fn one(kind: Kind, span: Duration, relinkd: &Arc<Path>) -> Result<Quiet> {
    let (down_after, failover) = TIMERS_MS;
    let group = Group::builder(kind).replicas(2).sentinels(3).password(PASSWORD).sentinel_timers(down_after, failover);
    let stand = Stand::with(Stage::Guarded, group, relinkd, POLICY)?;
    let offset = || stand.primary().offset().unwrap_or_default();
    let (watch, before, began) = (Watch::start(stand.socket()), offset(), Instant::now());
    let writes = Writes::start(stand.primary(), 10, 64, Duration::from_millis(500));
    thread::sleep(span);
    drop(writes);
    let incidents = stand.verb_json(&["incidents"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let incidents = incidents.as_array().into_iter().flatten();
    let incidents =
        incidents.map(|one| format!("{} at {}", text(&one["cause"]["code"]), text(&one["opened_at"]))).collect();
    let trail: Trail = watch.since(began);
    let glimpsed = trail.iter().any(|(_, said)| said.is_some());
    let glimpses = glimpsed.then(|| story(&trail));
    Ok(Quiet { kind, span, incidents, glimpses, writes: offset() - before })
}
