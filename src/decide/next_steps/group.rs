//! What the nodes and Sentinels of the group have to agree on, and the primary that is lost to them.

use super::{Context, Here, kept_here, real_primary};
use crate::model::evidence::Evidence;
use crate::model::finding::Cause;
use crate::model::shell::{operand, quoted};

pub(super) fn steps(c: &Context<'_>, here: &Here) -> Vec<String> {
    let (e, Here { local, remote, .. }) = (c.evidence, here);
    match c.finding.cause {
        Cause::PrimaryDown | Cause::PrimaryUnreachable => lost(here, c.finding.cause),
        Cause::PrimaryHung => hung(here),
        Cause::NameUnresolved => unresolved(e, here),
        Cause::QuorumLost => {
            let mut steps = vec!["start the Sentinels that are down; one more that answers is often enough".to_owned()];
            steps.extend(here.sentinel.iter().flat_map(|sentinel| {
                let others = sentinel.asked("SENTINELS");
                [
                    sentinel.asked("CKQUORUM"),
                    format!("{others}   # never SENTINEL RESET: it forgets the replicas that are down"),
                ]
            }));
            steps
        }
        Cause::NoPromotableReplica => promotable(here),
        Cause::PrimaryEmptied => vec![
            "keep every dump.rdb and appendonly file of the group where nothing overwrites it, first of all".to_owned(),
            format!("{remote} INFO keyspace"),
            format!("{local} INFO keyspace"),
        ],
        Cause::TlsMismatch => tls_mismatch(e, here),
        Cause::TlsCertificate => here.target.as_ref().map_or_else(Vec::new, |p| {
            vec![
                format!(
                    "openssl s_client -connect {} </dev/null | openssl x509 -noout -dates -issuer -subject",
                    quoted(&p.to_string())
                ),
                format!(
                    "{local} CONFIG GET 'tls-*cert-file'   # what this replica shows: openssl x509 -noout -dates -in FILE"
                ),
                "CONFIG SET tls-cert-file /ABSOLUTE/NEW.crt on the side whose certificate it is; the same path reads a \
                 renewed file anew"
                    .to_owned(),
            ]
        }),
        _ => vec![format!(
            "{remote} COMMAND INFO psync sync replconf   # then take rename-command out of the primary's config"
        )],
    }
}

fn lost(here: &Here, cause: Cause) -> Vec<String> {
    let status = here.there(&format!("systemctl status {}", here.server));
    match &here.sentinel {
        Some(sentinel) => vec![
            sentinel.asked("CKQUORUM"),
            format!("{}   # is there one to promote?", sentinel.asked("REPLICAS")),
            status,
        ],
        None if cause == Cause::PrimaryDown => vec![
            status,
            format!("{}   # another port than the replica's, or loopback alone?", here.there("ss -ltn")),
            real_primary(&here.local),
        ],
        None => vec![status, real_primary(&here.local)],
    }
}

/// A unit whose process is stopped reads as running.
fn hung(here: &Here) -> Vec<String> {
    let process = here.there(&format!("ps -o pid,stat,wchan:30,cmd -C {}", here.server));
    let mut steps = vec![format!("{process}   # T: stopped, kill -CONT PID; D: waits for a disk")];
    steps.extend(here.sentinel.iter().flat_map(|sentinel| {
        let named = sentinel.asked("GET-MASTER-ADDR-BY-NAME");
        [
            format!("{named}   # another address: keep clients away before you wake it"),
            sentinel.asked("CKQUORUM"),
            format!("{}   # is there one to promote?", sentinel.asked("REPLICAS")),
        ]
    }));
    steps
}

fn unresolved(e: &Evidence, here: &Here) -> Vec<String> {
    let name = here.target.as_ref().or_else(|| e.lookup.as_ref().map(|lookup| &lookup.name));
    let mut steps: Vec<String> = name.iter().map(|p| format!("getent hosts {}", operand(&p.host))).collect();
    match e.named_primary() {
        Some((named, _)) if named.host.parse::<std::net::IpAddr>().is_ok() => {
            steps.push(format!(
                "{} REPLICAOF {} {}   # if that takes too long: the address that the Sentinels name",
                here.local,
                quoted(&named.host),
                named.port
            ));
            steps.extend(kept_here(e, here));
        }
        _ => {}
    }
    steps
}

fn promotable(here: &Here) -> Vec<String> {
    let local = &here.local;
    let mut steps: Vec<String> = Vec::new();
    steps.extend(here.sentinel.iter().map(|sentinel| {
        format!("{}   # slave-priority, flags; slave-repl-offset: who has the most data?", sentinel.asked("REPLICAS"))
    }));
    steps.push(format!("{local} DBSIZE   # compare with the others: one without data stays at priority 0"));
    steps.push(format!("{local} CONFIG SET replica-priority 100   # on the one with the most data"));
    steps.extend(here.sentinel.iter().map(|sentinel| {
        format!("{}   # on one Sentinel alone; NOGOODSLAVE: again, ten seconds later", sentinel.asked("FAILOVER"))
    }));
    steps
}

/// The replica is set to what the port was found to speak.
fn tls_mismatch(e: &Evidence, here: &Here) -> Vec<String> {
    let (local, Some(p)) = (&here.local, &here.target) else { return Vec::new() };
    let probe = e.upstream.seen();
    let proved = probe.filter(|probe| probe.other_transport == Some(true)).map(|probe| probe.tls);
    let mut steps = match proved {
        Some(true) => {
            let no = format!("{local} CONFIG SET tls-replication no   # as that port speaks");
            // Its name is a server's word, and this one stands inside quotes, in a format.
            let again = (quoted(&p.host) == p.host && !p.host.contains('%')).then(|| {
                format!(
                    "printf 'MULTI\\nREPLICAOF 127.0.0.1 1\\nREPLICAOF {} {}\\nEXEC\\n' | {local}   # ends the attempt that waits for repl-timeout",
                    p.host, p.port
                )
            });
            [Some(no), again].into_iter().flatten().collect()
        }
        Some(false) => vec![format!("{local} CONFIG SET tls-replication yes   # as that port speaks")],
        None => vec![
            format!("{local} CONFIG GET tls-replication"),
            format!(
                "timeout 3 openssl s_client -connect {} </dev/null   # `Server certificate`: that port speaks TLS",
                quoted(&p.to_string())
            ),
        ],
    };
    if proved.is_some() {
        steps.extend(kept_here(e, here));
    }
    steps
}
