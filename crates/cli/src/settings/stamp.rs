//! Whether a file is still the one that was read, without reading it: a file of many endpoints is large.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that was changed so lately may be changed again within the same tick of its file system's clock.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// What tells one state of a file from another; of the file that a symbolic link leads to. The time of its last change of any kind
/// (`ctime`) cannot be set by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// None while it may still change unseen, and where there is no such file.
    pub fn of(path: &Path) -> Option<Stamp> {
        let found = fs::metadata(path).ok()?;
        let stamp = Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        };
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).ok()?);
        // A clock of another machine may be ahead of ours: then it has not settled either.
        let age = SystemTime::now().duration_since(changed).ok()?;
        (age >= SETTLED_AFTER).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(Stamp::of(&path), None);
        fs::write(&path, "a").unwrap();
        assert_eq!(Stamp::of(&path), None);
    }

    #[test]
    fn another_file_in_its_place_has_another() {
        // Goal: a file that is old enough to be trusted, and one of the same size behind the same link. Method: two of the system's.
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        let executable = std::env::current_exe().unwrap();
        std::os::unix::fs::symlink("/proc/self/exe", &link).unwrap();
        let own = Stamp::of(&link);
        assert_eq!(own, Stamp::of(&executable));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(Stamp::of(&link).is_some() && Stamp::of(&link) != own);
    }
}
