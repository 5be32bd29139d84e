//! One table of the raw tree, read key by key into typed values. Each reader answers `None` for a key that is absent
//! and for one that is wrong; the wrong one has been reported. No report quotes the value.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{STORES, nearest};
use super::problem::{Here, Place, Report};
use super::raw::{Node, Table, Value};
use super::values;
use crate::secrets::{AwsPlace, AwsRef, SecretRef, VaultPlace, VaultRef};

pub(super) struct Section<'a> {
    /// As in `replica.cache`; empty for the root.
    pub path: String,
    pub place: Place,
    table: &'a Table,
}

/// Reads the text of a value; the error ends the sentence "must be ...".
type Parse<'p, T> = &'p dyn Fn(&str) -> Result<T, String>;

impl<'a> Section<'a> {
    pub fn root(table: &'a Table) -> Self {
        Section { path: String::new(), place: Place { file: 0, line: 0 }, table }
    }

    /// A node as a section, with every unknown key reported.
    pub fn open(path: String, node: &'a Node, known: &[&str], report: &mut Report) -> Option<Self> {
        let section = Section::open_unchecked(path, node, report)?;
        section.refuse_unknown("key", known, report);
        Some(section)
    }

    pub fn open_unchecked(path: String, node: &'a Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Table(table) => Some(Section { path, place: node.place, table }),
            other => {
                let text = format!("must be a table, as in [{path}], not {}", other.kind());
                report.add(node.place, Some(&path), text);
                None
            }
        }
    }

    pub fn refuse_unknown(&self, what: &str, known: &[&str], report: &mut Report) {
        for (key, node) in self.table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.refuse_one(key, node, what, known, report);
        }
    }

    pub fn refuse_one(&self, key: &str, node: &Node, what: &str, known: &[&str], report: &mut Report) {
        let text = format!("unknown {what}{}", nearest(key, known));
        report.add(node.place, Some(&self.path_of(&shown(key))), text);
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.table.iter().map(|(key, node)| (key.as_str(), node))
    }

    pub fn node(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Says that a key has to be there; `example` shows how.
    pub fn require(&self, key: &str, example: &str, report: &mut Report) {
        if !self.has(key) {
            report.add_absent(self.place, Some(&self.path_of(key)), format!("is missing; add {key} = {example}"));
        }
    }

    /// Says that `key` does nothing without `other`.
    pub fn needs(&self, key: &str, other: &str, report: &mut Report) {
        if let Some(node) = self.node(key)
            && !self.has(other)
        {
            report.add_absent(
                node.place,
                Some(&self.path_of(key)),
                format!("does nothing without {other}; add {other}"),
            );
        }
    }

    pub fn parsed<T>(&self, key: &str, expected: &str, parse: Parse<'_, T>, report: &mut Report) -> Option<T> {
        let node = self.node(key)?;
        let wrong = match &node.value {
            Value::Text(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(wrong) => wrong,
            },
            other => format!("{expected}, not {}", other.kind()),
        };
        report.add(node.place, Some(&self.path_of(key)), format!("must be {wrong}"));
        None
    }

    /// A list with at least one item, each with its place.
    pub fn list<T>(&self, key: &str, items_are: &str, parse: Parse<'_, T>, report: &mut Report) -> Vec<(T, Place)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let path = self.path_of(key);
        let items = match &node.value {
            Value::List(items) if !items.is_empty() => items,
            value => {
                let found = if matches!(value, Value::List(_)) { "an empty one" } else { value.kind() };
                report.add(node.place, Some(&path), format!("must be a list of {items_are}, not {found}"));
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for (number, item) in (1..).zip(items) {
            let read = if let Value::Text(text) = &item.value { parse(text).ok() } else { None };
            match read {
                Some(value) => out.push((value, item.place)),
                None => {
                    report.add(item.place, Some(&path), format!("must be a list of {items_are}; item {number} is none"))
                }
            }
        }
        out
    }

    /// A word without spaces, such as a user or a host name.
    pub fn word(&self, key: &str, report: &mut Report) -> Option<String> {
        let expected = "one word, in quotes, without spaces";
        let parse = |text: &str| {
            let fits = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
            if fits { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
        };
        self.parsed(key, expected, &parse, report)
    }

    pub fn absolute_path(&self, key: &str, report: &mut Report) -> Option<PathBuf> {
        self.parsed(key, ABSOLUTE_PATH, &absolute_path, report)
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", quoted(&words));
        let parse = |text: &str| match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => Err(format!("{expected}{}", guess(text, &words))),
        };
        self.parsed(key, &expected, &parse, report)
    }

    pub fn duration(&self, key: &str, bounds: RangeInclusive<Duration>, report: &mut Report) -> Option<Duration> {
        let spell = values::spell_duration;
        let expected = "a duration in quotes, with its unit, as in \"250ms\", \"1m 30s\" or \"2h\"";
        let parse = |text: &str| match values::duration(text) {
            Some(span) if bounds.contains(&span) => Ok(span),
            Some(_) => Err(format!("between \"{}\" and \"{}\"", spell(*bounds.start()), spell(*bounds.end()))),
            None => Err(expected.to_owned()),
        };
        self.parsed(key, expected, &parse, report)
    }

    /// A size in quotes, or a plain number of bytes.
    pub fn size(&self, key: &str, bounds: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let node = self.node(key)?;
        let expected = "a size, as in \"64MiB\", \"1GB\" or a whole number of bytes";
        let bytes = match &node.value {
            Value::Text(text) => values::size(text).ok_or_else(|| expected.to_owned()),
            Value::Integer(number) => number.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| expected.to_owned()),
            other => Err(format!("{expected}, not {}", other.kind())),
        };
        let spell = values::spell_size;
        let wrong = match bytes {
            Ok(bytes) if bounds.contains(&bytes) => return Some(bytes),
            Ok(_) => format!("between \"{}\" and \"{}\"", spell(*bounds.start()), spell(*bounds.end())),
            Err(wrong) => wrong,
        };
        report.add(node.place, Some(&self.path_of(key)), format!("must be {wrong}"));
        None
    }

    pub fn flag(&self, key: &str, report: &mut Report) -> Option<bool> {
        let node = self.node(key)?;
        let wrong = match &node.value {
            Value::Bool(flag) => return Some(*flag),
            Value::Text(_) => ", without quotes".to_owned(),
            other => format!(", not {}", other.kind()),
        };
        report.add(node.place, Some(&self.path_of(key)), format!("must be true or false{wrong}"));
        None
    }

    pub fn count(&self, key: &str, bounds: RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
        let node = self.node(key)?;
        let wrong = match &node.value {
            Value::Integer(number) => match number.and_then(|n| u32::try_from(n).ok()).filter(|n| bounds.contains(n)) {
                Some(count) => return Some(count),
                None => String::new(),
            },
            Value::Text(_) => ", without quotes".to_owned(),
            other => format!(", not {}", other.kind()),
        };
        let text = format!("must be a whole number between {} and {}{wrong}", bounds.start(), bounds.end());
        report.add(node.place, Some(&self.path_of(key)), text);
        None
    }

    /// A secret by reference; whatever else stands there is taken for the secret itself.
    pub fn secret(&self, key: &str, report: &mut Report) -> Option<SecretRef> {
        let node = self.node(key)?;
        let path = self.path_of(key);
        let Value::Table(table) = &node.value else {
            let text = "must be a reference to a secret, as in { file = \"/etc/relinkd/NAME\" }; take the value out of \
                        this file, and change it where it is in use if others could read it here";
            report.add(node.place, Some(&path), text);
            return None;
        };
        let reference = Section { path, place: node.place, table };
        reference.refuse_unknown("secret store", STORES, report);
        match table.len() {
            1 => reference.store(report),
            _ => {
                let text = format!("must name exactly one secret store of {}", quoted(STORES));
                report.add(node.place, Some(&reference.path), text);
                None
            }
        }
    }

    fn store(&self, report: &mut Report) -> Option<SecretRef> {
        if let Some(path) = self.absolute_path("file", report) {
            return Some(SecretRef::File(path));
        }
        if let Some(name) = self.parsed("credential", CREDENTIAL, &credential, report) {
            return Some(SecretRef::Credential(name));
        }
        if let Some(name) = self.parsed("env", VARIABLE, &variable, report) {
            return Some(SecretRef::Env(name));
        }
        if self.has("vault") {
            return self.vault(report);
        }
        if self.has("aws") {
            return self.aws(report);
        }
        let given = self.node("exec")?;
        let argv = self.list("exec", "strings", &|text| Ok(text.to_owned()), report);
        let whole = matches!(&given.value, Value::List(items) if !items.is_empty() && items.len() == argv.len());
        let argv: Vec<String> = argv.into_iter().map(|(text, _)| text).collect();
        match argv.first() {
            _ if !whole => None,
            Some(program) if program.starts_with('/') && !argv.iter().any(|part| part.contains('\0')) => {
                Some(SecretRef::Exec(argv))
            }
            _ => {
                let text = "must begin with the absolute path of the program, as in [\"/usr/bin/prog\", \"argument\"]";
                report.add(given.place, Some(&self.path_of("exec")), text);
                None
            }
        }
    }
}

impl Section<'_> {
    fn vault(&self, report: &mut Report) -> Option<SecretRef> {
        let parse = |text: &str| VaultPlace::parse(text).ok_or(VAULT.to_owned());
        let place = self.parsed("vault", VAULT, &parse, report)?;
        let missing = match &report.vault {
            Here::Known(store) => {
                return Some(SecretRef::Vault(VaultRef::new(place, std::sync::Arc::clone(store))));
            }
            // What is wrong with it has been told.
            Here::Wrong => return None,
            Here::Unread => ON_THIS_HOST,
            Here::Absent => "needs a Vault; add a section [store.vault] with its address and a login",
        };
        report.add_absent(self.place, Some(&self.path_of("vault")), missing);
        None
    }
}

impl Section<'_> {
    fn aws(&self, report: &mut Report) -> Option<SecretRef> {
        let parse = |text: &str| AwsPlace::parse(text).ok_or(AWS.to_owned());
        let place = self.parsed("aws", AWS, &parse, report)?;
        match &report.aws {
            Here::Known(store) => return Some(SecretRef::Aws(AwsRef::new(place, std::sync::Arc::clone(store)))),
            // What is wrong with it has been told.
            Here::Wrong | Here::Absent => {}
            Here::Unread => report.add_absent(self.place, Some(&self.path_of("aws")), ON_THIS_HOST),
        }
        None
    }
}

const ON_THIS_HOST: &str = "cannot be the way in to a remote store; name a store on this host";

const AWS: &str = "\"NAME#FIELD\", as in \"redis/cache#password\": the name or ARN of a secret in AWS Secrets Manager, \
                   with #FIELD where it holds JSON";

const VAULT: &str = "\"MOUNT/PATH#FIELD\", as in \"secret/redis/cache#password\"";

const ABSOLUTE_PATH: &str = "an absolute path in quotes";

fn absolute_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') && !text.contains('\0') { Ok(text.into()) } else { Err(ABSOLUTE_PATH.to_owned()) }
}

const CREDENTIAL: &str = "the name of a systemd credential: a file name without any slash";

fn credential(text: &str) -> Result<String, String> {
    let fits = !matches!(text, "" | "." | "..") && !text.contains('/') && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(CREDENTIAL.to_owned()) }
}

const VARIABLE: &str = "the name of an environment variable: letters, digits and _";

fn variable(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok(text.to_owned()) } else { Err(VARIABLE.to_owned()) }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// `nearest`, without a second list of all words.
fn guess(word: &str, known: &[&str]) -> String {
    let said = nearest(word, known);
    if said.contains("did you mean") { said } else { String::new() }
}

/// A key that is not known may be anything that was typed or pasted there: a bare word is shown, the rest is not.
fn shown(key: &str) -> String {
    let bare =
        !key.is_empty() && key.len() <= 64 && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { "(a key in quotes)".to_owned() }
}
