//! The rules of the house, read off the source: who may import whom, where a thing may be done, how long a file may
//! be, and that what is promised on paper is there.
//!
//! Each rule is a function from sources to complaints, so that each is seen to complain about a planted violation.

#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/words.rs"]
mod words;
#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/showing.rs"]
mod showing;
#[path = "tidy/parts.rs"]
mod parts;

/// Fails with every complaint at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// A planted violation has to be seen: at least one complaint that says `what`.
#[track_caller]
fn seen(complaints: &[String], what: &str) {
    assert!(complaints.iter().any(|complaint| complaint.contains(what)), "no complaint says {what:?}: {complaints:#?}");
}
