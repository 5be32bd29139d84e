//! Limits that are too small, with a figure for them where one was measured. None is ever advised below the present one.

use super::{Context, Here, kept_there};
use crate::diagnose::{advised_backlog, advised_limit, more_than_now};
use crate::model::evidence::Evidence;
use crate::model::finding::Cause;

/// Seconds. Twice the servers' own default of `repl-timeout`.
const TIMEOUT_S: u64 = 120;

pub(super) fn steps(c: &Context<'_>, here: &Here) -> Vec<String> {
    let e = c.evidence;
    let mut steps = match c.finding.cause {
        Cause::SyncTimeout => return timeout(e, here),
        Cause::BacklogTooSmall => vec![backlog(e, &here.remote)],
        _ => vec![output_buffer(e, &here.remote)],
    };
    steps.extend(kept_there(e, here));
    steps
}

fn timeout(e: &Evidence, Here { local, remote, .. }: &Here) -> Vec<String> {
    let (settings, limits) = (e.settings.seen(), e.primary_limits.seen());
    let known = settings.map(|s| s.repl_timeout_s).into_iter().chain(limits.map(|limits| limits.repl_timeout_s));
    let present = known.max().unwrap_or_default();
    // It has to exceed the ping period several times over, or an idle link drops.
    let ping = limits.map_or(0, |limits| limits.ping_period_s);
    let raised = present.saturating_mul(2).max(ping.saturating_mul(5)).max(TIMEOUT_S);
    let set = format!("CONFIG SET repl-timeout {raised}");
    let mut steps = Vec::new();
    if settings.is_none() || limits.is_none() {
        steps.push(format!(
            "{remote} CONFIG GET 'repl-*'   # repl-timeout: above the ping period, and not to be lowered"
        ));
    }
    steps.push(format!("{remote} {set}   # there, here, and on every node"));
    steps.push(format!("{local} {set}   # then CONFIG REWRITE on each, or it is gone at the next restart"));
    steps
}

fn backlog(e: &Evidence, remote: &str) -> String {
    let (mib, why) = match advised_backlog(e) {
        Some(bytes) => (bytes >> 20, "for a minute of the writes measured here"),
        None => (256, "write rate times the longest outage"),
    };
    format!("{remote} CONFIG SET repl-backlog-size {}   # {why}; on every node", in_config(mib))
}

fn output_buffer(e: &Evidence, remote: &str) -> String {
    let (hard, why) = match advised_limit(e) {
        Some(bytes) => (bytes >> 20, "four times what was waiting when it was cut, and more than now"),
        None => ((more_than_now(e) >> 20).max(1024), "sized to the data set"),
    };
    let limits = e.primary_limits.seen();
    // A limit that is not there stays away.
    let raised = |present: Option<u64>, mib: u64| if present == Some(0) { "0".to_owned() } else { in_config(mib) };
    let hard_limit = raised(limits.map(|limits| limits.output_hard), hard);
    let soft_limit = raised(limits.map(|limits| limits.output_soft), hard / 2);
    let soft_s = limits.map_or(60, |limits| limits.output_soft_s.max(60));
    format!(
        "{remote} CONFIG SET client-output-buffer-limit 'replica {hard_limit} {soft_limit} {soft_s}'   # on the primary, {why}"
    )
}

/// Mebibytes as the servers' config has them.
fn in_config(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(1024) { format!("{}gb", mib / 1024) } else { format!("{mib}mb") }
}
