//! When Sentinels began failovers, their own or those that somebody asked for: from their events and from looks. What is
//! known is only added to, since whoever neither tried nor voted goes on by an earlier one (`decide::retry`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Timestamp;
use crate::model::evidence::Evidence;

/// Between an event at a Sentinel and our hearing of it.
const HEARD_LATE: Duration = Duration::from_millis(500);
/// How many are remembered. Most are minutes apart; with votes that may be of other groups they are several a failure.
const REMEMBERED: usize = 256;
/// A failover that nobody is elected for ends after so long, whatever the timeout (Redis 7.0.15,
/// SENTINEL_ELECTION_TIMEOUT).
const ELECTION: Duration = Duration::from_secs(10);

/// When each Sentinel, by its id, was last seen without a failover of its own. Whoever runs one is not here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calm(BTreeMap<String, Timestamp>);

impl Calm {
    /// Takes in what was heard until this look, and what it shows. Most tries are over before a look could see them.
    pub fn note_tries(&mut self, tries: &mut Vec<(Timestamp, Timestamp)>, e: &Evidence) {
        for (first, last) in &e.trend.tries {
            let heard = (first.before(HEARD_LATE), *last);
            match tries.iter_mut().find(|(from, _)| *from == heard.0) {
                Some(known) => known.1 = heard.1,
                None => tries.push(heard),
            }
        }
        for (_, says) in e.answering() {
            if !says.fails_over() {
                self.0.insert(says.id.clone(), e.ended);
                continue;
            }
            // One that ran when we first saw this Sentinel began nobody knows when. One that began while it did not answer
            // cannot be older than its end.
            let Some(calm) = self.0.remove(&says.id) else { continue };
            let longest = Duration::from_millis(says.failover_timeout_ms).max(ELECTION);
            let seen = (calm.max(e.ended.before(longest)), e.ended);
            // An event is closer.
            if !tries.iter().any(|(from, to)| seen.0.before(HEARD_LATE) <= *from && *to <= seen.1) {
                tries.push(seen);
            }
        }
        tries.sort();
        let surplus = tries.len().saturating_sub(REMEMBERED);
        tries.drain(..surplus);
    }
}
