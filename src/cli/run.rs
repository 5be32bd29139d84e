//! `relinkd run`.

use std::io::IsTerminal;
use std::path::Path;

use rustix::process::DumpableBehavior;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Ended, Exit, Failure, block_on, settings};
use crate::config::{AgentSettings, LogFormat, LogLevel};
use crate::daemon::{self, DaemonError};

pub fn run(config: &Path) -> Ended {
    let settings = settings(config)?;
    log_as(&settings.agent);
    // Passwords live in this process's memory: no core of it is written, and no other process of its user reads it.
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("a core dump of this process could hold passwords, and cannot be forbidden: {error}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "watching {} instances in {} groups, policy from {}",
        settings.replicas.len(),
        settings.groups.len(),
        config.display()
    );
    block_on(daemon::run(config, settings))?.map_err(|error| {
        let exit = match &error {
            DaemonError::StateDir(_, cause) | DaemonError::Socket(_, cause)
                if cause.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Exit::Permission
            }
            _ => Exit::Fault,
        };
        Failure::new(exit, error)
    })?;
    Ok(Exit::Fine)
}

/// The log goes to standard error, where systemd takes it into the journal with its own time.
fn log_as(agent: &AgentSettings) {
    let level = match agent.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(ansi);
    // Libraries stay silent: an HTTP client's debug lines name hosts that are part of a secret URL.
    let ours = Targets::new().with_target("relinkd", level);
    let registry = tracing_subscriber::registry().with(ours);
    // A second subscriber in the same process (a test's) is no error.
    let _ = match (agent.log_format, to_journal) {
        (LogFormat::Json, _) => registry.with(lines.json()).try_init(),
        (LogFormat::Text, true) => registry.with(lines.without_time()).try_init(),
        (LogFormat::Text, false) => registry.with(lines).try_init(),
    };
}
