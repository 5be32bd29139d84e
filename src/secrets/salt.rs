//! The salt of fingerprints: made once on a host, and kept in the state directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use super::Salt;

const LENGTH: usize = 16;
const NAME: &str = "salt";

impl Salt {
    /// One that is kept nowhere: fingerprints compare within this run only.
    pub fn fleeting() -> Salt {
        let mut salt = [0_u8; LENGTH];
        // Without randomness the salt is all zeros: fingerprints still compare, and this one is never stored.
        let _ = fill(&mut salt);
        Salt(salt)
    }

    /// The salt of this state directory, where there is one that this user can read.
    pub fn load(state_dir: &Path) -> io::Result<Salt> {
        load(&state_dir.join(NAME))
    }

    /// The salt of this state directory. The first caller makes it; of two at once, both get the same.
    pub fn load_or_create(state_dir: &Path) -> io::Result<Salt> {
        let path = state_dir.join(NAME);
        let salt = match load(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(state_dir, &path).and_then(|()| load(&path)),
            answer => answer,
        };
        salt.map_err(|error| {
            io::Error::new(error.kind(), format!("the salt of fingerprints, {}: {error}", path.display()))
        })
    }
}

fn load(path: &Path) -> io::Result<Salt> {
    let mut bytes = Vec::with_capacity(LENGTH + 1);
    File::open(path)?.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let salt = bytes.try_into().map_err(|_| {
        io::Error::new(ErrorKind::InvalidData, format!("not {LENGTH} bytes long; remove it, and a new one is made"))
    })?;
    Ok(Salt(salt))
}

/// Writes the whole of it under a name of our own first, so that nobody ever reads half a salt; linking it then fails
/// if another was quicker, and theirs stands.
fn create(state_dir: &Path, path: &Path) -> io::Result<()> {
    let mut salt = [0_u8; LENGTH];
    let mut mark = [0_u8; 8];
    fill(&mut salt)?;
    fill(&mut mark)?;
    let draft = Draft(state_dir.join(format!("salt.{:016x}", u64::from_ne_bytes(mark))));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft.0)?;
    file.write_all(&salt)?;
    // Where root is first (`relinkd rotate` before the daemon's first start), the daemon's user has to read it too.
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(state_dir)?;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    match fs::hard_link(&draft.0, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _never_made = fs::remove_file(&self.0);
    }
}

/// Up to 256 bytes come at once or not at all: getrandom(2).
fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let expected = buffer.len();
    let filled = getrandom(buffer, GetRandomFlags::empty())?;
    if filled == expected { Ok(()) } else { Err(io::Error::other("the kernel gave too few random bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_made_once_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = Salt::load_or_create(dir.path()).unwrap();
        assert_eq!(first.0, Salt::load_or_create(dir.path()).unwrap().0);
        assert_eq!(fs::metadata(dir.path().join("salt")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left behind");
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(first.0, Salt::load_or_create(elsewhere.path()).unwrap().0);
    }

    #[test]
    fn two_that_start_at_once_get_the_same_salt() {
        let dir = tempfile::tempdir().unwrap();
        let salts: Vec<[u8; LENGTH]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Salt::load_or_create(dir.path()).unwrap().0)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(salts.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_salt_that_is_cut_short_is_named_with_its_cure() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("salt"), b"short").unwrap();
        let error = Salt::load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("salt") && error.contains("remove it"), "{error}");
        let error = Salt::load_or_create(&dir.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("absent/salt"), "{error}");
    }
}
