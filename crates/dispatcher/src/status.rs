//! Answers `hooklane status`: how each endpoint stands with this process. Soft state; a lost question is asked again.

use std::sync::Arc;

use hooklane_broker::{Destination, Outgoing};
use hooklane_types::Properties;
use hooklane_types::control::{Control, ControlMessage, EndpointStatus, STATUS_ENDPOINTS_MAX, StatusReply};

use crate::core::Core;

/// Longest id of a question that is answered; it is repeated in each part of the answer.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Listens and answers until it is aborted, or the broker was shut down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut messages = core.broker.listen();
    while let Some(incoming) = messages.next().await {
        let request = request(&incoming.message.body);
        // Nothing follows from soft state that could be lost.
        core.settle.finish(incoming.ack).await;
        if let Some(id) = request {
            answer(&core, &id).await;
        }
    }
}

fn request(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body).ok()? {
        Control {
            message: ControlMessage::StatusRequest { id },
            ..
        } if id.len() <= REQUEST_ID_BYTES_MAX => Some(id),
        _ => None,
    }
}

async fn answer(core: &Core, id: &str) {
    let endpoints = core.endpoints.status(&core.registry(), core.moment());
    for reply in parts(core, id, endpoints) {
        let sent = match serde_json::to_vec(&Control::new(ControlMessage::StatusReply(reply))) {
            Ok(body) => {
                let message = Outgoing {
                    properties: Properties::default(),
                    body: body.into(),
                };
                core.broker
                    .publish(Destination::Control, message, core.settings.publish_timeout)
                    .await
            }
            Err(error) => {
                tracing::warn!(%error, "a status answer cannot be written");
                continue;
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a status answer was not sent");
        }
    }
}

fn parts(core: &Core, id: &str, mut endpoints: Vec<EndpointStatus>) -> Vec<StatusReply> {
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    let count = endpoints.len().div_ceil(STATUS_ENDPOINTS_MAX).max(1);
    let mut endpoints = endpoints.into_iter();
    (0..count)
        .map(|part| StatusReply {
            id: id.to_owned(),
            pod: core.settings.pod.clone(),
            since: core.clock.started_at(),
            part: part as u32,
            parts: count as u32,
            endpoints: endpoints.by_ref().take(STATUS_ENDPOINTS_MAX).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
