//! What a check found: one line each, under a heading, with what to do next.

use serde::Serialize;

use super::super::{Exit, paint, say};
use crate::model::evidence::Missing;
use crate::secrets::SecretError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// relinkd does its work, though less of it, or something deserves a look.
    Warning,
    Problem,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub verdict: Verdict,
    pub what: String,
    pub text: String,
    /// Commands, or words, that mend it.
    pub next: Vec<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
pub struct Section {
    pub name: String,
    #[serde(rename = "checks")]
    pub lines: Vec<Line>,
}

impl Section {
    pub fn new(name: impl Into<String>) -> Section {
        Section { name: name.into(), lines: Vec::new() }
    }

    pub fn ok(&mut self, what: &str, text: impl Into<String>) {
        self.add(Verdict::Ok, Exit::Fine, what, text, []);
    }

    pub fn warn(&mut self, what: &str, text: impl Into<String>, next: impl IntoIterator<Item = String>) {
        self.add(Verdict::Warning, Exit::Fine, what, text, next);
    }

    pub fn problem<const N: usize>(&mut self, exit: Exit, what: &str, text: impl Into<String>, next: [String; N]) {
        self.add(Verdict::Problem, exit, what, text, next);
    }

    fn add(
        &mut self,
        verdict: Verdict,
        exit: Exit,
        what: &str,
        text: impl Into<String>,
        next: impl IntoIterator<Item = String>,
    ) {
        let next = next.into_iter().collect();
        self.lines.push(Line { verdict, what: what.to_owned(), text: text.into(), next, exit });
    }

    pub fn exit(&self) -> Exit {
        self.lines.iter().map(|line| line.exit).fold(Exit::Fine, Exit::and)
    }

    pub fn print(&self) {
        say(paint::head(&self.name));
        let width = self.lines.iter().map(|line| line.what.len()).max().unwrap_or(0);
        for line in &self.lines {
            let (mark, pad) = match line.verdict {
                Verdict::Ok => (paint::good("ok"), "     "),
                Verdict::Warning => (paint::doubtful("warning"), ""),
                Verdict::Problem => (paint::bad("problem"), ""),
            };
            say(format!("  {mark}{pad}  {:<width$}  {}", line.what, line.text));
            line.next.iter().for_each(|step| say(format!("           {:<width$}  {step}", "")));
        }
        say("");
    }
}

/// How a failed reading counts.
pub fn exit_of(why: &Missing) -> Exit {
    match why {
        Missing::TimedOut | Missing::Refused(_) | Missing::Unreachable(_) | Missing::Busy(_) => Exit::Unreachable,
        Missing::Denied(_) => Exit::Permission,
        Missing::Unsupported(_) | Missing::UnknownGroup(_) | Missing::NotAsked => Exit::Fault,
    }
}

/// How a secret that could not be resolved counts.
pub fn exit_of_secret(why: &SecretError) -> Exit {
    match why {
        SecretError::Denied(_) => Exit::Permission,
        SecretError::Sealed(_) | SecretError::Unreachable(_) => Exit::Unreachable,
        _ => Exit::Fault,
    }
}
