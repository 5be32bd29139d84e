//! Which nodes there are, whether they can be read, what role they have, and whom Sentinel could promote.

use std::collections::BTreeMap;

use super::{Check, Ground, Known, Verdict, from_file, list};
use crate::model::Endpoint;
use crate::model::evidence::{Missing, SentinelSays};
use crate::model::group::GroupNode;
use crate::model::rdb;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for node in &g.view.nodes {
        checks.push(readable(g, node));
        checks.extend(settings(g, node));
        checks.extend(role(g, node));
        checks.extend(listed(g, node));
    }
    checks.extend(g.replicas().filter_map(|node| link(g, node)));
    checks.extend(ghosts(g));
    if g.view.answering().next().is_some() {
        checks.push(candidates(g));
    }
    checks.extend([versions(g), stale_data(g), min_replicas(g)].into_iter().flatten());
    checks
}

fn readable(g: &Ground<'_>, node: &GroupNode) -> Check {
    const NAME: &str = "node-reachable";
    let Some(why) = node.account.missing() else {
        return Check::pass(NAME, "INFO was read").at(&node.address);
    };
    if g.is_dead(node) {
        let (verdict, means) = match g.is_primary(node) {
            true => (Verdict::Fail, "the primary is down, for the Sentinels too"),
            false => (
                Verdict::Warn,
                "Sentinel lists this replica and nobody reaches it: it is down, or is gone, or announces a wrong address",
            ),
        };
        let check = Check::new(NAME, verdict, format!("{why}; the Sentinels hold it down"), means).at(&node.address);
        return match g.is_primary(node) {
            true => check.mend("relinkd diagnose   # on a replica's host"),
            false => check
                .mend("start it; or set replica-announce-ip and replica-announce-port on it and restart its link")
                .mend(format!(
                    "SENTINEL RESET {}   # if it is gone for good: on one Sentinel after the other, only while every \
                     other replica is up, since all that are down are forgotten",
                    g.view.name
                )),
        };
    }
    let told = g.view.cached(&node.address).map(|_| "; some of it is known from the Sentinels").unwrap_or_default();
    let check = Check::new(
        NAME,
        Verdict::Unseen,
        format!("{why}{told}"),
        "its masterauth, limits, timeouts and persistence were not judged",
    )
    .at(&node.address);
    match why {
        Missing::Denied(_) | Missing::NotAsked => check.mend(observer(g)),
        _ => check.mend("open the way from this host to it, or run relinkd audit on its own host"),
    }
}

/// How the observer is set up, without a password in it.
fn observer(g: &Ground<'_>) -> String {
    format!(
        "on every node: {} ACL SETUSER observer on resetkeys resetchannels -@all +ping +info +role '+config|get' \
         '+client|setname'; then [group.{}] observer = {{ user = \"observer\", password = {{ file = PATH }} }}",
        from_file(">%s", "redis-cli -h HOST -p PORT"),
        g.view.name
    )
}

fn settings(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "settings-readable";
    node.account.seen()?;
    Some(match node.settings.missing() {
        None => Check::pass(NAME, "CONFIG GET was answered").at(&node.address),
        Some(why) => Check::new(
            NAME,
            Verdict::Unseen,
            format!("CONFIG GET: {why}"),
            "its masterauth, backlog, limits, timeouts and persistence were not judged",
        )
        .at(&node.address)
        .mend(match node.local {
            Some(_) => format!("{} ACL SETUSER USER '+config|get'   # the user of [replica]", g.cli(&node.address)),
            None => observer(g),
        }),
    })
}

/// Its own word against the Sentinels'.
fn role(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "role";
    g.view.named_primary()?;
    let known = g.known(node)?;
    Some(match (g.is_primary(node), known.is_primary()) {
        (true, true) => Check::pass(NAME, "primary").at(&node.address),
        (false, false) => Check::pass(NAME, "replica").at(&node.address),
        (true, false) => Check::new(
            NAME,
            Verdict::Fail,
            format!("the Sentinels name it as primary, and it is a replica{}", known.source()),
            "no writable primary is known: a failover is under way, or somebody sent it REPLICAOF",
        )
        .at(&node.address)
        .mend("run the audit again; if it stays so, relinkd diagnose on its host"),
        (false, true) => Check::new(
            NAME,
            Verdict::Fail,
            format!("it is a primary, and the Sentinels name another{}", known.source()),
            "two nodes take writes, and those of this one will be lost; Sentinel demotes it within 10 s or so, unless its \
             login to it is refused",
        )
        .at(&node.address)
        .mend("run the audit again; if it stays so, look at sentinel-logins and at ACL LOG on this node"),
    })
}

/// An instance of ours that Sentinel does not list is never promoted, nor moved to a new primary.
fn listed(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "listed";
    let name = node.local.as_ref()?;
    let answering = g.view.answering().count();
    let by = g.view.answering().filter(|(_, says)| says.flags_of(&node.address).is_some()).count();
    (answering > 0).then(|| match by * 2 > answering {
        true => Check::pass(NAME, format!("{by} of {answering} Sentinels list it")).at(&node.address),
        false => Check::new(
            NAME,
            Verdict::Fail,
            format!("{by} of {answering} Sentinels list {name} under this address"),
            "it is not moved to a new primary after a failover, and never promoted",
        )
        .at(&node.address)
        .mend(format!(
            "{} CONFIG GET 'replica-announce*'   # wrong address, or replica-announced no",
            g.cli(&node.address)
        ))
        .mend(format!("{} INFO replication   # does it follow this group's primary?", g.cli(&node.address))),
    })
}

fn link(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "replica-link";
    let known = g.known(node).filter(|known| !known.is_primary())?;
    if known.link_up() {
        let upstream = match &known {
            Known::Own(server) => server.role.link().map(|link| &link.primary),
            Known::Told(_) => None,
        };
        let elsewhere = upstream.filter(|primary| {
            Some(*primary) != g.view.named_primary() && g.view.nodes.iter().any(|other| other.address == **primary)
        });
        return Some(match elsewhere {
            None => Check::pass(NAME, format!("up{}", known.source())).at(&node.address),
            Some(primary) => Check::new(
                NAME,
                Verdict::Warn,
                format!("up, to {primary}, which is not the primary"),
                "it lags behind that replica, and is lost with it until Sentinel moves it",
            )
            .at(&node.address)
            .mend(format!("relinkd explain wrong-primary   # then relinkd diagnose on {}", node.address.host)),
        });
    }
    Some(match known.busy() {
        true => Check::new(
            NAME,
            Verdict::Warn,
            format!("down while it takes or loads a data set{}", known.source()),
            "not a candidate that could be promoted with its data before that is done",
        )
        .at(&node.address)
        .mend("run the audit again when the sync is over"),
        false => Check::new(
            NAME,
            Verdict::Fail,
            format!("down{}", known.source()),
            "what it lacks is lost if it is promoted, and Sentinel may promote it for ten times down-after",
        )
        .at(&node.address)
        .mend(format!("relinkd diagnose   # on {}", node.address.host)),
    })
}

fn ghosts(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "announced-addresses";
    g.view.answering().next()?;
    let mut by_ghost: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for sentinel in &g.view.sentinels {
        for ghost in &sentinel.ghosts {
            by_ghost.entry(ghost).or_default().push(&sentinel.endpoint);
        }
    }
    if by_ghost.is_empty() {
        return Some(Check::pass(NAME, "every listed replica has an address"));
    }
    let said: Vec<String> =
        by_ghost.iter().map(|(ghost, by)| format!("{ghost} on {}", list(by.iter().copied()))).collect();
    Some(
        Check::new(
            NAME,
            Verdict::Warn,
            format!("listed without a usable address: {}", said.join("; ")),
            "a primary that refuses REPLCONF never learns a replica's port; the entry stays and is never promoted",
        )
        .mend("see replication-acl; then, while every replica is up, on one Sentinel after the other, 30 s apart:")
        .mend(format!("SENTINEL RESET {}   # it forgets replicas that are down at that moment", g.view.name)),
    )
}

fn candidates(g: &Ground<'_>) -> Check {
    const NAME: &str = "candidates";
    let replicas: Vec<&GroupNode> = g.replicas().collect();
    if replicas.is_empty() {
        return Check::new(NAME, Verdict::Fail, "no replica is known", "there is nobody to promote")
            .mend("add a replica: REPLICAOF the primary on a new node");
    }
    let priority = |node: &&GroupNode| {
        let listed =
            |says: &SentinelSays| says.replicas.iter().find(|r| r.endpoint == node.address).map(|r| r.priority);
        let own = g.known(node).map(|known| known.priority());
        own.or_else(|| g.view.answering().find_map(|(_, says)| listed(says))).unwrap_or(0)
    };
    let willing: Vec<&GroupNode> = replicas.iter().copied().filter(|node| priority(node) != 0).collect();
    let fit = |node: &&GroupNode| {
        let by = g
            .view
            .answering()
            .filter(|(_, says)| says.replicas.iter().any(|r| r.endpoint == node.address && r.promotable(says)));
        by.count() * 2 > g.view.answering().count()
    };
    let fit: Vec<&GroupNode> = willing.iter().copied().filter(fit).collect();
    let saw = format!(
        "{} of {} replicas may be promoted: {}",
        fit.len(),
        replicas.len(),
        if fit.is_empty() { "none".to_owned() } else { list(fit.iter().map(|node| &node.address)) }
    );
    // Not one that the others could not load from: its 0 keeps their data alive until they are as new.
    let loaded_by_all = |node: &GroupNode| {
        let Some(known) = g.known(node) else { return true };
        let others = g.view.nodes.iter().filter(|other| other.address != node.address);
        others.filter_map(|other| g.known(other)).all(|other| rdb::loads(other.build(), known.build()))
    };
    let raise = |check: Check, unless: &str| {
        let zero = replicas.iter().filter(|node| priority(node) == 0 && loaded_by_all(node));
        zero.fold(check, |check, node| {
            check.mend(format!("{}{unless}", g.set(&node.address, "replica-priority", "100")))
        })
    };
    match (willing.len(), fit.len()) {
        (0, _) => raise(
            Check::new(
                NAME,
                Verdict::Fail,
                format!("replica-priority is 0 on {}", list(replicas.iter().map(|node| &node.address))),
                "Sentinel never promotes a replica of priority 0, so there is nobody to promote",
            ),
            "",
        ),
        (_, 0) => Check::new(
            NAME,
            Verdict::Fail,
            saw,
            "the others are down for the Sentinels, or too long without their primary: a failover aborts with \
             -failover-abort-no-good-slave",
        )
        .mend("see replica-link, sentinel-logins and node-reachable"),
        (_, 1) => raise(
            Check::new(
                NAME,
                Verdict::Warn,
                saw,
                "if that one is lost with the primary, or is the one that lags, there is no other",
            ),
            "   # unless its 0 is on purpose: a backup, another site",
        )
        .mend("add a second replica, if there is none"),
        _ => Check::pass(NAME, saw),
    }
}

/// After a failover every other node takes its data from the new primary. One that cannot load it may drop its own
/// data first, and loops.
fn versions(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "versions";
    let known: Vec<(&GroupNode, Known<'_>)> =
        g.view.nodes.iter().filter_map(|node| Some((node, g.known(node)?))).collect();
    let builds: BTreeMap<String, Vec<&Endpoint>> = known.iter().fold(BTreeMap::new(), |mut builds, (node, known)| {
        let (flavour, version) = known.build();
        builds.entry(format!("{flavour:?} {version}")).or_insert_with(Vec::new).push(&node.address);
        builds
    });
    let said: Vec<String> =
        builds.iter().map(|(build, at)| format!("{build} on {}", list(at.iter().copied()))).collect();
    if known.len() < 2 {
        return None;
    }
    if builds.len() == 1 {
        return Some(Check::pass(NAME, said.join("; ")));
    }
    let mut broken = Vec::new();
    for (writer, from) in known.iter().filter(|(node, from)| g.is_primary(node) || from.priority() != 0) {
        for (reader, to) in &known {
            if reader.address != writer.address && !rdb::loads(to.build(), from.build()) {
                broken.push(format!("{} cannot load the data of {}", reader.address, writer.address));
            }
        }
    }
    Some(match broken.is_empty() {
        true => Check::new(NAME, Verdict::Warn, said.join("; "), "mixed, but each could load the data of any other")
            .mend("finish the upgrade"),
        false => Check::new(
            NAME,
            Verdict::Fail,
            format!("{}; {}", said.join("; "), broken.join("; ")),
            "if that node becomes primary, the other drops its own data and never gets new: in a rolling upgrade, do not \
             fail over before every other node is as new",
        )
        .mend("bring all nodes to one version; until then replica-priority 0 on those that are newer"),
    })
}

fn stale_data(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "stale-data";
    let mut by: BTreeMap<bool, Vec<&Endpoint>> = BTreeMap::new();
    for node in &g.view.nodes {
        if let Some(settings) = node.settings.seen() {
            by.entry(settings.serve_stale_data).or_default().push(&node.address);
        }
    }
    let word = |stale: bool| if stale { "yes" } else { "no" };
    Some(match by.iter().collect::<Vec<_>>().as_slice() {
        [] => return None,
        [(stale, _)] => Check::pass(
            NAME,
            match stale {
                true => "replica-serve-stale-data yes: a replica without its link answers with old data",
                false => "replica-serve-stale-data no: a replica without its link answers MASTERDOWN",
            },
        ),
        both => {
            let said: Vec<String> =
                both.iter().map(|(stale, at)| format!("{} on {}", word(**stale), list(at.iter().copied()))).collect();
            let check = Check::new(
                NAME,
                Verdict::Warn,
                format!("replica-serve-stale-data {}", said.join(", ")),
                "what a client reads during an outage depends on the replica that it asks; choose one",
            );
            by.get(&true).into_iter().flatten().fold(check, |check, at| {
                check.mend(format!("{}   # or yes on the others", g.set(at, "replica-serve-stale-data", "no")))
            })
        }
    })
}

fn min_replicas(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "min-replicas";
    let set: Vec<(&GroupNode, u64)> =
        g.view.nodes.iter().filter_map(|node| Some((node, node.settings.seen()?.min_replicas_to_write))).collect();
    let highest = set.iter().map(|(_, min)| *min).max()?;
    // The old primary is away, and one of the replicas has become the new one.
    let left = g.replicas().count().saturating_sub(1);
    if highest > left as u64 {
        let check = Check::new(
            NAME,
            Verdict::Warn,
            format!("min-replicas-to-write {highest}, and {left} replicas are left after a failover"),
            "the new primary refuses every write (NOREPLICAS) until the old one is back as a replica",
        );
        let too_high = set.iter().filter(|(_, min)| *min > left as u64);
        let check =
            check.mend("add a replica: the guard against writes on a primary that is cut off then outlasts a failover");
        return Some(too_high.fold(check, |check, (node, _)| {
            check.mend(format!(
                "{}   # or: writes go on at once, and those that a primary takes while it is cut off are lost",
                g.set(&node.address, "min-replicas-to-write", &left.to_string())
            ))
        }));
    }
    Some(Check::pass(
        NAME,
        match highest {
            0 => "min-replicas-to-write 0: a primary that is cut off takes writes that a failover loses".to_owned(),
            _ => format!("min-replicas-to-write {highest}: a primary that is cut off stops taking writes"),
        },
    ))
}
