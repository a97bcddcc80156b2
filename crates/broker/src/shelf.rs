//! The port for the two shelves: looking at messages without using them up, one reader at a time.

use std::time::Duration;

use async_trait::async_trait;
use hooklane_types::{RawMessage, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::port::Queue;

/// The shelves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ShelfName {
    /// Deliveries that were given up.
    Dead,
    /// Messages that the pipeline could not handle.
    Faults,
}

impl ShelfName {
    /// Its queue.
    pub fn queue(self) -> Queue {
        match self {
            ShelfName::Dead => Queue::Dead,
            ShelfName::Faults => Queue::Faults,
        }
    }
}

impl std::fmt::Display for ShelfName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.queue().name())
    }
}

/// Who reads a shelf: told to whoever else wants to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// On which machine.
    pub host: String,
    /// Whose process it is.
    pub user: String,
    /// What it does.
    pub command: String,
    /// Since when.
    pub since: UnixMillis,
}

/// Why a shelf can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShelfError {
    /// Somebody else reads it; who, where that could be found out.
    #[error("the shelf is being read by somebody else")]
    Held(Option<Holder>),
    /// Its queue, its lock or its holder's queue is missing, or this account may not use it. In the broker's words.
    #[error("{0}")]
    Refused(String),
    /// What must be kept aside to read on is more than a connection can hold.
    #[error("{messages} messages were read and kept aside, and one connection can keep no more aside")]
    TooDeep {
        /// How many were read.
        messages: u64,
    },
    /// No connection.
    #[error("no connection to the broker: {0}")]
    Unavailable(String),
    /// The connection or its channel ended. Everything that was not removed is still on the shelf.
    #[error("the connection to the broker was lost while {doing}: {reason}")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// No answer in time. Everything that was not removed is still on the shelf.
    #[error("no answer from the broker within {} ms while {doing}", waited.as_millis())]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Names one message of an open shelf, to remove it once.
#[derive(Debug, PartialEq, Eq)]
pub struct Handle {
    pub(crate) batch: usize,
    pub(crate) tag: u64,
}

/// A message as it lies on the shelf.
#[derive(Debug)]
pub struct Shelved {
    /// The message.
    pub message: RawMessage,
    /// To remove it. Dropped without that, the message stays where it is.
    pub handle: Handle,
}

/// Opens shelves.
#[async_trait]
pub trait Shelves: Send + Sync {
    /// Takes the shelf's lock and opens it.
    ///
    /// # Errors
    /// [`ShelfError::Held`] when somebody else reads it.
    async fn open(&self, shelf: ShelfName, holder: Holder) -> Result<Box<dyn Shelf>, ShelfError>;
}

/// An open shelf; nobody else reads it meanwhile. To be ended by `close`: dropped without it, nothing is lost, but messages
/// may change their order.
#[async_trait]
pub trait Shelf: Send {
    /// How many messages lay on it when it was opened.
    fn total(&self) -> u64;

    /// The next message, oldest first; `None` after those that were there at opening. Cancel safe.
    ///
    /// # Errors
    /// See [`ShelfError`].
    async fn next(&mut self) -> Result<Option<Shelved>, ShelfError>;

    /// Takes a message off the shelf for good.
    ///
    /// # Errors
    /// When the connection is gone: the message is still there.
    async fn remove(&mut self, handle: Handle) -> Result<(), ShelfError>;

    /// Puts everything back in order, and frees the lock.
    ///
    /// # Errors
    /// When the connection failed meanwhile: nothing is lost, but messages may have changed their order.
    async fn close(self: Box<Self>) -> Result<(), ShelfError>;
}
