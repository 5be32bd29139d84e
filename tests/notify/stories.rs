//! Incidents as they unfold, from entries, each ending in a notice.

use relinkd::model::finding::{Cause, Fact, Finding, Viewpoint};
use relinkd::model::incident::{Announcement, Entry, Incident, IncidentId, Notice, ResolvedBy, What};
use relinkd::model::remedy::{
    Action, Change, Handover, Outcome, Plan, Precondition, Refusal, RefusalCode, Remedy, Step,
};
use relinkd::model::{Endpoint, LinkId, Timestamp};

pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn primary() -> Endpoint {
    Endpoint::new("10.0.0.20", 6379)
}

fn fact(from: Viewpoint, ms: i64, saw: &str, means: &str) -> Fact {
    Fact { from, saw: saw.to_owned(), at: at(ms), means: means.to_owned() }
}

pub fn finding(cause: Cause, because: Vec<Fact>) -> Finding {
    Finding {
        cause,
        suspected: false,
        link_up: false,
        unrefused: false,
        flaps: None,
        because,
        rejected: Default::default(),
    }
}

/// The incident of a list of (millisecond, what happened), told of at the last of them.
pub fn notice(event: Announcement, happened: Vec<(i64, What)>, next_steps: &[&str]) -> Notice {
    let last = happened.last().map_or(0, |(ms, _)| *ms);
    let link = LinkId { replica: "cache".to_owned(), group: "mymaster".to_owned() };
    let incident = IncidentId("01HF7YAT00M3XQ7B2K5N8RWZ4C".to_owned());
    let mut entries = happened.into_iter().map(|(ms, what)| Entry {
        at: at(ms),
        link: link.clone(),
        incident: incident.clone(),
        what,
    });
    let mut incident = Incident::open(&entries.next().unwrap()).unwrap();
    entries.for_each(|entry| incident.take(&entry));
    incident.take(&Entry { at: at(last), link, incident: incident.id.clone(), what: What::Told { event } });
    let next_steps = next_steps.iter().map(|step| (*step).to_owned()).collect();
    Notice { at: at(last), host: "db-21".to_owned(), event, incident, next_steps }
}

pub fn opened(finding: Finding) -> (i64, What) {
    let what = What::Opened {
        finding,
        address: "10.0.0.21:6379".parse().unwrap(),
        primary: Some(primary()),
        down_at: at(0),
        diagnose_us: 400,
        look_us: 8_600,
    };
    (21, what)
}

fn wrong_password() -> Finding {
    let mut finding = finding(
        Cause::AuthRejected,
        vec![
            fact(Viewpoint::Replica, 12, "ROLE: connect", "the link is down"),
            fact(Viewpoint::Probe, 18, "AUTH → WRONGPASS", "the primary runs and refuses this password"),
        ],
    );
    finding.rejected.insert(Cause::PrimaryDown, "the primary answered WRONGPASS in 1 ms".to_owned());
    finding.rejected.insert(Cause::NetworkCut, "the primary answered WRONGPASS in 1 ms".to_owned());
    finding
}

fn no_answer() -> Finding {
    finding(
        Cause::PrimaryDown,
        vec![
            fact(Viewpoint::Probe, 15, "connection refused", "nothing listens on its port"),
            fact(Viewpoint::Sentinel, 16, "3 of 3 hold it down", "it is not only seen so from here"),
        ],
    )
}

fn plan(remedy: Remedy, changes: Vec<Change>) -> Plan {
    let steps = changes.into_iter().map(|change| Step { expect: Precondition::default(), change, within_ms: 500 });
    let expected = fact(Viewpoint::Replica, 0, "master_link_status:up", "the link is whole");
    Plan { remedy, steps: steps.collect(), undo: vec![], expected }
}

fn realign() -> Plan {
    let change = Change::RealignAuth {
        source: "file:/etc/relinkd/masterauth".to_owned(),
        version: "2023-11-14T22:13:19Z".to_owned(),
        print: "0badcafe0000".to_owned(),
        user: String::new(),
        bounce_to: primary(),
    };
    plan(Remedy::RealignAuth, vec![change, Change::ProveLink, Change::Persist])
}

fn failover() -> Plan {
    let sentinels = vec![Endpoint::new("10.0.0.11", 26379), Endpoint::new("10.0.0.12", 26379)];
    plan(
        Remedy::RequestFailover,
        vec![Change::RequestFailover { group: "mymaster".to_owned(), sentinels, how: Handover::Lost }],
    )
}

fn finished(attempt: u32, ms: i64, plan: &Plan, step: usize, outcome: Outcome, took_us: u64) -> (i64, What) {
    let what = plan.steps[step].change.describe();
    (ms, What::Finished { attempt, action: Action { remedy: plan.remedy, what, outcome, at: at(ms), took_us } })
}

fn changed(text: &str) -> Outcome {
    Outcome::Changed(text.to_owned())
}

fn held(ms: i64, code: RefusalCode, remedy: Option<Remedy>, detail: &str) -> (i64, What) {
    (ms, What::Held { refusal: Refusal { code, remedy, detail: detail.to_owned() } })
}

/// Healed within milliseconds, and told once it has settled.
pub fn healed() -> Notice {
    let plan = realign();
    let happened = vec![
        opened(wrong_password()),
        (21, What::Intended { attempt: 1, plan: plan.clone() }),
        finished(1, 27, &plan, 0, changed("masterauth set, reconnected"), 6_000),
        finished(1, 41, &plan, 1, changed("up, partial resync"), 14_000),
        finished(1, 43, &plan, 2, changed("redis.conf rewritten"), 2_100),
        (43, What::Ended { attempt: 1, outcome: changed("link up") }),
        (43, What::LinkUp { at: at(41) }),
        (3_050, What::Resolved { by: ResolvedBy::Relinkd }),
    ];
    notice(Announcement::Resolved, happened, &[])
}

/// The same a moment earlier: acted, and not yet proved.
pub fn opened_acting() -> Notice {
    let plan = realign();
    let happened = vec![
        opened(wrong_password()),
        (21, What::Intended { attempt: 1, plan: plan.clone() }),
        finished(1, 27, &plan, 0, changed("masterauth set, reconnected"), 6_000),
        (27, What::Ended { attempt: 1, outcome: changed("reconnected") }),
    ];
    notice(Announcement::Opened, happened, &["relinkd status"])
}

pub fn escalated() -> Notice {
    let happened = vec![
        opened(wrong_password()),
        held(
            21,
            RefusalCode::SecretRejected,
            Some(Remedy::RealignAuth),
            "file:/etc/relinkd/masterauth, changed 9 days ago: WRONGPASS",
        ),
        (12_000, What::Escalated { why: "the secret store looks stale: put the new password into it".to_owned() }),
    ];
    notice(
        Announcement::Escalated,
        happened,
        &["install -m 0640 NEWFILE /etc/relinkd/masterauth", "relinkd heal cache"],
    )
}

pub fn proposed() -> Notice {
    let happened = vec![
        opened(no_answer()),
        held(30, RefusalCode::TooEarly, Some(Remedy::RequestFailover), "0.1 s of 10 s"),
        held(10_000, RefusalCode::TooEarly, Some(Remedy::RequestFailover), "9.9 s of 10 s"),
        (62_000, What::Proposed { plan: failover(), expires: None }),
    ];
    notice(Announcement::Proposed, happened, &["redis-cli -h 10.0.0.11 -p 26379 SENTINEL FAILOVER mymaster"])
}

pub fn held_by_sentinel() -> Notice {
    let happened = vec![
        opened(no_answer()),
        held(
            1_000,
            RefusalCode::SentinelActing,
            Some(Remedy::RequestFailover),
            "10.0.0.11:26379 runs a failover since 0.4 s; relinkd steps in if it is given up",
        ),
    ];
    notice(Announcement::Opened, happened, &["redis-cli -p 26379 SENTINEL MASTER mymaster"])
}

pub fn updated() -> Notice {
    let happened = vec![
        opened(no_answer()),
        (14_000, What::Diagnosed { finding: wrong_password(), primary: Some(Endpoint::new("10.0.0.22", 6379)) }),
        held(14_001, RefusalCode::ObserveOnly, Some(Remedy::RealignAuth), "[policy] mode = \"observe\""),
    ];
    notice(Announcement::Updated, happened, &["relinkd heal cache"])
}

pub fn resolved_by_others() -> Notice {
    let mut happened = held_by_sentinel_entries();
    happened.push((13_200, What::LinkUp { at: at(13_200) }));
    happened.push((16_200, What::Resolved { by: ResolvedBy::Others }));
    notice(Announcement::Resolved, happened, &[])
}

fn held_by_sentinel_entries() -> Vec<(i64, What)> {
    vec![
        opened(no_answer()),
        held(1_000, RefusalCode::SentinelActing, Some(Remedy::RequestFailover), "a failover runs"),
    ]
}

pub fn suspected() -> Notice {
    let mut finding = finding(
        Cause::NetworkCut,
        vec![fact(Viewpoint::Probe, 900, "no answer in time", "packets are lost on the way, there or back")],
    );
    finding.suspected = true;
    let entries = vec![
        opened(finding),
        held(1_000, RefusalCode::EvidenceMissing, None, "one of three Sentinels has not answered yet"),
    ];
    notice(Announcement::Opened, entries, &[])
}

pub fn healed_at_the_second_attempt() -> Notice {
    let plan = realign();
    let happened = vec![
        opened(wrong_password()),
        (21, What::Intended { attempt: 1, plan: plan.clone() }),
        finished(1, 27, &plan, 0, changed("masterauth set, reconnected"), 6_000),
        finished(1, 527, &plan, 1, Outcome::Failed("still down after 500 ms: WRONGPASS".to_owned()), 500_000),
        (530, What::Ended { attempt: 1, outcome: Outcome::Failed("undone".to_owned()) }),
        held(531, RefusalCode::Cooldown, Some(Remedy::RealignAuth), "10 s, of which 10 s are left"),
        (10_600, What::Intended { attempt: 2, plan: plan.clone() }),
        finished(2, 10_607, &plan, 0, changed("masterauth set, reconnected"), 7_000),
        finished(2, 10_620, &plan, 1, changed("up, partial resync"), 13_000),
        (10_621, What::Ended { attempt: 2, outcome: changed("link up") }),
        (10_621, What::LinkUp { at: at(10_620) }),
        (13_700, What::Resolved { by: ResolvedBy::Relinkd }),
    ];
    notice(Announcement::Resolved, happened, &[])
}

/// A fault that has not broken the link yet.
pub fn latent() -> Notice {
    let mut finding = finding(
        Cause::AuthLatent,
        vec![fact(Viewpoint::Probe, 15, "AUTH → WRONGPASS", "the password in use is not accepted any more")],
    );
    finding.link_up = true;
    notice(
        Announcement::Opened,
        vec![opened(finding), held(22, RefusalCode::NoSafeRemedy, None, "the store has no newer password")],
        &[],
    )
}

pub fn all() -> Vec<(&'static str, Notice)> {
    vec![
        ("healed", healed()),
        ("opened-acting", opened_acting()),
        ("escalated", escalated()),
        ("proposed", proposed()),
        ("held-sentinel-acting", held_by_sentinel()),
        ("updated", updated()),
        ("resolved-by-others", resolved_by_others()),
        ("suspected", suspected()),
        ("healed-at-the-second-attempt", healed_at_the_second_attempt()),
        ("latent", latent()),
    ]
}
