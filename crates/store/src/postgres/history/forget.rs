//! What goes: the content of one thing, or everything that is old.

use deadpool_postgres::Client;
use hooklane_types::{ApplicationId, AttemptId, EventId, UnixMillis};

use super::days;
use crate::postgres::error::Fault;

/// Most events whose rows go together.
const EVENTS_MAX: usize = 1_000;

pub(super) async fn expunge_payload(
    client: &mut Client,
    lock: &str,
    application: &ApplicationId,
    event: &EventId,
) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    days::lock(&transaction, lock).await?;
    let sql = transaction.prepare_cached(EXPUNGE_PAYLOAD).await?;
    let rows = transaction
        .execute(&sql, &[&application.as_str(), &event.as_str()])
        .await?;
    transaction.commit().await?;
    Ok(rows > 0)
}

pub(super) const EXPUNGE_PAYLOAD: &str =
    "UPDATE events SET expunged = true, payload = NULL WHERE application = $1 AND id = $2";

pub(super) async fn expunge_answer(
    client: &mut Client,
    lock: &str,
    application: &ApplicationId,
    event: &EventId,
    attempt: &AttemptId,
) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    days::lock(&transaction, lock).await?;
    let sql = transaction.prepare_cached(EXPUNGE_ANSWER).await?;
    let rows = transaction
        .execute(&sql, &[&application.as_str(), &event.as_str(), &attempt.as_str()])
        .await?;
    transaction.commit().await?;
    Ok(rows > 0)
}

pub(super) const EXPUNGE_ANSWER: &str = "UPDATE attempts SET answer_expunged = true, answer = NULL WHERE application = $1 AND event = $2 AND id = $3";

/// Forgets events accepted before then: a day that is over with its partitions, and what stands on another day by so many rows. Whether there are
/// more.
pub(super) async fn forget(
    client: &mut Client,
    lock: &str,
    before: UnixMillis,
    rows_max: usize,
) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    let days = days::lock(&transaction, lock).await?;
    transaction
        .execute("UPDATE history SET forgotten_before_ms = $1", &[&before.0])
        .await?;
    if let Some(day) = days.over(before) {
        days.drop(&transaction, day).await?;
        transaction.commit().await?;
        return Ok(true);
    }
    let rows_max = i64::try_from(rows_max.clamp(1, EVENTS_MAX)).unwrap_or(1);
    let sql = transaction.prepare_cached(OLDEST).await?;
    let oldest = transaction.query(&sql, &[&before.0, &rows_max]).await?;
    if oldest.is_empty() {
        transaction.commit().await?;
        return Ok(false);
    }
    let (mut home, mut application, mut event) = (Vec::new(), Vec::new(), Vec::new());
    for row in &oldest {
        home.push(row.try_get::<_, i32>(0)?);
        application.push(row.try_get::<_, &str>(1)?);
        event.push(row.try_get::<_, &str>(2)?);
    }
    let sql = transaction.prepare_cached(ATTEMPTS).await?;
    let gone = transaction
        .execute(&sql, &[&home, &application, &event, &rows_max])
        .await?;
    // The events go last, when nothing of them is left.
    if i64::try_from(gone).unwrap_or(i64::MAX) < rows_max {
        for (table, id) in [
            ("deliveries", "event"),
            ("destinations", "event"),
            ("events", "id"),
        ] {
            let sql = transaction.prepare_cached(&gone_sql(table, id)).await?;
            transaction.execute(&sql, &[&home, &application, &event]).await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

pub(super) const OLDEST: &str = "SELECT day, application, id FROM events WHERE at_ms < $1 AND at_ms < day * 86400000::bigint ORDER BY at_ms LIMIT $2";

/// What there is of events, whose ids stand in this column.
pub(super) fn gone_sql(table: &str, id: &str) -> String {
    format!(
        "DELETE FROM {table} AS t USING unnest($1::integer[], $2::text[], $3::text[]) AS k(day, application, event) \
         WHERE t.day = k.day AND t.application = k.application AND t.{id} = k.event"
    )
}

pub(super) const ATTEMPTS: &str = "DELETE FROM attempts AS t USING (SELECT a.day, a.application, a.event, a.id \
    FROM unnest($1::integer[], $2::text[], $3::text[]) AS k(day, application, event) \
    JOIN attempts AS a ON a.day = k.day AND a.application = k.application AND a.event = k.event LIMIT $4) AS gone \
    WHERE t.day = gone.day AND t.application = gone.application AND t.event = gone.event AND t.id = gone.id";
