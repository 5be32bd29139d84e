//! relinkd as its unit, under a real systemd: `tests/systemd/run` boots a Debian tree and `tests/systemd/inside.sh`
//! looks at relinkd there. This wrapper only says when that may be skipped, which in CI is never.

use std::io::Write;
use std::process::Command;

#[test]
fn runs_as_its_unit_under_a_real_systemd() {
    let in_ci = std::env::var_os("CI").is_some();
    if let Some(reason) = missing()
        && !in_ci
    {
        // Not eprintln!, which the test harness keeps to itself when a test passes.
        writeln!(std::io::stderr(), "SKIPPED: runs_as_its_unit_under_a_real_systemd: {reason}")
            .expect("stderr is open");
        return;
    }
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/run"))
        .arg(env!("CARGO_BIN_EXE_relinkd"))
        .status()
        .expect("tests/systemd/run can be started");
    assert!(status.success(), "tests/systemd/run: {status}; the lines above say which check failed");
}

/// What this machine lacks for the test.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("root is needed");
    }
    let on_path = |tool: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
    };
    if !on_path("systemd-nspawn") || !on_path("debootstrap") {
        return Some("systemd-nspawn or debootstrap is missing: run `make setup`");
    }
    None
}
