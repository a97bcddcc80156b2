//! What goes: the content of one thing, or everything that is old.

use hooklane_types::{ApplicationId, AttemptId, EventId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior, params};

use super::file::HistoryFile;

pub(super) fn expunge_payload(
    file: &mut HistoryFile,
    application: &ApplicationId,
    event: &EventId,
) -> Result<bool> {
    expunge(file, |connection| {
        let sql = "UPDATE events SET expunged = 1, payload = NULL WHERE application = ?1 AND id = ?2";
        connection.execute(sql, params![application.as_str(), event.as_str()])
    })
}

pub(super) fn expunge_answer(
    file: &mut HistoryFile,
    application: &ApplicationId,
    event: &EventId,
    attempt: &AttemptId,
) -> Result<bool> {
    expunge(file, |connection| {
        let sql = "UPDATE attempts SET answer_expunged = 1, answer = NULL WHERE application = ?1 AND event = ?2 AND id = ?3";
        connection.execute(
            sql,
            params![application.as_str(), event.as_str(), attempt.as_str()],
        )
    })
}

/// Where the bytes stood, zeros are written, and the log is cut off: nothing of them is left in either file.
fn expunge(file: &mut HistoryFile, change: impl FnOnce(&Connection) -> Result<usize>) -> Result<bool> {
    file.connection.pragma_update(None, "secure_delete", "ON")?;
    let changed = change(&file.connection).and_then(|rows| file.clear_log().map(|()| rows > 0));
    file.connection.pragma_update(None, "secure_delete", "FAST")?;
    changed
}

/// Forgets events accepted before then, the oldest first, until so many rows are gone. Whether there are more.
pub(super) fn forget(connection: &mut Connection, before: UnixMillis, rows_max: usize) -> Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached("UPDATE history SET forgotten_before_ms = ?1")?
        .execute([before.0])?;
    let mut left = rows_max.max(1);
    let mut oldest = oldest(&transaction, before)?;
    while let Some((number, application, id)) = &oldest {
        let gone = forget_event(&transaction, *number, application, id, left)?;
        left = left.saturating_sub(gone);
        oldest = self::oldest(&transaction, before)?;
        if left == 0 {
            break;
        }
    }
    transaction.commit()?;
    Ok(oldest.is_some())
}

pub(super) const OLDEST: &str =
    "SELECT number, application, id FROM events WHERE at_ms < ?1 ORDER BY at_ms LIMIT 1";

fn oldest(connection: &Connection, before: UnixMillis) -> Result<Option<(i64, String, String)>> {
    connection
        .prepare_cached(OLDEST)?
        .query_row([before.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// The event goes last, when nothing of it is left. How many rows went; at least one.
fn forget_event(
    connection: &Connection,
    number: i64,
    application: &str,
    event: &str,
    rows_max: usize,
) -> Result<usize> {
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let sql = "DELETE FROM attempts WHERE number IN \
               (SELECT number FROM attempts WHERE application = ?1 AND event = ?2 LIMIT ?3)";
    let mut gone = connection
        .prepare_cached(sql)?
        .execute(params![application, event, rows_max])?;
    if i64::try_from(gone).unwrap_or(i64::MAX) >= rows_max {
        return Ok(gone);
    }
    for sql in [
        "DELETE FROM deliveries WHERE application = ?1 AND event = ?2",
        "DELETE FROM destinations WHERE application = ?1 AND event = ?2",
    ] {
        gone += connection
            .prepare_cached(sql)?
            .execute(params![application, event])?;
    }
    connection
        .prepare_cached("DELETE FROM events WHERE number = ?1")?
        .execute([number])?;
    Ok(gone + 1)
}
