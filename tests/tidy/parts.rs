//! The parts that the project is put together from: dependencies with a reason, keys with a manual.

use std::fs;

use relinkd::config::TABLES;

use super::source::{Source, root, sources};
use super::{none, seen};

/// Names below `[dependencies]` and `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = false;
    for line in manifest.lines() {
        match line.strip_prefix('[') {
            Some(head) => within = matches!(head, "dependencies]" | "dev-dependencies]"),
            None if within => {
                found.extend(line.split(['=', '.', ' ']).next().filter(|name| !name.is_empty()).map(str::to_owned))
            }
            None => {}
        }
    }
    found
}

fn without_reason(dependencies: &[String], contributing: &str) -> Vec<String> {
    let row = |name: &str| contributing.lines().any(|line| line.starts_with(&format!("| `{name}` |")));
    dependencies.iter().filter(|name| !row(name)).map(|name| format!("{name}: no row in CONTRIBUTING.md")).collect()
}

/// Rows of the table for what is no dependency.
fn stale_reasons(dependencies: &[String], contributing: &str) -> Vec<String> {
    let table = contributing.split_once("## Dependencies").map_or("", |(_, rest)| rest);
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.filter(|name| !dependencies.iter().any(|it| it == name))
        .map(|name| format!("{name}: a row for nothing"))
        .collect()
}

fn unused(dependencies: &[String], sources: &[Source]) -> Vec<String> {
    let used = |name: &str| {
        let word = name.replace('-', "_");
        let import = format!("{word}::");
        sources.iter().any(|source| source.code.contains(&import) || source.code.contains(&format!("use {word}")))
    };
    dependencies.iter().filter(|name| !used(name)).map(|name| format!("{name}: nothing uses it")).collect()
}

/// Keys that the example does not show in the section where they belong.
fn unexplained(tables: &[(&str, &[&str])], example: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, keys) in tables {
        let head = path.split(" (").next().unwrap_or_default();
        let text: String = match head {
            "" | "secret reference" => example.to_owned(),
            // One table, explained where it comes first.
            head if head.ends_with(".tls") => example.to_owned(),
            head => section(example, head),
        };
        for key in *keys {
            let shown = match head {
                "" => text.lines().any(|line| uncommented(line).starts_with(&format!("[{key}"))),
                "secret reference" => text.contains(&format!("{{ {key} = ")),
                _ => {
                    text.contains(&format!("#{key} = "))
                        || text.contains(&format!(" {key} = "))
                        || text.contains(&format!("\n{key} = "))
                        || text.contains(&format!("[{head}.{key}]"))
                }
            };
            if !shown {
                complaints.push(format!("[{path}] {key}: not in config.example.toml"));
            }
        }
    }
    complaints
}

/// The sections with this head, `group.NAME.tls` being part of `group.NAME`.
fn section(example: &str, head: &str) -> String {
    let mut words = head.split('.');
    let first = words.next().unwrap_or_default();
    let opening = match (first, words.next()) {
        ("store", None) => "[store.".to_owned(),
        ("policy", Some(remedy)) => format!("[policy.{remedy}]"),
        (first, None) => format!("[{first}]"),
        (first, Some(_)) => format!("[{first}."),
    };
    let mut text = String::from("\n");
    let mut within = false;
    for line in example.lines() {
        if uncommented(line).starts_with('[') {
            within = uncommented(line).starts_with(&opening);
        }
        if within {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The head of a section may itself be an example.
fn uncommented(line: &str) -> &str {
    line.strip_prefix("# ").filter(|rest| rest.starts_with('[')).unwrap_or(line)
}

#[test]
fn every_direct_dependency_has_a_reason_and_a_use() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let mut all = dependencies(&read("Cargo.toml"));
    all.extend(dependencies(&read("lab/Cargo.toml")));
    all.sort();
    all.dedup();
    assert!(all.len() > 20 && all.iter().any(|name| name == "rusqlite"), "{all:?}");
    let contributing = read("CONTRIBUTING.md");
    none(without_reason(&all, &contributing));
    none(stale_reasons(&all, &contributing));
    none(unused(&all, &sources(&["src", "lab/src", "tests"])));

    let planted = dependencies("[package]\nname = \"x\"\n[dependencies]\nleft-pad = \"1\"\nserde.workspace = true\n");
    assert_eq!(planted, ["left-pad", "serde"]);
    seen(&without_reason(&planted, "| `serde` | to keep |"), "left-pad: no row");
    seen(&stale_reasons(&planted, "## Dependencies\n| `toml` | to read |"), "toml: a row for nothing");
    seen(
        &unused(&planted, &[Source::new("src/act.rs", "// left_pad::pad\nuse serde::Serialize;")]),
        "left-pad: nothing",
    );
}

#[test]
fn every_key_stands_in_the_example() {
    none(unexplained(TABLES, &fs::read_to_string(root().join("config.example.toml")).unwrap()));
    let planted = "[agent]\n#host = \"a\"\n[policy]\n#mode = \"auto\"\n[policy.repoint]\n";
    seen(&unexplained(&[("agent", &["mode"])], planted), "[agent] mode");
    seen(&unexplained(&[("policy.repoint", &["mode"])], planted), "[policy.repoint] mode");
    none(unexplained(&[("agent", &["host"]), ("policy", &["mode"]), ("", &["agent"])], planted));
}
