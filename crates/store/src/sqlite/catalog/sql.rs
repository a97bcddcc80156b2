//! The statements. What changes something is called within a transaction, and returns its revision too.

use hooklane_types::UnixMillis;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::catalog::{
    Address, CatalogError, Direction, Document, Draft, Kind, PAGE_MAX, Page, REMOVALS_KEPT_MS, Revision,
};

/// What [`document`] reads, in its order.
pub(super) const COLUMNS: &str = "kind, scope, id, uid, created_at_ms, updated_at_ms, revision, content";

pub(super) fn unavailable(error: rusqlite::Error) -> CatalogError {
    CatalogError::Unavailable(error.to_string())
}

pub(super) fn insert(
    transaction: &Connection,
    draft: Draft,
    now: UnixMillis,
) -> Result<(Document, Revision), CatalogError> {
    let Draft {
        address,
        uid,
        content,
    } = draft;
    let Address { kind, scope, id } = &address;
    if let Some(owner) = kind.belongs_to() {
        let sql = "SELECT EXISTS (SELECT 1 FROM documents WHERE kind = ?1 AND id = ?2)";
        let exists: bool =
            query(transaction, sql, params![owner.name(), scope], |row| row.get(0))?.unwrap_or_default();
        if !exists {
            return Err(CatalogError::NoScope);
        }
    }
    if is_taken(transaction, &address, id)? || exists(transaction, &address)? {
        return Err(CatalogError::IdTaken);
    }
    if let Some(uid) = &uid
        && is_taken(transaction, &address, uid)?
    {
        return Err(CatalogError::UidTaken);
    }
    let revision = next_revision(transaction)?;
    let sql = "INSERT INTO documents (kind, scope, id, uid, created_at_ms, updated_at_ms, revision, content) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)";
    execute(
        transaction,
        sql,
        params![kind.name(), scope, id, uid, now.0, signed(revision), content],
    )?;
    let sql = "DELETE FROM removals WHERE kind = ?1 AND scope = ?2 AND id = ?3";
    execute(transaction, sql, params![kind.name(), scope, id])?;
    let document = Document {
        address,
        uid,
        created_at: now,
        updated_at: now,
        revision,
        content,
    };
    Ok((document, revision))
}

pub(super) fn get(
    connection: &Connection,
    kind: Kind,
    scope: &str,
    id_or_uid: &str,
) -> Result<Option<Document>, CatalogError> {
    // No document's uid is another's id.
    let sql = format!(
        "SELECT {COLUMNS} FROM documents WHERE kind = ?1 AND scope = ?2 AND id = ?3 \
         UNION ALL SELECT {COLUMNS} FROM documents WHERE kind = ?1 AND scope = ?2 AND uid = ?3 LIMIT 1"
    );
    query(connection, &sql, params![kind.name(), scope, id_or_uid], document)
}

pub(super) fn update(
    transaction: &Connection,
    read: Document,
    uid: Option<String>,
    content: String,
    now: UnixMillis,
) -> Result<(Document, Revision), CatalogError> {
    let Address { kind, scope, id } = &read.address;
    let sql = "SELECT revision FROM documents WHERE kind = ?1 AND scope = ?2 AND id = ?3";
    let at: Option<i64> = query(transaction, sql, params![kind.name(), scope, id], |row| {
        row.get(0)
    })?;
    match at {
        None => return Err(CatalogError::NotFound),
        Some(at) if at != signed(read.revision) => return Err(CatalogError::Changed),
        Some(_) => {}
    }
    if let Some(uid) = &uid
        && is_taken(transaction, &read.address, uid)?
    {
        return Err(CatalogError::UidTaken);
    }
    let revision = next_revision(transaction)?;
    let sql = "UPDATE documents SET uid = ?4, content = ?5, updated_at_ms = ?6, revision = ?7 \
               WHERE kind = ?1 AND scope = ?2 AND id = ?3";
    execute(
        transaction,
        sql,
        params![kind.name(), scope, id, uid, content, now.0, signed(revision)],
    )?;
    let document = Document {
        uid,
        content,
        updated_at: now,
        revision,
        ..read
    };
    Ok((document, revision))
}

pub(super) fn remove(
    transaction: &Connection,
    address: &Address,
    now: UnixMillis,
) -> Result<((), Revision), CatalogError> {
    let Address { kind, scope, id } = address;
    if !exists(transaction, address)? {
        return Err(CatalogError::NotFound);
    }
    let revision = next_revision(transaction)?;
    // Kinds that belong to it have its id as their scope.
    let owned: Vec<&str> = Kind::ALL
        .into_iter()
        .filter(|owned| owned.belongs_to() == Some(*kind))
        .map(Kind::name)
        .collect();
    let whose = "(kind = ?1 AND scope = ?2 AND id = ?3) OR (scope = ?3 AND kind IN (SELECT value FROM json_each(?4)))";
    let owned =
        serde_json::to_string(&owned).map_err(|error| CatalogError::Unavailable(error.to_string()))?;
    let sql = format!(
        "INSERT OR REPLACE INTO removals (kind, scope, id, revision, at_ms) \
         SELECT kind, scope, id, ?5, ?6 FROM documents WHERE {whose}"
    );
    execute(
        transaction,
        &sql,
        params![kind.name(), scope, id, owned, signed(revision), now.0],
    )?;
    let sql = format!("DELETE FROM documents WHERE {whose}");
    execute(transaction, &sql, params![kind.name(), scope, id, owned])?;
    forget(transaction, now)?;
    Ok(((), revision))
}

/// Removals that everybody has heard of.
fn forget(transaction: &Connection, now: UnixMillis) -> Result<(), CatalogError> {
    let before = now.0.saturating_sub(REMOVALS_KEPT_MS);
    let sql = "UPDATE catalog SET forgotten = max(forgotten, \
               ifnull((SELECT max(revision) FROM removals WHERE at_ms < ?1), 0))";
    execute(transaction, sql, params![before])?;
    let sql = "DELETE FROM removals WHERE revision <= (SELECT forgotten FROM catalog)";
    execute(transaction, sql, [])
}

pub(super) fn list(
    connection: &Connection,
    kind: Kind,
    scope: &str,
    page: &Page,
) -> Result<Vec<Document>, CatalogError> {
    let (operator, order) = match page.direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let limit = page.limit.min(PAGE_MAX) as i64;
    let behind = match page.behind {
        Some(_) => format!("AND id {operator} ?4"),
        None => "AND ?4 IS NULL".to_owned(),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM documents WHERE kind = ?1 AND scope = ?2 {behind} ORDER BY id {order} LIMIT ?3"
    );
    let read = || -> rusqlite::Result<Vec<Document>> {
        connection
            .prepare_cached(&sql)?
            .query_map(params![kind.name(), scope, limit, page.behind], document)?
            .collect()
    };
    read().map_err(unavailable)
}

/// Whether another document of its kind and scope has this text as its id or uid.
fn is_taken(connection: &Connection, address: &Address, text: &str) -> Result<bool, CatalogError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM documents WHERE kind = ?1 AND scope = ?2 AND id = ?3 AND id <> ?4 \
               UNION ALL SELECT 1 FROM documents WHERE kind = ?1 AND scope = ?2 AND uid = ?3 AND id <> ?4)";
    let Address { kind, scope, id } = address;
    let taken = query(connection, sql, params![kind.name(), scope, text, id], |row| {
        row.get(0)
    })?;
    Ok(taken.unwrap_or_default())
}

fn exists(connection: &Connection, address: &Address) -> Result<bool, CatalogError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM documents WHERE kind = ?1 AND scope = ?2 AND id = ?3)";
    let Address { kind, scope, id } = address;
    let exists = query(connection, sql, params![kind.name(), scope, id], |row| row.get(0))?;
    Ok(exists.unwrap_or_default())
}

fn next_revision(transaction: &Connection) -> Result<Revision, CatalogError> {
    let sql = "UPDATE catalog SET revision = revision + 1 RETURNING revision";
    let revision: Option<i64> = query(transaction, sql, [], |row| row.get(0))?;
    let revision =
        revision.ok_or_else(|| CatalogError::Unavailable("the store has no revision".to_owned()))?;
    Ok(Revision(u64::try_from(revision).unwrap_or_default()))
}

pub(super) fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        address: address(row)?,
        uid: row.get(3)?,
        created_at: UnixMillis(row.get(4)?),
        updated_at: UnixMillis(row.get(5)?),
        revision: Revision(row.get(6)?),
        content: row.get(7)?,
    })
}

/// From the row's first three columns.
pub(super) fn address(row: &Row<'_>) -> rusqlite::Result<Address> {
    let name: String = row.get(0)?;
    let kind = Kind::of_name(&name)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(0, name, rusqlite::types::Type::Text))?;
    Ok(Address {
        kind,
        scope: row.get(1)?,
        id: row.get(2)?,
    })
}

pub(super) fn query<T>(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, CatalogError> {
    let found = || connection.prepare_cached(sql)?.query_row(values, read).optional();
    found().map_err(unavailable)
}

pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), CatalogError> {
    let done = || connection.prepare_cached(sql)?.execute(values);
    done().map(drop).map_err(unavailable)
}

/// As SQLite keeps it.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
