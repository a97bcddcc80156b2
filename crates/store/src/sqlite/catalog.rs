//! The catalog in `store.sqlite`, for one process with a data directory.

mod changes;
mod file;
mod responses;
mod sql;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hooklane_sqlite::FileError;
use hooklane_types::UnixMillis;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

pub use file::{FILE, endpoints, find, inspect};

use crate::catalog::{Address, Catalog, CatalogError, Change, Document, Draft, Kind, Page, Revision};

/// The catalog of one process. Each change is one transaction with an `fsync`.
pub struct SqliteCatalog {
    connection: Arc<Mutex<Connection>>,
    newest: watch::Sender<Revision>,
}

impl SqliteCatalog {
    /// Opens the file, makes it if there is none. The caller holds the directory's lock. To be called where waiting for a disk does no
    /// harm: the whole file is read once.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(directory: &Path) -> Result<SqliteCatalog, FileError> {
        let (connection, revision) = file::open(directory)?;
        Ok(SqliteCatalog {
            connection: Arc::new(Mutex::new(connection)),
            newest: watch::Sender::new(revision),
        })
    }

    /// Works on the file, where waiting for it does no harm.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let connection = self.connection.clone();
        let done = tokio::task::spawn_blocking(move || {
            // A transaction that a panic ended was rolled back.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        done.await
            .map_err(|error| CatalogError::Unavailable(error.to_string()))?
    }

    /// Changes the file: all of it or nothing. Dropped half way, it is finished all the same.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(T, Revision), CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let newest = self.newest.clone();
        self.call(move |connection| {
            let (result, revision) = transact(connection, work)?;
            newest.send_replace(revision);
            Ok(result)
        })
        .await
    }
}

/// All of it or nothing.
fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, CatalogError>,
) -> Result<T, CatalogError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql::unavailable)?;
    let result = work(&transaction)?;
    transaction.commit().map_err(sql::unavailable)?;
    Ok(result)
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn insert(&self, draft: Draft, now: UnixMillis) -> Result<Document, CatalogError> {
        self.change(move |transaction| sql::insert(transaction, draft, now))
            .await
    }

    async fn get(&self, kind: Kind, scope: &str, id_or_uid: &str) -> Result<Option<Document>, CatalogError> {
        let (scope, id_or_uid) = (scope.to_owned(), id_or_uid.to_owned());
        self.call(move |connection| sql::get(connection, kind, &scope, &id_or_uid))
            .await
    }

    async fn update(
        &self,
        read: &Document,
        uid: Option<String>,
        content: String,
        now: UnixMillis,
    ) -> Result<Document, CatalogError> {
        let read = read.clone();
        self.change(move |transaction| sql::update(transaction, read, uid, content, now))
            .await
    }

    async fn remove(&self, address: &Address, now: UnixMillis) -> Result<(), CatalogError> {
        let address = address.clone();
        self.change(move |transaction| sql::remove(transaction, &address, now))
            .await
    }

    async fn list(&self, kind: Kind, scope: &str, page: &Page) -> Result<Vec<Document>, CatalogError> {
        let (scope, page) = (scope.to_owned(), page.clone());
        self.call(move |connection| sql::list(connection, kind, &scope, &page))
            .await
    }

    async fn changes(
        &self,
        after: Revision,
        tell: &mut (dyn FnMut(Change) + Send),
    ) -> Result<Revision, CatalogError> {
        changes::tell(self, after, tell).await
    }

    fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    fn hears(&self) -> watch::Receiver<bool> {
        // There is no other process.
        watch::channel(true).1
    }
}
