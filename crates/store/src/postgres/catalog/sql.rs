//! The statements. What changes something is a transaction, and takes the next revision first: whoever else wants one waits, and so sees
//! what this one did.

use deadpool_postgres::{Client, Transaction};
use hooklane_types::UnixMillis;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::catalog::{
    Address, CatalogError, Direction, Document, Draft, Kind, PAGE_MAX, Page, REMOVALS_KEPT_MS, Revision,
};
use crate::postgres::error::Fault;

/// What [`document`] reads, in its order.
pub(super) const COLUMNS: &str = "kind, scope, id, uid, created_at_ms, updated_at_ms, revision, content";
/// A text of PostgreSQL holds any character but this.
const NUL: char = '\0';

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) async fn insert(
    client: &mut Client,
    channel: &str,
    draft: Draft,
    now: UnixMillis,
) -> Result<Document, Fault> {
    let Draft {
        address,
        uid,
        content,
    } = draft;
    let Address { kind, scope, id } = &address;
    let transaction = client.transaction().await?;
    let revision = next_revision(&transaction, channel).await?;
    let sql = "SELECT $5::text IS NULL OR EXISTS (SELECT 1 FROM documents WHERE kind = $5 AND id = $2), \
               EXISTS (SELECT 1 FROM documents WHERE kind = $1 AND scope = $2 AND (id = $3 OR uid = $3)), \
               EXISTS (SELECT 1 FROM documents WHERE kind = $1 AND scope = $2 AND (id = $4 OR uid = $4) AND id <> $3)";
    let owner = kind.belongs_to().map(Kind::name);
    let row = one(&transaction, sql, &[&kind.name(), scope, id, &uid, &owner]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(CatalogError::NoScope.into());
    }
    if row.try_get(1)? {
        return Err(CatalogError::IdTaken.into());
    }
    if row.try_get(2)? {
        return Err(CatalogError::UidTaken.into());
    }
    let sql = "INSERT INTO documents (kind, scope, id, uid, created_at_ms, updated_at_ms, revision, content) \
               VALUES ($1, $2, $3, $4, $5, $5, $6, $7)";
    let values: Values<'_> = &[&kind.name(), scope, id, &uid, &now.0, &signed(revision), &content];
    execute(&transaction, sql, values).await?;
    let sql = "DELETE FROM removals WHERE kind = $1 AND scope = $2 AND id = $3";
    execute(&transaction, sql, &[&kind.name(), scope, id]).await?;
    transaction.commit().await?;
    Ok(Document {
        address,
        uid,
        created_at: now,
        updated_at: now,
        revision,
        content,
    })
}

pub(super) async fn get(
    client: &Client,
    kind: Kind,
    scope: &str,
    id_or_uid: &str,
) -> Result<Option<Document>, Fault> {
    if [scope, id_or_uid].iter().any(|text| text.contains(NUL)) {
        return Ok(None);
    }
    // No document's uid is another's id.
    let sql = format!(
        "SELECT {COLUMNS} FROM documents WHERE kind = $1 AND scope = $2 AND id = $3 \
         UNION ALL SELECT {COLUMNS} FROM documents WHERE kind = $1 AND scope = $2 AND uid = $3 LIMIT 1"
    );
    let sql = client.prepare_cached(&sql).await?;
    let row = client
        .query_opt(&sql, &[&kind.name(), &scope, &id_or_uid])
        .await?;
    row.as_ref().map(document).transpose()
}

pub(super) async fn update(
    client: &mut Client,
    channel: &str,
    read: Document,
    uid: Option<String>,
    content: String,
    now: UnixMillis,
) -> Result<Document, Fault> {
    let Address { kind, scope, id } = &read.address;
    let transaction = client.transaction().await?;
    let revision = next_revision(&transaction, channel).await?;
    let sql = "SELECT (SELECT revision FROM documents WHERE kind = $1 AND scope = $2 AND id = $3), \
               EXISTS (SELECT 1 FROM documents WHERE kind = $1 AND scope = $2 AND (id = $4 OR uid = $4) AND id <> $3)";
    let row = one(&transaction, sql, &[&kind.name(), scope, id, &uid]).await?;
    match row.try_get::<_, Option<i64>>(0)? {
        None => return Err(CatalogError::NotFound.into()),
        Some(at) if at != signed(read.revision) => return Err(CatalogError::Changed.into()),
        Some(_) => {}
    }
    if row.try_get(1)? {
        return Err(CatalogError::UidTaken.into());
    }
    let sql = "UPDATE documents SET uid = $4, content = $5, updated_at_ms = $6, revision = $7 \
               WHERE kind = $1 AND scope = $2 AND id = $3";
    let values: Values<'_> = &[&kind.name(), scope, id, &uid, &content, &now.0, &signed(revision)];
    execute(&transaction, sql, values).await?;
    transaction.commit().await?;
    Ok(Document {
        uid,
        content,
        updated_at: now,
        revision,
        ..read
    })
}

pub(super) async fn remove(
    client: &mut Client,
    channel: &str,
    address: &Address,
    now: UnixMillis,
) -> Result<Revision, Fault> {
    let Address { kind, scope, id } = address;
    if [scope, id].iter().any(|text| text.contains(NUL)) {
        return Err(CatalogError::NotFound.into());
    }
    let transaction = client.transaction().await?;
    let revision = next_revision(&transaction, channel).await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM documents WHERE kind = $1 AND scope = $2 AND id = $3)";
    let row = one(&transaction, sql, &[&kind.name(), scope, id]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(CatalogError::NotFound.into());
    }
    // Kinds that belong to it have its id as their scope.
    let owned: Vec<&str> = Kind::ALL
        .into_iter()
        .filter(|owned| owned.belongs_to() == Some(*kind))
        .map(Kind::name)
        .collect();
    let sql = "WITH gone AS (DELETE FROM documents \
                 WHERE (kind = $1 AND scope = $2 AND id = $3) OR (kind = ANY($4) AND scope = $3) RETURNING kind, scope, id) \
               INSERT INTO removals (kind, scope, id, revision, at_ms) SELECT kind, scope, id, $5, $6 FROM gone \
               ON CONFLICT (kind, scope, id) DO UPDATE SET revision = excluded.revision, at_ms = excluded.at_ms";
    let values: Values<'_> = &[&kind.name(), scope, id, &owned, &signed(revision), &now.0];
    execute(&transaction, sql, values).await?;
    forget(&transaction, now).await?;
    transaction.commit().await?;
    Ok(revision)
}

/// Removals that everybody has heard of.
async fn forget(transaction: &Transaction<'_>, now: UnixMillis) -> Result<(), Fault> {
    let before = now.0.saturating_sub(REMOVALS_KEPT_MS);
    let sql = "UPDATE catalog SET forgotten = old.revision \
               FROM (SELECT max(revision) AS revision FROM removals WHERE at_ms < $1) AS old WHERE old.revision > forgotten";
    execute(transaction, sql, &[&before]).await?;
    let sql = "DELETE FROM removals WHERE revision <= (SELECT forgotten FROM catalog)";
    execute(transaction, sql, &[]).await
}

pub(super) async fn list(
    client: &Client,
    kind: Kind,
    scope: &str,
    page: &Page,
) -> Result<Vec<Document>, Fault> {
    if scope.contains(NUL) {
        return Ok(Vec::new());
    }
    let (operator, order) = match page.direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let behind = page.behind.as_deref().map(|behind| match page.direction {
        // No id has a NUL. In the order of bytes these stand at the same place.
        Direction::Ascending => behind.split(NUL).next().unwrap_or_default().to_owned(),
        Direction::Descending => behind.replace(NUL, "\u{1}"),
    });
    let condition = match behind {
        Some(_) => format!("id {operator} $4"),
        None => "$4::text IS NULL".to_owned(),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM documents WHERE kind = $1 AND scope = $2 AND {condition} ORDER BY id {order} LIMIT $3"
    );
    let sql = client.prepare_cached(&sql).await?;
    let limit = page.limit.min(PAGE_MAX) as i64;
    let rows = client
        .query(&sql, &[&kind.name(), &scope, &limit, &behind])
        .await?;
    rows.iter().map(document).collect()
}

/// Also tells whoever listens, at the commit.
async fn next_revision(transaction: &Transaction<'_>, channel: &str) -> Result<Revision, Fault> {
    let sql = "WITH next AS (UPDATE catalog SET revision = revision + 1 RETURNING revision) \
               SELECT revision, pg_notify($1, revision::text) FROM next";
    let row = one(transaction, sql, &[&channel]).await?;
    revision(&row, 0)
}

async fn one(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<Row, Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    Ok(transaction.query_one(&sql, values).await?)
}

async fn execute(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<(), Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    transaction.execute(&sql, values).await?;
    Ok(())
}

pub(super) fn document(row: &Row) -> Result<Document, Fault> {
    Ok(Document {
        address: address(row)?,
        uid: row.try_get(3)?,
        created_at: UnixMillis(row.try_get(4)?),
        updated_at: UnixMillis(row.try_get(5)?),
        revision: revision(row, 6)?,
        content: row.try_get(7)?,
    })
}

/// From the row's first three columns.
pub(super) fn address(row: &Row) -> Result<Address, Fault> {
    let name: &str = row.try_get(0)?;
    let kind = Kind::of_name(name)
        .ok_or_else(|| Fault::Foreign(format!("a document is of the unknown kind {name:?}")))?;
    Ok(Address {
        kind,
        scope: row.try_get(1)?,
        id: row.try_get(2)?,
    })
}

pub(super) fn revision(row: &Row, column: usize) -> Result<Revision, Fault> {
    let revision: i64 = row.try_get(column)?;
    Ok(Revision(u64::try_from(revision).unwrap_or_default()))
}

/// As PostgreSQL keeps it.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
