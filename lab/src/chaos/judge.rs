//! Whether what relinkd did was right, by what was true at that time. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::plan::Upset;
use super::stage::HOSTS;
use super::witness::{Heard, Line, Sample, Standing};

/// An upset as it happened.
#[derive(Clone, Debug)]
pub struct Happened {
    pub upset: Upset,
    /// The nodes that it concerned.
    pub nodes: Vec<usize>,
    pub began: Timestamp,
    /// None: until the end of the round.
    pub ended: Option<Timestamp>,
}

/// One step that a relinkd made, out of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Did {
    pub node: usize,
    pub remedy: String,
    pub what: String,
    pub at: Timestamp,
}

/// For how long a trouble that is over still explains what was decided in it.
const AFTERMATH: Duration = Duration::from_secs(3);
/// From a try until everybody can see what came of it.
const BESIDE: Duration = Duration::from_secs(5);
/// How far the witness and relinkd may be apart.
const BLUR: Duration = Duration::from_millis(1_500);

impl Happened {
    fn stood_at(&self, at: Timestamp) -> bool {
        at >= self.began && self.ended.is_none_or(|ended| at <= later(ended, AFTERMATH))
    }

    fn stands_at(&self, at: Timestamp) -> bool {
        at >= self.began && self.ended.is_none_or(|ended| at <= ended)
    }

    /// Whether a node that it concerns could not serve anybody as a primary.
    fn disables(&self) -> bool {
        matches!(self.upset, Upset::Kill(_) | Upset::Hang(_) | Upset::Unplug(_) | Upset::FullDisk(_))
    }

    fn concerns(&self, node: usize) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether, while this stands, what another upset did has to stay: of two kills of one server the later end counts, and
    /// a disk that was emptied revives nobody who was killed. Each closed way has a rule of its own, which goes with it.
    pub fn keeps(&self, other: &Happened) -> bool {
        let own_rule = matches!(other.upset, Upset::Cut(..) | Upset::Deaf(..) | Upset::Scatter);
        let same = std::mem::discriminant(&self.upset) == std::mem::discriminant(&other.upset) && !own_rule;
        let revives = matches!((self.upset, other.upset), (Upset::Kill(_), Upset::FullDisk(_)));
        (same || revives) && self.nodes == other.nodes
    }

    /// The other ends of the ways that it closes to a node.
    fn parts(&self, node: usize) -> Vec<usize> {
        let closes = matches!(self.upset, Upset::Cut(..) | Upset::Deaf(..) | Upset::Scatter) && self.concerns(node);
        if closes { self.nodes.iter().copied().filter(|other| *other != node).collect() } else { Vec::new() }
    }
}

/// Whether a node was lost, as a primary, to two of the three hosts. A way that is closed to one host only is no reason:
/// the Sentinel of the node's own host and the third one see it.
fn was_lost(node: usize, at: Timestamp, happened: &[Happened]) -> bool {
    let standing = || happened.iter().filter(|one| one.stood_at(at));
    let parted: BTreeSet<usize> = standing().flat_map(|one| one.parts(node)).collect();
    parted.len() > 1 || standing().any(|one| one.disables() && one.concerns(node))
}

/// The Sentinels that run and that a host can reach, its own among them.
fn reached(host: usize, at: Timestamp, happened: &[Happened]) -> usize {
    let standing = || happened.iter().filter(|one| one.stands_at(at));
    let unplugged = |node: usize| standing().any(|one| matches!(one.upset, Upset::Unplug(_)) && one.concerns(node));
    let runs = |node: usize| !standing().any(|one| matches!(one.upset, Upset::KillSentinels(count) if node < count));
    let open = |other: usize| {
        other == host
            || !(unplugged(host) || unplugged(other) || standing().any(|one| one.parts(host).contains(&other)))
    };
    (0..HOSTS).filter(|other| runs(*other) && open(*other)).count()
}

/// For how long without a break all was there that a request needs, after Sentinel had given up: the primary lost and nobody
/// else one, nothing wrong for which a request is held, and a replica that may be promoted, whose host reaches a
/// majority of the Sentinels and has a relinkd.
pub fn due(heard: &[Heard], happened: &[Happened], samples: &[Sample]) -> Duration {
    let Some(gave_up) = heard.iter().find(|one| one.what == Line::GivesUp).map(|one| one.at) else {
        return Duration::ZERO;
    };
    let mut longest = Duration::ZERO;
    let mut since: Option<Timestamp> = None;
    for sample in samples.iter().filter(|sample| sample.at >= gave_up) {
        if needs_a_request(sample, happened) {
            let began = *since.get_or_insert(sample.at);
            longest = longest.max(gap(sample.at, began));
        } else {
            since = None;
        }
    }
    longest
}

fn needs_a_request(sample: &Sample, happened: &[Happened]) -> bool {
    let standing = || happened.iter().filter(|one| one.stands_at(sample.at));
    let Some(primary) = sample.named else { return false };
    // One that hangs answers the witness as little as others, and no more when it was killed meanwhile: it came back then.
    let away = |one: &Happened| matches!(one.upset, Upset::Unplug(_)) && one.concerns(primary);
    let lost = sample.nodes.get(primary).copied().flatten().is_none() || standing().any(away);
    let held = standing().any(|one| matches!(one.upset, Upset::NoCandidate | Upset::Password(_) | Upset::FullDisk(_)));
    let fit = |node: usize| {
        let troubled =
            |one: &Happened| (one.disables() || matches!(one.upset, Upset::KillAgent(_))) && one.concerns(node);
        !standing().any(troubled) && reached(node, sample.at, happened) * 2 > HOSTS
    };
    let others = || (0..HOSTS).filter(|node| *node != primary);
    let promoted = others().any(|node| sample.nodes.get(node).copied().flatten() == Some(Standing::Primary));
    lost && !held && !promoted && others().any(fit)
}

/// The requests that Sentinels took, and which of them lay beside a try of a Sentinel's own: it may promote another.
pub fn requests(heard: &[Heard]) -> (usize, Vec<String>) {
    let (mut asked, mut tried): (Vec<Timestamp>, Vec<Timestamp>) = (Vec::new(), Vec::new());
    let mut answers = BTreeSet::new();
    for one in heard {
        match one.what {
            Line::Asked => {
                asked.push(one.at);
                answers.insert(one.sentinel);
            }
            // What it was asked for begins like any other.
            Line::Tries if answers.remove(&one.sentinel) => {}
            Line::Tries => tried.push(one.at),
            Line::GivesUp => {}
        }
    }
    let near = |at: &Timestamp| tried.iter().find(|tried| gap(**tried, *at) < BESIDE);
    let beside =
        asked.iter().filter_map(|at| Some(format!("a request at {at} beside Sentinel's own try at {}", near(at)?)));
    (asked.len(), beside.collect())
}

/// Out of one relinkd's `incidents --json`: what it changed, and what it asked for and may have got. Proofs and CONFIG
/// REWRITE change no link.
pub fn changes(node: usize, incidents: &[Value]) -> Vec<Did> {
    let actions = incidents.iter().flat_map(|one| one["actions"].as_array().cloned().unwrap_or_default());
    let text = |action: &Value, key: &str| action[key].as_str().unwrap_or_default().to_owned();
    actions
        .filter(|action| match action["outcome"].as_str() {
            Some("changed" | "under-way") => true,
            // Whether a Sentinel took the request is not known.
            Some("failed") => action["remedy"] == "request-failover",
            _ => false,
        })
        .filter_map(|action| {
            let at = text(&action, "at").parse().ok()?;
            Some(Did { node, remedy: text(&action, "remedy"), what: text(&action, "detail"), at })
        })
        .filter(|did| !did.what.contains("wait until the link") && !did.what.contains("CONFIG REWRITE"))
        .collect()
}

/// Whether an incident was open at some time after this.
pub fn ends_after(incident: &Value, from: Timestamp) -> bool {
    let resolved: Option<Timestamp> = incident["resolved_at"].as_str().and_then(|text| text.parse().ok());
    resolved.is_none_or(|at| at >= from)
}

/// Why a relinkd held a request for a failover back: each reason once, in the order in which it was last said.
pub fn held_requests(node: usize, incidents: &[Value]) -> Vec<String> {
    let held = incidents.iter().flat_map(|one| one["held"].as_array().cloned().unwrap_or_default());
    let held = held.filter(|one| one["remedy"] == "request-failover");
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    held.map(|one| format!("node {node}: {}, {}", text(&one, "refusal"), text(&one, "detail"))).collect()
}

impl Did {
    /// Whether it decides which server's writes are kept.
    pub fn moves_the_group(&self) -> bool {
        matches!(self.remedy.as_str(), "request-failover" | "repoint")
    }
}

/// Why a change was wrong; none: it was right.
pub fn wrong(did: &Did, happened: &[Happened], samples: &[Sample]) -> Option<String> {
    let near = |sample: &&Sample| gap(sample.at, did.at) <= BLUR;
    let told = |why: &str| Some(format!("{} at node {}, {}: {why}", did.remedy, did.node, did.at));
    match did.remedy.as_str() {
        "request-failover" => {
            let named: BTreeSet<usize> = samples.iter().filter(near).filter_map(|sample| sample.named).collect();
            let troubled = named.iter().any(|node| was_lost(*node, did.at, happened));
            let around = [earlier(did.at, BLUR), did.at, later(did.at, BLUR)];
            if around.iter().all(|at| reached(did.node, *at, happened) * 2 <= HOSTS) {
                return told("no majority of the Sentinels was in its reach");
            }
            // What nobody saw is no proof of anything.
            if troubled || named.is_empty() { None } else { told("nothing was wrong with the primary") }
        }
        // An upset may outlive its undoing: Sentinel's own CONFIG REWRITE writes a wrong value down, and a restart
        // brings it back. So what counts is what the server held; an upset that was healed between two looks of the
        // witness counts too.
        "realign-auth" => {
            let stale = samples.iter().filter(near).any(|sample| sample.stale.contains(&did.node));
            let upset = happened.iter().any(|one| {
                matches!(one.upset, Upset::Password(_)) && one.stood_at(did.at) && one.nodes.contains(&did.node)
            });
            if stale || upset { None } else { told("masterauth was right") }
        }
        "repoint" => {
            let named: BTreeSet<usize> = samples
                .iter()
                .filter(|sample| gap(sample.at, did.at) <= BLUR * 4)
                .filter_map(|sample| sample.named)
                .collect();
            let right = named.iter().any(|node| did.what.contains(&format!("10.77.0.{}", node + 1)));
            if right || named.is_empty() { None } else { told("the Sentinels named another") }
        }
        "bounce-link" => {
            let down = samples
                .iter()
                .filter(near)
                .any(|sample| sample.nodes.get(did.node).copied().flatten() != Some(Standing::LinkUp));
            if down { None } else { told("the link was up all the while") }
        }
        _ => told("nobody asked for it"),
    }
}

/// Messages that the record says were told and that never arrived, and those that arrived under two names.
pub fn lost_messages(incidents: &[Value], messages: &[(String, Value)]) -> Vec<String> {
    let mut names: BTreeMap<(String, u64), BTreeSet<String>> = BTreeMap::new();
    for (name, message) in messages {
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        names.entry((id, message["sequence"].as_u64().unwrap_or(0))).or_default().insert(name.clone());
    }
    let mut found = Vec::new();
    for incident in incidents {
        let id = incident["id"].as_str().unwrap_or_default();
        let told = incident["sequence"].as_u64().unwrap_or(0);
        for sequence in 1..=told {
            match names.get(&(id.to_owned(), sequence)) {
                None => found.push(format!("message {sequence} of {told} of {id} never came")),
                Some(names) if names.len() > 1 => found.push(format!("message {sequence} of {id} came as {names:?}")),
                Some(_) => {}
            }
        }
    }
    found
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(at)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_sub(by).ok()).unwrap_or(at)
}

fn gap(one: Timestamp, other: Timestamp) -> Duration {
    one.duration_since(other).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Who;
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn sample(second: i64, nodes: [Standing; 3]) -> Sample {
        Sample { at: at(second), nodes: nodes.into_iter().map(Some).collect(), stale: Vec::new(), named: Some(0) }
    }

    fn did(remedy: &str, node: usize, what: &str) -> Did {
        Did { node, remedy: remedy.to_owned(), what: what.to_owned(), at: at(10) }
    }

    const WHOLE: [Standing; 3] = [Standing::Primary, Standing::LinkUp, Standing::LinkUp];

    #[test]
    fn of_two_alike_the_later_end_counts_but_for_closed_ways() {
        let happened = |upset| Happened { upset, nodes: vec![1, 2], began: at(5), ended: None };
        let (kill, disk) = (happened(Upset::Kill(Who::Primary)), happened(Upset::FullDisk(Who::Primary)));
        assert!(kill.keeps(&kill) && disk.keeps(&disk) && kill.keeps(&disk));
        assert!(!disk.keeps(&kill));
        for closes in [Upset::Cut, Upset::Deaf] {
            let closed = happened(closes(Who::Replica(0), Who::Replica(1)));
            assert!(!closed.keeps(&closed), "its rule would stand for ever");
        }
    }

    #[test]
    fn a_failover_is_right_only_while_the_primary_is_in_trouble() {
        let samples = [sample(10, WHOLE)];
        let killed = |node| Happened { upset: Upset::Kill(Who::Primary), nodes: vec![node], began: at(5), ended: None };
        assert_eq!(wrong(&did("request-failover", 1, ""), &[killed(0)], &samples), None);
        assert!(wrong(&did("request-failover", 1, ""), &[killed(2)], &samples).is_some());
        assert!(wrong(&did("request-failover", 1, ""), &[], &samples).is_some());
        let over = Happened { ended: Some(at(6)), ..killed(0) };
        assert!(wrong(&did("request-failover", 1, ""), &[over], &samples).is_some());
        let cut = |other: usize| Happened {
            upset: Upset::Cut(Who::Replica(other - 1), Who::Primary),
            nodes: vec![other, 0],
            ..killed(0)
        };
        assert!(wrong(&did("request-failover", 1, ""), &[cut(1)], &samples).is_some(), "two of three hosts see it");
        assert!(wrong(&did("request-failover", 1, ""), &[cut(1), cut(1)], &samples).is_some());
        assert_eq!(wrong(&did("request-failover", 1, ""), &[cut(1), cut(2)], &samples), None);
    }

    #[test]
    fn a_request_out_of_a_minority_or_beside_a_try_of_sentinels_own_is_wrong() {
        let upset = |upset, nodes: &[usize]| Happened { upset, nodes: nodes.to_vec(), began: at(5), ended: None };
        let killed = upset(Upset::Kill(Who::Primary), &[0]);
        let judge = |happened: &[Happened]| wrong(&did("request-failover", 1, ""), happened, &[sample(10, WHOLE)]);
        assert!(judge(&[killed.clone(), upset(Upset::Scatter, &[0, 1, 2])]).is_some());
        assert!(judge(&[killed.clone(), upset(Upset::KillSentinels(2), &[])]).is_some());
        assert_eq!(judge(&[killed.clone(), upset(Upset::Cut(Who::Replica(0), Who::Replica(1)), &[1, 2])]), None);

        let heard = |second, sentinel, what| Heard { at: at(second), sentinel, what };
        let asked = [heard(10, 1, Line::Asked), heard(10, 1, Line::Tries)];
        assert_eq!(requests(&asked), (1, Vec::new()));
        let beside = [&asked[..], &[heard(13, 2, Line::Tries)]].concat();
        assert_eq!((requests(&beside).0, requests(&beside).1.len()), (1, 1));
        assert_eq!(requests(&[&[heard(4, 2, Line::Tries)], &asked[..]].concat()).1.len(), 0);
    }

    #[test]
    fn a_request_is_due_while_sentinel_has_given_up_and_nothing_stands_in_the_way() {
        let lost = [Standing::Primary, Standing::LinkDown, Standing::LinkDown];
        let samples: Vec<Sample> = (0..60)
            .map(|second| {
                let mut sample = sample(second, lost);
                sample.nodes[0] = (second >= 40).then_some(Standing::Primary);
                sample
            })
            .collect();
        let upset = |upset, nodes: &[usize], from, to| Happened {
            upset,
            nodes: nodes.to_vec(),
            began: at(from),
            ended: Some(at(to)),
        };
        let gave_up = [Heard { at: at(3), sentinel: 0, what: Line::GivesUp }];
        let killed = upset(Upset::Kill(Who::Primary), &[0], 0, 40);
        let nobody = upset(Upset::NoCandidate, &[], 0, 10);
        let seconds = |heard: &[Heard], more: &[Happened]| {
            let happened = [&[killed.clone(), nobody.clone()], more].concat();
            due(heard, &happened, &samples).as_secs()
        };
        assert_eq!(seconds(&gave_up, &[]), 28, "from the 11th to the 39th");
        assert_eq!(seconds(&[], &[]), 0, "Sentinel did not give up");
        assert_eq!(seconds(&gave_up, &[upset(Upset::KillSentinels(2), &[], 20, 30)]), 8);
        assert_eq!(seconds(&gave_up, &[upset(Upset::FullDisk(Who::Replica(0)), &[1], 0, 60)]), 0, "it holds");
        let unplugged = upset(Upset::Unplug(Who::Replica(0)), &[1], 0, 60);
        assert_eq!(seconds(&gave_up, std::slice::from_ref(&unplugged)), 28, "the Sentinel beside the dead one helps");
        assert_eq!(seconds(&gave_up, &[unplugged, upset(Upset::KillSentinels(1), &[], 0, 60)]), 0, "no majority");
    }

    #[test]
    fn a_password_is_realigned_only_where_it_was_wrong() {
        let samples = [Sample { stale: vec![1], ..sample(10, WHOLE) }];
        assert_eq!(wrong(&did("realign-auth", 1, ""), &[], &samples), None);
        assert!(wrong(&did("realign-auth", 2, ""), &[], &samples).is_some());
        // Healed before the witness looked.
        let upset = Happened { upset: Upset::Password(1), nodes: vec![2], began: at(9), ended: None };
        assert_eq!(wrong(&did("realign-auth", 2, ""), &[upset], &samples), None);
    }

    #[test]
    fn a_repoint_goes_to_whom_the_sentinels_name_and_a_bounce_to_a_link_that_is_down() {
        let samples = [sample(10, WHOLE)];
        assert_eq!(wrong(&did("repoint", 2, "it follows 10.77.0.1:6379 now"), &[], &samples), None);
        assert!(wrong(&did("repoint", 2, "it follows 10.77.0.2:6379 now"), &[], &samples).is_some());
        assert!(wrong(&did("bounce-link", 2, ""), &[], &samples).is_some());
        let down = [sample(10, [Standing::Primary, Standing::LinkUp, Standing::LinkDown])];
        assert_eq!(wrong(&did("bounce-link", 2, ""), &[], &down), None);
    }

    #[test]
    fn a_message_of_the_record_that_never_came_is_lost_and_one_under_two_names_is_told() {
        let incidents = [json!({"id": "A", "sequence": 2})];
        let came = |name: &str, sequence: u64| (name.to_owned(), json!({"id": "A", "sequence": sequence}));
        assert!(lost_messages(&incidents, &[came("A-1", 1), came("A-1", 1), came("A-2", 2)]).is_empty());
        assert_eq!(lost_messages(&incidents, &[came("A-1", 1)]).len(), 1);
        assert_eq!(lost_messages(&incidents, &[came("A-1", 1), came("x", 1), came("A-2", 2)]).len(), 1);
    }
}
