//! The port to the two shelves.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EndpointId, TypePattern, UnixMillis};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Kind;

/// Says of an application, as a message names it, whether the message is meant; a message may name none.
pub type Whose = Arc<dyn Fn(Option<&str>) -> bool + Send + Sync>;

/// Which messages of a shelf are meant: all conditions hold at once, and one that is not set holds always.
pub struct Selection<K: Kind> {
    /// Whose at all.
    pub whose: Whose,
    /// The message's own id, or its event's.
    pub id: Option<String>,
    /// Whose event it is.
    pub application: Option<ApplicationId>,
    /// Whom it was for.
    pub endpoint: Option<EndpointId>,
    /// The event's type, or a pattern over it.
    pub event_type: Option<TypePattern>,
    /// Why it lies there.
    pub reason: Option<K::Reason>,
    /// It came to the shelf later.
    pub after: Option<UnixMillis>,
    /// It came to the shelf earlier.
    pub before: Option<UnixMillis>,
}

/// A reading of a shelf.
pub struct Reading<K: Kind> {
    /// What of it.
    pub selection: Selection<K>,
    /// What for, in words: others that want to read are told.
    pub purpose: String,
    /// When it began: what comes later is not replayed.
    pub now: UnixMillis,
    /// Ends it in order.
    pub stop: CancellationToken,
}

/// Where a page ended: at this message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many lay in front of it.
    pub index: u64,
    /// Since when it lay there.
    pub at: Option<UnixMillis>,
    /// Its own id.
    pub id: String,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<R> {
    /// Its rows, oldest first.
    pub rows: Vec<R>,
    /// Where the next part begins.
    pub last: Option<Place>,
    /// Whether there is nothing more.
    pub done: bool,
}

/// How far a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The shelf is open.
    Opened,
    /// So many were taken off.
    Taken(u64),
    /// So many were meant, and cannot be replayed: they stay.
    Kept(u64),
}

/// Told of each step.
pub type Progress<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// Why a reading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was read.
    AtTheEnd,
    /// It was stopped: the rest is still there.
    Stopped,
}

/// Why a shelf cannot be read. What was not taken off is still on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// Somebody else reads it; who and since when, in words.
    #[error("{0}")]
    Held(String),
    /// More had to be kept aside than can be.
    #[error("{messages} messages had to be kept aside, and more cannot be")]
    TooDeep {
        /// How many were read.
        messages: u64,
    },
    /// The broker does not answer, does not take what is published, or forbids it: in words.
    #[error("{0}")]
    Away(String),
}

/// One shelf. It has one reader at a time, among all processes.
#[async_trait]
pub trait Shelf<K: Kind>: Send + Sync {
    /// Part of it, behind a place. Where the place's message was taken off meanwhile, some of it may have been shown before; nothing is left out.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn page(
        &self,
        reading: &Reading<K>,
        behind: Option<Place>,
        limit: usize,
    ) -> Result<Page<K::Row>, ShelfError>;

    /// The first message that is meant, with all that is known of it.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn find(&self, reading: &Reading<K>) -> Result<Option<K::Whole>, ShelfError>;

    /// Gives everything that is meant to `to`, oldest first. Ends when nobody listens there any more.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn export(
        &self,
        reading: &Reading<K>,
        to: &mpsc::Sender<K::Whole>,
        progress: Progress<'_>,
    ) -> Result<Ended, ShelfError>;

    /// How many are meant.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn count(&self, reading: &Reading<K>, progress: Progress<'_>) -> Result<u64, ShelfError>;

    /// Sends everything that is meant through the pipeline again, at most so many a second: published, confirmed, and only then taken off.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn replay(
        &self,
        reading: &Reading<K>,
        rate: Option<NonZeroU32>,
        progress: Progress<'_>,
    ) -> Result<Ended, ShelfError>;

    /// Takes everything that is meant off for good.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn purge(&self, reading: &Reading<K>, progress: Progress<'_>) -> Result<Ended, ShelfError>;
}
