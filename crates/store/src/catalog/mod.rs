//! The port: what the management API keeps. Applications, endpoints, event types and keys: thousands of them, changed seldom, read by everybody.
//!
//! Each is a [`Document`]: columns that stores ask for, and a content that only its owner reads. So a new field of an endpoint changes no
//! table. Every change has a [`Revision`]; whoever has seen one asks for what came after it, and is woken when there is something.

mod document;
mod page;

use async_trait::async_trait;
use hooklane_types::UnixMillis;
use tokio::sync::watch;

pub use document::{Address, Change, Document, Draft, Kind, Revision};
pub use page::{Direction, PAGE_MAX, Page};

/// Removals are told for so long. Who has not asked since gets everything anew.
pub const REMOVALS_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// Why nothing was changed, or nothing found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Another document of this kind and scope has the id, or has it as its uid.
    #[error("the id is taken")]
    IdTaken,
    /// Another document of this kind and scope has the uid, or has it as its id.
    #[error("the uid is taken")]
    UidTaken,
    /// What it would belong to does not exist, or does not any more.
    #[error("what it belongs to does not exist")]
    NoScope,
    /// There is no such document, or there is none any more.
    #[error("there is no such document")]
    NotFound,
    /// Somebody else has changed it since it was read.
    #[error("it was changed since it was read")]
    Changed,
    /// The store cannot be asked now, in words. Whether a change was made is not known.
    #[error("the store cannot be asked: {0}")]
    Unavailable(String),
}

/// Where documents are kept. A change is durable, and seen by every later read of any process, before it is answered.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Adds a document.
    ///
    /// # Errors
    /// [`CatalogError::IdTaken`], [`CatalogError::UidTaken`], [`CatalogError::NoScope`], [`CatalogError::Unavailable`].
    async fn insert(&self, draft: Draft, now: UnixMillis) -> Result<Document, CatalogError>;

    /// The document with this id, or else with this uid.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    async fn get(&self, kind: Kind, scope: &str, id_or_uid: &str) -> Result<Option<Document>, CatalogError>;

    /// Gives a document another uid and content, if it is still at the revision at which it was read.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Changed`], [`CatalogError::UidTaken`], [`CatalogError::Unavailable`].
    async fn update(
        &self,
        read: &Document,
        uid: Option<String>,
        content: String,
        now: UnixMillis,
    ) -> Result<Document, CatalogError>;

    /// Removes a document, and all that belong to it.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Unavailable`].
    async fn remove(&self, address: &Address, now: UnixMillis) -> Result<(), CatalogError>;

    /// Documents of one kind and scope, by id.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    async fn list(&self, kind: Kind, scope: &str, page: &Page) -> Result<Vec<Document>, CatalogError>;

    /// Tells what has changed after a revision, as of one moment, and returns the revision of that moment. A document that was changed
    /// twice is told once. To [`Revision::NONE`], to a revision that is too old, and to one that this store never had, it tells everything:
    /// [`Change::Everything`] comes first then.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`]; what was told until then is not whole.
    async fn changes(
        &self,
        after: Revision,
        tell: &mut (dyn FnMut(Change) + Send),
    ) -> Result<Revision, CatalogError>;

    /// The newest revision that is known here: a change by this process at once, another's within about a second.
    fn newest(&self) -> watch::Receiver<Revision>;

    /// Whether another process's change would be heard of now. While it is false, [`Catalog::newest`] may be as old as that.
    fn hears(&self) -> watch::Receiver<bool>;
}
