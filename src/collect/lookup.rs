//! The name of a silent server's primary. A server looks it up in its event loop: with a dead resolver it stands still
//! for 10 s of every 11 s (Redis 7.0.15, connectWithMaster), and reads as hung.

use std::net::IpAddr;

use super::Look;
use super::local::Local;
use crate::model::Endpoint;
use crate::model::evidence::{Lookup, Missing, Reading, SentinelView};
use crate::wire;

/// A resolver that has given nothing by then holds the server up for longer.
const WITHIN_MS: u64 = 500;

/// None: the server answers, or nobody knows a name that it follows.
pub async fn of_a_silent_server(
    look: &Look<'_>,
    local: &Local,
    followed: Option<Endpoint>,
    sentinels: &[SentinelView],
) -> Option<Lookup> {
    if local.server != Reading::Missing(Missing::TimedOut) {
        return None;
    }
    let seen = followed.map(|name| (name, "relinkd saw it follow that name".to_owned()));
    let (name, told_by) = seen.or_else(|| told(look, sentinels))?;
    if name.host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let failed = wire::lookup(&name, look.left(WITHIN_MS)).await.err();
    Some(Lookup { at: look.now(), name, told_by, failed: failed.map(|error| error.to_string()) })
}

/// What a Sentinel read in the server's INFO while it still answered.
fn told(look: &Look<'_>, sentinels: &[SentinelView]) -> Option<(Endpoint, String)> {
    let crate::model::Address::Tcp(own) = &look.target.local.address else { return None };
    followed_by(own, sentinels)
}

/// Sentinel knows a server by the address that others reach it at, and we may know it by its loopback: where that is
/// so, the name that all replicas of our port follow is ours too.
fn followed_by(own: &Endpoint, sentinels: &[SentinelView]) -> Option<(Endpoint, String)> {
    let listed = || sentinels.iter().filter_map(|view| Some((view, view.says.seen()?)));
    let tell = |view: &SentinelView| format!("Sentinel {} read that name in its INFO", view.endpoint);
    let itself = listed().find_map(|(view, says)| {
        let replica = says.replicas.iter().find(|replica| replica.endpoint == *own)?;
        Some((replica.primary.clone()?, tell(view)))
    });
    if itself.is_some() || !is_loopback(&own.host) {
        return itself;
    }
    let mut names = listed().flat_map(|(view, says)| {
        let of_our_port = says.replicas.iter().filter(|replica| replica.endpoint.port == own.port);
        of_our_port.filter_map(move |replica| Some((replica.primary.clone()?, view)))
    });
    let (name, view) = names.next()?;
    names.all(|(other, _)| other == name).then(|| (name, tell(view)))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::world::{Bend, OTHER, REPLICA, at, healthy};

    #[test]
    fn the_followed_name_is_found_by_our_address_or_where_all_of_our_port_follow_one() {
        let mut e = healthy();
        let name = at("primary.example:6379");
        e.each_sentinel(|says| says.replicas.iter_mut().for_each(|replica| replica.primary = Some(name.clone())));
        let found =
            |e: &crate::model::evidence::Evidence, own: &str| followed_by(&at(own), &e.sentinels).map(|told| told.0);
        assert_eq!(found(&e, REPLICA), Some(name.clone()));
        assert_eq!(found(&e, "127.0.0.1:6379"), Some(name.clone()), "the smallest config");
        assert_eq!(found(&e, "127.0.0.1:6380"), None);
        assert_eq!(found(&e, "10.9.9.9:6379"), None, "another host's is not ours");
        let other = |says: &mut crate::model::evidence::SentinelSays| {
            let one = says.replicas.iter_mut().find(|replica| replica.endpoint == at(OTHER)).unwrap();
            one.primary = Some(at("elsewhere.example:6379"));
        };
        e.each_sentinel(other);
        assert_eq!(found(&e, "127.0.0.1:6379"), None, "which of the two is ours?");
        assert_eq!(found(&e, REPLICA), Some(name));
    }
}
