//! The catalog in PostgreSQL, for any number of processes.

mod changes;
mod follow;
mod newest;
mod responses;
mod sql;

use std::sync::Arc;

use async_trait::async_trait;
use hooklane_types::UnixMillis;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::newest::Newest;
use super::error::PostgresError;
use super::migrations;
use super::pool::Connections;
use super::settings::PostgresSettings;
use crate::catalog::{Address, Catalog, CatalogError, Change, Document, Draft, Kind, Page, Revision};

/// The catalog of a schema. Changes of all processes stand in line: each takes the next revision first, and keeps it until its commit.
pub struct PostgresCatalog {
    connections: Connections,
    /// Whoever listens on it hears of each revision.
    channel: String,
    newest: Arc<Newest>,
    /// Whether the others' changes are heard of.
    hears: watch::Receiver<bool>,
    /// Follows the others' changes; ends with this. It ends on nothing else, and gives up nothing.
    _following: JoinSet<()>,
}

impl PostgresCatalog {
    /// Connects, brings the schema to this version's format, and begins to follow it. To be called within the runtime that it is used in.
    ///
    /// # Errors
    /// See [`PostgresError`]. [`PostgresError::Unavailable`] may be gone at the next try.
    pub async fn open(settings: &PostgresSettings) -> Result<PostgresCatalog, PostgresError> {
        migrations::step_to_known(&Connections::new(settings)?, settings).await?;
        PostgresCatalog::begin(settings, true)
    }

    /// Begins to follow a schema that may not be there yet, or not be reached: until it is, every call fails. Brings it to no format.
    ///
    /// # Errors
    /// [`PostgresError::Settings`].
    pub fn later(settings: &PostgresSettings) -> Result<PostgresCatalog, PostgresError> {
        PostgresCatalog::begin(settings, false)
    }

    /// A server that has just answered is taken to be heard of, until it turns out that it is not.
    fn begin(settings: &PostgresSettings, has_answered: bool) -> Result<PostgresCatalog, PostgresError> {
        let connections = Connections::new(settings)?;
        let channel = format!("{}_catalog", settings.schema());
        let newest = Arc::new(Newest::new());
        let (heard, hears) = watch::channel(has_answered);
        let following = follow::Follow::new(settings, &channel, newest.clone(), heard)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(following.run());
        Ok(PostgresCatalog {
            connections,
            channel,
            newest,
            hears,
            _following: tasks,
        })
    }
}

#[async_trait]
impl Catalog for PostgresCatalog {
    async fn insert(&self, draft: Draft, now: UnixMillis) -> Result<Document, CatalogError> {
        let mut client = self.connections.get().await?;
        let work = sql::insert(&mut client, &self.channel, draft, now);
        let done = self.connections.limit(work).await;
        let document: Result<Document, CatalogError> = self.connections.put_back(client, done);
        document.inspect(|document| self.newest.raise(document.revision))
    }

    async fn get(&self, kind: Kind, scope: &str, id_or_uid: &str) -> Result<Option<Document>, CatalogError> {
        let client = self.connections.get().await?;
        let work = sql::get(&client, kind, scope, id_or_uid);
        let done = self.connections.limit(work).await;
        self.connections.put_back(client, done)
    }

    async fn update(
        &self,
        read: &Document,
        uid: Option<String>,
        content: String,
        now: UnixMillis,
    ) -> Result<Document, CatalogError> {
        let mut client = self.connections.get().await?;
        let work = sql::update(&mut client, &self.channel, read.clone(), uid, content, now);
        let done = self.connections.limit(work).await;
        let document: Result<Document, CatalogError> = self.connections.put_back(client, done);
        document.inspect(|document| self.newest.raise(document.revision))
    }

    async fn remove(&self, address: &Address, now: UnixMillis) -> Result<(), CatalogError> {
        let mut client = self.connections.get().await?;
        let work = sql::remove(&mut client, &self.channel, address, now);
        let done = self.connections.limit(work).await;
        let revision: Result<Revision, CatalogError> = self.connections.put_back(client, done);
        revision.map(|revision| self.newest.raise(revision))
    }

    async fn list(&self, kind: Kind, scope: &str, page: &Page) -> Result<Vec<Document>, CatalogError> {
        let client = self.connections.get().await?;
        let done = self
            .connections
            .limit(sql::list(&client, kind, scope, page))
            .await;
        self.connections.put_back(client, done)
    }

    async fn changes(
        &self,
        after: Revision,
        tell: &mut (dyn FnMut(Change) + Send),
    ) -> Result<Revision, CatalogError> {
        let mut client = self.connections.get().await?;
        let done = changes::tell(&self.connections, &mut client, after, tell).await;
        let revision: Result<Revision, CatalogError> = self.connections.put_back(client, done);
        // So that nobody asks again for what he has got.
        revision.inspect(|revision| self.newest.raise(*revision))
    }

    fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    fn hears(&self) -> watch::Receiver<bool> {
        self.hears.clone()
    }
}
