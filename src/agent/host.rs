//! What the remedies of this whole host have done: a fold over the entries of all its agents. An agent is given its
//! part of it as an input, and knows nothing of the other agents else.

use std::time::Duration;

use crate::decide::{Failures, Run};
use crate::model::incident::{Entry, What};
use crate::model::remedy::{Outcome, Remedy};
use crate::model::{LinkId, Timestamp};

/// What is older bears on no limit: the longest cool-down is a day, and begins at the end of a run.
const KEEP: Duration = Duration::from_secs(25 * 3600);

/// A host's remedies, by the entries that tell of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    runs: Vec<(LinkId, Run)>,
    /// Failures since the last remedy that went well.
    row: u32,
    failures: Failures,
}

/// An agent's part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// Runs on all instances of the same group on this host, its own too.
    pub group_runs: Vec<Run>,
    pub failures: Failures,
}

impl Host {
    pub fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Intended { plan, .. } => {
                self.runs.retain(|(_, run)| entry.at.since(run.began) < KEEP);
                self.runs.push((entry.link.clone(), Run { remedy: plan.remedy, began: entry.at, ended: None }));
            }
            What::Ended { outcome, .. } => {
                let remedy = self.end(&entry.link, entry.at);
                match outcome {
                    Outcome::Failed(why) => {
                        self.row += 1;
                        if self.row >= self.failures.in_a_row {
                            let what = remedy.map_or_else(|| "a remedy".to_owned(), |remedy| remedy.to_string());
                            self.failures.in_a_row = self.row;
                            self.failures.last = format!("{what} on {}: {why}", entry.link.replica);
                        }
                    }
                    // A request that a Sentinel took has proved nothing yet.
                    Outcome::Changed(_) | Outcome::UnderWay(_) if remedy == Some(Remedy::RequestFailover) => {}
                    Outcome::Changed(_) | Outcome::UnderWay(_) => self.row = 0,
                    // Nothing was changed, which proves nothing.
                    Outcome::AlreadySo(_) => {}
                    Outcome::PreconditionGone(_) => self.forget_unasked(&entry.link),
                }
            }
            What::Interrupted { .. } => _ = self.end(&entry.link, entry.at),
            What::Acknowledged { .. } => {
                self.row = 0;
                self.failures = Failures::default();
            }
            _ => {}
        }
    }

    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Whether an entry changes anything here.
    pub fn concerns(what: &What) -> bool {
        matches!(
            what,
            What::Intended { .. } | What::Ended { .. } | What::Interrupted { .. } | What::Acknowledged { .. }
        )
    }

    pub fn beside(&self, link: &LinkId) -> Beside {
        let of_group = |known: &LinkId| if link.group.is_empty() { known == link } else { known.group == link.group };
        Beside {
            group_runs: self.runs.iter().filter(|(known, _)| of_group(known)).map(|(_, run)| *run).collect(),
            failures: self.failures.clone(),
        }
    }

    /// No Sentinel was asked, so the group has nothing to recover from.
    fn forget_unasked(&mut self, link: &LinkId) {
        let last = self.runs.iter().rposition(|(known, _)| known == link);
        if let Some(last) =
            last.filter(|last| self.runs.get(*last).is_some_and(|(_, run)| run.remedy == Remedy::RequestFailover))
        {
            self.runs.remove(last);
        }
    }

    fn end(&mut self, link: &LinkId, at: Timestamp) -> Option<Remedy> {
        let (_, run) = self.runs.iter_mut().rev().find(|(known, _)| known == link)?;
        run.ended.get_or_insert(at);
        Some(run.remedy)
    }
}
