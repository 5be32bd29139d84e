//! What slow secret stores said last, and what they are being asked. One question a place is on its way at a time, on a
//! task of its own, and whoever needs the answer waits for as long as it can afford: a look for [`PATIENCE`], since the
//! first message of an incident is held up by it; the command line and the hands for as long as the store may take.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch as board;

use super::Shared;
use super::clock::Clock;
use crate::model::{Timestamp, human};
use crate::secrets::{self, Offer, SecretError, SecretRef};

/// How long a look waits for a store: less than `[policy] blip`, with room for the look itself.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// An answer that no look waited for is the next look's, which ends the one that is under way first, …
const WAITS: Duration = Duration::from_secs(5);

/// … and theirs who share the place, for so long. After that it is asked anew: people write to stores.
const TAKEN_UP: Duration = Duration::from_secs(1);

/// What a place said to one question.
pub type Answer = Result<Vec<Offer>, SecretError>;

/// An answer, and when its question was put.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Timestamp,
    pub answer: Answer,
}

/// What is known when the patience is over.
#[derive(Debug)]
pub enum Said {
    Now(Heard),
    /// It has been asked for so long and has not answered. What it said to an earlier question, if anything.
    NotYet {
        silent: Duration,
        before: Option<Heard>,
    },
}

#[derive(Debug, Default)]
struct Place {
    /// The newest answer.
    last: Option<Heard>,
    /// The newest that offered something.
    offers: Option<Vec<Offer>>,
    /// A login with what it offered was refused: that is used only while nothing newer is to be had.
    doubted: bool,
    asking: Option<Instant>,
    /// The answer to a question for which no look had waited to the end.
    late: Option<Late>,
}

#[derive(Debug)]
struct Late {
    came: Instant,
    taken: Option<Instant>,
}

impl Late {
    /// Whether it may be used; from now on it is.
    fn take(&mut self) -> bool {
        match self.taken {
            Some(taken) => taken.elapsed() < TAKEN_UP,
            None => self.came.elapsed() < WAITS && self.taken.insert(Instant::now()).elapsed() < TAKEN_UP,
        }
    }
}

/// The slow places of a configuration. A clone is the same.
#[derive(Clone, Debug)]
pub struct Stores {
    clock: Clock,
    places: Shared<BTreeMap<SecretRef, Place>>,
    /// Rung when a question has been answered.
    answered: Arc<board::Sender<u64>>,
}

impl Stores {
    pub fn new(clock: Clock) -> Stores {
        Stores { clock, places: Shared::default(), answered: Arc::new(board::channel(0).0) }
    }

    fn with<T>(&self, place: &SecretRef, work: impl FnOnce(&mut Place) -> T) -> T {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        work(places.entry(place.clone()).or_default())
    }

    /// Takes in what a place said, unless something newer is known.
    pub fn heard(&self, place: &SecretRef, heard: Heard) {
        if !place.is_slow() {
            return;
        }
        self.with(place, |known| {
            if known.last.as_ref().is_some_and(|last| last.at > heard.at) {
                return;
            }
            if let Ok(offers) = &heard.answer {
                (known.offers, known.doubted) = (Some(offers.clone()), false);
            }
            known.last = Some(heard);
        });
    }

    /// A login with what these offer was refused: the next look asks them.
    pub fn doubt(&self, places: &[&SecretRef]) {
        places.iter().filter(|place| place.is_slow()).for_each(|place| self.with(place, |known| known.doubted = true));
    }

    /// What a slow place offered last, if nobody doubts it.
    pub fn known(&self, place: &SecretRef) -> Option<Vec<Offer>> {
        if !place.is_slow() {
            return None;
        }
        self.with(place, |known| known.offers.clone().filter(|_| !known.doubted))
    }

    /// What a slow place offered last, doubted or not.
    pub fn offered(&self, place: &SecretRef) -> Option<Vec<Offer>> {
        if place.is_slow() { self.with(place, |known| known.offers.clone()) } else { None }
    }

    /// Whether a question to this place is on its way.
    pub fn is_asking(&self, place: &SecretRef) -> bool {
        place.is_slow() && self.with(place, |known| known.asking.is_some())
    }

    /// Changes whenever a question has been answered.
    pub fn answers(&self) -> board::Receiver<u64> {
        self.answered.subscribe()
    }

    /// Asks a place; without `patience`, for as long as the place itself may take. With it the question goes on when that
    /// is over, and who asks meanwhile waits for the same answer, and only for what is left of its patience.
    pub async fn ask(&self, place: &SecretRef, patience: Option<Duration>) -> Said {
        let at = self.clock.now();
        let Some(patience) = patience.filter(|_| place.is_slow()) else {
            let heard = Heard { at, answer: secrets::fetch(place).await };
            self.heard(place, heard.clone());
            return Said::Now(heard);
        };
        let (waiting, began) = self.with(place, |known| {
            if known.asking.is_none() && known.late.as_mut().is_some_and(Late::take) {
                return (known.last.clone(), Instant::now());
            }
            let began = known.asking.unwrap_or_else(Instant::now);
            if known.asking.is_none() {
                known.asking = Some(began);
                tokio::spawn(self.clone().fetch(place.clone(), at, began, patience));
            }
            (None, began)
        });
        if let Some(heard) = waiting {
            return Said::Now(heard);
        }
        let mut answers = self.answers();
        let until = tokio::time::Instant::from_std(began + patience);
        let ended = tokio::time::timeout_at(until, answers.wait_for(|_| !self.is_asking(place))).await;
        self.with(place, |known| match known.last.clone() {
            Some(heard) if ended.is_ok() => Said::Now(heard),
            before => Said::NotYet { silent: began.elapsed(), before },
        })
    }

    async fn fetch(self, place: SecretRef, at: Timestamp, began: Instant, patience: Duration) {
        let _question = Question { stores: &self, place: &place };
        let answer = secrets::fetch(&place).await;
        self.heard(&place, Heard { at, answer });
        self.with(&place, |known| {
            known.late = (began.elapsed() > patience).then(|| Late { came: Instant::now(), taken: None });
        });
    }
}

/// One on its way. However it ends, the next may be asked.
struct Question<'a> {
    stores: &'a Stores,
    place: &'a SecretRef,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.stores.with(self.place, |known| known.asking = None);
        self.stores.answered.send_modify(|count| *count += 1);
    }
}

/// What is to be said of a place that has not answered.
pub fn silence(place: &SecretRef, silent: Duration) -> String {
    format!("{place} has not answered for {}, and is waited for", human(silent))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// A store that answers once `gate` is there, and notes each question.
    struct Slow {
        place: SecretRef,
        gate: PathBuf,
        asked: PathBuf,
    }

    impl Slow {
        fn new(dir: &Path) -> Slow {
            let (program, gate, asked) = (dir.join("store"), dir.join("gate"), dir.join("asked"));
            let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
            fs::write(&program, format!("#!/bin/sh\necho >> {}\n{wait}\necho secret\n", asked.display())).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            Slow { place: SecretRef::Exec(vec![program.display().to_string()]), gate, asked }
        }

        fn questions(&self) -> usize {
            fs::read_to_string(&self.asked).unwrap_or_default().lines().count()
        }
    }

    fn offers(said: &Said) -> Option<usize> {
        match said {
            Said::Now(heard) => Some(heard.answer.as_ref().unwrap().len()),
            Said::NotYet { .. } => None,
        }
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_in_time_is_asked_once_and_its_answer_is_the_next_looks() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stores) = (Slow::new(dir.path()), Stores::new(Clock::start()));
        let mut answers = stores.answers();
        let (one, other) = tokio::join!(stores.ask(&store.place, Some(SHORT)), stores.ask(&store.place, Some(SHORT)));
        for said in [one, other] {
            let Said::NotYet { silent, before: None } = said else { panic!("{said:?}") };
            assert!(silent >= SHORT, "{silent:?}");
        }
        // The patience is the question's: who comes later does not wait anew.
        let began = Instant::now();
        assert_eq!(offers(&stores.ask(&store.place, Some(PATIENCE)).await), None);
        assert!(began.elapsed() < PATIENCE || !stores.is_asking(&store.place));
        fs::write(&store.gate, "").unwrap();
        tokio::time::timeout(Duration::from_secs(9), answers.changed()).await.unwrap().unwrap();
        assert!(!stores.is_asking(&store.place));
        let said = stores.ask(&store.place, Some(SHORT)).await;
        assert_eq!((offers(&said), store.questions()), (Some(1), 1));
        assert_eq!(stores.known(&store.place).map(|offers| offers.len()), Some(1));
    }

    /// The look that went on without the answer may last for 1.5 s more, and is the only one that could use it before.
    #[tokio::test]
    async fn a_late_answer_waits_for_the_end_of_the_look_and_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stores) = (Slow::new(dir.path()), Stores::new(Clock::start()));
        assert_eq!(offers(&stores.ask(&store.place, Some(SHORT)).await), None);
        let mut answers = stores.answers();
        fs::write(&store.gate, "").unwrap();
        tokio::time::timeout(Duration::from_secs(9), answers.changed()).await.unwrap().unwrap();
        let age = |span: Duration| {
            stores.with(&store.place, |known| {
                let late = known.late.as_mut().unwrap();
                late.came = late.came.checked_sub(span).unwrap();
                late.taken = late.taken.and_then(|taken| taken.checked_sub(span));
            });
        };
        age(Duration::from_millis(2_200));
        for _ in 0..2 {
            assert_eq!((offers(&stores.ask(&store.place, Some(SHORT)).await), store.questions()), (Some(1), 1));
        }
        age(TAKEN_UP);
        stores.ask(&store.place, Some(Duration::from_secs(9))).await;
        assert_eq!(store.questions(), 2, "what was used is old");
    }

    #[tokio::test]
    async fn a_store_that_answers_in_time_is_asked_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stores) = (Slow::new(dir.path()), Stores::new(Clock::start()));
        fs::write(&store.gate, "").unwrap();
        for questions in [1, 2] {
            assert_eq!(offers(&stores.ask(&store.place, Some(Duration::from_secs(9))).await), Some(1));
            assert_eq!(store.questions(), questions);
        }
        fs::remove_file(&store.gate).unwrap();
        let said = stores.ask(&store.place, Some(SHORT)).await;
        let Said::NotYet { before: Some(before), .. } = said else { panic!("{said:?}") };
        assert!(before.answer.is_ok(), "what it said before is told");
    }

    #[test]
    fn what_is_doubted_is_not_known_until_the_place_has_answered_again() {
        let (stores, place) = (Stores::new(Clock::start()), SecretRef::Exec(vec!["/bin/store".into()]));
        let at = |n: i64| Heard { at: Timestamp(n), answer: Ok(Vec::new()) };
        stores.heard(&place, at(2));
        stores.doubt(&[&place]);
        assert!(stores.known(&place).is_none() && stores.offered(&place).is_some());
        stores.heard(&place, at(1));
        assert!(stores.known(&place).is_none(), "an answer to an older question is no news");
        stores.heard(&place, Heard { at: Timestamp(3), answer: Err(SecretError::Denied("no".into())) });
        assert!(stores.known(&place).is_none() && stores.offered(&place).is_some());
        stores.heard(&place, at(4));
        assert!(stores.known(&place).is_some());
    }
}
