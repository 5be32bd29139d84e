//! Whether the Sentinels reach the nodes that they would move, and may move them.

use super::{Check, Ground, Verdict, from_file, list};
use crate::model::Endpoint;
use crate::model::evidence::{Connect, Missing};
use crate::model::group::GroupNode;
use crate::model::shell::quoted;

/// A node that runs for less may not have been found again.
const YOUNG_S: u64 = 3;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> = g.view.nodes.iter().filter_map(|node| logins(g, node)).collect();
    checks.extend(g.view.nodes.iter().filter_map(|node| rights(g, node)));
    checks
}

/// Sentinels that hold a node down which answers us: their login fails, or the way from them.
fn logins(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "sentinel-logins";
    let answers = node.account.seen().is_some()
        || matches!(node.account.missing(), Some(Missing::Denied(_)))
        || g.view.logins.iter().any(|proof| proof.at == node.address && proof.probe.connect == Connect::Open);
    if !answers {
        return None;
    }
    let cut: Vec<(&Endpoint, Option<bool>)> = g
        .view
        .answering()
        .map(|(endpoint, says)| (endpoint, says.only_errors_of(&node.address), says.flags_of(&node.address)))
        .filter(|(_, errors, flags)| {
            let flags = flags.is_some_and(|flags| flags.contains("s_down") || flags.contains("disconnected"));
            flags || *errors == Some(true)
        })
        .map(|(endpoint, errors, _)| (endpoint, errors))
        .collect();
    if cut.is_empty() {
        return reached(g, node);
    }
    // Sentinels come back to a node that has restarted within a second or two.
    let young = node.account.seen().is_some_and(|account| account.server.uptime_s < YOUNG_S);
    if young {
        return Some(
            Check::new(
                NAME,
                Verdict::Warn,
                format!(
                    "{} has no connection to it yet; it runs for less than {YOUNG_S} s",
                    list(cut.iter().map(|(at, _)| *at))
                ),
                "they come back to a node within seconds of its start, unless their login is refused",
            )
            .at(&node.address)
            .mend("run the audit again"),
        );
    }
    Some(cut_off(g, node, &cut))
}

/// Of a node that a Sentinel does not list to us nothing is known there, so a pass takes a majority that does.
fn reached(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "sentinel-logins";
    let all = g.view.answering().count();
    let by = g.view.answering().filter(|(_, says)| says.flags_of(&node.address).is_some()).count();
    let check = match by {
        0 => return None,
        by if by == all => Check::pass(NAME, "every Sentinel is connected to it, and its PINGs are answered"),
        by if by * 2 > all => Check::pass(
            NAME,
            format!("the {by} of {all} Sentinels that list it are connected, and their PINGs answered"),
        ),
        by => Check::new(
            NAME,
            Verdict::Unseen,
            format!("{by} of {all} Sentinels list it, and are connected to it"),
            "whether the others reach it is not known: they have not found it, or do not tell",
        )
        .mend("see listed, announced-addresses and candidates; if it just came, run the audit again in 10 s"),
    };
    Some(check.at(&node.address))
}

/// A login that is refused shows in the Sentinels' own PINGs at once: the last good answer grows old while answers go on
/// to come. Flags follow after down-after, and say no more than that something is wrong.
fn cut_off(g: &Ground<'_>, node: &GroupNode, cut: &[(&Endpoint, Option<bool>)]) -> Check {
    let who = |of: fn(Option<bool>) -> bool| -> Vec<&Endpoint> {
        cut.iter().filter(|(_, errors)| of(*errors)).map(|(at, _)| *at).collect()
    };
    let (refused, silent, unclear) = (who(|e| e == Some(true)), who(|e| e == Some(false)), who(|e| e.is_none()));
    let mut saw = Vec::new();
    if !refused.is_empty() {
        saw.push(format!("it answers the PINGs of {} with errors", list(refused.iter().copied())));
    }
    if silent.len() + unclear.len() > 0 {
        let them = list(silent.iter().chain(&unclear).copied());
        saw.push(format!("{them} holds it down or has no connection to it, though it answers here"));
    }
    let why = match (refused.is_empty(), silent.is_empty(), unclear.is_empty()) {
        (false, _, _) => "their login is refused (auth-user, auth-pass)",
        (true, false, true) => "no login is refused there: the network between them is cut, or it takes no connection",
        _ => "their login is refused (auth-user, auth-pass), or the network between them is cut",
    };
    // A connection that is just being made anew reads `disconnected`; held down is what outlasts down-after.
    let down = g.view.flagging(&node.address, "s_down").max(refused.len());
    let verdict = if down * 2 > g.view.answering().count() { Verdict::Fail } else { Verdict::Warn };
    let means = format!("{why}: they would take a healthy primary for dead, or could not move this node");
    let check = Check::new("sentinel-logins", verdict, saw.join("; "), means).at(&node.address);
    if refused.is_empty() && unclear.is_empty() {
        return check.mend(format!("open the way from {} to {}", list(silent), node.address));
    }
    let check = check.mend(format!("{} ACL LOG   # which login is refused", g.cli(&node.address)));
    refused.into_iter().chain(unclear).fold(check, |check, sentinel| {
        check.mend(format!(
            "{} SENTINEL SET {} auth-pass   # once every data node takes it",
            from_file("%s", &g.sentinel_cli(sentinel)),
            g.group()
        ))
    })
}

/// A Sentinel promotes and moves a node in one transaction: one command that its user may not run undoes it all
/// (Redis 7.0.15: -failover-abort-slave-timeout, and nobody is promoted).
fn rights(g: &Ground<'_>, node: &GroupNode) -> Option<Check> {
    const NAME: &str = "sentinel-acl";
    let users = &node.rights.seen()?.sentinels;
    let lacking: Vec<(&String, &Vec<String>)> = users.iter().filter(|(_, lacks)| !lacks.is_empty()).collect();
    if users.is_empty() {
        return None;
    }
    if lacking.is_empty() {
        let users: Vec<&str> = users.keys().map(String::as_str).collect();
        return Some(
            Check::pass(NAME, format!("Sentinels may move it, as user {}", users.join(", "))).at(&node.address),
        );
    }
    let said: Vec<String> =
        lacking.iter().map(|(user, lacks)| format!("user {user} of the Sentinels lacks {}", lacks.join(" "))).collect();
    let check = Check::new(
        NAME,
        Verdict::Fail,
        said.join("; "),
        "Sentinel can neither promote this node nor have it follow another, though its PINGs are answered",
    );
    Some(lacking.iter().fold(check.at(&node.address), |check, (user, lacks)| {
        let rules: Vec<String> = lacks.iter().map(|rule| quoted(rule)).collect();
        let check = check.mend(format!(
            "{} ACL SETUSER {} {}   # then CONFIG REWRITE, or ACL SAVE with an aclfile",
            g.cli(&node.address),
            quoted(user),
            rules.join(" ")
        ));
        // A server looks at the command first, and refuses a whole SETUSER whose channel is held already (7.0.15, 8.0.1).
        match lacks.iter().any(|rule| rule == "+publish" || rule == "+subscribe") {
            true => {
                check.mend("run the audit again: whether it lacks the channel, too, is told once it has the command")
            }
            false => check,
        }
    }))
}
