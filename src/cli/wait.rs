//! `relinkd wait --healthy`: a gate for deploys. The daemon is asked where it runs; where it does not, this looks by
//! itself. What was seen before it began to wait counts for nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::round::NEW_LOOKS;
use super::status::{replicas, verdict};
use super::{Ended, Exit, Failure, WaitArgs, block_on, once, say, say_json, settings};
use crate::config::Settings;
use crate::control::{self, ControlError, Request};
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::model::Timestamp;
use crate::model::finding::{Cause, Diagnosis};

/// Between two questions, and between two looks of our own.
const OFTEN: Duration = Duration::from_millis(250);

/// The last look at each instance, and how many there were since the wait began.
type Looks = BTreeMap<String, (Option<Timestamp>, u32)>;

/// How one instance stands.
struct Standing {
    replica: String,
    exit: Exit,
    sentence: String,
}

pub fn wait(config: &Path, args: &WaitArgs) -> Ended {
    let settings = settings(config)?;
    let watched = match args.replica.as_slice() {
        [] => once::chosen(&settings, None)?,
        names => {
            let mut watched = Vec::new();
            for name in names {
                watched.extend(once::chosen(&settings, Some(name))?);
            }
            watched
        }
    };
    let began = Instant::now();
    let mut looks = Looks::new();
    let (standing, by) = block_on(async {
        loop {
            let (standing, by) = match through_daemon(&settings, &watched, &mut looks).await {
                Ok(standing) => (standing, "daemon"),
                Err(ControlError::NotRunning(_)) => (alone(&watched).await, "look"),
                Err(error @ (ControlError::Denied(_) | ControlError::Forbidden(_))) => {
                    return Err(Failure::new(Exit::Permission, error));
                }
                // Starting, stopping or busy: that passes, or the time runs out.
                Err(error) => (unanswered(&watched, &error), "daemon"),
            };
            let healthy = standing.iter().all(|one| one.exit == Exit::Fine);
            if healthy || began.elapsed() >= args.timeout {
                return Ok((standing, by));
            }
            tokio::time::sleep(OFTEN).await;
        }
    })??;
    Ok(tell(&standing, by, began.elapsed(), args))
}

async fn through_daemon(
    settings: &Settings,
    watched: &[Watched],
    looks: &mut Looks,
) -> Result<Vec<Standing>, ControlError> {
    let run_dir = &settings.agent.run_dir;
    let other = |why: &str| ControlError::Failed(run_dir.clone(), why.to_owned());
    let all = replicas(&control::ask(run_dir, &Request::Status).await?).map_err(|failure| other(&failure.text))?;
    let mut standing = Vec::new();
    for one in watched {
        let Some(status) = all.iter().find(|status| status.replica == one.name) else {
            return Err(other(&format!("the running daemon does not watch {:?}; reload it", one.name)));
        };
        let mut exit = match status.cause {
            Some(cause) if cause != Cause::Unknown => Exit::Fault,
            _ => verdict(status),
        };
        let mut sentence = status.sentence.clone();
        let seen = looks.entry(one.name.clone()).or_insert((status.looked_at, 0));
        if seen.0 != status.looked_at {
            *seen = (status.looked_at, seen.1 + 1);
        }
        if seen.1 < NEW_LOOKS {
            control::ask(run_dir, &Request::Look { replica: one.name.clone(), align: false }).await?;
            (exit, sentence) = (Exit::Inconclusive, "not looked at since the wait began".to_owned());
        } else if exit == Exit::Fine && status.incident.is_some() {
            (exit, sentence) = (Exit::Fault, format!("{sentence}; not whole for long enough yet"));
        }
        standing.push(Standing { replica: one.name.clone(), exit, sentence });
    }
    Ok(standing)
}

async fn alone(watched: &[Watched]) -> Vec<Standing> {
    let mut standing = Vec::new();
    for one in watched {
        let (_, diagnosis) = once::look(one, Clock::start()).await;
        let (exit, sentence) = match diagnosis {
            Diagnosis::Healthy(sentence) => (Exit::Fine, sentence),
            Diagnosis::Broken(finding) => (Exit::Fault, format!("{}: {}", finding.cause, finding.cause.title())),
            Diagnosis::Inconclusive { .. } => (Exit::Inconclusive, "what was seen does not name a cause".to_owned()),
        };
        standing.push(Standing { replica: one.name.clone(), exit, sentence });
    }
    standing
}

fn unanswered(watched: &[Watched], error: &ControlError) -> Vec<Standing> {
    let one = |watched: &Watched| Standing {
        replica: watched.name.clone(),
        exit: Exit::Unreachable,
        sentence: error.to_string(),
    };
    watched.iter().map(one).collect()
}

/// Healthy, or not within the time: with a fault, or with nothing known.
fn tell(standing: &[Standing], by: &str, took: Duration, args: &WaitArgs) -> Exit {
    let worst = standing.iter().map(|one| one.exit).fold(Exit::Fine, Exit::and);
    let exit = match worst {
        Exit::Fine | Exit::Inconclusive => worst,
        Exit::Unreachable if by == "daemon" && standing.iter().all(|one| one.exit != Exit::Fault) => worst,
        _ => Exit::Fault,
    };
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if args.output.json {
        let all: Vec<_> = standing
            .iter()
            .map(|one| json!({ "replica": one.replica, "healthy": one.exit == Exit::Fine, "sentence": one.sentence }))
            .collect();
        say_json(&json!({ "healthy": exit == Exit::Fine, "waited_ms": ms, "seen_by": by, "replicas": all }));
        return exit;
    }
    let head = if exit == Exit::Fine { "healthy" } else { "not healthy" };
    say(format!("{head} after {}", crate::model::human(took)));
    standing.iter().for_each(|one| say(format!("  {}: {}", one.replica, one.sentence)));
    exit
}
