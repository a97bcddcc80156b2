//! Connections: to change a file, or to look at it alone.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::FileError;

/// For this process alone.
pub(crate) fn connect(path: &Path) -> Result<Connection, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| not_opened(path, source))?;
    // No index of the log in a shared file, and nobody else in it, not even to look.
    connection
        .pragma_update(None, "locking_mode", "EXCLUSIVE")
        .map_err(|source| not_opened(path, source))?;
    Ok(connection)
}

/// The file alone, without its log, and without any trace in the directory.
pub(crate) fn connect_immutable(path: &Path) -> Result<Connection, FileError> {
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

/// Whether the log stays as it is when the file is closed.
pub(crate) fn keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map(drop)
}

/// A number of the header.
pub(crate) fn number(connection: &Connection, name: &str) -> rusqlite::Result<u32> {
    let number: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn not_opened(path: &Path, source: rusqlite::Error) -> FileError {
    FileError::Storage {
        doing: "open",
        path: path.to_owned(),
        source,
    }
}
