//! Who may import whom, and where a thing may be done: the table of src/lib.rs.

use super::source::{Source, end_of_item, identifiers, line, sources};
use super::{none, seen};

/// What each module may import of ours. `src/lib.rs` says the same to people.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("diagnose", &["model"]),
    ("decide", &["model", "diagnose"]),
    ("audit", &["model"]),
    ("rotate", &["model"]),
    ("agent", &["model", "diagnose", "decide"]),
    ("secrets", &["model"]),
    ("wire", &["model", "secrets"]),
    ("watch", &["model", "wire", "secrets"]),
    ("collect", &["model", "wire", "secrets"]),
    ("act", &["model", "wire", "secrets"]),
    ("ledger", &["model"]),
    ("notify", &["model", "secrets"]),
    ("control", &["model"]),
    // The settings type that each module owns.
    ("config", &["model", "decide", "secrets", "wire", "watch", "notify"]),
    (
        "daemon",
        &[
            "model", "diagnose", "decide", "agent", "secrets", "wire", "watch", "collect", "act", "ledger", "notify",
            "control", "config",
        ],
    ),
    (
        "cli",
        &[
            "audit", "rotate", "model", "diagnose", "decide", "agent", "secrets", "wire", "watch", "collect", "act",
            "ledger", "notify", "control", "config", "daemon",
        ],
    ),
];

/// Modules without clock, environment, files, sockets and spawning: clippy holds them to it, once asked.
const PURE: &[&str] = &[
    "src/model.rs",
    "src/diagnose.rs",
    "src/decide.rs",
    "src/audit.rs",
    "src/rotate.rs",
    "src/agent.rs",
    "src/wire/reply.rs",
    "src/wire/resp.rs",
    "src/notify/render.rs",
];

const DENY: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

/// Where something is started that runs beside its caller, and which file outside `daemon` may do it.
const STARTS: &[(&str, &[&str])] = &[
    ("tokio::spawn", &[]),
    ("task::spawn", &[]),
    ("spawn_blocking", &[]),
    ("spawn_local", &[]),
    ("JoinSet", &[]),
    ("thread::spawn", &[]),
    ("thread::scope", &[]),
    // statvfs on a dead mount never comes back: the thread is left to itself, with a bound on how many.
    ("thread::Builder", &["src/collect/host.rs"]),
];

/// Names behind `crate::`, or behind enough `super::` to reach the root, each with its place.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let Some((_, depth)) = source.module() else { return Vec::new() };
    let code = &source.live;
    let mut roots: Vec<usize> = code.match_indices("crate::").map(|(place, word)| place + word.len()).collect();
    let chain = "super::".repeat(depth);
    roots.extend(code.match_indices(&chain).map(|(place, word)| place + word.len()));
    let mut found = Vec::new();
    for root in roots {
        if code[root..].starts_with('{') {
            found.extend(heads(code, root));
        } else if let Some((at, name)) = identifiers(&code[root..]).next().filter(|(at, _)| *at == 0) {
            found.push((root + at, name.to_owned()));
        }
    }
    found
}

/// The first name of each branch of `{a::x, b, c::{d, e}}`.
fn heads(code: &str, open: usize) -> Vec<(usize, String)> {
    let group = &code[open..end_of_item(code, open)];
    let (mut depth, mut fresh, mut found) = (0, true, Vec::new());
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if depth == 1 && fresh && (c.is_alphanumeric() || c == '_') => {
                fresh = false;
                let name = identifiers(&group[place..]).next().map(|(_, name)| name.to_owned());
                found.extend(name.map(|name| (open + place, name)));
            }
            _ => {}
        }
    }
    found
}

fn forbidden_imports(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let Some((module, _)) = source.module() else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("{}: module {module} is not in the table of src/lib.rs", source.path));
            continue;
        };
        for (place, name) in imports(source) {
            let ours = MAY_IMPORT.iter().any(|(module, _)| *module == name);
            if ours && name != module && !allowed.contains(&name.as_str()) {
                let line = line(&source.live, place);
                complaints.push(format!("{}:{line}: {module} may not import {name}", source.path));
            }
        }
    }
    complaints
}

fn writers(sources: &[Source]) -> Vec<String> {
    let home = ["src/wire.rs", "src/wire/writer.rs"];
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !home.contains(&source.path.as_str())) {
        if source.module().is_some_and(|(module, _)| module == "act") {
            continue;
        }
        if let Some((place, _)) = identifiers(&source.live).find(|(_, word)| *word == "Writer") {
            let line = line(&source.live, place);
            complaints.push(format!("{}:{line}: only act may hold a wire::Writer", source.path));
        }
    }
    complaints
}

fn starts(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_none_or(|(module, _)| module != "daemon")) {
        for (what, allowed) in STARTS {
            if let Some(place) = source.live.find(what).filter(|_| !allowed.contains(&source.path.as_str())) {
                let line = line(&source.live, place);
                complaints.push(format!("{}:{line}: {what}: only daemon starts tasks", source.path));
            }
        }
    }
    complaints
}

fn impure(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in PURE {
        match sources.iter().find(|source| source.path == *path) {
            None => complaints.push(format!("{path}: a pure module that is not there")),
            Some(source) if !source.code.contains(DENY) => {
                complaints.push(format!("{path}: a pure module opens with {DENY}"));
            }
            Some(_) => {}
        }
    }
    complaints
}

#[test]
fn modules_import_only_what_the_table_allows() {
    none(forbidden_imports(&sources(&["src"])));
    let plant = |path, text| forbidden_imports(&[Source::new(path, text)]);
    seen(&plant("src/collect/host.rs", "use crate::act::Hands;\n"), "host.rs:1: collect may not import act");
    seen(&plant("src/watch.rs", "use crate::{model::Fact, ledger};\n"), "watch may not import ledger");
    seen(&plant("src/watch/log.rs", "fn f() { super::super::collect::look(); }\n"), "watch may not import collect");
    seen(&plant("src/model.rs", "\n\nuse crate::wire::Dial;\n"), "model.rs:3: model may not import wire");
    seen(&plant("src/newcomer.rs", ""), "newcomer is not in the table");
    none(plant("src/watch/log.rs", "use super::knock;\n#[cfg(test)]\nmod tests { use crate::act::Hands; }\n"));
}

#[test]
fn the_table_says_the_same_to_people() {
    let lib = std::fs::read_to_string(super::source::root().join("src/lib.rs")).unwrap();
    for (module, _) in MAY_IMPORT {
        assert!(lib.contains(&format!("pub mod {module};")), "src/lib.rs has no module {module}");
        let row = lib.lines().find(|line| line.starts_with("//! |") && line.contains(&format!("`{module}`")));
        assert!(row.is_some(), "src/lib.rs has no row for {module}");
    }
    let modules = lib.lines().filter(|line| line.starts_with("pub mod ")).count();
    assert_eq!(modules, MAY_IMPORT.len(), "a module of src/lib.rs is missing in MAY_IMPORT");
}

#[test]
fn only_act_writes_to_servers() {
    none(writers(&sources(&["src"])));
    let plant = |path| writers(&[Source::new(path, "use crate::wire::Writer;\n")]);
    seen(&plant("src/collect/local.rs"), "only act");
    none(plant("src/act/local.rs"));
}

#[test]
fn only_the_daemon_starts_tasks() {
    none(starts(&sources(&["src"])));
    for text in
        ["tokio::spawn(x)", "tokio::task::spawn_blocking(f)", "let set = JoinSet::new();", "std::thread::spawn(f)"]
    {
        seen(&starts(&[Source::new("src/notify.rs", text)]), "only daemon starts tasks");
        none(starts(&[Source::new("src/daemon/effects.rs", text)]));
    }
    seen(&starts(&[Source::new("src/act.rs", "thread::Builder::new()")]), "thread::Builder");
}

#[test]
fn pure_modules_ask_clippy_to_keep_them_pure() {
    none(impure(&sources(&["src"])));
    seen(&impure(&[Source::new("src/agent.rs", &format!("// {DENY}\n"))]), "src/agent.rs: a pure module opens with");
    seen(&impure(&[]), "src/model.rs: a pure module that is not there");
}
