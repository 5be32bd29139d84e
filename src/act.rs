//! The hands: one step at a time, its precondition read again just before. They decide nothing.
//!
//! Everything that relinkd can change in a server or a Sentinel stands in this module, so this is what to audit:
//! CONFIG SET of `masteruser` and `masterauth`, REPLICAOF, CONFIG REWRITE, SENTINEL FAILOVER, and, for a rotation
//! ([`rotation`]), the passwords of one user. Nothing else.
//! What is read before a change counts until a moment that is fixed before the first question, and each change is held
//! against it right before its bytes leave: hands that were stopped in between make no change at all.
//! A command whose answer did not come has an unknown outcome: it is read back before anything is said of it.
//! The former password is kept in memory only, for the undo of the same run; after a crash it is gone.

use std::time::Duration;

use crate::model::Endpoint;
use crate::model::remedy::{Change, Outcome, Step};
use crate::secrets::{Salt, Secret, SecretRef};
use crate::wire::{Dial, Until, WireError};

pub mod config_file;
mod local;
mod precondition;
pub mod rotation;
mod sentinel;

/// How long one command of ours may take, unless the step gives it less.
const COMMAND: Duration = Duration::from_millis(1_000);

/// The hands of one instance.
pub struct Hands {
    local: Dial,
    sentinels: Vec<Dial>,
    group: Option<String>,
    /// Where a new `masterauth` comes from.
    store: Option<SecretRef>,
    salt: Salt,
    former: Option<Former>,
}

/// What the replica had before a change, for the undo of the same run.
struct Former {
    user: String,
    password: Secret,
}

/// Why a step did not happen: the world had moved, or the attempt failed.
enum Stop {
    Moved(String),
    Failed(String),
}

type Done = Result<Outcome, Stop>;

/// A change that was not sent any more: nothing has failed.
fn too_late(what: &str) -> Stop {
    Stop::Moved(format!("{what}: {}", WireError::TooLate))
}

impl Hands {
    pub fn new(local: Dial, sentinels: Vec<Dial>, group: Option<String>, store: Option<SecretRef>, salt: Salt) -> Self {
        Hands { local, sentinels, group, store, salt, former: None }
    }

    /// Runs one step. Never panics, always comes back. `looked`: when the look began that led to it.
    pub async fn run(&mut self, step: &Step, looked: Option<Until>) -> Outcome {
        let within = Duration::from_millis(step.within_ms).max(Duration::from_millis(100));
        let mut until = Until::within(within);
        if let Some(bound_ms) = step.expect.looked_within_ms {
            let fresh = looked.map(|began| began.later_by(Duration::from_millis(bound_ms)));
            let Some(fresh) = fresh.filter(|fresh| !fresh.is_over()) else {
                return Outcome::PreconditionGone("the look that led to this is too old by now".to_owned());
            };
            until = until.min(fresh);
        }
        match self.checked(step, within, until).await {
            Ok(outcome) => outcome,
            Err(Stop::Moved(what)) => Outcome::PreconditionGone(what),
            Err(Stop::Failed(why)) => Outcome::Failed(why),
        }
    }

    /// What is read before a change has bounds of its own, and so has each command: no bound lies around them all, or a
    /// change could be cut off between the command and the reading back.
    async fn checked(&mut self, step: &Step, within: Duration, until: Until) -> Done {
        match &step.change {
            Change::RealignAuth { source, version, print, user, bounce_to } => {
                let offer = local::Wanted { source, version, print, user };
                self.realign_auth(&step.expect, &offer, bounce_to).await
            }
            Change::PresetAuth { source, version, print, user } => {
                let offer = local::Wanted { source, version, print, user };
                self.preset_auth(&step.expect, &offer).await
            }
            Change::RestoreAuth { bounce_to } => self.restore_auth(&step.expect, bounce_to).await,
            Change::BounceLink { to } => self.bounce(&step.expect, to).await,
            Change::Repoint { to, .. } => self.repoint(&step.expect, to).await,
            Change::RequestFailover { group, sentinels, how } => {
                self.sentinels_still_agree(&step.expect).await?;
                self.request_failover(group, how, sentinels, until).await
            }
            Change::ProveLink => self.prove_link(within).await,
            Change::Persist => self.persist(&step.expect, within).await,
        }
    }

    fn sentinel_at(&self, endpoint: &Endpoint) -> Option<&Dial> {
        self.sentinels.iter().find(|dial| dial.address == crate::model::Address::Tcp(endpoint.clone()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::Address;
    use crate::model::remedy::{Handover, Precondition};

    fn hands(local: Endpoint, store: Option<SecretRef>) -> Hands {
        let dial = Dial { address: Address::Tcp(local), user: String::new(), password: None, tls: None };
        Hands::new(dial, Vec::new(), None, store, Salt::fleeting())
    }

    /// Nothing was changed, so nothing has failed.
    #[tokio::test]
    async fn a_store_that_takes_longer_than_the_step_is_waited_for() {
        let argv = ["/bin/sh", "-c", "sleep 4.3; echo another"].map(str::to_owned).to_vec();
        let local = Endpoint::new("127.0.0.1", 1);
        let change = Change::RealignAuth {
            source: "exec:/bin/sh".into(),
            version: "1".into(),
            print: "print".into(),
            user: String::new(),
            bounce_to: local.clone(),
        };
        let step = Step { expect: Precondition::default(), change, within_ms: 2_000 };
        let outcome = hands(local, Some(SecretRef::Exec(argv))).run(&step, None).await;
        let Outcome::PreconditionGone(why) = &outcome else { panic!("{outcome:?}") };
        assert!(why.contains("does not offer the password any more"), "{why}");
    }

    /// A Sentinel that names this primary, which is down. As soon as it has said so for the `stall`th time, the thread that
    /// we share stands still, as ours does while a dying disk does not give it a file. The word that came then is kept.
    async fn sentinel_of_a_stalled_host(listener: TcpListener, stall: usize, heard: &std::sync::Mutex<String>) {
        let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
        let fields = ["ip", "10.0.0.1", "port", "6379", "flags", "master,s_down,o_down", "num-other-sentinels", "0"];
        let master = format!("*{}\r\n{}", fields.len(), fields.map(bulk).concat());
        let answer = [master, bulk("one"), bulk("sentinel_tilt:0\r\n"), "*0\r\n".to_owned()].concat();
        let mut told = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0_u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                let words = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let asked = words.contains("REPLICAS");
                // The name of the client may come alone, or with the questions.
                let named = if words.contains("SETNAME") || !asked { "+OK\r\n" } else { "" };
                let said = format!("{named}{}", if asked { answer.as_str() } else { "" });
                heard.lock().unwrap().push_str(&words);
                let _ = stream.write_all(said.as_bytes()).await;
                told += usize::from(asked);
                if asked && told == stall {
                    std::thread::sleep(Duration::from_secs(2));
                }
            }
        }
    }

    /// Every answer has come in by the time that the thread goes on, and by then another agent may have had its turn.
    #[tokio::test]
    async fn hands_that_stood_still_after_their_questions_ask_for_no_failover() {
        for (stall, age_ms, asks, why) in [
            (2, 300, true, ""),
            (1, 300, false, "not sent"),
            // By the clock that goes on while the host is suspended, so at once.
            (2, 5_000, false, "too old"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let sentinel = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
            let primary = Endpoint::new("10.0.0.1", 6379);
            let expect = Precondition {
                sentinels_name: Some(primary),
                no_failover: true,
                primary_down: true,
                looked_within_ms: Some(5_000),
                ..Precondition::default()
            };
            let change = Change::RequestFailover {
                group: "mymaster".into(),
                sentinels: vec![sentinel.clone()],
                how: Handover::Lost,
            };
            let step = Step { expect, change, within_ms: crate::model::turn::REQUEST_MS };
            let mut hands =
                Hands { sentinels: vec![Dial::plain(sentinel)], ..hands(Endpoint::new("127.0.0.1", 1), None) };
            hands.group = Some("mymaster".into());
            let heard = std::sync::Mutex::default();
            let outcome = tokio::select! {
                outcome = hands.run(&step, Some(Until::now().earlier_by(Duration::from_millis(age_ms)))) => outcome,
                () = sentinel_of_a_stalled_host(listener, stall, &heard) => unreachable!(),
            };
            let heard = heard.into_inner().unwrap();
            assert_eq!(heard.contains("FAILOVER"), asks, "{outcome:?}\n{heard}");
            assert_eq!(matches!(&outcome, Outcome::Changed(_)), asks, "{outcome:?}");
            let gone = matches!(&outcome, Outcome::PreconditionGone(told) if told.contains(why));
            assert_eq!(gone, !asks, "{outcome:?}");
        }
    }

    /// A server that answers each command with `-BUSY`, as one in a slow script does.
    #[tokio::test]
    async fn a_server_that_only_says_that_it_is_busy_is_not_asked_in_a_hot_loop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The name of the client, then the question; each connection is used for one.
        let busy = async {
            for connections in 0.. {
                assert!(connections < 40, "{connections} connections");
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = [0_u8; 4096];
                for _ in 0..2 {
                    let Ok(read) = stream.read(&mut bytes).await else { break };
                    let asked = bytes[..read].iter().filter(|byte| **byte == b'*').count();
                    let _ = stream.write_all(&b"-BUSY Redis is busy running a script.\r\n".repeat(asked)).await;
                }
            }
        };
        let step = Step { expect: Precondition::default(), change: Change::ProveLink, within_ms: 300 };
        let mut hands = hands(Endpoint::new("127.0.0.1", port), None);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(Duration::from_secs(5), hands.run(&step, None)) => outcome.unwrap(),
            () = busy => unreachable!(),
        };
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("300 ms")), "{outcome:?}");
    }
}
