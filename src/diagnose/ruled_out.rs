//! What this look speaks against: for each cause that a person would think of, the observation that excludes it.

use std::collections::BTreeMap;

use super::reach::excluded_by_witnesses;
use super::topology::{failover_in_doubt, same_place};
use crate::model::evidence::{Answer, Connect, Evidence, Probe};
use crate::model::finding::Cause;

/// Every cause that the evidence excludes, with why.
pub fn by(e: &Evidence) -> BTreeMap<Cause, String> {
    let mut out = BTreeMap::new();
    if let Some(probe) = e.upstream.seen() {
        by_probe(probe, &mut out);
    }
    by_primary(e, &mut out);
    by_sentinels(e, &mut out);
    if let Some(disk) = e.host.disk.seen()
        && disk.free > 64 * 1024 * 1024
        && !disk.out_of_inodes()
    {
        out.insert(Cause::ReplicaDiskFull, format!("{} MiB free in {}", disk.free / (1024 * 1024), disk.path));
    }
    out
}

fn by_probe(probe: &Probe, out: &mut BTreeMap<Cause, String>) {
    if !matches!(probe.connect, Connect::Open | Connect::HelloUnanswered) {
        return;
    }
    let ms = probe.took_us.div_ceil(1000);
    let opened = format!("connected to {} from this host", probe.target);
    for cause in [Cause::PrimaryUnreachable, Cause::NetworkCut, Cause::NetworkRejected, Cause::NameUnresolved] {
        out.insert(cause, opened.clone());
    }
    if matches!(probe.ping, Answer::Ok(_) | Answer::Error { .. }) {
        let answer = match &probe.ping {
            Answer::Error { code, .. } => code.as_str(),
            _ => "PONG",
        };
        let text = format!("PING → {answer} in {ms} ms");
        out.insert(Cause::PrimaryDown, text.clone());
        out.insert(Cause::PrimaryHung, text.clone());
        out.insert(Cause::NotAServer, text);
    }
    if probe.auth.is_ok() {
        for cause in [Cause::AuthRejected, Cause::AuthMissing, Cause::AuthUnexpected] {
            out.insert(cause, "AUTH → OK with the replica's own password".to_owned());
        }
    } else if probe.auth == Answer::NotAsked && probe.ping.is_ok() {
        for cause in [Cause::AuthRejected, Cause::AuthMissing] {
            out.insert(cause, "PING → PONG without a password".to_owned());
        }
    }
    if matches!(&probe.psync, Answer::Error { text, .. } if text.contains("not an integer")) && probe.replconf.is_ok() {
        out.insert(Cause::AuthForbidden, "REPLCONF and PSYNC are allowed to this user".to_owned());
    }
}

fn by_primary(e: &Evidence, out: &mut BTreeMap<Cause, String>) {
    let Some(primary) = e.primary.seen() else { return };
    if primary.rdb_last_save_ok {
        let text = "the primary's last save went well (rdb_last_bgsave_status:ok)".to_owned();
        out.insert(Cause::PrimaryDiskFull, text.clone());
        out.insert(Cause::PrimarySaveFailing, text);
    }
    if !primary.loading {
        out.insert(Cause::PrimaryLoading, "loading:0 on the primary".to_owned());
    }
    if let (Some(offset), Some(replid)) = (e.trend.offset, e.trend.replid.as_deref())
        && replid == primary.replid
        && primary.backlog_active
        && primary.backlog_first <= offset.saturating_add(1)
    {
        let text = format!("the backlog begins at {}, before this replica's {offset}", primary.backlog_first);
        out.insert(Cause::BacklogTooSmall, text);
    }
    if let (Some(now), Some(before)) = (primary.output_buffer_cuts, e.trend.output_buffer_cuts)
        && now == before
    {
        out.insert(Cause::OutputBufferExceeded, "the primary cut no connection for its output buffer".to_owned());
    }
}

fn by_sentinels(e: &Evidence, out: &mut BTreeMap<Cause, String>) {
    if let Some((saw, causes)) = excluded_by_witnesses(e) {
        for cause in causes {
            out.entry(*cause).or_insert_with(|| saw.clone());
        }
    }
    let Some((named, votes)) = e.named_primary() else { return };
    let known = e.sentinels_known();
    if failover_in_doubt(e).is_none() {
        out.insert(Cause::FailoverRunning, format!("no Sentinel runs a failover; {votes} of {known} name {named}"));
    }
    if let Some(link) = e.local_link()
        && same_place(e, &link.primary, named)
    {
        out.insert(Cause::WrongPrimary, format!("{votes} of {known} Sentinels name {named}, which it follows"));
    }
}
