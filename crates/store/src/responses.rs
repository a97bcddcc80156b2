//! The port: answers of requests that bear an idempotency key, so that the same request again is answered and not carried out.

use async_trait::async_trait;
use hooklane_types::UnixMillis;

use crate::catalog::CatalogError;

/// An answer is kept for so long.
pub const KEPT_MS: i64 = 12 * 3600 * 1000;
/// A request that was begun and never ended, because its process died, holds its key for so long.
pub const IN_WORK_MS: i64 = 60 * 1000;

/// A hash over whose request it is, its path and its key.
pub type RequestKey = [u8; 32];

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A hash over the request's body: another body with the same key is a mistake.
    pub request: [u8; 32],
    /// HTTP status.
    pub status: u16,
    /// Whatever the API makes of it.
    pub body: Vec<u8>,
}

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new, and ours until it is kept or given back.
    Ours,
    /// Another request with it is being carried out.
    InWork,
    /// It was answered.
    Kept(Answer),
}

/// Where answers are kept.
#[async_trait]
pub trait Responses: Send + Sync {
    /// Takes a key, or says what came of it.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    async fn take(&self, key: &RequestKey, now: UnixMillis) -> Result<Taken, CatalogError>;

    /// Keeps the answer of a key that was taken.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    async fn keep(&self, key: &RequestKey, answer: Answer, now: UnixMillis) -> Result<(), CatalogError>;

    /// Gives a key back: its request was not carried out, and may be again.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    async fn give_back(&self, key: &RequestKey) -> Result<(), CatalogError>;
}
