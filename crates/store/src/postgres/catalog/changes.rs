//! What has changed, read in one transaction's moment and told in pieces: a hundred thousand endpoints are never in memory at once.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::sql::{self, COLUMNS};
use crate::catalog::{Change, Revision};
use crate::postgres::error::Fault;
use crate::postgres::pool::Connections;

/// Changes read together, each time within the deadline of a call.
const PIECE: i32 = 256;

pub(super) async fn tell(
    connections: &Connections,
    client: &mut Client,
    after: Revision,
    tell: &mut (dyn FnMut(Change) + Send),
) -> Result<Revision, Fault> {
    let begin = async {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let sql = transaction
            .prepare_cached("SELECT revision, forgotten FROM catalog")
            .await?;
        let row = transaction.query_one(&sql, &[]).await?;
        Ok((transaction, sql::revision(&row, 0)?, sql::revision(&row, 1)?))
    };
    let (transaction, newest, forgotten) = connections.limit(begin).await?;
    let is_known = after > Revision::NONE && after >= forgotten && after <= newest;
    let since = if is_known { after } else { Revision::NONE };
    let since = sql::signed(since);
    if is_known {
        let sql = "SELECT kind, scope, id FROM removals WHERE revision > $1 ORDER BY revision";
        let removed = |row: &Row| Ok(Change::Removed(sql::address(row)?));
        read(connections, &transaction, sql, &since, &removed, tell).await?;
    } else {
        tell(Change::Everything);
    }
    let sql = format!("SELECT {COLUMNS} FROM documents WHERE revision > $1 ORDER BY revision");
    let put = |row: &Row| Ok(Change::Put(sql::document(row)?));
    read(connections, &transaction, &sql, &since, &put, tell).await?;
    connections
        .limit(async { Ok(transaction.commit().await?) })
        .await?;
    Ok(newest)
}

async fn read(
    connections: &Connections,
    transaction: &Transaction<'_>,
    sql: &str,
    since: &(dyn ToSql + Sync),
    change: &(dyn Fn(&Row) -> Result<Change, Fault> + Sync),
    tell: &mut (dyn FnMut(Change) + Send),
) -> Result<(), Fault> {
    let bind = async {
        let sql = transaction.prepare_cached(sql).await?;
        Ok(transaction.bind(&sql, &[since]).await?)
    };
    let portal = connections.limit(bind).await?;
    loop {
        let piece = async { Ok(transaction.query_portal(&portal, PIECE).await?) };
        let rows = connections.limit(piece).await?;
        for row in &rows {
            tell(change(row)?);
        }
        if rows.len() < PIECE as usize {
            return Ok(());
        }
    }
}
