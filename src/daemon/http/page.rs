//! The status page: one file, no script, nothing from elsewhere. Everything that is not ours is escaped.

use std::fmt::{Display, Write as _};

use crate::agent::Status;
use crate::daemon::snapshot::Snapshot;
use crate::model::human;
use crate::model::incident::Incident;

/// The newest incidents that the page lists.
pub const INCIDENTS: usize = 20;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;\
color-scheme:light dark}table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;vertical-align:top}\
.good{color:#2a8a3e}.bad{color:#d33;font-weight:600}.doubt{color:#b80}code{font-size:.93em}small{opacity:.7}";

pub fn render(host: &str, snapshot: &Snapshot, incidents: &Result<Vec<Incident>, String>) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let sentence = Snapshot::sentence(&snapshot.replicas);
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>relinkd on {host}</title>\
         <style>{STYLE}</style></head><body><h1>relinkd on {host}</h1><p>{sentence}</p>",
        host = Escaped(host),
        sentence = Escaped(sentence),
    );
    standing(&mut out, snapshot);
    replicas(&mut out, snapshot);
    sentinels(&mut out, snapshot);
    record(&mut out, incidents);
    let _ = writeln!(
        out,
        "<p><small>relinkd {} at {} · <a href=\"metrics\">metrics</a> · <a href=\"api/v1/status\">status</a> · \
         <a href=\"api/v1/incidents\">incidents</a></small></p></body></html>",
        env!("CARGO_PKG_VERSION"),
        snapshot.at,
    );
    out
}

/// What holds for more than one instance: it comes first, as in `relinkd status`.
fn standing(out: &mut String, snapshot: &Snapshot) {
    for pause in &snapshot.pauses {
        let _ = write!(
            out,
            "<p><span class=\"doubt\">paused</span> {}, by {}, until {}: {}</p>",
            Escaped(&pause.scope),
            Escaped(&pause.owner),
            pause.ends,
            Escaped(&pause.reason),
        );
    }
    if let Some(stopped) = &snapshot.stopped {
        let _ = write!(
            out,
            "<p><span class=\"bad\">stopped</span> {} remedies in a row failed, the last was {}; nothing more is tried \
             on this host until a person says <code>relinkd ack ID --by NAME</code></p>",
            stopped.in_a_row,
            Escaped(&stopped.last),
        );
    }
    if let (Some(what), Some(at)) = (snapshot.panics["last"].as_str(), snapshot.panics["at"].as_str()) {
        let _ = write!(out, "<p><span class=\"bad\">panicked</span> {}, at {at}; see the log</p>", Escaped(what));
    }
}

fn replicas(out: &mut String, snapshot: &Snapshot) {
    let _ = write!(out, "<h2>Instances</h2><table><tr><th>name<th>address<th>follows<th>link<th>how it stands");
    for status in &snapshot.replicas {
        let follows = match (&status.primary, status.role.as_str()) {
            (Some(primary), _) => primary.to_string(),
            (None, role) => format!("({role})"),
        };
        let (class, link) = match status.link_up {
            Some(true) => ("good", "up"),
            Some(false) => ("bad", "down"),
            None => ("", "–"),
        };
        let _ = write!(
            out,
            "<tr><td>{}<td><code>{}</code><td><code>{}</code><td class=\"{class}\">{link}<td>{}",
            Escaped(&status.replica),
            Escaped(&status.address),
            Escaped(follows),
            Escaped(&status.sentence),
        );
        details(out, status);
    }
    out.push_str("</table>");
}

fn details(out: &mut String, status: &Status) {
    if let (Some(id), Some(phase)) = (&status.incident, status.phase) {
        let _ = write!(out, "<br>incident <a href=\"api/v1/incidents/{0}\">{0}</a>, {1}", Escaped(id), phase.name());
        if let Some(name) = &status.taken_by {
            let _ = write!(out, ", taken by {}", Escaped(name));
        }
    }
    if let Some(refusal) = &status.held {
        let what = refusal.remedy.map(|remedy| format!(" {remedy}")).unwrap_or_default();
        let _ = write!(out, "<br>holds{what}: <b>{}</b>: {}", refusal.code, Escaped(&refusal.detail));
    }
    if let Some(proposal) = &status.proposal {
        let expires = proposal.expires.as_ref().map(|at| format!(", until {at}")).unwrap_or_default();
        let _ = write!(out, "<br>proposes <b>{}</b> (plan <code>{}</code>{expires}):", proposal.remedy, proposal.plan);
        for step in &proposal.steps {
            let _ = write!(out, "<br>{}", Escaped(step));
        }
    }
    if let Some(trouble) = &status.ledger_trouble {
        let _ = write!(
            out,
            "<br><span class=\"bad\">nothing is recorded, so nothing is changed</span>: {}",
            Escaped(trouble)
        );
    }
    for step in &status.next_steps {
        let _ = write!(out, "<br><code>{}</code>", Escaped(step));
    }
}

fn sentinels(out: &mut String, snapshot: &Snapshot) {
    if snapshot.sentinels.is_empty() {
        return;
    }
    out.push_str("<h2>Sentinels</h2><table><tr><th>group<th>Sentinel<th>listened to since");
    for one in &snapshot.sentinels {
        let (class, since) = match (&one.connected_since, &one.trouble) {
            (Some(since), _) => ("", since.clone()),
            (None, trouble) => ("doubt", format!("not heard: {}", trouble.as_deref().unwrap_or_default())),
        };
        let (group, sentinel, since) = (Escaped(&one.group), Escaped(&one.sentinel), Escaped(since));
        let _ = write!(out, "<tr><td>{group}<td><code>{sentinel}</code><td class=\"{class}\">{since}");
    }
    out.push_str("</table>");
}

fn record(out: &mut String, incidents: &Result<Vec<Incident>, String>) {
    out.push_str("<h2>Incidents</h2>");
    let all = match incidents {
        Ok(all) if all.is_empty() => return out.push_str("<p>none</p>"),
        Ok(all) => all,
        Err(why) => {
            let _ = write!(out, "<p class=\"bad\">the record cannot be read: {}</p>", Escaped(why));
            return;
        }
    };
    out.push_str("<table><tr><th>opened<th>instance<th>cause<th>how it stands<th>id");
    for one in all {
        let (class, how) = match (one.is_open(), one.up_at) {
            (true, _) => ("bad", one.phase.name().to_owned()),
            (false, Some(up)) if !one.finding.link_up => {
                ("", format!("resolved, link down for {}", human(up.since(one.down_at))))
            }
            (false, _) => ("", "resolved".to_owned()),
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=\"{class}\">{}<td>{how}<td><a href=\"api/v1/incidents/{id}\"><code>{id}</code></a>",
            one.opened_at,
            Escaped(&one.link.replica),
            one.finding.cause,
            id = Escaped(&one.id),
        );
    }
    out.push_str("</table>");
}

/// Text of others, made harmless between tags and within quotes.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::watchers::SentinelState;
    use crate::decide::Failures;
    use crate::model::Timestamp;
    use crate::model::people::{Actor, Pause, Scope};

    fn paused(words: &str) -> Pause {
        Pause {
            scope: Scope::Group(words.to_owned()),
            owner: Actor { uid: 0, name: words.to_owned(), sudo: None },
            reason: words.to_owned(),
            began: Timestamp::default(),
            ends: Timestamp::default(),
            resumed: None,
        }
    }

    #[test]
    fn pauses_and_a_stop_come_before_the_instances() {
        let snapshot = Snapshot {
            pauses: vec![paused("upgrade"), paused("<b>")],
            stopped: Some(Failures { in_a_row: 5, last: "realign-auth on cache: no <i>".to_owned() }),
            ..Snapshot::default()
        };
        let page = render("db-21", &snapshot, &Ok(Vec::new()));
        let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
        let until = format!("paused</span> group upgrade, by upgrade, until {}: upgrade</p>", Timestamp::default());
        let stop = "stopped</span> 5 remedies in a row failed, the last was realign-auth on cache: no &lt;i&gt;;";
        assert!(at(&until) < at(stop) && at(stop) < at("<h2>Instances"), "{page}");
        assert!(!page.contains("by <b>") && page.contains("by &lt;b&gt;"), "{page}");
        let quiet = render("db-21", &Snapshot::default(), &Ok(Vec::new()));
        assert!(!quiet.contains("paused") && !quiet.contains("stopped"), "{quiet}");
    }

    #[test]
    fn what_others_said_cannot_become_markup() {
        let evil = "</td><script>alert(\"x\" + 'y')</script>&";
        let snapshot = Snapshot {
            sentinels: vec![SentinelState {
                group: evil.to_owned(),
                sentinel: evil.to_owned(),
                connected_since: None,
                trouble: Some(evil.to_owned()),
            }],
            ..Snapshot::default()
        };
        let page = render(evil, &snapshot, &Err(evil.to_owned()));
        assert!(!page.contains("<script") && !page.contains("\"x\"") && !page.contains("'y'"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 6, "{page}");
    }
}
