//! What is wrong with a configuration: every problem at once, each with the place to correct. No text here ever holds
//! a value from a file: a value may be a secret that was written where a reference belongs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::secrets::{Aws, Vault};

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// `replica.cache.poll`; none where no key is meant.
    pub key: Option<String>,
    pub text: String,
    /// The system keeps the file from this user, so whether it is right is not known.
    #[serde(skip)]
    pub denied: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.text)
    }
}

/// All that is wrong, in the order of the files and their lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Nothing is known to be wrong but that this user may not read.
    pub fn are_of_permission(&self) -> bool {
        self.0.iter().all(|problem| problem.denied)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration")?,
            count => write!(f, "{count} problems in the configuration")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

/// Where something stands: the file's place in the order of reading, and the line from 1. Line 0 is the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: usize,
    pub line: usize,
}

/// Problems as they are found.
#[derive(Default)]
pub(super) struct Report {
    files: Vec<PathBuf>,
    found: Vec<(Place, Problem)>,
    /// Some file could not be read or does not parse: what looks absent may stand there.
    pub incomplete: bool,
    /// What references to remote stores would find: read before any of them is.
    pub vault: Here<Vault>,
    pub aws: Here<Aws>,
}

/// A section `[store.NAME]`, while the rest is read.
#[derive(Default)]
pub(super) enum Here<T> {
    #[default]
    Unread,
    Absent,
    /// It stands there with mistakes.
    Wrong,
    Known(Arc<T>),
}

impl Report {
    /// Makes a file known, once; its number is for [`Place`], and problems are told in the order of the numbers.
    pub fn file(&mut self, path: &Path) -> usize {
        self.files.iter().position(|known| known == path).unwrap_or_else(|| {
            self.files.push(path.to_owned());
            self.files.len() - 1
        })
    }

    pub fn add(&mut self, place: Place, key: Option<&str>, text: impl Into<String>) {
        let problem = Problem {
            file: self.files.get(place.file).cloned().unwrap_or_default(),
            line: (place.line > 0).then_some(place.line),
            key: key.map(str::to_owned),
            text: text.into(),
            denied: false,
        };
        self.found.push((place, problem));
    }

    /// A file that this user may not read.
    pub fn add_denied(&mut self, file: usize, text: impl Into<String>) {
        self.add_file(file, text);
        if let Some((_, problem)) = self.found.last_mut() {
            problem.denied = true;
        }
    }

    /// A problem with a file as a whole.
    pub fn add_file(&mut self, file: usize, text: impl Into<String>) {
        self.add(Place { file, line: 0 }, None, text);
    }

    /// Something is not there; not worth saying while a file is unread.
    pub fn add_absent(&mut self, place: Place, key: Option<&str>, text: impl Into<String>) {
        if !self.incomplete {
            self.add(place, key, text);
        }
    }

    /// `file:line` as it is said inside another problem's text.
    pub fn locate(&self, place: Place) -> String {
        let file = self.files.get(place.file).map(|path| path.display().to_string()).unwrap_or_default();
        format!("{file}:{}", place.line)
    }

    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub fn into_problems(mut self) -> Problems {
        self.found.sort_by_key(|(place, _)| *place);
        Problems(self.found.into_iter().map(|(_, problem)| problem).collect())
    }
}
