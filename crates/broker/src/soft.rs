//! Soft state as it is heard: nothing is kept of it, so there is nothing to ack.

use std::time::Instant;

use async_trait::async_trait;
use hooklane_types::RawMessage;

use crate::port::{Ack, AckError, Incoming};

/// A message of `control`, heard for the first and last time.
pub(crate) fn incoming(message: RawMessage, received_at: Instant) -> Incoming {
    Incoming {
        message,
        redelivered: false,
        delivery_count: 0,
        received_at,
        ack: Box::new(NothingToAck),
    }
}

struct NothingToAck;

#[async_trait]
impl Ack for NothingToAck {
    fn is_live(&self) -> bool {
        true
    }

    async fn ack(self: Box<Self>) -> Result<(), AckError> {
        Ok(())
    }
}
