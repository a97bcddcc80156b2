//! `[store]`: the history of events.

use std::time::Duration;

use super::table::Table;

const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
const RETENTION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What is kept of events that went through, and for how long.
#[derive(Clone, Debug)]
pub struct StoreSection {
    /// Whether events and attempts are recorded.
    pub history: bool,
    /// How long an event and what became of it are kept.
    pub retention: Duration,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> StoreSection {
    let history = table.read_or("history", true);
    let retention = table.duration("retention", RETENTION_DEFAULT, DAY..=RETENTION_MAX);
    table.finish();
    StoreSection { history, retention }
}
