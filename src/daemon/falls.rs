//! What becomes of a task that panics. None of them is to: but one that did would leave its instance unwatched, its
//! channel silent or its secret unread, and nobody would hear of it. So each runs beneath an alarm; the loop hears it, says
//! so, and everything is assembled anew, at once for the first time and ever later while it happens again: the other
//! instances are looked at meanwhile. The loop itself needs no alarm, it is the process: systemd starts it again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Daemon;
use crate::model::{Timestamp, human};

/// For so long a fall counts.
const HOUR: Duration = Duration::from_secs(3600);

/// The longest wait before everything begins anew.
const LONGEST: Duration = Duration::from_secs(300);

/// A task that has fallen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// In words, such as `the runner of cache`.
    pub what: String,
    /// The instance that nobody looks at without it.
    pub runner: Option<usize>,
}

/// Rings when a task that runs beneath it panics.
#[derive(Clone, Debug)]
pub struct Alarm(mpsc::UnboundedSender<Fallen>);

struct Armed {
    alarm: Alarm,
    fallen: Fallen,
}

impl Drop for Armed {
    fn drop(&mut self) {
        // A task that ended, or that was cut off, is let go of in peace.
        if std::thread::panicking() {
            // The loop has gone: then it hears of nothing any more.
            let _ = self.alarm.0.send(self.fallen.clone());
        }
    }
}

impl Alarm {
    pub fn new() -> (Alarm, mpsc::UnboundedReceiver<Fallen>) {
        let (bell, heard) = mpsc::unbounded_channel();
        (Alarm(bell), heard)
    }

    /// The task, beneath this alarm.
    pub fn over<F: Future<Output = ()>>(&self, what: String, task: F) -> impl Future<Output = ()> + use<F> {
        self.arm(Fallen { what, runner: None }, task)
    }

    /// The same for the runner of one instance.
    pub fn over_runner<F: Future<Output = ()>>(
        &self,
        (index, name): (usize, &str),
        task: F,
    ) -> impl Future<Output = ()> + use<F> {
        self.arm(Fallen { what: format!("the runner of {name}"), runner: Some(index) }, task)
    }

    fn arm<F: Future<Output = ()>>(&self, fallen: Fallen, task: F) -> impl Future<Output = ()> + use<F> {
        let armed = Armed { alarm: self.clone(), fallen };
        async move {
            let _armed = armed;
            task.await;
        }
    }
}

/// The falls of the last hour, over all lives of the assembly.
#[derive(Clone, Debug, Default)]
pub struct Falls {
    recent: Vec<Instant>,
    last: Option<(Timestamp, String)>,
    /// What is down until everything begins anew, and when that will be.
    down: Option<Down>,
}

#[derive(Clone, Debug)]
struct Down {
    unwatched: BTreeSet<usize>,
    again: (Instant, Timestamp),
}

impl Falls {
    /// A task has fallen: when everything begins anew.
    pub fn fell(&mut self, fallen: Fallen, (now, at): (Instant, Timestamp)) -> Instant {
        self.recent.retain(|fall| now.duration_since(*fall) < HOUR);
        self.recent.push(now);
        self.last = Some((at, fallen.what));
        let pause = pause(self.recent.len());
        let down = self.down.get_or_insert(Down { unwatched: BTreeSet::new(), again: (now + pause, at.after(pause)) });
        down.unwatched.extend(fallen.runner);
        down.again.0
    }

    /// Everything has begun anew.
    pub fn over(&mut self) {
        self.down = None;
    }

    /// Instances that nobody looks at.
    pub fn unwatched(&self) -> BTreeSet<usize> {
        self.down.as_ref().map(|down| down.unwatched.clone()).unwrap_or_default()
    }

    /// What is down now, in a sentence.
    pub fn sentence(&self) -> Option<String> {
        let (down, (_, what)) = (self.down.as_ref()?, self.last.as_ref()?);
        Some(format!("{what} ended in a panic (see the log); everything begins anew at {}", down.again.1))
    }

    /// For `status --json`: none where nothing fell within an hour.
    pub fn told(&self) -> Value {
        let recent = self.recent.iter().filter(|fall| fall.elapsed() < HOUR).count();
        let Some((at, what)) = self.last.as_ref().filter(|_| recent > 0) else { return Value::Null };
        json!({
            "within_an_hour": recent,
            "last": what,
            "at": at.to_string(),
            "begins_anew": self.down.as_ref().map(|down| down.again.1.to_string()),
        })
    }
}

/// At once after the first fall of an hour; then a second, and four times as long each time.
fn pause(falls: usize) -> Duration {
    match u32::try_from(falls.saturating_sub(2)) {
        _ if falls < 2 => Duration::ZERO,
        Ok(times) => Duration::from_secs(4_u64.saturating_pow(times)).min(LONGEST),
        Err(_) => LONGEST,
    }
}

impl Daemon {
    /// A task has fallen: said, and noted for whoever asks.
    pub(super) fn fell(&mut self, fallen: Fallen) {
        let (now, at) = (Instant::now(), self.clock.now());
        if let Some(link) = fallen.runner.and_then(|index| self.links.get(index)) {
            self.metrics.link(&link.replica, None, at);
        }
        let again = self.falls().fell(fallen.clone(), (now, at));
        let pause = again.saturating_duration_since(now);
        tracing::error!(
            "{} ended in a panic, which is a fault of relinkd's: please report it with the lines above; everything begins \
             anew {}",
            fallen.what,
            if pause.is_zero() { "now".to_owned() } else { format!("in {}", human(pause)) }
        );
        self.anew.get_or_insert(tokio::time::Instant::from_std(again));
        self.say();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;
    use crate::daemon::metrics::Metrics;
    use crate::daemon::{Doors, Ended, Lasting, Signals};

    async fn boom() {
        tokio::task::yield_now().await;
        panic!("for the test");
    }

    #[tokio::test]
    async fn a_panic_is_heard_and_an_end_or_a_cut_is_not() {
        let (alarm, mut heard) = Alarm::new();
        tokio::spawn(alarm.over("the one that ends".to_owned(), async {})).await.unwrap();
        let cut = tokio::spawn(alarm.over("the one that is cut off".to_owned(), std::future::pending()));
        tokio::task::yield_now().await;
        cut.abort();
        assert!(cut.await.unwrap_err().is_cancelled());
        assert!(tokio::spawn(alarm.over_runner((3, "cache"), boom())).await.unwrap_err().is_panic());
        drop(alarm);
        assert_eq!(heard.recv().await, Some(Fallen { what: "the runner of cache".into(), runner: Some(3) }));
        assert_eq!(heard.recv().await, None);
    }

    #[test]
    fn what_falls_again_and_again_is_begun_anew_ever_later_and_is_forgiven_in_an_hour() {
        let (began, at) = (Instant::now(), Timestamp(0));
        let mut falls = Falls::default();
        let mut now = began;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let fallen = Fallen { what: "the runner of cache".into(), runner: Some(0) };
            let again = falls.fell(fallen, (now, at));
            waits.push((again - now).as_secs());
            now = again;
            falls.over();
        }
        assert_eq!(waits, [0, 1, 4, 16, 64, 256, 300, 300]);
        let fallen = Fallen { what: "the log of cache".into(), runner: None };
        assert_eq!(falls.fell(fallen, (now + HOUR, at)), now + HOUR);
    }

    #[test]
    fn another_fall_meanwhile_moves_nothing() {
        let (now, at) = (Instant::now(), Timestamp(0));
        let fallen = |index: usize| Fallen { what: format!("the runner of {index}"), runner: Some(index) };
        let mut falls = Falls::default();
        falls.fell(fallen(0), (now, at));
        falls.over();
        let again = falls.fell(fallen(1), (now, at));
        assert_eq!(falls.fell(fallen(2), (now, at)), again);
        assert_eq!(falls.unwatched(), BTreeSet::from([1, 2]));
        assert!(falls.sentence().unwrap().starts_with("the runner of 2 ended in a panic"));
        falls.over();
        assert_eq!((falls.unwatched(), falls.sentence()), (BTreeSet::new(), None));
        assert_eq!(falls.told()["within_an_hour"], 3);
    }

    async fn fallen_runner(settings: &Settings, lasting: &Lasting) -> Daemon {
        let mut daemon = Daemon::assemble(settings, lasting).await.unwrap();
        let falls = daemon.alarm.over_runner((0, "cache"), boom());
        daemon.runner_tasks.spawn(falls);
        daemon
    }

    /// An instance whose runner has panicked is told as unwatched, and everything begins anew: at once, and a second later
    /// when it happens again.
    #[tokio::test]
    async fn after_a_panic_everything_begins_anew_and_until_then_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path();
        let text = format!("[agent]\nstate_dir = {state_dir:?}\n[replica.cache]\naddress = \"127.0.0.1:1\"\n");
        let settings = crate::config::parse(&[("config.toml".into(), text)]).unwrap();
        let metrics = Arc::new(Metrics::new(Timestamp(1)).unwrap());
        let mut lasting = Lasting::new(metrics, Duration::from_secs(9));
        let (mut signals, nowhere) = (Signals::new().unwrap(), Path::new("/nonexistent"));
        let mut doors = Doors { asked: mpsc::channel(1).1, peeks: mpsc::channel(1).1 };
        let sentence = || lasting.falls.lock().unwrap().sentence();

        let (ended, _) = fallen_runner(&settings, &lasting).await.live(nowhere, &mut signals, &mut doors).await;
        assert!(matches!(ended, Ended::Reload(same) if same.replicas == settings.replicas));
        assert!(sentence().unwrap().starts_with("the runner of cache ended in a panic"));

        let mut daemon = fallen_runner(&settings, &lasting).await;
        assert_eq!(sentence(), None, "it was begun anew");
        let fallen = daemon.fallen.recv().await.unwrap();
        let began = Instant::now();
        daemon.fell(fallen);
        let told = daemon.snapshot();
        assert_eq!((told.replicas[0].looked_at, told.replicas[0].link_up), (None, None));
        assert!(told.replicas[0].sentence.starts_with("nobody looks at it: the runner of cache"), "{told:?}");
        assert!(told.not_ready().is_some_and(|why| why.contains("nobody looks at it")));
        assert_eq!(told.panics["within_an_hour"], 2);
        assert!(told.panics["begins_anew"].is_string() && daemon.sentence().contains("begins anew at"));
        assert!(matches!(daemon.live(nowhere, &mut signals, &mut doors).await, (Ended::Reload(_), _)));
        assert!(began.elapsed() >= Duration::from_secs(1), "it does not spin");

        let daemon = Daemon::assemble(&settings, &lasting).await.unwrap();
        assert_eq!((sentence(), &daemon.snapshot().panics["begins_anew"]), (None, &Value::Null));

        std::fs::remove_dir_all(state_dir).unwrap();
        assert!(matches!(Daemon::assemble(&settings, &lasting).await, Err(super::super::DaemonError::StateDir(..))));
        lasting.lived = true;
        let daemon = Daemon::assemble(&settings, &lasting).await.unwrap();
        assert!(daemon.unread, "it watches, and asks for the ledger again");
    }
}
