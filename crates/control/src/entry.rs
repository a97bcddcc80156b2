//! What the two shelves have in common.

use bytes::Bytes;
use hooklane_broker::topology::Names;
use hooklane_broker::{Destination, Outgoing, ShelfName};
use hooklane_types::{RawMessage, UnixMillis};
use serde::Serialize;

use crate::filter::Facts;

/// One message of a shelf.
pub trait Entry: Sized + Send {
    /// Why messages lie there.
    type Reason: Clone + std::fmt::Debug + PartialEq + Send + Sync;
    /// As one line of a list.
    type Row: Serialize;
    /// With everything that is known of it, and its payload.
    type Detail: Serialize;
    /// The shelf.
    const SHELF: ShelfName;

    /// Reads it. Never fails: what cannot be understood is shown as that.
    fn read(message: RawMessage, names: &Names) -> Self;

    /// What filters look at.
    fn facts(&self) -> Facts<Self::Reason>;

    /// As one line of a list.
    fn row(&self, now: UnixMillis) -> Self::Row;

    /// Everything, with at most so many bytes of the payload.
    fn detail(&self, payload_bytes_max: usize) -> Self::Detail;

    /// The payload, whole.
    fn payload(&self) -> &Bytes;

    /// What a replay publishes, and where.
    ///
    /// # Errors
    /// When it cannot be replayed: it stays on the shelf.
    fn replay(&self) -> Result<Replay, NotReplayable>;
}

/// What is published in place of the message on the shelf.
#[derive(Debug)]
pub struct Replay {
    /// Where to.
    pub to: Destination,
    /// What.
    pub message: Outgoing,
}

/// Why a message cannot be replayed. In words, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReplayable(pub String);
