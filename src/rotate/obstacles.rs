//! What stands in the way of a rotation, each with the code of a refusal. What was not seen stands in the way too.

use crate::model::Endpoint;
use crate::model::evidence::{Missing, Reading};
use crate::model::remedy::RefusalCode;
use crate::model::rotation::{Held, NodeSays, Obstacle, RotationView, Subject, WatcherSays, Way};

/// When the question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the first step. `take_over`: nodes that hold both passwords already are what is left of another
    /// rotation, and this one goes on from there. `persist`: the changes shall outlive a restart.
    Begin { take_over: bool, short_window: bool, persist: bool },
    /// Between two steps.
    UnderWay(Way),
}

impl Stage {
    fn begins(self) -> bool {
        matches!(self, Stage::Begin { .. })
    }

    /// An abort does what it can, and leaves both passwords valid where it could not.
    fn is_abort(self) -> bool {
        self == Stage::UnderWay(Way::Back)
    }
}

type Found = Vec<Obstacle>;

fn found(all: &mut Found, code: RefusalCode, at: Option<&Endpoint>, detail: impl Into<String>) {
    all.push(Obstacle { code, at: at.cloned(), detail: detail.into() });
}

/// Everything at once, so that one plan shows all there is to mend.
pub fn obstacles(subject: &Subject, view: &RotationView, stage: Stage) -> Vec<Obstacle> {
    let mut all = Vec::new();
    sentinels(subject, view, stage, &mut all);
    let named = view.sentinels.iter().find_map(|sentinel| Some(&sentinel.says.seen()?.primary));
    if view.nodes.is_empty() {
        found(&mut all, RefusalCode::EvidenceMissing, None, "no Sentinel lists a node");
    }
    for node in &view.nodes {
        match &node.says {
            Reading::Seen(says) => {
                one_node(subject, &node.address, says, named, stage, &mut all);
                if subject.replicates && !stage.is_abort() {
                    unlisted(&node.address, says, view, &mut all);
                }
            }
            Reading::Missing(_) if stage.is_abort() => {}
            Reading::Missing(why) => unseen(why, &node.address, "the node", &mut all),
        }
    }
    all
}

/// Replicas that no Sentinel lists: `replica-announced no`, or behind another replica. Their `masterauth` would be left
/// behind. Where Sentinels go by host names, which a primary does not list, the port has to do.
fn unlisted(at: &Endpoint, says: &NodeSays, view: &RotationView, all: &mut Found) {
    let is_listed = |served: &Endpoint| {
        view.nodes.iter().any(|node| {
            let by_name = node.address.host.parse::<std::net::IpAddr>().is_err();
            node.address == *served || (by_name && node.address.port == served.port)
        })
    };
    for served in says.serves.iter().filter(|served| !is_listed(served)) {
        let detail = format!(
            "the node serves replica {served}, which no Sentinel lists (replica-announced no, or a replica of a replica): \
             its masterauth would stay the old password; announce it, or detach it for the time being"
        );
        found(all, RefusalCode::EvidenceMissing, Some(at), detail);
    }
}

fn unseen(why: &Missing, at: &Endpoint, what: &str, all: &mut Found) {
    let (code, hint) = match why {
        Missing::Denied(_) => (RefusalCode::PermissionDenied, "; see [group] admin and sentinel_password"),
        _ => (RefusalCode::EvidenceMissing, ""),
    };
    found(all, code, Some(at), format!("{what} could not be read: {why}{hint}"));
}

fn sentinels(subject: &Subject, view: &RotationView, stage: Stage, all: &mut Found) {
    let mut seen = Vec::new();
    for sentinel in &view.sentinels {
        match &sentinel.says {
            Reading::Seen(says) => seen.push((&sentinel.endpoint, says)),
            Reading::Missing(_) if stage.is_abort() => {}
            Reading::Missing(why) => unseen(why, &sentinel.endpoint, "the Sentinel", all),
        }
    }
    let known = seen.iter().map(|(_, says)| says.others as usize + 1).max().unwrap_or(0);
    if known > view.sentinels.len() {
        let detail = format!("{known} Sentinels are known, {} were found", view.sentinels.len());
        found(all, RefusalCode::EvidenceMissing, None, detail);
    }
    if let [(first, one), others @ ..] = seen.as_slice()
        && let Some((other, two)) = others.iter().find(|(_, says)| says.primary != one.primary)
    {
        let detail = format!("{first} names {}, {other} names {}", one.primary, two.primary);
        found(all, RefusalCode::SentinelsDisagree, None, detail);
    }
    for (at, says) in seen {
        one_sentinel(subject, at, says, stage, all);
    }
}

fn one_sentinel(subject: &Subject, at: &Endpoint, says: &WatcherSays, stage: Stage, all: &mut Found) {
    if says.failover {
        found(all, RefusalCode::FailoverRunning, Some(at), "this Sentinel runs a failover; wait for its end");
    }
    match &says.tilt {
        Reading::Seen(true) => {
            found(all, RefusalCode::Tilt, Some(at), "this Sentinel is in TILT, for 30 s as a rule");
        }
        Reading::Seen(false) => {}
        Reading::Missing(why) => {
            found(all, RefusalCode::EvidenceMissing, Some(at), format!("TILT could not be read: {why}"));
        }
    }
    if stage.is_abort() {
        return;
    }
    for trouble in &says.troubled {
        found(all, RefusalCode::SentinelActing, Some(at), format!("this Sentinel sees {trouble}"));
    }
    match &says.quorum {
        Reading::Seen(quorum) if quorum.ok => {}
        Reading::Seen(quorum) => found(all, RefusalCode::QuorumUnclear, Some(at), quorum.text.clone()),
        Reading::Missing(why) => {
            found(all, RefusalCode::QuorumUnclear, Some(at), format!("CKQUORUM could not be read: {why}"));
        }
    }
    if subject.watches && !says.lacks.is_empty() {
        lacking(&says.lacks, at, all);
    }
}

fn lacking(lacks: &[String], at: &Endpoint, all: &mut Found) {
    let detail =
        format!("our user may not {} there; the README has the whole rule, under Least privilege", lacks.join(", "));
    found(all, RefusalCode::PermissionDenied, Some(at), detail);
}

fn one_node(
    subject: &Subject,
    at: &Endpoint,
    says: &NodeSays,
    named: Option<&Endpoint>,
    stage: Stage,
    all: &mut Found,
) {
    if !says.lacks.is_empty() {
        lacking(&says.lacks, at, all);
    }
    if !stage.is_abort() {
        link(at, says, named, all);
    }
    if let Stage::Begin { take_over, short_window, persist } = stage {
        if !says.knows_two && !short_window {
            let detail = format!(
                "{} knows one password only, so links and clients that hold the other are refused for a moment; \
                 --short-window takes the order that keeps it shortest",
                says.server
            );
            found(all, RefusalCode::NoSafeRemedy, Some(at), detail);
        }
        if persist && says.config_file.is_empty() {
            let detail = "the server runs without a config file, so a restart would bring back the old password; \
                          start it with one, or accept that with [policy] persist = \"runtime\"";
            found(all, RefusalCode::NoSafeRemedy, Some(at), detail);
        }
        if says.user.accepts_to && says.user.accepts_from && !take_over {
            let detail = "the node accepts the new password already, and no rotation is recorded here: another host \
                          may be rotating; look there (relinkd rotate status), or go on from here with --take-over";
            found(all, RefusalCode::NotOurTurn, Some(at), detail);
        }
    }
    logins(subject, at, says, stage, all);
}

fn link(at: &Endpoint, says: &NodeSays, named: Option<&Endpoint>, all: &mut Found) {
    if says.failing_over {
        found(all, RefusalCode::FailoverRunning, Some(at), "FAILOVER runs on this node");
    }
    if says.loading {
        found(all, RefusalCode::SyncRunning, Some(at), "the node is loading its data set");
    }
    match (&says.follows, named) {
        (None, Some(named)) if named != at => {
            let detail = format!("the node calls itself a primary, the Sentinels name {named}");
            found(all, RefusalCode::RoleChanged, Some(at), detail);
        }
        (Some(_), Some(named)) if named == at => {
            let detail = "the Sentinels name this node as primary, and it calls itself a replica";
            found(all, RefusalCode::TargetNotPrimary, Some(at), detail);
        }
        (Some(of), _) if says.busy_syncing => {
            found(all, RefusalCode::SyncRunning, Some(at), format!("a full resync from {of} is running"));
        }
        (Some(of), _) if !says.link_up => {
            let detail = format!("its link to {of} is down; mend that first (relinkd diagnose)");
            found(all, RefusalCode::EvidenceMissing, Some(at), detail);
        }
        _ => {}
    }
}

fn logins(subject: &Subject, at: &Endpoint, says: &NodeSays, stage: Stage, all: &mut Found) {
    let user = &subject.user;
    if !says.user.exists || !says.user.on {
        let what = if says.user.exists { "is switched off" } else { "does not exist" };
        found(all, RefusalCode::SecretRejected, Some(at), format!("user {user} {what} on this node"));
        return;
    }
    if says.user.nopass {
        let detail = format!("user {user} needs no password there (nopass), so there is nothing to rotate");
        found(all, RefusalCode::SecretRejected, Some(at), detail);
        return;
    }
    if says.user.others > 0 {
        let detail = format!(
            "user {user} accepts {} that we do not know: another rotation may be under way; remove what is not needed \
             (ACL SETUSER {user} !HASH)",
            if says.user.others == 1 {
                "1 further password".to_owned()
            } else {
                format!("{} further passwords", says.user.others)
            }
        );
        found(all, RefusalCode::NotOurTurn, Some(at), detail);
    }
    if stage.begins() && !says.user.accepts_from && !says.user.accepts_to {
        let detail = format!("user {user} accepts neither the old password nor the new one there");
        found(all, RefusalCode::LatentAuthMismatch, Some(at), detail);
    }
    if subject.replicates && stage.begins() {
        let text = match says.masterauth {
            Held::From | Held::To => return,
            Held::Other => "its masterauth is neither the old password nor the new one",
            Held::Unset => "its masterauth is not set, so it could not follow another primary",
        };
        found(all, RefusalCode::LatentAuthMismatch, Some(at), format!("{text}; mend that first (relinkd audit)"));
    }
}
