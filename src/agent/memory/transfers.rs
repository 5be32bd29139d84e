//! What transfers of a data set leave behind: how many were cut, and how fast the stream grew meanwhile.

use std::time::Duration;

use super::Memory;
use crate::model::Timestamp;
use crate::model::evidence::{Evidence, LogFact, LogKind};

/// From the cut of one transfer to the beginning of the next, where nothing else is wrong: a second to try again, and
/// `repl-diskless-sync-delay`, 5 s by default (5.1 to 6.9 s in all; Redis 7.0.15, Valkey 9.1.2).
const NEXT_TRY: Duration = Duration::from_secs(8);

/// A save and the beginning of its transfer lie between two timeouts of one row.
const SAVED: Duration = Duration::from_secs(600);

/// A transfer that began: its line, how many of the kind the log had then, and where which stream of the primary's was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Begun {
    at: Timestamp,
    count: u32,
    replid: String,
    offset: u64,
}

impl Begun {
    /// `Full resync from master: REPLID:OFFSET`
    fn of(line: &LogFact) -> Option<Begun> {
        let (replid, offset) = line.sample.split_once(": ")?.1.split_once(':')?;
        let digits = offset.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Begun { at: line.last, count: line.count, replid: replid.to_owned(), offset: digits.parse().ok()? })
    }
}

impl Memory {
    /// What the transfers of another stream told says nothing of this one's. Where each line of them was stays known.
    pub(super) fn forget_transfers(&mut self) {
        let trend = &mut self.trend;
        (trend.cut_transfers, trend.bulk_failures, trend.timed_out, trend.output_largest) = (0, 0, 0, 0);
        (trend.grown, trend.grown_ms) = (None, None);
    }

    /// The log forgets after two minutes, and a data set may take longer than that to be cut: so each line counts when it
    /// comes.
    pub(super) fn note_cut_transfers(&mut self, e: &Evidence, seen: Timestamp) {
        for kind in [LogKind::TransferError, LogKind::LoadFailed, LogKind::BulkCountError, LogKind::TransferTimeout] {
            let Some(line) = e.logged(kind).filter(|line| line.last >= seen) else { continue };
            let last = self.cut.get(&kind).map(|(last, _)| *last);
            let fresh = match self.cut.insert(kind, (line.last, line.count)) {
                Some((last, _)) if line.last <= last => 0,
                Some((_, count)) => line.count.saturating_sub(count).max(1),
                None if line.first >= seen => line.count,
                None => 1,
            };
            let trend = &mut self.trend;
            if kind == LogKind::TransferTimeout {
                // Of a row is what follows within some timeouts, and what a big data set takes to be saved; a line that is
                // cut twice in an hour is none.
                let timeout = Duration::from_secs(e.settings.seen().map_or(60, |settings| settings.repl_timeout_s));
                let alone = fresh > 0 && last.is_some_and(|last| line.last.since(last) > (timeout * 3).max(SAVED));
                let row = if alone { 0 } else { trend.timed_out };
                trend.timed_out = row.saturating_add(fresh);
                continue;
            }
            trend.cut_transfers = trend.cut_transfers.saturating_add(fresh);
            if kind == LogKind::BulkCountError {
                trend.bulk_failures = trend.bulk_failures.saturating_add(fresh);
            }
        }
    }

    /// Two transfers of one stream that begin after each other tell its pace. What was written between the end of the one
    /// and the beginning of the other waited for nobody, and where that took more than a loop itself takes, and more than
    /// a small part of the transfer, the pace of the whole says little of it.
    pub(super) fn note_growth(&mut self, e: &Evidence, line: &LogFact) {
        let ends = [LogKind::TransferError, LogKind::LoadFailed, LogKind::BulkCountError, LogKind::LinkLost];
        let newest = ends.into_iter().filter_map(|kind| e.logged(kind)).map(|line| line.last).max();
        // A quick loop has cut the newest transfer, too, by the time of the look, and the log keeps the last line of a kind.
        let known = [std::mem::replace(&mut self.transfer_ended, newest), newest];
        let Some(now) = Begun::of(line) else { return };
        let Some(before) = self.begun.replace(now.clone()).filter(|before| now.at > before.at) else { return };
        let grown = now.offset.checked_sub(before.offset).filter(|grown| *grown > 0 && now.replid == before.replid);
        // One that joined the save of another replica's begins where that did (Redis 7.0.15, syncCommand): that is no stop.
        let went_on = || {
            let seen = e.primary.seen().and_then(|primary| u64::try_from(primary.repl_offset).ok());
            // A ping is no write.
            let much = self.trend.grown.unwrap_or(0) / 8;
            now.replid == before.replid
                && now.offset == before.offset
                && seen.is_some_and(|seen| seen.saturating_sub(now.offset) > much)
        };
        if grown.is_none() && !went_on() {
            // Of another history, or of writes that have stopped: what an older pair told is no proof any more.
            (self.trend.grown, self.trend.grown_ms) = (None, None);
        }
        let ended = known.into_iter().flatten().filter(|at| *at > before.at && *at <= now.at).max();
        let between = now.count.saturating_sub(before.count).max(1);
        let (Some(grown), Some(ended)) = (grown, ended) else { return };
        let (each, idle) = (now.at.since(before.at) / between, now.at.since(ended));
        let of_the_loop = |lasted: &Duration| idle <= NEXT_TRY || idle * 8 <= *lasted;
        let Some(lasted) = each.checked_sub(idle).filter(of_the_loop) else { return };
        let share = lasted.as_millis().max(1) * u128::from(grown / u64::from(between)) / each.as_millis().max(1);
        self.trend.grown = u64::try_from(share).ok();
        self.trend.grown_ms = u64::try_from(lasted.as_millis()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::ByHand;
    use super::*;
    use crate::diagnose::tests::world::{Bend, T0, healthy};
    use crate::model::evidence::{LinkState, Reading};
    use crate::model::finding::{Cause, Diagnosis};

    #[test]
    fn transfers_that_are_cut_are_counted_beyond_the_logs_window_and_measured_from_one_to_the_next() {
        let look = |s: u64, lines: &[(LogKind, u64, u32, &str)]| {
            let mut e = healthy();
            let at = |s: u64| T0.after(Duration::from_secs(s));
            (e.began, e.ended) = (at(s), at(s));
            e.break_link(LinkState::Sync);
            for (kind, last, count, sample) in lines {
                e.log(*kind, sample, *count);
                if let Reading::Seen(log) = &mut e.log
                    && let Some(line) = log.lines.last_mut()
                {
                    (line.first, line.last) = (at(*last), at(*last));
                }
            }
            e
        };
        let (begun, cut) = (LogKind::FullResync, LogKind::TransferError);
        let grown = |ended: u64, next: u64, sample: &str| {
            let mut memory = Memory::default();
            memory.before_judging(&look(0, &[(begun, 0, 1, "Full resync from master: abc:1000")]));
            memory.before_judging(&look(next, &[(cut, ended, 1, "I/O error"), (begun, next, 1, sample)]));
            (memory.trend().grown, memory.trend().grown_ms)
        };
        let later = "Full resync from master: abc:61000";
        assert_eq!(grown(50, 60, later), (None, None), "too long for a next try");
        assert_eq!(grown(54, 60, later), (Some(54_000), Some(54_000)), "what was written until it was cut");
        assert_eq!(grown(3, 9, later), (Some(20_000), Some(3_000)), "repl-diskless-sync-delay lies between the two");
        assert_eq!(grown(90, 100, later), (Some(54_000), Some(90_000)), "short against the transfer");
        assert_eq!(grown(60, 120, later), (None, None), "half of it waited for nobody");
        assert_eq!(grown(5, 600, later), (None, None), "an outage lies between the two");
        assert_eq!(grown(60, 60, "Full resync from master: def:61000"), (None, None), "another history");
        // Each look comes when the newest one has been cut as well.
        let mut quick = Memory::default();
        quick.before_judging(&look(0, &[]));
        for (s, stream) in [(0, "abc:1000"), (10, "abc:61000")] {
            let begins = format!("Full resync from master: {stream}");
            quick.before_judging(&look(s + 3, &[(begun, s, 1, &begins), (cut, s + 2, 1, "I/O error")]));
        }
        assert_eq!((quick.trend().grown, quick.trend().grown_ms), (Some(12_000), Some(2_000)), "two of ten seconds");
        let mut memory = Memory::default();
        memory.before_judging(&look(0, &[(begun, 0, 1, "Full resync from master: abc:1000")]));
        assert_eq!((memory.trend().cut_transfers, memory.trend().grown), (0, None));
        let second = [(cut, 200, 1, "I/O error"), (begun, 200, 1, "Full resync from master: abc:5000")];
        memory.before_judging(&look(200, &second));
        memory.before_judging(&look(201, &second));
        assert_eq!((memory.trend().cut_transfers, memory.trend().grown), (1, Some(4_000)), "a line counts once");
        let third = [(cut, 400, 1, "I/O error"), (begun, 400, 1, "Full resync from master: abc:8000")];
        memory.before_judging(&look(400, &third));
        assert_eq!((memory.trend().cut_transfers, memory.trend().grown), (2, Some(3_000)));
        memory.before_judging(&look(500, &[(begun, 499, 3, "PSYNC is not possible, initialize RDB channel.")]));
        assert_eq!(memory.trend().grown, Some(3_000), "a line without an offset");
        for (stream, stands, kept, why) in [
            ("def:9000", 9_000, None, "another history"),
            ("abc:8000", 8_000, None, "nothing was written"),
            ("abc:8000", 8_014, None, "a ping is no write"),
            ("abc:8000", 9_000, Some(3_000), "it joined a save that was under way"),
        ] {
            let mut memory = memory.clone();
            let mut e = look(510, &[(begun, 505, 1, &format!("Full resync from master: {stream}"))]);
            e.source().repl_offset = stands;
            memory.before_judging(&e);
            assert_eq!(memory.trend().grown, kept, "{why}");
        }
        memory.before_judging(&healthy());
        assert_eq!((memory.trend().cut_transfers, memory.trend().grown), (0, None), "whole again");
    }

    #[test]
    fn timeouts_of_transfers_are_counted_beyond_the_logs_window() {
        let mut memory = Memory::default();
        let mut timed_out = |s: u64, last: u64, run_id: &str| {
            let mut e = healthy();
            let at = |s: u64| T0.after(Duration::from_secs(s));
            (e.began, e.ended) = (at(s), at(s));
            e.break_link(LinkState::Sync).log(LogKind::TransferTimeout, "Timeout receiving bulk data", 1);
            e.source().run_id = run_id.to_owned();
            if let Reading::Seen(log) = &mut e.log {
                (log.lines[0].first, log.lines[0].last) = (at(last), at(last));
            }
            memory.before_judging(&e);
            memory.fault_seen(&e);
            (memory.trend().timed_out, memory.trend().cut_transfers)
        };
        assert_eq!((timed_out(0, 0, "A"), timed_out(5, 0, "A")), ((1, 0), (1, 0)), "a line counts once");
        assert_eq!(timed_out(301, 300, "A"), (2, 0));
        assert_eq!(timed_out(2_400, 2_400, "A"), (1, 0), "of no row");
        assert_eq!(timed_out(2_401, 2_400, "B"), (0, 0), "another process of the primary");
    }

    #[test]
    fn what_the_transfers_of_another_process_told_is_forgotten_with_its_counters() {
        let look = |s: u64, run_id: &str, (ended, cuts): (u32, u64), omem: u64| {
            let mut e = healthy();
            (e.began, e.ended) = (T0.after(Duration::from_secs(s)), T0.after(Duration::from_secs(s)));
            e.break_link(LinkState::Sync).log(LogKind::TransferError, "I/O error", ended);
            (e.source().run_id, e.source().output_buffer_cuts) = (run_id.into(), Some(cuts));
            (e.limits().output_hard, e.limits().output_soft) = (256 << 20, 0);
            e.limits().output_largest = Some(omem);
            e
        };
        let mut by_hand = ByHand::default();
        let mut judge = |mut e: Evidence| match by_hand.judge(&mut e) {
            Diagnosis::Broken(finding) => (e.trend, Some((finding.cause, finding.suspected))),
            _ => (e.trend, None),
        };
        judge(look(0, "A", (1, 0), 0));
        let (trend, verdict) = judge(look(10, "A", (5, 4), 200 << 20));
        assert_eq!((trend.cut_transfers, trend.output_largest), (5, 200 << 20));
        assert_eq!(verdict, Some((Cause::OutputBufferExceeded, false)));
        let (trend, _) = judge(look(20, "B", (6, 7), 0));
        assert_eq!((trend.cut_transfers, trend.output_largest, trend.grown), (0, 0, None));
        let (trend, verdict) = judge(look(22, "B", (7, 8), 0));
        assert_eq!(
            (trend.cut_transfers, verdict),
            (1, Some((Cause::OutputBufferExceeded, true))),
            "one cut of anybody"
        );
        let (trend, verdict) = judge(look(40, "B", (11, 11), 0));
        assert_eq!((trend.cut_transfers, verdict), (5, Some((Cause::OutputBufferExceeded, false))), "in step again");
    }
}
