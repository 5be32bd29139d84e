//! What there is to try with a group that is left running.

use std::io::Result;
use std::path::Path;

use super::screen::Screen;
use super::{NEW, OLD};
use crate::scene::Scene;
use crate::server::Server;

pub fn explain(scene: &Scene, relinkd: &Path, screen: &mut Screen<'_>) -> Result<()> {
    let (group, config) = (&scene.group, scene.agent.config_path());
    let (primary, replica) = (group.primary(), scene.replica());
    screen.blank()?;
    screen.title("In another terminal")?;
    for line in [
        format!("export REDISCLI_AUTH={OLD}"),
        format!("alias relinkd='{} --config {}'", relinkd.display(), config.display()),
        format!("alias primary='redis-cli -p {}'", primary.endpoint().1),
        format!("alias replica='redis-cli -p {}'", replica.endpoint().1),
        format!("alias sentinel='env -u REDISCLI_AUTH redis-cli -p {}'", group.sentinel(0).endpoint().1),
    ] {
        screen.verbatim(&line)?;
    }
    let store = scene.agent.dir().join("masterauth");
    let store = store.display();
    section(
        screen,
        "See",
        &["relinkd status", "relinkd diagnose", "replica get greeting", "sentinel sentinel masters"],
    )?;
    let rotate = [
        format!("printf {NEW} >{store}   # the secret store"),
        format!("primary config set requirepass {NEW}; primary -a {NEW} --no-auth-warning client kill type replica"),
        format!("primary -a {NEW} --no-auth-warning config set requirepass {OLD}; printf {OLD} >{store}   # and back"),
    ];
    section(screen, "Rotate the password on one side only", &rotate)?;
    section(
        screen,
        "Empty the replica's password",
        &["replica config set masterauth ''", "primary client kill type replica"],
    )?;
    section(screen, "Point it elsewhere", &["replica replicaof 127.0.0.1 1"])?;
    if let Some(pid) = primary.pid() {
        section(
            screen,
            "Hang the primary, then let it go on",
            &[format!("kill -STOP {pid}"), format!("kill -CONT {pid}")],
        )?;
        section(screen, "Kill it", &[format!("kill -9 {pid}")])?;
    }
    section(screen, "Read about it", &["relinkd incidents", "relinkd show cache", "relinkd explain auth-rejected"])?;
    section(
        screen,
        "Files",
        &[
            format!("{}   # relinkd's log", scene.agent.log_path().display()),
            format!("{}   # its configuration", config.display()),
            log("the primary's log", primary),
            log("the replica's log", replica),
        ],
    )?;
    screen.blank()?;
    screen.say("Messages appear here as they come. Enter or Ctrl-C ends it all.")?;
    screen.blank()
}

fn section<T: AsRef<str>>(screen: &mut Screen<'_>, title: &str, lines: &[T]) -> Result<()> {
    screen.blank()?;
    screen.title(title)?;
    lines.iter().try_for_each(|line| screen.verbatim(line.as_ref()))
}

fn log(what: &str, server: &Server) -> String {
    format!("{}   # {what}", server.log_path().display())
}
