//! What makes a file one of ours.

use std::path::{Path, PathBuf};

use crate::error::FileError;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What it is, for messages: `a queue of Hooklane`.
    pub what: &'static str,
    /// Its name in the data directory. SQLite keeps its log beside it, with `-wal` behind the name.
    pub file: &'static str,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// What older files lack: the first step leads from version 1 to 2, and the last one to the version that is written.
    pub steps: &'static [Step],
    /// Statements that make its tables.
    pub schema: fn() -> String,
    /// Statements that can be prepared where the tables are there.
    pub probes: fn() -> Vec<String>,
    /// What to do with a damaged one; `{}` stands for its path.
    pub if_damaged: &'static str,
}

/// From one version of a format to the next.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Statements that can be prepared where the tables of the older version are there.
    pub probes: fn() -> Vec<String>,
    /// Statements that make the newer version of it. All that are needed run in one transaction, with the new version's number.
    pub statements: fn() -> String,
}

impl Format {
    /// `PRAGMA user_version` of what is written, and the newest that is read.
    pub const fn version(&self) -> u32 {
        self.steps.len() as u32 + 1
    }

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
        let remedy = self.remedy(&path);
        FileError::Corrupt { path, why, remedy }
    }

    /// The error that says it belongs to another file than the one that lies beside it.
    pub fn unpaired(&self, directory: &Path) -> FileError {
        let path = self.path(directory);
        let remedy = self.remedy(&path);
        FileError::Unpaired { path, remedy }
    }

    fn remedy(&self, path: &Path) -> String {
        self.if_damaged.replace("{}", &path.display().to_string())
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
        if version > self.version() {
            let (found, known) = (version, self.version());
            return Err(FileError::Newer { path, found, known });
        }
        Ok(())
    }

    /// The steps that a file of this version still has to take.
    pub(crate) fn steps_from(&self, version: u32) -> &'static [Step] {
        let taken = version.saturating_sub(1) as usize;
        self.steps.get(taken..).unwrap_or_default()
    }

    /// What can be prepared in a file of this version.
    pub(crate) fn probes_of(&self, version: u32) -> Vec<String> {
        let older = self.steps_from(version).first().map(|step| step.probes);
        older.unwrap_or(self.probes)()
    }
}
