//! Disk space put by for the day when there is none.
//!
//! SQLite appends every change to its log, acks too, and uses the log from its beginning again once the file has taken in what
//! is in it; for that the file may have to grow. On a full disk neither could be done, and working the queues off would free
//! nothing. Then the reserve is given up: it is as large as the log may become.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name in the data directory.
const FILE: &str = "queue.reserve";
/// More than the log has before it is written back, and a transaction on top of it.
pub(crate) const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// The reserve, there or given up.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// Looks whether it is there.
    pub(crate) fn find(directory: &Path) -> Reserve {
        let path = directory.join(FILE);
        let held = fs::metadata(&path).is_ok_and(|found| found.len() == RESERVE_BYTES);
        Reserve { path, held }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Takes the space.
    pub(crate) fn take(&mut self) -> Result<(), String> {
        let taken = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)
            .and_then(|file| allocate(&file));
        match taken {
            Ok(()) => {
                self.held = true;
                Ok(())
            }
            Err(error) => {
                self.release();
                let mib = RESERVE_BYTES / 1024 / 1024;
                Err(format!("no room for a reserve of {mib} MiB: {error}"))
            }
        }
    }

    /// Gives it up.
    pub(crate) fn release(&mut self) {
        self.held = false;
        // What cannot be removed is found at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

fn allocate(mut file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            allocated => return Ok(allocated?),
        }
    }
    // Not zeros: a file system may keep those without keeping space for them.
    let block: Vec<u8> = (0..64 * 1024_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for _ in 0..RESERVE_BYTES / block.len() as u64 {
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_again_and_gone_when_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut reserve = Reserve::find(directory.path());
        assert!(!reserve.is_held());
        reserve.take().expect("there is room");
        assert!(reserve.is_held() && Reserve::find(directory.path()).is_held());
        reserve.release();
        assert!(!reserve.is_held() && !Reserve::find(directory.path()).is_held());
    }

    #[test]
    fn what_was_begun_and_not_finished_is_not_taken_for_one() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(FILE), "half").expect("written");
        let mut reserve = Reserve::find(directory.path());
        assert!(!reserve.is_held());
        reserve.take().expect("there is room");
        assert!(Reserve::find(directory.path()).is_held());
    }
}
