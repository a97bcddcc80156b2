//! Answers `hooklane status`: how each endpoint stands with this process. Soft state; a lost question is asked again.

use hooklane_types::control::{ControlMessage, EndpointStatus, STATUS_ENDPOINTS_MAX, StatusReply};

use crate::control;
use crate::core::Core;

/// Longest id of a question that is answered; it is repeated in each part of the answer.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Whether a question with this id is answered at all.
pub(crate) fn is_answered(id: &str) -> bool {
    id.len() <= REQUEST_ID_BYTES_MAX
}

/// Answers one question. A broker that takes nothing now gets no answer: whoever asks asks again.
pub(crate) async fn answer(core: &Core, id: &str) {
    let endpoints = core.endpoints.status(&core.registry(), core.moment());
    for reply in parts(core, id, endpoints) {
        let message = ControlMessage::StatusReply(reply);
        if let Err(error) = control::tell(core, message, core.settings.publish_timeout).await {
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
            dropped: match part {
                0 => core.drops.all(),
                _ => vec![],
            },
        })
        .collect()
}
