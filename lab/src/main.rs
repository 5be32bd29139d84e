//! `lab`: the lab from a terminal.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use lab::{Group, Kind, Receiver, Server};

const USAGE: &str = "\
usage: lab up [--kind KIND] [--replicas N] [--sentinels N] [--auth] [--namespaces]
           start a group, print its addresses, and end it on Enter or Ctrl-C; with --auth its password is lab
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
