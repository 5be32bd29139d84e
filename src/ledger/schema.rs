//! The file: how it is made, opened and recognised.
//!
//! `user_version` is the schema; a step of [`MIGRATIONS`] leads from each to the next, so a ledger of any old version
//! opens for ever. `application_id` says that the file is ours, so a wrong `state_dir` never writes into another
//! program's database.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::LedgerError;

/// `rlnk`.
const APPLICATION_ID: i64 = 0x726c_6e6b;

/// How long a writer waits for another one. Short: what is held up here is a fix.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// Step N leads from schema N to N+1. A step that has been released is never changed.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE entry (
        id       INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,  -- microseconds since the Unix epoch, as all times here
        replica  TEXT NOT NULL,
        grp      TEXT NOT NULL,
        incident TEXT NOT NULL,
        kind     TEXT NOT NULL,
        body     TEXT NOT NULL      -- JSON of model::incident::What
    ) STRICT;
    CREATE INDEX entry_by_incident ON entry (incident, id);

    CREATE TABLE incident (         -- what entries say of an incident as a whole, kept beside them for look-up
        id         TEXT PRIMARY KEY,
        replica    TEXT NOT NULL,
        opened_at  INTEGER NOT NULL,
        touched_at INTEGER NOT NULL,
        open       INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX incident_by_replica ON incident (replica, touched_at);

    CREATE TABLE notice (
        id       INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL,
        incident TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        body     TEXT NOT NULL      -- JSON of model::incident::Notice
    ) STRICT;
    CREATE INDEX notice_by_incident ON notice (incident);

    CREATE TABLE delivery (
        id       INTEGER PRIMARY KEY,
        notice   INTEGER NOT NULL REFERENCES notice (id) ON DELETE CASCADE,
        channel  TEXT NOT NULL,
        state    TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'given-up')),
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at   INTEGER NOT NULL,
        ended_at INTEGER,
        error    TEXT
    ) STRICT;
    CREATE INDEX delivery_waiting ON delivery (channel, id) WHERE state = 'waiting';
    CREATE INDEX delivery_by_notice ON delivery (notice);

    CREATE TABLE disabled_channel (
        channel TEXT PRIMARY KEY,
        at      INTEGER NOT NULL,
        why     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE write_check (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL) STRICT;
    INSERT INTO write_check VALUES (1, 0);
",
    "
    CREATE TABLE rotation (
        id       TEXT PRIMARY KEY,
        grp      TEXT NOT NULL,
        begun_at INTEGER NOT NULL,
        ended_at INTEGER,
        body     TEXT NOT NULL      -- JSON of model::rotation::Rotation; passwords by fingerprint
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX rotation_open ON rotation (grp) WHERE ended_at IS NULL;

    CREATE TABLE rotation_entry (
        id       INTEGER PRIMARY KEY,
        rotation TEXT NOT NULL REFERENCES rotation (id) ON DELETE CASCADE,
        at       INTEGER NOT NULL,
        kind     TEXT NOT NULL,
        body     TEXT NOT NULL      -- JSON of model::rotation::RotationWhat
    ) STRICT;
    CREATE INDEX rotation_entry_by_rotation ON rotation_entry (rotation, id);
",
    "
    CREATE TABLE pause (
        began INTEGER NOT NULL,
        scope TEXT NOT NULL,        -- JSON of model::people::Scope
        over  INTEGER NOT NULL,     -- when it ends, or was ended
        body  TEXT NOT NULL,        -- JSON of model::people::Pause
        PRIMARY KEY (began, scope)
    ) STRICT;
    CREATE INDEX entry_that_acts ON entry (id)
        WHERE kind IN ('intended', 'ended', 'interrupted', 'acknowledged');
",
];

/// The schema that this version writes.
const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Opens for writing; makes the file where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    create(path).map_err(|error| LedgerError::of_io(path, &error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sorted = |error| LedgerError::of(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(sorted)?;
    settle(&connection).map_err(sorted)?;
    let found = recognise(&connection, path)?;
    connection
        .execute_batch(
            // auto_vacuum takes effect only before the first table is made; later it is a no-op.
            // FULL syncs the WAL at each commit: an intent is on the disk before the change that it announces.
            "PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = 4194304;",
        )
        .map_err(sorted)?;
    if found < KNOWN {
        migrate(&mut connection).map_err(sorted)?;
    }
    Ok(connection)
}

/// Opens for reading, whether or not the daemon runs, and with a WAL that a crash left behind.
///
/// SQLite needs the `-shm` file to read in WAL mode, and makes it when it is missing. A user who may not write in the
/// directory cannot; but then, without a WAL, the main file is all there is, and is read as it stands.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, LedgerError> {
    if let Err(error) = File::open(path) {
        let absent = error.kind() == std::io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir);
        return Err(match absent {
            true => LedgerError::Absent { path: path.to_owned() },
            false => LedgerError::of_io(path, &error),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        settle(&connection)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    });
    let connection = match opened {
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {
            as_it_stands(path, flags, error)?
        }
        other => other.map_err(|error| LedgerError::of(path, error))?,
    };
    match recognise(&connection, path)? {
        // Made, and not yet filled: the daemon is just starting, or was killed there.
        0 => Err(LedgerError::Absent { path: path.to_owned() }),
        found if found < KNOWN => Err(LedgerError::Other {
            path: path.to_owned(),
            why: format!("written by an older relinkd (schema {found}); start the daemon once to bring it up to date"),
        }),
        _ => Ok(connection),
    }
}

/// The main file alone, through SQLite's `immutable`, when no WAL holds later commits.
fn as_it_stands(path: &Path, flags: OpenFlags, error: rusqlite::Error) -> Result<Connection, LedgerError> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    if std::fs::metadata(&wal).is_ok_and(|meta| meta.len() > 0) {
        return Err(LedgerError::Denied {
            path: path.to_owned(),
            why: "the daemon was stopped hard and left a write-ahead log, which only its own user can read".to_owned(),
        });
    }
    let Some(text) = path.to_str() else { return Err(LedgerError::of(path, error)) };
    let quoted = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let connection = Connection::open_with_flags(format!("file:{quoted}?immutable=1"), flags)
        .map_err(|error| LedgerError::of(path, error))?;
    settle(&connection).map_err(|error| LedgerError::of(path, error))?;
    Ok(connection)
}

/// Mode 0640 whatever the umask, and where root makes it (`relinkd heal` before the daemon's first start) it belongs to
/// the owner of the directory. SQLite gives `-wal` and `-shm` the mode and the owner of the main file.
fn create(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Ok(file) => {
            if rustix::process::geteuid().is_root()
                && let Some(dir) = path.parent()
            {
                let owner = std::fs::metadata(dir)?;
                std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(0o640))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            match std::fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;",
    )
}

/// The schema of the file, once it is clear that it is ours; 0 for an empty file.
fn recognise(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || {
        let ours = number("PRAGMA application_id")?;
        let found = number("PRAGMA user_version")?;
        Ok((ours, found, number("SELECT count(*) FROM sqlite_schema")?))
    };
    let (ours, found, tables) = read().map_err(|error| LedgerError::of(path, error))?;
    if ours == APPLICATION_ID && found > KNOWN {
        return Err(LedgerError::NewerSchema { path: path.to_owned(), found, known: KNOWN });
    }
    if ours == APPLICATION_ID || (ours == 0 && found == 0 && tables == 0) {
        return Ok(found);
    }
    Err(LedgerError::Other {
        path: path.to_owned(),
        why: "this is the database of another program; give relinkd a state_dir of its own".to_owned(),
    })
}

/// All missing steps in one transaction. The version is read again inside, for two that start at once.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", KNOWN)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_synced_logged_ahead_and_space_can_be_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        // The second opening finds the file as it would find that of an earlier run.
        for _ in 0..2 {
            let connection = open(&path).unwrap();
            let pragma =
                |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap();
            let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
            // 2 is FULL of the one, and INCREMENTAL of the other.
            assert_eq!((pragma("synchronous"), pragma("auto_vacuum")), (2, 2));
            assert_eq!((pragma("foreign_keys"), pragma("user_version")), (1, KNOWN));
        }
    }
}
