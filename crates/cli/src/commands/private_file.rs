//! Files that hold secrets: made for their owner only, whole or not at all.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Nobody else reads them.
const FILE_MODE: u32 = 0o600;

/// A file that this run made, removed again unless it is kept.
pub struct Made<'a> {
    path: &'a Path,
    is_kept: bool,
}

impl Made<'_> {
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // Whatever is in the way is told by the error that led here.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// A new file for its owner only, with this text, on the disk; None when there is one.
pub fn create<'a>(path: &'a Path, text: &str) -> anyhow::Result<Option<Made<'a>>> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        opened => opened.with_context(cannot)?,
    };
    let made = Made { path, is_kept: false };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(cannot)?;
    Ok(Some(made))
}
