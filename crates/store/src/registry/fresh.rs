//! A file that takes the place of another whole. Several processes may write the same one at once, each under a name of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::OsRng;
use chacha20poly1305::aead::rand_core::RngCore;
use rustix::fs::{FlockOperation, flock};

/// Readable by its owner.
const MODE: u32 = 0o600;
const SUFFIX: &str = ".fresh";

/// A file that is being written, locked for as long as its process lives. It is removed when it is dropped before its time.
pub(super) struct Fresh {
    file: File,
    /// Where it is now.
    name: PathBuf,
    /// Where it goes.
    path: PathBuf,
}

impl Fresh {
    /// Beside `path`. Process ids repeat where processes in containers share a volume, so the name has something random too.
    pub(super) fn make(path: &Path) -> io::Result<Fresh> {
        let name = format!(
            "{}{}-{:016x}{SUFFIX}",
            prefix(path)?,
            std::process::id(),
            OsRng.next_u64()
        );
        let name = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&name)?;
        let fresh = Fresh {
            file,
            name,
            path: path.to_owned(),
        };
        // Where a file system has no locks, nobody clears away either.
        let _ = flock(&fresh.file, FlockOperation::NonBlockingLockExclusive);
        Ok(fresh)
    }

    /// Takes its place, for good: also after a power cut there is this one or the one before.
    pub(super) fn take_place(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.name, &self.path)?;
        File::open(directory(&self.path))?.sync_all()
    }
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Under this name there is nothing any more once it has taken its place. What stays otherwise is cleared away later.
        let _ = fs::remove_file(&self.name);
    }
}

/// Removes what processes that were killed have left beside `path`: whatever can be locked has no owner. What cannot be removed harms nobody
/// but the disk, and is looked at again at the next time.
pub(super) fn clear_away(path: &Path) {
    let (Ok(prefix), Ok(entries)) = (prefix(path), fs::read_dir(directory(path))) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_fresh = name
            .to_str()
            .is_some_and(|name| name.starts_with(&prefix) && name.ends_with(SUFFIX));
        if is_fresh
            && let Ok(file) = File::open(entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            // One that was made in this moment and is not locked yet goes too: its owner finds that out and writes again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What all fresh files of a path begin with.
fn prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its path names no file"))?;
    Ok(format!("{name}."))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_write_the_same_file_do_not_mix_and_the_last_one_stays() {
        // Goal: processes with one path each write a whole file. Method: two write in turns.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        let (mut first, mut second) = (Fresh::make(&path).unwrap(), Fresh::make(&path).unwrap());
        for _ in 0..2 {
            first.write_all(b"first ").unwrap();
            second.write_all(b"second ").unwrap();
        }
        first.take_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first first ");
        second.take_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second second ");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_away_and_nothing_else() {
        // Goal: left-overs do not pile up. Method: one without an owner, one that is being written, and files of others.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        let left = directory.path().join("snapshot.json.7-00000000000000ff.fresh");
        let others = ["snapshot.json", "snapshot.json.bak", "other.json.7-00.fresh"];
        for name in others {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        fs::write(&left, "x").unwrap();
        let written = Fresh::make(&path).unwrap();
        clear_away(&path);
        assert!(!left.exists() && written.name.exists());
        for name in others {
            assert!(directory.path().join(name).exists(), "{name}");
        }
        drop(written);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            others.len(),
            "one that is given up stays"
        );
    }
}
