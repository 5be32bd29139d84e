//! `lab`: the lab from a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::bench::{self, Bench};
use lab::chaos::{self, Chaos};
use lab::demo::{self, Play};
use lab::faults::{self, Faults};
use lab::rotations::{self, Rotations};
use lab::{Group, Kind, Receiver, Server};

const USAGE: &str = "\
usage: lab up [--kind KIND] [--replicas N] [--sentinels N] [--auth] [--namespaces]
           start a group, print its addresses, and end it on Enter or Ctrl-C; with --auth its password is lab
       lab demo [--shell] [--relinkd PATH] [--kind KIND]
           break a group in front of you and let relinkd heal it; with --shell leave both running to play with
       lab bench [--relinkd PATH] [--kind KIND] [--trials N]
           time from break to healed link, memory and processor time, beside a floor taken in the same run
       lab rotations [--relinkd PATH] [--kinds KIND,KIND] [--runs N] [--seed N] [--jobs N]
           rotate a group's password under load, by relinkd, with kills, and in the usual order; a table in Markdown
       lab faults [--relinkd PATH] [--server KIND,…] [--fault FAULT,…] [--rounds N] [--seed N] [--jobs N]
                  [--quiet SPAN] [--out FILE] [--captures DIR]
           inject every fault on every server, in random order, and report what relinkd said and when; then a quiet
           period and the cost of a look. FAULT is a cause's code, \"no fault\", or the beginning of a fault's name, such
           as \"replica-hung: stopped\". Exit code 1: a verdict was wrong or missing, or an incident false. SPAN is
           such as 90s, 60m or 0s for none. What a person wrote above the mark in FILE stays.
           Into DIR comes the evidence of each fault that a look by hand names too, as tests/scenarios has it
       lab chaos [--relinkd PATH] [--kind KIND] [--rounds N] [--seed N] [--only N] [--jobs N] [--out FILE]
           random trouble on three hosts with a relinkd on each, every round once with it acting and once only watching:
           was a change wrong, a failover asked for twice, a message or an acknowledged write lost? Needs root
       lab receiver ADDRESS
           print each JSON message that is posted to ADDRESS, such as 127.0.0.1:9000, one a line
       lab sweep
           remove what labs that were killed left behind
KIND is redis-7.0 (default), valkey-8.0, redis-8.2 or valkey-9.1.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up", options @ ..] => up(options),
        ["demo", options @ ..] => play(options),
        ["bench", options @ ..] => measure(options),
        ["faults", options @ ..] => inject(options),
        ["rotations", options @ ..] => rotate(options),
        ["chaos", options @ ..] => chaos(options),
        ["receiver", address] => receive(address),
        ["sweep"] => sweep(),
        ["help" | "--help" | "-h"] => print(USAGE),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) if problem == USAGE => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
        Err(problem) => {
            eprintln!("lab: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn up(options: &[&str]) -> Result<(), String> {
    let mut kind = Kind::Redis70;
    let (mut replicas, mut sentinels) = (2, 3);
    let (mut auth, mut namespaces) = (false, false);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--auth" => auth = true,
            "--namespaces" => namespaces = true,
            "--kind" => kind = Kind::from_code(value()?).ok_or(USAGE)?,
            "--replicas" => replicas = value()?.parse().map_err(|_| USAGE)?,
            "--sentinels" => sentinels = value()?.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let mut builder = Group::builder(kind).replicas(replicas).sentinels(sentinels).namespaces(namespaces);
    if auth {
        builder = builder.password("lab");
    }
    let group = builder.start().map_err(|error| error.to_string())?;
    print(&describe(&group))?;
    // Ctrl-C needs no handler: the servers die with this process, and its keeper clears the rest.
    io::stdin().lock().read_line(&mut String::new()).map_err(|error| error.to_string())?;
    Ok(())
}

fn play(options: &[&str]) -> Result<(), String> {
    let mut relinkd = beside_me()?;
    let (mut kind, mut shell) = (Kind::Redis70, false);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--shell" => shell = true,
            "--relinkd" => relinkd = PathBuf::from(value()?),
            "--kind" => kind = Kind::from_code(value()?).ok_or(USAGE)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let mut out = io::stdout();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let play = Play { relinkd: &present(relinkd)?, kind, colours, pause: Duration::from_millis(1500) };
    if shell {
        return until_enter(|goes_on| demo::shell(&play, &mut out, goes_on)).map_err(|error| error.to_string());
    }
    match demo::play(&play, &mut out).map_err(|error| error.to_string())? {
        true => Ok(()),
        false => Err("not every act went as it should; see above".to_owned()),
    }
}

fn measure(options: &[&str]) -> Result<(), String> {
    let mut relinkd = beside_me()?;
    let (mut kind, mut trials) = (Kind::Redis70, 20);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--relinkd" => relinkd = PathBuf::from(value()?),
            "--kind" => kind = Kind::from_code(value()?).ok_or(USAGE)?,
            "--trials" => trials = value()?.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let bench = Bench { relinkd: &present(relinkd)?, kind, trials };
    bench::run(&bench, &mut io::stdout()).map_err(|error| error.to_string())
}

fn rotate(options: &[&str]) -> Result<(), String> {
    let mut relinkd = beside_me()?;
    let (mut kinds, mut runs, mut seed, mut jobs) = (vec![Kind::Redis70, Kind::Valkey80], 50, 1, 1);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--relinkd" => relinkd = PathBuf::from(value()?),
            "--kinds" => kinds = value()?.split(',').map(Kind::from_code).collect::<Option<_>>().ok_or(USAGE)?,
            "--runs" => runs = value()?.parse().map_err(|_| USAGE)?,
            "--seed" => seed = value()?.parse().map_err(|_| USAGE)?,
            "--jobs" => jobs = value()?.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let rotations = Rotations { relinkd: &present(relinkd)?, kinds: &kinds, runs, seed, jobs };
    match rotations::run(&rotations, &mut io::stdout()).map_err(|error| error.to_string())? {
        true => Ok(()),
        false => Err("an aim was missed; see above".to_owned()),
    }
}

fn inject(options: &[&str]) -> Result<(), String> {
    let mut relinkd = beside_me()?;
    let mut faults = Faults {
        relinkd: PathBuf::new(),
        kinds: Kind::ALL.to_vec(),
        causes: Vec::new(),
        rounds: 5,
        seed: u64::from(std::process::id()),
        jobs: 3,
        quiet: Duration::from_secs(120),
        out: None,
        captures: None,
    };
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--relinkd" => relinkd = PathBuf::from(value()?),
            "--server" => {
                let kinds = value()?.split(',').map(|code| Kind::from_code(code).ok_or(USAGE));
                faults.kinds = kinds.collect::<Result<_, _>>()?;
            }
            "--fault" => faults.causes = value()?.split(',').map(str::to_owned).collect(),
            "--rounds" => faults.rounds = value()?.parse().map_err(|_| USAGE)?,
            "--seed" => faults.seed = value()?.parse().map_err(|_| USAGE)?,
            "--jobs" => faults.jobs = value()?.parse().map_err(|_| USAGE)?,
            "--quiet" => faults.quiet = span(value()?).ok_or(USAGE)?,
            "--out" => faults.out = Some(PathBuf::from(value()?)),
            "--captures" => faults.captures = Some(PathBuf::from(value()?)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    faults.relinkd = present(relinkd)?;
    match faults::run(&faults, &mut io::stderr(), &mut io::stdout()).map_err(|error| error.to_string())? {
        true => Ok(()),
        false => Err("not every verdict was right; see the report".to_owned()),
    }
}

/// `90s` or `60m`.
fn span(text: &str) -> Option<Duration> {
    let minutes = text.strip_suffix('m').map(|count| count.parse::<u64>().ok()?.checked_mul(60));
    let seconds = || text.strip_suffix('s')?.parse().ok();
    minutes.unwrap_or_else(seconds).map(Duration::from_secs)
}

fn chaos(options: &[&str]) -> Result<(), String> {
    let mut chaos = Chaos { relinkd: beside_me()?, kind: Kind::Redis70, rounds: 200, seed: 1, only: None, jobs: 3 };
    let mut out = None;
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let mut value = || words.next().copied().ok_or(USAGE);
        match *option {
            "--relinkd" => chaos.relinkd = PathBuf::from(value()?),
            "--kind" => chaos.kind = Kind::from_code(value()?).ok_or(USAGE)?,
            "--rounds" => chaos.rounds = value()?.parse().map_err(|_| USAGE)?,
            "--seed" => chaos.seed = value()?.parse().map_err(|_| USAGE)?,
            "--only" => chaos.only = Some(value()?.parse().map_err(|_| USAGE)?),
            "--jobs" => chaos.jobs = value()?.parse().map_err(|_| USAGE)?,
            "--out" => out = Some(PathBuf::from(value()?)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    chaos.relinkd = present(chaos.relinkd)?;
    if !lab::namespaces_available() {
        return Err("network namespaces need root, iproute2 and nftables".to_owned());
    }
    let verdict = chaos::run(&chaos, &|line| drop(print(line)));
    print(&format!("\n{verdict}"))?;
    if let Some(out) = out {
        std::fs::write(&out, verdict.to_string()).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    if verdict.good { Ok(()) } else { Err("an aim was missed; see above".to_owned()) }
}

/// The relinkd that was built with this lab.
fn beside_me() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    Ok(me.with_file_name("relinkd"))
}

/// Absolute, because it is started in other directories.
fn present(relinkd: PathBuf) -> Result<PathBuf, String> {
    let why = |error| format!("{}: {error}; run make build first, or give --relinkd PATH", relinkd.display());
    relinkd.canonicalize().map_err(why)
}

/// Hands `work` a question that says no once a line, or the end, came from standard input.
fn until_enter<T>(work: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
    static ENTERED: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_line(&mut String::new());
        ENTERED.store(true, Ordering::Relaxed);
    });
    work(&|| !ENTERED.load(Ordering::Relaxed))
}

fn describe(group: &Group) -> String {
    let mut text = format!("{}, monitored as {}\n", group.kind(), group.name());
    let mut row = |role: &str, server: &Server| {
        let host = server.host().map_or(String::new(), |host| format!("  ip netns exec {}", host.netns()));
        text.push_str(&format!("{role:<10}{:<20}{}{host}\n", server.address(), server.log_path().display()));
    };
    for (number, node) in group.nodes().iter().enumerate() {
        row(if number == 0 { "primary" } else { "replica" }, node);
    }
    for sentinel in group.sentinels() {
        row("sentinel", sentinel);
    }
    text.push_str("Enter or Ctrl-C ends it.");
    text
}

fn receive(address: &str) -> Result<(), String> {
    let address: SocketAddr =
        address.parse().map_err(|_| format!("{address} is not an address such as 127.0.0.1:9000"))?;
    let receiver = Receiver::bind(address).map_err(|error| format!("{address}: {error}"))?;
    let mut seen = 0;
    loop {
        let Some(requests) = receiver.wait_for(seen + 1, Duration::from_secs(3600)) else { continue };
        for request in &requests[seen..] {
            if let Some(message) = request.json() {
                print(&message.to_string())?;
            }
        }
        seen = requests.len();
    }
}

fn sweep() -> Result<(), String> {
    for name in lab::sweep::sweep().map_err(|error| error.to_string())? {
        print(&format!("removed {name}"))?;
    }
    Ok(())
}

/// Flushed at once, since a reader may be waiting for the line.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}
