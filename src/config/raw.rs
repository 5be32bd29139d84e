//! The first stage: the TOML as written, merged over all files, each value with its place. What the keys mean is not
//! known here. Values have no `Debug`, for they may be secrets that were written by mistake.
//!
//! A syntax error is told by `message` and `span` alone: the `Display` of `toml::de::Error` prints the source line.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Report};

/// A value and where its key stands.
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

pub(super) enum Value {
    Text(String),
    /// None when it does not fit.
    Integer(Option<i64>),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// Floats and dates: nothing in this configuration is one.
    Other(&'static str),
}

pub(super) type Table = BTreeMap<String, Node>;

impl Value {
    /// With its article, for "must be a string, not ...".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

/// Sections lie at most this deep: `[replica.cache]`. A later file adds to a section; below, it replaces.
const SECTION_DEPTH: usize = 2;

/// Reads all files into one tree. A file with a syntax error is left out of it, with all of its errors reported.
pub(super) fn read(files: &[(PathBuf, String)], report: &mut Report) -> Table {
    let mut merged = Table::new();
    for (path, text) in files {
        let file = report.file(path);
        let source = Source {
            file,
            newlines: text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            merge(&mut merged, source.table(root.get_ref()), SECTION_DEPTH);
            continue;
        }
        report.incomplete = true;
        // By line: one slip makes the parser stumble over the rest of its line.
        let mut slips: BTreeMap<Place, &str> = BTreeMap::new();
        for error in &errors {
            slips.entry(source.place(error.span().map_or(0, |span| span.start))).or_insert(error.message());
        }
        let mut then = "; the rest of this file is checked once it parses";
        for (place, message) in slips {
            report.add(place, None, format!("not valid TOML: {message}{then}"));
            then = "";
        }
    }
    merged
}

fn merge(into: &mut Table, from: Table, depth: usize) {
    for (key, node) in from {
        match into.entry(key) {
            Entry::Vacant(free) => {
                free.insert(node);
            }
            Entry::Occupied(mut taken) => match (&mut taken.get_mut().value, node) {
                (Value::Table(old), Node { value: Value::Table(new), .. }) if depth > 0 => merge(old, new, depth - 1),
                (_, node) => {
                    taken.insert(node);
                }
            },
        }
    }
}

struct Source {
    file: usize,
    newlines: Vec<usize>,
}

impl Source {
    fn place(&self, offset: usize) -> Place {
        Place { file: self.file, line: self.newlines.partition_point(|newline| *newline < offset) + 1 }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.get_ref().to_string(), Node { place, value: self.value(value.get_ref()) })
            })
            .collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Boolean(it) => Value::Bool(*it),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.item(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::Float(_) => Value::Other("a decimal number"),
            DeValue::Datetime(_) => Value::Other("a date"),
        }
    }

    fn item(&self, item: &Spanned<DeValue<'_>>) -> Node {
        Node { place: self.place(item.span().start), value: self.value(item.get_ref()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(texts: &[&str]) -> (Table, Report) {
        let files: Vec<_> =
            texts.iter().enumerate().map(|(n, text)| (format!("{n}").into(), (*text).to_owned())).collect();
        let mut report = Report::default();
        let table = read(&files, &mut report);
        (table, report)
    }

    /// `key@file:line=value` of every leaf.
    fn leaves(table: &Table, path: &str, out: &mut Vec<String>) {
        for (key, node) in table {
            let at = format!("{path}{key}");
            let place = format!("{}:{}", node.place.file, node.place.line);
            match &node.value {
                Value::Table(inner) => leaves(inner, &format!("{at}."), out),
                Value::Text(text) => out.push(format!("{at}@{place}={text}")),
                other => out.push(format!("{at}@{place}={}", other.kind())),
            }
        }
    }

    #[test]
    fn a_later_file_adds_to_sections_and_replaces_single_keys() {
        let (table, report) = read_all(&[
            "[group.a]\nx = 'old'\ny = 'kept'\nref = { file = 'f', also = 'g' }\n",
            "\n[group.a]\nx = 'new'\nref = { env = 'E' }\n[group.b]\nz = [\n 1 ]\n",
        ]);
        assert!(report.is_clean());
        let mut seen = Vec::new();
        leaves(&table, "", &mut seen);
        let expected = ["group.a.ref.env@1:4=E", "group.a.x@1:3=new", "group.a.y@0:3=kept", "group.b.z@1:6=a list"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn syntax_errors_of_all_files_are_told_by_line_and_without_the_line() {
        let (table, report) = read_all(&["a = 'canary\n[x]\nb = canary\n", "fine = 1\n", "\n\n= canary"]);
        assert!(report.incomplete && table.contains_key("fine") && !table.contains_key("x"));
        let problems = report.into_problems();
        let said = problems.to_string();
        assert!(!said.contains("canary"), "{said}");
        let places: Vec<_> = problems.iter().map(|p| (p.file.to_str().unwrap(), p.line)).collect();
        assert_eq!(places, [("0", Some(1)), ("0", Some(3)), ("2", Some(3))], "{said}");
    }
}
