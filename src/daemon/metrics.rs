//! Counters and gauges for Prometheus, by the contract's names.
//!
//! What is counted comes out of the record: [`Metrics::count`] is called at one place, behind each entry that has become
//! durable. Counts begin at zero with the process, outlive a reload, and only rise. Gauges are set from a [`Snapshot`]
//! when somebody asks. No label holds anything that a server said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Encoder, Registry, TextEncoder};

use super::snapshot::Snapshot;
use crate::model::Timestamp;
use crate::model::incident::{Entry, Incident, IncidentId, ResolvedBy, What};
use crate::model::remedy::{Outcome, Remedy};
use crate::watch::sentinel::SentinelBoard;

mod families;

use families::{Counts, Gauges};

/// How often the loop says that it turns.
pub const BEAT: Duration = Duration::from_secs(1);

/// A loop that has not turned for this long is stalled. Longer than a reload that waits for a step in flight (11 s).
pub const STALLED: Duration = Duration::from_secs(15);

/// What becomes of one attempt to deliver a message.
pub const DELIVERIES: [&str; 4] = ["delivered", "retried", "given-up", "disabled"];

/// A remedy whose end was not recorded before the daemon ended.
const INTERRUPTED: &str = "interrupted";

/// A fault that came and went before it was an incident.
const BLIP: &str = "blip";

pub struct Metrics {
    registry: Registry,
    counts: Counts,
    gauges: Gauges,
    /// What happened before is not of this process.
    since: Timestamp,
    tally: Mutex<Tally>,
}

/// What the counting remembers.
struct Tally {
    /// The open incidents, with the remedy that was begun last in each.
    open: BTreeMap<IncidentId, (Incident, Option<Remedy>)>,
    /// The causes under which an incident was open, by replica.
    shown: BTreeSet<(String, &'static str)>,
    /// The last moment at which a link was known to be down, by replica.
    down: BTreeMap<String, Timestamp>,
    /// How many events of a name the present subscriptions had counted, by group.
    heard: BTreeMap<(String, &'static str), u64>,
    turned: Instant,
    late: Duration,
}

impl Metrics {
    /// All at zero. It fails only on a name that is none, or that stands twice.
    pub fn new(since: Timestamp) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let (counts, gauges) = (Counts::register(&registry)?, Gauges::register(&registry)?);
        let tally = Tally {
            open: BTreeMap::new(),
            shown: BTreeSet::new(),
            down: BTreeMap::new(),
            heard: BTreeMap::new(),
            turned: Instant::now(),
            late: Duration::ZERO,
        };
        let metrics = Metrics { registry, counts, gauges, since, tally: Mutex::new(tally) };
        let ends = [
            Outcome::Changed(String::new()),
            Outcome::UnderWay(String::new()),
            Outcome::AlreadySo(String::new()),
            Outcome::PreconditionGone(String::new()),
            Outcome::Failed(String::new()),
        ];
        for remedy in Remedy::ALL {
            for end in ends.iter().map(Outcome::code).chain([INTERRUPTED]) {
                metrics.counts.remedies.with_label_values(&[remedy.code(), end]);
            }
        }
        Ok(metrics)
    }

    /// Series that an alert may wait for exist from the start.
    pub fn expect<'a>(&self, replicas: impl Iterator<Item = &'a String>, channels: impl Iterator<Item = &'a String>) {
        for replica in replicas {
            self.counts.link_down_seconds.with_label_values(&[replica]);
        }
        for channel in channels {
            for outcome in DELIVERIES {
                self.counts.notifications.with_label_values(&[channel.as_str(), outcome]);
            }
        }
    }

    /// Takes in what the record held before this life of the daemon: nothing of it is counted.
    pub fn know(&self, entries: &[Entry]) {
        let mut tally = self.tally();
        entries.iter().for_each(|entry| tally.fold(entry));
    }

    /// Counts entries that have just become durable.
    pub fn count(&self, entries: &[Entry]) {
        let mut tally = self.tally();
        for entry in entries {
            let replica = entry.link.replica.as_str();
            match &entry.what {
                What::Blip { cause, .. } => {
                    self.counts.incidents.with_label_values(&[replica, cause.code(), BLIP]).inc()
                }
                What::Held { refusal } => {
                    let remedy = refusal.remedy.map_or("none", Remedy::code);
                    self.counts.holds.with_label_values(&[remedy, refusal.code.code()]).inc();
                }
                What::Opened { .. } => self.opened(entry),
                What::Ended { outcome, .. } => self.ended(&tally, entry, outcome.code()),
                What::Interrupted { .. } => self.ended(&tally, entry, INTERRUPTED),
                What::Resolved { by } => self.resolved(&tally, entry, *by),
                _ => {}
            }
            tally.fold(entry);
        }
    }

    fn opened(&self, entry: &Entry) {
        let Some(incident) = Incident::open(entry) else { return };
        let diagnose = Duration::from_micros(incident.diagnose_us.saturating_add(incident.look_us));
        self.counts.diagnose.observe(diagnose.as_secs_f64());
        // A break before our start, and a fault that has not broken the link, have no moment to count from.
        if !incident.finding.link_up && incident.down_at >= self.since {
            let detect = incident.opened_at.since(incident.down_at).saturating_sub(diagnose);
            self.counts.detect.observe(detect.as_secs_f64());
        }
    }

    fn ended(&self, tally: &Tally, entry: &Entry, outcome: &str) {
        if let Some(remedy) = tally.open.get(&entry.incident).and_then(|(_, remedy)| *remedy) {
            self.counts.remedies.with_label_values(&[remedy.code(), outcome]).inc();
        }
    }

    fn resolved(&self, tally: &Tally, entry: &Entry, by: ResolvedBy) {
        let Some((incident, _)) = tally.open.get(&entry.incident) else { return };
        let whose = match by {
            ResolvedBy::Relinkd => "relinkd",
            ResolvedBy::Others => "others",
            // It is not over, it is out of sight.
            ResolvedBy::Unwatched => return,
        };
        let cause = incident.finding.cause.code();
        self.counts.incidents.with_label_values(&[entry.link.replica.as_str(), cause, whose]).inc();
        let broke = incident.up_at.filter(|up| *up > incident.opened_at && incident.down_at >= self.since);
        if let (ResolvedBy::Relinkd, Some(up)) = (by, broke) {
            self.counts.heal.observe(up.since(incident.down_at).as_secs_f64());
        }
    }

    /// One attempt to deliver a message has ended.
    pub fn delivery(&self, channel: &str, outcome: &'static str) {
        self.counts.notifications.with_label_values(&[channel, outcome]).inc();
    }

    /// The loop turned, so much later than it meant to.
    pub fn turned(&self, late: Duration) {
        let mut tally = self.tally();
        tally.turned = Instant::now();
        tally.late = late;
    }

    /// For how long the loop has not turned.
    pub fn standstill(&self) -> Duration {
        self.tally().turned.elapsed()
    }

    /// A look has ended: while a link is down, the time since it was last known to be down is time that it was down.
    pub fn link(&self, replica: &str, up: Option<bool>, now: Timestamp) {
        let mut tally = self.tally();
        if let Some(before) = tally.down.remove(replica) {
            self.counts.link_down_seconds.with_label_values(&[replica]).inc_by(now.since(before).as_secs_f64());
        }
        if up == Some(false) {
            tally.down.insert(replica.to_owned(), now);
        }
    }

    /// Events that the subscriptions of a group have counted since they were made.
    pub fn heard(&self, group: &str, board: &SentinelBoard) {
        let mut tally = self.tally();
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (name, count) in board.links.values().flat_map(|link| &link.events) {
            *sums.entry(name).or_default() += count;
        }
        for (name, sum) in sums {
            let before = tally.heard.insert((group.to_owned(), name), sum).unwrap_or(0);
            self.counts.sentinel_events.with_label_values(&[group, name]).inc_by(sum.saturating_sub(before));
        }
    }

    /// The next subscriptions begin to count anew, and so does the time of a link that is down.
    pub fn begin_anew(&self) {
        let mut tally = self.tally();
        tally.heard.clear();
        tally.down.clear();
        tally.shown.clear();
        self.gauges.reset();
    }

    /// Sets the gauges to what is so now.
    pub fn show(&self, snapshot: &Snapshot) {
        self.gauges.link_up.reset();
        for status in &snapshot.replicas {
            let replica = status.replica.as_str();
            self.link(replica, status.link_up, snapshot.at);
            if let Some(up) = status.link_up {
                self.gauges.link_up.with_label_values(&[replica]).set(i64::from(up));
            }
        }
        self.show_open();
        self.gauges.sentinels_connected.reset();
        for (group, board) in &snapshot.boards {
            self.heard(group, board);
            let connected = i64::try_from(board.connected()).unwrap_or(i64::MAX);
            self.gauges.sentinels_connected.with_label_values(&[group]).set(connected);
        }
        self.gauges.secret_age.reset();
        for (secret, since) in &snapshot.secrets {
            let age = snapshot.at.since(*since).as_secs_f64();
            self.gauges.secret_age.with_label_values(&[secret]).set(age);
        }
        self.gauges.secret_mismatch.reset();
        for (replica, differs) in &snapshot.mismatches {
            self.gauges.secret_mismatch.with_label_values(&[replica]).set(i64::from(*differs));
        }
        self.gauges.paused.set(i64::from(!snapshot.pauses.is_empty()));
    }

    /// A cause that was shown once goes to zero, so that a graph comes down.
    fn show_open(&self) {
        let mut tally = self.tally();
        let open: BTreeSet<(String, &'static str)> = tally
            .open
            .values()
            .map(|(incident, _)| (incident.link.replica.clone(), incident.finding.cause.code()))
            .collect();
        tally.shown.extend(open.iter().cloned());
        for one in &tally.shown {
            let labels = [one.0.as_str(), one.1];
            self.gauges.incident_open.with_label_values(&labels).set(i64::from(open.contains(one)));
        }
    }

    /// How many messages wait, by channel; what cannot be read is left out.
    pub fn outbox(&self, pending: &[(String, u64)]) {
        self.gauges.outbox_pending.reset();
        for (channel, count) in pending {
            self.gauges.outbox_pending.with_label_values(&[channel]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let (standstill, late) = (self.standstill(), self.tally().late);
        self.gauges.loop_lag.set(standstill.saturating_sub(BEAT).max(late).as_secs_f64());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn fold(&mut self, entry: &Entry) {
        if let Some(incident) = Incident::open(entry) {
            self.open.insert(entry.incident.clone(), (incident, None));
            return;
        }
        let Some((incident, remedy)) = self.open.get_mut(&entry.incident) else { return };
        incident.take(entry);
        if let What::Intended { plan, .. } = &entry.what {
            *remedy = Some(plan.remedy);
        }
        if !incident.is_open() {
            self.open.remove(&entry.incident);
        }
    }
}

#[cfg(test)]
mod tests;
