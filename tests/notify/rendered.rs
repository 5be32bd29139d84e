//! What messages say. `UPDATE=1 cargo test --test notify` writes the kept ones anew, for a person to read the diff.

use std::path::Path;

use relinkd::model::finding::Cause;
use relinkd::model::incident::{Announcement, Phase, ResolvedBy, What};
use relinkd::model::remedy::{RefusalCode, Remedy};
use relinkd::notify::render::{self, Timings};
use serde_json::Value;

use super::{schema, stories};

const EVENTS: [Announcement; 5] = [
    Announcement::Opened,
    Announcement::Updated,
    Announcement::Proposed,
    Announcement::Escalated,
    Announcement::Resolved,
];

#[test]
fn messages_read_as_kept() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/messages");
    for (name, notice) in stories::all() {
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap() + "\n";
        let rendered = [
            ("txt", render::text(&notice)),
            ("json", pretty(&render::report(&notice))),
            ("slack.json", pretty(&render::slack(&notice))),
        ];
        for (kind, text) in rendered {
            let file = dir.join(format!("{name}.{kind}"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&file, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(text, kept, "{} differs; UPDATE=1 writes it anew", file.display());
        }
    }
}

#[test]
fn reports_hold_to_the_published_schema() {
    let schema = schema::published();
    for (name, notice) in stories::all() {
        let report = render::report(&notice);
        assert_eq!(schema::problems(&schema, &schema, &report, name), Vec::<String>::new());
    }
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = schema::published();
    let wrong = |key: &str, value: Value| {
        let mut report = render::report(&stories::healed());
        report[key] = value;
        !schema::problems(&schema, &schema, &report, "").is_empty()
    };
    assert!(wrong("version", 2.into()));
    assert!(wrong("event", "exploded".into()));
    assert!(wrong("opened_at", "yesterday".into()));
    assert!(wrong("host", Value::Null));
    assert!(wrong("because", serde_json::json!([{"from": "probe"}])));
    assert!(wrong("not_described", 1.into()));
    assert!(!wrong("primary", Value::Null));
}

#[test]
fn the_stages_add_up_to_the_total() {
    let timings = Timings::of(&stories::healed().incident);
    let expected = Timings {
        detect: Some(12),
        diagnose: Some(9),
        decide: Some(0),
        act: Some(6),
        verify: Some(14),
        total: Some(41),
    };
    assert_eq!(timings, expected);
    let others = Timings::of(&stories::resolved_by_others().incident);
    assert_eq!((others.decide, others.act, others.verify, others.total), (None, None, None, Some(13_200)));
    let latent = Timings::of(&stories::latent().incident);
    assert_eq!((latent.detect, latent.diagnose, latent.total), (None, Some(9), None));
}

#[test]
fn a_healed_incident_is_told_as_the_contract_has_it() {
    assert_eq!(render::summary(&stories::healed()), "cache relinked in 41 ms: masterauth was stale after a rotation");
}

#[test]
fn a_reason_that_comes_and_goes_is_told_once_in_its_latest_words() {
    let mut notice = stories::proposed();
    let refusal = |code, detail: &str| relinkd::model::remedy::Refusal {
        code,
        remedy: Some(Remedy::RequestFailover),
        detail: detail.to_owned(),
    };
    notice.incident.held = (0..50)
        .flat_map(|n| [(RefusalCode::TooEarly, n), (RefusalCode::Tilt, n)])
        .map(|(code, n)| refusal(code, &format!("time {n}")))
        .collect();
    let held = render::report(&notice)["held"].clone();
    let said: Vec<_> =
        held.as_array().unwrap().iter().map(|it| (it["refusal"].clone(), it["detail"].clone())).collect();
    assert_eq!(said, [("too-early".into(), "time 49".into()), ("tilt".into(), "time 49".into())]);
}

#[test]
fn an_incident_that_ends_without_a_link_is_over_all_the_same() {
    let mut notice = stories::held_by_sentinel();
    notice.event = Announcement::Resolved;
    notice.incident.phase = Phase::Resolved;
    notice.incident.resolved_at = Some(stories::at(9_000));
    assert_eq!(render::summary(&notice), "cache is sound again: the primary was down");
    let text = render::text(&notice);
    assert!(text.contains("It is over.") && !text.contains("still down"), "{text}");
}

/// Every cause, in every announcement, held for every reason: one sentence, in words.
#[test]
fn summaries_are_single_sentences_without_codes() {
    for cause in Cause::ALL {
        for event in EVENTS {
            let mut finding = stories::finding(*cause, vec![]);
            finding.link_up = *cause == Cause::AuthLatent;
            let mut happened = vec![stories::opened(finding)];
            if event == Announcement::Resolved {
                happened.push((5_000, What::LinkUp { at: stories::at(5_000) }));
                happened.push((8_000, What::Resolved { by: ResolvedBy::Others }));
            }
            let mut notice = stories::notice(event, happened, &[]);
            for code in RefusalCode::ALL {
                notice.incident.held =
                    vec![relinkd::model::remedy::Refusal { code: *code, remedy: None, detail: String::new() }];
                let said = render::summary(&notice);
                assert!(said.starts_with("cache ") && !said.contains('\n'), "{said}");
                assert!(said.chars().count() <= 320, "{said}");
                let codes = Cause::ALL.iter().map(|it| it.code()).chain(RefusalCode::ALL.iter().map(|it| it.code()));
                for code in codes.filter(|code| code.contains('-')) {
                    assert!(!said.contains(code), "{code} in: {said}");
                }
            }
        }
    }
}

#[test]
fn each_remedy_has_words_of_its_own() {
    let mut said = std::collections::BTreeSet::new();
    for remedy in Remedy::ALL {
        let mut notice = stories::proposed();
        notice.incident.proposal.as_mut().unwrap().remedy = *remedy;
        said.insert(render::summary(&notice));
    }
    assert_eq!(said.len(), Remedy::ALL.len());
}

/// Server text that tries to call everybody, to break out of code and to flood.
#[test]
fn hostile_text_stays_text_and_within_the_limits() {
    let hostile = "<!channel> @here @Everyone <https://evil.example|click> ``` & \u{1b}[31m\n*bold* ".repeat(100);
    let mut notice = stories::escalated();
    let incident = &mut notice.incident;
    incident.escalation = Some(hostile.clone());
    incident.link.replica = hostile.clone();
    incident.phase = Phase::Escalated;
    for fact in &mut incident.finding.because {
        fact.saw = hostile.clone();
        fact.means = hostile.clone();
    }
    let fact = incident.finding.because[0].clone();
    incident.finding.because = vec![fact; 60];
    incident.held[0].detail = hostile.clone();
    let action = stories::healed().incident.actions.remove(0);
    incident.actions = vec![action; 500];
    notice.next_steps = vec![hostile; 30];

    let body = render::slack(&notice);
    let mut total = 0;
    let blocks = body["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    for block in blocks {
        let limit = if block["type"] == "header" { 150 } else { 3000 };
        let fields = block["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.len() <= 10);
        for (text, limit) in fields.iter().map(|field| (field, 2000)).chain(block.get("text").map(|text| (text, limit)))
        {
            let text = text["text"].as_str().unwrap();
            assert!(!text.is_empty() && text.chars().count() <= limit, "{text}");
            total += text.chars().count();
        }
    }
    assert!(total < 12_000, "{total} characters in all blocks");
    assert!(body["text"].as_str().unwrap().chars().count() <= 3000);
    let wire = body.to_string();
    for bad in ["<!", "<http", "@here", "@Everyone", "\\u001b"] {
        assert!(!wire.contains(bad), "{bad} went through");
    }
    assert_eq!(wire.matches("```").count(), 2, "only our own code fence");

    let report = render::report(&notice);
    let schema = schema::published();
    assert_eq!(schema::problems(&schema, &schema, &report, ""), Vec::<String>::new());
    assert_eq!(report["actions"].as_array().unwrap().len(), 20);
    assert!(!render::text(&notice).contains('\u{1b}'));
}
