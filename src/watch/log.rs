//! The server's log: found, followed under a byte budget, and boiled down to the kinds of lines that tell a cause.
//!
//! A hot reconnect loop writes more than 1 MB a second (Redis 7.0.15 to 8.2.3, Valkey 8.0.1 to 8.1.8), so reading is
//! budgeted: of a flood the beginning and the end of each step are read, and the book says that bytes were passed
//! over. A log that cannot be read is a reason on the book and is tried again; it never stops the watch.
//!
//! Files are read in place, not on another thread: at most a quarter of a second's budget at a time, from the page
//! cache, where the server has just put it.
//!
//! Not here: what a line means for the link (`diagnose`).

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, MissedTickBehavior};

use crate::model::Timestamp;
use crate::model::event::{Wake, Why};
use crate::model::evidence::Missing;

use super::{knock, locked};

mod book;
mod cutter;
mod file;
mod journal;
mod lines;
mod phrases;
mod source;

pub use book::{LogBook, WINDOW};
pub use lines::classify;
pub use lines::tells_of_a_server;
pub use source::{LogSource, Resolved, ServerLog, resolve, unit_of_process};

/// How often a file is looked at, and the least time between two wake-ups.
const POLL: Duration = Duration::from_millis(200);
/// How many bytes a second are read.
const BYTES_PER_S: u64 = 256 * 1024;
/// How long to wait before journalctl is started again: doubled each time, up to the second.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Follows the log for ever: keeps the book, and wakes when a line tells that a link broke, failed or came up.
pub async fn follow<C>(source: Resolved, book: Arc<Mutex<LogBook>>, wake: Sender<Wake>, clock: C) -> Infallible
where
    C: Fn() -> Timestamp + Clone,
{
    let mut follower = Follower { book, wake, clock };
    let why = match source {
        Resolved::File(path) => return follower.file(path).await,
        Resolved::Journal(unit) => return follower.journal("journalctl", &unit).await,
        Resolved::Nothing(why) => Missing::Unsupported(why),
        Resolved::Off => Missing::NotAsked,
    };
    locked(&follower.book).lost(why);
    std::future::pending().await
}

struct Follower<C> {
    book: Arc<Mutex<LogBook>>,
    wake: Sender<Wake>,
    clock: C,
}

impl<C: Fn() -> Timestamp> Follower<C> {
    async fn file(&mut self, path: PathBuf) -> Infallible {
        locked(&self.book).name(format!("file:{}", path.display()));
        let mut file = file::LogFile::new(path, BYTES_PER_S);
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed();
            last = Instant::now();
            if self.look(&mut file, elapsed) {
                knock(&self.wake, (self.clock)(), Why::Log);
            }
        }
    }

    /// One look at the file; whether it told something that wakes.
    fn look(&mut self, file: &mut file::LogFile, elapsed: Duration) -> bool {
        let now = (self.clock)();
        let mut book = locked(&self.book);
        match file.begin() {
            Ok(old) => {
                let noted = book.noted(now);
                for (at, line) in old {
                    let within = at <= now && now.since(at) <= WINDOW;
                    if within && (at > noted || book.may_have_missed(at, &line)) {
                        take(&mut book, at.max(noted), &line);
                    }
                }
            }
            Err(why) => {
                book.lost(why);
                return false;
            }
        }
        let mut telling = false;
        match file.poll(elapsed, &mut |line| telling |= take(&mut book, now, line)) {
            Ok(grown) => book.read(now, grown.bytes, grown.skipped),
            Err(why) => book.lost(why),
        }
        telling
    }

    async fn journal(&mut self, program: &str, unit: &str) -> Infallible {
        locked(&self.book).name(format!("journal:{unit}"));
        // journalctl says nothing of a unit that does not exist. A server has logged its start at least, so a journal
        // that shows no line at all is not the server's.
        locked(&self.book).lost(Missing::Unsupported(format!("the journal has shown no line of {unit}")));
        let mut given = locked(&self.book).noted((self.clock)());
        let mut pause = RESTART.0;
        loop {
            let began = Instant::now();
            let why = match journal::Journal::start(program, unit, BYTES_PER_S, given) {
                Ok(mut journal) => {
                    let why = self.drain(&mut journal).await;
                    given = journal.newest();
                    why
                }
                Err(why) => why,
            };
            locked(&self.book).lost(why);
            pause = if began.elapsed() > RESTART.1 { RESTART.0 } else { pause };
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RESTART.1);
        }
    }

    /// Reads one journalctl to its end, and gives back why it ended.
    async fn drain(&mut self, journal: &mut journal::Journal) -> Missing {
        let mut last = Instant::now();
        let mut quiet_until = last;
        let mut telling = false;
        loop {
            tokio::select! {
                came = journal.next() => {
                    match came {
                        Ok(came) => telling |= self.came(came),
                        Err(why) => return why,
                    }
                    journal.refill(last.elapsed());
                    last = Instant::now();
                }
                () = tokio::time::sleep_until(quiet_until), if telling => {}
            }
            if telling && Instant::now() >= quiet_until {
                telling = false;
                quiet_until = Instant::now() + POLL;
                knock(&self.wake, (self.clock)(), Why::Log);
            }
        }
    }

    fn came(&mut self, came: journal::Came) -> bool {
        let now = (self.clock)();
        let mut book = locked(&self.book);
        book.read(now, came.bytes, came.skipped);
        let fresh = came.entries.iter().filter(|entry| now.since(entry.at) <= WINDOW);
        fresh.fold(false, |telling, entry| take(&mut book, entry.at.min(now), &entry.message) | telling)
    }
}

/// Notes a line if it tells something; whether it wakes.
fn take(book: &mut LogBook, at: Timestamp, line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    book.note_form(&line);
    let line = lines::unwrapped(&line);
    let Some((kind, message)) = classify(&line) else { return false };
    book.note(at, kind, message);
    phrases::wakes(kind)
}

#[cfg(test)]
mod tests;
