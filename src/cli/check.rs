//! x
use super::{CheckArgs, Ended, Exit, settings};
use std::path::Path;
pub fn check(config: &Path, _args: &CheckArgs) -> Ended {
    settings(config)?;
    Ok(Exit::Fine)
}
