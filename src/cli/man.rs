//! `relinkd man`: relinkd(1) in roff, one page with every verb. Synopses, descriptions and options come from the parser;
//! exit codes, signals, environment and files stand in the tables here.

use std::io::{self, Write};

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::{Cli, Ended, Exit, Failure, pour};
use crate::config::{self, AgentSettings};
use crate::control::SOCKET;
use crate::daemon::LEDGER;

const ABOUT: &str = "relinkd runs on the host of a Redis or Valkey replica. When the replication link breaks it names the \
    cause with evidence, heals it where that is safe, proves that the link is whole, writes down what it saw and did, and \
    posts a message. Sentinel looks after the primary; relinkd looks after the link. What it may do by itself is in \
    [policy] of its configuration: observe, propose or auto.";

const EXITS: [(Exit, &str); 8] = [
    (Exit::Fine, "healthy, done, or nothing to do"),
    (Exit::Fault, "a fault was found, or an action failed"),
    (
        Exit::Changed,
        "with --detailed-exitcode (align, heal, rotate): something was changed, or with --check or plan would be",
    ),
    (Exit::Inconclusive, "inconclusive"),
    (Exit::Usage, "usage"),
    (Exit::Unreachable, "a needed server, or the daemon, cannot be reached"),
    (Exit::Permission, "permission"),
    (Exit::Config, "config"),
];

const SIGNALS: [(&str, &str); 2] = [
    ("SIGTERM, SIGINT", "relinkd run finishes the step in hand, records it, and ends within 10 seconds."),
    ("SIGHUP", "relinkd run reads its configuration anew. One with a mistake in it is refused, and the old one stays."),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    ("NO_COLOR", "When it is set, a terminal gets no colours. What is no terminal never does."),
    ("REDISCLI_AUTH", "The password for diagnose --address, unless --password-file names one."),
    ("HTTPS_PROXY, NO_PROXY", "The way out to https:// addresses, for messages and secret stores."),
];

const EXAMPLES: [(&str, &str); 5] = [
    ("relinkd diagnose --address 127.0.0.1:6379", "Looks at an instance without any configuration."),
    ("relinkd check && systemctl reload relinkd", "Tries a configuration before it is taken up."),
    ("relinkd heal cache --check --diff", "Says what would be done about one instance, and changes nothing."),
    ("relinkd pause --for 30m --reason \"kernel upgrade\"", "Hands off during maintenance."),
    ("relinkd resume && relinkd wait --healthy", "And a gate at its end."),
];

pub fn man() -> Ended {
    let page = page().map_err(|error| Failure::new(Exit::Fault, format!("the page cannot be made: {error}")))?;
    pour(page.as_bytes())
}

fn page() -> io::Result<String> {
    let mut root = Cli::command();
    root.build();
    let man = Man::new(root.clone());
    // Without a date: the same program prints the same page. Two quotes, since an empty argument is written as none
    // (roff 1.1.1, escape_spaces), and the next ones would take its place.
    let source = concat!("relinkd ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new().control("TH", ["RELINKD", "1", "\"\"", source, "relinkd manual"]).render();
    page += &section("NAME", &body(|out| man.render_name_section(out))?);
    page += &section("SYNOPSIS", &plain(Roff::new().text(synopsis(&root, "relinkd"))));
    page += &section("DESCRIPTION", &plain(Roff::new().text([roman(ABOUT)])));
    page += &section("OPTIONS", &body(|out| man.render_options_section(out))?);
    page += &section("VERBS", "");
    verbs(&root, "", &mut page)?;
    let codes = EXITS.map(|(exit, means)| ((exit as u8).to_string(), means.to_owned()));
    page += &section("EXIT STATUS", &list(&codes));
    page += &section("SIGNALS", &list(&SIGNALS.map(owned)));
    page += &section("ENVIRONMENT", &list(&ENVIRONMENT.map(owned)));
    page += &section("FILES", &list(&files()));
    page += &section("EXAMPLES", &list(&EXAMPLES.map(owned)));
    let others = "redis-server(1), redis-sentinel(1), redis-cli(1), systemctl(1), journalctl(1)";
    page += &section("SEE ALSO", &plain(Roff::new().text([roman(others)])));
    Ok(page)
}

/// A sub-section for each verb, and behind it those of its own verbs. What a verb has from the one above it is told there.
fn verbs(above: &Command, path: &str, page: &mut String) -> io::Result<()> {
    for verb in above.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{path} {}", verb.get_name());
        let inherited = |arg: &Arg| above.get_arguments().any(|known| known.get_id() == arg.get_id());
        let shown = verb.clone().mut_args(|arg| if inherited(&arg) { arg.hide(true) } else { arg });
        *page += &plain(
            Roff::new()
                .control("SS", [name.trim_start()])
                .text(synopsis(&shown, &format!("relinkd{name}")))
                .control("PP", []),
        );
        let man = Man::new(shown);
        *page += &body(|out| man.render_description_section(out))?;
        *page += &body(|out| man.render_options_section(out))?;
        verbs(verb, &name, page)?;
    }
    Ok(())
}

/// In one line, with the names of what options take, which clap_mangen 0.3.3 leaves out.
fn synopsis(command: &Command, name: &str) -> Vec<Inline> {
    let mut line = vec![bold(name)];
    let (places, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(places) {
        let (open, close) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        let several = matches!(arg.get_action(), ArgAction::Append);
        let value = arg.get_action().takes_values().then(|| arg.get_value_names().unwrap_or_default().join(" "));
        line.push(roman(open));
        line.extend(arg.get_long().map(|long| bold(format!("--{long}"))));
        if let Some(value) = value {
            line.extend((!arg.is_positional()).then(|| roman(" ")));
            line.push(italic(value));
        }
        line.push(roman(if several { format!("{close}...") } else { close.to_owned() }));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("VERB")]);
    }
    line
}

fn files() -> [(String, String); 5] {
    let AgentSettings { state_dir, run_dir, .. } = AgentSettings::default();
    let at = |path: std::path::PathBuf| path.display().to_string();
    [
        (
            config::DEFAULT_PATH.to_owned(),
            "The configuration: root writes it, group relinkd reads it. config.example.toml shows every key."
                .to_owned(),
        ),
        ("/etc/relinkd/conf.d/*.toml".to_owned(), "Drop-ins, merged over it in the order of their names.".to_owned()),
        (at(state_dir.join(LEDGER)), "The record, an SQLite database. No secret is in it.".to_owned()),
        (at(state_dir.join("salt")), "What fingerprints of passwords are salted with.".to_owned()),
        (
            at(run_dir.join(SOCKET)),
            "Where the daemon is asked, by root and by members of the group that it belongs to.".to_owned(),
        ),
    ]
}

fn owned((term, means): (&str, &str)) -> (String, String) {
    (term.to_owned(), means.to_owned())
}

fn list(rows: &[(String, String)]) -> String {
    let mut roff = Roff::new();
    for (term, means) in rows {
        roff.control("TP", []).text([bold(term)]).text([roman(means)]);
    }
    plain(&roff)
}

fn section(title: &str, body: &str) -> String {
    format!("{}{body}", plain(Roff::new().control("SH", [title])))
}

/// Without the macro for apostrophes, which the page has at its head.
fn plain(roff: &Roff) -> String {
    roff.render().replacen(&Roff::new().render(), "", 1)
}

/// A section without what stands before its heading, and without the heading.
fn body(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<String> {
    let mut whole = Vec::new();
    render(&mut whole)?;
    let whole = String::from_utf8_lossy(&whole);
    let lines = whole.lines().skip_while(|line| !line.starts_with(".SH ")).skip(1);
    Ok(lines.map(|line| format!("{line}\n")).collect())
}
