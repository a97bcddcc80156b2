//! One process at a time: a lock file that says who it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Its name in the data directory. It is never removed: another process may be about to lock it.
const FILE: &str = "queue.lock";
/// What is read of what another process wrote.
const TOLD_BYTES_MAX: u64 = 1024;

/// The lock, held until this is dropped or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

/// Who holds it, as far as that was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) pid: Option<u32>,
    pub(crate) holder: String,
}

/// Takes the lock; `Err` in the `Ok` says who has it.
pub(crate) fn take(directory: &Path, holder: &str) -> io::Result<Result<DirectoryLock, Told>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(FILE))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Err(told(file))),
        Err(error) => return Err(error.into()),
    }
    let holder = holder.replace('\n', " ");
    let told = format!("{}\n{holder}\n", std::process::id());
    // On a full disk nobody is told, and it holds all the same.
    let _ = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(told.as_bytes()));
    Ok(Ok(DirectoryLock { _file: file }))
}

/// Holds the lock without a word, where there is one to hold; `Err` in the `Ok` says who has it. Whoever wants it meanwhile is
/// told who had it last.
pub(crate) fn look(directory: &Path) -> io::Result<Result<Option<File>, Told>> {
    let file = match File::open(directory.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Ok(Some(file))),
        Err(Errno::WOULDBLOCK) => Ok(Err(told(file))),
        Err(error) => Err(error.into()),
    }
}

fn told(file: File) -> Told {
    let mut bytes = Vec::new();
    // Who cannot be named still holds it.
    let _ = file.take(TOLD_BYTES_MAX).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    Told {
        pid: lines.next().and_then(|line| line.parse().ok()),
        holder: lines.next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_may_follow_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = take(directory.path(), "serve\nx")
            .expect("no error")
            .expect("free");
        let told = take(directory.path(), "").expect("no error").expect_err("held");
        assert_eq!(
            (told.pid, told.holder.as_str()),
            (Some(std::process::id()), "serve x")
        );
        let looked = look(directory.path()).expect("no error").expect_err("held");
        assert_eq!(looked, told);
        drop(first);
        drop(look(directory.path()).expect("no error").expect("free again"));
        take(directory.path(), "").expect("no error").expect("free again");
    }
}
