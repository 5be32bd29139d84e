//! What can go wrong with the record, each with what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the ledger could not be opened, read or written. While it lasts, relinkd watches and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// There is no ledger yet. Only reading says so; the daemon makes one.
    Absent {
        path: PathBuf,
    },
    /// This user may not read, or write, the file or its directory.
    Denied {
        path: PathBuf,
        why: String,
    },
    /// Another process holds the write lock.
    Locked {
        path: PathBuf,
    },
    /// No room on the disk.
    Full {
        path: PathBuf,
    },
    /// The file or its file system cannot be written.
    ReadOnly {
        path: PathBuf,
    },
    /// The file is damaged, or is something else than a ledger.
    Corrupt {
        path: PathBuf,
        why: String,
    },
    /// A newer relinkd wrote it.
    NewerSchema {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    Other {
        path: PathBuf,
        why: String,
    },
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Absent { path } => {
                write!(f, "there is no ledger at {}: relinkd has not run with this state_dir yet", path.display())
            }
            LedgerError::Denied { path, why } => write!(
                f,
                "no permission for the ledger {}: {why}; the daemon's user needs to own its directory, and a reader \
                 needs to be in the group of the file (or use sudo)",
                path.display()
            ),
            LedgerError::Locked { path } => write!(
                f,
                "the ledger {} is locked by another process; see who holds it with: fuser -v {}",
                path.display(),
                path.display()
            ),
            LedgerError::Full { path } => {
                write!(f, "no room on the disk for the ledger {}: free some space, or move state_dir", path.display())
            }
            LedgerError::ReadOnly { path } => write!(
                f,
                "the ledger {} cannot be written: the file, its directory or its file system is read-only",
                path.display()
            ),
            LedgerError::Corrupt { path, why } => {
                let dir = path.parent().unwrap_or(Path::new("/")).display();
                let name = path.file_name().unwrap_or_default().display();
                write!(
                    f,
                    "the ledger {} is damaged ({why}); stop relinkd, then move it aside with: \
                     cd '{dir}' && mkdir damaged && mv {name}* damaged/. relinkd starts a new one; what is left of the \
                     old one is read with: sqlite3 damaged/{name} .recover",
                    path.display()
                )
            }
            LedgerError::NewerSchema { path, found, known } => write!(
                f,
                "the ledger {} was written by a newer relinkd (schema {found}, this one knows {known}): upgrade \
                 relinkd again, or give this version another state_dir",
                path.display()
            ),
            LedgerError::Other { path, why } => write!(f, "the ledger {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for LedgerError {}

impl LedgerError {
    /// An error of SQLite's, sorted by what the reader can do about it.
    pub(super) fn of(path: &Path, error: rusqlite::Error) -> LedgerError {
        let path = path.to_owned();
        let why = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                LedgerError::Locked { path }
            }
            Some(ErrorCode::DiskFull) => LedgerError::Full { path },
            Some(ErrorCode::ReadOnly) => LedgerError::ReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerError::Corrupt { path, why },
            Some(ErrorCode::PermissionDenied) => LedgerError::Denied { path, why },
            Some(ErrorCode::CannotOpen) => Self::unopened(&path, why),
            // SQLite says "full" only of the files that it writes; the -shm file that it maps fails as an I/O error.
            Some(ErrorCode::SystemIoFailure) if lacks_room(&path) => LedgerError::Full { path },
            Some(ErrorCode::SystemIoFailure) => {
                let code = error.sqlite_error().map(|error| error.extended_code).unwrap_or_default();
                LedgerError::Other { path, why: format!("{why} (SQLite code {code}); see the kernel's log: dmesg -T") }
            }
            _ => LedgerError::Other { path, why },
        }
    }

    /// SQLite says only that it could not open a file; the file system knows more.
    fn unopened(path: &Path, why: String) -> LedgerError {
        use rustix::fs::{Access, access};

        let dir = path.parent().unwrap_or(Path::new("/"));
        match access(path, Access::READ_OK | Access::WRITE_OK).and_then(|()| access(dir, Access::WRITE_OK)) {
            Err(error) => Self::of_io(path, &error.into()),
            Ok(()) => LedgerError::Other { path: path.to_owned(), why },
        }
    }

    /// An error of the file system's, met before SQLite came into play.
    pub(super) fn of_io(path: &Path, error: &std::io::Error) -> LedgerError {
        use std::io::ErrorKind;

        let dir = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => LedgerError::Other {
                path,
                why: format!(
                    "the directory {dir} does not exist; systemd makes it with StateDirectory=relinkd, and by hand it is: \
                     install -d -m 0750 -o relinkd -g relinkd {dir}"
                ),
            },
            ErrorKind::NotADirectory => LedgerError::Other { path, why: format!("{dir} is not a directory") },
            ErrorKind::IsADirectory => {
                LedgerError::Other { path, why: "this is a directory; a file is expected here".to_owned() }
            }
            ErrorKind::PermissionDenied => LedgerError::Denied { path, why: error.to_string() },
            ErrorKind::ReadOnlyFilesystem => LedgerError::ReadOnly { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => LedgerError::Full { path },
            _ => LedgerError::Other { path, why: error.to_string() },
        }
    }
}

/// Whether less is free than SQLite needs for its smallest files.
fn lacks_room(path: &Path) -> bool {
    let dir = path.parent().unwrap_or(Path::new("/"));
    rustix::fs::statvfs(dir).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < 64 * 1024)
}
