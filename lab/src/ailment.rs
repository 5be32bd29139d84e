//! Faults of a server's own condition: busy, full, unable to fork, without a command, stalled in the middle of a sync.
//!
//! Like those in [`crate::fault`], each undoes itself when dropped. What breaks a link by a password, a signal or a
//! setting is there.

use std::fs;
use std::io::{Error, Result};
use std::process::Command;
use std::thread;
use std::time::Duration;

use redis::Connection;

use crate::fault::{Fault, configure, run, set_password};
use crate::namespace::succeed;
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

/// The password changes and the links stand: the next login of each replica will be refused.
pub fn change_password(primary: &Server, new: &str) -> Result<Fault> {
    let old = primary.admin_password().unwrap_or_default();
    set_password(primary, new)?;
    let server = primary.clone();
    Ok(Fault::new(format!("password of {} changed", primary.address()), move || set_password(&server, &old)))
}

/// A script runs without end, and has run past `busy-reply-threshold` soon after; undone by SCRIPT KILL.
pub fn endless_script(server: &Server) -> Result<Fault> {
    configure(server, &[("busy-reply-threshold", "100")])?.keep();
    let mut connection = server.connect().map_err(Error::other)?;
    thread::spawn(move || {
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut connection);
    });
    let busy = |server: &Server| server.run(&["PING"]).is_err_and(|error| error.code() == Some("BUSY"));
    if server.wait_until(busy, Duration::from_secs(5)).is_none() {
        return Err(Error::other(format!("{} is not busy", server.address())));
    }
    let busy = server.clone();
    Ok(Fault::new(format!("{} runs a script", server.address()), move || run(&busy, &["SCRIPT", "KILL"])))
}

/// No connection is left for anybody new. The way back is a connection that was made before.
pub fn exhaust_connections(server: &Server) -> Result<Fault> {
    let mut kept = server.connect().map_err(Error::other)?;
    let limit = |kept: &mut Connection, count: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(count).exec(kept).map_err(Error::other)
    };
    limit(&mut kept, "1")?;
    Ok(Fault::new(format!("maxclients of {} reached", server.address()), move || limit(&mut kept, "10000")))
}

/// The server, which runs as a user of its own, cannot start another process.
pub fn no_fork(server: &Server) -> Result<Fault> {
    let (Some(user), Some(pid)) = (server.user(), server.pid()) else {
        return Err(Error::other(format!("{} does not run as a user of its own", server.address())));
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let hard = limits.lines().find(|line| line.starts_with("Max processes"));
    let hard = hard.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("unlimited").to_owned();
    // Only the user itself may change the limits of its processes where root lacks CAP_SYS_RESOURCE, as in a container.
    let set = move |count: &str| {
        let user = user.to_string();
        let limit = format!("--nproc={count}:");
        let words = ["--reuid", &user, "--clear-groups", "--", "prlimit", "--pid", &pid.to_string(), &limit];
        succeed(Command::new("setpriv").args(words))
    };
    set("1")?;
    Ok(Fault::new(format!("{} cannot fork", server.address()), move || set(&hard)))
}

/// The disk is full and a save has failed: a primary refuses its replicas (`-MISCONF`), a replica ends at its next write.
/// The server's `dir` has to lie on a small disk. Undoing makes room and saves once.
pub fn fail_to_save(server: &Server) -> Result<Fault> {
    let disk = server.disk().ok_or_else(|| Error::other(format!("{} has no disk to fill", server.address())))?;
    // Without a schedule for saves, one that fails stops no write (Redis 7.0, writeCommandsDeniedByDiskError).
    let settings = configure(server, &[("save", "3600 1000000")])?;
    let full = disk.fill()?;
    begin_to_save(server)?;
    last_save(server, "err")?;
    let saved = server.clone();
    let again = Fault::new("a save", move || begin_to_save(&saved).and_then(|()| last_save(&saved, "ok")));
    Ok(settings.and(again).and(full))
}

/// BGSAVE, as soon as a save for a replica's sync has ended.
pub fn begin_to_save(server: &Server) -> Result<()> {
    let begun = server.wait_until(|server| server.run(&["BGSAVE"]).is_ok(), PATIENCE);
    begun.map(drop).ok_or_else(|| Error::other(format!("{} begins no save", server.address())))
}

fn last_save(server: &Server, wanted: &str) -> Result<()> {
    let told = |server: &Server| server.info("persistence", "rdb_last_bgsave_status").as_deref() == Some(wanted);
    let told = server.wait_until(told, PATIENCE);
    told.map(drop).ok_or_else(|| Error::other(format!("the last save of {} is not {wanted}", server.address())))
}

/// The server restarts with its data set, and takes `us_per_key` to load each key. Undoing lets it go on at full speed.
pub fn slow_load(server: &Server, us_per_key: u32) -> Result<Fault> {
    let saved = server.wait_until(|server| server.run(&["SAVE"]).is_ok(), PATIENCE);
    saved.ok_or_else(|| Error::other(format!("{} does not save", server.address())))?;
    let conf = server.conf_path();
    let before = fs::read_to_string(&conf)?;
    let slow = format!("key-load-delay {us_per_key}\nloading-process-events-interval-bytes 1024\n");
    fs::write(&conf, format!("{before}\n{slow}"))?;
    server.restart()?;
    let loading = server.clone();
    Ok(Fault::new(format!("{} loads slowly", server.address()), move || {
        fs::write(loading.conf_path(), before)?;
        run(&loading, &["CONFIG", "SET", "key-load-delay", "0"])
    }))
}

/// The command is renamed away, which takes a restart; undone by another one.
pub fn rename_away(server: &Server, commands: &[&str]) -> Result<Fault> {
    let conf = server.conf_path();
    let before = fs::read_to_string(&conf)?;
    let lines: Vec<String> = commands.iter().map(|command| format!("rename-command {command} \"\"")).collect();
    fs::write(&conf, format!("{before}\n{}\n", lines.join("\n")))?;
    server.restart()?;
    let renamed = server.clone();
    Ok(Fault::new(format!("{} of {} renamed", commands.join(", "), server.address()), move || {
        fs::write(renamed.conf_path(), before)?;
        renamed.restart()
    }))
}

/// The process that sends the data set stops in the middle; the server itself goes on.
pub fn freeze_children(server: &Server) -> Result<Fault> {
    let pid = server.pid().ok_or_else(|| Error::other(format!("{} is not running", server.address())))?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children: Vec<String> = children.split_whitespace().map(str::to_owned).collect();
    if children.is_empty() {
        return Err(Error::other(format!("{} has no child process", server.address())));
    }
    let signal = |name: &str, children: &[String]| succeed(Command::new("kill").arg(name).args(children));
    signal("-STOP", &children)?;
    Ok(Fault::new(format!("children of {} frozen", server.address()), move || signal("-CONT", &children)))
}
