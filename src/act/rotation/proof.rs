//! Proofs: by login, and by a link that goes through a reconnect.

use std::time::Duration;

use tokio::time::Instant;

use super::{COMMAND, Password, RotationHands, SETTLE, Told, refused, words};
use crate::model::evidence::ServerView;
use crate::model::{Endpoint, Timestamp};
use crate::wire::reply::{Reply, info};
use crate::wire::{Dial, Reader, WireError, Writer};

impl RotationHands {
    /// None where the password itself is not known.
    async fn takes(&self, node: &Endpoint, password: &Password) -> Result<Option<bool>, String> {
        let (Some(secret), Some(admin)) = (&password.secret, self.nodes.get(node)) else { return Ok(None) };
        let dial = Dial { user: String::new(), password: None, ..admin.clone() };
        let asked = async {
            let mut reader = Reader::open(&dial, COMMAND).await?;
            let user = if self.subject.user == "default" { "" } else { self.subject.user.as_str() };
            reader.login(user, secret, COMMAND).await
        };
        match asked.await {
            Ok(Reply::Text(_)) => Ok(Some(true)),
            Ok(Reply::Error { code, .. }) if code == "WRONGPASS" || code == "ERR" => Ok(Some(false)),
            Ok(reply) => Err(refused(&format!("{node}: AUTH"), &reply)),
            Err(error) => Err(format!("{node}: {error}")),
        }
    }

    pub(super) async fn login(&self) -> Told {
        for node in self.nodes.keys() {
            if self.takes(node, &self.to).await? == Some(false) {
                return Err(format!("{node} refuses the password to come"));
            }
        }
        Ok(match &self.to.secret {
            Some(_) => format!("{} nodes take it", self.nodes.len()),
            None => "not tried: the password is known by its hash only".to_owned(),
        })
    }

    /// By login, which costs one refused login in each node's ACL LOG, and by what the node says that it accepts.
    pub(super) async fn refused(&self) -> Told {
        for node in self.nodes.keys() {
            if self.takes(node, &self.to).await? == Some(false) {
                return Err(format!("{node} refuses the password that is to stay"));
            }
            if self.takes(node, &self.from).await? == Some(true) {
                return Err(format!("{node} still takes the former password"));
            }
            if !self.subject.single {
                let mut writer = self.writer(node).await?;
                if self.hashes(&mut writer, node).await?.contains(&self.from.hash) {
                    return Err(format!("{node} still accepts the former password"));
                }
            }
        }
        Ok(format!("{} nodes refuse the former password and take the other", self.nodes.len()))
    }

    /// CLIENT KILL TYPE master drops the link, and the replica comes back at once, with a partial resync
    /// (1 ms, Redis 7.0.15 and Valkey 9.1.2). Every node has taken the password by login before.
    pub(super) async fn reconnect(&self, replica: &Endpoint) -> Told {
        let mut writer = self.writer(replica).await?;
        let before = view(&mut writer).await.map_err(|error| format!("{replica}: {error}"))?;
        let Some(link) = before.role.link() else {
            return Err(format!("{replica} is not a replica any more"));
        };
        let primary = link.primary.clone();
        if !link.up || link.syncing {
            return Err(format!("the link of {replica} is not whole now"));
        }
        let syncs = self.syncs(&primary).await?;
        let began = Instant::now();
        match writer.run(&words(&["CLIENT", "KILL", "TYPE", "master"]), COMMAND).await {
            Ok(Reply::Int(1..)) => {}
            Ok(reply) => return Err(refused(&format!("{replica}: CLIENT KILL TYPE master"), &reply)),
            Err(error) => return Err(format!("{replica}: CLIENT KILL TYPE master: {error}")),
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let up = view(&mut writer).await.is_ok_and(|view| view.role.link().is_some_and(|link| link.up));
            let resynced = self.syncs(&primary).await.ok().filter(|now| now.1 > syncs.1 || now.0 > syncs.0);
            match resynced {
                Some(now) if up && now.0 == syncs.0 => {
                    return Ok(format!("link up again within {} ms, by a partial resync", began.elapsed().as_millis()));
                }
                Some(_) if up => return Ok("link up again, by a full resync: the backlog was too small".to_owned()),
                _ if began.elapsed() >= SETTLE => {
                    return Err(format!("the link of {replica} to {primary} is not up {SETTLE:?} after its reconnect"));
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Full and partial resyncs that a primary has given.
    async fn syncs(&self, primary: &Endpoint) -> Result<(u64, u64), String> {
        let mut writer = self.writer(primary).await?;
        let view = view(&mut writer).await.map_err(|error| format!("{primary}: {error}"))?;
        Ok((view.sync_full, view.sync_partial_ok))
    }
}

async fn view(writer: &mut Writer) -> Result<ServerView, WireError> {
    let replies = writer.ask_all(&[&["INFO"], &["ROLE"]], COMMAND).await?;
    let [Reply::Text(text), role] = replies.as_slice() else { return Err(WireError::Closed) };
    info::server_view(text, Some(role), Timestamp::default(), 0).ok_or(WireError::Closed)
}
