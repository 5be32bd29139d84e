//! Whether each node can be read, what role it has, and whether its link is up.

use super::{Check, Ground, Known, Verdict, from_file};
use crate::model::evidence::Missing;
use crate::model::group::GroupNode;
use crate::model::shell::quoted;

pub fn checks(g: &Ground<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for node in &g.view.nodes {
        checks.push(readable(g, node));
        checks.extend(settings(g, node));
        checks.extend(role(g, node));
    }
    checks.extend(g.replicas().filter_map(|node| link(g, node)));
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
                    g.group()
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
        from_file(">%s", &g.any_cli()),
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
            _ if is_unknown(why) => {
                "take rename-command CONFIG out of its configuration; else look at these settings on it by hand"
                    .to_owned()
            }
            Some(_) => format!("{} ACL SETUSER USER '+config|get'   # the user of [replica]", g.cli(&node.address)),
            None => observer(g),
        }),
    })
}

/// No right is missing: `rename-command CONFIG`.
fn is_unknown(why: &Missing) -> bool {
    matches!(why, Missing::Unsupported(text) if text.contains("unknown command"))
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
            .mend(format!("relinkd explain wrong-primary   # then relinkd diagnose on {}", quoted(&node.address.host))),
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
        .mend(format!("relinkd diagnose   # on {}", quoted(&node.address.host))),
    })
}
