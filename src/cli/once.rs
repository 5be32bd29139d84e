//! One look from the command line: the daemon's own assembly, without its memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Exit, Failure};
use crate::agent::ByHand;
use crate::collect::{self, Ask};
use crate::config::Settings;
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::decide::wants_candidates;
use crate::model::Timestamp;
use crate::model::evidence::{Evidence, LogView, Missing, Reading};
use crate::model::finding::{Cause, Diagnosis};
use crate::secrets::Salt;
use crate::watch::log::{self, LogBook, ServerLog};

/// How long the log is read: its end is read at once, and a line or two may come while we look.
const LOG: Duration = Duration::from_millis(300);

/// For how long a suspicion is looked at again, and the pause before each look: a Sentinel's PING period, and a little.
const AGAIN: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(1_100);

/// How long journalctl may take to show one line.
const JOURNAL: Duration = Duration::from_secs(5);

/// The salt of the state directory, or one of our own where there is none to read: fingerprints then compare within this
/// run only. None is made here: root's would be no use to the daemon's user.
pub fn salt(state_dir: &Path) -> Salt {
    Salt::load(state_dir).unwrap_or_else(|_| Salt::fleeting())
}

/// The instances that a person named, or all.
pub fn chosen(settings: &Settings, name: Option<&str>) -> Result<Vec<Watched>, Failure> {
    let all = Watched::all(settings, &salt(&settings.agent.state_dir), Clock::start());
    let Some(name) = name else { return Ok(all) };
    let known: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    match all.into_iter().find(|one| one.name == name) {
        Some(one) => Ok(vec![one]),
        None => Err(Failure::new(
            Exit::Usage,
            format!("no replica is called {name:?} in the configuration; there are: {}", known.join(", ")),
        )),
    }
}

/// systemd gives this to every service that it starts (systemd.exec(5)). What cron starts has cron's.
pub fn in_the_unit() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some() || std::env::var_os("CREDENTIALS_DIRECTORY").is_some()
}

/// The time as the system's clock tells it.
pub fn now() -> Timestamp {
    Clock::start().now()
}

/// Whether the journal shows any line of a unit to this user.
pub async fn read_journal(unit: &str) -> Result<bool, String> {
    let asked = tokio::process::Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=cat", "--lines=1", "--unit", unit])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(JOURNAL, asked).await {
        Ok(Ok(output)) => Ok(output.status.success() && !output.stdout.is_empty()),
        Ok(Err(error)) => Err(format!("journalctl cannot be run: {error}")),
        Err(_) => Err("journalctl does not answer in time".to_owned()),
    }
}

/// Looks, with the log; looks again while the next second or two may turn a suspicion into a verdict or show how fast a
/// sync comes in; and proves what the secret store offers when the verdict asks for it.
pub async fn look(watched: &Watched, clock: Clock) -> (Evidence, Diagnosis) {
    let mut memory = ByHand::default();
    for problem in watched.dials().await.problems {
        anstream::eprintln!("{}: looked at without a secret: {problem}", watched.name);
    }
    let mut evidence = look_with(watched, clock, Reading::Missing(Missing::NotAsked), false).await;
    let log = read_log(watched, &evidence, clock).await;
    evidence.log = log.clone();
    let mut diagnosis = memory.judge(&mut evidence);
    let ends = Instant::now() + AGAIN;
    while another_tells_more(&diagnosis, &evidence) && Instant::now() < ends {
        tokio::time::sleep(PAUSE).await;
        evidence = look_with(watched, clock, log.clone(), false).await;
        diagnosis = memory.judge(&mut evidence);
    }
    let wanted = diagnosis.cause().is_some_and(wants_candidates) && watched.store().is_some();
    if !wanted {
        return (evidence, diagnosis);
    }
    let mut evidence = look_with(watched, clock, log, true).await;
    let diagnosis = memory.judge(&mut evidence);
    (evidence, diagnosis)
}

/// Sentinels that answer us ping the primary each second, and without any, time itself decides. Those that do not answer
/// will not do so a second later.
fn another_tells_more(diagnosis: &Diagnosis, evidence: &Evidence) -> bool {
    let Diagnosis::Broken(finding) = diagnosis else { return false };
    let heard = evidence.sentinels.is_empty() || evidence.answering().count() * 2 > evidence.sentinels_known();
    let unmeasured = finding.cause == Cause::SyncRunning && evidence.trend.sync_read.is_none();
    (finding.suspected && heard) || unmeasured
}

/// Looks, and tries everything that the secret store offers, whatever the link does. The log is not read.
pub async fn look_with_candidates(watched: &Watched, clock: Clock) -> Evidence {
    look_with(watched, clock, Reading::Missing(Missing::NotAsked), true).await
}

async fn look_with(watched: &Watched, clock: Clock, log: Reading<LogView>, candidates: bool) -> Evidence {
    let now = move || clock.now();
    let dials = watched.dials().await;
    let (offers, store) =
        if candidates { watched.candidates(None).await } else { (Vec::new(), Reading::Missing(Missing::NotAsked)) };
    let ask = Ask {
        meet_replicas: false,
        refused: &[],
        candidates: &offers,
        store,
        log,
        followed: None,
        clock: &now,
        deadline: collect::DEADLINE,
        probe_upstream: true,
    };
    collect::look(&watched.target(&dials), ask).await
}

async fn read_log(watched: &Watched, evidence: &Evidence, clock: Clock) -> Reading<LogView> {
    let server = evidence.settings.seen().map(|settings| ServerLog {
        logfile: settings.logfile.clone(),
        dir: settings.dir.clone(),
        process_id: evidence.local.seen().and_then(|view| view.process_id),
    });
    let resolved = log::resolve(&watched.replica.log, server.as_ref());
    let book = Arc::new(Mutex::new(LogBook::default()));
    let (wake, _unheard) = mpsc::channel(1);
    let now = move || clock.now();
    let _ = tokio::time::timeout(LOG, log::follow(resolved, Arc::clone(&book), wake, now)).await;
    let book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.reading(now())
}
