//! One row of the table: what its rotations met, added up, and what there is to know where an aim was missed.

use std::time::Duration;

use crate::kind::Kind;
use crate::traffic::Met;

/// A forced reconnect is over within this; what is longer is a link that was down.
const RECONNECT: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct Tally {
    pub runs: usize,
    pub met: Met,
    pub reconnects: u64,
    pub incidents: usize,
    pub failovers: usize,
    pub unfinished: usize,
    pub took: Duration,
    /// Of each rotation in which an aim was missed: which it was, and what relinkd said.
    pub troubles: Vec<String>,
    /// The row ended before its time.
    pub broken: Option<String>,
}

impl Tally {
    pub fn add(&mut self, met: &Met) {
        self.runs += 1;
        self.met.logins += met.logins;
        self.met.refused += met.refused;
        self.met.unanswered += met.unanswered;
        self.met.acked += met.acked;
        self.met.write_errors += met.write_errors;
        self.met.link_down += met.link_down;
        self.met.link_falls += met.link_falls;
        self.met.longest_fall = self.met.longest_fall.max(met.longest_fall);
        self.met.sdown += met.sdown;
        self.met.full_resyncs += met.full_resyncs;
        self.met.lost += met.lost;
        self.met.texts.extend(met.texts.iter().take(2).cloned());
    }

    /// Link-down time beside the reconnects that the plan itself forces.
    fn down(&self) -> Duration {
        let planned = self.met.link_falls <= self.reconnects && self.met.longest_fall <= RECONNECT;
        if planned { Duration::ZERO } else { self.met.link_down }
    }

    pub fn meets_the_aims(&self) -> bool {
        let met = &self.met;
        let zeroes = [met.refused, met.unanswered, met.write_errors, met.sdown, met.full_resyncs, met.lost];
        let undisturbed = zeroes.iter().all(|it| *it == 0) && self.down().is_zero();
        undisturbed && self.unfinished == 0 && self.incidents == 0 && self.broken.is_none()
    }

    pub fn row(&self, kind: Kind, what: &str) -> String {
        let met = &self.met;
        let ended = if self.broken.is_some() { " (ended early, see below)" } else { "" };
        format!(
            "| {kind} | {what}{ended} | {} | {} of {} | {:.0} | {} | {} | {} | {} of {} | {} | {} |",
            self.runs,
            met.refused,
            met.logins,
            self.down().as_secs_f64() * 1e3,
            met.sdown,
            self.failovers,
            met.full_resyncs,
            met.lost,
            met.acked,
            self.unfinished,
            self.incidents,
        )
    }

    pub fn note(&self, kind: Kind, what: &str) -> String {
        let met = &self.met;
        let forced = match self.reconnects {
            0 => String::new(),
            count => format!("; {count} forced reconnects"),
        };
        let unanswered = match met.unanswered {
            0 => String::new(),
            count => format!("; {count} logins without an answer"),
        };
        let texts = match met.texts.as_slice() {
            [] => String::new(),
            texts => format!("; first: {}", texts.iter().take(3).cloned().collect::<Vec<_>>().join(", ")),
        };
        let broken = self.broken.iter().map(|why| format!("\n  - it ended early: {why}"));
        let troubles = self.troubles.iter().map(|trouble| format!("\n  - {}", trouble.replace('\n', "\n    ")));
        format!(
            "- {kind}, {what}: {:.1} s a rotation{forced}; links seen down {} times, {:.1} ms in all, the longest \
             {:.1} ms{unanswered}{texts}{}",
            self.took.as_secs_f64() / self.runs.max(1) as f64,
            met.link_falls,
            met.link_down.as_secs_f64() * 1e3,
            met.longest_fall.as_secs_f64() * 1e3,
            broken.chain(troubles).collect::<String>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_of_the_plan_is_no_link_that_was_down() {
        let fall = Duration::from_millis(2);
        let met = Met { link_falls: 1, link_down: fall, longest_fall: fall, ..Met::default() };
        let mut tally = Tally { reconnects: 1, ..Tally::default() };
        tally.add(&met);
        assert!(tally.meets_the_aims());
        tally.add(&met);
        assert_eq!(tally.down(), fall * 2);
        assert!(!tally.meets_the_aims());
    }

    #[test]
    fn a_row_that_ended_early_meets_no_aim_and_says_why() {
        let tally = Tally { broken: Some("a server died".to_owned()), ..Tally::default() };
        assert!(!tally.meets_the_aims());
        assert!(tally.row(Kind::Redis70, "relinkd").contains("ended early"));
        assert!(tally.note(Kind::Redis70, "relinkd").contains("a server died"));
    }
}
