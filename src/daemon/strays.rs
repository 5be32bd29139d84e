//! What the record holds of replicas and channels that are not in the configuration any more. Nobody looks at the one, and
//! nobody delivers to the other, so without an end they would stay in the record for ever; and what waited for a channel
//! would pour out when its name came back.

use std::sync::Arc;

use super::{Daemon, Record};
use crate::config::Settings;
use crate::ledger::LedgerError;
use crate::model::Timestamp;
use crate::model::incident::{Announcement, Entry, Incident, Notice, ResolvedBy, What};

impl Daemon {
    pub(super) fn let_strays_go(&mut self) {
        let (record, settings, now) = (Arc::clone(&self.record), self.settings.clone(), self.clock.now());
        let work = async move { let_go(&record, &settings, now).await };
        self.background.spawn(self.alarm.over("the end of what is not configured any more".to_owned(), work));
    }
}

/// Ends the incidents of replicas that are not watched any more, and gives up what waits for channels that are gone. A
/// ledger that fails is tried again at the next start.
async fn let_go(record: &Arc<Record>, settings: &Settings, now: Timestamp) {
    let host = settings.agent.host.clone();
    let replicas: Vec<String> = settings.replicas.keys().cloned().collect();
    let channels: Vec<String> = settings.channels.keys().cloned().collect();
    let work = move |record: &Record| -> Result<(), LedgerError> {
        // Before its end is told to the channels that are left.
        record.with(|ledger| ledger.give_up_strays(&channels, now))?;
        let open = record.with(|ledger| ledger.open_incidents())?;
        for incident in open.into_iter().filter(|open| !replicas.contains(&open.link.replica)) {
            tracing::warn!(incident = %incident.id, "{} is not watched any more: its incident ends", incident.link.replica);
            let (entries, notice) = end(incident, &host, now);
            record.write(&entries, notice.as_ref())?;
        }
        Ok(())
    };
    if let Err(why) = record.on_thread(move |record| work(record)).await {
        tracing::warn!("what is not configured any more stays in the ledger until the next start: {why}");
    }
}

fn end(mut incident: Incident, host: &str, now: Timestamp) -> (Vec<Entry>, Option<Notice>) {
    let mut whats = Vec::new();
    whats.extend(incident.in_flight.map(|attempt| What::Interrupted { attempt }));
    whats.push(What::Resolved { by: ResolvedBy::Unwatched });
    let told = incident.told_at.is_some();
    if told {
        whats.push(What::Told { event: Announcement::Resolved });
    }
    let entry = |what| Entry { at: now, link: incident.link.clone(), incident: incident.id.clone(), what };
    let entries: Vec<Entry> = whats.into_iter().map(entry).collect();
    entries.iter().for_each(|entry| incident.take(entry));
    let event = Announcement::Resolved;
    let notice = told.then(|| Notice { at: now, host: host.to_owned(), event, incident, next_steps: Vec::new() });
    (entries, notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::{Cause, Finding};
    use crate::model::incident::IncidentId;
    use crate::model::{Address, LinkId};

    fn settings(state_dir: &std::path::Path, name: &str) -> Settings {
        let text = format!("[agent]\nstate_dir = {state_dir:?}\n[replica.{name}]\naddress = \"127.0.0.1:1\"\n");
        crate::config::parse(&[("config.toml".into(), text)]).unwrap()
    }

    #[tokio::test]
    async fn the_incident_of_a_replica_that_is_not_watched_any_more_ends_and_is_told_if_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::of(&settings(dir.path(), "cache"));
        let write = |id: &str, told: bool| {
            let finding = Finding {
                cause: Cause::AuthRejected,
                suspected: false,
                link_up: false,
                unrefused: false,
                flaps: None,
                because: Vec::new(),
                rejected: std::collections::BTreeMap::new(),
            };
            let opened = What::Opened {
                finding,
                address: "127.0.0.1:1".parse::<Address>().unwrap(),
                primary: None,
                down_at: Timestamp(1),
                diagnose_us: 0,
                look_us: 0,
            };
            let whats = [Some(opened), told.then_some(What::Told { event: Announcement::Opened })];
            let link = LinkId { replica: "cache".into(), group: String::new() };
            let entry = |what| Entry { at: Timestamp(2), link: link.clone(), incident: IncidentId(id.into()), what };
            record.write(&whats.into_iter().flatten().map(entry).collect::<Vec<_>>(), None).unwrap();
        };
        write("01TOLD", true);
        write("01SILENT", false);
        let open = |record: &Record| record.with(|ledger| ledger.open_incidents()).unwrap().len();
        let_go(&record, &settings(dir.path(), "cache"), Timestamp(3)).await;
        assert_eq!(open(&record), 2, "it is watched");
        let_go(&record, &settings(dir.path(), "renamed"), Timestamp(3)).await;
        assert_eq!(open(&record), 0);
        let all = record.with(|ledger| ledger.incidents(None, 10)).unwrap();
        assert!(all.iter().all(|incident| incident.resolved_by == Some(ResolvedBy::Unwatched)), "{all:?}");
        let told: Vec<_> = all.iter().map(|incident| (incident.id.0.as_str(), incident.sequence)).collect();
        assert_eq!(told, [("01TOLD", 2), ("01SILENT", 0)]);
    }
}
