//! Answers of requests with an idempotency key.

use async_trait::async_trait;
use deadpool_postgres::Client;
use hooklane_types::UnixMillis;

use super::PostgresCatalog;
use crate::catalog::CatalogError;
use crate::postgres::error::Fault;
use crate::responses::{Answer, IN_WORK_MS, KEPT_MS, RequestKey, Responses, Taken};

/// Most answers that leave with one request.
const FORGOTTEN_AT_ONCE: i64 = 100;

#[async_trait]
impl Responses for PostgresCatalog {
    async fn take(&self, key: &RequestKey, now: UnixMillis) -> Result<Taken, CatalogError> {
        let client = self.connections.get().await?;
        let done = self.connections.limit(take(&client, key, now)).await;
        self.connections.put_back(client, done)
    }

    async fn keep(&self, key: &RequestKey, answer: Answer, now: UnixMillis) -> Result<(), CatalogError> {
        let client = self.connections.get().await?;
        let done = self.connections.limit(keep(&client, key, answer, now)).await;
        self.connections.put_back(client, done)
    }

    async fn give_back(&self, key: &RequestKey) -> Result<(), CatalogError> {
        let client = self.connections.get().await?;
        let work = async {
            let sql = "DELETE FROM responses WHERE key = $1 AND status IS NULL";
            let sql = client.prepare_cached(sql).await?;
            client.execute(&sql, &[&&key[..]]).await?;
            Ok(())
        };
        let done = self.connections.limit(work).await;
        self.connections.put_back(client, done)
    }
}

async fn take(client: &Client, key: &RequestKey, now: UnixMillis) -> Result<Taken, Fault> {
    let (kept_since, in_work_since) = (now.0 - KEPT_MS, now.0 - IN_WORK_MS);
    let sql = "DELETE FROM responses WHERE key IN \
               (SELECT key FROM responses WHERE at_ms <= $1 ORDER BY at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let sql = client.prepare_cached(sql).await?;
    client.execute(&sql, &[&kept_since, &FORGOTTEN_AT_ONCE]).await?;
    // Of several at once one takes it.
    let sql = "INSERT INTO responses AS r (key, at_ms) VALUES ($1, $2) ON CONFLICT (key) \
               DO UPDATE SET at_ms = $2, request = NULL, status = NULL, body = NULL \
               WHERE r.at_ms <= $3 OR (r.status IS NULL AND r.at_ms <= $4)";
    let sql = client.prepare_cached(sql).await?;
    let taken = client
        .execute(&sql, &[&&key[..], &now.0, &kept_since, &in_work_since])
        .await?;
    if taken > 0 {
        return Ok(Taken::Ours);
    }
    let sql = "SELECT request, status, body FROM responses WHERE key = $1 AND status IS NOT NULL";
    let sql = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&sql, &[&&key[..]]).await? else {
        // Or it was given back this very moment.
        return Ok(Taken::InWork);
    };
    let wrong = |what: &str| Fault::Foreign(format!("an answer has no {what}"));
    let request: &[u8] = row.try_get(0)?;
    Ok(Taken::Kept(Answer {
        request: request.try_into().map_err(|_| wrong("hash of 32 bytes"))?,
        status: u16::try_from(row.try_get::<_, i32>(1)?).map_err(|_| wrong("status"))?,
        body: row.try_get(2)?,
    }))
}

async fn keep(client: &Client, key: &RequestKey, answer: Answer, now: UnixMillis) -> Result<(), Fault> {
    let Answer {
        request,
        status,
        body,
    } = answer;
    let sql = "INSERT INTO responses (key, at_ms, request, status, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) \
               DO UPDATE SET at_ms = excluded.at_ms, request = excluded.request, status = excluded.status, body = excluded.body";
    let sql = client.prepare_cached(sql).await?;
    client
        .execute(
            &sql,
            &[&&key[..], &now.0, &&request[..], &i32::from(status), &body],
        )
        .await?;
    Ok(())
}
