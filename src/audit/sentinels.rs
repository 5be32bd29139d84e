//! Whether the Sentinels can agree, elect one of them.

use std::collections::BTreeMap;

use super::{Check, Ground, Verdict, list};
use crate::model::Endpoint;
use crate::model::evidence::{Reading, SentinelSays};
use crate::model::group::GroupSentinel;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks = vec![reachable(g), count(g), configured(g)];
    if g.view.answering().next().is_none() {
        return checks;
    }
    checks.extend(ckquorum(g));
    checks.extend([one_primary(g), quorum(g), timers(g), peers(g), running(g)]);
    checks.extend(hosts(g));
    checks.extend(tilt(g));
    checks
}

fn majority(g: &Ground<'_>) -> usize {
    g.view.sentinels_known() / 2 + 1
}

fn reachable(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinels-reachable";
    let (answering, known) = (g.view.answering().count(), g.view.sentinels_known());
    let saw = format!("{answering} of {known} Sentinels answer");
    let silent: Vec<String> = g
        .view
        .sentinels
        .iter()
        .filter_map(|sentinel| Some(format!("{}: {}", sentinel.endpoint, sentinel.says.missing()?)))
        .collect();
    if silent.is_empty() && answering == known {
        return Check::pass(NAME, saw);
    }
    let saw = if silent.is_empty() { saw } else { format!("{saw}; {}", silent.join("; ")) };
    match answering >= majority(g) {
        true => Check::new(NAME, Verdict::Warn, saw, "one more lost Sentinel may be one too many")
            .mend("start the Sentinels that are down, or open the way to them from here")
            .mend(forget(g)),
        false => Check::new(NAME, Verdict::Unseen, saw, "too few answer here to know whether they can elect a leader")
            .mend(
                "check sentinels, sentinel_user, sentinel_password and tls in the configuration, and the way to them",
            ),
    }
}

/// A Sentinel that is gone counts in every majority until it is forgotten.
fn forget(g: &Ground<'_>) -> String {
    format!(
        "SENTINEL RESET {}   # where one is gone for good: on one Sentinel after the other, 30 s apart, while every replica \
         is up",
        g.group()
    )
}

fn count(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinel-count";
    let known = g.view.sentinels_known();
    let saw = format!("{known} Sentinels exist");
    let means = match known {
        0..=2 => "a majority needs all of them: the loss of one host can be the loss of failover",
        n if n.is_multiple_of(2) => "an even number survives no more losses than one fewer, and can be split in halves",
        _ => return Check::pass(NAME, saw),
    };
    Check::new(NAME, Verdict::Warn, saw, means).mend("run 3 or 5 Sentinels, each on a host of its own")
}

fn configured(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinels-configured";
    let configured = g.view.sentinels.iter().filter(|sentinel| sentinel.configured).count();
    let found: Vec<&Endpoint> = g.view.sentinels.iter().filter(|s| !s.configured).map(|s| &s.endpoint).collect();
    let known = g.view.sentinels_known();
    if known <= configured {
        return Check::pass(NAME, format!("all {configured} are in the configuration"));
    }
    let saw = match found.is_empty() {
        true => format!("{configured} are configured and {known} exist"),
        false => format!("{configured} are configured and {known} exist, {} beside", list(found)),
    };
    Check::new(NAME, Verdict::Warn, saw, "relinkd counts majorities over all of them, and hears only those it knows")
        .mend(format!("add the missing ones to [group.{}] sentinels", g.view.name))
        .mend(forget(g))
}

/// CKQUORUM counts living Sentinels, not whether they can log in anywhere: `sentinel-logins` looks at that.
fn ckquorum(g: &Ground<'_>) -> Vec<Check> {
    const NAME: &str = "quorum-reached";
    let one = |(endpoint, says): (&Endpoint, &SentinelSays)| {
        let (verdict, saw, means) = match &says.ckquorum {
            Reading::Seen(quorum) if quorum.ok => (Verdict::Pass, quorum.text.clone(), String::new()),
            Reading::Seen(quorum) => (
                Verdict::Fail,
                quorum.text.clone(),
                "no failover can be authorised as this Sentinel sees it".to_owned(),
            ),
            Reading::Missing(why) => (Verdict::Unseen, why.to_string(), "its user needs +sentinel|ckquorum".to_owned()),
        };
        let check = Check::new(NAME, verdict, saw, means).at(endpoint);
        match verdict {
            Verdict::Fail => check.mend("start the Sentinels that are down").mend(format!(
                "{} SENTINEL SENTINELS {}",
                g.sentinel_cli(endpoint),
                g.group()
            )),
            _ => check,
        }
    };
    g.view.answering().map(one).collect()
}

fn one_primary(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinels-agree";
    let mut named: BTreeMap<&Endpoint, Vec<&Endpoint>> = BTreeMap::new();
    for (endpoint, says) in g.view.answering() {
        named.entry(&says.primary).or_default().push(endpoint);
    }
    let said: Vec<String> =
        named.iter().map(|(primary, by)| format!("{primary} by {}", list(by.iter().copied()))).collect();
    match named.len() {
        1 => Check::pass(NAME, format!("all name {} as primary", list(named.keys().copied()))),
        _ => Check::new(
            NAME,
            Verdict::Fail,
            said.join("; "),
            "clients and replicas follow different primaries; normal only for a second during a failover",
        )
        .mend("run the audit again; a Sentinel that stays behind has lost the others, or monitors another group"),
    }
}

fn quorum(g: &Ground<'_>) -> Check {
    const NAME: &str = "quorum-setting";
    let known = g.view.sentinels_known();
    let set: BTreeMap<u32, Vec<&Endpoint>> = g.view.answering().fold(BTreeMap::new(), |mut set, (endpoint, says)| {
        set.entry(says.quorum).or_insert_with(Vec::new).push(endpoint);
        set
    });
    let said: Vec<String> = set.iter().map(|(n, by)| format!("quorum {n} on {}", list(by.iter().copied()))).collect();
    let saw = said.join("; ");
    let highest = set.keys().next_back().copied().unwrap_or(0);
    let best = majority(g);
    let (verdict, means) = if highest as usize > known {
        (Verdict::Fail, "more votes are needed than there are Sentinels: no primary is ever held down for all")
    } else if set.len() > 1 {
        (Verdict::Warn, "the Sentinels decide by different rules, so who notices first matters")
    } else if highest < 2 && known > 1 {
        (Verdict::Warn, "one Sentinel with a bad network is enough to begin a failover")
    } else if known >= 3 && highest as usize == known {
        (Verdict::Warn, "the loss of a single Sentinel, as with the host of the primary, is the loss of failover")
    } else if highest as usize > best {
        return Check::pass(NAME, format!("{saw}: more than the {best} that elect a leader have to agree"));
    } else {
        return Check::pass(NAME, saw);
    };
    let mut check = Check::new(NAME, verdict, saw, means);
    for (endpoint, says) in g.view.answering().filter(|(_, says)| says.quorum as usize != best) {
        check = check.mend(format!(
            "{} SENTINEL SET {} quorum {best}   # is {}",
            g.sentinel_cli(endpoint),
            g.group(),
            says.quorum
        ));
    }
    check
}

/// Who is lost together with the primary cannot elect its successor.
fn hosts(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "sentinel-hosts";
    let host = g.view.named_primary()?.host.as_str();
    // On loopback everything is on one host, or seen from there alone.
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return None;
    }
    // One is dialled by another address than the others know it by: as 127.0.0.1, or by a name.
    let known_as = |id: &str| {
        let peers = g.view.sentinels.iter().filter_map(|sentinel| sentinel.peers.seen()).flatten();
        peers.filter(|peer| peer.id == id).any(|peer| peer.endpoint.host == host)
    };
    let is_beside = |sentinel: &&GroupSentinel| {
        sentinel.endpoint.host == host || sentinel.says.seen().is_some_and(|says| known_as(&says.id))
    };
    let beside: Vec<&Endpoint> = g.view.sentinels.iter().filter(is_beside).map(|sentinel| &sentinel.endpoint).collect();
    let (known, left) = (g.view.sentinels_known(), g.view.sentinels_known().saturating_sub(beside.len()));
    if left >= majority(g) {
        return Some(Check::pass(NAME, format!("{left} of {known} Sentinels are on other hosts than the primary")));
    }
    Some(
        Check::new(
            NAME,
            Verdict::Warn,
            format!("{} of {known} Sentinels are on the host of the primary: {}", beside.len(), list(beside)),
            "with that host the majority is lost, and nobody is promoted",
        )
        .mend("run a majority of the Sentinels on other hosts, each on one of its own"),
    )
}

fn timers(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinel-timers";
    let mut set: BTreeMap<(u64, u64), Vec<&Endpoint>> = BTreeMap::new();
    for (endpoint, says) in g.view.answering() {
        set.entry((says.down_after_ms, says.failover_timeout_ms)).or_default().push(endpoint);
    }
    let said: Vec<String> = set
        .iter()
        .map(|((down, failover), by)| {
            let by = if set.len() > 1 { format!(" on {}", list(by.iter().copied())) } else { String::new() };
            format!("down-after {down} ms, failover-timeout {failover} ms{by}")
        })
        .collect();
    // What most of them have is what the others get, unless it is unwise itself.
    let (down, failover) = set.iter().max_by_key(|(_, by)| by.len()).map_or((30_000, 180_000), |(timers, _)| *timers);
    let best_down = if (500..=120_000).contains(&down) { down } else { 5_000 };
    let best_failover = if failover >= best_down.saturating_mul(2) { failover } else { best_down.saturating_mul(6) };
    let means = if set.len() > 1 {
        "the Sentinels decide at different times"
    } else if down < 500 {
        "a pause of the primary for a fork or a slow command is enough for a failover"
    } else if down > 120_000 {
        "a dead primary stays primary for minutes before anybody acts"
    } else if failover != best_failover {
        "a failover is given up before the replicas could follow, and the next try waits twice as long"
    } else {
        return Check::pass(NAME, said.join("; "));
    };
    let check = Check::new(NAME, Verdict::Warn, said.join("; "), means);
    let others = set.iter().filter(|(timers, _)| **timers != (best_down, best_failover)).flat_map(|(_, by)| by);
    others.fold(check, |check, endpoint| {
        let set = format!("{} SENTINEL SET {}", g.sentinel_cli(endpoint), g.group());
        check.mend(format!("{set} down-after-milliseconds {best_down} failover-timeout {best_failover}"))
    })
}

/// Whether the Sentinels reach each other: a wrong `sentinel-pass` shows here.
fn peers(g: &Ground<'_>) -> Check {
    const NAME: &str = "sentinel-peers";
    let cut: Vec<String> = g
        .view
        .sentinels
        .iter()
        .flat_map(|sentinel| sentinel.peers.seen().into_iter().flatten().map(move |peer| (sentinel, peer)))
        .filter(|(_, peer)| peer.down)
        .map(|(sentinel, peer)| format!("{} does not reach {}", sentinel.endpoint, peer.endpoint))
        .collect();
    let uneven = g.view.answering().any(|(_, says)| says.others as usize + 1 != g.view.sentinels_known());
    let unread: Vec<String> = g
        .view
        .sentinels
        .iter()
        .filter(|sentinel| sentinel.says.seen().is_some())
        .filter_map(|it| Some(format!("{}: SENTINEL SENTINELS: {}", it.endpoint, it.peers.missing()?)))
        .collect();
    if cut.is_empty() && !unread.is_empty() {
        return Check::new(
            NAME,
            Verdict::Unseen,
            unread.join("; "),
            "whether the Sentinels reach each other is not known",
        )
        .mend("its user (sentinel_user) needs +sentinel|sentinels");
    }
    match (cut.is_empty(), uneven) {
        (true, false) => Check::pass(NAME, "each Sentinel reaches every other"),
        (true, true) => Check::new(
            NAME,
            Verdict::Warn,
            "the Sentinels do not all know the same number of others",
            "one that is not known has no vote",
        ),
        (false, _) => Check::new(NAME, Verdict::Warn, cut.join("; "), "their votes do not reach each other")
            .mend("start those that are down; where all run, sentinel-pass or requirepass differs between them"),
    }
}

fn running(g: &Ground<'_>) -> Check {
    const NAME: &str = "failover-running";
    let busy: Vec<&Endpoint> = g.view.answering().filter(|(_, says)| says.fails_over()).map(|(at, _)| at).collect();
    match busy.is_empty() {
        true => Check::pass(NAME, "no failover runs"),
        false => Check::new(
            NAME,
            Verdict::Warn,
            format!("a failover runs on {}", list(busy)),
            "what was read may be out of date already",
        )
        .mend("run the audit again when it is over"),
    }
}

fn tilt(g: &Ground<'_>) -> Vec<Check> {
    const NAME: &str = "sentinel-tilt";
    let one = |(endpoint, says): (&Endpoint, &SentinelSays)| match &says.tilt {
        Reading::Seen(false) => Check::pass(NAME, "not in TILT").at(endpoint),
        Reading::Seen(true) => {
            Check::new(NAME, Verdict::Warn, "in TILT", "it acts on nothing until its clock has been steady for 30 s")
                .at(endpoint)
                .mend("look for a clock that jumps, or a virtual machine that pauses")
        }
        Reading::Missing(why) => {
            Check::new(NAME, Verdict::Unseen, why.to_string(), "its user needs +info").at(endpoint)
        }
    };
    g.view.answering().map(one).collect()
}
