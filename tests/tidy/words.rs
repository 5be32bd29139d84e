//! How long, how named, how finished.

use super::source::{Source, count, end_of_item, files, identifiers, line, root, sources};
use super::{none, seen};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager"];

fn too_long(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines = source.lines_of_code();
        if lines > FILE_LINES {
            complaints.push(format!("{}: {lines} lines of code, {FILE_LINES} are allowed: split it", source.path));
        }
        for (place, name) in functions(&source.live) {
            let lines = count(&source.live[place..end_of_item(&source.live, place)]);
            if lines > FUNCTION_LINES {
                let at = line(&source.live, place);
                complaints
                    .push(format!("{}:{at}: fn {name}: {lines} lines, {FUNCTION_LINES} are allowed", source.path));
            }
        }
    }
    complaints
}

fn functions(code: &str) -> Vec<(usize, &str)> {
    let words: Vec<_> = identifiers(code).collect();
    words.windows(2).filter(|pair| pair[0].1 == "fn").map(|pair| pair[1]).collect()
}

/// Names that are given here, and not by a library.
fn declared(code: &str) -> Vec<(usize, &str)> {
    let givers = ["fn", "struct", "enum", "trait", "type", "mod", "const", "static", "let"];
    let words: Vec<_> = identifiers(code).collect();
    words.windows(2).filter(|pair| givers.contains(&pair[0].1)).map(|pair| pair[1]).collect()
}

/// The parts of a name: `log_manager` and `LogManager` have the same two.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    parts
}

fn badly_named(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (place, name) in declared(&source.code) {
            if parts(name).iter().any(|part| EMPTY_NAMES.contains(&part.as_str())) {
                let at = line(&source.code, place);
                complaints.push(format!("{}:{at}: {name}: the name says nothing of what is inside", source.path));
            }
        }
        if source.path.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)) {
            complaints.push(format!("{}: the name says nothing of what is inside", source.path));
        }
        for (place, name) in functions(&source.code).into_iter().filter(|(_, name)| name.starts_with("get_")) {
            let at = line(&source.code, place);
            complaints.push(format!("{}:{at}: fn {name}: a getter goes by the name of what it gives", source.path));
        }
    }
    complaints
}

/// What is left for later. Ignored tests are children that another test starts, and say which.
fn unfinished(sources: &[Source]) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut complaints = Vec::new();
    for source in sources {
        for (number, text) in source.text.lines().enumerate() {
            let at = format!("{}:{}", source.path, number + 1);
            if let Some(mark) = marks.iter().find(|mark| identifiers(text).any(|(_, word)| word == **mark)) {
                complaints.push(format!("{at}: {mark}: do it, or open an issue"));
            }
        }
        for (place, word) in identifiers(&source.code) {
            if !["todo", "unimplemented", "dbg", "ignore"].contains(&word) {
                continue;
            }
            let rest = &source.code[place + word.len()..];
            let at = line(&source.code, place);
            if word != "ignore" && rest.starts_with('!') {
                complaints.push(format!("{}:{at}: {word}! is left in", source.path));
            }
            let attribute = source.code[..place].ends_with("#[");
            let reason = source.text.lines().nth(at - 1).is_some_and(|line| line.contains(r#"#[ignore = "run by "#));
            if word == "ignore" && attribute && !reason {
                complaints.push(format!("{}:{at}: an ignored test that no other test runs", source.path));
            }
        }
    }
    complaints
}

/// The daemon's words go to its log, a verb's through `cli::say`; nothing else prints.
fn printing(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let verb = source.module().is_some_and(|(module, _)| module == "cli");
        for (place, word) in identifiers(&source.live) {
            // Colours are taken out by anstream; std's own macros end the process when a reader has gone away.
            if verb && source.live[..place].ends_with("anstream::") {
                continue;
            }
            let macro_call = source.live[place + word.len()..].starts_with('!');
            if matches!(word, "println" | "eprintln" | "print" | "eprint") && macro_call {
                complaints.push(format!("{}:{}: {word}!", source.path, line(&source.live, place)));
            }
        }
    }
    complaints
}

fn undocumented(sources: &[Source]) -> Vec<String> {
    let bare = |source: &&Source| {
        let first = source.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|text| text.trim().len() < 8)
    };
    let inner = |source: &&Source| !source.path.ends_with("tests.rs");
    sources.iter().filter(inner).filter(bare).map(|s| format!("{}: does not open with what it is", s.path)).collect()
}

fn machine_paths(texts: &[(String, String)]) -> Vec<String> {
    let homes = ["/home/", "/root/", "/Users/"];
    let mut complaints = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                complaints.push(format!("{path}:{}: a path of somebody's machine", number + 1));
            }
        }
    }
    complaints
}

/// Everything that people read or run, but for this program, which has to name what it looks for.
fn texts() -> Vec<(String, String)> {
    let folders = ["src", "lab", "tests", "docs", "scripts", "systemd", ".ci", ".config"];
    let mut paths: Vec<_> = folders.iter().flat_map(|folder| files(&root().join(folder))).collect();
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.is_file()));
    let named = paths.into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path.strip_prefix(root()).unwrap().to_str()?.to_owned(), text))
    });
    named.filter(|(path, _)| !path.starts_with("tests/tidy") && path != ".git").collect()
}

const OURS: &[&str] = &["src", "lab", "tests"];

#[test]
fn files_and_functions_keep_to_their_budget() {
    none(too_long(&sources(&["src", "lab/src"])));
    let function = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES));
    seen(&too_long(&[Source::new("src/act.rs", &function)]), "src/act.rs:1: fn long: 72 lines");
    let file = "static A: u8 = 0;\n".repeat(FILE_LINES);
    none(too_long(&[Source::new("src/act.rs", &format!("{file}// not code\n\n"))]));
    seen(&too_long(&[Source::new("src/act.rs", &format!("{file}static B: u8 = 0;\n"))]), "401 lines of code");
}

#[test]
fn names_say_what_is_inside() {
    none(badly_named(&sources(OURS)));
    let plant = |path, text| badly_named(&[Source::new(path, text)]);
    seen(&plant("src/act.rs", "struct LinkManager;"), "LinkManager");
    seen(&plant("src/act.rs", "mod wire_utils;"), "wire_utils");
    seen(&plant("src/act/helpers.rs", ""), "src/act/helpers.rs");
    seen(&plant("src/act.rs", "\nfn get_link() {}"), "src/act.rs:2: fn get_link");
    none(plant("src/act.rs", "// a config manager's mark\nfn target() {}"));
}

#[test]
fn nothing_is_left_for_later() {
    none(unfinished(&sources(OURS)));
    let plant = |text: &str| unfinished(&[Source::new("src/act.rs", text)]);
    seen(&plant(concat!("// TO", "DO: later")), "do it, or open an issue");
    seen(&plant(concat!("fn f() { un", "implemented!() }")), "is left in");
    seen(&plant(concat!("#[ig", "nore]\n#[test]\nfn f() {}")), "an ignored test");
    none(plant(concat!("#[ig", "nore = \"run by another\"]\n#[test]\nfn f() {}")));
}

#[test]
fn only_the_command_line_prints() {
    none(printing(&sources(&["src"])));
    for path in ["src/model.rs", "src/cli/heal.rs"] {
        seen(&printing(&[Source::new(path, "fn f() { println!(\"x\") }")]), "1: println!");
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    none(undocumented(&sources(&["src", "lab/src"])));
    seen(&undocumented(&[Source::new("src/act.rs", "//! x\nuse y;")]), "src/act.rs");
}

#[test]
fn no_path_of_a_machine_is_in_the_project() {
    none(machine_paths(&texts()));
    seen(&machine_paths(&[("README.md".to_owned(), "\ncd /home/me/relinkd".to_owned())]), "README.md:2");
}
