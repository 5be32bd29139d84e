//! What a round would come to now: the agent as the record leaves it, in memory only. For `--check`, which looks, and
//! records and changes nothing.

use std::time::Duration;

use crate::agent::{Agent, Host, Input};
use crate::config::Settings;
use crate::daemon::{LEDGER, Watched};
use crate::ledger::{Ledger, LedgerError};
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::Finding;
use crate::model::incident::Entry;
use crate::model::people::Pause;
use crate::model::remedy::Decision;

const DAY: Duration = Duration::from_secs(86_400);

pub struct Foresight {
    agent: Agent,
    now: Timestamp,
    /// Why the record could not be read: pauses, cool-downs and attempts are then not known.
    pub unread: Option<String>,
}

struct Before {
    entries: Vec<Entry>,
    acts: Vec<Entry>,
    pauses: Vec<Pause>,
}

impl Foresight {
    pub fn of(settings: &Settings, watched: &Watched, now: Timestamp) -> Foresight {
        let mut agent = Agent::new(watched.identity(&settings.agent.host, 0), settings.policy.clone(), now);
        let unread = match read(settings, watched, now) {
            Ok(before) => {
                agent.replay(&before.entries, now);
                let mut host = Host::default();
                before.acts.iter().for_each(|entry| host.take(&entry.dated_at_most(now)));
                agent.handle(Input::Beside(host.beside(&watched.link())), now);
                let pauses = before.pauses.into_iter().map(|pause| pause.dated_at_most(now)).collect();
                agent.handle(Input::Paused(pauses), now);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        Foresight { agent, now, unread }
    }

    /// What it would do about a finding, once that has stood for as long as it has to.
    pub fn decide(&self, evidence: &Evidence, finding: &Finding) -> Decision {
        self.agent.foresee(evidence, finding, self.now)
    }

    /// What it would do about a plan that was cut short before the config file was written.
    pub fn rest(&self, evidence: &Evidence) -> Option<Decision> {
        self.agent.rest_of_plan(evidence, self.now)
    }
}

fn read(settings: &Settings, watched: &Watched, now: Timestamp) -> Result<Before, LedgerError> {
    let since = now.before(DAY);
    match Ledger::open_read_only(&settings.agent.state_dir.join(LEDGER)) {
        Ok(ledger) => Ok(Before {
            entries: ledger.history(&watched.name, since)?,
            acts: ledger.acts()?,
            pauses: ledger.pauses(since)?,
        }),
        // Nothing was ever recorded here.
        Err(LedgerError::Absent { .. }) => Ok(Before { entries: Vec::new(), acts: Vec::new(), pauses: Vec::new() }),
        Err(error) => Err(error),
    }
}
