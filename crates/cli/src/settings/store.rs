//! `[store]`: where applications, endpoints and the history of events are kept.

use std::path::PathBuf;
use std::time::Duration;

use hooklane_store::postgres::PostgresSettings;

use super::secret::{self, Fetch};
use super::table::Table;

const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
const DISABLE_AFTER_DEFAULT: Duration = Duration::from_secs(5 * 24 * 3600);
const DISABLE_AFTER_MIN: Duration = Duration::from_secs(1);
const RETENTION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Where it is kept, what is kept of events that went through, and for how long.
#[derive(Clone, Debug)]
pub struct StoreSection {
    /// PostgreSQL; none for SQLite in the data directory, or no store at all. Its text does not show the password.
    pub postgres: Option<PostgresSettings>,
    /// Where ingest and dispatchers keep a copy to start with while the store is away.
    pub snapshot: Option<PathBuf>,
    /// Whether events and attempts are recorded.
    pub history: bool,
    /// Whether dispatchers claim events in PostgreSQL, all in one window.
    pub claims: bool,
    /// How long an event and what became of it are kept.
    pub retention: Duration,
    /// After how long of nothing but failure an endpoint is disabled.
    pub disable_after: Duration,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>, fetch: Fetch) -> StoreSection {
    let postgres = postgres(&table, fetch);
    let snapshot = table.file_path("snapshot");
    let history = table.read_or("history", true);
    let claims = table.read_or("claims", true);
    let retention = table.duration("retention", RETENTION_DEFAULT, DAY..=RETENTION_MAX);
    let disable_after = table.duration(
        "disable_after",
        DISABLE_AFTER_DEFAULT,
        DISABLE_AFTER_MIN..=RETENTION_MAX,
    );
    if disable_after.saturating_mul(2) > retention {
        table.problem(
            "disable_after",
            "longer than half of `retention`: what is forgotten cannot tell whether there was nothing but failure",
            "keep history longer, or disable earlier",
        );
    }
    table.finish();
    StoreSection {
        postgres,
        snapshot,
        history,
        claims,
        retention,
        disable_after,
    }
}

fn postgres(table: &Table<'_>, fetch: Fetch) -> Option<PostgresSettings> {
    let given = secret::read(table, "url", fetch)?;
    let text = given.text?;
    match PostgresSettings::parse(text.expose()) {
        Ok(settings) => Some(settings),
        Err(error) => {
            given.field.problem(
                error,
                "write it like \"postgres://user:password@host:5432/database?sslmode=verify-full\"",
            );
            None
        }
    }
}
