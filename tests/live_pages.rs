//! The commands that the pages give a person at 3 am: each is one that the servers and relinkd really have, with its
//! options, settings and rights, on Redis and on Valkey.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use lab::{Group, Kind, Server};

/// Options of redis-cli that take a value, and those that take none.
const VALUED: [&str; 8] = ["-h", "-p", "-s", "--user", "--cacert", "--cert", "--key", "--rdb"];
const BARE: [&str; 3] = ["-x", "--tls", "--askpass"];

/// Commands whose first argument is a command of its own.
const CONTAINERS: [&str; 8] = ["ACL", "CLIENT", "COMMAND", "CONFIG", "FUNCTION", "SCRIPT", "SENTINEL", "SLOWLOG"];

/// One command of a page, as a shell would split it.
struct Given {
    page: String,
    words: Vec<String>,
}

fn given() -> Vec<Given> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut all = Vec::new();
    for kind in ["causes", "remedies", "refusals"] {
        for entry in std::fs::read_dir(docs.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
            let page = path.file_stem().unwrap().to_string_lossy().into_owned();
            for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
                all.extend(commands(line).into_iter().map(|words| Given { page: page.clone(), words }));
            }
        }
    }
    all.extend(next_steps());
    all
}

/// What the scenarios print for a person to run, each command once.
fn next_steps() -> Vec<Given> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let within =
        |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut once = BTreeMap::new();
    for case in within(&folder).iter().filter(|path| path.is_dir()).flat_map(|cause| within(cause)) {
        let text = std::fs::read_to_string(case.join("expected.txt")).unwrap_or_default();
        let (_, steps) = text.split_once("\na person would\n").unwrap_or_default();
        let sentences = |line: &&str| line.contains("relinkd") && !line.trim_start().starts_with("relinkd ");
        for words in steps.lines().filter(|line| !sentences(line)).flat_map(commands) {
            let name = case.strip_prefix(&folder).unwrap().display().to_string();
            once.entry(words.join(" ").split(" -p ").last().unwrap_or_default().to_owned()).or_insert((name, words));
        }
    }
    once.into_values().map(|(page, words)| Given { page, words }).collect()
}

/// What runs redis-cli or relinkd in one line of a shell, without what comes before and behind it.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, '#') if !begun && word.is_empty() => break,
            (None, ' ' | '|' | ';' | '>' | ')') => {
                if begun || !word.is_empty() {
                    all.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                begun = false;
                if c != ' ' {
                    all.push(Vec::new());
                }
            }
            (None, c) => word.push(c),
        }
    }
    let begins = |words: &Vec<String>| {
        words.iter().position(|word| word.ends_with("redis-cli") || word == "valkey-cli" || word == "relinkd")
    };
    all.into_iter().filter_map(|words| begins(&words).map(|at| words[at..].to_vec())).collect()
}

/// The server's command behind redis-cli's own options; none where there is none.
fn behind_the_options(words: &[String]) -> Result<Option<&[String]>, String> {
    let mut rest = &words[1..];
    while let Some(option) = rest.first().filter(|word| word.starts_with('-')) {
        rest = match option.as_str() {
            known if VALUED.contains(&known) => rest.get(2..).unwrap_or_default(),
            known if BARE.contains(&known) => &rest[1..],
            unknown => return Err(format!("redis-cli has no {unknown}")),
        };
    }
    // What is piped into it are commands.
    Ok((!rest.is_empty()).then_some(rest))
}

/// What one kind of server has.
struct Servers {
    group: Group,
    data: BTreeSet<String>,
    sentinel: BTreeSet<String>,
}

impl Servers {
    fn start(kind: Kind) -> Servers {
        let group = Group::builder(kind).sentinels(1).start().expect("a group");
        let known = |server: &Server| server.query(&["COMMAND", "LIST"]).expect("COMMAND LIST");
        let (data, sentinel) = (known(group.primary()), known(group.sentinel(0)));
        Servers { group, data, sentinel }
    }

    fn has(&self, command: &[String]) -> Result<(), String> {
        let word = |at: usize| command.get(at).map(String::as_str).unwrap_or_default();
        let (first, second) = (word(0).to_lowercase(), word(1).to_lowercase());
        let name = match CONTAINERS.contains(&first.to_uppercase().as_str()) && !second.is_empty() {
            true => format!("{first}|{second}"),
            false => first.clone(),
        };
        let known = if first == "sentinel" { &self.sentinel } else { &self.data };
        if !known.contains(&name) {
            return Err(format!("no command {name}"));
        }
        let primary = self.group.primary();
        match name.as_str() {
            "config|get" | "config|set" => {
                let found: Vec<String> =
                    primary.query(&["CONFIG", "GET", word(2)]).map_err(|error| error.to_string())?;
                if found.is_empty() { Err(format!("no setting {}", word(2))) } else { Ok(()) }
            }
            "info" => {
                let told: String = primary.query(&["INFO", word(1)]).map_err(|error| error.to_string())?;
                if told.is_empty() { Err(format!("INFO has no section {}", word(1))) } else { Ok(()) }
            }
            "acl|setuser" => {
                let rules = command.iter().skip(3).map(String::as_str);
                let words: Vec<&str> = ["ACL", "SETUSER", "a-page"].into_iter().chain(rules).collect();
                primary.run(&words).map(drop).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }
}

fn relinkd_has(words: &[String]) -> Result<(), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_relinkd")).args(&words[1..]).arg("--help").output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_pages_commands_are_real_redis_70_valkey_80() {
    let all = given();
    assert!(all.len() > 100, "{} commands: the pages are not read", all.len());
    for kind in [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require) {
        let servers = Servers::start(kind);
        let mut wrong = Vec::new();
        for one in &all {
            let checked = match one.words[0].as_str() {
                "relinkd" => relinkd_has(&one.words),
                _ => behind_the_options(&one.words).and_then(|command| command.map_or(Ok(()), |it| servers.has(it))),
            };
            wrong.extend(checked.err().map(|why| format!("{}: {}: {why}", one.page, one.words.join(" "))));
        }
        assert_eq!(wrong, Vec::<String>::new(), "{kind}");
        for (line, part) in [
            ("redis-cli -p 1 CONFIG SET repl-backlog-sise 1", "no setting"),
            ("timeout 3 redis-cli SENTINEL CKQORUM x", "no command sentinel|ckqorum"),
            ("redis-cli --pasword x PING", "has no --pasword"),
            ("redis-cli ACL SETUSER u +psnc", "psnc"),
        ] {
            let words = &commands(line)[0];
            let told = behind_the_options(words).and_then(|command| servers.has(command.unwrap()));
            assert!(told.as_ref().is_err_and(|why| why.contains(part)), "{line}: {told:?}");
        }
    }
    assert!(relinkd_has(&["relinkd".into(), "diagnoze".into()]).is_err());
}

/// The lines of the pages that send what PWFILE holds, for the servers of this group.
fn sending(group: &Group, cli: &str) -> Vec<String> {
    let port = |server: &Server| server.endpoint().1.to_string();
    let (host, primary) = group.primary().endpoint();
    let places = [
        ("redis-cli", cli.to_owned()),
        ("RPORT", port(group.replica(0))),
        ("PPORT", primary.to_string()),
        ("PHOST", host.clone()),
        ("SHOST", host.clone()),
        ("NODE", host),
        ("-p PORT", format!("-p {primary}")),
        ("26379", port(group.sentinel(0))),
        ("GROUP", group.name().to_owned()),
        ("--user USER", "--user default".to_owned()),
    ];
    let pages = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/causes")).unwrap();
    let texts = pages.map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let sends = lines.filter(|line| line.starts_with("    ") && line.contains("cat PWFILE"));
    sends.map(|line| places.iter().fold(line, |line, (word, meant)| line.replace(word, meant))).collect()
}

#[test]
fn no_line_that_is_pasted_without_its_password_file_empties_a_password_redis_70_valkey_80() {
    const PASSWORD: &str = "CANARY-pasted";
    for kind in [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require) {
        let group = Group::builder(kind).replicas(1).sentinels(1).password(PASSWORD).start().expect("a group");
        let cli = if kind.is_valkey() { "valkey-cli" } else { "redis-cli" };
        let file = group.dir().join("PWFILE");
        let paste = |line: &str| {
            let shell =
                Command::new("sh").args(["-c", line]).current_dir(group.dir()).env("REDISCLI_AUTH", PASSWORD).output();
            String::from_utf8_lossy(&shell.unwrap().stdout).into_owned()
        };
        let kept = |server: &Server, setting: &str| {
            let told: Vec<String> = server.query(&["CONFIG", "GET", setting]).unwrap();
            assert_eq!(told[1], PASSWORD, "{kind}: {setting}");
        };
        let lines = sending(&group, cli);
        assert!(lines.len() > 9, "{lines:#?}");
        for content in [None, Some(""), Some("\n")] {
            if let Some(text) = content {
                std::fs::write(&file, text).unwrap();
            }
            for line in &lines {
                assert_eq!(paste(line), "", "{kind}, {content:?}: {line}");
            }
            kept(group.replica(0), "masterauth");
            kept(group.primary(), "requirepass");
        }
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        for line in &lines {
            let told = paste(line);
            assert!(["OK", "PONG"].contains(&told.trim()), "{kind}: {line}: {told}");
        }
        kept(group.replica(0), "masterauth");
        kept(group.primary(), "requirepass");

        std::fs::remove_file(&file).unwrap();
        let setting = lines.iter().find(|line| line.contains("masterauth")).unwrap();
        let bare = setting.replace("grep -q . PWFILE && ", "");
        assert_eq!(paste(&bare).trim(), "OK", "{kind}: what the guard is for");
        let told: Vec<String> = group.replica(0).query(&["CONFIG", "GET", "masterauth"]).unwrap();
        assert_eq!(told[1], "", "{kind}: what the guard is for");
    }
}

#[test]
fn a_second_primary_takes_no_write_whatever_replicas_it_has_redis_70_valkey_80() {
    let page = include_str!("../docs/causes/wrong-primary.md");
    let (_, from) = page.split_once("CONFIG SET min-replicas-to-write ").expect("the command");
    let count = from.split(' ').next().unwrap();
    for kind in [Kind::Redis70, Kind::Valkey80].into_iter().filter_map(lab::require) {
        let group = Group::builder(kind).replicas(1).start().expect("a group");
        let primary = group.primary();
        primary.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
        // It counts its good replicas once a second.
        let counted = |server: &lab::Server| {
            let told: String = server.query(&["INFO", "replication"]).unwrap_or_default();
            told.contains("min_slaves_good_slaves:1")
        };
        assert!(primary.wait_until(counted, std::time::Duration::from_secs(10)).is_some(), "{kind}: no good replica");
        primary.run(&["SET", "a", "1"]).expect("with one replica it is no bar");
        primary.run(&["CONFIG", "SET", "min-replicas-to-write", count]).unwrap();
        let refused = primary.run(&["SET", "a", "2"]).expect_err("a write").to_string();
        assert!(refused.contains("NOREPLICAS"), "{kind}: {refused}");
    }
}
