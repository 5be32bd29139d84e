//! How the demo looks: a hundred columns, three of them (when, who, what), and the same without colours.

use std::io::{Result, Write};
use std::time::Duration;

const WIDTH: usize = 100;
/// Where the text of a line begins: after the time and the label.
const TEXT_AT: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
}

pub struct Screen<'a> {
    out: &'a mut dyn Write,
    colours: bool,
}

impl<'a> Screen<'a> {
    pub fn new(out: &'a mut dyn Write, colours: bool) -> Screen<'a> {
        Screen { out, colours }
    }

    pub fn blank(&mut self) -> Result<()> {
        self.put("")
    }

    pub fn title(&mut self, text: &str) -> Result<()> {
        let text = self.paint(text, Tone::Strong);
        self.put(&text)
    }

    /// A paragraph, indented by two.
    pub fn say(&mut self, text: &str) -> Result<()> {
        for line in wrapped(text, WIDTH - 2) {
            self.put(&format!("  {line}"))?;
        }
        Ok(())
    }

    /// As it is: a command that is to be copied must not be broken.
    pub fn verbatim(&mut self, text: &str) -> Result<()> {
        self.put(&format!("  {text}"))
    }

    /// What happened, how long after the break.
    pub fn event(&mut self, at: Option<Duration>, label: &str, text: &str, tone: Tone) -> Result<()> {
        let at = at.map_or(String::new(), |at| format!("+{}", span(at)));
        let lines = wrapped(text, WIDTH - TEXT_AT);
        for (number, line) in lines.iter().enumerate() {
            let head = if number == 0 { format!("{at:>10}  {label:<10}  ") } else { " ".repeat(TEXT_AT) };
            let line = self.paint(line, tone);
            self.put(&format!("{head}{line}"))?;
        }
        Ok(())
    }

    /// Columns as wide as their widest cell; the last one is wrapped.
    pub fn table(&mut self, rows: &[Vec<String>]) -> Result<()> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let line = format!("  {}", cells.join("  "));
            let tone = if number == 0 { Tone::Faint } else { Tone::Plain };
            let line = self.paint(line.trim_end(), tone);
            self.put(&line)?;
        }
        Ok(())
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Plain => return text.to_owned(),
        };
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Flushed line by line: somebody watches.
    fn put(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

/// Milliseconds below ten seconds, then seconds.
pub fn span(span: Duration) -> String {
    match span.as_millis() {
        0 => "0 ms".to_owned(),
        ms @ ..10_000 => format!("{ms} ms"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// Broken at spaces; a word that is longer than a line has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if fits => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: impl Fn(&mut Screen<'_>) -> Result<()>) -> String {
        let mut out = Vec::new();
        draw(&mut Screen::new(&mut out, false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_long_text_hangs_under_its_own_column() {
        let text =
            drawn(|screen| screen.event(Some(Duration::from_millis(7)), "client", &"word ".repeat(20), Tone::Bad));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("     +7 ms  client      word word"), "{text}");
        assert!(lines[1].starts_with("                        word") && lines.len() == 2, "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH) && !text.contains('\x1b'));
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [vec!["fault".to_owned(), "cause".to_owned()], vec!["x".to_owned(), "auth-missing".to_owned()]];
        assert_eq!(drawn(|screen| screen.table(&rows)), "  fault  cause\n  x      auth-missing\n");
    }
}
