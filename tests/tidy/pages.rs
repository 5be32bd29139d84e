//! Each code has its page, and each page says what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use relinkd::model::finding::Cause;
use relinkd::model::remedy::{RefusalCode, Remedy};

use super::source::{Source, end_of_item, files, identifiers, root, sources};
use super::{none, seen};

const CAUSE_HEADINGS: &[&str] =
    &["What it means", "How relinkd knows", "What relinkd does", "What to do", "How to prevent it"];

const REMEDY_HEADINGS: &[&str] =
    &["When", "What it does, in order", "Guards", "What is undone", "What is left", "Policy"];

/// Causes that a rule names and no scenario shows yet, each with why.
const WITHOUT_SCENARIO: &[(Cause, &str, &str)] = &[];

/// Each cause was seen on a server of each of these lines.
const LINES: [&str; 3] = ["redis-7", "redis-8", "valkey"];

/// The sentence on the page of a cause that no rule names.
const NOT_NAMED: &str = "This version does not name this cause yet";

/// The sentence on the page of a refusal that is never given.
const RESERVED: &str = "This code is reserved";

type Pages = BTreeMap<String, String>;

fn pages(kind: &str) -> Pages {
    let page = |path: std::path::PathBuf| {
        let code = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (code, fs::read_to_string(&path).unwrap())
    };
    files(&root().join("docs").join(kind)).into_iter().map(page).collect()
}

/// A page for each code and none besides; its title; its headings, in this order.
fn misfits(pages: &Pages, codes: &[(&str, Option<&str>)], headings: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (code, title) in codes {
        let Some(text) = pages.get(*code) else {
            complaints.push(format!("{code}: no page"));
            continue;
        };
        let first = text.lines().next().unwrap_or_default();
        let fits = match title {
            Some(title) => first == format!("# {code}: {title}"),
            None => first.starts_with(&format!("# {code}: ")),
        };
        if !fits {
            complaints.push(format!("{code}: its page begins with {first:?}"));
        }
        let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if !headings.iter().all(|heading| found.contains(heading)) {
            complaints.push(format!("{code}: headings {found:?}, expected {headings:?}"));
        }
    }
    let known: BTreeSet<&str> = codes.iter().map(|(code, _)| *code).collect();
    complaints
        .extend(pages.keys().filter(|code| !known.contains(code.as_str())).map(|c| format!("{c}: page of no code")));
    complaints
}

/// The variants of an enum that live code mentions as `Enum::Variant`.
fn mentioned(sources: &[Source], of: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let words: Vec<_> = identifiers(&source.live).collect();
        for pair in words.windows(2).filter(|pair| pair[0].1 == of) {
            let between = &source.live[pair[0].0 + of.len()..pair[1].0];
            if between == "::" {
                found.insert(pair[1].1.to_owned());
            }
        }
    }
    found
}

/// The causes that a rule can name. `ruled_out` names what does not fit.
fn named(sources: &[Source]) -> Vec<Cause> {
    let rules = sources.iter().filter(|s| s.path.starts_with("src/diagnose/") && !s.path.ends_with("ruled_out.rs"));
    let mut found = BTreeSet::new();
    for rule in rules {
        found.extend(mentioned(std::slice::from_ref(rule), "Cause"));
    }
    Cause::ALL.iter().copied().filter(|cause| found.contains(&format!("{cause:?}"))).collect()
}

fn rows_missing(remedies: &Source) -> Vec<String> {
    let Some(place) = remedies.live.find("fn remedy_for") else { return vec!["no fn remedy_for".to_owned()] };
    let body = &remedies.live[place..end_of_item(&remedies.live, place)];
    let table = Source::new(&remedies.path, body);
    let rows = mentioned(std::slice::from_ref(&table), "Cause");
    let mut complaints: Vec<String> = Cause::ALL
        .iter()
        .filter(|cause| !rows.contains(&format!("{cause:?}")))
        .map(|cause| format!("{cause}: no row in remedy_for"))
        .collect();
    if body.contains("_ =>") {
        complaints.push("remedy_for has a row for all the rest: name each cause".to_owned());
    }
    complaints
}

/// A named cause has a scenario folder with evidence of each line of servers, or a reason.
fn without_scenario(named: &[Cause], shown: &[(String, String)], excused: &[(Cause, &str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (cause, line) in named.iter().flat_map(|cause| LINES.map(|line| (cause, line))) {
        let excuse = excused.iter().find(|(it, its_line, _)| it == cause && *its_line == line);
        let is_shown = shown.iter().any(|(code, name)| code == cause.code() && name.contains(line));
        match (is_shown, excuse) {
            (false, None) => complaints.push(format!("{cause}: no scenario of {line} in tests/scenarios/{cause}/")),
            (true, Some(_)) => {
                complaints.push(format!("{cause}: has a scenario of {line}, and needs no excuse any more"))
            }
            _ => {}
        }
    }
    complaints
}

/// The cause and the name of each scenario.
fn scenarios() -> Vec<(String, String)> {
    let folder = root().join("tests/scenarios");
    let evidence = files(&folder).into_iter().filter(|path| path.ends_with("evidence.json"));
    let place = |path: std::path::PathBuf| {
        let mut parts = path.strip_prefix(&folder).ok()?.iter().map(|part| part.to_string_lossy().into_owned());
        Some((parts.next()?, parts.next()?))
    };
    evidence.filter_map(place).collect()
}

#[test]
fn every_code_has_its_page() {
    let causes: Vec<_> = Cause::ALL.iter().map(|cause| (cause.code(), Some(cause.title()))).collect();
    let remedies: Vec<_> = Remedy::ALL.iter().map(|remedy| (remedy.code(), None)).collect();
    let refusals: Vec<_> = RefusalCode::ALL.iter().map(|refusal| (refusal.code(), None)).collect();
    none(misfits(&pages("causes"), &causes, CAUSE_HEADINGS));
    none(misfits(&pages("remedies"), &remedies, REMEDY_HEADINGS));
    none(misfits(&pages("refusals"), &refusals, &[]));

    let plant = |code: &str, text: &str| Pages::from([(code.to_owned(), text.to_owned())]);
    let codes = [("unknown", Some("not known"))];
    seen(&misfits(&Pages::new(), &codes, &[]), "unknown: no page");
    seen(&misfits(&plant("unknown", "# unknown: something else\n"), &codes, &[]), "begins with");
    seen(&misfits(&plant("unknown", "# unknown: not known\n## When\n"), &codes, &["When", "Policy"]), "headings");
    seen(&misfits(&plant("stray", ""), &[], &[]), "stray: page of no code");
}

#[test]
fn every_cause_has_a_row_in_the_table_of_remedies() {
    let all = sources(&["src/decide"]);
    let remedies = all.iter().find(|source| source.path == "src/decide/remedies.rs").unwrap();
    none(rows_missing(remedies));
    let plant = Source::new("src/decide/remedies.rs", "fn remedy_for() { match x { Cause::Unknown => 1, _ => 2 } }");
    seen(&rows_missing(&plant), "auth-missing: no row");
    seen(&rows_missing(&plant), "a row for all the rest");
}

#[test]
fn every_cause_that_a_rule_names_has_a_scenario() {
    let (named, shown) = (named(&sources(&["src"])), scenarios());
    assert!(named.contains(&Cause::AuthRejected) && named.contains(&Cause::Unknown), "{named:?}");
    for (cause, _, why) in WITHOUT_SCENARIO {
        assert!(named.contains(cause) && !why.is_empty(), "{cause} is excused and not named by any rule");
    }
    let complaints = without_scenario(&named, &shown, WITHOUT_SCENARIO);
    if root().join("tests/scenarios").is_dir() {
        none(complaints);
    } else {
        println!("{}", complaints.join("\n"));
    }
    let shown =
        ["redis-7.0", "a-way-redis-8.2", "valkey-9.1"].map(|name| ("auth-rejected".to_owned(), name.to_owned()));
    seen(&without_scenario(&[Cause::AuthMissing], &shown, &[]), "auth-missing: no scenario of redis-7");
    seen(&without_scenario(&[Cause::AuthRejected], &shown[..1], &[]), "auth-rejected: no scenario of redis-8");
    none(without_scenario(&[Cause::AuthRejected], &shown, &[]));
    let excused = [(Cause::AuthRejected, "valkey", "later")];
    seen(&without_scenario(&[Cause::AuthRejected], &shown, &excused), "needs no excuse");
}

#[test]
fn pages_say_what_is_not_there_yet() {
    let all = sources(&["src"]);
    let (named, causes, refusals) = (named(&all), pages("causes"), pages("refusals"));
    for cause in Cause::ALL.iter().filter(|cause| **cause != Cause::Unknown) {
        let says_not = causes[cause.code()].contains(NOT_NAMED);
        assert_eq!(
            says_not,
            !named.contains(cause),
            "docs/causes/{cause}.md: {NOT_NAMED:?}, but not true of the rules"
        );
    }
    // Where a refusal is made; `model` declares them, `notify` puts them in words.
    let (makers, _): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|s| ["decide", "agent", "rotate"].contains(&s.module().map_or("", |(module, _)| module)));
    let given = mentioned(&makers, "RefusalCode");
    for code in RefusalCode::ALL {
        let reserved = refusals[code.code()].contains(RESERVED);
        let given = given.contains(&format!("{code:?}"));
        assert_eq!(reserved, !given, "docs/refusals/{code}.md: {RESERVED:?}, but not true of decide, agent and rotate");
    }
}

/// Lines that would send nothing as a password where PWFILE is missing or empty: a server takes that, and answers `OK`.
fn unguarded(name: &str, text: &str) -> Vec<String> {
    let pieces = |line: &str| line.split("grep -q . PWFILE && ").map(str::to_owned).collect::<Vec<_>>();
    let bare = |line: &&str| match pieces(line).split_first() {
        Some((before, behind)) => {
            before.contains("cat PWFILE") || behind.iter().any(|piece| piece.matches("cat PWFILE").count() > 1)
        }
        None => false,
    };
    text.lines().filter(bare).map(|line| format!("{name}: unguarded: {line}")).collect()
}

#[test]
fn no_page_and_no_next_step_sends_a_password_file_that_is_not_there() {
    let mut complaints = Vec::new();
    let mut read = 0;
    let here = |folder: &str| files(&root().join(folder));
    let shown = here("docs").into_iter().chain(here("tests/scenarios")).chain([root().join("README.md")]);
    for path in shown.filter(|path| path.extension().is_some_and(|end| end == "md" || end == "txt")) {
        let text = fs::read_to_string(&path).unwrap();
        read += text.matches("cat PWFILE").count();
        complaints.extend(unguarded(&path.display().to_string(), &text));
    }
    assert!(read > 20, "{read} lines: the pages are not read");
    none(complaints);
    for line in ["printf %s \"$(cat PWFILE)\" | redis-cli -x", "cat PWFILE; grep -q . PWFILE && cat PWFILE"] {
        seen(&unguarded("planted", line), "planted: unguarded");
    }
    none(unguarded("planted", "    grep -q . PWFILE && printf %s \"$(cat PWFILE)\" | redis-cli -x"));

    // One place makes them.
    let all = sources(&["src/decide", "src/model", "src/agent", "src/notify", "src/cli", "src/audit"]);
    let makes = |s: &&Source| s.text.contains("cat PWFILE") && !s.path.contains("tests");
    let makers: Vec<_> = all.iter().filter(makes).map(|s| s.path.as_str()).collect();
    assert_eq!(makers, ["src/model/shell.rs"]);
}
