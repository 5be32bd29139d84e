//! How often a full sync has begun, and how far the furthest came. A log remembers two minutes, and a data set of a
//! production's size may take longer than that to be cut.

use std::time::Duration;

use crate::model::evidence::{Evidence, LogKind};
use crate::model::{Endpoint, Timestamp};

/// A link that has been up for so long has ended the count. One look at a link that is up ends none: it may be cut when it
/// has just loaded.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attempts {
    /// The local process, and whom it follows: another has attempts of its own.
    between: Option<(String, Endpoint)>,
    up_since: Option<Timestamp>,
    /// The newest line of one that began. Each look counts one at most: a log that is followed anew is read back, and its
    /// counts are no measure.
    line: Option<Timestamp>,
    logged: u32,
    /// By the primary's count of full syncs, while it has no other replica.
    counted: u32,
    full: Option<(String, u64)>,
    last: Option<Timestamp>,
    /// How often what had come was less than at the look before.
    fell: u32,
    came: u64,
    furthest: u64,
}

impl Attempts {
    pub fn furthest(&self) -> u64 {
        self.furthest
    }

    /// How many, and when the newest was found.
    pub fn begun(&self) -> (u32, Option<Timestamp>) {
        (self.logged.max(self.fell).max(self.counted), self.last)
    }

    /// Takes in a look; to be asked for the furthest before it.
    pub fn looked(&mut self, e: &Evidence) {
        let before = self.begun().0;
        self.count(e);
        if self.begun().0 > before {
            self.last = Some(e.ended);
        }
    }

    fn count(&mut self, e: &Evidence) {
        let Some((local, link)) = e.local.seen().zip(e.local_link()) else { return };
        let between = Some((local.run_id.clone(), link.primary.clone()));
        if self.between != between {
            *self = Attempts { between, line: self.line, ..Attempts::default() };
        }
        if link.up {
            let since = *self.up_since.get_or_insert(e.ended);
            if e.ended.since(since) >= STEADY {
                // What is in the log is of before, and is known.
                let between = self.between.take();
                *self = Attempts { between, up_since: Some(since), line: self.line, ..Attempts::default() };
            }
        } else {
            self.up_since = None;
        }
        if let Some(line) = e.logged(LogKind::FullResync) {
            let anew = self.line.map_or(!link.up, |last| line.last > last);
            self.logged = self.logged.saturating_add(u32::from(anew));
            self.line = self.line.max(Some(line.last));
        }
        if let Some(primary) = e.primary.seen() {
            let alone = primary.replicas.len() <= 1;
            if let Some((_, known)) = self.full.take_if(|(run_id, _)| alone && *run_id == primary.run_id)
                && !link.up
            {
                let more = u32::try_from(primary.sync_full.saturating_sub(known)).unwrap_or(u32::MAX);
                self.counted = self.counted.saturating_add(more);
            }
            self.full = alone.then(|| (primary.run_id.clone(), primary.sync_full));
        }
        if link.in_sync() && !link.up {
            let came = e.came();
            // The first is seen by its bytes, each later one by what is missing of them.
            if came < self.came || (self.fell == 0 && came > 0) {
                self.fell = self.fell.saturating_add(1);
            }
            self.came = came;
            self.furthest = self.furthest.max(came);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::world::{Bend, T0, healthy};
    use crate::model::evidence::LinkState;

    fn look(s: u64, read: Option<u64>) -> Evidence {
        let mut e = healthy();
        e.shift(T0.after(Duration::from_secs(s)));
        if let Some(read) = read {
            e.break_link(LinkState::Sync);
            (e.link().syncing, e.link().sync_read) = (true, read);
        }
        e
    }

    fn told(looks: &[Evidence]) -> (u32, u64) {
        let mut attempts = Attempts::default();
        looks.iter().for_each(|e| attempts.looked(e));
        (attempts.begun().0, attempts.furthest())
    }

    #[test]
    fn without_a_log_an_attempt_shows_by_bytes_that_are_gone() {
        let cycle = |from: u64| [look(from, Some(0)), look(from + 60, Some(500)), look(from + 120, Some(900))];
        assert_eq!(told(&cycle(0)), (1, 900));
        assert_eq!(told(&[cycle(0), cycle(200), cycle(400)].concat()), (3, 900));
        let mut between = look(190, Some(0));
        (between.link().state, between.link().syncing) = (LinkState::Connect, false);
        assert_eq!(
            told(&[cycle(0).as_slice(), &[between], &cycle(200)].concat()),
            (2, 900),
            "INFO tells of none there"
        );
        let restarted = |mut looks: Vec<Evidence>| {
            looks.iter_mut().for_each(|e| e.server().run_id = "anew".into());
            looks
        };
        assert_eq!(told(&[cycle(0).to_vec(), cycle(200).to_vec(), restarted(cycle(400).to_vec())].concat()).0, 1);
        let mut loads = look(130, Some(900));
        loads.server().loading_bytes = Some(300);
        assert_eq!(told(&[cycle(0).as_slice(), &[loads]].concat()), (1, 1_200), "it goes on");
    }

    #[test]
    fn a_primary_counts_for_its_only_replica() {
        let counts = |s: u64, full: u64, others: usize| {
            let mut e = look(s, Some(0));
            e.source().sync_full = full;
            e.source().replicas = vec![crate::diagnose::tests::world::listed("10.0.0.9:1", "online"); others];
            e
        };
        let mut up = look(0, None);
        up.source().sync_full = 7;
        assert_eq!(told(&[up.clone(), counts(1, 8, 1), counts(2, 10, 0)]).0, 3);
        assert_eq!(told(&[up, counts(1, 8, 2), counts(2, 10, 2)]).0, 0, "whose?");
    }

    #[test]
    fn a_line_counts_once_and_beyond_the_logs_window() {
        let begun = |s: u64, at: u64, count: u32| {
            let mut e = look(s, Some(1));
            e.log(LogKind::FullResync, "Full resync from master: x:1", count);
            if let crate::model::evidence::Reading::Seen(log) = &mut e.log {
                log.lines[0].last = T0.after(Duration::from_secs(at));
            }
            e
        };
        assert_eq!(told(&[begun(1, 1, 1), begun(2, 1, 1), begun(200, 199, 1), begun(400, 399, 1)]).0, 3);
        assert_eq!(told(&[begun(1, 1, 1), begun(5, 1, 2)]).0, 1, "read again");
    }

    #[test]
    fn a_moment_of_a_link_that_is_up_ends_no_count_and_a_steady_one_does() {
        let twice = [look(0, Some(9)), look(50, Some(3))];
        let up = |from: u64, to: u64| [look(from, None), look(to, None)];
        assert_eq!(told(&[twice.as_slice(), &up(60, 62), &[look(70, Some(1))]].concat()).0, 3);
        assert_eq!(told(&[twice.as_slice(), &up(60, 75), &[look(80, Some(1))]].concat()), (1, 1));
    }
}
