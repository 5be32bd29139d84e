//! The files of a configuration. Whoever can write one of them commands the daemon, so one that others can write is
//! refused. The mode is asked of the open file, so it is that of what was read.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::problem::{Place, Report};

const LIMIT_BYTES: u64 = 1 << 20;

/// The main file and its drop-ins, as far as they can be read.
pub(super) fn read(path: &Path, report: &mut Report) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    report.file(path);
    let drop_ins = drop_ins(path, report);
    for path in std::iter::once(path.to_owned()).chain(drop_ins) {
        match read_one(&path, report) {
            Some(text) => out.push((path, text)),
            None => report.incomplete = true,
        }
    }
    out
}

/// `conf.d/*.toml` in name order. Names with a leading dot are what editors leave behind.
fn drop_ins(main: &Path, report: &mut Report) -> Vec<PathBuf> {
    let dir = main.with_file_name("conf.d");
    let (entries, meta) = match fs::read_dir(&dir).and_then(|entries| Ok((entries, fs::metadata(&dir)?))) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Vec::new(),
        Err(error) => {
            refuse_unread(&dir, &error, format!("cannot be listed: {error}"), report);
            return Vec::new();
        }
    };
    objections(&dir, &meta).into_iter().for_each(|text| refuse(&dir, text, report));
    let mut out = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = entry.file_name();
                let bytes = name.as_encoded_bytes();
                if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
                    out.push(entry.path());
                }
            }
            Err(error) => refuse(&dir, format!("cannot be listed: {error}"), report),
        }
    }
    out.sort();
    out
}

fn read_one(path: &Path, report: &mut Report) -> Option<String> {
    let (bytes, meta) = match open_and_read(path) {
        Ok(read) => read,
        Err(error) => {
            refuse_unread(path, &error, explain(&error), report);
            return None;
        }
    };
    objections(path, &meta).into_iter().for_each(|text| refuse(path, text, report));
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
            let file = report.file(path);
            report.add(Place { file, line }, None, "not UTF-8 text");
            None
        }
    }
}

fn open_and_read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    // Not to block on a FIFO; for a regular file the flag means nothing.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    if Read::take(&mut file, LIMIT_BYTES + 1).read_to_end(&mut bytes)? as u64 > LIMIT_BYTES {
        return Err(io::Error::other("larger than 1 MiB, which is no configuration"));
    }
    Ok((bytes, meta))
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file; start from config.example.toml, or name another with --config".to_owned(),
        ErrorKind::PermissionDenied => format!(
            "permission denied to uid {}; run as relinkd's user or as root, or let that user read it",
            rustix::process::geteuid().as_raw()
        ),
        _ => format!("cannot be read: {error}"),
    }
}

/// Who else commands relinkd by way of this file or directory.
fn objections(path: &Path, meta: &Metadata) -> Vec<String> {
    let ours = rustix::process::geteuid().as_raw();
    owned_by_another(path, meta.uid(), ours).into_iter().chain(writable_by_others(path, meta)).collect()
}

/// An owner can write whatever the mode says: he only has to change it first.
fn owned_by_another(path: &Path, owner: u32, ours: u32) -> Option<String> {
    (owner != 0 && owner != ours).then(|| {
        format!(
            "it belongs to uid {owner}, who is neither root nor the user that reads it (uid {ours}), and so commands \
             relinkd; run: chown root {}",
            path.display()
        )
    })
}

fn writable_by_others(path: &Path, meta: &Metadata) -> Option<String> {
    let own_group = [0, rustix::process::getegid().as_raw()].contains(&meta.gid());
    let mode = meta.mode() & 0o7777;
    let (who, cure) = match (mode & 0o002 != 0, mode & 0o020 != 0 && !own_group) {
        (false, false) => return None,
        (true, false) => ("every user of this host".to_owned(), "o-w"),
        (false, true) => (format!("group {}", meta.gid()), "g-w"),
        (true, true) => (format!("every user of this host and group {}", meta.gid()), "go-w"),
    };
    Some(format!(
        "{who} can write to it (mode {mode:04o}), and so command relinkd; run: chmod {cure} {}",
        path.display()
    ))
}

fn refuse_unread(path: &Path, error: &io::Error, text: String, report: &mut Report) {
    let file = report.file(path);
    match error.kind() {
        ErrorKind::PermissionDenied => report.add_denied(file, text),
        _ => report.add_file(file, text),
    }
}

fn refuse(path: &Path, text: String, report: &mut Report) {
    let file = report.file(path);
    report.add_file(file, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_user_is_objected_to_whatever_its_mode() {
        let path = Path::new("/etc/relinkd/config.toml");
        assert_eq!(owned_by_another(path, 0, 999), None);
        assert_eq!(owned_by_another(path, 999, 999), None);
        for ours in [0, 999] {
            let said = owned_by_another(path, 1001, ours).unwrap();
            assert!(said.contains("uid 1001") && said.ends_with("run: chown root /etc/relinkd/config.toml"), "{said}");
        }
    }
}
