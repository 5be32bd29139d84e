//! `relinkd explain`: the pages of `docs/`, built into the binary.

use super::{Ended, Exit, ExplainArgs, Failure, paint, say};
use crate::model::finding::Cause;
use crate::model::remedy::{RefusalCode, Remedy};

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// What a server's log or redis-cli shows, and the cause that it mostly stands for.
const ERRORS: [(&str, Cause); 9] = [
    ("noauth", Cause::AuthMissing),
    ("wrongpass", Cause::AuthRejected),
    ("noperm", Cause::AuthForbidden),
    ("denied", Cause::ProtectedMode),
    ("busy", Cause::PrimaryBusy),
    ("loading", Cause::PrimaryLoading),
    ("misconf", Cause::PrimarySaveFailing),
    ("masterdown", Cause::UpstreamBroken),
    ("nomasterlink", Cause::UpstreamBroken),
];

pub fn explain(args: &ExplainArgs) -> Ended {
    let Some(code) = args.code.as_ref().map(|code| code.to_lowercase()) else {
        list();
        return Ok(Exit::Fine);
    };
    let said = ERRORS.iter().find(|(error, _)| *error == code.trim_start_matches('-'));
    let code = said.map_or(code, |(_, cause)| cause.code().to_owned());
    let pages: Vec<&str> = PAGES.iter().filter(|(_, name, _)| *name == code).map(|(_, _, text)| *text).collect();
    if pages.is_empty() {
        let near = PAGES
            .iter()
            .map(|(_, name, _)| (*name, strsim::jaro_winkler(name, &code)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, likeness)| *likeness > 0.75)
            .map(|(name, _)| format!("; did you mean {name}?"))
            .unwrap_or_default();
        return Err(Failure::new(
            Exit::Usage,
            format!("no cause, remedy or refusal is called {code:?}{near} (relinkd explain lists them all)"),
        ));
    }
    for (place, text) in pages.into_iter().enumerate() {
        if place > 0 {
            say("");
        }
        for line in text.trim_end().lines() {
            say(if line.starts_with('#') { paint::head(line) } else { line.to_owned() });
        }
    }
    Ok(Exit::Fine)
}

fn list() {
    say(paint::head("Causes"));
    for cause in Cause::ALL {
        say(format!("  {:24} {}", cause.code(), cause.title()));
    }
    say(paint::head("\nRemedies"));
    for remedy in Remedy::ALL {
        say(format!("  {}", remedy.code()));
    }
    say(paint::head("\nRefusals: why relinkd holds"));
    for refusal in RefusalCode::ALL {
        say(format!("  {}", refusal.code()));
    }
}
