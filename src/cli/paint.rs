//! Colours for a terminal. `anstream` takes them out where there is none, and where NO_COLOR is set.

use anstyle::{AnsiColor, Style};

fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

pub fn bad(text: &str) -> String {
    painted(AnsiColor::Red.on_default().bold(), text)
}

pub fn good(text: &str) -> String {
    painted(AnsiColor::Green.on_default().bold(), text)
}

pub fn doubtful(text: &str) -> String {
    painted(AnsiColor::Yellow.on_default().bold(), text)
}

pub fn faint(text: &str) -> String {
    painted(Style::new().dimmed(), text)
}

pub fn head(text: &str) -> String {
    painted(Style::new().bold(), text)
}
