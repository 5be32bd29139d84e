//! Bytes cut into lines, and the budget of how many bytes may be read. Both are bounded whatever comes in.

use std::time::Duration;

/// Longer lines are cut here; no line that matters comes near (the server cuts its own at 1024 bytes: LOG_MAX_LEN).
pub(super) const MAX_LINE: usize = 4096;

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub(super) struct Cutter {
    limit: usize,
    partial: Vec<u8>,
    /// Bytes were left out: what comes up to the next line end is the rest of a line that we did not see begin.
    torn: bool,
}

impl Cutter {
    pub fn new(limit: usize) -> Self {
        Cutter { limit, partial: Vec::new(), torn: false }
    }

    /// Gives each whole line to `sink`, without its end. A line over the limit is given with its beginning only.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            match (self.torn, self.partial.is_empty()) {
                (true, _) => {}
                (false, true) => sink(line.get(..self.limit).unwrap_or(line)),
                (false, false) => {
                    self.keep(line);
                    sink(&self.partial);
                }
            }
            self.torn = false;
            self.partial.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        if !self.torn {
            self.keep(bytes);
        }
    }

    /// Bytes were passed over: forgets the line begun, and the rest of the one that comes next.
    pub fn tear(&mut self) {
        self.partial.clear();
        self.torn = true;
    }

    /// A new stream begins at the start of a line.
    pub fn restart(&mut self) {
        self.partial.clear();
        self.torn = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Bytes that may be read: so many a second, saved up for one second at most.
#[derive(Debug)]
pub(super) struct Budget {
    per_s: u64,
    left: u64,
}

impl Budget {
    pub fn new(per_s: u64) -> Self {
        Budget { per_s, left: per_s }
    }

    pub fn refill(&mut self, elapsed: Duration) {
        let more = u128::from(self.per_s) * elapsed.as_micros() / 1_000_000;
        self.left = self.left.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)).min(self.per_s);
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    pub fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, pieces: &[&[u8]]) -> Vec<String> {
        let (mut cutter, mut lines) = (Cutter::new(limit), Vec::new());
        for piece in pieces {
            cutter.feed(piece, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        assert_eq!(cut(99, &[b"one\ntw", b"o\n\nth", b"", b"ree", b"\nfour"]), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_of_megabytes_is_cut_and_its_memory_bounded() {
        let mut cutter = Cutter::new(8);
        let mut lines = Vec::new();
        for _ in 0..1000 {
            cutter.feed(&[b'x'; 4096], &mut |line| lines.push(line.to_vec()));
        }
        assert!(cutter.partial.capacity() <= 64);
        cutter.feed(b"\nshort\n", &mut |line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"xxxxxxxx".to_vec(), b"short".to_vec()]);
        assert_eq!(cut(3, &[b"abcdef\n"]), ["abc"]);
    }

    #[test]
    fn after_a_gap_the_torn_line_is_left_out() {
        let (mut cutter, mut lines) = (Cutter::new(99), Vec::new());
        let mut sink = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        cutter.feed(b"one\nbegun", &mut sink);
        cutter.tear();
        cutter.feed(b"its end", &mut sink);
        cutter.feed(b"\ntwo\n", &mut sink);
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_budget_saves_up_one_second_at_most() {
        let mut budget = Budget::new(1000);
        budget.spend(5000);
        assert_eq!(budget.left(), 0);
        budget.refill(Duration::from_millis(200));
        assert_eq!(budget.left(), 200);
        budget.refill(Duration::from_secs(3600));
        assert_eq!(budget.left(), 1000);
    }
}
