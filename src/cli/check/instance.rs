//! One watched instance: reached, logged in, allowed what relinkd needs, its own file, its log, and its primary.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::super::{Exit, once};
use super::permission::{self, Account, Need, cli_at};
use super::primary;
use super::report::{Section, exit_of};
use super::successor;
use crate::act::config_file;
use crate::collect::{self, Ask};
use crate::daemon::Watched;
use crate::daemon::clock::Clock;
use crate::decide::{Persist, Policy};
use crate::model::evidence::{Evidence, Flavour, Missing, Reading, Role, ServerView};
use crate::watch::log::{self, Resolved, ServerLog};
use crate::wire::{Dial, Reader};

/// For everything that is asked of one server.
pub const WITHIN: Duration = Duration::from_secs(3);

pub async fn check(watched: &Watched, policy: &Policy) -> Section {
    let mut section = Section::new(format!("instance {} ({})", watched.name, watched.replica.address));
    let dials = watched.dials().await;
    let clock = Clock::start();
    let now = move || clock.now();
    let (offers, store) = watched.candidates(None).await;
    let ask = Ask {
        meet_replicas: false,
        refused: &[],
        followed: None,
        candidates: &offers,
        store,
        log: Reading::Missing(Missing::NotAsked),
        clock: &now,
        deadline: WITHIN,
        probe_upstream: true,
    };
    let target = watched.target(&dials);
    let (evidence, reader) = tokio::join!(collect::look(&target, ask), Reader::connect(&dials.local, WITHIN));
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(error) => {
            let why = Missing::from(&error);
            let next = match exit_of(&why) {
                Exit::Permission => "correct user and password of the instance in the configuration, or on the server",
                _ => "systemctl status redis-server valkey-server   # the daemon itself would start, and wait for it",
            };
            section.problem(exit_of(&why), "reached", error.to_string(), [next.to_owned()]);
            return section;
        }
    };
    let flavour = evidence.local.seen().map(|view| view.flavour);
    let cli = if flavour == Some(Flavour::Valkey) { "valkey-cli" } else { "redis-cli" };
    let account = Account { cli: cli_at(cli, &dials.local.address), user: &dials.local.user };
    let reads = [
        Need::new(&["INFO"], "+info", true),
        Need::new(&["ROLE"], "+role", true),
        Need::new(&["CONFIG", "GET", "dir"], "+config|get", true),
        Need::new(&["CLIENT", "SETNAME", "relinkd"], "+client|setname", false),
    ];
    if !permission::try_reads(&mut section, &mut reader, &account, &reads, WITHIN).await {
        return section;
    }
    let needs = permission::for_acting(policy, watched.store().is_some(), watched.group.is_some());
    permission::dry_run(&mut section, &mut reader, &account, &needs, WITHIN).await;
    server(&mut section, &evidence, policy, &dials.local);
    // What it is comes first, whatever was asked first.
    section.lines.sort_by_key(|line| line.what != "reached");
    server_log(&mut section, watched, &evidence).await;
    primary::tell(&mut section, &evidence);
    successor::check(&mut section, watched, policy, &dials, &mut reader, &evidence).await;
    section
}

fn server(section: &mut Section, evidence: &Evidence, policy: &Policy, dial: &Dial) {
    let view = match &evidence.local {
        Reading::Seen(view) => view,
        Reading::Missing(why) => {
            section.problem(exit_of(why), "reached", format!("{}: {why}", dial.address), []);
            return;
        }
    };
    let flavour = if view.flavour == Flavour::Valkey { "Valkey" } else { "Redis" };
    let role = match &view.role {
        Role::Primary => "a primary now".to_owned(),
        Role::Replica(link) => {
            format!("a replica of {}, its link is {}", link.primary, if link.up { "up" } else { "down" })
        }
        Role::Sentinel => {
            section.problem(
                Exit::Fault,
                "reached",
                "this is a Sentinel, and no data node",
                ["put its address into sentinels of a [group.NAME], and the data node's here".to_owned()],
            );
            return;
        }
    };
    section.ok("reached", format!("{flavour} {}, {role}", view.version));
    if policy.persist == Persist::Rewrite {
        own_file(section, view);
    }
}

/// Whether CONFIG REWRITE can keep a change, and who may undo it.
fn own_file(section: &mut Section, view: &ServerView) {
    let file = config_file::look(&view.config_file);
    if let Some(reason) = file.reason_to_leave() {
        section.warn(
            "config file",
            format!("a change is not written there: {reason}; it lasts until the server restarts"),
            ["or say so: [policy] persist = \"runtime\"".to_owned()],
        );
        return;
    }
    let shown = &view.config_file;
    if let Some(why) = view.process_id.and_then(|pid| cannot_replace(pid, Path::new(shown))) {
        section.warn("config file", format!("CONFIG REWRITE will fail: {why}"), []);
    } else if let Some(manager) = file.managed_by() {
        section.warn(
            "config file",
            manager,
            ["give the config manager the same secret store, or set [policy] persist = \"runtime\"".to_owned()],
        );
    } else {
        section.ok("config file", shown.clone());
    }
}

/// CONFIG REWRITE makes a new file beside the old one and renames it (Redis 7.0.15, rewriteConfigOverwriteFile), so the
/// server's user has to be able to write in the directory. None: it can, or that cannot be seen from here.
fn cannot_replace(pid: u32, file: &Path) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if !comm.starts_with("redis") && !comm.starts_with("valkey") {
        return None;
    }
    let process = std::fs::metadata(format!("/proc/{pid}")).ok()?;
    let dir = file.parent()?;
    let meta = std::fs::metadata(dir).ok()?;
    let writes = match () {
        () if process.uid() == 0 => true,
        () if process.uid() == meta.uid() => meta.mode() & 0o200 != 0,
        () if process.gid() == meta.gid() => meta.mode() & 0o020 != 0,
        // Its further groups are not looked at: then it is not claimed that it cannot.
        () => meta.mode() & 0o022 != 0,
    };
    (!writes).then(|| {
        format!(
            "the server's user (uid {}) may not write in {} (mode {:04o})",
            process.uid(),
            dir.display(),
            meta.mode() & 0o7777
        )
    })
}

/// The last 64 KiB.
fn tail(file: &std::fs::File) -> Option<Vec<u8>> {
    const BACK: u64 = 64 * 1024;
    let from = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len().saturating_sub(BACK);
    let mut bytes = vec![0; usize::try_from(BACK).ok()?];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut bytes, from).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// Where the server logs, and whether this user can read it. Several causes stand nowhere else.
async fn server_log(section: &mut Section, watched: &Watched, evidence: &Evidence) {
    let server = evidence.settings.seen().map(|settings| ServerLog {
        logfile: settings.logfile.clone(),
        dir: settings.dir.clone(),
        process_id: evidence.local.seen().and_then(|view| view.process_id),
    });
    const NEXT: &str = "name it: log = \"file:/path\" or log = \"journal:UNIT\" in the instance's section";
    match log::resolve(&watched.replica.log, server.as_ref()) {
        Resolved::Off => section.ok("log", "not read, as configured"),
        Resolved::Nothing(why) => section.warn("log", why, [NEXT.to_owned()]),
        Resolved::File(path) => match std::fs::File::open(&path) {
            Ok(file) if tail(&file).as_deref().and_then(log::tells_of_a_server) == Some(false) => section.warn(
                "log",
                format!("{} can be read, and no line at its end is in a server's form", path.display()),
                [NEXT.to_owned()],
            ),
            Ok(_) => section.ok("log", format!("{} can be read", path.display())),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => section.warn(
                "log",
                format!("{} cannot be read by uid {}: {error}", path.display(), rustix::process::geteuid().as_raw()),
                [format!("usermod -a -G $(stat -c %G {}) relinkd   # then restart relinkd", path.display())],
            ),
            Err(error) => section.warn("log", format!("{}: {error}", path.display()), [NEXT.to_owned()]),
        },
        Resolved::Journal(unit) => match once::read_journal(&unit).await {
            Ok(true) => section.ok("log", format!("the journal of {unit} can be read")),
            Ok(false) => section.warn(
                "log",
                format!("the journal shows no line of {unit} to uid {}", rustix::process::geteuid().as_raw()),
                ["usermod -a -G systemd-journal relinkd   # then restart relinkd".to_owned()],
            ),
            Err(why) => section.warn("log", why, [NEXT.to_owned()]),
        },
    }
}
