//! The hands of a rotation: one step on one node or Sentinel, its precondition read again on the connection that makes
//! the change, and read back after it.
//!
//! What it may change: the passwords of one ACL user (ACL SETUSER with a hash, or `requirepass`), `masterauth`, a
//! Sentinel's `auth-pass`, the files of a node (CONFIG REWRITE, ACL SAVE), and one replica's link (CLIENT KILL TYPE
//! master). A password goes to a server only where it has to stand in clear: ACL SETUSER gets `#hash` and `!hash`.
//!
//! Every step may be made twice: whoever resumes after a crash need not know whether it took effect.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::config_file;
use crate::model::Endpoint;
use crate::model::rotation::{Step, Subject};
use crate::secrets::Secret;
use crate::wire::reply::Reply;
use crate::wire::{Arg, Dial, Until, WireError, Writer, all};

mod node;
mod proof;
mod sentinel;

const COMMAND: Duration = Duration::from_millis(2_000);
/// For how long what was read at the beginning of a step is good for a change: a process that stood still for longer may
/// find that another host has taken the rotation over.
const FRESH: Duration = Duration::from_secs(20);
/// How long a link or a Sentinel may take to come back after it was told to log in anew.
const SETTLE: Duration = Duration::from_secs(10);

/// A password: its hash as ACL SETUSER takes it, and itself where it is known.
#[derive(Clone, Debug)]
pub struct Password {
    pub secret: Option<Secret>,
    pub hash: Secret,
}

/// The hands, put together anew for each step: with what to log in changes under way.
pub struct RotationHands {
    /// The Sentinels' name for the group.
    pub group: String,
    pub subject: Subject,
    pub from: Password,
    pub to: Password,
    pub nodes: BTreeMap<Endpoint, Dial>,
    pub sentinels: BTreeMap<Endpoint, Dial>,
    /// Whether each change shall outlive a restart.
    pub persist: bool,
    /// Nodes on this host, whose files we may look at.
    pub here: Vec<Endpoint>,
}

/// What a step came to: whole sentences, without a secret.
type Told = Result<String, String>;

fn words(parts: &[&str]) -> Vec<Arg> {
    parts.iter().map(|part| Arg::from(*part)).collect()
}

/// What a server said instead of yes.
fn refused(what: &str, reply: &Reply) -> String {
    match reply {
        Reply::Error { text, .. } => format!("{what}: {}", crate::model::tame(text, 200)),
        other => format!("{what}: {}", other.unfit(what)),
    }
}

impl RotationHands {
    /// Makes one step. Always comes back.
    pub async fn run(&self, step: &Step) -> Told {
        match step {
            Step::Allow { node } => self.allow(node).await,
            Step::Present { node } => self.present(node).await,
            Step::Switch => self.switch().await,
            Step::Tell { sentinel } => self.tell(sentinel).await,
            Step::Login => self.login().await,
            Step::Reconnect { replica } => self.reconnect(replica).await,
            Step::Retire { node } => self.retire(node).await,
            Step::Refused => self.refused().await,
            Step::Keep { node } => self.keep(node).await,
            Step::Quorum => self.quorum().await,
        }
    }

    async fn writer(&self, node: &Endpoint) -> Result<Writer, String> {
        let dial = self.nodes.get(node).ok_or_else(|| format!("{node} is not a node of the group any more"))?;
        fresh(dial).await.map_err(|error| format!("{node}: {error}"))
    }

    async fn sentinel(&self, sentinel: &Endpoint) -> Result<Writer, String> {
        let dial = self.sentinels.get(sentinel).ok_or_else(|| format!("{sentinel} is no Sentinel of the group"))?;
        fresh(dial).await.map_err(|error| format!("Sentinel {sentinel}: {error}"))
    }

    fn to_secret(&self) -> Result<&Secret, String> {
        self.to.secret.as_ref().ok_or_else(|| {
            "the password to set is known by its hash only: put it back into the secret store (as \"previous\"), and \
             try again"
                .to_owned()
        })
    }

    /// Everything at once, for servers that know one password: first what a link shows, which nothing reads before its
    /// next reconnect, then what nodes accept, then the Sentinels. The links that stand are not touched by any of it.
    async fn switch(&self) -> Told {
        self.switch_until(Until::within(FRESH)).await
    }

    /// Half of it would lock the other half out: one moment ends it for all of them.
    async fn switch_until(&self, until: Until) -> Told {
        let to = self.to_secret()?;
        if self.subject.replicates {
            let set = all(self.nodes.keys().map(|node| self.set_masterauth(node, to))).await;
            set.into_iter().collect::<Result<Vec<()>, String>>()?;
        }
        let mut writers = Vec::new();
        for node in self.nodes.keys() {
            writers.push((node, self.writer(node).await?));
        }
        let mut watchers = Vec::new();
        for sentinel in self.sentinels.keys().filter(|_| self.subject.watches) {
            watchers.push((sentinel, self.sentinel(sentinel).await?));
        }
        let changing = writers.iter_mut().chain(watchers.iter_mut());
        changing.for_each(|(_, writer)| writer.good_until(until));
        if until.is_over() {
            return Err(format!("nothing is switched: {}", WireError::TooLate));
        }
        let began = Instant::now();
        let changed = all(writers.iter_mut().map(|(node, writer)| async move {
            let command = vec![Arg::from("CONFIG"), Arg::from("SET"), Arg::from("requirepass"), Arg::from(to.clone())];
            done(writer, &command, &format!("{node}: CONFIG SET requirepass")).await
        }))
        .await;
        let told = all(watchers.iter_mut().map(|(sentinel, writer)| async move {
            let command = self.auth_pass(to);
            done(writer, &command, &format!("Sentinel {sentinel}: SENTINEL SET auth-pass")).await
        }))
        .await;
        let window = began.elapsed();
        let failures: Vec<String> = changed.into_iter().chain(told).filter_map(Result::err).collect();
        if !failures.is_empty() {
            return Err(failures.join("; "));
        }
        for (node, writer) in writers {
            self.persist(node, Some(writer)).await?;
        }
        self.wait_for_sentinels(self.sentinels.keys()).await?;
        Ok(format!(
            "switched; {:.1} ms lay between the first node's change and the last Sentinel's",
            window.as_secs_f64() * 1000.0
        ))
    }
}

async fn fresh(dial: &Dial) -> Result<Writer, WireError> {
    let until = Until::within(FRESH);
    let mut writer = Writer::connect(dial, COMMAND).await?;
    writer.good_until(until);
    Ok(writer)
}

/// A command that answers OK.
async fn done(writer: &mut Writer, command: &[Arg], what: &str) -> Result<(), String> {
    match writer.run(command, COMMAND).await {
        Ok(Reply::Text(_)) => Ok(()),
        Ok(reply) => Err(refused(what, &reply)),
        Err(error @ WireError::TooLate) => Err(format!("{what}: {error}")),
        Err(error) => Err(format!("{what}: {error}; whether it took effect is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Says OK to everything, and keeps what it was told.
    async fn agreeable(listener: &TcpListener, heard: &std::sync::Mutex<String>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0_u8; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                let words = String::from_utf8_lossy(&bytes[..read]).into_owned();
                heard.lock().unwrap().push_str(&words);
                let _ = stream.write_all("+OK\r\n".repeat(words.matches('*').count()).as_bytes()).await;
            }
        }
    }

    /// Each connection is young; it is the step that is old.
    #[tokio::test]
    async fn a_switch_that_stood_still_is_made_nowhere() {
        let (one, other) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let at = |listener: &TcpListener| Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
        let nodes = [&one, &other].map(|listener| (at(listener), Dial::plain(at(listener))));
        let password = |text: &str| {
            let secret = Secret::new(text);
            Password { hash: secret.acl_hash(), secret: Some(secret) }
        };
        let hands = RotationHands {
            group: "mymaster".into(),
            subject: Subject { user: "default".into(), replicates: false, watches: false, single: true },
            from: password("former"),
            to: password("latter"),
            nodes: nodes.into_iter().collect(),
            sentinels: BTreeMap::new(),
            persist: false,
            here: Vec::new(),
        };
        let heard = std::sync::Mutex::default();
        for (until, switched) in [(Until::now(), 0), (Until::within(FRESH), 2)] {
            let told = tokio::select! {
                told = hands.switch_until(until) => told,
                () = agreeable(&one, &heard) => unreachable!(),
                () = agreeable(&other, &heard) => unreachable!(),
            };
            assert_eq!(heard.lock().unwrap().matches("requirepass").count(), switched, "{told:?}");
            assert_eq!(told.is_ok(), switched > 0, "{told:?}");
        }
    }
}
