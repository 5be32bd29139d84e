//! From what relinkd said to a judgement: pure.

use std::time::Duration;

/// One verdict, as `status` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cause: String,
    pub suspected: bool,
    /// The incident under which it is on record; none: it was seen, and nothing is recorded or told yet.
    pub incident: Option<String>,
}

/// What was said from a moment on: each change, with the time since the fault. None: nothing is wrong.
pub type Trail = Vec<(Duration, Option<Verdict>)>;

/// What a fault should make relinkd say.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// None: it is no fault, and nothing may be recorded.
    pub cause: Option<&'static str>,
    /// True as well, on the way there or after it.
    pub also: &'static [&'static str],
    /// May be suspected until the evidence decides.
    pub suspects: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Right,
    /// What was on record instead, first.
    Wrong(String),
    /// No firm verdict of the right cause in time; what was said last.
    Missing(String),
    /// The lab could not do it.
    Undone(String),
}

/// One injection, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    pub outcome: Outcome,
    /// From the fault to the first verdict that fits it, be it suspected.
    pub first: Option<Duration>,
    /// … and to the first firm one of its cause.
    pub firm: Option<Duration>,
    /// Other verdicts before the first firm one, each once, a suspicion with `?`.
    pub before: Vec<String>,
    /// Of a right one: what else was on record and firm, before or after, that the fault makes as well.
    pub beside: Vec<String>,
}

impl Expected {
    /// A firm verdict of the right cause has come; of what is no fault, never.
    pub fn is_met(&self, verdict: &Verdict) -> bool {
        self.cause == Some(verdict.cause.as_str()) && !verdict.suspected
    }

    fn allows(&self, verdict: &Verdict) -> bool {
        let cause = verdict.cause.as_str();
        self.cause == Some(cause) || self.also.contains(&cause) || (verdict.suspected && self.suspects.contains(&cause))
    }

    /// What is on record counts, from the first finding to the last.
    pub fn score(&self, trail: &Trail) -> Score {
        let said = || trail.iter().filter_map(|(at, verdict)| Some((*at, verdict.as_ref()?)));
        let named = |verdict: &Verdict| self.cause == Some(verdict.cause.as_str());
        let first = said().find(|(_, verdict)| self.allows(verdict)).map(|(at, _)| at);
        let firm = said().find(|(_, verdict)| self.is_met(verdict)).map(|(at, _)| at);
        let mut before = Vec::new();
        for (at, verdict) in said() {
            let word = word(verdict);
            if !named(verdict) && firm.is_none_or(|firm| at < firm) && !before.contains(&word) {
                before.push(word);
            }
        }
        let recorded = || said().map(|(_, verdict)| verdict).filter(|verdict| verdict.incident.is_some());
        let mut beside: Vec<String> =
            recorded().filter(|verdict| !named(verdict) && !verdict.suspected).map(word).collect();
        beside.sort();
        beside.dedup();
        let wrong = recorded().find(|verdict| !self.allows(verdict)).map(word);
        let last = said().next_back().map_or("nothing".to_owned(), |(_, verdict)| word(verdict));
        let outcome = match (wrong, self.cause, firm) {
            (Some(wrong), _, _) => Outcome::Wrong(wrong),
            (None, Some(_), None) => Outcome::Missing(last),
            (None, ..) => Outcome::Right,
        };
        Score { outcome, first, firm, before, beside }
    }
}

impl Score {
    pub fn undone(why: impl std::fmt::Display) -> Score {
        Score {
            outcome: Outcome::Undone(why.to_string()),
            first: None,
            firm: None,
            before: Vec::new(),
            beside: Vec::new(),
        }
    }
}

/// Such as `primary-down`, or `primary-down?` while it is only suspected.
pub fn word(verdict: &Verdict) -> String {
    format!("{}{}", verdict.cause, if verdict.suspected { "?" } else { "" })
}

/// The trail in one line, for a person.
pub fn story(trail: &Trail) -> String {
    let step = |(at, verdict): &(Duration, Option<Verdict>)| {
        let said = verdict.as_ref().map_or("well".to_owned(), |verdict| {
            format!("{}{}", word(verdict), if verdict.incident.is_some() { "" } else { " (not recorded)" })
        });
        format!("{:.2} s {said}", at.as_secs_f64())
    };
    trail.iter().map(step).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Expected =
        Expected { cause: Some("network-cut"), also: &["sync-running"], suspects: &["primary-unreachable"] };

    fn said(ms: u64, cause: &str, suspected: bool, recorded: bool) -> (Duration, Option<Verdict>) {
        let incident = recorded.then(|| "01".to_owned());
        (Duration::from_millis(ms), Some(Verdict { cause: cause.to_owned(), suspected, incident }))
    }

    fn well(ms: u64) -> (Duration, Option<Verdict>) {
        (Duration::from_millis(ms), None)
    }

    #[test]
    fn a_suspicion_that_the_evidence_cannot_decide_is_no_wrong_verdict() {
        let trail = vec![
            well(0),
            said(300, "primary-unreachable", true, false),
            said(1000, "primary-unreachable", true, true),
            said(2500, "network-cut", false, true),
        ];
        let score = CUT.score(&trail);
        assert_eq!(score.outcome, Outcome::Right);
        let at = |ms| Some(Duration::from_millis(ms));
        assert_eq!((score.first, score.firm), (at(300), at(2500)));
        assert_eq!(score.before, ["primary-unreachable?"]);
    }

    #[test]
    fn a_firm_verdict_of_another_cause_is_wrong_whatever_follows() {
        let trail = vec![said(100, "primary-unreachable", false, true), said(900, "network-cut", false, true)];
        assert_eq!(CUT.score(&trail).outcome, Outcome::Wrong("primary-unreachable".to_owned()));
        let after = vec![said(100, "network-cut", false, true), said(900, "primary-down", true, true)];
        assert_eq!(CUT.score(&after).outcome, Outcome::Wrong("primary-down?".to_owned()), "the last counts too");
        assert_eq!(CUT.score(&after).first, Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_state_that_the_fault_makes_as_well_is_told_beside_it() {
        let trail = vec![said(100, "sync-running", false, true), said(900, "network-cut", false, true)];
        let score = CUT.score(&trail);
        assert_eq!((score.outcome, score.beside), (Outcome::Right, vec!["sync-running".to_owned()]));
        let alone = CUT.score(&vec![said(50, "sync-running", false, false), said(90, "network-cut", false, true)]);
        assert_eq!(alone.beside, Vec::<String>::new());
    }

    #[test]
    fn what_nobody_recorded_was_not_said() {
        let trail = vec![said(50, "primary-down", false, false), said(90, "network-cut", false, true)];
        assert_eq!(CUT.score(&trail).outcome, Outcome::Right);
    }

    #[test]
    fn a_suspicion_alone_is_no_verdict() {
        let trail = vec![well(0), said(50, "network-cut", true, true)];
        assert_eq!(CUT.score(&trail).outcome, Outcome::Missing("network-cut?".to_owned()));
        assert_eq!(CUT.score(&vec![well(0)]).outcome, Outcome::Missing("nothing".to_owned()));
    }

    #[test]
    fn what_is_no_fault_may_not_be_recorded() {
        let quiet = Expected { cause: None, also: &[], suspects: &[] };
        assert_eq!(quiet.score(&vec![well(0), said(10, "primary-down", true, false)]).outcome, Outcome::Right);
        let wrong = quiet.score(&vec![said(10, "tls-certificate", false, true)]).outcome;
        assert_eq!(wrong, Outcome::Wrong("tls-certificate".to_owned()));
    }
}
