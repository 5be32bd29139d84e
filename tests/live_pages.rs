//! The commands that the pages give a person at 3 am: each is one that the servers and relinkd really have, with its
//! options, settings and rights, on Redis and on Valkey.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use lab::{Group, Kind, Server};

/// Options of redis-cli that take a value, and those that take none.
const VALUED: [&str; 8] = ["-h", "-p", "-s", "--user", "--cacert", "--cert", "--key", "--rdb"];
const BARE: [&str; 3] = ["-x", "--tls", "--askpass"];

/// Commands whose first argument is a command of its own.
const CONTAINERS: [&str; 7] = ["ACL", "CLIENT", "COMMAND", "CONFIG", "SCRIPT", "SENTINEL", "SLOWLOG"];

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
    all
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
    let begins = |words: &Vec<String>| words.iter().position(|word| word.ends_with("redis-cli") || word == "relinkd");
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
