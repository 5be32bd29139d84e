//! What is changed on a data node.

use super::{COMMAND, RotationHands, Told, config_file, done, refused, words};
use crate::model::Endpoint;
use crate::secrets::Secret;
use crate::wire::reply::Reply;
use crate::wire::{Arg, Writer};

impl RotationHands {
    /// The password to come beside the present one.
    pub(super) async fn allow(&self, node: &Endpoint) -> Told {
        let mut writer = self.writer(node).await?;
        let hashes = self.hashes(&mut writer, node).await?;
        let known = [&self.from.hash, &self.to.hash];
        if hashes.iter().any(|hash| !known.contains(&hash)) {
            return Err(format!("{node}: user {} accepts a password that we do not know now", self.subject.user));
        }
        if !hashes.contains(&self.to.hash) {
            self.set_user(&mut writer, node, '#', &self.to.hash).await?;
        }
        if !self.hashes(&mut writer, node).await?.contains(&self.to.hash) {
            return Err(format!("{node}: read back after ACL SETUSER: the password is not accepted"));
        }
        let kept = self.persist(node, Some(writer)).await?;
        Ok(format!("both passwords are accepted; {kept}"))
    }

    pub(super) async fn present(&self, node: &Endpoint) -> Told {
        let to = self.to_secret()?;
        let mut writer = self.writer(node).await?;
        if !self.hashes(&mut writer, node).await?.contains(&self.to.hash) {
            return Err(format!("{node}: the password to come is not accepted there any more"));
        }
        drop(writer);
        self.set_masterauth(node, to).await?;
        let kept = self.persist(node, None).await?;
        Ok(format!("masterauth is set; {kept}"))
    }

    pub(super) async fn set_masterauth(&self, node: &Endpoint, to: &Secret) -> Result<(), String> {
        let mut writer = self.writer(node).await?;
        let command = [Arg::from("CONFIG"), Arg::from("SET"), Arg::from("masterauth"), Arg::from(to.clone())];
        done(&mut writer, &command, &format!("{node}: CONFIG SET masterauth")).await?;
        match parameter(&mut writer, "masterauth").await?.acl_hash() == self.to.hash {
            true => Ok(()),
            false => Err(format!("{node}: read back after CONFIG SET: masterauth is another")),
        }
    }

    /// The former password is refused from here on. Only behind a last look: the other one is accepted, and shown.
    pub(super) async fn retire(&self, node: &Endpoint) -> Told {
        let mut writer = self.writer(node).await?;
        let hashes = self.hashes(&mut writer, node).await?;
        if !hashes.contains(&self.to.hash) {
            return Err(format!("{node}: the password that is to stay is not accepted there, so nothing is removed"));
        }
        if self.subject.replicates && parameter(&mut writer, "masterauth").await?.acl_hash() != self.to.hash {
            return Err(format!("{node}: its masterauth has changed meanwhile, so nothing is removed"));
        }
        // `requirepass` is a parameter of its own: after edits of the ACL it shows a password that is dead, and a
        // config manager would believe it. Setting it leaves the default user this one password, but setting what it
        // is already does nothing (Redis 7.0.15, ACLUpdateDefaultUserPassword and configSetCommand).
        let requirepass = parameter(&mut writer, "requirepass").await?;
        if self.subject.user == "default" && !requirepass.is_empty() && requirepass.acl_hash() != self.to.hash {
            let to = self.to_secret()?.clone();
            let command = [Arg::from("CONFIG"), Arg::from("SET"), Arg::from("requirepass"), Arg::from(to)];
            done(&mut writer, &command, &format!("{node}: CONFIG SET requirepass")).await?;
        }
        if self.hashes(&mut writer, node).await?.contains(&self.from.hash) {
            self.set_user(&mut writer, node, '!', &self.from.hash).await?;
        }
        let left = self.hashes(&mut writer, node).await?;
        match left.as_slice() {
            [only] if *only == self.to.hash => Ok("the former password is removed".to_owned()),
            _ => Err(format!("{node}: read back: user {} has {} passwords", self.subject.user, left.len())),
        }
    }

    async fn set_user(&self, writer: &mut Writer, node: &Endpoint, sign: char, hash: &Secret) -> Result<(), String> {
        let rule = Secret::new(format!("{sign}{}", hash.expose()));
        let command = [Arg::from("ACL"), Arg::from("SETUSER"), Arg::from(self.subject.user.as_str()), Arg::from(rule)];
        done(writer, &command, &format!("{node}: ACL SETUSER")).await
    }

    pub(super) async fn hashes(&self, writer: &mut Writer, node: &Endpoint) -> Result<Vec<Secret>, String> {
        let reply = writer.ask(&["ACL", "GETUSER", &self.subject.user], COMMAND).await;
        let reply = reply.map_err(|error| format!("{node}: ACL GETUSER: {error}"))?;
        let fields = reply.items();
        let field = fields.chunks(2).find(|pair| pair.first().and_then(Reply::text) == Some("passwords"));
        match field.and_then(|pair| pair.get(1)) {
            Some(list) => Ok(list.items().iter().filter_map(Reply::text).map(Secret::new).collect()),
            None => Err(format!("{node}: {}", refused("ACL GETUSER", &reply))),
        }
    }

    pub(super) async fn keep(&self, node: &Endpoint) -> Told {
        self.persist(node, None).await
    }

    /// CONFIG REWRITE, and ACL SAVE where users live in a file of their own.
    pub(super) async fn persist(&self, node: &Endpoint, writer: Option<Writer>) -> Told {
        if !self.persist {
            return Ok("not written to any file, as [policy] persist says".to_owned());
        }
        let mut writer = match writer {
            Some(writer) => writer,
            None => self.writer(node).await?,
        };
        if !parameter(&mut writer, "aclfile").await?.is_empty() {
            done(&mut writer, &words(&["ACL", "SAVE"]), &format!("{node}: ACL SAVE")).await?;
        }
        let file = match self.here.contains(node) {
            true => config_file_of(&mut writer).await?,
            false => String::new(),
        };
        let before = config_file::look(&file);
        if let Some(reason) = before.reason_to_leave().filter(|_| !file.is_empty()) {
            return Err(format!("{node}: not written to the config file: {reason}"));
        }
        done(&mut writer, &words(&["CONFIG", "REWRITE"]), &format!("{node}: CONFIG REWRITE")).await?;
        let warnings = before.warnings_after(&config_file::look(&file));
        Ok([vec!["written to its files".to_owned()], warnings].concat().join("; "))
    }
}

/// CONFIG GET of one parameter. Valkey 8 names some twice, under an old name and a new one.
pub(super) async fn parameter(writer: &mut Writer, name: &str) -> Result<Secret, String> {
    match writer.ask(&["CONFIG", "GET", name], COMMAND).await {
        Ok(Reply::List(items)) => Ok(Secret::new(items.get(1).and_then(Reply::text).unwrap_or_default())),
        Ok(reply) => Err(refused("CONFIG GET", &reply)),
        Err(error) => Err(format!("CONFIG GET: {error}")),
    }
}

async fn config_file_of(writer: &mut Writer) -> Result<String, String> {
    match writer.ask(&["INFO", "server"], COMMAND).await {
        Ok(reply) => {
            let text = reply.text().unwrap_or_default();
            Ok(text.lines().find_map(|line| line.strip_prefix("config_file:")).unwrap_or_default().trim().to_owned())
        }
        Err(error) => Err(format!("INFO: {error}")),
    }
}
