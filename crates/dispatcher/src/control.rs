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
        let message = read(&incoming.message.body);
        // Nothing follows from soft state that could be lost.
        core.settle.finish(incoming.ack).await;
        match message {
            Some(ControlMessage::StatusRequest { id }) if status::is_answered(&id) => {
                status::answer(&core, &id).await;
            }
            Some(ControlMessage::EndpointGone(told)) => gone::hear(&core, &told),
            Some(ControlMessage::RecordsDropped(told)) => core.drops.hear(told),
            // For others, or of another version.
            Some(_) | None => {}
        }
    }
}

fn read(body: &[u8]) -> Option<ControlMessage> {
    let control: Control = serde_json::from_slice(body).ok()?;
    Some(control.message)
}

/// Tells all that listen.
pub(crate) async fn tell(core: &Core, message: ControlMessage, within: Duration) -> Result<(), BrokerError> {
    let body = serde_json::to_vec(&Control::new(message)).map_err(|error| {
        BrokerError::Refused(format!("a message for `control` cannot be written: {error}"))
    })?;
    let message = Outgoing::internal(body.into());
    core.broker.publish(Destination::Control, message, within).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &[u8]) -> Option<String> {
        match read(body) {
            Some(ControlMessage::StatusRequest { id }) if status::is_answered(&id) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn only_a_question_is_answered() {
        // Goal: a question is read with any further fields; answers, unknown messages and rubbish are ignored.
        let question = br#"{"v":1,"kind":"status_request","id":"q1","later":true}"#;
        assert_eq!(request(question), Some("q1".to_owned()));
        let own = Control::new(ControlMessage::StatusRequest { id: "q2".to_owned() });
        assert_eq!(request(&serde_json::to_vec(&own).unwrap()), Some("q2".to_owned()));
        for other in [
            &br#"{"v":2,"kind":"sick","endpoint":"ep_1"}"#[..],
            b"{}",
            b"rubbish",
            b"",
        ] {
            assert_eq!(request(other), None);
        }
        let long = format!(r#"{{"v":1,"kind":"status_request","id":"{}"}}"#, "x".repeat(129));
        assert_eq!(request(long.as_bytes()), None);
    }
}
