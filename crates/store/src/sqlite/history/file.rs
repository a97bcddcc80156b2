//! The file and its tables.

use std::path::{Path, PathBuf};

use hooklane_sqlite::{FileError, Format, Inspection, is_no_room};
use rusqlite::Connection;

use crate::history::HistoryError;

/// Its name in the data directory.
pub const FILE: &str = "history.sqlite";

const HISTORY: Format = Format {
    what: "a history of Hooklane",
    file: FILE,
    // "HKLH"
    application_id: 0x484b_4c48,
    steps: &[],
    schema,
    probes,
    if_damaged: "restore it and its -wal from a copy, or move both away: it costs no delivery, only what is known of earlier ones",
};

/// Pages in the log from which on it is written back into the file: 4 MiB.
const CHECKPOINT_PAGES: i64 = 1_024;
/// What the log keeps on disk after that.
const LOG_BYTES_KEPT: i64 = 8 * 1024 * 1024;
/// What a disk has last belongs to the queue and to claims, which leave 32 MiB: history yields before them.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Statements that stay prepared.
const STATEMENTS: usize = 64;

/// Whether the directory has a history. Reads its header, and changes nothing.
///
/// # Errors
/// When it has one that is not ours, or newer.
pub fn find(directory: &Path) -> Result<bool, FileError> {
    HISTORY.find(directory)
}

/// The directory's history, read from end to end; none when there is none. Changes nothing. Nobody else may have
/// it open.
///
/// # Errors
/// What opening it would end with.
pub fn inspect(directory: &Path) -> Result<Option<Inspection>, FileError> {
    HISTORY.inspect(directory)
}

/// The open file.
pub(super) struct HistoryFile {
    pub(super) connection: Connection,
    directory: PathBuf,
}

impl HistoryFile {
    pub(super) fn open(directory: &Path) -> Result<HistoryFile, FileError> {
        let connection = HISTORY.open(directory)?;
        let set_up = || -> rusqlite::Result<()> {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            // What is moved within the file leaves no copy behind: see `expunge`.
            connection.pragma_update(None, "secure_delete", "FAST")?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(())
        };
        set_up().map_err(|error| HISTORY.failed("read", directory, error))?;
        Ok(HistoryFile {
            connection,
            directory: directory.to_owned(),
        })
    }

    /// Where it is.
    pub(super) fn path(directory: &Path) -> PathBuf {
        HISTORY.path(directory)
    }

    /// Whether there is room for more.
    pub(super) fn has_room(&self) -> Result<(), HistoryError> {
        // A file system that does not tell is taken to have room.
        match rustix::fs::statvfs(&self.directory) {
            Ok(system) if system.f_bavail.saturating_mul(system.f_frsize) < FREE_BYTES_MIN => {
                let left = system.f_bavail.saturating_mul(system.f_frsize) / 1024 / 1024;
                let why = format!("{left} MiB are left on the disk, and are left to the queue");
                Err(HistoryError::NoRoom(why))
            }
            _ => Ok(()),
        }
    }

    /// Writes the log back into the file, when it has grown long.
    pub(super) fn checkpoint_if_long(&self) -> rusqlite::Result<()> {
        let (pages, done) = self.log("PRAGMA wal_checkpoint(NOOP)")?;
        if pages >= CHECKPOINT_PAGES && done < pages {
            self.log("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }

    /// Writes the log back, and cuts it off.
    pub(super) fn clear_log(&self) -> rusqlite::Result<()> {
        self.log("PRAGMA wal_checkpoint(TRUNCATE)").map(drop)
    }

    /// Pages in the log, and how many of them are in the file too.
    fn log(&self, sql: &str) -> rusqlite::Result<(i64, i64)> {
        self.connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }
}

/// What a failed statement means.
pub(super) fn failed(error: rusqlite::Error) -> HistoryError {
    match is_no_room(&error) {
        true => HistoryError::NoRoom(error.to_string()),
        false => HistoryError::Unavailable(error.to_string()),
    }
}

/// `events.content_at_ms` is NULL in a stub. `attempts.failed`: what is not both delivered and answered with success. `deliveries.ended_at_ms` is NULL while it goes on, `dead` when it was delivered.
/// `destinations` follows from `deliveries` and `events`, and is there to be listed.
pub(super) fn schema() -> String {
    "CREATE TABLE history (one INTEGER PRIMARY KEY CHECK (one = 1), forgotten_before_ms INTEGER NOT NULL);
    INSERT INTO history VALUES (1, 0);
    CREATE TABLE events (number INTEGER PRIMARY KEY, application TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL,
        expunged INTEGER NOT NULL, content_at_ms INTEGER, fingerprint INTEGER, producer_id TEXT, event_type TEXT, channels TEXT,
        content_type TEXT, traceparent TEXT, headers TEXT, payload BLOB);
    CREATE UNIQUE INDEX events_by_id ON events (application, id);
    CREATE INDEX events_by_time ON events (application, at_ms, id) WHERE event_type IS NOT NULL;
    CREATE INDEX events_by_type ON events (application, event_type, at_ms, id) WHERE event_type IS NOT NULL;
    CREATE INDEX events_by_age ON events (at_ms);
    CREATE TABLE attempts (number INTEGER PRIMARY KEY, application TEXT NOT NULL, event TEXT NOT NULL, id TEXT NOT NULL,
        endpoint TEXT NOT NULL, target INTEGER NOT NULL, run INTEGER NOT NULL, at_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
        code INTEGER, retry_after_ms INTEGER, failure TEXT, manual INTEGER NOT NULL, delivered INTEGER NOT NULL, failed INTEGER NOT NULL, again_at_ms INTEGER,
        dead TEXT, url TEXT NOT NULL, answer_expunged INTEGER NOT NULL, answer BLOB);
    CREATE UNIQUE INDEX attempts_by_id ON attempts (application, event, id);
    CREATE INDEX attempts_by_event ON attempts (application, event, at_ms, id);
    CREATE INDEX attempts_by_endpoint ON attempts (application, endpoint, at_ms, id);
    CREATE INDEX attempts_failed ON attempts (application, endpoint, at_ms, id) WHERE failed = 1;
    CREATE TABLE deliveries (application TEXT NOT NULL, event TEXT NOT NULL, endpoint TEXT NOT NULL, run INTEGER NOT NULL,
        target INTEGER NOT NULL, last_at_ms INTEGER, last_id TEXT, again_at_ms INTEGER, ended_at_ms INTEGER, ended_by TEXT, dead TEXT,
        PRIMARY KEY (application, event, endpoint, run, target)) WITHOUT ROWID;
    CREATE TABLE destinations (application TEXT NOT NULL, event TEXT NOT NULL, endpoint TEXT NOT NULL, event_at_ms INTEGER NOT NULL,
        status INTEGER NOT NULL, next_at_ms INTEGER, PRIMARY KEY (application, event, endpoint)) WITHOUT ROWID;
    CREATE INDEX destinations_by_time ON destinations (application, endpoint, event_at_ms, event);
    CREATE INDEX destinations_by_status ON destinations (application, endpoint, status, event_at_ms, event);"
        .to_owned()
}

fn probes() -> Vec<String> {
    [
        "SELECT one, forgotten_before_ms FROM history",
        "SELECT number, application, id, at_ms, expunged, content_at_ms, fingerprint, producer_id, event_type, channels, content_type, \
         traceparent, headers, payload FROM events",
        "SELECT number, application, event, id, endpoint, target, run, at_ms, duration_ms, code, retry_after_ms, failure, manual, delivered, failed, \
         again_at_ms, dead, url, answer_expunged, answer FROM attempts",
        "SELECT application, event, endpoint, run, target, last_at_ms, last_id, again_at_ms, ended_at_ms, ended_by, dead FROM deliveries",
        "SELECT application, event, endpoint, event_at_ms, status, next_at_ms FROM destinations",
    ]
    .map(str::to_owned)
    .to_vec()
}
