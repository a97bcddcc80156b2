//! The queue's file, and opening it under the directory's lock.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hooklane_sqlite::{FileError, Format};
use rusqlite::Connection;

use super::lock::{self, DirectoryLock};
use super::settings::EmbeddedSettings;
use crate::port::Queue;

/// The file's name in the data directory. SQLite keeps its log beside it, as `queue.sqlite-wal`.
pub const FILE: &str = "queue.sqlite";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

pub(crate) const QUEUE: Format = Format {
    what: "a queue of Hooklane",
    file: FILE,
    // "HKLQ"
    application_id: 0x484b_4c51,
    version: FORMAT,
    schema,
    probes,
    if_damaged: "restore it from a copy (with its claims.sqlite, or without any); or move it and its -wal away to start empty, and see what \
                 `sqlite3 {} .recover` finds",
};

/// Why a data directory cannot be opened. Nothing in it was changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by {}: stop it first, or name another directory", directory.display(), who(*pid, holder))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Its process id, where it could be read.
        pid: Option<u32>,
        /// What it says it is ([`EmbeddedSettings::holder`]); may be empty.
        holder: String,
    },
    /// Its file is refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn who(pid: Option<u32>, holder: &str) -> String {
    let pid = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    match holder {
        "" => pid,
        holder => format!("{pid} ({holder})"),
    }
}

/// Takes the lock, and opens the file, which was found whole, or is new.
pub(crate) fn open(settings: &EmbeddedSettings) -> Result<(Connection, DirectoryLock), OpenError> {
    let directory = &settings.directory;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make the directory", directory))?;
    // Looked at before the lock file is made: who named the wrong directory finds it as it was.
    QUEUE.find(directory)?;
    let lock = lock::take(directory, &settings.holder)
        .map_err(failed("lock", directory))?
        .map_err(|told| held(directory, told))?;
    let connection = QUEUE.open(directory)?;
    configure(&connection, settings).map_err(|source| FileError::Storage {
        doing: "set up",
        path: QUEUE.path(directory),
        source,
    })?;
    Ok((connection, lock))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

fn held(directory: &Path, told: lock::Told) -> OpenError {
    OpenError::Held {
        directory: directory.to_owned(),
        pid: told.pid,
        holder: told.holder,
    }
}

/// What a data directory is found to be. While it lives, nobody else opens the directory.
#[derive(Debug)]
pub struct Inspection {
    /// Size of the file and its log, in bytes; none when there is no queue yet.
    pub bytes: Option<u64>,
    _lock: Option<File>,
}

/// Looks at a data directory, whole files included, and changes nothing: not even the lock file says who looks.
///
/// # Errors
/// What opening it would end with; [`OpenError::Held`] by a process that works as it should is one too.
pub fn inspect(directory: &Path) -> Result<Inspection, OpenError> {
    QUEUE.find(directory)?;
    let lock = lock::look(directory)
        .map_err(failed("look at the lock of", directory))?
        .map_err(|told| held(directory, told))?;
    let bytes = QUEUE.inspect(directory)?;
    Ok(Inspection { bytes, _lock: lock })
}

/// One table per queue, in the order of arrival; `delayed` for all levels of the ladder. `head` is what a producer wrote beside
/// the body, and empty otherwise. `queues.mark` is the highest `seq` that a consumer may have had in hand.
fn schema() -> String {
    let queues: String = Queue::ALL
        .into_iter()
        .enumerate()
        .map(|(id, queue)| {
            let name = queue.name();
            format!(
                "CREATE TABLE {name} (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
                INSERT INTO queues VALUES ({id}, '{name}', 0, 0, 0);"
            )
        })
        .collect();
    format!(
        "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), next_seq INTEGER NOT NULL, now_ms INTEGER NOT NULL,
            boot TEXT NOT NULL, uptime_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL);
        CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
            mark INTEGER NOT NULL);
        CREATE TABLE delayed (seq INTEGER PRIMARY KEY, level INTEGER NOT NULL, due_ms INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE INDEX delayed_due ON delayed (due_ms, level);
        CREATE TABLE delivery_counts (queue INTEGER NOT NULL, seq INTEGER NOT NULL, deliveries INTEGER NOT NULL,
            PRIMARY KEY (queue, seq)) WITHOUT ROWID;
        CREATE TABLE probe (filler BLOB NOT NULL);
        {queues}"
    )
}

fn probes() -> Vec<String> {
    let probe = |queue: Queue| format!("SELECT seq, way, head, body FROM {} LIMIT 0", queue.name());
    Queue::ALL.into_iter().map(probe).collect()
}

fn configure(connection: &Connection, settings: &EmbeddedSettings) -> rusqlite::Result<()> {
    // Checkpoints are made by the engine, between transactions: a failed one must not look like a failed commit.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", super::store::LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -super::store::CACHE_KIB)?;
    if let Some(bytes) = settings.file_bytes_max {
        let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", (bytes / page_bytes).max(1))?;
    }
    connection.set_prepared_statement_cache_capacity(super::store::STATEMENTS);
    Ok(())
}
