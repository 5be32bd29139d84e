//! Questions that a server has refused to a user. They are not asked again for an hour: each refusal is a line in its
//! ACL LOG, where people look for intruders, and the answer changes only when a person changes the user.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Endpoint;
use crate::wire::reply::Reply;

const KEPT: Duration = Duration::from_secs(3600);

type Question = (Endpoint, String, &'static str);

static REFUSED: Mutex<Refusals> = Mutex::new(Refusals(BTreeMap::new()));

/// When each question was refused, and in which words.
struct Refusals(BTreeMap<Question, (Instant, Reply)>);

/// The refusal that this user met there within the hour.
pub fn lately(at: &Endpoint, user: &str, question: &'static str) -> Option<Reply> {
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused.lately(&(at.clone(), user.to_owned(), question), Instant::now())
}

/// Keeps the answer where it is a refusal for want of a right.
pub fn note(at: &Endpoint, user: &str, question: &'static str, answer: &Reply) {
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    refused.note((at.clone(), user.to_owned(), question), answer, Instant::now());
}

impl Refusals {
    fn lately(&mut self, question: &Question, now: Instant) -> Option<Reply> {
        self.0.retain(|_, (since, _)| now.duration_since(*since) < KEPT);
        self.0.get(question).map(|(_, reply)| reply.clone())
    }

    fn note(&mut self, question: Question, answer: &Reply, now: Instant) {
        if matches!(answer, Reply::Error { code, .. } if code == "NOPERM") {
            self.0.insert(question, (now, answer.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_question_rests_for_an_hour_and_for_that_user_alone() {
        let (mut refused, now) = (Refusals(BTreeMap::new()), Instant::now());
        let of = |user: &str, question| (Endpoint::new("10.9.8.7", 6379), user.to_owned(), question);
        let refusal = Reply::error("NOPERM this user has no permissions to run the 'role' command".into());
        refused.note(of("repl", "ROLE"), &Reply::error("LOADING Redis is loading".into()), now);
        assert_eq!(refused.lately(&of("repl", "ROLE"), now), None, "that passes");
        refused.note(of("repl", "ROLE"), &refusal, now);
        assert_eq!(refused.lately(&of("repl", "ROLE"), now), Some(refusal));
        assert_eq!(refused.lately(&of("other", "ROLE"), now), None);
        assert_eq!(refused.lately(&of("repl", "COMMAND INFO"), now), None);
        assert_eq!(refused.lately(&of("repl", "ROLE"), now + KEPT), None);
    }
}
