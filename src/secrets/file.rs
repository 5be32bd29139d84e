//! The file store: reads one regular file, and knows it by the time it was last changed.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::value::{stored, too_large};
use super::{LIMIT_BYTES, Offer, SecretError};
use crate::model::Timestamp;

pub(super) fn fetch(source: &str, path: &Path) -> Result<Vec<Offer>, SecretError> {
    let (bytes, changed) = read(source, path)?;
    let mut offers = stored(source, &changed.to_string(), &bytes)?;
    offers.iter_mut().for_each(|offer| offer.changed = Some(changed));
    Ok(offers)
}

/// Who else can read or change the file.
pub(super) fn audit(source: &str, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    if let Ok(meta) = std::fs::metadata(path) {
        let mode = meta.mode();
        let path = path.display();
        let (owner, ours) = (meta.uid(), rustix::process::geteuid().as_raw());
        if owner != 0 && owner != ours {
            out.push(format!(
                "{source}: it belongs to uid {owner}, who can change it, and is neither root nor relinkd (uid {ours}); \
                 run: chown root {path}"
            ));
        }
        if mode & 0o007 != 0 {
            out.push(format!(
                "{source}: every user of this host can reach it (mode {:04o}); run: chmod o= {path}",
                mode & 0o7777
            ));
        }
        if mode & 0o020 != 0 {
            out.push(format!("{source}: its group can change it (mode {:04o}); run: chmod g-w {path}", mode & 0o7777));
        }
    }
    out
}

fn read(source: &str, path: &Path) -> Result<(Zeroizing<Vec<u8>>, Timestamp), SecretError> {
    let failed = |error| explain(source, path, &error);
    // Not to block on a FIFO; for a regular file the flag means nothing.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(SecretError::Malformed(format!(
            "{source}: not a regular file; name the file that holds the password"
        )));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT_BYTES + 1));
    let limit = u64::try_from(LIMIT_BYTES).unwrap_or(u64::MAX);
    Read::take(&mut file, limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LIMIT_BYTES {
        return Err(too_large(source));
    }
    let micros = meta.mtime().saturating_mul(1_000_000).saturating_add(meta.mtime_nsec() / 1_000);
    Ok((bytes, Timestamp(micros)))
}

fn explain(source: &str, path: &Path, error: &io::Error) -> SecretError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => SecretError::NotFound(format!(
            "{source}: no such file; write the password to {}, or correct the reference in the config",
            path.display()
        )),
        ErrorKind::PermissionDenied => SecretError::Denied(format!(
            "{source}: permission denied to uid {}; let that user read it, as in: \
             chgrp relinkd {path} && chmod 0640 {path}",
            rustix::process::geteuid().as_raw(),
            path = path.display(),
        )),
        _ => SecretError::Failed(format!("{source}: cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("masterauth");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_known_by_the_time_of_its_last_change() {
        let (_dir, path) = written("canary\n", 0o600);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_041);
        File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        let offers = fetch("file:x", &path).unwrap();
        assert_eq!(offers[0].version, "2023-11-14T22:13:20.041Z");
        assert_eq!(offers[0].secret.expose(), "canary");
        assert_eq!(offers.len(), 1);
    }

    #[test]
    fn what_is_no_file_is_named_as_such() {
        let (dir, path) = written("", 0o600);
        assert!(matches!(fetch("file:x", dir.path()), Err(SecretError::Malformed(_))));
        assert!(matches!(fetch("file:x", &path), Err(SecretError::Empty(_))));
        assert!(matches!(fetch("file:x", &path.join("deeper")), Err(SecretError::NotFound(_))));
        let missing = fetch("file:x", &dir.path().join("absent")).unwrap_err();
        assert!(matches!(&missing, SecretError::NotFound(text) if text.contains("no such file")), "{missing}");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(fetch("file:x", &pipe), Err(SecretError::Malformed(_))), "and a FIFO does not block");
    }

    #[test]
    fn loose_modes_are_objected_to_with_the_command_that_cures_them() {
        for (mode, cures) in [
            (0o600, vec![]),
            (0o640, vec![]),
            (0o644, vec!["chmod o= "]),
            (0o660, vec!["chmod g-w "]),
            (0o666, vec!["chmod o= ", "chmod g-w "]),
        ] {
            let (_dir, path) = written("canary", mode);
            let said = audit("file:x", &path);
            assert_eq!(said.len(), cures.len(), "{mode:o}: {said:?}");
            for (text, cure) in said.iter().zip(cures) {
                assert!(text.contains(cure) && text.contains(&format!("{mode:04o}")), "{text}");
            }
        }
        assert!(audit("file:x", Path::new("/nonexistent/masterauth")).is_empty());
    }
}
