//! The file and its tables.

use std::path::Path;

use hooklane_sqlite::{FileError, Format, Inspection, Step};
use rusqlite::Connection;

use crate::catalog::{Kind, Revision};

/// Its name in the data directory.
pub const FILE: &str = "store.sqlite";

const STORE: Format = Format {
    what: "a store of Hooklane",
    file: FILE,
    // "HKLS"
    application_id: 0x484b_4c53,
    steps: &[Step {
        probes: probes_of_1,
        statements: responses,
    }],
    schema,
    probes,
    if_damaged: "restore it and its -wal from a copy, or see what `sqlite3 {} .recover` finds",
};

/// Whether the directory has a store. Reads its header, and changes nothing.
///
/// # Errors
/// When it has one that is not ours, or newer.
pub fn find(directory: &Path) -> Result<bool, FileError> {
    STORE.find(directory)
}

/// Looks at the directory's store, which is found whole; none when there is none. Changes nothing. Nobody else may have it open.
///
/// # Errors
/// What opening it would end with.
pub fn inspect(directory: &Path) -> Result<Option<Inspection>, FileError> {
    STORE.inspect(directory)
}

/// How many endpoints stand in the directory's store. The caller holds the directory's lock.
///
/// # Errors
/// What opening it would end with.
pub fn endpoints(directory: &Path) -> Result<u64, FileError> {
    if !find(directory)? {
        return Ok(0);
    }
    let connection = STORE.open(directory)?;
    let sql = "SELECT count(*) FROM documents WHERE kind = ?1";
    let count = connection.query_row(sql, [Kind::Endpoint.name()], |row| row.get(0));
    count.map_err(|source| unreadable(directory, source))
}

fn unreadable(directory: &Path, source: rusqlite::Error) -> FileError {
    FileError::Storage {
        doing: "read",
        path: STORE.path(directory),
        source,
    }
}

/// Opens it, and says at which revision it is.
pub(super) fn open(directory: &Path) -> Result<(Connection, Revision), FileError> {
    let connection = STORE.open(directory)?;
    let set_up = || -> rusqlite::Result<i64> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.query_row("SELECT revision FROM catalog", [], |row| row.get(0))
    };
    match set_up() {
        Ok(revision) => Ok((connection, Revision(u64::try_from(revision).unwrap_or_default()))),
        Err(source) => Err(unreadable(directory, source)),
    }
}

/// `catalog.forgotten`: removals up to this revision are not told any more.
fn schema() -> String {
    "CREATE TABLE catalog (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, forgotten INTEGER NOT NULL);
    INSERT INTO catalog VALUES (1, 0, 0);
    CREATE TABLE documents (kind TEXT NOT NULL, scope TEXT NOT NULL, id TEXT NOT NULL, uid TEXT, created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL, revision INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (kind, scope, id)) WITHOUT ROWID;
    CREATE UNIQUE INDEX documents_by_uid ON documents (kind, scope, uid) WHERE uid IS NOT NULL;
    CREATE INDEX documents_by_scope ON documents (scope);
    CREATE INDEX documents_by_revision ON documents (revision);
    CREATE TABLE removals (kind TEXT NOT NULL, scope TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (kind, scope, id)) WITHOUT ROWID;
    CREATE INDEX removals_by_revision ON removals (revision);"
        .to_owned()
        + &responses()
}

/// New in version 2. A request that is being carried out has no status yet.
fn responses() -> String {
    "CREATE TABLE responses (key BLOB PRIMARY KEY, at_ms INTEGER NOT NULL, request BLOB, status INTEGER, body BLOB) WITHOUT ROWID;
    CREATE INDEX responses_by_time ON responses (at_ms);
    CREATE INDEX documents_by_id ON documents (kind, id);"
        .to_owned()
}

fn probes() -> Vec<String> {
    let mut probes = probes_of_1();
    probes.push("SELECT key, at_ms, request, status, body FROM responses".to_owned());
    probes
}

fn probes_of_1() -> Vec<String> {
    [
        "SELECT revision, forgotten FROM catalog",
        "SELECT kind, scope, id, uid, created_at_ms, updated_at_ms, revision, content FROM documents",
        "SELECT kind, scope, id, revision, at_ms FROM removals",
    ]
    .map(str::to_owned)
    .to_vec()
}
