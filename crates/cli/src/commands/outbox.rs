//! Where the management API's deliveries begin: on the broker.

use std::time::Duration;

use async_trait::async_trait;
use hooklane_api::{Outbox, OutboxError};
use hooklane_broker::{BrokerError, Destination, Outgoing, Queue, SharedBroker};
use hooklane_types::{Delivery, Event, Internal};

/// Publishes to a broker, and waits for its confirm.
pub struct BrokerOutbox {
    /// Which.
    pub broker: SharedBroker,
    /// Whether somebody takes contents. Else they would fill their queue.
    pub is_recorded: bool,
    /// How long a confirm is waited for.
    pub within: Duration,
}

impl BrokerOutbox {
    async fn publish(&self, queue: Queue, message: &Internal) -> Result<(), BrokerError> {
        let message = Outgoing::internal(message.encode());
        self.broker
            .publish(Destination::Internal(queue), message, self.within)
            .await
    }
}

#[async_trait]
impl Outbox for BrokerOutbox {
    async fn deliver(&self, delivery: Delivery) -> Result<(), OutboxError> {
        let published = self
            .publish(Queue::Deliveries, &Internal::Delivery(delivery))
            .await;
        published.map_err(|error| OutboxError(error.to_string()))
    }

    async fn accept(&self, event: Event) -> Result<(), OutboxError> {
        let message = Outgoing::internal(Internal::Event(event.clone()).encode());
        let published = self
            .broker
            .publish(Destination::IngestedEvents, message, self.within);
        published.await.map_err(|error| OutboxError(error.to_string()))?;
        self.record(event).await
    }

    async fn record(&self, event: Event) -> Result<(), OutboxError> {
        if !self.is_recorded {
            return Ok(());
        }
        match self.publish(Queue::Contents, &Internal::Event(event)).await {
            // Deliveries win over history.
            Ok(()) | Err(BrokerError::Full) => Ok(()),
            Err(error) => Err(OutboxError(error.to_string())),
        }
    }
}
