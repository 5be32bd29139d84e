//! `relinkd audit`: would the group survive a failover today?

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{AuditArgs, Ended, Exit, Failure, block_on, once, paint, say, say_json, settings};
use crate::audit::{Check, Verdict, judge, survives};
use crate::collect::group::{GroupTarget, group};
use crate::config::{self, Settings};
use crate::daemon::clock::Clock;
use crate::daemon::{Watched, group_dials};
use crate::model::evidence::{Missing, Reading};
use crate::model::group::{GroupView, Restart};
use crate::model::human;
use crate::watch::log::unit_of_process;

/// systemctl that takes longer has no word here.
const SYSTEMCTL: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Told<'a> {
    group: &'a str,
    /// None: nothing fails, and something that matters was not seen.
    survives: Option<bool>,
    checks: &'a [Check],
}

pub fn audit(config: &Path, args: &AuditArgs) -> Ended {
    let settings = settings(config)?;
    let name = chosen(&settings, args.group.as_deref())?;
    let clock = Clock::start();
    let view = block_on(async {
        let target = target(&settings, &name).await?;
        let mut view = group(&target, args.sample, &move || clock.now()).await?;
        restarts(&mut view).await;
        Some(view)
    })?;
    let Some(view) = view.filter(GroupView::was_reached) else {
        let text = format!(
            "group {name}: no Sentinel and no node can be reached from here; check the addresses, the network, and \
             sentinel_password (relinkd check names each)"
        );
        return Err(Failure::new(Exit::Unreachable, text));
    };
    let mut checks = judge(&view, args.outage);
    // What matters first; the order within a verdict stays that of the judgement.
    checks.sort_by_key(|check| check.verdict);
    let survives = survives(&checks);
    if args.output.json {
        say_json(&Told { group: &name, survives, checks: &checks });
    } else {
        print(&view, survives, &checks);
    }
    Ok(match survives {
        Some(true) => Exit::Fine,
        Some(false) => Exit::Fault,
        None => Exit::Inconclusive,
    })
}

/// What systemd does with the instances of this host when they end. INFO cannot tell it: `process_supervised:no` also says
/// a unit of `Type=simple` or `forking`.
async fn restarts(view: &mut GroupView) {
    for node in view.nodes.iter_mut().filter(|node| node.local.is_some()) {
        let Some(process_id) = node.account.seen().and_then(|account| account.server.process_id) else { continue };
        let Some(unit) = unit_of_process(process_id) else {
            let why = format!("process {process_id} runs in no system unit of this host");
            node.restart = Reading::Missing(Missing::Unsupported(why));
            continue;
        };
        let asked = tokio::process::Command::new("systemctl")
            .args(["show", "--property=Restart", "--property=RestartUSec", "--property=MainPID", &unit])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        node.restart = match tokio::time::timeout(SYSTEMCTL, asked).await {
            Ok(Ok(output)) => match restart(&String::from_utf8_lossy(&output.stdout), process_id) {
                Some(restart) => Reading::Seen(restart),
                None => Reading::Missing(Missing::Unsupported(format!(
                    "{unit} is not told to have process {process_id} as its main one"
                ))),
            },
            Ok(Err(error)) => Reading::Missing(Missing::Refused(error.to_string())),
            Err(_) => Reading::Missing(Missing::TimedOut),
        };
    }
}

/// Out of `systemctl show`. A unit restarts its main process; what a container engine or a supervisor runs inside of it is
/// restarted by that.
fn restart(shown: &str, process_id: u32) -> Option<Restart> {
    let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value("MainPID").filter(|main| main.parse() == Ok(process_id))?;
    let policy = value("Restart").filter(|policy| !policy.is_empty())?;
    let after_ms = match value("RestartUSec").unwrap_or_default() {
        "infinity" => u64::MAX,
        // `0`, and microseconds, are at once.
        text => config::duration(&text.replace("min", "m"))
            .map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    };
    Some(Restart { policy: policy.to_owned(), after_ms })
}

pub fn chosen(settings: &Settings, name: Option<&str>) -> Result<String, Failure> {
    let known = || settings.groups.keys().cloned().collect::<Vec<_>>().join(", ");
    match (name, settings.groups.len()) {
        (_, 0) => Err(Failure::new(
            Exit::Config,
            "this needs a group: add [group.NAME] with sentinels = [\"HOST:26379\", …], and group = \"NAME\" to [replica.*]",
        )),
        (Some(name), _) if settings.groups.contains_key(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(Failure::new(
            Exit::Usage,
            format!("no group is called {name:?} in the configuration; there are: {}", known()),
        )),
        (None, 1) => Ok(known()),
        (None, _) => Err(Failure::new(Exit::Usage, format!("which group? There are: {}", known()))),
    }
}

async fn target(settings: &Settings, name: &str) -> Option<GroupTarget> {
    let salt = once::salt(&settings.agent.state_dir);
    let of_group = settings.groups.get(name)?;
    let mut unfetched = Vec::new();
    let (sentinels, observer) = group_dials(of_group, &mut unfetched).await;
    let (mut locals, mut masterauth) = (Vec::new(), None);
    for watched in
        Watched::all(settings, &salt, Clock::start()).into_iter().filter(|one| one.group_name() == Some(name))
    {
        if observer.is_none() && masterauth.is_none() {
            let (offers, _) = watched.candidates(None).await;
            masterauth = offers.into_iter().next().filter(|offer| offer.user.is_none()).map(|offer| offer.secret);
        }
        let dials = watched.dials().await;
        unfetched.extend(dials.problems);
        locals.push((watched.name, dials.local));
    }
    unfetched.sort();
    unfetched.dedup();
    let tls = of_group.tls.clone();
    Some(GroupTarget { name: name.to_owned(), sentinels, locals, observer, masterauth, tls, salt, unfetched })
}

fn print(view: &GroupView, survives: Option<bool>, checks: &[Check]) {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (fails, warns, unseen) = (count(Verdict::Fail), count(Verdict::Warn), count(Verdict::Unseen));
    let verdict = match survives {
        Some(true) if warns == 0 => paint::good("yes"),
        Some(true) => format!("{}, with {}", paint::good("yes"), counted(warns, "warning")),
        Some(false) => {
            format!("{}, {} {}", paint::bad("no"), counted(fails, "check"), if fails == 1 { "fails" } else { "fail" })
        }
        None => format!("{}, {} could not be made", paint::doubtful("unknown"), counted(unseen, "check")),
    };
    say(format!("{} would survive a failover: {verdict}", view.name));
    for check in checks.iter().filter(|check| check.verdict != Verdict::Pass) {
        one(check);
    }
    if checks.iter().flat_map(|check| &check.mend).any(|step| step.contains("-cli ")) {
        say(paint::faint("\nredis-cli and valkey-cli take the password from REDISCLI_AUTH, and a user from --user"));
    }
    let mut passed: BTreeMap<&str, Vec<&Check>> = BTreeMap::new();
    for check in checks.iter().filter(|check| check.verdict == Verdict::Pass) {
        passed.entry(check.name).or_default().push(check);
    }
    if !passed.is_empty() {
        say(paint::head("\nPassed"));
    }
    for (name, of) in &passed {
        let saw = match of.as_slice() {
            [only] => {
                format!("{}{}", only.saw, only.node.as_ref().map(|node| format!(" ({node})")).unwrap_or_default())
            }
            several if several.iter().all(|check| several.first().is_some_and(|first| first.saw == check.saw)) => {
                format!("{} times: {}", several.len(), several.first().map_or("", |first| first.saw.as_str()))
            }
            several => format!("{} times", several.len()),
        };
        say(format!("  {name:<20} {saw}"));
    }
    let took = view.ended.since(view.began);
    let (nodes, sentinels) = (counted(view.nodes.len(), "node"), counted(view.sentinels.len(), "Sentinel"));
    say(paint::faint(&format!("\nread {nodes} and {sentinels} at {} for {}", view.began, human(took))));
}

fn one(check: &Check) {
    let word = match check.verdict {
        Verdict::Fail => paint::bad("fail"),
        Verdict::Warn => paint::doubtful("warn"),
        Verdict::Unseen => paint::doubtful("unseen"),
        Verdict::Pass => paint::good("pass"),
    };
    let node = check.node.as_ref().map(|node| format!(" {node}")).unwrap_or_default();
    say(format!("\n{word} {}{node}: {}", paint::head(check.name), check.saw));
    say(format!("  {}", paint::faint(&check.means)));
    check.mend.iter().for_each(|step| say(format!("  {step}")));
}

fn counted(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_restart_is_read_as_systemctl_shows_it() {
        let read = |text: &str| restart(&format!("MainPID=7\n{text}"), 7).map(|it| (it.policy, it.after_ms));
        assert_eq!(read("Restart=always\nRestartUSec=100ms\n"), Some(("always".into(), 100)));
        assert_eq!(read("RestartUSec=1min 30s\nRestart=no\n"), Some(("no".into(), 90_000)));
        assert_eq!(read("Restart=always\nRestartUSec=infinity\n"), Some(("always".into(), u64::MAX)));
        assert_eq!(read("Restart=always\nRestartUSec=0\n"), Some(("always".into(), 0)));
        assert_eq!(read("Restart=\n"), None);
        for others in ["", "MainPID=0\n", "MainPID=8\n"] {
            assert_eq!(restart(&format!("Restart=no\nRestartUSec=100ms\n{others}"), 7), None, "{others:?}");
        }
        let soon = |policy: &str, after_ms| Restart { policy: policy.into(), after_ms }.is_sooner_than(5_000);
        assert!(soon("always", 100) && soon("on-failure", 100) && !soon("no", 100) && !soon("always", 60_000));
    }
}
