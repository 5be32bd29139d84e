//! What is wrong, as the record names it: when a fault becomes an incident, and when an incident goes on under its next
//! cause.

use std::time::Duration;

use super::Agent;
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::{Cause, Finding};
use crate::model::incident::{Phase, What};

/// A drop of a link that flaps is a break of its own when it has lasted for so long.
const ONE_OF_MANY: Duration = Duration::from_secs(2);

impl Agent {
    /// Opens the incident, or carries it on under its next cause. False: not yet an incident.
    pub(super) fn in_incident(&mut self, finding: &Finding, e: &Evidence, now: Timestamp) -> bool {
        let Some(incident) = self.incidents.open() else {
            if !self.opens(finding, now) {
                return false;
            }
            let primary = e.local_link().map(|link| link.primary.clone());
            let id = self.new_id(now);
            let broke_at = finding.flaps.map_or_else(|| self.memory.broke_at(e), |flaps| flaps.first);
            let down_at = broke_at.max(now.before(Duration::from_secs(86_400)));
            let what = What::Opened {
                finding: finding.clone(),
                address: e.address.clone(),
                primary,
                down_at,
                diagnose_us: micros(now.since(e.ended)),
                look_us: micros(e.ended.since(e.began)),
            };
            let entry = self.entry(id, what, now);
            self.push(entry);
            return true;
        };
        // One drop of many is no news, unless it lasts, or something is done about it.
        let one_of_many = incident.finding.flaps.is_some() && finding.flaps.is_none() && !finding.link_up;
        if one_of_many && self.fault_age(now) < ONE_OF_MANY {
            self.unsteady = true;
            return true;
        }
        if incident.up_at.is_some() && !finding.link_up {
            self.record(What::LinkDown { at: e.ended }, now);
        }
        let Some(incident) = self.incidents.open() else { return false };
        let another = incident.finding.cause != finding.cause;
        let firmer = incident.finding.suspected && !finding.suspected;
        let weaker = finding.suspected && !incident.finding.suspected;
        // The old password was taken away before this one was put right.
        let refused = !another && incident.finding.unrefused && !finding.unrefused;
        let unnamed = incident.finding.cause == Cause::Unknown && another;
        // What is wrong now is another matter: the link came back.
        let linked = incident.up_at.is_none() && finding.link_up && e.local_link().is_some_and(|link| link.up);
        // Still there after a remedy, or after it seemed over.
        let back = incident.phase == Phase::Verifying || linked;
        let news = (another && !weaker) || firmer || refused || unnamed || (back && !another);
        let goes_on = !another || self.takes_over(&incident.finding, finding.cause, now);
        if news && another {
            self.withdraw_for(finding.cause, now);
        }
        if news && goes_on {
            if linked {
                self.record(What::LinkUp { at: e.ended }, now);
            }
            let since = self.memory.verdict().map_or(now, |(_, since)| since);
            self.unsteady = !back && !refused && self.incidents.lately().named_often(finding, since, now);
            if !self.unsteady {
                self.name(finding, e, now);
            }
        }
        true
    }

    /// What is applied or proposed stands under its own cause.
    pub(super) fn name_what_acts(&mut self, finding: &Finding, e: &Evidence, now: Timestamp) {
        if std::mem::take(&mut self.unsteady) {
            self.name(finding, e, now);
        }
    }

    fn name(&mut self, finding: &Finding, e: &Evidence, now: Timestamp) {
        let primary = e.local_link().map(|link| link.primary.clone());
        self.record(What::Diagnosed { finding: finding.clone(), primary }, now);
    }

    /// What broke the link stays the name of its incident while the link heals through a state that passes by itself. A
    /// failover is none on the way back: it is what becomes of the group.
    fn takes_over(&self, known: &Finding, cause: Cause, now: Timestamp) -> bool {
        let stood = self.memory.verdict().map_or(Duration::ZERO, |(_, since)| now.since(since));
        let lasts = !cause.passing() || cause == Cause::FailoverRunning;
        lasts || known.suspected || known.cause == Cause::Unknown || stood >= self.policy.patience
    }

    /// A standing fault opens at once, a suspicion when it outlasts a blip, a passing state when it outlasts patience.
    fn opens(&self, finding: &Finding, now: Timestamp) -> bool {
        if self.unread {
            return false;
        }
        if finding.cause.passing() {
            return self.passing_since.is_some_and(|since| now.since(since) >= self.policy.patience);
        }
        // What is suspected behind a link that is up hurts nobody yet: it has to stand first.
        !finding.suspected || (!finding.link_up && self.fault_age(now) >= self.policy.blip)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
