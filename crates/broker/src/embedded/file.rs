//! Finding, checking and making the file, before anything in it is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::lock::{self, DirectoryLock};
use super::settings::EmbeddedSettings;
use crate::port::Queue;

/// The file's name in the data directory. SQLite keeps its log beside it, as `queue.sqlite-wal`.
pub const FILE: &str = "queue.sqlite";
const LOG: &str = "queue.sqlite-wal";
/// Under this name a new file is made, until it is whole.
const UNFINISHED: &str = "queue.sqlite.new";
/// `PRAGMA application_id`: "HKLQ".
const APPLICATION_ID: u32 = 0x484b_4c51;
/// `PRAGMA user_version`: the format that this version writes.
pub const FORMAT: u32 = 1;
/// SQLite's file format: the fields of the header, big-endian (<https://www.sqlite.org/fileformat.html>).
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

/// Why a data directory cannot be opened. Nothing in it was changed then, but where it says so.
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
    /// Written by a newer version.
    #[error("{} has format {found}; this version reads formats up to {FORMAT}: use the newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Some other file of this name.
    #[error("{} is not a queue of Hooklane ({why}): name another directory, or move the file away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// Ours, and damaged.
    #[error(
        "{} is damaged ({why}): restore it from a copy; or move it and its -wal away to start empty, and see what `sqlite3 {} .recover` finds",
        path.display(), path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// In SQLite's words.
        why: String,
    },
    /// The system refuses.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite refuses: no room, or no right to write.
    #[error("cannot {doing} {}", path.display())]
    Storage {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
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
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { doing, path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make the directory", directory))?;
    let path = directory.join(FILE);
    // Looked at without SQLite, and before the lock file is made: who named the wrong directory finds it as it was.
    let known = look(&path)?;
    let lock = lock::take(directory, &settings.holder)
        .map_err(failed("lock", directory))?
        .map_err(|told| OpenError::Held {
            directory: directory.clone(),
            pid: told.pid,
            holder: told.holder,
        })?;
    // Another process may have made it meanwhile.
    if !known && !look(&path)? {
        make(directory, &path)?;
    }
    let connection = connect(&path)?;
    check(&connection, &path)?;
    configure(&connection, settings).map_err(|source| OpenError::Storage {
        doing: "set up",
        path,
        source,
    })?;
    Ok((connection, lock))
}

/// Whether there is a file that may be ours.
fn look(path: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed)?,
    };
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(failed)?;
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        let why = "it is no SQLite file".to_owned();
        return Err(OpenError::Foreign {
            path: path.to_owned(),
            why,
        });
    }
    let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    judge(path, field(APPLICATION_ID_AT), field(USER_VERSION_AT))?;
    Ok(true)
}

fn judge(path: &Path, application_id: u32, version: u32) -> Result<(), OpenError> {
    let path = path.to_owned();
    if application_id != APPLICATION_ID || version == 0 {
        let why = format!("it is a SQLite file with application_id {application_id:#x}, format {version}");
        return Err(OpenError::Foreign { path, why });
    }
    if version > FORMAT {
        return Err(OpenError::Newer { path, found: version });
    }
    Ok(())
}

/// Makes it under another name first: a file of the right name is always whole.
fn make(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let unfinished = directory.join(UNFINISHED);
    let failed = |doing| {
        let path = unfinished.clone();
        move |source| OpenError::Io { doing, path, source }
    };
    // SQLite would read it into the new file.
    let log = directory.join(LOG);
    if log.exists() {
        return Err(OpenError::Foreign {
            path: log,
            why: format!("its {FILE} is missing"),
        });
    }
    for leftover in [UNFINISHED, "queue.sqlite.new-journal", "queue.sqlite.new-wal"] {
        match fs::remove_file(directory.join(leftover)) {
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
    let stored = |source| OpenError::Storage {
        doing: "make",
        path: unfinished.clone(),
        source,
    };
    let connection = connect(&unfinished)?;
    connection.execute_batch(&schema()).map_err(stored)?;
    connection.close().map_err(|(_, source)| stored(source))?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(failed("write"))?;
    fs::rename(&unfinished, path).map_err(failed("rename"))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("keep"))
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
        "PRAGMA page_size = 4096;
        BEGIN;
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = {FORMAT};
        CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), next_seq INTEGER NOT NULL, now_ms INTEGER NOT NULL,
            boot TEXT NOT NULL, uptime_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL);
        CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
            mark INTEGER NOT NULL);
        CREATE TABLE delayed (seq INTEGER PRIMARY KEY, level INTEGER NOT NULL, due_ms INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE INDEX delayed_due ON delayed (due_ms, level);
        CREATE TABLE delivery_counts (queue INTEGER NOT NULL, seq INTEGER NOT NULL, deliveries INTEGER NOT NULL,
            PRIMARY KEY (queue, seq)) WITHOUT ROWID;
        CREATE TABLE probe (filler BLOB NOT NULL);
        {queues}
        COMMIT;
        PRAGMA journal_mode = WAL;"
    )
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Storage {
        doing: "open",
        path: path.to_owned(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // No index of the log in a shared file, and nobody else in it, not even to look.
    connection
        .pragma_update(None, "locking_mode", "EXCLUSIVE")
        .map_err(failed)?;
    Ok(connection)
}

/// Reads, and does not write: a file that is refused is closed as it was.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let corrupt = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            OpenError::Corrupt {
                path: path.to_owned(),
                why: error.to_string(),
            }
        }
        _ => OpenError::Storage {
            doing: "check",
            path: path.to_owned(),
            source: error,
        },
    };
    let on_close = |keep| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
    // A log that was there stays as it is; an empty one that SQLite makes goes again.
    let log = path.with_file_name(LOG);
    on_close(fs::metadata(&log).is_ok_and(|log| log.len() > 0)).map_err(corrupt)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let unsigned = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let application_id = unsigned(number("application_id").map_err(corrupt)?);
    // Once more: what stood in the log counts now.
    judge(
        path,
        application_id,
        unsigned(number("user_version").map_err(corrupt)?),
    )?;
    let found = connection
        .pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0))
        .map_err(corrupt)?;
    if found != "ok" {
        let path = path.to_owned();
        return Err(OpenError::Corrupt { path, why: found });
    }
    for queue in Queue::ALL {
        let sql = format!("SELECT seq, way, head, body FROM {} LIMIT 0", queue.name());
        connection.prepare(&sql).map_err(|error| OpenError::Foreign {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    }
    on_close(false).map_err(corrupt)?;
    Ok(())
}

/// Format 1 is the first one: a later version brings older files up to its own here, in one transaction.
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
