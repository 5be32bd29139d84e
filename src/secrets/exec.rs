//! The program store: runs a program without a shell, in a clean environment, and reads what it prints, for at most
//! ten seconds. What it prints, on either stream, is shown to nobody: programs print secrets there.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use zeroize::Zeroizing;

use super::value::{printed, too_large};
use super::{LIMIT_BYTES, Lookup, Offer, SecretError};

const TIMEOUT: Duration = Duration::from_secs(10);

/// All that a program sees of our environment.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

pub(super) async fn fetch(source: &str, argv: &[String], lookup: Lookup<'_>) -> Result<Vec<Offer>, SecretError> {
    fetch_within(TIMEOUT, source, argv, lookup).await
}

async fn fetch_within(
    limit: Duration,
    source: &str,
    argv: &[String],
    lookup: Lookup<'_>,
) -> Result<Vec<Offer>, SecretError> {
    let mut run = Run::start(source, argv, lookup)?;
    match tokio::time::timeout(limit, run.finish(source)).await {
        Ok(bytes) => printed(source, &bytes?),
        Err(_) => Err(SecretError::TimedOut(format!(
            "{source}: no answer within {} s, so it was killed; run it by hand as relinkd's user to see what it waits for",
            limit.as_secs()
        ))),
    }
}

/// Who else could change what the program does.
pub(super) fn audit(source: &str, argv: &[String]) -> Vec<String> {
    let Some(program) = argv.first() else { return Vec::new() };
    match std::fs::metadata(program) {
        Ok(meta) if meta.mode() & 0o022 != 0 => {
            let mode = meta.mode() & 0o7777;
            vec![format!(
                "{source}: users other than its owner can change it (mode {mode:04o}); run: chmod go-w {program}"
            )]
        }
        _ => Vec::new(),
    }
}

/// A running program and all that it has started. Dropped before its end, for whatever reason, it is killed.
struct Run {
    group: Option<Pid>,
    child: Child,
    stdout: Option<ChildStdout>,
}

impl Run {
    fn start(source: &str, argv: &[String], lookup: Lookup<'_>) -> Result<Run, SecretError> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(SecretError::Malformed(format!(
                "{source}: names no program; correct the reference in the config"
            )));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((name, lookup(name)?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => SecretError::NotFound(format!(
                    "{source}: no such program, or its interpreter is missing; install it, or correct the reference in the config"
                )),
                ErrorKind::PermissionDenied => SecretError::Denied(format!(
                    "{source}: uid {} may not run it; make it executable for that user",
                    rustix::process::geteuid().as_raw()
                )),
                _ => SecretError::Failed(format!("{source}: cannot be started: {error}")),
            })?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stdout = child.stdout.take();
        Ok(Run { group, child, stdout })
    }

    async fn finish(&mut self, source: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let failed = |error| SecretError::Failed(format!("{source}: cannot be followed to its end: {error}"));
        let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT_BYTES + 1));
        if let Some(stdout) = self.stdout.as_mut() {
            let limit = u64::try_from(LIMIT_BYTES).unwrap_or(u64::MAX);
            stdout.take(limit + 1).read_to_end(&mut bytes).await.map_err(failed)?;
        }
        if bytes.len() > LIMIT_BYTES {
            return Err(too_large(source));
        }
        let status = self.child.wait().await.map_err(failed)?;
        self.group = None;
        if status.success() { Ok(bytes) } else { Err(unsuccessful(source, status)) }
    }
}

impl Drop for Run {
    /// The child itself is killed by tokio; this is for what it has started in turn. It has not been waited for
    /// yet, so its number still belongs to it.
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _already_gone = kill_process_group(group, Signal::KILL);
        }
    }
}

fn unsuccessful(source: &str, status: ExitStatus) -> SecretError {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    SecretError::Failed(format!("{source}: ended with {how}; run it by hand as relinkd's user to see why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Duration, script: &str) -> Result<Vec<Offer>, SecretError> {
        let argv: Vec<String> = ["/bin/sh", "-c", script, "canary-argument"].map(str::to_owned).to_vec();
        let lookup = |name: &str| match name {
            "PATH" => Some("/usr/bin:/bin".into()),
            "CANARY" => Some("canary".into()),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(fetch_within(limit, "exec:/bin/sh", &argv, &lookup));
        if let Err(error) = &answer {
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        answer
    }

    #[test]
    fn a_program_answers_on_stdout_and_its_failure_keeps_its_words() {
        assert_eq!(run(TIMEOUT, "echo hunter2").unwrap()[0].secret.expose(), "hunter2");
        let offers = run(TIMEOUT, r#"echo '{"password":"b","previous":"a","version":3,"user":"repl"}'"#).unwrap();
        assert_eq!((offers[0].version.as_str(), offers[1].version.as_str()), ("3", "before 3"));
        let failed = run(TIMEOUT, "echo canary; echo canary >&2; exit 3").unwrap_err();
        assert!(matches!(&failed, SecretError::Failed(text) if text.contains("exit code 3")), "{failed}");
        let killed = run(TIMEOUT, "echo canary; kill -9 $$").unwrap_err();
        assert!(matches!(&killed, SecretError::Failed(text) if text.contains("signal 9")), "{killed}");
        assert!(matches!(run(TIMEOUT, "true"), Err(SecretError::Empty(_))));
        assert!(matches!(run(TIMEOUT, "yes canary"), Err(SecretError::TooLarge(_))), "and `yes` is stopped");
    }

    #[test]
    fn a_program_sees_a_clean_environment_and_no_shell_is_put_before_it() {
        let seen = run(TIMEOUT, "env | cut -d= -f1 | grep -vx -e PWD -e SHLVL -e _ -e OLDPWD | tr '\\n' ' '").unwrap();
        assert_eq!(seen[0].secret.expose(), "PATH ");
        let argv = ["/bin/echo", "$HOME; echo canary"].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(fetch("exec:/bin/echo", &argv, &|_| None)).unwrap();
        assert_eq!(answer[0].secret.expose(), "$HOME; echo canary");
    }

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let error = run(Duration::from_millis(50), "echo canary; sleep 60").unwrap_err();
        assert!(matches!(error, SecretError::TimedOut(_)), "{error}");
    }

    #[test]
    fn a_program_that_is_given_up_takes_all_that_it_started_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", note.display());
        let argv = ["/bin/sh".to_owned(), "-c".to_owned(), script];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = runtime.block_on(async { Run::start("exec:/bin/sh", &argv, &|_| None) }).unwrap();
        assert!(in_time(|| note.exists()), "the program never came to its second line");
        let pid: i32 = std::fs::read_to_string(&note).unwrap().trim().parse().unwrap();
        drop(run);
        // A zombie that nobody has reaped yet has ended too.
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(in_time(|| stat().map_or(true, |stat| stat.contains(") Z "))), "the grandchild lives on");
    }

    fn in_time(holds: impl Fn() -> bool) -> bool {
        (0..1_000).any(|_| holds() || (std::thread::sleep(Duration::from_millis(10)), false).1)
    }

    #[test]
    fn what_cannot_be_run_is_named_as_such() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|part| (*part).to_owned()).collect();
            runtime.block_on(fetch("exec:x", &argv, &|_| None)).unwrap_err()
        };
        assert!(matches!(ask(&[]), SecretError::Malformed(_)));
        assert!(matches!(ask(&["/nonexistent/prog"]), SecretError::NotFound(_)));
        assert!(matches!(ask(&["/etc/passwd"]), SecretError::Denied(_)));
    }

    #[test]
    fn a_program_that_others_can_change_is_objected_to() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("prog");
        std::fs::write(&program, "").unwrap();
        let argv = [program.display().to_string()];
        for (mode, objections) in [(0o755, 0), (0o775, 1), (0o757, 1)] {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(audit("exec:x", &argv).len(), objections, "{mode:o}");
        }
    }
}
