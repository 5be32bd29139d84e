//! Following the secret store: whether what this instance logs in with is what the store holds now, and when to try a
//! new password at the primary. The store's news come by themselves; nothing here asks for them.
//!
//! A password that the primary refuses leaves a line in its ACL LOG, so each new one is tried once, and then once in
//! each `[policy] background` while it is still not what the primary takes.

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::diagnose::handshake_works;
use crate::model::Timestamp;
use crate::model::event::{Offered, StoreNews};
use crate::model::evidence::{Answer, Evidence, Missing, Probe, Reading};
use crate::model::finding::Cause;

/// What is known of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Following {
    source: String,
    asked_at: Option<Timestamp>,
    /// Its newest password. It stays known while the store does not answer.
    newest: Option<Offered>,
    /// When that was first seen here.
    since: Option<Timestamp>,
    /// Why the store gives none now.
    trouble: Option<String>,
    /// The password that was tried last, and when.
    tried: Option<(String, Timestamp)>,
    /// What the primary said to it.
    said: Option<(String, Standing)>,
    /// The store's password that the instance was last seen to hold.
    held: Option<String>,
    /// The last look that asked it went on before it had answered.
    awaited: bool,
    /// It has answered since, and no look has used that.
    answered: bool,
}

/// How the store's newest password stands to what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The instance holds it.
    InUse,
    /// The store has not learned of the newest password yet: the instance holds its own and the primary refuses it, or
    /// the instance was given another one since, which works.
    Behind,
    /// The primary takes it, and the instance does not hold it yet.
    Accepted,
    /// The primary does not know it yet.
    Ahead,
    /// The store holds another than the instance, and it was not tried.
    Untried,
    /// The store was not read yet, or gave none.
    Unavailable,
}

/// The secret of an instance's login to its primary, for `status`. Never the value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretStatus {
    pub source: String,
    pub standing: Standing,
    /// The store's newest version, and its salted fingerprint.
    pub version: Option<String>,
    pub print: Option<String>,
    /// When the store took this version in, or when it was first seen here.
    pub since: Option<Timestamp>,
    /// Why the store gives none.
    pub trouble: Option<String>,
    /// It was asked, and has not answered yet: what stands here is what it said before.
    #[serde(default)]
    pub awaited: bool,
}

impl Agent {
    pub(super) fn store_said(&mut self, news: StoreNews, now: Timestamp) {
        let following = &mut self.following;
        following.source = news.source;
        following.asked_at = Some(news.at);
        match news.said {
            Ok(offered) => {
                if following.newest.as_ref().map(|known| &known.print) != Some(&offered.print) {
                    following.since = Some(offered.changed.unwrap_or(news.at));
                }
                following.newest = Some(offered);
                following.trouble = None;
            }
            Err(why) => following.trouble = Some(why),
        }
        self.try_new_password(now);
    }

    /// Looks at once when the store has a password that was not tried yet.
    pub(super) fn try_new_password(&mut self, now: Timestamp) {
        if self.proof_is_due(now) && self.is_idle() {
            self.ask_for_look(true, true, now);
        }
    }

    /// Notes when the instance holds what the store holds, and says whether it has been given another password since,
    /// though the store has not changed: a rotation that was begun on another host, from a store that this host does
    /// not see. To set the store's again would undo it.
    pub(super) fn left_the_store(&mut self, e: &Evidence) -> bool {
        let newest = e.candidates.first().map(|newest| &newest.print);
        let Some(newest) = newest.or(self.following.newest.as_ref().map(|newest| &newest.print)) else { return false };
        let Some(held) = e.settings.seen().map(|settings| &settings.masterauth_print) else { return false };
        if held == newest {
            self.following.held = Some(newest.clone());
        }
        held != newest && self.following.held.as_ref() == Some(newest)
    }

    /// `align` was called: what the store says counts, whatever this instance was given since.
    pub(super) fn trust_the_store(&mut self) {
        self.following.held = None;
    }

    fn is_behind(&self) -> bool {
        self.last.evidence.as_ref().is_some_and(|e| e.trend.store_left && self.differs(e))
    }

    /// The store holds another password than the instance, whose present one works.
    pub(super) fn store_differs(&self) -> bool {
        self.last.evidence.as_ref().is_some_and(|e| self.differs(e))
    }

    fn differs(&self, e: &Evidence) -> bool {
        match (&self.following.newest, e.settings.seen()) {
            (Some(newest), Some(held)) => !held.logs_in_with(newest.user.as_deref(), &newest.print),
            _ => false,
        }
    }

    /// Whether the store's password is to be tried at the primary although nothing is wrong.
    pub(super) fn proof_is_due(&self, now: Timestamp) -> bool {
        let Some(newest) = self.following.newest.as_ref().filter(|_| self.store_differs()) else { return false };
        let quiet = self.incidents.open().is_none_or(|open| open.finding.cause == Cause::AuthLatent);
        let tried = self.following.tried.as_ref().filter(|(print, _)| *print == newest.print);
        let rested = tried.is_none_or(|(_, at)| now.since(*at) >= self.policy.background);
        quiet && rested && !self.is_behind() && self.link_up() != Some(false)
    }

    /// The look that was to try the store's password had to do without this answer.
    pub(super) fn store_answered(&mut self, now: Timestamp) {
        (self.following.tried, self.following.answered) = (None, true);
        self.look_for_someone(now);
    }

    pub(super) fn owes_a_trial(&mut self) -> bool {
        std::mem::take(&mut self.following.answered)
    }

    pub(super) fn note_trial(&mut self, now: Timestamp) {
        self.following.tried = self.following.newest.as_ref().map(|newest| (newest.print.clone(), now));
    }

    /// What a look with candidates showed of the store's newest password.
    pub(super) fn note_proof(&mut self, e: &Evidence) {
        match &e.store {
            Reading::Missing(Missing::NotAsked) => {}
            Reading::Missing(why) => self.following.awaited = *why == Missing::TimedOut,
            Reading::Seen(store) => self.following.awaited = store.silent_ms.is_some(),
        }
        self.note_newest(e);
        if let Reading::Seen(_) = &e.store
            && let Some(newest) = e.candidates.first()
        {
            let own_refused = e.upstream.seen().is_some_and(is_refused);
            let standing = match (newest.in_use, own_refused) {
                (true, true) => Standing::Behind,
                (true, false) => Standing::InUse,
                (false, _) if handshake_works(&newest.proof) => Standing::Accepted,
                (false, _) if is_refused(&newest.proof) => Standing::Ahead,
                (false, _) => Standing::Untried,
            };
            self.following.said = Some((newest.print.clone(), standing));
        }
    }

    /// A look may hear of a new password before the news do, which come at the store's own pace.
    fn note_newest(&mut self, e: &Evidence) {
        let Reading::Seen(store) = &e.store else { return };
        let following = &mut self.following;
        if store.silent_ms.is_some() || following.asked_at.is_some_and(|asked| asked >= store.at) {
            return;
        }
        let known = following.newest.as_ref().map(|newest| &newest.print);
        if let Some(first) = e.candidates.first().filter(|first| Some(&first.print) != known) {
            following.newest = Some(Offered {
                version: first.version.clone(),
                print: first.print.clone(),
                user: Some(first.user.clone()),
                changed: None,
            });
            (following.since, following.asked_at) = (Some(store.at), Some(store.at));
            following.tried = Some((first.print.clone(), store.at));
        }
    }

    fn standing(&self) -> Standing {
        let Some(newest) = self.following.newest.as_ref().filter(|_| self.following.trouble.is_none()) else {
            return Standing::Unavailable;
        };
        let said = self.following.said.as_ref().filter(|(print, _)| *print == newest.print).map(|(_, said)| *said);
        match (said, self.store_differs()) {
            _ if self.is_behind() => Standing::Behind,
            (Some(Standing::Behind), false) => Standing::Behind,
            (_, false) => Standing::InUse,
            (Some(Standing::InUse | Standing::Behind) | None, true) => Standing::Untried,
            (Some(said), true) => said,
        }
    }

    pub(super) fn secret_status(&self) -> Option<SecretStatus> {
        self.identity.has_store.then(|| SecretStatus {
            source: self.following.source.clone(),
            standing: self.standing(),
            version: self.following.newest.as_ref().map(|newest| newest.version.clone()),
            print: self.following.newest.as_ref().map(|newest| newest.print.clone()),
            since: self.following.since,
            trouble: self.following.trouble.clone(),
            awaited: self.following.awaited,
        })
    }

    /// What is to be said of the store while all is well.
    pub(super) fn store_sentence(&self) -> Option<String> {
        let Following { source, newest, trouble, .. } = &self.following;
        if let Some(why) = trouble {
            return Some(format!("the secret store gives no masterauth: {why}"));
        }
        let version = newest.as_ref().map_or("", |newest| newest.version.as_str());
        match self.standing() {
            Standing::Ahead => Some(format!(
                "{source} is ahead: the primary does not know version {version} yet, and the link keeps the password that works"
            )),
            Standing::Behind if self.is_behind() => Some(format!(
                "{source} is behind: this instance was given another masterauth than its version {version}, and that one \
                 works; write it to the store too"
            )),
            _ => None,
        }
    }
}

fn is_refused(probe: &Probe) -> bool {
    matches!(probe.auth, Answer::Error { .. })
}
