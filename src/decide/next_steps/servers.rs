//! The servers themselves, and their hosts: what they lack.

use super::{Context, Here};
use crate::model::evidence::{Answer, Evidence};
use crate::model::finding::Cause;
use crate::model::shell::operand;

pub(super) fn steps(c: &Context<'_>, here: &Here) -> Vec<String> {
    match c.finding.cause {
        Cause::PrimaryDiskFull
        | Cause::PrimarySaveFailing
        | Cause::PrimaryForkFailed
        | Cause::PrimaryBusy
        | Cause::ConnectionsExhausted => of_the_primary(c, here),
        _ => of_the_replica(c, here),
    }
}

fn of_the_primary(c: &Context<'_>, here: &Here) -> Vec<String> {
    let remote = &here.remote;
    match c.finding.cause {
        Cause::PrimaryDiskFull => vec![
            format!(
                "{remote} CONFIG GET logfile   # `Write error saving DB`: its disk; `terminated by signal`: its host's memory (dmesg)"
            ),
            format!("{remote} CONFIG GET dir   # then df -h there, and make room"),
            format!("{remote} CONFIG SET repl-diskless-sync yes   # the sync then needs no disk on the primary"),
        ],
        Cause::PrimarySaveFailing => vec![
            format!("{remote} CONFIG GET dir   # then df -h there, and make room"),
            format!("{remote} BGSAVE"),
            format!(
                "{remote} INFO persistence   # again until rdb_bgsave_in_progress is 0; only then rdb_last_bgsave_status counts"
            ),
        ],
        Cause::PrimaryForkFailed => {
            vec![format!("{remote} INFO memory   # and vm.overcommit_memory, limits and free memory on its host")]
        }
        Cause::PrimaryBusy => busy(c.evidence, remote),
        _ => vec![
            once_free(&format!("{remote} CONFIG GET maxclients"), "the present limit"),
            once_free(
                &format!("{remote} CONFIG SET maxclients N"),
                "N: more than that; `try with` names the most there is",
            ),
        ],
    }
}

/// Tried again only while no connection is free: whatever else is answered ends it and is shown.
fn once_free(command: &str, why: &str) -> String {
    format!(
        "while o=$({command} 2>&1); printf %s \"$o\" | grep -q 'max number of clients'; do sleep 1; done; printf '%s\\n' \"$o\"   # {why}"
    )
}

/// The server says itself which of the two ends what it runs (Redis 7.0.15, Valkey 8.0.1: `You can only call FUNCTION KILL`).
fn busy(e: &Evidence, remote: &str) -> Vec<String> {
    let told = e.upstream.seen().map(|probe| &probe.ping);
    let kill = match told {
        Some(Answer::Error { text, .. }) if text.contains("FUNCTION KILL") => "FUNCTION KILL",
        _ => "SCRIPT KILL",
    };
    vec![
        format!("{remote} {kill}   # works while it has not written"),
        "UNKILLABLE: it has written; let it end, or SHUTDOWN NOSAVE there, which loses what is not saved (systemctl stop \
         waits for ever)"
            .to_owned(),
    ]
}

fn of_the_replica(c: &Context<'_>, here: &Here) -> Vec<String> {
    let (e, Here { local, remote, server, .. }) = (c.evidence, here);
    let room = || format!("df -h {}", e.settings.seen().map_or("DIR".to_owned(), |s| operand(&s.dir)));
    match c.finding.cause {
        Cause::ReplicaDiskFull => vec![
            room(),
            format!(
                "{local} CONFIG SET repl-diskless-load swapdb   # the sync then needs memory for two copies, and no disk"
            ),
        ],
        _ if c.finding.flaps.is_some() => vec![
            format!(
                "{remote} CONFIG GET logfile   # what it says at those times: a client closed, a replica timed out, nothing"
            ),
            "nstat -az TcpEstabResets TcpExtTCPAbortOnTimeout   # on both hosts: is it the network?".to_owned(),
            format!("{remote} CLIENT LIST TYPE replica   # omem, and age: how long the connection has stood"),
        ],
        Cause::RdbIncompatible => vec![
            format!("{local} CONFIG SET save ''   # or a stop writes over dump.rdb"),
            format!("systemctl stop {server}   # this replica: each attempt costs the primary a fork"),
            "upgrade this replica to the primary's version or newer before it links again".to_owned(),
        ],
        Cause::SyncStalled => vec![format!("{local} INFO replication   # master_sync_last_io_seconds_ago")],
        Cause::ReplicaSaveFailing => vec![
            room(),
            format!("{local} BGSAVE   # once there is room"),
            format!(
                "{local} INFO persistence   # again until rdb_bgsave_in_progress is 0; only then rdb_last_bgsave_status counts"
            ),
        ],
        Cause::ReplicaDown => {
            vec![format!("systemctl status {server}"), format!("journalctl -u {server} -n 50")]
        }
        // It has not told which of the two it is.
        Cause::ReplicaHung => vec![
            format!("timeout 15 {local} PING"),
            "ps -o pid,stat,wchan:30,cmd -C redis-server,valkey-server   # T: stopped, kill -CONT PID; D: waits for a disk"
                .to_owned(),
        ],
        _ => vec![format!("{local} INFO replication"), format!("{local} ROLE")],
    }
}
