//! What others may do at a node: the users that Sentinels are connected with, and the one that replicas log in as.
//!
//! Asked with the default user's login alone: an observer may read no client list, and each refusal would be a line in
//! ACL LOG.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::evidence::{Flavour, Missing, Reading};
use crate::model::group::{GroupNode, Rights};
use crate::wire::reply::{Reply, acl};
use crate::wire::{Dial, Reader};

/// A longer list costs the server too much.
const CLIENTS_AT_MOST: u64 = 2_000;

/// What a failover has a Sentinel do at a data node (Redis 7.0.15 to Valkey 9.1.2: sentinelSendSlaveOf is one
/// transaction, which one refused command undoes; the rest is how Sentinels hear of each other and of the result).
const FAILOVER: [&[&str]; 9] = [
    &["PING"],
    &["INFO"],
    &["MULTI"],
    &["SLAVEOF", "NO", "ONE"],
    &["CONFIG", "REWRITE"],
    &["CLIENT", "KILL", "TYPE", "normal"],
    &["EXEC"],
    &["PUBLISH", "__sentinel__:hello", "x"],
    &["SUBSCRIBE", "__sentinel__:hello"],
];

pub async fn ask(
    reader: &mut Reader,
    dial: &Dial,
    node: &GroupNode,
    clients: Option<u64>,
    within: Duration,
) -> Reading<Rights> {
    let not_asked = || Reading::Missing(Missing::NotAsked);
    let (Some(account), Some(settings)) = (node.account.seen(), node.settings.seen()) else { return not_asked() };
    if !matches!(dial.user.as_str(), "" | "default") {
        return not_asked();
    }
    let major = account.server.version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    let knows_dry_run = account.server.flavour == Flavour::Valkey || major >= 7;
    let asked = match (knows_dry_run, clients) {
        (true, Some(..=CLIENTS_AT_MOST)) => of_sentinels(reader, within).await,
        (false, _) if major == 6 => of_replicas(reader, &settings.masteruser, within).await,
        _ => return not_asked(),
    };
    match asked {
        Ok(rights) => Reading::Seen(rights),
        Err(why) => Reading::Missing(why),
    }
}

async fn of_sentinels(reader: &mut Reader, within: Duration) -> Result<Rights, Missing> {
    let clients = reader.ask(&["CLIENT", "LIST"], within).await.map_err(|error| Missing::from(&error))?;
    let users: BTreeSet<String> =
        clients.text().map(acl::sentinel_users).ok_or_else(|| clients.unfit("CLIENT LIST"))?;
    let mut sentinels = BTreeMap::new();
    for user in users {
        let asked: Vec<Vec<&str>> = FAILOVER.iter().map(|words| [&["ACL", "DRYRUN", &user], *words].concat()).collect();
        let asked: Vec<&[&str]> = asked.iter().map(Vec::as_slice).collect();
        let replies = reader.ask_all(&asked, within).await.map_err(|error| Missing::from(&error))?;
        sentinels.insert(user, lacking(&replies)?);
    }
    Ok(Rights { sentinels, ..Rights::default() })
}

/// What the answers to [`FAILOVER`] say that a user lacks.
fn lacking(replies: &[Reply]) -> Result<Vec<String>, Missing> {
    let mut lacks = Vec::new();
    for (at, words) in FAILOVER.iter().enumerate() {
        match replies.get(at).unwrap_or(&Reply::Nil) {
            Reply::Text(text) if text == "OK" => {}
            Reply::Text(refusal) => lacks.push(acl::right(words, refusal)),
            // A command that was renamed: Sentinel may know its other name (sentinel rename-command).
            Reply::Error { text, .. } if text.contains("Command '") && text.contains("' not found") => {}
            other => return Err(other.unfit("ACL DRYRUN")),
        }
    }
    // PUBLISH and SUBSCRIBE need the same channel.
    lacks.dedup();
    Ok(lacks)
}

async fn of_replicas(reader: &mut Reader, masteruser: &str, within: Duration) -> Result<Rights, Missing> {
    let user = if masteruser.is_empty() { "default" } else { masteruser };
    let told = reader.ask(&["ACL", "GETUSER", user], within).await.map_err(|error| Missing::from(&error))?;
    let replicates = acl::replicates(&told).ok_or_else(|| told.unfit("ACL GETUSER"))?;
    Ok(Rights { replicates: [(user.to_owned(), replicates)].into(), ..Rights::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dry_run_answered_counts_as_allowed() {
        let ok = || Reply::Text("OK".into());
        let error =
            |text: &str| Reply::Error { code: text.split(' ').next().unwrap_or_default().into(), text: text.into() };
        let with = |at: usize, reply: Reply| {
            let mut replies: Vec<Reply> = FAILOVER.iter().map(|_| ok()).collect();
            replies[at] = reply;
            lacking(&replies)
        };
        assert_eq!(with(0, ok()), Ok(Vec::new()));
        let no = "User snt has no permissions to run the 'slaveof' command";
        assert_eq!(with(3, Reply::Text(no.into())), Ok(vec!["+slaveof".to_owned()]));
        assert_eq!(with(4, error("ERR Command 'CONFIG' not found")), Ok(Vec::new()), "renamed");
        for refusal in [
            "ERR unknown command 'ACL', with args beginning with: 'DRYRUN' 'snt' 'PING' ",
            "ERR User 'snt' not found",
            "BUSY Redis is busy running a script.",
            "LOADING Redis is loading the dataset in memory",
            "NOPERM User default has no permissions to run the 'acl|dryrun' command",
        ] {
            assert!(with(3, error(refusal)).is_err(), "{refusal}");
        }
        assert!(with(3, Reply::Nil).is_err() && lacking(&[ok()]).is_err());
    }
}
