//! What the log said of late: per kind the first and the newest line, and how many, within a window.
//!
//! Invariant: memory is bounded by the number of kinds, whatever the server writes. Not here: reading the log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::evidence::{LogFact, LogKind, LogView, Missing, Reading};
use crate::model::{Timestamp, tame};

use super::lines::is_a_servers;

/// How long a line counts.
pub const WINDOW: Duration = Duration::from_secs(120);
/// Lines of one kind are counted in steps of this, so the edge of the window is this sharp.
const STEP: Duration = Duration::from_secs(5);
/// Characters of a sample that are kept: a reply quoted in a line is cut at 255 bytes by the server itself
/// (Redis 7.0.15, receiveSynchronousResponse).
const SAMPLE: usize = 400;
/// A server's greeting has less than this without a prefix.
pub(super) const STRANGE: usize = 8 * 1024;
/// Lines that are read in one go bear one time, and a server says much in a moment: each counts as a microsecond later
/// than the one before, so that what it says last is known to be the last. A clock that was set back goes further.
const ONE_GO: Duration = Duration::from_millis(50);
/// The span over which bytes are counted, and its steps.
const RATE: Duration = Duration::from_secs(1);
const RATE_STEP: Duration = Duration::from_millis(100);

/// The log of one server, read by `collect` and filled by [`follow`](super::follow).
#[derive(Debug)]
pub struct LogBook {
    source: String,
    missing: Option<Missing>,
    kinds: BTreeMap<LogKind, Track>,
    rate: VecDeque<(Timestamp, u64)>,
    skipped: Option<Timestamp>,
    /// The time of the newest telling line.
    newest: Timestamp,
    form: Form,
}

/// Whether what is read is a server's log at all.
#[derive(Debug)]
enum Form {
    Known,
    /// So many bytes and not a line of a server's.
    Strange(usize),
}

/// One kind: its counts by step, oldest first, and the newest line.
#[derive(Debug, Default)]
struct Track {
    steps: VecDeque<Counted>,
    sample: String,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    first: Timestamp,
    last: Timestamp,
    count: u32,
}

impl Default for LogBook {
    fn default() -> Self {
        LogBook {
            source: String::new(),
            missing: Some(Missing::NotAsked),
            kinds: BTreeMap::new(),
            rate: VecDeque::new(),
            skipped: None,
            newest: Timestamp::default(),
            form: Form::Strange(0),
        }
    }
}

impl LogBook {
    /// What the log said within the window, or why it cannot be read.
    pub fn reading(&self, now: Timestamp) -> Reading<LogView> {
        match (&self.missing, &self.form) {
            (Some(why), _) => Reading::Missing(why.clone()),
            (None, Form::Strange(bytes)) if *bytes >= STRANGE => Reading::Missing(Missing::Unsupported(format!(
                "no line of {} is in a server's form, after {bytes} bytes: it is another's log, or something is put around \
                 the lines that relinkd does not know",
                self.source
            ))),
            (None, _) => Reading::Seen(self.view(now)),
        }
    }

    /// What the log said within the window, as far as it could be read.
    pub fn view(&self, now: Timestamp) -> LogView {
        let lines = self.kinds.iter().filter_map(|(kind, track)| track.fact(*kind, now)).collect();
        let fresh = self.rate.iter().filter(|(at, _)| now.since(*at) < RATE);
        LogView {
            at: now,
            source: self.source.clone(),
            lines,
            bytes_per_s: fresh.fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes)),
            skipped: self.skipped.is_some_and(|at| now.since(at) <= WINDOW),
        }
    }

    /// Whoever follows the log anew passes over what was written up to here: it was noted already. After the clock was
    /// set back nobody can tell.
    pub(super) fn noted(&self, now: Timestamp) -> Timestamp {
        if self.newest.since(now) < ONE_GO { self.newest } else { Timestamp::default() }
    }

    /// Whether a line of a signal handler, which names whole seconds (Redis 7.0.15, serverLogFromHandler), may have come
    /// after what was noted of its second.
    pub(super) fn may_have_missed(&self, at: Timestamp, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let same_second = at <= self.newest && self.newest.since(at) < Duration::from_secs(1);
        same_second
            && line.contains(":signal-handler (")
            && !self.kinds.values().any(|track| line.contains(&track.sample))
    }

    /// Which log this is: `file:PATH` or `journal:UNIT`.
    pub(super) fn name(&mut self, source: String) {
        // Whatever the journal shows of a unit, the unit wrote: where the server logs to syslog, its bare message.
        if source.starts_with("journal:") {
            self.form = Form::Known;
        }
        self.source = source;
    }

    /// The log cannot be read, and why.
    pub(super) fn lost(&mut self, why: Missing) {
        self.missing = Some(why);
    }

    /// The log was read up to its end; `bytes` are new since the last time, read or passed over.
    pub(super) fn read(&mut self, at: Timestamp, bytes: u64, skipped: bool) {
        self.missing = None;
        if skipped {
            self.skipped = Some(at);
        }
        while self.rate.front().is_some_and(|(then, _)| at.since(*then) >= RATE || *then > at) {
            self.rate.pop_front();
        }
        match self.rate.back_mut() {
            _ if bytes == 0 => {}
            Some((then, sum)) if at.since(*then) < RATE_STEP => *sum = sum.saturating_add(bytes),
            _ => self.rate.push_back((at, bytes)),
        }
    }

    /// One line, of whatever form.
    pub(super) fn note_form(&mut self, line: &str) {
        if let Form::Strange(bytes) = &mut self.form {
            *bytes = bytes.saturating_add(line.len());
            if is_a_servers(line) {
                self.form = Form::Known;
            }
        }
    }

    /// One telling line, in the order of the log.
    pub(super) fn note(&mut self, at: Timestamp, kind: LogKind, message: &str) {
        let behind = at <= self.newest && self.newest.since(at) < ONE_GO;
        let at = if behind { self.newest.after(Duration::from_micros(1)) } else { at };
        self.newest = at;
        self.kinds.entry(kind).or_default().note(at, message);
    }
}

impl Track {
    fn note(&mut self, at: Timestamp, message: &str) {
        while self.steps.front().is_some_and(|step| !fresh(step.last, at)) {
            self.steps.pop_front();
        }
        match self.steps.back_mut() {
            Some(step) if at.since(step.first) < STEP => {
                step.last = step.last.max(at);
                step.count = step.count.saturating_add(1);
            }
            _ => self.steps.push_back(Counted { first: at, last: at, count: 1 }),
        }
        self.sample = tame(message, SAMPLE);
    }

    fn fact(&self, kind: LogKind, now: Timestamp) -> Option<LogFact> {
        let mut within = self.steps.iter().filter(|step| fresh(step.last, now));
        let oldest = *within.next()?;
        let (last, count) = within.fold((oldest.last, oldest.count), |(last, count), step| {
            (last.max(step.last), count.saturating_add(step.count))
        });
        Some(LogFact { kind, first: oldest.first, last, count, sample: self.sample.clone() })
    }
}

/// Within the window, on either side: after the clock was set back, what was noted before must still fade.
fn fresh(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) <= WINDOW && at.since(now) <= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(1_795_414_320_000 + s * 1000)
    }

    #[test]
    fn counts_lines_of_a_kind_and_keeps_the_newest() {
        let mut book = LogBook::default();
        book.note(at(0), LogKind::AuthFailed, "one");
        book.note(at(1), LogKind::AuthFailed, "two\u{1b}[31m");
        book.note(at(60), LogKind::AuthFailed, "three");
        let view = book.view(at(61));
        assert_eq!(view.lines.len(), 1);
        let fact = &view.lines[0];
        assert_eq!((fact.first, fact.last, fact.count, fact.sample.as_str()), (at(0), at(60), 3, "three"));
    }

    #[test]
    fn lines_of_one_moment_keep_their_order() {
        let mut book = LogBook::default();
        for (kind, text) in [
            (LogKind::Ready, "one process"),
            (LogKind::Shutdown, "told to stop"),
            (LogKind::Shutdown, "bye bye"),
            (LogKind::Ready, "the next"),
        ] {
            book.note(at(0), kind, text);
        }
        let last = |kind| book.view(at(1)).lines.iter().find(|fact| fact.kind == kind).map(|fact| fact.last);
        assert_eq!(last(LogKind::Shutdown), Some(at(0).after(Duration::from_micros(2))));
        assert_eq!(last(LogKind::Ready), Some(at(0).after(Duration::from_micros(3))));
        assert_eq!(book.view(at(1)).lines.iter().map(|fact| fact.count).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let mut book = LogBook::default();
        book.note(at(0), LogKind::LinkLost, "old");
        book.note(at(100), LogKind::AuthFailed, "new");
        assert_eq!(book.view(at(119)).lines.len(), 2);
        let kinds: Vec<LogKind> = book.view(at(121)).lines.iter().map(|fact| fact.kind).collect();
        assert_eq!(kinds, [LogKind::AuthFailed]);
        assert!(book.view(at(500)).lines.is_empty());
    }

    #[test]
    fn a_clock_set_back_makes_nothing_stay_for_ever() {
        let mut book = LogBook::default();
        book.note(at(9_000), LogKind::LinkLost, "before the step");
        assert!(book.view(at(0)).lines.is_empty());
        book.note(at(1), LogKind::LinkLost, "after it");
        let view = book.view(at(2));
        assert_eq!((view.lines[0].count, view.lines[0].last), (1, at(1)));
    }

    #[test]
    fn a_flood_takes_no_more_room_than_a_trickle() {
        let mut book = LogBook::default();
        for ms in 0..600_000 {
            let now = Timestamp::from_millis(1_795_414_320_000 + ms);
            book.note(now, LogKind::PsyncRefused, "Unexpected reply to PSYNC from master: -NOAUTH");
            book.read(now, 2_000, ms % 7 == 0);
        }
        let track = &book.kinds[&LogKind::PsyncRefused];
        assert!(track.steps.len() <= 26 && book.rate.len() <= 11, "{} {}", track.steps.len(), book.rate.len());
        let view = book.view(at(600));
        assert!((115_000..=125_001).contains(&view.lines[0].count), "{}", view.lines[0].count);
        assert!((1_800_000..=2_200_000).contains(&view.bytes_per_s) && view.skipped, "{}", view.bytes_per_s);
    }

    #[test]
    fn a_log_that_is_no_servers_is_none_after_some_kilobytes() {
        let mut book = LogBook::default();
        book.name("file:/var/log/app.log".into());
        book.read(at(0), 0, false);
        let foreign = |book: &mut LogBook, lines: usize| {
            (0..lines)
                .for_each(|_| book.note_form("127.0.0.1 - - [23/Nov/2026:06:12:00 +0000] \"GET / HTTP/1.1\" 200 12 x"));
            book.reading(at(0))
        };
        assert!(foreign(&mut book, 10).seen().is_some(), "a greeting is no line of a server's either");
        let missing = foreign(&mut book, 300);
        assert!(missing.missing().is_some_and(|why| why.to_string().contains("no line of file:/var/log/app.log")));
        book.note_form("1:S 23 Nov 2026 06:12:00.041 * Connection with master lost.");
        assert!(foreign(&mut book, 300).seen().is_some());
    }

    #[test]
    fn an_unread_log_is_missing_with_its_reason() {
        let mut book = LogBook::default();
        assert_eq!(book.reading(at(0)), Reading::Missing(Missing::NotAsked));
        book.lost(Missing::Denied("why".to_owned()));
        assert_eq!(book.reading(at(0)), Reading::Missing(Missing::Denied("why".to_owned())));
        book.read(at(1), 0, false);
        assert!(book.reading(at(1)).seen().is_some_and(|view| view.lines.is_empty() && view.bytes_per_s == 0));
    }
}
