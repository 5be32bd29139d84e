//! The local server itself: does it run, answer, and let us look?

use super::{denied, fact, finding};
use crate::model::evidence::{Evidence, Missing, Reading};
use crate::model::finding::{Cause, Finding, Viewpoint};

pub fn replica_denied(e: &Evidence) -> Option<Finding> {
    let text = denied(&e.local)?;
    Some(finding(
        Cause::ReplicaDenied,
        false,
        vec![fact(
            Viewpoint::Replica,
            e.ended,
            format!("{} → {text}", e.address),
            "the user and password in [replica] do not let relinkd look; nothing is known of the link",
        )],
    ))
}

/// It waits for its resolver, which gives us nothing either.
pub fn held_up_by_a_lookup(e: &Evidence) -> Option<Finding> {
    let Reading::Missing(Missing::TimedOut) = &e.local else { return None };
    let lookup = e.lookup.as_ref()?;
    let failed = lookup.failed.as_ref()?;
    Some(finding(
        Cause::NameUnresolved,
        false,
        vec![
            fact(
                Viewpoint::Probe,
                lookup.at,
                failed.clone(),
                format!("this host cannot turn the primary's name into an address ({})", lookup.told_by),
            ),
            fact(
                Viewpoint::Replica,
                e.ended,
                format!("{} accepts the connection and does not answer", e.address),
                "a server waits for its resolver in its event loop, up to 10 s at each attempt",
            ),
        ],
    ))
}

pub fn replica_hung(e: &Evidence) -> Option<Finding> {
    let Reading::Missing(Missing::TimedOut) = &e.local else { return None };
    Some(finding(
        Cause::ReplicaHung,
        false,
        vec![fact(
            Viewpoint::Replica,
            e.ended,
            format!("{} accepts the connection and does not answer", e.address),
            "a long command, a stopped process, a dead disk, or a name lookup that stalls it (10 s at a time)",
        )],
    ))
}

pub fn replica_down(e: &Evidence) -> Option<Finding> {
    let Reading::Missing(Missing::Refused(why)) = &e.local else { return None };
    Some(finding(
        Cause::ReplicaDown,
        false,
        vec![fact(Viewpoint::Replica, e.ended, format!("{}: {why}", e.address), "no server listens there")],
    ))
}

pub fn replica_loading(e: &Evidence) -> Option<Finding> {
    let view = e.local.seen().filter(|view| view.loading)?;
    let share = view.loading_percent.map(|p| format!(" ({p:.0} % done)")).unwrap_or_default();
    Some(finding(
        Cause::ReplicaLoading,
        false,
        vec![fact(
            Viewpoint::Replica,
            view.at,
            format!("loading:1{share}"),
            "it links by itself when the data set is in memory",
        )],
    ))
}
