//! The families by name, help and labels. What they mean to a reader stands in docs/prometheus/README.md.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};

const DETECT: &[f64] = &[0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0];
const DIAGNOSE: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];
const HEAL: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// What only rises.
pub struct Counts {
    pub link_down_seconds: CounterVec,
    pub incidents: IntCounterVec,
    pub remedies: IntCounterVec,
    pub holds: IntCounterVec,
    pub detect: Histogram,
    pub diagnose: Histogram,
    pub heal: Histogram,
    pub sentinel_events: IntCounterVec,
    pub notifications: IntCounterVec,
}

/// What is so now.
pub struct Gauges {
    pub link_up: IntGaugeVec,
    pub incident_open: IntGaugeVec,
    pub sentinels_connected: IntGaugeVec,
    pub secret_age: GaugeVec,
    pub secret_mismatch: IntGaugeVec,
    pub outbox_pending: IntGaugeVec,
    pub paused: IntGauge,
    pub loop_lag: Gauge,
}

impl Counts {
    pub fn register(all: &Registry) -> Result<Counts> {
        let labels = ["replica"];
        let down = named("link_down_seconds_total", "Seconds for which the link to the primary was seen down");
        Ok(Counts {
            link_down_seconds: kept(all, CounterVec::new(down, &labels)?)?,
            incidents: counter(
                all,
                "incidents_total",
                "Incidents that are over, by what ended them (relinkd, others), and blips, which never became one",
                &["replica", "cause", "resolved_by"],
            )?,
            remedies: counter(all, "remedies_total", "Runs of a remedy, by how each ended", &["remedy", "outcome"])?,
            holds: counter(
                all,
                "holds_total",
                "Times that relinkd began to hold back, by remedy (none where no remedy exists) and reason",
                &["remedy", "refusal"],
            )?,
            detect: histogram(all, "detect_seconds", "From the break of a link to the look that found it", DETECT)?,
            diagnose: histogram(
                all,
                "diagnose_seconds",
                "How long the look that opened an incident took, and the verdict on it",
                DIAGNOSE,
            )?,
            heal: histogram(
                all,
                "heal_seconds",
                "From the break of a link until it was up again, where relinkd healed it",
                HEAL,
            )?,
            sentinel_events: counter(
                all,
                "sentinel_events_total",
                "Events heard from the Sentinels of a group; each Sentinel tells its own view",
                &["group", "event"],
            )?,
            notifications: counter(
                all,
                "notifications_total",
                "Attempts to deliver a message, by what came of each",
                &["channel", "outcome"],
            )?,
        })
    }
}

impl Gauges {
    pub fn register(all: &Registry) -> Result<Gauges> {
        let build = gauge(all, "build_info", "1, with the version that runs", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let age = named(
            "secret_age_seconds",
            "Time since a secret was changed, or since it was first seen where its store tells no time",
        );
        Ok(Gauges {
            link_up: gauge(
                all,
                "link_up",
                "1: the link to the primary is up; 0: it is down; absent: the instance is a primary or was not seen",
                &["replica"],
            )?,
            incident_open: gauge(
                all,
                "incident_open",
                "1 while an incident is open under this cause",
                &["replica", "cause"],
            )?,
            sentinels_connected: gauge(all, "sentinels_connected", "Sentinels that are listened to", &["group"])?,
            secret_age: kept(all, GaugeVec::new(age, &["secret"])?)?,
            secret_mismatch: gauge(
                all,
                "secret_mismatch",
                "1 while the instance's masterauth is another than the secret store holds",
                &["replica"],
            )?,
            outbox_pending: gauge(all, "outbox_pending", "Messages that wait to be delivered", &["channel"])?,
            paused: kept(all, IntGauge::with_opts(named("paused", "1 while relinkd watches and changes nothing"))?)?,
            loop_lag: kept(all, Gauge::with_opts(named("loop_lag_seconds", "How late the daemon's loop turned"))?)?,
        })
    }

    /// A series of something that is gone must not stay.
    pub fn reset(&self) {
        self.link_up.reset();
        self.incident_open.reset();
        self.sentinels_connected.reset();
        self.secret_age.reset();
        self.secret_mismatch.reset();
        self.outbox_pending.reset();
    }
}

fn named(name: &str, help: &str) -> Opts {
    Opts::new(format!("relinkd_{name}"), help)
}

/// Registers a family, and hands it back.
fn kept<C: Collector + Clone + 'static>(all: &Registry, family: C) -> Result<C> {
    all.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(all: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    kept(all, IntGaugeVec::new(named(name, help), labels)?)
}

fn counter(all: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    kept(all, IntCounterVec::new(named(name, help), labels)?)
}

fn histogram(all: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    let named = HistogramOpts::new(format!("relinkd_{name}"), help);
    kept(all, Histogram::with_opts(named.buckets(buckets.to_vec()))?)
}
