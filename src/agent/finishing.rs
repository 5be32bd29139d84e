//! The rest of a plan that a crash cut short, once the link is whole: [`crate::decide::finish`].

use std::time::Duration;

use super::Agent;
use crate::decide::{Context, finish};
use crate::model::Timestamp;
use crate::model::evidence::Evidence;
use crate::model::finding::Finding;
use crate::model::remedy::{Decision, RefusalCode};

impl Agent {
    /// True: the incident is not over, since the change has still to reach the config file.
    pub(super) fn finish_cut_short(&mut self, e: &Evidence, now: Timestamp) -> bool {
        let (Some(cut), Some(incident)) = (self.incidents.unwritten().cloned(), self.incidents.open()) else {
            return false;
        };
        // The fault that the plan was made for is gone, and what was named last says nothing of what is left.
        let finding = Finding { suspected: false, ..incident.finding.clone() };
        let history = self.history(incident.opened_at, now);
        let context = Context { evidence: e, finding: &finding, policy: &self.policy, history: &history, now };
        let Some(decision) = finish(&cut, &context) else { return false };
        let decision = self.minded(decision, now);
        self.last.decision = Some(decision.clone());
        let over = match decision {
            Decision::Apply(plan) => {
                self.begin(plan, now);
                return true;
            }
            Decision::Propose(plan) => {
                self.propose(plan, e.began, now);
                self.in_flight.is_none() && self.incidents.open().is_none_or(|open| open.proposal.is_none())
            }
            Decision::Hold(refusal) => {
                let over = lasts(refusal.code);
                self.hold(refusal, now);
                over
            }
        };
        self.next_look = now.after(self.policy.settle.max(Duration::from_secs(1)));
        !over
    }
}

/// Reasons that no patience lifts: it stays with the people who are told of them.
fn lasts(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::ObserveOnly
            | RefusalCode::ApprovalNeeded
            | RefusalCode::AttemptsExhausted
            | RefusalCode::PermissionDenied
    )
}
