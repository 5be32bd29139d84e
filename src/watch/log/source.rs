//! Where a server's log is: as configured, or found from what the server says of itself.

use std::path::{Path, PathBuf};

/// `log = "auto" | "journal:UNIT" | "file:PATH" | "off"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogSource {
    /// The file that the server names, or the journal of its unit.
    #[default]
    Auto,
    File(PathBuf),
    Journal(String),
    Off,
}

impl std::str::FromStr for LogSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no log; write \"auto\", \"journal:redis-server.service\", \"file:/var/log/redis/redis-server.log\" or \"off\""
            )
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(LogSource::Auto),
            None if text == "off" => Ok(LogSource::Off),
            Some(("file", path)) if path.starts_with('/') => Ok(LogSource::File(path.into())),
            Some(("journal", unit)) if is_unit(unit) => Ok(LogSource::Journal(unit.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for LogSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogSource::Auto => f.write_str("auto"),
            LogSource::File(path) => write!(f, "file:{}", path.display()),
            LogSource::Journal(unit) => write!(f, "journal:{unit}"),
            LogSource::Off => f.write_str("off"),
        }
    }
}

/// The characters that systemd.unit(5) allows in a unit's name. A name that begins with `-` would be taken for an
/// option of journalctl.
fn is_unit(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    !name.is_empty() && name.len() < 256 && !name.starts_with('-') && name.chars().all(allowed)
}

/// What a running server says about its log: CONFIG GET `logfile` and `dir`, INFO `process_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerLog {
    pub logfile: String,
    pub dir: String,
    pub process_id: Option<u32>,
}

/// A log that can be followed, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    File(PathBuf),
    Journal(String),
    /// There is no log to read, and why.
    Nothing(String),
    Off,
}

/// Finds the log. `server` is needed for [`LogSource::Auto`] alone; without it (the server is away, or does not let
/// us ask) the answer is the reason.
pub fn resolve(source: &LogSource, server: Option<&ServerLog>) -> Resolved {
    resolve_in(source, server, Path::new("/proc"))
}

fn resolve_in(source: &LogSource, server: Option<&ServerLog>, proc: &Path) -> Resolved {
    let server = match (source, server) {
        (LogSource::File(path), _) => return Resolved::File(path.clone()),
        (LogSource::Journal(unit), _) => return Resolved::Journal(unit.clone()),
        (LogSource::Off, _) => return Resolved::Off,
        (LogSource::Auto, None) => {
            return Resolved::Nothing(
                "no log: the server has not told where it writes one (CONFIG GET logfile)".to_owned(),
            );
        }
        (LogSource::Auto, Some(server)) => server,
    };
    if !server.logfile.is_empty() {
        // The server opens the file anew for each line, relative to its present `dir` (server.c, serverLogRaw).
        let path = Path::new(&server.dir).join(&server.logfile);
        return match path.is_absolute() {
            true => Resolved::File(path),
            false => Resolved::Nothing(format!(
                "no log: {:?} is relative, and the server's dir is not known",
                server.logfile
            )),
        };
    }
    let cgroup = server.process_id.map(|pid| std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup")));
    match cgroup.as_ref().map(|read| read.as_deref()) {
        None => Resolved::Nothing("no log: the server logs to stdout, and its process id is not known".to_owned()),
        Some(Err(error)) => Resolved::Nothing(format!(
            "no log: the server logs to stdout, and its process cannot be looked up: {error}"
        )),
        Some(Ok(text)) => match unit_of(text) {
            Some(unit) => Resolved::Journal(unit.to_owned()),
            None => Resolved::Nothing("no log: the server logs to stdout and runs in no unit".to_owned()),
        },
    }
}

/// The system unit that a process of this host runs in.
pub fn unit_of_process(process_id: u32) -> Option<String> {
    let cgroup = std::fs::read_to_string(format!("/proc/{process_id}/cgroup")).ok()?;
    unit_of(&cgroup).map(str::to_owned)
}

/// The system unit that `/proc/PID/cgroup` names, on a unified or a legacy hierarchy.
fn unit_of(cgroup: &str) -> Option<&str> {
    let paths = cgroup.lines().filter_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    });
    paths.filter_map(unit_in).next()
}

fn unit_in(path: &str) -> Option<&str> {
    // Below user@UID.service run units of the user's own manager, which `journalctl -u` does not show.
    if path.split('/').any(|part| part.starts_with("user@")) {
        return None;
    }
    path.rsplit('/').find(|part| part.ends_with(".service")).filter(|unit| is_unit(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_as_written() {
        for text in ["auto", "off", "file:/var/log/redis/redis-server.log", "journal:redis@6380.service"] {
            assert_eq!(text.parse::<LogSource>().unwrap().to_string(), text);
        }
        for text in
            ["", "Auto", "file:", "file:redis.log", "journal:", "journal:-u", "journal:a b", "/var/log/redis.log"]
        {
            assert!(text.parse::<LogSource>().unwrap_err().contains("is no log"), "{text:?} was taken");
        }
    }

    fn said(logfile: &str, dir: &str, process_id: Option<u32>) -> ServerLog {
        ServerLog { logfile: logfile.to_owned(), dir: dir.to_owned(), process_id }
    }

    #[test]
    fn a_relative_logfile_lies_in_dir() {
        let auto = |s: &ServerLog| resolve(&LogSource::Auto, Some(s));
        assert_eq!(auto(&said("/var/log/r.log", "/data", None)), Resolved::File("/var/log/r.log".into()));
        assert_eq!(auto(&said("r.log", "/data", None)), Resolved::File("/data/r.log".into()));
        assert!(matches!(auto(&said("r.log", "", None)), Resolved::Nothing(_)));
        assert!(matches!(resolve(&LogSource::Auto, None), Resolved::Nothing(_)));
    }

    #[test]
    fn stdout_is_looked_up_by_unit() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, cgroup, want) in [
            (1, "0::/system.slice/redis-server.service\n", Some("redis-server.service")),
            (2, "0::/system.slice/system-redis.slice/redis@6380.service\n", Some("redis@6380.service")),
            (3, "12:pids:/system.slice/x\n1:name=systemd:/system.slice/valkey.service\n0::/\n", Some("valkey.service")),
            (4, "0::/user.slice/user-1000.slice/session-4.scope\n", None),
            (5, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service\n", None),
            (6, "0::/system.slice/docker-0123abcd.scope\n", None),
            (7, "", None),
        ] {
            std::fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            std::fs::write(proc.path().join(pid.to_string()).join("cgroup"), cgroup).unwrap();
            let found = resolve_in(&LogSource::Auto, Some(&said("", "/data", Some(pid))), proc.path());
            let none = Resolved::Nothing("no log: the server logs to stdout and runs in no unit".to_owned());
            assert_eq!(found, want.map_or(none, |unit| Resolved::Journal(unit.to_owned())), "{cgroup}");
        }
        let gone = resolve_in(&LogSource::Auto, Some(&said("", "/data", Some(99))), proc.path());
        assert!(matches!(gone, Resolved::Nothing(why) if why.contains("cannot be looked up")));
    }
}
