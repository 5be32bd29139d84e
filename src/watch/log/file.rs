//! A log file followed by polling: growth, rotation by rename, by copy and truncate, by deletion.
//!
//! The server opens its log anew for each line (server.c, serverLogRaw: "to support log rotation"), so a rename takes
//! effect at once, and what the old file still holds is read before the new one is begun.
//!
//! Invariant: one poll reads no more than the budget allows. Of a growth that exceeds it the beginning and the end
//! are read and the middle is passed over.

use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::Timestamp;
use crate::model::evidence::Missing;

use super::cutter::{Budget, Cutter, MAX_LINE};
use super::lines::{Stamp, parse, stamp, unwrapped};

/// How much of an existing file is read back at the start.
const BACK: u64 = 64 * 1024;
const CHUNK: usize = 16 * 1024;
/// So many bytes before our place are compared before reading on: a file that was truncated and has since grown past
/// our place shows by them.
const MARK: usize = 64;

/// What one poll read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grown {
    pub bytes: u64,
    pub skipped: bool,
}

pub(super) struct LogFile {
    path: PathBuf,
    open: Option<Open>,
    /// The file was open once: the next one that appears at the path is new, and read from its start.
    known: bool,
    cutter: Cutter,
    budget: Budget,
    chunk: Vec<u8>,
}

struct Open {
    file: File,
    device: u64,
    inode: u64,
    place: u64,
    /// The bytes just before `place`.
    mark: Vec<u8>,
}

impl LogFile {
    pub fn new(path: PathBuf, bytes_per_s: u64) -> Self {
        let (cutter, budget) = (Cutter::new(MAX_LINE), Budget::new(bytes_per_s));
        LogFile { path, open: None, known: false, cutter, budget, chunk: vec![0; CHUNK] }
    }

    /// Opens an existing file at its end and gives back the last lines, with the times that they name. Nothing when
    /// the file is open already.
    pub fn begin(&mut self) -> Result<Vec<(Timestamp, Vec<u8>)>, Missing> {
        if self.known {
            return Ok(Vec::new());
        }
        let meta = self.look()?.ok_or_else(|| self.absent())?;
        let size = meta.len();
        let mut open = self.open_at(size.saturating_sub(BACK))?;
        if open.place > 0 {
            self.cutter.tear();
        }
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let read = open.read_to(size, &mut self.chunk, &mut self.cutter, &mut |line| lines.push(line.to_vec()));
        self.open = Some(open);
        self.known = true;
        read.map_err(|error| self.unreadable(&error))?;
        Ok(dated(lines, modified(&meta)))
    }

    /// Reads what the log has gained since the last poll, `elapsed` ago.
    pub fn poll(&mut self, elapsed: Duration, sink: &mut dyn FnMut(&[u8])) -> Result<Grown, Missing> {
        self.budget.refill(elapsed);
        let mut grown = Grown::default();
        let meta = self.look()?;
        let same = |open: &Open| meta.as_ref().is_some_and(|m| m.dev() == open.device && m.ino() == open.inode);
        if self.open.as_ref().is_some_and(|open| !same(open)) {
            // Moved or deleted. Its rest is read, and it is let go at once, so that its space is not held.
            self.read_on(&mut grown, sink)?;
            self.open = None;
            self.cutter.restart();
        }
        if meta.is_none() {
            // A server that has nothing to say does not make its file anew.
            return if self.known { Ok(grown) } else { Err(self.absent()) };
        }
        if self.open.is_none() {
            self.open = Some(self.open_at(0)?);
        }
        self.read_on(&mut grown, sink)?;
        Ok(grown)
    }

    fn read_on(&mut self, grown: &mut Grown, sink: &mut dyn FnMut(&[u8])) -> Result<(), Missing> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let read = self.read_open(&mut open, grown, sink);
        self.open = Some(open);
        read.map_err(|error| self.unreadable(&error))
    }

    fn read_open(&mut self, open: &mut Open, grown: &mut Grown, sink: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
        let size = open.file.metadata()?.len();
        if size == open.place {
            return Ok(());
        }
        if size < open.place || !open.mark_stands()? {
            open.place = 0;
            open.mark.clear();
            self.cutter.restart();
        }
        let growth = size - open.place;
        let allowed = self.budget.left();
        grown.bytes = grown.bytes.saturating_add(growth);
        self.budget.spend(growth.min(allowed));
        if growth > allowed {
            grown.skipped = true;
            open.read_to(open.place + allowed / 2, &mut self.chunk, &mut self.cutter, sink)?;
            self.cutter.tear();
            open.place = size - allowed / 2;
        }
        open.read_to(size, &mut self.chunk, &mut self.cutter, sink)
    }

    /// The file at the path, if there is one.
    fn look(&self) -> Result<Option<Metadata>, Missing> {
        match std::fs::metadata(&self.path) {
            // A pipe or a terminal cannot be read without taking the lines away from whoever reads it.
            Ok(meta) if !meta.is_file() => {
                Err(Missing::Unsupported(format!("the log {} is not a regular file", self.path.display())))
            }
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn open_at(&self, place: u64) -> Result<Open, Missing> {
        // Without O_NONBLOCK, a path that has become a FIFO since it was looked at would hang the daemon.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        let meta = file.and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = meta.map_err(|error| self.unreadable(&error))?;
        Ok(Open { file, device: meta.dev(), inode: meta.ino(), place, mark: Vec::new() })
    }

    fn absent(&self) -> Missing {
        Missing::Unsupported(format!("the log {} does not exist", self.path.display()))
    }

    fn unreadable(&self, error: &std::io::Error) -> Missing {
        let path = self.path.display();
        match error.kind() {
            ErrorKind::PermissionDenied => Missing::Denied(format!(
                "cannot read the log {path}: permission denied; let the agent's user read it, and search its directories"
            )),
            _ => Missing::Unsupported(format!("cannot read the log {path}: {error}")),
        }
    }
}

impl Open {
    /// Reads from our place up to `end`, or to where the file ends before that.
    fn read_to(
        &mut self,
        end: u64,
        chunk: &mut [u8],
        cutter: &mut Cutter,
        sink: &mut dyn FnMut(&[u8]),
    ) -> std::io::Result<()> {
        while self.place < end {
            let want = usize::try_from(end - self.place).unwrap_or(usize::MAX).min(chunk.len());
            let Some(room) = chunk.get_mut(..want) else { break };
            let got = match self.file.read_at(room, self.place) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = room.get(..got).unwrap_or_default();
            cutter.feed(bytes, sink);
            self.place += got as u64;
            self.remember(bytes);
        }
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.mark.clear();
        self.mark.extend_from_slice(bytes.get(bytes.len().saturating_sub(MARK)..).unwrap_or_default());
    }

    fn mark_stands(&self) -> std::io::Result<bool> {
        let mut found = [0; MARK];
        let Some(found) = found.get_mut(..self.mark.len()) else { return Ok(false) };
        let from = self.place.saturating_sub(self.mark.len() as u64);
        match self.file.read_exact_at(found, from) {
            Ok(()) => Ok(found == self.mark.as_slice()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn modified(meta: &Metadata) -> Timestamp {
    Timestamp(meta.mtime().saturating_mul(1_000_000).saturating_add(meta.mtime_nsec() / 1_000))
}

/// Lines with the times that they name. A local time needs its zone, which no line tells: the newest line was written
/// when the file was last modified, and zones lie quarters of an hour apart.
fn dated(lines: Vec<Vec<u8>>, modified: Timestamp) -> Vec<(Timestamp, Vec<u8>)> {
    const QUARTER: i64 = 15 * 60 * 1_000_000;
    let stamps: Vec<Option<Stamp>> =
        lines.iter().map(|line| parse(&unwrapped(&String::from_utf8_lossy(line))).when.and_then(stamp)).collect();
    let newest = stamps.iter().rev().find_map(|stamp| match stamp {
        Some(Stamp::Local(at)) => Some(*at),
        _ => None,
    });
    let ahead = newest
        .map_or(0, |at| at.0.saturating_sub(modified.0).saturating_add(QUARTER / 2).div_euclid(QUARTER) * QUARTER);
    let at = |stamp: Stamp| match stamp {
        Stamp::Exact(at) => at,
        Stamp::Local(at) => Timestamp(at.0.saturating_sub(ahead)),
    };
    stamps.into_iter().zip(lines).filter_map(|(stamp, line)| stamp.map(|s| (at(s), line))).collect()
}

#[cfg(test)]
mod tests;
