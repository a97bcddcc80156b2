//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hooklane_store::catalog::{Address, Catalog, CatalogError, Document, Draft, Kind, Revision};
use hooklane_store::items::{self, UnreadableItem};
use hooklane_store::registry::Keys;
use hooklane_store::responses::Responses;
use hooklane_store::vault::Vault;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{ApplicationId, Registry, UnixMillis};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::answer::Refusal;
use crate::auth::Tokens;
use crate::endpoint::recover::Recoveries;
use crate::history::HistoryReader;
use crate::outbox::{Outbox, OutboxError};
use crate::portal::Portal;
use crate::query::Part;
use crate::shelf::Shelves;

/// Longest body of a request, in bytes: an endpoint's URL may have 65,536, and its lists some thousand names.
pub const BODY_BYTES_MAX: usize = 512 * 1024;

/// How often a change is tried again that others were faster than.
const RACES_MAX: usize = 8;
/// How long a change is waited for that is durable already. It takes force afterwards all the same.
const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who routes by the catalog.
#[async_trait]
pub trait InForce: Send + Sync {
    /// Ends when all of them route by this revision or a later one.
    async fn wait_for(&self, revision: Revision);
}

/// This process alone, by the revision that it has.
#[async_trait]
impl InForce for watch::Receiver<Revision> {
    async fn wait_for(&self, revision: Revision) {
        let mut applied = self.clone();
        // A follower that has ended will never have it.
        if watch::Receiver::wait_for(&mut applied, |applied| *applied >= revision)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

/// The API's ports.
pub struct Api {
    /// Where everything is kept.
    pub catalog: Arc<dyn Catalog>,
    /// What became of every event; none where nothing is recorded.
    pub history: Option<HistoryReader>,
    /// Where deliveries begin.
    pub outbox: Arc<dyn Outbox>,
    /// Dead letters and faults.
    pub shelves: Shelves,
    /// Whose applications are.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// What takes recoveries.
    pub recoveries: Recoveries,
    /// Answers of requests with an idempotency key.
    pub responses: Arc<dyn Responses>,
    /// Seals the secrets of endpoints.
    pub vault: Arc<Vault>,
    /// Whose tokens are taken.
    pub tokens: Tokens,
    /// Which static keys are taken, and which tokens are not any more.
    pub keys: watch::Receiver<Arc<Keys>>,
    /// Whether a key that is not known is none. While it is false, that is not known yet.
    pub is_current: watch::Receiver<bool>,
    /// Where users of the platform are sent.
    pub portal: Portal,
    /// Whom a change is waited for.
    pub in_force: Arc<dyn InForce>,
    /// The organisation that speaks where none is named.
    pub organisation: String,
    /// Who is told of changes of endpoints; its id, or its uid in that organisation.
    pub operational_application: Option<ApplicationId>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether endpoints with `http` URLs are refused.
    pub https_only: bool,
    /// The wall clock.
    pub clock: fn() -> UnixMillis,
}

impl Api {
    pub(crate) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    /// Waits until a change is in force.
    pub(crate) async fn in_force(&self, revision: Revision) {
        let applied = self.in_force.wait_for(revision);
        if timeout(IN_FORCE_TIMEOUT, applied).await.is_err() {
            self.metrics.count(Metric::ChangesLate, &[]);
            tracing::warn!(
                revision = revision.0,
                "a change is answered that is not in force everywhere yet"
            );
        }
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Refusal {
        match error {
            CatalogError::IdTaken | CatalogError::UidTaken => {
                Refusal::Conflict("something with this id or uid exists already")
            }
            CatalogError::NoScope | CatalogError::NotFound => Refusal::NotFound,
            CatalogError::Changed => Refusal::Conflict("it was changed at the same time; read it again"),
            CatalogError::Unavailable(why) => Refusal::Unavailable(why),
        }
    }
}

impl From<OutboxError> for Refusal {
    fn from(OutboxError(why): OutboxError) -> Refusal {
        Refusal::NotTaken(why)
    }
}

impl From<UnreadableItem> for Refusal {
    fn from(error: UnreadableItem) -> Refusal {
        Refusal::Broken(error.to_string())
    }
}

/// A document with its content.
pub(crate) struct Read<T> {
    pub(crate) document: Document,
    pub(crate) item: T,
}

impl<T: DeserializeOwned> TryFrom<Document> for Read<T> {
    type Error = UnreadableItem;

    fn try_from(document: Document) -> Result<Read<T>, UnreadableItem> {
        let item = items::read(&document)?;
        Ok(Read { document, item })
    }
}

impl Api {
    /// Adds a document, and waits until it is in force.
    pub(crate) async fn insert<T: Serialize>(
        &self,
        address: Address,
        uid: Option<String>,
        item: T,
    ) -> Result<Read<T>, CatalogError> {
        let content = items::write(&item);
        let draft = Draft {
            address,
            uid,
            content,
        };
        let document = self.catalog.insert(draft, self.now()).await?;
        self.in_force(document.revision).await;
        Ok(Read { document, item })
    }

    /// Changes what has this id or uid, again when somebody else was faster, and waits until it is in force.
    pub(crate) async fn change<T: Serialize + DeserializeOwned>(
        &self,
        kind: Kind,
        scope: &str,
        id_or_uid: &str,
        mut change: impl FnMut(&Address, &mut Option<String>, &mut T) -> Result<(), Refusal>,
    ) -> Result<Read<T>, Refusal> {
        for _ in 0..RACES_MAX {
            let found = self.catalog.get(kind, scope, id_or_uid).await?;
            let document = found.ok_or(Refusal::NotFound)?;
            let mut item: T = items::read(&document)?;
            let mut uid = document.uid.clone();
            change(&document.address, &mut uid, &mut item)?;
            let update = self
                .catalog
                .update(&document, uid, items::write(&item), self.now());
            match update.await {
                Err(CatalogError::Changed) => continue,
                updated => {
                    let document = updated?;
                    self.in_force(document.revision).await;
                    return Ok(Read { document, item });
                }
            }
        }
        Err(CatalogError::Changed.into())
    }

    /// What has this id or uid.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: &str,
        id_or_uid: &str,
    ) -> Result<Read<T>, Refusal> {
        let found = self.catalog.get(kind, scope, id_or_uid).await?;
        Ok(found.ok_or(Refusal::NotFound)?.try_into()?)
    }

    /// Removes what has this id or uid, and waits until that is in force. What it was.
    pub(crate) async fn remove(&self, kind: Kind, scope: &str, id_or_uid: &str) -> Result<Document, Refusal> {
        let found = self.catalog.get(kind, scope, id_or_uid).await?;
        let document = found.ok_or(Refusal::NotFound)?;
        self.catalog.remove(&document.address, self.now()).await?;
        let newest = *self.catalog.newest().borrow();
        self.in_force(newest).await;
        Ok(document)
    }

    /// Part of the documents of one kind and scope.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: &str,
        part: &Part,
    ) -> Result<Vec<Read<T>>, Refusal> {
        let documents = self.catalog.list(kind, scope, &part.page()).await?;
        let read = documents.into_iter().map(Read::try_from);
        Ok(read.collect::<Result<_, UnreadableItem>>()?)
    }
}
