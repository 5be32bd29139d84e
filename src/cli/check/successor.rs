//! The other replicas of a group as `request-failover` will look at them: each has to tell of itself, and to take the login
//! that the watched replica holds. What is missing there is seen today, and not in the outage.
//!
//! Each refusal is a line in that server's ACL LOG. So the rights of the login are asked of the watched instance first,
//! with `ACL DRYRUN`; where they lack there already, the others are not troubled.

use std::collections::BTreeSet;

use super::instance::WITHIN;
use super::permission::{Account, cli_at};
use super::report::Section;
use crate::collect::{self, Ask};
use crate::daemon::clock::Clock;
use crate::daemon::{Dials, Watched};
use crate::decide::{Mode, Policy, in_the_way};
use crate::model::evidence::{Answer, Evidence, Missing, Reading, Successor};
use crate::model::remedy::Remedy;
use crate::model::{Address, Endpoint};
use crate::wire::Reader;
use crate::wire::reply::Reply;

const WHAT: &str = "failover";

/// What a replica's login asks at a replica that may be promoted, and the rule that grants it.
const ASKED: [(&[&str], &str); 3] =
    [(&["REPLCONF", "capa", "eof"], "+replconf"), (&["PSYNC", "?", "x"], "+psync"), (&["INFO"], "+info")];

/// `reader`, `evidence`: of the watched instance, which is a replica of a group.
pub async fn check(
    section: &mut Section,
    watched: &Watched,
    policy: &Policy,
    dials: &Dials,
    reader: &mut Reader,
    evidence: &Evidence,
) {
    let others = others(evidence);
    if policy.of(Remedy::RequestFailover).mode == Mode::Observe || evidence.local_link().is_none() || others.is_empty()
    {
        return;
    }
    let user = evidence.settings.seen().map(|settings| settings.masteruser.clone()).unwrap_or_default();
    // Without an observer the same login asks for INFO.
    let asked = if dials.observer.is_some() { &ASKED[..2] } else { &ASKED[..] };
    let lacking = lacking_here(reader, &user, asked).await;
    if !lacking.is_empty() {
        return not_even_here(section, watched, &user, &lacking, &others);
    }
    let clock = Clock::start();
    let now = move || clock.now();
    let ask = Ask {
        meet_replicas: true,
        refused: &[],
        followed: None,
        candidates: &[],
        store: Reading::Missing(Missing::NotAsked),
        log: Reading::Missing(Missing::NotAsked),
        clock: &now,
        deadline: WITHIN,
        probe_upstream: false,
    };
    let met = collect::look(&watched.target(dials), ask).await.successors;
    met.iter().for_each(|one| tell(section, one, &user));
    let fine = met.iter().filter(|one| others.contains(&one.endpoint) && in_the_way(one).is_none()).count();
    if fine == others.len() {
        section.ok(WHAT, format!("other replicas that tell of themselves, and take this one in: {fine}"));
    }
}

/// Those that a Sentinel has in sight.
fn others(evidence: &Evidence) -> BTreeSet<Endpoint> {
    let own = evidence.local.seen().map(|view| view.run_id.as_str());
    let listed = evidence.answering().flat_map(|(_, says)| &says.replicas);
    let others = listed.filter(|one| Some(one.run_id.as_str()) != own && !one.flags.contains("s_down"));
    others.map(|one| one.endpoint.clone()).collect()
}

/// The rules that the watched instance says this user lacks. Where it cannot be asked, none.
async fn lacking_here(reader: &mut Reader, user: &str, asked: &[(&[&str], &'static str)]) -> Vec<&'static str> {
    let user = if user.is_empty() { "default" } else { user };
    let mut lacking = Vec::new();
    for (command, rule) in asked {
        let words = [&["ACL", "DRYRUN", user][..], command].concat();
        match reader.ask(&words, WITHIN).await {
            Ok(Reply::Text(text)) if text == "OK" => {}
            Ok(Reply::Text(_)) => lacking.push(*rule),
            // Not allowed to ask, no such user, or a server that does not know the question: nothing is known.
            _ => return Vec::new(),
        }
    }
    lacking
}

/// One line for each node, since a user is set on each.
fn not_even_here(
    section: &mut Section,
    watched: &Watched,
    user: &str,
    lacking: &[&'static str],
    others: &BTreeSet<Endpoint>,
) {
    let rules = lacking.join(" ");
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let text = format!(
        "user {} lacks {rules} here, which is asked of it at {} before a failover, and most likely lacks it there too: \
         request-failover never passes",
        shown(user),
        names.join(", ")
    );
    let addresses = [watched.replica.address.clone()].into_iter().chain(others.iter().cloned().map(Address::Tcp));
    let mut next: Vec<String> = addresses.map(|address| grant(&address, user, lacking)).collect();
    next.extend(lacking.contains(&"+info").then(or_an_observer));
    section.warn(WHAT, text, next);
}

fn tell(section: &mut Section, one: &Successor, user: &str) {
    let Some((code, why)) = in_the_way(one) else { return };
    let address = Address::Tcp(one.endpoint.clone());
    let denied = |answer: &Answer| answer.code() == "NOPERM";
    let probe = one.probe.seen();
    let mut rules = Vec::new();
    rules.extend(probe.filter(|probe| denied(&probe.replconf)).map(|_| "+replconf"));
    rules.extend(probe.filter(|probe| denied(&probe.psync)).map(|_| "+psync"));
    let mut next = Vec::new();
    if matches!(&one.server, Reading::Missing(Missing::Denied(text)) if text.starts_with("NOPERM")) {
        match one.user == user {
            true => rules.push("+info"),
            false => next.push(grant(&address, &one.user, &["+info"])),
        }
    }
    if !rules.is_empty() {
        next.insert(0, grant(&address, user, &rules));
    }
    next.extend((rules.contains(&"+info")).then(or_an_observer));
    section.warn(WHAT, format!("request-failover would be held, {code}: {why}"), next);
}

fn shown(user: &str) -> &str {
    if user.is_empty() { "default" } else { user }
}

fn grant(address: &Address, user: &str, rules: &[&str]) -> String {
    Account { cli: cli_at("redis-cli", address), user }.grant(rules)
}

fn or_an_observer() -> String {
    "or let another user ask: observer = { user = …, password = … } in the group's section, with +info on every node"
        .to_owned()
}
