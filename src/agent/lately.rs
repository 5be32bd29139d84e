//! What was written of an open incident lately. Two causes that alternate, or two reasons to hold, would write at every
//! look, and an incident that is open is never pruned: so each is written a few times in ten minutes at most. `status` shows
//! what was seen last all the same, and what is applied or proposed has its cause written before it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Timestamp;
use crate::model::finding::{Cause, Finding};
use crate::model::remedy::{Refusal, RefusalCode, Remedy};

/// What was written so often within this is not written again. Once is too few: a failover that Sentinel gives up leads
/// back to the cause before within a second.
const OFTEN: usize = 3;
const WITHIN: Duration = Duration::from_secs(600);

/// What has stood for so long without a break is written all the same: that is no more often.
const STEADY: Duration = Duration::from_secs(200);

/// A proposal that comes and goes is made anew no sooner than this.
const PROPOSED: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lately {
    /// When each verdict, suspected or not, was written.
    named: BTreeMap<(Cause, bool), Vec<Timestamp>>,
    /// When each reason to hold was written, under the cause that stood then.
    held: BTreeMap<Hold, Vec<Timestamp>>,
    last_held: Option<Hold>,
    proposed: Option<Timestamp>,
}

pub(super) type Hold = (Cause, RefusalCode, Option<Remedy>, String);

/// `data-at-risk` has many grounds, and who has mended one has to read of the next. Figures in it may change from look to
/// look.
pub(super) fn hold(cause: Cause, refusal: &Refusal) -> Hold {
    let words = || refusal.detail.split(|c: char| c.is_ascii_digit()).collect::<String>();
    let ground = if refusal.code == RefusalCode::DataAtRisk { words() } else { String::new() };
    (cause, refusal.code, refusal.remedy, ground)
}

fn note<K: Ord>(written: &mut BTreeMap<K, Vec<Timestamp>>, what: K, at: Timestamp) {
    written.values_mut().for_each(|times| times.retain(|known| at.since(*known) < WITHIN));
    written.retain(|_, times| !times.is_empty());
    written.entry(what).or_default().push(at);
}

fn often<K: Ord>(written: &BTreeMap<K, Vec<Timestamp>>, what: &K, now: Timestamp) -> bool {
    let recent = |times: &Vec<Timestamp>| times.iter().filter(|at| now.since(**at) < WITHIN).count();
    written.get(what).map_or(0, recent) >= OFTEN
}

impl Lately {
    pub(super) fn note_cause(&mut self, finding: &Finding, at: Timestamp) {
        note(&mut self.named, (finding.cause, finding.suspected), at);
    }

    pub(super) fn note_hold(&mut self, cause: Cause, refusal: &Refusal, at: Timestamp) {
        let hold = hold(cause, refusal);
        note(&mut self.held, hold.clone(), at);
        self.last_held = Some(hold);
    }

    pub(super) fn note_proposal(&mut self, at: Timestamp) {
        self.proposed = Some(at);
    }

    /// Whether it was written so often that it is not written again yet, and has not stood since.
    pub(super) fn named_often(&self, finding: &Finding, since: Timestamp, now: Timestamp) -> bool {
        now.since(since) < STEADY && often(&self.named, &(finding.cause, finding.suspected), now)
    }

    /// The hold that was written last, or that was written often and has not stood since then.
    pub(super) fn held(&self, cause: Cause, refusal: &Refusal, stood: Duration, now: Timestamp) -> bool {
        let hold = hold(cause, refusal);
        self.last_held.as_ref() == Some(&hold) || (stood < STEADY && often(&self.held, &hold, now))
    }

    pub(super) fn proposed(&self, now: Timestamp) -> bool {
        self.proposed.is_some_and(|at| now.since(at) < PROPOSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_ground_or_cause_is_another_reason_and_another_figure_is_not() {
        use RefusalCode::{Cooldown, DataAtRisk};
        const DOWN: Cause = Cause::PrimaryDown;
        let (behind, further) =
            ("would be promoted at offset 7, 900 has been seen", "would be promoted at offset 7, 1200 has been seen");
        for (one, other, same) in [
            ((DOWN, DataAtRisk, behind), (DOWN, DataAtRisk, further), true),
            ((DOWN, DataAtRisk, behind), (DOWN, DataAtRisk, "it fails to save its data"), false),
            ((DOWN, Cooldown, "ended 3 s ago"), (DOWN, Cooldown, "ended 1 min ago"), true),
            ((DOWN, Cooldown, behind), (DOWN, DataAtRisk, behind), false),
            ((DOWN, Cooldown, behind), (Cause::PrimaryHung, Cooldown, behind), false),
        ] {
            let refusal =
                |code, detail: &str| Refusal { code, remedy: Some(Remedy::RequestFailover), detail: detail.to_owned() };
            let mut lately = Lately::default();
            lately.note_hold(one.0, &refusal(one.1, one.2), Timestamp(0));
            let known = lately.held(other.0, &refusal(other.1, other.2), Duration::ZERO, Timestamp(0).after(WITHIN));
            assert_eq!(known, same, "{one:?} {other:?}");
        }
    }
}
