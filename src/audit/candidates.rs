//! Whom Sentinel could promote, and whether the promoted one would take writes.

use super::addresses::{replicas_not_read, twins, unlisted};
use super::{Check, Ground, Verdict, list};
use crate::model::evidence::{Missing, SentinelSays};
use crate::model::group::{GroupNode, NodeSettings};
use crate::model::rdb;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if g.view.answering().next().is_some() {
        checks.push(candidates(g));
    }
    checks.extend(min_replicas(g));
    checks
}

/// What gives the group more replicas: where some are there that no Sentinel lists, those come first.
fn more(g: &Ground<'_>, add: &str) -> String {
    match g.view.nodes.iter().any(|node| !unlisted(g, node).is_empty() || !twins(node).is_empty()) {
        true => "some are connected and not listed: see announced-addresses".to_owned(),
        false => add.to_owned(),
    }
}

fn listed_at_0(g: &Ground<'_>, node: &GroupNode) -> bool {
    g.listing().any(|says| says.replicas.iter().any(|it| it.endpoint == node.address && it.priority == 0))
}

/// Not one that the others could not load from: its 0 keeps their data alive until they are as new.
fn loaded_by_all(g: &Ground<'_>, node: &GroupNode) -> bool {
    let Some(known) = g.known(node) else { return true };
    let others = g.view.nodes.iter().filter(|other| other.address != node.address);
    others.filter_map(|other| g.known(other)).all(|other| rdb::loads(other.build(), known.build()))
}

/// What may be promoted without a loss: by its own account or a Sentinel's it has a link, and is not empty beside a primary
/// that is not. Its 0 is what keeps an empty one from emptying all others.
fn holds_the_data(g: &Ground<'_>, node: &GroupNode) -> bool {
    let primary_keys = g.view.primary().and_then(|primary| g.known(primary)).map(|primary| primary.keys());
    g.known(node).is_some_and(|known| known.link_up() && (known.keys() > 0 || primary_keys == Some(0)))
}

fn priority_of(g: &Ground<'_>, node: &GroupNode) -> u32 {
    let listed = |says: &SentinelSays| says.replicas.iter().find(|r| r.endpoint == node.address).map(|r| r.priority);
    let own = g.known(node).map(|known| known.priority());
    own.or_else(|| g.view.answering().find_map(|(_, says)| listed(says))).unwrap_or(0)
}

/// Makes those of priority 0 candidates, as far as that is safe.
fn raise(g: &Ground<'_>, zero: &[&GroupNode], check: Check, unless: &str) -> Check {
    let (whole, lacking): (Vec<&GroupNode>, Vec<&GroupNode>) =
        zero.iter().copied().filter(|node| loaded_by_all(g, node)).partition(|node| holds_the_data(g, node));
    let set = |node: &GroupNode| g.set(&node.address, "replica-priority", "100", unless);
    let check = check.mends(whole.into_iter().flat_map(set));
    if lacking.is_empty() {
        return check;
    }
    // Without a primary no link comes up before a promotion: then a person chooses, by what each of them holds.
    if g.view.primary().is_none_or(|primary| g.known(primary).is_none()) {
        return check.mend(format!(
            "the primary does not answer: of {} raise the one with the highest offset, and with keys, to 100 (relinkd \
             explain no-promotable-replica)",
            list(lacking.iter().map(|node| &node.address))
        ));
    }
    check.mend(format!(
        "keep {} at 0 until the link is up and the data is there: see replica-link, replica-data and node-reachable",
        list(lacking.iter().map(|node| &node.address))
    ))
}

fn candidates(g: &Ground<'_>) -> Check {
    const NAME: &str = "candidates";
    if g.listing().next().is_none() {
        return replicas_not_read(NAME, g, "whom Sentinel could promote is not known");
    }
    let replicas: Vec<&GroupNode> = g.replicas().collect();
    if replicas.is_empty() {
        return Check::new(NAME, Verdict::Fail, "no replica is known", "there is nobody to promote")
            .mend(more(g, "add a replica: REPLICAOF the primary on a new node"));
    }
    let willing: Vec<&GroupNode> = replicas.iter().copied().filter(|node| priority_of(g, node) != 0).collect();
    let fit = |node: &&GroupNode| {
        let by =
            g.listing().filter(|says| says.replicas.iter().any(|r| r.endpoint == node.address && r.promotable(says)));
        by.count() * 2 > g.listing().count()
    };
    let fit: Vec<&GroupNode> = willing.iter().copied().filter(fit).collect();
    let saw = format!(
        "{} of {} replicas may be promoted: {}",
        fit.len(),
        replicas.len(),
        if fit.is_empty() { "none".to_owned() } else { list(fit.iter().map(|node| &node.address)) }
    );
    let zero: Vec<&GroupNode> = replicas.iter().copied().filter(|node| priority_of(g, node) == 0).collect();
    match (willing.len(), fit.len()) {
        (0, _) => raise(
            g,
            &zero,
            Check::new(
                NAME,
                Verdict::Fail,
                format!("replica-priority is 0 on {}", list(replicas.iter().map(|node| &node.address))),
                "Sentinel never promotes a replica of priority 0, so there is nobody to promote",
            ),
            "",
        ),
        // A Sentinel asks for a replica's INFO every 10 s.
        (_, 0) if willing.iter().any(|node| listed_at_0(g, node)) => Check::new(
            NAME,
            Verdict::Fail,
            saw,
            "their priority is not 0 any more, and the Sentinels have not read that yet",
        )
        .mend("run the audit again in 10 s"),
        (_, 0) => Check::new(
            NAME,
            Verdict::Fail,
            saw,
            "the others are down for the Sentinels, or too long without their primary: a failover aborts with \
             -failover-abort-no-good-slave",
        )
        .mend("see replica-link, sentinel-logins and node-reachable"),
        (_, 1) => raise(
            g,
            &zero,
            Check::new(
                NAME,
                Verdict::Warn,
                saw,
                "if that one is lost with the primary, or is the one that lags, there is no other",
            ),
            "unless its 0 is on purpose: a backup, another site",
        )
        .mend(more(g, "add a second replica, if there is none")),
        _ => Check::pass(NAME, saw),
    }
}

/// Replicas that count as good once one of them is the new primary: it is up, and follows.
fn left_after_failover(g: &Ground<'_>) -> u64 {
    let lives = |node: &&GroupNode| {
        let gone = g.is_dead(node) || matches!(node.account.missing(), Some(Missing::Refused(_)));
        !gone && g.known(node).is_none_or(|known| known.link_up() || known.busy())
    };
    (g.replicas().filter(lives).count() as u64).saturating_sub(1)
}

fn min_replicas(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "min-replicas";
    let set: Vec<(&GroupNode, &NodeSettings)> =
        g.view.nodes.iter().filter_map(|node| Some((node, node.settings.seen()?))).collect();
    let highest = set.iter().map(|(_, settings)| settings.min_replicas()).max()?;
    let left = left_after_failover(g);
    if highest > left {
        let too_high = || set.iter().filter(|(_, settings)| settings.min_replicas() > left);
        // Whoever may become primary; the present one is away then.
        let next = too_high().any(|(node, settings)| !g.is_primary(node) && settings.priority != 0);
        let check = Check::new(
            NAME,
            if next { Verdict::Fail } else { Verdict::Warn },
            format!(
                "min-replicas-to-write {highest}, and {left} replica{} that {} up {} left after a failover",
                if left == 1 { "" } else { "s" },
                if left == 1 { "is" } else { "are" },
                if left == 1 { "is" } else { "are" },
            ),
            "the new primary refuses every write (NOREPLICAS) until the old one is back as a replica",
        );
        let check = check.mend(more(
            g,
            "add a replica, or bring back one that is down: the guard against writes on a primary that is cut off then \
             outlasts a failover",
        ));
        return Some(too_high().fold(check, |check, (node, _)| {
            check.mends(g.set(
                &node.address,
                "min-replicas-to-write",
                &left.to_string(),
                "or: writes go on at once, and those that a primary takes while it is cut off are lost",
            ))
        }));
    }
    let lag_off = set.iter().any(|(_, settings)| settings.min_replicas_to_write > 0 && settings.min_replicas() == 0);
    Some(Check::pass(
        NAME,
        match highest {
            0 if lag_off => {
                "min-replicas-max-lag 0 turns min-replicas-to-write off: a primary that is cut off takes writes \
                             that a failover loses"
                    .to_owned()
            }
            0 => "min-replicas-to-write 0: a primary that is cut off takes writes that a failover loses".to_owned(),
            _ => format!("min-replicas-to-write {highest}: a primary that is cut off stops taking writes"),
        },
    ))
}
