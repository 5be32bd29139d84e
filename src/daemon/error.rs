//! Why the daemon did not start.

use std::path::PathBuf;

#[derive(Debug)]
pub enum DaemonError {
    StateDir(PathBuf, std::io::Error),
    Socket(PathBuf, std::io::Error),
    Signals(std::io::Error),
    /// Two metrics bear one name.
    Metrics(String),
}

impl std::fmt::Display for DaemonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DaemonError::StateDir(path, error) => write!(
                f,
                "state_dir {}: {error}; it has to exist and belong to the user that runs relinkd (systemd: StateDirectory=relinkd)",
                path.display()
            ),
            DaemonError::Socket(path, error) => write!(
                f,
                "the control socket in run_dir {}: {error} (systemd: RuntimeDirectory=relinkd)",
                path.display()
            ),
            DaemonError::Metrics(error) => write!(f, "the metrics cannot be counted: {error}"),
            DaemonError::Signals(error) => write!(f, "signals cannot be received: {error}"),
        }
    }
}

impl std::error::Error for DaemonError {}
