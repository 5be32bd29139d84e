//! What should be one choice everywhere: the version, and what is read without a link.

use std::collections::BTreeMap;

use super::{Check, Ground, Known, Verdict, list};
use crate::model::Endpoint;
use crate::model::group::GroupNode;
use crate::model::rdb;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    [versions(g), stale_data(g)].into_iter().flatten().collect()
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
        true => Check::new(
            NAME,
            Verdict::Warn,
            said.join("; "),
            "mixed, but the data of each that may become primary could be loaded by all others",
        )
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
            // What most of them have; the server's own default where they are even.
            let count = |stale: bool| by.get(&stale).map_or(0, Vec::len);
            let most = count(true) >= count(false);
            let note = format!("as most have it; or {} on the others", word(!most));
            by.get(&!most)
                .into_iter()
                .flatten()
                .fold(check, |check, at| check.mends(g.set(at, "replica-serve-stale-data", word(most), &note)))
        }
    })
}
