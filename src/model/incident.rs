//! An incident: what the ledger's entries about one break add up to, and the entries themselves.

use serde::{Deserialize, Serialize};

use super::finding::{Cause, Finding};
use super::people::{Actor, People};
use super::remedy::{Action, Outcome, Plan, Refusal};
use super::{Address, Endpoint, LinkId, Timestamp};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// A ULID: sorts by time of opening.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub String);

impl IncidentId {
    /// A ULID out of a time and 128 random bits, of which 80 are used.
    pub fn from_parts(at: Timestamp, random: u128) -> IncidentId {
        const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let ms = u128::from(u64::try_from(at.as_millis()).unwrap_or(0)) & ((1 << 48) - 1);
        let bits = (ms << 80) | (random & ((1 << 80) - 1));
        let letter = |i: u32| char::from(CROCKFORD[((bits >> (5 * i)) & 31) as usize]);
        IncidentId((0..26).rev().map(letter).collect())
    }
}

impl std::fmt::Display for IncidentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Open,
    Proposed,
    Applying,
    Verifying,
    Escalated,
    Resolved,
}

impl Phase {
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Proposed => "proposed",
            Phase::Applying => "applying",
            Phase::Verifying => "verifying",
            Phase::Escalated => "escalated",
            Phase::Resolved => "resolved",
        }
    }

    /// What one announces who tells of an incident in this phase without a change to tell of, as `show` does.
    pub const fn announcement(self) -> Announcement {
        match self {
            Phase::Open | Phase::Applying | Phase::Verifying => Announcement::Updated,
            Phase::Proposed => Announcement::Proposed,
            Phase::Escalated => Announcement::Escalated,
            Phase::Resolved => Announcement::Resolved,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Critical,
    Warning,
    Info,
}

/// What a message announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Announcement {
    Opened,
    Updated,
    Proposed,
    Escalated,
    Resolved,
}

impl Announcement {
    pub const fn name(self) -> &'static str {
        match self {
            Announcement::Opened => "opened",
            Announcement::Updated => "updated",
            Announcement::Proposed => "proposed",
            Announcement::Escalated => "escalated",
            Announcement::Resolved => "resolved",
        }
    }
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResolvedBy {
    /// A remedy of ours preceded the link's coming up.
    Relinkd,
    /// Sentinel, a person, or time.
    Others,
    /// Nobody: the replica was taken out of the configuration, and how it stands is not known.
    Unwatched,
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    pub link: LinkId,
    pub incident: IncidentId,
    pub what: What,
}

impl Entry {
    /// The same, as if it had been made at `now` at the latest. Where the system's clock was set back, nobody can tell
    /// how long ago it was: it counts as of this moment, so that no bound holds longer than it would have from now on.
    pub fn dated_at_most(&self, now: Timestamp) -> Entry {
        let mut entry = self.clone();
        let ahead = self.at.since(now);
        entry.at = entry.at.min(now);
        match &mut entry.what {
            What::LinkUp { at } | What::LinkDown { at } | What::Opened { down_at: at, .. } => *at = (*at).min(now),
            What::Rejected { until: at, .. } | What::Proposed { expires: Some(at), .. } => *at = at.before(ahead),
            _ => {}
        }
        entry
    }
}

/// What an entry records. Kinds are only ever added: a ledger of an old version opens for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A fault came and went within the blip time. No incident: it is counted, and nobody is told.
    Blip { cause: Cause, down_ms: u64 },
    /// A failover of the group has succeeded, whoever made it: the Sentinels' configuration has this epoch since. Of no
    /// incident.
    FailedOver { epoch: u64, named: Endpoint },
    /// A fault was seen. `down_at`: the last time the link was seen up; when it never was, since when the replica says
    /// that it is down, or else this look.
    Opened {
        finding: Finding,
        address: Address,
        primary: Option<Endpoint>,
        down_at: Timestamp,
        diagnose_us: u64,
        look_us: u64,
    },
    /// The verdict changed: another cause, or a suspicion that now stands.
    Diagnosed { finding: Finding, primary: Option<Endpoint> },
    /// A remedy is held back; written only when the reason changes.
    Held { refusal: Refusal },
    /// A plan that waits for a person. `expires`: none in a ledger of 0.1, whose proposals nobody could answer.
    Proposed {
        plan: Plan,
        #[serde(default)]
        expires: Option<Timestamp>,
    },
    /// A person said yes to the proposal. It is decided anew before anything is done.
    Approved { by: Actor },
    /// A person said no to it: the same plan is held until `until`, or until the cause is another.
    Rejected { by: Actor, until: Timestamp },
    /// The proposal stands no more, approved or not: it expired, or the world has moved.
    Withdrawn { why: String },
    /// A person has taken the incident. May come after its end, to lift the stop that it led to.
    Acknowledged { by: Actor, name: String },
    /// The intent, durable before the first change.
    Intended { attempt: u32, plan: Plan },
    /// One step ended.
    Finished { attempt: u32, action: Action },
    /// The plan as a whole ended; nothing of it is in flight any more.
    Ended { attempt: u32, outcome: Outcome },
    /// After a restart: an intent without an end. What it changed is unknown until the next look.
    Interrupted { attempt: u32 },
    /// The link was seen up, and nothing wrong with it.
    LinkUp { at: Timestamp },
    /// It broke again before the incident was over.
    LinkDown { at: Timestamp },
    /// A person is needed.
    Escalated { why: String },
    /// A message was put in the outbox, in the same transaction as this entry.
    Told { event: Announcement },
    /// The link has been whole for the settle time.
    Resolved { by: ResolvedBy },
}

/// An incident as its entries add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub link: LinkId,
    pub address: Address,
    pub primary: Option<Endpoint>,
    pub phase: Phase,
    pub finding: Finding,
    /// Causes that it went through, in order, without repeats in a row.
    pub causes: Vec<Cause>,
    pub actions: Vec<Action>,
    /// The refusals in force, and those before them, newest last.
    pub held: Vec<Refusal>,
    pub proposal: Option<Plan>,
    /// What people have said to it.
    #[serde(default)]
    pub people: People,
    pub escalation: Option<String>,
    pub opened_at: Timestamp,
    pub down_at: Timestamp,
    /// Since when the link has been up.
    pub up_at: Option<Timestamp>,
    /// Since when nothing has been wrong: it is over when that has lasted for the settle time.
    #[serde(default)]
    pub sound_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub resolved_by: Option<ResolvedBy>,
    /// Attempts begun, over all remedies.
    pub attempts: u32,
    /// Those of them, since a person last took it, that ended before anything was changed and before anything failed.
    #[serde(default)]
    pub idle: u32,
    /// When the last of these ended, an hour back at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle_at: Vec<Timestamp>,
    /// Something was changed, or has failed, in the attempt that was begun last, and since a person last approved one.
    #[serde(default)]
    pub touched: bool,
    /// The attempt whose end is not recorded.
    pub in_flight: Option<u32>,
    /// When the first intent was recorded, and when the last plan ended.
    pub intended_at: Option<Timestamp>,
    pub acted_at: Option<Timestamp>,
    pub diagnose_us: u64,
    pub look_us: u64,
    /// Messages told so far, which is the number of the last one.
    pub sequence: u32,
    pub told_at: Option<Timestamp>,
    /// What the last message named as the cause.
    pub told_cause: Option<Cause>,
    /// In which phase it was when it was last told.
    pub told_phase: Option<Phase>,
}

/// A message on its way: the incident as it stood when its `Told` entry was taken in, and what is announced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub at: Timestamp,
    /// The host that speaks.
    pub host: String,
    pub event: Announcement,
    pub incident: Incident,
    /// What a person would run now.
    pub next_steps: Vec<String>,
}

impl Notice {
    /// An incident in the shape of a message, so that whoever shows it uses the same words.
    pub fn of(host: &str, at: Timestamp, incident: Incident) -> Notice {
        let next_steps = match incident.is_open() {
            true => vec![
                format!("relinkd diagnose {}   # how it stands now, and the commands for it", incident.link.replica),
                format!("relinkd explain {}", incident.finding.cause),
            ],
            false => Vec::new(),
        };
        Notice { at, host: host.to_owned(), event: incident.phase.announcement(), incident, next_steps }
    }

    /// The number of this message within its incident, from 1.
    pub fn sequence(&self) -> u32 {
        self.incident.sequence
    }

    /// The message's name, the same over all channels and retries. It has no `.`, which Standard Webhooks forbids.
    pub fn key(&self) -> String {
        format!("{}-{}", self.incident.id, self.sequence())
    }
}

impl Incident {
    /// The first entry of an incident makes it; any other entry alone makes nothing.
    pub fn open(entry: &Entry) -> Option<Incident> {
        let What::Opened { finding, address, primary, down_at, diagnose_us, look_us } = &entry.what else {
            return None;
        };
        Some(Incident {
            id: entry.incident.clone(),
            link: entry.link.clone(),
            address: address.clone(),
            primary: primary.clone(),
            phase: Phase::Open,
            causes: vec![finding.cause],
            finding: finding.clone(),
            actions: Vec::new(),
            held: Vec::new(),
            proposal: None,
            people: People::default(),
            escalation: None,
            opened_at: entry.at,
            down_at: *down_at,
            up_at: finding.link_up.then_some(entry.at),
            sound_at: None,
            resolved_at: None,
            resolved_by: None,
            attempts: 0,
            idle: 0,
            idle_at: Vec::new(),
            touched: false,
            in_flight: None,
            intended_at: None,
            acted_at: None,
            diagnose_us: *diagnose_us,
            look_us: *look_us,
            sequence: 0,
            told_at: None,
            told_cause: None,
            told_phase: None,
        })
    }

    /// Takes in a later entry. Folding the same entries always gives the same incident.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Opened { .. } | What::Blip { .. } | What::FailedOver { .. } => {}
            What::Diagnosed { finding, primary } => {
                if self.finding.cause != finding.cause {
                    // What was only suspected, and was not so, is no cause that it went through.
                    if self.finding.suspected {
                        self.causes.pop();
                    }
                    if self.causes.last() != Some(&finding.cause) {
                        self.causes.push(finding.cause);
                    }
                    self.drop_proposal();
                    self.people.rejected.clear();
                    if self.phase != Phase::Applying {
                        self.phase = self.troubled();
                    }
                } else if self.phase == Phase::Verifying {
                    self.phase = self.troubled();
                }
                (self.finding, self.sound_at) = (finding.clone(), None);
                self.primary = primary.clone().or(self.primary.take());
            }
            What::Held { refusal } => self.held.push(refusal.clone()),
            What::Proposed { .. }
            | What::Approved { .. }
            | What::Rejected { .. }
            | What::Withdrawn { .. }
            | What::Acknowledged { .. } => self.take_answer(entry),
            What::Intended { .. } | What::Finished { .. } | What::Ended { .. } | What::Interrupted { .. } => {
                self.take_act(entry);
            }
            What::LinkUp { at } => {
                self.up_at.get_or_insert(*at);
                self.sound_at = Some(*at);
                self.phase = Phase::Verifying;
            }
            What::LinkDown { .. } => {
                (self.up_at, self.sound_at) = (None, None);
                self.phase = self.troubled();
            }
            What::Escalated { why } => {
                self.phase = Phase::Escalated;
                self.escalation = Some(why.clone());
                self.people.acknowledged = None;
            }
            What::Told { .. } => {
                self.sequence += 1;
                self.told_at = Some(entry.at);
                self.told_cause = Some(self.finding.cause);
                self.told_phase = Some(self.phase);
            }
            What::Resolved { by } => {
                self.phase = Phase::Resolved;
                self.resolved_at = Some(entry.at);
                self.resolved_by = Some(*by);
                self.in_flight = None;
            }
        }
    }

    /// The phase of a fault that stands and is not being worked on: once a person was called, it stays with them.
    fn troubled(&self) -> Phase {
        if self.escalation.is_some() { Phase::Escalated } else { Phase::Open }
    }

    /// What is proposed to people, and what they say.
    fn take_answer(&mut self, entry: &Entry) {
        match &entry.what {
            What::Proposed { plan, expires } => {
                self.phase = Phase::Proposed;
                self.proposal = Some(plan.clone());
                self.people.proposed(entry.at, *expires);
            }
            What::Approved { by } => {
                self.people.approve(entry.at, by);
                self.touched = false;
            }
            What::Rejected { by, until } => {
                self.people.reject(entry.at, by, self.proposal.as_ref(), *until);
                self.proposal = None;
                self.phase = self.troubled();
            }
            What::Withdrawn { why } => {
                self.drop_proposal();
                self.people.withdrawn = Some(why.clone());
                if self.phase == Phase::Proposed {
                    self.phase = self.troubled();
                }
            }
            What::Acknowledged { by, name } => {
                self.people.acknowledge(entry.at, by, name, self.attempts);
                self.idle = 0;
                self.idle_at.clear();
            }
            _ => {}
        }
    }

    fn drop_proposal(&mut self) {
        self.proposal = None;
        self.people.proposal_gone();
    }

    /// What is done about it.
    fn take_act(&mut self, entry: &Entry) {
        match &entry.what {
            What::Intended { attempt, plan, .. } => {
                self.phase = Phase::Applying;
                self.people.carry(self.proposal.take().filter(|known| known.same(plan)));
                self.attempts = self.attempts.max(*attempt);
                self.in_flight = Some(*attempt);
                self.touched = false;
                self.intended_at.get_or_insert(entry.at);
            }
            What::Finished { action, .. } => {
                self.touched |= !action.outcome.is_idle();
                self.actions.push(action.clone());
            }
            What::Ended { attempt, outcome } => {
                let counts = self.touched || !outcome.is_idle() || *attempt <= self.people.attempts_before;
                if !counts {
                    self.idle += 1;
                    self.idle_at.retain(|at| entry.at.since(*at) < HOUR);
                    self.idle_at.push(entry.at);
                }
                let unbegun = !self.touched && matches!(outcome, Outcome::PreconditionGone(_));
                let carried = self.people.carried.clone().filter(|_| unbegun);
                self.end_attempt(entry.at);
                if let Some(carried) = carried {
                    self.proposal = Some(self.people.take_up(carried));
                    self.phase = Phase::Proposed;
                }
            }
            What::Interrupted { .. } => self.end_attempt(entry.at),
            _ => {}
        }
    }

    fn end_attempt(&mut self, at: Timestamp) {
        self.in_flight = None;
        self.people.carried = None;
        self.acted_at = Some(at);
        self.phase = Phase::Verifying;
    }

    /// Attempts that count: those since a person last took it in which something was changed, or failed. Of one that was
    /// cut off nobody knows, so it counts.
    pub fn counted_attempts(&self) -> u32 {
        self.attempts.saturating_sub(self.people.attempts_before).saturating_sub(self.idle)
    }

    pub fn is_open(&self) -> bool {
        self.phase != Phase::Resolved
    }

    pub fn severity(&self) -> Severity {
        match self.phase {
            Phase::Resolved => Severity::Info,
            _ if self.finding.cause == Cause::PrimaryEmptied => Severity::Critical,
            _ if self.finding.link_up || self.finding.cause.passing() => Severity::Warning,
            _ => Severity::Critical,
        }
    }
}
