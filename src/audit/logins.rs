//! Whether each node's `masterauth` is right at every other node, and may do what a replica does there. The primary's
//! own is asked too: after a failover it is a replica, and without a login it never comes back.

use std::collections::BTreeMap;

use super::{Check, Ground, Verdict, from_file, list};
use crate::model::Endpoint;
use crate::model::evidence::{Answer, Connect, Probe};
use crate::model::group::{GroupNode, LoginProof, NodeSettings};
use crate::model::shell::quoted;

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
        _ if g.is_dead(node) || !g.is_placed(node) => return None,
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
    if settings.login_not_text {
        return Some(
            Check::new(
                NAME,
                Verdict::Unseen,
                "its masteruser or masterauth is not UTF-8, so it cannot be tried from here",
                "it may fail at the next failover",
            )
            .at(&node.address)
            .mend("a password of printable characters can be audited, and rotated"),
        );
    }
    let (mut taken, mut refused, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for proof in proofs(g, node, settings) {
        if g.view.nodes.iter().any(|other| other.address == proof.at && (g.is_dead(other) || !g.is_placed(other))) {
            continue;
        }
        match met(&proof.probe) {
            Met::Taken => taken.push(&proof.at),
            Met::Refused(why) => refused.push((&proof.at, why)),
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

fn refusal(g: &Ground<'_>, node: &GroupNode, settings: &NodeSettings, refused: &[(&Endpoint, String)]) -> Check {
    const NAME: &str = "masterauth";
    let means = match (g.is_primary(node), settings.masterauth_set) {
        (true, false) => "the primary has none: after a failover it could never come back as a replica",
        (true, true) => "after a failover the old primary could not come back as a replica of that node",
        (false, _) => "its next reconnect to that node, or the first one after a failover, is refused",
    };
    let cli = g.cli(&node.address);
    let saw: Vec<&str> = refused.iter().map(|(_, why)| why.as_str()).collect();
    let mut check = Check::new(NAME, Verdict::Fail, saw.join("; "), means).at(&node.address);
    let user = taken_user(g, refused).unwrap_or(&settings.masteruser);
    if user != settings.masteruser {
        let user = quoted(user);
        check = check.mend(format!("{cli} CONFIG SET masteruser {user}   # as on the nodes whose login is taken"));
    }
    check = check
        .mend(format!("{} CONFIG SET masterauth   # what the other nodes take; on this node", from_file("%s", &cli)))
        .mend(format!("{cli} CONFIG REWRITE"));
    let own = if settings.masteruser.is_empty() { "default".to_owned() } else { quoted(&settings.masteruser) };
    refused.iter().filter(|_| settings.masterauth_set).fold(check, |check, (at, _)| {
        check.mend(format!(
            "{} ACL SETUSER {own} on   # or, where that node is the odd one: the user is on, and takes one more password",
            from_file(">%s", &g.cli(at))
        ))
    })
}

/// The `masteruser` of a node whose login is taken where this one's is refused.
fn taken_user<'a>(g: &Ground<'a>, refused: &[(&Endpoint, String)]) -> Option<&'a str> {
    let everywhere = |settings: &&NodeSettings| {
        refused.iter().all(|(at, _)| {
            let mut proofs = g.view.logins.iter().filter(|proof| proof.login == settings.login && proof.at == **at);
            settings.masterauth_set && proofs.any(|proof| matches!(met(&proof.probe), Met::Taken))
        })
    };
    let others = g.view.nodes.iter().filter_map(|node| node.settings.seen());
    others.filter(everywhere).map(|settings| settings.masteruser.as_str()).next()
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
                Answer::NotAsked if proved(g, node, user, &proof.login) == Some(true) => asked += 1,
                Answer::NotAsked if proved(g, node, user, &proof.login) == Some(false) => {
                    missing.entry(user.to_owned()).or_default().push(command);
                }
                Answer::NotAsked => unasked.push(command),
                answer if denied(answer) => missing.entry(user.to_owned()).or_default().push(command),
                _ => asked += 1,
            }
        }
    }
    if let Some((user, _)) = missing.first_key_value() {
        let user = quoted(user);
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

/// Where PSYNC may not be tried: a link that is up with this login has done it, and the user's own rules tell the rest.
fn proved(g: &Ground<'_>, node: &GroupNode, user: &str, login: &str) -> Option<bool> {
    let follows = |other: &GroupNode| {
        let link = other.account.seen().and_then(|account| account.server.role.link());
        link.is_some_and(|link| link.up && link.primary == node.address)
            && other.settings.seen().is_some_and(|settings| settings.login == login)
    };
    if g.view.nodes.iter().any(follows) {
        return Some(true);
    }
    node.rights.seen()?.replicates.get(user).copied()
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
        if let Some(settings) = node.settings.seen().filter(|settings| !settings.login_not_text) {
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
