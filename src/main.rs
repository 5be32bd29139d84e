//! Parses the arguments, runs the verb, exits.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(relinkd::cli::main() as u8)
}
