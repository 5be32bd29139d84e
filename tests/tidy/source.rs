//! Source text, with what is not code taken out. Places stay where they are, so that lines can be named.

use std::fs;
use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// From the root of the project, with `/`.
    pub path: String,
    pub text: String,
    /// Comments and the insides of literals are blanks.
    pub code: String,
    /// `code` without what is compiled for tests only.
    pub live: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = blank_literals(text);
        let test_file = path.ends_with("/tests.rs") || path.contains("/tests/");
        let live = if test_file { String::new() } else { blank_tests(&code) };
        Source { path: path.to_owned(), text: text.to_owned(), code, live }
    }

    /// The top-level module that a file of src/ belongs to, and how deep in it the file lies: `watch/log.rs` is 2.
    pub fn module(&self) -> Option<(&str, usize)> {
        let inner = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let name = inner.split('/').next()?;
        (name != "lib" && name != "main").then_some((name, inner.split('/').count()))
    }

    /// Non-blank lines of live code.
    pub fn lines_of_code(&self) -> usize {
        count(&self.live)
    }
}

pub fn count(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        for path in files(&root().join(folder)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folders:?}");
    found
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Identifiers with the place where each begins.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let begin = from + code[from..].find(part)?;
        let end = code[begin..].find(|c| !part(c)).map_or(code.len(), |length| begin + length);
        from = end;
        Some((begin, &code[begin..end]))
    })
}

/// The number of the line that a place is on.
pub fn line(code: &str, place: usize) -> usize {
    code[..place].matches('\n').count() + 1
}

/// Where the block that opens at or after `from` ends: behind its closing brace, or behind a `;` that comes first.
pub fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (place, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return from + place + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + place + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(text: &str, out: &mut String) {
    out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
}

fn blank_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before_is_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, '"'),
            'r' if !before_is_word && raw_string(rest).is_some() => raw_string(rest).unwrap(),
            // A lifetime has no closing quote next to its name.
            '\'' if is_char(rest) => quoted(rest, '\''),
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        blank(&rest[..length], &mut out);
        rest = &rest[length..];
    }
    // A blank for each character keeps lines, not columns; that is enough.
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut place) = (0, 0);
    loop {
        let rest = &text[place..];
        match (rest.starts_with("/*"), rest.starts_with("*/")) {
            (true, _) => depth += 1,
            (_, true) => depth -= 1,
            _ => match rest.chars().next() {
                Some(c) => {
                    place += c.len_utf8();
                    continue;
                }
                None => return text.len(),
            },
        }
        place += 2;
        if depth == 0 {
            return place;
        }
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return place + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let marks = text[1..].chars().take_while(|c| *c == '#').count();
    let inner = text[1 + marks..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(marks));
    Some(inner.find(&close).map_or(text.len(), |place| 2 + marks + place + close.len()))
}

fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

fn blank_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(place) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..place]);
        let end = end_of_item(rest, place);
        blank(&rest[place..end], &mut out);
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn comments_literals_and_tests_are_not_code() {
    let text = "use a::b; // crate::x\n/* { /* nested */ } */ let s = \"crate::y \\\" {\"; let r = r#\"}\"#;\n\
                let c = '{'; fn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::z; }\nfn last() {}\n";
    let source = Source::new("src/watch/log.rs", text);
    assert!(!source.code.contains("crate::x") && !source.code.contains("crate::y"), "{}", source.code);
    assert!(source.code.contains("crate::z") && !source.live.contains("crate::z"));
    assert!(source.live.contains("fn last() {}") && source.live.contains("'a str"));
    assert_eq!(source.code.matches(['{', '}']).count(), 6, "{}", source.code);
    assert_eq!((source.module(), source.lines_of_code()), (Some(("watch", 2)), 4));
    assert_eq!(Source::new("src/wire/tests.rs", "fn f() {}").lines_of_code(), 0);
    assert_eq!(line(&source.text, source.text.find("mod tests").unwrap()), 5);
}
