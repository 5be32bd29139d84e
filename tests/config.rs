//! The configuration as a user meets it: files in, settings or all problems at once out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relinkd::config::{self, AgentSettings, GroupSettings, LogFormat, LogLevel, Problems, ReplicaSettings, Settings};
use relinkd::decide::{Mode, Persist, Policy};
use relinkd::model::remedy::Remedy;
use relinkd::notify::{ChannelKind, ChannelSettings};
use relinkd::secrets::{AwsLogin, AwsSettings, SecretRef};

#[path = "config/damage.rs"]
mod damage;

const EXAMPLE: &str = include_str!("../config.example.toml");
const CANARY: &str = "c4nary-in-the-mine";

/// The smallest configuration that stands.
const LEAST: &str = "[replica.cache]\naddress = '127.0.0.1:6379'\n";

fn parse(text: &str) -> Result<Settings, Problems> {
    config::parse(&[("config.toml".into(), text.to_owned())])
}

fn sound(text: &str) -> Settings {
    parse(text).unwrap_or_else(|problems| panic!("{problems}\nin:\n{text}"))
}

/// The problems as lines, without the head.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().skip(1).map(str::to_owned).collect(),
    }
}

// ---- the example ----------------------------------------------------------------------------------------------------

/// Takes the comment mark off defaults (`#key = `).
fn with_defaults_written() -> String {
    EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// Takes it off examples (`# key = `, `# [section]`) too.
fn with_all_written() -> String {
    let uncomment = |line: &str| {
        let bare = line
            .strip_prefix("# ")
            .filter(|rest| is_setting(rest) || rest.starts_with("[notify.") || rest.starts_with("[store."));
        bare.unwrap_or(line).to_owned() + "\n"
    };
    with_defaults_written().lines().map(uncomment).collect()
}

/// The example shows all ways to log in to Vault and to AWS, and a configuration has one.
fn with_one_login(text: &str) -> String {
    let other =
        |part: &&str| !["[store.vault.kubernetes]", "[store.vault.certificate]"].iter().any(|it| part.contains(it));
    let kept: Vec<&str> = text.split("\n\n").filter(other).collect();
    kept.join("\n\n")
        .lines()
        .filter(|line| !line.starts_with("token = ") && !line.starts_with("profile = "))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn the_example_is_the_defaults_and_the_smallest_useful_configuration() {
    let sentinels = ["10.0.0.11:26379", "10.0.0.12:26379", "10.0.0.13:26379"].map(|text| text.parse().unwrap());
    let mut group = GroupSettings::of(sentinels.to_vec());
    group.masterauth = Some(SecretRef::File("/etc/relinkd/masterauth".into()));
    let mut replica = ReplicaSettings::at("127.0.0.1:6379".parse().unwrap());
    replica.group = Some("mymaster".into());
    let channel = ChannelSettings::of(ChannelKind::Slack { url: SecretRef::Credential("slack-url".into()) });
    let expected = Settings {
        agent: AgentSettings::default(),
        groups: BTreeMap::from([("mymaster".into(), group)]),
        replicas: BTreeMap::from([("cache".into(), replica)]),
        policy: Policy::default(),
        channels: BTreeMap::from([("ops".into(), channel)]),
    };
    assert_eq!(sound(EXAMPLE), expected);
    let written = with_defaults_written();
    assert_ne!(written, EXAMPLE);
    assert_eq!(sound(&written), expected);
}

#[test]
fn every_key_of_the_parser_stands_in_the_example() {
    let text = with_all_written();
    sound(&with_one_login(&text));
    let tree: toml::Table = text.parse().unwrap();
    let named = |section: &str| tree[section].as_table().unwrap();
    for (path, keys) in config::TABLES {
        let tables: Vec<&toml::Table> = match path.split_once(" (kind ") {
            Some((_, kind)) => named("notify")
                .values()
                .filter_map(toml::Value::as_table)
                .filter(|channel| channel["kind"].as_str() == Some(kind.trim_end_matches(')')))
                .collect(),
            None if *path == "secret reference" => references(&tree),
            // One example of a `tls` table serves both places.
            None => at(&tree, &path.replace("replica.NAME.tls", "group.NAME.tls")),
        };
        for key in *keys {
            assert!(tables.iter().any(|table| table.contains_key(*key)), "{path}: {key} is not in config.example.toml");
        }
    }
}

/// The tables at a path in which NAME stands for any name.
fn at<'t>(tree: &'t toml::Table, path: &str) -> Vec<&'t toml::Table> {
    path.split('.').filter(|part| !part.is_empty()).fold(vec![tree], |tables, part| {
        let inner = |table: &'t toml::Table| -> Vec<&'t toml::Table> {
            let fits = |key: &str| part == "NAME" || key == part;
            table.iter().filter(|(key, _)| fits(key)).filter_map(|(_, value)| value.as_table()).collect()
        };
        tables.into_iter().flat_map(inner).collect()
    })
}

/// Every table, however deep: secret references are among them.
fn references(table: &toml::Table) -> Vec<&toml::Table> {
    let inner = table.values().filter_map(toml::Value::as_table).flat_map(references);
    inner.chain(std::iter::once(table)).collect()
}

#[test]
fn every_key_of_the_parser_is_read() {
    for (path, keys) in config::TABLES {
        for key in keys.iter().filter(|_| !path.is_empty()) {
            // No key is a date, so a key that is read objects to one.
            let (text, expected) = match *path {
                "secret reference" => (
                    format!("[group.NAME]\nmasterauth = {{ {key} = 1979-05-27 }}"),
                    format!("group.NAME.masterauth.{key}"),
                ),
                _ => match path.split_once(" (kind ") {
                    Some((path, _)) if *key == "kind" => {
                        (format!("[{path}]\nkind = 1979-05-27"), format!("{path}.kind"))
                    }
                    Some((path, kind)) => {
                        let kind = kind.trim_end_matches(')');
                        (format!("[{path}]\nkind = '{kind}'\n{key} = 1979-05-27"), format!("{path}.{key}"))
                    }
                    None => (format!("[{path}]\n{key} = 1979-05-27"), format!("{path}.{key}")),
                },
            };
            let found = parse(&text).unwrap_err();
            let hit = found
                .iter()
                .find(|problem| problem.key.as_deref() == Some(&expected) && problem.text.starts_with("must be"));
            assert!(hit.is_some(), "{expected} is known and not read: {found}");
        }
    }
}

// ---- what is read ---------------------------------------------------------------------------------------------------

#[test]
fn every_key_arrives_in_the_settings() {
    let settings = sound(include_str!("data/config/full.toml"));
    let agent = &settings.agent;
    assert_eq!(agent.host, "db-21");
    assert_eq!((agent.state_dir.as_path(), agent.run_dir.as_path()), (Path::new("/tmp/state"), Path::new("/tmp/run")));
    assert_eq!(agent.listen.map(|at| at.to_string()).as_deref(), Some("[::1]:9780"));
    assert_eq!((agent.log_format, agent.log_level), (LogFormat::Json, LogLevel::Debug));
    assert_eq!((agent.ledger_retain, agent.ledger_max_size_bytes), (Duration::from_secs(7 * 86_400), 64_000_000));

    let replica = &settings.replicas["cache"];
    assert_eq!(replica.address.to_string(), "unix:/run/redis/redis.sock");
    assert_eq!(
        (replica.user.as_deref(), replica.log.to_string()),
        (Some("relinkd"), "journal:redis-server@6379.service".to_owned())
    );
    assert_eq!(replica.password, Some(SecretRef::Env("CACHE_PASSWORD".into())));
    assert_eq!(replica.poll, Duration::from_millis(250));
    assert!(replica.tls.is_none(), "tls = false");
    assert_eq!(settings.replicas["queue"].tls.clone().unwrap(), Default::default());

    let group = settings.group_of(replica).unwrap();
    assert_eq!(group.sentinels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.11:26379", "[::1]:26380"]);
    assert_eq!((group.sentinel_user.as_deref(), group.masteruser.as_deref()), (Some("watcher"), Some("repl")));
    assert_eq!(group.sentinel_password, Some(SecretRef::Credential("sentinel".into())));
    assert_eq!(group.masterauth, Some(SecretRef::Exec(vec!["/bin/prog".into(), "a b".into()])));
    let tls = group.tls.as_ref().unwrap();
    assert_eq!((tls.ca.as_deref(), tls.cert.as_deref()), (Some(Path::new("/ca.pem")), Some(Path::new("/cert.pem"))));
    assert_eq!((tls.key.as_deref(), tls.server_name.as_deref()), (Some(Path::new("/key.pem")), Some("redis.example")));
    let observer = group.observer.as_ref().unwrap();
    assert_eq!((observer.user.as_deref(), &observer.password), (Some("o"), &SecretRef::File("/etc/o".into())));

    let policy = &settings.policy;
    assert_eq!((policy.persist, policy.max_attempts, policy.max_lag_bytes), (Persist::Runtime, 9, 4096));
    assert_eq!((policy.stagger.as_secs(), policy.allow_live_primary), (12, true));
    let spans =
        [policy.blip, policy.patience, policy.settle, policy.remind, policy.background].map(|span| span.as_secs());
    assert_eq!(spans, [2, 90, 5, 7200, 45]);
    let failover = policy.of(Remedy::RequestFailover);
    assert_eq!((failover.mode, failover.max_per_hour), (Mode::Auto, 1));
    assert_eq!((failover.after.as_secs(), failover.cooldown.as_secs()), (20, 1800));

    let hook = &settings.channels["hook"];
    let (url, secret) = (SecretRef::File("/etc/url".into()), Some(SecretRef::File("/etc/secret".into())));
    assert_eq!((&hook.kind, hook.timeout.as_secs()), (&ChannelKind::Webhook { url, secret }, 3));
}

#[test]
fn a_remedy_gets_its_own_mode_or_the_more_careful_of_two() {
    let table: &[(&str, Mode, Mode)] = &[
        // written under [policy] .......................... realign-auth, request-failover
        ("", Mode::Auto, Mode::Auto),
        ("mode = 'auto'", Mode::Auto, Mode::Auto),
        ("mode = 'propose'", Mode::Propose, Mode::Propose),
        ("mode = 'observe'", Mode::Observe, Mode::Observe),
        ("request-failover.mode = 'propose'", Mode::Auto, Mode::Propose),
        ("mode = 'observe'\nrealign-auth.mode = 'auto'", Mode::Auto, Mode::Observe),
        ("request-failover.mode = 'auto'", Mode::Auto, Mode::Auto),
        ("mode = 'propose'\nrequest-failover.after = '1s'", Mode::Propose, Mode::Propose),
    ];
    for (written, realign, failover) in table {
        let policy = sound(&format!("{LEAST}[policy]\n{written}\n")).policy;
        assert_eq!(policy.of(Remedy::RealignAuth).mode, *realign, "{written}");
        assert_eq!(policy.of(Remedy::RequestFailover).mode, *failover, "{written}");
    }
}

// ---- what is refused ------------------------------------------------------------------------------------------------

#[test]
fn each_mistake_is_told_with_line_key_and_cure() {
    let (_, blocks) = include_str!("data/config/mistakes.txt").split_once("\n\n").unwrap();
    for block in blocks.trim_end().split("\n\n") {
        let (written, expected) = block.split_once("\n=> ").unwrap();
        assert_eq!(problems(&format!("{LEAST}{written}\n")), [format!("config.toml:{expected}")], "{written}");
    }
}

#[test]
fn a_section_that_is_no_table_is_told() {
    let found = problems("agent = 1\npolicy = 'x'\nreplica = []\nnotify = true\n[group]\ng = 5\n");
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(found[0], "config.toml:1: agent: must be a table, as in [agent], not a number");
}

#[test]
fn a_configuration_that_watches_nothing_is_told_so() {
    let said = r#"config.toml: watches nothing; add a section [replica.NAME] with address = "HOST:PORT""#;
    assert_eq!(problems(""), [said]);
    assert_eq!(problems("[agent]\n"), [said]);
    assert_eq!(problems("[replica]\n"), [said]);
}

#[test]
fn a_secret_that_stands_in_the_file_is_refused_and_not_repeated() {
    for key in ["masterauth", "sentinel_password"] {
        for literal in [format!("'{CANARY}'"), format!("['{CANARY}']"), "12345".to_owned()] {
            let found = problems(&format!("{LEAST}[group.g]\nsentinels = ['a:1']\n{key} = {literal}"));
            assert_eq!(found.len(), 1);
            assert!(
                found[0].starts_with(&format!("config.toml:5: group.g.{key}: must be a reference to a secret")),
                "{found:?}"
            );
            assert!(!found[0].contains(CANARY) && !found[0].contains("12345"), "{found:?}");
        }
    }
    let found =
        problems(&format!("{LEAST}[notify.n]\nkind = 'webhook'\nurl = 'https://h/{CANARY}'\n'https://h/{CANARY}' = 1"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|text| !text.contains(CANARY)), "{found:?}");
}

#[test]
fn two_replicas_at_one_address_are_told_with_both_places() {
    let found = problems("[replica.b]\naddress = 'a:1'\n[replica.a]\naddress = 'a:1'\n[replica.c]\naddress = 'a:2'\n");
    assert_eq!(found, ["config.toml:4: replica.a.address: is the address of replica.b too (config.toml:2)"]);
}

#[test]
fn all_problems_of_all_files_come_at_once_in_order() {
    let main = "[replica.cache]\naddress = 'nowhere'\npasword = 1\n[agent]\nlog_level = 'loud'\n";
    let drop_in = "[agent]\nhots = 'x'\n\n[replica.cache]\ngroup = 'g'\n";
    let files: Vec<(PathBuf, String)> =
        vec![("/etc/relinkd/config.toml".into(), main.into()), ("/etc/relinkd/conf.d/10.toml".into(), drop_in.into())];
    assert_eq!(config::parse(&files).unwrap_err().to_string(), include_str!("data/config/all-at-once.txt").trim_end());
}

#[test]
fn while_one_file_does_not_parse_the_other_is_checked_for_what_it_says_only() {
    let files: Vec<(PathBuf, String)> = vec![
        ("a.toml".into(), "[replica.cache]\ngroup = 'g'\npasword = 1\n".into()),
        ("b.toml".into(), format!("[replica.cache]\naddress = {CANARY}\n[group.g\nx = '{CANARY}\n")),
    ];
    let said = config::parse(&files).unwrap_err();
    let told: Vec<String> = said.iter().map(|p| format!("{}:{}", p.file.display(), p.line.unwrap_or(0))).collect();
    assert_eq!(told, ["a.toml:3", "b.toml:2", "b.toml:3"], "{said}");
    assert!(said.iter().filter(|problem| problem.text.ends_with("checked once it parses")).count() == 1, "{said}");
    assert!(!said.to_string().contains(CANARY), "{said}");
}

// ---- files ----------------------------------------------------------------------------------------------------------

/// A directory with a sound config.toml in it.
fn installed() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    put(&path, LEAST, 0o640);
    (dir, path)
}

fn put(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal(path: &Path) -> String {
    config::load(path).unwrap_err().to_string()
}

#[test]
fn drop_ins_add_to_the_main_file_in_the_order_of_their_names() {
    let (dir, path) = installed();
    let drop_ins = dir.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    put(&drop_ins.join("20-last.toml"), "[replica.cache]\npoll = '20ms'\n", 0o640);
    put(
        &drop_ins.join("10-first.toml"),
        "[replica.cache]\npoll = '10ms'\nlog = 'off'\n[replica.more]\naddress = 'h:1'\n",
        0o640,
    );
    for ignored in [".hidden.toml", "README", "30.toml.bak"] {
        put(&drop_ins.join(ignored), "not = [toml", 0o666);
    }
    let settings = config::load(&path).unwrap();
    let cache = &settings.replicas["cache"];
    assert_eq!((cache.poll.as_millis(), cache.log.to_string()), (20, "off".to_owned()));
    assert_eq!(cache.address.to_string(), "127.0.0.1:6379");
    assert!(settings.replicas.contains_key("more"));

    put(&drop_ins.join("15.toml"), "[replica.more]\nadress = 1\n", 0o640);
    let said = refusal(&path);
    assert!(said.contains("conf.d/15.toml:2: replica.more.adress: unknown key"), "{said}");
}

#[test]
fn a_file_that_others_can_write_is_refused_with_the_command_that_cures_it() {
    let (dir, path) = installed();
    for (mode, cure) in [(0o642, "chmod o-w "), (0o666, "chmod o-w ")] {
        put(&path, LEAST, mode);
        let said = refusal(&path);
        assert!(said.contains(&format!("{cure}{}", path.display())) && said.contains(&format!("{mode:04o}")), "{said}");
    }
    // Own group, or root's: allowed.
    put(&path, LEAST, 0o660);
    assert!(config::load(&path).is_ok());
    // Only root can give a file to a group that it is not in.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, None, Some(12_345)).unwrap();
        let said = refusal(&path);
        assert!(said.contains("group 12345 can write") && said.contains("chmod g-w "), "{said}");
        put(&path, LEAST, 0o666);
        assert!(refusal(&path).contains("chmod go-w "));
    }
    put(&path, LEAST, 0o640);
    let drop_ins = dir.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    put(&drop_ins.join("10.toml"), "", 0o602);
    assert!(refusal(&path).contains(&format!("chmod o-w {}/10.toml", drop_ins.display())));
    fs::remove_file(drop_ins.join("10.toml")).unwrap();
    assert!(config::load(&path).is_ok());
    fs::set_permissions(&drop_ins, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(&path).contains(&format!("chmod o-w {}", drop_ins.display())));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_without_a_line() {
    let (dir, path) = installed();
    let absent = dir.path().join("absent.toml");
    let said = refusal(&absent);
    let expected = format!(
        "1 problem in the configuration\n{}: no such file; start from config.example.toml, or name another with --config",
        absent.display()
    );
    assert_eq!(said, expected);
    assert!(refusal(dir.path()).contains("not a regular file"));
    put(&path, vec![b'#'; (1 << 20) + 1], 0o640);
    assert!(refusal(&path).contains("larger than 1 MiB"));
    put(&path, b"[agent]\nhost = '\xff'\n", 0o640);
    assert_eq!(refusal(&path), format!("1 problem in the configuration\n{}:2: not UTF-8 text", path.display()));
}

#[test]
fn http_is_served_on_loopback_unless_it_is_switched_off() {
    let listen = |text: &str| sound(&format!("{LEAST}[agent]\n{text}\n")).agent.listen.map(|at| at.to_string());
    assert_eq!(listen("").as_deref(), Some("127.0.0.1:9779"));
    assert_eq!(listen("listen = 'off'"), None);
    assert_eq!(listen("listen = '0.0.0.0:80'").as_deref(), Some("0.0.0.0:80"));
    for wrong in ["'localhost:9779'", "'127.0.0.1'", "':9779'", "9779", "'127.0.0.1:0'", "'on'", "''"] {
        let said = parse(&format!("{LEAST}[agent]\nlisten = {wrong}\n")).unwrap_err().to_string();
        assert!(said.contains("agent.listen: must be an IP address with a port, as in"), "{wrong}: {said}");
    }
}

// ---- bad input ------------------------------------------------------------------------------------------------------

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for text in [
        format!("a = {}", "[".repeat(50_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        format!("[{}a]", "a.".repeat(50_000)),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn aws_needs_no_section_and_takes_all_that_one_says() {
    let login = |section: &str| {
        let text = format!(
            "{LEAST}group = 'g'\n[group.g]\nmasterauth = {{ aws = 'redis#f' }}\nsentinels = ['h:26379']\n{section}"
        );
        match &sound(&text).groups["g"].masterauth {
            Some(SecretRef::Aws(reference)) => reference.store().settings().clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(login(""), AwsSettings::default());
    assert_eq!(login("[store.aws]\nprofile = 'db'\n").login, AwsLogin::Profile("db".to_owned()));
    let all = "[store.aws]\nregion = 'eu-west-1'\nendpoint = 'https://h:1/'\ntimeout = '2s'\npoll = '5m'\n\
               access_key_id = 'AKIA'\nsecret_access_key = { env = 'S' }\nsession_token = { env = 'T' }\n";
    let token = Some(SecretRef::Env("T".to_owned()));
    let expected = AwsSettings {
        region: Some("eu-west-1".to_owned()),
        endpoint: Some("https://h:1".to_owned()),
        login: AwsLogin::Key { id: "AKIA".to_owned(), secret: SecretRef::Env("S".to_owned()), token },
        timeout: Duration::from_secs(2),
        poll: Duration::from_secs(300),
    };
    assert_eq!(login(all), expected);
}

#[test]
fn settings_show_where_secrets_are_and_never_an_argument() {
    let settings = sound(&format!("{LEAST}password = {{ exec = ['/bin/prog', '--token={CANARY}'] }}\n"));
    let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(shown.contains("exec:/bin/prog") && !shown.contains(CANARY), "{shown}");
}
