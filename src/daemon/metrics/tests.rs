use super::*;
use crate::model::finding::{Cause, Finding};
use crate::model::remedy::{Plan, Refusal, RefusalCode};
use crate::model::{Address, Endpoint, LinkId};

const START_MS: i64 = 1_000_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + ms)
}

fn metrics() -> Metrics {
    Metrics::new(at(0)).unwrap()
}

fn entry(ms: i64, what: What) -> Entry {
    let link = LinkId { replica: "cache".to_owned(), group: "mymaster".to_owned() };
    Entry { at: at(ms), link, incident: IncidentId("01J".to_owned()), what }
}

fn opened(broke_ms: i64, seen_ms: i64, link_up: bool) -> Entry {
    let finding = Finding {
        cause: Cause::AuthRejected,
        suspected: false,
        link_up,
        unrefused: false,
        flaps: None,
        because: Vec::new(),
        rejected: BTreeMap::new(),
    };
    entry(
        seen_ms,
        What::Opened {
            finding,
            address: Address::Tcp(Endpoint::new("127.0.0.1", 6379)),
            primary: None,
            down_at: at(broke_ms),
            diagnose_us: 0,
            look_us: 10_000,
        },
    )
}

fn intended(ms: i64) -> Entry {
    let saw = crate::model::finding::Fact {
        from: crate::model::finding::Viewpoint::Replica,
        saw: String::new(),
        at: at(ms),
        means: String::new(),
    };
    let plan = Plan { remedy: Remedy::RealignAuth, steps: Vec::new(), undo: Vec::new(), expected: saw };
    entry(ms, What::Intended { attempt: 1, plan })
}

fn ended(ms: i64) -> Entry {
    entry(ms, What::Ended { attempt: 1, outcome: Outcome::Changed(String::new()) })
}

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = String::from_utf8(metrics.text().unwrap()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn an_incident_that_we_heal_is_counted_once_with_its_times() {
    let metrics = metrics();
    let up = entry(400, What::LinkUp { at: at(400) });
    let over = entry(3_400, What::Resolved { by: ResolvedBy::Relinkd });
    metrics.count(&[opened(100, 200, false), intended(210)]);
    metrics.show(&Snapshot::default());
    assert_eq!(value(&metrics, "relinkd_incident_open{cause=\"auth-rejected\",replica=\"cache\"}"), Some(1.0));
    metrics.count(&[ended(300), up, over]);
    metrics.show(&Snapshot::default());
    assert_eq!(value(&metrics, "relinkd_incident_open{cause=\"auth-rejected\",replica=\"cache\"}"), Some(0.0));
    let healed = "relinkd_incidents_total{cause=\"auth-rejected\",replica=\"cache\",resolved_by=\"relinkd\"}";
    assert_eq!(value(&metrics, healed), Some(1.0));
    let remedy = "relinkd_remedies_total{outcome=\"changed\",remedy=\"realign-auth\"}";
    assert_eq!(value(&metrics, remedy), Some(1.0));
    assert_eq!(value(&metrics, "relinkd_detect_seconds_sum"), Some(0.09));
    assert_eq!(value(&metrics, "relinkd_diagnose_seconds_sum"), Some(0.01));
    assert_eq!(value(&metrics, "relinkd_heal_seconds_sum"), Some(0.3));
}

#[test]
fn what_others_end_is_no_heal_and_a_blip_is_no_incident() {
    let metrics = metrics();
    metrics.count(&[
        opened(100, 200, false),
        entry(400, What::LinkUp { at: at(400) }),
        entry(3_400, What::Resolved { by: ResolvedBy::Others }),
        entry(9_000, What::Blip { cause: Cause::NetworkCut, down_ms: 50 }),
    ]);
    assert_eq!(value(&metrics, "relinkd_heal_seconds_count"), Some(0.0));
    let by = |cause: &str, by: &str| {
        value(&metrics, &format!("relinkd_incidents_total{{cause=\"{cause}\",replica=\"cache\",resolved_by=\"{by}\"}}"))
    };
    assert_eq!((by("auth-rejected", "others"), by("network-cut", "blip")), (Some(1.0), Some(1.0)));
}

#[test]
fn what_the_record_held_before_is_known_and_not_counted() {
    let metrics = metrics();
    metrics.know(&[opened(-9_000_000, -8_000_000, false), intended(-7_000_000)]);
    metrics.count(&[
        entry(10, What::Interrupted { attempt: 1 }),
        entry(20, What::LinkUp { at: at(20) }),
        entry(30, What::Resolved { by: ResolvedBy::Relinkd }),
    ]);
    let interrupted = "relinkd_remedies_total{outcome=\"interrupted\",remedy=\"realign-auth\"}";
    assert_eq!(value(&metrics, interrupted), Some(1.0));
    let counts = ["relinkd_detect_seconds_count", "relinkd_diagnose_seconds_count", "relinkd_heal_seconds_count"];
    assert!(counts.iter().all(|count| value(&metrics, count) == Some(0.0)), "a break of before tells no time of ours");
}

#[test]
fn a_latent_fault_has_no_time_of_detection() {
    let metrics = metrics();
    metrics.count(&[opened(100, 200, true)]);
    assert_eq!(value(&metrics, "relinkd_detect_seconds_count"), Some(0.0));
    assert_eq!(value(&metrics, "relinkd_diagnose_seconds_count"), Some(1.0));
}

#[test]
fn holds_are_counted_by_remedy_and_reason() {
    let metrics = metrics();
    let held = |remedy| {
        let refusal = Refusal { code: RefusalCode::TooEarly, remedy, detail: "not a label".to_owned() };
        entry(1, What::Held { refusal })
    };
    metrics.count(&[held(Some(Remedy::Repoint)), held(Some(Remedy::Repoint)), held(None)]);
    assert_eq!(value(&metrics, "relinkd_holds_total{refusal=\"too-early\",remedy=\"repoint\"}"), Some(2.0));
    assert_eq!(value(&metrics, "relinkd_holds_total{refusal=\"too-early\",remedy=\"none\"}"), Some(1.0));
}

#[test]
fn the_time_of_a_link_that_is_down_only_rises() {
    let metrics = metrics();
    let down = || value(&metrics, "relinkd_link_down_seconds_total{replica=\"cache\"}");
    metrics.link("cache", Some(false), at(0));
    metrics.link("cache", Some(false), at(1_000));
    assert_eq!(down(), Some(1.0));
    metrics.link("cache", Some(true), at(1_500));
    metrics.link("cache", Some(true), at(9_000));
    assert_eq!(down(), Some(1.5), "not while it is up");
    metrics.link("cache", Some(false), at(20_000));
    metrics.link("cache", None, at(19_000));
    assert_eq!(down(), Some(1.5), "a clock that steps back takes nothing away");
    metrics.link("cache", Some(false), at(30_000));
    metrics.begin_anew();
    metrics.link("cache", Some(false), at(60_000));
    assert_eq!(down(), Some(1.5), "nobody looked in between");
}

#[test]
fn events_are_counted_over_subscriptions_that_begin_anew() {
    let metrics = metrics();
    let board = |count| {
        let mut board = SentinelBoard::default();
        let link = board.links.entry(Endpoint::new("10.0.0.11", 26379)).or_default();
        link.events.insert("+sdown", count);
        board
    };
    let series = "relinkd_sentinel_events_total{event=\"+sdown\",group=\"mymaster\"}";
    metrics.heard("mymaster", &board(3));
    metrics.heard("mymaster", &board(4));
    assert_eq!(value(&metrics, series), Some(4.0));
    metrics.begin_anew();
    metrics.heard("mymaster", &board(2));
    assert_eq!(value(&metrics, series), Some(6.0));
}

#[test]
fn a_loop_that_stands_still_shows_as_lag() {
    let metrics = metrics();
    metrics.turned(Duration::from_millis(250));
    assert_eq!(value(&metrics, "relinkd_loop_lag_seconds"), Some(0.25));
    metrics.tally().turned = Instant::now().checked_sub(Duration::from_secs(31)).unwrap();
    assert!(value(&metrics, "relinkd_loop_lag_seconds") > Some(29.9));
}
