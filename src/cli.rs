//! The command line: clap types, dispatch, exit codes. One file a verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Settings};
use crate::model::Endpoint;

mod align;
mod answer;
mod audit;
mod check;
mod completions;
mod diagnose;
mod explain;
mod facts;
mod foresight;
mod heal;
mod history;
mod man;
mod notify;
mod once;
mod paint;
mod pause;
mod rotate;
mod round;
mod run;
mod status;
mod wait;

/// Names the cause of a broken Redis or Valkey replication link, heals it where that is safe, and proves it.
#[derive(Debug, Parser)]
#[command(name = "relinkd", version, max_term_width = 100)]
pub struct Cli {
    /// Where the configuration stands; drop-ins are read from conf.d/*.toml beside it.
    #[arg(long, global = true, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The daemon: watches every instance of the configuration until SIGTERM.
    Run,
    /// Every problem of the configuration at once; then each secret, server and permission, without side effect.
    Check(CheckArgs),
    /// One look now: the cause, the evidence, and what relinkd would do or why not.
    Diagnose(DiagnoseArgs),
    /// One round of diagnose, decide, apply and verify, under the daemon's guards and in its record.
    Heal(HealArgs),
    /// Makes masteruser and masterauth equal to what the secret store says, proved at the primary first; idempotent.
    Align(AlignArgs),
    /// Would the group survive a failover today? Reads every node and Sentinel, and changes nothing.
    Audit(AuditArgs),
    /// A group's password from old to new, with no link, Sentinel or client refused on the way.
    Rotate(RotateArgs),
    /// How the watched instances stand, from the running daemon.
    Status(Output),
    /// The incidents of the record, newest first, whether the daemon runs or not.
    Incidents(IncidentsArgs),
    /// One incident: what broke, why, what was done, what is left to do.
    Show(ShowArgs),
    /// Hands off for a while: watch, record and tell, and change nothing.
    Pause(PauseArgs),
    /// End pauses before their time.
    Resume(ResumeArgs),
    /// Say yes to what an incident proposes: it is decided anew, and done if it is still the same.
    Approve(ApproveArgs),
    /// Say no to what an incident proposes.
    Reject(RejectArgs),
    /// Take an incident: no more reminders, and relinkd may try again.
    Ack(AckArgs),
    /// Wait until the link is whole: a gate for deploys.
    Wait(WaitArgs),
    /// The page on a cause, a remedy or a refusal; without a code, the list of them.
    Explain(ExplainArgs),
    /// Messages to people: whether they arrive.
    Notify(notify::NotifyArgs),
    /// What config management wants to know of this host, as JSON: for Ansible's facts.d and for Facter.
    Facts(facts::FactsArgs),
    /// A script that completes verbs and options in a shell, on standard output.
    Completions(completions::CompletionsArgs),
    /// The manual page relinkd(1) in roff, on standard output.
    Man,
}

#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only the files: nothing is fetched and no server is asked.
    #[arg(long)]
    pub offline: bool,
    /// Post a test message to every channel.
    #[arg(long, conflicts_with = "offline")]
    pub notify: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Which instance of the configuration; all of them when none is named.
    pub replica: Option<String>,
    /// Without a configuration: the instance, as HOST:PORT or unix:/path.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["replica", "from"])]
    pub address: Option<String>,
    /// A Sentinel of its group, as HOST:PORT; may be given several times.
    #[arg(long, value_name = "ADDR", requires = "address")]
    pub sentinel: Vec<Endpoint>,
    /// The group's name, as Sentinel calls it.
    #[arg(long, value_name = "NAME", default_value = "mymaster", requires = "address")]
    pub master: String,
    /// The user to log in as at --address.
    #[arg(long, requires = "address")]
    pub user: Option<String>,
    /// A file that holds the password for --address; otherwise REDISCLI_AUTH is used where it is set.
    #[arg(long, value_name = "PATH", requires = "address")]
    pub password_file: Option<PathBuf>,
    /// A file that holds the Sentinels' password.
    #[arg(long, value_name = "PATH", requires = "sentinel")]
    pub sentinel_password_file: Option<PathBuf>,
    /// Keep the evidence in this file; no secret is part of it.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Judge saved evidence instead of looking.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replica", "save"])]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// One round by hand.
#[derive(Debug, Args)]
pub struct RoundArgs {
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub check: bool,
    /// Show each change: from what to what; of a password its fingerprint and the store's version.
    #[arg(long)]
    pub diff: bool,
    /// Exit 0 when nothing had to be done, 2 when something was or would be changed, 1 on an error.
    #[arg(long)]
    pub detailed_exitcode: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct HealArgs {
    /// Which instance of the configuration; may be left out where there is only one.
    pub replica: Option<String>,
    #[command(flatten)]
    pub round: RoundArgs,
}

#[derive(Debug, Args)]
pub struct AlignArgs {
    /// Which instance of the configuration; all that have a secret store when none is named.
    pub replica: Option<String>,
    #[command(flatten)]
    pub round: RoundArgs,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Which group of the configuration; may be left out where there is only one.
    pub group: Option<String>,
    /// How long a replica may be away and still come back without a full sync, 1s to 7d.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_outage)]
    pub outage: std::time::Duration,
    /// How long the write rate is measured, 100ms to 10m.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_sample)]
    pub sample: std::time::Duration,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(subcommand)]
    pub verb: RotateVerb,
    /// Exit 0 when nothing had to be done, 2 when something was or would be changed, 1 on an error.
    #[arg(long, global = true)]
    pub detailed_exitcode: bool,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum RotateVerb {
    /// The steps, and what would stop them. Changes nothing.
    Plan(RotateRunArgs),
    /// Makes them, one by one, each recorded before it is made.
    Run(RotateRunArgs),
    /// Goes on with a rotation that was stopped or killed, from what the group shows now.
    Resume(RotateResumeArgs),
    /// Back to the old password everywhere, from wherever it stands.
    Abort(RotateGroupArgs),
    /// The last rotation of the record, with its steps.
    Status(RotateGroupArgs),
}

#[derive(Debug, Args)]
pub struct RotateRunArgs {
    /// Which group of the configuration; may be left out where there is only one.
    pub group: Option<String>,
    /// Whose password: the user of masterauth unless another is named. The new one comes from the secret that the
    /// configuration has for this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Stop when both passwords are valid everywhere and all but the clients use the new one; `resume` removes the old.
    #[arg(long)]
    pub keep_old: bool,
    /// Nodes that accept both passwords already are what another host left: go on from there.
    #[arg(long)]
    pub take_over: bool,
    /// For servers that know one password only: change everything at once, and print how long that took.
    #[arg(long)]
    pub short_window: bool,
}

#[derive(Debug, Args)]
pub struct RotateResumeArgs {
    /// Which group of the configuration; may be left out where there is only one.
    pub group: Option<String>,
    /// Stop again before the old password is removed.
    #[arg(long)]
    pub keep_old: bool,
}

#[derive(Debug, Args)]
pub struct RotateGroupArgs {
    /// Which group of the configuration; may be left out where there is only one.
    pub group: Option<String>,
}

#[derive(Debug, Args)]
pub struct IncidentsArgs {
    /// Only those opened within this time, as in 2h, 7d or "1d 12h".
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<std::time::Duration>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// An incident's id or the beginning of it, or a replica's name for its newest incident.
    pub id: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Only this instance of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with = "group")]
    pub replica: Option<String>,
    /// Only the instances of this group.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// For how long, as in 10m, 2h or "1d 12h": a pause always has an end.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_since)]
    pub span: std::time::Duration,
    /// Why: it stands in the status, in messages and in the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// An open incident's id or the beginning of it, or a replica's name.
    pub id: String,
    /// The plan that you have read, as the message names it: another one is then not carried out.
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct RejectArgs {
    /// An open incident's id or the beginning of it, or a replica's name.
    pub id: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct AckArgs {
    /// An incident's id or the beginning of it, or a replica's name.
    pub id: String,
    /// Who takes it.
    #[arg(long, value_name = "NAME")]
    pub by: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Which instances of the configuration; all of them when none is named.
    pub replica: Vec<String>,
    /// Wait until every link is whole and no incident is open.
    #[arg(long, required = true)]
    pub healthy: bool,
    /// For how long at most.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_since)]
    pub timeout: std::time::Duration,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// As in auth-rejected, realign-auth or sentinels-disagree.
    pub code: Option<String>,
}

/// How relinkd ends: the contract's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fine = 0,
    /// A fault was found, or an action failed.
    Fault = 1,
    /// With `--detailed-exitcode`: changed, or would change.
    Changed = 2,
    Inconclusive = 3,
    Usage = 64,
    /// A needed server or the daemon cannot be reached.
    Unreachable = 69,
    Permission = 77,
    Config = 78,
}

impl Exit {
    /// The worse of two, where several instances are looked at.
    fn and(self, other: Exit) -> Exit {
        let weight = |exit: Exit| match exit {
            Exit::Fine => 0,
            Exit::Changed => 1,
            Exit::Inconclusive => 2,
            Exit::Unreachable => 3,
            Exit::Permission => 4,
            Exit::Usage | Exit::Config => 5,
            Exit::Fault => 6,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

/// An end with something to say.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

impl Failure {
    fn new(exit: Exit, text: impl std::fmt::Display) -> Failure {
        Failure { exit, text: text.to_string() }
    }
}

type Ended = Result<Exit, Failure>;

/// Parses the arguments, runs the verb, prints what went wrong once, and says how to exit.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine };
        }
    };
    match dispatch(&cli) {
        Ok(exit) => exit,
        Err(failure) => {
            anstream::eprintln!("{}", failure.text.trim_end());
            failure.exit
        }
    }
}

fn dispatch(cli: &Cli) -> Ended {
    match &cli.verb {
        Verb::Run => run::run(&cli.config),
        Verb::Check(args) => check::check(&cli.config, args),
        Verb::Diagnose(args) => diagnose::diagnose(&cli.config, args),
        Verb::Heal(args) => detailed(heal::heal(&cli.config, args), args.round.detailed_exitcode),
        Verb::Align(args) => detailed(align::align(&cli.config, args), args.round.detailed_exitcode),
        Verb::Audit(args) => audit::audit(&cli.config, args),
        Verb::Rotate(args) => detailed(rotate::rotate(&cli.config, args), args.detailed_exitcode),
        Verb::Status(output) => status::status(&cli.config, output),
        Verb::Incidents(args) => history::incidents(&cli.config, args),
        Verb::Show(args) => history::show(&cli.config, args),
        Verb::Pause(args) => pause::pause(&cli.config, args),
        Verb::Resume(args) => pause::resume(&cli.config, args),
        Verb::Approve(args) => answer::approve(&cli.config, args),
        Verb::Reject(args) => answer::reject(&cli.config, args),
        Verb::Ack(args) => answer::ack(&cli.config, args),
        Verb::Wait(args) => wait::wait(&cli.config, args),
        Verb::Explain(args) => explain::explain(args),
        Verb::Notify(args) => notify::notify(&cli.config, args),
        Verb::Facts(args) => facts::facts(&cli.config, args),
        Verb::Completions(args) => completions::completions(args),
        Verb::Man => man::man(),
    }
}

/// With `--detailed-exitcode` there are three ends: 0 unchanged, 2 changed or would change, 1 everything else.
fn detailed(ended: Ended, asked: bool) -> Ended {
    let plain = |exit| match exit {
        Exit::Fine | Exit::Changed => exit,
        _ if asked => Exit::Fault,
        other => other,
    };
    ended.map(plain).map_err(|failure| Failure { exit: plain(failure.exit), ..failure })
}

fn exit_for(problems: &config::Problems) -> Exit {
    if problems.are_of_permission() { Exit::Permission } else { Exit::Config }
}

fn settings(path: &std::path::Path) -> Result<Settings, Failure> {
    config::load(path).map_err(|problems| Failure::new(exit_for(&problems), problems))
}

/// A runtime of one thread: the daemon is small, and a verb is smaller.
/// Runs one piece of work to its end. Its threads are given a second: a name whose resolver is dead holds one for ten.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fault, format!("the runtime does not start: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(done)
}

fn parse_since(text: &str) -> Result<std::time::Duration, String> {
    config::duration(text).ok_or_else(|| format!("{text:?} is no time span; write 30m, 2h, 7d or \"1d 12h\""))
}

fn parse_outage(text: &str) -> Result<std::time::Duration, String> {
    let outage = parse_since(text)?;
    let (least, most) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(7 * 86_400));
    if (least..=most).contains(&outage) { Ok(outage) } else { Err("must be 1s to 7d".to_owned()) }
}

fn parse_sample(text: &str) -> Result<std::time::Duration, String> {
    let sample = parse_since(text)?;
    let (least, most) = (std::time::Duration::from_millis(100), std::time::Duration::from_secs(600));
    if (least..=most).contains(&sample) { Ok(sample) } else { Err("must be 100ms to 10m".to_owned()) }
}

/// One line on standard output; a reader that has gone away (`| head`) is no error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// A whole document on standard output, as it is. One that is cut short by a full disk is a failure, and one whose reader
/// has gone away is not.
fn pour(document: &[u8]) -> Ended {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(document).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Fault, format!("standard output cannot be written: {error}")))
        }
        _ => Ok(Exit::Fine),
    }
}

fn say_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(text),
        Err(error) => say(format!("{{\"error\": {:?}}}", error.to_string())),
    }
}
