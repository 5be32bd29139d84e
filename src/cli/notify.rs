//! `relinkd notify test`: a test message, sent as the daemon would send one, and the receiver's own answer. Neither the
//! daemon nor a server is needed, nothing is recorded, and no secret is printed.

use std::path::Path;
use std::time::Instant;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::{Ended, Exit, Failure, Output, block_on, check, once, paint, say, say_json, settings};
use crate::config::{self, Settings};
use crate::daemon::LEDGER;
use crate::ledger::Ledger;
use crate::model::human;
use crate::notify::{Channel, ChannelSettings, Unready, Verdict, test_notice};
use crate::secrets::SecretRef;
use crate::wire::all;

#[derive(Debug, Args)]
pub struct NotifyArgs {
    #[command(subcommand)]
    pub verb: NotifyVerb,
}

#[derive(Debug, Subcommand)]
pub enum NotifyVerb {
    /// Posts a test message and says what the receiver made of it. The daemon is not needed.
    Test(NotifyTestArgs),
}

#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// Which channel of the configuration; all of them when none is named.
    pub channel: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// What became of the message to one channel.
#[derive(Debug, Serialize)]
struct Posted {
    channel: String,
    kind: &'static str,
    outcome: Outcome,
    /// What was answered, or why nothing was.
    detail: String,
    took_ms: u64,
    /// The daemon sends nothing there, whatever this test came to.
    switched_off: Option<String>,
    next: Vec<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Delivered,
    /// The receiver does not take it.
    Refused,
    /// No answer, or one that time may mend.
    Unreachable,
    /// Nothing was sent: a secret is not to be had, or is of the wrong shape.
    Unready,
    /// Nothing was sent: only the unit has the secret.
    Untested,
}

pub fn notify(config: &Path, args: &NotifyArgs) -> Ended {
    match &args.verb {
        NotifyVerb::Test(args) => test(config, args),
    }
}

fn test(config: &Path, args: &NotifyTestArgs) -> Ended {
    let settings = settings(config)?;
    let chosen = chosen(&settings, args.channel.as_deref())?;
    let posted = block_on(all(chosen.into_iter().map(|(name, channel)| try_one(config, &settings, name, channel))))?;
    let exit = posted.iter().map(|one| one.exit).fold(Exit::Fine, Exit::and);
    if args.output.json {
        say_json(&json!({ "ok": exit == Exit::Fine, "channels": posted }));
    } else {
        posted.iter().for_each(print);
    }
    Ok(exit)
}

fn chosen<'a>(settings: &'a Settings, name: Option<&'a str>) -> Result<Vec<(&'a str, &'a ChannelSettings)>, Failure> {
    let all = &settings.channels;
    if all.is_empty() {
        let text = "no channel is configured, so nobody is told of anything: add a section [notify.NAME] (config.example.toml)";
        return Err(Failure::new(Exit::Config, text));
    }
    let Some(name) = name else { return Ok(all.iter().map(|(name, channel)| (name.as_str(), channel)).collect()) };
    match all.get(name) {
        Some(channel) => Ok(vec![(name, channel)]),
        None => {
            let known: Vec<&str> = all.keys().map(String::as_str).collect();
            let near = config::nearest(name, &known);
            Err(Failure::new(Exit::Usage, format!("no channel is called {name:?} in the configuration{near}")))
        }
    }
}

/// A test message, sent as any other.
pub async fn post(channel: &Channel, host: &str) -> Result<Verdict, Unready> {
    channel.prepare().await?;
    let now = once::now();
    let notice = test_notice(host, now);
    Ok(channel.send(&notice.key(), &notice, now).await)
}

/// What an answer means for the exit code.
pub fn exit_of(verdict: &Verdict) -> Exit {
    match verdict {
        Verdict::Delivered => Exit::Fine,
        Verdict::Retry { .. } => Exit::Unreachable,
        Verdict::Disabled(_) | Verdict::Rejected(_) => Exit::Fault,
    }
}

async fn try_one(config: &Path, settings: &Settings, name: &str, channel: &ChannelSettings) -> Posted {
    let began = Instant::now();
    let answer = post(&Channel::new(channel.clone()), &settings.agent.host).await;
    let took = began.elapsed();
    let (outcome, exit, detail, next) = match answer {
        Ok(verdict) => {
            let (outcome, exit) = (Outcome::of(&verdict), exit_of(&verdict));
            let detail = verdict.why().map_or_else(|| format!("taken in {}", human(took)), str::to_owned);
            (outcome, exit, detail, Vec::new())
        }
        Err(Unready::Secret(reference, error)) if reference.is_of_the_unit() && !once::in_the_unit() => {
            (Outcome::Untested, Exit::Inconclusive, error.to_string(), within_a_unit(config, name, channel))
        }
        Err(Unready::Secret(_, error)) => {
            (Outcome::Unready, check::exit_of_secret(&error), error.to_string(), Vec::new())
        }
        Err(Unready::Shape(why)) => (Outcome::Unready, Exit::Fault, why, Vec::new()),
    };
    Posted {
        channel: name.to_owned(),
        kind: channel.kind.name(),
        outcome,
        detail,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        switched_off: switched_off(settings, name),
        next,
        exit,
    }
}

/// How a credential is read by hand: as the unit does it, from where README has it lie.
fn within_a_unit(config: &Path, name: &str, channel: &ChannelSettings) -> Vec<String> {
    let credentials = channel.kind.secrets().into_iter().filter_map(|(_, reference)| match reference {
        SecretRef::Credential(name) => Some(format!("--property=LoadCredential={name}:/etc/relinkd/{name} ")),
        _ => None,
    });
    let credentials: String = credentials.collect();
    let config = match config == Path::new(config::DEFAULT_PATH) {
        true => String::new(),
        false => format!("--config {} ", config.display()),
    };
    let run = "systemd-run --quiet --pipe --wait --collect --property=User=relinkd";
    match credentials.as_str() {
        "" => Vec::new(),
        credentials => vec![format!("{run} {credentials}relinkd {config}notify test {name}")],
    }
}

/// What the record says of a channel whose receiver wanted no more; the daemon tries it again from a reload on.
fn switched_off(settings: &Settings, channel: &str) -> Option<String> {
    let ledger = Ledger::open_read_only(&settings.agent.state_dir.join(LEDGER)).ok()?;
    let (at, why) = ledger.is_disabled(channel).ok()??;
    Some(format!("the daemon has sent nothing there since {at} ({why}): systemctl reload relinkd has it try again"))
}

impl Outcome {
    fn of(verdict: &Verdict) -> Outcome {
        match verdict {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Retry { .. } => Outcome::Unreachable,
            Verdict::Disabled(_) | Verdict::Rejected(_) => Outcome::Refused,
        }
    }
}

fn print(posted: &Posted) {
    let mark = match posted.outcome {
        Outcome::Delivered => paint::good("delivered"),
        Outcome::Refused => paint::bad("refused"),
        Outcome::Unreachable => paint::bad("not delivered"),
        Outcome::Unready => paint::bad("not sent"),
        Outcome::Untested => paint::doubtful("not tested"),
    };
    say(format!("{mark} {} ({}): {}", posted.channel, posted.kind, posted.detail));
    posted.switched_off.iter().for_each(|why| say(format!("  {} {why}", paint::doubtful("note"))));
    posted.next.iter().for_each(|step| say(format!("  {}", paint::faint(step))));
}
