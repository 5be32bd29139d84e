//! Evidence of a fault that stands, kept as a scenario: what `relinkd diagnose --save` writes, where a look by hand came
//! to the fault's own cause.

use std::fs;
use std::io::{Error, Result};
use std::path::Path;

use super::recipe::Recipe;
use super::stage::Stand;

/// Into `into`/CAUSE/VARIANT-SERVER/evidence.json. What a look by hand cannot see, because it passed or is known from
/// many looks, is not kept: Err tells.
pub fn keep(stand: &Stand, recipe: &Recipe, into: &Path) -> Result<()> {
    let Some(cause) = recipe.expected.cause else { return Ok(()) };
    let name = format!("{}-{}", slug(recipe.variant), stand.group.kind().code());
    let folder = into.join(cause).join(name);
    fs::create_dir_all(&folder)?;
    let file = folder.join("evidence.json");
    let kept = save(stand, cause, &file);
    if kept.is_err() {
        let _ = fs::remove_file(&file);
        let _ = fs::remove_dir(&folder);
    }
    kept
}

fn save(stand: &Stand, cause: &str, file: &Path) -> Result<()> {
    let seen = stand.verb_json(&["diagnose", "cache", "--save", &file.display().to_string()])?;
    if seen["cause"] != cause || seen["suspected"] == true {
        return Err(Error::other(format!(
            "no capture: by hand it is {}, suspected: {}",
            seen["cause"], seen["suspected"]
        )));
    }
    // The lab's directories bear another name each time.
    let text = fs::read_to_string(file)?;
    let text = text.replace(&stand.agent.dir().display().to_string(), "/etc/relinkd");
    fs::write(file, text.replace(&stand.group.dir().display().to_string(), "/var/lib"))
}

fn slug(variant: &str) -> String {
    let words: Vec<String> = variant
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn a_variant_names_a_folder() {
        assert_eq!(slug("PSYNC and SYNC renamed"), "psync-and-sync-renamed");
        assert_eq!(slug("one way: deaf"), "one-way-deaf");
    }
}
