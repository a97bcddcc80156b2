//! The port to what delivers.

use async_trait::async_trait;
use hooklane_types::{Delivery, EndpointId, Event};

/// Why it was not taken, in words. Whether it was is not known always; it can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutboxError(pub String);

/// Where deliveries begin. What was taken is durable when it is answered.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes a delivery.
    ///
    /// # Errors
    /// See [`OutboxError`].
    async fn deliver(&self, delivery: Delivery) -> Result<(), OutboxError>;

    /// Takes an event, as if it had been published.
    ///
    /// # Errors
    /// See [`OutboxError`].
    async fn accept(&self, event: Event) -> Result<(), OutboxError>;

    /// Takes the content of an event that was not published, for the history.
    ///
    /// # Errors
    /// See [`OutboxError`].
    async fn record(&self, event: Event) -> Result<(), OutboxError>;
}

/// A run of an event to one endpoint, from its beginning.
pub(crate) fn run(event: Event, endpoint: EndpointId, run: u32) -> Delivery {
    Delivery {
        event,
        endpoints: vec![endpoint],
        target: 0,
        run,
        attempts_made: 0,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: Vec::new(),
    }
}
