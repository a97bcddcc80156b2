//! The file: one row for each settled event, in the order of settling. Nothing is looked up in it: it is read once, and added to.

use std::path::{Path, PathBuf};

use hooklane_sqlite::{FileError, Format, Stamp, Step};
use rusqlite::{Connection, params};

use crate::key::{KEY_BYTES, Key};

/// Its name in the data directory.
pub const FILE: &str = "claims.sqlite";

pub(crate) const CLAIMS: Format = Format {
    what: "a window of claims of Hooklane",
    file: FILE,
    // "HKLC"
    application_id: 0x484b_4c43,
    // Version 2: a stamp.
    steps: &[Step {
        probes: || vec![CLAIMS_PROBE.to_owned()],
        statements: || Stamp::SCHEMA.to_owned(),
    }],
    schema: || format!("{CLAIMS_SCHEMA} {}", Stamp::SCHEMA),
    probes: || vec![CLAIMS_PROBE.to_owned(), Stamp::PROBE.to_owned()],
    if_damaged: "move {} and its -wal away: it costs no event, only that repeats of what was published before are delivered once more",
};
const CLAIMS_SCHEMA: &str =
    "CREATE TABLE claims (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, settled_at_ms INTEGER NOT NULL);";
const CLAIMS_PROBE: &str = "SELECT seq, key, settled_at_ms FROM claims";

/// Pages in the log from which on it is written back into the file: 2 MiB.
const CHECKPOINT_PAGES: i64 = 512;
/// What the log keeps on disk after that.
const LOG_BYTES_KEPT: i64 = 4 * 1024 * 1024;
/// Most rows that leave the window in one transaction.
const TRIM_MAX: i64 = 10_000;
/// Rows beyond the window that may lie there, as a share of it: they leave many at a time.
const SLACK_SHARE: i64 = 64;
/// What a disk has last belongs to the queue: its reserve, and as much again.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// Why something was not written, in words. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{} MiB are left on the disk, and are left to the queue", .bytes / 1024 / 1024)]
    NearlyFull { bytes: u64 },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The open file.
pub(crate) struct ClaimsFile {
    connection: Connection,
    directory: PathBuf,
    entries_max: i64,
    /// The first row's number, and the last one's.
    oldest: i64,
    newest: i64,
}

impl ClaimsFile {
    /// Takes what was opened.
    pub(crate) fn new(
        connection: Connection,
        directory: &Path,
        entries_max: usize,
    ) -> Result<ClaimsFile, FileError> {
        let set_up = || -> rusqlite::Result<(i64, i64)> {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let sql = "SELECT ifnull(min(seq), 1), ifnull(max(seq), 0) FROM claims";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let (oldest, newest) = set_up().map_err(|error| CLAIMS.failed("read", directory, error))?;
        Ok(ClaimsFile {
            connection,
            directory: directory.to_owned(),
            entries_max: i64::try_from(entries_max).unwrap_or(i64::MAX),
            oldest,
            newest,
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        CLAIMS.path(&self.directory)
    }

    /// The window's length.
    pub(crate) fn entries_max(&self) -> usize {
        usize::try_from(self.entries_max).unwrap_or(usize::MAX)
    }

    /// Calls `each` for what belongs to the window, oldest first, with the wall clock's time of its settling.
    pub(crate) fn read(&self, mut each: impl FnMut(Key, i64)) -> Result<(), FileError> {
        let mut read = || -> rusqlite::Result<()> {
            let sql = "SELECT key, settled_at_ms FROM claims WHERE seq > ?1 ORDER BY seq";
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([self.newest.saturating_sub(self.entries_max)])?;
            while let Some(row) = rows.next()? {
                each(Key(row.get::<_, [u8; KEY_BYTES]>(0)?), row.get(1)?);
            }
            Ok(())
        };
        read().map_err(|error| CLAIMS.failed("read", &self.directory, error))
    }

    /// Writes settled events, all or none; what has left the window goes.
    pub(crate) fn write(&mut self, keys: &[Key], now_ms: i64) -> Result<(), WriteError> {
        // A file system that does not tell is taken to have room.
        if let Ok(system) = rustix::fs::statvfs(&self.directory) {
            let bytes = system.f_bavail.saturating_mul(system.f_frsize);
            if bytes < FREE_BYTES_MIN {
                return Err(WriteError::NearlyFull { bytes });
            }
        }
        let transaction = self.connection.transaction()?;
        let mut newest = self.newest;
        let mut oldest = self.oldest;
        {
            let sql = "INSERT INTO claims (seq, key, settled_at_ms) VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(sql)?;
            for key in keys {
                newest += 1;
                insert.execute(params![newest, key.0, now_ms])?;
            }
        }
        let surplus = newest - oldest + 1 - self.entries_max;
        if surplus > self.entries_max / SLACK_SHARE {
            oldest += surplus.min(TRIM_MAX);
            transaction
                .prepare_cached("DELETE FROM claims WHERE seq < ?1")?
                .execute([oldest])?;
        }
        transaction.commit()?;
        (self.oldest, self.newest) = (oldest, newest);
        Ok(())
    }

    /// Writes the log back into the file, when it has grown long.
    pub(crate) fn checkpoint_if_long(&self) -> rusqlite::Result<()> {
        let (pages, done) = self.log("PRAGMA wal_checkpoint(NOOP)")?;
        if pages >= CHECKPOINT_PAGES && done < pages {
            self.log("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }

    /// Pages in the log, and how many of them are in the file too.
    fn log(&self, sql: &str) -> rusqlite::Result<(i64, i64)> {
        self.connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }
}
