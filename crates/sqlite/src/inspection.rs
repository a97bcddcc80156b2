//! Looking at the whole of a file, and opening what was looked at.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use crate::connect::{connect, connect_immutable, keep_log, number};
use crate::error::FileError;
use crate::format::Format;

/// A file that was read from end to end and found whole. It is as it was, its log included, until it is opened.
pub struct Inspection {
    format: Format,
    directory: PathBuf,
    connection: Connection,
    version: u32,
    bytes: u64,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("path", &self.format.path(&self.directory))
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Format {
    /// Looks at the whole file; none when there is none. Changes nothing. The caller holds the directory's lock, and waiting for a disk must
    /// do no harm to it.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn inspect(&self, directory: &Path) -> Result<Option<Inspection>, FileError> {
        if !self.find(directory)? {
            return Ok(None);
        }
        let path = self.path(directory);
        let log_bytes = log_bytes(self, directory);
        let connection = match log_bytes {
            // Not even an empty log is made.
            0 => connect_immutable(&path)?,
            _ => connect(&path)?,
        };
        let version = self.check(&connection, directory)?;
        Ok(Some(Inspection {
            format: *self,
            directory: directory.to_owned(),
            connection,
            version,
            bytes: fs::metadata(&path).map_or(0, |found| found.len()) + log_bytes,
        }))
    }

    /// Opens the file for this process alone, as [`Inspection::open`] does; makes it if there is none.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(&self, directory: &Path) -> Result<Connection, FileError> {
        match self.inspect(directory)? {
            Some(found) => found.open(),
            None => self.make(directory, ""),
        }
    }

    /// Reads, and does not write. Its version.
    fn check(&self, connection: &Connection, directory: &Path) -> Result<u32, FileError> {
        let failed = |error| self.failed("check", directory, error);
        keep_log(connection, true).map_err(failed)?;
        let application_id = number(connection, "application_id").map_err(failed)?;
        // Once more: what stood in the log counts now.
        let version = number(connection, "user_version").map_err(failed)?;
        self.judge(directory, application_id, version)?;
        let found: String = connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(failed)?;
        if found != "ok" {
            return Err(self.damaged(directory, found));
        }
        for probe in self.probes_of(version) {
            connection
                .prepare(&probe)
                .map_err(|error| self.foreign(self.path(directory), error.to_string()))?;
        }
        Ok(version)
    }

    /// What a failed statement means for the file.
    pub fn failed(&self, doing: &'static str, directory: &Path, error: rusqlite::Error) -> FileError {
        match (error.sqlite_error_code(), &error) {
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
            // A row that is not as we write it.
            | (
                _,
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::QueryReturnedNoRows,
            ) => self.damaged(directory, error.to_string()),
            _ => FileError::Storage {
                doing,
                path: self.path(directory),
                source: error,
            },
        }
    }

    /// All steps that it lacks, or none.
    fn bring_up_to_date(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let steps = self.steps_from(number(connection, "user_version")?);
        if steps.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction()?;
        for step in steps {
            transaction.execute_batch(&(step.statements)())?;
        }
        for probe in (self.probes)() {
            transaction.prepare(&probe)?;
        }
        transaction.pragma_update(None, "user_version", self.version())?;
        transaction.commit()
    }
}

impl Inspection {
    /// Its size with its log.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its format, which this version reads.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The format that it will have once it is opened, where that is another.
    pub fn becomes(&self) -> Option<u32> {
        let version = self.format.version();
        (version != self.version).then_some(version)
    }

    /// To read more of it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens it for this process alone. An older one is brought up to date, in one transaction that is on disk when this ends.
    ///
    /// # Errors
    /// See [`FileError`]: nothing was changed then.
    pub fn open(self) -> Result<Connection, FileError> {
        let Inspection {
            format, directory, ..
        } = self;
        drop(self.connection);
        let failed = |error| format.failed("open", &directory, error);
        let mut connection = connect(&format.path(&directory))?;
        let has_log = log_bytes(&format, &directory) > 0;
        keep_log(&connection, has_log).map_err(failed)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        format
            .bring_up_to_date(&mut connection)
            .map_err(|error| format.failed("bring up to date", &directory, error))?;
        // From now on it is ours to change.
        keep_log(&connection, false).map_err(failed)?;
        Ok(connection)
    }
}

fn log_bytes(format: &Format, directory: &Path) -> u64 {
    fs::metadata(format.log(directory)).map_or(0, |log| log.len())
}
