//! What makes a file one of ours.

use std::path::{Path, PathBuf};

use crate::error::FileError;

/// A kind of file. Version 1 is the first of each: a later version brings older files up to its own after opening, in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What it is, for messages: `a queue of Hooklane`.
    pub what: &'static str,
    /// Its name in the data directory. SQLite keeps its log beside it, with `-wal` behind the name.
    pub file: &'static str,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// `PRAGMA user_version`: the format that this version writes, and the newest that it reads.
    pub version: u32,
    /// Statements that make its tables.
    pub schema: fn() -> String,
    /// Statements that can be prepared where the tables are there.
    pub probes: fn() -> Vec<String>,
    /// What to do with a damaged one; `{}` stands for its path.
    pub if_damaged: &'static str,
}

impl Format {
    /// Where it is.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.file)
    }

    /// Where its log is.
    pub fn log(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-wal", self.file))
    }

    /// The error that says it is damaged.
    pub fn damaged(&self, directory: &Path, why: String) -> FileError {
        let path = self.path(directory);
        let remedy = self.if_damaged.replace("{}", &path.display().to_string());
        FileError::Corrupt { path, why, remedy }
    }

    pub(crate) fn foreign(&self, path: PathBuf, why: impl Into<String>) -> FileError {
        FileError::Foreign {
            path,
            what: self.what,
            why: why.into(),
        }
    }

    pub(crate) fn judge(&self, directory: &Path, application_id: u32, version: u32) -> Result<(), FileError> {
        let path = self.path(directory);
        if application_id != self.application_id || version == 0 {
            let why =
                format!("it is a SQLite file with application_id {application_id:#x}, format {version}");
            return Err(self.foreign(path, why));
        }
        if version > self.version {
            let (found, known) = (version, self.version);
            return Err(FileError::Newer { path, found, known });
        }
        Ok(())
    }
}
