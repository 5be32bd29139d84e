//! What a person would run now: commands that really work, for the cause at hand. No secret stands in them.

use super::{Context, living};
use crate::model::evidence::{Evidence, Flavour, Role, SentinelSays};
use crate::model::finding::Cause;
use crate::model::remedy::{Decision, RefusalCode};
use crate::model::shell::{from_file, operand, quoted};
use crate::model::{Address, Endpoint};

mod group;
mod limits;
mod servers;

/// Commands, most useful first.
pub fn next_steps(context: &Context<'_>, decision: &Decision) -> Vec<String> {
    let e = context.evidence;
    let here = Here::of(e);
    let mut steps = by_cause(context, &here);
    if let Some(sentinel) = here.sentinel.as_ref().filter(|_| living::qualifies(context.finding.cause)) {
        steps.push(format!("{}   # master-link-status: have the others a link?", sentinel.asked("REPLICAS")));
    }
    if let Decision::Hold(refusal) = decision
        && refusal.code == RefusalCode::AttemptsExhausted
    {
        steps.insert(0, format!("relinkd show {}   # what was tried, and what came of it", operand(&e.link.replica)));
    }
    steps.push(format!("relinkd explain {}", context.finding.cause));
    steps
}

/// The programs of this host, and how they reach the servers of the group.
struct Here {
    cli: &'static str,
    /// The server's program, which Debian's unit is named after; either's where the server has not told which it is.
    server: &'static str,
    local: String,
    remote: String,
    /// What the local server follows.
    target: Option<Endpoint>,
    /// None where no Sentinels are configured: then no command for one is any use.
    sentinel: Option<Asked>,
    masteruser: Option<String>,
}

/// Where replication speaks TLS, so does the primary; it wants a client's certificate by default (`tls-auth-clients`). What the
/// Sentinels and the local server speak is not in the evidence.
const TLS: &str = " --tls --cacert CAFILE --cert CRTFILE --key KEYFILE";

/// One Sentinel, and the group's name there.
struct Asked {
    cli: String,
    group: String,
}

impl Asked {
    fn asked(&self, command: &str) -> String {
        format!("{} SENTINEL {command} {}", self.cli, self.group)
    }
}

impl Here {
    fn of(e: &Evidence) -> Here {
        let flavour = e.local.seen().map(|view| view.flavour);
        let (cli, server) = match flavour {
            Some(Flavour::Valkey) => ("valkey-cli", "valkey-server"),
            _ => ("redis-cli", "redis-server"),
        };
        let at = |endpoint: &Endpoint| format!("{cli} -h {} -p {}", quoted(&endpoint.host), endpoint.port);
        let tls = match e.settings.seen() {
            Some(settings) => settings.tls_replication,
            None => e.upstream.seen().is_some_and(|probe| probe.tls),
        };
        let primary = |endpoint: &Endpoint| format!("{}{}", at(endpoint), if tls { TLS } else { "" });
        let target = e.local_link().map(|link| link.primary.clone());
        let named = || !e.link.group.is_empty();
        Here {
            cli,
            server,
            local: match &e.address {
                Address::Tcp(endpoint) => at(endpoint),
                Address::Unix(path) => format!("{cli} -s {}", quoted(&path.to_string_lossy())),
            },
            remote: target.as_ref().map_or_else(|| format!("{cli} -h PRIMARY"), primary),
            target,
            sentinel: e
                .sentinels
                .first()
                .filter(|_| named())
                .map(|sentinel| Asked { cli: at(&sentinel.endpoint), group: quoted(&e.link.group) }),
            masteruser: e.settings.seen().map(|s| s.masteruser.clone()).filter(|user| !user.is_empty()),
        }
    }

    fn user(&self) -> String {
        self.masteruser.as_deref().map_or("USER".to_owned(), quoted)
    }

    /// A command on the primary's host.
    fn there(&self, command: &str) -> String {
        match &self.target {
            Some(primary) => format!("ssh {} {command}", operand(&primary.host)),
            None => command.to_owned(),
        }
    }
}

/// A setting that is to outlive the server's next start; none for a server that says it has no file to write to.
fn kept(cli: &str, config_file: Option<&str>) -> Option<String> {
    (config_file != Some("")).then(|| format!("{cli} CONFIG REWRITE   # or it is gone at the next restart"))
}

fn kept_here(e: &Evidence, here: &Here) -> Option<String> {
    kept(&here.local, e.local.seen().map(|view| view.config_file.as_str()))
}

fn kept_there(e: &Evidence, here: &Here) -> Option<String> {
    kept(&here.remote, e.primary.seen().map(|view| view.config_file.as_str()))
}

/// Rights that are to outlive the primary's next start.
fn rights_kept(here: &Here) -> String {
    format!("{} ACL SAVE   # or it is gone at the next restart; without an aclfile: CONFIG REWRITE", here.remote)
}

fn by_cause(c: &Context<'_>, here: &Here) -> Vec<String> {
    match c.finding.cause {
        Cause::AuthMissing
        | Cause::AuthRejected
        | Cause::AuthLatent
        | Cause::AuthUnexpected
        | Cause::AuthForbidden
        | Cause::ReplconfRefused
        | Cause::ProtectedMode
        | Cause::SentinelAuthRejected
        | Cause::ReplicaDenied => logins(c, here),
        Cause::WrongPrimary | Cause::SelfReplication | Cause::NotAServer | Cause::UpstreamBroken => {
            elsewhere(c.evidence, here, c.finding.cause)
        }
        Cause::NetworkCut | Cause::NetworkRejected => here.target.as_ref().map_or_else(Vec::new, |p| {
            vec![
                format!("nc -vz {} {}   # from this host; then the same from another", operand(&p.host), p.port),
                "nft list ruleset   # on both hosts".to_owned(),
            ]
        }),
        Cause::PrimaryDown
        | Cause::PrimaryHung
        | Cause::PrimaryUnreachable
        | Cause::NameUnresolved
        | Cause::QuorumLost
        | Cause::NoPromotableReplica
        | Cause::PrimaryEmptied
        | Cause::TlsMismatch
        | Cause::TlsCertificate
        | Cause::CommandMissing => group::steps(c, here),
        Cause::OutputBufferExceeded | Cause::BacklogTooSmall | Cause::SyncTimeout => limits::steps(c, here),
        _ => servers::steps(c, here),
    }
}

/// Passwords, users and rights.
fn logins(c: &Context<'_>, here: &Here) -> Vec<String> {
    let (e, Here { cli, local, remote, .. }) = (c.evidence, here);
    match c.finding.cause {
        Cause::AuthUnexpected => vec![
            format!("{remote} INFO server   # config_file: was it started with another one?"),
            format!(
                "{} CONFIG SET requirepass   # mostly right: the password that replicas and Sentinels hold; then CONFIG REWRITE",
                from_file("%s", remote)
            ),
            format!("{local} CONFIG SET masterauth ''   # only if the group should have none; then on every node"),
        ],
        Cause::AuthForbidden | Cause::ReplconfRefused => vec![
            format!(
                "{remote} ACL SETUSER {} +psync +replconf +ping   # on the primary, and on every node that may become one",
                here.user()
            ),
            rights_kept(here),
        ],
        Cause::ProtectedMode => {
            let loopback = format!("{cli} -h 127.0.0.1 -p {}", here.target.as_ref().map_or(6379, |p| p.port));
            vec![
                format!(
                    "{loopback} INFO server   # on the primary's own host: config_file empty or wrong is the fault"
                ),
                format!(
                    "{} CONFIG SET requirepass   # there, if only the password is missing; then CONFIG REWRITE, and masterauth here",
                    from_file("%s", &loopback)
                ),
            ]
        }
        Cause::SentinelAuthRejected => {
            let set = here.sentinel.iter().map(|sentinel| {
                format!(
                    "{} SENTINEL SET {} auth-pass   # on every Sentinel, once all data nodes take it",
                    from_file("%s", &sentinel.cli),
                    sentinel.group
                )
            });
            set.chain([format!("{remote} ACL LOG   # which login the Sentinels try")]).collect()
        }
        Cause::ReplicaDenied => denied(e, local),
        _ => {
            let flag = here.masteruser.as_deref().map(|user| format!(" --user {}", quoted(user))).unwrap_or_default();
            let off = (c.finding.cause != Cause::AuthMissing && here.masteruser.is_some()).then(|| {
                let user = here.user();
                format!("{remote} ACL GETUSER {user}   # flags without `on`: ACL SETUSER {user} on")
            });
            let mut steps =
                vec![format!("{remote}{flag} --askpass PING   # the password that the primary should take")];
            steps.extend(off);
            steps.push(
                "put that password into the secret store that [group] masterauth names; relinkd takes it from there"
                    .to_owned(),
            );
            steps.push(format!(
                "{} CONFIG SET masterauth   # by hand: the link is up within a second",
                from_file("%s", local)
            ));
            steps.extend(kept_here(e, here));
            steps
        }
    }
}

/// The user that relinkd logs in as lacks a right, or its password is another one.
fn denied(e: &Evidence, local: &str) -> Vec<String> {
    let told = e.local.missing().map(ToString::to_string).unwrap_or_default();
    if told.contains("NOPERM") {
        return vec![
            format!(
                "{local} ACL SETUSER USER +ping +info +role '+config|get' '+client|setname'   # as an administrator; USER: whom relinkd logs in as"
            ),
            format!("{local} ACL SAVE   # or it is gone at the next restart; without an aclfile: CONFIG REWRITE"),
        ];
    }
    vec![
        format!("{local} --user USER --askpass PING   # the login that relinkd should use"),
        "put it into `user` and `password` of this replica in relinkd's configuration, then: relinkd check".to_owned(),
    ]
}

/// What the replica follows is not the primary, or this server is a second one.
fn elsewhere(e: &Evidence, here: &Here, cause: Cause) -> Vec<String> {
    let local = &here.local;
    let mut steps: Vec<String> =
        here.sentinel.iter().map(|sentinel| sentinel.asked("GET-MASTER-ADDR-BY-NAME")).collect();
    if e.named_primary().is_some_and(|(named, _)| is_itself(e, named)) {
        return steps;
    }
    let second = e.local.seen().is_some_and(|view| view.role == Role::Primary);
    if second {
        steps.push(format!(
            "{local} CONFIG GET 'min-replicas-*'   # note both, to set them back; with a max-lag of 0 the next line does nothing"
        ));
        steps.push(format!("{local} CONFIG SET min-replicas-to-write 1000   # it takes no more writes"));
        steps.push(format!("{local} --rdb only-here.rdb   # a copy of what only this server has"));
    }
    if let (Cause::UpstreamBroken, Some(peer)) = (cause, &here.target) {
        steps.push(format!(
            "relinkd diagnose --address {}   # that one's link, if this is to follow it",
            quoted(&peer.to_string())
        ));
    }
    match e.named_primary() {
        // This very server was meant to be the primary, and what it follows already is no news to it.
        Some((named, _)) if here.target.as_ref() == Some(named) || e.address == Address::Tcp(named.clone()) => {
            return steps;
        }
        Some((named, _)) => steps.push(format!("{local} REPLICAOF {} {}", quoted(&named.host), named.port)),
        None if here.sentinel.is_none() => steps.push(real_primary(local)),
        None => return steps,
    }
    if second {
        // A REWRITE behind it would keep the 1000 of whoever pastes all of this.
        steps.push(format!(
            "{local} CONFIG SET min-replicas-to-write N   # what you noted, and min-replicas-max-lag; only then: CONFIG REWRITE"
        ));
        return steps;
    }
    steps.extend(kept_here(e, here));
    steps
}

/// Whether the server that Sentinels name is this one, by whatever address.
fn is_itself(e: &Evidence, named: &Endpoint) -> bool {
    let Some(run_id) = e.local.seen().map(|view| &view.run_id).filter(|id| !id.is_empty()) else { return false };
    let cached = |says: &SentinelSays| {
        let node = says.nodes.seen().and_then(|nodes| nodes.get(&named.to_string()));
        node.is_some_and(|node| node.run_id == *run_id)
    };
    e.of_the_named().any(|(_, says)| says.primary_run_id == *run_id || cached(says))
}

/// Where no Sentinel tells who the primary is.
fn real_primary(local: &str) -> String {
    format!("{local} REPLICAOF HOST PORT   # of the real primary: not the address that it follows now")
}
