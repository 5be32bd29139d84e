//! What people say to relinkd: who they are, the pauses that they set, and their answers to what it proposes.

use serde::{Deserialize, Serialize};

use super::remedy::Plan;
use super::{LinkId, Timestamp};

/// Who spoke through the control socket, as the kernel knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub uid: u32,
    /// The user's name on this host, or `uid N` where the host's user database has none.
    pub name: String,
    /// Who root was before `sudo`, in sudo's words: a claim, kept because root alone says little.
    #[serde(default)]
    pub sudo: Option<String>,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.sudo {
            Some(before) => write!(f, "{before} (as {})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What a pause is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every instance that this relinkd watches.
    Host,
    Group(String),
    Replica(String),
}

impl Scope {
    pub fn holds(&self, link: &LinkId) -> bool {
        match self {
            Scope::Host => true,
            Scope::Group(name) => *name == link.group,
            Scope::Replica(name) => *name == link.replica,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scope::Host => f.write_str("everything on this host"),
            Scope::Group(name) => write!(f, "group {name}"),
            Scope::Replica(name) => f.write_str(name),
        }
    }
}

/// Hands off, eyes open: it has an owner, a reason and an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub scope: Scope,
    pub owner: Actor,
    pub reason: String,
    pub began: Timestamp,
    /// When it ends by itself.
    pub ends: Timestamp,
    /// Who ended it before its time, and when.
    #[serde(default)]
    pub resumed: Option<(Timestamp, Actor)>,
}

impl Pause {
    /// When it is over, or was.
    pub fn over(&self) -> Timestamp {
        self.resumed.as_ref().map_or(self.ends, |(at, _)| self.ends.min(*at))
    }

    /// As `status` tells of it.
    pub fn told(&self) -> serde_json::Value {
        serde_json::json!({
            "scope": self.scope,
            "owner": self.owner,
            "reason": self.reason,
            "began": self.began.to_string(),
            "ends": self.ends.to_string(),
        })
    }

    /// What a person has ended stays ended, wherever the system's clock was set since.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.resumed.is_none() && now < self.ends
    }

    /// Whether another is this one but for its date, as after the clock was set back.
    pub fn is_dated_anew(&self, other: &Pause) -> bool {
        let said = |pause: &Pause| (pause.scope.clone(), pause.owner.clone(), pause.reason.clone());
        said(self) == said(other) && self.ends.since(self.began) == other.ends.since(other.began)
    }

    /// The same, as if it had been set at `now` at the latest: after the system's clock was set back it holds for no
    /// longer than was asked for.
    pub fn dated_at_most(mut self, now: Timestamp) -> Pause {
        let ahead = self.began.since(now);
        (self.began, self.ends) = (self.began.before(ahead), self.ends.before(ahead));
        if let Some((at, _)) = &mut self.resumed {
            *at = (*at).min(now);
        }
        self
    }
}

/// What a person answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Approved,
    Rejected,
    Acknowledged,
}

impl Answer {
    pub const fn code(self) -> &'static str {
        match self {
            Answer::Approved => "approved",
            Answer::Rejected => "rejected",
            Answer::Acknowledged => "acknowledged",
        }
    }
}

/// One answer, as an incident keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    pub at: Timestamp,
    pub answer: Answer,
    pub by: Actor,
    /// Whom `ack --by` names.
    #[serde(default)]
    pub name: Option<String>,
}

/// What people have said to one incident: a part of its fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct People {
    /// When the plan that waits was proposed, and until when it may be answered.
    pub proposed_at: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// It was approved, and is being decided anew.
    pub approved: Option<(Timestamp, Actor)>,
    /// Plans that were rejected under the present cause.
    pub rejected: Vec<Rejection>,
    /// Why the last proposal was withdrawn.
    pub withdrawn: Option<String>,
    /// The approved plan that is being carried out, as it stood before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// All answers, oldest first.
    pub answers: Vec<Answered>,
    /// Who has taken it; none again when a person is called anew.
    pub acknowledged: Option<String>,
    /// Attempts begun before it was last taken: they count no more.
    pub attempts_before: u32,
}

/// An approved plan that is in flight. Where nothing comes of it, it waits on as it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub plan: Plan,
    pub proposed_at: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub approved: (Timestamp, Actor),
}

/// A plan that a person does not want.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    pub plan: Plan,
    pub by: Actor,
    pub at: Timestamp,
    pub until: Timestamp,
}

impl People {
    pub(super) fn proposed(&mut self, at: Timestamp, expires: Option<Timestamp>) {
        self.proposal_gone();
        self.proposed_at = Some(at);
        self.expires = expires;
    }

    pub(super) fn proposal_gone(&mut self) {
        self.proposed_at = None;
        self.expires = None;
        self.approved = None;
    }

    /// The plan is carried out.
    pub(super) fn carry(&mut self, plan: Option<Plan>) {
        let (proposed_at, expires) = (self.proposed_at, self.expires);
        let carried = plan.zip(self.approved.take());
        self.carried = carried.map(|(plan, approved)| Carried { plan, proposed_at, expires, approved });
        self.proposal_gone();
        self.withdrawn = None;
    }

    /// The world had moved before its first step: the yes is as good as it was.
    pub(super) fn take_up(&mut self, carried: Carried) -> Plan {
        (self.proposed_at, self.expires) = (carried.proposed_at, carried.expires);
        self.approved = Some(carried.approved);
        carried.plan
    }

    pub(super) fn approve(&mut self, at: Timestamp, by: &Actor) {
        self.approved = Some((at, by.clone()));
        self.withdrawn = None;
        self.answered(at, Answer::Approved, by, None);
    }

    pub(super) fn reject(&mut self, at: Timestamp, by: &Actor, plan: Option<&Plan>, until: Timestamp) {
        self.rejected.extend(plan.map(|plan| Rejection { plan: plan.clone(), by: by.clone(), at, until }));
        self.answered(at, Answer::Rejected, by, None);
        self.proposal_gone();
    }

    pub(super) fn acknowledge(&mut self, at: Timestamp, by: &Actor, name: &str, attempts: u32) {
        self.answered(at, Answer::Acknowledged, by, Some(name.to_owned()));
        self.acknowledged = Some(name.to_owned());
        self.attempts_before = attempts;
    }

    fn answered(&mut self, at: Timestamp, answer: Answer, by: &Actor, name: Option<String>) {
        self.answers.push(Answered { at, answer, by: by.clone(), name });
    }
}
