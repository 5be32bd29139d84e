//! What breaks, and the way back.
//!
//! A fault is made by a function or method that names it and answers a [`Fault`]; dropping that undoes it, so a test
//! that panics leaves a whole group. Faults of the network are methods of [`crate::Host`], of the disk of
//! [`crate::SmallDisk`]; here are those that are made by commands and signals.
//!
//! A changed password or ACL does not touch links that stand (Redis 7.0 to 8.2, Valkey 8.0 to 9.1), so the functions
//! here that shall break a link also cut the replicas' connections at the primary.

use std::fmt;
use std::io::{Error, Result};

use crate::group::Group;
use crate::server::Server;

const CUT_REPLICAS: [&str; 4] = ["CLIENT", "KILL", "TYPE", "replica"];

type Undo = Box<dyn FnOnce() -> Result<()> + Send>;

#[must_use = "dropping a fault undoes it at once"]
pub struct Fault {
    what: String,
    undo: Vec<Undo>,
}

impl Fault {
    pub fn new(what: impl Into<String>, undo: impl FnOnce() -> Result<()> + Send + 'static) -> Fault {
        Fault { what: what.into(), undo: vec![Box::new(undo)] }
    }

    /// Both, undone together, the later one first.
    pub fn and(mut self, mut other: Fault) -> Fault {
        self.what = format!("{}, {}", self.what, other.what);
        self.undo.append(&mut other.undo);
        self
    }

    pub fn undo(mut self) -> Result<()> {
        self.run_undo()
    }

    /// Leaves it as it is, for good.
    pub fn keep(mut self) {
        self.undo.clear();
    }

    /// Everything is tried; the first failure is told.
    fn run_undo(&mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(undo) = self.undo.pop() {
            let undone =
                undo().map_err(|error| Error::new(error.kind(), format!("undoing \"{}\": {error}", self.what)));
            first = first.and(undone);
        }
        first
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let _ = self.run_undo();
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fault").field(&self.what).finish()
    }
}

/// The primary's password changes and its replicas must log in again: their `masterauth` is stale, WRONGPASS.
/// The lab itself logs in with the new one.
pub fn rotate_password(primary: &Server, new: &str) -> Result<Fault> {
    let old = primary.admin_password().unwrap_or_default();
    change_and_cut(primary, &["CONFIG", "SET", "requirepass", new])?;
    logs_in_with(primary, new);
    let server = primary.clone();
    Ok(Fault::new(format!("password of {} rotated", primary.address()), move || set_password(&server, &old)))
}

/// The user that replicas log in with is switched off.
pub fn user_off(primary: &Server, user: &str) -> Result<Fault> {
    change_user(primary, user, &["SETUSER", user, "off"])
}

pub fn user_deleted(primary: &Server, user: &str) -> Result<Fault> {
    change_user(primary, user, &["DELUSER", user])
}

/// The user that replicas log in with may no longer run `command`, such as `psync`.
pub fn user_without(primary: &Server, user: &str, command: &str) -> Result<Fault> {
    change_user(primary, user, &["SETUSER", user, &format!("-{command}")])
}

/// SIGSTOP; undone by SIGCONT.
pub fn freeze(server: &Server) -> Result<Fault> {
    server.freeze()?;
    let frozen = server.clone();
    Ok(Fault::new(format!("{} frozen", server.address()), move || frozen.thaw()))
}

/// SIGKILL; undone by a start from its configuration.
pub fn kill(server: &Server) -> Fault {
    server.kill9();
    let killed = server.clone();
    Fault::new(format!("{} killed", server.address()), move || killed.restart())
}

/// Any settings, put back as `CONFIG GET` told them before.
pub fn configure(server: &Server, settings: &[(&str, &str)]) -> Result<Fault> {
    let mut fault = Fault { what: format!("{} at {}", describe(settings), server.address()), undo: Vec::new() };
    for (key, value) in settings {
        let old: Vec<String> = server.query(&["CONFIG", "GET", key]).map_err(Error::other)?;
        let [_, old] = old.as_slice() else {
            return Err(Error::other(format!("{} knows no setting {key}", server.address())));
        };
        run(server, &["CONFIG", "SET", key, value])?;
        let (server, key, old) = (server.clone(), (*key).to_owned(), old.clone());
        fault.undo.push(Box::new(move || run(&server, &["CONFIG", "SET", &key, &old])));
    }
    Ok(fault)
}

/// The primary gives a replica no more than 16 KiB of pending output, so one larger write drops its link. The backlog
/// shrinks too, because a hard limit below the backlog's size counts as that size (Redis 7.0,
/// checkClientOutputBufferLimits).
pub fn tiny_output_buffer(primary: &Server) -> Result<Fault> {
    let settings = [("repl-backlog-size", "16384"), ("client-output-buffer-limit", "replica 16384 16384 1")];
    configure(primary, &settings)
}

/// The replica gives up sooner than the primary pings, so an idle and healthy link drops again and again.
pub fn timeout_below_ping(primary: &Server, replica: &Server) -> Result<Fault> {
    let ping = configure(primary, &[("repl-ping-replica-period", "10")])?;
    Ok(ping.and(configure(replica, &[("repl-timeout", "2")])?))
}

/// The replica follows another address than its primary's.
pub fn wrong_primary(replica: &Server, host: &str, port: u16) -> Result<Fault> {
    let old_host = replica.info("replication", "master_host");
    let old_port = replica.info("replication", "master_port");
    let (Some(old_host), Some(old_port)) = (old_host, old_port) else {
        return Err(Error::other(format!("{} is not a replica", replica.address())));
    };
    run(replica, &["REPLICAOF", host, &port.to_string()])?;
    let server = replica.clone();
    let what = format!("{} follows {host}:{port}", replica.address());
    Ok(Fault::new(what, move || run(&server, &["REPLICAOF", &old_host, &old_port])))
}

/// While the replica is frozen, its link is cut and more is written than the smallest backlog holds: when it comes
/// back it needs a full resync. Undoing restores the backlog's size.
pub fn outrun_backlog(primary: &Server, replica: &Server) -> Result<Fault> {
    let backlog = configure(primary, &[("repl-backlog-size", "16384")])?;
    let frozen = freeze(replica)?;
    cut_replicas(primary)?;
    primary.write(500, 1024).map_err(Error::other)?;
    frozen.undo()?;
    Ok(backlog)
}

/// Cuts the replicas' connections at the primary: healthy ones are back within a moment, by a partial resync.
pub fn cut_replicas(primary: &Server) -> Result<()> {
    run(primary, &CUT_REPLICAS)
}

/// Every data node takes a new password, replicas log in with it, and no Sentinel knows it: each finds out when its
/// connections are cut ([`cut_clients`]). Undoing gives the old one back to all.
pub fn sentinels_left_behind(group: &Group, new: &str) -> Result<Fault> {
    let old = group.password().unwrap_or_default().to_owned();
    let nodes = group.nodes().to_vec();
    let give = move |nodes: &[Server], password: &str| -> Result<()> {
        for node in nodes {
            set_password(node, password)?;
            run(node, &["CONFIG", "SET", "masterauth", password])?;
        }
        Ok(())
    };
    give(&nodes, new)?;
    Ok(Fault::new("a password that no Sentinel knows", move || give(&nodes, &old)))
}

/// Cuts every client of this server, subscribers too, as Sentinel does when it reconfigures one.
pub fn cut_clients(server: &Server) -> Result<()> {
    ["normal", "pubsub"].into_iter().try_for_each(|class| run(server, &["CLIENT", "KILL", "TYPE", class]))
}

/// Restores the whole user as `ACL LIST` told it, password hashes included.
fn change_user(primary: &Server, user: &str, words: &[&str]) -> Result<Fault> {
    let users: Vec<String> = primary.query(&["ACL", "LIST"]).map_err(Error::other)?;
    let prefix = format!("user {user} ");
    let rules = users.iter().find_map(|line| line.strip_prefix(&prefix));
    let Some(rules) = rules.map(str::to_owned) else {
        return Err(Error::other(format!("{} has no user {user}", primary.address())));
    };
    let mut change = vec!["ACL"];
    change.extend(words);
    change_and_cut(primary, &change)?;
    let (server, name) = (primary.clone(), user.to_owned());
    Ok(Fault::new(format!("ACL {} at {}", words.join(" "), primary.address()), move || {
        let mut restore = vec!["ACL", "SETUSER", &name, "reset"];
        restore.extend(rules.split_whitespace());
        run(&server, &restore)
    }))
}

/// In one transaction: nobody who looks meanwhile finds a link that stands under a login that is refused.
fn change_and_cut(primary: &Server, words: &[&str]) -> Result<()> {
    let mut connection = primary.connect().map_err(Error::other)?;
    let mut both = redis::pipe();
    both.atomic();
    for command in [words, &CUT_REPLICAS] {
        let mut one = redis::Cmd::new();
        one.arg(command);
        both.add_command(one).ignore();
    }
    let done = both.exec(&mut connection);
    done.map_err(|error| Error::other(format!("{} at {}: {error}", named(words), primary.address())))
}

pub(crate) fn set_password(server: &Server, password: &str) -> Result<()> {
    run(server, &["CONFIG", "SET", "requirepass", password])?;
    logs_in_with(server, password);
    Ok(())
}

fn logs_in_with(server: &Server, password: &str) {
    server.set_admin_password(Some(password).filter(|password| !password.is_empty()));
}

pub(crate) fn run(server: &Server, words: &[&str]) -> Result<()> {
    let answer = server.run(words);
    answer.map(drop).map_err(|error| Error::other(format!("{} at {}: {error}", named(words), server.address())))
}

/// The arguments may be secrets; the command's name is not.
fn named(words: &[&str]) -> String {
    words.iter().take(2).copied().collect::<Vec<_>>().join(" ")
}

fn describe(settings: &[(&str, &str)]) -> String {
    settings.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}
