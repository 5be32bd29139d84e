//! Whether each node's `masterauth` is right at every other node, and may do what a replica does there. The primary's
//! own is asked too: after a failover it is a replica, and without a login it never comes back.

use std::collections::BTreeMap;

use super::{Check, Ground, Verdict, from_file, list};
use crate::model::Endpoint;
use crate::model::evidence::{Answer, Connect, Probe};
use crate::model::group::{GroupNode, LoginProof, NodeSettings};

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> = g.view.nodes.iter().filter_map(|node| masterauth(g, node)).collect();
    checks.extend(g.view.nodes.iter().filter_map(|node| permissions(g, node)));
    checks.extend(equal(g));
    checks
}

/// What a login met.
enum Met {
    Taken,
    Refused(String),
    Unclear(String),
}

fn met(probe: &Probe) -> Met {
    let at = &probe.target;
    match (&probe.connect, &probe.ping, &probe.auth) {
        (Connect::Open, _, Answer::Ok(_)) => Met::Taken,
        (Connect::Open, Answer::Ok(_), Answer::NotAsked) => Met::Taken,
        (Connect::Open, ping, Answer::NotAsked) if ping.code() == "NOAUTH" => {
            Met::Refused(format!("{at} asks for a password, and none is set"))
        }
        (Connect::Open, _, Answer::Error { text, .. }) => Met::Refused(format!("{at}: AUTH → {text}")),
        (Connect::Open, ping, Answer::NotAsked) => Met::Unclear(format!("{at}: PING → {ping}")),
        (Connect::Open, _, auth) => Met::Unclear(format!("{at}: AUTH → {auth}")),
        _ => Met::Unclear(format!("{at} cannot be reached from here")),
    }
}

fn proofs<'a>(g: &Ground<'a>, node: &'a GroupNode, settings: &'a NodeSettings) -> impl Iterator<Item = &'a LoginProof> {
    let view = g.view;
    view.logins.iter().filter(move |proof| proof.login == settings.login && proof.at != node.address)
}

fn masterauth(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "masterauth";
    let settings = match (&node.account, node.settings.seen()) {
        (_, Some(settings)) => settings,
        _ if g.is_dead(node) => return None,
        // node-reachable and settings-readable say what to configure.
        _ => {
            return Some(
                Check::new(
                    NAME,
                    Verdict::Unseen,
                    "its masterauth could not be read",
                    "it may fail at the next failover",
                )
                .at(&node.address),
            );
        }
    };
    let (mut taken, mut refused, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for proof in proofs(g, node, settings) {
        if g.view.nodes.iter().any(|other| other.address == proof.at && g.is_dead(other)) {
            continue;
        }
        match met(&proof.probe) {
            Met::Taken => taken.push(&proof.at),
            Met::Refused(why) => refused.push(why),
            Met::Unclear(why) => unclear.push(why),
        }
    }
    if !refused.is_empty() {
        return Some(refusal(g, node, settings, &refused));
    }
    if !unclear.is_empty() || taken.is_empty() {
        let saw = if unclear.is_empty() { "no other node to try it at".to_owned() } else { unclear.join("; ") };
        return Some(
            Check::new(NAME, Verdict::Unseen, saw, "whether that node takes its login is not known").at(&node.address),
        );
    }
    Some(Check::pass(NAME, format!("{}taken by {}", who(settings), list(taken))).at(&node.address))
}

fn who(settings: &NodeSettings) -> String {
    match (settings.masterauth_set, settings.masteruser.as_str()) {
        (false, _) => "no password, ".to_owned(),
        (true, "") => String::new(),
        (true, user) => format!("user {user}, "),
    }
}

fn refusal(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, refused: &[String]) -> Check {
    const NAME: &str = "masterauth";
    let means = match (g.is_primary(node), settings.masterauth_set) {
        (true, false) => "the primary has none: after a failover it could never come back as a replica",
        (true, true) => "after a failover the old primary could not come back as a replica of that node",
        (false, _) => "its next reconnect to that node, or the first one after a failover, is refused",
    };
    let cli = g.cli(&node.address);
    Check::new(NAME, Verdict::Fail, refused.join("; "), means)
        .at(&node.address)
        .mend(format!("{} CONFIG SET masterauth   # what the other nodes take; on this node", from_file("%s", &cli)))
        .mend(format!("{cli} CONFIG REWRITE"))
        .mend(format!(
            "{} ACL SETUSER USER   # or, where the nodes themselves differ, on each: it takes one more password",
            from_file(">%s", &cli)
        ))
}

/// The right to replicate is the target's to give, so it is told by target.
fn permissions(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "replication-acl";
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let (mut asked, mut unasked) = (0, Vec::new());
    for proof in g.view.logins.iter().filter(|proof| proof.at == node.address) {
        let probe = &proof.probe;
        if !matches!(met(probe), Met::Taken) {
            continue;
        }
        let user = if probe.user.is_empty() { "default" } else { &probe.user };
        for (command, answer) in [("replconf", &probe.replconf), ("psync", &probe.psync)] {
            match answer {
                Answer::NotAsked => unasked.push(command),
                answer if denied(answer) => missing.entry(user.to_owned()).or_default().push(command),
                _ => asked += 1,
            }
        }
    }
    if let Some((user, _)) = missing.first_key_value() {
        let said: Vec<String> =
            missing.iter().map(|(user, commands)| format!("user {user} may not {}", commands.join(" nor "))).collect();
        let right = "+psync +replconf +ping";
        return Some(
            Check::new(
                NAME,
                Verdict::Fail,
                said.join("; "),
                "no replica can follow this node: without psync not at all, without replconf its link drops every second",
            )
            .at(&node.address)
            .mend(format!("{} ACL SETUSER {user} {right}   # then CONFIG REWRITE, or ACL SAVE with an aclfile", g.cli(&node.address)))
            .mend("where it says unknown command: take rename-command out of this node's configuration"),
        );
    }
    if asked == 0 {
        return None;
    }
    Some(match unasked.is_empty() {
        true => Check::pass(NAME, "PSYNC and REPLCONF are allowed").at(&node.address),
        false => Check::new(
            NAME,
            Verdict::Unseen,
            format!("{} was not tried: the version is below 7.0, or not known", unasked.join(", ")),
            "whether a replica may sync from this node is not known",
        )
        .at(&node.address)
        .mend(format!("{} ACL GETUSER USER   # has to show +psync and +replconf", g.cli(&node.address))),
    })
}

fn denied(answer: &Answer) -> bool {
    match answer {
        Answer::Error { code, text } => code == "NOPERM" || text.contains("unknown command"),
        _ => false,
    }
}

/// Equal logins are the rule; different ones that all work are a trap at the next rotation.
fn equal(g: &Ground<'_>) -> Option<Check> {
    const NAME: &str = "masterauth-equal";
    let mut held: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for node in &g.view.nodes {
        if let Some(settings) = node.settings.seen() {
            held.entry(&settings.login).or_default().push(&node.address);
        }
    }
    let said: Vec<String> = held.values().map(|at| list(at.iter().copied())).collect();
    let nodes: usize = held.values().map(Vec::len).sum();
    (nodes > 1).then(|| match held.len() {
        1 => Check::pass(NAME, format!("the same on {}", said.concat())),
        _ => Check::new(
            NAME,
            Verdict::Warn,
            format!("different masteruser or masterauth: {}", said.join(" | ")),
            "where both work now, the next rotation of one password breaks a part of the group",
        )
        .mend("give every node the same masteruser and masterauth, the primary too"),
    })
}
