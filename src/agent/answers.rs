//! What people answer: a proposal is approved or rejected, an incident is taken; and the pauses that they set.
//!
//! An approval sets nothing off by itself. It asks for a look that begins after it, and only when that look leads to the
//! same plan is the plan carried out. Whatever else it leads to withdraws the proposal, with the reason.

use std::time::Duration;

use super::Agent;
use crate::decide::{LedgerHealth, in_words, why_ask};
use crate::model::finding::Cause;
use crate::model::incident::{Incident, IncidentId, Phase, What};
use crate::model::people::{Actor, Pause};
use crate::model::remedy::{Decision, Plan, Precondition, Refusal, RefusalCode, Remedy};
use crate::model::{Timestamp, human};

/// So long is an approval good for, while the turn of a failover does not come or the world moves before the first step:
/// more than two rounds of three agents.
pub const TURNS: Duration = Duration::from_secs(120);

impl Agent {
    /// A person approves the plan that is proposed. `read`: the print of the plan that they have read, if they say.
    pub fn approve(&mut self, by: Actor, read: Option<&str>, now: Timestamp) -> Result<(), String> {
        let (incident, plan) = self.proposal(now)?;
        let print = plan.print();
        if let Some(read) = read.filter(|read| *read != print) {
            return Err(format!(
                "the plan is another than {read} by now: {}; to approve that one: relinkd approve {} --plan {print}",
                in_words(plan),
                incident.id
            ));
        }
        if let Some((at, before)) = &incident.people.approved {
            return Err(format!("{before} approved it at {at}, and it is being decided anew"));
        }
        self.record(What::Approved { by }, now);
        self.flush(None);
        self.look(true, now);
        Ok(())
    }

    /// A person does not want the plan that is proposed.
    pub fn reject(&mut self, by: Actor, now: Timestamp) -> Result<(), String> {
        let (incident, plan) = self.proposal(now)?;
        if let Some((at, before)) = &incident.people.approved {
            return Err(format!("{before} approved it at {at}, and it is being decided anew"));
        }
        let until = now.after(self.policy.proposal_expires);
        let refusal = rejected(plan, &by, now, until);
        self.record(What::Rejected { by, until }, now);
        self.record(What::Held { refusal: refusal.clone() }, now);
        self.flush(None);
        self.last.decision = Some(Decision::Hold(refusal));
        Ok(())
    }

    /// A person takes an incident. Nobody is reminded of it any more, its attempts count anew, and the stop after
    /// failures in a row is lifted. Its end is no hindrance: the stop that it led to may outlast it.
    pub fn acknowledge(&mut self, id: &IncidentId, by: Actor, name: String, now: Timestamp) -> Result<(), String> {
        self.writable()?;
        let entry = self.entry(id.clone(), What::Acknowledged { by, name }, now);
        self.push(entry);
        self.flush(None);
        self.look(false, now);
        Ok(())
    }

    /// The pauses that are in force, or were a while ago. Those of others pass this agent by.
    pub(super) fn pauses_are(&mut self, pauses: Vec<Pause>, now: Timestamp) {
        let ours = pauses.into_iter().filter(|pause| pause.scope.holds(&self.identity.link)).collect();
        if self.pauses != ours {
            self.pauses = ours;
            if self.troubled() {
                self.look(false, now);
            }
        }
    }

    /// The pause that holds this instance; of several, the one that ends last.
    pub(super) fn paused(&self, now: Timestamp) -> Option<&Pause> {
        self.pauses.iter().filter(|pause| pause.in_force(now)).max_by_key(|pause| pause.over())
    }

    /// When the last pause that held this instance was over.
    pub(super) fn pause_over(&self, now: Timestamp) -> Option<Timestamp> {
        self.pauses.iter().map(Pause::over).filter(|over| *over <= now).max()
    }

    /// A plan that was rejected is held for as long as the no is good.
    pub(super) fn minded(&self, decision: Decision, now: Timestamp) -> Decision {
        let Decision::Propose(plan) = &decision else { return decision };
        let rejections = self.incidents.open().map_or(&[][..], |incident| &incident.people.rejected);
        match rejections.iter().rev().find(|no| no.plan.same(plan) && now < no.until) {
            Some(no) => Decision::Hold(rejected(plan, &no.by, no.at, no.until)),
            None => decision,
        }
    }

    /// The decision of a look that began at `began` is to propose this plan.
    pub(super) fn propose(&mut self, plan: Plan, began: Timestamp, now: Timestamp) {
        let known = self.incidents.open().filter(|incident| incident.phase == Phase::Proposed);
        let known = known.and_then(|incident| Some((incident.proposal.clone()?, incident)));
        let (same, approved, expired) = match &known {
            Some((known, incident)) => (
                known.same(&plan),
                incident.people.approved.as_ref().map(|(at, _)| *at).filter(|at| began >= *at),
                incident.people.expires.is_some_and(|at| now >= at),
            ),
            None => (false, None, false),
        };
        let spent = approved.is_some_and(|at| now.since(at) >= TURNS);
        if same && approved.is_some() && !spent {
            return self.begin(plan, now);
        }
        let over = expired || spent;
        if let Some((before, incident)) = known.filter(|_| !same || over) {
            let why = match same {
                true if spent => not_begun(incident),
                true => "nobody answered it in time".to_owned(),
                false => difference(&before, &plan),
            };
            self.record(What::Withdrawn { why }, now);
        }
        if !same || over {
            if !same {
                self.record(What::Held { refusal: why_ask(&plan) }, now);
            }
            let expires = Some(now.after(self.policy.proposal_expires));
            self.record(What::Proposed { plan, expires }, now);
        }
        self.tell_if_due(now);
        self.wait(now);
    }

    /// What is proposed for one cause is no remedy for the next, and whoever reads or approves it learns why.
    pub(super) fn withdraw_for(&mut self, cause: Cause, now: Timestamp) {
        let Some(incident) = self.incidents.open().filter(|incident| incident.phase == Phase::Proposed) else { return };
        let why = format!("it was proposed for {}, and what is seen now is {cause}", incident.finding.cause);
        self.record(What::Withdrawn { why }, now);
    }

    /// After a look that began at `began`: an approval that it did not carry out is withdrawn.
    pub(super) fn settle_approval(&mut self, began: Timestamp, now: Timestamp) {
        let waits = self.incidents.open().and_then(|incident| incident.people.approved.as_ref());
        let Some((at, _)) = waits.filter(|(at, _)| began >= *at && self.is_idle()) else { return };
        if self.awaits_its_turn(*at, now) {
            return;
        }
        let why = match &self.last.decision {
            Some(Decision::Hold(refusal)) => format!("it is held now: {}: {}", refusal.code, refusal.detail),
            _ => format!("the plan does not fit any more: {}", self.last.sentence),
        };
        self.record(What::Withdrawn { why }, now);
        self.flush(None);
    }

    /// A failover that was approved a moment ago waits for its turn, for a Sentinel's own next try to be over, and for what
    /// the next look may show.
    fn awaits_its_turn(&self, approved: Timestamp, now: Timestamp) -> bool {
        let Some(Decision::Hold(refusal)) = &self.last.decision else { return false };
        let open = self.incidents.open();
        let expires = open.and_then(|incident| incident.people.expires);
        let dropped = open.and_then(|incident| incident.idle_at.last()).is_some_and(|at| *at >= approved);
        // The world moved a moment ago, and the yes is as good as it was.
        let rests = refusal.code == RefusalCode::Cooldown && dropped;
        refusal.remedy == Some(Remedy::RequestFailover)
            && (rests
                || matches!(
                    refusal.code,
                    RefusalCode::NotOurTurn
                        | RefusalCode::SentinelActing
                        | RefusalCode::EvidenceStale
                        | RefusalCode::EvidenceMissing
                ))
            && now.since(approved) < TURNS
            && expires.is_none_or(|at| now < at)
    }

    /// An approval does not outlive the process that it was given to: what it was about is looked at and proposed anew.
    pub(super) fn forget_approval(&mut self, now: Timestamp) {
        if self.incidents.open().is_some_and(|incident| incident.people.approved.is_some()) {
            let why = "relinkd was started anew before the approved plan began".to_owned();
            self.record(What::Withdrawn { why }, now);
            self.flush(None);
        }
    }

    /// The commands with which a person answers, first among what there is to do.
    pub(super) fn ways_to_answer(&self, incident: &Incident) -> Vec<String> {
        match (&incident.proposal, incident.phase) {
            (Some(plan), Phase::Proposed) => vec![
                format!("relinkd approve {} --plan {}   # to do what is proposed", incident.id, plan.print()),
                format!("relinkd reject {}   # to leave it", incident.id),
            ],
            (_, Phase::Escalated) if incident.people.acknowledged.is_none() => {
                vec![format!("relinkd ack {} --by NAME   # to take it", incident.id)]
            }
            _ => Vec::new(),
        }
    }

    fn proposal(&self, now: Timestamp) -> Result<(&Incident, &Plan), String> {
        self.writable()?;
        let name = &self.identity.link.replica;
        let incident = self.incidents.open().ok_or_else(|| format!("{name} has no open incident"))?;
        let proposed = incident.proposal.as_ref().filter(|_| incident.phase == Phase::Proposed);
        let plan = proposed.ok_or_else(|| match &incident.people.withdrawn {
            Some(why) => format!("nothing is proposed for {name} now; the last proposal was withdrawn: {why}"),
            None => format!("nothing is proposed for {name} now: the incident is {}", incident.phase.name()),
        })?;
        match incident.people.expires.filter(|at| now >= *at) {
            Some(at) => Err(format!("the proposal expired at {at}; if it still fits, it is made anew in a moment")),
            None => Ok((incident, plan)),
        }
    }

    fn writable(&self) -> Result<(), String> {
        match self.ledger_health() {
            _ if self.stopping => Err("relinkd is stopping".to_owned()),
            LedgerHealth::Writable => Ok(()),
            LedgerHealth::Unwritable(why) => Err(format!("the answer cannot be recorded, so it does not count: {why}")),
        }
    }
}

/// Why an approved plan that fits at each look was not carried out.
fn not_begun(incident: &Incident) -> String {
    let last = incident.actions.last().filter(|action| action.outcome.is_idle());
    let dropped = last.map(|action| format!("; it was dropped last with: {}", action.outcome.detail()));
    format!("it could not be carried out within {} of the approval{}", human(TURNS), dropped.unwrap_or_default())
}

fn rejected(plan: &Plan, by: &Actor, at: Timestamp, until: Timestamp) -> Refusal {
    let detail = format!(
        "{by} rejected it at {at}; it is proposed again when the cause or the plan is another, or at {until}: it would {}",
        in_words(plan)
    );
    Refusal { code: RefusalCode::ApprovalNeeded, remedy: Some(plan.remedy), detail }
}

/// What is another in a plan: the remedy, the steps, or the world that it was made for.
fn difference(before: &Plan, now: &Plan) -> String {
    if before.remedy != now.remedy {
        return format!("the remedy is {} now, not {}", now.remedy, before.remedy);
    }
    let (was, is) = (in_words(before), in_words(now));
    if was != is {
        return format!("it was to {was}; it is now to {is}");
    }
    let expects = |plan: &Plan| plan.steps.first().map(|step| step.expect.clone()).unwrap_or_default();
    moved(&expects(before), &expects(now)).unwrap_or_else(|| "what it rests on is another".to_owned())
}

fn moved(was: &Precondition, is: &Precondition) -> Option<String> {
    let name = |at: &Option<crate::model::Endpoint>| at.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    if was.run_id != is.run_id {
        return Some("the server was started anew since it was proposed".to_owned());
    }
    if was.replica_of != is.replica_of {
        return Some(format!("the replica follows {} now, not {}", name(&is.replica_of), name(&was.replica_of)));
    }
    let named = was.sentinels_name != is.sentinels_name;
    named.then(|| format!("the Sentinels name {} now, not {}", name(&is.sentinels_name), name(&was.sentinels_name)))
}
