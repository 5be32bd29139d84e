//! The way to the primary: name, network, process, and what answers there.
//!
//! From one host a dead primary and a cut network look the same. What tells them apart is whether the Sentinels,
//! asked one by one, still see the primary; they need `down-after-milliseconds` to make up their minds, and until
//! then a verdict is only suspected.

use std::time::Duration;

use super::{broken_link, fact, finding, link_fact, standing};
use crate::model::evidence::{Answer, Connect, Evidence, LinkState, LinkView, PeerRole, Probe, Reading};
use crate::model::finding::{Cause, Fact, Finding, Viewpoint};
use crate::model::{Endpoint, Timestamp};

mod own_way;

use own_way::own_way;

/// Without a witness, a primary that is gone for less than this may be restarting.
const RESTART: Duration = Duration::from_secs(1);

/// What the Sentinels make of the primary.
enum Witness {
    /// A majority of all known Sentinels hold it down.
    Down(Fact),
    /// A majority see it alive, and have had time to notice if it were not.
    Alive(Fact),
    /// Too few hold it down yet, and a majority have had no answer from it for longer than a PING period.
    Unanswered(Fact),
    /// They see it alive and may not have noticed yet.
    NotYet(Fact),
    /// Too few answer from here to say anything.
    Unheard(Fact),
    /// No Sentinel is configured.
    None,
}

fn witness(e: &Evidence) -> Witness {
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
        .filter(|(_, says)| super::same_place(e, target, &says.primary))
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
fn answers_at_once(e: &Evidence, target: &Endpoint) -> bool {
    let naming = e.answering().filter(|(_, says)| super::same_place(e, target, &says.primary));
    let answered = naming.filter_map(|(_, says)| says.answered_at()).filter(|at| e.ended.since(*at) < UNANSWERED);
    answered.count() > e.sentinels_known() / 2
}

/// A majority of the Sentinels have an unanswered PING, though few of them may hold the primary down yet.
pub fn unanswered_by_pings(e: &Evidence) -> bool {
    matches!(by_their_pings(e, e.sentinels_known() / 2 + 1), Some(Witness::Unanswered(_)))
}

/// How long the primary has not answered from here: so long the Sentinels have had to notice. The link may have been
/// down for something else, long before.
fn unreached_for(e: &Evidence) -> Duration {
    e.trend.unreached_since.map_or_else(|| standing(e), |since| e.ended.since(since))
}

/// The same where nobody else can be asked. A link that reads up knows of no break, and one look proves none: the
/// kernel sends a lost SYN anew after a second, and the probe waits no longer.
fn alone_for(e: &Evidence) -> Duration {
    match e.local_link() {
        Some(link) if link.up => e.trend.unreached_seen.map_or(Duration::ZERO, |seen| e.ended.since(seen)),
        _ => unreached_for(e),
    }
}

/// Nobody answered on this probe.
pub fn unanswered(probe: &Probe) -> bool {
    match &probe.connect {
        // Not asked in plain for want of time: it may well be there.
        Connect::Open | Connect::HelloUnanswered => hangs_at(probe).is_some(),
        // Who ends a TLS handshake has answered; our own settings and our own haste say nothing of anybody.
        Connect::Tls(_) | Connect::TlsSetup(_) | Connect::NoTime => false,
        _ => true,
    }
}

/// What the peer did not answer, though the connection opened.
fn hangs_at(probe: &Probe) -> Option<&'static str> {
    match &probe.connect {
        // Where a plain PING is answered, the hello was none to it.
        Connect::HelloUnanswered => (probe.other_transport == Some(false)).then_some("TLS hello"),
        Connect::Open => {
            let steps = [("PING", &probe.ping), ("AUTH", &probe.auth), ("PING after AUTH", &probe.ping_again)];
            steps.into_iter().find(|(_, answer)| **answer == Answer::TimedOut).map(|(step, _)| step)
        }
        _ => None,
    }
}

/// What the Sentinels saw, once they have had the time to see it, and the causes that it speaks against.
pub(super) fn excluded_by_witnesses(e: &Evidence) -> Option<(String, &'static [Cause])> {
    broken_link(e)?;
    match witness(e) {
        Witness::Down(told) | Witness::Unanswered(told) => {
            Some((told.saw, &[Cause::NetworkCut, Cause::NetworkRejected]))
        }
        Witness::Alive(told) => Some((told.saw, &[Cause::PrimaryDown, Cause::PrimaryUnreachable])),
        Witness::NotYet(_) | Witness::Unheard(_) | Witness::None => None,
    }
}

fn upstream(e: &Evidence) -> Option<&Probe> {
    e.local_link()?;
    e.upstream.seen()
}

fn probe_fact(probe: &Probe, saw: &str, means: &str) -> Fact {
    fact(Viewpoint::Probe, probe.at, format!("connect to {} → {saw}", probe.target), means)
}

pub fn name_unresolved(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let Connect::NameUnresolved(text) = &probe.connect else { return None };
    // A link that is up knows of nothing, and one packet lost on the way to the resolver costs five seconds (glibc).
    let passes = e.local_link().is_some_and(|link| link.up) && alone_for(e) < super::latent::SETTLED;
    let own = own_way(e);
    let suspected = passes || own.is_some();
    let first = probe_fact(probe, text, "this host cannot turn the primary's name into an address");
    Some(finding(
        Cause::NameUnresolved,
        suspected,
        [Some(first), own, Some(link_fact(e))].into_iter().flatten().collect(),
    ))
}

/// Refused or reset: a host answered, so packets travel both ways.
pub fn refused(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let saw = match probe.connect {
        Connect::Refused => "connection refused",
        Connect::Reset => "connection reset",
        _ => return None,
    };
    let first = probe_fact(probe, saw, "a host answers there, and takes no connection on that port");
    let (cause, suspected, told) = match witness(e) {
        Witness::Down(told) | Witness::Unanswered(told) => (Cause::PrimaryDown, false, Some(told)),
        Witness::Alive(told) => (Cause::NetworkRejected, false, Some(told)),
        Witness::NotYet(told) | Witness::Unheard(told) => (Cause::PrimaryDown, true, Some(told)),
        Witness::None => (Cause::PrimaryDown, unreached_for(e) < RESTART, None),
    };
    Some(by_probe(e, cause, suspected, first, [told, None]))
}

/// What the probe and the witnesses say, and whether the link speaks against it.
fn by_probe(e: &Evidence, cause: Cause, suspected: bool, first: Fact, told: [Option<Fact>; 2]) -> Finding {
    let own = own_way(e);
    let suspected = suspected || own.is_some();
    let because = [Some(first)].into_iter().chain(told).chain([own, Some(link_fact(e))]);
    finding(cause, suspected, because.flatten().collect())
}

/// The data set was still coming in just now. It may fill the line, so that no probe of ours gets through: the primary
/// is neither gone nor hung.
pub(super) fn receiving(e: &Evidence) -> bool {
    e.local_link().is_some_and(|link| link.syncing && link.sync_read > 0 && (0..=2).contains(&link.sync_last_io_s))
}

/// A byte of the data set came not long ago, and none since. A line that is full drops packets of the transfer too, which
/// then waits for seconds, so this host alone cannot tell it from a way that is gone. Before the first byte nothing fills
/// it: while the primary makes the data set ready it sends no more than a newline a second (Redis 7.0.15,
/// replicationCron).
fn line_may_be_full(e: &Evidence) -> Option<Fact> {
    let recent = 0..super::sync::STALLED_S;
    let comes_in = |link: &&LinkView| link.syncing && link.sync_read > 0 && recent.contains(&link.sync_last_io_s);
    let link = e.local_link().filter(comes_in)?;
    let saw =
        format!("the data set was coming in {} s ago, {} bytes of it so far", link.sync_last_io_s, link.sync_read);
    Some(fact(Viewpoint::Replica, e.ended, saw, "a line that is full looks the same for some seconds"))
}

/// No answer to the connection itself.
pub fn silent(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e).filter(|_| !receiving(e))?;
    let saw = match &probe.connect {
        Connect::TimedOut => "no answer in time".to_owned(),
        Connect::Unreachable(text) => text.clone(),
        _ => return None,
    };
    let first = probe_fact(probe, &saw, "nothing comes back from that address");
    let full = line_may_be_full(e);
    let (cause, suspected, told) = match witness(e) {
        Witness::Down(told) | Witness::Unanswered(told) => (Cause::PrimaryUnreachable, false, Some(told)),
        Witness::Alive(told) => (Cause::NetworkCut, full.is_some(), Some(told)),
        // The replica's host hears neither the primary nor most Sentinels: more likely its own network.
        Witness::Unheard(told) => (Cause::NetworkCut, true, Some(told)),
        Witness::NotYet(told) => (Cause::PrimaryUnreachable, true, Some(told)),
        Witness::None => (Cause::PrimaryUnreachable, full.is_some() || alone_for(e) < RESTART, None),
    };
    Some(by_probe(e, cause, suspected, first, [told, full]))
}

/// The kernel accepts, the process does not answer (SIGSTOP, DEBUG SLEEP, the first five seconds of a script).
pub fn hung(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e).filter(|_| !receiving(e))?;
    let step = hangs_at(probe)?;
    // Alone among those who see it alive, or before they have noticed, it may be a pause of a second.
    let full = line_may_be_full(e);
    let brief = unreached_for(e) < Duration::from_secs(5);
    let pause = brief || full.is_some();
    let (cause, suspected, told) = match witness(e) {
        Witness::Down(told) => (Cause::PrimaryHung, false, Some(told)),
        // No line of ours keeps it from answering them.
        Witness::Unanswered(told) => (Cause::PrimaryHung, brief, Some(told)),
        // It answers others at once: what takes our connection is a proxy, or the line is full.
        Witness::Alive(told) if answers_at_once(e, &probe.target) => (Cause::NetworkCut, pause, Some(told)),
        Witness::Alive(told) => (Cause::PrimaryHung, pause, Some(told)),
        Witness::NotYet(told) | Witness::Unheard(told) => (Cause::PrimaryHung, true, Some(told)),
        Witness::None => (Cause::PrimaryHung, pause, None),
    };
    let means = match cause {
        Cause::PrimaryHung => "the process is there and does not work: stopped, swapping, or in one long command",
        _ => "who takes the connection is not who answers the others: a proxy on the way, or a line that is full",
    };
    let first = fact(
        Viewpoint::Probe,
        probe.at,
        format!("{} accepts the connection, {step} → no answer in time", probe.target),
        means,
    );
    Some(by_probe(e, cause, suspected, first, [told, full]))
}

pub fn not_a_server(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    let saw = match (&probe.ping, &probe.role) {
        (Answer::NotRedis(text), _) => format!("{} answers {text:?}", probe.target),
        (_, Reading::Seen(PeerRole::Sentinel)) => format!("{} is a Sentinel", probe.target),
        _ => return None,
    };
    Some(finding(
        Cause::NotAServer,
        false,
        vec![
            fact(Viewpoint::Probe, probe.at, saw, "the replica follows an address where no data node is"),
            link_fact(e),
        ],
    ))
}

/// An error in place of PONG, by its first word: the server is there and says why it takes nobody.
pub fn refusing(e: &Evidence) -> Option<Finding> {
    let probe = upstream(e)?;
    broken_link(e)?;
    let (answer, cause, means) =
        [(&probe.ping, true), (&probe.ping_again, false)].into_iter().find_map(|(answer, first)| {
            let Answer::Error { code, text } = answer else { return None };
            let (cause, means) = match code.as_str() {
                // Who logs in is not stopped by it: see [`handshake_works`].
                "MISCONF" if !first => return None,
                "DENIED" => (Cause::ProtectedMode, "no password and no bind address: it talks to its own host only"),
                "MISCONF" => (
                    Cause::PrimarySaveFailing,
                    "its last save failed, and so it refuses a replica that it asks for no password",
                ),
                "LOADING" => (Cause::PrimaryLoading, "it takes replicas when its data set is in memory"),
                "BUSY" => (Cause::PrimaryBusy, "a script has run past busy-reply-threshold"),
                "ERR" if text.contains("max number of clients") => (
                    Cause::ConnectionsExhausted,
                    "maxclients is reached; new replicas and people are turned away alike",
                ),
                _ => return None,
            };
            Some((answer, cause, means))
        })?;
    Some(finding(
        cause,
        false,
        vec![fact(Viewpoint::Probe, probe.at, format!("{}: PING → {answer}", probe.target), means), link_fact(e)],
    ))
}

/// The whole handshake works from here, and the replica still waits in an attempt that was made before: SYN
/// back-off (15.6 s after a healed cut with the default repl-timeout, Redis 7.0.15) or a reply that will never come.
/// A replica in `handshake` is left to [`super::sync::sync_running`] unless the primary tells that it serves none.
pub fn healed_unnoticed(e: &Evidence) -> Option<Finding> {
    let link = broken_link(e)?;
    let probe = e.upstream.seen().filter(|probe| handshake_works(probe))?;
    // A replica that has just begun an attempt looks the same, but where nobody was let in until now.
    let begun_before = link.state == LinkState::Connecting && e.trend.unreached_until.is_some();
    let answered = e.trend.answered_since.map_or_else(|| standing(e), |since| e.ended.since(since));
    if !begun_before && (answered < ATTEMPT || tries_anew(e)) {
        return None;
    }
    let cause = match link.state {
        LinkState::Connecting => Cause::NetworkCut,
        // An attempt that nobody answers ends after repl-timeout (Redis 7.0.15, replicationCron): one that stands for
        // longer is kept alive by the primary.
        LinkState::Handshake if standing(e).as_secs() <= e.settings.seen()?.repl_timeout_s => Cause::PrimaryHung,
        _ => return None,
    };
    Some(finding(
        cause,
        standing(e) < ATTEMPT,
        vec![
            fact(
                Viewpoint::Probe,
                probe.at,
                format!("{}: the whole handshake works from this host now", probe.target),
                "what broke the link is over; the replica still waits for an attempt that it began before",
            ),
            link_fact(e),
        ],
    ))
}

/// A replica whose attempts fail begins a new one every second (Redis 7.0.15, replicationCron), or at once.
const ATTEMPT: Duration = Duration::from_secs(1);

/// A sync that began for the second time within this is no attempt of old.
const AGAIN: Duration = Duration::from_secs(5);

/// The log tells of a start, or of an attempt and how it ended, a moment ago: the replica does not wait in an old one.
fn tries_anew(e: &Evidence) -> bool {
    let lines = e.log.seen().map(|log| log.lines.as_slice()).unwrap_or_default();
    let again = e.trend.attempts > 1 && e.trend.attempted.is_some_and(|at| e.ended.since(at) < AGAIN);
    again
        || super::circle::fails_without_a_name(e).is_some()
        || lines.iter().any(|line| !super::sync::of_a_primary(line.kind) && e.ended.since(line.last) < ATTEMPT * 2)
}

/// The step at which this probe's handshake went wrong, in words, and when it was seen.
pub(super) fn stops_at(probe: &Probe) -> Option<(String, Timestamp)> {
    let step = match &probe.connect {
        Connect::Open => {
            let steps =
                [("PING", &probe.ping), ("AUTH", &probe.auth), ("REPLCONF", &probe.replconf), ("PSYNC", &probe.psync)];
            let fine = |name: &str, answer: &Answer| match answer {
                Answer::Ok(_) | Answer::NotAsked => true,
                Answer::Error { code, text } => {
                    (name == "PING" && matches!(code.as_str(), "NOAUTH" | "NOPERM"))
                        || (name == "PSYNC" && text.contains("not an integer"))
                }
                _ => false,
            };
            match steps.iter().find(|(name, answer)| !fine(name, answer)) {
                Some((name, answer)) => format!("{name} → {answer}"),
                None if probe.cut_short => {
                    let unasked = |(name, answer): &&(&str, &Answer)| {
                        **answer == Answer::NotAsked && (*name != "AUTH" || probe.with_password)
                    };
                    let name = steps.iter().find(unasked).map_or("ROLE", |(name, _)| name);
                    let ms = probe.took_us / 1000;
                    format!("the look was over before {name} was answered, {ms} ms after the first step")
                }
                None => return None,
            }
        }
        Connect::Refused => "connection refused".to_owned(),
        Connect::Reset => "connection reset".to_owned(),
        Connect::TimedOut => "no answer in time".to_owned(),
        Connect::HelloUnanswered => "TLS hello → no answer in time".to_owned(),
        Connect::NoTime => "no time was left for it in this look".to_owned(),
        Connect::Unreachable(text) | Connect::NameUnresolved(text) | Connect::Tls(text) | Connect::TlsSetup(text) => {
            text.clone()
        }
    };
    Some((format!("handshake with {}: {step}", probe.target), probe.at))
}

pub(super) fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(u32::MAX)
}

/// Major and minor; what cannot be read counts as newer than all.
pub(super) fn release(version: &str) -> (u32, u32) {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
    (major(version), minor)
}

/// Every step of a replica's handshake was answered well on this probe. A replica without a password sends no AUTH,
/// and none PINGs a second time: a missing `+ping` is no fault, nor is what a primary that cannot save says to a PING
/// after AUTH (Redis 7.0.15, processCommand: MISCONF is for writes and PING; NOAUTH, which a replica passes over, comes
/// before it).
pub fn handshake_works(probe: &Probe) -> bool {
    let allowed = match &probe.psync {
        Answer::Error { text, .. } => text.contains("not an integer"),
        // Of a server known to be older than 7.0 it is not asked, since there the question begins a full resync.
        Answer::NotAsked => probe.version.as_deref().is_some_and(|version| major(version) < 7),
        _ => false,
    };
    // A replica whose own link is up serves others as a primary does.
    let serves = match probe.role.seen() {
        Some(PeerRole::Replica { state, .. }) => *state == LinkState::Connected,
        Some(PeerRole::Sentinel) => false,
        Some(PeerRole::Primary { .. }) | None => true,
    };
    let logged_in = match probe.auth {
        Answer::NotAsked => probe.ping.is_ok(),
        _ => {
            probe.auth.is_ok() && (probe.ping_again.is_ok() || ["NOPERM", "MISCONF"].contains(&probe.ping_again.code()))
        }
    };
    probe.connect == Connect::Open && logged_in && probe.replconf.is_ok() && allowed && serves
}
