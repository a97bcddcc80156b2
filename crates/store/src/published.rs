//! The port: which ids of their own producers have published events with, so that a second event with one is refused.

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId, UnixMillis};

use crate::claims::ClaimError;

/// An id is known for so long after its event was accepted.
pub const PUBLISHED_KEPT_MS: i64 = 24 * 3600 * 1000;

/// Bytes of a request's hash.
pub const REQUEST_BYTES: usize = 16;

/// An event that the broker has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// A hash over its request, where the request may come again: then it is answered the same way.
    pub request: Option<[u8; REQUEST_BYTES]>,
}

/// Where published ids are kept. One is kept after its event was confirmed, never before: what is not found may have been published, what is
/// found was.
#[async_trait]
pub trait PublishedIds: Send + Sync {
    /// The event that was published under this id lately.
    ///
    /// # Errors
    /// When that cannot be found out; the event is published.
    async fn find(
        &self,
        application: &ApplicationId,
        event: &EventId,
        now: UnixMillis,
    ) -> Result<Option<Published>, ClaimError>;

    /// The broker has confirmed the event. Of several the first stays.
    ///
    /// # Errors
    /// When it is not known whether that is kept.
    async fn keep(
        &self,
        application: &ApplicationId,
        event: &EventId,
        published: Published,
    ) -> Result<(), ClaimError>;
}

impl Published {
    /// Whether it is too old to be known.
    pub(crate) fn is_over(&self, now: UnixMillis) -> bool {
        self.accepted_at.0 <= now.0 - PUBLISHED_KEPT_MS
    }
}
