//! `[store]`: the history of events.

use std::time::Duration;

use super::table::Table;

const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
const DISABLE_AFTER_DEFAULT: Duration = Duration::from_secs(5 * 24 * 3600);
const DISABLE_AFTER_MIN: Duration = Duration::from_secs(1);
const RETENTION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What is kept of events that went through, and for how long.
#[derive(Clone, Debug)]
pub struct StoreSection {
    /// Whether events and attempts are recorded.
    pub history: bool,
    /// How long an event and what became of it are kept.
    pub retention: Duration,
    /// After how long of nothing but failure an endpoint is disabled.
    pub disable_after: Duration,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> StoreSection {
    let history = table.read_or("history", true);
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
        history,
        retention,
        disable_after,
    }
}
