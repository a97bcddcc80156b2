//! Making, checking and opening.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::FileError;
use crate::format::Format;

impl Format {
    /// Opens the file for this process alone; makes it if there is none. Reads the whole of it once. The caller holds the directory's
    /// lock, and waiting for a disk must do no harm to it.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(&self, directory: &Path) -> Result<Connection, FileError> {
        if !self.find(directory)? {
            self.make(directory)?;
        }
        let connection = connect(&self.path(directory))?;
        self.check(&connection, directory)?;
        // From now on it is ours to change.
        on_close(&connection, false).map_err(|error| self.failed(directory, error))?;
        Ok(connection)
    }

    /// Its size in bytes with its log, when it is found whole; none when there is none. Changes nothing. Nobody else may have it open.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn inspect(&self, directory: &Path) -> Result<Option<u64>, FileError> {
        if !self.find(directory)? {
            return Ok(None);
        }
        let path = self.path(directory);
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let log_bytes = bytes(&self.log(directory));
        let connection = match log_bytes {
            // Not even an empty log is made.
            0 => connect_immutable(&path)?,
            _ => connect(&path)?,
        };
        self.check(&connection, directory)?;
        Ok(Some(bytes(&path) + log_bytes))
    }

    /// Makes it under another name first: a file of the right name is always whole.
    fn make(&self, directory: &Path) -> Result<(), FileError> {
        let unfinished = directory.join(format!("{}.new", self.file));
        let failed = |doing| {
            let path = unfinished.clone();
            move |source| FileError::Io { doing, path, source }
        };
        for suffix in ["", "-journal", "-wal"] {
            match fs::remove_file(directory.join(format!("{}.new{suffix}", self.file))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
                _ => {}
            }
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed("make"))?;
        let stored = |source| FileError::Storage {
            doing: "make",
            path: unfinished.clone(),
            source,
        };
        let connection = connect(&unfinished)?;
        connection.execute_batch(&self.making()).map_err(stored)?;
        connection.close().map_err(|(_, source)| stored(source))?;
        File::open(&unfinished)
            .and_then(|file| file.sync_all())
            .map_err(failed("write"))?;
        fs::rename(&unfinished, self.path(directory)).map_err(failed("rename"))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("keep"))
    }

    fn making(&self) -> String {
        let (application_id, version, schema) = (self.application_id, self.version, (self.schema)());
        format!(
            "PRAGMA page_size = 4096;
            BEGIN;
            PRAGMA application_id = {application_id};
            PRAGMA user_version = {version};
            {schema}
            COMMIT;
            PRAGMA journal_mode = WAL;"
        )
    }

    /// Reads, and does not write: a file that is refused is closed as it was.
    fn check(&self, connection: &Connection, directory: &Path) -> Result<(), FileError> {
        let failed = |error| self.failed(directory, error);
        // A log that was there stays as it is; an empty one that SQLite makes goes again.
        let has_log = fs::metadata(self.log(directory)).is_ok_and(|log| log.len() > 0);
        on_close(connection, has_log).map_err(failed)?;
        let number = |name| {
            let number: rusqlite::Result<i64> = connection.pragma_query_value(None, name, |row| row.get(0));
            number.map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        };
        let application_id = number("application_id").map_err(failed)?;
        // Once more: what stood in the log counts now.
        self.judge(directory, application_id, number("user_version").map_err(failed)?)?;
        let found: String = connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(failed)?;
        if found != "ok" {
            return Err(self.damaged(directory, found));
        }
        for probe in (self.probes)() {
            connection
                .prepare(&probe)
                .map_err(|error| self.foreign(self.path(directory), error.to_string()))?;
        }
        Ok(())
    }

    fn failed(&self, directory: &Path, error: rusqlite::Error) -> FileError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.damaged(directory, error.to_string())
            }
            _ => FileError::Storage {
                doing: "check",
                path: self.path(directory),
                source: error,
            },
        }
    }
}

/// Whether the log stays when the file is closed.
fn on_close(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map(drop)
}

fn connect(path: &Path) -> Result<Connection, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| not_opened(path, source))?;
    // No index of the log in a shared file, and nobody else in it, not even to look.
    connection
        .pragma_update(None, "locking_mode", "EXCLUSIVE")
        .map_err(|source| not_opened(path, source))?;
    Ok(connection)
}

/// The file alone, without its log, and without any trace in the directory.
fn connect_immutable(path: &Path) -> Result<Connection, FileError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let absolute = std::path::absolute(path).map_err(|source| FileError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    })?;
    let escaped: String = absolute
        .to_string_lossy()
        .chars()
        .map(|c| match c {
            '%' => "%25".to_owned(),
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            c => c.to_string(),
        })
        .collect();
    Connection::open_with_flags(format!("file://{escaped}?immutable=1"), flags)
        .map_err(|source| not_opened(path, source))
}

fn not_opened(path: &Path, source: rusqlite::Error) -> FileError {
    FileError::Storage {
        doing: "open",
        path: path.to_owned(),
        source,
    }
}
