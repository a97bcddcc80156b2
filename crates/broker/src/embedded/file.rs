//! The queue's file: what makes it one of ours, and its tables.

use std::ops::Range;

use hooklane_sqlite::{Format, Stamps, Step};
use rusqlite::Connection;

use super::settings::EmbeddedSettings;
use crate::port::Queue;

/// The file's name in the data directory. SQLite keeps its log beside it, as `queue.sqlite-wal`.
pub const FILE: &str = "queue.sqlite";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = QUEUE.version();

pub(crate) const QUEUE: Format = Format {
    what: "a queue of Hooklane",
    file: FILE,
    // "HKLQ"
    application_id: 0x484b_4c51,
    steps: &[
        // Version 2: stamps.
        Step {
            probes: || probes_of(&Queue::ALL[..HISTORY_FROM]),
            statements: || Stamps::MIGRATION.to_owned(),
        },
        // Version 3: the queues into the history.
        Step {
            probes: || stamped(&Queue::ALL[..HISTORY_FROM]),
            statements: || tables(HISTORY_FROM..DEATHS_FROM),
        },
        // Version 4: what of it never yields.
        Step {
            probes: || stamped(&Queue::ALL[..DEATHS_FROM]),
            statements: || tables(DEATHS_FROM..Queue::ALL.len()),
        },
    ],
    schema,
    probes: || stamped(&Queue::ALL),
    if_damaged: "restore it from a copy (with its claims.sqlite, or without any); or move it, claims.sqlite and the -wal of each away to \
                 start empty, and see what `sqlite3 {} .recover` finds",
};

/// Where the queues into the history begin in [`Queue::ALL`].
const HISTORY_FROM: usize = 6;
/// Where the queue of what never yields is there.
const DEATHS_FROM: usize = 8;

/// The tables of these queues, each with its line.
fn tables(of: Range<usize>) -> String {
    of.map(|id| {
            let name = Queue::ALL[id].name();
            format!(
                "CREATE TABLE {name} (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
                INSERT INTO queues VALUES ({id}, '{name}', 0, 0, 0);"
            )
        })
        .collect()
}

/// One table per queue, in the order of arrival; `delayed` for all levels of the ladder. `head` is what a producer wrote beside
/// the body, and empty otherwise. `queues.mark` is the highest `seq` that a consumer may have had in hand.
fn schema() -> String {
    let queues = tables(0..Queue::ALL.len());
    let stamps = Stamps::SCHEMA;
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
        {queues}
        {stamps}"
    )
}

fn probes_of(queues: &[Queue]) -> Vec<String> {
    let probe = |queue: &Queue| format!("SELECT seq, way, head, body FROM {} LIMIT 0", queue.name());
    queues.iter().map(probe).collect()
}

fn stamped(queues: &[Queue]) -> Vec<String> {
    let mut probes = probes_of(queues);
    probes.push(Stamps::PROBE.to_owned());
    probes
}

pub(crate) fn configure(connection: &Connection, settings: &EmbeddedSettings) -> rusqlite::Result<()> {
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
