//! `relinkd check`: what would keep relinkd from doing its work, all of it at once, before it matters.
//!
//! First the files: any problem there ends the check with exit 78, and `--offline` ends it here either way. Then each
//! secret, the agent's own directories, each instance, each Sentinel and each channel, side by side under deadlines.
//!
//! Invariants: nothing is changed anywhere, no file is made, and no secret is printed. A permission is tried by doing
//! what only reads, and by `ACL DRYRUN` where the command would change something.
//!
//! Not here: whether the link is well now (`relinkd diagnose`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::{CheckArgs, Ended, Exit, Failure, block_on, once, paint, say, say_json};
use crate::config::{self, Problems, Settings};
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::wire::all;

mod channel;
mod host;
mod instance;
mod permission;
mod primary;
mod report;
mod secret;
mod sentinel;
mod successor;

pub use report::exit_of_secret;
use report::{Section, Verdict};

pub fn check(config: &Path, args: &CheckArgs) -> Ended {
    let settings = match config::load(config) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems, args),
    };
    let sections = match args.offline {
        true => vec![files(config, &settings)],
        false => block_on(ask(config, &settings, args.notify))?,
    };
    tell(&sections, args);
    Ok(sections.iter().map(Section::exit).fold(Exit::Fine, Exit::and))
}

/// Every problem of the files; nothing else can be asked before they are gone.
fn refuse(problems: &Problems, args: &CheckArgs) -> Ended {
    if !args.output.json {
        return Err(Failure::new(super::exit_for(problems), problems));
    }
    let summary = problems.to_string().lines().next().unwrap_or_default().to_owned();
    say_json(&json!({ "ok": false, "summary": summary, "problems": problems, "sections": [] }));
    Ok(super::exit_for(problems))
}

fn files(config: &Path, settings: &Settings) -> Section {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut section = Section::new("config");
    section.ok(
        "files",
        format!(
            "{} and its drop-ins: {}, {}, {}",
            config.display(),
            count(settings.replicas.len(), "instance"),
            count(settings.groups.len(), "group"),
            count(settings.channels.len(), "channel"),
        ),
    );
    section
}

/// Everything at once; the order of telling is that of the configuration.
async fn ask(config: &Path, settings: &Settings, notify: bool) -> Vec<Section> {
    let watched = Watched::all(settings, &once::salt(&settings.agent.state_dir), Clock::start());
    // One look at a group is enough for all its members.
    let mut groups: BTreeMap<&str, &Watched> = BTreeMap::new();
    for one in &watched {
        if let Some(name) = one.group_name() {
            groups.entry(name).or_insert(one);
        }
    }
    let instances = all(watched.iter().map(|one| instance::check(one, &settings.policy)));
    let groups = all(groups.into_values().map(|one| sentinel::check(one, &settings.policy)));
    let channels = all(settings.channels.iter().map(|(name, one)| channel::check(name, one, settings, notify)));
    let (secrets, host, instances, groups, channels) =
        tokio::join!(secret::check(settings), host::check(settings), instances, groups, channels);
    let mut sections = vec![files(config, settings), secrets, host];
    sections.extend(instances);
    sections.extend(groups);
    sections.extend(channels);
    sections.retain(|section| !section.lines.is_empty());
    sections
}

fn tell(sections: &[Section], args: &CheckArgs) {
    let count = |verdict| sections.iter().flat_map(|section| &section.lines).filter(|l| l.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    let number = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let summary = format!(
        "{} and {} in {}",
        number(problems, "problem"),
        number(warnings, "warning"),
        number(problems + warnings + count(Verdict::Ok), "check"),
    );
    if args.output.json {
        say_json(&json!({ "ok": problems == 0, "summary": summary, "problems": [], "sections": sections }));
        return;
    }
    for section in sections {
        section.print();
    }
    say(match (problems, warnings) {
        (0, 0) => paint::good(&summary),
        (0, _) => paint::doubtful(&summary),
        _ => paint::bad(&summary),
    });
}
