//! One data node, read by its admin.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Admin, AdminLogin, denied};
use crate::model::evidence::{Missing, Reading, ServerView};
use crate::model::{Endpoint, Timestamp};
use crate::secrets::Secret;
use crate::wire::reply::{Reply, info};
use crate::wire::{Reader, WireError};

pub const WITHIN: Duration = Duration::from_millis(1_500);

/// A node with the secrets that it holds.
pub struct RawNode {
    /// The login that it took.
    pub login: AdminLogin,
    pub server: ServerView,
    pub knows_two: bool,
    pub exists: bool,
    pub on: bool,
    pub nopass: bool,
    pub hashes: Vec<Secret>,
    pub masteruser: String,
    pub masterauth: Secret,
    pub requirepass: Secret,
    pub aclfile: String,
    pub lacks: Vec<String>,
    /// Users of the Sentinels' connections, by the beginning of the Sentinel's id.
    pub watchers: BTreeMap<String, String>,
}

/// What a rotation does on a node, as ACL DRYRUN is asked for it.
fn wanted(user: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["ACL", "SETUSER", user, "on"],
        vec!["ACL", "SAVE"],
        vec!["CONFIG", "SET", "masterauth", "x"],
        vec!["CONFIG", "REWRITE"],
        vec!["CLIENT", "KILL", "TYPE", "master"],
    ]
}

pub async fn read(admin: &Admin<'_>, address: &Endpoint, user: &str) -> Reading<RawNode> {
    let logins = (admin.logins)(address);
    let mut last = denied("no login for it is configured ([group] admin, or a replica's password)");
    for login in logins {
        let asked = async {
            let mut reader = Reader::connect(&admin.dial(address, &login), WITHIN).await?;
            ask(&mut reader, &login, user).await
        };
        match tokio::time::timeout(WITHIN, asked).await {
            Ok(Ok(node)) => return Reading::Seen(node),
            Ok(Err(Stopped::Wire(error @ WireError::Denied { .. }))) => last = (&error).into(),
            Ok(Err(Stopped::Wire(error))) => return Reading::Missing((&error).into()),
            Ok(Err(Stopped::Unfit(why))) => return Reading::Missing(why),
            Err(_) => return Reading::Missing(Missing::TimedOut),
        }
    }
    Reading::Missing(last)
}

enum Stopped {
    Wire(WireError),
    Unfit(Missing),
}

impl From<WireError> for Stopped {
    fn from(error: WireError) -> Stopped {
        Stopped::Wire(error)
    }
}

async fn ask(reader: &mut Reader, login: &AdminLogin, user: &str) -> Result<RawNode, Stopped> {
    let questions: [&[&str]; 8] = [
        &["INFO"],
        &["ROLE"],
        &["CONFIG", "GET", "masteruser"],
        &["CONFIG", "GET", "masterauth"],
        &["CONFIG", "GET", "requirepass"],
        &["CONFIG", "GET", "aclfile"],
        &["ACL", "GETUSER", user],
        &["CLIENT", "LIST", "TYPE", "pubsub"],
    ];
    let replies = reader.ask_all(&questions, WITHIN).await?;
    let [info, role, masteruser, masterauth, requirepass, aclfile, getuser, clients] = replies.as_slice() else {
        return Err(Stopped::Unfit(Missing::Unsupported("replies are missing".to_owned())));
    };
    let server = info.text().and_then(|text| info::server_view(text, Some(role), Timestamp::default(), 0));
    let server = server.ok_or_else(|| Stopped::Unfit(info.unfit("INFO")))?;
    let mut node = RawNode {
        login: login.clone(),
        server,
        knows_two: true,
        exists: true,
        on: true,
        nopass: false,
        hashes: Vec::new(),
        masteruser: value(masteruser)?,
        masterauth: Secret::new(value(masterauth)?),
        requirepass: Secret::new(value(requirepass)?),
        aclfile: value(aclfile)?,
        lacks: Vec::new(),
        watchers: clients.text().map(watchers).unwrap_or_default(),
    };
    match getuser {
        // No ACL: Redis before 6, or the command is renamed away.
        Reply::Error { code, .. } if code == "ERR" => {
            node.knows_two = false;
            node.nopass = node.requirepass.is_empty();
            return Ok(node);
        }
        Reply::Error { text, .. } => return Err(Stopped::Unfit(denied(text))),
        Reply::Nil => node.exists = false,
        other => user_of(&mut node, other.items()),
    }
    let wanted = wanted(user);
    let commands: Vec<&[&str]> = wanted.iter().map(Vec::as_slice).collect();
    node.lacks = dry_run(reader, &commands, WITHIN).await;
    Ok(node)
}

/// CONFIG GET of one parameter; a parameter that the server does not know is empty.
fn value(reply: &Reply) -> Result<String, Stopped> {
    match reply {
        Reply::List(items) => Ok(items.get(1).and_then(Reply::text).unwrap_or_default().to_owned()),
        other => Err(Stopped::Unfit(other.unfit("CONFIG GET"))),
    }
}

/// ACL GETUSER: names and values, flat.
fn user_of(node: &mut RawNode, fields: &[Reply]) {
    for pair in fields.chunks(2) {
        let [name, value] = pair else { continue };
        let words = || value.items().iter().filter_map(Reply::text);
        match name.text() {
            Some("flags") => {
                node.on = words().any(|flag| flag == "on");
                node.nopass = words().any(|flag| flag == "nopass");
            }
            Some("passwords") => node.hashes = words().map(Secret::new).collect(),
            _ => {}
        }
    }
}

/// `sentinel-` and the first eight characters of the Sentinel's id name its connections
/// (Redis 7.0.15, sentinelSetClientName).
fn watchers(clients: &str) -> BTreeMap<String, String> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let told = clients.lines().filter_map(|line| {
        let name = field(line, "name")?;
        let id = name.strip_prefix("sentinel-")?.split('-').next()?.to_owned();
        Some((id, field(line, "user")?))
    });
    told.collect()
}

/// Which of these commands our user may not run, as `COMMAND SUBCOMMAND`. Nothing where the server cannot be asked that
/// (before Redis 7.0); the refusal itself where it may not.
pub async fn dry_run(reader: &mut Reader, commands: &[&[&str]], within: Duration) -> Vec<String> {
    let name = match reader.ask(&["ACL", "WHOAMI"], within).await {
        Ok(Reply::Text(name)) => name,
        Ok(Reply::Error { code, .. }) if code == "NOPERM" => return vec!["ACL WHOAMI".to_owned()],
        _ => return Vec::new(),
    };
    let asked: Vec<Vec<&str>> =
        commands.iter().map(|command| [&["ACL", "DRYRUN", name.as_str()], *command].concat()).collect();
    let asked: Vec<&[&str]> = asked.iter().map(Vec::as_slice).collect();
    let Ok(replies) = reader.ask_all(&asked, within).await else { return Vec::new() };
    let mut lacks = Vec::new();
    for (command, reply) in commands.iter().zip(replies) {
        let words: Vec<&str> = command.iter().take(2).copied().collect();
        match reply {
            Reply::Text(text) if text == "OK" => {}
            Reply::Text(_) => lacks.push(words.join(" ")),
            Reply::Error { code, .. } if code == "NOPERM" => return vec!["ACL DRYRUN".to_owned()],
            // Unknown: too old for the question, or a command that this server does not have.
            _ => {}
        }
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_known_by_the_names_of_their_connections() {
        let text = "id=7 addr=1 name=sentinel-0a1b2c3d-pubsub age=3 flags=P user=watch lib-name=\n\
                    id=8 addr=2 name= age=3 flags=P user=default\n\
                    id=9 addr=3 name=sentinel-ffffffff-pubsub age=3 flags=P user=default\n";
        let told: Vec<(String, String)> = watchers(text).into_iter().collect();
        let expected = [("0a1b2c3d", "watch"), ("ffffffff", "default")];
        assert_eq!(told, expected.map(|(id, user)| (id.to_owned(), user.to_owned())));
    }
}
