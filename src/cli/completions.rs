//! `relinkd completions`: what a shell offers behind the tab key, generated from the parser.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Ended, pour};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell.
    pub shell: Shell,
}

pub fn completions(args: &CompletionsArgs) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "relinkd", &mut script);
    pour(&script)
}
