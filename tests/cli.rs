//! The binary as people and their scripts use it: words, exit codes, JSON, and what happens beside a running daemon.

mod live;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::{Group, Kind, Signal, fault};
use live::desk::{Desk, Said};
use live::{PATIENCE, RELINKD, Setup};
use serde_json::Value;

const PASSWORD: &str = "cli-CANARY-1";
const NEW: &str = "cli-CANARY-2";

const VERBS: [&str; 8] = ["run", "check", "diagnose", "heal", "status", "incidents", "show", "explain"];

/// relinkd with nothing around it.
fn bare(words: &[&str]) -> Said {
    let output = Command::new(RELINKD).args(words).env_remove("REDISCLI_AUTH").stdin(Stdio::null()).output().unwrap();
    Said::of(&output)
}

fn redis() -> Option<Kind> {
    lab::require(Kind::Redis70)
}

/// One replica, one Sentinel, and a store that holds the password in use.
fn desk(kind: Kind) -> Desk {
    let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().unwrap();
    let desk = Desk::new(group);
    desk.configure(&Setup { store: Some(PASSWORD.to_owned()), ..Setup::default() });
    desk
}

/// The primary's password changes, and the store follows.
fn rotate(desk: &Desk) {
    desk.agent.write_file("masterauth", NEW).unwrap();
    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
}

fn start(desk: &mut Desk) {
    desk.agent.start_again().unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while desk.run(&["status"]).exit != 0 {
        assert!(std::time::Instant::now() < end, "no status: {}", desk.agent.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn every_verb_explains_itself() {
    let all = bare(&["--help"]);
    assert_eq!((all.exit, all.err.as_str()), (0, ""));
    for verb in VERBS {
        assert!(all.out.contains(&format!("\n  {verb} ")), "{verb}: {}", all.out);
        let help = bare(&[verb, "--help"]);
        assert_eq!((help.exit, help.err.as_str()), (0, ""), "{verb}");
        assert!(help.out.contains("Usage: relinkd") && help.out.contains("--config"), "{verb}: {}", help.out);
        assert!(!help.out.contains('\u{1b}'), "{verb}: colours in a pipe");
        assert_eq!(help.out.contains("--json"), !["run", "explain"].contains(&verb), "{verb}: {}", help.out);
    }
    let version = bare(&["--version"]);
    assert_eq!((version.exit, version.out.as_str()), (0, concat!("relinkd ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn what_cannot_be_understood_is_a_usage_error_with_a_hint() {
    for (words, hint) in [
        (vec!["diagnos"], "diagnose"),
        (vec![], "Usage"),
        (vec!["check", "--offlin"], "--offline"),
        (vec!["check", "--offline", "--notify"], "--offline"),
        (vec!["diagnose", "--sentinel", "127.0.0.1:1"], "--address"),
        (vec!["diagnose", "--address", "127.0.0.1:1", "--sentinel", "nonsense"], "HOST:PORT"),
        (vec!["diagnose", "--address", "nonsense"], "HOST:PORT"),
        (vec!["diagnose", "--address", "127.0.0.1:1", "cache"], "cannot be used with"),
        (vec!["diagnose", "--from", "/nonexistent/evidence.json"], "/nonexistent/evidence.json"),
        (vec!["incidents", "--since", "yesterday"], "7d"),
        (vec!["show"], "<ID>"),
        (vec!["explain", "auth-rejectd"], "did you mean auth-rejected?"),
        (vec!["explain", "zzz"], "relinkd explain lists them all"),
    ] {
        let said = bare(&words);
        assert_eq!((said.exit, said.out.as_str()), (64, ""), "{words:?}: {}", said.err);
        assert!(said.err.contains(hint), "{words:?}: {}", said.err);
    }
}

#[test]
fn without_a_configuration_each_verb_says_so_and_diagnose_how_to_go_without() {
    for verb in ["run", "check", "diagnose", "heal", "status", "incidents", "show"] {
        let words: &[&str] = match verb {
            "show" => &["--config", "/nonexistent/config.toml", "show", "x"],
            _ => &["--config", "/nonexistent/config.toml", verb],
        };
        let said = bare(words);
        assert_eq!((said.exit, said.out.as_str()), (78, ""), "{verb}: {}", said.err);
        assert!(said.err.contains("/nonexistent/config.toml: no such file"), "{verb}: {}", said.err);
        assert_eq!(said.err.contains("relinkd diagnose --address"), verb == "diagnose", "{verb}: {}", said.err);
    }
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_and_none_of_its_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let text = "[agent]\nlog_level = \"CANARY\"\n[replica.cache]\naddres = \"CANARY:1\"\npassword = \"CANARY\"\npoll = \"1h\"\n";
    std::fs::write(&path, text).unwrap();
    let config = path.to_str().unwrap();
    for verb in ["check", "run", "status"] {
        let said = bare(&["--config", config, verb]);
        assert_eq!(said.exit, 78);
        for part in [
            ":2: agent.log_level:",
            ":4: replica.cache.addres:",
            ":5: replica.cache.password:",
            ":6: replica.cache.poll:",
        ] {
            assert!(said.err.contains(part), "{verb}: {part}: {}", said.err);
        }
        assert!(!said.err.contains("CANARY"), "{verb}: {}", said.err);
    }
    let said = bare(&["--config", config, "check", "--offline", "--json"]);
    assert_eq!(said.exit, 78);
    let told = said.json();
    assert_eq!(told["ok"], false);
    let lines: Vec<_> = told["problems"].as_array().unwrap().iter().filter_map(|p| p["line"].as_u64()).collect();
    assert!([2, 4, 5, 6].iter().all(|line| lines.contains(line)), "{told:#}");
    assert!(!said.out.contains("CANARY"), "{}", said.out);
}

#[test]
fn a_replica_that_is_not_configured_is_answered_with_those_that_are_redis_70() {
    let Some(kind) = redis() else { return };
    let desk = desk(kind);
    for words in [&["diagnose", "cach"][..], &["heal", "cach"], &["heal", "cach", "--check"]] {
        let said = desk.run(words);
        assert_eq!(said.exit, 64, "{words:?}: {said:?}");
        assert!(said.err.contains("cache"), "{words:?}: {}", said.err);
    }
    let said = desk.run(&["show", "cach"]);
    assert!(said.exit == 64 && said.err.contains("relinkd incidents"), "{said:?}");
}

#[test]
fn explain_has_a_page_for_every_code() {
    let list = bare(&["explain"]);
    assert_eq!(list.exit, 0);
    let codes: Vec<&str> = list
        .out
        .lines()
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(codes.len() > 40, "{codes:?}");
    let without: Vec<&&str> = codes
        .iter()
        .filter(|code| {
            let page = bare(&["explain", code]);
            page.exit != 0 || page.out.trim().is_empty()
        })
        .collect();
    assert!(without.is_empty(), "no page for {without:?}");
    for (said, page) in [("WRONGPASS", "auth-rejected"), ("-MASTERDOWN", "upstream-broken"), ("noauth", "auth-missing")]
    {
        assert!(bare(&["explain", "--", said]).out.starts_with(&format!("# {page}: ")), "{said}");
    }
}

#[test]
fn json_is_json_wherever_it_is_offered_and_a_pipe_gets_no_colours_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = desk(kind);
    let address = desk.group.replica(0).address();
    let password = desk.agent.dir().join("replica-password").display().to_string();
    assert_eq!(desk.json(&["incidents"]), serde_json::json!([]), "no record yet is an empty history");
    assert_eq!(desk.run(&["incidents"]).out, "no incidents: nothing has been recorded yet\n");
    assert_eq!(desk.json(&["diagnose"])["healthy"], true);
    let by_address = ["diagnose", "--address", &address, "--password-file", &password];
    assert_eq!(desk.json(&by_address)["healthy"], true);
    assert_eq!(desk.json(&["heal", "--check"])["changed"], false);
    assert_eq!(desk.json(&["check", "--offline"])["ok"], true);
    assert_eq!(desk.json(&["check"])["ok"], true);
    start(&mut desk);
    assert_eq!(desk.json(&["status"])["replicas"][0]["replica"], "cache");
    assert_eq!(desk.json(&["heal"])["changed"], false);
    for words in [
        &["status"][..],
        &["diagnose"],
        &["check"],
        &["incidents"],
        &["heal", "--check"],
        &["explain", "auth-rejected"],
    ] {
        let said = desk.run(words);
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{words:?}: {said:?}");
    }
}

/// As in a terminal, through script(1); with NO_COLOR the terminal gets none either.
#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let on_terminal = |no_color: bool| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{RELINKD} explain auth-rejected"), "/dev/null"]).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains('\u{1b}')
    };
    assert_eq!((on_terminal(false), on_terminal(true)), (true, false));
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    for words in [&["explain"][..], &["--help"], &["explain", "auth-rejected"]] {
        let mut child =
            Command::new(RELINKD).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut one = [0];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut one).unwrap();
        drop(out);
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let ended = child.wait().unwrap();
        assert!(err.is_empty() && ended.code() == Some(0), "{words:?}: {ended:?} {err}");
    }
}

#[test]
fn diagnose_needs_no_configuration_redis_70_valkey_80() {
    for kind in [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require) {
        let desk = desk(kind);
        let (address, sentinel) = (desk.group.replica(0).address(), desk.group.sentinel(0).address());
        let password = desk.agent.write_file("password", PASSWORD).unwrap().display().to_string();
        let words = ["diagnose", "--address", &address, "--sentinel", &sentinel, "--password-file", &password];
        let said = bare(&words);
        assert!(said.exit == 0 && said.out.starts_with("healthy"), "{said:?}");

        let said = bare(&[&words[..], &["--master", "mymastr"]].concat());
        let told = format!("Sentinel {sentinel} does not know the group \"mymastr\"; it knows: {}", desk.group.name());
        assert!(said.exit == 64 && !said.out.contains("healthy") && said.err.contains(&told), "{said:?}");
        let kept = desk.agent.dir().join("unknown.json").display().to_string();
        assert_eq!(bare(&[&words[..], &["--master", "mymastr", "--save", &kept]].concat()).exit, 64);
        let said = bare(&["diagnose", "--from", &kept]);
        assert!(said.exit == 1 && said.out.is_empty() && said.err.contains(&told), "{said:?}");
        let said = bare(&["diagnose", "--address", "nohost.invalid:6379"]);
        assert!(
            said.exit == 69 && said.out.contains("nohost.invalid") && !said.out.contains("+config|get"),
            "{said:?}"
        );
        let said = bare(&["diagnose", "--address", &address, "--user", "few"]);
        assert!(said.exit == 64 && said.err.contains("--password-file"), "{said:?}");

        let said = bare(&words[..3]);
        assert!(said.exit == 77 && said.out.contains("replica-denied"), "{said:?}");
        let output = Command::new(RELINKD).args(&words[..3]).env("REDISCLI_AUTH", PASSWORD).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "REDISCLI_AUTH is used as redis-cli does");

        rotate(&desk);
        let said = bare(&words);
        assert!(said.exit == 1 && said.out.starts_with("auth-rejected"), "{said:?}");
        assert!(said.out.contains("Because") && said.out.contains("Ruled out") && said.out.contains("A person would"));
        assert!(!said.out.contains("CANARY"), "{}", said.out);

        let killed = fault::kill(desk.group.replica(0));
        let said = bare(&words);
        assert!(said.exit == 69 && said.out.starts_with("replica-down"), "{said:?}");
        killed.undo().unwrap();
    }
}

#[test]
fn saved_evidence_is_judged_as_the_live_look_was_and_damage_is_told_redis_70() {
    let Some(kind) = redis() else { return };
    let desk = desk(kind);
    let file = desk.agent.dir().join("evidence.json");
    let path = file.to_str().unwrap();
    rotate(&desk);
    let live = desk.json(&["diagnose", "--save", path]);
    let said = bare(&["diagnose", "--from", path, "--json"]);
    assert_eq!(said.exit, 1);
    let again = said.json();
    for key in ["cause", "sentence", "because", "ruled_out", "next_steps", "replica", "address"] {
        assert_eq!(again[key], live[key], "{key}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("CANARY"));

    for (what, damaged) in [
        ("cut", text[..text.len() / 2].to_owned()),
        ("empty", String::new()),
        ("another kind", "[1, 2]".to_owned()),
        ("a later format", text.replacen("\"format\": 1", "\"format\": 9", 1)),
    ] {
        std::fs::write(&file, damaged).unwrap();
        let said = bare(&["diagnose", "--from", path]);
        assert_eq!((said.exit, said.out.as_str()), (64, ""), "{what}");
        assert!(said.err.contains(path), "{what}: {}", said.err);
    }
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(bare(&["diagnose", "--from", path]).exit, 64);

    let said = desk.run(&["diagnose", "--save", "/nonexistent/evidence.json"]);
    assert!(said.exit == 64 && said.err.contains("/nonexistent/evidence.json"), "{said:?}");
    assert!(said.out.contains(live["cause"].as_str().unwrap()), "the verdict stands: {said:?}");
}

#[test]
fn heal_without_a_daemon_does_the_whole_job_redis_70_valkey_80() {
    for kind in [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require) {
        let desk = desk(kind);
        let said = desk.run(&["heal", "--detailed-exitcode"]);
        assert_eq!(said.exit, 0, "nothing to do: {said:?}");
        rotate(&desk);

        let conf = std::fs::read_to_string(desk.group.replica(0).conf_path()).unwrap();
        let said = desk.run(&["heal", "--check", "--diff"]);
        assert!(said.exit == 1 && said.out.contains("would set masterauth"), "{said:?}");
        assert!(said.out.lines().any(|line| line.starts_with("  + ")), "--diff shows each change: {}", said.out);
        assert_eq!(desk.run(&["heal", "--check", "--detailed-exitcode"]).exit, 2);
        assert!(!desk.group.replica(0).is_link_up(), "--check changed something");
        assert_eq!(std::fs::read_to_string(desk.group.replica(0).conf_path()).unwrap(), conf);
        assert_eq!(desk.json(&["incidents"]), serde_json::json!([]), "--check recorded something");

        let said = desk.run(&["heal", "--detailed-exitcode", "--diff"]);
        assert_eq!(said.exit, 2, "{said:?}");
        assert!(!said.out.contains("CANARY") && said.out.contains("  + "), "{}", said.out);
        assert!(desk.group.replica(0).is_link_up());
        let incidents = desk.json(&["incidents"]);
        assert_eq!(incidents[0]["phase"], "resolved", "{incidents:#}");
        assert_eq!(incidents[0]["actions"][0]["remedy"], "realign-auth", "{incidents:#}");

        let said = desk.run(&["heal", "cache"]);
        assert_eq!(said.exit, 0, "{said:?}");
        assert_eq!(desk.json(&["incidents"]).as_array().unwrap().len(), 1);
        assert!(!desk.agent.dir().join("run/control.sock").exists(), "the socket was left behind");
    }
}

#[test]
fn heal_that_cannot_heal_exits_1_and_says_why_redis_70() {
    let Some(kind) = redis() else { return };
    let desk = desk(kind);
    fault::rotate_password(desk.group.primary(), NEW).unwrap().keep();
    desk.group.replica(0).wait_link_down(PATIENCE).unwrap();
    let said = desk.run(&["heal", "--detailed-exitcode"]);
    assert!(said.exit == 1 && said.out.contains("secret-rejected"), "{said:?}");
    assert_eq!(desk.json(&["heal", "--check"])["decision"]["hold"]["code"], "secret-rejected");
    assert!(!desk.group.replica(0).is_link_up());
}

#[test]
fn heal_beside_a_daemon_goes_through_it_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = desk(kind);
    let settings = |mode: &str| Setup {
        store: Some(PASSWORD.to_owned()),
        policy: format!("[policy.realign-auth]\nmode = \"{mode}\""),
        ..Setup::default()
    };
    desk.configure(&settings("propose"));
    start(&mut desk);
    let said = desk.run(&["heal", "--detailed-exitcode"]);
    assert_eq!(said.exit, 0, "{said:?}");
    rotate(&desk);
    // What this process could do by itself it leaves to the daemon, which only proposes.
    let said = desk.run(&["heal"]);
    assert!(said.exit == 1 && said.out.contains(", proposed"), "{said:?}\n{}", desk.agent.log());
    assert!(!desk.group.replica(0).is_link_up());

    desk.configure(&settings("auto"));
    desk.agent.write_file("masterauth", NEW).unwrap();
    desk.agent.signal(Signal::HUP).unwrap();
    desk.agent.wait_log("configuration reloaded", PATIENCE).unwrap();
    desk.group.replica(0).wait_link_up(PATIENCE).unwrap();
    let said = desk.run(&["heal"]);
    assert_eq!(said.exit, 0, "{said:?}\n{}", desk.agent.log());
    let incidents = desk.json(&["incidents"]);
    assert_eq!(incidents.as_array().unwrap().len(), 1, "{incidents:#}");
    assert!(desk.agent.pid().is_some(), "the daemon lives on");
}

#[test]
fn a_second_daemon_on_the_same_directories_is_refused_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = desk(kind);
    start(&mut desk);
    let said = desk.run(&["run"]);
    assert_eq!(said.exit, 1, "{said:?}");
    assert!(said.err.contains("another relinkd answers there"), "{}", said.err);
    assert_eq!(desk.run(&["status"]).exit, 0, "the first one goes on");
}

#[test]
fn the_record_is_read_with_and_without_the_daemon_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = desk(kind);
    let said = desk.run(&["status"]);
    assert!(said.exit == 69 && said.err.contains("is it running?"), "{said:?}");
    rotate(&desk);
    assert_eq!(desk.run(&["heal"]).exit, 0);
    let read = |desk: &Desk| {
        let id = desk.json(&["incidents"])[0]["id"].as_str().unwrap().to_owned();
        for name in [id.as_str(), &id[..12], "cache"] {
            let said = desk.run(&["show", name]);
            assert!(said.exit == 0 && said.out.contains("auth-rejected"), "{name}: {said:?}");
            assert_eq!(desk.json(&["show", name])["id"], id.as_str(), "{name}");
        }
        assert_eq!(desk.json(&["incidents", "--since", "1h"]).as_array().unwrap().len(), 1);
        assert_eq!(desk.run(&["show", "0000"]).exit, 64);
        id
    };
    let before = read(&desk);
    start(&mut desk);
    assert_eq!(read(&desk), before);
    let status = desk.run(&["status"]);
    assert!(status.exit == 0 && status.out.starts_with("well cache"), "{status:?}");
    assert!(desk.agent.stop().unwrap().success());
    assert_eq!(desk.run(&["status"]).exit, 69);
}

/// As another user, from whom the files are kept.
#[test]
fn a_user_who_may_not_is_told_and_gets_77_redis_70() {
    let Some(kind) = redis() else { return };
    if !rustix_is_root() {
        return;
    }
    let mut desk = desk(kind);
    start(&mut desk);
    // The binary may lie where another user cannot reach it.
    let open = tempfile::Builder::new().prefix("relinkd-cli").tempdir_in("/tmp").unwrap();
    let binary = open.path().join("relinkd");
    std::fs::copy(RELINKD, &binary).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(open.path(), 0o755);
    mode(&binary, 0o755);
    let config = open.path().join("config.toml");
    std::fs::copy(desk.agent.config_path(), &config).unwrap();
    mode(&config, 0o644);
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("--config").arg(&config).args(words).current_dir("/").uid(65_534).gid(65_534);
        Said::of(&command.output().unwrap())
    };
    for words in [&["status"][..], &["incidents"], &["show", "cache"], &["run"], &["heal"]] {
        let said = as_nobody(words);
        assert_eq!(said.exit, 77, "{words:?}: {said:?}");
        assert!(!said.err.is_empty() && !said.err.contains("CANARY"), "{words:?}: {said:?}");
    }
    let said = as_nobody(&["check"]);
    assert_eq!(said.exit, 77, "{said:?}");
    assert!(said.out.contains("permission denied to uid 65534"), "{}", said.out);
    assert!(said.out.contains("state_dir"), "{}", said.out);
    let said = as_nobody(&["diagnose"]);
    assert_eq!(said.exit, 77, "its password is kept from us, and the server wants one: {said:?}");
    assert!(said.err.contains("looked at without a secret") && said.err.contains("permission denied"), "{said:?}");
    mode(&config, 0o600);
    for words in [&["check"][..], &["check", "--json"], &["diagnose"], &["status"], &["run"]] {
        let said = as_nobody(words);
        let told = format!("{}{}", said.out, said.err);
        assert!(said.exit == 77 && told.contains("permission denied to uid 65534"), "{words:?}: {said:?}");
    }
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[test]
fn a_socket_that_nobody_answers_is_a_daemon_that_does_not_run_redis_70() {
    let Some(kind) = redis() else { return };
    let mut desk = desk(kind);
    start(&mut desk);
    desk.agent.kill9();
    assert!(desk.agent.dir().join("run/control.sock").exists());
    assert_eq!(desk.run(&["status"]).exit, 69);
    assert_eq!(desk.run(&["heal"]).exit, 0, "and the socket can be taken over");
    let _: Value = desk.json(&["incidents"]);
}
