//! One data node: INFO, ROLE and its settings, and INFO again after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::not_asked;
use crate::collect::{Look, host, micros};
use crate::model::Endpoint;
use crate::model::evidence::{Flavour, HostView, Missing, Reading};
use crate::model::group::{GroupNode, Growth, NodeAccount};
use crate::wire::reply::settings::{Credentials, NODE, node};
use crate::wire::reply::{Reply, info};
use crate::wire::{Dial, Reader, WireError};

const WITHIN_MS: u64 = 1000;

/// A node that has been read once. Holds a secret: never part of the account.
pub struct Node {
    pub group_node: GroupNode,
    /// With what it logs in to its primary; none where the settings could not be read.
    pub credentials: Option<Credentials>,
    /// The open connection with the first offset, and when that was read.
    open: Option<(Reader, u64, Instant)>,
}

impl Node {
    fn unread(local: Option<String>, why: &Missing) -> Node {
        Node {
            group_node: GroupNode {
                address: Endpoint::new("", 0),
                local,
                account: Reading::Missing(why.clone()),
                settings: Reading::Missing(why.clone()),
                growth: Reading::Missing(why.clone()),
                disk: not_asked(),
                memory: not_asked(),
            },
            credentials: None,
            open: None,
        }
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
        let reply = reader.ask(&["INFO", "replication"], look.left(WITHIN_MS)).await;
        let over_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        node.growth = match reply {
            Ok(reply) => match reply.text().and_then(info::repl_offset) {
                // A replica that has resynced meanwhile may have stepped back.
                Some(second) => Reading::Seen(Growth { bytes: second.saturating_sub(first), over_ms }),
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
        Err(error) => Node::unread(local.clone(), &(&error).into()),
    };
    if local.is_some() {
        let dir = node.group_node.settings.seen().map(|settings| settings.dir.clone());
        let HostView { disk, memory } = host::look(look, dir.as_deref()).await;
        node.group_node.disk = disk;
        node.group_node.memory = memory;
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
    let offset = info.text().and_then(info::repl_offset);
    let growth = not_asked();
    let (settings, credentials) = match node(replies.collect(), &look.target.salt) {
        Ok((settings, credentials)) => (Reading::Seen(settings), Some(credentials)),
        Err(why) => (Reading::Missing(why), None),
    };
    let group_node = GroupNode {
        address: Endpoint::new("", 0),
        local,
        account,
        settings,
        growth,
        disk: not_asked(),
        memory: not_asked(),
    };
    Ok(Node { group_node, credentials, open: offset.map(|offset| (reader, offset, at)) })
}

fn account(look: &Look<'_>, info: &Reply, role: Option<&Reply>, took_us: u64) -> Reading<NodeAccount> {
    match info.text().and_then(|text| info::node_account(text, role, look.now(), took_us)) {
        Some(account) => Reading::Seen(account),
        None => Reading::Missing(info.unfit("INFO")),
    }
}
