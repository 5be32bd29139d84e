//! What `request-failover` asks of each replica that a Sentinel has in sight, by its own word and at its own door: one of
//! them is promoted, the others and one day the old primary have to log in to it, and Sentinel does not look.

use super::failover::sound;
use super::{Context, Held};
use crate::model::evidence::{
    Answer, CachedNode, Connect, Evidence, Missing, Probe, Reading, ReplicaInSentinel, Role, SentinelSays, Successor,
};
use crate::model::rdb;
use crate::model::remedy::{RefusalCode, Remedy};

/// Each that a Sentinel has in sight, with what that Sentinel says of it.
fn in_sight(e: &Evidence) -> impl Iterator<Item = (&SentinelSays, &ReplicaInSentinel)> {
    let replicas = e.answering().flat_map(|(_, says)| says.replicas.iter().map(move |replica| (says, replica)));
    replicas.filter(|(_, replica)| !replica.flags.contains("s_down"))
}

fn missing(what: String) -> Held {
    (RefusalCode::EvidenceMissing, what)
}

/// Who is promoted has to take the others in: proved by a login with what the watched replica itself holds.
pub fn take_our_login(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    c.evidence.successors.iter().try_for_each(takes_us_in)
}

fn takes_us_in(one: &Successor) -> Result<(), Held> {
    match one.probe.seen().map(met) {
        Some(Door::Shut(what)) => {
            let what = format!("{} could be promoted, and would not take this replica in: {what}", one.endpoint);
            Err((RefusalCode::LatentAuthMismatch, what))
        }
        _ => Ok(()),
    }
}

/// Why `request-failover` would be held for the sake of this replica, whatever its data.
pub fn in_the_way(one: &Successor) -> Option<(RefusalCode, String)> {
    takes_us_in(one).and_then(|()| is_seen(one)).err()
}

/// What a replica meets at another one.
enum Door {
    Open,
    Shut(String),
    Unseen(String),
}

fn met(probe: &Probe) -> Door {
    if probe.other_transport == Some(true) {
        return Door::Shut(format!("it speaks {}", if probe.tls { "plain TCP and not TLS" } else { "TLS only" }));
    }
    match &probe.connect {
        Connect::Open => {}
        Connect::Tls(why) => return Door::Shut(format!("TLS fails: {why}")),
        other => return Door::Unseen(format!("it could not be reached from here ({other:?})")),
    }
    if matches!(probe.auth, Answer::Error { .. }) {
        return Door::Shut(format!("AUTH with its masterauth → {}", probe.auth));
    }
    if !probe.with_password && probe.ping.code() == "NOAUTH" {
        return Door::Shut("it wants a password, and masterauth is empty here".to_owned());
    }
    let forbidden = |answer: &Answer| match answer {
        Answer::Error { code, text } => {
            matches!(code.as_str(), "NOPERM" | "NOAUTH") || text.contains("unknown command")
        }
        _ => false,
    };
    for (asked, answer) in [("REPLCONF", &probe.replconf), ("PSYNC", &probe.psync)] {
        if forbidden(answer) {
            return Door::Shut(format!("{asked} → {answer}"));
        }
    }
    let answered = |answer: &Answer| matches!(answer, Answer::Ok(_) | Answer::Error { .. });
    match &probe.psync {
        _ if !answered(&probe.replconf) => Door::Unseen(format!(
            "PING → {}, AUTH → {}, REPLCONF → {}",
            probe.ping, probe.auth, probe.replconf
        )),
        psync if answered(psync) => Door::Open,
        // A server before Redis 7.0 is not asked: there the question itself may begin a sync.
        Answer::NotAsked if probe.version.is_some() => Door::Open,
        Answer::NotAsked => Door::Unseen(
            "nobody tells its version, on which it depends whether it may be asked for PSYNC; configure `observer`, or \
             allow +sentinel|info-cache"
                .to_owned(),
        ),
        psync => Door::Unseen(format!("PSYNC → {psync}")),
    }
}

/// The same as Sentinel's cache has to say of each, out of its own mouth and of this moment.
pub fn keep_the_data(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let e = c.evidence;
    let risk = |what: String| (RefusalCode::DataAtRisk, what);
    let accounts = || e.successors.iter().filter_map(|one| Some((one, one.server.seen()?)));
    if let Some((one, _)) = accounts().find(|(_, server)| server.role == Role::Primary) {
        return Err((RefusalCode::FailoverRunning, format!("{} calls itself a primary already", one.endpoint)));
    }
    for (says, replica) in in_sight(e).filter(|(says, replica)| replica.promotable(says)) {
        let name = replica.endpoint.to_string();
        let Some((_, server)) = accounts().find(|(one, _)| one.endpoint == replica.endpoint) else {
            continue;
        };
        let primary = says.nodes.seen().and_then(|nodes| nodes.get(&says.primary.to_string()));
        sound(&name, replica, &CachedNode::from(server), primary).map_err(risk)?;
        if let Some((other, reader)) = accounts()
            .find(|(_, reader)| !rdb::loads((reader.flavour, &reader.version), (server.flavour, &server.version)))
        {
            return Err(risk(format!(
                "{} ({:?} {}) could not load what {name} would send it",
                other.endpoint, reader.flavour, reader.version
            )));
        }
    }
    Ok(())
}

/// What was not seen is no reason to believe that all is well. It is asked last: what was seen tells more.
pub fn looked_at(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    for (_, replica) in in_sight(c.evidence) {
        let name = &replica.endpoint;
        let Some(one) = c.evidence.successors.iter().find(|one| one.endpoint == *name) else {
            return Err(missing(format!("{name}, a replica of the group, was not looked at from here")));
        };
        is_seen(one)?;
    }
    Ok(())
}

fn is_seen(one: &Successor) -> Result<(), Held> {
    if let Reading::Missing(why) = &one.server {
        return Err(missing(unread(one, why)));
    }
    let name = &one.endpoint;
    match one.probe.seen().map(met) {
        Some(Door::Open | Door::Shut(_)) => Ok(()),
        Some(Door::Unseen(what)) => Err(missing(format!("whether {name} would take this replica in: {what}"))),
        None => Err(missing(format!(
            "whether {name} would take this replica in: its own masterauth could not be read; relinkd's user needs \
             +config|get"
        ))),
    }
}

fn unread(one: &Successor, why: &Missing) -> String {
    let (name, user) = (&one.endpoint, if one.user.is_empty() { "the default user" } else { &one.user });
    let cure = match why {
        Missing::Denied(text) if !text.starts_with("NOPERM") => "that login has to be taken there",
        Missing::Denied(_) => "allow +info to that user there, or configure an `observer` that has it",
        Missing::NotAsked => "the masterauth of this replica could not be read (+config|get); or configure `observer`",
        _ => "it has to be reached from here, for a look just before the request",
    };
    format!("INFO of {name}, a replica of the group, asked as {user}: {why}; {cure}")
}
