//! The second stage: from the raw tree to [`Settings`]. Every problem is reported, none ends the check; where
//! something is wrong a default stands in, and the result is thrown away at the end. Defaults are not here: the
//! settings types own them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys;
use super::problem::{Place, Report};
use super::raw::{Node, Table, Value};
use super::section::Section;
use super::store;
use super::values;
use super::{AgentSettings, GroupSettings, LogFormat, LogLevel, Login, ReplicaSettings, Settings};
use crate::decide::{Mode, Persist, Policy, RemedyPolicy};
use crate::model::remedy::Remedy;
use crate::model::{Address, Endpoint, turn};
use crate::notify::{ChannelKind, ChannelSettings};
use crate::watch::log::LogSource;
use crate::wire::TlsSettings;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const POLL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const RETAIN: RangeInclusive<Duration> = DAY..=Duration::from_secs(86_400 * 3_650);
const LEDGER_SIZE: RangeInclusive<u64> = 1 << 20..=1 << 40;
const UP_TO_AN_HOUR: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// A deep look costs a login on the primary and two lines of its log.
const BACKGROUND: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
const REMIND: RangeInclusive<Duration> = MINUTE..=Duration::from_secs(86_400 * 30);
const PROPOSAL: RangeInclusive<Duration> = MINUTE..=Duration::from_secs(86_400 * 7);
const AFTER_PAUSE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3_600);
/// Runs are remembered for a day, over restarts too.
const COOLDOWN: RangeInclusive<Duration> = SECOND..=DAY;
const STAGGER_MOST: Duration = Duration::from_secs(300);
const LAG: RangeInclusive<u64> = 0..=1 << 40;
const TIMEOUT: RangeInclusive<Duration> = SECOND..=MINUTE;

const LISTEN: &str = "an IP address with a port, as in \"127.0.0.1:9779\" or \"[::1]:9779\", or \"off\"";

const MODES: &[(&str, Mode)] = &[("observe", Mode::Observe), ("propose", Mode::Propose), ("auto", Mode::Auto)];

/// Reads the merged tree. What it returns counts only if nothing was reported.
pub(super) fn check(table: &Table, report: &mut Report) -> Settings {
    let root = Section::root(table);
    root.refuse_unknown("section", keys::SECTIONS, report);
    store::read(&root, report);
    let groups = named(&root, "group", group, report);
    let replicas = named(&root, "replica", |section, report| replica(section, &root, report), report);
    refuse_same_addresses(&root, &replicas, report);
    if root.node("replica").is_none_or(|node| matches!(&node.value, Value::Table(all) if all.is_empty())) {
        report.add_absent(
            root.place,
            None,
            "watches nothing; add a section [replica.NAME] with address = \"HOST:PORT\"",
        );
    }
    Settings {
        agent: agent(&root, report),
        groups,
        replicas,
        policy: policy(&root, report),
        channels: named(&root, "notify", channel, report),
    }
}

/// The sections `[kind.NAME]`. A reader that answers `None` has reported why.
fn named<'a, T>(
    root: &Section<'a>,
    kind: &str,
    read: impl Fn(&Section<'a>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> BTreeMap<String, T> {
    let mut out = BTreeMap::new();
    let Some(node) = root.node(kind) else { return out };
    let Some(all) = Section::open_unchecked(kind.to_owned(), node, report) else { return out };
    for (name, node) in all.entries() {
        // The charset that sentinel.conf documents for the name of a primary.
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !fits {
            report.add(node.place, Some(kind), "a name here must be made of letters, digits and the characters . - _");
            continue;
        }
        let path = all.path_of(name);
        let misplaced = match node.value {
            Value::Table(_) => None,
            Value::List(_) => Some(format!("must be one section; write [{path}] with single brackets, once")),
            _ => Some(format!("stands outside of a named section; write [{kind}.NAME] above its keys")),
        };
        if let Some(text) = misplaced {
            report.add(node.place, Some(&path), text);
            continue;
        }
        if let Some(section) = Section::open_unchecked(path, node, report)
            && let Some(settings) = read(&section, report)
        {
            out.insert(name.to_owned(), settings);
        }
    }
    out
}

fn agent(root: &Section<'_>, report: &mut Report) -> AgentSettings {
    let mut out = AgentSettings::default();
    let Some(node) = root.node("agent") else { return out };
    let Some(section) = Section::open("agent".to_owned(), node, keys::AGENT, report) else { return out };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    set(&mut out.host, section.word("host", report));
    set(&mut out.state_dir, section.absolute_path("state_dir", report));
    set(&mut out.run_dir, section.absolute_path("run_dir", report));
    set(&mut out.listen, section.parsed("listen", LISTEN, &listen, report));
    set(&mut out.log_format, section.choice("log_format", &formats, report));
    set(&mut out.log_level, section.choice("log_level", &levels, report));
    set(&mut out.ledger_retain, section.duration("ledger_retain", RETAIN, report));
    set(&mut out.ledger_max_size_bytes, section.size("ledger_max_size", LEDGER_SIZE, report));
    out
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().ok().filter(|at: &SocketAddr| at.port() != 0).map(Some).ok_or_else(|| LISTEN.to_owned())
}

fn group(section: &Section<'_>, report: &mut Report) -> Option<GroupSettings> {
    section.refuse_unknown("key", keys::GROUP, report);
    section.require("sentinels", "[\"HOST:PORT\", ...]", report);
    let listed =
        section.list("sentinels", "addresses, as in \"10.0.0.11:26379\" or \"[::1]:26379\"", &endpoint, report);
    let mut sentinels: Vec<Endpoint> = Vec::new();
    for (sentinel, place) in listed {
        if sentinels.contains(&sentinel) {
            report.add(place, Some(&section.path_of("sentinels")), "the same address stands here twice; remove one");
        }
        sentinels.push(sentinel);
    }
    section.needs("sentinel_user", "sentinel_password", report);
    section.needs("masteruser", "masterauth", report);
    let mut out = GroupSettings::of(sentinels);
    out.sentinel_user = section.word("sentinel_user", report);
    out.sentinel_password = section.secret("sentinel_password", report);
    out.masteruser = section.word("masteruser", report);
    out.masterauth = section.secret("masterauth", report);
    out.tls = tls(section, report);
    let login =
        |key: &str, report: &mut Report| section.node(key).and_then(|node| login(section.path_of(key), node, report));
    out.observer = login("observer", report);
    out.admin = login("admin", report);
    out.sentinel_auth = login("sentinel_auth", report);
    Some(out)
}

fn login(path: String, node: &Node, report: &mut Report) -> Option<Login> {
    let section = Section::open(path, node, keys::LOGIN, report)?;
    section.require("password", "{ file = \"/etc/relinkd/observer\" }", report);
    let user = section.word("user", report);
    Some(Login { user, password: section.secret("password", report)? })
}

fn tls(section: &Section<'_>, report: &mut Report) -> Option<TlsSettings> {
    let node = section.node("tls")?;
    let path = section.path_of("tls");
    match &node.value {
        Value::Bool(wanted) => wanted.then(TlsSettings::default),
        Value::Table(_) => {
            let section = Section::open(path, node, keys::TLS, report)?;
            section.needs("cert", "key", report);
            section.needs("key", "cert", report);
            Some(TlsSettings {
                ca: section.absolute_path("ca", report),
                ca_dir: None,
                cert: section.absolute_path("cert", report),
                key: section.absolute_path("key", report),
                server_name: section.word("server_name", report),
                any_name: false,
                bare: None,
            })
        }
        other => {
            let text = format!("must be true, false or a table, as in {{ ca = \"/path\" }}, not {}", other.kind());
            report.add(node.place, Some(&path), text);
            None
        }
    }
}

fn replica(section: &Section<'_>, root: &Section<'_>, report: &mut Report) -> Option<ReplicaSettings> {
    section.refuse_unknown("key", keys::REPLICA, report);
    section.require("address", "\"HOST:PORT\", or \"unix:/path\"", report);
    section.needs("user", "password", report);
    let group = section.word("group", report);
    if let Some(name) = &group {
        refuse_unknown_group(section, name, root, report);
    }
    let user = section.word("user", report);
    let password = section.secret("password", report);
    let tls = tls(section, report);
    let log = section.parsed("log", LOG, &log_source, report);
    let poll = section.duration("poll", POLL, report);
    let mut out = ReplicaSettings::at(section.parsed("address", ADDRESS, &address, report)?);
    if let (Address::Unix(_), Some(_), Some(node)) = (&out.address, &tls, section.node("tls")) {
        report.add(node.place, Some(&section.path_of("tls")), "does nothing on a unix socket; remove it");
    }
    out.group = group;
    out.user = user;
    out.password = password;
    out.tls = tls;
    set(&mut out.log, log);
    set(&mut out.poll, poll);
    Some(out)
}

fn refuse_unknown_group(section: &Section<'_>, name: &str, root: &Section<'_>, report: &mut Report) {
    let known: Vec<&str> = match root.node("group").map(|node| &node.value) {
        Some(Value::Table(groups)) => groups.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    if known.contains(&name) {
        return;
    }
    let hint = match known.is_empty() {
        true => "; add a section [group.NAME] with its Sentinels".to_owned(),
        false => keys::nearest(name, &known),
    };
    let place = section.node("group").map_or(section.place, |node| node.place);
    report.add_absent(place, Some(&section.path_of("group")), format!("names a group that has no section{hint}"));
}

/// Two agents on one instance would undo each other's work.
fn refuse_same_addresses(root: &Section<'_>, replicas: &BTreeMap<String, ReplicaSettings>, report: &mut Report) {
    let place = |name: &str| -> Option<Place> {
        let Value::Table(all) = &root.node("replica")?.value else { return None };
        let Value::Table(replica) = &all.get(name)?.value else { return None };
        Some(replica.get("address")?.place)
    };
    let mut taken: BTreeMap<&Address, Vec<(Place, &str)>> = BTreeMap::new();
    for (name, replica) in replicas {
        if let Some(place) = place(name) {
            taken.entry(&replica.address).or_default().push((place, name));
        }
    }
    for mut names in taken.into_values() {
        names.sort();
        let Some(((first, owner), others)) = names.split_first() else { continue };
        for (place, name) in others {
            let text = format!("is the address of replica.{owner} too ({})", report.locate(*first));
            report.add(*place, Some(&format!("replica.{name}.address")), text);
        }
    }
}

fn policy(root: &Section<'_>, report: &mut Report) -> Policy {
    let mut out = Policy::default();
    let Some(node) = root.node("policy") else { return out };
    let Some(section) = Section::open_unchecked("policy".to_owned(), node, report) else { return out };
    let codes: Vec<&str> = Remedy::ALL.iter().map(|remedy| remedy.code()).collect();
    for (key, node) in section.entries() {
        if keys::POLICY.contains(&key) || codes.contains(&key) {
            continue;
        }
        let (what, known) = match node.value {
            Value::Table(_) => ("remedy", codes.as_slice()),
            _ => ("key", keys::POLICY),
        };
        section.refuse_one(key, node, what, known, report);
    }
    let persists = [("rewrite", Persist::Rewrite), ("runtime", Persist::Runtime)];
    let mode = section.choice("mode", MODES, report).unwrap_or(Mode::Auto);
    set(&mut out.persist, section.choice("persist", &persists, report));
    set(&mut out.blip, section.duration("blip", UP_TO_AN_HOUR, report));
    set(&mut out.patience, section.duration("patience", UP_TO_AN_HOUR, report));
    set(&mut out.settle, section.duration("settle", UP_TO_AN_HOUR, report));
    set(&mut out.remind, section.duration("remind", REMIND, report));
    set(&mut out.background, section.duration("background", BACKGROUND, report));
    set(&mut out.max_attempts, section.count("max_attempts", 1..=100, report));
    set(&mut out.max_failures, section.count("max_failures", 1..=100, report));
    set(&mut out.max_per_hour, section.count("max_per_hour", 1..=1000, report));
    set(&mut out.proposal_expires, section.duration("proposal_expires", PROPOSAL, report));
    set(&mut out.after_pause, section.duration("after_pause", AFTER_PAUSE, report));
    for remedy in Remedy::ALL {
        let node = section.node(remedy.code());
        let own = node.and_then(|node| self::remedy(*remedy, section.path_of(remedy.code()), node, &mut out, report));
        let mut settled = RemedyPolicy::default_for(*remedy);
        // The more careful of the two, unless the remedy has a mode of its own.
        settled.mode = settled.mode.min(mode);
        out.remedies.insert(*remedy, own.map_or(settled.clone(), |own| own.over(settled)));
    }
    out
}

/// `[policy.REMEDY]` as far as it is written.
struct OwnPolicy {
    mode: Option<Mode>,
    after: Option<Duration>,
    cooldown: Option<Duration>,
    max_per_hour: Option<u32>,
}

impl OwnPolicy {
    fn over(self, base: RemedyPolicy) -> RemedyPolicy {
        RemedyPolicy {
            mode: self.mode.unwrap_or(base.mode),
            after: self.after.unwrap_or(base.after),
            cooldown: self.cooldown.unwrap_or(base.cooldown),
            max_per_hour: self.max_per_hour.unwrap_or(base.max_per_hour),
        }
    }
}

fn remedy(remedy: Remedy, path: String, node: &Node, policy: &mut Policy, report: &mut Report) -> Option<OwnPolicy> {
    let known = if remedy == Remedy::RequestFailover { keys::REQUEST_FAILOVER } else { keys::REMEDY };
    let section = Section::open(path, node, known, report)?;
    if remedy == Remedy::RequestFailover {
        set(&mut policy.max_lag_bytes, section.size("max_lag_bytes", LAG, report));
        set(&mut policy.stagger, stagger(&section, report));
        set(&mut policy.allow_live_primary, section.flag("allow_live_primary", report));
    }
    Some(OwnPolicy {
        mode: section.choice("mode", MODES, report),
        after: section.duration("after", Duration::ZERO..=DAY, report),
        cooldown: section.duration("cooldown", COOLDOWN, report),
        max_per_hour: section.count("max_per_hour", 1..=1_000, report),
    })
}

/// In a shorter turn there is no moment in which another agent's request, if there was one, has surely become visible.
fn stagger(section: &Section<'_>, report: &mut Report) -> Option<Duration> {
    const LEAST: Duration = Duration::from_millis(turn::SMALLEST_STAGGER_MS);
    let node = section.node("stagger")?;
    let short = matches!(&node.value, Value::Text(text) if values::duration(text).is_some_and(|span| span < LEAST));
    if !short {
        return section.duration("stagger", LEAST..=STAGGER_MOST, report);
    }
    let (place, least) = (node.place, values::spell_duration(LEAST));
    let text = format!(
        "must be \"{least}\" at least: in less, the news of another agent's request may not have spread, and two agents could ask two Sentinels for a failover"
    );
    report.add(place, Some(&section.path_of("stagger")), text);
    None
}

fn channel(section: &Section<'_>, report: &mut Report) -> Option<ChannelSettings> {
    section.require("kind", "\"webhook\" or \"slack\"", report);
    section.require("url", "{ file = \"/etc/relinkd/url\" }", report);
    let kinds = [("webhook", keys::WEBHOOK), ("slack", keys::SLACK)];
    let known = section.choice("kind", &kinds, report);
    section.refuse_unknown("key", known.unwrap_or(keys::WEBHOOK), report);
    let url = section.secret("url", report);
    let timeout = section.duration("timeout", TIMEOUT, report);
    let is_webhook = known == Some(keys::WEBHOOK);
    let secret = if is_webhook { section.secret("secret", report) } else { None };
    let kind = match (known?, url?) {
        (_, url) if is_webhook => ChannelKind::Webhook { url, secret },
        (_, url) => ChannelKind::Slack { url },
    };
    let mut out = ChannelSettings::of(kind);
    set(&mut out.timeout, timeout);
    Some(out)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// The model's own message is dropped here and below: it quotes the text, which may be a URL with a password in it.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|_| String::new())
}

const ADDRESS: &str = "\"HOST:PORT\", as in \"127.0.0.1:6379\", or \"unix:/path\" of a socket";

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| ADDRESS.to_owned())
}

const LOG: &str = "\"auto\", \"off\", \"file:/path\" or \"journal:UNIT\"";

fn log_source(text: &str) -> Result<LogSource, String> {
    text.parse().map_err(|_| LOG.to_owned())
}
