//! What a shell and a reader of manual pages get: completions and relinkd(1), generated from the parser, and installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const RELINKD: &str = env!("CARGO_BIN_EXE_relinkd");

fn relinkd(words: &[&str]) -> Output {
    Command::new(RELINKD).args(words).stdin(Stdio::null()).output().unwrap()
}

/// What a verb prints, which has to end well and say nothing besides.
fn printed(words: &[&str]) -> String {
    let output = relinkd(words);
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{words:?}: colours in a document");
    text
}

/// Runs a program over `text` on its standard input. Shells and readers are no part of the lab: one that is not
/// installed is said so, past libtest's capture, and nothing more.
fn through(program: &str, words: &[&str], text: &str) -> Option<Output> {
    let started = Command::new(program)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The verbs as `--help` lists them, with those of `rotate` and of any other verb that has its own.
fn verbs() -> Vec<String> {
    let listed = |words: &[&str]| -> Vec<String> {
        let help = printed(&[words, &["--help"]].concat());
        let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
        let rows = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        rows.filter_map(|line| line.split_whitespace().next())
            .filter(|verb| *verb != "help")
            .map(str::to_owned)
            .collect()
    };
    let mut all = Vec::new();
    for verb in listed(&[]) {
        all.push(verb.clone());
        all.extend(listed(&[&verb]).iter().map(|own| format!("{verb} {own}")));
    }
    assert!(all.len() > 20 && all.iter().any(|verb| verb == "rotate plan"), "{all:?}");
    all
}

#[test]
fn each_shell_takes_its_completions() {
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = printed(&["completions", shell]);
        for verb in verbs() {
            let word = verb.rsplit(' ').next().unwrap();
            assert!(script.contains(word), "{shell}: nothing of {verb}");
        }
        assert!(script.contains("detailed-exitcode"), "{shell}: no options");
        if let Some(output) = through(shell, check, &script) {
            assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("rotate"), "{shell}");
    }
}

#[test]
fn bash_completes_verbs_and_options() {
    let complete = |words: &str, place: usize| {
        let last = words.split(' ').next_back().unwrap();
        let ask = format!(
            "\nCOMP_WORDS=({words} ) COMP_CWORD={place}; _relinkd relinkd '{last}' x; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let output = through("bash", &["--norc", "-s"], &(printed(&["completions", "bash"]) + &ask)).expect("bash");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("relinkd diag", 1), ["diagnose"]);
    assert_eq!(complete("relinkd rotate res", 2), ["resume"]);
    assert_eq!(complete("relinkd heal --de", 2), ["--detailed-exitcode"]);
    assert_eq!(complete("relinkd completions z", 2), ["zsh"]);
}

#[test]
fn another_shell_is_a_usage_error_with_the_list() {
    for words in [&["completions", "tcsh"][..], &["completions"]] {
        let output = relinkd(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{words:?}: {said}");
        assert!(words.len() == 1 || "bash elvish fish powershell zsh".split(' ').all(|it| said.contains(it)), "{said}");
    }
}

/// As a person reads it: through man where it is installed, and else as it was written.
fn as_read(page: &str) -> String {
    let formatted = through("man", &["--warnings=w", "--local-file", "-"], page);
    if let Some(output) = &formatted {
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let text = formatted.map_or(page.replace('\\', ""), |output| String::from_utf8(output.stdout).unwrap());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_manual_page_names_every_verb_and_every_exit_code() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH RELINKD 1 \"\" \"relinkd "), "{}", &page[..400]);
    for verb in verbs() {
        let head = if verb.contains(' ') { format!("\n.SS \"{verb}\"\n") } else { format!("\n.SS {verb}\n") };
        assert!(page.contains(&head), "no sub-section {verb}");
    }
    let read = as_read(&page);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, table) = readme.split_once("| exit | means |\n|---|---|\n").unwrap();
    let rows: Vec<_> = table.lines().take_while(|line| line.starts_with("| ")).collect();
    assert_eq!(rows.len(), 8, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let means = cells[1].replace('`', "");
        // man hyphenates: words are compared without what it may put between them.
        let squeeze = |text: &str| text.replace(['\u{2010}', ' ', '-'], "");
        assert!(squeeze(&read).contains(&squeeze(&format!("{} {means}", cells[0]))), "not as README says: {row}");
    }
    for head in ["SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"] {
        assert!(page.contains(&format!("\n.SH {head}\n")) || page.contains(&format!("\n.SH \"{head}\"\n")), "{head}");
    }
}

#[test]
fn readers_of_manual_pages_find_no_fault_in_it() {
    let page = printed(&["man"]);
    for (reader, words) in [("groff", &["-man", "-ww", "-z", "-Tutf8"][..]), ("mandoc", &["-Tlint", "-Werror"])] {
        if let Some(output) = through(reader, words, &page) {
            assert!(output.status.success() && output.stderr.is_empty(), "{reader}: {output:?}");
        }
    }
}

/// A full disk must not leave half a script behind a good exit code; a reader that goes away is none of our business.
#[test]
fn a_document_that_cannot_be_written_is_told() {
    for words in [&["man"][..], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(RELINKD).args(words).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("No space left"), "{words:?}: {said}");
        let mut child =
            Command::new(RELINKD).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}

#[test]
fn make_install_puts_both_where_shells_and_man_look() {
    let place = tempfile::tempdir().unwrap();
    let output = Command::new("make")
        .args(["--silent", "install", "PREFIX=/usr", "SYSTEMD_VERSION=252"])
        .arg(format!("DESTDIR={}", place.path().display()))
        .arg(format!("RELINKD={RELINKD}"))
        .current_dir(root())
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let share: PathBuf = place.path().join("usr/share");
    for (path, words) in [
        ("man/man1/relinkd.1", &["man"][..]),
        ("bash-completion/completions/relinkd", &["completions", "bash"]),
        ("zsh/site-functions/_relinkd", &["completions", "zsh"]),
        ("fish/vendor_completions.d/relinkd.fish", &["completions", "fish"]),
    ] {
        let installed = share.join(path);
        assert_eq!(std::fs::read_to_string(&installed).unwrap(), printed(words), "{path}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&installed).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o644, "{path}");
    }
}
