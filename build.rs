//! Gathers the pages of docs/ for `relinkd explain`: (kind, code, text), sorted.

use std::fmt::Write;
use std::{env, fs, path::Path};

fn main() {
    let mut pages = String::from("/// (kind, code, text)\nconst PAGES: &[(&str, &str, &str)] = &[\n");
    for kind in ["causes", "remedies", "refusals"] {
        let folder = format!("docs/{kind}");
        println!("cargo::rerun-if-changed={folder}");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .expect("docs/ is part of the source")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".md"))
            .collect();
        names.sort();
        for name in names {
            let code = name.trim_end_matches(".md");
            let path = format!("{}/{folder}/{name}", env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
            writeln!(pages, "    ({kind:?}, {code:?}, include_str!({path:?})),").expect("writing to a string");
        }
    }
    pages.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("pages.rs"), pages).expect("OUT_DIR is writable");
}
