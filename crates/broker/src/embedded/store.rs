//! The SQL: what is read and written within the engine's transactions.

use std::collections::HashMap;

use bytes::Bytes;
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_sqlite::is_no_room;
use hooklane_types::RawMessage;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};

use super::clock::{Host, Saved};
use super::record::{self, Way};
use super::settings::Synchronous;
use crate::port::Queue;
use crate::topology::Names;

/// What the log may keep on disk after a checkpoint.
pub(crate) const LOG_BYTES_KEPT: i64 = 16 * 1024 * 1024;
/// Pages that SQLite keeps in memory.
pub(crate) const CACHE_KIB: i64 = 16 * 1024;
/// Five for each queue, and a dozen others.
pub(crate) const STATEMENTS: usize = 64;
/// Pages in the log from which on it is written back into the file: 8 MiB. Fewer checkpoints are fewer `fsync`s; the reserve has
/// to be larger than the log.
const CHECKPOINT_PAGES: i64 = 2_048;

/// What a failed statement means for the engine.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing can be written now; it may be again later. In words.
    NoRoom(String),
    /// The file, or the disk under it, cannot be relied on: nothing may be confirmed any more.
    Broken(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        let words = error.to_string();
        match is_no_room(&error) {
            true => Trouble::NoRoom(words),
            false => Trouble::Broken(words),
        }
    }
}

/// A queue's line in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages, those in hand included.
    pub(crate) messages: u64,
    /// Their bodies and properties.
    pub(crate) bytes: u64,
    /// The highest `seq` that may have been in hand.
    pub(crate) mark: u64,
}

/// A message as it is read.
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) bytes: u64,
    pub(crate) message: RawMessage,
}

/// What is to be inserted.
pub(crate) struct Insert<'a> {
    pub(crate) seq: u64,
    pub(crate) way: Way,
    pub(crate) head: Option<&'a [u8]>,
    pub(crate) body: &'a [u8],
}

/// The file.
pub(crate) struct Store {
    connection: Connection,
    names: Names,
    synchronous: Synchronous,
    /// The level that the connection has now.
    full: bool,
    sql: [QueueSql; Queue::ALL.len()],
}

struct QueueSql {
    insert: String,
    next: String,
    read: String,
    delete: String,
    promote: String,
}

impl QueueSql {
    fn new(queue: Queue) -> QueueSql {
        let name = queue.name();
        QueueSql {
            insert: format!("INSERT INTO {name} (seq, way, head, body) VALUES (?1, ?2, ?3, ?4)"),
            next: format!("SELECT seq, way, head, body FROM {name} WHERE seq > ?1 ORDER BY seq LIMIT 1"),
            read: format!("SELECT seq, way, head, body FROM {name} WHERE seq = ?1"),
            delete: format!(
                "DELETE FROM {name} WHERE seq = ?1 RETURNING length(body) + ifnull(length(head), 0)"
            ),
            promote: format!(
                "INSERT INTO {name} (seq, way, body) SELECT ?1, {}, body FROM delayed WHERE seq = ?2 RETURNING length(body)",
                Way::Ladder as i64
            ),
        }
    }
}

type Result<T> = std::result::Result<T, Trouble>;

impl Store {
    pub(crate) fn new(connection: Connection, names: Names, synchronous: Synchronous) -> Store {
        Store {
            connection,
            names,
            synchronous,
            full: false,
            sql: Queue::ALL.map(QueueSql::new),
        }
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> Result<usize> {
        Ok(self.statement(sql)?.execute(values)?)
    }

    /// Begins a transaction; a durable one is committed with an `fsync`, where the settings say so.
    pub(crate) fn begin(&mut self, durable: bool) -> Result<()> {
        let full = durable && self.synchronous == Synchronous::Full;
        if full != self.full {
            let level = if full { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.full = full;
        }
        self.execute("BEGIN", &[]).map(drop)
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        self.execute("COMMIT", &[]).map(drop)
    }

    /// After an error; SQLite may have done it by itself.
    pub(crate) fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // What cannot be rolled back is refused at the next BEGIN.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    pub(crate) fn insert(&self, queue: usize, insert: &Insert<'_>) -> Result<()> {
        let Insert { seq, way, head, body } = insert;
        self.execute(&self.sql[queue].insert, params![seq, *way as i64, head, body])
            .map(drop)
    }

    pub(crate) fn insert_delayed(&self, seq: u64, level: usize, due_ms: i64, body: &[u8]) -> Result<()> {
        let sql = "INSERT INTO delayed (seq, level, due_ms, body) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![seq, level, due_ms, body]).map(drop)
    }

    /// The first message behind `seq`.
    pub(crate) fn next(&self, queue: usize, seq: u64) -> Result<Option<Stored>> {
        self.one(queue, &self.sql[queue].next, seq)
    }

    /// The message `seq`, if it is still there.
    pub(crate) fn read(&self, queue: usize, seq: u64) -> Result<Option<Stored>> {
        self.one(queue, &self.sql[queue].read, seq)
    }

    fn one(&self, queue: usize, sql: &str, seq: u64) -> Result<Option<Stored>> {
        let stored = |row: &Row<'_>| {
            let (way, head) = (row.get(1)?, row.get_ref(2)?.as_blob_or_null()?);
            let body = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
            Ok(Stored {
                seq: row.get(0)?,
                bytes: (body.len() + head.map_or(0, <[u8]>::len)) as u64,
                message: record::message(&self.names, Queue::ALL[queue], way, head, body),
            })
        };
        Ok(self.statement(sql)?.query_row([seq], stored).optional()?)
    }

    /// Takes it away; its bytes, if it was there.
    pub(crate) fn delete(&self, queue: usize, seq: u64) -> Result<Option<u64>> {
        let mut statement = self.statement(&self.sql[queue].delete)?;
        Ok(statement.query_row([seq], |row| row.get(0)).optional()?)
    }

    /// Gives a message of a producer other properties.
    pub(crate) fn save_head(&self, queue: usize, seq: u64, head: &[u8]) -> Result<()> {
        let sql = format!("UPDATE {} SET head = ?2 WHERE seq = ?1", Queue::ALL[queue].name());
        self.execute(&sql, params![seq, head]).map(drop)
    }

    /// Delayed messages, due or not, the first due first: when they are due, and their bodies. More than `bytes_max` only with the
    /// last of them.
    pub(crate) fn delayed(&self, count_max: usize, bytes_max: usize) -> Result<Vec<(u64, i64, Bytes)>> {
        let sql = "SELECT seq, due_ms, body FROM delayed ORDER BY due_ms, seq LIMIT ?1";
        let mut statement = self.statement(sql)?;
        let mut rows = statement.query([count_max])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(row) = rows.next()?
        {
            let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let body = Bytes::copy_from_slice(body);
            bytes += body.len();
            found.push((row.get(0)?, row.get(1)?, body));
        }
        Ok(found)
    }

    /// Takes a delayed message away; how many it was.
    pub(crate) fn delete_delayed(&self, seq: u64) -> Result<u64> {
        let deleted = self.execute("DELETE FROM delayed WHERE seq = ?1", params![seq])?;
        Ok(deleted as u64)
    }

    /// Delayed messages that are due, the first due first.
    pub(crate) fn due(&self, now_ms: i64, count_max: usize) -> Result<Vec<(u64, usize)>> {
        let sql = "SELECT seq, level FROM delayed WHERE due_ms <= ?1 ORDER BY due_ms, seq LIMIT ?2";
        let mut statement = self.statement(sql)?;
        let rows = statement.query_map(params![now_ms, count_max], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// When the next delayed message is due.
    pub(crate) fn next_due(&self) -> Result<Option<i64>> {
        let mut statement = self.statement("SELECT min(due_ms) FROM delayed")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Moves a delayed message into a queue, as its message `seq`; its bytes.
    pub(crate) fn promote(&self, delayed: u64, queue: usize, seq: u64) -> Result<u64> {
        let mut statement = self.statement(&self.sql[queue].promote)?;
        let bytes = statement.query_row([seq, delayed], |row| row.get(0))?;
        self.delete_delayed(delayed)?;
        Ok(bytes)
    }

    pub(crate) fn save_tally(&self, queue: usize, tally: &Tally) -> Result<()> {
        let sql = "UPDATE queues SET messages = ?2, bytes = ?3, mark = ?4 WHERE id = ?1";
        self.execute(sql, params![queue, tally.messages, tally.bytes, tally.mark])
            .map(drop)
    }

    pub(crate) fn save_state(&self, next_seq: u64, clock: &Saved) -> Result<()> {
        let Host {
            boot,
            uptime_ms,
            wall_ms,
        } = &clock.host;
        let sql = "INSERT OR REPLACE INTO state VALUES (1, ?1, ?2, ?3, ?4, ?5)";
        self.execute(sql, params![next_seq, clock.now_ms, boot, uptime_ms, wall_ms])
            .map(drop)
    }

    pub(crate) fn save_count(&self, queue: usize, seq: u64, deliveries: u64) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO delivery_counts VALUES (?1, ?2, ?3)";
        self.execute(sql, params![queue, seq, deliveries]).map(drop)
    }

    pub(crate) fn forget_count(&self, queue: usize, seq: u64) -> Result<()> {
        let sql = "DELETE FROM delivery_counts WHERE queue = ?1 AND seq = ?2";
        self.execute(sql, params![queue, seq]).map(drop)
    }

    /// What was saved last; nothing in a new file.
    pub(crate) fn state(&self) -> Result<Option<(u64, Saved)>> {
        let sql = "SELECT next_seq, now_ms, boot, uptime_ms, wall_ms FROM state";
        let state = |row: &Row<'_>| {
            let host = Host {
                boot: row.get(2)?,
                uptime_ms: row.get(3)?,
                wall_ms: row.get(4)?,
            };
            let now_ms = row.get(1)?;
            Ok((row.get(0)?, Saved { now_ms, host }))
        };
        Ok(self.connection.query_row(sql, [], state).optional()?)
    }

    pub(crate) fn tally(&self, queue: usize) -> Result<Tally> {
        let sql = "SELECT messages, bytes, mark FROM queues WHERE id = ?1";
        Ok(self.statement(sql)?.query_row([queue], |row| {
            Ok(Tally {
                messages: row.get(0)?,
                bytes: row.get(1)?,
                mark: row.get(2)?,
            })
        })?)
    }

    /// Messages up to the mark: those that may have been in hand when the file was last closed.
    pub(crate) fn up_to(&self, queue: usize, mark: u64) -> Result<Vec<u64>> {
        let sql = format!("SELECT seq FROM {} WHERE seq <= ?1", Queue::ALL[queue].name());
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([mark], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn counts(&self, queue: usize) -> Result<HashMap<u64, u64>> {
        let sql = "SELECT seq, deliveries FROM delivery_counts WHERE queue = ?1";
        let mut statement = self.statement(sql)?;
        let rows = statement.query_map([queue], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Messages waiting on each level of the ladder.
    pub(crate) fn levels(&self) -> Result<[u64; LEVELS_MS.len()]> {
        let mut levels = [0; LEVELS_MS.len()];
        let mut statement = self.statement("SELECT level, count(*) FROM delayed GROUP BY level")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?)))?;
        for row in rows {
            let (level, count) = row?;
            if let Some(found) = levels.get_mut(level) {
                *found = count;
            }
        }
        Ok(levels)
    }

    /// Whether so much can be written again.
    pub(crate) fn probe(&mut self, bytes: usize) -> Result<()> {
        self.begin(true)?;
        let written = self
            .execute(
                "INSERT INTO probe (filler) VALUES (randomblob(?1))",
                params![bytes],
            )
            .and_then(|_| self.commit());
        if let Err(trouble) = written {
            self.roll_back();
            return Err(trouble);
        }
        self.execute("DELETE FROM probe", &[])?;
        self.checkpoint()
    }

    /// Writes the log back into the file: it is used from its beginning then.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.log("PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    /// What is taken of the file.
    pub(crate) fn used_bytes(&self) -> Result<u64> {
        let number = |sql| -> Result<u64> { Ok(self.statement(sql)?.query_row([], |row| row.get(0))?) };
        let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
        Ok(pages * number("PRAGMA page_size")?)
    }

    /// What can be written into the file without it growing.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let number = |sql| -> Result<u64> { Ok(self.statement(sql)?.query_row([], |row| row.get(0))?) };
        Ok(number("PRAGMA freelist_count")? * number("PRAGMA page_size")?)
    }

    /// Writes the log back into the file, when it has grown long.
    pub(crate) fn checkpoint_if_long(&self) -> Result<()> {
        let (pages, done) = self.log("PRAGMA wal_checkpoint(NOOP)")?;
        if pages >= CHECKPOINT_PAGES && done < pages {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Pages in the log, and how many of them are in the file too.
    fn log(&self, sql: &str) -> Result<(i64, i64)> {
        Ok(self
            .statement(sql)?
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
    }
}
