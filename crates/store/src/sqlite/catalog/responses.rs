//! Answers of requests with an idempotency key.

use async_trait::async_trait;
use hooklane_types::UnixMillis;
use rusqlite::{Connection, params};

use super::sql::{execute, query};
use super::{SqliteCatalog, transact};
use crate::catalog::CatalogError;
use crate::responses::{Answer, IN_WORK_MS, KEPT_MS, RequestKey, Responses, Taken};

/// Most answers that leave with one request.
const FORGOTTEN_AT_ONCE: i64 = 100;

#[async_trait]
impl Responses for SqliteCatalog {
    async fn take(&self, key: &RequestKey, now: UnixMillis) -> Result<Taken, CatalogError> {
        let key = *key;
        self.call(move |connection| transact(connection, |transaction| take(transaction, &key, now)))
            .await
    }

    async fn keep(&self, key: &RequestKey, answer: Answer, now: UnixMillis) -> Result<(), CatalogError> {
        let key = *key;
        self.call(move |connection| {
            let sql = "INSERT OR REPLACE INTO responses (key, at_ms, request, status, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let Answer { request, status, body } = answer;
            execute(connection, sql, params![key, now.0, request, status, body])
        })
        .await
    }

    async fn give_back(&self, key: &RequestKey) -> Result<(), CatalogError> {
        let key = *key;
        self.call(move |connection| {
            let sql = "DELETE FROM responses WHERE key = ?1 AND status IS NULL";
            execute(connection, sql, params![key])
        })
        .await
    }
}

fn take(transaction: &Connection, key: &RequestKey, now: UnixMillis) -> Result<Taken, CatalogError> {
    // An answer, or a request that is being carried out: its time counts differently.
    let sql = "DELETE FROM responses WHERE key IN (SELECT key FROM responses WHERE at_ms <= ?1 ORDER BY at_ms LIMIT ?2)";
    execute(transaction, sql, params![now.0 - KEPT_MS, FORGOTTEN_AT_ONCE])?;
    let sql = "SELECT at_ms, request, status, body FROM responses WHERE key = ?1";
    type Row = (i64, Option<[u8; 32]>, Option<u16>, Option<Vec<u8>>);
    let found: Option<Row> = query(transaction, sql, params![key], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    match found {
        Some((at_ms, Some(request), Some(status), Some(body))) if at_ms > now.0 - KEPT_MS => {
            return Ok(Taken::Kept(Answer {
                request,
                status,
                body,
            }));
        }
        Some((at_ms, _, None, _)) if at_ms > now.0 - IN_WORK_MS => return Ok(Taken::InWork),
        _ => {}
    }
    let sql = "INSERT OR REPLACE INTO responses (key, at_ms) VALUES (?1, ?2)";
    execute(transaction, sql, params![key, now.0])?;
    Ok(Taken::Ours)
}
