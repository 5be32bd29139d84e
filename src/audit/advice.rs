//! The commands that a mend is: those of the servers' own client, with what this group needs on its command line.

use super::Ground;
use crate::model::Endpoint;
use crate::model::evidence::Flavour;
use crate::model::shell::quoted;

impl Ground<'_> {
    /// The command line of a data node.
    pub(super) fn cli(&self, address: &Endpoint) -> String {
        let node = self.view.nodes.iter().find(|node| node.address == *address);
        let tls = match node.and_then(|node| node.settings.seen()).map(|settings| settings.tls_replication) {
            Some(true) => Some(self.view.tls.as_deref().unwrap_or("--tls")),
            Some(false) => None,
            None => self.view.tls.as_deref(),
        };
        cli(node.and_then(|node| self.known(node)).map(|known| known.build().0), address, tls)
    }

    /// The command line of a Sentinel: its flavour is not read, so it is taken for that of the data nodes.
    pub(super) fn sentinel_cli(&self, address: &Endpoint) -> String {
        cli(self.flavour(), address, self.view.tls.as_deref())
    }

    /// The command line of any node.
    pub(super) fn any_cli(&self) -> String {
        let tls = self.view.tls.as_ref().map(|flags| format!(" {flags}")).unwrap_or_default();
        format!("{} -h HOST -p PORT{tls}", program(self.flavour()))
    }

    /// The group's name, as a word of a command.
    pub(super) fn group(&self) -> String {
        quoted(&self.view.name)
    }

    fn flavour(&self) -> Option<Flavour> {
        self.view.nodes.iter().find_map(|node| Some(self.known(node)?.build().0))
    }

    /// Sets a parameter for now and for the next start, one command a line where the client cannot tell an error: without
    /// `-e` it ends well after one, and `&&` guards nothing (redis-cli before 7.0).
    pub(super) fn set(&self, address: &Endpoint, parameter: &str, value: &str, note: &str) -> Vec<String> {
        let (cli, value) = (self.cli(address), quoted(value));
        let node = self.view.nodes.iter().find(|node| node.address == *address);
        let note = if note.is_empty() { String::new() } else { format!("   # {note}") };
        match node.and_then(|node| self.known(node)).is_some_and(|known| known.is_since_redis_7()) {
            true => vec![format!("{cli} -e CONFIG SET {parameter} {value} && {cli} CONFIG REWRITE{note}")],
            false => vec![format!("{cli} CONFIG SET {parameter} {value}{note}"), format!("{cli} CONFIG REWRITE")],
        }
    }
}

fn program(flavour: Option<Flavour>) -> &'static str {
    if flavour == Some(Flavour::Valkey) { "valkey-cli" } else { "redis-cli" }
}

fn cli(flavour: Option<Flavour>, address: &Endpoint, tls: Option<&str>) -> String {
    let (program, host) = (program(flavour), quoted(&address.host));
    match (address.port, tls) {
        (0, _) => format!("{program} -s {host}"),
        (port, Some(tls)) => format!("{program} -h {host} -p {port} {tls}"),
        (port, None) => format!("{program} -h {host} -p {port}"),
    }
}
