//! What others say of a primary that nobody answers for from here: the Sentinels, and itself to the observer.

use std::time::Duration;

use super::super::{broken_link, fact, same_place};
use super::{RESTART, unanswered, unreached_for};
use crate::model::evidence::{Connect, Evidence, Probe, Role, ServerView};
use crate::model::finding::{Cause, Fact, Viewpoint};
use crate::model::{Endpoint, Timestamp};

/// What the Sentinels make of the primary.
pub(super) enum Witness {
    /// A majority of all known Sentinels hold it down.
    Down(Fact),
    /// A majority see it alive, and have had time to notice if it were not; or it has told the observer itself.
    Alive(Fact),
    /// Too few hold it down yet, and a majority have had no answer from it for longer than a PING period.
    Unanswered(Fact),
    /// It was alive to them a moment ago, and they may not have noticed yet.
    NotYet(Fact),
    /// Too few answer from here to say anything.
    Unheard(Fact),
    /// No Sentinel is configured.
    None,
}

pub(super) fn witness(e: &Evidence) -> Witness {
    if let Some((from, at, saw)) = heard_otherwise(e) {
        // It may have ended right behind its answer.
        return match unreached_for(e) < RESTART {
            true => Witness::NotYet(fact(from, at, saw, "it lived a moment ago")),
            false => {
                let means = "the primary runs; the way to it that the replica takes does not work";
                Witness::Alive(fact(from, at, saw, means))
            }
        };
    }
    if e.sentinels.is_empty() {
        return Witness::None;
    }
    let need = e.sentinels_known() / 2 + 1;
    let answering = e.answering().count();
    let down = e.sentinels_flagging("s_down");
    let known = e.sentinels_known();
    let tell = |saw: String, means: &str| fact(Viewpoint::Sentinel, e.ended, saw, means);
    if down >= need {
        let agreed = if e.sentinels_flagging("o_down") > 0 { ", and they agree on it (o_down)" } else { "" };
        return Witness::Down(tell(
            format!("{down} of {known} Sentinels hold the primary down{agreed}"),
            "it is not only us who cannot reach it",
        ));
    }
    if answering < need {
        return Witness::Unheard(tell(
            format!("only {answering} of {known} Sentinels answer from here"),
            "too few witnesses to tell a dead primary from a cut network",
        ));
    }
    if let Some(told) = by_their_pings(e, need) {
        return told;
    }
    // down-after-milliseconds, a PING period of a second, and a little for the answer to reach us.
    let patience = e
        .answering()
        .map(|(_, says)| Duration::from_millis(says.down_after_ms))
        .max()
        .unwrap_or_default()
        .saturating_add(Duration::from_millis(1_500));
    let alive = answering.saturating_sub(down).saturating_sub(tilted(e));
    if unreached_for(e) < patience {
        return Witness::NotYet(tell(
            format!("{alive} of {known} Sentinels still see the primary"),
            "they may not have noticed yet",
        ));
    }
    if alive >= need {
        return Witness::Alive(tell(
            format!("{alive} of {known} Sentinels see the primary alive"),
            "the primary runs; the way from this host to it does not work",
        ));
    }
    Witness::Unheard(tell(
        format!("{down} of {known} Sentinels hold the primary down, {alive} see it alive"),
        "the witnesses contradict each other",
    ))
}

/// What the primary told the observer, on a connection of the observer's own, after the probe had begun that nobody
/// answered. The probe goes from the replica's `bind-source-addr`, the observer from wherever the kernel lets it.
pub fn told_by_itself(e: &Evidence) -> Option<&ServerView> {
    let probe = e.upstream.seen().filter(|probe| unanswered(probe))?;
    e.primary.seen().filter(|told| told.role == Role::Primary && told.at >= probe.at)
}

/// A word of the primary on another way than the probe's, which goes from the replica's `bind-source-addr`.
pub(super) fn heard_otherwise(e: &Evidence) -> Option<(Viewpoint, Timestamp, String)> {
    if let Some(told) = told_by_itself(e) {
        let saw = "the observer has read its INFO from this host in the same look".to_owned();
        return Some((Viewpoint::Primary, told.at, saw));
    }
    // What hung a second ago may go on by now, and answer everybody.
    let met = |probe: &&Probe| !matches!(probe.connect, Connect::Open | Connect::HelloUnanswered);
    let probe = e.upstream.seen().filter(|probe| unanswered(probe)).filter(met)?;
    let answer = probe.answered_otherwise()?;
    let from = probe.source.as_ref().map_or("", |source| source.address.as_str());
    let saw = format!("PING to {} from another address than {from} → {answer}", probe.target);
    Some((Viewpoint::Probe, probe.at, saw))
}

/// In TILT a Sentinel declares nobody down (Redis 7.0.15, sentinelHandleRedisInstance): it is no witness for life, and its
/// PINGs go on.
fn tilted(e: &Evidence) -> usize {
    e.answering().filter(|(_, says)| says.tilt.seen() == Some(&true)).count()
}

/// A Sentinel pings every second, or every down-after if that is less, and waits half of that at least for an answer
/// before it tries again (Redis 7.0.15, sentinelSendPeriodicCommands). Nothing for this long is an unanswered PING.
const UNANSWERED: Duration = Duration::from_millis(2_500);

/// What the Sentinels' own PINGs say, long before down-after-milliseconds (30 s by default) has passed. An answer that
/// came after the primary was found silent from here proves that it lives, be it an error; TILT does not change that.
fn by_their_pings(e: &Evidence, need: usize) -> Option<Witness> {
    let silent_from = e.trend.unreached_seen?;
    let target = &e.upstream.seen()?.target;
    let known = e.sentinels_known();
    let answers: Vec<Timestamp> = e
        .answering()
        .filter(|(_, says)| same_place(e, target, &says.primary))
        .filter_map(|(_, says)| says.answered_at())
        .collect();
    let alive = answers.iter().filter(|at| **at > silent_from).count();
    if alive >= need {
        return Some(Witness::Alive(fact(
            Viewpoint::Sentinel,
            e.ended,
            format!("the primary has answered PINGs of {alive} of {known} Sentinels since it is silent here"),
            "the primary runs; the way from this host to it does not work",
        )));
    }
    let without = answers.iter().filter(|at| e.ended.since(**at) >= UNANSWERED).count();
    (without >= need).then(|| {
        let longest = answers.iter().map(|at| e.ended.since(*at)).max().unwrap_or_default();
        let means = match tilted(e) {
            0 => "it is not only us who cannot reach it; they will hold it down when down-after-milliseconds has passed"
                .to_owned(),
            some => format!(
                "it is not only us who cannot reach it; {some} of them are in TILT, after a pause or a step of their clock, \
                 and hold nobody down until that has lasted 30 s"
            ),
        };
        Witness::Unanswered(fact(
            Viewpoint::Sentinel,
            e.ended,
            format!(
                "{without} of {known} Sentinels have had no answer to their PINGs for up to {} s",
                longest.as_secs()
            ),
            means,
        ))
    })
}

/// A majority of the Sentinels have had an answer to their last PING. One that swaps answers them now and then.
pub(super) fn answers_at_once(e: &Evidence, target: &Endpoint) -> bool {
    let naming = e.answering().filter(|(_, says)| same_place(e, target, &says.primary));
    let answered = naming.filter_map(|(_, says)| says.answered_at()).filter(|at| e.ended.since(*at) < UNANSWERED);
    answered.count() > e.sentinels_known() / 2
}

/// A majority of the Sentinels have an unanswered PING, though few of them may hold the primary down yet.
pub fn unanswered_by_pings(e: &Evidence) -> bool {
    matches!(by_their_pings(e, e.sentinels_known() / 2 + 1), Some(Witness::Unanswered(_)))
}

/// What the Sentinels saw, once they have had the time to see it, and the causes that it speaks against.
pub fn excluded_by_witnesses(e: &Evidence) -> Option<(String, &'static [Cause])> {
    broken_link(e)?;
    match witness(e) {
        Witness::Down(told) | Witness::Unanswered(told) => {
            Some((told.saw, &[Cause::NetworkCut, Cause::NetworkRejected]))
        }
        Witness::Alive(told) => Some((told.saw, &[Cause::PrimaryDown, Cause::PrimaryUnreachable])),
        Witness::NotYet(_) | Witness::Unheard(_) | Witness::None => None,
    }
}
