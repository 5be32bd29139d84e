//! A disk that is small enough to fill: a tmpfs for one server's `dir`. Needs root.
//!
//! The server's log lies elsewhere, so that a full disk can still be read about.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fault::Fault;
use crate::namespace::succeed;

/// Unmounted on drop, and by the sweep when that did not happen.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(dir: &Path, size_kib: u32) -> Result<SmallDisk> {
        fs::create_dir_all(dir)?;
        let options = format!("size={size_kib}k,mode=0700");
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "relinkd-lab"]).arg(dir))?;
        Ok(SmallDisk { dir: dir.to_owned() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes until the disk is full; undoing removes what was written.
    pub fn fill(&self) -> Result<Fault> {
        let ballast = self.dir.join("ballast");
        let path = ballast.clone();
        let fault = Fault::new(format!("{} full", self.dir.display()), move || fs::remove_file(&path));
        let mut file = File::create(&ballast)?;
        loop {
            match file.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(fault),
                Err(error) => return Err(Error::new(error.kind(), format!("{}: {error}", ballast.display()))),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = succeed(Command::new("umount").arg(&self.dir));
    }
}
