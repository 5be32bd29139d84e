//! What is changed on a Sentinel, and how it shows that it has logged in anew.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{COMMAND, RotationHands, SETTLE, Told, done};
use crate::model::Endpoint;
use crate::secrets::Secret;
use crate::wire::reply::Reply;
use crate::wire::{Arg, Dial, Reader, all};

const PAUSE: Duration = Duration::from_millis(50);
/// Flags of an instance that a Sentinel cannot talk to.
const BAD: [&str; 3] = ["s_down", "o_down", "disconnected"];

impl RotationHands {
    pub(super) fn auth_pass(&self, to: &Secret) -> Vec<Arg> {
        let mut command = ["SENTINEL", "SET", self.group.as_str(), "auth-pass"].map(Arg::from).to_vec();
        command.push(Arg::from(to.clone()));
        command
    }

    /// SENTINEL SET drops the Sentinel's connections to the nodes and opens new ones (Redis 7.0.15, sentinelSetCommand),
    /// so that they show at once whether the password is taken. Sentinel writes its file by itself.
    pub(super) async fn tell(&self, sentinel: &Endpoint) -> Told {
        let to = self.to_secret()?;
        let mut writer = self.sentinel(sentinel).await?;
        let id = match writer.ask(&["SENTINEL", "MYID"], COMMAND).await {
            Ok(reply) => reply.text().unwrap_or_default().chars().take(8).collect::<String>(),
            Err(error) => return Err(format!("Sentinel {sentinel}: {error}")),
        };
        let before = self.connections_of(&id).await;
        done(&mut writer, &self.auth_pass(to), &format!("Sentinel {sentinel}: SENTINEL SET auth-pass")).await?;
        let began = Instant::now();
        loop {
            // A Sentinel that is slow to answer is asked again.
            let clean = self.is_clean(sentinel).await.unwrap_or(false);
            let now = self.connections_of(&id).await;
            let renewed = before
                .iter()
                .all(|(node, ids)| now.get(node).is_some_and(|now| now.iter().any(|id| !ids.contains(id))));
            if clean && renewed {
                let nodes = before.len();
                return Ok(format!("it has logged in anew on {nodes} nodes, {} ms later", began.elapsed().as_millis()));
            }
            if began.elapsed() >= SETTLE {
                return Err(match clean {
                    false => format!("Sentinel {sentinel} does not see every node after {SETTLE:?}"),
                    true => format!("Sentinel {sentinel} has not logged in anew on every node after {SETTLE:?}"),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The ids of a Sentinel's connections on each node that shows any.
    async fn connections_of(&self, id: &str) -> BTreeMap<Endpoint, Vec<String>> {
        let name = format!(" name=sentinel-{id}-");
        let found = all(self.nodes.iter().map(|(node, dial)| {
            let name = name.as_str();
            async move { (node.clone(), connections(dial, name).await) }
        }))
        .await;
        found.into_iter().filter(|(_, ids)| !ids.is_empty()).collect()
    }

    async fn is_clean(&self, sentinel: &Endpoint) -> Result<bool, String> {
        let mut writer = self.sentinel(sentinel).await?;
        let questions: [&[&str]; 2] = [&["SENTINEL", "MASTER", &self.group], &["SENTINEL", "REPLICAS", &self.group]];
        let replies = writer.ask_all(&questions, COMMAND).await;
        let replies = replies.map_err(|error| format!("Sentinel {sentinel}: {error}"))?;
        let [master, replicas] = replies.as_slice() else { return Ok(false) };
        let instances = [master].into_iter().chain(replicas.items());
        Ok(instances.map(flags).all(|flags| !flags.is_empty() && !BAD.iter().any(|bad| flags.contains(bad))))
    }

    /// Until all of these see every node.
    pub(super) async fn wait_for_sentinels(&self, which: impl Iterator<Item = &Endpoint>) -> Result<(), String> {
        for sentinel in which {
            let began = Instant::now();
            while !self.is_clean(sentinel).await.unwrap_or(false) {
                if began.elapsed() >= SETTLE {
                    return Err(format!("Sentinel {sentinel} does not see every node after {SETTLE:?}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    pub(super) async fn quorum(&self) -> Told {
        self.wait_for_sentinels(self.sentinels.keys()).await?;
        for sentinel in self.sentinels.keys() {
            let mut writer = self.sentinel(sentinel).await?;
            match writer.ask(&["SENTINEL", "CKQUORUM", &self.group], COMMAND).await {
                Ok(Reply::Text(_)) => {}
                Ok(reply) => return Err(super::refused(&format!("Sentinel {sentinel}: CKQUORUM"), &reply)),
                Err(error) => return Err(format!("Sentinel {sentinel}: {error}")),
            }
        }
        Ok(format!("{} Sentinels see every node and have their quorum", self.sentinels.len()))
    }
}

async fn connections(dial: &Dial, name: &str) -> Vec<String> {
    let Ok(mut reader) = Reader::connect(dial, COMMAND).await else { return Vec::new() };
    let Ok(Reply::Text(text)) = reader.ask(&["CLIENT", "LIST", "TYPE", "pubsub"], COMMAND).await else {
        return Vec::new();
    };
    let ours = text.lines().filter(|line| line.contains(name));
    ours.filter_map(|line| line.strip_prefix("id=")?.split(' ').next().map(str::to_owned)).collect()
}

/// The `flags` of an instance, names and values being flat.
fn flags(instance: &Reply) -> Vec<&str> {
    let pair = instance.items().chunks(2).find(|pair| pair.first().and_then(Reply::text) == Some("flags"));
    let text = pair.and_then(|pair| pair.get(1)).and_then(Reply::text).unwrap_or_default();
    text.split(',').filter(|flag| !flag.is_empty()).collect()
}
