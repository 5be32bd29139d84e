//! Faults that we plant in the daemon's part, around the real agent, to see that the promises notice. No product code
//! knows of them.

use relinkd::agent::{Agent, Effect};
use relinkd::model::evidence::Evidence;
use relinkd::model::incident::{Entry, Notice, What};
use relinkd::model::remedy::{Change, Plan, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The change goes out before the record of its intent.
    ActsFirst,
    /// A start reads nothing.
    ForgetsAll,
    /// A start forgets what was tried before.
    ForgetsRuns,
    /// Signs of a failover are taken out of what the agent sees, and the hands do not look either.
    BlindToFailover,
    /// A plan that a crash cut off is taken up again.
    Resumes,
    /// A message is taken out of its transaction.
    LosesMessage,
    /// A message that may have arrived is sent again as another one.
    Renames,
    /// A look now and then never comes back.
    LosesLooks,
    /// Whatever the config says.
    IgnoresMode,
    /// It looks all the time.
    NeverRests,
    /// What the Sentinels name beside what most of them name is not heard, by agent or hands.
    DeafToDissent,
    /// An undo asks no Sentinel before it touches the link.
    UndoesBlindly,
    /// No agent knows of the others' turns, none reads again before it asks, and each asks its own Sentinel first.
    Uncoordinated,
}

impl Plant {
    pub fn reorder(plant: Option<Plant>, effects: &mut [Effect]) {
        if plant != Some(Plant::ActsFirst) {
            return;
        }
        if let Some(place) = effects.windows(2).position(|two| {
            matches!(two, [Effect::Record { entries, .. }, Effect::Apply { .. }]
                if entries.iter().any(|entry| matches!(entry.what, What::Intended { .. })))
        }) {
            effects.swap(place, place + 1);
        }
    }

    pub fn forget(plant: Option<Plant>, history: &mut Vec<Entry>) {
        match plant {
            Some(Plant::ForgetsAll) => history.clear(),
            Some(Plant::ForgetsRuns) => history.retain(|entry| {
                !matches!(
                    entry.what,
                    What::Intended { .. } | What::Finished { .. } | What::Ended { .. } | What::Interrupted { .. }
                )
            }),
            _ => {}
        }
    }

    pub fn resumes(plant: Option<Plant>, agent: &Agent, ledger: &[Entry]) -> Option<Effect> {
        if plant != Some(Plant::Resumes) {
            return None;
        }
        let attempt = agent.incidents().open()?.attempts;
        let last = ledger.iter().rev().find(|entry| {
            matches!(entry.what, What::Intended { .. } | What::Ended { .. } | What::Interrupted { .. })
        })?;
        match &last.what {
            What::Intended { attempt: known, plan: Plan { steps, .. } } if *known == attempt => {
                let step = steps.first().cloned()?;
                Some(Effect::Apply { attempt, step: Box::new(step) })
            }
            _ => None,
        }
    }

    pub fn blind(plant: Option<Plant>, seen: &mut Evidence) {
        let own = seen.local.seen().map(|view| view.run_id.clone()).unwrap_or_default();
        if plant == Some(Plant::Uncoordinated) {
            for sentinel in &mut seen.sentinels {
                if let relinkd::model::evidence::Reading::Seen(says) = &mut sentinel.says {
                    says.replicas.retain(|replica| replica.run_id == own);
                }
            }
        }
        if plant == Some(Plant::DeafToDissent)
            && let Some(named) = seen.named_primary().map(|(named, _)| named.clone())
        {
            for sentinel in &mut seen.sentinels {
                if let relinkd::model::evidence::Reading::Seen(says) = &mut sentinel.says {
                    says.primary = named.clone();
                }
            }
        }
        if plant == Some(Plant::BlindToFailover) {
            for sentinel in &mut seen.sentinels {
                if let relinkd::model::evidence::Reading::Seen(says) = &mut sentinel.says {
                    says.failover_state = None;
                    says.flags.remove("failover_in_progress");
                    says.role_reported_ms = 3_600_000;
                    // As if the Sentinels' own tries were over, and none to come.
                    says.o_down_ms = says.o_down_ms.map(|age| age + 20_000);
                    says.failover_timeout_ms = 0;
                }
            }
        }
    }

    /// A step as the hands of a faulty daemon would have it.
    pub fn bend(plant: Option<Plant>, host: usize, step: &mut Step) {
        if plant == Some(Plant::UndoesBlindly) && matches!(step.change, Change::RestoreAuth { .. }) {
            (step.expect.sentinels_name, step.expect.no_failover) = (None, false);
        }
        if let (Some(Plant::Uncoordinated), Change::RequestFailover { sentinels, .. }) = (plant, &mut step.change) {
            (step.expect.turn, step.expect.in_sight) = (None, None);
            let count = sentinels.len();
            sentinels.rotate_left(host % count);
        }
    }

    pub fn rename(plant: Option<Plant>, notice: &mut Notice) {
        if plant == Some(Plant::Renames) {
            notice.incident.sequence += 1;
        }
    }
}
