//! The story as Slack shows it best.
//!
//! Limits (Block Kit reference): header 150 characters, section text 3000, ten fields of 2000, 50 blocks. All blocks
//! together are refused somewhere above 13,000 characters (`msg_blocks_too_long`, undocumented); we stay below 12,000.

use serde_json::{Value, json};

use super::plain::{actions, answered, held, particulars, proposed, reasons, standing};
use super::{is_test, piece, refusals, summary, text};
use crate::model::incident::{Announcement, Notice, Phase};

const HEADER: usize = 150;
const FALLBACK: usize = 3000;
const SECTION: usize = 1400;
const FIELD: usize = 400;

/// The body for an incoming webhook: `text` for notifications and old clients, `blocks` for the rest.
pub fn slack(notice: &Notice) -> Value {
    let incident = &notice.incident;
    if is_test(notice) {
        return json!({ "text": escape(&summary(notice), FALLBACK), "blocks": [section(&summary(notice))] });
    }
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "emoji": false, "text": escape(&title(notice), HEADER) } }),
        section(&format!("{}.\n{}", summary(notice), standing(incident))),
        json!({ "type": "section", "fields": fields(notice) }),
    ];
    let next = if incident.phase == Phase::Resolved { "If it comes back" } else { "What to do now" };
    list(&mut blocks, "Why", &reasons(incident));
    list(&mut blocks, "Done", &actions(incident));
    list(&mut blocks, "Proposed", &proposed(incident));
    list(&mut blocks, "Answered", &answered(incident));
    list(&mut blocks, "Held back", &refusals(incident).into_iter().map(held).collect::<Vec<_>>());
    commands(&mut blocks, next, &notice.next_steps);
    json!({ "text": escape(&text(notice), FALLBACK), "blocks": blocks })
}

fn title(notice: &Notice) -> String {
    let what = match notice.event {
        Announcement::Opened => "Broken",
        Announcement::Updated => "Still broken",
        Announcement::Proposed => "Proposal",
        Announcement::Escalated => "A person is needed",
        Announcement::Resolved => "Resolved",
    };
    format!("{what}: {} on {}", piece(&notice.incident.link.replica), piece(&notice.host))
}

fn fields(notice: &Notice) -> Vec<Value> {
    let field = |(label, value): (&str, String)| mrkdwn(&format!("*{label}*\n{}", escape(&value, FIELD)));
    particulars(notice).into_iter().map(field).collect()
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(&escape(text, SECTION)) })
}

fn list(blocks: &mut Vec<Value>, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let bullets = lines.iter().map(|line| format!("• {line}")).collect::<Vec<_>>().join("\n");
        let text = format!("*{title}*\n{}", escape(&bullets, SECTION));
        blocks.push(json!({ "type": "section", "text": mrkdwn(&text) }));
    }
}

fn commands(blocks: &mut Vec<Value>, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let code = lines.iter().map(|line| piece(line)).collect::<Vec<_>>().join("\n");
        let text = format!("*{title}*\n```{}```", escape(&code, SECTION));
        blocks.push(json!({ "type": "section", "text": mrkdwn(&text) }));
    }
}

/// `verbatim` keeps Slack from making links and mentions out of plain words.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "verbatim": true, "text": text })
}

/// At most `limit` characters, none of which Slack takes for markup: `<!channel>` from a server's text stays text, a
/// back-quote ends no code, and `@here` calls nobody.
fn escape(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut left = limit.saturating_sub(1);
    for (at, c) in text.char_indices() {
        let mut one = [0; 4];
        let safe = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '`' => "'",
            // With a zero-width space it reads as before and is no mention.
            '@' if calls(&text[at + 1..]) => "@\u{200b}",
            c => c.encode_utf8(&mut one),
        };
        let width = safe.chars().count();
        if width > left {
            out.push('…');
            break;
        }
        left -= width;
        out.push_str(safe);
    }
    out
}

/// Whether what follows an `@` makes it a call to everybody.
fn calls(rest: &str) -> bool {
    ["channel", "here", "everyone", "group"]
        .iter()
        .any(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}
