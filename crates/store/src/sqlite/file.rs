//! The file: one row for each settled event, in the order of settling. Nothing is looked up in it: it is read once, and added to.

use std::path::{Path, PathBuf};

use hooklane_sqlite::{FileError, Format, Stamp, Step};
use hooklane_types::UnixMillis;
use rusqlite::{Connection, params};

use crate::key::{KEY_BYTES, Key};
use crate::published::{Published, REQUEST_BYTES};

/// Its name in the data directory.
pub const FILE: &str = "claims.sqlite";

pub(crate) const CLAIMS: Format = Format {
    what: "a window of claims of Hooklane",
    file: FILE,
    // "HKLC"
    application_id: 0x484b_4c43,
    steps: &[
        // Version 2: a stamp.
        Step {
            probes: || vec![CLAIMS_PROBE.to_owned()],
            statements: || Stamp::SCHEMA.to_owned(),
        },
        // Version 3: published ids.
        Step {
            probes: || vec![CLAIMS_PROBE.to_owned(), Stamp::PROBE.to_owned()],
            statements: || PUBLISHED_SCHEMA.to_owned(),
        },
    ],
    schema: || format!("{CLAIMS_SCHEMA} {PUBLISHED_SCHEMA} {}", Stamp::SCHEMA),
    probes: || {
        [CLAIMS_PROBE, PUBLISHED_PROBE, Stamp::PROBE]
            .map(str::to_owned)
            .to_vec()
    },
    if_damaged: "move {} and its -wal away: it costs no event, only that repeats of what was published before are delivered once more",
};
const CLAIMS_SCHEMA: &str =
    "CREATE TABLE claims (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, settled_at_ms INTEGER NOT NULL);";
const CLAIMS_PROBE: &str = "SELECT seq, key, settled_at_ms FROM claims";

const PUBLISHED_SCHEMA: &str = "CREATE TABLE published (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, accepted_at_ms INTEGER NOT NULL, request BLOB);";
pub(crate) const PUBLISHED_PROBE: &str = "SELECT seq, key, accepted_at_ms, request FROM published";

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

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    /// An event was settled.
    Settled(Key),
    /// An event with an id of its own was published.
    Published(Key, Published),
}

/// A table's rows: the first one's number, and the last one's.
#[derive(Clone, Copy)]
struct Span {
    oldest: i64,
    newest: i64,
}

impl Span {
    fn of(connection: &Connection, table: &str) -> rusqlite::Result<Span> {
        let sql = format!("SELECT ifnull(min(seq), 1), ifnull(max(seq), 0) FROM {table}");
        connection.query_row(&sql, [], |row| {
            Ok(Span {
                oldest: row.get(0)?,
                newest: row.get(1)?,
            })
        })
    }

    /// Takes out what is over a window of this length, where that is many rows.
    fn trim(&mut self, connection: &Connection, table: &str, entries_max: i64) -> rusqlite::Result<()> {
        let surplus = self.newest - self.oldest + 1 - entries_max;
        if surplus > entries_max / SLACK_SHARE {
            self.oldest += surplus.min(TRIM_MAX);
            let sql = format!("DELETE FROM {table} WHERE seq < ?1");
            connection.prepare_cached(&sql)?.execute([self.oldest])?;
        }
        Ok(())
    }
}

/// The open file.
pub(crate) struct ClaimsFile {
    connection: Connection,
    directory: PathBuf,
    entries_max: i64,
    claims: Span,
    published: Span,
}

impl ClaimsFile {
    /// Takes what was opened.
    pub(crate) fn new(
        connection: Connection,
        directory: &Path,
        entries_max: usize,
    ) -> Result<ClaimsFile, FileError> {
        let set_up = || -> rusqlite::Result<(Span, Span)> {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok((
                Span::of(&connection, "claims")?,
                Span::of(&connection, "published")?,
            ))
        };
        let (claims, published) = set_up().map_err(|error| CLAIMS.failed("read", directory, error))?;
        Ok(ClaimsFile {
            connection,
            directory: directory.to_owned(),
            entries_max: i64::try_from(entries_max).unwrap_or(i64::MAX),
            claims,
            published,
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
            let mut rows = statement.query([self.claims.newest.saturating_sub(self.entries_max)])?;
            while let Some(row) = rows.next()? {
                each(Key(row.get::<_, [u8; KEY_BYTES]>(0)?), row.get(1)?);
            }
            Ok(())
        };
        read().map_err(|error| CLAIMS.failed("read", &self.directory, error))
    }

    /// Calls `each` for the published ids that belong to the window, oldest first.
    pub(crate) fn read_published(&self, mut each: impl FnMut(Key, Published)) -> Result<(), FileError> {
        let mut read = || -> rusqlite::Result<()> {
            let sql = format!("{PUBLISHED_PROBE} WHERE seq > ?1 ORDER BY seq");
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([self.published.newest.saturating_sub(self.entries_max)])?;
            while let Some(row) = rows.next()? {
                let published = Published {
                    accepted_at: UnixMillis(row.get(2)?),
                    request: row.get::<_, Option<[u8; REQUEST_BYTES]>>(3)?,
                };
                each(Key(row.get::<_, [u8; KEY_BYTES]>(1)?), published);
            }
            Ok(())
        };
        read().map_err(|error| CLAIMS.failed("read", &self.directory, error))
    }

    /// Writes rows, all or none; what has left the window goes.
    pub(crate) fn write(&mut self, rows: &[Row], now_ms: i64) -> Result<(), WriteError> {
        // A file system that does not tell is taken to have room.
        if let Ok(system) = rustix::fs::statvfs(&self.directory) {
            let bytes = system.f_bavail.saturating_mul(system.f_frsize);
            if bytes < FREE_BYTES_MIN {
                return Err(WriteError::NearlyFull { bytes });
            }
        }
        let transaction = self.connection.transaction()?;
        let (mut claims, mut published) = (self.claims, self.published);
        {
            let sql = "INSERT INTO claims (seq, key, settled_at_ms) VALUES (?1, ?2, ?3)";
            let mut settle = transaction.prepare_cached(sql)?;
            let sql = "INSERT INTO published (seq, key, accepted_at_ms, request) VALUES (?1, ?2, ?3, ?4)";
            let mut publish = transaction.prepare_cached(sql)?;
            for row in rows {
                match row {
                    Row::Settled(key) => {
                        claims.newest += 1;
                        settle.execute(params![claims.newest, key.0, now_ms])?;
                    }
                    Row::Published(key, found) => {
                        published.newest += 1;
                        publish.execute(params![
                            published.newest,
                            key.0,
                            found.accepted_at.0,
                            found.request
                        ])?;
                    }
                }
            }
        }
        claims.trim(&transaction, "claims", self.entries_max)?;
        published.trim(&transaction, "published", self.entries_max)?;
        transaction.commit()?;
        (self.claims, self.published) = (claims, published);
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
