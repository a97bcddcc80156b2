//! What dispatchers and commands tell each other on the fanout `control`. Soft state; what is lost is asked for, or found out, again.

use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::{BrokerError, Destination, Outgoing};
use hooklane_types::control::{Control, ControlMessage};

use crate::core::Core;
use crate::{gone, status};

/// Listens until it is aborted, or the broker was shut down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut messages = core.broker.listen();
    while let Some(incoming) = messages.next().await {
        let control = serde_json::from_slice::<Control>(&incoming.message.body);
        // Nothing follows from soft state that could be lost.
        core.settle.finish(incoming.ack).await;
        match control.map(|control| control.message) {
            Ok(ControlMessage::StatusRequest { id }) => status::answer(&core, &id).await,
            Ok(ControlMessage::EndpointGone(told)) => gone::hear(&core, &told),
            // For others, or of another version.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Tells all that listen.
pub(crate) async fn tell(core: &Core, message: ControlMessage, within: Duration) -> Result<(), BrokerError> {
    let body = serde_json::to_vec(&Control::new(message)).map_err(|error| {
        BrokerError::Refused(format!("a message for `control` cannot be written: {error}"))
    })?;
    let message = Outgoing::internal(body.into());
    core.broker.publish(Destination::Control, message, within).await
}
