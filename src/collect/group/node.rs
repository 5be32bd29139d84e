//! One data node: INFO, ROLE and its settings, and INFO again after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{not_asked, rights};
use crate::collect::{Look, host, micros};
use crate::model::Endpoint;
use crate::model::evidence::{Flavour, HostView, Missing, Reading};
use crate::model::group::{GroupNode, Growth, NodeAccount, NodeSettings};
use crate::wire::reply::settings::{Credentials, NODE, node};
use crate::wire::reply::{
    Reply,
    info::{self, Progress},
};
use crate::wire::{Dial, Reader, WireError};

const WITHIN_MS: u64 = 1000;
/// An RDB that is older tells nothing of today's data.
const RECENT: Duration = Duration::from_secs(86_400);

/// A node that has been read once. Holds a secret: never part of the account.
pub struct Node {
    pub group_node: GroupNode,
    /// With what it logs in to its primary; none where the settings could not be read.
    pub credentials: Option<Credentials>,
    /// The name of its RDB; empty where it is not known.
    file: String,
    dial: Dial,
    /// The open connection with the first offset, and when that was read.
    open: Option<(Reader, Progress, Instant)>,
}

impl Node {
    fn unread(local: Option<String>, dial: &Dial, why: &Missing) -> Node {
        let missing = (Reading::Missing(why.clone()), Reading::Missing(why.clone()));
        let growth = Reading::Missing(why.clone());
        let group_node = GroupNode { growth, ..bare(local, missing.0, missing.1) };
        Node { group_node, credentials: None, file: String::new(), dial: dial.clone(), open: None }
    }

    pub fn run_id(&self) -> Option<&str> {
        self.group_node.account.seen().map(|account| account.server.run_id.as_str())
    }

    pub fn login(&self) -> Option<String> {
        self.group_node.settings.seen().map(|settings| settings.login.clone())
    }

    /// Its build by its own word.
    pub fn build(&self) -> Option<(Flavour, &str)> {
        self.group_node.account.seen().map(|account| (account.server.flavour, account.server.version.as_str()))
    }

    /// The second reading, `sample` after the first.
    pub async fn again(self, look: &Look<'_>, address: Endpoint, sample: Duration) -> GroupNode {
        let mut node = GroupNode { address, ..self.group_node };
        let Some((mut reader, first, at)) = self.open else { return node };
        tokio::time::sleep_until(at + sample).await;
        let again: &[&str] = &["INFO", "replication"];
        let reply = match reader.ask(again, look.left(WITHIN_MS)).await {
            Ok(reply) => Ok(reply),
            // The server's `timeout` ends connections that are idle for a long sample.
            Err(_) => match Reader::connect(&self.dial, look.left(WITHIN_MS)).await {
                Ok(mut reader) => reader.ask(again, look.left(WITHIN_MS)).await,
                Err(error) => Err(error),
            },
        };
        let over_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        node.growth = match reply {
            Ok(reply) => match reply.text().and_then(info::progress).map(|second| second.since(&first)) {
                Some(Some(bytes)) => Reading::Seen(Growth { bytes, over_ms }),
                Some(None) => Reading::Missing(Missing::Unsupported("it synced between the readings".to_owned())),
                None => Reading::Missing(reply.unfit("INFO")),
            },
            Err(error) => Reading::Missing((&error).into()),
        };
        node
    }
}

pub async fn read(look: &Look<'_>, dial: &Dial, local: Option<String>) -> Node {
    let mut node = match ask(look, dial, local.clone()).await {
        Ok(node) => node,
        Err(error) => Node::unread(local.clone(), dial, &(&error).into()),
    };
    if local.is_some() {
        let dir = node.group_node.settings.seen().map(|settings| settings.dir.clone());
        let HostView { disk, memory } = host::look(look, dir.as_deref()).await;
        let rdb = host::recent_file(look, dir.as_deref().unwrap_or_default(), &node.file, RECENT).await;
        node.group_node.rdb_bytes = rdb;
        node.group_node.disk = disk;
        let process_id = node.group_node.account.seen().and_then(|account| account.server.process_id);
        node.group_node.memory = match (memory, process_id) {
            (Reading::Seen(memory), Some(process_id)) => Reading::Seen(host::within_cgroup(memory, process_id)),
            (memory, _) => memory,
        };
    }
    node
}

async fn ask(look: &Look<'_>, dial: &Dial, local: Option<String>) -> Result<Node, WireError> {
    let mut reader = Reader::connect(dial, look.left(WITHIN_MS)).await?;
    let gets = NODE.map(|name| ["CONFIG", "GET", name]);
    let mut commands: Vec<&[&str]> = vec![&["INFO"], &["ROLE"]];
    commands.extend(gets.iter().map(|get| get.as_slice()));
    let began = Instant::now();
    let mut replies = reader.ask_all(&commands, look.left(WITHIN_MS)).await?.into_iter();
    let took_us = micros(began);
    let at = Instant::now();
    let (info, role) = (replies.next().unwrap_or(Reply::Nil), replies.next());
    let account = account(look, &info, role.as_ref(), took_us);
    let progress = info.text().and_then(info::progress);
    let (settings, credentials, file) = match node(replies.collect(), &look.target.salt) {
        Ok((settings, held)) => (Reading::Seen(settings), held.login, held.file),
        Err(why) => (Reading::Missing(why), None, String::new()),
    };
    let mut group_node = bare(local, account, settings);
    let clients = info.text().and_then(info::connected_clients);
    group_node.rights = rights::ask(&mut reader, dial, &group_node, clients, look.left(WITHIN_MS)).await;
    Ok(Node { group_node, credentials, file, dial: dial.clone(), open: progress.map(|first| (reader, first, at)) })
}

fn bare(local: Option<String>, account: Reading<NodeAccount>, settings: Reading<NodeSettings>) -> GroupNode {
    GroupNode {
        address: Endpoint::new("", 0),
        local,
        account,
        settings,
        growth: not_asked(),
        disk: not_asked(),
        memory: not_asked(),
        rdb_bytes: not_asked(),
        rights: not_asked(),
        restart: not_asked(),
    }
}

fn account(look: &Look<'_>, info: &Reply, role: Option<&Reply>, took_us: u64) -> Reading<NodeAccount> {
    match info.text().and_then(|text| info::node_account(text, role, look.now(), took_us)) {
        Some(account) => Reading::Seen(account),
        None => Reading::Missing(info.unfit("INFO")),
    }
}
