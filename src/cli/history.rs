//! `relinkd incidents` and `relinkd show`: the record, read with or without the daemon.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Ended, Exit, Failure, IncidentsArgs, ShowArgs, paint, say, say_json, settings};
use crate::config::Settings;
use crate::daemon::LEDGER;
use crate::ledger::{Ledger, LedgerError, Lookup};
use crate::model::incident::{Incident, Notice};
use crate::model::{Timestamp, human};
use crate::notify::render;

/// More than this is for `sqlite3` to read.
const MOST: usize = 1000;

pub fn incidents(config: &Path, args: &IncidentsArgs) -> Ended {
    let settings = settings(config)?;
    let since = args.since.map(|span| now().before(span));
    let Some(ledger) = open(&settings)? else {
        if args.output.json {
            say("[]")
        } else {
            say("no incidents: nothing has been recorded yet")
        }
        return Ok(Exit::Fine);
    };
    let incidents = ledger.incidents(since, MOST).map_err(failure)?;
    if args.output.json {
        let all: Vec<_> = incidents.into_iter().map(|incident| render::report(&notice(&settings, incident))).collect();
        say_json(&all);
    } else if incidents.is_empty() {
        say("no incidents");
    } else {
        incidents.iter().for_each(line);
    }
    Ok(Exit::Fine)
}

fn line(incident: &Incident) {
    let cause = incident.finding.cause.code();
    let how = match (incident.resolved_at, incident.up_at) {
        (Some(_), Some(up)) if !incident.finding.link_up => {
            format!("resolved, link down for {}", human(up.since(incident.down_at)))
        }
        (Some(_), _) => "resolved".to_owned(),
        (None, _) => match &incident.people.acknowledged {
            Some(name) => format!("{}, taken by {name}", incident.phase.name()),
            None => incident.phase.name().to_owned(),
        },
    };
    let cause = if incident.is_open() { paint::bad(cause) } else { cause.to_owned() };
    say(format!("{}  {}  {:<12} {cause}  {how}", incident.id, incident.opened_at, incident.link.replica));
}

pub fn show(config: &Path, args: &ShowArgs) -> Ended {
    let settings = settings(config)?;
    let unknown = || {
        Failure::new(
            Exit::Usage,
            format!(
                "no incident's id begins with {:?}, and no replica of that name had one (relinkd incidents lists them)",
                args.id
            ),
        )
    };
    let ledger = open(&settings)?.ok_or_else(unknown)?;
    let incident = match ledger.incident(&args.id).map_err(failure)? {
        Lookup::Found(incident) => *incident,
        Lookup::Many(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            return Err(Failure::new(Exit::Usage, format!("{:?} fits several incidents: {}", args.id, ids.join(", "))));
        }
        Lookup::None => {
            let all = ledger.incidents(None, MOST).map_err(failure)?;
            all.into_iter().find(|incident| incident.link.replica == args.id).ok_or_else(unknown)?
        }
    };
    let notice = notice(&settings, incident);
    if args.output.json {
        say_json(&render::report(&notice));
    } else {
        say(render::text(&notice).trim_end());
    }
    Ok(Exit::Fine)
}

/// An incident in the shape of a message, so that it is told in the same words.
fn notice(settings: &Settings, incident: Incident) -> Notice {
    Notice::of(&settings.agent.host, now(), incident)
}

/// None where no ledger has been made yet: that is an empty history.
fn open(settings: &Settings) -> Result<Option<Ledger>, Failure> {
    match Ledger::open_read_only(&settings.agent.state_dir.join(LEDGER)) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(LedgerError::Absent { .. }) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: LedgerError) -> Failure {
    let exit = if matches!(error, LedgerError::Denied { .. }) { Exit::Permission } else { Exit::Fault };
    Failure::new(exit, error)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
